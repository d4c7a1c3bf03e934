//! Ops that let no gradient through, and the weights that train nothing because of them.

use std::collections::BTreeSet;

use regraft_graph::op::{Normalization, UnaryOp};
use regraft_graph::{Graph, NodeId, Op, ValueId};

/// Returns for each of `weights` whether every way from it to `value` leads through an op that is flat
/// everywhere, and the first such op on a way from the first of them.
pub(crate) fn blocked(
    graph: &Graph,
    value: ValueId,
    weights: &[ValueId],
) -> (Vec<bool>, Option<NodeId>) {
    let goal = graph.producer(value);
    let mut first = None;
    let blocked = weights.iter().map(|weight| {
        let (reaches, flat) = forward(graph, *weight, goal);
        if !reaches && first.is_none() {
            first = flat;
        }
        !reaches && flat.is_some()
    });
    (blocked.collect(), first)
}

/// Goes from a value to a node, not past flat ops; returns whether it is reached, and a flat op that was
/// met.
fn forward(graph: &Graph, from: ValueId, goal: Option<NodeId>) -> (bool, Option<NodeId>) {
    let mut flat = None;
    let mut queue = vec![from];
    let mut seen: BTreeSet<NodeId> = BTreeSet::new();
    while let Some(value) = queue.pop() {
        for &id in graph.consumers(value) {
            if !seen.insert(id) {
                continue;
            }
            let node = graph.node(id);
            if is_flat(&node.op) {
                flat.get_or_insert(id);
                continue;
            }
            if Some(id) == goal {
                return (true, flat);
            }
            queue.extend(node.outputs.iter().flatten().copied());
        }
    }
    (false, flat)
}

/// True for a result that stays the same when the inputs move a little.
fn is_flat(op: &Op) -> bool {
    match op {
        Op::Unary(UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Sign)
        | Op::ArgExtremum { .. }
        | Op::Compare(_)
        | Op::FloatTest(_)
        | Op::Shape { .. }
        | Op::Size
        | Op::Normalization(Normalization::Hardmax { .. }) => true,
        Op::Cast { to } => !to.is_float(),
        _ => false,
    }
}
