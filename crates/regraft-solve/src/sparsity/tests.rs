use super::*;
use crate::error::SolveError;
use crate::samples::noise;
use proptest::prelude::*;

/// Sums of a few small numbers in another order.
const F64_SUM: f64 = 1e-12;

fn level(error: f64, cost: f64) -> Level {
    Level { error, cost }
}

#[test]
fn uniform_keeps_the_same_share_and_the_exact_total() {
    assert_eq!(uniform(&[10, 20, 30], 30).unwrap(), [5, 10, 15]);
    // 3.33 each: the first gets what is left over.
    assert_eq!(uniform(&[5, 5, 5], 10).unwrap(), [4, 3, 3]);
    assert_eq!(uniform(&[3, 0], 3).unwrap(), [3, 0]);
    assert_eq!(uniform(&[], 0).unwrap(), [0; 0]);
    assert!(matches!(uniform(&[3, 4], 8), Err(SolveError::Index { .. })));
}

#[test]
fn erk_keeps_small_layers_dense_and_solves_again() {
    // 52 = f·20 + f·4 would give the small layer 8.7 of its 4: dense, and f·20 = 48.
    assert_eq!(erk(&[&[10, 10], &[2, 2]], 52).unwrap(), [48, 4]);
    // Densities in the ratio 22/360 to 14/120: 6.6 + 4.2 of 10.8.
    assert_eq!(erk(&[&[10, 4, 3, 3], &[5, 5]], 15).unwrap(), [10, 5]);
    // Everything kept: all dense, one after another.
    assert_eq!(erk(&[&[4, 4], &[3, 3], &[1, 1]], 26).unwrap(), [16, 9, 1]);
    assert_eq!(erk(&[&[4, 4], &[3, 3]], 0).unwrap(), [0, 0]);
    assert!(erk(&[&[2, 2]], 5).is_err());
}

#[test]
fn lamp_compares_weights_within_their_layer() {
    let scores = lamp_scores(&[-2.0, 1.0]);
    assert!((scores[0] - 0.2).abs() < F64_SUM && (scores[1] - 1.0).abs() < F64_SUM);
    // 0.2 goes before 0.5, and then 0.5 before the layers' last ones.
    let (small, large) = ([1.0, 2.0], [10.0, -10.0]);
    assert_eq!(lamp(&[&small, &large], 3).unwrap(), [1, 2]);
    assert_eq!(lamp(&[&small, &large], 2).unwrap(), [1, 1]);
    // Scaling a layer changes nothing.
    assert_eq!(lamp(&[&[1e-3, 2e-3], &large], 3).unwrap(), [1, 2]);
    // Zeros go first; two last ones tie at 1, and the first layer gives.
    assert_eq!(lamp(&[&[0.0, 0.0], &[0.5, 0.0]], 1).unwrap(), [0, 1]);
    assert_eq!(lamp(&[&small, &large], 1).unwrap(), [0, 1]);
    assert!(lamp(&[&[f32::NAN]], 0).is_err());
    assert!(lamp(&[&[1.0]], 2).is_err());
}

#[test]
fn one_threshold_over_weighted_losses() {
    let (a, b) = ([0.0, 1.0, 4.0, 9.0], [0.5, 0.6, 3.0]);
    let losses = |s| {
        let with = |marginal, sensitivity| Losses {
            marginal,
            sensitivity,
        };
        [with(&a[..], 1.0), with(&b[..], s)]
    };
    let check = |s, removed, expected: [usize; 2], threshold: f64| {
        let found = global_threshold(&losses(s), removed).unwrap();
        assert_eq!(
            found.removed, expected,
            "sensitivity {s}, {removed} removed"
        );
        assert!((found.threshold - threshold).abs() < F64_SUM);
        assert_eq!(found.raised, 0);
    };
    check(1.0, 3, [1, 2], 0.6);
    check(1.0, 4, [2, 2], 1.0);
    check(10.0, 3, [3, 0], 4.0);
    // Nothing said against the second layer: all of it goes before the first gives more.
    check(0.0, 4, [1, 3], 0.0);
    check(0.0, 5, [2, 3], 1.0);
    check(1.0, 0, [0, 0], 0.0);
    check(1.0, 7, [4, 3], 9.0);
    assert!(global_threshold(&losses(1.0), 8).is_err());
    assert!(global_threshold(&losses(f64::NAN), 1).is_err());
    assert!(global_threshold(&losses(-1.0), 1).is_err());
}

