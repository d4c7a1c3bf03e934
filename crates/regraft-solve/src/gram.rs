//! Streaming Gram and cross-Gram matrices of calibration rows.
//!
//! Rows arrive in f32 and are cut into shards of [`SHARD_ROWS`]. Each shard's
//! product is made in f32 (symmetric rank-k update, lower triangle only) and added
//! to an f64 sum in the order of the shards. A shard never depends on the number
//! of threads, so neither does the sum.

mod shards;

use std::ops::Range;

use crate::error::{SolveError, same};
use crate::factor::{Strided, cross_f32, syrk_f32};
use crate::matrix::Matrix;
use shards::{add_bands, add_shards, column_sums, each_shard, is_wide, square_sums};

pub use shards::SHARD_ROWS;

/// A batch of rows: `n_rows` samples of `n_cols` numbers, in one of two layouts.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    view: Strided<'a>,
}

impl<'a> Samples<'a> {
    /// Returns samples stored row after row (im2col rows, or a Gemm's input).
    /// # Errors
    /// [`SolveError::Shape`] if `data` does not hold `n_rows * n_cols` values.
    pub fn rows(data: &'a [f32], n_rows: usize, n_cols: usize) -> Result<Self, SolveError> {
        same("sample data", n_rows.saturating_mul(n_cols), data.len())?;
        Self::strided(data, n_rows, n_cols, n_cols, true)
    }

    /// Returns samples stored channel after channel (one image in CHW order: the
    /// pixels are the rows), so that a 1×1 convolution needs no im2col.
    /// # Errors
    /// [`SolveError::Shape`] if `data` does not hold `n_rows * n_cols` values.
    pub fn channels(data: &'a [f32], n_cols: usize, n_rows: usize) -> Result<Self, SolveError> {
        same("sample data", n_rows.saturating_mul(n_cols), data.len())?;
        Self::strided(data, n_rows, n_cols, n_rows, false)
    }

    /// Returns a window of wider rows: row `i` is `data[i * stride..][..n_cols]`
    /// (one group of a grouped convolution's im2col rows).
    /// # Errors
    /// [`SolveError::Shape`] if `stride < n_cols` or the data end too early.
    pub fn window(
        data: &'a [f32],
        n_rows: usize,
        n_cols: usize,
        stride: usize,
    ) -> Result<Self, SolveError> {
        Self::strided(data, n_rows, n_cols, stride, true)
    }

    fn strided(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        stride: usize,
        by_rows: bool,
    ) -> Result<Self, SolveError> {
        let (outer, inner) = if by_rows { (rows, cols) } else { (cols, rows) };
        let need = match outer.checked_sub(1) {
            None => Some(0),
            Some(last) => last.checked_mul(stride).and_then(|v| v.checked_add(inner)),
        }
        .ok_or(SolveError::TooLarge { rows, cols })?;
        if stride < inner || data.len() < need {
            return Err(SolveError::Shape {
                what: "sample data",
                expected: need.max(inner),
                found: data.len().min(stride),
            });
        }
        let view = Strided {
            data,
            rows,
            cols,
            stride,
            by_rows,
        };
        Ok(Self { view })
    }

    /// Calls `visit(column, value)` for every value, in the order of storage.
    pub(crate) fn for_each_value(&self, mut visit: impl FnMut(usize, f32)) {
        let x = self.view;
        let outer = if x.by_rows { x.rows } else { x.cols };
        for i in 0..outer {
            for (j, &value) in x.outer(i).iter().enumerate() {
                visit(if x.by_rows { j } else { i }, value);
            }
        }
    }

    /// Returns the number of samples.
    pub fn n_rows(&self) -> usize {
        self.view.rows
    }

    /// Returns the number of values per sample.
    pub fn n_cols(&self) -> usize {
        self.view.cols
    }
}

/// The Gram matrix and the mean of a layer's inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    /// Number of rows seen.
    pub n: u64,
    /// Mean of `x xᵀ`, `d × d`, symmetric, no factor 2.
    pub matrix: Matrix,
    /// Mean of `x`, length `d`.
    pub mean: Vec<f64>,
}

/// The cross-Gram matrix of a layer's inputs and its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Cross {
    /// Number of rows seen.
    pub n: u64,
    /// Mean of `x yᵀ`, `d_in × d_out`.
    pub matrix: Matrix,
    /// Mean of `y`, length `d_out`.
    pub target_mean: Vec<f64>,
    /// Mean of `y²`, length `d_out`.
    pub target_energy: Vec<f64>,
}

