//! LSTM and GRU with the meaning of ONNX, forward and backward through time.
//!
//! Inside, states are hidden × batch and gates hidden × (step · batch), so that one
//! product projects the inputs of all steps and each step's product reads packed
//! weights. Default activations; no peepholes, no sequence lengths, no clipping.

mod gru;
mod lstm;
#[cfg(test)]
mod tests;

use super::error::{KernelError, check_len, product};
use super::matmul::{LeftMatrix, transpose};

/// Which recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Gates in the order input, output, forget, cell.
    Lstm,
    /// Gates in the order update, reset, hidden.
    Gru {
        /// Whether the reset gate acts after the recurrent product and its bias.
        linear_before_reset: bool,
    },
}

impl Cell {
    /// Returns the gates of the cell.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
        }
    }
}

/// The order in which steps are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// First to last.
    Forward,
    /// Last to first.
    Reverse,
    /// Both, with weights of their own.
    Bidirectional,
}

/// Sizes of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RnnShape {
    /// Steps of the sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Numbers per step that go in.
    pub n_in: usize,
    /// Numbers of the state.
    pub hidden: usize,
    /// Order of the steps.
    pub direction: Direction,
    /// Whether the batch is the first axis (ONNX `layout = 1`).
    pub batch_first: bool,
}

/// Arguments of a recurrent layer, laid out as in ONNX; D is the number of directions.
///
/// # Shapes
/// `x` steps × batch × `n_in`, `w` D × gates·hidden × `n_in`, `r` D × gates·hidden × hidden,
/// `bias` D × 2·gates·hidden (input, then recurrent), states D × batch × hidden. With
/// `batch_first`, `x` and the states begin with the batch.
#[derive(Debug, Clone, Copy)]
pub struct RnnInputs<'a> {
    /// Sequence.
    pub x: &'a [f32],
    /// Weights of the input.
    pub w: &'a [f32],
    /// Weights of the state.
    pub r: &'a [f32],
    /// Both biases, zero where absent.
    pub bias: Option<&'a [f32]>,
    /// State before the first step, zero where absent.
    pub initial_h: Option<&'a [f32]>,
    /// Cell state before the first step (LSTM), zero where absent.
    pub initial_c: Option<&'a [f32]>,
}

/// Results of a recurrent layer, or their gradients.
///
/// # Shapes
/// `y` steps × D × batch × hidden, with `batch_first` batch × steps × D × hidden; states
/// as in [`RnnInputs`]; `y_c` is empty for a GRU.
#[derive(Debug, Clone, Default)]
pub struct RnnOutputs {
    /// State after every step.
    pub y: Vec<f32>,
    /// State after the last step read.
    pub y_h: Vec<f32>,
    /// Cell state after the last step read.
    pub y_c: Vec<f32>,
}

/// Gradients with respect to the fields of [`RnnInputs`], in their layout.
#[derive(Debug, Clone, Default)]
pub struct RnnGrads {
    /// Of the sequence.
    pub x: Vec<f32>,
    /// Of the weights of the input.
    pub w: Vec<f32>,
    /// Of the weights of the state.
    pub r: Vec<f32>,
    /// Of both biases.
    pub bias: Vec<f32>,
    /// Of the first state.
    pub initial_h: Vec<f32>,
    /// Of the first cell state; empty for a GRU.
    pub initial_c: Vec<f32>,
}

/// What the forward pass keeps for [`rnn_backward`].
#[derive(Debug, Clone, Default)]
pub struct RnnTape {
    directions: Vec<Track>,
}

/// One direction: everything hidden × batch per step, in the order of reading.
#[derive(Debug, Clone, Default)]
struct Track {
    /// Gate activations, gates·hidden × batch per step.
    gates: Vec<f32>,
    /// States before each step and after the last.
    h: Vec<f32>,
    c: Vec<f32>,
    /// GRU: the recurrent part of the hidden gate (linear before reset) or reset · state.
    extra: Vec<f32>,
}

/// One direction's weights, ready to be multiplied.
struct Weights<'a> {
    w: &'a [f32],
    r: &'a [f32],
    w_bias: Vec<f32>,
    r_bias: Vec<f32>,
}

/// Gate gradients of one direction, gates·hidden × batch per step.
struct GateGrads {
    /// Of what the input product gave, and of what the recurrent product gave.
    input: Vec<f32>,
    recurrent: Vec<f32>,
    initial_h: Vec<f32>,
    initial_c: Vec<f32>,
}

impl RnnShape {
    fn directions(&self) -> usize {
        if self.direction == Direction::Bidirectional {
            2
        } else {
            1
        }
    }

