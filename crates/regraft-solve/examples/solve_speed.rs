//! Our side of the solvers in `cargo xtask bench-peers`: a line of text in, a line of JSON out.
//!
//! `solve_speed FOLDER THREADS` answers each line of stdin:
//!
//! - `layer NAME DAMPING`: reads a layer that `xtask/peers/solve_peers.py` wrote, `NAME.gram`,
//!   `NAME.weights` (f64, row-major, little-endian) and `NAME.mask` (bytes), and damps it; later
//!   lines work on it
//! - `sparsegpt KEEP`, `alps KEEP`, `refit`, `exact_obs`: `seconds` of one run, `error` relative to the
//!   outputs' energy where there is one, and a `note`
//! - `gram INPUTS THREADS`: `gram` and `square`, GFLOP/s of Gram accumulation and of a square product
//!   on every thread at once
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use regraft_solve::sparse::{
    AlpsConfig, Mask, Objective, ObjectiveConfig, Pattern, SupportRefit, alps, exact_obs,
    refit_support, sparsegpt,
};
use regraft_solve::{Bias, Gram, GramAccumulator, LeastSquares, Matrix, Samples};

/// Rows of the accumulated Gram.
const SAMPLES: usize = 16_384;

/// Side of the square product.
const SQUARE: usize = 1024;

/// Seconds over which the best run is looked for: other programs may hold the cores for a while.
const REPEAT_S: f64 = 1.5;

struct Layer {
    objective: Objective,
    mask: Mask,
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file of the layer")
}

fn doubles(path: &Path) -> Vec<f64> {
    let bytes = bytes(path);
    let words = bytes.as_chunks::<8>().0.iter();
    words.map(|word| f64::from_le_bytes(*word)).collect()
}

fn read_layer(folder: &Path, name: &str, damping: f64) -> Layer {
    let file = |kind: &str| folder.join(format!("{name}.{kind}"));
    let gram = doubles(&file("gram"));
    let d = gram.len().isqrt();
    let weights = doubles(&file("weights"));
    let r = weights.len() / d;
    let kept = bytes(&file("mask")).iter().map(|k| *k != 0).collect();
    let gram = Gram {
        matrix: Matrix::from_vec(d, d, gram).expect("square"),
        mean: vec![0.0; d],
        n: 1,
    };
    let weights = Matrix::from_vec(r, d, weights).expect("fits");
    let problem = LeastSquares::from_weights(&gram, &weights, Bias::None).expect("fits");
    let ladder = vec![damping];
    let objective = Objective::new(&problem, Some(&weights), &ObjectiveConfig { ladder });
    Layer {
        objective: objective.expect("damped"),
        mask: Mask::from_vec(r, d, kept).expect("fits"),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let t = Instant::now();
    let result = work();
    (t.elapsed().as_secs_f64(), result)
}

fn best_s(mut work: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed().as_secs_f64() < REPEAT_S {
        best = best.min(timed(&mut work).0);
    }
    best
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Returns GFLOP/s of the accumulation and of the square product.
fn gram_speed(d: usize, threads: usize) -> (f64, f64) {
    let (a, b) = (noise(SQUARE * SQUARE), noise(SQUARE * SQUARE));
    let mut outs = vec![vec![0.0; SQUARE * SQUARE]; threads];
    let square_s = best_s(|| {
        std::thread::scope(|scope| {
            for out in &mut outs {
                scope.spawn(|| regraft_solve::square_product_f32(out, &a, &b, SQUARE));
            }
        });
    });
    let x = noise(SAMPLES * d);
    let samples = Samples::rows(&x, SAMPLES, d).expect("sizes fit");
    let gram_s = best_s(|| {
        let mut acc = GramAccumulator::new(d, threads).expect("small");
        acc.add(samples).expect("sizes fit");
    });
    // A symmetric update needs d(d + 1) multiply-adds per row, not 2 d².
    let gram = (SAMPLES * d * (d + 1)) as f64 / gram_s / 1e9;
    let square = 2.0 * (threads * SQUARE * SQUARE * SQUARE) as f64 / square_s / 1e9;
    (gram, square)
}

fn solve(layer: &Layer, words: &[&str], threads: usize) -> String {
    let objective = &layer.objective;
    let keep = || words[1].parse::<usize>().expect("a number");
    let any = Pattern::Unstructured;
    let error = |weights: &Matrix| objective.relative(weights).expect("fits");
    let (seconds, error, note) = match words[0] {
        "sparsegpt" => {
            let run = || sparsegpt(objective, &objective.target, any, keep(), threads);
            let (seconds, found) = timed(run);
            (seconds, error(&found.expect("fits").weights), String::new())
        }
        "alps" => {
            let config = AlpsConfig::default();
            let (seconds, found) = timed(|| alps(objective, any, keep(), &config, threads));
            let found = found.expect("fits");
            let note = format!("{} iterations", found.iterations);
            (seconds, error(&found.weights), note)
        }
        "refit" => {
            let (seconds, found) = timed(|| refit_support(objective, &layer.mask, threads));
            let SupportRefit {
                relative_error,
                ways,
                ..
            } = found.expect("damped");
            let factored = ways.direct + ways.direct_f64 + ways.complement;
            let note = format!("{factored} rows by a factor");
            (seconds, relative_error, note)
        }
        "exact_obs" => {
            let (seconds, found) = timed(|| exact_obs(objective, any, 0, threads));
            (
                seconds,
                0.0,
                format!("{} steps", found.expect("fits").n_steps()),
            )
        }
        other => panic!("unknown line `{other}`"),
    };
    format!("{{\"seconds\": {seconds}, \"error\": {error}, \"note\": \"{note}\"}}")
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let threads = arguments.next().map_or(2, |t| t.parse().expect("a number"));
    let mut layer = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["layer", name, damping] => {
                let damping = damping.parse().expect("a number");
                let (seconds, read) = timed(|| read_layer(&folder, name, damping));
                layer = Some(read);
                println!("{{\"seconds\": {seconds}}}");
            }
            ["gram", d, threads] => {
                let number = |word: &str| word.parse().expect("a number");
                let (gram, square) = gram_speed(number(d), number(threads));
                println!("{{\"gram\": {gram}, \"square\": {square}}}");
            }
            words => println!(
                "{}",
                solve(layer.as_ref().expect("a layer first"), words, threads)
            ),
        }
    }
}
