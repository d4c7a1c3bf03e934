//! What every layer's next additions and drops bring, on the inputs of the pruned network.

use std::collections::BTreeMap;

use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Graph, ValueId};
use regraft_solve::SolveError;
use regraft_solve::sparse::{
    Criterion, MarginalConfig, Marginals, Mask, Objective, ObjectiveConfig, marginals,
};

use super::scales::scales;
use super::{Masks, step};
use crate::blocks::find_blocks;
use crate::rebuild::refit_layer::statistics;
use crate::rebuild::{Pair, RebuildConfig, Walk, refittable};
use crate::stream::Stream;
use crate::{Activations, Layer, Monitor, RebuildError, find_layers};

/// One layer's marginals.
pub(super) struct Surveyed {
    pub(super) output: ValueId,
    pub(super) marginals: Marginals,
    /// Rise of the network's error for each unit of the layer's objective.
    pub(super) scale: f64,
    /// Columns of a kernel; 1 for a linear layer.
    pub(super) taps: usize,
}

/// How far to look in each row.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    pub(super) criterion: Criterion,
    pub(super) gains: usize,
    pub(super) costs: usize,
}

/// Returns the masks of the layers with the given outputs: what is not zero.
pub(super) fn masks_of(graph: &Graph, outputs: &[ValueId]) -> Result<Masks, RebuildError> {
    let facts = infer(graph, &InferOptions::default())?;
    let layers = find_layers(graph, &facts);
    let named = layers.iter().filter(|l| outputs.contains(&l.output));
    Ok(named
        .filter_map(|l| Some((l.output, Mask::of_nonzero(&l.weights(graph)?))))
        .collect())
}

/// Surveys `pair.pruned`, whose layers were pruned to `masks`; `anchor` holds the weights before.
pub(super) fn survey(
    pair: Pair<'_>,
    anchor: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &RebuildConfig,
    masks: &Masks,
    reach: Reach,
    monitor: &dyn Monitor,
) -> Result<Vec<Surveyed>, RebuildError> {
    let facts = infer(pair.pruned, &InferOptions::default())?;
    let layers = refittable(pair.pruned, find_layers(pair.pruned, &facts));
    let scales = scales(pair, &layers, masks, inputs, config, monitor)?;
    let mut walk = Walk {
        dense: pair.dense,
        pruned: pair.pruned,
        facts: &facts,
        kept: pair.kept,
        layers: &layers,
        cells: &[],
        dense_cells: Vec::new(),
        dense_stream: Stream::new("dense", pair.dense, inputs, config.exec)?,
        pruned_stream: Stream::new("pruned", pair.pruned, inputs, config.exec)?,
        weights: BTreeMap::new(),
        config,
        monitor,
    };
    let blocks = find_blocks(pair.pruned, &walk.pruned_stream, &layers, &[]);
    let mut found = Vec::new();
    for block in &blocks {
        for &i in &block.layers {
            let layer = &layers[i];
            let Some(mask) = masks.get(&layer.output) else {
                continue;
            };
            let label = pair.pruned.node_label(layer.node);
            step(monitor, found.len(), masks.len(), &label)?;
            let Some((energy, marginals)) = layer_marginals(&walk, layer, anchor, mask, reach)?
            else {
                continue;
            };
            let relative = if energy > 0.0 { 1.0 / energy } else { 0.0 };
            found.push(Surveyed {
                output: layer.output,
                marginals,
                scale: scales.get(&layer.output).copied().unwrap_or(relative),
                taps: layer.taps,
            });
        }
        walk.leave(block)?;
    }
    Ok(found)
}

/// The energy of a layer's target and its marginals, all groups one after the other.
fn layer_marginals(
    walk: &Walk<'_>,
    layer: &Layer,
    anchor: &Graph,
    mask: &Mask,
    reach: Reach,
) -> Result<Option<(f64, Marginals)>, RebuildError> {
    let label = walk.pruned.node_label(layer.node);
    let Some((statistics, _)) = statistics(walk, layer, &label, 0..walk.n_fit())? else {
        return Ok(None);
    };
    let solve = |e: SolveError| RebuildError::solve(&label)(e);
    let bias = layer.bias_mode();
    let Some(old) = layer.weights(anchor) else {
        return Ok(None);
    };
    let problems = statistics.into_problems(bias).map_err(solve)?;
    let per_group = layer.n_out / problems.len().max(1);
    let config = MarginalConfig {
        criterion: reach.criterion,
        gains: reach.gains,
        costs: reach.costs,
    };
    let damping = ObjectiveConfig::starting_at(walk.config.damping);
    let threads = walk.config.exec.threads;
    let (mut energy, mut all) = (0.0, Marginals::default());
    for (g, problem) in problems.into_iter().enumerate() {
        let rows: Vec<usize> = (g * per_group..(g + 1) * per_group).collect();
        let part = old.select_rows(&rows).map_err(solve)?;
        let (objective, _) = Objective::split(problem, Some(&part), &damping).map_err(solve)?;
        let found =
            marginals(&objective, &mask.select_rows(&rows), &config, threads).map_err(solve)?;
        energy += objective.energy;
        all.gains.extend(found.gains);
        all.costs.extend(found.costs);
    }
    Ok(Some((energy, all)))
}