#[test]
fn ties_go_to_the_first_layers_and_dips_are_raised() {
    let flat = Losses {
        marginal: &[1.0, 1.0, 1.0],
        sensitivity: 1.0,
    };
    let found = global_threshold(&[flat, flat], 4).unwrap();
    assert_eq!(found.removed, [3, 1]);
    // The second connection is free, but only behind the first.
    let dip = Losses {
        marginal: &[2.0, 0.0],
        sensitivity: 1.0,
    };
    let found = global_threshold(&[dip, flat], 3).unwrap();
    assert_eq!((found.removed, found.raised), (vec![0, 3], 1));
}

#[test]
fn dynamic_program_by_hand() {
    // Layer 0: dense, half, gone; layer 1 as sensitive again and twice the size.
    let layers = vec![
        vec![level(0.0, 4.0), level(1.0, 2.0), level(5.0, 0.0)],
        vec![level(0.0, 8.0), level(2.0, 4.0), level(9.0, 0.0)],
    ];
    for (budget, levels, error) in [
        (12.0, [0, 0], 0.0),
        (11.0, [1, 0], 1.0),
        (8.0, [0, 1], 2.0),
        (6.5, [1, 1], 3.0),
        (4.0, [2, 1], 7.0),
        (0.0, [2, 2], 14.0),
    ] {
        let found = dynamic_program(&layers, budget, DynamicConfig::default()).unwrap();
        assert_eq!(found.levels, levels, "budget {budget}");
        assert!(found.within_budget && (found.error - error).abs() < F64_SUM);
    }
}

#[test]
fn dynamic_program_says_what_can_be_reached() {
    let layers = vec![
        vec![level(0.0, 5.0), level(1.0, 3.0), level(0.5, 3.0)],
        vec![level(0.0, 2.0)],
    ];
    let found = dynamic_program(&layers, 4.0, DynamicConfig::default()).unwrap();
    assert_eq!(
        (found.levels.as_slice(), found.within_budget),
        (&[2, 0][..], false)
    );
    assert!((found.cost - 5.0).abs() < F64_SUM);
    let config = DynamicConfig { buckets: 0 };
    assert!(dynamic_program(&layers, 9.0, config).is_err());
    assert!(dynamic_program(&[vec![]], 9.0, DynamicConfig::default()).is_err());
    let bad = [vec![level(f64::NAN, 1.0)]];
    assert!(dynamic_program(&bad, 9.0, DynamicConfig::default()).is_err());
    let none = dynamic_program(&[], 0.0, DynamicConfig::default()).unwrap();
    assert!(none.within_budget && none.levels.is_empty());
}

#[test]
fn what_rounding_left_over_is_spent() {
    // Two buckets of 0.75: a step of 0.8 takes both, though 0.7 is left for the other.
    let layers = vec![
        vec![level(1.0, 0.0), level(0.0, 0.8)],
        vec![level(0.9, 0.0), level(0.0, 0.7)],
    ];
    let config = DynamicConfig { buckets: 2 };
    let found = dynamic_program(&layers, 1.5, config).unwrap();
    assert_eq!(found.levels, [1, 1]);
}

