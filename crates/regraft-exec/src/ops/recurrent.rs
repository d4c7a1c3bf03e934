//! Recurrent layers over whole sequences: LSTM and GRU by kernels, the rest step by step.

use std::sync::{Arc, OnceLock};

use regraft_graph::op::{Direction, Recurrent, RecurrentKind};

use super::cells::{self, Layer};
use super::{Context, Inputs};
use crate::engine::{Backward, Float, HostKernel, run_kernel};
use crate::error::{OpResult, invalid};
use crate::kernels::{
    Cell, Direction as Reading, KernelError, RnnInputs, RnnOutputs, RnnShape, RnnTape,
    rnn_backward, rnn_forward,
};
use crate::value::Value;

/// A recurrent layer: inputs X, W, R, both biases, first state, first cell state. Its result is
/// Y, the last state and the last cell state one after the other, cut apart by the engine.
#[derive(Debug)]
struct RecurrentKernel {
    cell: Cell,
    shape: RnnShape,
    /// Numbers of Y and of one state.
    y_len: usize,
    state_len: usize,
    out: [usize; 1],
    threads: usize,
    tape: OnceLock<RnnTape>,
}

impl RecurrentKernel {
    fn inputs<'a>(&self, inputs: &[&'a [f32]]) -> RnnInputs<'a> {
        RnnInputs {
            x: inputs[0],
            w: inputs[1],
            r: inputs[2],
            bias: Some(inputs[3]),
            initial_h: Some(inputs[4]),
            initial_c: (self.cell == Cell::Lstm).then_some(inputs[5]),
        }
    }
}

impl HostKernel for RecurrentKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let inputs = self.inputs(inputs);
        let (outputs, tape) = rnn_forward(self.cell, &self.shape, &inputs, self.threads)?;
        // One kernel runs forward once; a second run would leave the same tape.
        let _ = self.tape.set(tape);
        let mut all = outputs.y;
        all.extend_from_slice(&outputs.y_h);
        all.extend_from_slice(&outputs.y_c);
        Ok(all)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let inputs = self.inputs(pass.inputs);
        let (y, states) = pass.grad.split_at(self.y_len);
        let (y_h, y_c) = states.split_at(self.state_len);
        let grad = RnnOutputs {
            y: y.to_vec(),
            y_h: y_h.to_vec(),
            y_c: y_c.to_vec(),
        };
        let none = RnnTape::default();
        let tape = self.tape.get().unwrap_or(&none);
        let grads = rnn_backward(self.cell, &self.shape, &inputs, tape, &grad, self.threads)?;
        let initial_c = (self.cell == Cell::Lstm).then_some(grads.initial_c);
        Ok(vec![
            Some(grads.x),
            Some(grads.w),
            Some(grads.r),
            Some(grads.bias),
            Some(grads.initial_h),
            initial_c,
        ])
    }
}

/// Returns input `port`, or zeros; either has `shape`.
fn or_zeros(inputs: &mut Inputs, port: usize, shape: &[usize]) -> OpResult<Float> {
    match inputs.optional_float(port)? {
        None => Ok(Float::full(0.0, shape)),
        Some(tensor) if tensor.shape() == shape => Ok(tensor),
        Some(tensor) => invalid(format!(
            "input {port} is {:?}, not {shape:?}",
            tensor.shape()
        )),
    }
}

fn expect(tensor: &Float, what: &str, shape: &[usize]) -> OpResult<()> {
    if tensor.shape() == shape {
        Ok(())
    } else {
        invalid(format!("{what} is {:?}, not {shape:?}", tensor.shape()))
    }
}

/// Returns the number of steps of each sample, where they are not all the same.
fn lengths_of(inputs: &mut Inputs, steps: usize, batch: usize) -> OpResult<Option<Vec<usize>>> {
    let Some(lengths) = inputs.ints(4)? else {
        return Ok(None);
    };
    let found: Vec<usize> = lengths
        .data
        .iter()
        .filter_map(|&n| usize::try_from(n).ok().filter(|n| *n <= steps))
        .collect();
    if found.len() != batch {
        return invalid(format!(
            "lengths {:?} of {batch} samples of {steps} steps",
            lengths.data
        ));
    }
    Ok(found.iter().any(|&n| n != steps).then_some(found))
}

