//! A lower bound of the error that any mask of a layer can reach: how far a found one may be from
//! the best.
//!
//! With `e = W̃ − V` the error of a row is `e H eᵀ` above the unmasked optimum, and `e_i = w̃_i`
//! wherever `V` is pruned. Split `H = R + diag(t)` with `R` positive semidefinite and `t > 0`. For
//! any `u`, `e R eᵀ ≥ 2 u R eᵀ − u R uᵀ`; what is left is a sum over single connections, each of
//! which is pruned (`e_i = w̃_i`) or free:
//!
//! ```text
//! e H eᵀ  ≥  −u R uᵀ − Σ_i c_i²/t_i + Σ_{i pruned} (t_i w̃_i + c_i)²/t_i,    c = u R
//! ```
//!
//! The mask that makes the right side least prunes the smallest terms, so that the bound over all
//! masks is exact arithmetic for every `t` and `u`. Which `t` and `u` are good is a matter of search,
//! and no flaw of it can make the bound wrong:
//!
//! - `t` maximises `Σ a_i t_i` under `H − diag(t) ⪰ 0`, with a logarithmic barrier, one input after
//!   another in closed form; `a` are the weights that the relaxed masks `z` give, `Σ v² (1 − z)/z`.
//! - `u` is the error of the relaxed optimum: `min f(V)` with `t_i v_i²` replaced by `t_i v_i²/z_i`,
//!   `0 ≤ z ≤ 1` (the perspective relaxation), by turns in `V` and `z`.
//!
//! Rows share one `t`. In f64; that `R` is semidefinite is checked by a Cholesky factor of slightly
//! less than it.
//!
//! # Reference
//! Frangioni, Gentile: Perspective cuts for a class of convex 0–1 mixed integer programs,
//! Mathematical Programming 106, 2006; the choice of `t` is that of Zheng, Sun, Li: Improving the
//! performance of MIQP solvers for quadratic programs with cardinality, INFORMS J. Comput. 26, 2014.

mod split;

use super::select::{blocks_of, check_keep};
use super::{Mask, Objective, Pattern};
use crate::error::{SolveError, same};
use crate::factor::{cholesky, product};
use crate::matrix::Matrix;
use crate::problem::dot;
use crate::sparse::shards::in_order;

/// Times that `t` is chosen: for the mask that is known, then for the relaxed ones.
const SPLITS: usize = 3;

/// Turns of `V` and `z` for one `t`.
const TURNS: usize = 12;

/// Least relaxed mask entry: its inverse stays a number.
const LEAST_SHARE: f64 = 1e-9;

/// What no mask goes below.
#[derive(Debug, Clone, PartialEq)]
pub struct LowerBound {
    /// As [`Objective::relative`] of the best weights on the best mask, at most.
    pub relative_error: f64,
    /// The part of `H`'s diagonal that was split off last, length `d`.
    pub split: Vec<f64>,
}

