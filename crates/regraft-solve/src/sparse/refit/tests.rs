use proptest::prelude::*;

use super::*;
use crate::factor::cholesky;
use crate::problem::{Bias, LeastSquares};
use crate::samples;
use crate::sparse::{ObjectiveConfig, Pattern, exact_obs};

/// Against one f64 Cholesky factor per row: residuals of 1e-8 at condition numbers up to 1e4.
const AGAINST_PLAIN: f64 = 1e-5;

fn problem_of(seed: u64, n: usize, d: usize, r: usize) -> (LeastSquares, Objective) {
    let (problem, old) = samples::layer(seed, n, d, r, Bias::Fit);
    let objective = Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap();
    (problem, objective)
}

fn random_mask(seed: u64, r: usize, d: usize, keep: f32) -> Mask {
    let kept = samples::noise(seed, r * d)
        .into_iter()
        .map(|v| v < 2.0 * keep - 1.0);
    Mask::from_vec(r, d, kept.collect()).unwrap()
}

/// Solves each row alone, the plain way.
fn plain(objective: &Objective, mask: &Mask) -> Matrix {
    let mut out = Matrix::zeros(mask.rows, mask.cols);
    for row in 0..mask.rows {
        let support = mask.support(row);
        if support.is_empty() {
            continue;
        }
        let h = objective.h.select_rows(&support).unwrap();
        let h = h.select_cols(&support).unwrap();
        let g = support.iter().map(|&j| objective.g.at(row, j)).collect();
        let mut v = Matrix::from_vec(support.len(), 1, g).unwrap();
        cholesky(&h).unwrap().solve(&mut v);
        for (&j, v) in support.iter().zip(&v.data) {
            out.set(row, j, *v);
        }
    }
    out
}

fn check(objective: &Objective, mask: &Mask, found: &SupportRefit, what: &str) {
    let wanted = plain(objective, mask);
    let size = wanted.data.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    for (a, b) in found.weights.data.iter().zip(&wanted.data) {
        assert!((a - b).abs() <= AGAINST_PLAIN * size, "{what}: {a} {b}");
    }
    for (v, kept) in found.weights.data.iter().zip(&mask.kept) {
        assert!(*kept || *v == 0.0, "{what}: a weight outside the mask");
    }
    assert!(
        found.largest_residual <= ACCEPT,
        "{what}: {}",
        found.largest_residual
    );
    let wanted = objective.relative(&wanted).unwrap();
    assert!((found.relative_error - wanted).abs() <= 1e-9, "{what}");
    let ways = found.ways;
    let rows = ways.trivial + ways.direct + ways.direct_f64 + ways.complement + ways.conjugate;
    assert_eq!(rows, mask.rows, "{what}: each row takes one way");
}

#[test]
fn two_inputs_by_hand() {
    // H = [[2, 1], [1, 2]], g = (5, 7): alone they are 5/2 and 7/2, together (1, 3).
    let third = 1.0 / 3.0;
    let rows = |row: [f64; 2]| row.repeat(4);
    let objective = Objective {
        h: Matrix::from_vec(2, 2, vec![2.0, 1.0, 1.0, 2.0]).unwrap(),
        inverse: Matrix::from_vec(2, 2, vec![2.0 * third, -third, -third, 2.0 * third]).unwrap(),
        g: Matrix::from_vec(4, 2, rows([5.0, 7.0])).unwrap(),
        target: Matrix::from_vec(4, 2, rows([1.0, 3.0])).unwrap(),
        constant: 104.0,
        energy: 104.0,
        damping: 0.0,
        ladder_steps: 0,
        dead_inputs: Vec::new(),
    };
    let kept = vec![true, true, true, false, false, true, false, false];
    let mask = Mask::from_vec(4, 2, kept).unwrap();
    let found = refit_support(&objective, &mask, 1).unwrap();
    let wanted = [1.0, 3.0, 2.5, 0.0, 0.0, 3.5, 0.0, 0.0];
    for (a, b) in found.weights.data.iter().zip(wanted) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
    assert_eq!((found.ways.trivial, found.factorisations), (2, 2));
    // 26 of each row, less vᵀ g: 26, 12.5, 24.5 and 0.
    assert!((found.relative_error - (104.0 - 63.0) / 104.0).abs() < 1e-9);
}

