//! Ops that regroup axes: a channel of the finer side is a set of indices of the coarser side.

use std::ops::Range;

use regraft_graph::Dim;

use super::{IndexMap, Link, Port, Site, Verdict};

const X: Port = Port::In(0);
const Y: Port = Port::Out(0);

pub(super) fn flatten(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    regroup(site, port, axis)
}

pub(super) fn reshape(site: &Site<'_>, allowzero: bool, port: Port, axis: usize) -> Verdict {
    let (Some(x), Some(y)) = (site.shape(X), site.shape(Y)) else {
        return site.unknown_shape();
    };
    if target(x, y, allowzero).is_none() {
        return site.freeze("has a target shape that cannot be written down");
    }
    regroup(site, port, axis)
}

/// Returns a target shape for `Reshape` that gives `y` from `x`, run-time extents copied or
/// inferred; `None` if more than one would have to be inferred.
pub(crate) fn target(x: &[Dim], y: &[Dim], allowzero: bool) -> Option<Vec<i64>> {
    let mut inferred = 0;
    let list = y.iter().enumerate().map(|(axis, dim)| match dim {
        Dim::Fixed(0) => None,
        Dim::Fixed(n) => i64::try_from(*n).ok(),
        Dim::Symbol(_) if !allowzero && x.get(axis) == Some(dim) => Some(0),
        Dim::Symbol(_) | Dim::Unknown => {
            inferred += 1;
            Some(-1)
        }
    });
    let list: Option<Vec<i64>> = list.collect();
    list.filter(|_| inferred <= 1)
}

fn regroup(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    if port != X && port != Y {
        return site.freeze("takes a shape from these channels");
    }
    let (Some(x), Some(y)) = (site.shape(X), site.shape(Y)) else {
        return site.unknown_shape();
    };
    let Some((xs, ys)) = segment(x, y, port, axis) else {
        return site.freeze("regroups the channels with axes that are not known");
    };
    let wide = |dims: &[Dim], range: Range<usize>| -> Vec<usize> {
        range.filter(|&a| dims[a] != Dim::Fixed(1)).collect()
    };
    if xs.len() == 1 && ys.len() == 1 {
        return Ok(vec![Link::same((X, xs.start), (Y, ys.start))]);
    }
    let (x_wide, y_wide) = (wide(x, xs), wide(y, ys));
    let is_wide = match port {
        Port::In(_) => x_wide.contains(&axis),
        Port::Out(_) => y_wide.contains(&axis),
    };
    if !is_wide {
        return site.freeze("moves a channel axis of extent 1");
    }
    match (x_wide.as_slice(), y_wide.as_slice()) {
        (fine, &[coarse]) => spread(site, (X, fine), (Y, coarse), (port, axis)),
        (&[coarse], fine) => spread(site, (Y, fine), (X, coarse), (port, axis)),
        _ => site.freeze("regroups the channels in a way that is not understood"),
    }
}

fn spread(
    site: &Site<'_>,
    fine: (Port, &[usize]),
    coarse: (Port, usize),
    at: (Port, usize),
) -> Verdict {
    let (port, axes) = fine;
    let extents: Option<Vec<usize>> = axes.iter().map(|&a| site.extent(port, a)).collect();
    let Some(extents) = extents else {
        return site.unknown_shape();
    };
    let chosen: Vec<usize> = if at.0 == port {
        (0..axes.len()).filter(|&i| axes[i] == at.1).collect()
    } else {
        let touched = |&i: &usize| site.value(port).is_some_and(|v| (site.touched)(v, axes[i]));
        let already: Vec<usize> = (0..axes.len()).filter(touched).collect();
        if already.is_empty() {
            vec![preferred(site, port, axes, &extents)]
        } else {
            already
        }
    };
    let link = |i: usize| Link {
        a: (port, axes[i]),
        b: coarse,
        map: IndexMap::Spread {
            outer: extents[..i].iter().product(),
            inner: extents[i + 1..].iter().product(),
        },
    };
    Ok(chosen.into_iter().map(link).collect())
}

/// Which finer axis carries channels: the first where all axes after the batch are regrouped
/// (`n → c × h × w`), else the widest (`c → groups × c/groups` of a channel shuffle).
fn preferred(site: &Site<'_>, port: Port, axes: &[usize], extents: &[usize]) -> usize {
    let last = site.rank(port).map(|rank| rank.saturating_sub(1));
    if axes.last().copied() == last {
        return 0;
    }
    let mut best = 0;
    for i in 1..extents.len() {
        if extents[i] > extents[best] {
            best = i;
        }
    }
    best
}

/// Returns the axes of x and of y that are regrouped together with the one asked for.
fn segment(x: &[Dim], y: &[Dim], port: Port, axis: usize) -> Option<(Range<usize>, Range<usize>)> {
    let mut start = 0;
    while start < x.len() && start < y.len() && x[start].same(&y[start]) {
        start += 1;
    }
    let (mut x_end, mut y_end) = (x.len(), y.len());
    while x_end > start && y_end > start && x[x_end - 1].same(&y[y_end - 1]) {
        x_end -= 1;
        y_end -= 1;
    }
    let (end, n) = match port {
        Port::In(_) => (x_end, x.len()),
        Port::Out(_) => (y_end, y.len()),
    };
    if axis < start {
        return Some((axis..axis + 1, axis..axis + 1));
    }
    if axis >= end {
        let back = n.checked_sub(axis)?;
        let place = |n: usize| n - back..n - back + 1;
        return Some((place(x.len()), place(y.len())));
    }
    let (mut i, mut j) = (start, start);
    while i < x_end || j < y_end {
        let (i0, j0) = (i, j);
        let (mut a, mut b) = (1usize, 1usize);
        if i < x_end {
            a = x[i].fixed()?;
            i += 1;
        }
        if j < y_end {
            b = y[j].fixed()?;
            j += 1;
        }
        while a != b {
            if a < b && i < x_end {
                a = a.checked_mul(x[i].fixed()?)?;
                i += 1;
            } else if b < a && j < y_end {
                b = b.checked_mul(y[j].fixed()?)?;
                j += 1;
            } else {
                return None;
            }
        }
        let inside = match port {
            Port::In(_) => (i0..i).contains(&axis),
            Port::Out(_) => (j0..j).contains(&axis),
        };
        if inside {
            return Some((i0..i, j0..j));
        }
    }
    None
}
