//! Attention behind linear layers, recurrent cells and the blocks of transformers: channels on the last axis.

use regraft_graph::op::{ReduceKind, UnaryOp};
use regraft_graph::{GraphEdit, Op, ValueId};

use super::Attention;
use super::gates::{Made, Site};

impl Site<'_> {
    /// Returns the gate, or what is added for self-attention.
    pub(super) fn of_features(
        &mut self,
        edit: &mut GraphEdit,
        attention: Attention,
        rank: usize,
        batch: usize,
    ) -> Made<ValueId> {
        match attention {
            Attention::SqueezeExcite { reduction } => {
                let mean = self.mean(edit, rank, batch);
                self.excited(edit, mean, reduction)
            }
            Attention::Channel { reach } => {
                let mean = self.mean(edit, rank, batch);
                self.neighbours(edit, mean, reach, (rank, batch))
            }
            Attention::Spatial { kernel } => self.along(edit, kernel, batch),
            Attention::SelfAttention { heads } => self.between(edit, heads, batch),
        }
    }

    /// A product with a matrix on the last axis; `zero` or drawn.
    fn product(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        input: ValueId,
        (n_in, n_out): (usize, usize),
        zero: bool,
    ) -> Made<ValueId> {
        let weight = self.weight(edit, word, (vec![n_in, n_out], n_in), zero)?;
        Ok(self.op(edit, word, Op::MatMul, &[input, weight]))
    }

    /// The mean over the positions, or what is there without any.
    fn mean(&mut self, edit: &mut GraphEdit, rank: usize, batch: usize) -> ValueId {
        let positions: Vec<usize> = (0..rank - 1).filter(|axis| *axis != batch).collect();
        if positions.is_empty() {
            return self.place.value;
        }
        self.reduced(edit, "squeeze", ReduceKind::Mean, &positions)
    }

    fn excited(&mut self, edit: &mut GraphEdit, mean: ValueId, reduction: usize) -> Made<ValueId> {
        let c = self.place.channels;
        let hidden = (c / reduction).max(1);
        let z = self.product(edit, "reduce", mean, (c, hidden), false)?;
        let z = self.op(edit, "relu", Op::Unary(UnaryOp::Relu), &[z]);
        let z = self.product(edit, "excite", z, (hidden, c), true)?;
        self.gate(edit, z)
    }

    /// Each channel's gate from the means of its neighbours: a convolution along the channels.
    fn neighbours(
        &mut self,
        edit: &mut GraphEdit,
        mean: ValueId,
        reach: usize,
        (rank, batch): (usize, usize),
    ) -> Made<ValueId> {
        let c = self.place.channels as i64;
        let line = self.reshape(edit, "line", mean, &[-1, 1, c, 1]);
        let z = self.conv(edit, "neighbours", line, (1, 1, &[reach, 1]), true)?;
        let mut shape = vec![1; rank];
        (shape[batch], shape[rank - 1]) = (-1, c);
        let z = self.reshape(edit, "channels", z, &shape);
        self.gate(edit, z)
    }

    /// Each position's gate from the mean and the maximum of its features: a convolution along the positions.
    fn along(&mut self, edit: &mut GraphEdit, kernel: usize, batch: usize) -> Made<ValueId> {
        let mean = self.reduced(edit, "mean", ReduceKind::Mean, &[2]);
        let most = self.reduced(edit, "most", ReduceKind::Max, &[2]);
        let both = self.op(edit, "both", Op::Concat { axis: 2 }, &[mean, most]);
        let samples = batch as i64;
        let map = self.turned(edit, "positions_last", both, &[samples, 2, 1 - samples]);
        let z = self.conv(edit, "where", map, (2, 1, &[kernel]), true)?;
        let back = if batch == 0 { [0, 2, 1] } else { [2, 0, 1] };
        let z = self.turned(edit, "where_turned", z, &back);
        self.gate(edit, z)
    }

    fn between(&mut self, edit: &mut GraphEdit, heads: usize, batch: usize) -> Made<ValueId> {
        let (c, width) = (self.place.channels, self.head(heads)?);
        let samples_first = [1, 0, 2];
        let x = if batch == 0 {
            self.place.value
        } else {
            let value = self.place.value;
            self.turned(edit, "samples_first", value, &samples_first)
        };
        let split = [0, 0, heads as i64, width as i64];
        let mut parts = Vec::new();
        // Samples, heads, positions, width; the key's last two the other way round.
        for (word, order) in [
            ("query", [0, 2, 1, 3]),
            ("key", [0, 2, 3, 1]),
            ("value", [0, 2, 1, 3]),
        ] {
            let made = self.product(edit, word, x, (c, c), false)?;
            let split = self.reshape(edit, &format!("{word}_heads"), made, &split);
            parts.push(self.turned(edit, &format!("{word}_turned"), split, &order));
        }
        let [query, key, value] = parts[..] else {
            return Ok(x);
        };
        let shares = self.shares(edit, (query, key), (4, width))?;
        let mixed = self.op(edit, "mixed", Op::MatMul, &[shares, value]);
        let mixed = self.turned(edit, "mixed_turned", mixed, &[0, 2, 1, 3]);
        let joined = self.reshape(edit, "joined", mixed, &[0, 0, c as i64]);
        let added = self.product(edit, "project", joined, (c, c), true)?;
        if batch == 0 {
            return Ok(added);
        }
        Ok(self.turned(edit, "steps_first", added, &samples_first))
    }
}
