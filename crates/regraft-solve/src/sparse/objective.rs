//! The damped objective of one layer and its optimum without a mask.

use crate::error::{SolveError, same};
use crate::factor::blocked::product_rows;
use crate::matrix::Matrix;
use crate::problem::{LeastSquares, dot};
use crate::refit::{RefitConfig, ladder};

/// How to damp the objective.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveConfig {
    /// Damping factors in the order they are tried, relative to the mean second moment of the
    /// live inputs.
    pub ladder: Vec<f64>,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self::starting_at(crate::refit::DEFAULT_DAMPING)
    }
}

impl ObjectiveConfig {
    /// Returns the ladder that starts at `damping` and goes on with the larger rungs.
    pub fn starting_at(damping: f64) -> Self {
        let ladder = RefitConfig::starting_at(damping).ladder;
        Self { ladder }
    }
}

/// One layer's damped objective `f(V) = constant − 2⟨G, V⟩ + ⟨V H, V⟩`.
#[derive(Debug, Clone)]
pub struct Objective {
    /// `H`, `d × d`: the Gram (mean over rows, centred with a bias) plus the damping.
    pub h: Matrix,
    /// `H⁻¹`, `d × d`.
    pub inverse: Matrix,
    /// `G`, `r × d`: the cross-Gram transposed plus the damping times the old weights.
    pub g: Matrix,
    /// `W̃ = G H⁻¹`, `r × d`: the optimum without a mask.
    pub target: Matrix,
    /// `f(0)`: the target's energy plus the damping times the old weights' energy.
    pub constant: f64,
    /// The target's energy (variance with a bias): errors are relative to it.
    pub energy: f64,
    /// Damping used, relative to the mean second moment of the live inputs.
    pub damping: f64,
    /// Rungs of the ladder that failed before.
    pub ladder_steps: usize,
    /// Inputs that never were non-zero; their optimum is zero.
    pub dead_inputs: Vec<usize>,
}

/// What a problem held besides the Gram that became its objective's `H`.
#[derive(Debug, Clone)]
pub struct Remainder {
    /// The problem without its Gram.
    problem: LeastSquares,
    /// The Gram's diagonal without damping.
    diagonal: Vec<f64>,
    moments: Vec<f64>,
}

impl Remainder {
    /// Returns [`LeastSquares::second_moments`] of the problem.
    pub fn second_moments(&self) -> &[f64] {
        &self.moments
    }

    /// Returns [`LeastSquares::best_bias`] of the problem.
    pub fn best_bias(&self, weights: &Matrix) -> Option<Vec<f64>> {
        self.problem.best_bias(weights)
    }
}

impl Objective {
    /// Returns the objective of a problem, damped towards `anchor` (`r × d`; zero if left out).
    /// # Errors
    /// [`SolveError::NotPositiveDefinite`] if the Gram has no factor on any rung; shape and
    /// option errors for arguments that do not fit.
    pub fn new(
        problem: &LeastSquares,
        anchor: Option<&Matrix>,
        config: &ObjectiveConfig,
    ) -> Result<Self, SolveError> {
        Ok(Self::split(problem.clone(), anchor, config)?.0)
    }

    /// Returns the objective of a problem and what else the problem held: the Gram becomes `H` in
    /// its place, so that the two together hold two `d × d` matrices, and three on the way.
    /// # Errors
    /// As [`Objective::new`].
    pub fn split(
        mut problem: LeastSquares,
        anchor: Option<&Matrix>,
        config: &ObjectiveConfig,
    ) -> Result<(Self, Remainder), SolveError> {
        ladder::check(&config.ladder)?;
        let (d, r) = (problem.n_in(), problem.n_out());
        let moments = problem.second_moments();
        let live = ladder::live_inputs(&problem);
        let scale = if live.is_empty() {
            1.0
        } else {
            ladder::scale(&problem, &live)
        };
        let mut is_dead = vec![true; d];
        for &i in &live {
            is_dead[i] = false;
        }
        let rungs: Vec<f64> = if live.len() < d {
            // A dead input has a zero on the diagonal: without damping it has no factor.
            config.ladder.iter().map(|rung| rung.max(1e-9)).collect()
        } else {
            config.ladder.clone()
        };
        let mut h = std::mem::take(&mut problem.gram);
        let diagonal = h.diagonal();
        let (factor, outcome) = ladder::factor_in_place(&mut h, scale, &rungs)?;
        let amount = outcome.damping * scale;
        let mut g = problem.cross.transposed();
        let mut constant = problem.energy;
        if let Some(anchor) = anchor {
            same("anchor's inputs", d, anchor.cols)?;
            same("anchor's outputs", r, anchor.rows)?;
            anchor.check_finite("anchor")?;
            for i in 0..r {
                for (j, (value, old)) in g.row_mut(i).iter_mut().zip(anchor.row(i)).enumerate() {
                    if !is_dead[j] {
                        *value += amount * old;
                        constant += amount * old * old;
                    }
                }
            }
        }
        for i in 0..r {
            for (value, dead) in g.row_mut(i).iter_mut().zip(&is_dead) {
                if *dead {
                    *value = 0.0;
                }
            }
        }
        let mut columns = g.transposed();
        factor.solve(&mut columns);
        let target = columns.transposed();
        drop(columns);
        target.check_finite("unmasked optimum")?;
        let objective = Self {
            h,
            inverse: factor.into_inverse(),
            g,
            target,
            constant,
            energy: problem.energy,
            damping: outcome.damping,
            ladder_steps: outcome.steps,
            dead_inputs: (0..d).filter(|&i| is_dead[i]).collect(),
        };
        let rest = Remainder {
            problem,
            diagonal,
            moments,
        };
        Ok((objective, rest))
    }