    fn is_reverse(&self, direction: usize) -> bool {
        self.direction == Direction::Reverse || direction == 1
    }

    /// Returns the step that is read as number `index`.
    fn step(&self, direction: usize, index: usize) -> usize {
        if self.is_reverse(direction) {
            self.steps - 1 - index
        } else {
            index
        }
    }

    fn x_at(&self, step: usize, b: usize) -> usize {
        let row = if self.batch_first {
            b * self.steps + step
        } else {
            step * self.batch + b
        };
        row * self.n_in
    }

    fn y_at(&self, step: usize, direction: usize, b: usize) -> usize {
        let d = self.directions();
        let row = if self.batch_first {
            (b * self.steps + step) * d + direction
        } else {
            (step * d + direction) * self.batch + b
        };
        row * self.hidden
    }

    fn state_at(&self, direction: usize, b: usize) -> usize {
        let row = if self.batch_first {
            b * self.directions() + direction
        } else {
            direction * self.batch + b
        };
        row * self.hidden
    }

    /// Returns one direction's state as hidden × batch.
    fn read_state(&self, state: Option<&[f32]>, direction: usize) -> Vec<f32> {
        let mut own = vec![0.0; self.hidden * self.batch];
        if let Some(state) = state {
            for b in 0..self.batch {
                let row = &state[self.state_at(direction, b)..][..self.hidden];
                for (j, value) in row.iter().enumerate() {
                    own[j * self.batch + b] = *value;
                }
            }
        }
        own
    }

    fn write_state(&self, own: &[f32], direction: usize, state: &mut [f32]) {
        for b in 0..self.batch {
            let row = &mut state[self.state_at(direction, b)..][..self.hidden];
            for (j, slot) in row.iter_mut().enumerate() {
                *slot = own[j * self.batch + b];
            }
        }
    }

    /// Returns the input rows in the order of reading: (step · batch) × `n_in`.
    fn rows_in_order(&self, direction: usize, x: &[f32]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(x.len());
        for index in 0..self.steps {
            let step = self.step(direction, index);
            for b in 0..self.batch {
                rows.extend_from_slice(&x[self.x_at(step, b)..][..self.n_in]);
            }
        }
        rows
    }

    fn check(&self, cell: Cell, inputs: &RnnInputs<'_>) -> Result<[usize; 2], KernelError> {
        for (name, size) in [
            ("steps", self.steps),
            ("batch", self.batch),
            ("input size", self.n_in),
            ("hidden size", self.hidden),
        ] {
            super::shape::nonzero(name, size)?;
        }
        let d = self.directions();
        let rows = product(&[d, cell.gates(), self.hidden, 2])? / 2;
        check_len(
            "x",
            inputs.x,
            product(&[self.steps, self.batch, self.n_in])?,
        )?;
        check_len("w", inputs.w, product(&[rows, self.n_in])?)?;
        check_len("r", inputs.r, product(&[rows, self.hidden])?)?;
        let state = product(&[d, self.batch, self.hidden])?;
        let y = product(&[state, self.steps])?;
        product(&[rows, self.batch, self.steps])?;
        for (name, slice, expected) in [
            ("bias", inputs.bias, 2 * rows),
            ("initial_h", inputs.initial_h, state),
            ("initial_c", inputs.initial_c, state),
        ] {
            if let Some(slice) = slice {
                check_len(name, slice, expected)?;
            }
        }
        Ok([y, state])
    }
}

fn weights_of<'a>(
    cell: Cell,
    shape: &RnnShape,
    inputs: &RnnInputs<'a>,
    direction: usize,
) -> Weights<'a> {
    let rows = cell.gates() * shape.hidden;
    let bias = |half: usize| match inputs.bias {
        Some(bias) => bias[(2 * direction + half) * rows..][..rows].to_vec(),
        None => vec![0.0; rows],
    };
    Weights {
        w: &inputs.w[direction * rows * shape.n_in..][..rows * shape.n_in],
        r: &inputs.r[direction * rows * shape.hidden..][..rows * shape.hidden],
        w_bias: bias(0),
        r_bias: bias(1),
    }
}

