//! Factors in a graph: thin layers where one layer was.

use regraft_graph::op::Conv;
use regraft_graph::{Graph, GraphEdit, Op, Tensor, ValueId};
use regraft_solve::Matrix;

use super::Scheme;
use super::factor::Factors;
use crate::{Layer, LayerKind, RebuildError};

/// Puts the factors of a layer in its place; the last one keeps its node and its output.
pub(super) fn replace(
    edit: &mut GraphEdit,
    graph: &Graph,
    layer: &Layer,
    scheme: Scheme,
    factors: &Factors,
    bias: Option<&[f64]>,
) -> Result<(), RebuildError> {
    let name = graph.value(layer.weight).name.clone();
    let mut input = layer.input;
    let count = factors.parts.len();
    for (at, part) in factors.parts.iter().enumerate() {
        let last = at + 1 == count;
        let (op, shape) = op_of(graph, layer, scheme, at, part);
        let data = if layer.kind == LayerKind::MatMul {
            part.transposed().to_f32()
        } else {
            part.to_f32()
        };
        let weight = edit.add_initializer(&format!("{name}_{}", at + 1), tensor(shape, data)?);
        if last {
            edit.set_op(layer.node, op);
            edit.set_input(layer.node, 0, Some(input));
            edit.set_input(layer.node, 1, Some(weight));
            if let Some(bias) = bias {
                let data = bias.iter().map(|b| *b as f32).collect();
                let b =
                    edit.add_initializer(&format!("{name}_bias"), tensor(vec![layer.n_out], data)?);
                edit.set_input(layer.node, 2, Some(b));
            }
        } else {
            let output = edit.add_value(&format!("{}_{}", graph.value(layer.output).name, at + 1));
            let inputs: Vec<Option<ValueId>> = vec![Some(input), Some(weight)];
            let node = edit.add_op(op, inputs, vec![Some(output)]);
            edit.set_node_name(
                node,
                &format!("{}_{}", graph.node_label(layer.node), at + 1),
            );
            input = output;
        }
    }
    Ok(())
}

fn tensor(shape: Vec<usize>, data: Vec<f32>) -> Result<Tensor, RebuildError> {
    Ok(Tensor::from_f32(shape, data)?)
}

/// Returns what the factor `at` computes and the shape of its weights.
fn op_of(
    graph: &Graph,
    layer: &Layer,
    scheme: Scheme,
    at: usize,
    part: &Matrix,
) -> (Op, Vec<usize>) {
    let rows = part.rows;
    match &graph.node(layer.node).op {
        Op::Conv(conv) => {
            let spatial = graph
                .tensor(layer.weight)
                .and_then(|t| t.shape().get(2..))
                .unwrap_or(&[]);
            let (conv, kernel) = conv_of(conv, spatial, layer.n_in(), scheme, at);
            let taps = kernel.iter().product::<usize>().max(1);
            let mut shape = vec![rows, part.cols / taps];
            shape.extend(kernel);
            (Op::Conv(conv), shape)
        }
        Op::Gemm(gemm) => {
            let gemm = regraft_graph::op::Gemm {
                alpha: 1.0,
                beta: 1.0,
                trans_b: true,
                ..gemm.clone()
            };
            (Op::Gemm(gemm), vec![rows, part.cols])
        }
        op => (op.clone(), vec![part.cols, rows]),
    }
}

/// Returns the attributes of a convolution's factor and its kernel.
fn conv_of(
    conv: &Conv,
    kernel: &[usize],
    n_in: usize,
    scheme: Scheme,
    at: usize,
) -> (Conv, Vec<usize>) {
    let point = || {
        let ones = vec![1; kernel.len()];
        (
            Conv {
                kernel_shape: ones.clone(),
                ..Conv::default()
            },
            ones,
        )
    };
    match (scheme, at) {
        (Scheme::Output, 0) | (Scheme::Tucker, 1) => {
            let whole = Conv {
                kernel_shape: kernel.to_vec(),
                ..conv.clone()
            };
            (whole, kernel.to_vec())
        }
        (Scheme::Separable, 0) => {
            let alone = Conv {
                kernel_shape: kernel.to_vec(),
                group: n_in,
                ..conv.clone()
            };
            (alone, kernel.to_vec())
        }
        (Scheme::Spatial, axis) => along(conv, kernel, axis),
        _ => point(),
    }
}

/// Returns the part of a convolution over two axes that works along one of them.
fn along(conv: &Conv, kernel: &[usize], axis: usize) -> (Conv, Vec<usize>) {
    let only = |list: &[usize], none: usize| -> Vec<usize> {
        let one = |(i, v): (usize, &usize)| if i % 2 == axis { *v } else { none };
        list.iter().enumerate().map(one).collect()
    };
    let shape = only(kernel, 1);
    let part = Conv {
        kernel_shape: shape.clone(),
        strides: only(&conv.strides, 1),
        dilations: only(&conv.dilations, 1),
        pads: only(&conv.pads, 0),
        ..conv.clone()
    };
    (part, shape)
}
