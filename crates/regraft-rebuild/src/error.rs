//! What can stop a rebuild.

use regraft_exec::ExecError;
use regraft_graph::GraphError;
use regraft_solve::SolveError;

/// A rebuild that could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// A layer's weights cannot be solved for.
    #[error("cannot rebuild node `{node}`")]
    Solve {
        /// The node's label.
        node: String,
        /// What the solver says.
        #[source]
        source: SolveError,
    },
    /// The model cannot be run.
    #[error("cannot run the {model} model")]
    Run {
        /// `dense` or `pruned`.
        model: &'static str,
        /// What the executor says.
        #[source]
        source: ExecError,
    },
    /// A change of the graph does not hold.
    #[error("cannot change the model")]
    Graph(
        /// What the graph says.
        #[from]
        GraphError,
    ),
    /// A block cannot be removed.
    #[error("cannot change channels or blocks")]
    Prune(
        /// What is wrong with it.
        #[from]
        regraft_prune::PruneError,
    ),
    /// A pattern fits nothing that an edit takes.
    #[error("the pattern `{pattern}` matches no node that the edit takes")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// There are too few samples to work with.
    #[error("{found} calibration samples are too few, at least {needed} are needed")]
    TooFewSamples {
        /// Samples given.
        found: usize,
        /// Samples needed.
        needed: usize,
    },
    /// The two models do not belong together.
    #[error("the pruned model does not descend from the dense one: {reason}")]
    NotRelated {
        /// What differs.
        reason: String,
    },
    /// Models to fuse are not versions of one network.
    #[error("the models to fuse differ: number {model} at {node}: {what}")]
    GraphsDiffer {
        /// Which model, counted from 1.
        model: usize,
        /// The first model's node where they part, in backticks, or a part of the graph in words.
        node: String,
        /// What differs.
        what: String,
    },
    /// Models cannot be fused.
    #[error("cannot fuse the models: {reason}")]
    Fuse {
        /// Why.
        reason: String,
    },
    /// A value has no float data where floats are needed.
    #[error("value `{value}` does not hold 32-bit floats")]
    NotFloat {
        /// The value's name.
        value: String,
    },
    /// A budget cannot be shared between layers.
    #[error("cannot share the budget between the layers")]
    Allocate(
        /// What the solver says.
        #[from]
        SolveError,
    ),
    /// A sparsity that the layers cannot have.
    #[error("a sparsity of {wanted:.3} cannot be reached, the nearest is {nearest:.3}")]
    Unreachable {
        /// Share of zeros asked for.
        wanted: f64,
        /// Share of zeros with every layer at its last level.
        nearest: f64,
    },
    /// An edit that the network does not allow.
    #[error("the edit cannot be made: {reason}")]
    Edit {
        /// What is in its way.
        reason: String,
    },
    /// An edit needs to know what the layers read, and was not told.
    #[error("{what} needs what the layers read")]
    NeedsCalibration {
        /// What needs it, in words.
        what: &'static str,
    },
    /// A group cannot have the width that was asked for.
    #[error("group `{group}` has {n_units} units, {wanted} are asked for")]
    Width {
        /// The group's name.
        group: String,
        /// The units that it has.
        n_units: usize,
        /// The units that it should have.
        wanted: usize,
    },
    /// An edit costs more than it may.
    #[error("the network would have {needed} {what}, {limit} are allowed")]
    OverBudget {
        /// `MACs` or `parameters`.
        what: &'static str,
        /// What the network would have.
        needed: u64,
        /// What it may have.
        limit: u64,
    },
    /// A number of an edit's settings that makes no sense.
    #[error("{what} is {value}, it has to be {bounds}")]
    Setting {
        /// Which.
        what: &'static str,
        /// The number given.
        value: f64,
        /// What it has to be, in words.
        bounds: &'static str,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl RebuildError {
    pub(crate) fn solve(node: &str) -> impl FnOnce(SolveError) -> Self {
        let node = node.to_owned();
        move |source| Self::Solve { node, source }
    }

    pub(crate) fn run(model: &'static str) -> impl FnOnce(ExecError) -> Self {
        move |source| Self::Run { model, source }
    }

    /// Returns advice on how to go on, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Solve { source, .. } => source.hint().map(str::to_owned),
            Self::TooFewSamples { .. } => Some("point --data at more samples".to_owned()),
            Self::Pattern { .. } => Some(
                "`*` stands for any text; `regraft inspect` prints the names, docs/topology.md which layers each edit \
                 takes"
                    .to_owned(),
            ),
            Self::NotRelated { .. } => {
                Some("give the model that was pruned as the dense one".to_owned())
            }
            Self::GraphsDiffer { .. } => Some(
                "fuse versions of one network: the same layers with the same widths".to_owned(),
            ),
            Self::Unreachable { nearest, .. } => {
                let reachable = (nearest * 1000.0).floor() / 1000.0;
                Some(format!("ask for a sparsity of at most {reachable:.3}"))
            }
            Self::Width { n_units, .. } => Some(format!(
                "an edit that adds units needs a width above {n_units}"
            )),
            Self::OverBudget {
                what,
                needed,
                limit,
            } => {
                let times = *needed as f64 / (*limit).max(1) as f64;
                Some(format!(
                    "allow at least {needed} {what}, {times:.3} times as many, or ask for less"
                ))
            }
            Self::NeedsCalibration { .. } => Some("give samples (--data)".to_owned()),
            Self::Prune(regraft_prune::PruneError::UnknownGroup { .. }) => {
                Some("`regraft inspect` prints the names of the groups".to_owned())
            }
            Self::Prune(source) => source.hint(),
            Self::Allocate(_)
            | Self::Run { .. }
            | Self::Graph(_)
            | Self::NotFloat { .. }
            | Self::Edit { .. }
            | Self::Setting { .. }
            | Self::Fuse { .. }
            | Self::Interrupted => None,
        }
    }
}
