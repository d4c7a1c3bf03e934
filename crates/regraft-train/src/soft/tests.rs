//! What the methods do to masks and weights, by hand from the papers' rules.

use regraft_exec::ExecOptions;
use regraft_graph::{Graph, GraphBuilder, Header};

use super::pruner::{At, Did, Pruner};
use super::{Allocation, Goal, Method, Pace, Saliency, SoftPruning};
use crate::parameters::Trained;
use crate::state::State;
use crate::{FitConfig, Objective, Optimizer, Schedule};

const T: bool = true;
const F: bool = false;

fn soft(method: Method) -> SoftPruning {
    SoftPruning {
        method,
        goal: Goal::Connections {
            sparsity: 0.5,
            allocation: Allocation::Global,
        },
        begin: 0.0,
        end: 0.5,
        every: 1,
        pace: Pace::Cubic,
        saliency: Saliency::Magnitude,
    }
}

fn one_layer() -> Vec<Trained> {
    vec![Trained {
        id: GraphBuilder::new(Header::default()).value("w"),
        name: "w".to_owned(),
        shape: vec![2, 3],
        is_weight: true,
        out_axis: 0,
        fan_in: 3,
    }]
}

fn state(trained: &[Trained], graph: &Graph, mask: &[bool], weights: &[f32], sum: &[f32]) -> State {
    let config = FitConfig {
        epochs: 1,
        batch: 1,
        optimizer: Optimizer::default(),
        schedule: Schedule {
            peak: 0.1,
            decay: crate::Decay::Constant,
            warm_up: 0.0,
            hold: 0.0,
        },
        objective: Objective::default(),
        l2: 0.0,
        l1: 0.0,
        group_lasso: 0.0,
        clip: None,
        average: None,
        training_mode: crate::TrainingMode::default(),
        vary: crate::Variation::default(),
        adversary: None,
        prune: None,
        patience: None,
        seed: 1,
        exec: ExecOptions::default(),
    };
    let mut state = State::new(graph, trained, (&[], &[]), &config);
    state.weights = vec![weights.to_vec()];
    state.gradients = vec![sum.to_vec()];
    state.moments[0].first = vec![1.0; weights.len()];
    state.masks.all = vec![mask.to_vec()];
    state
}

const WEIGHTS: [f32; 6] = [5.0, -4.0, 3.0, 2.9, 0.0, 9.0];
const GRADIENT: [f32; 6] = [0.1, 0.1, -0.1, 0.5, 2.0, 1.0];

/// The state after an update before step `step` of 100.
fn after(soft: SoftPruning, mask: &[bool], gradient: &[f32], step: usize) -> (State, Did) {
    let graph = GraphBuilder::new(Header::default()).finish().unwrap();
    let trained = one_layer();
    let pruner = Pruner::new(soft, &graph, &trained, &[]).unwrap();
    let mut state = state(&trained, &graph, mask, &WEIGHTS, gradient);
    let at = At {
        step,
        total: 100,
        seed: 1,
    };
    let did = pruner.update(&mut state, at).unwrap();
    (state, did)
}

fn mask_after(method: Method, mask: &[bool], gradient: &[f32]) -> Vec<bool> {
    after(soft(method), mask, gradient, 40)
        .0
        .masks
        .all
        .remove(0)
}

#[test]
fn the_smallest_go_first_those_that_no_sample_moved() {
    let start = [T, T, T, T, T, F];
    // At 40 of 50 steps 1 - 0.2^3 of a half is gone: three are left.
    let gradual = mask_after(Method::GradualMagnitude, &start, &GRADIENT);
    assert_eq!(gradual, [T, T, T, F, F, F]);
    // The largest was never moved: nothing depends on it.
    let idle = [0.0, 0.1, -0.1, 0.5, 2.0, 1.0];
    let gradual = mask_after(Method::GradualMagnitude, &start, &idle);
    assert_eq!(gradual, [F, T, T, T, F, F]);
    // By curvature the fourth counts 2.9 times the root of a half, the second four tenths.
    let by_curvature = SoftPruning {
        saliency: Saliency::Curvature,
        ..soft(Method::GradualMagnitude)
    };
    let squares = [0.25, 0.01, 0.25, 0.25, 0.0, 1.0];
    let (found, _) = after(by_curvature, &start, &squares, 40);
    assert_eq!(found.masks.all[0], [T, F, T, T, F, F]);
}

