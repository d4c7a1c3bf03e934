//! Ops that move, join, cut or repeat along axes.

use regraft_graph::Tensor;
use regraft_graph::infer::params;
use regraft_graph::op::PadMode;

use super::{IndexMap, Link, Port, Seed, Site, Verdict, front};

const X: Port = Port::In(0);
const Y: Port = Port::Out(0);

fn same(axis_x: usize, axis_y: usize) -> Vec<Link> {
    vec![Link::same((X, axis_x), (Y, axis_y))]
}

/// What reads the number of channels goes on reading the dense one: a constant is added to it. Shapes
/// that are made from it are mended where they are used.
pub(super) fn shape(site: &Site<'_>, port: Port) -> Verdict {
    let is_output = |v| site.graph.outputs().contains(&v);
    if port != X || site.node.output(0).is_none_or(is_output) {
        return site.freeze("makes a shape that leaves the network");
    }
    Ok(Vec::new())
}

pub(super) fn transpose(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let Some(perm) = params::permutation(site.graph, site.facts, site.id) else {
        return site.unknown_shape();
    };
    let y = match port {
        Port::In(_) => perm.iter().position(|&p| p == axis),
        Port::Out(_) => Some(axis),
    };
    match y.and_then(|y| perm.get(y).map(|&x| (x, y))) {
        Some((x, y)) => Ok(same(x, y)),
        None => site.freeze("has no such axis"),
    }
}

pub(super) fn squeeze(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let axes = params::axes(site.graph, site.facts, site.id);
    one_axes(site, axes, (X, Y), (port, axis))
}

pub(super) fn unsqueeze(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let axes = params::axes(site.graph, site.facts, site.id);
    one_axes(site, axes, (Y, X), (port, axis))
}

/// `full` has axes of extent 1 that `bare` lacks.
fn one_axes(
    site: &Site<'_>,
    ones: Option<Vec<usize>>,
    (full, bare): (Port, Port),
    at: (Port, usize),
) -> Verdict {
    let (Some(ones), Some(rank)) = (ones, site.rank(full)) else {
        return site.unknown_shape();
    };
    let stays: Vec<usize> = (0..rank).filter(|a| !ones.contains(a)).collect();
    let place = if at.0 == full {
        stays.iter().position(|&a| a == at.1)
    } else if at.0 == bare {
        Some(at.1)
    } else {
        None
    };
    match place.and_then(|b| stays.get(b).map(|&f| (f, b))) {
        Some((f, b)) => Ok(vec![Link::same((full, f), (bare, b))]),
        None => site.freeze("moves a channel axis of extent 1"),
    }
}

pub(super) fn concat(site: &Site<'_>, along: i64, port: Port, axis: usize) -> Verdict {
    let Some(along) = site.rank(Y).and_then(|rank| front(along, rank)) else {
        return site.unknown_shape();
    };
    let inputs = 0..site.node.inputs.len();
    if axis != along {
        return Ok(inputs
            .map(|p| Link::same((Port::In(p), axis), (Y, axis)))
            .collect());
    }
    let mut links = Vec::new();
    let mut offset = 0;
    for p in inputs {
        let Some(len) = site.extent(Port::In(p), along) else {
            return site.unknown_shape();
        };
        if port == Y || port == Port::In(p) {
            links.push(Link {
                a: (Port::In(p), along),
                b: (Y, along),
                map: IndexMap::Range {
                    a: 0,
                    a_step: 1,
                    b: offset,
                    len,
                },
            });
        }
        offset += len;
    }
    // The same value may stand at several ports; each of them is asked about on its own.
    Ok(links)
}

