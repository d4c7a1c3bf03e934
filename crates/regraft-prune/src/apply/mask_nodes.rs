//! What a mask needs besides zeroed weights: products of two computed values, weights that are
//! computed, statistics over the channels.

use regraft_graph::infer::{Facts, params};
use regraft_graph::op::{BinaryOp, ReduceKind, UnaryOp};
use regraft_graph::{DType, Graph, GraphEdit, NodeId, Op, Tensor, ValueId};

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
    for (port, axis) in rules::product_sum(&site).into_iter().flatten() {
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
    if let (Op::LayerNormalization { epsilon, .. }, Some(x)) = (&node.op, node.input(0)) {
        let last = facts.shape(x).map_or(0, <[_]>::len).saturating_sub(1);
        if let Some(keep) = kept.get(x, last) {
            nodes.layer_norm(id, (x, last), keep, *epsilon)?;
        }
    }
    if let (Op::Reduce { kind, keepdims, .. }, Some(x)) = (&node.op, node.input(0)) {
        let axes = params::axes(graph, facts, id).unwrap_or_default();
        if let Some(axis) = rules::statistics_axis(&site, *kind, *keepdims, &axes)
            && let Some(keep) = kept.get(x, axis)
        {
            nodes.reduce(id, (x, axis), keep, *kind)?;
        }
    }
    Ok(())
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

    fn number(&mut self, x: f32) -> Result<ValueId, PruneError> {
        let tensor = Tensor::from_f32(Vec::new(), vec![x]).map_err(PruneError::Graph)?;
        Ok(self.edit.add_initializer("mask_number", tensor))
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
        let zero = self.number(0.0)?;
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
            let share = self.number(extent as f32 / keep.len().max(1) as f32)?;
            self.op(Op::Binary(BinaryOp::Mul), vec![mean, share], Some(y));
        }
        Ok(())
    }

    /// Normalisation by the statistics of the kept channels alone.
    fn layer_norm(
        &mut self,
        id: NodeId,
        (x, axis): (ValueId, usize),
        keep: &[usize],
        epsilon: f32,
    ) -> Result<(), PruneError> {
        let node = self.edit.graph().node(id).clone();
        let (Some(scale), Some(y)) = (node.input(1), node.output(0)) else {
            return Ok(());
        };
        let mask = self.mask(x, axis, keep)?;
        let zero = self.number(0.0)?;
        let share = self.number(1.0 / keep.len().max(1) as f32)?;
        let epsilon = self.number(epsilon)?;
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
        self.edit.remove_node(id);
        let x = self.op(Op::Where, vec![mask, x, zero], None);
        let total = self.op(sum(), vec![x, axes], None);
        let mean = self.op(Op::Binary(BinaryOp::Mul), vec![total, share], None);
        let centred = self.op(Op::Binary(BinaryOp::Sub), vec![x, mean], None);
        let centred = self.op(Op::Where, vec![mask, centred, zero], None);
        let square = self.op(Op::Binary(BinaryOp::Mul), vec![centred, centred], None);
        let total = self.op(sum(), vec![square, axes], None);
        let variance = self.op(Op::Binary(BinaryOp::Mul), vec![total, share], None);
        let variance = self.op(Op::Binary(BinaryOp::Add), vec![variance, epsilon], None);
        let deviation = self.op(Op::Unary(UnaryOp::Sqrt), vec![variance], None);
        let normal = self.op(Op::Binary(BinaryOp::Div), vec![centred, deviation], None);
        let bias = node.input(2);
        let out = bias.is_none().then_some(y);
        let scaled = self.op(Op::Binary(BinaryOp::Mul), vec![normal, scale], out);
        if let Some(bias) = bias {
            self.op(Op::Binary(BinaryOp::Add), vec![scaled, bias], Some(y));
        }
        Ok(())
    }
}
