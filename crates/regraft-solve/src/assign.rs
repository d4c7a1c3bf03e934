//! Linear assignment: which of one set goes with which of another, each once.

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix as Weights;

use crate::error::same;
use crate::{Matrix, SolveError};

/// Steps between zero and the largest similarity. The solver compares integers, so that no rounding
/// decides between two assignments; sums over any number of rows that fits in memory stay in range.
const STEPS: f64 = (1u64 << 40) as f64;

/// Returns for each row of `similarity` its column, each column taken once, so that the sum of what
/// was taken is as large as possible.
///
/// Similarities count in steps of the largest magnitude over 2⁴⁰; what is closer than that is equal,
/// and which of equal assignments is found depends on nothing but the matrix.
/// # Shapes
/// `similarity` is `n × n`; the result has `n` entries, a permutation of `0..n`.
/// # Errors
/// [`SolveError::Shape`] if the matrix is not square, [`SolveError::NotFinite`] for a value that is
/// not finite.
/// # Reference
/// Kuhn, "The Hungarian method for the assignment problem", 1955; Munkres, 1957. O(n³).
pub fn assign(similarity: &Matrix) -> Result<Vec<usize>, SolveError> {
    let n = similarity.rows;
    same("similarity's columns", n, similarity.cols)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    if let Some(at) = similarity.data.iter().position(|s| !s.is_finite()) {
        return Err(SolveError::NotFinite {
            what: "similarity",
            row: at / n,
            col: at % n,
        });
    }
    let largest = similarity.data.iter().fold(0.0f64, |m, s| m.max(s.abs()));
    // Dividing first: the largest may be too small for its inverse.
    let step = |s: &f64| {
        if largest > 0.0 {
            (s / largest * STEPS).round() as i64
        } else {
            0
        }
    };
    let weights = Weights::from_vec(n, n, similarity.data.iter().map(step).collect());
    let weights = weights.map_err(|_| SolveError::Shape {
        what: "similarity",
        expected: n * n,
        found: similarity.data.len(),
    })?;
    Ok(kuhn_munkres(&weights).1)
}

/// Returns the sum of what an assignment takes.
pub fn assigned(similarity: &Matrix, columns: &[usize]) -> f64 {
    let taken = columns.iter().enumerate();
    taken.map(|(row, col)| similarity.at(row, *col)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn square(n: usize) -> impl Strategy<Value = Matrix> {
        proptest::collection::vec(-1.0f64..1.0, n * n)
            .prop_map(move |data| Matrix::from_vec(n, n, data).unwrap())
    }

    /// The best sum over all permutations of five.
    fn best(similarity: &Matrix, taken: &mut Vec<usize>) -> f64 {
        let n = similarity.rows;
        if taken.len() == n {
            return assigned(similarity, taken);
        }
        let mut found = f64::NEG_INFINITY;
        for col in 0..n {
            if !taken.contains(&col) {
                taken.push(col);
                found = found.max(best(similarity, taken));
                taken.pop();
            }
        }
        found
    }

    proptest! {
        #[test]
        fn is_as_good_as_trying_all(similarity in square(5)) {
            let found = assign(&similarity).unwrap();
            let mut sorted = found.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..5).collect::<Vec<_>>());
            let gap = best(&similarity, &mut Vec::new()) - assigned(&similarity, &found);
            // Five roundings to a step of 2⁻⁴⁰.
            prop_assert!(gap.abs() < 1e-11, "{gap}");
        }

        #[test]
        fn finds_a_permutation_again(order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle()) {
            let mut similarity = Matrix::zeros(40, 40);
            for (row, col) in order.iter().enumerate() {
                similarity.set(row, *col, 1e-30);
            }
            prop_assert_eq!(assign(&similarity).unwrap(), order);
        }
    }

    #[test]
    fn refuses_what_has_no_order() {
        let mut similarity = Matrix::zeros(2, 2);
        similarity.set(1, 0, f64::NAN);
        let found = assign(&similarity);
        assert!(
            matches!(found, Err(SolveError::NotFinite { row: 1, col: 0, .. })),
            "{found:?}"
        );
        let found = assign(&Matrix::zeros(2, 3));
        assert!(matches!(found, Err(SolveError::Shape { .. })), "{found:?}");
        assert_eq!(assign(&Matrix::zeros(0, 0)), Ok(Vec::new()));
    }
}
