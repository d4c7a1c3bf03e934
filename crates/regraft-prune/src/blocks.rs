//! Residual blocks that can go whole: depth instead of width.
//!
//! A block is the branch of a sum of two values. Without it the sum is its other summand, the
//! shortcut, and every node that only the branch needed goes.
//!
//! In the graph that is left, the values before the block take the names of those behind it where
//! nothing else reads them: what the shortcut carries has to stand for the sum from then on, so
//! whoever rebuilds the weights finds the dense value to aim at under the same identifier.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::cost::node_macs;
use regraft_graph::infer::Facts;
use regraft_graph::op::{BinaryOp, UnaryOp, VariadicOp};
use regraft_graph::{DType, Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::PruneError;

/// The most nodes of a branch: a guard against long chains of sums.
const MAX_BRANCH_NODES: usize = 512;

/// A branch that can be taken out of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovableBlock {
    /// The name of the sum's value.
    pub name: String,
    /// The sum.
    pub sum: ValueId,
    /// The summand that stays.
    pub shortcut: ValueId,
    /// The summand that goes.
    pub branch: ValueId,
    /// Every node that goes with it if nothing else does: the branch, the sum, and a `Relu` behind
    /// the sum where the shortcut already is the output of one. Ascending.
    pub nodes: Vec<NodeId>,
}

/// Returns the blocks of `graph` that can be removed, in graph order.
///
/// The sum has to be of two computed 32-bit float values of equal shape, and no output of the
/// graph. Of its two summands the one that alone needs more multiply-accumulates is the branch.
pub fn find_blocks(graph: &Graph, facts: &Facts) -> Vec<RemovableBlock> {
    graph
        .nodes()
        .filter_map(|(id, node)| block_at(graph, facts, id, node))
        .collect()
}

fn block_at(graph: &Graph, facts: &Facts, id: NodeId, node: &Node) -> Option<RemovableBlock> {
    let (a, b, sum) = summands(node)?;
    let computed = |v: ValueId| graph.tensor(v).is_none() && facts.constant(v).is_none();
    let equal = facts.shape(a)? == facts.shape(b)? && facts.shape(a)? == facts.shape(sum)?;
    let floats = facts.dtype(sum) == Some(DType::F32);
    if !(equal && floats && computed(a) && computed(b)) || graph.outputs().contains(&sum) {
        return None;
    }
    let macs = |nodes: &BTreeSet<NodeId>| -> u64 {
        nodes.iter().map(|n| node_macs(graph, facts, *n)).sum()
    };
    let (only_a, only_b) = (only_for(graph, id, a)?, only_for(graph, id, b)?);
    let (shortcut, branch, mut gone) = if macs(&only_a) > macs(&only_b) {
        (b, a, only_a)
    } else {
        (a, b, only_b)
    };
    if macs(&gone) == 0 {
        return None;
    }
    gone.insert(id);
    gone.extend(repeated_relu(graph, sum, shortcut).map(|(relu, _)| relu));
    Some(RemovableBlock {
        name: graph.value(sum).name.clone(),
        sum,
        shortcut,
        branch,
        nodes: gone.into_iter().collect(),
    })
}

/// The two different summands of a sum and its value.
fn summands(node: &Node) -> Option<(ValueId, ValueId, ValueId)> {
    let is_sum = matches!(
        node.op,
        Op::Binary(BinaryOp::Add) | Op::Variadic(VariadicOp::Sum)
    );
    match (&node.inputs[..], &node.outputs[..]) {
        ([Some(a), Some(b)], [Some(sum)]) if is_sum && a != b => Some((*a, *b, *sum)),
        _ => None,
    }
}

/// The nodes that are needed for nothing but `value` as read by `reader`; `None` if they are too many.
fn only_for(graph: &Graph, reader: NodeId, value: ValueId) -> Option<BTreeSet<NodeId>> {
    let mut dead = BTreeSet::new();
    let mut work = vec![value];
    while let Some(v) = work.pop() {
        let Some(id) = graph.producer(v).filter(|id| !dead.contains(id)) else {
            continue;
        };
        let node = graph.node(id);
        let unread = |v: &ValueId| {
            let readers = graph.consumers(*v).iter();
            !graph.outputs().contains(v)
                && readers
                    .copied()
                    .all(|r| dead.contains(&r) || (r == reader && *v == value))
        };
        if node.outputs.iter().flatten().all(unread) {
            dead.insert(id);
            work.extend(node.reads());
            if dead.len() > MAX_BRANCH_NODES {
                return None;
            }
        }
    }
    Some(dead)
}

