//! What each residual block matters: the order in which blocks go, and the error along it.
//!
//! Blocks interact: without one, its neighbours matter more. So the error is that of the network
//! with this block *and all that went before it* removed, measured on calibration samples. Greedy:
//! the block whose absence hurts least goes next. An error measured with fewer blocks gone is taken
//! for a lower bound of the error now, so that of the many blocks only the few that could be next
//! are measured again.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{Graph, ValueId};
use regraft_prune::blocks::{RemovableBlock, remove_blocks};

use crate::squared_error::SquaredError;
use crate::{Activations, Monitor, RebuildError, Stage};

/// Relative squared error at which the network's output says nothing any more: what goes after
/// that is not worth ordering.
const HOPELESS: f64 = 1.0;

/// One block on its way out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockStep {
    /// The block's index among those that may go.
    pub block: usize,
    /// Relative squared error of the network's output with it and all before it removed, nothing
    /// mended.
    pub error: f64,
}

/// Returns blocks in the order in which they go, up to where nothing of the output is left.
///
/// `inputs` are the samples on which the output is measured, a few hundred at most.
/// # Errors
/// [`RebuildError::Run`], [`RebuildError::Prune`] or [`RebuildError::Interrupted`].
pub fn block_order(
    graph: &Graph,
    blocks: &[RemovableBlock],
    inputs: &BTreeMap<ValueId, Activations>,
    exec: ExecOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<BlockStep>, RebuildError> {
    let reference = outputs(graph, inputs, exec)?;
    let measure = |gone: &[usize]| -> Result<f64, RebuildError> {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        let mut gone = gone.to_vec();
        gone.sort_unstable();
        let gone: Vec<RemovableBlock> = gone
            .iter()
            .filter_map(|b| blocks.get(*b).cloned())
            .collect();
        let small = remove_blocks(graph, &gone)?;
        Ok(relative_error(&outputs(&small, inputs, exec)?, &reference))
    };
    let progress = |done: usize| {
        monitor.progress(Stage::Sensitivity, done, blocks.len(), "blocks");
    };
    greedy(blocks.len(), &measure, &progress)
}

/// Lazy greedy over `n` things: see the top of the module.
fn greedy(
    n: usize,
    measure: &dyn Fn(&[usize]) -> Result<f64, RebuildError>,
    progress: &dyn Fn(usize),
) -> Result<Vec<BlockStep>, RebuildError> {
    // Block, last error measured, number of blocks that were gone then.
    let mut left: Vec<(usize, f64, usize)> = Vec::new();
    for block in 0..n {
        left.push((block, measure(&[block])?, 0));
    }
    let mut order: Vec<BlockStep> = Vec::new();
    while !left.is_empty() {
        progress(order.len());
        let gone: Vec<usize> = order.iter().map(|s| s.block).collect();
        loop {
            left.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            let Some(first) = left.first_mut() else { break };
            if first.2 == gone.len() {
                break;
            }
            let mut with = gone.clone();
            with.push(first.0);
            *first = (first.0, measure(&with)?, gone.len());
        }
        let (block, error, _) = left.remove(0);
        if !error.is_finite() || error >= HOPELESS {
            break;
        }
        order.push(BlockStep { block, error });
    }
    Ok(order)
}

/// Returns the model's first output, chunk by chunk.
pub(crate) fn outputs(
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
pub(crate) fn relative_error(found: &[HostTensor], reference: &[HostTensor]) -> f64 {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Sums of tenths.
    const F64_TOLERANCE: f64 = 1e-12;

    #[test]
    fn what_interacts_is_measured_again() {
        // Alone 0.1, 0.2, 0.3; blocks 0 and 1 together are bad, 0 and 2 just add.
        let asked = RefCell::new(Vec::new());
        let measure = |gone: &[usize]| {
            asked.borrow_mut().push(gone.to_vec());
            let alone: f64 = gone.iter().map(|b| 0.1 * (*b as f64 + 1.0)).sum();
            let both = gone.contains(&0) && gone.contains(&1);
            Ok(alone + if both { 0.3 } else { 0.0 })
        };
        let order = greedy(3, &measure, &|_| ()).unwrap();
        let blocks: Vec<usize> = order.iter().map(|s| s.block).collect();
        assert_eq!(blocks, [0, 2, 1]);
        for (step, expected) in order.iter().zip([0.1, 0.4, 0.9]) {
            assert!((step.error - expected).abs() < F64_TOLERANCE, "{order:?}");
        }
        // Each alone; after 0 both others, as 0.2 rose to 0.6; after 0 and 2 the last.
        assert_eq!(asked.borrow().len(), 6);
    }

    #[test]
    fn hopeless_blocks_stay() {
        let measure = |gone: &[usize]| {
            Ok(if gone.contains(&1) {
                f64::NAN
            } else {
                0.6 * gone.len() as f64
            })
        };
        let order = greedy(3, &measure, &|_| ()).unwrap();
        let blocks: Vec<usize> = order.iter().map(|s| s.block).collect();
        assert_eq!(blocks, [0]);
    }
}
