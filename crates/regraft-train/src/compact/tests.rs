//! What a smaller form gives is what the whole network gives.

use regraft_data::SplitMix64;
use regraft_exec::{ExecOptions, HostTensor, LossKind, LossTerm};

use super::*;
use crate::new::{Architecture, ConvLayer, Layer, Nonlinearity, PoolLayer, build};
use crate::parameters::trained;
use crate::{
    Allocation, Decay, EpochRecord, Fitted, Goal, Inputs, Method, Objective, Optimizer, Pace,
    Saliency, Samples, Schedule, SoftPruning, State, Targets, Task, TrainingMode, Variation, Watch,
    fit,
};

/// Sums of some hundred products in another order, relative to the largest of an initializer.
const ROUNDING: f32 = 2e-6;
/// The same with the least noise, whose deviation is 1e-4 of sums near one.
const LEAST_NOISE: f32 = 5e-3;

const SAMPLE: [usize; 3] = [2, 8, 8];
const BATCH: usize = 4;
const CLASSES: usize = 3;

fn relu() -> Layer {
    Layer::Activation(Nonlinearity::Relu)
}

fn conv(out: usize, groups: usize) -> Layer {
    Layer::Conv(ConvLayer {
        padding: 1,
        groups,
        ..ConvLayer::new(out, 3)
    })
}

fn linear(out: usize) -> Layer {
    Layer::Linear { out, bias: true }
}

fn pool() -> Layer {
    Layer::Pool(PoolLayer {
        max: true,
        kernel: 2,
        stride: None,
        padding: 0,
    })
}

/// A plain network, one with normalisations, one with a shortcut, one with a layer of groups.
fn networks() -> Vec<Vec<Layer>> {
    let head = || vec![Layer::Flatten, linear(12), relu(), linear(CLASSES)];
    let block = vec![conv(10, 1), Layer::BatchNorm, relu(), conv(6, 1)];
    let bodies = [
        vec![conv(6, 1), relu(), pool(), conv(8, 1), relu()],
        vec![
            conv(6, 1),
            Layer::BatchNorm,
            relu(),
            conv(8, 1),
            Layer::BatchNorm,
            relu(),
            pool(),
        ],
        vec![conv(6, 1), relu(), Layer::Residual(block), relu(), pool()],
        vec![
            conv(8, 1),
            relu(),
            conv(8, 8),
            relu(),
            conv(6, 1),
            relu(),
            pool(),
        ],
    ];
    bodies.into_iter().map(|b| [b, head()].concat()).collect()
}

fn graph(layers: &[Layer]) -> Graph {
    let architecture = Architecture {
        input: SAMPLE.to_vec(),
        layers: layers.to_vec(),
    };
    build(&architecture, 3).unwrap().graph
}

fn config() -> FitConfig {
    FitConfig {
        epochs: 6,
        batch: BATCH,
        optimizer: Optimizer::default(),
        schedule: Schedule {
            peak: 0.05,
            decay: Decay::Constant,
            warm_up: 0.0,
            hold: 0.0,
        },
        objective: Objective::default(),
        l2: 1e-4,
        l1: 0.0,
        group_lasso: 0.0,
        clip: None,
        average: Some(0.9),
        training_mode: TrainingMode::default(),
        vary: Variation::default(),
        adversary: None,
        prune: None,
        patience: None,
        seed: 1,
        exec: ExecOptions::default(),
    }
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..n).map(|_| random.uniform_f32() - 0.5).collect()
}

/// Masks that hold an eighth of the weights; nothing reads the first half of the channels that only
/// weights read.
fn masks(trained: &[Trained]) -> Vec<Vec<bool>> {
    let mut random = SplitMix64::new(5);
    let mask = |t: &Trained| {
        let n: usize = t.shape.iter().product();
        let mut mask: Vec<bool> = (0..n)
            .map(|_| !t.is_weight || random.uniform_f32() < 0.125)
            .collect();
        let in_axis = 1 - t.out_axis.min(1);
        if t.is_weight && t.shape[in_axis] > 2 {
            for index in 0..t.shape[in_axis] / 2 {
                t.slice(in_axis, index).for_each(|at| mask[at] = false);
            }
        }
        mask
    };
    trained.iter().map(mask).collect()
}

struct Found {
    whole: Slopes,
    small: Slopes,
    statistics: [Vec<Vec<f32>>; 2],
    masks: Vec<Vec<bool>>,
}

