//! Adding units to groups: copies of units that are there, so that the network computes what it did.
//!
//! The inverse of removing: an axis that belongs to a group lists some of its indices more than
//! once. A run of indices of one unit (a channel, the elements of a flattened channel, a head, the
//! channels of a normalised group) is repeated as a whole, right behind itself, which is where every
//! op that cuts, joins or regroups axes looks for it; the rules of all ops are asked again whether
//! the copies of the two sides of each node meet. What sums over channels then shares the weights of
//! a unit between its copies.

mod sums;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{Graph, NodeId, ValueId};

use super::{ApplyReport, check_widths, params, report, slice_constants};
use crate::rules::{self, Link, Port, Site};
use crate::{Groups, Kept, PruneError};

/// How the weights that read a unit are shared between it and its copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// The unit keeps them and its copies have zeros: the outputs keep their bits, up to the order
    /// in which numbers are summed, whatever the copies compute.
    #[default]
    Zero,
    /// Copy c of m has the share 2(c + 1) / (m(m + 1)): unequal, so that gradients tell them apart.
    Split,
}

/// Where one index of a grown axis comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The index before.
    pub index: usize,
    /// 0 for the unit itself, 1 for its first copy.
    pub copy: usize,
    /// The copies of the unit, itself included.
    pub n_copies: usize,
}

/// A network with more units.
#[derive(Clone, Debug)]
pub struct Grown {
    /// The network; what it computes is what the one before did.
    pub graph: Graph,
    /// What changed; [`ApplyReport::kept`] lists an index as often as it now is there.
    pub report: ApplyReport,
    /// Groups over whose channels statistics are taken: copies there have to stay equal.
    pub normalised: BTreeSet<usize>,
    origins: BTreeMap<(ValueId, usize), Vec<Origin>>,
}

impl Grown {
    /// Returns where each index of an axis comes from; `None` for an axis that did not grow.
    pub fn origins(&self, value: ValueId, axis: usize) -> Option<&[Origin]> {
        self.origins.get(&(value, axis)).map(Vec::as_slice)
    }

    /// Returns every axis that grew.
    pub fn grown(&self) -> impl Iterator<Item = (ValueId, usize)> {
        self.origins.keys().copied()
    }
}

/// Returns the graph with copies of units added to groups: `copies[g]` names the units of group g
/// that are copied, one entry a copy.
///
/// # Errors
/// [`PruneError::GroupCount`], [`PruneError::UnitIndex`] and [`PruneError::FrozenUnit`] for copies of
/// what is not there or has to stay; [`PruneError::Inconsistent`] with the node where copies would
/// change what is computed, or where two sides do not fit together.
/// # Reference
/// Chen et al., `Net2Net`: Accelerating Learning via Knowledge Transfer, ICLR 2016, section 2.2; here
/// for whatever groups span, with zeros as an alternative to equal shares.
pub fn grow(
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    copies: &[Vec<usize>],
    share: Share,
) -> Result<Grown, PruneError> {
    let origins = origins(groups, &multiplicities(groups, copies)?);
    let plain = origins.iter().map(|(at, list)| {
        let indices: Vec<usize> = list.iter().map(|o| o.index).collect();
        (*at, indices)
    });
    let kept = Kept::of_axes(plain.collect());
    let (sums, statistics) = sums::shared(graph, facts, &origins)?;
    let mut edit = graph.edit();
    slice_constants(graph, &kept, &mut edit)?;
    for (weight, axis) in sums {
        sums::share(&mut edit, (weight, axis), &origins, share)?;
    }
    for (id, _) in graph.nodes() {
        params::rewrite(graph, facts, &kept, id, &mut edit)?;
    }
    for (value, _) in origins.keys() {
        if graph.tensor(*value).is_none() {
            edit.forget_declared(*value);
        }
    }
    let grown = edit.finish().map_err(PruneError::Graph)?;
    let new_facts = infer(&grown, &InferOptions::default()).map_err(PruneError::Graph)?;
    check_widths(graph, facts, (&grown, &new_facts), &kept)?;
    check_copies(&grown, &new_facts, groups, &origins)?;
    let report = report(graph, facts, (&grown, &new_facts), kept);
    let group = |&(value, axis): &(ValueId, usize)| {
        let owners = &groups.axes().get(groups.axis_id(value, axis)?)?.owners;
        owners.iter().flatten().next().map(|(g, _)| *g as usize)
    };
    Ok(Grown {
        graph: grown,
        report,
        normalised: statistics.iter().filter_map(group).collect(),
        origins,
    })
}

