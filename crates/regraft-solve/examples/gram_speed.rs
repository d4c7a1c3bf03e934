//! Prints GFLOP/s of the Gram accumulation against a square product, one core.
//!
//! `cargo run --release -p regraft-solve --example gram_speed`
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use regraft_solve::gram::{CrossAccumulator, GramAccumulator, Samples};

/// The best of many: other programs may hold the cores for a while.
const REPEATS: usize = 15;

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn best_s(mut f: impl FnMut()) -> f64 {
    (0..REPEATS).fold(f64::INFINITY, |best, _| {
        let t = Instant::now();
        f();
        best.min(t.elapsed().as_secs_f64())
    })
}

fn main() {
    println!("     d  threads  gram GF/s  square GF/s  share  cross GF/s");
    for d in [64, 144, 288, 576, 1152] {
        let n = 32_768;
        let x = noise(n * d);
        let y = noise(n * 64);
        let m = 1024;
        let (a, b) = (noise(m * m), noise(m * m));
        let mut c = vec![0.0; m * m];
        let square = 2.0 * (m * m * m) as f64
            / best_s(|| regraft_solve::square_product_f32(&mut c, &a, &b, m))
            / 1e9;
        for threads in [1, 2] {
            let samples = Samples::rows(&x, n, d).expect("sizes fit");
            let targets = Samples::rows(&y, n, 64).expect("sizes fit");
            let gram_s = best_s(|| {
                let mut acc = GramAccumulator::new(d, threads).expect("small");
                acc.add(samples).expect("sizes fit");
            });
            let cross_s = best_s(|| {
                let mut acc = CrossAccumulator::new(d, 64, threads).expect("small");
                acc.add(samples, targets).expect("sizes fit");
            });
            // A symmetric update needs d(d + 1) multiply-adds per row, not 2 d².
            let gram = (n * d * (d + 1)) as f64 / gram_s / 1e9;
            let cross = (2 * n * d * 64) as f64 / cross_s / 1e9;
            println!(
                "{d:6}  {threads:7}  {gram:9.1}  {square:11.1}  {:5.2}  {cross:10.1}",
                gram / square
            );
        }
    }
}
