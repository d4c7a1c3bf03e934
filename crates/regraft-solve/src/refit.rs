//! Exact refit of a layer's weights on a fixed support.
//!
//! Minimises `(1/n)·‖X_k Wᵀ + b − Y‖² + λ·s·‖W − W₀‖²`, where `s` is the mean of
//! the kept inputs' second moments and `W₀` the old weights (or zero). With
//! `H = G_kk + λ s I` the step from `W₀` solves `H Δ = C_k − G_kk W₀ᵀ`: written so, a
//! layer whose old weights are already right gets exactly them back.

pub(crate) mod ladder;

use crate::error::{SolveError, same};
use crate::factor::subtract_product;
use crate::matrix::Matrix;
use crate::problem::LeastSquares;

pub use ladder::EigenClamp;

/// First rung of the damping ladder: small enough to leave the answer alone at
/// 1e-3 of the mean diagonal, large enough to bound the condition number.
pub const DEFAULT_DAMPING: f64 = 1e-3;

/// Rungs tried after the first when the factorisation fails.
pub const LADDER: [f64; 5] = [1e-2, 3e-2, 1e-1, 3e-1, 1.0];

/// What the damping pulls the weights towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anchor {
    /// The old weights on the kept inputs (zero if none are given).
    #[default]
    Old,
    /// Zero: plain ridge regression.
    Zero,
}

/// How to damp a refit.
#[derive(Debug, Clone, PartialEq)]
pub struct RefitConfig {
    /// Damping factors in the order they are tried, relative to the mean of the kept
    /// inputs' second moments.
    pub ladder: Vec<f64>,
    /// What the damping pulls towards.
    pub anchor: Anchor,
}

impl Default for RefitConfig {
    fn default() -> Self {
        Self::starting_at(DEFAULT_DAMPING)
    }
}

impl RefitConfig {
    /// Returns the ladder that starts at `damping` and goes on with the larger rungs.
    pub fn starting_at(damping: f64) -> Self {
        let larger = LADDER.into_iter().filter(|rung| *rung > damping);
        Self {
            ladder: std::iter::once(damping).chain(larger).collect(),
            anchor: Anchor::default(),
        }
    }
}

/// The weights before the refit, over all inputs of the problem.
#[derive(Debug, Clone, Copy)]
pub struct OldWeights<'a> {
    /// `r × d`.
    pub weights: &'a Matrix,
    /// `r`; leave out if the layer had none.
    pub bias: Option<&'a [f64]>,
}

/// A refitted layer and everything that was done to get it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refit {
    /// `r × kept`, columns in the order of the kept indices.
    pub weights: Matrix,
    /// `r`, when the problem has a bias.
    pub bias: Option<Vec<f64>>,
    /// Damping that was used, relative to the mean kept second moment; 0 if nothing was solved.
    pub damping: f64,
    /// Rungs of the ladder that failed before.
    pub ladder_steps: usize,
    /// Inputs (indices of the problem) that never were non-zero; they keep the anchor's weights.
    pub dead_inputs: Vec<usize>,
    /// Set when the whole ladder failed and eigenvalues were clamped instead.
    pub eigen_clamp: Option<EigenClamp>,
    /// Relative error of the old weights on the kept inputs with the old bias (0 if it
    /// is left out and the problem has a bias); `None` without old weights.
    pub error_before: Option<f64>,
    /// Relative error of the new weights.
    pub error_after: f64,
}

