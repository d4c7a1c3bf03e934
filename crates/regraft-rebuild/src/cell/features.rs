//! What reads the states of a cell as features: a sequence, or one state for each sample.

use regraft_graph::infer::Facts;
use regraft_graph::{Dim, Graph, NodeId, Op, ValueId};

use super::Cell;

/// States without an axis of directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) value: ValueId,
    /// Number of axes; features are on the last.
    pub(crate) rank: usize,
    /// The axis of samples.
    pub(crate) batch: usize,
}

impl Cell {
    /// Returns the states of all steps as features, where something reads them so.
    pub(crate) fn sequence(&self, graph: &Graph, facts: &Facts) -> Option<Features> {
        let axes = if self.batch_first { [0, 2] } else { [2, 1] };
        self.features(graph, facts, self.states, axes)
    }

    /// Returns the last states as features, where something reads them so.
    pub(crate) fn last(&self, graph: &Graph, facts: &Facts) -> Option<Features> {
        let last = graph.node(self.node).output(1)?;
        let axes = if self.batch_first { [0, 1] } else { [1, 0] };
        self.features(graph, facts, last, axes)
    }

    /// Returns the number of features that its states are together.
    pub(crate) fn n_features(&self) -> usize {
        self.n_directions * self.hidden
    }

    /// Returns what reads states whose axes of samples and of directions are known: without the axis of one
    /// direction, or with both directions side by side.
    fn features(
        &self,
        graph: &Graph,
        facts: &Facts,
        states: ValueId,
        [batch, directions]: [usize; 2],
    ) -> Option<Features> {
        let readers = graph.consumers(states);
        let found = if self.n_directions == 1 {
            let squeezed = readers.iter().find_map(|n| squeezed(graph, *n));
            squeezed.map(|value| (value, batch - usize::from(directions < batch)))
        } else {
            let joined = |n: &NodeId| joined(graph, *n, [batch, directions]);
            readers.iter().find_map(joined)
        };
        let (value, batch) = found?;
        let shape = facts.shape(value)?;
        let rank = facts.shape(states)?.len().checked_sub(1)?;
        let is_plain = shape.len() == rank
            && batch + 1 < rank
            && shape.last().and_then(Dim::fixed) == Some(self.n_features());
        is_plain.then_some(Features { value, rank, batch })
    }
}

fn squeezed(graph: &Graph, node: NodeId) -> Option<ValueId> {
    let node = graph.node(node);
    let is_squeezed = matches!(node.op, Op::Squeeze { .. });
    node.output(0).filter(|_| is_squeezed)
}

/// Returns what has both directions side by side, and its axis of samples: a reshape of states whose
/// directions lie before their units, as they are or transposed.
fn joined(
    graph: &Graph,
    node: NodeId,
    [batch, directions]: [usize; 2],
) -> Option<(ValueId, usize)> {
    let node = graph.node(node);
    match &node.op {
        // The last axis but one; units come last.
        op if joins(op) && directions > batch => Some((node.output(0)?, batch)),
        Op::Transpose { perm: Some(perm) } => {
            let at = |axis: usize| perm.iter().position(|p| usize::try_from(*p) == Ok(axis));
            let (batch, directions) = (at(batch)?, at(directions)?);
            let [next] = graph.consumers(node.output(0)?) else {
                return None;
            };
            let next = graph.node(*next);
            let is_joined = joins(&next.op) && directions + 2 == perm.len();
            next.output(0).filter(|_| is_joined).map(|v| (v, batch))
        }
        _ => None,
    }
}

/// True for an op that may make one axis of the last two; the shape of its output tells.
fn joins(op: &Op) -> bool {
    matches!(op, Op::Reshape { .. } | Op::Flatten { axis: 1 })
}