#[test]
fn connections_come_back_by_size_gradient_or_chance() {
    let start = [T, T, F, T, F, F];
    let surgery = |margin| mask_after(Method::DynamicSurgery { margin }, &start, &GRADIENT);
    assert_eq!(surgery(0.0), [T, T, F, F, F, T]);
    let start = [T, T, T, F, F, F];
    let rigl = mask_after(Method::RigL { drop: 0.99 }, &start, &GRADIENT);
    // A cosine at 80 % leaves a tenth of the share, of three none.
    assert_eq!(rigl, [T, T, T, F, F, F]);
    let (early, _) = after(soft(Method::RigL { drop: 0.4 }), &start, &GRADIENT, 10);
    assert_eq!(early.masks.all[0], [T, T, F, F, T, F]);
    // Before the first step there is no gradient, and nothing that chance could better.
    for method in [Method::RigL { drop: 0.4 }, Method::Set { drop: 0.4 }] {
        let (first, _) = after(soft(method), &start, &[0.0; 6], 0);
        assert_eq!(first.masks.all[0], start);
    }
    let set = mask_after(Method::Set { drop: 0.4 }, &start, &GRADIENT);
    assert_eq!(set.iter().filter(|k| **k).count(), 3);
    assert_eq!(set[..3], [T, T, F]);
}

