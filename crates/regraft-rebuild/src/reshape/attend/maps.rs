//! Attention behind convolutions: channels on axis 1, one or two spatial axes.

use regraft_graph::op::{Conv, GlobalPool, ReduceKind, UnaryOp};
use regraft_graph::{GraphEdit, Op, Tensor, ValueId};

use super::Attention;
use super::gates::{Made, Site};

impl Site<'_> {
    /// Returns the gate, or what is added for self-attention.
    pub(super) fn of_map(
        &mut self,
        edit: &mut GraphEdit,
        attention: Attention,
        space: &[usize],
    ) -> Made<ValueId> {
        match attention {
            Attention::SqueezeExcite { reduction } => {
                self.squeeze_excite(edit, reduction, space.len())
            }
            Attention::Channel { reach } => self.channel(edit, reach, space.len()),
            Attention::Spatial { kernel } => self.spatial(edit, kernel, space.len()),
            Attention::SelfAttention { heads } => self.self_attention(edit, heads, space),
        }
    }

    /// A convolution with padding that keeps the extents; `zero` or drawn.
    pub(super) fn conv(
        &mut self,
        edit: &mut GraphEdit,
        word: &str,
        input: ValueId,
        (n_in, n_out, kernel): (usize, usize, &[usize]),
        zero: bool,
    ) -> Made<ValueId> {
        let taps: usize = kernel.iter().product();
        let shape = [&[n_out, n_in], kernel].concat();
        let weight = self.weight(edit, word, (shape, n_in * taps), zero)?;
        let bias = edit.add_initializer(
            &self.named(&format!("{word}_bias")),
            Tensor::from_f32(vec![n_out], vec![0.0; n_out])?,
        );
        let half = kernel.iter().map(|k| k / 2);
        let conv = Conv {
            kernel_shape: kernel.to_vec(),
            pads: half.clone().chain(half).collect(),
            ..Conv::default()
        };
        Ok(self.op(edit, word, Op::Conv(conv), &[input, weight, bias]))
    }

    fn squeezed(&mut self, edit: &mut GraphEdit) -> ValueId {
        let pool = Op::GlobalPool(GlobalPool::Average);
        let value = self.place.value;
        self.op(edit, "squeeze", pool, &[value])
    }

    fn squeeze_excite(
        &mut self,
        edit: &mut GraphEdit,
        reduction: usize,
        n_axes: usize,
    ) -> Made<ValueId> {
        let c = self.place.channels;
        let hidden = (c / reduction).max(1);
        let one = vec![1; n_axes];
        let mean = self.squeezed(edit);
        let z = self.conv(edit, "reduce", mean, (c, hidden, &one), false)?;
        let z = self.op(edit, "relu", Op::Unary(UnaryOp::Relu), &[z]);
        let z = self.conv(edit, "excite", z, (hidden, c, &one), true)?;
        self.gate(edit, z)
    }

    fn channel(&mut self, edit: &mut GraphEdit, reach: usize, n_axes: usize) -> Made<ValueId> {
        let c = self.place.channels as i64;
        let mean = self.squeezed(edit);
        let line = self.reshape(edit, "line", mean, &[0, 1, c, 1]);
        let z = self.conv(edit, "neighbours", line, (1, 1, &[reach, 1]), true)?;
        let shape = [&[0, c], &vec![1; n_axes][..]].concat();
        let z = self.reshape(edit, "channels", z, &shape);
        self.gate(edit, z)
    }

    fn spatial(&mut self, edit: &mut GraphEdit, kernel: usize, n_axes: usize) -> Made<ValueId> {
        let mean = self.reduced(edit, "mean", ReduceKind::Mean, &[1]);
        let most = self.reduced(edit, "most", ReduceKind::Max, &[1]);
        let both = self.op(edit, "both", Op::Concat { axis: 1 }, &[mean, most]);
        let kernel = vec![kernel; n_axes];
        let z = self.conv(edit, "where", both, (2, 1, &kernel), true)?;
        self.gate(edit, z)
    }

    fn self_attention(
        &mut self,
        edit: &mut GraphEdit,
        heads: usize,
        space: &[usize],
    ) -> Made<ValueId> {
        let (c, width) = (self.place.channels, self.head(heads)?);
        let one = vec![1; space.len()];
        let positions = space.iter().product::<usize>() as i64;
        let split = [0, heads as i64, width as i64, positions];
        let value = self.place.value;
        let mut part = |word: &str| {
            let made = self.conv(edit, word, value, (c, c, &one), false)?;
            Ok::<_, crate::RebuildError>(self.reshape(edit, &format!("{word}_heads"), made, &split))
        };
        let (q, k, v) = (part("query")?, part("key")?, part("value")?);
        let q = self.turned(edit, "query_turned", q, &[0, 1, 3, 2]);
        let shares = self.shares(edit, (q, k), (4, width))?;
        let shares = self.turned(edit, "shares_turned", shares, &[0, 1, 3, 2]);
        let mixed = self.op(edit, "mixed", Op::MatMul, &[v, shares]);
        let extents = space.iter().map(|n| *n as i64);
        let back: Vec<i64> = [0, c as i64].into_iter().chain(extents).collect();
        let map = self.reshape(edit, "map", mixed, &back);
        self.conv(edit, "project", map, (c, c, &one), true)
    }
}
