//! Exact weights on a fixed support of single connections, row by row.
//!
//! On the support `S` of a row the objective is lowest where `H_SS v = g_S`. Three ways lead there;
//! which one a row takes follows from the sizes alone (and from one trial), never from the clock:
//!
//! - **direct**: Cholesky of `H_SS`, scaled to a unit diagonal, in f32; then residuals in f64 and
//!   corrections with the f32 factor until the residual is at `TARGET`. Where f32 is not enough
//!   (no factor, or corrections stall), the factor is made again in f64. `|S|³/3`.
//! - **complement**: with the pruned set `Z` and `P = H⁻¹`, `v = w̃ − w̃_Z (P_ZZ)⁻¹ P_Z:`, in f64.
//!   `|Z|³/3`, for supports that keep most.
//! - **conjugate gradients**: all rows together, one product with the whole `H` per step, in f32
//!   with Jacobi scaling inside and f64 residuals outside. Steps × `2 d²`, whatever the support: for
//!   large supports of well conditioned Grams. A few rows try it first, for as many steps as a
//!   factor would cost; if they get there, the rest follows, and whoever does not is done directly.
//!
//! Rows with the same support share its factor.
//!
//! Memory beside the objective: `H` in f32 (half a `d × d` matrix), per thread a factor (`|S|²` f32
//! or `|Z|²` f64) with half of `H_SS` in f64, or a block of rows; wide layers have fewer threads,
//! so that all of these together are one `d × d` matrix, or 64 MiB.

mod conjugate;
mod direct;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::error::{SolveError, same};
use crate::matrix::Matrix;
use crate::sparse::shards::{affordable, in_order};
use crate::sparse::{Mask, Objective};

/// Residual (relative to the right side) at which a row is done: two rounds in f32 reach it, and
/// the objective, which is quadratic in what is left, then has all digits of its f64 sum.
const TARGET: f64 = 1e-9;

/// Residual with which a cheaper way is still accepted when it gets no further.
const ACCEPT: f64 = 1e-8;

/// Costs below count f32 products: one multiply-add is 2. Reading or moving single values of a large
/// matrix takes about this many of them.
const PER_VALUE: f64 = 60.0;

/// An f32 Cholesky factor runs at about half the speed of a product, one in f64 at a quarter.
const F32_FACTOR: f64 = 2.0;
const F64_FACTOR: f64 = 4.0;

/// Fewer steps than this are never enough, so that a trial would be wasted.
const MIN_STEPS: usize = 16;

/// Rows of the trial.
const TRIAL_ROWS: usize = 16;

/// Rows that took each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefitWays {
    /// Rows that keep nothing, or everything: nothing was solved.
    pub trivial: usize,
    /// By a factor of `H_SS` in f32, corrected in f64.
    pub direct: usize,
    /// By a factor of `H_SS` in f64, as f32 was not enough.
    pub direct_f64: usize,
    /// By a factor of `P_ZZ` in f64.
    pub complement: usize,
    /// By conjugate gradients.
    pub conjugate: usize,
}

/// A layer refitted on a mask, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SupportRefit {
    /// `r × d`, zero outside the mask.
    pub weights: Matrix,
    /// [`Objective::relative`] of the weights.
    pub relative_error: f64,
    /// Largest `‖(g − v H)_S‖ / ‖g_S‖` of a row, measured in f64.
    pub largest_residual: f64,
    /// Factors that were made, failed ones included.
    pub factorisations: usize,
    /// Rows by the way they took.
    pub ways: RefitWays,
    /// Most steps of conjugate gradients of any block of rows, the trial included.
    pub steps: usize,
    /// Damping of the objective, relative to the mean second moment of the live inputs.
    pub damping: f64,
}

/// Rows that share one support.
#[derive(Debug)]
struct Shared<'a> {
    kept: &'a [bool],
    n_kept: usize,
    rows: Vec<usize>,
}

/// `H` with a unit diagonal in f32, `S H S` with `S = diag(H)^(-1/2)`.
#[derive(Debug)]
struct Scaled {
    h: Vec<f32>,
    /// `diag(H)^(-1/2)`.
    root: Vec<f64>,
}

/// The weights of some rows and what they took.
#[derive(Debug)]
struct Solved {
    /// One row for each of the rows asked for.
    weights: Matrix,
    residual: f64,
    factorisations: usize,
    ways: RefitWays,
}

