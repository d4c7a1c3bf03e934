//! What a network may cost after an edit.

use regraft_graph::cost::Cost;

use crate::RebuildError;

/// The most that a network may cost after an edit, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// Multiply-accumulates for one sample.
    Macs(u64),
    /// Parameters.
    Params(u64),
}

impl Ceiling {
    /// Returns an error if a network costs more.
    ///
    /// # Errors
    /// [`RebuildError::OverBudget`].
    pub fn check(self, cost: Cost) -> Result<(), RebuildError> {
        let (what, needed, limit) = match self {
            Self::Macs(limit) => ("MACs", cost.macs, limit),
            Self::Params(limit) => ("parameters", cost.params, limit),
        };
        if needed > limit {
            return Err(RebuildError::OverBudget {
                what,
                needed,
                limit,
            });
        }
        Ok(())
    }
}
