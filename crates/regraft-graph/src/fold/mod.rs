//! Replacing what is constant by initializers, and removing nodes that do nothing.

mod batch_norm;
mod branches;

pub use batch_norm::fold_batch_norm;
pub use branches::open_branches;

use std::collections::BTreeMap;

use crate::infer::{InferOptions, infer};
use crate::op::UnaryOp;
use crate::{Graph, GraphError, NodeId, Op};

/// What folding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldReport {
    /// Nodes whose outputs became initializers, `Constant` nodes included.
    pub folded: usize,
    /// `Identity` and inference-mode `Dropout` nodes taken out.
    pub bypassed: usize,
}

/// Returns an equal graph without nodes whose result is the same on every run.
///
/// # Errors
/// As [`infer`]: a graph whose shapes contradict each other.
pub fn fold(graph: &Graph, options: &InferOptions) -> Result<(Graph, FoldReport), GraphError> {
    fold_around(graph, options, |op| {
        is_identity(op) || matches!(op, Op::Dropout { .. })
    })
}

/// Returns what [`fold`] returns, with its `Dropout` nodes still there: training makes them active.
///
/// # Errors
/// As [`fold`].
pub fn fold_keeping_dropout(
    graph: &Graph,
    options: &InferOptions,
) -> Result<(Graph, FoldReport), GraphError> {
    fold_around(graph, options, is_identity)
}

fn is_identity(op: &Op) -> bool {
    matches!(op, Op::Unary(UnaryOp::Identity))
}

/// Takes out what is constant, and nodes that are `passing` their input on.
fn fold_around(
    graph: &Graph,
    options: &InferOptions,
    passing: fn(&Op) -> bool,
) -> Result<(Graph, FoldReport), GraphError> {
    let facts = infer(graph, options)?;
    let mut edit = graph.edit();
    let mut report = FoldReport::default();
    for (v, tensor) in facts.derived(graph) {
        let Some(id) = graph.producer(v) else {
            continue;
        };
        let only_output = graph.node(id).outputs.iter().flatten().count() == 1;
        // The value is given a constant below; as an output of the graph it keeps its node.
        if only_output && !graph.outputs().contains(&v) {
            edit.remove_node(id);
            edit.set_initializer(v, tensor.clone());
            report.folded += 1;
        }
    }
    // In node order a chain of such nodes leads back to its first input.
    let mut stands_for = BTreeMap::new();
    for (id, _) in graph.nodes() {
        if let Some((output, input)) = bypass(graph, id, passing) {
            let origin = stands_for.get(&input).copied().unwrap_or(input);
            stands_for.insert(output, origin);
            edit.remove_node(id);
            report.bypassed += 1;
        }
    }
    edit.replace_all_uses(&stands_for);
    Ok((edit.finish()?, report))
}

/// Returns output and input of a node that only passes its input on, if it can be taken out.
fn bypass(
    graph: &Graph,
    id: NodeId,
    passing: fn(&Op) -> bool,
) -> Option<(crate::ValueId, crate::ValueId)> {
    let node = graph.node(id);
    if !passing(&node.op) {
        return None;
    }
    let (input, output) = (node.input(0)?, node.output(0)?);
    let captured = graph
        .consumers(output)
        .iter()
        .any(|c| graph.node(*c).captures.contains(&output));
    // A mode, input 2 of a `Dropout`, may be that of training.
    let does_more = node.output(1).is_some() || node.input(2).is_some();
    let free = !captured && !does_more && !graph.outputs().contains(&output);
    free.then_some((output, input))
}

#[cfg(test)]
mod tests;
