use super::{Decomposition, Scales, Term, best_outer, cp, output_spectrum, plain_spectrum};
use crate::factor::product;
use crate::sparse::ObjectiveConfig;
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

/// Weights that are a product of rank `k` and a few single ones, on inputs that lean on each other.
fn mixed(r: usize, d: usize, k: usize, single: usize) -> (LeastSquares, Matrix) {
    let (p, _) = problem(r, d, 21);
    let mut w = product(&matrix(r, k, 31), &matrix(k, d, 32));
    for (at, value) in numbers(single, 33).iter().enumerate() {
        let place = (at * 7919) % (r * d);
        w.data[place] += 6.0 * value.signum() + value;
    }
    (p.reproducing(&w).unwrap(), w)
}

fn decomposition(p: &LeastSquares, w: &Matrix, threads: usize) -> Decomposition {
    Decomposition::new(p, w, &ObjectiveConfig::starting_at(1e-6), threads).unwrap()
}

#[test]
fn both_parts_together_find_what_neither_does_alone() {
    let (r, d, k, single) = (24, 30, 2, 20);
    let (p, w) = mixed(r, d, k, single);
    let mut parts = decomposition(&p, &w, 1);
    let error = |m: &Matrix| p.relative_error(m, None).unwrap();
    let both = parts.solve(k, single, 20).unwrap();
    assert_eq!(
        both.sparse.data.iter().filter(|v| **v != 0.0).count(),
        single
    );
    assert_eq!((both.outer.cols, both.inner.rows), (k, k));
    let found = error(&both.composed());
    // As many numbers in one part alone.
    let numbers = k * (r + d) + single;
    let thin = output_spectrum(&p, &w).unwrap().error(numbers / (r + d));
    let sparse = error(&parts.solve(0, numbers, 1).unwrap().composed());
    assert!(
        found < 0.1 * thin && found < 0.1 * sparse,
        "{found} {thin} {sparse}"
    );
    assert_eq!(decomposition(&p, &w, 3).solve(k, single, 20).unwrap(), both);
}

#[test]
fn one_part_alone_is_what_its_own_method_gives() {
    let (p, w) = problem(9, 14, 41);
    let mut parts = decomposition(&p, &w, 1);
    let error = |m: &Matrix| p.relative_error(m, None).unwrap();
    let spectrum = output_spectrum(&p, &w).unwrap();
    for k in [1, 4, 9] {
        let thin = error(&parts.solve(k, 0, 5).unwrap().composed());
        assert!((thin - spectrum.error(k)).abs() < 1e-5, "rank {k}");
    }
    let all = error(&parts.solve(0, 9 * 14, 5).unwrap().composed());
    assert!(all < 1e-9);
}

#[test]
fn levels_are_one_turn_and_further_turns_never_raise_the_error() {
    let (p, w) = mixed(16, 20, 2, 30);
    let mut parts = decomposition(&p, &w, 1);
    let error = |m: &Matrix| p.relative_error(m, None).unwrap();
    let kept = [40, 20, 10, 0];
    for rank in [0, 1, 3] {
        let mut errors = Vec::new();
        let mut each = |found: super::SparseLowRank| {
            errors.push(error(&found.composed()));
            Ok(())
        };
        parts.levels(rank, &kept, &mut each).unwrap();
        assert_eq!(errors.len(), kept.len());
        assert!(errors.windows(2).all(|e| e[0] <= e[1] + 1e-9), "{errors:?}");
        for (keep, level) in kept.iter().zip(&errors) {
            let more = error(&parts.solve(rank, *keep, 8).unwrap().composed());
            assert!(more <= level + 1e-6, "{rank} {keep}: {more} {level}");
        }
    }
    assert!(parts.solve(1, 16 * 20 + 1, 1).is_err());
}

/// What terms amount to.
fn sum_of(terms: &[Term], r: usize, d: usize) -> Matrix {
    let mut sum = Matrix::zeros(r, d);
    for term in terms {
        let row = term.row();
        for o in 0..r {
            for i in 0..d {
                let value = sum.at(o, i) + term.outputs[o] * row[i];
                sum.set(o, i, value);
            }
        }
    }
    sum
}

#[test]
fn terms_of_a_kernel_that_is_a_sum_of_two_are_found() {
    let (r, channels, kernel) = (6, 4, [3, 2]);
    let d = channels * 6;
    let term = |seed: u64| Term {
        outputs: numbers(r, seed),
        channels: numbers(channels, seed + 1),
        kernel: [numbers(3, seed + 2), numbers(2, seed + 3)],
    };
    let w = sum_of(&[term(31), term(41)], r, d);
    let (p, _) = problem(r, d, 9);
    let p = p.reproducing(&w).unwrap();
    let found = cp(&p, &w, kernel, &[1, 2, 4]).unwrap();
    let errors: Vec<f64> = found
        .iter()
        .map(|terms| p.relative_error(&sum_of(terms, r, d), None).unwrap())
        .collect();
    assert!(errors[0] > 0.01 && errors[0] < 1.0, "{errors:?}");
    // Turns come near, not all the way.
    assert!(errors[1] < 0.1 * errors[0], "{errors:?}");
    assert!(errors[2] < 0.1 * errors[1], "{errors:?}");
}

