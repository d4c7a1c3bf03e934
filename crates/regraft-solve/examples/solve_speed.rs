//! Prints the seconds of exact refits on random masks, one line of text per case.
//!
//! `cargo run --release -p regraft-solve --example solve_speed [THREADS [FOLDER]]`
//!
//! With a folder, the cases are those that `xtask/peers/solve_peers.py` wrote there: `NAME.gram` and
//! `NAME.weights` (f64, row-major, little-endian) and `NAME.mask` (bytes). Without, one random Gram.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::disallowed_methods)]

use std::path::Path;
use std::time::Instant;

use regraft_solve::sparse::{Mask, Objective, ObjectiveConfig, SupportRefit, refit_support};
use regraft_solve::{Bias, Gram, GramAccumulator, LeastSquares, Matrix, Samples};

const N_IN: usize = 3072;
const N_OUT: usize = 768;

fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Returns a Gram of inputs that go with their neighbours, as pixels and words do.
fn random_gram() -> Gram {
    let n = 2 * N_IN;
    let mut x = noise(7, n * N_IN);
    for row in x.chunks_exact_mut(N_IN) {
        let mut level = 0.0;
        for value in row {
            level = 0.8 * level + *value;
            *value = level.max(0.0);
        }
    }
    let mut gram = GramAccumulator::new(N_IN, 2).expect("small");
    gram.add(Samples::rows(&x, n, N_IN).expect("sizes fit"))
        .expect("sizes fit");
    gram.finish().expect("rows")
}

fn doubles(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).expect("a case's file");
    let words = bytes.as_chunks::<8>().0.iter();
    words.map(|word| f64::from_le_bytes(*word)).collect()
}

fn measure(name: &str, gram: &Gram, weights: &Matrix, mask: &Mask, threads: usize) {
    let problem = LeastSquares::from_weights(gram, weights, Bias::None).expect("fits");
    let objective = Objective::new(&problem, Some(weights), &ObjectiveConfig::default());
    let objective = objective.expect("damped");
    let t = Instant::now();
    let found = refit_support(&objective, mask, threads).expect("damped");
    let seconds = t.elapsed().as_secs_f64();
    let SupportRefit {
        ways,
        steps,
        factorisations,
        ..
    } = &found;
    println!(
        "refit {name} {}x{} threads {threads}: {seconds:.2} s, residual {:.1e}, error {:.5}, \
         {factorisations} factors, {steps} steps, {ways:?}",
        mask.rows, mask.cols, found.largest_residual, found.relative_error,
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(2, |t| t.parse().expect("a number"));
    let Some(folder) = arguments.next() else {
        let weights = Matrix::from_f32(N_OUT, N_IN, &noise(3, N_OUT * N_IN)).expect("sizes fit");
        let kept = noise(5, N_OUT * N_IN)
            .into_iter()
            .map(|v| v < 0.0)
            .collect();
        let mask = Mask::from_vec(N_OUT, N_IN, kept).expect("sizes fit");
        return measure("neighbours", &random_gram(), &weights, &mask, threads);
    };
    let folder = Path::new(&folder);
    let listed = std::fs::read_dir(folder).expect("the folder");
    let mut names: Vec<String> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "gram"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    for name in names {
        let file = |kind: &str| folder.join(format!("{name}.{kind}"));
        let gram = doubles(&file("gram"));
        let d = gram.len().isqrt();
        let weights = doubles(&file("weights"));
        let r = weights.len() / d;
        let kept = std::fs::read(file("mask")).expect("a case's file");
        let mask = Mask::from_vec(r, d, kept.iter().map(|k| *k != 0).collect()).expect("fits");
        let gram = Gram {
            matrix: Matrix::from_vec(d, d, gram).expect("square"),
            mean: vec![0.0; d],
            n: 1,
        };
        let weights = Matrix::from_vec(r, d, weights).expect("fits");
        measure(&name, &gram, &weights, &mask, threads);
    }
}
