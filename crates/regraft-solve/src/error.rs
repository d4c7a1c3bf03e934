//! What can go wrong in the solvers.

/// Failures of the linear algebra. They say what; the caller adds where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolveError {
    /// The damped matrix has no Cholesky factor, even on the last rung of the ladder.
    #[error("Gram matrix is not positive definite: pivot {pivot} of {n} is {value:.2e}")]
    NotPositiveDefinite {
        /// Index of the first pivot that is not positive.
        pivot: usize,
        /// Order of the matrix.
        n: usize,
        /// Value of that pivot.
        value: f64,
    },
    /// Two sizes that must agree do not.
    #[error("{what} has {found} where {expected} is needed")]
    Shape {
        /// What was measured, in words.
        what: &'static str,
        /// The size needed.
        expected: usize,
        /// The size found.
        found: usize,
    },
    /// An index points outside its range.
    #[error("{what} {index} is outside 0..{len}")]
    Index {
        /// What the index counts.
        what: &'static str,
        /// The index.
        index: usize,
        /// The length of the range.
        len: usize,
    },
    /// The same index was given twice.
    #[error("{what} {index} is listed twice")]
    Duplicate {
        /// What the index counts.
        what: &'static str,
        /// The index.
        index: usize,
    },
    /// A value is not finite.
    #[error("{what} has a value that is not finite at row {row}, column {col}")]
    NotFinite {
        /// Which matrix.
        what: &'static str,
        /// Its row.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// Statistics were asked for before any row was added.
    #[error("no calibration rows were accumulated")]
    NoRows,
    /// A size overflows the address space.
    #[error("a matrix of {rows} x {cols} is too large")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// A pattern of zeros does not divide a layer.
    #[error("the pattern does not fit: {size} {what} in groups of {of}")]
    Pattern {
        /// What is grouped, in words.
        what: &'static str,
        /// How many there are.
        size: usize,
        /// What they should be a multiple of, or at most.
        of: usize,
    },
    /// An option has a value outside its meaning.
    #[error("`{option}` is {value}, {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The value given.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// Bytes that should be a coded layer are not.
    #[error("a coded layer is damaged: {what} at byte {at}")]
    Damaged {
        /// What is wrong, in words.
        what: &'static str,
        /// Bytes read so far.
        at: usize,
    },
}

impl SolveError {
    /// Returns advice on how to go on, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotPositiveDefinite { .. } => {
                Some("raise `damping`, or give more calibration samples (--calib)")
            }
            Self::NoRows => Some("give more calibration samples (--calib)"),
            Self::NotFinite { .. } => Some("look for samples, or weights, that are far too large"),
            Self::Shape { .. }
            | Self::Index { .. }
            | Self::Duplicate { .. }
            | Self::TooLarge { .. }
            | Self::Pattern { .. }
            | Self::Option { .. }
            | Self::Damaged { .. } => None,
        }
    }
}

/// Returns an error unless `found == expected`.
pub(crate) fn same(what: &'static str, expected: usize, found: usize) -> Result<(), SolveError> {
    if expected == found {
        Ok(())
    } else {
        Err(SolveError::Shape {
            what,
            expected,
            found,
        })
    }
}

/// Returns an error unless the indices are distinct and below `len`.
pub(crate) fn distinct(
    what: &'static str,
    indices: &[usize],
    len: usize,
) -> Result<(), SolveError> {
    let mut seen = vec![false; len];
    for &index in indices {
        match seen.get_mut(index) {
            None => return Err(SolveError::Index { what, index, len }),
            Some(true) => return Err(SolveError::Duplicate { what, index }),
            Some(slot) => *slot = true,
        }
    }
    Ok(())
}
