//! The inverse and the weights of one consumer while units are removed.

use super::Prepared;
use crate::error::SolveError;
use crate::factor::{cholesky, subtract_product, subtract_product_lower};
use crate::matrix::Matrix;
use crate::problem::dot;

/// The state is rebuilt, smaller and fresh, when this share of its columns is left:
/// it bounds both the rounding of the downdates and the work on dead columns.
const REBUILD_SHARE: f64 = 0.75;

/// Below this order a rebuild saves nothing worth having.
const REBUILD_MIN: usize = 32;

/// `P = H⁻¹` and `V = P C` over the columns kept at the last rebuild.
#[derive(Debug)]
pub(super) struct State {
    /// Lower triangle valid.
    p: Matrix,
    v: Matrix,
    /// First column of each unit, `None` when it is gone or not read.
    starts: Vec<Option<usize>>,
    sizes: Vec<usize>,
    left: usize,
}

impl State {
    /// Returns the state with exactly the `active` units kept.
    pub(super) fn build(consumer: &Prepared<'_>, active: &[bool]) -> Result<Self, SolveError> {
        let (cols, starts) = consumer.layout(active);
        let h = consumer.block(&cols, &cols)?;
        let mut v = consumer.rhs.select_rows(&cols)?;
        let p = if cols.is_empty() {
            Matrix::zeros(0, 0)
        } else {
            let factor = cholesky(&h)?;
            factor.solve(&mut v);
            factor.inverse()
        };
        Ok(Self {
            p,
            v,
            starts,
            sizes: consumer.units.iter().map(Vec::len).collect(),
            left: cols.len(),
        })
    }

    /// Returns whether a rebuild would pay.
    pub(super) fn is_stale(&self) -> bool {
        self.p.rows > REBUILD_MIN && (self.left as f64) < REBUILD_SHARE * self.p.rows as f64
    }

    /// Returns `tr(V_cᵀ (P_cc)⁻¹ V_c)`, 0 for a unit that is not read.
    pub(super) fn score(&self, unit: usize) -> Result<f64, SolveError> {
        let Some(start) = self.starts[unit] else {
            return Ok(0.0);
        };
        let k = self.sizes[unit];
        let mut factor = self.diagonal_block(start, k);
        small_cholesky(&mut factor)?;
        let r = self.v.cols;
        let mut half = self.v.data[start * r..(start + k) * r].to_vec();
        small_half_solve(&factor, &mut half, r);
        Ok(dot(&half, &half))
    }

    /// Removes a unit: downdates the inverse and the weights.
    pub(super) fn remove(&mut self, unit: usize) -> Result<(), SolveError> {
        let Some(start) = self.starts[unit].take() else {
            return Ok(());
        };
        let (k, n) = (self.sizes[unit], self.p.rows);
        self.left -= k;
        let panel = self.panel(start, k);
        let mut factor = self.diagonal_block(start, k);
        small_cholesky(&mut factor)?;
        // With P_cc = L Lᵀ and Z = L⁻¹ P_c: the update is P -= Zᵀ Z, V -= Zᵀ (L⁻¹ V_c).
        let mut z = panel;
        small_half_solve(&factor, &mut z.data, n);
        let r = self.v.cols;
        let mut half = Matrix {
            rows: k,
            cols: r,
            data: self.v.data[start * r..(start + k) * r].to_vec(),
        };
        small_half_solve(&factor, &mut half.data, r);
        let z_t = z.transposed();
        subtract_product_lower(&mut self.p, &z_t, &z);
        subtract_product(&mut self.v, &z_t, &half);
        Ok(())
    }

    /// Returns `P_c:`, `k × n`, from the lower triangle.
    fn panel(&self, start: usize, k: usize) -> Matrix {
        let n = self.p.rows;
        let mut out = Matrix::zeros(k, n);
        for i in 0..k {
            let row = start + i;
            let (head, tail) = out.row_mut(i).split_at_mut(row);
            head.copy_from_slice(&self.p.row(row)[..row]);
            for (offset, value) in tail.iter_mut().enumerate() {
                *value = self.p.at(row + offset, row);
            }
        }
        out
    }

    fn diagonal_block(&self, start: usize, k: usize) -> Matrix {
        let mut out = Matrix::zeros(k, k);
        for i in 0..k {
            let row = self.p.row(start + i);
            out.row_mut(i)[..=i].copy_from_slice(&row[start..=start + i]);
        }
        out
    }
}

/// Overwrites the lower triangle of a small matrix with its Cholesky factor.
pub(super) fn small_cholesky(a: &mut Matrix) -> Result<(), SolveError> {
    let n = a.rows;
    for j in 0..n {
        let (done, rest) = a.data.split_at_mut(j * n);
        let row = &mut rest[..n];
        for i in 0..j {
            let other = &done[i * n..i * n + n];
            row[i] = (row[i] - dot(&row[..i], &other[..i])) / other[i];
        }
        let value = row[j] - dot(&row[..j], &row[..j]);
        if value.is_nan() || value <= 0.0 {
            let pivot = j;
            return Err(SolveError::NotPositiveDefinite { pivot, n, value });
        }
        row[j] = value.sqrt();
    }
    Ok(())
}

/// Overwrites `rhs` (`n × cols`) with `L⁻¹ rhs`.
pub(super) fn small_half_solve(factor: &Matrix, rhs: &mut [f64], cols: usize) {
    for i in 0..factor.rows {
        let (done, rest) = rhs.split_at_mut(i * cols);
        let row = &mut rest[..cols];
        for (j, &l) in factor.row(i)[..i].iter().enumerate() {
            for (value, solved) in row.iter_mut().zip(&done[j * cols..(j + 1) * cols]) {
                *value -= l * solved;
            }
        }
        let inverse = 1.0 / factor.at(i, i);
        for value in row {
            *value *= inverse;
        }
    }
}
