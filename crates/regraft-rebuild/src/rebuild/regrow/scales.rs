//! What a layer's error means to the network's output, measured.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::{Graph, Tensor, ValueId};

use super::{Masks, step};
use crate::rebuild::{Pair, RebuildConfig, with_tensors};
use crate::squared_error::SquaredError;
use crate::stream::Stream;
use crate::{Activations, Layer, Monitor, RebuildError};

/// Chunks on which the network's output is measured.
const CHUNKS: usize = 2;

/// Returns, for every masked layer, the relative squared error of the network's output over the
/// layer's own squared error for each row, with that layer alone at its pruned weights in the dense
/// network.
///
/// Empty where the two networks differ in shape, so that no layer can stand in the dense one.
pub(super) fn scales(
    pair: Pair<'_>,
    layers: &[Layer],
    masks: &Masks,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &RebuildConfig,
    monitor: &dyn Monitor,
) -> Result<BTreeMap<ValueId, f64>, RebuildError> {
    let mut result = BTreeMap::new();
    let Some(dense) = dense_in(pair, layers)? else {
        return Ok(result);
    };
    let first = |a: &Activations| Activations {
        axis: a.axis,
        chunks: a.chunks.iter().take(CHUNKS).cloned().collect(),
    };
    let inputs = inputs.iter().map(|(v, a)| (*v, first(a))).collect();
    let mut stream = Stream::new("dense", &dense, &inputs, config.exec)?;
    let Some(&output) = dense.outputs().first() else {
        return Ok(result);
    };
    let masked: Vec<&Layer> = layers
        .iter()
        .filter(|l| masks.contains_key(&l.output))
        .collect();
    for (done, layer) in masked.iter().enumerate() {
        step(monitor, done, masked.len(), &dense.node_label(layer.node))?;
        stream.advance(layer.node)?;
        let ids = [Some(layer.weight), layer.bias];
        let tensors = |graph: &Graph| -> Vec<(ValueId, Tensor)> {
            let tensor = |id: ValueId| Some((id, graph.tensor(id)?.clone()));
            ids.into_iter().flatten().filter_map(tensor).collect()
        };
        let values = |stream: &Stream| -> Result<Vec<Vec<HostTensor>>, RebuildError> {
            let chunks = 0..stream.n_chunks();
            chunks
                .map(|c| stream.chunk(c, &[layer.output, output]))
                .collect()
        };
        let wanted = values(&stream)?;
        stream.set(&tensors(pair.pruned))?;
        let found = values(&stream)?;
        stream.set(&tensors(&dense))?;
        let (mut own, mut network) = (SquaredError::default(), SquaredError::default());
        for (a, b) in found.iter().zip(&wanted) {
            if let ([y, z], [t, u]) = (&a[..], &b[..]) {
                own.add(y, t);
                network.add(z, u);
            }
        }
        let rows = own.n as f64 / layer.n_out.max(1) as f64;
        if own.error > 0.0 && network.energy > 0.0 {
            let scale = network.relative() / (own.error / rows);
            result.insert(layer.output, scale);
        }
    }
    Ok(result)
}

/// Returns the pruned graph with the dense model's numbers in it.
fn dense_in(pair: Pair<'_>, layers: &[Layer]) -> Result<Option<Graph>, RebuildError> {
    let mut tensors = BTreeMap::new();
    for &id in pair.pruned.initializers().keys() {
        let Some(own) = pair.pruned.tensor(id) else {
            continue;
        };
        let dense = (id.index() < pair.dense.n_values()).then(|| pair.dense.tensor(id));
        match dense.flatten() {
            Some(tensor) if tensor.shape() == own.shape() => {
                tensors.insert(id, tensor.clone());
            }
            Some(_) => return Ok(None),
            // A bias that the dense model does not have is zero there.
            None if layers.iter().any(|l| l.bias == Some(id)) => {
                let zero = vec![0.0; own.shape().iter().product()];
                tensors.insert(id, Tensor::from_f32(own.shape().to_vec(), zero)?);
            }
            None => {}
        }
    }
    Ok(Some(with_tensors(pair.pruned, &tensors)?))
}
