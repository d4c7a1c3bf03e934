//! Factors in a graph: thin layers where one layer was.

use regraft_graph::op::{BinaryOp, Conv};
use regraft_graph::{DType, Graph, GraphEdit, NodeId, Op, Tensor, ValueId};
use regraft_solve::Matrix;

use super::Scheme;
use super::factor::Factors;
use super::geometry::cropped;
use crate::{Layer, LayerKind, RebuildError};

/// Puts the factors of a layer in its place; returns the output of the one that has what is left of
/// the layer's weights, or of the last.
pub(super) fn replace(
    edit: &mut GraphEdit,
    graph: &Graph,
    layer: &Layer,
    (scheme, axes): (Scheme, Option<usize>),
    factors: &Factors,
    bias: Option<&[f64]>,
) -> Result<ValueId, RebuildError> {
    let place = Place {
        graph,
        layer,
        scheme,
    };
    match (scheme, &factors.orders, &factors.parts[..]) {
        (Scheme::SparseLowRank | Scheme::MultiScale, _, [inner, outer, beside]) => {
            place.side_by_side(edit, [inner, outer, beside], bias)
        }
        (_, Some(orders), [part]) => match axes {
            Some(axes) => place.in_blocks(edit, part, (orders, axes), bias),
            None => place.in_groups(edit, part, orders, bias),
        },
        (_, _, parts) => place.in_a_row(edit, parts, bias),
    }
}

/// Where factors go.
struct Place<'a> {
    graph: &'a Graph,
    layer: &'a Layer,
    scheme: Scheme,
}