/// Returns the weights that best reproduce the targets from the kept inputs.
///
/// # Shapes
/// `kept` indexes the problem's `d` inputs; `old.weights` is `r × d`, and only its kept
/// columns are read; the result is `r × kept`.
/// # Units
/// Errors are relative to the target's energy (variance with a bias), dimensionless.
/// # Errors
/// [`SolveError::NotPositiveDefinite`] if the Gram matrix is not even nearly one;
/// [`SolveError::Shape`], [`SolveError::Index`], [`SolveError::Duplicate`] and
/// [`SolveError::Option`] for arguments that do not fit.
pub fn refit(
    problem: &LeastSquares,
    kept: &[usize],
    old: Option<OldWeights<'_>>,
    config: &RefitConfig,
) -> Result<Refit, SolveError> {
    ladder::check(&config.ladder)?;
    let part = problem.restricted(kept)?;
    let old_kept = match old {
        None => None,
        Some(old) => {
            same("old weights' inputs", problem.n_in(), old.weights.cols)?;
            same("old weights' outputs", problem.n_out(), old.weights.rows)?;
            let weights = old.weights.select_cols(kept)?;
            weights.check_finite("old weights")?;
            Some(weights)
        }
    };
    let error_before = match (&old_kept, old) {
        (Some(weights), Some(old)) => Some(error_of_old(&part, weights, old.bias)?),
        _ => None,
    };
    let mut columns = match (&old_kept, config.anchor) {
        (Some(weights), Anchor::Old) => weights.transposed(),
        _ => Matrix::zeros(kept.len(), problem.n_out()),
    };
    let live = ladder::live_inputs(&part);
    let outcome = if live.is_empty() {
        ladder::Outcome::default()
    } else {
        solve_live(&part, &live, &mut columns, &config.ladder)?
    };
    let weights = columns.transposed();
    weights.check_finite("refitted weights")?;
    let dead_inputs = dead_of(kept, &live);
    Ok(Refit {
        bias: part.best_bias(&weights),
        error_after: part.relative_error(&weights, None)?,
        weights,
        damping: outcome.damping,
        ladder_steps: outcome.steps,
        dead_inputs,
        eigen_clamp: outcome.clamp,
        error_before,
    })
}

fn error_of_old(
    part: &LeastSquares,
    weights: &Matrix,
    bias: Option<&[f64]>,
) -> Result<f64, SolveError> {
    if part.centre.is_none() {
        return part.relative_error(weights, None);
    }
    let zeros = vec![0.0; part.n_out()];
    part.relative_error(weights, Some(bias.unwrap_or(&zeros)))
}

/// Adds the damped step to `columns` (`kept × r`) on the live inputs.
fn solve_live(
    part: &LeastSquares,
    live: &[usize],
    columns: &mut Matrix,
    rungs: &[f64],
) -> Result<ladder::Outcome, SolveError> {
    let scale = ladder::scale(part, live);
    if live.len() == part.n_in() {
        let mut step = part.cross.clone();
        subtract_anchor(&mut step, &part.gram, columns);
        let outcome = ladder::solve(&part.gram, scale, rungs, &mut step)?;
        for (w, s) in columns.data.iter_mut().zip(&step.data) {
            *w += s;
        }
        return Ok(outcome);
    }
    let live_part = part.restricted(live)?;
    let mut step = live_part.cross;
    // A dead input is zero on every row: it adds nothing to the anchor's output.
    subtract_anchor(&mut step, &live_part.gram, &columns.select_rows(live)?);
    let outcome = ladder::solve(&live_part.gram, scale, rungs, &mut step)?;
    for (at, &row) in live.iter().enumerate() {
        for (w, s) in columns.row_mut(row).iter_mut().zip(step.row(at)) {
            *w += s;
        }
    }
    Ok(outcome)
}

fn subtract_anchor(step: &mut Matrix, gram: &Matrix, anchor: &Matrix) {
    if anchor.data.iter().any(|v| *v != 0.0) {
        subtract_product(step, gram, anchor);
    }
}

fn dead_of(kept: &[usize], live: &[usize]) -> Vec<usize> {
    let mut is_dead = vec![true; kept.len()];
    for &i in live {
        is_dead[i] = false;
    }
    kept.iter()
        .zip(is_dead)
        .filter_map(|(&i, dead)| dead.then_some(i))
        .collect()
}

#[cfg(test)]
mod tests;
