//! Cutting a network into blocks between points that a single value crosses.

use regraft_graph::{Graph, NodeId, Op, ValueId};

use crate::Layer;
use crate::cell::Cell;
use crate::stream::Stream;

/// A run of nodes between two cut points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first node.
    pub(crate) start: NodeId,
    /// One past the last node.
    pub(crate) end: NodeId,
    /// The value that leaves the block; `None` where several cross its end.
    pub(crate) output: Option<ValueId>,
    /// Indices into the layers handed in.
    pub(crate) layers: Vec<usize>,
    /// Indices into the cells handed in.
    pub(crate) cells: Vec<usize>,
}

/// Returns blocks that cover all nodes in order; every block but the last holds a linear layer or a
/// cell.
///
/// A cut point is crossed by one value only, which no linear layer writes: so a block ends after a
/// non-linearity, a sum or a pooling, and what is inside can be tuned against the value that leaves.
pub(crate) fn find_blocks(
    graph: &Graph,
    stream: &Stream,
    layers: &[Layer],
    cells: &[Cell],
) -> Vec<Block> {
    let n = graph.n_nodes();
    let mut blocks = Vec::new();
    let mut start = 0;
    let mut inside = Vec::new();
    let mut inside_cells = Vec::new();
    for position in 1..=n {
        let here = |node: NodeId| node.index() + 1 == position;
        inside.extend((0..layers.len()).filter(|&i| here(layers[i].node)));
        inside_cells.extend((0..cells.len()).filter(|&i| here(cells[i].node)));
        let last = position == n;
        let output = cut_value(graph, stream, position);
        if (output.is_some() && !(inside.is_empty() && inside_cells.is_empty())) || last {
            blocks.push(Block {
                start: NodeId::new(start),
                end: NodeId::new(position),
                output: if last {
                    graph.outputs().first().copied()
                } else {
                    output
                },
                layers: std::mem::take(&mut inside),
                cells: std::mem::take(&mut inside_cells),
            });
            start = position;
        }
    }
    blocks
}

fn cut_value(graph: &Graph, stream: &Stream, position: usize) -> Option<ValueId> {
    let [v] = stream.frontier(position)[..] else {
        return None;
    };
    let node = graph.node(graph.producer(v)?);
    let linear = matches!(
        node.op,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
    );
    // A normalisation belongs to the layer before it, and what only moves elements ends nothing.
    let bare = matches!(
        node.op,
        Op::BatchNormalization { .. } | Op::Pad { .. } | Op::Slice(_)
    );
    (!linear && !bare).then_some(v)
}
