//! Pooling, reductions and the search for extrema.

use regraft_graph::infer::params;

use super::{Link, Port, Site, Verdict, front};

pub(super) fn pool(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    match port {
        Port::In(0) | Port::Out(0) if axis < 2 => {
            Ok(vec![Link::same((Port::In(0), axis), (Port::Out(0), axis))])
        }
        Port::In(_) | Port::Out(_) => site.freeze("pools over this axis"),
    }
}

pub(super) fn reduce(site: &Site<'_>, keepdims: bool, port: Port, axis: usize) -> Verdict {
    match params::axes(site.graph, site.facts, site.id) {
        Some(axes) => over(site, &axes, keepdims, (port, axis)),
        None => site.unknown_shape(),
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
