//! What the network's output loses: the error that plans are judged by.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{Graph, ValueId};

use crate::squared_error::SquaredError;
use crate::{Activations, RebuildError};

/// Returns the model's first output, chunk by chunk.
///
/// # Errors
/// [`RebuildError::Run`] if it does not run.
pub fn outputs(
    graph: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    exec: ExecOptions,
) -> Result<Vec<HostTensor>, RebuildError> {
    let executor = Executor::new(graph, exec).map_err(RebuildError::run("pruned"))?;
    let n_chunks = inputs.values().map(|a| a.chunks.len()).min().unwrap_or(0);
    let Some(&output) = graph.outputs().first() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::with_capacity(n_chunks);
    for chunk in 0..n_chunks {
        let fed = inputs
            .iter()
            .filter_map(|(v, a)| Some((*v, a.chunks.get(chunk)?.clone())));
        let feeds: Vec<(ValueId, HostTensor)> = fed.collect();
        let mut values = executor
            .run_captured(&feeds, &[output])
            .map_err(RebuildError::run("pruned"))?;
        found.extend(values.remove(&output));
    }
    Ok(found)
}

/// Returns the squared distance of two lists of tensors, relative to the second's squared length.
pub fn relative_error(found: &[HostTensor], reference: &[HostTensor]) -> f64 {
    let mut sums = SquaredError::default();
    for (a, b) in found.iter().zip(reference) {
        sums.add(a, b);
    }
    sums.relative()
}

/// Returns the relative squared error of one model's output against another's.
///
/// # Errors
/// [`RebuildError::Run`] if one of them does not run.
pub fn output_error(
    small: &Graph,
    dense: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    exec: ExecOptions,
) -> Result<f64, RebuildError> {
    let reference = outputs(dense, inputs, exec)?;
    Ok(relative_error(&outputs(small, inputs, exec)?, &reference))
}
