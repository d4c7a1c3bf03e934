use super::*;
use crate::problem::Bias;
use crate::refit::{Anchor, RefitConfig, refit};
use crate::samples::layer;

/// The curve and a refit solve the same f64 system in another order.
const SAME_SYSTEM: f64 = 1e-8;

fn channels(n_units: usize, k: usize) -> Vec<Vec<usize>> {
    (0..n_units)
        .map(|u| (u * k..(u + 1) * k).collect())
        .collect()
}

fn no_damping() -> ObsConfig {
    ObsConfig { ladder: vec![0.0] }
}

fn reader<'a>(problem: &'a LeastSquares, units: &'a [Vec<usize>]) -> Consumer<'a> {
    Consumer {
        problem,
        units,
        weight: 1.0,
        anchor: None,
    }
}

/// Returns the relative error of an exact refit on the inputs of the kept units.
fn refit_error(problem: &LeastSquares, units: &[Vec<usize>], kept: &[usize]) -> f64 {
    let cols: Vec<usize> = kept.iter().flat_map(|&u| units[u].clone()).collect();
    let config = RefitConfig {
        ladder: vec![0.0],
        anchor: Anchor::Zero,
    };
    refit(problem, &cols, None, &config).unwrap().error_after
}

#[test]
fn every_point_of_the_curve_is_an_exact_refit() {
    // 60 columns: the state is rebuilt on the way.
    for (n_units, k) in [(5, 1), (12, 5), (7, 9)] {
        let (problem, _) = layer(n_units as u64, 900, n_units * k, 6, Bias::Fit);
        let units = channels(n_units, k);
        let found = eliminate(
            &[reader(&problem, &units)],
            &vec![true; n_units],
            &no_damping(),
        )
        .unwrap();
        assert_eq!(found.removals.len(), n_units);
        for (t, error) in found.curve.iter().enumerate() {
            let kept = found.kept_after(t, n_units);
            let exact = refit_error(&problem, &units, &kept);
            assert!((error - exact).abs() < SAME_SYSTEM, "{t}: {error} {exact}");
        }
        assert!(found.curve.windows(2).all(|p| p[0] <= p[1]));
        assert!((found.curve[n_units] - 1.0).abs() < SAME_SYSTEM);
    }
}