pub(super) fn split(site: &Site<'_>, along: i64, port: Port, axis: usize) -> Verdict {
    let Some(along) = site.rank(X).and_then(|rank| front(along, rank)) else {
        return site.unknown_shape();
    };
    if port != X && !matches!(port, Port::Out(_)) {
        return site.freeze("takes a setting from these channels");
    }
    let Some(sizes) = params::split(site.graph, site.facts, site.id) else {
        return site.unknown_shape();
    };
    let mut links = Vec::new();
    let mut offset = 0;
    for (p, &len) in sizes.iter().enumerate() {
        let map = if axis == along {
            IndexMap::Range {
                a: offset,
                a_step: 1,
                b: 0,
                len,
            }
        } else {
            IndexMap::Identity
        };
        if site.node.output(p).is_some() && (port == X || port == Port::Out(p)) {
            links.push(Link {
                a: (X, axis),
                b: (Port::Out(p), axis),
                map,
            });
        }
        offset += len;
    }
    Ok(links)
}

pub(super) fn slice(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    if port != X && port != Y {
        return site.freeze("takes a setting from these channels");
    }
    let axes = params::slice_axes(site.graph, site.facts, site.id);
    if axes.is_some_and(|axes| !axes.contains(&axis)) {
        return Ok(same(axis, axis));
    }
    let Some(ranges) = params::slice(site.graph, site.facts, site.id) else {
        return site.freeze("cuts at a place that is not known before it runs");
    };
    let Some(range) = ranges.iter().find(|r| r.axis == axis) else {
        return Ok(same(axis, axis));
    };
    if range.step != 1 && ranges.len() > 1 {
        return site.freeze("takes every few channels and cuts other axes too");
    }
    let Ok(a) = usize::try_from(range.start) else {
        return site.freeze("takes no channels");
    };
    Ok(vec![Link {
        a: (X, axis),
        b: (Y, axis),
        map: IndexMap::Range {
            a,
            a_step: range.step,
            b: 0,
            len: range.len,
        },
    }])
}

/// Padded channels are zero and need no producer: they go with whatever they are added to.
pub(super) fn pad(
    site: &Site<'_>,
    mode: PadMode,
    attribute: Option<f32>,
    port: Port,
    axis: usize,
) -> Verdict {
    if port != X && port != Y {
        return site.freeze("takes a setting from these channels");
    }
    let Some(&(begin, end)) = params::pads(site.graph, site.facts, site.id)
        .as_ref()
        .and_then(|pads| pads.get(axis))
    else {
        return site.unknown_shape();
    };
    if (begin, end) == (0, 0) {
        return Ok(same(axis, axis));
    }
    if mode != PadMode::Constant {
        return site.freeze("fills new channels with copies of others");
    }
    let zero = match (attribute, site.node.input(2)) {
        (Some(value), _) => value == 0.0,
        (None, None) => true,
        (None, Some(v)) => site
            .facts
            .constant(v)
            .and_then(|t| t.as_f32())
            .is_some_and(|data| data.iter().all(|&x| x == 0.0)),
    };
    if !zero {
        return site.freeze("fills new channels with a constant other than zero");
    }
    let Some(extent) = site.extent(X, axis) else {
        return site.unknown_shape();
    };
    // A negative number cuts channels off instead.
    let cut = |n: i64| usize::try_from(-n).unwrap_or(0);
    let Some(len) = extent.checked_sub(cut(begin) + cut(end)) else {
        return site.freeze("cuts more channels than there are");
    };
    Ok(vec![Link {
        a: (X, axis),
        b: (Y, axis),
        map: IndexMap::Range {
            a: cut(begin),
            a_step: 1,
            b: usize::try_from(begin).unwrap_or(0),
            len,
        },
    }])
}

