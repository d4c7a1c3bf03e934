use super::*;
use crate::kernels::samples::{assert_close, samples, to_f64};

/// A few steps of sums and smooth functions in f32.
const F32_RNN: f64 = 3e-5;

/// Differences over a step of 1e-4 in f64, plus the f32 error of the gradient.
const F32_RNN_GRADIENT: f64 = 1e-4;

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The ONNX definition, one sequence and one number at a time; `args` = x, w, r, bias, h, c.
fn reference(cell: Cell, s: &RnnShape, args: &[Vec<f64>; 6]) -> [Vec<f64>; 3] {
    let [x, w, r, bias, h0, c0] = args;
    let (d, hid, gates) = (s.directions(), s.hidden, cell.gates());
    let mut out = [
        vec![0.0; s.steps * d * s.batch * hid],
        h0.clone(),
        c0.clone(),
    ];
    for dir in 0..d {
        for b in 0..s.batch {
            let at = s.state_at(dir, b);
            let (mut h, mut c) = (h0[at..at + hid].to_vec(), c0[at..at + hid].to_vec());
            for index in 0..s.steps {
                let step = s.step(dir, index);
                let input = |g: usize, j: usize| -> f64 {
                    let row = dir * gates * hid + g * hid + j;
                    let sum: f64 = (0..s.n_in)
                        .map(|i| w[row * s.n_in + i] * x[s.x_at(step, b) + i])
                        .sum();
                    sum + bias[2 * dir * gates * hid + g * hid + j]
                };
                let state = |g: usize, j: usize, h: &[f64]| -> f64 {
                    let row = dir * gates * hid + g * hid + j;
                    let sum: f64 = (0..hid).map(|k| r[row * hid + k] * h[k]).sum();
                    sum + bias[(2 * dir + 1) * gates * hid + g * hid + j]
                };
                let old = h.clone();
                match cell {
                    Cell::Lstm => {
                        for j in 0..hid {
                            let [i, o, f] =
                                [0, 1, 2].map(|g| logistic(input(g, j) + state(g, j, &old)));
                            c[j] = f * c[j] + i * (input(3, j) + state(3, j, &old)).tanh();
                            h[j] = o * c[j].tanh();
                        }
                    }
                    Cell::Gru {
                        linear_before_reset,
                    } => {
                        let reset: Vec<f64> = (0..hid)
                            .map(|j| logistic(input(1, j) + state(1, j, &old)))
                            .collect();
                        let kept: Vec<f64> = reset.iter().zip(&old).map(|(r, h)| r * h).collect();
                        for j in 0..hid {
                            let z = logistic(input(0, j) + state(0, j, &old));
                            let inner = if linear_before_reset {
                                reset[j] * state(2, j, &old)
                            } else {
                                state(2, j, &kept)
                            };
                            h[j] = (1.0 - z) * (input(2, j) + inner).tanh() + z * old[j];
                        }
                    }
                }
                let y = s.y_at(step, dir, b);
                out[0][y..y + hid].copy_from_slice(&h);
            }
            out[1][at..at + hid].copy_from_slice(&h);
            out[2][at..at + hid].copy_from_slice(&c);
        }
    }
    out
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table of cells and directions")]
fn forward_is_the_definition_and_backward_its_differences() {
    let cells = [
        Cell::Lstm,
        Cell::Gru {
            linear_before_reset: false,
        },
        Cell::Gru {
            linear_before_reset: true,
        },
    ];
    let directions = [
        Direction::Forward,
        Direction::Reverse,
        Direction::Bidirectional,
    ];
    for (case, (cell, direction)) in cells
        .into_iter()
        .flat_map(|c| directions.map(|d| (c, d)))
        .enumerate()
    {
        let s = RnnShape {
            steps: 1 + case % 4,
            batch: 1 + case % 3,
            n_in: 3,
            hidden: 2 + case % 2 * 3,
            direction,
            batch_first: case % 2 == 0,
        };
        let rows = s.directions() * cell.gates() * s.hidden;
        let states = s.directions() * s.batch * s.hidden;
        let lens = [
            s.steps * s.batch * s.n_in,
            rows * s.n_in,
            rows * s.hidden,
            2 * rows,
            states,
            states,
        ];
        let mut seed = 0;
        let args = lens.map(|len| {
            seed += 1;
            samples(seed, len)
        });
        let inputs = RnnInputs {
            x: &args[0],
            w: &args[1],
            r: &args[2],
            bias: Some(&args[3]),
            initial_h: Some(&args[4]),
            initial_c: Some(&args[5]),
        };
        let args_64 = args.clone().map(|a| to_f64(&a));
        let expected = reference(cell, &s, &args_64);
        let (outputs, tape) = rnn_forward(cell, &s, &inputs, 2).unwrap();
        let what = format!("{cell:?} {s:?}");
        assert_close(&what, &outputs.y, &expected[0], F32_RNN);
        assert_close(&what, &outputs.y_h, &expected[1], F32_RNN);
        let is_lstm = cell == Cell::Lstm;
        if is_lstm {
            assert_close(&what, &outputs.y_c, &expected[2], F32_RNN);
        }
        let up = RnnOutputs {
            y: samples(11, outputs.y.len()),
            y_h: samples(12, states),
            y_c: if is_lstm {
                samples(13, states)
            } else {
                Vec::new()
            },
        };
        let grads = rnn_backward(cell, &s, &inputs, &tape, &up, 2).unwrap();
        let value = |args: &[Vec<f64>; 6]| -> f64 {
            let out = reference(cell, &s, args);
            let ups = [&up.y, &up.y_h, &up.y_c];
            out.iter()
                .zip(ups)
                .flat_map(|(o, u)| o.iter().zip(u))
                .map(|(o, u)| o * f64::from(*u))
                .sum()
        };
        let actual = [
            &grads.x,
            &grads.w,
            &grads.r,
            &grads.bias,
            &grads.initial_h,
            &grads.initial_c,
        ];
        for (which, actual) in actual.iter().enumerate().take(if is_lstm { 6 } else { 5 }) {
            let slopes: Vec<f64> = (0..actual.len())
                .map(|i| {
                    let moved = |by: f64| {
                        let mut args = args_64.clone();
                        args[which][i] += by;
                        value(&args)
                    };
                    (moved(1e-4) - moved(-1e-4)) / 2e-4
                })
                .collect();
            assert_close(
                &format!("{what} argument {which}"),
                actual,
                &slopes,
                F32_RNN_GRADIENT,
            );
        }
    }
}

#[test]
fn absent_states_and_biases_are_zeros_and_bad_lengths_are_refused() {
    let s = RnnShape {
        steps: 2,
        batch: 2,
        n_in: 2,
        hidden: 3,
        direction: Direction::Forward,
        batch_first: false,
    };
    let (x, w, r) = (samples(1, 8), samples(2, 24), samples(3, 36));
    let none = RnnInputs {
        x: &x,
        w: &w,
        r: &r,
        bias: None,
        initial_h: None,
        initial_c: None,
    };
    let zeros = RnnInputs {
        bias: Some(&[0.0; 24]),
        initial_h: Some(&[0.0; 6]),
        initial_c: Some(&[0.0; 6]),
        ..none
    };
    let a = rnn_forward(Cell::Lstm, &s, &none, 1).unwrap().0;
    let b = rnn_forward(Cell::Lstm, &s, &zeros, 1).unwrap().0;
    assert_eq!(a.y, b.y);
    assert!(rnn_forward(Cell::Lstm, &s, &RnnInputs { w: &w[1..], ..none }, 1).is_err());
    assert!(rnn_forward(Cell::Lstm, &RnnShape { hidden: 0, ..s }, &none, 1).is_err());
    let empty = rnn_backward(
        Cell::Lstm,
        &s,
        &none,
        &RnnTape::default(),
        &RnnOutputs::default(),
        1,
    );
    assert!(empty.is_err());
}
