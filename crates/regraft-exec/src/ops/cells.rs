//! Recurrent layers step by step in operations of the engine: what the kernels do not cover, plain
//! cells, sequences of different lengths, peepholes.

use regraft_graph::op::{Direction, Recurrent, RecurrentKind};

use crate::engine::Float;

/// What a layer reads, states as directions × batch × hidden.
#[derive(Debug)]
pub(super) struct Layer {
    /// Steps × batch × features.
    pub(super) x: Float,
    pub(super) w: Float,
    pub(super) r: Float,
    /// Directions × twice the rows.
    pub(super) bias: Float,
    pub(super) h: Float,
    pub(super) c: Float,
    /// Directions × three times the hidden size, for input, output and forget gate.
    pub(super) peepholes: Option<Float>,
    /// The number of steps of each sample.
    pub(super) lengths: Option<Vec<usize>>,
}

/// The weights of one direction, ready for products from the left.
struct Weights {
    r: Float,
    r_bias: Float,
    peepholes: Option<[Float; 3]>,
    hidden: usize,
}

/// Returns part `i` of the last of two axes, cut into parts of `size`.
fn part(t: &Float, i: usize, size: usize) -> Float {
    t.clone().range(1, i * size, (i + 1) * size)
}

fn one_minus(t: Float) -> Float {
    t.neg().add_scalar(1.0)
}

impl Weights {
    /// Returns the next hidden and cell state; `x` is the input's share of the gates.
    fn step(&self, kind: RecurrentKind, x: &Float, h: &Float, c: &Float) -> (Float, Float) {
        let n = self.hidden;
        let recurrent = h.clone().matmul(self.r.clone()).add(self.r_bias.clone());
        let gate = |i: usize| part(x, i, n).add(part(&recurrent, i, n));
        match kind {
            RecurrentKind::Rnn => (gate(0).tanh(), c.clone()),
            RecurrentKind::Lstm => {
                let seen = |gate: Float, i: usize, state: &Float| match &self.peepholes {
                    Some(p) => gate.add(state.clone().mul(p[i].clone())),
                    None => gate,
                };
                let input = seen(gate(0), 0, c).sigmoid();
                let forget = seen(gate(2), 2, c).sigmoid();
                let new = forget.mul(c.clone()).add(input.mul(gate(3).tanh()));
                let output = seen(gate(1), 1, &new).sigmoid();
                (output.mul(new.clone().tanh()), new)
            }
            RecurrentKind::Gru {
                linear_before_reset,
            } => {
                let (update, reset) = (gate(0).sigmoid(), gate(1).sigmoid());
                let candidate = if linear_before_reset {
                    part(x, 2, n).add(reset.mul(part(&recurrent, 2, n)))
                } else {
                    let r = part(&self.r, 2, n);
                    let own = reset.mul(h.clone()).matmul(r);
                    part(x, 2, n).add(own).add(part(&self.r_bias, 2, n))
                };
                let kept = update.clone().mul(h.clone());
                let new = one_minus(update).mul(candidate.tanh());
                (new.add(kept), c.clone())
            }
        }
    }
}

/// Returns row `d` of the first axis in another shape.
fn row(t: &Float, d: usize, shape: &[usize]) -> Float {
    t.clone().range(0, d, d + 1).reshape(shape)
}

/// Returns steps × directions × batch × hidden, and both last states.
pub(super) fn run(op: &Recurrent, layer: &Layer) -> [Float; 3] {
    let x_shape = layer.x.shape();
    let (steps, batch, n_in) = (x_shape[0], x_shape[1], x_shape[2]);
    let (hidden, rows) = (op.hidden_size, op.hidden_size * op.n_gates());
    let mut sides = Vec::new();
    let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
    for d in 0..op.direction.count() {
        let bias = row(&layer.bias, d, &[1, 2 * rows]);
        let weights = Weights {
            r: row(&layer.r, d, &[rows, hidden]).transpose(),
            r_bias: part(&bias, 1, rows),
            peepholes: layer.peepholes.as_ref().map(|p| {
                let own = row(p, d, &[1, 3 * hidden]);
                [0, 1, 2].map(|i| part(&own, i, hidden))
            }),
            hidden,
        };
        let flat = layer.x.clone().reshape(&[steps * batch, n_in]);
        let w = row(&layer.w, d, &[rows, n_in]).transpose();
        let projected = flat.matmul(w).add(part(&bias, 0, rows));
        let mut h = row(&layer.h, d, &[batch, hidden]);
        let mut c = row(&layer.c, d, &[batch, hidden]);
        let reverse = op.direction == Direction::Reverse || d == 1;
        let mut outputs = vec![h.clone(); steps];
        for index in 0..steps {
            let step = if reverse { steps - 1 - index } else { index };
            let x = projected.clone().range(0, step * batch, (step + 1) * batch);
            let (new_h, new_c) = weights.step(op.kind, &x, &h, &c);
            match mask(layer.lengths.as_deref(), step) {
                None => (h, c) = (new_h.clone(), new_c),
                Some(mask) => {
                    let old = one_minus(mask.clone());
                    let mix = |new: Float, before: Float| {
                        new.mul(mask.clone()).add(before.mul(old.clone()))
                    };
                    (h, c) = (mix(new_h.clone(), h), mix(new_c, c));
                }
            }
            // What lies behind the end of a sequence is zero.
            let y = match mask(layer.lengths.as_deref(), step) {
                None => new_h,
                Some(mask) => new_h.mul(mask),
            };
            if let Some(slot) = outputs.get_mut(step) {
                *slot = y.reshape(&[1, 1, batch, hidden]);
            }
        }
        sides.push(Float::concat(outputs, 0));
        last_h.push(h.reshape(&[1, batch, hidden]));
        last_c.push(c.reshape(&[1, batch, hidden]));
    }
    [
        Float::concat(sides, 1),
        Float::concat(last_h, 0),
        Float::concat(last_c, 0),
    ]
}

/// Returns one for samples that reach this step, else zero; `None` where all do.
fn mask(lengths: Option<&[usize]>, step: usize) -> Option<Float> {
    let lengths = lengths?;
    let reached = lengths.iter().map(|&n| f32::from(u8::from(step < n)));
    Some(Float::new(reached.collect(), &[lengths.len(), 1]))
}
