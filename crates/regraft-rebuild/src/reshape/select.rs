//! Which layers an edit may touch.

use regraft_graph::Graph;
use regraft_prune::PruneError;
use regraft_prune::plan::may_shrink;

use crate::{Layer, RebuildError};

/// Patterns of node labels, in which `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; empty: all.
    pub only: Vec<String>,
    /// Never these.
    pub ignore: Vec<String>,
}

impl Selection {
    /// Returns which layers an edit may touch.
    ///
    /// # Errors
    /// [`RebuildError::Pattern`] if a pattern fits no layer.
    pub fn of(&self, graph: &Graph, layers: &[Layer]) -> Result<Vec<bool>, RebuildError> {
        let labels: Vec<String> = layers.iter().map(|l| graph.node_label(l.node)).collect();
        self.of_labels(&labels)
    }

    /// Returns the same for nodes with the given labels.
    ///
    /// # Errors
    /// [`RebuildError::Pattern`] if a pattern fits none of them.
    pub(crate) fn of_labels(&self, labels: &[String]) -> Result<Vec<bool>, RebuildError> {
        may_shrink(&self.ignore, &self.only, labels).map_err(|error| match error {
            PruneError::Pattern { pattern } => RebuildError::Pattern { pattern },
            other => other.into(),
        })
    }
}
