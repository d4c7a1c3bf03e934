//! Batch statistics and dropout while training: `PyTorch`'s steps, stopped runs, what is written.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use regraft_data::{Augment, Dataset, Preprocess, argmax_rows};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{Graph, Op, Tensor, ValueId};
use regraft_onnx::Limits;
use regraft_train::{
    Allocation, Decay, EpochRecord, FitConfig, Fitted, Goal, Inputs, Method, Objective, Optimizer,
    Samples, Schedule, SoftPruning, State, Targets, Task, TrainError, Trained, TrainingMode, Watch,
    fit,
};

/// Five steps in f32, sums in another order than `PyTorch`'s.
const F32_STEPS: f32 = 1e-4;

const SAMPLE: [usize; 3] = [2, 6, 5];
const STATISTICS: [&str; 4] = [
    "bn1.running_mean",
    "bn1.running_var",
    "bn2.running_mean",
    "bn2.running_var",
];

fn graph() -> Graph {
    let bytes = include_bytes!("../refs/batch_norm/steps.onnx");
    regraft_onnx::read_bytes(bytes, None, &Limits::default()).expect("a model")
}

fn data(n: usize) -> Dataset {
    let len = n * SAMPLE.iter().product::<usize>();
    let values = (0..len).map(|i| ((i * 7919) % 2048) as f32 / 1024.0 - 1.0);
    let labels = (0..n).map(|i| (i % 3) as u32).collect();
    let shape = [n, SAMPLE[0], SAMPLE[1], SAMPLE[2]];
    Dataset::from_values("images", &shape, values.collect(), Some(labels)).expect("a data set")
}

fn config(epochs: usize, batch: usize) -> FitConfig {
    FitConfig {
        epochs,
        batch,
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            nesterov: false,
        },
        schedule: Schedule {
            peak: 0.1,
            decay: Decay::Constant,
            warm_up: 0.0,
            hold: 0.0,
        },
        objective: Objective::default(),
        l2: 0.01,
        l1: 0.0,
        group_lasso: 0.0,
        clip: None,
        average: None,
        training_mode: TrainingMode::default(),
        vary: regraft_train::Variation {
            augment: Augment::None,
            ..Default::default()
        },
        adversary: None,
        prune: None,
        patience: None,
        seed: 3,
        exec: ExecOptions::default(),
    }
}

/// Remembers every state, and stops after some epochs.
struct Keep {
    states: Vec<State>,
    stop_after: usize,
}

impl Watch for Keep {
    fn step(&mut self, _: usize, _: usize, _: f32) {}

    fn epoch(&mut self, _: &EpochRecord, state: &State, _: &[Trained]) {
        self.states.push(state.clone());
    }

    fn cancelled(&self) -> bool {
        self.states.len() >= self.stop_after
    }
}

const HELD_OUT: usize = 12;

fn train(
    graph: &Graph,
    config: &FitConfig,
    n_fit: usize,
    start: Option<State>,
    watch: &mut Keep,
) -> Result<Fitted, TrainError> {
    let all = data(n_fit + HELD_OUT);
    let fit_on: Vec<usize> = (0..n_fit).collect();
    let held_out: Vec<usize> = (n_fit..n_fit + HELD_OUT).collect();
    let samples = Samples {
        inputs: Inputs::Set {
            data: &all,
            preprocess: &Preprocess::default(),
            input: graph.required_inputs()[0],
        },
        targets: Targets::Classes(all.labels().unwrap_or_default()),
        fit: &fit_on,
        held_out: &held_out,
    };
    let task = Task {
        graph,
        frozen: &[],
        held: &[],
        teacher: None,
        features: &[],
        samples,
    };
    fit(task, config, start, watch)
}

fn keep() -> Keep {
    Keep {
        states: Vec::new(),
        stop_after: usize::MAX,
    }
}

fn numbers<'a>(graph: &'a Graph, name: &str) -> &'a [f32] {
    let id = graph.find_value(name).expect("a value");
    let tensor = graph.tensor(id).expect("an initializer");
    tensor.as_f32().expect("floats")
}

