//! Nodes with weights in the report: dense against small.

use std::collections::BTreeMap;

use regraft_graph::cost::node_macs;
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, NodeId, Op, ValueId};
use regraft_prune::{Groups, Member};
use regraft_rebuild::find_layers;

use super::finish::Parts;
use super::weights::distributions;
use crate::report::{Change, LayerFigures};

/// Share of a tensor's elements that are zero.
pub(super) fn sparsity(tensor: &regraft_graph::Tensor) -> Option<f64> {
    let data = tensor.as_f32()?;
    let zeros = data.iter().filter(|w| **w == 0.0).count();
    Some(zeros as f64 / data.len().max(1) as f64)
}

/// A node with weights as the report shows it.
struct Weighted {
    node: NodeId,
    output: ValueId,
    weight: ValueId,
    /// The axis of the weight that makes the output channels.
    out_axis: usize,
    n_in: usize,
    n_out: usize,
}

/// Linear layers and recurrent ops in node order.
fn weighted(graph: &Graph, facts: &Facts) -> Vec<Weighted> {
    let layers = find_layers(graph, facts).into_iter().map(|layer| Weighted {
        node: layer.node,
        output: layer.output,
        weight: layer.weight,
        out_axis: weight_out_axis(graph, layer.node),
        n_in: layer.n_in(),
        n_out: layer.n_out,
    });
    let recurrent = graph.nodes().filter_map(|(id, node)| {
        let Op::Recurrent(op) = &node.op else {
            return None;
        };
        let weight = node.input(1)?;
        Some(Weighted {
            node: id,
            // The last one: all states may be a value here and none in the file.
            output: node.outputs.iter().flatten().copied().last()?,
            weight,
            out_axis: 1,
            n_in: *graph.tensor(weight)?.shape().get(2)?,
            n_out: op.hidden_size,
        })
    });
    let mut all: Vec<Weighted> = layers.chain(recurrent).collect();
    all.sort_by_key(|w| w.node);
    all
}

/// Nodes with weights, dense against small, found by the value they write.
pub(super) fn layers(parts: &Parts<'_>, small: &Graph, facts: &Facts) -> Vec<LayerFigures> {
    let dense = &parts.model.graph;
    let new: BTreeMap<ValueId, Weighted> = weighted(small, facts)
        .into_iter()
        .map(|w| (w.output, w))
        .collect();
    let mut refits = BTreeMap::new();
    for refit in &parts.rebuilt.layers {
        refits.entry(refit.node.as_str()).or_insert(refit);
        refits.entry(refit.output.as_str()).or_insert(refit);
    }
    let mut figures = Vec::new();
    for layer in weighted(dense, &parts.model.facts) {
        let Some(new_id) = small.producer(layer.output) else {
            continue;
        };
        let new = new.get(&layer.output);
        let label = dense.node_label(layer.node);
        let name = dense.value(layer.output).name.as_str();
        let refit = refits
            .get(label.as_str())
            .or_else(|| refits.get(name))
            .copied();
        let params = |g: &Graph, n: NodeId| {
            let inputs = g.node(n).inputs.iter().flatten();
            inputs
                .filter_map(|v| g.tensor(*v))
                .map(|t| t.len() as u64)
                .sum()
        };
        let (n_in, n_out) = new.map_or((layer.n_in, layer.n_out), |l| (l.n_in, l.n_out));
        let new_weight = small.node(new_id).input(1).and_then(|v| small.tensor(v));
        figures.push(LayerFigures {
            op: dense.node(layer.node).op.name().to_owned(),
            group: group_of(
                parts.selection.map(|s| &s.groups),
                layer.weight,
                layer.out_axis,
            ),
            channels_in: Change::new(layer.n_in, n_in),
            channels_out: Change::new(layer.n_out, n_out),
            macs: Change::new(
                node_macs(dense, &parts.model.facts, layer.node),
                node_macs(small, facts, new_id),
            ),
            params: Change::new(params(dense, layer.node), params(small, new_id)),
            sparsity: new_weight
                .filter(|_| parts.recipe.is_sparse())
                .and_then(sparsity),
            error_before_refit: refit.map(|r| r.error_before),
            error_after_refit: refit.map(|r| r.error_after),
            held_out_before: refit.map(|r| r.held_out_before),
            held_out_after: refit.map(|r| r.held_out_after),
            kept: refit.map(|r| r.kept),
            swaps: refit.filter(|_| parts.recipe.is_sparse()).map(|r| r.swaps),
            mask: refit.and_then(|r| r.mask.clone()),
            residual: refit
                .filter(|_| parts.recipe.is_sparse())
                .map(|r| r.residual),
            damping: refit.map(|r| r.damping),
            damping_steps: refit.map(|r| r.damping_steps),
            dead_inputs: refit.map(|r| r.dead_inputs),
            weights: dense
                .tensor(layer.weight)
                .zip(new_weight)
                .and_then(|(a, b)| distributions(a, b)),
            node: label,
        });
    }
    figures
}

fn weight_out_axis(graph: &Graph, node: NodeId) -> usize {
    match &graph.node(node).op {
        Op::Gemm(g) if !g.trans_b => 1,
        Op::MatMul => 1,
        _ => 0,
    }
}

fn group_of(groups: Option<&Groups>, weight: ValueId, axis: usize) -> Option<String> {
    let groups = groups?;
    let (g, _) = groups.owner(Member {
        value: weight,
        axis,
        index: 0,
    })?;
    groups.groups.get(g).map(|g| g.name.clone())
}
