//! Widths carried through every node before any weight is touched.

use regraft_graph::infer::Facts;
use regraft_graph::{Graph, NodeId, Op};

use crate::rules::{self, Contraction, Link, Port, Seed, Site};
use crate::{Groups, Kept, Plan, PruneError};

/// Returns the indices that stay on every axis, after a check that they agree at every node.
///
/// The rules of all ops are asked again and every pair of corresponding indices compared, which
/// does not rely on how the groups were found.
/// # Errors
/// [`PruneError`] if the plan does not fit the groups; [`PruneError::Inconsistent`] with the node
/// where two widths do not fit together.
pub fn dry_run(
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    plan: &Plan,
) -> Result<Kept, PruneError> {
    let kept = plan.resolve(graph, groups)?;
    for (id, node) in graph.nodes() {
        let inputs = node.inputs.iter().enumerate();
        let inputs = inputs.filter_map(|(p, v)| v.map(|v| (Port::In(p), v)));
        let outputs = node.outputs.iter().enumerate();
        let outputs = outputs.filter_map(|(p, v)| v.map(|v| (Port::Out(p), v)));
        for (port, value) in inputs.chain(outputs) {
            let rank = facts.shape(value).map_or(0, <[_]>::len);
            for axis in (0..rank).filter(|&a| kept.get(value, a).is_some()) {
                check_axis(graph, facts, groups, &kept, (id, port, axis))?;
            }
        }
        check_groups(graph, facts, &kept, id)?;
    }
    Ok(kept)
}

/// Returns the weight axes that make a node's channels and that it sums over.
pub(super) fn weights(
    graph: &Graph,
    facts: &Facts,
    id: NodeId,
) -> (Option<Seed>, Option<Contraction>) {
    let never = |_, _| false;
    let site = Site {
        graph,
        facts,
        id,
        node: graph.node(id),
        touched: &never,
    };
    (
        rules::seed(&site),
        rules::contractions(&site).into_iter().next(),
    )
}

fn inconsistent(graph: &Graph, id: NodeId, reason: String) -> PruneError {
    PruneError::Inconsistent {
        node: graph.node_label(id),
        op: graph.node(id).op.name().to_owned(),
        reason,
    }
}

fn check_axis(
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    kept: &Kept,
    (id, port, axis): (NodeId, Port, usize),
) -> Result<(), PruneError> {
    let touched = |v, a| groups.axis_id(v, a).is_some();
    let site = Site {
        graph,
        facts,
        id,
        node: graph.node(id),
        touched: &touched,
    };
    let links = rules::links(&site, port, axis)
        .map_err(|reason| inconsistent(graph, id, format!("must keep its channels: {reason}")))?;
    for link in links {
        check_link(&site, kept, &link)?;
    }
    Ok(())
}

fn check_link(site: &Site<'_>, kept: &Kept, link: &Link) -> Result<(), PruneError> {
    let side = |(port, axis): (Port, usize)| {
        let value = site.value(port)?;
        let extent = site.extent(port, axis)?;
        let mut stays = vec![true; extent];
        if let Some(list) = kept.get(value, axis) {
            stays.fill(false);
            for &i in list {
                *stays.get_mut(i)? = true;
            }
        }
        Some(stays)
    };
    let (Some(a), Some(b)) = (side(link.a), side(link.b)) else {
        let reason = "has extents that are not known".to_owned();
        return Err(inconsistent(site.graph, site.id, reason));
    };
    let mut wrong = None;
    let fits = link.map.for_each(a.len(), b.len(), |i, j| {
        if a[i] != b[j] && wrong.is_none() {
            wrong = Some((i, j));
        }
    });
    let widths = || {
        let count = |flags: &[bool]| flags.iter().filter(|f| **f).count();
        format!("{} and {} channels", count(&a), count(&b))
    };
    match wrong {
        None if fits => Ok(()),
        None => Err(inconsistent(
            site.graph,
            site.id,
            format!("couples {} channels with {}", a.len(), b.len()),
        )),
        Some((i, j)) => Err(inconsistent(
            site.graph,
            site.id,
            format!(
                "gets {}: channel {i} of one side goes with channel {j} of the other",
                widths()
            ),
        )),
    }
}

/// The number of groups of a convolution has to shrink with its channels.
fn check_groups(graph: &Graph, facts: &Facts, kept: &Kept, id: NodeId) -> Result<(), PruneError> {
    let node = graph.node(id);
    let (Op::Conv(conv) | Op::ConvTranspose(conv)) = &node.op else {
        return Ok(());
    };
    let (1.., Some(x)) = (conv.group, node.input(0)) else {
        return Ok(());
    };
    let extent = facts.shape(x).and_then(|s| s.get(1)?.fixed());
    let Some(extent) = extent.filter(|_| conv.group > 1 && kept.get(x, 1).is_some()) else {
        return Ok(());
    };
    let block = extent / conv.group;
    let width = kept.width(x, 1, extent);
    if block == 0 || !width.is_multiple_of(block) {
        let reason = format!("{width} input channels are no multiple of {block} a group");
        return Err(inconsistent(graph, id, reason));
    }
    Ok(())
}