/// The `Relu` that alone reads `sum`, and its output, where `shortcut` is the output of a `Relu`:
/// applied to the shortcut it changes nothing.
fn repeated_relu(graph: &Graph, sum: ValueId, shortcut: ValueId) -> Option<(NodeId, ValueId)> {
    let is_relu = |id: NodeId| graph.node(id).op == Op::Unary(UnaryOp::Relu);
    let [reader] = graph.consumers(sum) else {
        return None;
    };
    let made = graph.producer(shortcut)?;
    let output = graph.node(*reader).output(0)?;
    (is_relu(*reader) && is_relu(made) && !graph.outputs().contains(&output))
        .then_some((*reader, output))
}

/// Returns the graph without `blocks`, which were found by [`find_blocks`] in it, or in one of which
/// it is a copy with fewer channels; they are given in graph order.
///
/// A block inside the branch of another one goes with it.
/// # Errors
/// [`PruneError::Graph`] if the result is not a valid graph.
pub fn remove_blocks(graph: &Graph, blocks: &[RemovableBlock]) -> Result<Graph, PruneError> {
    let mut graph = graph.clone();
    // Values that are gone, and what stands for them.
    let mut stands: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for block in blocks {
        let Some(id) = graph.producer(block.sum) else {
            continue;
        };
        let mut shortcut = block.shortcut;
        while let Some(next) = stands.get(&shortcut) {
            shortcut = *next;
        }
        graph = without(&graph, id, (block.sum, shortcut, block.branch), &mut stands)?;
    }
    Ok(graph)
}

fn without(
    graph: &Graph,
    id: NodeId,
    (sum, shortcut, branch): (ValueId, ValueId, ValueId),
    stands: &mut BTreeMap<ValueId, ValueId>,
) -> Result<Graph, PruneError> {
    let relu = repeated_relu(graph, sum, shortcut);
    let out = relu.map_or(sum, |(_, out)| out);
    let mut edit = graph.edit();
    edit.remove_node(id);
    if let Some((relu, _)) = relu {
        edit.remove_node(relu);
    }
    let dead = only_for(graph, id, branch).unwrap_or_default();
    let alone = |v: ValueId, gone: &dyn Fn(&NodeId) -> bool| {
        graph.producer(v).is_some()
            && !graph.outputs().contains(&v)
            && graph.consumers(v).iter().all(gone)
    };
    if alone(shortcut, &|r| *r == id || dead.contains(r)) {
        rename(graph, &mut edit, shortcut, out);
        if let Some((maker, before)) = relu.and(before_relu(graph, shortcut))
            && alone(before, &|r| *r == maker)
        {
            rename(graph, &mut edit, before, sum);
        }
    } else {
        edit.replace_uses(out, shortcut);
        stands.insert(out, shortcut);
        stands.insert(sum, shortcut);
    }
    edit.finish().map_err(PruneError::Graph)
}

/// The node that makes a value, and what it reads.
fn before_relu(graph: &Graph, value: ValueId) -> Option<(NodeId, ValueId)> {
    let maker = graph.producer(value)?;
    Some((maker, graph.node(maker).input(0)?))
}

/// Gives the value `old` the identity of `new`, whose maker is removed.
fn rename(graph: &Graph, edit: &mut GraphEdit, old: ValueId, new: ValueId) {
    let Some(maker) = graph.producer(old) else {
        return;
    };
    let outputs = graph.node(maker).outputs.iter();
    if let Some(port) = outputs.clone().position(|v| *v == Some(old)) {
        edit.set_output(maker, port, Some(new));
        edit.replace_uses(old, new);
    }
}

/// Returns the graph in which what the branches give is multiplied by zero.
///
/// # Errors
/// [`PruneError::Graph`] if the result is not a valid graph.
pub fn mask_blocks(graph: &Graph, blocks: &[RemovableBlock]) -> Result<Graph, PruneError> {
    let mut edit = graph.edit();
    for block in blocks {
        let Some(id) = graph.producer(block.sum) else {
            continue;
        };
        let zero = Tensor::from_f32(Vec::new(), vec![0.0]).map_err(PruneError::Graph)?;
        let zero = edit.add_initializer("masked_block_zero", zero);
        let masked = edit.add_value("masked_block");
        edit.add_node(Node {
            name: String::new(),
            op: Op::Binary(BinaryOp::Mul),
            inputs: vec![Some(block.branch), Some(zero)],
            outputs: vec![Some(masked)],
            captures: Vec::new(),
            source: None,
            edited: false,
        });
        let inputs = &graph.node(id).inputs;
        for port in (0..inputs.len()).filter(|p| inputs[*p] == Some(block.branch)) {
            edit.set_input(id, port, Some(masked));
        }
    }
    edit.finish().map_err(PruneError::Graph)
}

#[cfg(test)]
mod tests;