#[test]
fn greedy_takes_the_unit_that_brute_force_takes() {
    let (problem, _) = layer(21, 500, 24, 5, Bias::Fit);
    let units = channels(8, 3);
    let consumers = [reader(&problem, &units)];
    let found = eliminate(&consumers, &[true; 8], &no_damping()).unwrap();
    let scores = drop_scores(&consumers, 8, &no_damping()).unwrap();
    let all: Vec<usize> = (0..8).collect();
    let start = refit_error(&problem, &units, &all);
    for t in 0..7 {
        let kept = found.kept_after(t, 8);
        let best = kept
            .iter()
            .map(|&gone| {
                let rest: Vec<usize> = kept.iter().copied().filter(|&u| u != gone).collect();
                (refit_error(&problem, &units, &rest), gone)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap();
        assert_eq!(found.removals[t].unit, best.1, "step {t}");
    }
    for (unit, score) in scores.iter().enumerate() {
        let rest: Vec<usize> = all.iter().copied().filter(|&u| u != unit).collect();
        let rise = (refit_error(&problem, &units, &rest) - start) * problem.energy;
        assert!((score - rise).abs() < SAME_SYSTEM * problem.energy);
    }
}

#[test]
fn beats_magnitude_with_the_same_refit() {
    let (mut greedy, mut magnitude, mut worse) = (0.0, 0.0, 0);
    for seed in 0..20 {
        let (problem, weights) = layer(seed, 400, 30, 8, Bias::Fit);
        let units = channels(10, 3);
        let norm = |u: usize| -> f64 {
            let rows = 0..weights.rows;
            rows.flat_map(|o| units[u].iter().map(move |&i| (o, i)))
                .map(|(o, i)| weights.at(o, i).powi(2))
                .sum()
        };
        let mut order: Vec<usize> = (0..10).collect();
        order.sort_by(|&a, &b| norm(a).total_cmp(&norm(b)));
        let consumers = [reader(&problem, &units)];
        let config = ObsConfig::default();
        let obs = eliminate(&consumers, &[true; 10], &config).unwrap().curve[5];
        let by_size = eliminate_in_order(&consumers, 10, &order, &config).unwrap();
        greedy += obs;
        magnitude += by_size.curve[5];
        worse += usize::from(obs > by_size.curve[5] + SAME_SYSTEM);
    }
    assert!(greedy < 0.8 * magnitude, "{greedy} against {magnitude}");
    assert!(worse <= 1, "{worse} of 20 worse");
}

#[test]
fn coupled_consumers_sum_their_scores() {
    let (a, _) = layer(31, 400, 12, 4, Bias::Fit);
    let (b, _) = layer(32, 400, 18, 3, Bias::Fit);
    let (units_a, mut units_b) = (channels(6, 2), channels(6, 3));
    let (one, two) = (reader(&a, &units_a), reader(&b, &units_b));
    let config = ObsConfig::default();
    let single = eliminate(&[one], &[true; 6], &config).unwrap();
    // Twice the same reader, or a second one without weight: the same order and shares.
    let silent = Consumer { weight: 0.0, ..two };
    for pair in [[one, one], [one, silent]] {
        let found = eliminate(&pair, &[true; 6], &config).unwrap();
        let order = |e: &Elimination| e.removals.iter().map(|r| r.unit).collect::<Vec<_>>();
        assert_eq!(order(&found), order(&single));
        for (x, y) in found.curve.iter().zip(&single.curve) {
            assert!((x - y).abs() < SAME_SYSTEM);
        }
    }
    let (sa, sb) = (
        drop_scores(&[one], 6, &config).unwrap(),
        drop_scores(&[two], 6, &config).unwrap(),
    );
    let heavy = Consumer { weight: 3.0, ..two };
    let sum = drop_scores(&[one, heavy], 6, &config).unwrap();
    for u in 0..6 {
        assert!((sum[u] - sa[u] - 3.0 * sb[u]).abs() < SAME_SYSTEM * sum[u]);
    }
    // A unit that nobody reads costs nothing and goes first.
    units_b[4].clear();
    let mut units_a = units_a.clone();
    units_a[4].clear();
    let pair = [reader(&a, &units_a), reader(&b, &units_b)];
    let found = eliminate(&pair, &[true; 6], &config).unwrap();
    assert_eq!(found.removals[0], Removal { unit: 4, rise: 0.0 });
}

#[test]
fn protected_units_stay() {
    let (problem, _) = layer(41, 300, 12, 4, Bias::None);
    let units = channels(6, 2);
    let removable = [true, false, true, true, false, true];
    let found = eliminate(&[reader(&problem, &units)], &removable, &no_damping()).unwrap();
    assert_eq!(found.removals.len(), 4);
    assert_eq!(found.kept_after(4, 6), [1, 4]);
    let exact = refit_error(&problem, &units, &[1, 4]);
    assert!((found.curve[4] - exact).abs() < SAME_SYSTEM);
}

#[test]
fn damping_towards_the_old_weights_keeps_the_curve_above_zero() {
    let (problem, weights) = layer(51, 300, 16, 4, Bias::Fit);
    let units = channels(8, 2);
    let consumer = Consumer {
        anchor: Some(&weights),
        ..reader(&problem, &units)
    };
    let found = eliminate(&[consumer], &[true; 8], &ObsConfig::default()).unwrap();
    assert!(found.curve.iter().all(|e| *e >= 0.0));
    assert!(found.curve.windows(2).all(|p| p[0] <= p[1]));
    assert_eq!(found.damping, [DEFAULT_DAMPING]);
}

#[test]
fn singular_and_dead_inputs_end_well() {
    let (mut problem, _) = layer(61, 300, 12, 4, Bias::None);
    let units = channels(6, 2);
    for dead in [4, 5] {
        problem.gram.row_mut(dead).fill(0.0);
        problem.cross.row_mut(dead).fill(0.0);
        (0..12).for_each(|i| problem.gram.set(i, dead, 0.0));
    }
    for config in [ObsConfig::default(), ObsConfig::starting_at(0.0)] {
        let found = eliminate(&[reader(&problem, &units)], &[true; 6], &config).unwrap();
        assert_eq!(found.removals[0].unit, 2, "the dead unit goes first");
        assert!(found.removals[0].rise < SAME_SYSTEM);
    }
    let rank_one = LeastSquares {
        gram: Matrix::from_vec(6, 6, vec![1.0; 36]).unwrap(),
        cross: Matrix::from_vec(6, 1, vec![1.0; 6]).unwrap(),
        energy: 1.0,
        centre: None,
    };
    let units = channels(6, 1);
    let config = ObsConfig::starting_at(0.0);
    let found = eliminate(&[reader(&rank_one, &units)], &[true; 6], &config).unwrap();
    assert!(found.damping[0] > 0.0, "damping is reported");
    assert!(found.curve[5] < 0.02, "one of six equal inputs is enough");
    let empty = LeastSquares {
        gram: Matrix::zeros(6, 6),
        cross: Matrix::zeros(6, 1),
        energy: 0.0,
        centre: None,
    };
    let found = eliminate(&[reader(&empty, &units)], &[true; 6], &config).unwrap();
    assert!(found.curve.iter().all(|e| *e == 0.0));
}

#[test]
fn local_search_repairs_a_bad_choice() {
    let (problem, _) = layer(71, 400, 20, 6, Bias::Fit);
    let units = channels(10, 2);
    let consumers = [reader(&problem, &units)];
    let config = ObsConfig::default();
    let obs = eliminate(&consumers, &[true; 10], &config).unwrap();
    // Keep the five that greedy removed first.
    let bad: Vec<usize> = obs.removals[..5].iter().map(|r| r.unit).collect();
    let search = SearchConfig::default();
    let found = local_search(&consumers, &[true; 10], &bad, &config, search).unwrap();
    assert_eq!(found.kept.len(), 5);
    assert!(found.exchanged > 0);
    assert!(found.objective_after < found.objective_before);
    let start = found.objective_before / problem.energy - obs.curve[5];
    let rest = found.objective_after / problem.energy - obs.curve[5];
    assert!(rest < 0.5 * start, "{rest} of {start} left");
    // From the greedy set nothing gets worse.
    let kept = obs.kept_after(5, 10);
    let found = local_search(&consumers, &[true; 10], &kept, &config, search).unwrap();
    assert!(found.objective_after <= found.objective_before);
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let (problem, weights) = layer(81, 60, 4, 2, Bias::None);
    let config = ObsConfig::default();
    let twice = vec![vec![0, 1], vec![1, 2]];
    assert!(eliminate(&[reader(&problem, &twice)], &[true; 2], &config).is_err());
    let outside = vec![vec![0], vec![4]];
    assert!(eliminate(&[reader(&problem, &outside)], &[true; 2], &config).is_err());
    let units = channels(2, 2);
    assert!(eliminate(&[reader(&problem, &units)], &[true; 3], &config).is_err());
    let unweighted = Consumer {
        weight: f64::NAN,
        ..reader(&problem, &units)
    };
    assert!(eliminate(&[unweighted], &[true; 2], &config).is_err());
    let turned = weights.transposed();
    let anchored = Consumer {
        anchor: Some(&turned),
        ..reader(&problem, &units)
    };
    assert!(eliminate(&[anchored], &[true; 2], &config).is_err());
    let consumers = [reader(&problem, &units)];
    assert!(eliminate_in_order(&consumers, 2, &[0, 0], &config).is_err());
    assert!(eliminate_in_order(&consumers, 2, &[2], &config).is_err());
}