#[test]
fn soft_filters_are_zero_but_stay() {
    let method = Method::SoftFilter { asymptotic: false };
    let (found, _) = after(soft(method), &[T; 6], &GRADIENT, 40);
    assert_eq!(found.masks.all[0], [T; 6]);
    assert_eq!(found.weights[0], [5.0, -4.0, 0.0, 0.0, 0.0, 9.0]);
    assert_eq!(found.moments[0].first, [1.0; 6]);
    let (end, _) = after(soft(method), &[T; 6], &GRADIENT, 50);
    assert_eq!(end.masks.all[0], [T, T, F, F, F, T]);
    assert_eq!(end.moments[0].first, [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(end.is_pruned);
}

#[test]
fn thresholds_hold_the_budget_and_become_the_weights() {
    let (found, _) = after(soft(Method::SoftThreshold), &[T; 6], &GRADIENT, 40);
    // The largest of the three that go is 3.
    assert_eq!(found.thresholds, [3.0]);
    assert_eq!(found.weights[0], WEIGHTS);
    assert_eq!(found.effective()[0], [2.0, -1.0, 0.0, 0.0, 0.0, 6.0]);
    let (end, _) = after(soft(Method::SoftThreshold), &[T; 6], &GRADIENT, 50);
    assert_eq!(end.weights[0], [2.0, -1.0, 0.0, 0.0, 0.0, 6.0]);
    assert!(end.thresholds.is_empty() && end.is_pruned);
}

#[test]
fn a_threshold_moves_along_its_gradient() {
    let trained = one_layer();
    let graph = GraphBuilder::new(Header::default()).finish().unwrap();
    let pruner = Pruner::new(soft(Method::SoftThreshold), &graph, &trained, &[]).unwrap();
    let (mut state, _) = after(soft(Method::SoftThreshold), &[T; 6], &GRADIENT, 40);
    let mut gradients = vec![vec![0.01, 0.02, 5.0, 5.0, 5.0, 0.01]];
    let at = At {
        step: 41,
        total: 100,
        seed: 1,
    };
    pruner.adjust(&mut state, &mut gradients, at, 0.1);
    assert_eq!(gradients[0], [0.01, 0.02, 0.0, 0.0, 0.0, 0.01]);
    // The loss falls with the threshold where sum of g sign(w) is above zero: 0.01 - 0.02 + 0.01.
    assert!(state.memory[0][0][0].abs() < 1e-8);
    let mut gradients = vec![vec![0.01, -0.02, 0.0, 0.0, 0.0, 0.01]];
    pruner.adjust(&mut state, &mut gradients, at, 0.1);
    // dL/da = -t sum of g sign(w) = -3 * 0.04; a moves by the rate against it.
    assert!((state.memory[0][0][0] - 0.1 * 0.04 * 3.0).abs() < 1e-7);
}

#[test]
fn multipliers_gather_what_is_between_dense_and_sparse() {
    let method = Method::Admm { penalty: 0.5 };
    let trained = one_layer();
    let graph = GraphBuilder::new(Header::default()).finish().unwrap();
    let pruner = Pruner::new(soft(method), &graph, &trained, &[]).unwrap();
    let (mut state, _) = after(soft(method), &[T; 6], &GRADIENT, 40);
    let z = [5.0, -4.0, 0.0, 0.0, 0.0, 9.0];
    let u = [0.0, 0.0, 3.0, 2.9, 0.0, 0.0];
    assert_eq!(state.memory[0], [z.to_vec(), u.to_vec()]);
    assert_eq!(state.weights[0], WEIGHTS);
    let at = At {
        step: 41,
        total: 100,
        seed: 1,
    };
    let mut gradients = vec![vec![0.0; 6]];
    pruner.adjust(&mut state, &mut gradients, at, 0.1);
    // ρ (W - Z + U)
    assert_eq!(gradients[0], [0.0, 0.0, 3.0, 2.9, 0.0, 0.0]);
    let end = At { step: 50, ..at };
    pruner.update(&mut state, end).unwrap();
    // The largest of W, though W + U is 5, -4, 6, 5.8, 0, 9.
    assert_eq!(state.masks.all[0], [T, T, F, F, F, T]);
}

#[test]
fn decay_grows_on_what_is_to_go() {
    let method = Method::GrowingDecay { penalty: 2.0 };
    let trained = one_layer();
    let graph = GraphBuilder::new(Header::default()).finish().unwrap();
    let pruner = Pruner::new(soft(method), &graph, &trained, &[]).unwrap();
    let (mut state, _) = after(soft(method), &[T; 6], &GRADIENT, 10);
    let at = At {
        step: 25,
        total: 100,
        seed: 1,
    };
    let mut gradients = vec![vec![0.0; 6]];
    pruner.adjust(&mut state, &mut gradients, at, 0.1);
    assert_eq!(gradients[0], [0.0, 0.0, 3.0, 2.9, 0.0, 0.0]);
    assert_eq!(state.masks.all[0], [T; 6]);
    pruner.update(&mut state, At { step: 50, ..at }).unwrap();
    assert_eq!(state.masks.all[0], [T, T, F, F, F, T]);
}

#[test]
fn rounds_go_back_to_early_weights() {
    let method = Method::Rewinding {
        rounds: 2,
        rewind: 0.2,
    };
    let trained = one_layer();
    let graph = GraphBuilder::new(Header::default()).finish().unwrap();
    let pruner = Pruner::new(soft(method), &graph, &trained, &[]).unwrap();
    let mut state = state(&trained, &graph, &[T; 6], &[1.0; 6], &[1.0; 6]);
    let update = |state: &mut State, step| {
        let at = At {
            step,
            total: 100,
            seed: 1,
        };
        pruner.update(state, at).unwrap()
    };
    // Rounds of 25 steps; a fifth of the first is five.
    assert_eq!(update(&mut state, 5), Did::Nothing);
    state.weights = vec![WEIGHTS.to_vec()];
    assert_eq!(update(&mut state, 24), Did::Nothing);
    assert_eq!(update(&mut state, 25), Did::Changed);
    // The root of a half stays: four of six, from the weights of step 5.
    assert_eq!(state.masks.all[0], [T, T, T, F, F, T]);
    assert_eq!(state.weights[0], [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
    assert_eq!(update(&mut state, 50), Did::Changed);
    assert!(state.is_pruned && state.masks.kept() == 3);
    // Each round has a learning rate of its own.
    assert_eq!(pruner.span(10, 100), (0, 25));
    assert_eq!(pruner.span(30, 100), (25, 25));
    assert_eq!(pruner.span(80, 100), (50, 50));
    let rounds = soft(Method::Iterative { rounds: 2 });
    assert_eq!(after(rounds, &[T; 6], &GRADIENT, 25).1, Did::RoundEnded);
}

#[test]
fn paces_end_at_the_share() {
    for pace in [Pace::Cubic, Pace::Logarithmic, Pace::Exponential] {
        assert!(pace.at(0.0, 0.99).abs() < 1e-12);
        assert!((pace.at(1.0, 0.99) - 0.99).abs() < 1e-12);
        let shares: Vec<f64> = (0..=10)
            .map(|i| pace.at(f64::from(i) / 10.0, 0.99))
            .collect();
        assert!(shares.is_sorted(), "{shares:?}");
    }
    // Three quarters of the way in the logarithm at half the time.
    assert!((1.0 - Pace::Logarithmic.at(0.5, 0.9999) - 1e-3).abs() < 1e-9);
    // Three quarters after an eighth of the time.
    assert!((Pace::Exponential.at(0.125, 0.4) - 0.3).abs() < 1e-9);
}

#[test]
fn an_adaptive_pace_moves_on_from_a_score_below_zero() {
    let mut level = super::Level::default();
    level.judge(-20.0, 0.01, 8.0);
    assert!((level.part - 0.25).abs() < 1e-12);
    level.judge(-3.0, 0.01, 8.0);
    assert!((level.part - 0.5).abs() < 1e-12 && (level.best + 3.0).abs() < 1e-12);
}

#[test]
fn an_adaptive_pace_follows_the_held_out_score() {
    let mut level = super::Level::default();
    level.judge(0.9, 0.01, 8.0);
    // A quarter of the way: what is left of 99 % sparsity is the fourth root of a hundredth.
    assert!((1.0 - level.removed(0.99) - 0.01f64.powf(0.25)).abs() < 1e-12);
    level.judge(0.895, 0.01, 8.0);
    assert!((level.part - 0.5).abs() < 1e-12);
    level.judge(0.88, 0.01, 8.0);
    assert!((level.part - 0.25).abs() < 1e-12 && (level.step - 0.125).abs() < 1e-12);
    level.judge(0.91, 0.01, 8.0);
    assert!((level.part - 0.375).abs() < 1e-12 && (level.best - 0.91).abs() < 1e-12);
}

#[test]
fn what_comes_back_has_the_largest_gradient() {
    let adaptive = SoftPruning {
        pace: Pace::Adaptive { tolerance: 0.0 },
        ..soft(Method::GradualMagnitude)
    };
    let graph = GraphBuilder::new(Header::default()).finish().unwrap();
    let trained = one_layer();
    let pruner = Pruner::new(adaptive, &graph, &trained, &[]).unwrap();
    let mut state = state(&trained, &graph, &[T, F, T, F, F, F], &WEIGHTS, &GRADIENT);
    state.level.part = 0.0;
    let at = At {
        step: 10,
        total: 100,
        seed: 1,
    };
    pruner.update(&mut state, at).unwrap();
    assert_eq!(state.masks.all[0], [T; 6]);
    state.masks.all = vec![vec![T, F, T, F, F, F]];
    state.gradients = vec![GRADIENT.to_vec()];
    state.level.part = 1.0;
    pruner.update(&mut state, at).unwrap();
    // Half stay: the two that are there, and of the others the one of the largest gradient.
    assert_eq!(state.masks.all[0], [T, F, T, F, T, F]);
}
