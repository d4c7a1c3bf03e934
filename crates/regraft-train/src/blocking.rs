//! Ops that let no gradient through.

use std::collections::BTreeSet;

use regraft_graph::op::{Normalization, UnaryOp};
use regraft_graph::{Graph, NodeId, Op, ValueId};

/// Returns the node nearest to `value` that lets no gradient through to `from`, and what it computes.
pub(crate) fn blocking(
    graph: &Graph,
    value: ValueId,
    from: &[ValueId],
) -> Option<(String, String)> {
    let mut at = 0;
    let mut queue: Vec<NodeId> = graph.producer(value).into_iter().collect();
    let mut seen: BTreeSet<NodeId> = queue.iter().copied().collect();
    while let Some(&id) = queue.get(at) {
        at += 1;
        let op = &graph.node(id).op;
        if is_flat(op) && reads(graph, id, from) {
            return Some((graph.node_label(id), op.name().to_owned()));
        }
        for input in graph.node(id).inputs.iter().flatten() {
            if let Some(before) = graph.producer(*input).filter(|n| seen.insert(*n)) {
                queue.push(before);
            }
        }
    }
    None
}

/// True for a result that stays the same when the inputs move a little.
fn is_flat(op: &Op) -> bool {
    match op {
        Op::Unary(UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Sign)
        | Op::ArgExtremum { .. }
        | Op::Compare(_)
        | Op::FloatTest(_)
        | Op::Normalization(Normalization::Hardmax { .. }) => true,
        Op::Cast { to } => !to.is_float(),
        _ => false,
    }
}

/// True if a node, or one before it, reads one of these values.
fn reads(graph: &Graph, node: NodeId, values: &[ValueId]) -> bool {
    let mut queue = vec![node];
    let mut seen = BTreeSet::from([node]);
    while let Some(id) = queue.pop() {
        for input in graph.node(id).inputs.iter().flatten() {
            if values.contains(input) {
                return true;
            }
            if let Some(before) = graph.producer(*input).filter(|n| seen.insert(*n)) {
                queue.push(before);
            }
        }
    }
    false
}
