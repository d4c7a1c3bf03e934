use super::*;
use crate::problem::Bias;
use crate::samples;
use crate::sparse::{ObjectiveConfig, refit_support};

fn objective(seed: u64, d: usize, r: usize) -> Objective {
    let (problem, old) = samples::layer(seed, 400, d, r, Bias::Fit);
    Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap()
}

/// All masks of `keep` connections under a pattern, by their bits.
fn masks(pattern: Pattern, keep: usize, (r, d): (usize, usize)) -> Vec<Mask> {
    let n = r * d;
    let fits = |kept: &[bool]| match pattern {
        Pattern::Unstructured => kept.iter().filter(|k| **k).count() == keep,
        Pattern::Grouped { keep, group } => kept
            .chunks_exact(group)
            .all(|run| run.iter().filter(|k| **k).count() == keep),
        Pattern::RowBlocks { rows } => {
            kept.iter().filter(|k| **k).count() == keep
                && (0..n).all(|i| kept[i] == kept[i / (rows * d) * rows * d + i % d])
        }
    };
    (0..1_u32 << n)
        .map(|bits| (0..n).map(|i| bits >> i & 1 == 1).collect::<Vec<bool>>())
        .filter(|kept| fits(kept))
        .map(|kept| Mask::from_vec(r, d, kept).unwrap())
        .collect()
}

#[test]
fn no_mask_is_below_it_and_it_is_not_far_below_the_best() {
    let patterns = [
        (Pattern::Unstructured, 3),
        (Pattern::Unstructured, 6),
        (Pattern::Unstructured, 10),
        (Pattern::Grouped { keep: 2, group: 3 }, 8),
        (Pattern::RowBlocks { rows: 2 }, 6),
    ];
    for seed in 0..4 {
        let objective = objective(seed, 6, 2);
        for (pattern, keep) in patterns {
            let every = masks(pattern, keep, (2, 6));
            let (mut least, mut best) = (f64::INFINITY, &every[0]);
            for mask in &every {
                let error = refit_support(&objective, mask, 1).unwrap().relative_error;
                if error < least {
                    (least, best) = (error, mask);
                }
            }
            let found = lower_bound(&objective, pattern, keep, best, 1).unwrap();
            let share = found.relative_error / least;
            assert!(share <= 1.0 + 1e-9, "{seed} {pattern:?} {keep}: {share}");
            assert!(share > 0.1, "{seed} {pattern:?} {keep}: {share}");
        }
    }
}

#[test]
fn of_uncorrelated_inputs_it_is_the_best_error() {
    let mut objective = objective(7, 8, 3);
    for i in 0..8 {
        for j in 0..8 {
            let value = if i == j { 1.0 + i as f64 } else { 0.0 };
            objective.h.set(i, j, value);
            objective
                .inverse
                .set(i, j, if i == j { value.recip() } else { 0.0 });
        }
    }
    objective.g = product(&objective.target, &objective.h);
    objective.constant = dot(&objective.g.data, &objective.target.data);
    let mut costs: Vec<f64> = objective
        .target
        .data
        .iter()
        .enumerate()
        .map(|(i, w)| w * w * (1.0 + (i % 8) as f64))
        .collect();
    costs.sort_unstable_by(f64::total_cmp);
    let wanted = costs[..14].iter().sum::<f64>() / objective.energy;
    let found = lower_bound(&objective, Pattern::Unstructured, 10, &Mask::full(3, 8), 1).unwrap();
    let share = found.relative_error / wanted;
    assert!((0.99..=1.0 + 1e-9).contains(&share), "{share}");
}

#[test]
fn keeping_all_costs_nothing_and_what_does_not_fit_is_refused() {
    let objective = objective(9, 6, 2);
    let all = Mask::full(2, 6);
    let any = Pattern::Unstructured;
    let found = lower_bound(&objective, any, 12, &all, 1).unwrap();
    let wanted = objective.relative(&objective.target).unwrap();
    assert!((found.relative_error - wanted).abs() < 1e-9);
    assert!(lower_bound(&objective, any, 13, &all, 1).is_err());
    assert!(lower_bound(&objective, any, 3, &Mask::full(1, 6), 1).is_err());
    assert!(lower_bound(&objective, Pattern::RowBlocks { rows: 2 }, 3, &all, 1).is_err());
}
