//! The steps of an LSTM: c' = f·c + i·g, h' = o·tanh(c').

use super::super::matmul::LeftMatrix;
use super::{GateGrads, Incoming, RnnShape, Track, Weights, sigmoid};

/// Turns the projected inputs in `track.gates` into activations and appends the states.
pub(super) fn forward(shape: &RnnShape, weights: &Weights<'_>, track: &mut Track, threads: usize) {
    let (hidden, batch) = (shape.hidden, shape.batch);
    let cells = hidden * batch;
    let recurrent = LeftMatrix::new(4 * hidden, hidden, weights.r);
    let mut product = vec![0.0; 4 * cells];
    for (step, gates) in track.gates.chunks_exact_mut(4 * cells).enumerate() {
        let h = &track.h[step * cells..];
        recurrent.times(&h[..cells], batch, &mut product, threads);
        let columns = product.chunks_exact(batch).zip(&weights.r_bias);
        for (row, (added, bias)) in gates.chunks_exact_mut(batch).zip(columns) {
            for (gate, value) in row.iter_mut().zip(added) {
                *gate += value + bias;
            }
        }
        let (sigmoids, tanhs) = gates.split_at_mut(3 * cells);
        for gate in sigmoids {
            *gate = sigmoid(*gate);
        }
        for gate in tanhs {
            *gate = gate.tanh();
        }
        for j in 0..cells {
            let (i, o, f, g) = (
                gates[j],
                gates[cells + j],
                gates[2 * cells + j],
                gates[3 * cells + j],
            );
            let c = f * track.c[step * cells + j] + i * g;
            track.c.push(c);
            track.h.push(o * c.tanh());
        }
    }
}

/// Returns the gate gradients, last step first in time.
pub(super) fn backward(
    shape: &RnnShape,
    weights: &Weights<'_>,
    track: &Track,
    from: Incoming,
    threads: usize,
) -> GateGrads {
    let (hidden, batch) = (shape.hidden, shape.batch);
    let cells = hidden * batch;
    let turned = LeftMatrix::transposed(hidden, 4 * hidden, weights.r);
    let Incoming { y, mut h, mut c } = from;
    let mut grads = vec![0.0; track.gates.len()];
    for step in (0..shape.steps).rev() {
        let gates = &track.gates[step * 4 * cells..][..4 * cells];
        let own = &mut grads[step * 4 * cells..][..4 * cells];
        for j in 0..cells {
            let (i, o, f, g) = (
                gates[j],
                gates[cells + j],
                gates[2 * cells + j],
                gates[3 * cells + j],
            );
            let d_h = h[j] + y[step * cells + j];
            let tanh_c = track.c[(step + 1) * cells + j].tanh();
            let d_c = c[j] + d_h * o * (1.0 - tanh_c * tanh_c);
            own[j] = d_c * g * i * (1.0 - i);
            own[cells + j] = d_h * tanh_c * o * (1.0 - o);
            own[2 * cells + j] = d_c * track.c[step * cells + j] * f * (1.0 - f);
            own[3 * cells + j] = d_c * i * (1.0 - g * g);
            c[j] = d_c * f;
        }
        turned.times(own, batch, &mut h, threads);
    }
    GateGrads {
        input: grads.clone(),
        recurrent: grads,
        initial_h: h,
        initial_c: c,
    }
}
