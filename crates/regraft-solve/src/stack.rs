//! Stacking: the convex combination of several predictions that comes closest to a target.

use crate::error::same;
use crate::{Matrix, SolveError};

/// Steps at most; with a handful of predictions a few hundred are taken.
const MAX_STEPS: usize = 20_000;

/// Weights that move less than this are found.
const SETTLED: f64 = 1e-12;

/// Products of several predictions with each other and with what they should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    // Sums of yᵢ·yⱼ.
    products: Matrix,
    // Sums of yᵢ·t.
    towards: Vec<f64>,
    // Sum of t².
    energy: f64,
}

impl Stack {
    /// Returns the empty sums of `n_models` predictions.
    pub fn new(n_models: usize) -> Self {
        Self {
            products: Matrix::zeros(n_models, n_models),
            towards: vec![0.0; n_models],
            energy: 0.0,
        }
    }

    /// Adds a batch.
    ///
    /// # Shapes
    /// One slice a model, each as long as `target`.
    /// # Errors
    /// [`SolveError::Shape`] if the number of predictions or their lengths do not fit.
    pub fn add(&mut self, predictions: &[&[f32]], target: &[f32]) -> Result<(), SolveError> {
        same("predictions", self.towards.len(), predictions.len())?;
        for y in predictions {
            same("prediction", target.len(), y.len())?;
        }
        for (i, a) in predictions.iter().enumerate() {
            for (j, b) in predictions.iter().enumerate().take(i + 1) {
                let sum = self.products.at(i, j) + dot(a, b);
                self.products.set(i, j, sum);
                self.products.set(j, i, sum);
            }
            self.towards[i] += dot(a, target);
        }
        self.energy += dot(target, target);
        Ok(())
    }

    /// Returns the squared error of a combination relative to the target's energy.
    pub fn relative_error(&self, weights: &[f64]) -> f64 {
        let mut error = self.energy;
        for (i, w) in weights.iter().enumerate() {
            let across: f64 = self
                .products
                .row(i)
                .iter()
                .zip(weights)
                .map(|(g, v)| g * v)
                .sum();
            error += w * (across - 2.0 * self.towards[i]);
        }
        error.max(0.0) / self.energy.max(f64::MIN_POSITIVE)
    }

    /// Returns the weights, none below zero and together 1, whose combination has the least squared
    /// error.
    ///
    /// Projected gradient descent from equal weights with a step of one over the trace, which is
    /// never too long.
    /// # Errors
    /// [`SolveError::NoRows`] before anything was added, [`SolveError::NotFinite`] for predictions
    /// that are not finite.
    /// # Reference
    /// Wolpert, "Stacked generalization", 1992; Breiman, "Stacked regressions", 1996 (weights not
    /// below zero). Duchi et al., ICML 2008 (projection on the simplex).
    pub fn weights(&self) -> Result<Vec<f64>, SolveError> {
        let n = self.towards.len();
        let trace: f64 = self.products.diagonal().iter().sum();
        if n == 0 || self.energy == 0.0 && trace == 0.0 {
            return Err(SolveError::NoRows);
        }
        let finite = |v: &[f64]| v.iter().all(|x| x.is_finite());
        for row in 0..n {
            if !finite(self.products.row(row)) || !self.towards[row].is_finite() {
                return Err(SolveError::NotFinite {
                    what: "the products of predictions",
                    row,
                    col: 0,
                });
            }
        }
        let mut weights = vec![1.0 / n as f64; n];
        for _ in 0..MAX_STEPS {
            let slope = |i: usize| -> f64 {
                let across = self.products.row(i).iter().zip(&weights);
                across.map(|(g, w)| g * w).sum::<f64>() - self.towards[i]
            };
            let moved: Vec<f64> = (0..n).map(|i| weights[i] - slope(i) / trace).collect();
            let next = onto_simplex(&moved);
            let step = next.iter().zip(&weights).map(|(a, b)| (a - b).abs());
            let settled = step.fold(0.0, f64::max) < SETTLED;
            weights = next;
            if settled {
                break;
            }
        }
        Ok(weights)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Returns the nearest point with no entry below zero and a sum of 1.
fn onto_simplex(point: &[f64]) -> Vec<f64> {
    let mut sorted = point.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (i, x) in sorted.iter().enumerate() {
        sum += x;
        let candidate = (sum - 1.0) / (i + 1) as f64;
        if x - candidate > 0.0 {
            shift = candidate;
        }
    }
    point.iter().map(|x| (x - shift).max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without a pattern.
    fn wave(n: usize, pace: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * pace).sin()).collect()
    }

    fn check(shares: &[f64]) {
        let all: Vec<Vec<f32>> = [0.37, 0.91, 1.73].map(|p| wave(200, p)).to_vec();
        let target: Vec<f32> = (0..200)
            .map(|i| {
                let parts = all.iter().zip(shares);
                parts.map(|(y, w)| y[i] * *w as f32).sum()
            })
            .collect();
        let mut stack = Stack::new(3);
        let views: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
        stack.add(&views, &target).unwrap();
        let found = stack.weights().unwrap();
        for (a, b) in found.iter().zip(shares) {
            // The target was rounded to f32.
            assert!((a - b).abs() < 1e-5, "{found:?} for {shares:?}");
        }
        assert!(stack.relative_error(&found) < 1e-10);
    }

    #[test]
    fn a_combination_is_found_again() {
        check(&[0.5, 0.3, 0.2]);
        check(&[0.0, 1.0, 0.0]);
        check(&[0.7, 0.3, 0.0]);
    }

    #[test]
    fn what_points_away_gets_nothing() {
        let (a, b) = (
            wave(100, 0.37),
            wave(100, 0.37).iter().map(|x| -x).collect::<Vec<_>>(),
        );
        let mut stack = Stack::new(2);
        stack.add(&[&a, &b], &a).unwrap();
        assert_eq!(stack.weights(), Ok(vec![1.0, 0.0]));
        assert_eq!(Stack::new(2).weights(), Err(SolveError::NoRows));
        assert!(stack.add(&[&a], &a).is_err());
    }
}
