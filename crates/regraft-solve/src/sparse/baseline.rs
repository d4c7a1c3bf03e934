//! Masks from weights and input moments alone: magnitude and Wanda.
//!
//! Both leave the weights as they are. With a refit afterwards they are the baselines that any
//! method with second-order information has to beat.

use super::select::{Keep, highest};
use super::{Mask, Pattern};
use crate::error::{SolveError, same};
use crate::matrix::Matrix;

/// Returns the mask of the largest `|w|`; a block of outputs counts with the sum of its squares.
/// # Shapes
/// `weights`: `r × d`.
/// # Errors
/// Pattern and option errors for arguments that do not fit; [`SolveError::NotFinite`].
pub fn magnitude(weights: &Matrix, pattern: Pattern, keep: Keep) -> Result<Mask, SolveError> {
    scored(weights, pattern, keep, |_| 1.0)
}

/// Returns the mask of the largest `w_ij² E[x_j²]`: Wanda's `|w_ij| ‖x_j‖`, squared.
///
/// [`Keep::PerRow`] is the paper's choice for language models; [`Keep::Layer`] lets outputs have
/// different numbers of connections.
/// # Shapes
/// `weights`: `r × d`; `second_moments`: `d`, the diagonal of the Gram.
/// # Errors
/// As [`magnitude`]; [`SolveError::Option`] for a negative moment.
/// # Reference
/// Sun, Liu, Bair, Kolter: A Simple and Effective Pruning Approach for Large Language Models,
/// ICLR 2024, equation 1.
pub fn wanda(
    weights: &Matrix,
    second_moments: &[f64],
    pattern: Pattern,
    keep: Keep,
) -> Result<Mask, SolveError> {
    same("second moments", weights.cols, second_moments.len())?;
    if let Some(&value) = second_moments.iter().find(|m| m.is_nan() || **m < 0.0) {
        return Err(SolveError::Option {
            option: "second_moments",
            value,
            expected: "a mean of squares is needed",
        });
    }
    scored(weights, pattern, keep, |j| second_moments[j])
}

fn scored(
    weights: &Matrix,
    pattern: Pattern,
    keep: Keep,
    factor: impl Fn(usize) -> f64,
) -> Result<Mask, SolveError> {
    weights.check_finite("weights")?;
    let mut scores = weights.clone();
    for row in scores.data.chunks_exact_mut(weights.cols.max(1)) {
        for (j, value) in row.iter_mut().enumerate() {
            let square = *value * *value;
            *value = square * factor(j);
        }
    }
    highest(&scores, pattern, keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_change_which_weights_stay() {
        let weights = Matrix::from_vec(2, 2, vec![3.0, -1.0, 0.5, 2.0]).unwrap();
        let by_weight = magnitude(&weights, Pattern::Unstructured, Keep::Layer(2)).unwrap();
        assert_eq!(by_weight.kept, [true, false, false, true]);
        // Squares times moments: 9·0.01, 1·4, 0.25·0.01, 4·4.
        let moments = [0.01, 4.0];
        let layer = wanda(&weights, &moments, Pattern::Unstructured, Keep::Layer(2)).unwrap();
        assert_eq!(layer.kept, [false, true, false, true]);
        let negative = wanda(
            &weights,
            &[1.0, -1.0],
            Pattern::Unstructured,
            Keep::Layer(2),
        );
        assert!(negative.is_err());
    }
}