pub(super) fn gather(site: &Site<'_>, along: i64, port: Port, axis: usize) -> Verdict {
    let (Some(rank), Some(n_indices)) = (site.rank(X), site.rank(Port::In(1))) else {
        return site.unknown_shape();
    };
    let Some(along) = front(along, rank) else {
        return site.unknown_shape();
    };
    // The axes of the indices stand in the place of the axis gathered from.
    let x_axis = match port {
        Port::In(0) => axis,
        Port::Out(0) if axis < along => axis,
        Port::Out(0) if axis >= along + n_indices => axis + 1 - n_indices,
        Port::Out(0) => along,
        Port::In(_) | Port::Out(_) => return site.freeze("takes indices from these channels"),
    };
    if x_axis < along {
        return Ok(same(x_axis, x_axis));
    }
    if x_axis > along {
        return Ok(same(x_axis, x_axis + n_indices - 1));
    }
    let indices = site.node.input(1).and_then(|v| site.facts.ints(v));
    let (Some(indices), Some(extent), 1) = (indices, site.extent(X, along), n_indices) else {
        return site.freeze("picks channels by an index");
    };
    let n = extent as i64;
    let place = |&i: &i64| usize::try_from(if i < 0 { i + n } else { i }).ok();
    let Some(list) = indices.iter().map(place).collect::<Option<Vec<usize>>>() else {
        return site.freeze("picks channels that do not exist");
    };
    Ok(vec![Link {
        a: (X, along),
        b: (Y, along),
        map: IndexMap::Pairs(list.into_iter().enumerate().map(|(j, i)| (i, j)).collect()),
    }])
}

/// An embedding: rows of a table of floats, taken by computed indices. Its features are channels.
pub(super) fn gather_seed(site: &Site<'_>, along: i64) -> Option<Seed> {
    let table = site.value(X)?;
    let rank = site.rank(X)?;
    let is_table = rank == 2
        && front(along, rank) == Some(0)
        && site.graph.tensor(table).and_then(Tensor::as_f32).is_some()
        && !site.is_constant(1);
    is_table.then_some(Seed {
        weight: table,
        weight_axis: 1,
        output: site.value(Y)?,
        output_axis: site.rank(Y)?.checked_sub(1)?,
    })
}

/// True if the extent of an axis of the output stands as a number in the shape at an input port.
fn states(site: &Site<'_>, shape_port: usize, axis: usize) -> bool {
    let given = site.node.input(shape_port);
    let (Some(given), Some(rank)) = (given.and_then(|v| site.facts.known_ints(v)), site.rank(Y))
    else {
        return false;
    };
    match (axis + given.len()).checked_sub(rank) {
        Some(at) => given.get(at).is_some_and(Option::is_some),
        None => true,
    }
}

pub(super) fn expand(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let (Some(rank_x), Some(rank_y)) = (site.rank(X), site.rank(Y)) else {
        return site.unknown_shape();
    };
    let places = match port {
        Port::In(0) => Some((Some(axis), (axis + rank_y).saturating_sub(rank_x))),
        Port::Out(0) => Some(((axis + rank_x).checked_sub(rank_y), axis)),
        Port::In(_) | Port::Out(_) => None,
    };
    let Some((x, y)) = places else {
        return site.freeze("takes a setting from these channels");
    };
    if !states(site, 1, y) {
        return site.freeze("has a target shape that is not known before it runs");
    }
    match x {
        None => Ok(Vec::new()),
        Some(x) => match (site.extent(X, x), site.extent(Y, y)) {
            (Some(a), Some(b)) if a == b => Ok(same(x, y)),
            (Some(1), Some(_)) => Ok(Vec::new()),
            _ => site.unknown_shape(),
        },
    }
}

pub(super) fn tile(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    if port != X && port != Y {
        return site.freeze("takes a setting from these channels");
    }
    let repeats = site.node.input(1).and_then(|v| site.facts.ints(v));
    let Some(outer) = repeats.and_then(|r| usize::try_from(*r.get(axis)?).ok()) else {
        return site.unknown_shape();
    };
    Ok(vec![Link {
        a: (X, axis),
        b: (Y, axis),
        map: IndexMap::Spread { outer, inner: 1 },
    }])
}

pub(super) fn constant_of_shape(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    if port == Y && states(site, 0, axis) {
        return Ok(Vec::new());
    }
    site.freeze("makes a tensor of a shape that is not known before it runs")
}
