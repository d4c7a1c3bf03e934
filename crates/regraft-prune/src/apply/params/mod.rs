//! Settings that count channels: shapes, cuts, pads, groups, indices.

mod counts;
mod cuts;
mod shapes;

use regraft_graph::infer::Facts;
use regraft_graph::op::{ImageOp, Normalization};
use regraft_graph::{DType, Dim, Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::{Kept, PruneError};

/// Since this operator set `Split` takes its sizes as an input.
const SPLIT_INPUT_OPSET: i64 = 13;

struct Rewrite<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    kept: &'a Kept,
    id: NodeId,
    node: &'a Node,
}

/// Rewrites the settings of one node for the widths that are kept.
pub(super) fn rewrite(
    graph: &Graph,
    facts: &Facts,
    kept: &Kept,
    id: NodeId,
    edit: &mut GraphEdit,
) -> Result<(), PruneError> {
    let node = graph.node(id);
    let shrinks = |v: &ValueId| {
        let rank = facts.shape(*v).map_or(0, <[Dim]>::len);
        (0..rank).any(|a| kept.get(*v, a).is_some())
    };
    let mut values = node.inputs.iter().chain(&node.outputs).flatten();
    if !values.any(shrinks) {
        return Ok(());
    }
    let r = Rewrite {
        graph,
        facts,
        kept,
        id,
        node,
    };
    r.op(edit).ok_or_else(|| PruneError::Inconsistent {
        node: graph.node_label(id),
        op: node.op.name().to_owned(),
        reason: "its settings cannot be rewritten for fewer channels".to_owned(),
    })
}

impl Rewrite<'_> {
    fn op(&self, edit: &mut GraphEdit) -> Option<()> {
        match &self.node.op {
            Op::Conv(conv) | Op::ConvTranspose(conv) if conv.group > 1 => {
                let x = self.node.input(0)?;
                let n_in = self.facts.shape(x)?.get(1)?.fixed()?;
                let mut conv = conv.clone();
                conv.group = self.kept.width(x, 1, n_in) / (n_in / conv.group);
                let op = match &self.node.op {
                    Op::Conv(_) => Op::Conv(conv),
                    _ => Op::ConvTranspose(conv),
                };
                edit.set_op(self.id, op);
            }
            Op::Reshape { allowzero } => self.reshape(*allowzero, edit)?,
            Op::Expand | Op::ConstantOfShape { .. } => self.output_shape(edit)?,
            Op::Split { axis, .. } => self.split(*axis, edit)?,
            Op::Slice(attributes) => self.slice(attributes, edit)?,
            Op::Pad { pads, .. } => self.pad(pads.as_deref(), edit)?,
            Op::Gather { axis } => self.gather(*axis, edit)?,
            Op::Shape { start, .. } => self.shape(*start, edit)?,
            Op::Recurrent(r) => self.recurrent(r, edit)?,
            Op::Image(ImageOp::Resize(resize)) => {
                // Scales of 1 stay; sizes count channels where they are given for all axes.
                if !resize.scales_first && resize.axes.is_none() && self.node.input(3).is_some() {
                    self.mend_shape(3, edit)?;
                }
            }
            Op::Normalization(Normalization::Group { .. })
            | Op::Attention(_)
            | Op::RotaryEmbedding(_)
            | Op::Fused(_) => self.counts(edit)?,
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Gemm(_)
            | Op::MatMul
            | Op::BatchNormalization { .. }
            | Op::BatchStatistics { .. }
            | Op::LayerNormalization { .. }
            | Op::InstanceNormalization { .. }
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Activation(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Variadic(_)
            | Op::Compare(_)
            | Op::Where
            | Op::Clip { .. }
            | Op::PRelu
            | Op::Softmax { .. }
            | Op::Reduce { .. }
            | Op::ArgExtremum { .. }
            | Op::Size
            | Op::Flatten { .. }
            | Op::Transpose { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Concat { .. }
            | Op::Tile
            | Op::Constant { .. }
            | Op::Range
            | Op::Cast { .. }
            | Op::CastLike
            | Op::FloatTest(_)
            | Op::ChannelPRelu
            | Op::Normalization(_)
            | Op::Index(_)
            | Op::Image(_)
            | Op::Einsum { .. }
            | Op::Determinant
            | Op::LabelLoss(_)
            | Op::AlignedBinary { .. }
            | Op::Signal(_)
            | Op::Quantize(_)
            | Op::Dropout { .. }
            | Op::If { .. }
            | Op::Loop { .. }
            | Op::Scan(_)
            | Op::Opaque { .. } => {}
        }
        Some(())
    }

    /// Gives the node its own constant at an input port, of the type the old input has.
    fn set_ints(&self, port: usize, what: &str, list: &[i64], edit: &mut GraphEdit) -> Option<()> {
        let dtype = self.node.input(port).and_then(|v| self.facts.dtype(v));
        let tensor = ints(dtype.unwrap_or(DType::I64), list)?;
        let name = format!("{}_{what}", self.graph.node_label(self.id));
        let value = edit.add_initializer(&name, tensor);
        edit.set_input(self.id, port, Some(value));
        Some(())
    }
}

/// A one-axis tensor of 32- or 64-bit integers.
fn ints(dtype: DType, list: &[i64]) -> Option<Tensor> {
    if dtype == DType::I32 {
        let words: Option<Vec<i32>> = list.iter().map(|&n| i32::try_from(n).ok()).collect();
        let bytes = words?.iter().flat_map(|n| n.to_le_bytes()).collect();
        return Tensor::from_le_bytes(dtype, vec![list.len()], bytes).ok();
    }
    (dtype == DType::I64).then(|| Tensor::i64_list(list.to_vec()))
}
