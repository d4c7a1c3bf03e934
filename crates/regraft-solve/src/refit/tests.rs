use super::*;
use crate::problem::{Bias, Centre};
use crate::samples::{layer, noise};
use proptest::prelude::*;

/// f64 solves of well-conditioned systems of this size.
const F64_SOLVE: f64 = 1e-9;

fn plain(gram: &[f64], cross: &[f64], energy: f64) -> LeastSquares {
    let d = (gram.len() as f64).sqrt() as usize;
    LeastSquares {
        gram: Matrix::from_vec(d, d, gram.to_vec()).unwrap(),
        cross: Matrix::from_vec(d, cross.len() / d, cross.to_vec()).unwrap(),
        energy,
        centre: None,
    }
}

fn config(ladder: &[f64], anchor: Anchor) -> RefitConfig {
    RefitConfig {
        ladder: ladder.to_vec(),
        anchor,
    }
}

#[test]
fn scaling_by_hand() {
    // x = 1, 2 and y = 2, 4: G = 2.5, C = 5, energy 10. Damping λ·2.5, anchor 1.
    let problem = plain(&[2.5], &[5.0], 10.0);
    let old = Matrix::from_vec(1, 1, vec![1.0]).unwrap();
    let old = OldWeights {
        weights: &old,
        bias: None,
    };
    for (ladder, anchor, weight) in [
        ([0.0], Anchor::Zero, 2.0),
        ([0.5], Anchor::Zero, 5.0 / 3.75),
        ([0.5], Anchor::Old, (5.0 + 1.25) / 3.75),
        ([0.0], Anchor::Old, 2.0),
    ] {
        let found = refit(&problem, &[0], Some(old), &config(&ladder, anchor)).unwrap();
        assert!((found.weights.data[0] - weight).abs() < F64_SOLVE);
        // Error of weight w: 2.5 (w - 2)² of 10.
        assert!((found.error_before.unwrap() - 0.25).abs() < F64_SOLVE);
        let after = 0.25 * (weight - 2.0).powi(2);
        assert!((found.error_after - after).abs() < F64_SOLVE);
        assert_eq!((found.damping, found.ladder_steps), (ladder[0], 0));
    }
}

#[test]
fn off_diagonal_by_hand() {
    // H = (2 1; 1 2), C = (3, 3): the solution is (1, 1), and its error E - 6.
    let problem = plain(&[2.0, 1.0, 1.0, 2.0], &[3.0, 3.0], 8.0);
    let found = refit(&problem, &[0, 1], None, &config(&[0.0], Anchor::Old)).unwrap();
    assert!(
        found
            .weights
            .data
            .iter()
            .all(|w| (w - 1.0).abs() < F64_SOLVE)
    );
    assert!((found.error_after - 0.25).abs() < F64_SOLVE);
    // Only the second input: w = 1.5, error 8 - 4.5.
    let found = refit(&problem, &[1], None, &config(&[0.0], Anchor::Old)).unwrap();
    assert!((found.weights.data[0] - 1.5).abs() < F64_SOLVE);
    assert!((found.error_after - 3.5 / 8.0).abs() < F64_SOLVE);
    assert_eq!(found.error_before, None);
}

#[test]
fn bias_is_exact_and_never_damped() {
    // y = 2 x + 3 over x = 0, 2: mean 1 and 5, variance of y 4.
    let mut problem = plain(&[1.0], &[2.0], 4.0);
    problem.centre = Some(Centre {
        x_mean: vec![1.0],
        y_mean: vec![5.0],
    });
    let found = refit(&problem, &[0], None, &config(&[0.0], Anchor::Old)).unwrap();
    assert!((found.bias.unwrap()[0] - 3.0).abs() < F64_SOLVE);
    // No input at all: the bias is the mean of the targets, all variance is left.
    let found = refit(&problem, &[], None, &RefitConfig::default()).unwrap();
    assert_eq!(found.bias.unwrap(), [5.0]);
    assert!((found.error_after - 1.0).abs() < F64_SOLVE);
    // A huge damping keeps the mean: w -> 0, b -> 5.
    let found = refit(&problem, &[0], None, &config(&[1e12], Anchor::Zero)).unwrap();
    assert!((found.bias.unwrap()[0] - 5.0).abs() < F64_SOLVE);
}

