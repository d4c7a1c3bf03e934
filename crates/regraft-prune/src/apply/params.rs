//! Settings that count channels: shapes, cuts, pads, groups, indices.

use regraft_graph::infer::{Facts, params};
use regraft_graph::op::{
    Attention, BinaryOp, ImageOp, Normalization, Recurrent, RotaryEmbedding, SliceAttributes,
};
use regraft_graph::{DType, Dim, Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::rules::{Port, front, reshape_target, uniform_state};
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
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Gemm(_)
            | Op::MatMul
            | Op::BatchNormalization { .. }
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
            | Op::Attention(_)
            | Op::RotaryEmbedding(_)
            | Op::LabelLoss(_)
            | Op::AlignedBinary { .. }
            | Op::Signal(_)
            | Op::Quantize(_)
            | Op::DropoutMask
            | Op::If { .. }
            | Op::Loop { .. }
            | Op::Scan(_)
            | Op::Opaque { .. } => {}
        }
        Some(())
    }

    /// The extents of an input's axis, left and dense.
    fn widths(&self, port: usize, axis: usize) -> Option<(usize, usize)> {
        let value = self.node.input(port)?;
        let dense = self.facts.shape(value)?.get(axis)?.fixed()?;
        (dense > 0).then(|| (self.kept.width(value, axis, dense), dense))
    }

    fn recurrent(&self, r: &Recurrent, edit: &mut GraphEdit) -> Option<()> {
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
            let state = self.node.input(port)?;
            let name = format!("{}_state", self.graph.node_label(self.id));
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

    /// Gives the node its own constant at an input port, of the type the old input has.
    fn set_ints(&self, port: usize, what: &str, list: &[i64], edit: &mut GraphEdit) -> Option<()> {
        let dtype = self.node.input(port).and_then(|v| self.facts.dtype(v));
        let tensor = ints(dtype.unwrap_or(DType::I64), list)?;
        let name = format!("{}_{what}", self.graph.node_label(self.id));
        let value = edit.add_initializer(&name, tensor);
        edit.set_input(self.id, port, Some(value));
        Some(())
    }

    fn new_shape(&self, value: ValueId) -> Option<Vec<Dim>> {
        let dims = self.facts.shape(value)?.iter().enumerate();
        let dims = dims.map(|(axis, dim)| match dim {
            Dim::Fixed(n) => Dim::Fixed(self.kept.width(value, axis, *n)),
            Dim::Symbol(_) | Dim::Unknown => dim.clone(),
        });
        Some(dims.collect())
    }

    fn reshape(&self, allowzero: bool, edit: &mut GraphEdit) -> Option<()> {
        let x = self.new_shape(self.node.input(0)?)?;
        let y = self.new_shape(self.node.output(0)?)?;
        match reshape_target(&x, &y, allowzero) {
            Some(list) => self.set_ints(1, "shape", &list, edit),
            None => self.mend_shape(1, edit),
        }
    }

    /// `Expand` and `ConstantOfShape`: extents that shrink are numbers in the shape, else the axis
    /// would be frozen.
    fn output_shape(&self, edit: &mut GraphEdit) -> Option<()> {
        self.mend_shape(usize::from(self.node.op == Op::Expand), edit)
    }

    /// Gives the shape at an input port the extents that are left of the output. Where some of its
    /// entries are only known when the network runs, what is missing is added to the others.
    fn mend_shape(&self, port: usize, edit: &mut GraphEdit) -> Option<()> {
        let y = self.node.output(0)?;
        let given = self.node.input(port)?;
        let old = self.facts.known_ints(given)?;
        let skipped = self.facts.shape(y)?.len().checked_sub(old.len())?;
        let mut new = old.clone();
        for (i, entry) in new.iter_mut().enumerate() {
            // 1 is repeated, 0 copied, -1 inferred: they follow by themselves.
            if let Some(kept) = self.kept.get(y, i + skipped)
                && (*entry)? > 1
            {
                *entry = i64::try_from(kept.len()).ok();
            }
        }
        if new == old {
            return Some(());
        }
        if let Some(list) = new.iter().copied().collect::<Option<Vec<i64>>>() {
            return self.set_ints(port, "shape", &list, edit);
        }
        let missing = |(new, old): (&Option<i64>, &Option<i64>)| Some((*new)? - (*old)?);
        let delta: Vec<i64> = new
            .iter()
            .zip(&old)
            .map(|p| missing(p).unwrap_or(0))
            .collect();
        let mended = self.shifted(given, "shape", &delta, edit)?;
        edit.set_input(self.id, port, Some(mended));
        Some(())
    }

    /// A value of integers with a constant added.
    fn shifted(
        &self,
        value: ValueId,
        what: &str,
        delta: &[i64],
        edit: &mut GraphEdit,
    ) -> Option<ValueId> {
        let dtype = self.facts.dtype(value).unwrap_or(DType::I64);
        let name = format!("{}_{what}", self.graph.node_label(self.id));
        let delta = edit.add_initializer(&format!("{name}_change"), ints(dtype, delta)?);
        let sum = edit.add_value(&name);
        let inputs = vec![Some(value), Some(delta)];
        edit.add_op(Op::Binary(BinaryOp::Add), inputs, vec![Some(sum)]);
        Some(sum)
    }

    /// Whoever reads a number of channels goes on reading the dense one; shapes made from it are
    /// mended where they are used.
    fn shape(&self, start: i64, edit: &mut GraphEdit) -> Option<()> {
        let (x, y) = (self.node.input(0)?, self.node.output(0)?);
        let dims = self.facts.shape(x)?;
        let n = i64::try_from(dims.len()).ok()?;
        let start = (if start < 0 { start + n } else { start }).clamp(0, n);
        let start = usize::try_from(start).ok()?;
        let len = self.facts.shape(y)?.first()?.fixed()?;
        let gone = |axis: usize| {
            let extent = dims.get(axis)?.fixed()?;
            i64::try_from(extent - self.kept.width(x, axis, extent)).ok()
        };
        let delta: Vec<i64> = (start..start + len).map(|a| gone(a).unwrap_or(0)).collect();
        if delta.iter().all(|d| *d == 0) {
            return Some(());
        }
        let name = format!("{}_pruned", self.graph.node_label(self.id));
        let now = edit.add_value(&name);
        edit.set_output(self.id, 0, Some(now));
        let dense = edit.add_initializer(&format!("{name}_change"), ints(DType::I64, &delta)?);
        let inputs = vec![Some(now), Some(dense)];
        edit.add_op(Op::Binary(BinaryOp::Add), inputs, vec![Some(y)]);
        Some(())
    }

    fn split(&self, axis: i64, edit: &mut GraphEdit) -> Option<()> {
        let x = self.node.input(0)?;
        let axis = front(axis, self.facts.shape(x)?.len())?;
        let Some(kept) = self.kept.get(x, axis) else {
            return Some(());
        };
        let mut sizes = Vec::new();
        let mut start = 0;
        for len in params::split(self.graph, self.facts, self.id)? {
            let n = kept
                .iter()
                .filter(|&&i| i >= start && i < start + len)
                .count();
            sizes.push(i64::try_from(n).ok()?);
            start += len;
        }
        let Op::Split {
            axis: given, split, ..
        } = &self.node.op
        else {
            return None;
        };
        let opset = self.graph.header().opset().unwrap_or(SPLIT_INPUT_OPSET);
        let as_attribute = split.is_some() || opset < SPLIT_INPUT_OPSET;
        edit.set_op(
            self.id,
            Op::Split {
                axis: *given,
                split: as_attribute.then(|| sizes.clone()),
                num_outputs: None,
            },
        );
        if !as_attribute {
            self.set_ints(1, "split", &sizes, edit)?;
        }
        Some(())
    }

    fn slice(&self, attributes: &SliceAttributes, edit: &mut GraphEdit) -> Option<()> {
        let x = self.node.input(0)?;
        let axes = params::slice_axes(self.graph, self.facts, self.id);
        if axes.is_some_and(|axes| axes.iter().all(|a| self.kept.get(x, *a).is_none())) {
            return Some(());
        }
        let ranges = params::slice(self.graph, self.facts, self.id)?;
        let shrunk = |r: &params::SliceRange| self.kept.get(x, r.axis).is_some();
        if !ranges.iter().any(shrunk) {
            return Some(());
        }
        if let [range] = ranges.as_slice()
            && range.step != 1
        {
            return self.slice_by_index(x, *range, edit);
        }
        let given = |list: &Option<Vec<i64>>, port: usize| {
            list.clone()
                .or_else(|| self.facts.ints(self.node.input(port)?))
        };
        let mut starts = given(&attributes.starts, 1)?;
        let mut ends = given(&attributes.ends, 2)?;
        for (i, range) in ranges.iter().enumerate() {
            let Some(kept) = self.kept.get(x, range.axis) else {
                continue;
            };
            let from = usize::try_from(range.start).ok()?;
            let before = kept.iter().filter(|&&k| k < from).count();
            let inside = kept.iter().filter(|&&k| k >= from && k < from + range.len);
            let start = i64::try_from(before).ok()?;
            *starts.get_mut(i)? = start;
            *ends.get_mut(i)? = start + i64::try_from(inside.count()).ok()?;
        }
        if attributes.starts.is_some() {
            let op = Op::Slice(SliceAttributes {
                starts: Some(starts),
                ends: Some(ends),
                axes: attributes.axes.clone(),
            });
            edit.set_op(self.id, op);
        } else {
            self.set_ints(1, "starts", &starts, edit)?;
            self.set_ints(2, "ends", &ends, edit)?;
        }
        Some(())
    }

    /// What is left of every few channels is no longer regular: the node becomes a `Gather`.
    fn slice_by_index(
        &self,
        x: ValueId,
        range: params::SliceRange,
        edit: &mut GraphEdit,
    ) -> Option<()> {
        let kept = self.kept.get(x, range.axis)?;
        let taken = (0..range.len as i64).map(|i| range.start + i * range.step);
        let place = |i: i64| kept.binary_search(&usize::try_from(i).ok()?).ok();
        let list: Vec<i64> = taken.filter_map(|i| Some(place(i)? as i64)).collect();
        let axis = i64::try_from(range.axis).ok()?;
        let name = format!("{}_indices", self.graph.node_label(self.id));
        let indices = edit.add_initializer(&name, Tensor::i64_list(list));
        let y = self.node.output(0)?;
        let node = Node {
            name: self.node.name.clone(),
            op: Op::Gather { axis },
            inputs: vec![Some(x), Some(indices)],
            outputs: vec![Some(y)],
            captures: Vec::new(),
            source: None,
            edited: true,
        };
        edit.remove_node(self.id);
        edit.add_node(node);
        Some(())
    }

    fn pad(&self, attribute: Option<&[i64]>, edit: &mut GraphEdit) -> Option<()> {
        let (x, y) = (self.node.input(0)?, self.node.output(0)?);
        let rank = self.facts.shape(x)?.len();
        let mut list = match attribute {
            Some(list) => list.to_vec(),
            None => self.facts.ints(self.node.input(1)?)?,
        };
        let axes: Vec<usize> = match self.node.input(3).filter(|_| attribute.is_none()) {
            Some(v) => {
                let axes = self.facts.ints(v)?;
                axes.iter()
                    .map(|&a| front(a, rank))
                    .collect::<Option<_>>()?
            }
            None => (0..rank).collect(),
        };
        let mut changed = false;
        for (i, &axis) in axes.iter().enumerate() {
            let extent = self.facts.shape(x)?.get(axis)?.fixed();
            let (begin, end) = (*list.get(i)?, *list.get(i + axes.len())?);
            let Some(extent) = extent.filter(|_| (begin, end) != (0, 0)) else {
                continue;
            };
            if self.kept.get(x, axis).is_none() && self.kept.get(y, axis).is_none() {
                continue;
            }
            let new = self.pads_of_axis((x, y, axis), extent, (begin, end))?;
            changed |= new != (begin, end);
            *list.get_mut(i)? = new.0;
            *list.get_mut(i + axes.len())? = new.1;
        }
        if !changed {
            return Some(());
        }
        match (&self.node.op, attribute) {
            (Op::Pad { mode, value, .. }, Some(_)) => edit.set_op(
                self.id,
                Op::Pad {
                    mode: *mode,
                    pads: Some(list),
                    value: *value,
                },
            ),
            _ => self.set_ints(1, "pads", &list, edit)?,
        }
        Some(())
    }

    /// Positive pads count kept padded channels, negative ones kept channels that are cut.
    fn pads_of_axis(
        &self,
        (x, y, axis): (ValueId, ValueId, usize),
        extent: usize,
        (begin, end): (i64, i64),
    ) -> Option<(i64, i64)> {
        let y_extent = self.facts.shape(y)?.get(axis)?.fixed()?;
        let count = |v: ValueId, n: usize, from: usize, to: usize| match self.kept.get(v, axis) {
            Some(kept) => kept.iter().filter(|&&k| k >= from && k < to).count(),
            None => to.min(n).saturating_sub(from),
        };
        let size = |n: i64| usize::try_from(n.unsigned_abs()).ok();
        let (b, e) = (size(begin)?, size(end)?);
        let begin = if begin >= 0 {
            i64::try_from(count(y, y_extent, 0, b)).ok()?
        } else {
            -i64::try_from(count(x, extent, 0, b)).ok()?
        };
        let end = if end >= 0 {
            i64::try_from(count(y, y_extent, y_extent.checked_sub(e)?, y_extent)).ok()?
        } else {
            -i64::try_from(count(x, extent, extent.checked_sub(e)?, extent)).ok()?
        };
        Some((begin, end))
    }

    fn gather(&self, axis: i64, edit: &mut GraphEdit) -> Option<()> {
        let x = self.node.input(0)?;
        let shape = self.facts.shape(x)?;
        let axis = front(axis, shape.len())?;
        let Some(kept) = self.kept.get(x, axis) else {
            return Some(());
        };
        let n = i64::try_from(shape.get(axis)?.fixed()?).ok()?;
        let old = self.facts.ints(self.node.input(1)?)?;
        let place = |i: i64| {
            let i = usize::try_from(if i < 0 { i + n } else { i }).ok()?;
            Some(kept.binary_search(&i).ok()? as i64)
        };
        let list: Vec<i64> = old.into_iter().filter_map(place).collect();
        self.set_ints(1, "indices", &list, edit)?;
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
