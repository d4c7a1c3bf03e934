//! Times our side of `cargo xtask bench-peers --only training`:
//! `peer_training MODEL.onnx BATCH THREADS STEPS`.
//!
//! One untimed step, then STEPS timed ones, each as `fit` makes it: a batch of random samples, forward,
//! cross-entropy, gradients, and SGD with Nesterov's momentum and weight decay. The last line is one JSON
//! object `{"runs_ms": [..]}`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Instant;

use regraft_data::{Augment, Dataset, Preprocess, SplitMix64};
use regraft_exec::ExecOptions;
use regraft_graph::fold::fold;
use regraft_graph::infer::InferOptions;
use regraft_graph::{Dim, Graph, ValueId};
use regraft_train::{
    Decay, EpochRecord, FitConfig, Objective, Optimizer, Samples, Schedule, State, Trained,
    TrainingMode, Watch, fit,
};

type Failure = Box<dyn std::error::Error>;

/// Classes of the labels.
const N_CLASSES: usize = 10;

/// When every step ended.
#[derive(Debug, Default)]
struct Clock(Vec<Instant>);

impl Watch for Clock {
    fn step(&mut self, _: usize, _: usize, _: f32) {
        self.0.push(Instant::now());
    }

    fn epoch(&mut self, _: &EpochRecord, _: &State, _: &[Trained]) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Returns `n` random samples for the input, with labels.
fn noise(graph: &Graph, input: ValueId, n: usize) -> Result<Dataset, Failure> {
    let declared = graph.value(input).declared.as_ref();
    let shape = declared.and_then(|d| d.shape.as_ref());
    let shape = shape.ok_or("the input has no shape")?;
    let sample: Option<Vec<usize>> = shape.iter().skip(1).map(Dim::fixed).collect();
    let sample = sample.ok_or("the input has a free extent behind the batch")?;
    let mut random = SplitMix64::new(0);
    let len = n * sample.iter().product::<usize>();
    let values = (0..len).map(|_| (random.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0);
    let labels = (0..n).map(|i| (i % N_CLASSES) as u32).collect();
    let shape = [&[n], &sample[..]].concat();
    let values: Vec<f32> = values.collect();
    Ok(Dataset::from_values("noise", &shape, values, Some(labels))?)
}

/// As `regraft fit` trains by default, at a rate that keeps noise from diverging.
fn config(batch: usize, threads: usize) -> FitConfig {
    FitConfig {
        epochs: 1,
        batch,
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            nesterov: true,
        },
        schedule: Schedule {
            peak: 1e-3,
            decay: Decay::Constant,
            warm_up: 0.0,
            hold: 0.0,
        },
        objective: Objective::default(),
        l2: 5e-4,
        l1: 0.0,
        clip: None,
        average: None,
        training_mode: TrainingMode::default(),
        augment: Augment::None,
        adversary: None,
        prune: None,
        patience: None,
        seed: 0,
        exec: ExecOptions {
            threads,
            ..ExecOptions::default()
        },
    }
}

fn run() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [model, numbers @ ..] = &words[..] else {
        return Err("usage: peer_training MODEL.onnx BATCH THREADS STEPS".into());
    };
    let numbers: Result<Vec<usize>, _> = numbers.iter().map(|w| w.parse()).collect();
    let &[batch, threads, steps] = &numbers?[..] else {
        return Err("usage: peer_training MODEL.onnx BATCH THREADS STEPS".into());
    };
    let graph = regraft_onnx::read(model.as_ref(), &regraft_onnx::Limits::default())?;
    let (graph, _) = fold(&graph, &InferOptions::default())?;
    let inputs = graph.required_inputs();
    let &input = inputs.first().ok_or("the network has no input")?;
    let n_fit = batch * (steps + 1);
    let data = noise(&graph, input, n_fit + 1)?;
    let all: Vec<usize> = (0..n_fit).collect();
    let samples = Samples {
        data: &data,
        preprocess: &Preprocess::default(),
        input,
        fit: &all,
        held_out: &[n_fit],
    };
    let mut clock = Clock::default();
    fit(
        &graph,
        None,
        samples,
        &config(batch, threads),
        None,
        &mut clock,
    )?;
    let pairs = clock.0.windows(2);
    let times: Vec<String> = pairs
        .map(|w| format!("{:.3}", (w[1] - w[0]).as_secs_f64() * 1e3))
        .collect();
    println!("{{\"runs_ms\": [{}]}}", times.join(", "));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
