//! Products of thin matrices in place of one wide one, for the inputs that a layer sees.
//!
//! The outputs of a layer, `W x`, vary along few directions. The best product `U V` of rank `k` for
//! `E‖W x − U V x‖²` projects the outputs on the first `k` eigenvectors of their covariance `W G Wᵀ`:
//! `U` is those vectors and `V = Uᵀ W` (whitened SVD; Zhang et al. 2016, "Accelerating very deep
//! convolutional networks", eq. 8; Wang et al. 2024, SVD-LLM). Where the inner factor has another form, a
//! part of a convolution's kernel say, the outer one still has a closed form: [`best_outer`].
//!
//! What no product of that rank holds can be single weights: [`Decomposition`] finds both on one objective.
//! Other ways to be cheaper are to read less, [`grouped()`], to read most of it at few directions, [`Scales`], and to
//! split every axis of a kernel, [`cp()`].

mod cp;
mod decompose;
mod groups;
mod scales;
#[cfg(test)]
mod tests;

pub use cp::{Term, cp};
pub use decompose::{Decomposition, SparseLowRank};
pub use groups::{Grouped, grouped};
pub use scales::{Scales, TwoScales};

use crate::error::{SolveError, same};
use crate::factor::{product, symmetric_eigen};
use crate::{LeastSquares, Matrix, RefitConfig, refit};

/// A layer's weights as a sum of products of a column and a row, strongest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// What each product adds to the outputs' variance (mean square without a bias), descending,
    /// none below 0; `n = min(r, d)` of them.
    pub values: Vec<f64>,
    /// Columns, `r × n`, orthonormal.
    pub outer: Matrix,
    /// Rows, `n × d`.
    pub inner: Matrix,
}

/// Returns the best products for the outputs `weights · x` on a problem's inputs.
///
/// Works on the smaller side: the outputs' covariance `W G Wᵀ`, or `G½ Wᵀ W G½`.
/// # Shapes
/// `weights`: `r × d`.
/// # Errors
/// [`SolveError::Shape`] if the weights have not `d` columns; [`SolveError::NotFinite`] if there are no
/// eigenvectors.
pub fn output_spectrum(problem: &LeastSquares, weights: &Matrix) -> Result<Spectrum, SolveError> {
    same("weights' inputs", problem.n_in(), weights.cols)?;
    spectrum(&problem.gram, weights)
}

/// Returns the best products for the weights themselves, whatever they multiply (Eckart and Young 1936): the singular
/// values squared, and the vectors.
///
/// # Errors
/// [`SolveError::NotFinite`] if there are no eigenvectors.
pub fn plain_spectrum(weights: &Matrix) -> Result<Spectrum, SolveError> {
    if weights.rows > weights.cols {
        return from_inputs(&Matrix::identity(weights.cols), weights);
    }
    let (values, outer) = descending(&symmetric(&product(weights, &weights.transposed())))?;
    Ok(Spectrum {
        values: not_below_zero(values),
        inner: product(&outer.transposed(), weights),
        outer,
    })
}

/// The same for a Gram matrix alone.
fn spectrum(gram: &Matrix, weights: &Matrix) -> Result<Spectrum, SolveError> {
    if weights.rows <= weights.cols {
        let image = product(weights, gram);
        let covariance = symmetric(&product(&image, &weights.transposed()));
        let (values, outer) = descending(&covariance)?;
        let inner = product(&outer.transposed(), weights);
        return Ok(Spectrum {
            values: not_below_zero(values),
            outer,
            inner,
        });
    }
    from_inputs(gram, weights)
}