#[test]
fn every_density_and_way_gives_the_plain_solution() {
    let (_, objective) = problem_of(2, 400, 70, 9);
    for (seed, keep) in [
        (1, 0.05),
        (2, 0.3),
        (3, 0.5),
        (4, 0.8),
        (5, 0.97),
        (6, 0.0),
        (7, 1.0),
    ] {
        let mask = random_mask(seed, 9, 70, keep);
        let found = refit_support(&objective, &mask, 2).unwrap();
        check(&objective, &mask, &found, &format!("{keep} kept"));
        match seed {
            2 => assert_eq!(found.ways.direct, 9),
            5 => assert!(found.ways.complement > 0),
            6 | 7 => assert_eq!(found.ways.trivial, 9),
            _ => {}
        }
    }
}

#[test]
fn each_way_alone_gives_the_plain_solution() {
    let (_, objective) = problem_of(3, 400, 60, 5);
    let mask = random_mask(8, 5, 60, 0.6);
    let scaled = Scaled::new(&objective.h);
    let rows: Vec<_> = (0..5).map(|row| (row, mask.row(row))).collect();
    let found = conjugate::solve(&objective, &scaled, &rows, 2000);
    assert!(
        found.residuals.iter().all(|r| *r <= ACCEPT),
        "{:?}",
        found.residuals
    );
    let wanted = plain(&objective, &mask);
    let close = |weights: &Matrix, row: usize, at: usize, what: &str| {
        let size = wanted.row(row).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        for (a, b) in weights.row(at).iter().zip(wanted.row(row)) {
            assert!(
                (a - b).abs() <= AGAINST_PLAIN * size,
                "{what}, row {row}: {a} {b}"
            );
        }
    };
    for row in 0..5 {
        close(&found.weights, row, row, "conjugate");
    }
    for unit in shared_supports(&mask) {
        let row = unit.rows[0];
        for (what, way) in direct::each_way(&objective, &scaled, &unit) {
            let (weights, residual) = way.unwrap();
            assert!(residual <= ACCEPT, "{what}: {residual}");
            close(&weights, row, 0, what);
        }
    }
    // Too few steps: the rows say that they are not done.
    let found = conjugate::solve(&objective, &scaled, &rows, 2);
    assert!(found.residuals.iter().any(|r| *r > ACCEPT));
}

#[test]
fn large_well_conditioned_rows_go_by_conjugate_gradients() {
    let (problem, _) = samples::layer(11, 2000, 400, 24, Bias::Fit);
    let mut gram = Matrix::identity(400);
    for (v, g) in gram.data.iter_mut().zip(&problem.gram.data) {
        *v += 1e-4 * g;
    }
    let problem = LeastSquares { gram, ..problem };
    let config = ObjectiveConfig::default();
    let objective = Objective::new(&problem, None, &config).unwrap();
    let mut mask = random_mask(4, 24, 400, 0.6);
    mask.row_mut(5).fill(false);
    let found = refit_support(&objective, &mask, 2).unwrap();
    check(&objective, &mask, &found, "flat spectrum");
    assert_eq!(
        (found.ways.conjugate, found.ways.trivial),
        (23, 1),
        "{:?}",
        found.ways
    );
    assert_eq!(found.factorisations, 0);
    assert!(found.steps > 0);
    let alone = refit_support(&objective, &mask, 1).unwrap();
    assert_eq!(found, alone);
}

#[test]
fn rows_with_one_support_share_its_factor() {
    let (_, objective) = problem_of(6, 300, 32, 12);
    let traces = exact_obs(&objective, Pattern::RowBlocks { rows: 4 }, 0, 1).unwrap();
    let mask = traces.mask_at(12 * 10).unwrap();
    let found = refit_support(&objective, &mask, 2).unwrap();
    check(&objective, &mask, &found, "row blocks");
    assert!(found.factorisations <= 3, "{}", found.factorisations);
    // The traces say what the refit comes to.
    let steps = traces.n_steps() - 30;
    let wanted = (traces.base + traces.curve()[steps]) / traces.energy;
    assert!((found.relative_error - wanted).abs() < 1e-9);
}

