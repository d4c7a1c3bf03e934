//! What can go wrong when channels are chosen or removed.

use regraft_graph::GraphError;

/// A plan, budget or score that does not fit the network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The network has more channels than identifiers.
    #[error("the network has more than {limit} channel indices to follow")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A plan is of a version that is not understood.
    #[error("the plan has version {found}, version {expected} is understood")]
    PlanVersion {
        /// The version in the plan.
        found: u32,
        /// The version this crate writes.
        expected: u32,
    },
    /// A plan names a group that the network does not have.
    #[error("the network has no prunable group `{group}`")]
    UnknownGroup {
        /// The name in the plan.
        group: String,
    },
    /// A plan names a group twice.
    #[error("the plan names group `{group}` more than once")]
    GroupTwice {
        /// The name in the plan.
        group: String,
    },
    /// A plan removes a block that the network does not have.
    #[error("the network has no residual block `{block}` that can go")]
    UnknownBlock {
        /// The name in the plan.
        block: String,
    },
    /// A plan removes a block twice.
    #[error("the plan removes block `{block}` more than once")]
    BlockTwice {
        /// The name in the plan.
        block: String,
    },
    /// A list has not one entry a group or unit.
    #[error("group `{group}` has {expected} units, {what} gives {found}")]
    UnitCount {
        /// The group's name.
        group: String,
        /// What gives the wrong number.
        what: &'static str,
        /// The number of units of the group.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// Scores or widths are not given for every group.
    #[error("the network has {expected} groups, {what} gives {found}")]
    GroupCount {
        /// What gives the wrong number.
        what: &'static str,
        /// The number of groups.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// A kept index does not exist, or the list is not ascending.
    #[error("group `{group}`: kept index {index} is not below {n_units} or not ascending")]
    UnitIndex {
        /// The group's name.
        group: String,
        /// The index.
        index: usize,
        /// The number of units of the group.
        n_units: usize,
    },
    /// A plan removes a unit that has to stay.
    #[error("group `{group}`: unit {unit} has to stay: {reason}")]
    FrozenUnit {
        /// The group's name.
        group: String,
        /// The unit's index in the group.
        unit: usize,
        /// Why it is frozen.
        reason: String,
    },
    /// A plan leaves a value without channels.
    #[error("no channel would be left on axis {axis} of value `{value}` (group `{group}`)")]
    NoChannelLeft {
        /// The group's name.
        group: String,
        /// The value's name.
        value: String,
        /// The axis.
        axis: usize,
    },
    /// A share is not between 0 and 1.
    #[error("{what} is {value}, it has to be above 0 and at most 1")]
    Share {
        /// What it is a share of.
        what: &'static str,
        /// The value given.
        value: f64,
    },
    /// The budget cannot be met with what may be removed.
    #[error(
        "the budget of {target} {what} cannot be met: {reached} remain when all that may go is gone"
    )]
    Budget {
        /// `MACs` or `parameters`.
        what: &'static str,
        /// The budget.
        target: u64,
        /// The least that is reachable.
        reached: u64,
    },
    /// A pattern matches no node.
    #[error("the pattern `{pattern}` matches no node that has prunable channels")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A score is not a number.
    #[error("group `{group}`: the score of unit {unit} is {value}")]
    ScoreValue {
        /// The group's name.
        group: String,
        /// The unit's index in the group.
        unit: usize,
        /// The score.
        value: f64,
    },
    /// Activation statistics of a value are missing or of the wrong length.
    #[error(
        "activation statistics of value `{value}`: {expected} channels are needed, {found} given"
    )]
    Statistics {
        /// The value's name.
        value: String,
        /// The number of channels.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// A weight that copies share is not made of 32-bit floats.
    #[error("weight `{value}` does not hold 32-bit floats")]
    NotFloat {
        /// The weight's name.
        value: String,
    },
    /// The dry run found widths that do not fit together.
    #[error("node `{node}` ({op}): {reason}")]
    Inconsistent {
        /// The node's name.
        node: String,
        /// The op's name.
        op: String,
        /// What does not fit.
        reason: String,
    },
    /// The pruned graph is broken.
    #[error("the graph with channels removed is not valid")]
    Graph(#[source] GraphError),
}

impl PruneError {
    /// Returns advice on how to go on, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Budget { .. } => Some(
                "raise the budget, lower the least share of channels kept, or look at the frozen groups"
                    .to_owned(),
            ),
            Self::UnknownGroup { .. } | Self::UnknownBlock { .. } | Self::UnitCount { .. } => {
                Some("make the plan again from this network".to_owned())
            }
            Self::Pattern { .. } => Some("`*` stands for any text; names are as `inspect` prints them".to_owned()),
            Self::TooLarge { .. }
            | Self::PlanVersion { .. }
            | Self::GroupTwice { .. }
            | Self::BlockTwice { .. }
            | Self::GroupCount { .. }
            | Self::UnitIndex { .. }
            | Self::FrozenUnit { .. }
            | Self::NoChannelLeft { .. }
            | Self::Share { .. }
            | Self::ScoreValue { .. }
            | Self::Statistics { .. }
            | Self::NotFloat { .. }
            | Self::Inconsistent { .. }
            | Self::Graph(_) => None,
        }
    }

    /// Returns the name of the node at fault, where one is known.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Inconsistent { node, .. } => Some(node),
            _ => None,
        }
    }
}
