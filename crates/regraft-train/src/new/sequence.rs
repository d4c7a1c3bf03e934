//! Layers of sequences.

use regraft_graph::Op;
use regraft_graph::op::{BinaryOp, Direction, Recurrent, RecurrentKind};

use super::builder::{Builder, Flow, Made};
use super::init::{self, Scale};
use super::layers::image;
use super::{Cell, ConvLayer, RecurrentLayer};

/// Half the width of the first position vectors: a deviation of 0.02 (Devlin et al., NAACL 2019).
const POSITION_BOUND: f64 = 0.034_641;

/// The most hidden units of a cell: drawing an orthogonal matrix takes their cube.
const MAX_HIDDEN: usize = 2048;

fn sequence(flow: &Flow) -> Made<[usize; 2]> {
    match flow.shape[..] {
        [steps, features] => Ok([steps, features]),
        _ => Err("it takes a sequence, steps x features".to_owned()),
    }
}

impl Builder {
    /// Returns the sequence with the batch as its first axis.
    pub(super) fn batch_first(&mut self, flow: Flow) -> Flow {
        if !flow.time_first {
            return flow;
        }
        let name = self.turn(&flow.name, &[1, 0, 2]);
        Flow::new(name, &flow.shape)
    }

    fn turn(&mut self, input: &str, perm: &[i64]) -> String {
        let name = self.name("turn");
        let op = Op::Transpose {
            perm: Some(perm.to_vec()),
        };
        self.op(&name, op, &[input])
    }

    /// Adds a `Reshape`; a zero keeps the extent that is there.
    fn reshape(&mut self, input: &str, shape: &[i64]) -> Made<String> {
        let name = self.name("reshape");
        let shape = self.integers(&format!("{name}.shape"), shape)?;
        let op = Op::Reshape { allowzero: false };
        Ok(self.op(&name, op, &[input, &shape]))
    }

    fn squeeze(&mut self, input: &str, axis: i64) -> Made<String> {
        let name = self.name("squeeze");
        let axes = self.integers(&format!("{name}.axes"), &[axis])?;
        Ok(self.op(&name, Op::Squeeze { axes: None }, &[input, &axes]))
    }

    pub(super) fn recurrent(&mut self, layer: RecurrentLayer, flow: Flow) -> Made<Flow> {
        let [steps, n_in] = sequence(&flow)?;
        let hidden = layer.hidden;
        if hidden == 0 || hidden > MAX_HIDDEN {
            return Err(format!(
                "{hidden} hidden units are not from 1 to {MAX_HIDDEN}"
            ));
        }
        let x = if flow.time_first {
            flow.name
        } else {
            self.turn(&flow.name, &[1, 0, 2])
        };
        let (word, kind) = match layer.cell {
            Cell::Gru => (
                "gru",
                RecurrentKind::Gru {
                    linear_before_reset: true,
                },
            ),
            Cell::Lstm => ("lstm", RecurrentKind::Lstm),
        };
        let direction = if layer.bidirectional {
            Direction::Bidirectional
        } else {
            Direction::Forward
        };
        let op = Recurrent {
            kind,
            hidden_size: hidden,
            direction,
            batch_first: false,
        };
        let name = self.name(word);
        let [w, r, b] = self.cell_weights(&name, &op, n_in)?;
        let out = format!("{name}.out");
        let outputs = if layer.last { ["", &out] } else { [&out, ""] };
        let outputs = if layer.last {
            &outputs[..]
        } else {
            &outputs[..1]
        };
        self.op_to(&name, Op::Recurrent(op), &[&x, &w, &r, &b], outputs);
        let width = hidden * direction.count();
        match (layer.last, layer.bidirectional) {
            (true, false) => Ok(Flow::new(self.squeeze(&out, 0)?, &[width])),
            (true, true) => {
                let turned = self.turn(&out, &[1, 0, 2]);
                let name = self.name("flatten");
                let made = self.op(&name, Op::Flatten { axis: 1 }, &[&turned]);
                Ok(Flow::new(made, &[width]))
            }
            (false, bidirectional) => {
                let made = if bidirectional {
                    let turned = self.turn(&out, &[0, 2, 1, 3]);
                    self.reshape(&turned, &[0, 0, width as i64])?
                } else {
                    self.squeeze(&out, 1)?
                };
                Ok(Flow {
                    name: made,
                    shape: vec![steps, width],
                    time_first: true,
                })
            }
        }
    }

