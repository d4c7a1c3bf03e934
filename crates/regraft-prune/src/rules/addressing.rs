//! Ops that address elements by position: an axis that no position runs along keeps its channels.

use regraft_graph::op::IndexOp;

use super::{Link, Port, Site, Verdict, front};

const X: Port = Port::In(0);
const Y: Port = Port::Out(0);

pub(super) fn index(site: &Site<'_>, op: &IndexOp, port: Port, axis: usize) -> Verdict {
    let Some(rank) = site.rank(X) else {
        return site.unknown_shape();
    };
    let at = (port, axis);
    match op {
        IndexOp::GatherNd { batch_dims } => match site.rank(Port::In(1)) {
            Some(q) => slices(site, *batch_dims, (X, Y, q), at),
            None => site.unknown_shape(),
        },
        IndexOp::ScatterNd { .. } => {
            let Some(q) = site.rank(Port::In(1)) else {
                return site.unknown_shape();
            };
            if let (X | Y, Some(depth)) = (port, depth(site)) {
                if axis < depth {
                    return site.freeze("writes at positions along this axis");
                }
                let update = axis - depth + q.saturating_sub(1);
                return Ok(vec![
                    Link::same((X, axis), (Y, axis)),
                    Link::same((X, axis), (Port::In(2), update)),
                ]);
            }
            slices(site, 0, (X, Port::In(2), q), at)
        }
        IndexOp::Cumulative { .. } => {
            let along = site.node.input(1).and_then(|v| site.facts.ints(v));
            let along = along.and_then(|list| front(*list.first()?, rank));
            others(site, along.as_slice(), along.is_some(), at)
        }
        IndexOp::Trilu { .. } => match rank.checked_sub(2) {
            Some(row) => others(site, &[row, row + 1], true, at),
            None => others(site, &[], false, at),
        },
        IndexOp::TopK { axis: along, .. } => {
            let Some(along) = front(*along, rank) else {
                return site.unknown_shape();
            };
            if axis == along || matches!(port, Port::In(1..)) {
                return site.freeze("sorts along the channels");
            }
            let outputs = (0..site.node.outputs.len()).filter(|p| site.node.output(*p).is_some());
            Ok(outputs
                .map(|p| Link::same((X, axis), (Port::Out(p), axis)))
                .collect())
        }
        IndexOp::ReverseSequence {
            batch_axis,
            time_axis,
        } => {
            let axes = [front(*batch_axis, rank), front(*time_axis, rank)];
            let axes: Vec<usize> = axes.into_iter().flatten().collect();
            others(site, &axes, axes.len() == 2, at)
        }
        IndexOp::GatherElements { .. }
        | IndexOp::ScatterElements { .. }
        | IndexOp::TensorScatter { .. }
        | IndexOp::Compress { .. }
        | IndexOp::NonZero
        | IndexOp::OneHot { .. }
        | IndexOp::Unique { .. }
        | IndexOp::EyeLike { .. } => site.freeze("has no rule for channels"),
    }
}

/// The number of axes that an index tuple addresses.
fn depth(site: &Site<'_>) -> Option<usize> {
    let last = site.rank(Port::In(1))?.checked_sub(1)?;
    site.extent(Port::In(1), last)
}

/// Axes of `whole` behind those that index tuples address, and the same axes of `part`, which has
/// the axes of the indices but the last in front; `q` is the rank of the indices.
fn slices(
    site: &Site<'_>,
    batch_dims: usize,
    (whole, part, q): (Port, Port, usize),
    (port, axis): (Port, usize),
) -> Verdict {
    let Some(depth) = depth(site) else {
        return site.unknown_shape();
    };
    let (first, lead) = (batch_dims + depth, q.saturating_sub(1));
    let found = if port == whole {
        axis.checked_sub(first)
    } else if port == part {
        axis.checked_sub(lead)
    } else {
        None
    };
    match found {
        Some(i) => Ok(vec![Link::same((whole, first + i), (part, lead + i))]),
        None => site.freeze("picks positions along this axis"),
    }
}

/// Every axis but those that elements are moved or joined along.
fn others(site: &Site<'_>, along: &[usize], known: bool, (port, axis): (Port, usize)) -> Verdict {
    match port {
        X | Y if known && !along.contains(&axis) => Ok(vec![Link::same((X, axis), (Y, axis))]),
        X | Y => site.freeze("moves or joins elements along this axis"),
        Port::In(_) | Port::Out(_) => site.freeze("takes a setting from these channels"),
    }
}
