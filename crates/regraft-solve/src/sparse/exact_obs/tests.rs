use proptest::prelude::*;

use super::traces::hull_slopes;
use super::*;
use crate::factor::cholesky;
use crate::matrix::Matrix;
use crate::problem::{Bias, LeastSquares};
use crate::samples;
use crate::sparse::{Mask, ObjectiveConfig};

/// Rises of the panelled elimination against solving each support anew, relative to the largest:
/// both are f64 at condition numbers up to 1e5.
const BRUTE_FORCE: f64 = 1e-8;

fn objective_of(seed: u64, n: usize, d: usize, r: usize) -> Objective {
    let (problem, old) = samples::layer(seed, n, d, r, Bias::Fit);
    Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap()
}

/// Returns the least value of the objective of one row on a support.
fn row_value(objective: &Objective, row: usize, support: &[usize]) -> f64 {
    if support.is_empty() {
        return 0.0;
    }
    let h = objective.h.select_rows(support).unwrap();
    let h = h.select_cols(support).unwrap();
    let g: Vec<f64> = support.iter().map(|&j| objective.g.at(row, j)).collect();
    let mut v = Matrix::from_vec(support.len(), 1, g.clone()).unwrap();
    cholesky(&h).unwrap().solve(&mut v);
    -v.data.iter().zip(&g).map(|(v, g)| v * g).sum::<f64>()
}

/// Returns the block's removals by refitting every candidate's support.
fn brute_force(objective: &Objective, rows: &[usize], quota: Option<(usize, usize)>) -> Trace {
    let value = |support: &[usize]| {
        let each = rows.iter().map(|&row| row_value(objective, row, support));
        each.sum::<f64>()
    };
    let mut support: Vec<usize> = (0..objective.n_in()).collect();
    let mut trace = Trace::default();
    loop {
        let before = value(&support);
        let without = |j: usize| {
            let left = support.iter().copied().filter(|&i| i != j);
            left.collect::<Vec<_>>()
        };
        let may_go = |j: &usize| match quota {
            None => true,
            Some((keep, group)) => {
                support.iter().filter(|i| *i / group == j / group).count() > keep
            }
        };
        let rises = support.iter().copied().filter(may_go);
        let rises = rises.map(|j| (j, value(&without(j)) - before));
        let Some((j, rise)) = rises.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            return trace;
        };
        support = without(j);
        trace.order.push(j as u32);
        trace.rises.push(rise);
    }
}

fn check_trace(found: &Trace, wanted: &Trace, what: &str) {
    assert_eq!(found.order, wanted.order, "{what}");
    let scale = wanted.rises.iter().copied().fold(0.0, f64::max);
    for (t, (a, b)) in found.rises.iter().zip(&wanted.rises).enumerate() {
        assert!(
            (a - b).abs() <= BRUTE_FORCE * scale,
            "{what}, step {t}: {a} {b}"
        );
    }
}

#[test]
fn two_inputs_by_hand() {
    // H = [[2, 1], [1, 2]], P = [[2, -1], [-1, 2]] / 3, w = (1, 3): w² / P_jj = 1.5 and 13.5.
    // Without the first, w_2 = 3 + 0.5 and P_22 = 1/2: 24.5, in all f(0) − f(w) = w H wᵀ = 26.
    let objective = Objective {
        h: Matrix::from_vec(2, 2, vec![2.0, 1.0, 1.0, 2.0]).unwrap(),
        inverse: Matrix::from_vec(2, 2, vec![2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0])
            .unwrap(),
        g: Matrix::from_vec(1, 2, vec![5.0, 7.0]).unwrap(),
        target: Matrix::from_vec(1, 2, vec![1.0, 3.0]).unwrap(),
        constant: 26.0,
        energy: 26.0,
        damping: 0.0,
        ladder_steps: 0,
        dead_inputs: Vec::new(),
    };
    let traces = exact_obs(&objective, Pattern::Unstructured, 0, 1).unwrap();
    assert_eq!(traces.blocks[0].order, [0, 1]);
    assert!((traces.blocks[0].rises[0] - 1.5).abs() < 1e-14);
    assert!((traces.blocks[0].rises[1] - 24.5).abs() < 1e-14);
    assert_eq!((traces.base, traces.floored), (0.0, 0));
    assert_eq!(traces.mask_at(1).unwrap().kept, [false, true]);
    assert_eq!(traces.n_below(1.0), 0);
    assert_eq!(traces.n_below(2.0), 1);
    assert_eq!(traces.mask_below(30.0).unwrap().n_kept(), 0);
}

