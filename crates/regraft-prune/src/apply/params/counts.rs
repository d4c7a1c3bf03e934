//! Numbers of hidden units, heads and groups.

use regraft_graph::op::{
    Attention, FusedHeads, FusedOp, GroupedHeads, Normalization, Recurrent, RotaryEmbedding,
    SliceAttributes,
};
use regraft_graph::{GraphEdit, Op, Tensor};

use super::Rewrite;
use crate::rules::{Port, uniform_state};

impl Rewrite<'_> {
    /// Groups of a normalisation, heads of attention and of rotary positions.
    pub(super) fn counts(&self, edit: &mut GraphEdit) -> Option<()> {
        match &self.node.op {
            Op::Normalization(Normalization::Group {
                n_groups,
                epsilon,
                per_group,
            }) => {
                let (now, n) = self.widths(0, 1)?;
                let op = Normalization::Group {
                    n_groups: now / (n / n_groups),
                    epsilon: *epsilon,
                    per_group: *per_group,
                };
                edit.set_op(self.id, Op::Normalization(op));
            }
            Op::Attention(op) if op.q_heads > 0 => {
                let ((q, q_dense), (k, k_dense)) = (self.widths(0, 2)?, self.widths(1, 2)?);
                let op = Attention {
                    q_heads: q / (q_dense / op.q_heads),
                    kv_heads: k / (k_dense / op.kv_heads),
                    scale: Some(op.scale.unwrap_or_else(|| {
                        let head = (q_dense / op.q_heads) as f32;
                        1.0 / head.sqrt()
                    })),
                    ..op.clone()
                };
                edit.set_op(self.id, Op::Attention(op));
            }
            Op::RotaryEmbedding(op) if op.n_heads > 0 => {
                let (now, n) = self.widths(0, 2)?;
                let op = RotaryEmbedding {
                    n_heads: now / (n / op.n_heads),
                    ..op.clone()
                };
                edit.set_op(self.id, Op::RotaryEmbedding(op));
            }
            Op::Fused(FusedOp::MultiHeadAttention(heads)) => {
                let (heads, _) = heads_of(heads, self.widths(0, 2)?)?;
                let op = FusedOp::MultiHeadAttention(heads);
                edit.set_op(self.id, Op::Fused(op));
            }
            Op::Fused(FusedOp::GroupedAttention(heads)) => {
                let y = self.node.output(0)?;
                let dense = self.facts.shape(y)?.get(2)?.fixed()?;
                let size = dense.checked_div(heads.q_heads)?;
                let q_heads = self.kept.width(y, 2, dense).checked_div(size)?;
                let op = FusedOp::GroupedAttention(GroupedHeads {
                    q_heads,
                    kv_heads: q_heads.checked_div(heads.q_heads.checked_div(heads.kv_heads)?)?,
                    ..heads.clone()
                });
                edit.set_op(self.id, Op::Fused(op));
            }
            Op::Fused(FusedOp::PackedAttention { heads, width }) => {
                let (columns, dense) = self.widths(1, 1)?;
                let (heads, now) = heads_of(heads, (columns / 3, dense / 3))?;
                let op = FusedOp::PackedAttention {
                    heads,
                    width: width.map(|_| now),
                };
                edit.set_op(self.id, Op::Fused(op));
            }
            _ => {}
        }
        Some(())
    }

    /// The extents of an input's axis, left and dense.
    fn widths(&self, port: usize, axis: usize) -> Option<(usize, usize)> {
        let value = self.node.input(port)?;
        let dense = self.facts.shape(value)?.get(axis)?.fixed()?;
        (dense > 0).then(|| (self.kept.width(value, axis, dense), dense))
    }

    pub(super) fn recurrent(&self, r: &Recurrent, edit: &mut GraphEdit) -> Option<()> {
        let hidden_size = self.kept.width(self.node.input(2)?, 2, r.hidden_size);
        if hidden_size == r.hidden_size {
            return Some(());
        }
        let op = Recurrent {
            hidden_size,
            ..r.clone()
        };
        edit.set_op(self.id, Op::Recurrent(op));
        for port in [5, 6] {
            if !uniform_state(self.graph, self.node, Port::In(port)) {
                continue;
            }
            let name = format!("{}_state", self.graph.node_label(self.id));
            let mut state = self.node.input(port)?;
            let times = hidden_size.div_ceil(r.hidden_size.max(1));
            if times > 1 {
                let long = edit.add_value(&name);
                let list = Tensor::i64_list(vec![1, 1, i64::try_from(times).ok()?]);
                let repeats = edit.add_initializer(&format!("{name}_repeats"), list);
                let inputs = vec![Some(state), Some(repeats)];
                edit.add_op(Op::Tile, inputs, vec![Some(long)]);
                state = long;
            }
            let cut = edit.add_value(&name);
            let end = i64::try_from(hidden_size).ok()?;
            let bounds = [("starts", 0), ("ends", end), ("axes", 2)];
            let bounds = bounds.map(|(what, n)| {
                let list = Tensor::i64_list(vec![n]);
                Some(edit.add_initializer(&format!("{name}_{what}"), list))
            });
            let inputs = std::iter::once(Some(state)).chain(bounds).collect();
            let slice = Op::Slice(SliceAttributes::default());
            edit.add_op(slice, inputs, vec![Some(cut)]);
            edit.set_input(self.id, port, Some(cut));
        }
        Some(())
    }
}

/// The heads that are left of a width, and the width that is left.
fn heads_of(heads: &FusedHeads, (now, dense): (usize, usize)) -> Option<(FusedHeads, usize)> {
    let size = dense.checked_div(heads.n_heads)?;
    let heads = FusedHeads {
        n_heads: now.checked_div(size)?,
        ..heads.clone()
    };
    Some((heads, now))
}