/// Returns the weights that are best for the objective among those that are zero outside `mask`.
///
/// The bias is [`crate::LeastSquares::best_bias`] of the result.
/// # Shapes
/// `mask` is `r × d`.
/// # Errors
/// [`SolveError::Shape`] if the mask does not fit; [`SolveError::NotPositiveDefinite`] if a support
/// has no factor even in f64, which a damped objective does not have.
pub fn refit_support(
    objective: &Objective,
    mask: &Mask,
    threads: usize,
) -> Result<SupportRefit, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    objective.check()?;
    same("mask's rows", r, mask.rows)?;
    same("mask's columns", d, mask.cols)?;
    same("mask", r * d, mask.kept.len())?;
    let mut done = SupportRefit {
        weights: Matrix::zeros(r, d),
        relative_error: 0.0,
        largest_residual: 0.0,
        factorisations: 0,
        ways: RefitWays::default(),
        steps: 0,
        damping: objective.damping,
    };
    let mut units = Vec::new();
    for unit in shared_supports(mask) {
        if unit.n_kept == 0 || unit.n_kept == d {
            done.ways.trivial += unit.rows.len();
            if unit.n_kept == d {
                for &row in &unit.rows {
                    done.weights
                        .row_mut(row)
                        .copy_from_slice(objective.target.row(row));
                }
            }
        } else {
            units.push(unit);
        }
    }
    if !units.is_empty() {
        solve_units(objective, &units, threads, &mut done)?;
    }
    done.weights.check_finite("refitted weights")?;
    done.relative_error = objective.relative_on(&done.weights, threads)?;
    Ok(done)
}

/// Returns the distinct supports, in the order of the masks' bits, with their rows ascending.
fn shared_supports(mask: &Mask) -> Vec<Shared<'_>> {
    let mut by_support: BTreeMap<&[bool], Vec<usize>> = BTreeMap::new();
    for row in 0..mask.rows {
        by_support.entry(mask.row(row)).or_default().push(row);
    }
    let units = by_support.into_iter().map(|(kept, rows)| Shared {
        kept,
        n_kept: kept.iter().filter(|k| **k).count(),
        rows,
    });
    units.collect()
}

impl Scaled {
    fn new(h: &Matrix) -> Self {
        let root: Vec<f64> = h.diagonal().iter().map(|v| v.sqrt().recip()).collect();
        let mut scaled = Vec::with_capacity(h.data.len());
        for (i, si) in root.iter().enumerate() {
            let row = h.row(i).iter().zip(&root);
            scaled.extend(row.map(|(v, sj)| (v * si * sj) as f32));
        }
        Self { h: scaled, root }
    }
}

/// Solves every unit the cheapest way and writes the rows into `done`.
fn solve_units(
    objective: &Objective,
    units: &[Shared<'_>],
    threads: usize,
    done: &mut SupportRefit,
) -> Result<(), SolveError> {
    let d = objective.n_in();
    let scaled = Scaled::new(&objective.h);
    let many: usize = units.iter().map(|u| u.rows.len()).sum();
    let budgets: Vec<usize> = units.iter().map(|u| step_budget(u, d, many)).collect();
    let trial: Vec<(usize, &[bool])> = rows_of(units, &budgets, MIN_STEPS);
    let mut by_factor = vec![true; units.len()];
    if !trial.is_empty() {
        let sample = &trial[..trial.len().min(TRIAL_ROWS)];
        // What half of the supports could afford: else the trial would serve too few of them.
        let mut affordable: Vec<usize> = budgets
            .iter()
            .copied()
            .filter(|b| *b >= MIN_STEPS)
            .collect();
        affordable.sort_unstable();
        let most = affordable.get(affordable.len() / 2).copied().unwrap_or(0);
        // Two blocks, whoever does them.
        let blocks: Vec<_> = sample.chunks(TRIAL_ROWS / 2).collect();
        let found = in_order(
            blocks.len(),
            threads,
            || (),
            |(), i| conjugate::solve(objective, &scaled, blocks[i], most),
        );
        done.steps = found.iter().map(|f| f.steps).max().unwrap_or(0);
        let mut residuals = found.iter().flat_map(|f| &f.residuals);
        if residuals.all(|r| *r <= ACCEPT) {
            let rows = rows_of(units, &budgets, done.steps.max(MIN_STEPS));
            let finished = conjugate_rows(objective, &scaled, &rows, threads, done);
            for (unit, by_factor) in units.iter().zip(&mut by_factor) {
                *by_factor = !unit.rows.iter().all(|&row| finished[row]);
            }
        }
    }
    let rest: Vec<&Shared<'_>> = units
        .iter()
        .zip(by_factor)
        .filter_map(|(u, f)| f.then_some(u))
        .collect();
    let held = rest.iter().map(|unit| direct::held_values(unit, d));
    let most = held.max().unwrap_or(0);
    let threads = affordable(threads, most, d);
    let solved = in_order(
        rest.len(),
        threads,
        direct::Scratch::default,
        |scratch, i| direct::solve(objective, &scaled, rest[i], scratch),
    );
    for (unit, solved) in rest.iter().zip(solved) {
        let solved = solved?;
        for (i, &row) in unit.rows.iter().enumerate() {
            done.weights
                .row_mut(row)
                .copy_from_slice(solved.weights.row(i));
        }
        done.largest_residual = done.largest_residual.max(solved.residual);
        done.factorisations += solved.factorisations;
        done.ways.direct += solved.ways.direct;
        done.ways.direct_f64 += solved.ways.direct_f64;
        done.ways.complement += solved.ways.complement;
    }
    Ok(())
}

/// Returns the rows, ascending, of the units that may take at least `steps` steps.
fn rows_of<'a>(units: &[Shared<'a>], budgets: &[usize], steps: usize) -> Vec<(usize, &'a [bool])> {
    let may = units
        .iter()
        .zip(budgets)
        .filter(|(_, budget)| **budget >= steps);
    let mut rows: Vec<_> = may
        .flat_map(|(unit, _)| unit.rows.iter().map(|&row| (row, unit.kept)))
        .collect();
    rows.sort_unstable_by_key(|(row, _)| *row);
    rows
}

