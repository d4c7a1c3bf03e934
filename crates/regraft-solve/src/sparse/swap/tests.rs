use super::*;
use crate::problem::Bias;
use crate::samples;
use crate::sparse::{ObjectiveConfig, refit_support};

/// f64 sums of a few hundred terms, relative to the objective.
const ROUNDING: f64 = 1e-8;

fn objective(seed: u64, d: usize, r: usize) -> Objective {
    let (problem, old) = samples::layer(seed, 40 * d, d, r, Bias::Fit);
    Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap()
}

fn random_mask(seed: u64, r: usize, d: usize, share: f32) -> Mask {
    let kept = samples::noise(seed, r * d)
        .iter()
        .map(|x| *x < 2.0 * share - 1.0)
        .collect();
    Mask::from_vec(r, d, kept).unwrap()
}

fn value(objective: &Objective, mask: &Mask) -> f64 {
    let weights = refit_support(objective, mask, 1).unwrap().weights;
    objective.value(&weights).unwrap()
}

#[test]
fn every_change_is_what_a_refit_measures() {
    let objective = objective(3, 9, 1);
    let mask = random_mask(5, 1, 9, 0.5);
    let mut tableau = Tableau::new(9);
    tableau.load(&objective.h.data, objective.g.row(0), mask.row(0));
    let before = value(&objective, &mask);
    for j in mask.support(0) {
        let mut dropped = mask.clone();
        dropped.kept[j] = false;
        let cost = value(&objective, &dropped) - before;
        assert!((cost - tableau.drop_cost(j)).abs() < ROUNDING * objective.constant);
        for i in (0..9).filter(|i| !mask.kept[*i]) {
            let mut swapped = dropped.clone();
            swapped.kept[i] = true;
            let change = value(&objective, &swapped) - before;
            let predicted = tableau.swap_change(j, i, objective.h.at(i, i));
            assert!(
                (change - predicted).abs() < ROUNDING * objective.constant,
                "{j} {i}"
            );
        }
    }
    for i in (0..9).filter(|i| !mask.kept[*i]) {
        let mut added = mask.clone();
        added.kept[i] = true;
        let gain = before - value(&objective, &added);
        let predicted = tableau.add_gain(i, objective.h.at(i, i));
        assert!((gain - predicted).abs() < ROUNDING * objective.constant);
    }
}

#[test]
fn a_support_swept_at_once_is_one_swept_step_by_step() {
    let objective = objective(17, 60, 1);
    let mask = random_mask(18, 1, 60, 0.6);
    assert!(mask.n_kept() > 24);
    let mut at_once = Tableau::new(60);
    at_once.load(&objective.h.data, objective.g.row(0), mask.row(0));
    let mut by_steps = Tableau::new(60);
    by_steps.load(&objective.h.data, objective.g.row(0), &[false; 60]);
    mask.support(0).into_iter().for_each(|j| by_steps.flip(j));
    assert_eq!(at_once.kept(), by_steps.kept());
    let scale = objective.constant;
    for j in mask.support(0) {
        let (a, b) = (at_once.drop_cost(j), by_steps.drop_cost(j));
        assert!((a - b).abs() < ROUNDING * scale, "{j}: {a} {b}");
        for i in (0..60).filter(|i| !mask.kept[*i]) {
            let h = objective.h.at(i, i);
            let change = |t: &Tableau| t.swap_change(j, i, h);
            assert!((change(&at_once) - change(&by_steps)).abs() < ROUNDING * scale);
            let gain = |t: &Tableau| t.add_gain(i, h);
            assert!((gain(&at_once) - gain(&by_steps)).abs() < ROUNDING * scale);
        }
    }
}

#[test]
fn the_gain_is_measured_and_the_count_stays() {
    for seed in 0..4 {
        let objective = objective(10 + seed, 24, 6);
        for threads in [1, 3] {
            let mut mask = random_mask(20 + seed, 6, 24, 0.4);
            let (kept, before) = (mask.n_kept(), value(&objective, &mask));
            let config = SwapConfig {
                passes: 20,
                ..SwapConfig::default()
            };
            let report = swap(&objective, &mut mask, &config, threads).unwrap();
            let gain = before - value(&objective, &mask);
            assert_eq!(mask.n_kept(), kept);
            assert!(report.swaps > 0 && gain > 0.0);
            assert!(
                (gain - report.gain).abs() < ROUNDING * objective.constant,
                "{gain} {report:?}"
            );
        }
    }
}

#[test]
fn no_single_swap_is_left() {
    let objective = objective(31, 12, 2);
    let mut mask = random_mask(7, 2, 12, 0.5);
    let config = SwapConfig {
        passes: 50,
        tolerance: 0.0,
        ..SwapConfig::default()
    };
    swap(&objective, &mut mask, &config, 1).unwrap();
    let best = value(&objective, &mask);
    for row in 0..2 {
        for j in mask.support(row) {
            for i in (0..12).filter(|i| !mask.row(row)[*i]) {
                let mut other = mask.clone();
                other.row_mut(row)[j] = false;
                other.row_mut(row)[i] = true;
                assert!(value(&objective, &other) >= best - ROUNDING * objective.constant);
            }
        }
    }
}

#[test]
fn groups_keep_their_number_and_blocks_are_left_alone() {
    let objective = objective(41, 16, 3);
    let mut mask = Mask::full(3, 16);
    (0..48)
        .filter(|k| k % 4 < 2)
        .for_each(|k| mask.kept[k] = false);
    let pattern = Pattern::Grouped { keep: 2, group: 4 };
    let config = SwapConfig {
        pattern,
        passes: 5,
        ..SwapConfig::default()
    };
    let before = value(&objective, &mask);
    let report = swap(&objective, &mut mask, &config, 1).unwrap();
    assert!(report.swaps > 0 && value(&objective, &mask) < before);
    assert!(
        mask.kept
            .chunks(4)
            .all(|g| g.iter().filter(|k| **k).count() == 2)
    );
    let config = SwapConfig {
        pattern: Pattern::RowBlocks { rows: 3 },
        ..config
    };
    let unchanged = mask.clone();
    assert!(swap(&objective, &mut mask, &config, 1).unwrap().skipped);
    assert_eq!(mask, unchanged);
}