#[test]
fn every_step_is_the_best_of_all_refits() {
    // 45 inputs: the panel is flushed and the state packed on the way.
    for (seed, d) in [(1, 1), (2, 6), (3, 45)] {
        let objective = objective_of(seed, 200, d, 2);
        let traces = exact_obs(&objective, Pattern::Unstructured, 0, 1).unwrap();
        for row in 0..2 {
            let wanted = brute_force(&objective, &[row], None);
            check_trace(
                &traces.blocks[row],
                &wanted,
                &format!("{d} inputs, row {row}"),
            );
        }
        assert_eq!(traces.floored, 0);
        let wanted = objective.constant - traces.base;
        let end = traces.curve()[traces.n_steps()];
        assert!(
            (end - wanted).abs() <= BRUTE_FORCE * wanted,
            "{end} {wanted}"
        );
    }
}

#[test]
fn groups_end_on_their_quota_and_blocks_share_their_support() {
    let objective = objective_of(5, 200, 40, 4);
    for (keep, group) in [(2, 4), (1, 4), (4, 8), (5, 5)] {
        let pattern = Pattern::Grouped { keep, group };
        let traces = exact_obs(&objective, pattern, 39, 2).unwrap();
        for row in 0..4 {
            let wanted = brute_force(&objective, &[row], Some((keep, group)));
            check_trace(
                &traces.blocks[row],
                &wanted,
                &format!("{keep}:{group}, row {row}"),
            );
        }
        let mask = traces.last_mask();
        for run in mask.kept.chunks(group) {
            assert_eq!(run.iter().filter(|k| **k).count(), keep, "{keep}:{group}");
        }
        let kept = mask.n_kept();
        assert_eq!(traces.mask_at(kept), Ok(mask));
        assert!(keep == group || traces.mask_at(kept + 1).is_err());
    }
    for rows in [2, 4] {
        let pattern = Pattern::RowBlocks { rows };
        let traces = exact_obs(&objective, pattern, 0, 2).unwrap();
        for (block, trace) in traces.blocks.iter().enumerate() {
            let members: Vec<usize> = (block * rows..(block + 1) * rows).collect();
            let wanted = brute_force(&objective, &members, None);
            check_trace(trace, &wanted, &format!("blocks of {rows}, block {block}"));
        }
        let mask = traces.mask_at(81).unwrap();
        assert_eq!(mask.n_kept(), 81_usize.next_multiple_of(rows));
        for block in mask.kept.chunks(40 * rows) {
            assert!(block.chunks(40).all(|row| row == &block[..40]));
        }
    }
}

#[test]
fn slopes_are_those_of_the_lower_convex_hull() {
    assert_eq!(hull_slopes(&[]), Vec::<f64>::new());
    assert_eq!(hull_slopes(&[1.0, 2.0, 2.0, 5.0]), [1.0, 2.0, 2.0, 5.0]);
    // The costly step and the cheap ones behind it are one piece; then the first joins them.
    assert_eq!(
        hull_slopes(&[1.0, 6.0, 1.0, 2.0, 4.0]),
        [1.0, 3.0, 3.0, 3.0, 4.0]
    );
    assert_eq!(hull_slopes(&[4.0, 3.0, 2.0]), [3.0; 3]);
}

