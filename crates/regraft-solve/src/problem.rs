//! The layer objective as numbers: `(1/n)·‖X Wᵀ − Y‖²` from its statistics alone.
//!
//! With a bias row the best bias for given weights is `b = ȳ − W x̄`; putting it in
//! leaves the same objective over centred statistics, `G − x̄ x̄ᵀ` and `C − x̄ ȳᵀ`.
//! So the bias is exact, is never damped, and costs no extra row.

use crate::error::{SolveError, distinct, same};
use crate::factor::product;
use crate::gram::{Cross, Gram};
use crate::matrix::Matrix;

/// Whether the layer has a bias that the solver may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// No bias: the targets are met through the origin.
    None,
    /// A bias per output, fitted exactly (a constant input that is never damped).
    #[default]
    Fit,
}

/// The means that a fitted bias restores.
#[derive(Debug, Clone, PartialEq)]
pub struct Centre {
    /// Mean of the inputs, length `d`.
    pub x_mean: Vec<f64>,
    /// Mean of the targets, length `r`.
    pub y_mean: Vec<f64>,
}

/// One layer's least-squares problem: `d` inputs, `r` outputs; of none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeastSquares {
    /// Mean of `x xᵀ`, `d × d`; centred when there is a bias.
    pub gram: Matrix,
    /// Mean of `x yᵀ`, `d × r`; centred when there is a bias.
    pub cross: Matrix,
    /// Mean of `‖y‖²`; the variance of `y` when there is a bias.
    pub energy: f64,
    /// The means, when there is a bias.
    pub centre: Option<Centre>,
}

impl LeastSquares {
    /// Returns the problem of reproducing targets from inputs (the asymmetric form:
    /// inputs of the pruned model, targets of the dense one).
    /// # Errors
    /// [`SolveError::Shape`] if the two statistics do not belong together.
    pub fn from_statistics(gram: &Gram, cross: &Cross, bias: Bias) -> Result<Self, SolveError> {
        Self::of_statistics(gram.clone(), cross.clone(), bias)
    }

    /// Returns the same problem as [`LeastSquares::from_statistics`], made of the statistics' own
    /// matrices.
    /// # Errors
    /// [`SolveError::Shape`] if the two statistics do not belong together.
    pub fn of_statistics(gram: Gram, cross: Cross, bias: Bias) -> Result<Self, SolveError> {
        check_square(&gram.matrix)?;
        same("cross-Gram's inputs", gram.matrix.rows, cross.matrix.rows)?;
        same(
            "cross-Gram's outputs",
            cross.target_mean.len(),
            cross.matrix.cols,
        )?;
        same(
            "target energies",
            cross.target_mean.len(),
            cross.target_energy.len(),
        )?;
        same("input means", gram.matrix.rows, gram.mean.len())?;
        if gram.n != cross.n {
            return Err(SolveError::Shape {
                what: "cross-Gram's row count",
                expected: gram.n as usize,
                found: cross.n as usize,
            });
        }
        gram.matrix.check_finite("Gram matrix")?;
        cross.matrix.check_finite("cross-Gram matrix")?;
        let energy = cross.target_energy.iter().sum();
        let raw = Self {
            gram: gram.matrix,
            cross: cross.matrix,
            energy,
            centre: None,
        };
        Ok(match bias {
            Bias::None => raw,
            Bias::Fit => raw.centred(&gram.mean, &cross.target_mean),
        })
    }

    /// Returns the problem of reproducing a layer's own outputs: targets `W x`.
    ///
    /// `weights` is `r × d`. The layer's bias cancels and is not needed.
    /// # Errors
    /// [`SolveError::Shape`] if the weights have not `d` columns.
    pub fn from_weights(gram: &Gram, weights: &Matrix, bias: Bias) -> Result<Self, SolveError> {
        Self::of_weights(gram.clone(), weights, bias)
    }

    /// Returns the same problem as [`LeastSquares::from_weights`], made of the Gram's own matrix.
    /// # Errors
    /// [`SolveError::Shape`] if the weights have not `d` columns.
    pub fn of_weights(gram: Gram, weights: &Matrix, bias: Bias) -> Result<Self, SolveError> {
        check_square(&gram.matrix)?;
        same("weights' inputs", gram.matrix.rows, weights.cols)?;
        same("input means", gram.matrix.rows, gram.mean.len())?;
        gram.matrix.check_finite("Gram matrix")?;
        weights.check_finite("weights")?;
        let columns = weights.transposed();
        let cross = product(&gram.matrix, &columns);
        let y_mean: Vec<f64> = (0..weights.rows)
            .map(|o| dot(weights.row(o), &gram.mean))
            .collect();
        let raw = Self {
            energy: dot(&columns.data, &cross.data),
            gram: gram.matrix,
            cross,
            centre: None,
        };
        Ok(match bias {
            Bias::None => raw,
            Bias::Fit => raw.centred(&gram.mean, &y_mean),
        })
    }

