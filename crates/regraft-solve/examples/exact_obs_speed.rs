//! Prints the seconds of all `ExactOBS` traces of resnet20's layers, on random Grams.
//!
//! `cargo run --release -p regraft-solve --example exact_obs_speed [THREADS]`
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use regraft_solve::gram::{CrossAccumulator, GramAccumulator, Samples};
use regraft_solve::sparse::{Objective, ObjectiveConfig, Pattern, exact_obs};
use regraft_solve::{Bias, LeastSquares};

/// Inputs, outputs, how many layers.
const LAYERS: [(usize, usize, usize); 7] = [
    (27, 16, 1),
    (144, 16, 6),
    (144, 32, 1),
    (288, 32, 5),
    (288, 64, 1),
    (576, 64, 5),
    (64, 10, 1),
];

fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Returns the objective of a layer whose inputs, like pixels, go with their neighbours.
fn objective(d: usize, r: usize) -> Objective {
    let n = 4096;
    let mut x = noise(7, n * d);
    for row in x.chunks_exact_mut(d) {
        let mut level = 0.0;
        for value in row {
            level = 0.8 * level + *value;
            *value = level.max(0.0);
        }
    }
    let y = noise(11, n * r);
    let rows = Samples::rows(&x, n, d).expect("sizes fit");
    let mut gram = GramAccumulator::new(d, 2).expect("small");
    gram.add(rows).expect("sizes fit");
    let mut cross = CrossAccumulator::new(d, r, 2).expect("small");
    let targets = Samples::rows(&y, n, r).expect("sizes fit");
    cross.add(rows, targets).expect("sizes fit");
    let (gram, cross) = (gram.finish().expect("rows"), cross.finish().expect("rows"));
    let problem = LeastSquares::from_statistics(&gram, &cross, Bias::Fit).expect("fits");
    Objective::new(&problem, None, &ObjectiveConfig::default()).expect("damped")
}

fn main() {
    let threads = std::env::args()
        .nth(1)
        .map_or(2, |t| t.parse().expect("a number"));
    println!("    d    r layers  seconds each ({threads} threads)");
    let mut total = 0.0;
    for (d, r, layers) in LAYERS {
        let objective = objective(d, r);
        let t = Instant::now();
        let traces = exact_obs(&objective, Pattern::Unstructured, 0, threads).expect("fits");
        let seconds = t.elapsed().as_secs_f64();
        assert_eq!(traces.n_steps(), r * d);
        total += seconds * layers as f64;
        println!("{d:5} {r:4} {layers:6} {seconds:9.4}");
    }
    println!("resnet20 in all: {total:.3} s");
}