/// How often each unit of each group will be there.
fn multiplicities(groups: &Groups, copies: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, PruneError> {
    if copies.len() != groups.groups.len() {
        return Err(PruneError::GroupCount {
            what: "the list of copies",
            expected: groups.groups.len(),
            found: copies.len(),
        });
    }
    let mut found = Vec::with_capacity(copies.len());
    for (group, sources) in groups.groups.iter().zip(copies) {
        let n_units = group.units.len();
        let mut times = vec![1; n_units];
        for &unit in sources {
            let Some(slot) = times.get_mut(unit) else {
                return Err(PruneError::UnitIndex {
                    group: group.name.clone(),
                    index: unit,
                    n_units,
                });
            };
            if let Some(reason) = &group.units[unit].frozen {
                return Err(PruneError::FrozenUnit {
                    group: group.name.clone(),
                    unit,
                    reason: reason.clone(),
                });
            }
            *slot += 1;
        }
        found.push(times);
    }
    Ok(found)
}

/// Every axis that grows, its indices in their new order.
fn origins(groups: &Groups, times: &[Vec<usize>]) -> BTreeMap<(ValueId, usize), Vec<Origin>> {
    let mut all = BTreeMap::new();
    for axis in groups.axes() {
        let n_copies =
            |owner: Option<(u32, u32)>| owner.map_or(1, |(g, u)| times[g as usize][u as usize]);
        let mut list = Vec::with_capacity(axis.owners.len());
        let mut start = 0;
        while let Some(&owner) = axis.owners.get(start) {
            let run = axis.owners[start..].iter().take_while(|o| **o == owner);
            // What no unit owns is never copied.
            let end = start + run.count();
            let n_copies = n_copies(owner);
            for copy in 0..n_copies {
                list.extend((start..end).map(|index| Origin {
                    index,
                    copy,
                    n_copies,
                }));
            }
            start = end;
        }
        if list.len() > axis.owners.len() {
            all.insert((axis.value, axis.axis), list);
        }
    }
    all
}

/// Asks the rule of every op whether the copies on its two sides meet.
fn check_copies(
    grown: &Graph,
    facts: &Facts,
    groups: &Groups,
    origins: &BTreeMap<(ValueId, usize), Vec<Origin>>,
) -> Result<(), PruneError> {
    let touched = |v, a| groups.axis_id(v, a).is_some();
    for (id, node) in grown.nodes() {
        let inputs = node.inputs.iter().enumerate();
        let inputs = inputs.filter_map(|(p, v)| v.map(|v| (Port::In(p), v)));
        let outputs = node.outputs.iter().enumerate();
        let outputs = outputs.filter_map(|(p, v)| v.map(|v| (Port::Out(p), v)));
        let site = Site {
            graph: grown,
            facts,
            id,
            node,
            touched: &touched,
        };
        for (port, value) in inputs.chain(outputs) {
            let rank = facts.shape(value).map_or(0, <[_]>::len);
            for axis in (0..rank).filter(|a| origins.contains_key(&(value, *a))) {
                let links = rules::links(&site, port, axis)
                    .map_err(|reason| refused(grown, id, format!("cannot grow: {reason}")))?;
                for link in links {
                    check_link(&site, origins, &link)?;
                }
            }
        }
    }
    Ok(())
}

fn check_link(
    site: &Site<'_>,
    origins: &BTreeMap<(ValueId, usize), Vec<Origin>>,
    link: &Link,
) -> Result<(), PruneError> {
    let side = |(port, axis): (Port, usize)| {
        let list = origins.get(&(site.value(port)?, axis));
        Some((site.extent(port, axis)?, list))
    };
    let (Some((n_a, a)), Some((n_b, b))) = (side(link.a), side(link.b)) else {
        let reason = "has extents that are not known".to_owned();
        return Err(refused(site.graph, site.id, reason));
    };
    let copy = |list: Option<&Vec<Origin>>, i: usize| {
        list.map_or(Some(0), |list| list.get(i).map(|o| o.copy))
    };
    let mut wrong = None;
    let fits = link.map.for_each(n_a, n_b, |i, j| {
        if copy(a, i) != copy(b, j) && wrong.is_none() {
            wrong = Some((i, j));
        }
    });
    match wrong {
        None if fits => Ok(()),
        None => Err(refused(
            site.graph,
            site.id,
            format!("couples {n_a} channels with {n_b}"),
        )),
        Some((i, j)) => Err(refused(
            site.graph,
            site.id,
            format!("cannot grow: the copies at {i} and {j} are not of one unit"),
        )),
    }
}

fn refused(graph: &Graph, id: NodeId, reason: String) -> PruneError {
    PruneError::Inconsistent {
        node: graph.node_label(id),
        op: graph.node(id).op.name().to_owned(),
        reason,
    }
}