fn bytes_of(fitted: &Fitted) -> Vec<u8> {
    regraft_onnx::write_bytes(&fitted.graph).expect("a file")
}

#[test]
fn five_steps_are_those_of_pytorch() {
    let graph = graph();
    let mut watch = keep();
    let fitted = train(&graph, &config(5, 24), 24, None, &mut watch).expect("trained");
    let last = watch.states.last().expect("a state");
    let weights = last.effective();
    let named = fitted.trained.iter().map(|t| t.name.as_str());
    let found = named
        .zip(&weights)
        .chain(STATISTICS.into_iter().zip(last.running_statistics()));
    let mut n = 0;
    for (name, found) in found {
        let expected = numbers(&graph, &format!("after.{name}"));
        // The mean takes a bias before a normalisation away again: it has no gradient.
        let moves = name != "conv1.bias";
        assert_eq!(found != numbers(&graph, name), moves, "{name}");
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < F32_STEPS, "{name}: {f} is not {e}");
        }
        n += 1;
    }
    assert_eq!(n, 15);
}

/// Dropout, pruning and a moving average beside batch statistics.
fn everything() -> FitConfig {
    FitConfig {
        training_mode: TrainingMode {
            dropout: 0.3,
            ..TrainingMode::default()
        },
        average: Some(0.5),
        prune: Some(SoftPruning {
            method: Method::GradualMagnitude,
            goal: Goal::Connections {
                sparsity: 0.5,
                allocation: Allocation::Global,
            },
            begin: 0.0,
            end: 0.5,
            every: 1,
            ..SoftPruning::default()
        }),
        ..config(6, 16)
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let graph = graph();
    let config = everything();
    let whole = train(&graph, &config, 48, None, &mut keep()).expect("trained");
    let mut watch = Keep {
        states: Vec::new(),
        stop_after: 3,
    };
    let stopped = train(&graph, &config, 48, None, &mut watch);
    assert!(matches!(stopped, Err(TrainError::Interrupted)));
    let bytes = watch.states.last().expect("a state").to_bytes();
    let state = State::from_bytes(&bytes).expect("a state");
    let threads = FitConfig {
        exec: ExecOptions {
            threads: 2,
            ..config.exec
        },
        ..config
    };
    let again = train(&graph, &threads, 48, Some(state.clone()), &mut keep()).expect("trained");
    assert!(bytes_of(&whole) == bytes_of(&again), "other bytes");
    // A state with statistics is none of a run without.
    let folded = FitConfig {
        training_mode: TrainingMode {
            batch_statistics: false,
            ..config.training_mode
        },
        ..config
    };
    assert!(train(&graph, &folded, 48, Some(state), &mut keep()).is_err());
}

#[test]
fn what_is_written_is_what_was_judged() {
    let graph = graph();
    let fitted = train(&graph, &everything(), 48, None, &mut keep()).expect("trained");
    let reestimation = fitted.reestimation.expect("statistics");
    assert_eq!(reestimation.batches, 3);
    assert!(fitted.held_out_score >= reestimation.before);
    let written = regraft_onnx::read_bytes(&bytes_of(&fitted), None, &Limits::default());
    let written = written.expect("a model");
    let ops = |graph: &Graph| -> Vec<String> {
        let names = graph.nodes().map(|(_, n)| n.op.name().to_owned());
        names.collect()
    };
    assert_eq!(ops(&written), ops(&graph));
    let all = data(48 + HELD_OUT);
    let held_out: Vec<usize> = (48..48 + HELD_OUT).collect();
    let values = all
        .batch(&held_out, &Preprocess::default())
        .expect("a batch");
    let shape = [&[HELD_OUT], &SAMPLE[..]].concat();
    let executor = Executor::new(&written, ExecOptions::default()).expect("an executor");
    let feeds = [(written.required_inputs()[0], HostTensor::f32(shape, values))];
    let outputs = executor.run(&feeds).expect("a run");
    let classes = argmax_rows(outputs[0].as_f32().expect("floats"), 3).expect("classes");
    let right = classes.iter().zip(&held_out);
    let right = right.filter(|(c, i)| **c as usize == **i % 3).count();
    let accuracy = right as f64 / HELD_OUT as f64;
    assert!(
        (accuracy - fitted.held_out_score).abs() < 1e-9,
        "{accuracy}"
    );
    let weights = fitted.trained.iter().filter(|t| t.is_weight);
    let weights: Vec<f32> = weights
        .flat_map(|t| numbers(&written, &t.name).to_vec())
        .collect();
    let zeros = weights.iter().filter(|w| **w == 0.0).count();
    assert!(
        zeros * 2 >= weights.len() - 1,
        "{zeros} of {}",
        weights.len()
    );
    for name in STATISTICS {
        assert_ne!(numbers(&written, name), numbers(&graph, name), "{name}");
    }
}

/// Returns the network with a `Dropout` node of a ratio before its last layer.
fn with_dropout(ratio: f32, is_attribute: bool) -> Graph {
    let graph = graph();
    let from = graph.find_value("r3").expect("a value");
    let last = graph.nodes().find(|(_, n)| n.input(0) == Some(from));
    let last = last.expect("a reader").0;
    let mut edit = graph.edit();
    let share = ratio;
    let ratio = Tensor::from_f32(Vec::new(), vec![share]).expect("a number");
    let ratio = edit.add_initializer("ratio", ratio);
    let out = edit.add_value("kept");
    let (op, inputs): (_, Vec<Option<ValueId>>) = if is_attribute {
        (Op::Dropout { ratio: Some(share) }, vec![Some(from)])
    } else {
        (Op::Dropout { ratio: None }, vec![Some(from), Some(ratio)])
    };
    edit.add_op(op, inputs, vec![Some(out)]);
    edit.set_input(last, 0, Some(out));
    edit.finish().expect("a graph")
}

#[test]
fn dropout_nodes_are_active_while_training_and_stay_in_the_file() {
    let losses = |graph: &Graph, dropout: f32| -> Vec<f64> {
        let config = FitConfig {
            training_mode: TrainingMode {
                dropout,
                ..TrainingMode::default()
            },
            ..config(2, 24)
        };
        let fitted = train(graph, &config, 48, None, &mut keep()).expect("trained");
        let n = fitted
            .graph
            .nodes()
            .filter(|(_, n)| n.op.name() == "Dropout");
        let given = graph.nodes().filter(|(_, n)| n.op.name() == "Dropout");
        assert_eq!(n.count(), given.count());
        assert_eq!(fitted.graph.n_nodes(), graph.n_nodes());
        fitted.records.iter().map(|r| r.loss).collect()
    };
    let plain = losses(&graph(), 0.0);
    let own = |ratio, is_attribute| losses(&with_dropout(ratio, is_attribute), 0.0);
    assert_eq!(own(0.0, false), plain);
    let dropped = own(0.3, false);
    assert_ne!(dropped, plain);
    assert_ne!(own(0.5, false), dropped);
    assert_eq!(own(0.3, true), dropped);
    assert_ne!(losses(&graph(), 0.5), plain);
}

#[test]
fn settings_out_of_range_are_refused() {
    let modes = [
        (
            "dropout",
            TrainingMode {
                dropout: 1.0,
                ..TrainingMode::default()
            },
        ),
        (
            "dropout",
            TrainingMode {
                dropout: f32::NAN,
                ..TrainingMode::default()
            },
        ),
        (
            "statistics_momentum",
            TrainingMode {
                statistics_momentum: 0.0,
                ..TrainingMode::default()
            },
        ),
    ];
    for (name, training_mode) in modes {
        let config = FitConfig {
            training_mode,
            ..config(1, 24)
        };
        let error = train(&graph(), &config, 48, None, &mut keep()).expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}