/// Returns a lower bound of [`Objective::relative`] over all masks of `keep` connections and all
/// weights on them. It is not below what the unmasked optimum has.
///
/// `start` is any mask of the pattern, the best one known: the search begins there.
/// [`Pattern::Grouped`] fixes the number itself: `keep` is not read.
/// # Errors
/// Pattern, shape and option errors for arguments that do not fit;
/// [`SolveError::NotPositiveDefinite`] if `H` has no factor.
pub fn lower_bound(
    objective: &Objective,
    pattern: Pattern,
    keep: usize,
    start: &Mask,
    threads: usize,
) -> Result<LowerBound, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    objective.check()?;
    pattern.check(r, d)?;
    same("start's rows", r, start.rows)?;
    same("start's columns", d, start.cols)?;
    check_keep(keep, r * d)?;
    if let Pattern::RowBlocks { rows } = pattern {
        blocks_of(keep, rows)?;
    }
    let selection = Selection {
        pattern,
        pruned: r * d - keep,
        d,
    };
    let target = &objective.target;
    let mut shares: Vec<f64> = start
        .kept
        .iter()
        .map(|kept| if *kept { 1.0 } else { LEAST_SHARE })
        .collect();
    let gone = target.data.iter().zip(&start.kept);
    let mut importance = by_input(gone.map(|(w, kept)| if *kept { 0.0 } else { w * w }), d);
    let mut best = 0.0_f64;
    let mut split = Vec::new();
    for _ in 0..SPLITS {
        split = split::diagonal(objective, &importance)?;
        let rest = split::without(objective, &split);
        let relaxed = Relaxed {
            objective,
            selection,
            split: &split,
            rest: &rest,
        };
        best = best.max(relaxed.bound(&Matrix::zeros(r, d)));
        let mut weights = Matrix::zeros(r, d);
        for _ in 0..TURNS {
            weights = relaxed.weights(&shares, threads)?;
            shares = relaxed.shares(&weights);
            let mut apart = target.clone();
            for (e, v) in apart.data.iter_mut().zip(&weights.data) {
                *e -= v;
            }
            best = best.max(relaxed.bound(&apart));
        }
        let pairs = weights.data.iter().zip(&shares);
        importance = by_input(pairs.map(|(v, z)| v * v * (1.0 - z) / z), d);
    }
    let floor = objective.value(target)?;
    let scale = if objective.energy > 0.0 {
        objective.energy
    } else {
        1.0
    };
    Ok(LowerBound {
        relative_error: (floor + best) / scale,
        split,
    })
}

/// Sums `r × d` values over the rows.
fn by_input(values: impl Iterator<Item = f64>, d: usize) -> Vec<f64> {
    let mut sums = vec![0.0; d];
    values.enumerate().for_each(|(i, v)| sums[i % d] += v);
    sums
}

/// Which sets of connections may be pruned.
#[derive(Debug, Clone, Copy)]
struct Selection {
    pattern: Pattern,
    /// Connections that go, where the pattern leaves it open.
    pruned: usize,
    d: usize,
}

impl Selection {
    /// Returns the least sum of `costs` (`r × d`) over a set that may be pruned.
    fn least(self, costs: &[f64]) -> f64 {
        match self.pattern {
            Pattern::Unstructured => smallest(costs.to_vec(), self.pruned),
            Pattern::Grouped { keep, group } => {
                let runs = costs.chunks_exact(group);
                runs.map(|run| smallest(run.to_vec(), group - keep)).sum()
            }
            Pattern::RowBlocks { rows } => {
                let sums = self.by_block(costs, rows, |v| v);
                smallest(sums, self.pruned / rows)
            }
        }
    }

    /// Returns the sum of `map` of each block of `rows` values of a column.
    fn by_block(self, values: &[f64], rows: usize, map: impl Fn(f64) -> f64) -> Vec<f64> {
        let d = self.d;
        let mut sums = Vec::with_capacity(values.len() / rows);
        for block in values.chunks_exact(rows * d) {
            let column = |j: usize| (0..rows).map(|i| map(block[i * d + j])).sum::<f64>();
            sums.extend((0..d).map(column));
        }
        sums
    }
}

/// Returns the sum of the `n` smallest values.
fn smallest(mut values: Vec<f64>, n: usize) -> f64 {
    if n < values.len() {
        values.select_nth_unstable_by(n, f64::total_cmp);
    }
    values.iter().take(n).sum()
}

/// The relaxation of one split.
struct Relaxed<'a> {
    objective: &'a Objective,
    selection: Selection,
    /// `t`.
    split: &'a [f64],
    /// `R = H − diag(t)`.
    rest: &'a Matrix,
}