impl Place<'_> {
    /// One factor behind the other; the last one keeps the layer's node and its output.
    fn in_a_row(
        &self,
        edit: &mut GraphEdit,
        parts: &[Matrix],
        bias: Option<&[f64]>,
    ) -> Result<ValueId, RebuildError> {
        let Self { layer, .. } = *self;
        let mut input = self.input(edit);
        for (at, part) in parts.iter().enumerate() {
            let (op, weight) = self.factor(edit, at, part)?;
            if at + 1 < parts.len() {
                let output = self.value(edit, at + 1);
                let inputs = vec![Some(input), Some(weight)];
                let node = edit.add_op(op, inputs, vec![Some(output)]);
                self.name(edit, node, &format!("_{}", at + 1));
                input = output;
                continue;
            }
            edit.set_op(layer.node, op);
            edit.set_input(layer.node, 0, Some(input));
            edit.set_input(layer.node, 1, Some(weight));
            if let Some(bias) = self.bias(edit, bias)? {
                edit.set_input(layer.node, 2, Some(bias));
            }
        }
        Ok(layer.output)
    }

    /// Two thin layers, then what stands beside them, which keeps the layer's name, and their sum, which
    /// keeps its output. In this order, so that what stands beside is solved for last.
    fn side_by_side(
        &self,
        edit: &mut GraphEdit,
        [inner, outer, beside]: [&Matrix; 3],
        bias: Option<&[f64]>,
    ) -> Result<ValueId, RebuildError> {
        let Self { graph, layer, .. } = *self;
        let [narrow, thin, single] = [1, 2, 3].map(|at| self.value(edit, at));
        let (op, weight) = self.factor(edit, 0, inner)?;
        edit.set_op(layer.node, op);
        edit.set_input(layer.node, 1, Some(weight));
        if graph.node(layer.node).input(2).is_some() {
            edit.set_input(layer.node, 2, None);
        }
        edit.set_output(layer.node, 0, Some(narrow));
        self.name(edit, layer.node, "_1");
        let (op, weight) = self.factor(edit, 1, outer)?;
        let node = edit.add_op(op, vec![Some(narrow), Some(weight)], vec![Some(thin)]);
        self.name(edit, node, "_2");
        let (op, weight) = self.factor(edit, 2, beside)?;
        let mut inputs = vec![Some(self.input(edit)), Some(weight)];
        inputs.extend(self.bias(edit, bias)?.map(Some));
        let node = edit.add_op(op, inputs, vec![Some(single)]);
        self.name(edit, node, "");
        let add = Op::Binary(BinaryOp::Add);
        let summands = vec![Some(single), Some(thin)];
        let node = edit.add_op(add, summands, vec![Some(layer.output)]);
        self.name(edit, node, "_sum");
        Ok(single)
    }

    /// Returns what the layer reads by now: an edit before may have put another value there.
    fn input(&self, edit: &GraphEdit) -> ValueId {
        let node = edit.graph().node(self.layer.node);
        node.input(0).unwrap_or(self.layer.input)
    }

    /// A grouped convolution between two reorderings. It keeps the layer's node and output, whose channels are
    /// now group after group; all that read the output read what puts them back.
    fn in_groups(
        &self,
        edit: &mut GraphEdit,
        part: &Matrix,
        [inputs, outputs]: &[Vec<usize>; 2],
        bias: Option<&[f64]>,
    ) -> Result<ValueId, RebuildError> {
        let Self { layer, .. } = *self;
        let [sorted, back] = [1, 2].map(|at| self.value(edit, at));
        let places = inverse(outputs);
        let input = self.input(edit);
        self.reorder(edit, (input, sorted), inputs, super::CHANNELS as i64, "_1")?;
        let (op, weight) = self.factor(edit, 0, part)?;
        edit.set_op(layer.node, op);
        edit.set_input(layer.node, 0, Some(sorted));
        edit.set_input(layer.node, 1, Some(weight));
        let old = layer.bias(self.graph);
        let bias = bias.map_or(old.as_slice(), |b| b);
        let bias: Vec<f64> = outputs.iter().map(|o| bias[*o]).collect();
        let bias = self.bias(edit, Some(&bias))?;
        edit.set_input(layer.node, 2, bias);
        edit.replace_uses(layer.output, back);
        self.reorder(
            edit,
            (layer.output, back),
            &places,
            super::CHANNELS as i64,
            "_2",
        )?;
        Ok(layer.output)
    }

    /// A product with blocks on the diagonal, as one product for each block: features are put in order, cut in
    /// blocks and turned so that the block comes before the rows, `[…, blocks, rows, features]`; behind the
    /// product all that is undone. The product keeps the layer's node, what comes last its output.
    fn in_blocks(
        &self,
        edit: &mut GraphEdit,
        part: &Matrix,
        ([inputs, outputs], axes): (&[Vec<usize>; 2], usize),
        bias: Option<&[f64]>,
    ) -> Result<ValueId, RebuildError> {
        let Self { layer, .. } = *self;
        let blocks = inputs.len() / part.cols.max(1);
        let each_out = outputs.len() / blocks.max(1);
        let [sorted, cut, turned, product, back, joined, whole] =
            [1, 2, 3, 4, 5, 6, 7].map(|at| self.value(edit, at));
        let input = self.input(edit);
        self.reorder(edit, (input, sorted), inputs, -1, "_1")?;
        let leading = vec![0; axes - 1];
        let blocked = [&leading[..], &[blocks as i64, part.cols as i64]].concat();
        self.reshape(edit, (sorted, cut), &blocked, "_2");
        let mut perm: Vec<i64> = (0..=axes as i64).collect();
        perm.swap(axes - 2, axes - 1);
        let turn = Op::Transpose { perm: Some(perm) };
        let node = edit.add_op(turn.clone(), vec![Some(cut)], vec![Some(turned)]);
        self.name(edit, node, "_3");
        let mut data = Vec::with_capacity(part.data.len());
        for block in 0..blocks {
            for i in 0..part.cols {
                data.extend((0..each_out).map(|o| part.at(block * each_out + o, i) as f32));
            }
        }
        let name = &self.graph.value(layer.weight).name;
        let weight = tensor(vec![blocks, part.cols, each_out], data)?;
        let weight = edit.add_initializer(&format!("{name}_blocks"), weight);
        edit.set_op(layer.node, Op::MatMul);
        edit.set_input(layer.node, 0, Some(turned));
        edit.set_input(layer.node, 1, Some(weight));
        if self.graph.node(layer.node).input(2).is_some() {
            edit.set_input(layer.node, 2, None);
        }
        edit.set_output(layer.node, 0, Some(product));
        let node = edit.add_op(turn, vec![Some(product)], vec![Some(back)]);
        self.name(edit, node, "_4");
        let together = [&leading[..], &[outputs.len() as i64]].concat();
        self.reshape(edit, (back, joined), &together, "_5");
        let places = inverse(outputs);
        let Some(bias) = self.bias(edit, bias)? else {
            self.reorder(edit, (joined, layer.output), &places, -1, "_6")?;
            return Ok(layer.output);
        };
        self.reorder(edit, (joined, whole), &places, -1, "_6")?;
        let add = Op::Binary(BinaryOp::Add);
        let node = edit.add_op(add, vec![Some(whole), Some(bias)], vec![Some(layer.output)]);
        self.name(edit, node, "_bias");
        Ok(layer.output)
    }

    /// Gives a value a shape in which 0 stands for the extent that is there.
    fn reshape(
        &self,
        edit: &mut GraphEdit,
        (from, to): (ValueId, ValueId),
        shape: &[i64],
        end: &str,
    ) {
        let name = &self.graph.value(self.layer.output).name;
        let shape = Tensor::i64_list(shape.to_vec());
        let shape = edit.add_initializer(&format!("{name}{end}_shape"), shape);
        let op = Op::Reshape { allowzero: false };
        let node = edit.add_op(op, vec![Some(from), Some(shape)], vec![Some(to)]);
        self.name(edit, node, end);
    }

    fn reorder(
        &self,
        edit: &mut GraphEdit,
        (from, to): (ValueId, ValueId),
        order: &[usize],
        axis: i64,
        end: &str,
    ) -> Result<(), RebuildError> {
        let name = &self.graph.value(self.layer.output).name;
        let indices: Vec<u8> = order
            .iter()
            .flat_map(|i| (*i as i64).to_le_bytes())
            .collect();
        let indices = Tensor::from_le_bytes(DType::I64, vec![order.len()], indices)?;
        let indices = edit.add_initializer(&format!("{name}{end}_order"), indices);
        let gather = Op::Gather { axis };
        let node = edit.add_op(gather, vec![Some(from), Some(indices)], vec![Some(to)]);
        self.name(edit, node, end);
        Ok(())
    }

    fn value(&self, edit: &mut GraphEdit, at: usize) -> ValueId {
        let name = &self.graph.value(self.layer.output).name;
        edit.add_value(&format!("{name}_{at}"))
    }

    fn name(&self, edit: &mut GraphEdit, node: NodeId, end: &str) {
        let label = self.graph.node_label(self.layer.node);
        edit.set_node_name(node, &format!("{label}{end}"));
    }

    /// Adds the weights of the factor `at` and returns them with what it computes.
    fn factor(
        &self,
        edit: &mut GraphEdit,
        at: usize,
        part: &Matrix,
    ) -> Result<(Op, ValueId), RebuildError> {
        let name = &self.graph.value(self.layer.weight).name;
        let (op, shape) = op_of(self.graph, self.layer, self.scheme, at, part);
        let data = if self.layer.kind == LayerKind::MatMul {
            part.transposed().to_f32()
        } else {
            part.to_f32()
        };
        let hint = format!("{name}_{}", at + 1);
        Ok((op, edit.add_initializer(&hint, tensor(shape, data)?)))
    }

    fn bias(
        &self,
        edit: &mut GraphEdit,
        bias: Option<&[f64]>,
    ) -> Result<Option<ValueId>, RebuildError> {
        let Some(bias) = bias else {
            return Ok(None);
        };
        let name = &self.graph.value(self.layer.weight).name;
        let data = bias.iter().map(|b| *b as f32).collect();
        let data = tensor(vec![self.layer.n_out], data)?;
        Ok(Some(edit.add_initializer(&format!("{name}_bias"), data)))
    }
}

