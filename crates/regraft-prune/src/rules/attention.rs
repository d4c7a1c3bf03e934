//! Attention and rotary positions as single ops: whole heads.

use regraft_graph::op::{Attention, RotaryEmbedding};

use super::{IndexMap, Link, Port, Site, Verdict};

const Q: Port = Port::In(0);
const K: Port = Port::In(1);
const V: Port = Port::In(2);
const Y: Port = Port::Out(0);

/// Inputs of four axes have one for heads; those of three have the heads side by side on the last.
pub(super) fn attention(site: &Site<'_>, op: &Attention, port: Port, axis: usize) -> Verdict {
    let caches = (4..site.node.inputs.len()).any(|p| site.node.input(p).is_some());
    let others = site.further_outputs().next().is_some();
    if caches || others {
        return site.freeze("has caches or further outputs beside its heads");
    }
    let Some(rank) = site.rank(Q) else {
        return site.unknown_shape();
    };
    match (rank, axis) {
        (4, 1) => four_axes(site, port),
        (3, 2) => three_axes(site, op, port),
        _ => site.freeze("attends over this axis"),
    }
}

fn four_axes(site: &Site<'_>, port: Port) -> Verdict {
    let (Some(q), Some(kv)) = (site.extent(Q, 1), site.extent(K, 1)) else {
        return site.unknown_shape();
    };
    if kv == 0 || !q.is_multiple_of(kv) {
        return site.freeze("has heads that those of its keys do not divide");
    }
    let shared = |port: Port| Link {
        a: (port, 1),
        b: (Q, 1),
        map: IndexMap::Spread {
            outer: 1,
            inner: q / kv,
        },
    };
    let mut links = vec![Link::same((Q, 1), (Y, 1)), shared(K), shared(V)];
    let mask = Port::In(3);
    match (site.rank(mask), site.extent(mask, 1)) {
        (Some(4), Some(n)) if n != 1 => links.push(Link::same((Q, 1), (mask, 1))),
        _ if port == mask => return Ok(Vec::new()),
        _ => {}
    }
    Ok(links)
}

fn three_axes(site: &Site<'_>, op: &Attention, port: Port) -> Verdict {
    let extents = [Q, K, V, Y].map(|p| site.extent(p, 2));
    let [Some(q), Some(k), Some(v), Some(y)] = extents else {
        return site.unknown_shape();
    };
    let (heads, shared) = (op.q_heads, op.kv_heads);
    let divides = |n: usize, by: usize| by != 0 && n.is_multiple_of(by);
    let fits = divides(q, heads)
        && divides(y, heads)
        && divides(k, shared)
        && divides(v, shared)
        && divides(heads, shared);
    if !fits || per_head(site, Port::In(3)) || port == Port::In(3) {
        return site.freeze("has heads that are not understood");
    }
    // A head of keys and values goes with all heads of queries that it serves.
    let q_block = q / shared;
    let to = |b: Port, n: usize| Link {
        a: (Q, 2),
        b: (b, 2),
        map: IndexMap::Blocks {
            a: q_block,
            b: n / shared,
        },
    };
    Ok(vec![to(K, k), to(V, v), to(Y, y)])
}

/// True if what is added to the scores is another for each head.
pub(super) fn per_head(site: &Site<'_>, scores: Port) -> bool {
    site.rank(scores) == Some(4) && site.extent(scores, 1) != Some(1)
}

pub(super) fn rotary(site: &Site<'_>, op: &RotaryEmbedding, port: Port, axis: usize) -> Verdict {
    let (x, Some(rank)) = (Port::In(0), site.rank(Port::In(0))) else {
        return site.unknown_shape();
    };
    match (port, rank, axis) {
        (Port::In(0) | Port::Out(0), 4, 1) => Ok(vec![Link::same((x, 1), (Y, 1))]),
        (Port::In(0) | Port::Out(0), 3, 2) => {
            let Some(n) = site.extent(x, 2) else {
                return site.unknown_shape();
            };
            if op.n_heads == 0 || !n.is_multiple_of(op.n_heads) {
                return site.freeze("has heads that are not understood");
            }
            let each = n / op.n_heads;
            Ok(vec![Link {
                a: (x, 2),
                b: (Y, 2),
                map: IndexMap::Blocks { a: each, b: each },
            }])
        }
        _ => site.freeze("rotates along this axis"),
    }
}
