use super::{best_outer, output_spectrum};
use crate::factor::product;
use crate::{Bias, Gram, LeastSquares, Matrix};

/// Numbers that look random, the same on every run.
fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn matrix(rows: usize, cols: usize, seed: u64) -> Matrix {
    Matrix::from_vec(rows, cols, numbers(rows * cols, seed)).unwrap()
}

/// A problem on `n` rows of inputs that lean on each other, and its weights.
fn problem(r: usize, d: usize, seed: u64) -> (LeastSquares, Matrix) {
    let n = 4 * d;
    let x = product(&matrix(n, d, seed), &matrix(d, d, seed + 1));
    let mut gram = product(&x.transposed(), &x);
    gram.data.iter_mut().for_each(|v| *v /= n as f64);
    let gram = Gram {
        n: n as u64,
        matrix: gram,
        mean: vec![0.0; d],
    };
    let w = matrix(r, d, seed + 2);
    let problem = LeastSquares::from_weights(&gram, &w, Bias::None).unwrap();
    (problem, w)
}

#[test]
fn the_error_of_a_rank_is_what_its_factors_leave() {
    for (r, d) in [(7, 11), (11, 7), (5, 5)] {
        let (p, w) = problem(r, d, 3);
        let found = output_spectrum(&p, &w).unwrap();
        for k in 0..=r {
            let (u, v) = found.factors(k).unwrap();
            let left = p.relative_error(&product(&u, &v), None).unwrap();
            assert!((left - found.error(k)).abs() < 1e-9, "{r}x{d} rank {k}");
        }
        assert!(found.error(r.min(d)) < 1e-12);
    }
}

#[test]
fn no_product_of_that_rank_is_better() {
    let (p, w) = problem(8, 12, 5);
    let best = output_spectrum(&p, &w).unwrap().error(3);
    for seed in 0..50 {
        // The best outer factor for an arbitrary inner one of the same rank.
        let inner = matrix(3, 12, 100 + seed);
        let other = best_outer(&p, &inner).unwrap().error;
        assert!(other >= best - 1e-9, "{other} {best}");
    }
    // Plain singular vectors know nothing of the inputs.
    let alike = LeastSquares {
        gram: Matrix::identity(12),
        ..p.clone()
    };
    let (_, plain) = output_spectrum(&alike, &w).unwrap().factors(3).unwrap();
    assert!(best_outer(&p, &plain).unwrap().error > best);
}

#[test]
fn the_outer_factor_is_that_of_the_normal_equations() {
    let (p, w) = problem(4, 9, 8);
    let whole = best_outer(&p, &Matrix::identity(9)).unwrap();
    assert!(whole.error < 1e-9);
    for (a, b) in whole.weights.data.iter().zip(&w.data) {
        assert!((a - b).abs() < 1e-4);
    }
    let found = best_outer(&p, &w).unwrap();
    assert!(found.error < 1e-9, "the layer itself as inner factor");
}
