//! What a mask needs besides zeroed weights: products of two computed values, weights that are
//! computed, statistics over the channels.

use regraft_graph::infer::Facts;
use regraft_graph::op::{
    BinaryOp, FusedNorm, FusedOp, Normalization, ReduceKind, SliceAttributes, UnaryOp,
};
use regraft_graph::{DType, Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::rules::{self, Port, Site};
use crate::{Kept, PruneError};

/// Masks the inputs of one node over whose removed channels it takes sums or statistics.
pub(super) fn mask_node(
    graph: &Graph,
    facts: &Facts,
    kept: &Kept,
    id: NodeId,
    edit: &mut GraphEdit,
) -> Result<(), PruneError> {
    let never = |_: ValueId, _: usize| false;
    let node = graph.node(id);
    let site = Site {
        graph,
        facts,
        id,
        node,
        touched: &never,
    };
    let mut nodes = Nodes { facts, edit };
    for (port, axis) in rules::sums(&site) {
        let Port::In(port) = port else { continue };
        if let Some(value) = node.input(port)
            && let Some(keep) = kept.get(value, axis)
        {
            let masked = nodes.masked(value, axis, keep)?;
            nodes.edit.set_input(id, port, Some(masked));
        }
    }
    for sum in rules::contractions(&site) {
        if graph.tensor(sum.weight).is_some() {
            continue;
        }
        let Some(keep) = kept.get(sum.weight, sum.weight_axis) else {
            continue;
        };
        let masked = nodes.masked(sum.weight, sum.weight_axis, keep)?;
        for port in (0..node.inputs.len()).filter(|p| node.input(*p) == Some(sum.weight)) {
            nodes.edit.set_input(id, port, Some(masked));
        }
    }
    if let (Some(norm), Some(y)) = (last_axis_norm(&node.op), node.output(0)) {
        let last = facts.shape(y).map_or(0, <[_]>::len).saturating_sub(1);
        if let Some(keep) = kept.get(y, last) {
            nodes.normalise(id, (y, last), keep, norm)?;
        }
    }
    if let (Some((axis, kind)), Some(x)) = (rules::statistics(&site), node.input(0))
        && let Some(keep) = kept.get(x, axis)
    {
        nodes.reduce(id, (x, axis), keep, kind)?;
    }
    Ok(())
}

/// How an op normalises over the last axis alone.
pub(super) fn last_axis_norm(op: &Op) -> Option<FusedNorm> {
    let norm = |epsilon, centred: bool| FusedNorm {
        epsilon,
        centred,
        scale: 1,
        shift: centred.then_some(2),
        bias: None,
    };
    match op {
        Op::LayerNormalization { epsilon, .. } => Some(norm(*epsilon, true)),
        Op::Normalization(Normalization::RootMeanSquare { epsilon, .. }) => {
            Some(norm(*epsilon, false))
        }
        Op::Fused(op) => op.norm(),
        _ => None,
    }
}

struct Nodes<'a> {
    facts: &'a Facts,
    edit: &'a mut GraphEdit,
}