/// Runs conjugate gradients on fixed blocks of rows, and returns which rows of the layer are done.
fn conjugate_rows(
    objective: &Objective,
    scaled: &Scaled,
    rows: &[(usize, &[bool])],
    threads: usize,
    done: &mut SupportRefit,
) -> Vec<bool> {
    // Twice the trial's steps: rows differ, and the slow ones are finished directly.
    let most = 2 * done.steps;
    let blocks: Vec<_> = rows.chunks(conjugate::BLOCK_ROWS).collect();
    let found = in_order(
        blocks.len(),
        threads,
        || (),
        |(), i| conjugate::solve(objective, scaled, blocks[i], most),
    );
    let mut finished = vec![false; objective.n_out()];
    for (block, found) in blocks.iter().zip(found) {
        done.steps = done.steps.max(found.steps);
        for (i, &(row, _)) in block.iter().enumerate() {
            let residual = found.residuals[i];
            if residual <= ACCEPT {
                finished[row] = true;
                done.weights
                    .row_mut(row)
                    .copy_from_slice(found.weights.row(i));
                done.largest_residual = done.largest_residual.max(residual);
                done.ways.conjugate += 1;
            }
        }
    }
    finished
}

/// Returns the steps of conjugate gradients that cost as much as the factor of a support does, if
/// about `rows` rows take part.
fn step_budget(unit: &Shared<'_>, d: usize, rows: usize) -> usize {
    let block = rows.min(conjugate::BLOCK_ROWS) as f64;
    let square = (d as f64).powi(2);
    // With few rows a step is bound by reading `H`, not by the product.
    let step = square * (2.2_f64).max(PER_VALUE / block);
    // Three residuals in f64.
    let outer = 3.0 * 4.0 * square;
    let direct = direct_cost(unit.n_kept, unit.rows.len());
    let complement = complement_cost(unit.n_kept, d, unit.rows.len());
    ((direct.min(complement) - outer) / step).max(0.0) as usize
}

/// Returns the cost of one row by a factor of `H_SS` that `shared` rows use.
fn direct_cost(n_kept: usize, shared: usize) -> f64 {
    let n = n_kept as f64;
    let factor = F32_FACTOR * n.powi(3) / 3.0 + PER_VALUE * n * n;
    factor / shared as f64 + 3.0 * PER_VALUE * n * n
}

/// Returns the cost of one row by a factor of `P_ZZ` that `shared` rows use.
fn complement_cost(n_kept: usize, d: usize, shared: usize) -> f64 {
    let (n, d) = (n_kept as f64, d as f64);
    let z = d - n;
    let factor = F64_FACTOR * z.powi(3) / 3.0 + PER_VALUE * z * (z + d);
    factor / shared as f64 + PER_VALUE * n * n
}