/// Returns the outputs and the tape of a recurrent layer.
///
/// # Errors
/// [`KernelError`] when a size is zero or a slice does not have its length.
pub fn rnn_forward(
    cell: Cell,
    shape: &RnnShape,
    inputs: &RnnInputs<'_>,
    threads: usize,
) -> Result<(RnnOutputs, RnnTape), KernelError> {
    let [y_len, state_len] = shape.check(cell, inputs)?;
    let mut outputs = RnnOutputs {
        y: vec![0.0; y_len],
        y_h: vec![0.0; state_len],
        y_c: vec![0.0; if cell == Cell::Lstm { state_len } else { 0 }],
    };
    let mut tape = RnnTape::default();
    let cells = shape.hidden * shape.batch;
    for direction in 0..shape.directions() {
        let weights = weights_of(cell, shape, inputs, direction);
        let rows = cell.gates() * shape.hidden;
        let columns = shape.steps * shape.batch;
        let x = shape.rows_in_order(direction, inputs.x);
        let x = transpose(columns, shape.n_in, &x);
        let mut projected = vec![0.0; rows * columns];
        LeftMatrix::new(rows, shape.n_in, weights.w).times(&x, columns, &mut projected, threads);
        let gates = by_step(&projected, rows, shape, &weights.w_bias);
        let mut track = Track {
            gates,
            h: shape.read_state(inputs.initial_h, direction),
            c: shape.read_state(inputs.initial_c, direction),
            extra: Vec::new(),
        };
        match cell {
            Cell::Lstm => lstm::forward(shape, &weights, &mut track, threads),
            Cell::Gru {
                linear_before_reset,
            } => gru::forward(shape, &weights, linear_before_reset, &mut track, threads),
        }
        for (index, h) in track.h.chunks_exact(cells).skip(1).enumerate() {
            let step = shape.step(direction, index);
            for b in 0..shape.batch {
                let row = &mut outputs.y[shape.y_at(step, direction, b)..][..shape.hidden];
                for (j, slot) in row.iter_mut().enumerate() {
                    *slot = h[j * shape.batch + b];
                }
            }
        }
        shape.write_state(&track.h[shape.steps * cells..], direction, &mut outputs.y_h);
        if cell == Cell::Lstm {
            shape.write_state(&track.c[shape.steps * cells..], direction, &mut outputs.y_c);
        }
        tape.directions.push(track);
    }
    Ok((outputs, tape))
}

/// Returns rows × (step · batch) as step × rows × batch, plus a number per row.
fn by_step(projected: &[f32], rows: usize, shape: &RnnShape, bias: &[f32]) -> Vec<f32> {
    let columns = shape.steps * shape.batch;
    let mut gates = Vec::with_capacity(rows * columns);
    for step in 0..shape.steps {
        for row in 0..rows {
            let from = &projected[row * columns + step * shape.batch..][..shape.batch];
            gates.extend(from.iter().map(|v| v + bias[row]));
        }
    }
    gates
}

/// Returns step × rows × batch as rows × (step · batch).
fn by_row(grads: &[f32], rows: usize, shape: &RnnShape) -> Vec<f32> {
    let mut result = Vec::with_capacity(grads.len());
    for row in 0..rows {
        for step in grads.chunks_exact(rows * shape.batch) {
            result.extend_from_slice(&step[row * shape.batch..][..shape.batch]);
        }
    }
    result
}