impl Nodes<'_> {
    fn op(&mut self, op: Op, inputs: Vec<ValueId>, output: Option<ValueId>) -> ValueId {
        let output = output.unwrap_or_else(|| self.edit.add_value("masked"));
        let inputs = inputs.into_iter().map(Some).collect();
        self.edit.add_op(op, inputs, vec![Some(output)]);
        output
    }

    /// A number of the type that a value has.
    fn number(&mut self, x: f32, like: ValueId) -> Result<ValueId, PruneError> {
        let tensor = Tensor::from_f32(Vec::new(), vec![x]).map_err(PruneError::Graph)?;
        let number = self.edit.add_initializer("mask_number", tensor);
        Ok(match self.facts.dtype(like) {
            None | Some(DType::F32) => number,
            Some(to) => self.op(Op::Cast { to }, vec![number], None),
        })
    }

    /// 1 where an index of the axis is kept, shaped so that it is broadcast along the other axes.
    fn mask(&mut self, value: ValueId, axis: usize, keep: &[usize]) -> Result<ValueId, PruneError> {
        let shape = self.facts.shape(value).unwrap_or_default();
        let extent = shape.get(axis).and_then(regraft_graph::Dim::fixed);
        let mut bytes = vec![0; extent.unwrap_or(0)];
        for &k in keep {
            if let Some(byte) = bytes.get_mut(k) {
                *byte = 1;
            }
        }
        let mut extents = vec![1; shape.len()];
        if let Some(slot) = extents.get_mut(axis) {
            *slot = bytes.len();
        }
        let tensor =
            Tensor::from_le_bytes(DType::Bool, extents, bytes).map_err(PruneError::Graph)?;
        Ok(self.edit.add_initializer("mask", tensor))
    }

    /// The value with zeros where an index of the axis is not kept, whatever stood there.
    fn masked(
        &mut self,
        value: ValueId,
        axis: usize,
        keep: &[usize],
    ) -> Result<ValueId, PruneError> {
        let mask = self.mask(value, axis, keep)?;
        let zero = self.number(0.0, value)?;
        Ok(self.op(Op::Where, vec![mask, value, zero], None))
    }

    /// A sum or mean over the kept channels alone.
    fn reduce(
        &mut self,
        id: NodeId,
        (x, axis): (ValueId, usize),
        keep: &[usize],
        kind: ReduceKind,
    ) -> Result<(), PruneError> {
        let masked = self.masked(x, axis, keep)?;
        self.edit.set_input(id, 0, Some(masked));
        let y = self.edit.graph().node(id).output(0);
        let extent = self.facts.shape(x).and_then(|s| s.get(axis)?.fixed());
        if let (ReduceKind::Mean, Some(y), Some(extent)) = (kind, y, extent) {
            let mean = self.edit.add_value("masked");
            self.edit.set_output(id, 0, Some(mean));
            let share = self.number(extent as f32 / keep.len().max(1) as f32, x)?;
            self.op(Op::Binary(BinaryOp::Mul), vec![mean, share], Some(y));
        }
        Ok(())
    }

    /// The sum that a node normalises, made by nodes of its own.
    fn sum(&mut self, node: &Node, norm: &FusedNorm) -> Option<ValueId> {
        let mut parts = Vec::new();
        let mut last = None;
        match &node.op {
            Op::Fused(FusedOp::EmbedNormalization { .. }) => {
                let rows = |nodes: &mut Self, table: Option<ValueId>, at: Option<ValueId>| {
                    Some(nodes.op(Op::Gather { axis: 0 }, vec![table?, at?], None))
                };
                parts.push(rows(self, node.input(2), node.input(0))?);
                parts.push(match node.input(8) {
                    Some(positions) => rows(self, node.input(3), Some(positions))?,
                    None => self.first_rows(node.input(3)?, node.input(0)?)?,
                });
                if node.input(1).is_some() {
                    parts.push(rows(self, node.input(4), node.input(1))?);
                }
                last = node.output(2);
            }
            Op::Fused(_) => {
                parts.extend([node.input(0)?, node.input(1)?]);
                last = node.output(3);
            }
            _ => parts.push(node.input(0)?),
        }
        parts.extend(norm.bias.and_then(|p| node.input(p)));
        let n = parts.len();
        let mut parts = parts.into_iter().enumerate();
        let (_, mut sum) = parts.next()?;
        for (i, part) in parts {
            let out = last.filter(|_| i + 1 == n);
            sum = self.op(Op::Binary(BinaryOp::Add), vec![sum, part], out);
        }
        Some(sum)
    }

    /// As many rows of a table as `words`, batch × positions, has positions.
    fn first_rows(&mut self, table: ValueId, words: ValueId) -> Option<ValueId> {
        let positions = self.facts.shape(words)?.get(1)?.fixed()?;
        let [from, to] = [0, i64::try_from(positions).ok()?].map(|n| {
            let list = Tensor::i64_list(vec![n]);
            self.edit.add_initializer("mask_rows", list)
        });
        let slice = Op::Slice(SliceAttributes::default());
        Some(self.op(slice, vec![table, from, to], None))
    }

    /// Normalisation of `y` by the statistics of the kept channels alone.
    fn normalise(
        &mut self,
        id: NodeId,
        (y, axis): (ValueId, usize),
        keep: &[usize],
        norm: FusedNorm,
    ) -> Result<(), PruneError> {
        let node = self.edit.graph().node(id).clone();
        let Some(scale) = node.input(norm.scale) else {
            return Ok(());
        };
        let mask = self.mask(y, axis, keep)?;
        let zero = self.number(0.0, y)?;
        let share = self.number(1.0 / keep.len().max(1) as f32, y)?;
        let epsilon = self.number(norm.epsilon, y)?;
        let last = i64::try_from(axis).unwrap_or(-1);
        let axes = self
            .edit
            .add_initializer("mask_axes", Tensor::i64_list(vec![last]));
        let sum = || Op::Reduce {
            kind: ReduceKind::Sum,
            axes: None,
            keepdims: true,
            noop_with_empty_axes: false,
        };
        let label = self.edit.graph().node_label(id);
        let lengths = matches!(node.op, Op::Fused(FusedOp::EmbedNormalization { .. }));
        if lengths && node.output(1).is_some() {
            // The lengths of its samples are still asked for.
            let unused = self.edit.add_value("masked");
            self.edit.set_output(id, 0, Some(unused));
            self.edit.set_output(id, 2, None);
        } else {
            self.edit.remove_node(id);
        }
        let Some(x) = self.sum(&node, &norm) else {
            return Err(PruneError::Inconsistent {
                node: label,
                op: node.op.name().to_owned(),
                reason: "its sum cannot be masked".to_owned(),
            });
        };
        let x = self.op(Op::Where, vec![mask, x, zero], None);
        let centred = if norm.centred {
            let total = self.op(sum(), vec![x, axes], None);
            let mean = self.op(Op::Binary(BinaryOp::Mul), vec![total, share], None);
            let centred = self.op(Op::Binary(BinaryOp::Sub), vec![x, mean], None);
            self.op(Op::Where, vec![mask, centred, zero], None)
        } else {
            x
        };
        let square = self.op(Op::Binary(BinaryOp::Mul), vec![centred, centred], None);
        let total = self.op(sum(), vec![square, axes], None);
        let variance = self.op(Op::Binary(BinaryOp::Mul), vec![total, share], None);
        let variance = self.op(Op::Binary(BinaryOp::Add), vec![variance, epsilon], None);
        let deviation = self.op(Op::Unary(UnaryOp::Sqrt), vec![variance], None);
        let normal = self.op(Op::Binary(BinaryOp::Div), vec![centred, deviation], None);
        let bias = norm.shift.and_then(|p| node.input(p));
        let out = bias.is_none().then_some(y);
        let scaled = self.op(Op::Binary(BinaryOp::Mul), vec![normal, scale], out);
        if let Some(bias) = bias {
            self.op(Op::Binary(BinaryOp::Add), vec![scaled, bias], Some(y));
        }
        Ok(())
    }
}
