//! Times the forward pass and the gradients of one model: `speed MODEL BATCH THREADS`.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use regraft_exec::{ExecOptions, Executor, HostTensor, LossTerm};

fn main() {
    let mut words = std::env::args().skip(1);
    let model = words.next().expect("a model file");
    let batch: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(32);
    let threads: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(2);
    let limits = regraft_onnx::Limits::default();
    let graph = regraft_onnx::read(model.as_ref(), &limits).expect("a model");
    let options = ExecOptions {
        threads,
        ..ExecOptions::default()
    };
    let executor = Executor::new(&graph, options).expect("an executor");
    let input = graph.required_inputs()[0];
    let declared = graph
        .value(input)
        .declared
        .as_ref()
        .and_then(|d| d.shape.clone());
    let mut shape: Vec<usize> = declared
        .expect("a shape")
        .iter()
        .map(|d| d.fixed().unwrap_or(batch))
        .collect();
    shape[0] = batch;
    let n: usize = shape.iter().product();
    let data = (0..n)
        .map(|i| ((i * 7919) % 2048) as f32 / 1024.0 - 1.0)
        .collect();
    let feeds = [(input, HostTensor::f32(shape, data))];
    let output = graph.outputs()[0];
    let weights: Vec<_> = graph
        .initializers()
        .iter()
        .filter(|(_, i)| i.tensor.as_f32().is_some() && i.tensor.shape().len() > 1)
        .map(|(id, _)| *id)
        .collect();
    let loss = [LossTerm::cross_entropy(
        output,
        (0..batch).map(|i| i % 10).collect(),
    )];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        let start = Instant::now();
        executor.run(&feeds).expect("a run");
        times[0].push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        executor
            .gradients(&feeds, &loss, &weights)
            .expect("gradients");
        times[1].push(start.elapsed().as_secs_f64() * 1e3);
    }
    for (name, times) in ["forward", "forward and gradients"].iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.2} ms (batch {batch}, {threads} threads)",
            times[times.len() / 2]
        );
    }
}