#[test]
fn more_terms_leave_less_and_never_less_than_the_best_product_of_their_number() {
    let (p, w) = problem(8, 18, 21);
    let ranks = [1, 2, 4, 8];
    let found = cp(&p, &w, [3, 3], &ranks).unwrap();
    let whole = output_spectrum(&p, &w).unwrap();
    let mut last = 1.0;
    for (terms, rank) in found.iter().zip(ranks) {
        let error = p.relative_error(&sum_of(terms, 8, 18), None).unwrap();
        assert!(error < last, "{rank}: {error} after {last}");
        assert!(error >= whole.error(rank) - 1e-9, "{rank}: {error}");
        last = error;
    }
    // A channel that no sample moves, and a layer of zeros, are no hindrance.
    let (mut dead, w) = problem(4, 18, 23);
    for i in 0..18 {
        for j in (0..9).chain(0..9) {
            dead.gram.set(i, j, 0.0);
            dead.gram.set(j, i, 0.0);
        }
    }
    let found = cp(&dead, &w, [3, 3], &[2]).unwrap();
    assert!(found[0].iter().flat_map(Term::row).all(f64::is_finite));
    let none = cp(&p, &Matrix::zeros(8, 18), [3, 3], &[2]).unwrap();
    assert!(none[0].iter().all(|t| t.outputs.iter().all(|u| *u == 0.0)));
}

#[test]
fn two_scales_are_the_best_of_their_form() {
    let (r, d, rank) = (7, 12, 2);
    let (p, w) = problem(r, d, 13);
    let whole = [1, 4, 7, 10];
    let scales = Scales::new(&p, &w, &whole).unwrap();
    let best = scales.factors(rank).unwrap();
    let error = p.relative_error(&best.composed, None).unwrap();
    // What the parts amount to is what they say.
    let mut sum = best.outer.times(&best.inner);
    for o in 0..r {
        for (at, i) in whole.iter().enumerate() {
            assert!(best.inner.at(0, *i).abs() < f64::MIN_POSITIVE);
            sum.set(o, *i, sum.at(o, *i) + best.whole.at(o, at));
        }
    }
    for (a, b) in sum.data.iter().zip(&best.composed.data) {
        assert!((a - b).abs() < 1e-12);
    }
    // Any other product beside the best weights of the whole inputs leaves no less.
    for seed in 0..40 {
        let mut rows = Matrix::zeros(whole.len() + rank, d);
        for (at, i) in whole.iter().enumerate() {
            rows.set(at, *i, 1.0);
        }
        for k in 0..rank {
            let own = numbers(d, 300 + 2 * seed + k as u64);
            rows.row_mut(whole.len() + k).copy_from_slice(&own);
        }
        let other = best_outer(&p, &rows).unwrap().error;
        assert!(other >= error - 1e-9, "{other} {error}");
    }
    // Steps from the best parts, too.
    for seed in 0..20 {
        let mut near = best.composed.clone();
        let step = matrix(r, rank, 500 + seed).times(&best.inner);
        for (n, s) in near.data.iter_mut().zip(&step.data) {
            *n += 1e-3 * s;
        }
        assert!(p.relative_error(&near, None).unwrap() >= error - 1e-12);
    }
    let all = scales.factors(r).unwrap();
    assert!(p.relative_error(&all.composed, None).unwrap() < 1e-9);
}

#[test]
fn the_plain_spectrum_is_that_of_inputs_that_are_all_alike() {
    for (r, d) in [(7, 11), (11, 7)] {
        let (p, w) = problem(r, d, 3);
        let alike = LeastSquares {
            gram: Matrix::identity(d),
            ..p.clone()
        };
        let (plain, whitened) = (
            plain_spectrum(&w).unwrap(),
            output_spectrum(&alike, &w).unwrap(),
        );
        for (a, b) in plain.values.iter().zip(&whitened.values) {
            assert!((a - b).abs() < 1e-9);
        }
        let (u, v) = plain.factors(3).unwrap();
        let product = u.times(&v);
        let left = w
            .data
            .iter()
            .zip(&product.data)
            .map(|(a, b)| (a - b).powi(2));
        let all: f64 = w.data.iter().map(|a| a * a).sum();
        assert!((left.sum::<f64>() / all - plain.error(3)).abs() < 1e-9);
        // On the layer's own inputs it is no better than the one that knows them.
        let own = output_spectrum(&p, &w).unwrap().error(3);
        assert!(p.relative_error(&product, None).unwrap() >= own - 1e-9);
    }
}
