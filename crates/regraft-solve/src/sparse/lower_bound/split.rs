//! The diagonal that is split off: as much as `H` can give, where it counts.

use super::Objective;
use crate::error::SolveError;
use crate::factor::cholesky;
use crate::matrix::Matrix;

/// Weights of the barrier, relative to the mean of `a_i / P_ii`, from far inside to close to the edge.
const BARRIERS: [f64; 4] = [0.1, 0.03, 0.01, 0.003];

/// Passes over all inputs for one weight.
const PASSES: usize = 4;

/// Least share of the uniform start that an input keeps.
const LEAST: f64 = 1e-2;

/// Share of the found diagonal that is claimed, and the one that must still have a factor.
const CLAIMED: f64 = 1.0 - 1e-6;

/// Returns `t > 0` of a large `Σ a_i t_i` with `H − diag(t)` positive semidefinite.
///
/// The barrier `μ log det (H − diag(t))` has its maximum over one `t_i` where `1/M_ii = μ/a_i`, `M` the
/// inverse of `H − diag(t)`; moving there is a rank-one change of `M`.
pub(super) fn diagonal(objective: &Objective, a: &[f64]) -> Result<Vec<f64>, SolveError> {
    let d = objective.n_in();
    let single: Vec<f64> = objective
        .inverse
        .diagonal()
        .iter()
        .map(|p| p.recip())
        .collect();
    let mean = a.iter().zip(&single).map(|(a, s)| a * s).sum::<f64>() / d as f64;
    let (mut t, mut inverse) = uniform(objective, &single)?;
    let least: Vec<f64> = t.iter().map(|t| LEAST * t).collect();
    let mut column = vec![0.0; d];
    for barrier in BARRIERS {
        let mu = barrier * mean;
        for _ in 0..PASSES {
            for i in 0..d {
                // What is left for this input.
                let room = inverse.at(i, i).recip();
                let wanted = if a[i] > 0.0 { mu / a[i] } else { f64::MAX };
                let step = (t[i] + room - wanted).max(least[i]) - t[i];
                // `t_i` is at least `least`, so that only falling steps are cut short.
                if step == 0.0 || room.is_nan() || step >= room {
                    continue;
                }
                column.copy_from_slice(inverse.row(i));
                let factor = step / (1.0 - step / room);
                for (j, c) in column.iter().enumerate() {
                    let scale = factor * c;
                    let row = inverse.row_mut(j).iter_mut().zip(&column);
                    row.for_each(|(m, c)| *m += scale * c);
                }
                t[i] += step;
            }
        }
    }
    checked(objective, t)
}

/// Returns a share of `single` that is well inside, and the inverse of what it leaves.
fn uniform(objective: &Objective, single: &[f64]) -> Result<(Vec<f64>, Matrix), SolveError> {
    let mut share = 0.5;
    loop {
        let t: Vec<f64> = single.iter().map(|s| share * s).collect();
        match cholesky(&without(objective, &t)) {
            // Half of what just has a factor.
            Ok(_) => {
                let t: Vec<f64> = t.iter().map(|t| t / 2.0).collect();
                let inverse = cholesky(&without(objective, &t))?.inverse();
                return Ok((t, inverse));
            }
            Err(error) if share < f64::EPSILON => return Err(error),
            Err(_) => share /= 2.0,
        }
    }
}

/// Returns `H − diag(t)`.
pub(super) fn without(objective: &Objective, t: &[f64]) -> Matrix {
    let mut rest = objective.h.clone();
    for (i, t) in t.iter().enumerate() {
        rest.set(i, i, rest.at(i, i) - t);
    }
    rest
}

/// Shrinks `t` until `H − diag(t)` surely has a factor.
fn checked(objective: &Objective, mut t: Vec<f64>) -> Result<Vec<f64>, SolveError> {
    loop {
        let found = cholesky(&without(objective, &t));
        t.iter_mut().for_each(|t| *t *= CLAIMED);
        match found {
            Ok(_) => return Ok(t),
            Err(error) if t.iter().all(|t| *t < f64::MIN_POSITIVE) => return Err(error),
            Err(_) => t.iter_mut().for_each(|t| *t *= 0.99),
        }
    }
}
