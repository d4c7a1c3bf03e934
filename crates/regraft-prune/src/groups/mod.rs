//! Coupled groups: which channels of which values must go together.
//!
//! Every channel that some weight makes is followed through the graph, axis by axis, with the rules
//! of each op; indices that correspond are joined. A set of joined indices is a *unit*: the smallest
//! thing that can be removed. Units that share an axis of a value form a *group*.

#[cfg(test)]
mod attention_tests;
mod collect;
mod dump;
mod elements;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use regraft_graph::infer::Facts;
use regraft_graph::{Graph, NodeId, ValueId};

use crate::PruneError;

/// One index on one axis of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The value: an activation or an initializer.
    pub value: ValueId,
    /// The axis.
    pub axis: usize,
    /// The index on the axis.
    pub index: usize,
}

/// Indices of several values that can only be removed together: the closure of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Every index of the unit, ordered.
    pub members: Vec<Member>,
    /// Why the unit has to stay, `None` if it may go.
    pub frozen: Option<String>,
    /// Units of one group with the same class take part in the same axes equally often and so
    /// are interchangeable in shape and cost.
    pub class: usize,
}

/// A node whose output channels belong to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The node.
    pub node: NodeId,
    /// Its weight.
    pub weight: ValueId,
    /// The axis of the weight that makes the channels.
    pub weight_axis: usize,
    /// The value it writes.
    pub output: ValueId,
    /// The channel axis of that value.
    pub output_axis: usize,
}

/// A node that sums over channels of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The node.
    pub node: NodeId,
    /// Its weight.
    pub weight: ValueId,
    /// The axis of the weight that is summed over.
    pub weight_axis: usize,
    /// The value it reads.
    pub input: ValueId,
    /// The axis of that value that is summed over.
    pub input_axis: usize,
}

/// Units that share axes, with the nodes that make and read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name of the first producer, made unique.
    pub name: String,
    /// The units, in the order of the first producer's channels, then the next one's.
    pub units: Vec<Unit>,
    /// The nodes that make the channels, in graph order.
    pub producers: Vec<Producer>,
    /// The nodes that sum over the channels, in graph order.
    pub consumers: Vec<Consumer>,
    /// The number of classes of units.
    pub n_classes: usize,
    /// The channels that a unit has in every weight that makes or reads it, at least: 1 for most
    /// groups, the width of a head for attention.
    pub unit_width: usize,
}

impl Group {
    /// Returns how many units have to go together so that widths in channels stay on multiples of
    /// `multiple_of`.
    pub fn units_in(&self, multiple_of: usize) -> usize {
        fn gcd(a: usize, b: usize) -> usize {
            if b == 0 { a } else { gcd(b, a % b) }
        }
        (multiple_of / gcd(multiple_of, self.unit_width.max(1))).max(1)
    }

    /// Returns the number of units that may be removed.
    pub fn n_free(&self) -> usize {
        self.units.iter().filter(|u| u.frozen.is_none()).count()
    }
}

/// Channels that stay, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The name of the first producer.
    pub group: String,
    /// The number of units that stay.
    pub n_channels: usize,
    /// Why, in words.
    pub reason: String,
    /// Multiply-accumulates of the producers, by their share of frozen units.
    pub macs: u64,
}

/// All coupled channels of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Groups with at least one unit that may be removed, by their first producer.
    pub groups: Vec<Group>,
    /// What stays: whole groups, and the frozen units of the others.
    pub frozen: Vec<Frozen>,
    axes: Vec<AxisOwners>,
    index: BTreeMap<(ValueId, usize), usize>,
}

/// For each index of one axis the group and the unit it belongs to; `None` stays always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AxisOwners {
    pub(crate) value: ValueId,
    pub(crate) axis: usize,
    pub(crate) owners: Vec<Option<(u32, u32)>>,
}

impl Groups {
    /// Returns group and unit of one index, `None` if it is not part of a group that may shrink.
    pub fn owner(&self, member: Member) -> Option<(usize, usize)> {
        let axis = self.index.get(&(member.value, member.axis))?;
        let owner = self.axes[*axis].owners.get(member.index).copied().flatten();
        owner.map(|(g, u)| (g as usize, u as usize))
    }

