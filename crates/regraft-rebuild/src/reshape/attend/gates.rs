//! What all kinds of attention are made of, and where it is put.

use regraft_data::SplitMix64;
use regraft_graph::op::{BinaryOp, ReduceKind, UnaryOp};
use regraft_graph::{GraphEdit, NodeId, Op, Tensor, ValueId};

use super::Attention;
use crate::RebuildError;

pub(super) type Made<T> = Result<T, RebuildError>;

/// How a value holds its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Channels on axis 1, then one or two spatial axes of fixed extents.
    Map {
        /// Their extents.
        space: Vec<usize>,
    },
    /// Samples, positions (tokens or steps) or none, and channels on the last axis.
    Features {
        /// Axes of the value.
        rank: usize,
        /// The axis of the samples.
        batch: usize,
    },
}

impl Form {
    /// Returns why a kind of attention has no place here.
    fn refuses(&self, attention: Attention) -> Option<&'static str> {
        let Self::Features { rank, .. } = self else {
            return None;
        };
        let between = matches!(
            attention,
            Attention::Spatial { .. } | Attention::SelfAttention { .. }
        );
        match rank {
            2 if between => Some("has no positions to attend to"),
            3.. if between && *rank > 3 => Some("has positions on several axes"),
            _ => None,
        }
    }
}

/// A value that attention is put behind.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The node that it belongs to.
    pub(super) node: NodeId,
    /// Its label.
    pub(super) label: String,
    pub(super) value: ValueId,
    pub(super) channels: usize,
    pub(super) form: Form,
}

impl Place {
    /// Returns the number of axes that positions have.
    pub(super) fn n_axes(&self) -> usize {
        match &self.form {
            Form::Map { space } => space.len(),
            Form::Features { rank, .. } => rank - 2,
        }
    }

    /// Returns why a kind of attention has no place here.
    pub(super) fn refuses(&self, attention: Attention) -> Option<String> {
        self.form.refuses(attention).map(str::to_owned)
    }
}

/// Nodes under construction behind a value.
pub(super) struct Site<'a> {
    pub(super) place: &'a Place,
    name: String,
    pub(super) opset: i64,
    random: SplitMix64,
    /// Values of new nodes.
    made: Vec<ValueId>,
}

impl<'a> Site<'a> {
    pub(super) fn new(place: &'a Place, name: String, opset: i64, seed: u64) -> Self {
        Self {
            place,
            name,
            opset,
            random: SplitMix64::new(seed),
            made: Vec::new(),
        }
    }

    /// Adds the nodes and lets everything that read the value read what they give; returns the values of
    /// the new nodes.
    pub(super) fn add(mut self, edit: &mut GraphEdit, attention: Attention) -> Made<Vec<ValueId>> {
        // A stand-in first, so that the new nodes keep reading the value itself.
        let value = self.place.value;
        let out = edit.add_value(&format!("{}_attended", self.name));
        edit.replace_uses(value, out);
        let other = match &self.place.form {
            Form::Map { space } => self.of_map(edit, attention, space)?,
            Form::Features { rank, batch } => self.of_features(edit, attention, *rank, *batch)?,
        };
        let op = match attention {
            Attention::SelfAttention { .. } => BinaryOp::Add,
            _ => BinaryOp::Mul,
        };
        edit.add_op(
            Op::Binary(op),
            vec![Some(value), Some(other)],
            vec![Some(out)],
        );
        self.made.push(out);
        Ok(self.made)
    }

    pub(super) fn named(&self, word: &str) -> String {
        format!("{}_{word}", self.name)
    }

    pub(super) fn op(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        op: Op,
        inputs: &[ValueId],
    ) -> ValueId {
        let out = edit.add_value(&self.named(word));
        let inputs = inputs.iter().copied().map(Some).collect();
        edit.add_op(op, inputs, vec![Some(out)]);
        self.made.push(out);
        out
    }

