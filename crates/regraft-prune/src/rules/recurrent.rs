//! Recurrent ops: inputs can shrink, hidden units stay.

use super::{Contraction, Link, Port, Seed, Site, Verdict};

/// X is `… × n_in`, W is `directions × gates·hidden × n_in`.
pub(super) fn recurrent(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    match (port, axis) {
        (Port::In(0 | 1), 2) => Ok(vec![Link::same((Port::In(0), 2), (Port::In(1), 2))]),
        (Port::In(0), _) => site.freeze("reads this axis as time or batch"),
        (Port::In(_) | Port::Out(_), _) => {
            site.freeze("keeps its hidden units: they feed back into its own gates")
        }
    }
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

pub(super) fn contraction(site: &Site<'_>) -> Option<Contraction> {
    Some(Contraction {
        weight: site.node.input(1)?,
        weight_axis: 2,
        input: site.node.input(0)?,
        input_axis: 2,
    })
}