impl Relaxed<'_> {
    /// Returns the bound above the unmasked optimum that `u` (`r × d`) gives.
    fn bound(&self, u: &Matrix) -> f64 {
        let image = product(u, self.rest);
        let mut sum = -dot(&image.data, &u.data);
        let mut costs = Vec::with_capacity(u.data.len());
        for i in 0..u.rows {
            let row = image.row(i).iter().zip(self.objective.target.row(i));
            for ((c, w), t) in row.zip(self.split) {
                sum -= c * c / t;
                costs.push((t * w + c).powi(2) / t);
            }
        }
        sum + self.selection.least(&costs)
    }

    /// The best weights under relaxed masks: `(R + diag(t / z)) v = g`, row by row.
    fn weights(&self, shares: &[f64], threads: usize) -> Result<Matrix, SolveError> {
        let (n, d) = (self.objective.n_out(), self.split.len());
        let solved = in_order(
            n,
            threads,
            || (),
            |(), row| self.row(row, &shares[row * d..(row + 1) * d]),
        );
        let mut weights = Vec::with_capacity(n * d);
        for row in solved {
            weights.extend(row?);
        }
        Matrix::from_vec(n, d, weights)
    }

    fn row(&self, row: usize, shares: &[f64]) -> Result<Vec<f64>, SolveError> {
        let d = self.split.len();
        let mut system = self.rest.clone();
        for (i, (t, z)) in self.split.iter().zip(shares).enumerate() {
            system.set(i, i, system.at(i, i) + t / z);
        }
        // The diagonal spans many orders: scaled to 1 the factor keeps its digits.
        let root: Vec<f64> = system.diagonal().iter().map(|x| x.sqrt().recip()).collect();
        let mut v = Matrix::from_vec(d, 1, self.objective.g.row(row).to_vec())?;
        for (i, own) in root.iter().enumerate() {
            for (value, s) in system.row_mut(i).iter_mut().zip(&root) {
                *value *= s * own;
            }
            v.data[i] *= own;
        }
        cholesky(&system)?.solve(&mut v);
        v.data.iter_mut().zip(&root).for_each(|(v, s)| *v *= s);
        Ok(v.data)
    }

    /// The best relaxed masks of weights: `z ∝ √t |v|`, at most 1, of the sum that may stay.
    fn shares(&self, weights: &Matrix) -> Vec<f64> {
        let d = self.split.len();
        let sizes = weights.data.iter().enumerate();
        let sizes: Vec<f64> = sizes
            .map(|(i, v)| self.split[i % d].sqrt() * v.abs())
            .collect();
        let Selection { pruned, .. } = self.selection;
        match self.selection.pattern {
            Pattern::Unstructured => spread(&sizes, sizes.len() - pruned),
            Pattern::Grouped { keep, group } => {
                let runs = sizes.chunks_exact(group);
                runs.flat_map(|run| spread(run, keep)).collect()
            }
            Pattern::RowBlocks { rows } => {
                let norms = self.selection.by_block(&sizes, rows, |v| v * v);
                let norms: Vec<f64> = norms.into_iter().map(f64::sqrt).collect();
                let shares = spread(&norms, norms.len() - pruned / rows);
                let place = |i: usize| i / (rows * d) * d + i % d;
                (0..sizes.len()).map(|i| shares[place(i)]).collect()
            }
        }
    }
}

/// Returns `min(1, size/τ)` with `τ` such that the shares sum to `keep`; all of them at least
/// [`LEAST_SHARE`].
fn spread(sizes: &[f64], keep: usize) -> Vec<f64> {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut rest: f64 = sorted.iter().sum();
    let mut tau = f64::INFINITY;
    // The largest are at 1; the others share what is left.
    for (full, size) in sorted.iter().enumerate().take(keep) {
        tau = rest / (keep - full) as f64;
        if *size <= tau {
            break;
        }
        rest -= size;
    }
    let tau = tau.max(f64::MIN_POSITIVE);
    let share = |size: &f64| (size / tau).clamp(LEAST_SHARE, 1.0);
    sizes.iter().map(share).collect()
}

#[cfg(test)]
mod tests;
