//! The nodes of each kind of attention.

use regraft_data::SplitMix64;
use regraft_graph::op::{BinaryOp, Conv, GlobalPool, ReduceKind, UnaryOp};
use regraft_graph::{GraphEdit, Op, Tensor, ValueId};

use super::Attention;
use crate::reshape::Network;
use crate::{Layer, RebuildError};

/// A value that attention is put behind.
pub(super) struct Site {
    value: ValueId,
    name: String,
    channels: usize,
    space: [usize; 2],
    opset: i64,
    random: SplitMix64,
    /// Values of new nodes.
    made: Vec<ValueId>,
}

type Made<T> = Result<T, RebuildError>;

impl Site {
    /// Returns the site behind a convolution, or why there is none.
    pub(super) fn new(
        network: &Network,
        layer: &Layer,
        space: Option<[usize; 2]>,
        seed: u64,
    ) -> Result<Self, String> {
        let graph = &network.graph;
        let space = space.ok_or("its output is no map of fixed extents")?;
        if graph.outputs().contains(&layer.output) {
            return Err("its output is the network's".to_owned());
        }
        Ok(Self {
            value: layer.output,
            name: graph.value(layer.output).name.clone(),
            channels: layer.n_out,
            space,
            opset: graph.header().opset().unwrap_or(13),
            random: SplitMix64::new(seed),
            made: Vec::new(),
        })
    }

    /// Adds the nodes and lets everything that read the value read what they give; returns the values of
    /// the new nodes.
    pub(super) fn add(mut self, edit: &mut GraphEdit, attention: Attention) -> Made<Vec<ValueId>> {
        // A stand-in first, so that the new nodes keep reading the value itself.
        let out = edit.add_value(&format!("{}_attended", self.name));
        edit.replace_uses(self.value, out);
        let (op, other) = match attention {
            Attention::SqueezeExcite { reduction } => {
                (BinaryOp::Mul, self.squeeze_excite(edit, reduction)?)
            }
            Attention::Channel { reach } => (BinaryOp::Mul, self.channel(edit, reach)?),
            Attention::Spatial { kernel } => (BinaryOp::Mul, self.spatial(edit, kernel)?),
            Attention::SelfAttention { heads } => {
                (BinaryOp::Add, self.self_attention(edit, heads)?)
            }
        };
        edit.add_op(
            Op::Binary(op),
            vec![Some(self.value), Some(other)],
            vec![Some(out)],
        );
        self.made.push(out);
        Ok(self.made)
    }

    fn op(&mut self, edit: &mut GraphEdit, word: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let out = edit.add_value(&format!("{}_{word}", self.name));
        let inputs = inputs.iter().copied().map(Some).collect();
        edit.add_op(op, inputs, vec![Some(out)]);
        self.made.push(out);
        out
    }

    /// A 1x1 or larger convolution with padding that keeps the extents; `zero` or drawn.
    fn conv(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        input: ValueId,
        shape: [usize; 4],
        zero: bool,
    ) -> Made<ValueId> {
        let [n_out, n_in, h, w] = shape;
        let len = n_out * n_in * h * w;
        let bound = (6.0 / (n_in * h * w) as f64).sqrt();
        let data: Vec<f32> = (0..len)
            .map(|_| {
                if zero {
                    0.0
                } else {
                    (bound * self.random.symmetric()) as f32
                }
            })
            .collect();
        let name = format!("{}_{word}", self.name);
        let weight = edit.add_initializer(
            &format!("{name}_weight"),
            Tensor::from_f32(shape.to_vec(), data)?,
        );
        let bias = edit.add_initializer(
            &format!("{name}_bias"),
            Tensor::from_f32(vec![n_out], vec![0.0; n_out])?,
        );
        let conv = Conv {
            kernel_shape: vec![h, w],
            pads: vec![h / 2, w / 2, h / 2, w / 2],
            ..Conv::default()
        };
        Ok(self.op(edit, word, Op::Conv(conv), &[input, weight, bias]))
    }

    /// `2·sigmoid(z)`: one where `z` is zero.
    fn gate(&mut self, edit: &mut GraphEdit, z: ValueId) -> Made<ValueId> {
        let half = self.op(edit, "sigmoid", Op::Unary(UnaryOp::Sigmoid), &[z]);
        let two = edit.add_initializer(
            &format!("{}_two", self.name),
            Tensor::from_f32(Vec::new(), vec![2.0])?,
        );
        Ok(self.op(edit, "gate", Op::Binary(BinaryOp::Mul), &[half, two]))
    }

