//! Re-estimating the statistics of batch normalisations that no linear node could take in.

use std::collections::BTreeSet;

use regraft_exec::HostTensor;
use regraft_graph::{Node, NodeId, Op, Tensor, ValueId};
use regraft_solve::stats::ChannelMoments;
use regraft_solve::{Samples, SolveError};

use super::target::keep_axes;
use super::{BlockTuning, Tuned, Walk, in_dense};
use crate::RebuildError;
use crate::blocks::Block;

/// Sets running mean and variance of every normalisation of a block to those of its pruned inputs,
/// and keeps them where that lowers the error of its output on held-out samples.
pub(super) fn re_estimate(
    walk: &mut Walk<'_>,
    block: &Block,
    touched: &mut BTreeSet<ValueId>,
) -> Result<Vec<BlockTuning>, RebuildError> {
    let mut reports = Vec::new();
    for index in block.start.index()..block.end.index() {
        let id = NodeId::new(index);
        let node = walk.pruned.node(id).clone();
        if !matches!(node.op, Op::BatchNormalization { .. }) {
            continue;
        }
        let Some(found) = statistics(walk, id, &node)? else {
            continue;
        };
        let before = error(walk, &node)?;
        let old: Vec<(ValueId, Tensor)> = found
            .iter()
            .filter_map(|(v, _)| Some((*v, walk.current(*v)?)))
            .collect();
        walk.set(found)?;
        let after = error(walk, &node)?;
        let kept = after < before;
        if kept {
            touched.extend(old.iter().map(|(v, _)| *v));
        } else {
            walk.set(old)?;
        }
        let tuned = Tuned {
            error_before: before,
            error_after: after.min(before),
            kept,
            steps: 0,
        };
        let output = format!("{} (statistics)", walk.pruned.node_label(id));
        reports.push(BlockTuning { output, tuned });
    }
    Ok(reports)
}

/// Mean and variance of the normalisation's input over the fitted samples, as its initializers.
fn statistics(
    walk: &Walk<'_>,
    id: NodeId,
    node: &Node,
) -> Result<Option<Vec<(ValueId, Tensor)>>, RebuildError> {
    let (Some(x), Some(mean), Some(variance)) = (node.input(0), node.input(3), node.input(4))
    else {
        return Ok(None);
    };
    // A statistic that other nodes read too is not this node's to change.
    let own = |v: ValueId| walk.pruned.tensor(v).is_some() && walk.pruned.consumers(v).len() == 1;
    if !own(mean)
        || !own(variance)
        || node
            .output(0)
            .is_none_or(|y| in_dense(walk.dense, y).is_none())
    {
        return Ok(None);
    }
    let channels = walk.pruned.tensor(mean).map_or(0, Tensor::len);
    let mut moments = ChannelMoments::new(channels);
    let label = walk.pruned.node_label(id);
    for chunk in 0..walk.n_fit() {
        let input = walk.pruned_stream.chunk(chunk, &[x])?.remove(0);
        add(&mut moments, &input, channels).map_err(RebuildError::solve(&label))?;
    }
    if moments.n() < 2 {
        return Ok(None);
    }
    let floats =
        |v: &[f64]| Tensor::from_f32(vec![channels], v.iter().map(|x| *x as f32).collect());
    Ok(Some(vec![
        (mean, floats(moments.mean())?),
        (variance, floats(&moments.variance())?),
    ]))
}

fn add(
    moments: &mut ChannelMoments,
    input: &HostTensor,
    channels: usize,
) -> Result<(), SolveError> {
    let Some(data) = input.as_f32() else {
        return Ok(());
    };
    let positions: usize = input.shape.iter().skip(2).product();
    for image in data.chunks_exact((channels * positions).max(1)) {
        moments.add(Samples::channels(image, channels, positions)?)?;
    }
    Ok(())
}

/// Relative squared error of the normalisation's output on held-out samples.
fn error(walk: &Walk<'_>, node: &Node) -> Result<f64, RebuildError> {
    let Some(y) = node.output(0) else {
        return Ok(0.0);
    };
    let (mut error, mut energy) = (0.0, 0.0);
    for chunk in walk.n_fit()..walk.pruned_stream.n_chunks() {
        let found = walk.pruned_stream.chunk(chunk, &[y])?.remove(0);
        let dense = walk.dense_stream.chunk(chunk, &[y])?.remove(0);
        let wanted = keep_axes(&dense, y, walk.kept);
        let (Some(a), Some(b)) = (found.as_f32(), wanted.as_f32()) else {
            continue;
        };
        error += a
            .iter()
            .zip(b)
            .map(|(a, b)| f64::from(a - b) * f64::from(a - b))
            .sum::<f64>();
        energy += b.iter().map(|b| f64::from(*b) * f64::from(*b)).sum::<f64>();
    }
    Ok(if energy > 0.0 { error / energy } else { error })
}