#[test]
fn augmented_system_gives_the_same_answer() {
    let (problem, _) = layer(4, 300, 6, 3, Bias::Fit);
    let centre = problem.centre.clone().unwrap();
    let found = refit(
        &problem,
        &[0, 1, 2, 3, 4, 5],
        None,
        &config(&[0.0], Anchor::Old),
    )
    .unwrap();
    // Undo the centring and solve the 7 × 7 system of [x; 1] instead.
    let mut gram = Matrix::zeros(7, 7);
    let mut cross = Matrix::zeros(7, 3);
    for i in 0..7 {
        let xi = centre.x_mean.get(i).copied().unwrap_or(1.0);
        for j in 0..7 {
            let xj = centre.x_mean.get(j).copied().unwrap_or(1.0);
            let centred = if i < 6 && j < 6 {
                problem.gram.at(i, j)
            } else {
                0.0
            };
            gram.set(i, j, centred + xi * xj);
        }
        for o in 0..3 {
            let centred = if i < 6 { problem.cross.at(i, o) } else { 0.0 };
            cross.set(i, o, centred + xi * centre.y_mean[o]);
        }
    }
    crate::factor::cholesky(&gram).unwrap().solve(&mut cross);
    for o in 0..3 {
        for i in 0..6 {
            assert!((found.weights.at(o, i) - cross.at(i, o)).abs() < F64_SOLVE);
        }
        assert!((found.bias.as_ref().unwrap()[o] - cross.at(6, o)).abs() < F64_SOLVE);
    }
}

#[test]
fn dead_inputs_are_named_and_keep_the_old_weights() {
    let problem = plain(
        &[0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0],
        &[0.0, 4.0, 0.0],
        8.0,
    );
    let old = Matrix::from_vec(1, 3, vec![7.0, 1.0, 9.0]).unwrap();
    let old = OldWeights {
        weights: &old,
        bias: None,
    };
    let found = refit(
        &problem,
        &[0, 1, 2],
        Some(old),
        &config(&[0.0], Anchor::Old),
    )
    .unwrap();
    assert_eq!(found.dead_inputs, [0, 2]);
    assert_eq!(found.weights.data, [7.0, 2.0, 9.0]);
    let all_dead = plain(&[0.0; 4], &[0.0; 2], 1.0);
    let found = refit(&all_dead, &[0, 1], None, &RefitConfig::default()).unwrap();
    assert_eq!((found.damping, found.dead_inputs.len()), (0.0, 2));
    assert!((found.error_after - 1.0).abs() < F64_SOLVE);
}

#[test]
fn rank_one_climbs_the_ladder_and_says_so() {
    let problem = plain(&[1.0; 9], &[1.0; 3], 1.0);
    let found = refit(&problem, &[0, 1, 2], None, &RefitConfig::starting_at(0.0)).unwrap();
    assert_eq!((found.damping, found.ladder_steps), (1e-2, 1));
    assert!(found.eigen_clamp.is_none());
    assert!(found.error_after < 1e-4);
}

#[test]
fn indefinite_is_clamped_or_an_error() {
    // Eigenvalues 3.2 and -1.2 (mean diagonal 1): no rung up to 1 helps.
    let problem = plain(&[1.0, 2.2, 2.2, 1.0], &[1.0, 1.0], 1.0);
    let found = refit(&problem, &[0, 1], None, &RefitConfig::default()).unwrap();
    let clamp = found.eigen_clamp.unwrap();
    assert_eq!((clamp.clamped, found.ladder_steps), (1, 6));
    assert!((clamp.smallest + 1.2).abs() < F64_SOLVE);
    // Eigenvalues -5, 4 and 4: not nearly a Gram matrix.
    let mut gram = Matrix::from_vec(3, 3, vec![-3.0; 9]).unwrap();
    (0..3).for_each(|i| gram.set(i, i, 1.0));
    let problem = plain(&gram.data, &[1.0; 3], 1.0);
    let found = refit(
        &problem,
        &[0, 1, 2],
        None,
        &config(&[0.0, 1.0], Anchor::Old),
    );
    // The last rung makes the diagonal 2: the second pivot is 2 - 9 / 2.
    let Err(SolveError::NotPositiveDefinite { pivot, n, value }) = found else {
        panic!("{found:?}");
    };
    assert_eq!((pivot, n), (1, 3));
    assert!((value + 2.5).abs() < F64_SOLVE);
}