/// Returns the gradients of a recurrent layer from those of its outputs.
///
/// An empty field of `grad_outputs` stands for zeros. `tape` comes from [`rnn_forward`]
/// on the same arguments.
/// # Errors
/// As [`rnn_forward`], and [`KernelError::BufferLength`] for a tape of another shape.
pub fn rnn_backward(
    cell: Cell,
    shape: &RnnShape,
    inputs: &RnnInputs<'_>,
    tape: &RnnTape,
    grad_outputs: &RnnOutputs,
    threads: usize,
) -> Result<RnnGrads, KernelError> {
    let [y_len, state_len] = shape.check(cell, inputs)?;
    for (name, slice, expected) in [
        ("grad y", &grad_outputs.y, y_len),
        ("grad y_h", &grad_outputs.y_h, state_len),
        ("grad y_c", &grad_outputs.y_c, state_len),
    ] {
        if !slice.is_empty() {
            check_len(name, slice, expected)?;
        }
    }
    let rows = cell.gates() * shape.hidden;
    let columns = shape.steps * shape.batch;
    let cells = shape.hidden * shape.batch;
    let kept: usize = tape.directions.iter().map(|t| t.gates.len()).sum();
    let states: usize = tape.directions.iter().map(|t| t.h.len()).sum();
    let d = shape.directions();
    if kept != d * rows * columns || states != d * (cells * (shape.steps + 1)) {
        return Err(KernelError::BufferLength {
            name: "tape",
            expected: d * rows * columns,
            actual: kept,
        });
    }
    let mut grads = RnnGrads {
        x: vec![0.0; inputs.x.len()],
        initial_h: vec![0.0; state_len],
        initial_c: vec![0.0; if cell == Cell::Lstm { state_len } else { 0 }],
        ..RnnGrads::default()
    };
    for (direction, track) in tape.directions.iter().enumerate() {
        let weights = weights_of(cell, shape, inputs, direction);
        let from = Incoming {
            y: grads_by_step(shape, direction, &grad_outputs.y),
            h: shape.read_state(given(&grad_outputs.y_h), direction),
            c: shape.read_state(given(&grad_outputs.y_c), direction),
        };
        let own = match cell {
            Cell::Lstm => lstm::backward(shape, &weights, track, from, threads),
            Cell::Gru {
                linear_before_reset,
            } => gru::backward(shape, &weights, linear_before_reset, track, from, threads),
        };
        let input = by_row(&own.input, rows, shape);
        let recurrent = by_row(&own.recurrent, rows, shape);
        let sums = |m: &[f32]| -> Vec<f32> {
            m.chunks_exact(columns)
                .map(|row| row.iter().map(|v| f64::from(*v)).sum::<f64>() as f32)
                .collect()
        };
        grads.bias.extend(sums(&input));
        grads.bias.extend(sums(&recurrent));

        let x = shape.rows_in_order(direction, inputs.x);
        let mut d_w = vec![0.0; rows * shape.n_in];
        LeftMatrix::new(rows, columns, &input).times(&x, shape.n_in, &mut d_w, threads);
        grads.w.extend(d_w);
        grads
            .r
            .extend(recurrent_grads(cell, shape, track, &recurrent, threads));

        let mut d_x = vec![0.0; shape.n_in * columns];
        let turned = LeftMatrix::transposed(shape.n_in, rows, weights.w);
        turned.times(&input, columns, &mut d_x, threads);
        for index in 0..shape.steps {
            let step = shape.step(direction, index);
            for b in 0..shape.batch {
                let row = &mut grads.x[shape.x_at(step, b)..][..shape.n_in];
                for (i, slot) in row.iter_mut().enumerate() {
                    *slot += d_x[i * columns + index * shape.batch + b];
                }
            }
        }
        shape.write_state(&own.initial_h, direction, &mut grads.initial_h);
        if cell == Cell::Lstm {
            shape.write_state(&own.initial_c, direction, &mut grads.initial_c);
        }
    }
    Ok(grads)
}

/// Gradients of one direction's results, hidden × batch (per step).
struct Incoming {
    y: Vec<f32>,
    h: Vec<f32>,
    c: Vec<f32>,
}

fn given(slice: &[f32]) -> Option<&[f32]> {
    (!slice.is_empty()).then_some(slice)
}

fn grads_by_step(shape: &RnnShape, direction: usize, grad_y: &[f32]) -> Vec<f32> {
    let cells = shape.hidden * shape.batch;
    let mut result = vec![0.0; shape.steps * cells];
    if grad_y.is_empty() {
        return result;
    }
    for (index, own) in result.chunks_exact_mut(cells).enumerate() {
        let step = shape.step(direction, index);
        for b in 0..shape.batch {
            let row = &grad_y[shape.y_at(step, direction, b)..][..shape.hidden];
            for (j, value) in row.iter().enumerate() {
                own[j * shape.batch + b] = *value;
            }
        }
    }
    result
}

/// Returns the gradient of the recurrent weights: gate gradients times what they met.
fn recurrent_grads(
    cell: Cell,
    shape: &RnnShape,
    track: &Track,
    recurrent: &[f32],
    threads: usize,
) -> Vec<f32> {
    let (hidden, columns) = (shape.hidden, shape.steps * shape.batch);
    let cells = hidden * shape.batch;
    let rows = cell.gates() * hidden;
    // step × hidden × batch → (step · batch) × hidden
    let met = |states: &[f32]| -> Vec<f32> {
        states
            .chunks_exact(cells)
            .take(shape.steps)
            .flat_map(|state| transpose(hidden, shape.batch, state))
            .collect()
    };
    let mut result = vec![0.0; rows * hidden];
    let states = met(&track.h);
    let reset_first = matches!(
        cell,
        Cell::Gru {
            linear_before_reset: false
        }
    );
    let split = if reset_first { 2 * hidden } else { rows };
    let (upper, lower) = result.split_at_mut(split * hidden);
    LeftMatrix::new(split, columns, &recurrent[..split * columns])
        .times(&states, hidden, upper, threads);
    if reset_first {
        LeftMatrix::new(hidden, columns, &recurrent[split * columns..]).times(
            &met(&track.extra),
            hidden,
            lower,
            threads,
        );
    }
    result
}

/// Returns the logistic function.
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
