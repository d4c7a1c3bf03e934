//! ONNX Runtime's fused ops: whole heads, the channels of normalised sums.

use regraft_graph::op::{FusedHeads, FusedNorm, FusedOp, GroupedHeads};

use super::attention::per_head;
use super::{Contraction, IndexMap, Link, Port, Seed, Site, Verdict, elementwise};

const X: Port = Port::In(0);
const WEIGHT: Port = Port::In(1);
const Y: Port = Port::Out(0);

pub(super) fn fused(site: &Site<'_>, op: &FusedOp, port: Port, axis: usize) -> Verdict {
    let outputs = || site.further_outputs();
    match op {
        FusedOp::BiasGelu { .. } => elementwise::broadcast(site, port, axis),
        FusedOp::SkipNormalization { .. } => {
            if outputs().any(|p| p != 3) {
                return site.freeze("gives statistics of its channels");
            }
            let sums = [X, WEIGHT, Y, Port::Out(3)];
            normalised(site, op.norm(), &sums.map(|p| (p, None)), (port, axis))
        }
        FusedOp::EmbedNormalization { .. } => {
            let tables = [2, 3, 4].map(|p| (Port::In(p), Some(1)));
            let made = [Y, Port::Out(2)].map(|p| (p, None));
            let places = [&tables[..], &made].concat();
            normalised(site, op.norm(), &places, (port, axis))
        }
        FusedOp::MultiHeadAttention(_) | FusedOp::PackedAttention { .. }
            if outputs().next().is_some() =>
        {
            site.freeze("has further outputs beside its heads")
        }
        FusedOp::MultiHeadAttention(heads) => {
            if [6, 7]
                .map(Port::In)
                .iter()
                .any(|p| site.value(*p).is_some())
            {
                return site.freeze("has caches beside its heads");
            }
            multi_head(site, heads, (port, axis))
        }
        FusedOp::GroupedAttention(heads) => grouped(site, heads, (port, axis)),
        FusedOp::PackedAttention { heads, .. } => {
            if site.value(Port::In(4)).is_some() {
                return site.freeze("has caches beside its heads");
            }
            packed(site, heads, (port, axis))
        }
    }
}

/// The channels of all sums lie on their last axis, or on the one given.
fn normalised(
    site: &Site<'_>,
    norm: Option<FusedNorm>,
    sums: &[(Port, Option<usize>)],
    at: (Port, usize),
) -> Verdict {
    let Some(norm) = norm else {
        return site.freeze("normalises nothing");
    };
    let mut places = Vec::new();
    for &(port, axis) in sums {
        if site.value(port).is_none() {
            continue;
        }
        match axis.or_else(|| site.rank(port)?.checked_sub(1)) {
            Some(axis) => places.push((port, axis)),
            None => return site.unknown_shape(),
        }
    }
    let per_channel = [Some(norm.scale), norm.shift, norm.bias];
    let per_channel = per_channel.into_iter().flatten().map(Port::In);
    let given = per_channel.filter(|p| site.value(*p).is_some());
    places.extend(given.map(|p| (p, 0)));
    let Some((first, rest)) = places.split_first() else {
        return site.unknown_shape();
    };
    if !places.contains(&at) {
        return site.freeze("normalises other axes than this one");
    }
    Ok(rest.iter().map(|p| Link::same(*first, *p)).collect())
}

/// Q, K, V and Y hold the heads side by side on their last axis, the bias those of Q, of K and of V
/// one behind the other.
fn multi_head(site: &Site<'_>, heads: &FusedHeads, at: (Port, usize)) -> Verdict {
    let [q, k, v] = [0, 1, 2].map(|p| (Port::In(p), 2));
    let (y, bias, scores) = ((Y, 2), (Port::In(3), 0), (Port::In(5), 1));
    let extents = [q, k, v, y].map(|(port, axis)| site.extent(port, axis));
    let [Some(n_q), Some(n_k), Some(n_v), Some(n_y)] = extents else {
        return site.unknown_shape();
    };
    let n = heads.n_heads;
    let per_head = per_head(site, scores.0);
    let known = [q, k, v, y, bias].contains(&at) || (at == scores && per_head);
    let fits = n > 0 && [n_q, n_k, n_v, n_y].iter().all(|e| e.is_multiple_of(n));
    if !known {
        return site.freeze("attends over this axis");
    }
    if !fits || n_q != n_k || n_v != n_y {
        return site.freeze("has heads that are not understood");
    }
    let (size, v_size) = (n_q / n, n_v / n);
    let to = |b: (Port, usize), each: usize| Link {
        a: q,
        b,
        map: IndexMap::Blocks { a: size, b: each },
    };
    let mut links = vec![to(k, size), to(v, v_size), to(y, v_size)];
    if site.value(bias.0).is_some() {
        let parts = [(0, size), (n_q, size), (n_q + n_k, v_size)];
        links.push(Link {
            a: q,
            b: bias,
            map: behind(n, size, &parts),
        });
    }
    links.extend(per_head.then(|| each_head(scores, (q, size))));
    Ok(links)
}