impl Gram {
    /// Returns the Gram of `[x; 1]`: order `d + 1`, the constant input last.
    pub fn with_constant(&self) -> Matrix {
        let d = self.mean.len();
        let mut out = Matrix::zeros(d + 1, d + 1);
        for i in 0..d {
            out.row_mut(i)[..d].copy_from_slice(self.matrix.row(i));
            out.set(i, d, self.mean[i]);
            out.set(d, i, self.mean[i]);
        }
        out.set(d, d, 1.0);
        out
    }
}

impl Cross {
    /// Returns the cross-Gram of `[x; 1]` and `y`: the last row is the mean of `y`.
    pub fn with_constant(&self) -> Matrix {
        let mut out = self.matrix.clone();
        out.data.extend_from_slice(&self.target_mean);
        out.rows += 1;
        out
    }
}

/// Sums `x xᵀ` and `x` over batches of rows.
#[derive(Debug, Clone)]
pub struct GramAccumulator {
    d: usize,
    n: u64,
    threads: usize,
    /// `d × d`, only the lower triangle is used until the end.
    sum: Vec<f64>,
    first: Vec<f64>,
}

impl GramAccumulator {
    /// Returns an empty sum over inputs of `d` numbers that may use `threads` threads.
    /// # Errors
    /// [`SolveError::TooLarge`] if `d × d` does not fit the address space.
    pub fn new(d: usize, threads: usize) -> Result<Self, SolveError> {
        Ok(Self {
            d,
            n: 0,
            threads: threads.max(1),
            sum: vec![0.0; checked_area(d, d)?],
            first: vec![0.0; d],
        })
    }

    /// Adds a batch. Batches of at least [`SHARD_ROWS`] rows are fastest.
    /// # Errors
    /// [`SolveError::Shape`] if the samples do not have `d` columns.
    pub fn add(&mut self, x: Samples<'_>) -> Result<(), SolveError> {
        same("samples' width", self.d, x.n_cols())?;
        self.n += x.n_rows() as u64;
        if self.d == 0 {
            return Ok(());
        }
        if is_wide(self.sum.len()) {
            let band = |from: usize, len: usize, rows: Range<usize>, tile: &mut [f32]| {
                let part = x.view.slice_rows(from, len);
                let own = part.slice_cols(rows.start, rows.len());
                cross_f32(tile, own, part.slice_cols(0, rows.end));
            };
            let sums = (self.sum.as_mut_slice(), self.d, true);
            add_bands(x.n_rows(), self.threads, sums, &band);
            each_shard(x.n_rows(), &mut self.first, |from, len, first| {
                column_sums(x.view.slice_rows(from, len), first);
            });
            return Ok(());
        }
        let kernel = |from: usize, len: usize, tile: &mut [f32], first: &mut [f64]| {
            let part = x.view.slice_rows(from, len);
            syrk_f32(tile, part);
            column_sums(part, first);
        };
        add_shards(
            x.n_rows(),
            self.threads,
            shards::Sums {
                product: &mut self.sum,
                width: self.d,
                lower_only: true,
                first: &mut self.first,
            },
            &kernel,
        );
        Ok(())
    }

    /// Adds what another accumulator saw.
    /// # Errors
    /// [`SolveError::Shape`] if the two have different widths.
    pub fn merge(&mut self, other: &Self) -> Result<(), SolveError> {
        same("Gram's width", self.d, other.d)?;
        self.n += other.n;
        add_to(&mut self.sum, &other.sum);
        add_to(&mut self.first, &other.first);
        Ok(())
    }

    /// Returns the number of rows seen.
    pub fn n_rows(&self) -> u64 {
        self.n
    }

    /// Returns the means over all rows.
    /// # Errors
    /// [`SolveError::NoRows`] without rows, [`SolveError::NotFinite`] if a sum is not finite.
    pub fn finish(mut self) -> Result<Gram, SolveError> {
        if self.n == 0 {
            return Err(SolveError::NoRows);
        }
        let d = self.d;
        let scale = 1.0 / self.n as f64;
        for i in 0..d {
            for j in 0..=i {
                let v = self.sum[i * d + j] * scale;
                self.sum[i * d + j] = v;
                self.sum[j * d + i] = v;
            }
        }
        self.first.iter_mut().for_each(|v| *v *= scale);
        let matrix = Matrix::from_vec(d, d, self.sum)?;
        matrix.check_finite("Gram matrix")?;
        Ok(Gram {
            n: self.n,
            matrix,
            mean: self.first,
        })
    }
}

/// Sums `x yᵀ`, `y` and `y²` over batches of rows.
#[derive(Debug, Clone)]
pub struct CrossAccumulator {
    d_in: usize,
    d_out: usize,
    n: u64,
    threads: usize,
    sum: Vec<f64>,
    /// Sums of `y`, then sums of `y²`.
    first: Vec<f64>,
}