/// Returns where each index stands in an order of all of them.
fn inverse(order: &[usize]) -> Vec<usize> {
    let mut places = vec![0; order.len()];
    for (place, index) in order.iter().enumerate() {
        places[*index] = place;
    }
    places
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
            // Where there are groups, each row holds the inputs of one.
            let taps = spatial.iter().product::<usize>().max(1);
            let sizes = Sizes {
                groups: layer.n_in() * taps / part.cols.max(1),
                rows,
                per_channel: part.cols / layer.n_in().max(1),
            };
            let (conv, kernel) = conv_of(conv, spatial, sizes, scheme, at);
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

/// Sizes of a factor's weights.
#[derive(Clone, Copy)]
struct Sizes {
    /// Groups, where each row holds the inputs of one.
    groups: usize,
    rows: usize,
    /// Weights of a row for each input channel of the layer.
    per_channel: usize,
}

/// Returns the attributes of a convolution's factor and its kernel.
fn conv_of(
    conv: &Conv,
    kernel: &[usize],
    sizes: Sizes,
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
        (Scheme::Output | Scheme::Svd | Scheme::Sparse | Scheme::MultiScale, 0)
        | (Scheme::Tucker, 1)
        | (Scheme::SparseLowRank, 0 | 2) => {
            let whole = Conv {
                kernel_shape: kernel.to_vec(),
                ..conv.clone()
            };
            (whole, kernel.to_vec())
        }
        (Scheme::Separable | Scheme::Grouped, 0) => {
            let alone = Conv {
                kernel_shape: kernel.to_vec(),
                group: sizes.groups,
                ..conv.clone()
            };
            (alone, kernel.to_vec())
        }
        (Scheme::Spatial, axis) => along(conv, kernel, axis),
        (Scheme::Cp, 1 | 2) => {
            let (part, shape) = along(conv, kernel, at - 1);
            let alone = Conv {
                group: sizes.rows,
                ..part
            };
            (alone, shape)
        }
        (Scheme::MultiScale, 2) => in_the_middle(conv, kernel, sizes.per_channel.isqrt()),
        _ => point(),
    }
}

/// Returns the convolution with a smaller kernel in the middle of the kernel.
fn in_the_middle(conv: &Conv, kernel: &[usize], side: usize) -> (Conv, Vec<usize>) {
    let extents = [kernel.first(), kernel.get(1)].map(|k| k.copied().unwrap_or(side));
    let small = Conv {
        kernel_shape: vec![side; 2],
        pads: cropped(conv, extents, side).unwrap_or_default(),
        ..conv.clone()
    };
    (small, vec![side; 2])
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