    /// Returns the position of the group called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|g| g.name == name)
    }

    /// Returns an order of removal of the units of one group without those units that would be the
    /// last on some axis.
    ///
    /// A group that spans a concatenation has axes that only some of its units are part of: all of
    /// these units may be cheaper than any other.
    pub fn spare_last(&self, group: usize, order: &[usize]) -> Vec<usize> {
        let mut left: BTreeMap<(ValueId, usize), usize> = BTreeMap::new();
        let units = &self.groups[group].units;
        for member in units.iter().flat_map(|u| &u.members) {
            let key = (member.value, member.axis);
            left.entry(key).or_insert_with(|| {
                let axis = self.index.get(&key).map(|a| self.axes[*a].owners.len());
                axis.unwrap_or(0)
            });
        }
        let mut spared = Vec::with_capacity(order.len());
        for &unit in order {
            let mut goes: BTreeMap<(ValueId, usize), usize> = BTreeMap::new();
            for member in &units[unit].members {
                *goes.entry((member.value, member.axis)).or_default() += 1;
            }
            if goes.iter().all(|(key, n)| left[key] > *n) {
                for (key, n) in goes {
                    left.entry(key).and_modify(|l| *l -= n);
                }
                spared.push(unit);
            }
        }
        spared
    }

    /// Returns the group of an axis, and the axis' extent at every width of the group from 0 to all
    /// units, taken away in the order `removal[group]`; `None` for an axis that never shrinks.
    ///
    /// Widths that the order does not reach have the extent of the last one it does.
    pub fn extents(
        &self,
        value: ValueId,
        axis: usize,
        removal: &[Vec<usize>],
    ) -> Option<(usize, Vec<usize>)> {
        let owners = &self.axes[self.axis_id(value, axis)?].owners;
        // Units that share an axis are of one group.
        let group = owners.iter().flatten().next()?.0 as usize;
        let n_units = self.groups.get(group)?.units.len();
        let mut members = vec![0; n_units];
        for (_, unit) in owners.iter().flatten() {
            if let Some(n) = members.get_mut(*unit as usize) {
                *n += 1;
            }
        }
        let mut left = owners.len();
        let mut extents = vec![left; n_units + 1];
        let mut order = removal.get(group)?.iter();
        for width in (0..n_units).rev() {
            let gone = order.next().and_then(|u| members.get(*u)).copied();
            left = left.saturating_sub(gone.unwrap_or(0));
            extents[width] = left;
        }
        Some((group, extents))
    }

    /// Axes of values that are part of some group, frozen ones included.
    pub(crate) fn axes(&self) -> &[AxisOwners] {
        &self.axes
    }

    pub(crate) fn axis_id(&self, value: ValueId, axis: usize) -> Option<usize> {
        self.index.get(&(value, axis)).copied()
    }
}

/// Returns the coupled groups of `graph`; `facts` are inferred from it.
///
/// Graph inputs without a default and graph outputs keep all their channels. What an op does with
/// channels is taken from one rule an op; whatever a rule does not understand stays, with a reason.
/// # Errors
/// [`PruneError::TooLarge`] if there are too many channel indices to follow.
/// # Reference
/// Fang et al., `DepGraph`: Towards Any Structural Pruning, CVPR 2023: the closure of coupled layers.
/// Here: a union of single indices, so that partly coupled values (padded shortcuts, joined
/// branches, broadcasts) need no special case.
pub fn find_groups(graph: &Graph, facts: &Facts) -> Result<Groups, PruneError> {
    find_groups_by(graph, facts, Attention::default())
}

/// Returns the coupled groups, with a choice of what can go of attention.
///
/// # Errors
/// As [`find_groups`].
pub fn find_groups_by(
    graph: &Graph,
    facts: &Facts,
    attention: Attention,
) -> Result<Groups, PruneError> {
    let found = search::search(graph, facts, attention)?;
    Ok(collect::collect(graph, facts, found))
}

/// What can go of attention, and of anything else whose channels are regrouped on several axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attention {
    /// Whole heads, from the queries to what reads them.
    #[default]
    Heads,
    /// The width of every head alike: that of queries and keys, and that of values.
    Widths,
}
