//! The gradient of the network's error with respect to connections that are zero.
//!
//! # Reference
//! Evci, Gale, Menick, Castro, Elsen: "Rigging the Lottery: Making All Tickets Winners", ICML 2020:
//! the pruned connections of the largest gradient come back. Here the loss is the squared error of
//! the network's output towards the dense one, so no labels are needed.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, LossTerm};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Tensor, ValueId};
use regraft_solve::sparse::Marginals;

use super::survey::Surveyed;
use super::{Masks, step};
use crate::rebuild::{Pair, with_tensors};
use crate::stream::Stream;
use crate::{Activations, Layer, Monitor, RebuildError, find_layers};

/// Returns the squared gradients of every pruned connection, the largest of each row first.
pub(super) fn survey(
    pair: Pair<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    held_out_chunks: usize,
    masks: &Masks,
    most: usize,
    exec: ExecOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<Surveyed>, RebuildError> {
    let facts = infer(pair.pruned, &InferOptions::default())?;
    let layers: Vec<Layer> = find_layers(pair.pruned, &facts)
        .into_iter()
        .filter(|l| masks.contains_key(&l.output))
        .collect();
    let Some(&output) = pair.dense.outputs().first() else {
        return Ok(Vec::new());
    };
    let dense = Stream::new("dense", pair.dense, inputs, exec)?;
    let pruned = Stream::new("pruned", pair.pruned, inputs, exec)?;
    let wrt: Vec<ValueId> = layers.iter().map(|l| l.weight).collect();
    let n_fit = pruned.n_chunks().saturating_sub(held_out_chunks);
    let mut sums: BTreeMap<ValueId, Vec<f32>> = BTreeMap::new();
    for chunk in 0..n_fit {
        step(monitor, chunk, n_fit, "gradients")?;
        let wanted = dense.chunk(chunk, &[output])?.remove(0);
        let loss = [LossTerm::mean_squared_error(output, wanted)];
        for (id, gradient) in pruned.gradients(&pruned.feeds(chunk), &loss, &wrt)? {
            let Some(gradient) = gradient.as_f32() else {
                continue;
            };
            let sum = sums.entry(id).or_insert_with(|| vec![0.0; gradient.len()]);
            sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
        }
    }
    let mut tensors = BTreeMap::new();
    for (id, sum) in sums {
        let shape = pair.pruned.tensor(id).map(|t| t.shape().to_vec());
        tensors.insert(id, Tensor::from_f32(shape.unwrap_or_default(), sum)?);
    }
    let gradients = with_tensors(pair.pruned, &tensors)?;
    let surveyed = |layer: &Layer| {
        let (gradient, mask) = (layer.weights(&gradients)?, masks.get(&layer.output)?);
        Some(Surveyed {
            output: layer.output,
            marginals: Marginals::ranked(mask, most, |row, i| gradient.at(row, i).powi(2)),
            scale: 1.0,
            taps: layer.taps,
        })
    };
    Ok(layers.iter().filter_map(surveyed).collect())
}
