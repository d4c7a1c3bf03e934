use super::*;
use crate::samples::noise;
use proptest::prelude::*;

fn sum(widths: &[usize]) -> f64 {
    widths.iter().map(|&w| w as f64).sum()
}

fn curve(errors: &[f64]) -> GroupCurve {
    GroupCurve::new(errors.to_vec())
}

fn run(curves: &[GroupCurve], budget: f64, multiple_of: usize) -> Allocation {
    let config = AllocateConfig {
        multiple_of,
        ..AllocateConfig::default()
    };
    allocate(curves, &sum, budget, config).unwrap()
}

#[test]
fn takes_where_it_hurts_least() {
    let cheap = curve(&[4.0, 3.0, 2.0, 1.0, 0.0]);
    let dear = curve(&[40.0, 30.0, 20.0, 10.0, 0.0]);
    for (budget, widths, error) in [
        (8.0, [4, 4], 0.0),
        (6.0, [2, 4], 2.0),
        (5.0, [1, 4], 3.0),
        (4.0, [1, 3], 13.0),
    ] {
        let found = run(&[cheap.clone(), dear.clone()], budget, 1);
        assert_eq!(found.widths, widths);
        assert!(found.within_budget);
        assert!((found.error - error).abs() < 1e-12);
    }
    let found = run(&[cheap.clone(), dear.clone()], 1.0, 1);
    assert!(!found.within_budget, "one unit of each must stay");
    assert_eq!(found.widths, [1, 1]);
    assert_eq!(found.trace.len(), 6);
    assert_eq!((found.trace[0].group, found.trace[0].to), (0, 3));
}

#[test]
fn equal_groups_give_way_in_order() {
    let same = curve(&[2.0, 1.0, 0.0]);
    let found = run(&[same.clone(), same], 3.0, 1);
    assert_eq!(found.widths, [1, 2], "the first group gives first");
}

#[test]
fn a_dear_step_does_not_hide_a_cheap_one_behind_it() {
    // The first unit of group 0 costs 1.0, the next three nothing more; group 1 costs 0.5 each.
    let stair = curve(&[1.2, 1.0, 1.0, 1.0, 1.0, 0.0]);
    let slope = curve(&[2.5, 2.0, 1.5, 1.0, 0.5, 0.0]);
    let found = run(&[stair, slope], 6.0, 1);
    assert_eq!(found.widths, [1, 5]);
    assert!((found.error - 1.0).abs() < 1e-12);
}

#[test]
fn falling_curves_are_raised() {
    // Noise: the error with one kept is lower than with two.
    let found = run(&[curve(&[5.0, 0.5, 1.0, 0.0])], 1.0, 1);
    assert_eq!(found.widths, [1]);
    assert!((found.error - 1.0).abs() < 1e-12);
}

#[test]
fn widths_end_on_multiples_or_stay_dense() {
    let errors: Vec<f64> = (0..=22).rev().map(f64::from).collect();
    let found = run(&[curve(&errors)], 20.0, 8);
    assert_eq!(found.widths, [16]);
    let found = run(&[curve(&errors)], 22.0, 8);
    assert_eq!(found.widths, [22], "dense is allowed");
    let found = run(&[curve(&errors)], 1.0, 8);
    assert_eq!((found.widths[0], found.within_budget), (8, false));
    // Fewer units than one multiple: nothing but dense.
    let found = run(&[curve(&[2.0, 1.0, 0.0])], 1.0, 8);
    assert_eq!((found.widths[0], found.within_budget), (2, false));
    let limited = GroupCurve {
        min_kept: 10,
        max_kept: 20,
        unit_width: 1,
        ..curve(&errors)
    };
    assert_eq!(run(&[limited], 1.0, 4).widths, [12]);
}

#[test]
fn the_exchange_uses_what_the_last_step_left() {
    // Widths cost 3 and 2 each. Greedy ends at 13 of 15 or below; the slack is given back.
    let a = curve(&[9.0, 6.0, 3.0, 0.0]);
    let b = curve(&[6.3, 4.2, 2.1, 0.0]);
    let cost = |w: &[usize]| (3 * w[0] + 2 * w[1]) as f64;
    let mut best = f64::INFINITY;
    for i in 1..=3 {
        for j in 1..=3 {
            if cost(&[i, j]) <= 10.0 {
                best = best.min(a.errors[i] + b.errors[j]);
            }
        }
    }
    let found = allocate(&[a, b], &cost, 10.0, AllocateConfig::default()).unwrap();
    assert!(found.cost <= 10.0);
    assert!((found.error - best).abs() < 1e-12);
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let config = |multiple_of| AllocateConfig {
        multiple_of,
        ..AllocateConfig::default()
    };
    let fails = |c: GroupCurve, m| allocate(&[c], &sum, 0.0, config(m)).is_err();
    assert!(fails(curve(&[1.0, 0.0]), 0));
    assert!(fails(curve(&[]), 1));
    assert!(fails(curve(&[f64::NAN, 0.0]), 1));
    let crossed = GroupCurve {
        min_kept: 2,
        max_kept: 1,
        unit_width: 1,
        errors: vec![2.0, 1.0, 0.0],
    };
    assert!(fails(crossed, 1));
}