/// One batch by both forms, with the least noise or without any; `None` where no smaller form is made.
fn both(graph: &Graph, is_noisy: bool) -> Option<Found> {
    let (trained, config) = (trained(graph), config());
    let scores = graph.outputs()[0];
    let mut network = Network::new(graph, &[], config.training_mode, config.exec).unwrap();
    let compactor = Compactor::new(graph, &network, &trained, &[], (scores, &config)).unwrap();
    let masks = masks(&trained);
    let mut small = compactor.compact(&masks, is_noisy, None).small?;
    let state = State {
        masks: crate::soft::Masks {
            all: masks.clone(),
            ..crate::soft::Masks::full(&trained)
        },
        ..State::new(graph, &trained, (&[], &[]), &config)
    };
    let mut weights = state.effective();
    let biases = weights
        .iter_mut()
        .zip(&trained)
        .filter(|(_, t)| !t.is_weight);
    // Sums of nothing but noise would be on either side of zero.
    biases.for_each(|(list, _)| list.iter_mut().for_each(|x| *x += 0.2));
    let ids: Vec<ValueId> = trained.iter().map(|t| t.id).collect();
    let zeros = |t: &Trained| {
        vec![
            0.0;
            if t.is_weight {
                t.shape.iter().product()
            } else {
                0
            }
        ]
    };
    let variances: Vec<Vec<f32>> = trained.iter().map(zeros).collect();
    let shape = [&[BATCH], &SAMPLE[..]].concat();
    let input = HostTensor::f32(shape, numbers(BATCH * SAMPLE.iter().product::<usize>(), 9));
    let terms = [LossTerm {
        value: scores,
        kind: LossKind::CrossEntropy {
            labels: vec![0, 1, 2, 0],
        },
        weight: 1.0,
    }];
    let problem = || Problem {
        ids: &ids,
        weights: &weights,
        variances: if is_noisy { &variances } else { &[] },
        batch: vec![(graph.required_inputs()[0], input.clone())],
        terms: &terms,
        seed: 7,
    };
    let mut noisy =
        is_noisy.then(|| Noisy::new(network.training(), &trained, config.exec).unwrap());
    let mut statistics = [state.statistics.now.clone(), state.statistics.now.clone()];
    let [of_whole, of_small] = &mut statistics;
    Some(Found {
        whole: differentiate(&mut network, noisy.as_mut(), problem(), of_whole).unwrap(),
        small: small.differentiate(problem(), of_small).unwrap(),
        statistics,
        masks,
    })
}

/// Both forms agree inside of the masks, a tolerance of the largest of each list apart.
fn check(found: &Found, tolerance: f32) {
    let near = |a: f32, b: f32, largest: f32| (a - b).abs() <= tolerance * largest;
    assert!(near(found.whole.loss, found.small.loss, 1.0));
    let lists = found.whole.of_weights.iter().zip(&found.small.of_weights);
    for ((whole, small), mask) in lists.zip(&found.masks) {
        assert_eq!(whole.len(), small.len());
        let largest = whole.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for ((a, b), kept) in whole.iter().zip(small).zip(mask) {
            assert!(!kept || near(*a, *b, largest), "{a} {b} of {largest}");
        }
    }
}

#[test]
fn gradients_are_those_of_the_whole_network() {
    for (i, layers) in networks().iter().enumerate() {
        let found = both(&graph(layers), false);
        let found = found.unwrap_or_else(|| panic!("no form of network {i}"));
        check(&found, ROUNDING);
        let [whole, small] = &found.statistics;
        let before = State::new(
            &graph(layers),
            &trained(&graph(layers)),
            (&[], &[]),
            &config(),
        );
        let before = before.statistics.now.iter().flatten();
        let mut moved = 0;
        let lists = whole.iter().flatten().zip(small.iter().flatten());
        for ((a, b), start) in lists.zip(before) {
            // Those of channels that are left out stay.
            if b.to_bits() != start.to_bits() {
                assert!((a - b).abs() <= ROUNDING, "{i}: {a} {b}");
                moved += 1;
            }
        }
        assert_eq!(moved == 0, whole.is_empty(), "{i}");
    }
}

#[test]
fn noise_goes_to_what_is_left() {
    // A normalisation of a channel that is nothing but noise makes it large.
    let plain = |layers: &Vec<Layer>| !format!("{layers:?}").contains("BatchNorm");
    for layers in networks().into_iter().filter(plain) {
        let found = both(&graph(&layers), true).expect("a smaller form");
        check(&found, LEAST_NOISE);
        let weights = trained(&graph(&layers));
        for (t, slopes) in weights.iter().zip(&found.small.of_variances) {
            let n = if t.is_weight {
                t.shape.iter().product()
            } else {
                0
            };
            assert_eq!(slopes.len(), n, "{}", t.name);
        }
    }
}

