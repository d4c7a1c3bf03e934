//! Times a training step of one model: `step_speed MODEL BATCH THREADS [STEPS]`.
//!
//! The counterpart in `PyTorch` is `step_speed.py` beside it.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use regraft_data::{Augment, Dataset, Preprocess};
use regraft_exec::ExecOptions;
use regraft_graph::Dim;
use regraft_graph::fold::fold_keeping_dropout;
use regraft_graph::infer::InferOptions;
use regraft_train::{
    Decay, EpochRecord, FitConfig, Objective, Optimizer, Samples, Schedule, State, Trained,
    TrainingMode, Watch, fit,
};

/// When every step ended.
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

fn main() {
    let mut words = std::env::args().skip(1);
    let model = words.next().expect("a model file");
    let mut number = |default: usize| -> usize {
        let word = words.next().and_then(|w| w.parse().ok());
        word.unwrap_or(default)
    };
    let (batch, threads, steps) = (number(128), number(2), number(12));
    let limits = regraft_onnx::Limits::default();
    let graph = regraft_onnx::read(model.as_ref(), &limits).expect("a model");
    let (graph, _) = fold_keeping_dropout(&graph, &InferOptions::default()).expect("folded");
    let input = graph.required_inputs()[0];
    let declared = graph.value(input).declared.as_ref();
    let shape = declared.and_then(|d| d.shape.clone()).expect("a shape");
    let sample: Vec<usize> = shape[1..].iter().filter_map(Dim::fixed).collect();
    let n = batch * steps + 1;
    let len = n * sample.iter().product::<usize>();
    let values = (0..len).map(|i| ((i * 7919) % 2048) as f32 / 1024.0 - 1.0);
    let labels = (0..n).map(|i| (i % 10) as u32).collect();
    let shape = [&[n], &sample[..]].concat();
    let data = Dataset::from_values("noise", &shape, values.collect(), Some(labels));
    let data = data.expect("a data set");
    let config = FitConfig {
        epochs: 1,
        batch,
        optimizer: Optimizer::default(),
        schedule: Schedule {
            peak: 0.01,
            decay: Decay::Constant,
            warm_up: 0.0,
        },
        objective: Objective::default(),
        l2: 5e-4,
        l1: 0.0,
        clip: None,
        average: None,
        training_mode: TrainingMode::default(),
        augment: Augment::None,
        prune: None,
        patience: None,
        seed: 0,
        exec: ExecOptions {
            threads,
            ..ExecOptions::default()
        },
    };
    let fit_on: Vec<usize> = (0..n - 1).collect();
    let samples = Samples {
        data: &data,
        preprocess: &Preprocess::default(),
        input,
        fit: &fit_on,
        held_out: &[n - 1],
    };
    let mut clock = Clock(Vec::new());
    fit(&graph, None, samples, &config, None, &mut clock).expect("trained");
    // The first step is warm-up.
    let pairs = clock.0.windows(2);
    let mut times: Vec<f64> = pairs.map(|w| (w[1] - w[0]).as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    println!(
        "step: fastest {:.1} ms, median {:.1} ms (batch {batch}, {threads} threads)",
        times[0],
        times[times.len() / 2]
    );
}