#[test]
fn is_close_to_the_optimum_of_small_cases() {
    let (mut ours, mut optimal) = (0.0, 0.0);
    for seed in 0..40 {
        let curves: Vec<GroupCurve> = (0..3)
            .map(|g| {
                let mut error = 0.0;
                let mut errors: Vec<f64> = noise(seed * 3 + g, 6)
                    .iter()
                    .map(|v| {
                        error += f64::from(v.abs());
                        error
                    })
                    .collect();
                errors.insert(0, 0.0);
                errors.reverse();
                GroupCurve::new(errors)
            })
            .collect();
        let cost = |w: &[usize]| (w[0] * w[1] + w[1] * w[2] + 3 * w[2]) as f64;
        let budget = 0.5 * cost(&[6, 6, 6]);
        let mut best = f64::INFINITY;
        for i in 0..216 {
            let w = [i / 36 + 1, i / 6 % 6 + 1, i % 6 + 1];
            if cost(&w) <= budget {
                best = best.min((0..3).map(|g| curves[g].errors[w[g]]).sum());
            }
        }
        let found = allocate(&curves, &cost, budget, AllocateConfig::default()).unwrap();
        assert!(found.within_budget);
        ours += found.error;
        optimal += best;
    }
    assert!(ours < 1.05 * optimal, "{ours} against {optimal}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn budget_ranges_and_multiples_hold(
        seed in 0_u64..1000,
        groups in 1_usize..6,
        multiple_of in 1_usize..5,
        share in 0.3_f64..1.0,
    ) {
        let curves: Vec<GroupCurve> = (0..groups)
            .map(|g| {
                let raw = noise(seed + g as u64, 4 + 5 * g);
                GroupCurve::new(raw.iter().map(|&v| f64::from(v.abs())).collect())
            })
            .collect();
        let dense: Vec<usize> = curves.iter().map(|c| c.max_kept).collect();
        let budget = share * sum(&dense);
        let found = run(&curves, budget, multiple_of);
        for (w, full) in found.widths.iter().zip(&dense) {
            prop_assert!(*w >= 1 && (w % multiple_of == 0 || w == full));
        }
        prop_assert!((found.cost - sum(&found.widths)).abs() < 1e-9);
        prop_assert_eq!(found.within_budget, found.cost <= budget);
        prop_assert_eq!(&found, &run(&curves, budget, multiple_of));
    }
}

#[test]
fn a_step_that_saves_nothing_does_not_end_the_way_down() {
    // Lanes of two: 3 units take the time of 4, 1 that of 2; each unit costs 1.
    let lanes = |widths: &[usize]| widths.iter().map(|w| w.div_ceil(2) as f64).sum();
    let one = [curve(&[4.0, 3.0, 2.0, 1.0, 0.0])];
    let with = |look_ahead| AllocateConfig {
        look_ahead,
        ..AllocateConfig::default()
    };
    let blind = allocate(&one, &lanes, 1.0, with(1)).unwrap();
    assert_eq!((blind.widths[0], blind.within_budget), (4, false));
    let found = allocate(&one, &lanes, 1.0, with(2)).unwrap();
    assert_eq!((found.widths[0], found.within_budget), (2, true));
}

#[test]
fn blocks_and_widths_share_one_budget() {
    // Two layers of 4 units that take 1 each; a block takes the second one whole for 1.5.
    let layer = |scale: f64| curve(&[4.0 * scale, 3.0 * scale, 2.0 * scale, scale, 0.0]);
    let block = GroupCurve {
        errors: vec![1.5, 0.0],
        min_kept: 0,
        max_kept: 1,
        unit_width: 1,
    };
    let time = |w: &[usize]| w[0] as f64 + if w[2] == 0 { 0.0 } else { w[1] as f64 };
    let curves = [layer(1.0), layer(1.0), block];
    let config = AllocateConfig::default();
    // Four units by width would cost 4; the block costs 1.5 and gives its layer's width back.
    let found = allocate(&curves, &time, 4.0, config).unwrap();
    assert_eq!(found.widths, [4, 4, 0]);
    assert!((found.error - 1.5).abs() < 1e-12);
    // One unit less is cheaper by width.
    let found = allocate(&curves, &time, 7.0, config).unwrap();
    assert_eq!(found.widths.iter().sum::<usize>(), 8);
    assert_eq!(found.widths[2], 1);
}