    /// A weight of `shape`, zero or drawn for `fan_in` inputs.
    pub(super) fn weight(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        (shape, fan_in): (Vec<usize>, usize),
        zero: bool,
    ) -> Made<ValueId> {
        let len: usize = shape.iter().product();
        let bound = (6.0 / fan_in as f64).sqrt();
        let mut draw = |_| (bound * self.random.symmetric()) as f32;
        let data: Vec<f32> = if zero {
            vec![0.0; len]
        } else {
            (0..len).map(&mut draw).collect()
        };
        let name = self.named(&format!("{word}_weight"));
        Ok(edit.add_initializer(&name, Tensor::from_f32(shape, data)?))
    }

    pub(super) fn number(&self, edit: &mut GraphEdit, word: &str, x: f32) -> Made<ValueId> {
        let tensor = Tensor::from_f32(Vec::new(), vec![x])?;
        Ok(edit.add_initializer(&self.named(word), tensor))
    }

    /// `2·sigmoid(z)`: one where `z` is zero.
    pub(super) fn gate(&mut self, edit: &mut GraphEdit, z: ValueId) -> Made<ValueId> {
        let half = self.op(edit, "sigmoid", Op::Unary(UnaryOp::Sigmoid), &[z]);
        let two = self.number(edit, "two", 2.0)?;
        Ok(self.op(edit, "gate", Op::Binary(BinaryOp::Mul), &[half, two]))
    }

    /// The mean or maximum over some axes, which stay with one entry.
    pub(super) fn reduced(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        kind: ReduceKind,
        axes: &[usize],
    ) -> ValueId {
        // Axes became an input in operator set 18.
        let by_input = self.opset >= 18;
        let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
        let op = Op::Reduce {
            kind,
            axes: (!by_input).then(|| axes.clone()),
            keepdims: true,
            noop_with_empty_axes: false,
        };
        let mut inputs = vec![self.place.value];
        if by_input {
            let name = self.named(&format!("{word}_axes"));
            inputs.push(edit.add_initializer(&name, Tensor::i64_list(axes)));
        }
        self.op(edit, word, op, &inputs)
    }

    /// A zero in `shape` keeps the extent of the same axis.
    pub(super) fn reshape(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        input: ValueId,
        shape: &[i64],
    ) -> ValueId {
        let name = self.named(&format!("{word}_shape"));
        let shape = edit.add_initializer(&name, Tensor::i64_list(shape.to_vec()));
        let op = Op::Reshape { allowzero: false };
        self.op(edit, word, op, &[input, shape])
    }

    pub(super) fn turned(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        input: ValueId,
        perm: &[i64],
    ) -> ValueId {
        let op = Op::Transpose {
            perm: Some(perm.to_vec()),
        };
        self.op(edit, word, op, &[input])
    }

    /// Shares of all positions, `softmax(q · k / √width)`.
    pub(super) fn shares(
        &mut self,
        edit: &mut GraphEdit,
        (query, key): (ValueId, ValueId),
        (rank, width): (usize, usize),
    ) -> Made<ValueId> {
        let scale = self.number(edit, "scale", 1.0 / (width as f32).sqrt())?;
        let scaled = Op::Binary(BinaryOp::Mul);
        let query = self.op(edit, "query_scaled", scaled, &[query, scale]);
        let scores = self.op(edit, "scores", Op::MatMul, &[query, key]);
        // Before operator set 13 everything from the axis on is one list: the last axis alone here.
        let softmax = Op::Softmax {
            axis: if self.opset < 13 { rank as i64 - 1 } else { -1 },
            flatten: self.opset < 13,
            log: false,
        };
        Ok(self.op(edit, "shares", softmax, &[scores]))
    }

    /// Channels of one head.
    pub(super) fn head(&self, heads: usize) -> Made<usize> {
        let c = self.place.channels;
        if c.is_multiple_of(heads) {
            return Ok(c / heads);
        }
        Err(RebuildError::Edit {
            reason: format!(
                "{c} channels of `{}` do not divide into {heads} heads",
                self.name
            ),
        })
    }
}
