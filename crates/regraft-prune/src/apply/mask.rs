//! The dense network with the removed units zeroed, to compare the pruned one with.

use std::collections::BTreeSet;

use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{BinaryOp, FusedOp, UnaryOp};
use regraft_graph::{Graph, Op, Tensor, ValueId};

use super::mask_nodes::mask_node;
use crate::blocks::mask_blocks;
use crate::{Groups, Plan, PruneError};

/// Returns the dense graph with the slices of removed units set to zero.
///
/// What sums over a removed channel gets zero weights, so its outputs equal those of the pruned
/// graph up to rounding. Products of two computed values get masked inputs, and a layer
/// normalisation over removed channels takes its statistics over the others. What makes the channel (weights, biases, normalisation scales) is zeroed
/// too, but not in groups where a zero could become a division by zero on its way: 0 times a number
/// that is not finite is not 0. What a removed block adds is multiplied by zero. Running variances, slopes and other constants stay.
/// # Errors
/// [`PruneError`] if the plan does not fit the groups or the network.
pub fn mask(graph: &Graph, groups: &Groups, plan: &Plan) -> Result<Graph, PruneError> {
    let kept = plan.resolve(graph, groups)?;
    let facts = infer(graph, &InferOptions::default()).map_err(PruneError::Graph)?;
    let mut edit = graph.edit();
    let mut summed: BTreeSet<(ValueId, usize)> = groups
        .groups
        .iter()
        .flat_map(|g| g.consumers.iter().map(|c| (c.weight, c.weight_axis)))
        .collect();
    // Hidden units feed back even where their states are no output.
    let recurrent = graph
        .nodes()
        .filter(|(_, n)| matches!(n.op, Op::Recurrent(_)));
    summed.extend(recurrent.filter_map(|(_, n)| Some((n.input(2)?, 2))));
    let made = made_axes(graph, groups);
    for (&value, init) in graph.initializers() {
        let mut tensor: Option<Tensor> = None;
        for axis in 0..init.tensor.shape().len() {
            let zeroed = summed.contains(&(value, axis)) || made.contains(&(value, axis));
            if let Some(keep) = kept.get(value, axis).filter(|_| zeroed) {
                let from = tensor.as_ref().unwrap_or(&init.tensor);
                tensor = Some(zero(from, axis, keep)?);
            }
        }
        if let Some(tensor) = tensor {
            edit.set_initializer(value, tensor);
        }
    }
    for (id, _) in graph.nodes() {
        mask_node(graph, &facts, &kept, id, &mut edit)?;
    }
    let masked = edit.finish().map_err(PruneError::Graph)?;
    if plan.removed_blocks.is_empty() {
        return Ok(masked);
    }
    mask_blocks(&masked, &plan.blocks(graph, &facts)?)
}

/// Axes of weights, biases and scales that make channels and may be zeroed.
fn made_axes(graph: &Graph, groups: &Groups) -> BTreeSet<(ValueId, usize)> {
    let mut made = BTreeSet::new();
    for group in &groups.groups {
        let members: BTreeSet<(ValueId, usize)> = group
            .units
            .iter()
            .flat_map(|u| u.members.iter().map(|m| (m.value, m.axis)))
            .collect();
        if members.iter().any(|&(v, _)| is_divided(graph, v)) {
            continue;
        }
        for &(value, axis) in &members {
            if graph.tensor(value).is_some() && makes_channels(graph, value) {
                made.insert((value, axis));
            }
        }
    }
    made
}

fn makes_channels(graph: &Graph, value: ValueId) -> bool {
    graph.consumers(value).iter().all(|&id| {
        let node = graph.node(id);
        let ports: &[usize] = match &node.op {
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Gemm(_)
            | Op::BatchNormalization { .. }
            | Op::InstanceNormalization { .. }
            | Op::Fused(FusedOp::PackedAttention { .. }) => &[1, 2],
            Op::MatMul => &[0, 1],
            _ => &[],
        };
        let at = |p: usize| node.input(p) == Some(value);
        ports.iter().any(|&p| at(p)) && (3..node.inputs.len()).all(|p| !at(p))
    })
}

/// True if a node reads the value and may not be finite where it is zero.
fn is_divided(graph: &Graph, value: ValueId) -> bool {
    graph.consumers(value).iter().any(|&id| {
        matches!(
            graph.node(id).op,
            Op::Unary(UnaryOp::Log | UnaryOp::Reciprocal)
                | Op::Binary(BinaryOp::Div | BinaryOp::Pow | BinaryOp::Mod)
                | Op::Reduce { .. }
        )
    })
}

/// The tensor with all slices of an axis but `keep` set to zero.
fn zero(tensor: &Tensor, axis: usize, keep: &[usize]) -> Result<Tensor, PruneError> {
    let shape = tensor.shape();
    let n = shape.get(axis).copied().unwrap_or(0);
    let inner: usize = shape.iter().skip(axis + 1).product();
    let Some(size) = tensor.dtype().size_bytes() else {
        return Ok(tensor.clone());
    };
    let mut stays = vec![false; n];
    for &k in keep {
        if let Some(slot) = stays.get_mut(k) {
            *slot = true;
        }
    }
    let mut bytes = tensor.to_le_bytes();
    for (row, chunk) in bytes.chunks_mut((inner * size).max(1)).enumerate() {
        if !stays[row % n.max(1)] {
            chunk.fill(0);
        }
    }
    Tensor::from_le_bytes(tensor.dtype(), shape.to_vec(), bytes).map_err(PruneError::Graph)
}