    /// Returns the problem of reproducing `weights · x` (`r × d`) from the same inputs.
    /// # Errors
    /// [`SolveError::Shape`] if the weights have not `d` columns.
    pub fn reproducing(&self, weights: &Matrix) -> Result<Self, SolveError> {
        same("weights' inputs", self.n_in(), weights.cols)?;
        weights.check_finite("weights")?;
        let columns = weights.transposed();
        let cross = product(&self.gram, &columns);
        let centre = self.centre.as_ref().map(|c| Centre {
            x_mean: c.x_mean.clone(),
            y_mean: (0..weights.rows)
                .map(|o| dot(weights.row(o), &c.x_mean))
                .collect(),
        });
        Ok(Self {
            energy: dot(&columns.data, &cross.data),
            gram: self.gram.clone(),
            cross,
            centre,
        })
    }

    fn centred(mut self, x_mean: &[f64], y_mean: &[f64]) -> Self {
        for (i, &m) in x_mean.iter().enumerate() {
            for (g, &other) in self.gram.row_mut(i).iter_mut().zip(x_mean) {
                *g -= m * other;
            }
            // A mean may exceed the second moment by rounding; a variance may not.
            let variance = self.gram.at(i, i).max(0.0);
            self.gram.set(i, i, variance);
            for (c, &other) in self.cross.row_mut(i).iter_mut().zip(y_mean) {
                *c -= m * other;
            }
        }
        self.energy = (self.energy - dot(y_mean, y_mean)).max(0.0);
        self.centre = Some(Centre {
            x_mean: x_mean.to_vec(),
            y_mean: y_mean.to_vec(),
        });
        self
    }

    /// Returns the number of inputs.
    pub fn n_in(&self) -> usize {
        self.gram.rows
    }

    /// Returns the number of outputs.
    pub fn n_out(&self) -> usize {
        self.cross.cols
    }

    /// Returns the same problem on a subset of the inputs, in the given order.
    /// # Errors
    /// [`SolveError::Index`] or [`SolveError::Duplicate`] for a bad subset.
    pub fn restricted(&self, kept: &[usize]) -> Result<Self, SolveError> {
        distinct("kept input", kept, self.n_in())?;
        let centre = self.centre.as_ref().map(|c| Centre {
            x_mean: kept.iter().map(|&i| c.x_mean[i]).collect(),
            y_mean: c.y_mean.clone(),
        });
        Ok(Self {
            gram: self.gram.select_rows(kept)?.select_cols(kept)?,
            cross: self.cross.select_rows(kept)?,
            energy: self.energy,
            centre,
        })
    }

    /// Returns the mean of `x_i²` of each input, not centred.
    pub fn second_moments(&self) -> Vec<f64> {
        let mut diagonal = self.gram.diagonal();
        if let Some(centre) = &self.centre {
            for (v, m) in diagonal.iter_mut().zip(&centre.x_mean) {
                *v += m * m;
            }
        }
        diagonal
    }

    /// Returns the bias that is best for `weights` (`r × d`), `None` without [`Bias::Fit`]:
    /// `ȳ − W x̄`, exact for any weights because the statistics are centred.
    ///
    /// Panics if `weights` has fewer than `r` rows; further columns than `d` are ignored.
    pub fn best_bias(&self, weights: &Matrix) -> Option<Vec<f64>> {
        let centre = self.centre.as_ref()?;
        let bias = centre
            .y_mean
            .iter()
            .enumerate()
            .map(|(o, y)| y - dot(weights.row(o), &centre.x_mean));
        Some(bias.collect())
    }

    /// Returns the mean squared error of `weights` relative to the target's energy
    /// (its variance when there is a bias); absolute when that is zero.
    ///
    /// Without `bias`, a problem with a bias takes the best one. Errors below about
    /// 1e-6 drown in the f32 products the statistics were made of.
    /// # Shapes
    /// `weights`: `r × d`; `bias`: `r`, only for a problem with [`Bias::Fit`].
    /// # Errors
    /// [`SolveError::Shape`] if sizes do not fit.
    pub fn relative_error(
        &self,
        weights: &Matrix,
        bias: Option<&[f64]>,
    ) -> Result<f64, SolveError> {
        same("weights' inputs", self.n_in(), weights.cols)?;
        same("weights' outputs", self.n_out(), weights.rows)?;
        let columns = weights.transposed();
        let image = product(&self.gram, &columns);
        let mut error = self.energy;
        for ((w, g), c) in columns.data.iter().zip(&image.data).zip(&self.cross.data) {
            error += w * (g - 2.0 * c);
        }
        if let (Some(bias), Some(best)) = (bias, self.best_bias(weights)) {
            same("bias", best.len(), bias.len())?;
            error += bias
                .iter()
                .zip(&best)
                .map(|(b, o)| (b - o) * (b - o))
                .sum::<f64>();
        }
        Ok(self.relative(error))
    }

    /// Returns a non-negative error as a share of the energy.
    pub(crate) fn relative(&self, error: f64) -> f64 {
        let error = error.max(0.0);
        if self.energy > 0.0 {
            error / self.energy
        } else {
            error
        }
    }
}

fn check_square(gram: &Matrix) -> Result<(), SolveError> {
    same("Gram's columns", gram.rows, gram.cols)?;
    same("Gram's values", gram.rows * gram.cols, gram.data.len())
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