/// All assignments of layers with so many levels.
fn assignments(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &size in sizes {
        let longer = |a: &Vec<usize>| {
            (0..size)
                .map(|s| [a.as_slice(), &[s]].concat())
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

fn arbitrary_layers() -> impl Strategy<Value = Vec<Vec<Level>>> {
    let one = (0.0..9.0_f64, 0..20_u32).prop_map(|(e, c)| level(e, f64::from(c)));
    prop::collection::vec(prop::collection::vec(one, 1..5), 1..5)
}

fn cost_of(layers: &[Vec<Level>], at: &[usize]) -> f64 {
    layers.iter().zip(at).map(|(l, &s)| l[s].cost).sum()
}

fn error_of(layers: &[Vec<Level>], at: &[usize]) -> f64 {
    layers.iter().zip(at).map(|(l, &s)| l[s].error).sum()
}

proptest! {
    #[test]
    fn dynamic_program_equals_brute_force(layers in arbitrary_layers(), budget in 0..60_u32) {
        let budget = f64::from(budget);
        let sizes: Vec<usize> = layers.iter().map(Vec::len).collect();
        let all = assignments(&sizes);
        let fits = all.iter().filter(|a| cost_of(&layers, a) <= budget);
        let best = fits.map(|a| error_of(&layers, a)).min_by(f64::total_cmp);
        let found = dynamic_program(&layers, budget, DynamicConfig::default()).unwrap();
        prop_assert_eq!(found.within_budget, best.is_some());
        prop_assert!((found.cost - cost_of(&layers, &found.levels)).abs() < F64_SUM);
        if let Some(best) = best {
            prop_assert!((found.error - best).abs() < F64_SUM);
        } else {
            let least = all.iter().map(|a| cost_of(&layers, a)).fold(f64::MAX, f64::min);
            prop_assert!((found.cost - least).abs() < F64_SUM);
        }
    }

    #[test]
    fn coarse_buckets_stay_within_the_budget(layers in arbitrary_layers(), budget in 0.0..60.0_f64) {
        let scaled: Vec<Vec<Level>> = layers
            .iter()
            .map(|l| l.iter().map(|x| level(x.error, x.cost * 0.37)).collect())
            .collect();
        let found = dynamic_program(&scaled, budget, DynamicConfig { buckets: 7 }).unwrap();
        prop_assert!(!found.within_budget || found.cost <= budget);
    }

    #[test]
    fn counts_add_up_and_fit(
        dims in prop::collection::vec(prop::collection::vec(1..6_usize, 2..4), 1..6),
        share in 0.0..=1.0_f64,
        seed in 0..99_u64,
    ) {
        let sizes: Vec<usize> = dims.iter().map(|d| d.iter().product()).collect();
        let kept = (share * sizes.iter().sum::<usize>() as f64).round() as usize;
        let shapes: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        let weights: Vec<Vec<f32>> = sizes.iter().map(|&n| noise(seed, n)).collect();
        let layers: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
        let found = [
            uniform(&sizes, kept).unwrap(),
            erk(&shapes, kept).unwrap(),
            lamp(&layers, kept).unwrap(),
        ];
        for counts in found {
            prop_assert_eq!(counts.iter().sum::<usize>(), kept);
            prop_assert!(counts.iter().zip(&sizes).all(|(c, s)| c <= s));
        }
    }

    #[test]
    fn threshold_equals_sorting(
        layers in prop::collection::vec(
            (prop::collection::vec(0..6_u32, 0..8), 0..4_u32), 1..5),
        share in 0.0..=1.0_f64,
    ) {
        let sorted: Vec<(Vec<f64>, f64)> = layers
            .iter()
            .map(|(l, s)| {
                let mut l: Vec<f64> = l.iter().map(|&x| f64::from(x)).collect();
                l.sort_by(f64::total_cmp);
                (l, f64::from(*s))
            })
            .collect();
        let losses: Vec<Losses<'_>> = sorted
            .iter()
            .map(|(marginal, sensitivity)| Losses { marginal, sensitivity: *sensitivity })
            .collect();
        let mut all: Vec<(f64, usize)> = Vec::new();
        for (l, (marginal, s)) in sorted.iter().enumerate() {
            all.extend(marginal.iter().map(|m| (m * s, l)));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let removed = (share * all.len() as f64) as usize;
        let mut expected = vec![0; sorted.len()];
        for (_, l) in &all[..removed] {
            expected[*l] += 1;
        }
        prop_assert_eq!(global_threshold(&losses, removed).unwrap().removed, expected);
    }
}

/// Costs of five layers of different sizes, each with six levels from dense to empty.
fn five_layers() -> Vec<Vec<f64>> {
    let sizes = [10.0, 40.0, 5.0, 80.0, 20.0];
    let level = |size: f64| (0..6).map(|s| size * (1.0 - 0.2 * f64::from(s))).collect();
    sizes.into_iter().map(level).collect()
}

/// A fitness with couplings between the layers, which a sum of errors does not see.
fn coupled(at: &[usize]) -> f64 {
    let own: f64 = [9.0, 1.0, 7.0, 0.5, 2.0]
        .iter()
        .zip(at)
        .map(|(w, &s)| w * (s as f64).powi(2))
        .sum();
    let pairs: f64 = at.windows(2).map(|p| 3.0 * (p[0] * p[1]) as f64).sum();
    own + pairs
}

fn search(budget: f64, starts: &[Vec<usize>], config: EvolveConfig) -> Evolution {
    let mut fitness = |at: &[usize]| Ok::<_, SolveError>(coupled(at));
    let costs = five_layers();
    evolve(&costs, budget, starts, &mut fitness, &mut || false, config).unwrap()
}

#[test]
fn evolution_finds_the_best_of_a_small_space() {
    let costs = five_layers();
    let start = vec![2, 2, 2, 2, 2];
    let budget = 155.0 * 0.6;
    let cost = |a: &[usize]| -> f64 { a.iter().zip(&costs).map(|(&s, c)| c[s]).sum() };
    let best = assignments(&[6; 5])
        .iter()
        .filter(|a| cost(a) <= budget)
        .map(|a| coupled(a))
        .fold(f64::MAX, f64::min);
    let found = search(
        budget,
        std::slice::from_ref(&start),
        EvolveConfig::default(),
    );
    assert!(found.cost <= budget && found.fitness < coupled(&start));
    assert!(
        (found.fitness - best).abs() < F64_SUM,
        "{found:?}, best {best}"
    );
    assert!(found.history.windows(2).all(|h| h[1].best <= h[0].best));
    assert_eq!(
        found.history.last().map(|g| g.evaluations),
        Some(found.evaluations)
    );
    assert_eq!(
        found,
        search(budget, &[start], EvolveConfig::default()),
        "same seed"
    );
}

#[test]
fn evolution_keeps_the_best_start_and_stops_when_asked() {
    let costs = five_layers();
    let starts = [vec![5; 5], vec![5, 1, 5, 3, 5], vec![4; 5]];
    let (mut asked, mut seen) = (0, Vec::new());
    let mut fitness = |at: &[usize]| {
        seen.push(at.to_vec());
        Ok::<_, SolveError>(coupled(at))
    };
    let mut stop = || {
        asked += 1;
        asked > 3
    };
    let config = EvolveConfig::default();
    let found = evolve(&costs, 80.0, &starts, &mut fitness, &mut stop, config).unwrap();
    assert_eq!((found.evaluations, found.stopped), (6, true));
    assert_eq!(found.starts.len(), 3);
    assert!(found.starts.iter().all(|s| found.fitness <= *s));
    assert_eq!(seen[..3], starts);
    // Every offspring was another one, and within the budget.
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
    let cost = |a: &[usize]| -> f64 { a.iter().zip(&costs).map(|(&s, c)| c[s]).sum() };
    assert!(seen.iter().all(|a| cost(a) <= 80.0));
}

#[test]
fn evolution_refuses_what_makes_no_sense() {
    let costs = five_layers();
    let run = |starts: &[Vec<usize>], fitness: f64| {
        let mut fitness = |_: &[usize]| Ok::<_, SolveError>(fitness);
        let config = EvolveConfig {
            generations: 1,
            ..EvolveConfig::default()
        };
        evolve(&costs, 50.0, starts, &mut fitness, &mut || false, config)
    };
    assert!(matches!(run(&[], 0.0), Err(SolveError::Shape { .. })));
    assert!(matches!(
        run(&[vec![5]], 0.0),
        Err(SolveError::Shape { .. })
    ));
    assert!(matches!(
        run(&[vec![6; 5]], 0.0),
        Err(SolveError::Index { .. })
    ));
    assert!(matches!(
        run(&[vec![0; 5]], 0.0),
        Err(SolveError::Option { .. })
    ));
    let found = run(&[vec![5; 5]], f64::NAN).unwrap();
    assert!(found.fitness.is_infinite() && found.not_a_number == found.evaluations);
    assert_eq!(found.levels, [5; 5]);
}

proptest! {
    #[test]
    fn evolution_is_never_worse_than_its_starts(seed in 0..200_u64, tight in 0.3..1.0_f64) {
        let budget = 155.0 * tight;
        let starts = [vec![4; 5], vec![5, 5, 5, 4, 5]];
        let config = EvolveConfig { generations: 6, seed, ..EvolveConfig::default() };
        let found = search(budget, &starts, config);
        prop_assert!(found.cost <= budget);
        prop_assert!(starts.iter().all(|s| found.fitness <= coupled(s)));
    }
}
