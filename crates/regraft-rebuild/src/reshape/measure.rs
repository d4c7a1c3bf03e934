//! What an edit does to the network's output.

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::{Graph, ValueId};

use crate::squared_error::SquaredError;
use crate::stream::Stream;
use crate::{Activations, RebuildError};

/// Returns the squared change of a network's first output, relative to its energy.
///
/// # Errors
/// [`RebuildError::Run`] if one of the two cannot run.
pub fn output_change(
    before: &Graph,
    after: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    exec: ExecOptions,
) -> Result<f64, RebuildError> {
    let (Some(old), Some(new)) = (before.outputs().first(), after.outputs().first()) else {
        return Ok(0.0);
    };
    let old_stream = Stream::new("dense", before, inputs, exec)?;
    let new_stream = Stream::new("edited", after, inputs, exec)?;
    let mut sum = SquaredError::default();
    for chunk in 0..old_stream.n_chunks() {
        let wanted = old_stream.chunk(chunk, &[*old])?.remove(0);
        sum.add(&new_stream.chunk(chunk, &[*new])?.remove(0), &wanted);
    }
    Ok(sum.relative())
}
