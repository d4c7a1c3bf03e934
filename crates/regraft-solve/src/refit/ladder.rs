//! The damping ladder: try, raise the damping, and at the end clamp eigenvalues.

use crate::error::SolveError;
use crate::factor::{Cholesky, cholesky, product, symmetric_eigen};
use crate::matrix::Matrix;
use crate::problem::LeastSquares;

/// An input whose second moment is below this share of the largest is zero on every
/// row up to rounding.
const DEAD_SHARE: f64 = 1e-14;

/// What the last resort did: negative eigenvalues of the Gram matrix were set to zero
/// before the last damping was added.
#[derive(Debug, Clone, PartialEq)]
pub struct EigenClamp {
    /// Number of eigenvalues that were below zero.
    pub clamped: usize,
    /// The smallest eigenvalue, before damping.
    pub smallest: f64,
    /// The largest eigenvalue, before damping.
    pub largest: f64,
}

/// How a system was solved.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) damping: f64,
    pub(crate) steps: usize,
    pub(crate) clamp: Option<EigenClamp>,
}

/// Returns an error if a rung is not a finite number of at least zero, or there is none.
pub(crate) fn check(rungs: &[f64]) -> Result<(), SolveError> {
    let bad = match rungs.iter().find(|r| !r.is_finite() || **r < 0.0) {
        Some(rung) => Some(*rung),
        None => rungs.is_empty().then_some(f64::NAN),
    };
    match bad {
        None => Ok(()),
        Some(value) => Err(SolveError::Option {
            option: "damping",
            value,
            expected: "at least one finite number that is not negative is needed",
        }),
    }
}

/// Returns the indices of the inputs that are not zero on every row.
pub(crate) fn live_inputs(problem: &LeastSquares) -> Vec<usize> {
    let moments = problem.second_moments();
    let largest = moments.iter().copied().fold(0.0, f64::max);
    (0..moments.len())
        .filter(|&i| moments[i] > DEAD_SHARE * largest)
        .collect()
}

/// Returns the mean second moment of the given inputs: the unit of the damping.
pub(crate) fn scale(problem: &LeastSquares, live: &[usize]) -> f64 {
    let moments = problem.second_moments();
    live.iter().map(|&i| moments[i]).sum::<f64>() / live.len().max(1) as f64
}

/// Returns `gram + amount · I`.
pub(crate) fn damped(gram: &Matrix, amount: f64) -> Matrix {
    let mut h = gram.clone();
    for i in 0..h.rows {
        let v = h.at(i, i) + amount;
        h.set(i, i, v);
    }
    h
}

/// Returns the factor of `gram + λ·scale·I` for the first rung λ that has one.
pub(crate) fn factor(
    gram: &Matrix,
    scale: f64,
    rungs: &[f64],
) -> Result<(Cholesky, Outcome), SolveError> {
    factor_in_place(&mut gram.clone(), scale, rungs)
}

/// Damps `gram` by the first rung λ for which it has a factor, and returns that.
pub(crate) fn factor_in_place(
    gram: &mut Matrix,
    scale: f64,
    rungs: &[f64],
) -> Result<(Cholesky, Outcome), SolveError> {
    let diagonal = gram.diagonal();
    let mut last = SolveError::NoRows;
    for (steps, &damping) in rungs.iter().enumerate() {
        for (i, value) in diagonal.iter().enumerate() {
            gram.set(i, i, value + damping * scale);
        }
        match cholesky(gram) {
            Ok(found) => {
                let outcome = Outcome {
                    damping,
                    steps,
                    clamp: None,
                };
                return Ok((found, outcome));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Overwrites `rhs` with the damped solution and returns how it was found.
pub(crate) fn solve(
    gram: &Matrix,
    scale: f64,
    rungs: &[f64],
    rhs: &mut Matrix,
) -> Result<Outcome, SolveError> {
    match factor(gram, scale, rungs) {
        Ok((found, outcome)) => {
            found.solve(rhs);
            Ok(outcome)
        }
        Err(error) => {
            let damping = rungs.last().copied().unwrap_or(1.0);
            let clamp = solve_clamped(gram, damping * scale, rhs).ok_or(error)?;
            Ok(Outcome {
                damping,
                steps: rungs.len(),
                clamp: Some(clamp),
            })
        }
    }
}

/// Overwrites `rhs` with `Q (max(M, 0) + amount)⁻¹ Qᵀ rhs`, if that makes sense: the
/// positive part of the spectrum must outweigh the negative one.
fn solve_clamped(gram: &Matrix, amount: f64, rhs: &mut Matrix) -> Option<EigenClamp> {
    let (values, vectors) = symmetric_eigen(gram)?;
    let (smallest, largest) = (*values.first()?, *values.last()?);
    // Without damping a clamped direction would be divided by zero.
    let floor = amount.max(1e-6 * largest);
    if largest <= 0.0 || -smallest > largest {
        return None;
    }
    let mut inner = product(&vectors.transposed(), rhs);
    for (i, value) in values.iter().enumerate() {
        let inverse = 1.0 / (value.max(0.0) + floor);
        inner.row_mut(i).iter_mut().for_each(|v| *v *= inverse);
    }
    *rhs = product(&vectors, &inner);
    Some(EigenClamp {
        clamped: values.iter().filter(|v| **v < 0.0).count(),
        smallest,
        largest,
    })
}
