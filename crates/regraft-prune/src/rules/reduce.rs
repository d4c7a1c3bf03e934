//! Pooling, reductions and the search for extrema.

use regraft_graph::Op;
use regraft_graph::infer::params;
use regraft_graph::op::{GlobalPool, ReduceKind};

use super::{Link, Port, Site, Verdict, front};

pub(super) fn pool(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    if is_statistics(site, port, axis) {
        return Ok(Vec::new());
    }
    match port {
        // Indices count over all channels: with fewer of them they are others.
        _ if site.node.output(1).is_some_and(|v| site.graph.is_read(v)) => {
            site.freeze("gives places that count over all channels")
        }
        Port::In(0) | Port::Out(0 | 1) if axis < 2 => {
            let (x, y) = ((Port::In(0), axis), (Port::Out(0), axis));
            let places = site
                .node
                .output(1)
                .map(|_| Link::same(x, (Port::Out(1), axis)));
            Ok(std::iter::once(Link::same(x, y)).chain(places).collect())
        }
        Port::In(_) | Port::Out(_) => site.freeze("pools over this axis"),
    }
}

pub(super) fn reduce(site: &Site<'_>, keepdims: bool, port: Port, axis: usize) -> Verdict {
    let Some(axes) = params::axes(site.graph, site.facts, site.id) else {
        return site.unknown_shape();
    };
    if is_statistics(site, port, axis) {
        return Ok(Vec::new());
    }
    over(site, &axes, keepdims, (port, axis))
}

fn is_statistics(site: &Site<'_>, port: Port, axis: usize) -> bool {
    port == Port::In(0) && statistics(site).is_some_and(|(along, _)| along == axis)
}

/// Returns the last axis of input 0, and how it is reduced, if it alone is reduced to sums or means
/// and stays with extent 1: so do normalisations that exporters write in single steps (tf2onnx as a
/// pooling over the last of three axes). What is left of the channels has its own statistics.
pub(crate) fn statistics(site: &Site<'_>) -> Option<(usize, ReduceKind)> {
    let last = site.rank(Port::In(0))?.checked_sub(1)?;
    match &site.node.op {
        Op::GlobalPool(GlobalPool::Average) => (last == 2).then_some((last, ReduceKind::Mean)),
        Op::Reduce {
            kind,
            keepdims: true,
            ..
        } => {
            let sums = match kind {
                ReduceKind::Mean
                | ReduceKind::Sum
                | ReduceKind::L1
                | ReduceKind::L2
                | ReduceKind::SumSquare => true,
                ReduceKind::Max
                | ReduceKind::Min
                | ReduceKind::Prod
                | ReduceKind::LogSum
                | ReduceKind::LogSumExp => false,
            };
            let axes = params::axes(site.graph, site.facts, site.id)?;
            (sums && last > 0 && axes == [last]).then_some((last, *kind))
        }
        _ => None,
    }
}

pub(super) fn arg_extremum(
    site: &Site<'_>,
    along: i64,
    keepdims: bool,
    port: Port,
    axis: usize,
) -> Verdict {
    match site.rank(Port::In(0)).and_then(|rank| front(along, rank)) {
        Some(along) => over(site, &[along], keepdims, (port, axis)),
        None => site.unknown_shape(),
    }
}

fn over(site: &Site<'_>, reduced: &[usize], keepdims: bool, at: (Port, usize)) -> Verdict {
    let Some(rank) = site.rank(Port::In(0)) else {
        return site.unknown_shape();
    };
    let outputs = (0..rank).filter(|a| keepdims || !reduced.contains(a));
    let pairs: Vec<(usize, usize)> = outputs.enumerate().map(|(y, x)| (x, y)).collect();
    let found = pairs.iter().find(|(x, y)| match at.0 {
        Port::In(0) => *x == at.1,
        Port::Out(0) => *y == at.1,
        Port::In(_) | Port::Out(_) => false,
    });
    match found {
        Some((x, y)) if !reduced.contains(x) => {
            Ok(vec![Link::same((Port::In(0), *x), (Port::Out(0), *y))])
        }
        _ => site.freeze("reduces over the channels"),
    }
}