/// A head of keys and values goes with all heads of queries that it serves. Q, K, V and Y hold heads
/// side by side on their last axis, or Q all heads of queries, those of keys and those of values; caches
/// have an axis of heads.
fn grouped(site: &Site<'_>, heads: &GroupedHeads, at: (Port, usize)) -> Verdict {
    let [q, k, v] = [0, 1, 2].map(|p| (Port::In(p), 2));
    let (y, scores) = ((Y, 2), (Port::In(10), 1));
    let per_head = per_head(site, scores.0);
    let packed = site.value(k.0).is_none();
    let caches = [Port::In(3), Port::In(4), Port::Out(1), Port::Out(2)].map(|p| (p, 1));
    let known = [q, y].contains(&at)
        || (!packed && [k, v].contains(&at))
        || (at == scores && per_head)
        || caches.contains(&at);
    if !known {
        return site.freeze("attends over this axis");
    }
    let (Some(n_q), Some(n_y)) = (site.extent(q.0, 2), site.extent(Y, 2)) else {
        return site.unknown_shape();
    };
    let (n, shared) = (heads.q_heads, heads.kv_heads);
    let divides = |n: usize, by: usize| by != 0 && n.is_multiple_of(by);
    if n_y == 0 || !divides(n_y, n) || !divides(n, shared) {
        return site.freeze("has heads that are not understood");
    }
    let (size, block) = (n_y / n, n_y / shared);
    let to = |b: (Port, usize), map: IndexMap| Link { a: y, b, map };
    let blocks = |each: usize| IndexMap::Blocks { a: block, b: each };
    let mut links = if packed {
        let (keys, values) = (n_y, n_y + shared * size);
        let parts = [(0, block), (keys, size), (values, size)];
        if n_q != values + shared * size {
            return site.freeze("has heads that are not understood");
        }
        vec![to(q, behind(shared, block, &parts))]
    } else {
        let each = [k, v].map(|(port, axis)| site.extent(port, axis));
        if n_q != n_y || each != [Some(shared * size); 2] {
            return site.freeze("has heads that are not understood");
        }
        vec![
            to(q, blocks(block)),
            to(k, blocks(size)),
            to(v, blocks(size)),
        ]
    };
    links.extend(per_head.then(|| each_head(scores, (y, size))));
    let caches = caches
        .into_iter()
        .filter(|(port, _)| site.value(*port).is_some());
    links.extend(caches.map(|cache| each_head(cache, (y, block))));
    Ok(links)
}

/// An axis of heads with one on which each has as many entries.
fn each_head(heads: (Port, usize), (b, inner): ((Port, usize), usize)) -> Link {
    let map = IndexMap::Spread { outer: 1, inner };
    Link { a: heads, b, map }
}

/// Each head of an axis, `size` entries, with the entries it has in several parts of another axis:
/// where the part starts, and how many a head has there.
fn behind(n_heads: usize, size: usize, parts: &[(usize, usize)]) -> IndexMap {
    let mut pairs = Vec::new();
    for head in 0..n_heads {
        let first = head * size;
        for &(start, each) in parts {
            let entries = start + head * each..start + (head + 1) * each;
            pairs.extend(entries.map(|i| (first, i)));
        }
        // The other entries of the head go with the first.
        if let Some(&(start, each)) = parts.first() {
            pairs.extend((1..size).map(|i| (first + i, start + head * each)));
        }
    }
    IndexMap::Pairs(pairs)
}

/// The weight has a row for each channel of X; its columns, and the bias, hold Q, K and V.
fn packed(site: &Site<'_>, heads: &FusedHeads, at: (Port, usize)) -> Verdict {
    let (rows, columns, bias) = ((WEIGHT, 0), (WEIGHT, 1), (Port::In(2), 0));
    if at == (X, 2) || at == rows {
        return Ok(vec![Link::same((X, 2), rows)]);
    }
    let (y, scores) = ((Y, 2), (Port::In(5), 1));
    let per_head = per_head(site, scores.0);
    if !([columns, bias, y].contains(&at) || (at == scores && per_head)) {
        return site.freeze("attends over this axis");
    }
    let (Some(n_y), Some(n_columns)) = (site.extent(Y, 2), site.extent(WEIGHT, 1)) else {
        return site.unknown_shape();
    };
    let n = heads.n_heads;
    if n == 0 || !n_y.is_multiple_of(n) || n_columns != 3 * n_y {
        return site.freeze("has heads that are not understood");
    }
    let size = n_y / n;
    let to = |b: (Port, usize)| Link {
        a: y,
        b,
        map: behind(n, size, &[0, 1, 2].map(|part| (part * n_y, size))),
    };
    let mut links = vec![to(columns)];
    if site.value(bias.0).is_some() {
        links.push(to(bias));
    }
    links.extend(per_head.then(|| each_head(scores, (y, size))));
    Ok(links)
}

pub(super) fn seed(site: &Site<'_>, op: &FusedOp) -> Option<Seed> {
    let projects = matches!(op, FusedOp::PackedAttention { .. }) && site.is_constant(1);
    projects.then_some(Seed {
        weight: site.value(WEIGHT)?,
        weight_axis: 1,
        output: site.value(Y)?,
        output_axis: 2,
    })
}

pub(super) fn contraction(site: &Site<'_>, op: &FusedOp) -> Option<Contraction> {
    let projects = matches!(op, FusedOp::PackedAttention { .. }) && site.is_constant(1);
    projects.then_some(Contraction {
        weight: site.value(WEIGHT)?,
        weight_axis: 0,
        input: site.value(X)?,
        input_axis: 2,
    })
}