/// Returns the sequence or state with its second axis first where the file has the batch first.
fn steps_first(op: &Recurrent, tensor: Float) -> Float {
    if op.batch_first {
        tensor.permute(&[1, 0, 2])
    } else {
        tensor
    }
}

fn outputs_of(op: &Recurrent, layer: &Layer) -> Vec<Value> {
    let [y, h, c] = cells::run(op, layer);
    let y = if op.batch_first {
        y.permute(&[2, 0, 1, 3])
    } else {
        y
    };
    let mut outputs = vec![Value::Float(y), Value::Float(steps_first(op, h))];
    if op.kind == RecurrentKind::Lstm {
        outputs.push(Value::Float(steps_first(op, c)));
    }
    outputs
}

pub(super) fn run(op: &Recurrent, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let (x, w, r) = (inputs.float(0)?, inputs.float(1)?, inputs.float(2)?);
    let x_shape = x.shape();
    let [first, second, n_in] = x_shape[..] else {
        return invalid(format!(
            "the sequence has the shape {x_shape:?}, not three axes"
        ));
    };
    let (steps, batch) = if op.batch_first {
        (second, first)
    } else {
        (first, second)
    };
    let (hidden, d) = (op.hidden_size, op.direction.count());
    let rows = op.n_gates().saturating_mul(hidden);
    expect(&w, "W", &[d, rows, n_in])?;
    expect(&r, "R", &[d, rows, hidden])?;
    let bias = or_zeros(inputs, 3, &[d, 2 * rows])?;
    let lengths = lengths_of(inputs, steps, batch)?;
    let (y_shape, state) = if op.batch_first {
        (vec![batch, steps, d, hidden], [batch, d, hidden])
    } else {
        (vec![steps, d, batch, hidden], [d, batch, hidden])
    };
    context.check_size(&y_shape)?;
    let h = or_zeros(inputs, 5, &state)?;
    let c = or_zeros(inputs, 6, &state)?;
    let peepholes = inputs.optional_float(7)?;
    if let Some(p) = &peepholes {
        expect(p, "P", &[d, 3 * hidden])?;
    }
    let cell = match op.kind {
        RecurrentKind::Lstm => Some(Cell::Lstm),
        RecurrentKind::Gru {
            linear_before_reset,
        } => Some(Cell::Gru {
            linear_before_reset,
        }),
        RecurrentKind::Rnn => None,
    };
    if let (Some(cell), None, None) = (cell, &peepholes, &lengths) {
        let shape = RnnShape {
            steps,
            batch,
            n_in,
            hidden,
            direction: match op.direction {
                Direction::Forward => Reading::Forward,
                Direction::Reverse => Reading::Reverse,
                Direction::Bidirectional => Reading::Bidirectional,
            },
            batch_first: op.batch_first,
        };
        let operands = [x, w, r, bias, h, c];
        return by_kernel(cell, shape, operands, [&y_shape, &state], context);
    }
    if x_shape.contains(&0) || hidden == 0 {
        return invalid(format!("a sequence of shape {x_shape:?}"));
    }
    let layer = Layer {
        x: steps_first(op, x),
        w,
        r,
        bias,
        h: steps_first(op, h),
        c: steps_first(op, c),
        peepholes,
        lengths,
    };
    Ok(outputs_of(op, &layer))
}

/// Runs the kernel; the last shapes are those of Y and of a state.
fn by_kernel(
    cell: Cell,
    shape: RnnShape,
    operands: [Float; 6],
    [y_shape, state]: [&[usize]; 2],
    context: &Context,
) -> OpResult<Vec<Value>> {
    let y_len: usize = y_shape.iter().product();
    let state_len: usize = state.iter().product();
    let lstm = cell == Cell::Lstm;
    let total = y_len + state_len * if lstm { 2 } else { 1 };
    let kernel = RecurrentKernel {
        cell,
        shape,
        y_len,
        state_len,
        out: [total],
        threads: context.threads,
        tape: OnceLock::new(),
    };
    let all = run_kernel(operands, Arc::new(kernel))?;
    let part = |from: usize, to: usize, shape: &[usize]| {
        Value::Float(all.clone().range(0, from, to).reshape(shape))
    };
    let mut outputs = vec![
        part(0, y_len, y_shape),
        part(y_len, y_len + state_len, state),
    ];
    if lstm {
        outputs.push(part(y_len + state_len, total, state));
    }
    Ok(outputs)
}
