//! Prints the seconds of a whole structured OBS curve and of an exact refit, one core.
//!
//! `cargo run --release -p regraft-solve --example obs_speed`
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use regraft_solve::gram::{CrossAccumulator, GramAccumulator, Samples};
use regraft_solve::obs::{Consumer, ObsConfig, eliminate};
use regraft_solve::{Bias, LeastSquares, RefitConfig, refit};

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn main() {
    println!("units   k      d    r  obs s  refit s");
    for (n_units, k, r) in [
        (16, 9, 16),
        (64, 9, 64),
        (512, 1, 128),
        (128, 9, 128),
        (256, 9, 256),
    ] {
        let (d, n) = (n_units * k, 4096);
        let x = noise(n * d);
        let y = noise(n * r);
        let rows = Samples::rows(&x, n, d).expect("sizes fit");
        let mut gram = GramAccumulator::new(d, 1).expect("small");
        gram.add(rows).expect("sizes fit");
        let mut cross = CrossAccumulator::new(d, r, 1).expect("small");
        let targets = Samples::rows(&y, n, r).expect("sizes fit");
        cross.add(rows, targets).expect("sizes fit");
        let (gram, cross) = (gram.finish().expect("rows"), cross.finish().expect("rows"));
        let problem = LeastSquares::from_statistics(&gram, &cross, Bias::Fit).expect("fits");
        let units: Vec<Vec<usize>> = (0..n_units)
            .map(|u| (u * k..(u + 1) * k).collect())
            .collect();
        let consumer = Consumer {
            problem: &problem,
            units: &units,
            weight: 1.0,
            anchor: None,
        };
        let t = Instant::now();
        let found = eliminate(&[consumer], &vec![true; n_units], &ObsConfig::default());
        let obs_s = t.elapsed().as_secs_f64();
        let kept = found.expect("damped").kept_after(n_units / 2, n_units);
        let cols: Vec<usize> = kept.iter().flat_map(|&u| units[u].clone()).collect();
        let t = Instant::now();
        refit(&problem, &cols, None, &RefitConfig::default()).expect("damped");
        let refit_s = t.elapsed().as_secs_f64();
        println!("{n_units:5} {k:3} {d:6} {r:4} {obs_s:6.3} {refit_s:8.4}");
    }
}
