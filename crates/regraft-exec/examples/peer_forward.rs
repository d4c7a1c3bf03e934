//! Times our side of `cargo xtask bench-peers`:
//! `peer_forward MODEL.onnx BATCH THREADS RUNS [--train]`.
//!
//! One untimed run, then RUNS timed ones on seeded random input. With `--train` a run is one
//! step: forward, the mean of the squared outputs as the loss, the gradient of every float
//! initializer, and `w -= 1e-3 · gradient`. The last line is one JSON object.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Instant;

use regraft_exec::{ExecOptions, Executor, HostTensor, LossTerm};
use regraft_graph::infer::InferOptions;
use regraft_graph::{Graph, ValueId};

/// The rate of the peers' optimiser.
const RATE: f32 = 1e-3;

/// Any number: the same input on every run of the program.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

type Failure = Box<dyn std::error::Error>;

struct Arguments {
    model: String,
    batch: usize,
    threads: usize,
    runs: usize,
    train: bool,
}

fn arguments() -> Result<Arguments, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: peer_forward MODEL.onnx BATCH THREADS RUNS [--train]";
    let (model, numbers, train) = match words.as_slice() {
        [model, a, b, c] => (model, [a, b, c], false),
        [model, a, b, c, flag] if flag == "--train" => (model, [a, b, c], true),
        _ => return Err(usage.into()),
    };
    let number = |word: &String| {
        word.parse()
            .map_err(|e| format!("`{word}` is no number: {e}"))
    };
    Ok(Arguments {
        model: model.clone(),
        batch: number(numbers[0])?,
        threads: number(numbers[1])?,
        runs: number(numbers[2])?.max(1),
        train,
    })
}

/// Returns numbers spread evenly over -1.7 to 1.7, which have variance one (xorshift64).
fn random(count: usize) -> Vec<f32> {
    let mut state = SEED;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count)
        .map(|_| (next() - 0.5) * 2.0 * 3f32.sqrt())
        .collect()
}

/// Returns random input for everything that the graph has to be fed.
fn feeds(graph: &Graph, batch: usize) -> Result<Vec<(ValueId, HostTensor)>, Failure> {
    let mut feeds = Vec::new();
    for id in graph.required_inputs() {
        let value = graph.value(id);
        let declared = value.declared.as_ref().and_then(|d| d.shape.as_ref());
        let Some(declared) = declared else {
            return Err(format!("input `{}` has no shape", value.name).into());
        };
        let mut shape: Vec<usize> = declared
            .iter()
            .map(|d| d.fixed().unwrap_or(batch))
            .collect();
        if let Some(first) = shape.first_mut() {
            *first = batch;
        }
        let data = random(shape.iter().product());
        feeds.push((id, HostTensor::f32(shape, data)));
    }
    Ok(feeds)
}

/// One training step; the weights are kept here and handed to the executor after every step.
struct Training {
    loss: Vec<LossTerm>,
    weights: Vec<(ValueId, Vec<f32>)>,
}

impl Training {
    fn new(executor: &Executor, feeds: &[(ValueId, HostTensor)]) -> Result<Self, Failure> {
        let outputs = executor.run_captured(feeds, executor.graph().outputs())?;
        let loss = outputs
            .into_iter()
            .filter(|(_, tensor)| tensor.as_f32().is_some())
            .map(|(id, tensor)| {
                let zeros = HostTensor::f32(tensor.shape.clone(), vec![0.0; tensor.len()]);
                LossTerm::mean_squared_error(id, zeros)
            })
            .collect();
        let weights = executor
            .graph()
            .initializers()
            .keys()
            .filter_map(|&id| Some((id, executor.initializer(id)?)))
            .collect();
        Ok(Self { loss, weights })
    }

    fn step(
        &mut self,
        executor: &mut Executor,
        feeds: &[(ValueId, HostTensor)],
    ) -> Result<(), Failure> {
        let wrt: Vec<ValueId> = self.weights.iter().map(|(id, _)| *id).collect();
        let result = executor.gradients(feeds, &self.loss, &wrt)?;
        for (id, weight) in &mut self.weights {
            let gradient = result.gradients.get(id).and_then(HostTensor::as_f32);
            for (w, g) in weight.iter_mut().zip(gradient.unwrap_or(&[])) {
                *w -= RATE * g;
            }
            executor.set_initializer(*id, weight)?;
        }
        Ok(())
    }
}

fn measure(arguments: &Arguments) -> Result<Vec<f64>, Failure> {
    let limits = regraft_onnx::Limits::default();
    let graph = regraft_onnx::read(arguments.model.as_ref(), &limits)?;
    let (graph, _) = regraft_graph::fold::fold(&graph, &InferOptions::default())?;
    let options = ExecOptions {
        threads: arguments.threads,
        ..ExecOptions::default()
    };
    let mut executor = Executor::new(&graph, options)?;
    let feeds = feeds(&graph, arguments.batch)?;
    let mut training = if arguments.train {
        Some(Training::new(&executor, &feeds)?)
    } else {
        None
    };
    let mut times = Vec::with_capacity(arguments.runs);
    for run in 0..=arguments.runs {
        let start = Instant::now();
        match &mut training {
            Some(training) => training.step(&mut executor, &feeds)?,
            None => drop(executor.run(&feeds)?),
        }
        // The first run starts threads and touches memory for the first time.
        if run > 0 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times)
}

fn main() -> ExitCode {
    let times = arguments().and_then(|arguments| measure(&arguments));
    match times {
        Ok(times) => {
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            let list: Vec<String> = times.iter().map(|t| format!("{t:.3}")).collect();
            println!(
                "{{\"median_ms\": {:.3}, \"runs_ms\": [{}]}}",
                sorted[sorted.len() / 2],
                list.join(", ")
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
