//! Recurrent ops: inputs and hidden units.

use regraft_graph::op::{Recurrent, UnaryOp};
use regraft_graph::{Graph, Node, Op};

use super::{Contraction, IndexMap, Link, Port, Seed, Site, Verdict};

/// What feeds the hidden units back: `directions × gates·hidden × hidden`.
const R: Port = Port::In(2);
/// The axis of R over which the hidden units are summed.
const HIDDEN: (Port, usize) = (R, 2);

/// X is `… × n_in`, W is `directions × gates·hidden × n_in`; the gates of a hidden unit are as many
/// rows of W and R, `hidden` apart. Both directions share a width, so a unit is one index of both.
pub(super) fn recurrent(site: &Site<'_>, r: &Recurrent, port: Port, axis: usize) -> Verdict {
    match (port, axis) {
        (Port::In(0 | 1), 2) => Ok(vec![Link::same((Port::In(0), 2), (Port::In(1), 2))]),
        (Port::In(0), _) => site.freeze("reads this axis as time or batch"),
        _ => hidden(site, r, (port, axis)),
    }
}

/// Ports and axes on which hidden units lie, with the number of entries each unit has there.
fn places(r: &Recurrent) -> [((Port, usize), usize); 9] {
    let gates = r.n_gates();
    [
        ((Port::In(1), 1), gates),
        ((R, 1), gates),
        ((Port::In(3), 1), 2 * gates),
        ((Port::In(5), 2), 1),
        ((Port::In(6), 2), 1),
        ((Port::In(7), 1), 3),
        ((Port::Out(0), 3), 1),
        ((Port::Out(1), 2), 1),
        ((Port::Out(2), 2), 1),
    ]
}

fn hidden(site: &Site<'_>, r: &Recurrent, at: (Port, usize)) -> Verdict {
    let places = places(r);
    if at != HIDDEN && places.iter().all(|(place, _)| *place != at) {
        return site.freeze("reads this axis as time, batch or direction");
    }
    let present = places.iter().filter(|((port, _), _)| {
        site.value(*port).is_some() && !uniform_state(site.graph, site.node, *port)
    });
    let link = |&(place, outer): &((Port, usize), usize)| Link {
        a: HIDDEN,
        b: place,
        map: IndexMap::Spread { outer, inner: 1 },
    };
    Ok(present.map(link).collect())
}

/// The most nodes between a constant and the state that is cut out of it.
const MAX_STEPS: usize = 16;

/// True for an initial state that is one number everywhere: exporters cut the zero states of all
/// layers out of one tensor, which must not couple the layers. A cut in front of the port is enough.
pub(crate) fn uniform_state(graph: &Graph, node: &Node, port: Port) -> bool {
    let Port::In(port @ (5 | 6)) = port else {
        return false;
    };
    let mut value = node.input(port);
    for _ in 0..MAX_STEPS {
        let Some(v) = value else {
            return false;
        };
        if let Some(tensor) = graph.tensor(v) {
            let data = tensor.as_f32().unwrap_or_default();
            let differs = |x: &f32| data.first() != Some(x);
            return !data.is_empty() && !data.iter().any(differs) && !graph.inputs().contains(&v);
        }
        let Some(maker) = graph.producer(v).map(|id| graph.node(id)) else {
            return false;
        };
        match &maker.op {
            Op::ConstantOfShape { .. } => return true,
            Op::Slice(_)
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Expand
            | Op::Tile
            | Op::Transpose { .. }
            | Op::Reshape { .. }
            | Op::Gather { .. }
            | Op::Unary(UnaryOp::Identity) => value = maker.input(0),
            _ => return false,
        }
    }
    false
}

pub(super) fn seed(site: &Site<'_>) -> Option<Seed> {
    // Any of the outputs may be left out; the hidden units are the last axis of each.
    let port = (0..site.node.outputs.len()).find(|&p| site.node.output(p).is_some())?;
    Some(Seed {
        weight: site.node.input(1)?,
        weight_axis: 1,
        output: site.node.output(port)?,
        output_axis: site.rank(Port::Out(port))?.checked_sub(1)?,
    })
}

/// The inputs, and where the states of all steps are an output, the hidden units that feed back.
pub(super) fn contractions(site: &Site<'_>) -> Vec<Contraction> {
    let sum = |port: usize, input: Port, input_axis: usize| {
        Some(Contraction {
            weight: site.node.input(port)?,
            weight_axis: 2,
            input: site.value(input)?,
            input_axis,
        })
    };
    let found = [sum(1, Port::In(0), 2), sum(2, Port::Out(0), 3)];
    found.into_iter().flatten().collect()
}
