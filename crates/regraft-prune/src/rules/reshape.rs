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
    let given = site.node.input(1).and_then(|v| site.facts.known_ints(v));
    if target(x, y, allowzero).is_none() && !given.is_some_and(|g| states(&g, y)) {
        return site.freeze("has a target shape that cannot be written down");
    }
    regroup(site, port, axis)
}

/// True if every extent that may shrink is a number in the shape given, or inferred or copied there,
/// so that the shape can be mended by adding a constant.
fn states(given: &[Option<i64>], y: &[Dim]) -> bool {
    let stated = |(n, dim): (&Option<i64>, &Dim)| dim.fixed().is_none() || n.is_some();
    given.len() == y.len() && given.iter().zip(y).all(stated)
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

/// The flat positions that an axis spans inside its segment: from `low` below `high`, both products
/// of extents counted from the segment's last axis.
#[derive(Clone, Copy, Debug)]
struct Span {
    axis: usize,
    low: usize,
    high: usize,
}

impl Span {
    /// True if each index of this axis is a set of whole indices of `other` or the reverse, and
    /// `other` spans all that this one does.
    fn inside(self, other: Self) -> bool {
        other.low <= self.low
            && self.high <= other.high
            && self.low.is_multiple_of(other.low)
            && other.high.is_multiple_of(self.high)
    }
}

/// Returns the spans of the axes of a segment whose extents are not 1.
fn spans(dims: &[Dim], range: Range<usize>) -> Option<Vec<Span>> {
    let mut low = 1usize;
    let mut list = Vec::new();
    for axis in range.rev() {
        let high = low.checked_mul(dims[axis].fixed()?)?;
        if high != low && high > 0 {
            list.push(Span { axis, low, high });
        }
        low = high;
    }
    list.reverse();
    Some(list)
}

/// What an axis of one side corresponds to on the other side.
enum Match {
    /// Index for index.
    Same(usize),
    /// One axis whose indices are sets of those asked for, or parts of them.
    Coarser(Span, Span),
    /// Several axes, each a finer or partly finer side; the axis asked for comes first.
    Finer(Span, Vec<Span>),
}

fn matched(site: &Site<'_>, port: Port, axis: usize) -> Result<Match, String> {
    let (Some(x), Some(y)) = (site.shape(X), site.shape(Y)) else {
        return site.unknown_shape();
    };
    let Some((xs, ys)) = segment(x, y, port, axis) else {
        return site.freeze("regroups the channels with axes that are not known");
    };
    if xs.len() == 1 && ys.len() == 1 {
        let other = if port == X { ys.start } else { xs.start };
        return Ok(Match::Same(other));
    }
    let (Some(x), Some(y)) = (spans(x, xs), spans(y, ys)) else {
        return site.freeze("regroups the channels with axes that are not known");
    };
    let (own, others) = if port == X { (x, y) } else { (y, x) };
    let Some(own) = own.into_iter().find(|s| s.axis == axis) else {
        return site.freeze("moves a channel axis of extent 1");
    };
    if let Some(coarse) = others.iter().find(|o| own.inside(**o)) {
        return Ok(Match::Coarser(own, *coarse));
    }
    let finer: Vec<Span> = others.into_iter().filter(|o| o.inside(own)).collect();
    if finer.is_empty() {
        return site.freeze("regroups the channels in a way that is not understood");
    }
    Ok(Match::Finer(own, finer))
}

fn regroup(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let other = match port {
        Port::In(0) => Y,
        Port::Out(0) => X,
        Port::In(_) | Port::Out(_) => {
            return site.freeze("takes a shape from these channels");
        }
    };
    let link = |fine: (Port, Span), coarse: (Port, Span)| Link {
        a: (fine.0, fine.1.axis),
        b: (coarse.0, coarse.1.axis),
        map: IndexMap::Spread {
            outer: coarse.1.high / fine.1.high,
            inner: fine.1.low / coarse.1.low,
        },
    };
    Ok(match matched(site, port, axis)? {
        Match::Same(there) => vec![Link::same((port, axis), (other, there))],
        Match::Coarser(own, coarse) => vec![link((port, own), (other, coarse))],
        Match::Finer(own, finer) => {
            let touched = |s: &&Span| site.value(other).is_some_and(|v| (site.touched)(v, s.axis));
            let mut chosen: Vec<Span> = finer.iter().filter(touched).copied().collect();
            if chosen.is_empty() {
                chosen.push(finer[preferred(site, other, &finer)]);
            }
            let links = chosen
                .into_iter()
                .map(|fine| link((other, fine), (port, own)));
            links.collect()
        }
    })
}

/// Returns the axes of the other side any of which could carry the channels of the axis asked for,
/// the likeliest first; `None` where there is nothing to choose.
pub(super) fn choices(site: &Site<'_>, port: Port, axis: usize) -> Option<(Port, Vec<usize>)> {
    let other = match port {
        Port::In(0) => Y,
        Port::Out(0) => X,
        Port::In(_) | Port::Out(_) => return None,
    };
    let Ok(Match::Finer(_, finer)) = matched(site, port, axis) else {
        return None;
    };
    let value = site.value(other)?;
    if finer.len() < 2 || finer.iter().any(|s| (site.touched)(value, s.axis)) {
        return None;
    }
    let first = finer[preferred(site, other, &finer)].axis;
    let rest = finer.iter().map(|s| s.axis).filter(|a| *a != first);
    Some((other, std::iter::once(first).chain(rest).collect()))
}

/// Which finer axis carries channels: the first where all axes after the batch are regrouped
/// (`n → c × h × w`), else the widest (`c → groups × c/groups` of a channel shuffle).
fn preferred(site: &Site<'_>, port: Port, finer: &[Span]) -> usize {
    let last = site.rank(port).map(|rank| rank.saturating_sub(1));
    if finer.last().map(|s| s.axis) == last {
        return 0;
    }
    let extent = |s: &Span| s.high / s.low;
    let mut best = 0;
    for i in 1..finer.len() {
        if extent(&finer[i]) > extent(&finer[best]) {
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
    from_front(x, y, (start, x_end), (start, y_end), port, axis)
        .or_else(|| from_back(x, y, (start, x_end), (start, y_end), port, axis))
}

fn inside(
    (xs, ys): (Range<usize>, Range<usize>),
    port: Port,
    axis: usize,
) -> Option<(Range<usize>, Range<usize>)> {
    let own = if matches!(port, Port::In(_)) {
        &xs
    } else {
        &ys
    };
    own.contains(&axis).then_some((xs, ys))
}

/// Segments of equal products from the first regrouped axis on; `None` if an extent that is not
/// known comes before the axis asked for.
fn from_front(
    x: &[Dim],
    y: &[Dim],
    (mut i, x_end): (usize, usize),
    (mut j, y_end): (usize, usize),
    port: Port,
    axis: usize,
) -> Option<(Range<usize>, Range<usize>)> {
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
        if let Some(found) = inside((i0..i, j0..j), port, axis) {
            return Some(found);
        }
    }
    None
}

/// The same from the last regrouped axis back: extents that are not known often come first.
fn from_back(
    x: &[Dim],
    y: &[Dim],
    (x_start, mut i): (usize, usize),
    (y_start, mut j): (usize, usize),
    port: Port,
    axis: usize,
) -> Option<(Range<usize>, Range<usize>)> {
    while i > x_start || j > y_start {
        let (i0, j0) = (i, j);
        let (mut a, mut b) = (1usize, 1usize);
        if i > x_start {
            i -= 1;
            a = x[i].fixed()?;
        }
        if j > y_start {
            j -= 1;
            b = y[j].fixed()?;
        }
        while a != b {
            if a < b && i > x_start {
                i -= 1;
                a = a.checked_mul(x[i].fixed()?)?;
            } else if b < a && j > y_start {
                j -= 1;
                b = b.checked_mul(y[j].fixed()?)?;
            } else {
                return None;
            }
        }
        if let Some(found) = inside((i..i0, j..j0), port, axis) {
            return Some(found);
        }
    }
    None
}