    fn squeeze_excite(&mut self, edit: &mut GraphEdit, reduction: usize) -> Made<ValueId> {
        let c = self.channels;
        let hidden = (c / reduction).max(1);
        let mean = self.op(
            edit,
            "squeeze",
            Op::GlobalPool(GlobalPool::Average),
            &[self.value],
        );
        let z = self.conv(edit, "reduce", mean, [hidden, c, 1, 1], false)?;
        let z = self.op(edit, "relu", Op::Unary(UnaryOp::Relu), &[z]);
        let z = self.conv(edit, "excite", z, [c, hidden, 1, 1], true)?;
        self.gate(edit, z)
    }

    fn channel(&mut self, edit: &mut GraphEdit, reach: usize) -> Made<ValueId> {
        let c = self.channels as i64;
        let mean = self.op(
            edit,
            "squeeze",
            Op::GlobalPool(GlobalPool::Average),
            &[self.value],
        );
        let line = self.reshape(edit, "line", mean, &[0, 1, c, 1]);
        let z = self.conv(edit, "neighbours", line, [1, 1, reach, 1], true)?;
        let z = self.reshape(edit, "channels", z, &[0, c, 1, 1]);
        self.gate(edit, z)
    }

    fn spatial(&mut self, edit: &mut GraphEdit, kernel: usize) -> Made<ValueId> {
        let mean = self.over_channels(edit, "mean", ReduceKind::Mean);
        let most = self.over_channels(edit, "most", ReduceKind::Max);
        let both = self.op(edit, "both", Op::Concat { axis: 1 }, &[mean, most]);
        let z = self.conv(edit, "where", both, [1, 2, kernel, kernel], true)?;
        self.gate(edit, z)
    }

    fn over_channels(&mut self, edit: &mut GraphEdit, word: &str, kind: ReduceKind) -> ValueId {
        // Axes became an input in operator set 18.
        let by_input = self.opset >= 18;
        let op = Op::Reduce {
            kind,
            axes: (!by_input).then(|| vec![1]),
            keepdims: true,
            noop_with_empty_axes: false,
        };
        let mut inputs = vec![self.value];
        if by_input {
            let name = format!("{}_{word}_axes", self.name);
            inputs.push(edit.add_initializer(&name, Tensor::i64_list(vec![1])));
        }
        self.op(edit, word, op, &inputs)
    }

    fn reshape(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        input: ValueId,
        shape: &[i64],
    ) -> ValueId {
        let name = format!("{}_{word}_shape", self.name);
        let shape = edit.add_initializer(&name, Tensor::i64_list(shape.to_vec()));
        let op = Op::Reshape { allowzero: false };
        self.op(edit, word, op, &[input, shape])
    }

    fn self_attention(&mut self, edit: &mut GraphEdit, heads: usize) -> Made<ValueId> {
        let c = self.channels;
        if !c.is_multiple_of(heads) {
            return Err(RebuildError::Edit {
                reason: format!(
                    "{c} channels of `{}` do not divide into {heads} heads",
                    self.name
                ),
            });
        }
        let positions = (self.space[0] * self.space[1]) as i64;
        let split = [0, heads as i64, (c / heads) as i64, positions];
        let mut parts = Vec::new();
        for word in ["query", "key", "value"] {
            let made = self.conv(edit, word, self.value, [c, c, 1, 1], false)?;
            parts.push(self.reshape(edit, &format!("{word}_heads"), made, &split));
        }
        let [q, k, v] = parts[..] else {
            return Ok(self.value);
        };
        let turn = Op::Transpose {
            perm: Some(vec![0, 1, 3, 2]),
        };
        let q = self.op(edit, "query_turned", turn.clone(), &[q]);
        let scale = edit.add_initializer(
            &format!("{}_scale", self.name),
            Tensor::from_f32(Vec::new(), vec![1.0 / ((c / heads) as f32).sqrt()])?,
        );
        let q = self.op(edit, "query_scaled", Op::Binary(BinaryOp::Mul), &[q, scale]);
        let scores = self.op(edit, "scores", Op::MatMul, &[q, k]);
        let softmax = Op::Softmax {
            axis: if self.opset < 13 { 3 } else { -1 },
            flatten: self.opset < 13,
            log: false,
        };
        let shares = self.op(edit, "shares", softmax, &[scores]);
        let shares = self.op(edit, "shares_turned", turn, &[shares]);
        let mixed = self.op(edit, "mixed", Op::MatMul, &[v, shares]);
        let back = [0, c as i64, self.space[0] as i64, self.space[1] as i64];
        let map = self.reshape(edit, "map", mixed, &back);
        self.conv(edit, "project", map, [c, c, 1, 1], true)
    }
}
