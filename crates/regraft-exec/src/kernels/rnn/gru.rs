//! The steps of a GRU: h' = (1 − z)·n + z·h.

use super::super::matmul::LeftMatrix;
use super::{GateGrads, Incoming, RnnShape, Track, Weights, sigmoid};

/// Turns the projected inputs in `track.gates` into activations and appends the states.
pub(super) fn forward(
    shape: &RnnShape,
    weights: &Weights<'_>,
    linear_before_reset: bool,
    track: &mut Track,
    threads: usize,
) {
    let (hidden, batch) = (shape.hidden, shape.batch);
    let cells = hidden * batch;
    let (r_zr, r_n) = weights.r.split_at(2 * hidden * hidden);
    let both = LeftMatrix::new(2 * hidden, hidden, r_zr);
    let last = LeftMatrix::new(hidden, hidden, r_n);
    let mut product = vec![0.0; 2 * cells];
    let mut product_n = vec![0.0; cells];
    for (step, gates) in track.gates.chunks_exact_mut(3 * cells).enumerate() {
        let h = track.h[step * cells..][..cells].to_vec();
        both.times(&h, batch, &mut product, threads);
        let (zr, n) = gates.split_at_mut(2 * cells);
        for (j, gate) in zr.iter_mut().enumerate() {
            *gate = sigmoid(*gate + product[j] + weights.r_bias[j / batch]);
        }
        let reset = &zr[cells..];
        let bias = |j: usize| weights.r_bias[2 * hidden + j / batch];
        if linear_before_reset {
            last.times(&h, batch, &mut product_n, threads);
            for j in 0..cells {
                let inner = product_n[j] + bias(j);
                track.extra.push(inner);
                n[j] = (n[j] + reset[j] * inner).tanh();
            }
        } else {
            let kept: Vec<f32> = reset.iter().zip(&h).map(|(r, h)| r * h).collect();
            last.times(&kept, batch, &mut product_n, threads);
            track.extra.extend(kept);
            for j in 0..cells {
                n[j] = (n[j] + product_n[j] + bias(j)).tanh();
            }
        }
        for j in 0..cells {
            track.h.push((1.0 - zr[j]) * n[j] + zr[j] * h[j]);
        }
    }
}

/// Returns the gate gradients.
pub(super) fn backward(
    shape: &RnnShape,
    weights: &Weights<'_>,
    linear_before_reset: bool,
    track: &Track,
    from: Incoming,
    threads: usize,
) -> GateGrads {
    let (hidden, batch) = (shape.hidden, shape.batch);
    let cells = hidden * batch;
    let (r_zr, r_n) = weights.r.split_at(2 * hidden * hidden);
    let both = LeftMatrix::transposed(hidden, 2 * hidden, r_zr);
    let last = LeftMatrix::transposed(hidden, hidden, r_n);
    let Incoming { y, mut h, .. } = from;
    let mut input = vec![0.0; track.gates.len()];
    let mut recurrent = vec![0.0; track.gates.len()];
    let mut product = vec![0.0; cells];
    let mut product_n = vec![0.0; cells];
    for step in (0..shape.steps).rev() {
        let gates = &track.gates[step * 3 * cells..][..3 * cells];
        let before = &track.h[step * cells..][..cells];
        let extra = &track.extra[step * cells..][..cells];
        let (d_zr, d_n) = input[step * 3 * cells..][..3 * cells].split_at_mut(2 * cells);
        let (_, d_inner) = recurrent[step * 3 * cells..][..3 * cells].split_at_mut(2 * cells);
        for j in 0..cells {
            let (z, r, n) = (gates[j], gates[cells + j], gates[2 * cells + j]);
            let d_h = h[j] + y[step * cells + j];
            d_zr[j] = d_h * (before[j] - n) * z * (1.0 - z);
            d_n[j] = d_h * (1.0 - z) * (1.0 - n * n);
            d_inner[j] = if linear_before_reset {
                d_n[j] * r
            } else {
                d_n[j]
            };
            h[j] = d_h * z;
        }
        last.times(d_inner, batch, &mut product_n, threads);
        for j in 0..cells {
            let r = gates[cells + j];
            // The reset gate meets the recurrent product, or the state before it.
            let met = if linear_before_reset {
                d_n[j] * extra[j]
            } else {
                product_n[j] * before[j]
            };
            d_zr[cells + j] = met * r * (1.0 - r);
            h[j] += if linear_before_reset {
                product_n[j]
            } else {
                product_n[j] * r
            };
        }
        both.times(d_zr, batch, &mut product, threads);
        for (slot, value) in h.iter_mut().zip(&product) {
            *slot += value;
        }
        recurrent[step * 3 * cells..][..2 * cells].copy_from_slice(d_zr);
    }
    GateGrads {
        input,
        recurrent,
        initial_h: h,
        initial_c: Vec::new(),
    }
}
