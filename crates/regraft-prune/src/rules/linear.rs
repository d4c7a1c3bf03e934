//! Matrix products.

use regraft_graph::Dim;
use regraft_graph::op::Gemm;

use super::{Contraction, Link, Port, Seed, Site, Verdict};

/// Row, sum and column axes of `Gemm`: (A rows, A sum, B sum, B columns).
fn gemm_axes(gemm: &Gemm) -> (usize, usize, usize, usize) {
    let (a_row, a_sum) = if gemm.trans_a { (1, 0) } else { (0, 1) };
    let (b_sum, b_col) = if gemm.trans_b { (1, 0) } else { (0, 1) };
    (a_row, a_sum, b_sum, b_col)
}

pub(super) fn gemm(site: &Site<'_>, gemm: &Gemm, port: Port, axis: usize) -> Verdict {
    let (a_row, a_sum, b_sum, b_col) = gemm_axes(gemm);
    let (a, b, y) = (Port::In(0), Port::In(1), Port::Out(0));
    let at = (port, axis);
    if at == (a, a_sum) || at == (b, b_sum) {
        return Ok(vec![Link::same((a, a_sum), (b, b_sum))]);
    }
    let y_axis = match at {
        (Port::Out(0), axis) => axis,
        (Port::In(0), _) => 0,
        (Port::In(1), _) => 1,
        (Port::In(2), axis) => match site.rank(Port::In(2)) {
            Some(rank) if rank <= 2 && site.extent(Port::In(2), axis) != Some(1) => axis + 2 - rank,
            _ => return Ok(Vec::new()),
        },
        (Port::In(_) | Port::Out(_), _) => return site.freeze("has no such port"),
    };
    let own = if y_axis == 0 { (a, a_row) } else { (b, b_col) };
    let mut links = vec![Link::same(own, (y, y_axis))];
    if site.node.input(2).is_some() {
        let Some(rank) = site.rank(Port::In(2)) else {
            return site.unknown_shape();
        };
        // C is broadcast to the result: an axis of extent 1 or one left out has no channels.
        if rank + y_axis >= 2 && rank <= 2 {
            let c_axis = rank + y_axis - 2;
            let extent = site.extent(Port::In(2), c_axis);
            if extent != Some(1) || site.extent(y, y_axis) == Some(1) {
                links.push(Link::same((y, y_axis), (Port::In(2), c_axis)));
            }
        }
    }
    Ok(links)
}

pub(super) fn gemm_seed(site: &Site<'_>, gemm: &Gemm) -> Option<Seed> {
    let (_, _, _, b_col) = gemm_axes(gemm);
    site.is_constant(1).then_some(Seed {
        weight: site.node.input(1)?,
        weight_axis: b_col,
        output: site.node.output(0)?,
        output_axis: 1,
    })
}

pub(super) fn gemm_contraction(site: &Site<'_>, gemm: &Gemm) -> Option<Contraction> {
    let (_, a_sum, b_sum, _) = gemm_axes(gemm);
    (site.is_constant(1) && !site.is_constant(0)).then_some(Contraction {
        weight: site.node.input(1)?,
        weight_axis: b_sum,
        input: site.node.input(0)?,
        input_axis: a_sum,
    })
}

/// `[…, m, k] · […, k, n]`.
pub(super) fn matmul(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let (a, b, y) = (Port::In(0), Port::In(1), Port::Out(0));
    let (Some(ra), Some(rb), Some(ry)) = (site.rank(a), site.rank(b), site.rank(y)) else {
        return site.unknown_shape();
    };
    if ra < 2 || rb < 2 || ry < 2 {
        return site.freeze("has a vector as an operand");
    }
    let rank = match port {
        Port::In(0) => ra,
        Port::In(_) => rb,
        Port::Out(_) => ry,
    };
    let Some(from_end) = rank.checked_sub(axis + 1) else {
        return site.freeze("has no such axis");
    };
    if from_end >= 2 {
        return Ok(batch_axes(site, from_end));
    }
    let sum = Link::same((a, ra - 1), (b, rb - 2));
    let rows = Link::same((a, ra - 2), (y, ry - 2));
    let columns = Link::same((b, rb - 1), (y, ry - 1));
    let link = match (port, from_end) {
        (Port::In(0), 0) | (Port::In(1), 1) => sum,
        (Port::In(0) | Port::Out(_), 1) => rows,
        (Port::In(_) | Port::Out(_), _) => columns,
    };
    Ok(vec![link])
}

fn batch_axes(site: &Site<'_>, from_end: usize) -> Vec<Link> {
    let place = |port: Port| {
        let shape = site.shape(port)?;
        let axis = shape.len().checked_sub(from_end + 1)?;
        (shape[axis] != Dim::Fixed(1)).then_some((port, axis))
    };
    let Some(y) = place(Port::Out(0)) else {
        return Vec::new();
    };
    let inputs = [Port::In(0), Port::In(1)].into_iter().filter_map(place);
    inputs.map(|input| Link::same(input, y)).collect()
}

/// Which operand of a product of weight and activation is the weight: 0 or 1.
fn matmul_weight(site: &Site<'_>) -> Option<usize> {
    let ranks = [Port::In(0), Port::In(1), Port::Out(0)].map(|p| site.rank(p).unwrap_or(0));
    if ranks.iter().any(|&r| r < 2) {
        return None;
    }
    match (site.is_constant(0), site.is_constant(1)) {
        (false, true) => Some(1),
        (true, false) => Some(0),
        (true, true) | (false, false) => None,
    }
}

pub(super) fn matmul_seed(site: &Site<'_>) -> Option<Seed> {
    let which = matmul_weight(site)?;
    let from_end = if which == 1 { 1 } else { 2 };
    Some(Seed {
        weight: site.node.input(which)?,
        weight_axis: site.rank(Port::In(which))? - from_end,
        output: site.node.output(0)?,
        output_axis: site.rank(Port::Out(0))? - from_end,
    })
}

pub(super) fn matmul_contraction(site: &Site<'_>) -> Option<Contraction> {
    let which = matmul_weight(site)?;
    let (weight_end, input_end) = if which == 1 { (2, 1) } else { (1, 2) };
    Some(Contraction {
        weight: site.node.input(which)?,
        weight_axis: site.rank(Port::In(which))? - weight_end,
        input: site.node.input(1 - which)?,
        input_axis: site.rank(Port::In(1 - which))? - input_end,
    })
}

/// The axes that `Gemm` of two computed values sums over.
pub(super) fn gemm_sum(site: &Site<'_>, gemm: &Gemm) -> Option<[(Port, usize); 2]> {
    let (_, a_sum, b_sum, _) = gemm_axes(gemm);
    let computed = !site.is_constant(0) && !site.is_constant(1);
    computed.then_some([(Port::In(0), a_sum), (Port::In(1), b_sum)])
}

/// The axes that `MatMul` of two computed values sums over.
pub(super) fn matmul_sum(site: &Site<'_>) -> Option<[(Port, usize); 2]> {
    let (a, b) = (site.rank(Port::In(0))?, site.rank(Port::In(1))?);
    let computed = !site.is_constant(0) && !site.is_constant(1);
    (computed && a >= 2 && b >= 2).then(|| [(Port::In(0), a - 1), (Port::In(1), b - 2)])
}