/// Returns traces with the given rises, one row each.
fn traces_of(rows: &[Vec<f64>]) -> Traces {
    let cols = rows[0].len();
    let objective = Objective {
        h: Matrix::identity(cols),
        inverse: Matrix::identity(cols),
        g: Matrix::zeros(rows.len(), cols),
        target: Matrix::zeros(rows.len(), cols),
        constant: 0.0,
        energy: 1.0,
        damping: 0.0,
        ladder_steps: 0,
        dead_inputs: Vec::new(),
    };
    let order: Vec<u32> = (0..cols as u32).collect();
    let found = rows.iter().map(|rises| {
        let (order, rises) = (order.clone(), rises.clone());
        (Trace { order, rises }, 0)
    });
    Traces::merge(&objective, Pattern::Unstructured, 1, found.collect()).unwrap()
}

/// Returns the kept prefix lengths of a mask; panics if a row has a gap.
fn removed_prefixes(mask: &Mask) -> Vec<usize> {
    let rows = (0..mask.rows).map(|row| {
        let gone = mask.row(row).iter().filter(|k| !**k).count();
        assert!(mask.row(row)[gone..].iter().all(|k| *k), "not a prefix");
        gone
    });
    rows.collect()
}

proptest! {
    #[test]
    fn merging_keeps_every_rows_order_and_is_the_best_at_every_threshold(
        rows in prop::collection::vec(prop::collection::vec(0.0..10.0_f64, 4), 1..4),
        threshold in 0.0..10.0_f64,
    ) {
        let traces = traces_of(&rows);
        let curve = traces.curve();
        prop_assert!(curve.windows(2).all(|w| w[0] <= w[1]));
        let all = rows.len() * 4;
        for removed in 0..=all {
            let gone = removed_prefixes(&traces.mask_at(all - removed).unwrap());
            let cost: f64 = gone.iter().zip(&rows).map(|(&k, r)| r[..k].iter().sum::<f64>()).sum();
            prop_assert_eq!(gone.iter().sum::<usize>(), removed);
            prop_assert!((cost - curve[removed]).abs() < 1e-9);
        }
        // Rows are independent at a fixed price: the best prefix of each, the longest of equals.
        let best: f64 = rows.iter().map(|rises| {
            let costs = (0..=4).map(|k| rises[..k].iter().sum::<f64>() - threshold * k as f64);
            costs.fold(f64::INFINITY, f64::min)
        }).sum();
        let removed = traces.n_below(threshold);
        let found = curve[removed] - threshold * removed as f64;
        prop_assert!((found - best).abs() < 1e-9, "{} {}", found, best);
        prop_assert_eq!(traces.mask_below(threshold).unwrap().n_kept(), all - removed);
    }

    #[test]
    fn early_stops_are_the_same_traces_cut(seed in 0_u64..50, min_keep in 0_usize..14) {
        let objective = objective_of(seed, 60, 12, 3);
        let whole = exact_obs(&objective, Pattern::Unstructured, 0, 1).unwrap();
        let cut = exact_obs(&objective, Pattern::Unstructured, min_keep, 2).unwrap();
        let steps = 12_usize.saturating_sub(min_keep);
        for (a, b) in cut.blocks.iter().zip(&whole.blocks) {
            prop_assert_eq!(&a.order[..], &b.order[..steps]);
            prop_assert_eq!(&a.rises[..], &b.rises[..steps]);
        }
        prop_assert_eq!(cut.min_kept(), 3 * min_keep.min(12));
        prop_assert!(min_keep == 0 || cut.mask_at(3 * min_keep.min(12) - 1).is_err());
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let objective = objective_of(8, 300, 90, 7);
    let one = exact_obs(&objective, Pattern::Unstructured, 0, 1).unwrap();
    for threads in [2, 3, 16] {
        let many = exact_obs(&objective, Pattern::Unstructured, 0, threads).unwrap();
        assert_eq!(one, many, "{threads} threads");
    }
}

/// Returns the problem of a Gram given as it is.
fn problem_of(gram: Matrix, r: usize) -> LeastSquares {
    let d = gram.rows;
    let weights: Vec<f64> = samples::noise(3, r * d)
        .into_iter()
        .map(f64::from)
        .collect();
    let weights = Matrix::from_vec(r, d, weights).unwrap();
    let cross = crate::factor::product(&gram, &weights.transposed());
    let energy = crate::problem::dot(&cross.transposed().data, &weights.data);
    LeastSquares {
        gram,
        cross,
        energy,
        centre: None,
    }
}

#[test]
fn hostile_grams_end_well_and_say_so() {
    let d = 40;
    let config = ObjectiveConfig {
        ladder: vec![0.0, 1e-9, 1e-3],
    };
    let u: Vec<f64> = (0..d).map(|i| 1.0 + i as f64 / 7.0).collect();
    let mut rank_one = Matrix::zeros(d, d);
    let mut dead = Matrix::identity(d);
    for i in 0..d {
        for j in 0..d {
            rank_one.set(i, j, u[i] * u[j]);
        }
    }
    for i in 10..20 {
        dead.set(i, i, 0.0);
    }
    let mut twins = Matrix::identity(d);
    for i in 0..d / 2 {
        twins.set(2 * i, 2 * i + 1, 1.0);
        twins.set(2 * i + 1, 2 * i, 1.0);
    }
    let cases = [
        ("rank one", rank_one),
        ("dead", dead),
        ("twins", twins),
        ("zero", Matrix::zeros(d, d)),
    ];
    for (name, gram) in cases {
        let objective = Objective::new(&problem_of(gram, 2), None, &config).unwrap();
        assert!(objective.damping > 0.0, "{name}: the damping is reported");
        let traces = exact_obs(&objective, Pattern::Unstructured, 0, 1).unwrap();
        assert_eq!(traces.n_steps(), 2 * d, "{name}");
        for trace in &traces.blocks {
            let mut order = trace.order.clone();
            order.sort_unstable();
            assert!(
                order.into_iter().eq(0..d as u32),
                "{name}: each input goes once"
            );
            assert!(
                trace.rises.iter().all(|r| *r >= 0.0 && r.is_finite()),
                "{name}"
            );
        }
        let end = traces.curve()[2 * d] + traces.base;
        let slack = 1e-5 * objective.constant.max(1e-300);
        assert!(
            (end - objective.constant).abs() <= slack,
            "{name}: {end} {}",
            objective.constant
        );
        for &j in &objective.dead_inputs {
            assert!(
                traces.blocks[0].order[..objective.dead_inputs.len()].contains(&(j as u32)),
                "{name}"
            );
        }
    }
}

#[test]
fn rounding_beyond_the_bound_is_counted() {
    // An inverse that does not belong to `h`, as if rounding had eaten it.
    let mut objective = objective_of(4, 100, 12, 2);
    objective.inverse.data.iter_mut().for_each(|v| *v *= 0.1);
    let traces = exact_obs(&objective, Pattern::Unstructured, 0, 1).unwrap();
    assert!(traces.floored > 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let objective = objective_of(4, 100, 12, 2);
    let grouped = Pattern::Grouped { keep: 2, group: 5 };
    assert!(exact_obs(&objective, grouped, 0, 1).is_err());
    let mut broken = objective.clone();
    broken.inverse.set(3, 3, f64::NAN);
    assert!(matches!(
        exact_obs(&broken, Pattern::Unstructured, 0, 1),
        Err(SolveError::NotFinite { .. })
    ));
    let mut broken = objective.clone();
    broken.h.set(3, 3, 0.0);
    let found = exact_obs(&broken, Pattern::Unstructured, 0, 1);
    assert!(matches!(
        found,
        Err(SolveError::NotPositiveDefinite { pivot: 3, .. })
    ));
    let mut broken = objective;
    broken.target = Matrix::zeros(2, 11);
    assert!(matches!(
        exact_obs(&broken, Pattern::Unstructured, 0, 1),
        Err(SolveError::Shape { .. })
    ));
}