#[test]
fn threads_do_not_change_a_byte() {
    let (_, objective) = problem_of(7, 300, 80, 20);
    let mask = random_mask(9, 20, 80, 0.5);
    let one = refit_support(&objective, &mask, 1).unwrap();
    for threads in [2, 5, 64] {
        assert_eq!(one, refit_support(&objective, &mask, threads).unwrap());
    }
}

#[test]
fn hostile_grams_end_well_and_say_so() {
    let d = 30;
    let config = ObjectiveConfig {
        ladder: vec![0.0, 1e-9, 1e-6],
    };
    let mut rank_one = Matrix::zeros(d, d);
    let mut dead = Matrix::identity(d);
    for i in 0..d {
        for j in 0..d {
            rank_one.set(i, j, (1.0 + i as f64) * (1.0 + j as f64));
        }
        if i % 3 == 0 {
            dead.set(i, i, 0.0);
        }
    }
    for (name, gram) in [
        ("rank one", rank_one),
        ("dead", dead),
        ("zero", Matrix::zeros(d, d)),
    ] {
        let weights = samples::noise(1, 4 * d)
            .into_iter()
            .map(f64::from)
            .collect();
        let weights = Matrix::from_vec(4, d, weights).unwrap();
        let cross = crate::factor::product(&gram, &weights.transposed());
        let energy = crate::problem::dot(&cross.transposed().data, &weights.data);
        let problem = LeastSquares {
            gram,
            cross,
            energy,
            centre: None,
        };
        let objective = Objective::new(&problem, None, &config).unwrap();
        assert!(objective.damping > 0.0);
        for keep in [0.2, 0.5, 0.9] {
            let mask = random_mask(3, 4, d, keep);
            let found = refit_support(&objective, &mask, 1).unwrap();
            assert!(found.damping.to_bits() == objective.damping.to_bits());
            assert!(
                found.largest_residual <= ACCEPT,
                "{name} {keep}: {}",
                found.largest_residual
            );
            assert!(found.weights.data.iter().all(|v| v.is_finite()), "{name}");
            for row in 0..4 {
                let mut others = objective
                    .dead_inputs
                    .iter()
                    .map(|&j| found.weights.at(row, j));
                assert!(others.all(|v| v == 0.0), "{name}: weights of dead inputs");
            }
        }
    }
}

#[test]
fn the_bias_is_the_best_for_the_new_weights() {
    let (problem, objective) = problem_of(5, 300, 10, 3);
    let mask = random_mask(2, 3, 10, 0.5);
    let found = refit_support(&objective, &mask, 1).unwrap();
    let bias = problem.best_bias(&found.weights).unwrap();
    let best = problem.relative_error(&found.weights, Some(&bias)).unwrap();
    for o in 0..3 {
        let mut other = bias.clone();
        other[o] += 1e-2;
        let worse = problem
            .relative_error(&found.weights, Some(&other))
            .unwrap();
        assert!(worse > best);
    }
}

#[test]
fn a_mask_that_does_not_fit_is_refused() {
    let (_, objective) = problem_of(5, 300, 10, 3);
    assert!(refit_support(&objective, &Mask::full(3, 9), 1).is_err());
    assert!(refit_support(&objective, &Mask::full(2, 10), 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_perturbed_solution_on_the_support_is_better(seed in 0_u64..1000, keep in 0.1_f32..1.0) {
        let (_, objective) = problem_of(seed, 80, 14, 3);
        let mask = random_mask(seed + 5, 3, 14, keep);
        let found = refit_support(&objective, &mask, 1).unwrap();
        let best = objective.value(&found.weights).unwrap();
        for shift in 0..4 {
            let mut other = found.weights.clone();
            let noise = samples::noise(seed + shift, other.data.len());
            for (w, s) in other.data.iter_mut().zip(noise) {
                *w += 1e-2 * f64::from(s);
            }
            mask.apply(&mut other).unwrap();
            // Equal only where the mask keeps nothing; else f64 rounding of the constant.
            prop_assert!(objective.value(&other).unwrap() >= best - 1e-12 * objective.constant);
        }
    }
}
