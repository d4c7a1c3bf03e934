//! Which connections of a layer stay.

use crate::error::{SolveError, same};
use crate::matrix::Matrix;

/// The kept connections of an `r × d` weight matrix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mask {
    /// Number of rows (outputs).
    pub rows: usize,
    /// Number of columns (inputs).
    pub cols: usize,
    /// `rows * cols` entries, row after row; true stays.
    pub kept: Vec<bool>,
}

impl Mask {
    /// Returns a mask that keeps everything.
    pub fn full(rows: usize, cols: usize) -> Self {
        let kept = vec![true; rows * cols];
        Self { rows, cols, kept }
    }

    /// Returns the mask over `kept`, row after row.
    /// # Errors
    /// [`SolveError::Shape`] if `kept` does not hold `rows * cols` entries.
    pub fn from_vec(rows: usize, cols: usize, kept: Vec<bool>) -> Result<Self, SolveError> {
        let len = rows
            .checked_mul(cols)
            .ok_or(SolveError::TooLarge { rows, cols })?;
        same("mask", len, kept.len())?;
        Ok(Self { rows, cols, kept })
    }

    /// Returns the mask of the entries that are not zero.
    pub fn of_nonzero(weights: &Matrix) -> Self {
        Self {
            rows: weights.rows,
            cols: weights.cols,
            kept: weights.data.iter().map(|w| *w != 0.0).collect(),
        }
    }

    /// Returns one row. Panics outside the mask, as a slice does.
    pub fn row(&self, row: usize) -> &[bool] {
        &self.kept[row * self.cols..(row + 1) * self.cols]
    }

    /// Returns one row, mutable. Panics outside the mask, as a slice does.
    pub fn row_mut(&mut self, row: usize) -> &mut [bool] {
        &mut self.kept[row * self.cols..(row + 1) * self.cols]
    }

    /// Returns the mask of some rows, in the order given. Panics outside the mask, as a slice does.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self {
            rows: rows.len(),
            cols: self.cols,
            kept: rows.iter().flat_map(|r| self.row(*r)).copied().collect(),
        }
    }

    /// Returns the kept columns of a row, ascending.
    pub fn support(&self, row: usize) -> Vec<usize> {
        let kept = self.row(row).iter().enumerate();
        kept.filter_map(|(j, keep)| keep.then_some(j)).collect()
    }

    /// Returns the number of kept entries.
    pub fn n_kept(&self) -> usize {
        self.kept.iter().filter(|k| **k).count()
    }

    /// Returns the share of entries that go.
    pub fn sparsity(&self) -> f64 {
        1.0 - self.n_kept() as f64 / self.kept.len().max(1) as f64
    }

    /// Sets the entries of `weights` that go to zero.
    /// # Errors
    /// [`SolveError::Shape`] if the sizes differ.
    pub fn apply(&self, weights: &mut Matrix) -> Result<(), SolveError> {
        same("masked weights' rows", self.rows, weights.rows)?;
        same("masked weights' columns", self.cols, weights.cols)?;
        for (w, kept) in weights.data.iter_mut().zip(&self.kept) {
            if !kept {
                *w = 0.0;
            }
        }
        Ok(())
    }
}
