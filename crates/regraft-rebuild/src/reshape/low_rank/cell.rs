//! The input weights of recurrent cells: fewer features in front of a cell, which reads those.
//!
//! All gates together, of both directions where there are two, are one matrix from the inputs to the gates,
//! `directions · gates · hidden × n_in`. It becomes a product: a linear layer over the sequence to a few features, and a cell of as many units that reads
//! them. What a cell reads of its own states stays: no op of ONNX could hold it in two parts.

use regraft_graph::{Graph, GraphEdit, Op, Tensor};
use regraft_solve::{Gram, Matrix};

use super::geometry::Geometry;
use crate::cell::find_cells;
use crate::reshape::Network;
use crate::{Layer, LayerKind, RebuildError};

/// Returns the input weights of each cell as a linear layer that reads the sequence.
pub(super) fn input_layers(network: &Network) -> Vec<Layer> {
    let graph = &network.graph;
    let cells = find_cells(graph, &network.facts).into_iter();
    let layer = |cell: crate::cell::Cell| Layer {
        node: cell.node,
        kind: LayerKind::Gemm { trans_b: true },
        input: cell.input,
        output: cell.states,
        weight: cell.w,
        bias: None,
        n_out: cell.n_rows(),
        d: cell.n_in,
        taps: 1,
    };
    cells.map(layer).collect()
}

/// True if a layer stands for the input weights of a cell.
pub(super) fn is_cell(graph: &Graph, layer: &Layer) -> bool {
    matches!(graph.node(layer.node).op, Op::Recurrent(_))
}

/// Returns the sizes of a cell's input weights; `macs` are those of the cell.
pub(super) fn geometry(graph: &Graph, layer: &Layer, macs: u64) -> Option<Geometry> {
    let Op::Recurrent(op) = &graph.node(layer.node).op else {
        return None;
    };
    let each_step = layer.n_out * (layer.d + op.hidden_size);
    let steps = usize::try_from(macs).ok()? / each_step.max(1);
    Some(Geometry::of_cell(layer.d, layer.n_out, steps.max(1)))
}

/// Returns the Gram of what the input weights read, of that of inputs and states.
pub(super) fn of_inputs(gram: &Gram, n_in: usize) -> Option<Gram> {
    let mut matrix = Matrix::zeros(n_in, n_in);
    for i in 0..n_in {
        let row = gram.matrix.row(i).get(..n_in)?;
        matrix.row_mut(i).copy_from_slice(row);
    }
    Some(Gram {
        n: gram.n,
        matrix,
        mean: gram.mean.get(..n_in)?.to_vec(),
    })
}

/// Puts a linear layer in front of a cell, which gets the outer factor in place of its input weights.
pub(super) fn replace(
    edit: &mut GraphEdit,
    graph: &Graph,
    layer: &Layer,
    [inner, outer]: [&Matrix; 2],
) -> Result<(), RebuildError> {
    let label = graph.node_label(layer.node);
    let name = &graph.value(layer.weight).name;
    // An edit before may have put another value there.
    let read = edit.graph().node(layer.node).input(0);
    let narrow = edit.add_value(&format!("{label}_narrow"));
    let shape = vec![inner.cols, inner.rows];
    let weight = Tensor::from_f32(shape, inner.transposed().to_f32())?;
    let weight = edit.add_initializer(&format!("{name}_1"), weight);
    let inputs = vec![Some(read.unwrap_or(layer.input)), Some(weight)];
    let node = edit.add_op(Op::MatMul, inputs, vec![Some(narrow)]);
    edit.set_node_name(node, &format!("{label}_1"));
    let whole = graph.tensor(layer.weight).map_or(&[][..], Tensor::shape);
    let directions = whole.first().copied().unwrap_or(1).max(1);
    let shape = vec![directions, outer.rows / directions, outer.cols];
    let weight = Tensor::from_f32(shape, outer.to_f32())?;
    let weight = edit.add_initializer(&format!("{name}_2"), weight);
    edit.set_input(layer.node, 0, Some(narrow));
    edit.set_input(layer.node, 1, Some(weight));
    Ok(())
}
