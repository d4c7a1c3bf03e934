//! Removing the units that a plan does not keep.

mod dry_run;
mod grow;
mod mask;
mod mask_nodes;
mod params;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

pub use dry_run::dry_run;
pub use grow::{Grown, Origin, Share, grow};
pub use mask::mask;
use regraft_graph::cost::{Cost, node_macs, total};
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{Dim, Graph, GraphEdit, NodeId, Op, Tensor, ValueId, ValueType};

use crate::blocks::remove_blocks;
use crate::{Groups, Kept, Plan, PruneError};

/// What happened to one node that makes or sums over channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// The node's name.
    pub node: String,
    /// Output channels before and after, 0 where a whole block went.
    pub n_out: (usize, usize),
    /// Input channels before and after, `None` for nodes without a weight axis over their inputs.
    pub n_in: Option<(usize, usize)>,
    /// Multiply-accumulates before and after.
    pub macs: (u64, u64),
    /// Elements of its weights and biases before and after.
    pub params: (u64, u64),
}

/// What removing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyReport {
    /// Every node with weights that make channels, in graph order, unchanged ones too.
    pub nodes: Vec<NodeChange>,
    /// The counts of the dense network.
    pub before: Cost,
    /// The counts of the pruned network.
    pub after: Cost,
    /// The indices on every axis that shrank or grew, for whoever rebuilds the weights.
    pub kept: Kept,
}

/// Returns the graph without the units that `plan` removes, and what changed.
///
/// A dry run compares the widths at every node first. Then every initializer is sliced and every
/// setting that counts channels (shapes, cuts, pads, groups) rewritten; shapes are inferred again
/// and compared with what was expected. Whole blocks go last. A plan that keeps everything gives an equal graph.
/// # Errors
/// [`PruneError`] if the plan does not fit the groups, a node would get widths that do not fit
/// together (the node is named), a block of the plan does not exist, or the result is not a valid graph.
pub fn apply(
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    plan: &Plan,
) -> Result<(Graph, ApplyReport), PruneError> {
    let kept = dry_run(graph, facts, groups, plan)?;
    let mut edit = graph.edit();
    slice_constants(graph, &kept, &mut edit)?;
    for (id, _) in graph.nodes() {
        params::rewrite(graph, facts, &kept, id, &mut edit)?;
    }
    for (value, _, _) in kept.iter() {
        if graph.tensor(value).is_none() {
            edit.forget_declared(value);
        }
    }
    let pruned = edit.finish().map_err(PruneError::Graph)?;
    let new_facts = infer(&pruned, &InferOptions::default()).map_err(PruneError::Graph)?;
    check_widths(graph, facts, (&pruned, &new_facts), &kept)?;
    let blocks = plan.blocks(graph, facts)?;
    if blocks.is_empty() {
        let report = report(graph, facts, (&pruned, &new_facts), kept);
        return Ok((pruned, report));
    }
    let pruned = remove_blocks(&pruned, &blocks)?;
    let new_facts = infer(&pruned, &InferOptions::default()).map_err(PruneError::Graph)?;
    check_widths(graph, facts, (&pruned, &new_facts), &kept)?;
    let report = report(graph, facts, (&pruned, &new_facts), kept);
    Ok((pruned, report))
}

/// Slices of a tensor on all axes of a value that shrink; `None` if none does.
fn sliced(tensor: &Tensor, value: ValueId, kept: &Kept) -> Result<Option<Tensor>, PruneError> {
    let mut result: Option<Tensor> = None;
    for axis in 0..tensor.shape().len() {
        if let Some(keep) = kept.get(value, axis) {
            let from = result.as_ref().unwrap_or(tensor);
            result = Some(from.select(axis, keep).map_err(PruneError::Graph)?);
        }
    }
    Ok(result)
}