    /// Adds input matrices, state matrices and biases of a cell; those of all directions, gates below
    /// one another.
    ///
    /// The bias of an LSTM's forget gate starts at one, so that at first it remembers (Jozefowicz et
    /// al., ICML 2015).
    fn cell_weights(&mut self, name: &str, op: &Recurrent, n_in: usize) -> Made<[String; 3]> {
        let (directions, gates, hidden) = (op.direction.count(), op.n_gates(), op.hidden_size);
        let rows = gates * hidden;
        let shape = [directions, rows, n_in];
        let w = self.weights(&format!("{name}.w"), &shape, Scale::Glorot, (n_in, hidden))?;
        let shape = [directions, rows, hidden];
        self.room_for(&shape)?;
        let mut states = Vec::new();
        for _ in 0..directions * gates {
            states.extend(init::orthogonal(self.random(), hidden));
        }
        let r = self.tensor(&format!("{name}.r"), &shape, states)?;
        let mut biases = vec![0.0; directions * 2 * rows];
        if op.kind == RecurrentKind::Lstm {
            // Gates in the order input, output, forget, cell; those of the input come first.
            for of_direction in biases.chunks_exact_mut(2 * rows) {
                of_direction[2 * hidden..3 * hidden].fill(1.0);
            }
        }
        let b = self.tensor(&format!("{name}.b"), &[directions, 2 * rows], biases)?;
        Ok([w, r, b])
    }

    pub(super) fn attention(&mut self, heads: usize, flow: &Flow) -> Made<Flow> {
        let [steps, width] = sequence(flow)?;
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(format!("{heads} heads divide {width} features with a rest"));
        }
        let size = width / heads;
        let name = self.name("attention");
        let mut parts = Vec::new();
        // Keys are turned for their product with the queries.
        for (part, perm) in [
            ("q", [0, 2, 1, 3]),
            ("k", [0, 2, 3, 1]),
            ("v", [0, 2, 1, 3]),
        ] {
            let part = format!("{name}.{part}");
            let made = self.project(&part, &flow.name, (width, width), (Scale::Glorot, true))?;
            let shape = [0, steps as i64, heads as i64, size as i64];
            let made = self.reshape(&made, &shape)?;
            parts.push(self.turn(&made, &perm));
        }
        let [q, k, v] = &parts[..] else {
            return Err("a part is missing".to_owned());
        };
        let products = self.op(&format!("{name}.products"), Op::MatMul, &[q, k]);
        let factor = self.number(&format!("{name}.factor"), 1.0 / (size as f32).sqrt())?;
        let scaled = format!("{name}.scaled");
        let scaled = self.op(&scaled, Op::Binary(BinaryOp::Mul), &[&products, &factor]);
        let softmax = Op::Softmax {
            axis: -1,
            flatten: false,
            log: false,
        };
        let shares = self.op(&format!("{name}.shares"), softmax, &[&scaled]);
        let mixed = self.op(&format!("{name}.mixed"), Op::MatMul, &[&shares, v]);
        let mixed = self.turn(&mixed, &[0, 2, 1, 3]);
        let mixed = self.reshape(&mixed, &[0, steps as i64, width as i64])?;
        let out = format!("{name}.out");
        let made = self.project(&out, &mixed, (width, width), (Scale::Glorot, true))?;
        Ok(Flow::new(made, &flow.shape))
    }

    pub(super) fn positions(&mut self, flow: &Flow) -> Made<Flow> {
        let [steps, width] = sequence(flow)?;
        let name = self.name("positions");
        let vectors = self.spread(
            &format!("{name}.weight"),
            &[1, steps, width],
            POSITION_BOUND,
        )?;
        let made = self.op(&name, Op::Binary(BinaryOp::Add), &[&flow.name, &vectors]);
        Ok(Flow::new(made, &flow.shape))
    }

    pub(super) fn patches(&mut self, out: usize, size: usize, flow: &Flow) -> Made<Flow> {
        let [channels, height, width] = image(flow)?;
        if size == 0 || !height.is_multiple_of(size) || !width.is_multiple_of(size) {
            return Err(format!(
                "squares of {size} cut {height} x {width} with a rest"
            ));
        }
        let conv = ConvLayer {
            stride: size,
            ..ConvLayer::new(out, size)
        };
        let name = self.name("patches");
        let made = self.convolve(&name, &conv, &flow.name, channels, (Scale::Glorot, true))?;
        let steps = (height / size) * (width / size);
        let rows = self.reshape(&made, &[0, out as i64, steps as i64])?;
        Ok(Flow::new(self.turn(&rows, &[0, 2, 1]), &[steps, out]))
    }
}