/// A normalisation over the channels sees those that no weight reads.
#[test]
fn channels_that_something_else_sees_stay() {
    let layers = [
        vec![Layer::Flatten, linear(12), Layer::LayerNorm, relu()],
        vec![linear(CLASSES)],
    ];
    assert!(both(&graph(&layers.concat()), false).is_none());
}

#[derive(Default)]
struct Keep(Vec<State>);

impl Watch for Keep {
    fn step(&mut self, _: usize, _: usize, _: f32) {}

    fn epoch(&mut self, _: &EpochRecord, state: &State, _: &[Trained]) {
        self.0.push(state.clone());
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// Trains a network that loses nearly everything, from a state or from the beginning.
fn run(graph: &Graph, method: Method, start: Option<State>) -> (Fitted, Vec<State>) {
    let n = 48;
    let config = FitConfig {
        prune: Some(SoftPruning {
            method,
            goal: Goal::Connections {
                sparsity: 0.98,
                allocation: Allocation::Uniform,
            },
            begin: 0.0,
            end: 0.6,
            every: 5,
            pace: Pace::Logarithmic,
            saliency: Saliency::Magnitude,
        }),
        ..config()
    };
    let shape = [&[n], &SAMPLE[..]].concat();
    let input = HostTensor::f32(shape, numbers(n * SAMPLE.iter().product::<usize>(), 3));
    let arrays = [(graph.required_inputs()[0], Some(0), input)];
    let classes: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let all: Vec<usize> = (0..n).collect();
    let task = Task {
        graph,
        frozen: &[],
        held: &[],
        teacher: None,
        features: &[],
        samples: Samples {
            inputs: Inputs::Arrays(&arrays),
            targets: Targets::Classes(&classes),
            fit: &all[..40],
            held_out: &all[40..],
        },
    };
    let mut watch = Keep::default();
    let fitted = fit(task, &config, start, &mut watch).unwrap();
    (fitted, watch.0)
}

#[test]
fn a_run_goes_on_to_the_same_bytes_in_a_smaller_form() {
    for method in [Method::VariationalDropout, Method::GradualMagnitude] {
        let graph = graph(&networks()[1]);
        let (whole, states) = run(&graph, method, None);
        let (trained, config) = (trained(&graph), config());
        let network = Network::new(&graph, &[], config.training_mode, config.exec).unwrap();
        let scores = (graph.outputs()[0], &config);
        let compactor = Compactor::new(&graph, &network, &trained, &[], scores).unwrap();
        let is_small = |state: &State| {
            let form = compactor.compact(&state.masks.all, false, None);
            form.small.is_some()
        };
        // One while the last still go, one after.
        let (before, after) = (&states[2], &states[4]);
        assert!(is_small(before) && !before.is_pruned, "{method:?}");
        assert!(is_small(after) && after.is_pruned, "{method:?}");
        for state in [before, after] {
            let (again, rest) = run(&graph, method, Some(state.clone()));
            assert_eq!(rest.last(), states.last(), "{method:?}");
            assert_eq!(again.graph, whole.graph, "{method:?}");
        }
    }
}

/// Zeros outside of the masks are zeros to the bit in every epoch and in the network that is written, and what a
/// state holds between epochs does not grow but for the line of the epoch itself.
#[test]
fn what_went_is_zero_and_nothing_piles_up() {
    for method in [Method::VariationalDropout, Method::GradualMagnitude] {
        let graph = graph(&networks()[1]);
        let (fitted, states) = run(&graph, method, None);
        let bits = |state: &State| -> Vec<bool> {
            let all = state.effective();
            all.iter().flatten().map(|w| w.to_bits() == 0).collect()
        };
        let last = states.last().unwrap();
        assert!(last.is_pruned, "{method:?}");
        for (state, next) in states.iter().zip(&states[1..]) {
            let masks = state.masks.all.iter().flatten();
            assert!(
                masks.zip(bits(state)).all(|(m, zero)| *m || zero),
                "{method:?}"
            );
            if state.is_pruned {
                assert_eq!(state.masks, next.masks, "{method:?}");
            }
            let grown = next.to_bytes().len() - state.to_bytes().len().min(next.to_bytes().len());
            assert!(grown < 256, "{method:?}: {grown} bytes");
        }
        for (t, mask) in trained(&graph).iter().zip(&last.masks.all) {
            let written = fitted.graph.tensor(t.id).unwrap().as_f32().unwrap();
            let outside = written.iter().zip(mask).filter(|(_, m)| !**m);
            assert!(
                outside.into_iter().all(|(w, _)| w.to_bits() == 0),
                "{}",
                t.name
            );
        }
    }
}
