//! Deterministic random rows for the tests.

use crate::gram::{CrossAccumulator, GramAccumulator, Samples};
use crate::matrix::Matrix;
use crate::problem::{Bias, LeastSquares};

/// Returns `len` values in -1..1 from a seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Returns `n × d` rows whose columns are correlated and of different sizes and means.
pub(crate) fn correlated(seed: u64, n: usize, d: usize) -> Vec<f32> {
    let raw = noise(seed, n * d);
    let mix = noise(seed + 1, d * d);
    let mut rows = vec![0.0; n * d];
    for i in 0..n {
        for j in 0..d {
            let mixed: f32 = (0..d).map(|k| raw[i * d + k] * mix[k * d + j]).sum();
            rows[i * d + j] = (mixed + 0.3).max(0.0) * (1.0 + j as f32 / d as f32);
        }
    }
    rows
}

/// Returns the problem of a random layer: `n` rows, `d` inputs, `r` outputs, the
/// targets made by other inputs than those seen. Also the layer's weights.
pub(crate) fn layer(seed: u64, n: usize, d: usize, r: usize, bias: Bias) -> (LeastSquares, Matrix) {
    let x = correlated(seed, n, d);
    let w = noise(seed + 2, r * d);
    let jitter = noise(seed + 3, n * d);
    let mut y = vec![0.0; n * r];
    for i in 0..n {
        for o in 0..r {
            y[i * r + o] = (0..d)
                .map(|k| w[o * d + k] * (x[i * d + k] + 0.1 * jitter[i * d + k]))
                .sum();
        }
    }
    let mut gram = GramAccumulator::new(d, 1).unwrap();
    let mut cross = CrossAccumulator::new(d, r, 1).unwrap();
    let rows = Samples::rows(&x, n, d).unwrap();
    gram.add(rows).unwrap();
    cross.add(rows, Samples::rows(&y, n, r).unwrap()).unwrap();
    let (gram, cross) = (gram.finish().unwrap(), cross.finish().unwrap());
    let problem = LeastSquares::from_statistics(&gram, &cross, bias).unwrap();
    (problem, Matrix::from_f32(r, d, &w).unwrap())
}