    /// Returns the problem that [`Objective::split`] made this of; everything else goes.
    pub fn rejoin(self, rest: Remainder) -> LeastSquares {
        let Remainder {
            mut problem,
            diagonal,
            ..
        } = rest;
        problem.gram = self.h;
        for (i, value) in diagonal.into_iter().enumerate() {
            problem.gram.set(i, i, value);
        }
        problem
    }

    /// Returns the number of inputs.
    pub fn n_in(&self) -> usize {
        self.h.rows
    }

    /// Returns the number of outputs.
    pub fn n_out(&self) -> usize {
        self.g.rows
    }

    /// Checks that the fields, which anyone can set, belong together and make sense.
    pub(super) fn check(&self) -> Result<(), SolveError> {
        let (r, d) = (self.n_out(), self.n_in());
        for matrix in [&self.h, &self.inverse] {
            same("objective's rows", d, matrix.rows)?;
            same("objective's columns", d, matrix.cols)?;
            same("objective's values", d * d, matrix.data.len())?;
            matrix.check_finite("objective")?;
            let mut diagonal = matrix.diagonal().into_iter().enumerate();
            if let Some((pivot, value)) = diagonal.find(|(_, v)| *v <= 0.0) {
                return Err(SolveError::NotPositiveDefinite { pivot, n: d, value });
            }
        }
        for matrix in [&self.g, &self.target] {
            same("objective's outputs", r, matrix.rows)?;
            same("objective's inputs", d, matrix.cols)?;
            same("objective's values", r * d, matrix.data.len())?;
            matrix.check_finite("objective")?;
        }
        Ok(())
    }

    /// Returns `f(V)`, at least 0.
    /// # Errors
    /// [`SolveError::Shape`] if `weights` is not `r × d`.
    pub fn value(&self, weights: &Matrix) -> Result<f64, SolveError> {
        self.value_on(weights, 1)
    }

    fn value_on(&self, weights: &Matrix, threads: usize) -> Result<f64, SolveError> {
        let d = self.n_in();
        same("weights' outputs", self.n_out(), weights.rows)?;
        same("weights' inputs", d, weights.cols)?;
        let mut image = Matrix::zeros(weights.rows, d);
        if d > 0 {
            product_rows(
                &mut image.data,
                &weights.data,
                &self.h.data,
                (d, d),
                threads,
            );
        }
        let quadratic = dot(&image.data, &weights.data);
        Ok((self.constant - 2.0 * dot(&self.g.data, &weights.data) + quadratic).max(0.0))
    }

    /// Returns `f(V)` as a share of the target's energy; absolute if that is zero.
    /// # Errors
    /// As [`Objective::value`].
    pub fn relative(&self, weights: &Matrix) -> Result<f64, SolveError> {
        self.relative_on(weights, 1)
    }

    /// [`Objective::relative`] by several threads, which does not change it.
    pub(super) fn relative_on(&self, weights: &Matrix, threads: usize) -> Result<f64, SolveError> {
        let value = self.value_on(weights, threads)?;
        Ok(if self.energy > 0.0 {
            value / self.energy
        } else {
            value
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Bias;
    use crate::samples;

    #[test]
    fn the_optimum_is_below_any_perturbed_one() {
        let (problem, old) = samples::layer(3, 200, 7, 3, Bias::Fit);
        let objective = Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap();
        let best = objective.value(&objective.target).unwrap();
        for seed in 0..8 {
            let mut other = objective.target.clone();
            let shift = samples::noise(seed, other.data.len());
            for (w, s) in other.data.iter_mut().zip(shift) {
                *w += 1e-3 * f64::from(s);
            }
            assert!(objective.value(&other).unwrap() >= best);
        }
    }

    #[test]
    fn a_split_problem_is_whole_again() {
        for bias in [Bias::None, Bias::Fit] {
            let (problem, old) = samples::layer(4, 100, 9, 3, bias);
            let config = ObjectiveConfig::default();
            let (objective, rest) = Objective::split(problem.clone(), Some(&old), &config).unwrap();
            assert_eq!(rest.second_moments(), problem.second_moments());
            assert_eq!(rest.best_bias(&old), problem.best_bias(&old));
            assert!(objective.rejoin(rest) == problem, "{bias:?}");
        }
    }

    #[test]
    fn without_damping_it_is_the_error_of_the_problem() {
        let (problem, old) = samples::layer(5, 300, 6, 2, Bias::None);
        let config = ObjectiveConfig { ladder: vec![0.0] };
        let objective = Objective::new(&problem, None, &config).unwrap();
        let wanted = problem.relative_error(&old, None).unwrap();
        let found = objective.relative(&old).unwrap();
        assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
    }
}