impl CrossAccumulator {
    /// Returns an empty sum for inputs of `d_in` and targets of `d_out` numbers.
    /// # Errors
    /// [`SolveError::TooLarge`] if `d_in × d_out` does not fit the address space.
    pub fn new(d_in: usize, d_out: usize, threads: usize) -> Result<Self, SolveError> {
        Ok(Self {
            d_in,
            d_out,
            n: 0,
            threads: threads.max(1),
            sum: vec![0.0; checked_area(d_in, d_out)?],
            first: vec![0.0; checked_area(2, d_out)?],
        })
    }

    /// Adds a batch: row `i` of `x` belongs to row `i` of `y`; layouts may differ.
    /// # Errors
    /// [`SolveError::Shape`] if widths or row counts do not fit.
    pub fn add(&mut self, x: Samples<'_>, y: Samples<'_>) -> Result<(), SolveError> {
        same("samples' width", self.d_in, x.n_cols())?;
        same("targets' width", self.d_out, y.n_cols())?;
        same("targets' row count", x.n_rows(), y.n_rows())?;
        self.n += x.n_rows() as u64;
        if self.d_out == 0 {
            return Ok(());
        }
        let d_out = self.d_out;
        let has_inputs = self.d_in > 0;
        if is_wide(self.sum.len()) {
            let band = |from: usize, len: usize, rows: Range<usize>, tile: &mut [f32]| {
                let inputs = x.view.slice_rows(from, len);
                let own = inputs.slice_cols(rows.start, rows.len());
                cross_f32(tile, own, y.view.slice_rows(from, len));
            };
            let sums = (self.sum.as_mut_slice(), d_out, false);
            add_bands(x.n_rows(), self.threads, sums, &band);
            each_shard(x.n_rows(), &mut self.first, |from, len, first| {
                let part = y.view.slice_rows(from, len);
                let (sums, squares) = first.split_at_mut(d_out);
                column_sums(part, sums);
                square_sums(part, squares);
            });
            return Ok(());
        }
        let kernel = |from: usize, len: usize, tile: &mut [f32], first: &mut [f64]| {
            let part = y.view.slice_rows(from, len);
            if has_inputs {
                cross_f32(tile, x.view.slice_rows(from, len), part);
            }
            let (sums, squares) = first.split_at_mut(d_out);
            column_sums(part, sums);
            square_sums(part, squares);
        };
        add_shards(
            x.n_rows(),
            self.threads,
            shards::Sums {
                product: &mut self.sum,
                width: d_out,
                lower_only: false,
                first: &mut self.first,
            },
            &kernel,
        );
        Ok(())
    }

    /// Adds what another accumulator saw.
    /// # Errors
    /// [`SolveError::Shape`] if the two have different sizes.
    pub fn merge(&mut self, other: &Self) -> Result<(), SolveError> {
        same("cross-Gram's inputs", self.d_in, other.d_in)?;
        same("cross-Gram's outputs", self.d_out, other.d_out)?;
        self.n += other.n;
        add_to(&mut self.sum, &other.sum);
        add_to(&mut self.first, &other.first);
        Ok(())
    }

    /// Returns the number of rows seen.
    pub fn n_rows(&self) -> u64 {
        self.n
    }

    /// Returns the means over all rows.
    /// # Errors
    /// [`SolveError::NoRows`] without rows, [`SolveError::NotFinite`] if a sum is not finite.
    pub fn finish(mut self) -> Result<Cross, SolveError> {
        if self.n == 0 {
            return Err(SolveError::NoRows);
        }
        let scale = 1.0 / self.n as f64;
        self.sum.iter_mut().for_each(|v| *v *= scale);
        self.first.iter_mut().for_each(|v| *v *= scale);
        let matrix = Matrix::from_vec(self.d_in, self.d_out, self.sum)?;
        matrix.check_finite("cross-Gram matrix")?;
        let target_energy = self.first.split_off(self.d_out);
        if let Some(col) = target_energy.iter().position(|v| !v.is_finite()) {
            let (what, row) = ("target energy", 0);
            return Err(SolveError::NotFinite { what, row, col });
        }
        Ok(Cross {
            n: self.n,
            matrix,
            target_mean: self.first,
            target_energy,
        })
    }
}

fn checked_area(rows: usize, cols: usize) -> Result<usize, SolveError> {
    rows.checked_mul(cols)
        .filter(|area| *area <= isize::MAX as usize / 8)
        .ok_or(SolveError::TooLarge { rows, cols })
}

fn add_to(sum: &mut [f64], other: &[f64]) {
    for (s, o) in sum.iter_mut().zip(other) {
        *s += o;
    }
}

#[cfg(test)]
mod tests;