/// The same from the inputs' side, where there are fewer of them than outputs.
fn from_inputs(gram: &Matrix, weights: &Matrix) -> Result<Spectrum, SolveError> {
    let d = weights.cols;
    let (energies, axes) = descending(&symmetric(gram))?;
    let floor = FLAT * energies.first().copied().unwrap_or(0.0);
    let power = |p: f64| {
        let scaled = Matrix {
            rows: d,
            cols: d,
            data: (0..d * d)
                .map(|i| {
                    let energy = energies[i % d];
                    // Along a direction without energy nothing is seen.
                    let factor = if energy > floor { energy.powf(p) } else { 0.0 };
                    axes.data[i] * factor
                })
                .collect(),
        };
        product(&scaled, &axes.transposed())
    };
    let image = product(weights, &power(0.5));
    let (values, right) = descending(&symmetric(&product(&image.transposed(), &image)))?;
    let values = not_below_zero(values);
    let mut outer = product(&image, &right);
    let mut inner = product(&right.transposed(), &power(-0.5));
    for (k, value) in values.iter().enumerate() {
        let length = value.sqrt();
        for o in 0..outer.rows {
            let column = if length > 0.0 {
                outer.at(o, k) / length
            } else {
                0.0
            };
            outer.set(o, k, column);
        }
        inner.row_mut(k).iter_mut().for_each(|v| *v *= length);
    }
    Ok(Spectrum {
        values,
        outer,
        inner,
    })
}

/// Directions with less than this share of the strongest one's energy are rounding.
const FLAT: f64 = 1e-10;

fn symmetric(m: &Matrix) -> Matrix {
    let mut out = m.clone();
    for i in 0..m.rows {
        for j in 0..i {
            let mean = 0.5 * (m.at(i, j) + m.at(j, i));
            out.set(i, j, mean);
            out.set(j, i, mean);
        }
    }
    out
}

fn not_below_zero(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|v| v.max(0.0)).collect()
}

/// Returns eigenvalues, largest first, and their vectors as columns.
fn descending(symmetric: &Matrix) -> Result<(Vec<f64>, Matrix), SolveError> {
    symmetric.check_finite("covariance")?;
    let (ascending, columns) = symmetric_eigen(symmetric).ok_or(SolveError::NotFinite {
        what: "eigenvectors",
        row: 0,
        col: 0,
    })?;
    let order: Vec<usize> = (0..symmetric.rows).rev().collect();
    let values = ascending.into_iter().rev().collect();
    Ok((values, columns.select_cols(&order)?))
}

impl Spectrum {
    /// Returns the squared error of rank `k` relative to the outputs' energy; 0 where there is none.
    pub fn error(&self, k: usize) -> f64 {
        let all: f64 = self.values.iter().sum();
        let lost: f64 = self.values.iter().skip(k).sum();
        if all > 0.0 { lost / all } else { 0.0 }
    }

    /// Returns `U` (`r × k`) and `V` (`k × d`) of rank `k` at most.
    ///
    /// # Errors
    /// [`SolveError::Index`] never: the rank is cut to what there is.
    pub fn factors(&self, k: usize) -> Result<(Matrix, Matrix), SolveError> {
        let first: Vec<usize> = (0..k.min(self.values.len())).collect();
        Ok((
            self.outer.select_cols(&first)?,
            self.inner.select_rows(&first)?,
        ))
    }
}

/// An outer factor and what the product costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Outer {
    /// `r × m`.
    pub weights: Matrix,
    /// Relative squared error of the product on the problem.
    pub error: f64,
}

/// Returns the `U` that makes `U (B x)` closest to a problem's targets, for given `B` (`m × d`).
///
/// # Errors
/// [`SolveError::Shape`] if `B` has not `d` columns; whatever [`refit()`] says of `B G Bᵀ`.
pub fn best_outer(problem: &LeastSquares, inner: &Matrix) -> Result<Outer, SolveError> {
    same("inner factor's inputs", problem.n_in(), inner.cols)?;
    let image = product(inner, &problem.gram);
    let seen = LeastSquares {
        gram: symmetric(&product(&image, &inner.transposed())),
        cross: product(inner, &problem.cross),
        energy: problem.energy,
        centre: None,
    };
    let all: Vec<usize> = (0..inner.rows).collect();
    let found = refit(&seen, &all, None, &RefitConfig::starting_at(OUTER_DAMPING))?;
    Ok(Outer {
        weights: found.weights,
        error: found.error_after,
    })
}

/// The inner factor is made of strong directions, so that little damping is enough.
const OUTER_DAMPING: f64 = 1e-6;