fn slice_constants(graph: &Graph, kept: &Kept, edit: &mut GraphEdit) -> Result<(), PruneError> {
    for (&value, init) in graph.initializers() {
        let Some(tensor) = sliced(&init.tensor, value, kept)? else {
            continue;
        };
        if graph.inputs().contains(&value) {
            // Old files list every initializer as an input with a type.
            let shape = tensor.shape().iter().map(|&n| Dim::Fixed(n)).collect();
            let declared = ValueType {
                dtype: tensor.dtype(),
                shape: Some(shape),
            };
            edit.set_declared(value, Some(declared));
        }
        edit.set_initializer(value, tensor);
    }
    for (id, node) in graph.nodes() {
        let (Op::Constant { value: tensor }, Some(out)) = (&node.op, node.output(0)) else {
            continue;
        };
        if let Some(value) = sliced(tensor, out, kept)? {
            edit.set_op(id, Op::Constant { value });
        }
    }
    Ok(())
}

/// Compares every extent with the dense one, shrunk where the plan says so.
fn check_widths(
    graph: &Graph,
    facts: &Facts,
    (pruned, new_facts): (&Graph, &Facts),
    kept: &Kept,
) -> Result<(), PruneError> {
    for (value, _) in pruned.values() {
        if value.index() >= graph.n_values() {
            continue;
        }
        let (Some(old), Some(new)) = (facts.shape(value), new_facts.shape(value)) else {
            continue;
        };
        for (axis, (old, new)) in old.iter().zip(new).enumerate() {
            let (Some(old), Some(new)) = (old.fixed(), new.fixed()) else {
                continue;
            };
            let expected = kept.width(value, axis, old);
            // A shape that is computed from a shrunk value holds other numbers, not other extents.
            if new != expected {
                let maker = pruned.producer(value);
                return Err(PruneError::Inconsistent {
                    node: maker.map_or_else(
                        || pruned.value(value).name.clone(),
                        |id| pruned.node_label(id),
                    ),
                    op: maker.map_or_else(String::new, |id| pruned.node(id).op.name().to_owned()),
                    reason: format!(
                        "axis {axis} of `{}` has {new} channels, {expected} were planned",
                        pruned.value(value).name
                    ),
                });
            }
        }
    }
    Ok(())
}

fn report(
    graph: &Graph,
    facts: &Facts,
    (pruned, new_facts): (&Graph, &Facts),
    kept: Kept,
) -> ApplyReport {
    let mut nodes = Vec::new();
    for (id, _) in graph.nodes() {
        if let Some(change) = node_change(graph, facts, (pruned, new_facts), &kept, id) {
            nodes.push(change);
        }
    }
    ApplyReport {
        nodes,
        before: total(graph, facts),
        after: total(pruned, new_facts),
        kept,
    }
}

fn node_change(
    graph: &Graph,
    facts: &Facts,
    (pruned, new_facts): (&Graph, &Facts),
    kept: &Kept,
    id: NodeId,
) -> Option<NodeChange> {
    let (seed, sum) = dry_run::weights(graph, facts, id);
    let seed = seed?;
    let extents = |value: ValueId, axis: usize| {
        let old = facts.shape(value)?.get(axis)?.fixed()?;
        Some((old, kept.width(value, axis, old)))
    };
    let new_id = pruned.producer(seed.output);
    let width = |extents: (usize, usize)| (extents.0, new_id.map_or(0, |_| extents.1));
    let params = |graph: &Graph, id: NodeId| -> u64 {
        let tensors = graph.node(id).inputs.iter().flatten();
        let tensors = tensors.filter_map(|v| graph.tensor(*v));
        tensors
            .filter(|t| t.dtype().is_float())
            .map(|t| t.len() as u64)
            .sum()
    };
    Some(NodeChange {
        node: graph.node_label(id),
        n_out: width(extents(seed.output, seed.output_axis)?),
        n_in: sum.and_then(|s| extents(s.input, s.input_axis)).map(width),
        macs: (
            node_macs(graph, facts, id),
            new_id.map_or(0, |n| node_macs(pruned, new_facts, n)),
        ),
        params: (params(graph, id), new_id.map_or(0, |n| params(pruned, n))),
    })
}
