//! Which masks are allowed.

use crate::error::SolveError;

/// The shape that the zeros of a layer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// Any connection may go.
    #[default]
    Unstructured,
    /// In every run of `group` consecutive inputs of a row exactly `keep` connections stay:
    /// 2:4 is `keep: 2, group: 4`.
    Grouped {
        /// Connections that stay in each group.
        keep: usize,
        /// Consecutive inputs of a group.
        group: usize,
    },
    /// Connections go in blocks of `rows` consecutive outputs of one input.
    RowBlocks {
        /// Outputs of a block.
        rows: usize,
    },
}

impl Pattern {
    /// Checks that a layer of `r × d` weights can have the pattern.
    /// # Errors
    /// [`SolveError::Pattern`] if the pattern is empty or does not divide the layer.
    pub fn check(self, r: usize, d: usize) -> Result<(), SolveError> {
        let refuse = |what, size, of| Err(SolveError::Pattern { what, size, of });
        match self {
            Self::Grouped { keep, group } if keep == 0 || keep > group => {
                refuse("connections kept in each group", keep, group)
            }
            Self::Grouped { group, .. } if !d.is_multiple_of(group) => refuse("inputs", d, group),
            Self::RowBlocks { rows: 0 } => refuse("outputs of a block", 0, 1),
            Self::RowBlocks { rows } if !r.is_multiple_of(rows) => refuse("outputs", r, rows),
            Self::Unstructured | Self::Grouped { .. } | Self::RowBlocks { .. } => Ok(()),
        }
    }

    /// Returns the share of connections that stay where the pattern fixes it.
    pub fn keep_ratio(self) -> Option<f64> {
        match self {
            Self::Grouped { keep, group } => Some(keep as f64 / group.max(1) as f64),
            Self::Unstructured | Self::RowBlocks { .. } => None,
        }
    }
}
