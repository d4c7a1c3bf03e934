//! Convolutions.

use regraft_graph::op::Conv;

use super::{Contraction, IndexMap, Link, Port, Seed, Site, Verdict};

const X: (Port, usize) = (Port::In(0), 1);
const BIAS: (Port, usize) = (Port::In(2), 0);
const Y: (Port, usize) = (Port::Out(0), 1);

/// W is `n_out × n_in/group × kernel`.
pub(super) fn conv(site: &Site<'_>, conv: &Conv, port: Port, axis: usize) -> Verdict {
    if conv.group != 1 {
        return grouped(site, conv.group, Y, (port, axis));
    }
    two_sided(site, 0, 1, (port, axis))
}

/// W is `n_in × n_out/group × kernel`.
pub(super) fn conv_transpose(site: &Site<'_>, conv: &Conv, port: Port, axis: usize) -> Verdict {
    if conv.group != 1 {
        return grouped(site, conv.group, X, (port, axis));
    }
    two_sided(site, 1, 0, (port, axis))
}

fn two_sided(site: &Site<'_>, w_out: usize, w_in: usize, at: (Port, usize)) -> Verdict {
    let w = |axis| (Port::In(1), axis);
    if at == X || at == w(w_in) {
        return Ok(vec![Link::same(X, w(w_in))]);
    }
    if at == Y || at == w(w_out) || at == BIAS {
        let mut links = vec![Link::same(Y, w(w_out))];
        if site.node.input(2).is_some() {
            links.push(Link::same(Y, BIAS));
        }
        return Ok(links);
    }
    other_axes(site, at)
}

/// With groups a unit is one whole group: its block of inputs and its block of outputs. A depthwise
/// convolution is the case of one input channel a group.
fn grouped(site: &Site<'_>, group: usize, w_side: (Port, usize), at: (Port, usize)) -> Verdict {
    let w = (Port::In(1), 0);
    if at != X && at != Y && at != w && at != BIAS {
        return other_axes(site, at);
    }
    let (Some(n_in), Some(n_out)) = (site.extent(X.0, 1), site.extent(Y.0, 1)) else {
        return site.unknown_shape();
    };
    if group == 0 || n_in % group != 0 || n_out % group != 0 || n_in == 0 || n_out == 0 {
        return site.freeze("has channels that its groups do not divide");
    }
    let blocks = IndexMap::Blocks {
        a: n_in / group,
        b: n_out / group,
    };
    let mut links = vec![
        Link {
            a: X,
            b: Y,
            map: blocks,
        },
        Link::same(w_side, w),
    ];
    if site.node.input(2).is_some() {
        links.push(Link::same(Y, BIAS));
    }
    Ok(links)
}

fn other_axes(site: &Site<'_>, at: (Port, usize)) -> Verdict {
    match at {
        (Port::In(0) | Port::Out(0), 0) => {
            Ok(vec![Link::same((Port::In(0), 0), (Port::Out(0), 0))])
        }
        _ => site.freeze("slides a window over this axis"),
    }
}

pub(super) fn seed(site: &Site<'_>, weight_axis: usize) -> Option<Seed> {
    // The weight of a grouped transposed convolution has its inputs in front; its output channels
    // start at the output all the same.
    Some(Seed {
        weight: site.node.input(1)?,
        weight_axis,
        output: site.node.output(0)?,
        output_axis: 1,
    })
}

pub(super) fn contraction(site: &Site<'_>, conv: &Conv, weight_axis: usize) -> Option<Contraction> {
    // Groups have no axis of the weight that is summed over with all inputs.
    (conv.group == 1).then_some(Contraction {
        weight: site.node.input(1)?,
        weight_axis,
        input: site.node.input(0)?,
        input_axis: 1,
    })
}
