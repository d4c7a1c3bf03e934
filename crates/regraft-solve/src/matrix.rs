//! A plain row-major f64 matrix: the only matrix type in the public interface.

use crate::error::SolveError;

/// A dense row-major matrix in f64.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` values, row after row.
    pub data: Vec<f64>,
}

impl Matrix {
    /// Returns a matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        }
    }

    /// Returns the matrix over `data`, row after row.
    /// # Errors
    /// [`SolveError::Shape`] if `data` does not hold `rows * cols` values.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f64>) -> Result<Self, SolveError> {
        let len = rows
            .checked_mul(cols)
            .ok_or(SolveError::TooLarge { rows, cols })?;
        crate::error::same("matrix data", len, data.len())?;
        Ok(Self { rows, cols, data })
    }

    /// Returns the matrix over f32 values, row after row.
    /// # Errors
    /// [`SolveError::Shape`] if `data` does not hold `rows * cols` values.
    pub fn from_f32(rows: usize, cols: usize, data: &[f32]) -> Result<Self, SolveError> {
        Self::from_vec(rows, cols, data.iter().map(|&v| f64::from(v)).collect())
    }

    /// Returns the identity of order `n`.
    pub fn identity(n: usize) -> Self {
        let mut m = Self::zeros(n, n);
        for i in 0..n {
            m.set(i, i, 1.0);
        }
        m
    }

    /// Returns the value at (`row`, `col`). Panics outside the matrix, as a slice does.
    #[inline]
    pub fn at(&self, row: usize, col: usize) -> f64 {
        self.data[row * self.cols + col]
    }

    /// Sets the value at (`row`, `col`). Panics outside the matrix, as a slice does.
    #[inline]
    pub fn set(&mut self, row: usize, col: usize, value: f64) {
        self.data[row * self.cols + col] = value;
    }

    /// Returns one row. Panics outside the matrix, as a slice does.
    #[inline]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }

    /// Returns one row, mutable. Panics outside the matrix, as a slice does.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.data[row * self.cols..(row + 1) * self.cols]
    }

    /// Returns the diagonal.
    pub fn diagonal(&self) -> Vec<f64> {
        (0..self.rows.min(self.cols))
            .map(|i| self.at(i, i))
            .collect()
    }

    /// Returns the transposed matrix.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.cols, self.rows);
        for i in 0..self.rows {
            for (j, &v) in self.row(i).iter().enumerate() {
                out.data[j * self.rows + i] = v;
            }
        }
        out
    }

    /// Returns the matrix of the given rows, in the given order.
    /// # Errors
    /// [`SolveError::Index`] if a row is outside the matrix.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self, SolveError> {
        check_range("row", rows, self.rows)?;
        let mut data = Vec::with_capacity(rows.len() * self.cols);
        for &i in rows {
            data.extend_from_slice(self.row(i));
        }
        Self::from_vec(rows.len(), self.cols, data)
    }

    /// Returns the matrix of the given columns, in the given order.
    /// # Errors
    /// [`SolveError::Index`] if a column is outside the matrix.
    pub fn select_cols(&self, cols: &[usize]) -> Result<Self, SolveError> {
        check_range("column", cols, self.cols)?;
        let mut data = Vec::with_capacity(cols.len() * self.rows);
        for i in 0..self.rows {
            let row = self.row(i);
            data.extend(cols.iter().map(|&j| row[j]));
        }
        Self::from_vec(self.rows, cols.len(), data)
    }

    /// Returns the values as f32, row after row.
    pub fn to_f32(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    /// Returns the product with a matrix of as many rows as this one has columns.
    ///
    /// Panics if it has another number of rows.
    #[must_use]
    pub fn times(&self, right: &Self) -> Self {
        crate::factor::product(self, right)
    }

    /// Returns an error naming the first value that is not finite.
    pub(crate) fn check_finite(&self, what: &'static str) -> Result<(), SolveError> {
        match self.data.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(SolveError::NotFinite {
                what,
                row: at / self.cols,
                col: at % self.cols,
            }),
        }
    }
}

fn check_range(what: &'static str, indices: &[usize], len: usize) -> Result<(), SolveError> {
    match indices.iter().find(|&&i| i >= len) {
        None => Ok(()),
        Some(&index) => Err(SolveError::Index { what, index, len }),
    }
}
