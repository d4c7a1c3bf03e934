//! One row's system with its right side, swept on the row's support.
//!
//! The symmetric matrix `[[H, g], [gᵀ, 0]]` is swept on every kept connection. With support `S`,
//! `P = H_SS⁻¹` and `v = P g_S` it then holds `−P` on `S × S`, `U = H_{S^c S} P` beside it, the Schur
//! complements `s_i` on the diagonal of `S^c`, and in the last column `v` on `S` and the residual
//! `r_i = g_i − H_iS v` on `S^c`: all that the cost of every drop, addition and swap needs.

use crate::factor::{cholesky, subtract_product};
use crate::matrix::Matrix;

/// A swept system of order `d + 1`.
#[derive(Debug)]
pub(super) struct Tableau {
    n: usize,
    /// `n × n`, row-major, symmetric.
    t: Vec<f64>,
    kept: Vec<bool>,
    column: Vec<f64>,
}

/// Fewer kept connections than this are swept one by one.
const BLOCKED_FROM: usize = 24;

/// A pivot at most this share of its diagonal entry has no digits left.
const PIVOT_SHARE: f64 = 1e-12;

impl Tableau {
    pub(super) fn new(d: usize) -> Self {
        let n = d + 1;
        Self {
            n,
            t: vec![0.0; n * n],
            kept: vec![false; d],
            column: vec![0.0; n],
        }
    }

    /// Loads a row: `h` is `d × d`, `g` and `kept` have `d` entries.
    pub(super) fn load(&mut self, h: &[f64], g: &[f64], kept: &[bool]) {
        let (n, d) = (self.n, self.n - 1);
        for i in 0..d {
            self.t[i * n..i * n + d].copy_from_slice(&h[i * d..(i + 1) * d]);
            self.t[i * n + d] = g[i];
            self.t[d * n + i] = g[i];
        }
        self.t[d * n + d] = 0.0;
        self.kept.fill(false);
        let support: Vec<usize> = (0..d).filter(|i| kept[*i]).collect();
        if support.len() >= BLOCKED_FROM && self.sweep_all(&support).is_some() {
            self.kept.copy_from_slice(kept);
            return;
        }
        for i in support {
            self.flip(i);
        }
    }

    /// Sweeps a whole support at once, by one factor and two products; `None`, and nothing done,
    /// where its system has no factor.
    fn sweep_all(&mut self, support: &[usize]) -> Option<()> {
        let n = self.n;
        let mut inside = vec![false; n];
        for &i in support {
            inside[i] = true;
        }
        let rest: Vec<usize> = (0..n).filter(|i| !inside[*i]).collect();
        let part = |rows: &[usize], cols: &[usize]| {
            let mut out = Matrix::zeros(rows.len(), cols.len());
            for (at, i) in rows.iter().enumerate() {
                let from = &self.t[i * n..(i + 1) * n];
                let to = out.row_mut(at).iter_mut().zip(cols);
                to.for_each(|(value, j)| *value = from[*j]);
            }
            out
        };
        let factor = cholesky(&part(support, support)).ok()?;
        let mut beside = part(support, &rest);
        factor.half_solve(&mut beside);
        let mut schur = part(&rest, &rest);
        subtract_product(&mut schur, &beside.transposed(), &beside);
        factor.other_half_solve(&mut beside);
        let inverse = factor.inverse();
        for (a, i) in support.iter().enumerate() {
            for (b, j) in support.iter().enumerate() {
                self.t[i * n + j] = -inverse.at(a, b);
            }
            for (b, j) in rest.iter().enumerate() {
                let value = beside.at(a, b);
                self.t[i * n + j] = value;
                self.t[j * n + i] = value;
            }
        }
        for (a, i) in rest.iter().enumerate() {
            for (b, j) in rest.iter().enumerate() {
                self.t[i * n + j] = schur.at(a, b);
            }
        }
        Some(())
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.t[i * self.n + j]
    }

    pub(super) fn kept(&self) -> &[bool] {
        &self.kept
    }

    /// Takes connection `p` into the support or out of it.
    pub(super) fn flip(&mut self, p: usize) {
        let n = self.n;
        let pivot = self.at(p, p);
        if pivot == 0.0 {
            return;
        }
        self.column.copy_from_slice(&self.t[p * n..(p + 1) * n]);
        for i in 0..n {
            let factor = self.column[i] / pivot;
            if i == p || factor == 0.0 {
                continue;
            }
            let row = &mut self.t[i * n..(i + 1) * n];
            for (value, c) in row.iter_mut().zip(&self.column) {
                *value -= factor * c;
            }
        }
        let sign = if self.kept[p] { -1.0 } else { 1.0 };
        for i in 0..n {
            let value = sign * self.column[i] / pivot;
            self.t[p * n + i] = value;
            self.t[i * n + p] = value;
        }
        self.t[p * n + p] = -1.0 / pivot;
        self.kept[p] = !self.kept[p];
    }

    /// Returns what dropping the kept connection `j` costs with the rest refitted: `v_j² / P_jj`.
    pub(super) fn drop_cost(&self, j: usize) -> f64 {
        let v = self.at(j, self.n - 1);
        v * v / -self.at(j, j)
    }

    /// Returns what adding connection `i` gains with the rest refitted: `r_i² / s_i`.
    pub(super) fn add_gain(&self, i: usize, h: f64) -> f64 {
        let (r, s) = (self.at(i, self.n - 1), self.at(i, i));
        if s > PIVOT_SHARE * h { r * r / s } else { 0.0 }
    }

    /// Returns the kept connection whose drop costs least, and what it costs.
    pub(super) fn cheapest_drop(&self) -> Option<(usize, f64)> {
        let kept = self.kept.iter().enumerate().filter(|(_, k)| **k);
        kept.map(|(j, _)| (j, self.drop_cost(j)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Returns the pruned connection that gains most, and what it gains; `h` is the `d × d` matrix
    /// that was loaded.
    pub(super) fn best_add(&self, h: &Matrix) -> Option<(usize, f64)> {
        let pruned = self.kept.iter().enumerate().filter(|(_, k)| !**k);
        pruned
            .map(|(i, _)| (i, self.add_gain(i, h.at(i, i))))
            .min_by(|a, b| b.1.total_cmp(&a.1))
    }

    /// Returns by how much the objective changes if `j` goes, `i` comes and the rest is refitted:
    /// `v_j²/P_jj − (r_i + U_ij v_j/P_jj)² / (s_i + U_ij²/P_jj)`.
    pub(super) fn swap_change(&self, j: usize, i: usize, h: f64) -> f64 {
        let last = self.n - 1;
        let (v, p, u) = (self.at(j, last), -self.at(j, j), self.at(i, j));
        let (r, s) = (self.at(i, last), self.at(i, i));
        let spread = s + u * u / p;
        if spread <= PIVOT_SHARE * h {
            return f64::INFINITY;
        }
        let residual = r + u * v / p;
        v * v / p - residual * residual / spread
    }
}
