//! Figures of runs in which single connections go.

use serde::{Deserialize, Serialize};

/// How a budget of connections was shared between layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationFigures {
    /// The way that was taken.
    pub method: String,
    /// Runs of the network that the choice took.
    pub evaluations: usize,
    /// Everything that was tried.
    pub candidates: Vec<AllocationCandidate>,
}

/// One way of sharing a budget, before layers were solved again on the pruned inputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationCandidate {
    /// Its name.
    pub method: String,
    /// Relative squared error of the network's output on the samples that decided.
    pub error: f64,
    /// The same on samples that decided nothing.
    pub held_out: f64,
}

/// What one of several pruning steps left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PruneStep {
    /// Connections that stay, of the layers that may lose some.
    pub connections: usize,
    /// Relative error on held-out samples that the tuning of the whole network reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
}

/// Connections that moved between layers or came back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegrowthFigures {
    /// What ranked them: `gain`, `residual` or `gradient`.
    pub by: String,
    /// Connections of all layers that may lose some.
    pub connections: usize,
    /// The changes in their order; the first is the network as it was pruned.
    pub steps: Vec<RegrowthStep>,
    /// Layers that changed, in graph order.
    pub layers: Vec<RegrownLayer>,
}

/// One change of the masks, every layer refitted on them, before any tuning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegrowthStep {
    /// `start`, `move` or `grow`.
    pub kind: String,
    /// Connections that moved or came back.
    pub changed: usize,
    /// Connections kept afterwards.
    pub connections: usize,
    /// Relative squared error of the network's output on held-out samples.
    pub held_out: f64,
    /// False if the change did not pay and was undone.
    pub kept: bool,
}

impl RegrowthStep {
    /// Returns what was done, in words.
    pub(super) fn described(&self) -> &'static str {
        match &self.kind[..] {
            "move" => "moved",
            "grow" => "came back",
            _ => "as pruned",
        }
    }
}

/// One layer that gained or lost connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegrownLayer {
    /// The node's label.
    pub node: String,
    /// Connections that came.
    pub added: usize,
    /// Connections that went.
    pub dropped: usize,
}
