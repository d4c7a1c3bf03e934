//! Extents that weights demand of an input's free axes: a picture has as many channels as the first
//! convolution reads.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::infer::Facts;
use regraft_graph::{Graph, Node, NodeId, Op, ValueId};

/// Returns the extents that some weight demands of the axes of `input`.
pub(super) fn demands(graph: &Graph, facts: &Facts, input: ValueId) -> BTreeMap<usize, usize> {
    let rank = facts.shape(input).map_or(0, <[_]>::len);
    let mut demanded = BTreeMap::new();
    let mut seen = BTreeSet::from([input]);
    // Values that hold the input's elements one by one, and which of its axes each of theirs is.
    let mut work: Vec<(ValueId, Vec<usize>)> = vec![(input, (0..rank).collect())];
    while let Some((value, axes)) = work.pop() {
        for &id in graph.consumers(value) {
            let node = graph.node(id);
            if let Some((axis, extent)) = read_by(graph, node, value, axes.len())
                && let Some(own) = axes.get(axis)
            {
                demanded.entry(*own).or_insert(extent);
            }
            if let Some((out, axes)) = passed_on(graph, id, value, &axes)
                && seen.insert(out)
            {
                work.push((out, axes));
            }
        }
    }
    demanded
}

/// Returns the axis of a value and its extent that a node's weight fits.
fn read_by(graph: &Graph, node: &Node, value: ValueId, rank: usize) -> Option<(usize, usize)> {
    if node.input(0) != Some(value) {
        return None;
    }
    let shape = graph.tensor(node.input(1)?)?.shape();
    let last = rank.checked_sub(1)?;
    match &node.op {
        Op::Conv(conv) => Some((1, shape.get(1)?.checked_mul(conv.group)?)),
        Op::ConvTranspose(_) | Op::BatchNormalization { .. } => Some((1, *shape.first()?)),
        Op::Gemm(gemm) if !gemm.trans_a => Some((last, *shape.get(usize::from(gemm.trans_b))?)),
        Op::MatMul => Some((last, *shape.get(shape.len().checked_sub(2)?)?)),
        Op::Recurrent(_) => Some((last, *shape.get(2)?)),
        Op::LayerNormalization { .. } => Some((last, *shape.last()?)),
        _ => None,
    }
}

/// Returns what a node makes of a value element by element, with its axes.
fn passed_on(
    graph: &Graph,
    id: NodeId,
    value: ValueId,
    axes: &[usize],
) -> Option<(ValueId, Vec<usize>)> {
    let node = graph.node(id);
    let out = node.output(0)?;
    match &node.op {
        Op::Unary(_) | Op::Dropout { .. } | Op::Cast { .. } | Op::BatchNormalization { .. }
            if node.input(0) == Some(value) =>
        {
            Some((out, axes.to_vec()))
        }
        Op::Binary(_) => {
            // A constant of no more axes does not move those of the value.
            let constant = |v: &ValueId| {
                graph
                    .tensor(*v)
                    .is_some_and(|t| t.shape().len() <= axes.len())
            };
            let others = node.inputs.iter().flatten().filter(|v| **v != value);
            others.clone().all(constant).then(|| (out, axes.to_vec()))
        }
        Op::Transpose { perm } => {
            let perm = match perm {
                Some(perm) => perm.iter().map(|p| usize::try_from(*p).ok()).collect(),
                None => Some((0..axes.len()).rev().collect::<Vec<usize>>()),
            };
            let turned: Option<Vec<usize>> = perm?.iter().map(|p| axes.get(*p).copied()).collect();
            Some((out, turned?))
        }
        _ => None,
    }
}