#[test]
fn right_weights_come_back_unchanged() {
    let (raw, weights) = layer(11, 400, 8, 3, Bias::None);
    let gram = crate::gram::Gram {
        n: 400,
        matrix: raw.gram,
        mean: vec![0.0; 8],
    };
    let problem = LeastSquares::from_weights(&gram, &weights, Bias::Fit).unwrap();
    let kept: Vec<usize> = (0..8).collect();
    let old = OldWeights {
        weights: &weights,
        bias: None,
    };
    let found = refit(&problem, &kept, Some(old), &RefitConfig::default()).unwrap();
    for (new, old) in found.weights.data.iter().zip(&weights.data) {
        assert!((new - old).abs() < 1e-12, "{new} is not {old}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let problem = plain(&[1.0, 0.0, 0.0, 1.0], &[1.0, 1.0], 1.0);
    let bad = |kept: &[usize], ladder: &[f64]| {
        refit(&problem, kept, None, &config(ladder, Anchor::Old)).is_err()
    };
    assert!(bad(&[2], &[0.1]));
    assert!(bad(&[0, 0], &[0.1]));
    assert!(bad(&[0], &[]));
    assert!(bad(&[0], &[f64::NAN]));
    assert!(bad(&[0], &[-1.0]));
    let narrow = Matrix::zeros(1, 3);
    let old = OldWeights {
        weights: &narrow,
        bias: None,
    };
    assert!(refit(&problem, &[0], Some(old), &RefitConfig::default()).is_err());
}

/// `energy·error + λ s ‖W − W₀‖²`, straight from its definition.
fn objective(
    problem: &LeastSquares,
    kept: &[usize],
    weights: &Matrix,
    old: &Matrix,
    damping: f64,
) -> f64 {
    let part = problem.restricted(kept).unwrap();
    let moments = part.second_moments();
    let scale = moments.iter().sum::<f64>() / moments.len() as f64;
    let anchor = old.select_cols(kept).unwrap();
    let distance = weights.data.iter().zip(&anchor.data);
    let distance: f64 = distance.map(|(a, b)| (a - b).powi(2)).sum();
    part.relative_error(weights, None).unwrap() * part.energy + damping * scale * distance
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_perturbation_lowers_the_objective(
        seed in 0_u64..1000,
        d in 2_usize..9,
        r in 1_usize..4,
        bias in prop::bool::ANY,
        size in 1e-3_f64..1.0,
    ) {
        let bias = if bias { Bias::Fit } else { Bias::None };
        let (problem, weights) = layer(seed, 60, d, r, bias);
        let kept: Vec<usize> = (0..d).filter(|i| i % 3 != 1).collect();
        let old = OldWeights { weights: &weights, bias: None };
        let found = refit(&problem, &kept, Some(old), &RefitConfig::default()).unwrap();
        let best = objective(&problem, &kept, &found.weights, &weights, found.damping);
        let mut other = found.weights.clone();
        for (w, p) in other.data.iter_mut().zip(noise(seed + 9, r * d)) {
            *w += size * f64::from(p);
        }
        let worse = objective(&problem, &kept, &other, &weights, found.damping);
        prop_assert!(worse >= best - F64_SOLVE * problem.energy);
        prop_assert!(found.error_after <= found.error_before.unwrap() + F64_SOLVE);
    }
}
