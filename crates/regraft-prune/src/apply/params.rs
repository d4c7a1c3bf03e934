//! Settings that count channels: shapes, cuts, pads, groups, indices.

use regraft_graph::infer::{Facts, params};
use regraft_graph::op::SliceAttributes;
use regraft_graph::{DType, Dim, Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::rules::{front, reshape_target};
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
            | Op::Shape { .. }
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
            | Op::Recurrent(_)
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
        self.set_ints(1, "shape", &reshape_target(&x, &y, allowzero)?, edit)
    }

    /// `Expand` and `ConstantOfShape`: the shape is constant, else the axis would be frozen.
    fn output_shape(&self, edit: &mut GraphEdit) -> Option<()> {
        let port = usize::from(self.node.op == Op::Expand);
        let y = self.node.output(0)?;
        let mut list = self.facts.ints(self.node.input(port)?)?;
        let rank = self.facts.shape(y)?.len();
        let skipped = rank.checked_sub(list.len())?;
        let mut changed = false;
        for axis in skipped..rank {
            if let Some(kept) = self.kept.get(y, axis)
                && list[axis - skipped] != 1
            {
                list[axis - skipped] = i64::try_from(kept.len()).ok()?;
                changed = true;
            }
        }
        if changed {
            self.set_ints(port, "shape", &list, edit)?;
        }
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
