//! Elementwise ops.

use super::{Link, Port, Site, Verdict, front};

pub(super) fn unary(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    match port {
        Port::In(0) | Port::Out(0) => {
            Ok(vec![Link::same((Port::In(0), axis), (Port::Out(0), axis))])
        }
        Port::In(_) | Port::Out(_) => site.freeze("takes a setting from these channels"),
    }
}

/// The values and the mask have the same axes.
pub(super) fn dropout(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    match port {
        Port::In(0) | Port::Out(_) => {
            let outputs = (0..2).filter(|p| site.node.output(*p).is_some());
            Ok(outputs
                .map(|p| Link::same((Port::In(0), axis), (Port::Out(p), axis)))
                .collect())
        }
        Port::In(_) => site.freeze("takes a setting from these channels"),
    }
}

/// Axes of the second input belong to those of the first from `from` on; one of extent 1 serves every
/// channel.
pub(super) fn aligned(site: &Site<'_>, from: i64, port: Port, axis: usize) -> Verdict {
    let (a, b, y) = (Port::In(0), Port::In(1), Port::Out(0));
    let (Some(rank), Some(own)) = (site.rank(a), site.rank(b)) else {
        return site.unknown_shape();
    };
    let Some(from) = front(from, rank.max(1)) else {
        return site.freeze("has a broadcast that is not understood");
    };
    let there = match port {
        Port::In(1) => axis + from,
        Port::In(_) | Port::Out(_) => axis,
    };
    let mut links = vec![Link::same((a, there), (y, there))];
    let second = there.checked_sub(from).filter(|i| *i < own);
    if let Some(second) = second
        && (site.extent(b, second) != Some(1) || site.extent(a, there) == Some(1))
    {
        links.push(Link::same((y, there), (b, second)));
    }
    Ok(links)
}

/// Axes are matched from the last one on; an input axis of extent 1 serves every channel and is
/// coupled with none.
pub(super) fn broadcast(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let y = Port::Out(0);
    let (Some(rank), Some(own)) = (site.rank(y), site.rank(port)) else {
        return site.unknown_shape();
    };
    let Some(y_axis) = (axis + rank).checked_sub(own) else {
        return site.freeze("has a broadcast that is not understood");
    };
    let Some(extent) = site.extent(y, y_axis) else {
        return site.unknown_shape();
    };
    if site.extent(port, axis) == Some(1) && extent != 1 {
        return Ok(Vec::new());
    }
    // One input asks for itself; the output, once reached, asks for all of them.
    let asked = match port {
        Port::In(p) => p..p + 1,
        Port::Out(_) => 0..site.node.inputs.len(),
    };
    let mut links = Vec::new();
    for p in asked {
        if site.node.input(p).is_none() {
            continue;
        }
        let Some(own) = site.rank(Port::In(p)) else {
            return site.unknown_shape();
        };
        let Some(x_axis) = (y_axis + own).checked_sub(rank) else {
            continue;
        };
        match site.extent(Port::In(p), x_axis) {
            Some(1) if extent != 1 => {}
            Some(_) => links.push(Link::same((Port::In(p), x_axis), (y, y_axis))),
            None => return site.unknown_shape(),
        }
    }
    Ok(links)
}
