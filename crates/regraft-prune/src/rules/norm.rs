//! Normalisations.

use regraft_graph::op::Normalization;

use super::{IndexMap, Link, Port, Site, Verdict, front};

pub(super) fn batch(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    per_channel(site, 5, port, axis, true)
}

pub(super) fn instance(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    per_channel(site, 3, port, axis, false)
}

/// Axis 1 of X and Y with axis 0 of the parameters at ports 1 to `n_ports`.
pub(super) fn per_channel(
    site: &Site<'_>,
    n_ports: usize,
    port: Port,
    axis: usize,
    pointwise: bool,
) -> Verdict {
    let (x, y) = (Port::In(0), Port::Out(0));
    let channel = match port {
        Port::In(0) | Port::Out(0) => axis == 1,
        Port::In(_) => axis == 0,
        Port::Out(_) => false,
    };
    if channel {
        let mut links = vec![Link::same((x, 1), (y, 1))];
        for p in 1..n_ports {
            if site.node.input(p).is_some() {
                links.push(Link::same((y, 1), (Port::In(p), 0)));
            }
        }
        return Ok(links);
    }
    match port {
        Port::In(0) | Port::Out(0) if pointwise || axis == 0 => {
            Ok(vec![Link::same((x, axis), (y, axis))])
        }
        Port::In(_) | Port::Out(_) => site.freeze("takes statistics over this axis"),
    }
}

/// Statistics over the last axis alone are taken over the channels that are left; over several axes
/// a channel is no longer one index of the parameters.
pub(super) fn layer(site: &Site<'_>, from: i64, port: Port, axis: usize) -> Verdict {
    let Some(rank) = site.rank(Port::In(0)) else {
        return site.unknown_shape();
    };
    let Some(from) = front(from, rank) else {
        return site.unknown_shape();
    };
    let (x, y) = (Port::In(0), Port::Out(0));
    let last = match port {
        Port::In(0) | Port::Out(0) if axis < from => {
            return Ok(vec![Link::same((x, axis), (y, axis))]);
        }
        Port::In(0) | Port::Out(0) => from + 1 == rank,
        Port::In(p) => from + 1 == rank && site.rank(Port::In(p)) == Some(1),
        Port::Out(_) => false,
    };
    let others = site.further_outputs().next().is_some();
    if !last || others {
        return site.freeze("normalises over the channels and other axes");
    }
    let mut links = vec![Link::same((x, from), (y, from))];
    for p in 1..site.node.inputs.len() {
        if site.node.input(p).is_none() {
            continue;
        }
        if site.rank(Port::In(p)) != Some(1) {
            return site.freeze("has scales of a shape that is not understood");
        }
        links.push(Link::same((y, from), (Port::In(p), 0)));
    }
    Ok(links)
}

pub(super) fn other(site: &Site<'_>, norm: &Normalization, port: Port, axis: usize) -> Verdict {
    match norm {
        Normalization::Group {
            n_groups,
            per_group,
            ..
        } => groups(site, *n_groups, *per_group, (port, axis)),
        Normalization::RootMeanSquare { axis: from, .. } => layer(site, *from, port, axis),
        Normalization::Hardmax {
            axis: over,
            flatten,
        } => softmax(site, *over, *flatten, port, axis),
        // Removed channels add nothing to a sum; what is left has its own length.
        Normalization::Length { .. } => match port {
            Port::In(0) | Port::Out(0) => {
                Ok(vec![Link::same((Port::In(0), axis), (Port::Out(0), axis))])
            }
            Port::In(_) | Port::Out(_) => site.freeze("has no such port"),
        },
        Normalization::MeanVariance { axes } => {
            let rank = site.rank(Port::In(0)).unwrap_or(0);
            let over = axes.iter().any(|a| front(*a, rank) == Some(axis));
            unless(site, over, port, axis)
        }
        Normalization::LocalResponse { .. } => unless(site, axis == 1, port, axis),
    }
}

fn unless(site: &Site<'_>, normalised: bool, port: Port, axis: usize) -> Verdict {
    match port {
        Port::In(0) | Port::Out(0) if !normalised => {
            Ok(vec![Link::same((Port::In(0), axis), (Port::Out(0), axis))])
        }
        Port::In(_) | Port::Out(_) => site.freeze("normalises over the channels"),
    }
}

/// The input and axis whose length is normalised.
pub(super) fn length_axis(site: &Site<'_>, norm: &Normalization) -> Option<(Port, usize)> {
    let Normalization::Length { axis, .. } = norm else {
        return None;
    };
    Some((Port::In(0), front(*axis, site.rank(Port::In(0))?)?))
}

/// The channels of one group have common statistics and go together.
fn groups(site: &Site<'_>, n_groups: usize, per_group: bool, at: (Port, usize)) -> Verdict {
    let (x, y) = ((Port::In(0), 1), (Port::Out(0), 1));
    match at {
        (Port::In(0) | Port::Out(0), 1) | (Port::In(1 | 2), 0) => {}
        (Port::In(0) | Port::Out(0), 0) => {
            return Ok(vec![Link::same((Port::In(0), 0), (Port::Out(0), 0))]);
        }
        _ => return site.freeze("takes statistics over this axis"),
    }
    let Some(n) = site.extent(x.0, 1) else {
        return site.unknown_shape();
    };
    if n_groups == 0 || !n.is_multiple_of(n_groups) {
        return site.freeze("has channels that its groups do not divide");
    }
    let each = n / n_groups;
    let blocks = IndexMap::Blocks { a: each, b: each };
    let mut links = vec![Link {
        a: x,
        b: y,
        map: blocks,
    }];
    for port in [1, 2].map(Port::In) {
        if site.value(port).is_none() {
            continue;
        }
        links.push(if per_group {
            Link {
                a: (port, 0),
                b: x,
                map: IndexMap::Spread {
                    outer: 1,
                    inner: each,
                },
            }
        } else {
            Link::same(x, (port, 0))
        });
    }
    Ok(links)
}

pub(super) fn softmax(
    site: &Site<'_>,
    over: i64,
    flatten: bool,
    port: Port,
    axis: usize,
) -> Verdict {
    let Some(over) = site.rank(Port::In(0)).and_then(|rank| front(over, rank)) else {
        return site.unknown_shape();
    };
    if axis == over || (flatten && axis > over) {
        return site.freeze("normalises over the channels");
    }
    match port {
        Port::In(0) | Port::Out(0) => {
            Ok(vec![Link::same((Port::In(0), axis), (Port::Out(0), axis))])
        }
        Port::In(_) | Port::Out(_) => site.freeze("has no such port"),
    }
}
