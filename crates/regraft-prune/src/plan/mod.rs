//! Plans: which units of each group stay.

mod choose;
mod cost_model;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use choose::{
    Budget, ChooseOptions, DEFAULT_COST_EXPONENT, DEFAULT_MIN_KEEP_RATIO, Selected, choose,
    may_shrink,
};
pub use cost_model::{CostModel, CostState};
pub use pattern::matches as name_matches;
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, ValueId};

use crate::blocks::{RemovableBlock, find_blocks};
use crate::{Groups, PruneError};

/// The version of plans that this crate makes and understands.
pub const PLAN_VERSION: u32 = 1;

/// The units of one group that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group's name.
    pub group: String,
    /// The number of units the group has in the dense network.
    pub n_units: usize,
    /// The units that stay, ascending.
    pub kept: Vec<usize>,
}

/// Which units stay, group by group; groups that are not named stay whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The version of this form.
    pub version: u32,
    /// The residual blocks that go whole, by the names of their sums; their own groups vanish with
    /// them, whatever is kept of them.
    pub removed_blocks: Vec<String>,
    /// The groups, in the order of [`Groups::groups`] where made here.
    pub groups: Vec<GroupPlan>,
}

impl Plan {
    /// Returns the plan that keeps everything.
    pub fn dense(groups: &Groups) -> Self {
        let all: Vec<Vec<bool>> = groups
            .groups
            .iter()
            .map(|g| vec![true; g.units.len()])
            .collect();
        Self::from_flags(groups, &all)
    }

    /// Returns the plan that keeps `widths[g]` units of group g, taking units away in the order
    /// `removal[g]`, the first one first; units that are not listed stay, frozen ones too.
    ///
    /// # Errors
    /// [`PruneError::GroupCount`] if a list is not one entry a group long,
    /// [`PruneError::UnitIndex`] if an order names a unit that does not exist,
    /// [`PruneError::UnitCount`] if the order ends before the width is reached.
    pub fn from_widths(
        groups: &Groups,
        widths: &[usize],
        removal: &[Vec<usize>],
    ) -> Result<Self, PruneError> {
        let expected = groups.groups.len();
        for (what, found) in [("widths", widths.len()), ("removal order", removal.len())] {
            if found != expected {
                return Err(PruneError::GroupCount {
                    what,
                    expected,
                    found,
                });
            }
        }
        let mut flags = Vec::new();
        for (g, group) in groups.groups.iter().enumerate() {
            let n_units = group.units.len();
            let mut kept = vec![true; n_units];
            let mut left = n_units;
            for &unit in &removal[g] {
                if left <= widths[g] {
                    break;
                }
                let Some(slot) = kept.get_mut(unit) else {
                    return Err(PruneError::UnitIndex {
                        group: group.name.clone(),
                        index: unit,
                        n_units,
                    });
                };
                if group.units[unit].frozen.is_none() && *slot {
                    *slot = false;
                    left -= 1;
                }
            }
            if left > widths[g] {
                return Err(PruneError::UnitCount {
                    group: group.name.clone(),
                    what: "the removal order",
                    expected: n_units - widths[g],
                    found: n_units - left,
                });
            }
            flags.push(kept);
        }
        Ok(Self::from_flags(groups, &flags))
    }

    pub(crate) fn from_flags(groups: &Groups, flags: &[Vec<bool>]) -> Self {
        let entry = |(group, kept): (&crate::Group, &Vec<bool>)| GroupPlan {
            group: group.name.clone(),
            n_units: group.units.len(),
            kept: (0..kept.len()).filter(|&u| kept[u]).collect(),
        };
        Self {
            version: PLAN_VERSION,
            removed_blocks: Vec::new(),
            groups: groups.groups.iter().zip(flags).map(entry).collect(),
        }
    }

    /// Returns for each group and unit whether it stays, after a check of the plan.
    ///
    /// # Errors
    /// [`PruneError`] for another version, groups and units that do not exist or are named twice,
    /// and for frozen units that the plan removes.
    pub fn flags(&self, groups: &Groups) -> Result<Vec<Vec<bool>>, PruneError> {
        if self.version != PLAN_VERSION {
            return Err(PruneError::PlanVersion {
                found: self.version,
                expected: PLAN_VERSION,
            });
        }
        let mut flags: Vec<Vec<bool>> = groups
            .groups
            .iter()
            .map(|g| vec![true; g.units.len()])
            .collect();
        let by_name: BTreeMap<&str, usize> = groups
            .groups
            .iter()
            .enumerate()
            .map(|(i, g)| (g.name.as_str(), i))
            .collect();
        let mut seen = BTreeSet::new();
        for entry in &self.groups {
            let name = || entry.group.clone();
            let Some(&g) = by_name.get(entry.group.as_str()) else {
                return Err(PruneError::UnknownGroup { group: name() });
            };
            if !seen.insert(g) {
                return Err(PruneError::GroupTwice { group: name() });
            }
            flags[g] = entry.flags(&groups.groups[g])?;
        }
        Ok(flags)
    }

    /// Returns the blocks that go whole, in graph order.
    ///
    /// # Errors
    /// [`PruneError::UnknownBlock`] and [`PruneError::BlockTwice`] for names that are not those of
    /// removable blocks of `graph`, once each.
    pub fn blocks(&self, graph: &Graph, facts: &Facts) -> Result<Vec<RemovableBlock>, PruneError> {
        let mut wanted = BTreeSet::new();
        for block in &self.removed_blocks {
            if !wanted.insert(block.as_str()) {
                return Err(PruneError::BlockTwice {
                    block: block.clone(),
                });
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = find_blocks(graph, facts);
        found.retain(|b| wanted.remove(b.name.as_str()));
        match wanted.first() {
            Some(block) => Err(PruneError::UnknownBlock {
                block: (*block).to_owned(),
            }),
            None => Ok(found),
        }
    }

    /// Returns the indices that stay on every axis that shrinks, after a check of the plan.
    ///
    /// # Errors
    /// As [`flags`](Self::flags), and [`PruneError::NoChannelLeft`] where an axis would be empty.
    pub fn resolve(&self, graph: &Graph, groups: &Groups) -> Result<Kept, PruneError> {
        let flags = self.flags(groups)?;
        let mut axes = BTreeMap::new();
        for axis in groups.axes() {
            let stays = |owner: &Option<(u32, u32)>| {
                owner.is_none_or(|(g, u)| flags[g as usize][u as usize])
            };
            let kept: Vec<usize> = (0..axis.owners.len())
                .filter(|&i| stays(&axis.owners[i]))
                .collect();
            if kept.len() == axis.owners.len() {
                continue;
            }
            if kept.is_empty() {
                let group = axis.owners.iter().flatten().next();
                return Err(PruneError::NoChannelLeft {
                    group: group.map_or_else(String::new, |(g, _)| {
                        groups.groups[*g as usize].name.clone()
                    }),
                    value: graph.value(axis.value).name.clone(),
                    axis: axis.axis,
                });
            }
            axes.insert((axis.value, axis.axis), kept);
        }
        Ok(Kept { axes })
    }
}

impl GroupPlan {
    fn flags(&self, group: &crate::Group) -> Result<Vec<bool>, PruneError> {
        let n_units = group.units.len();
        if self.n_units != n_units {
            return Err(PruneError::UnitCount {
                group: self.group.clone(),
                what: "the plan",
                expected: n_units,
                found: self.n_units,
            });
        }
        let mut kept = vec![false; n_units];
        let mut last = None;
        for &index in &self.kept {
            if index >= n_units || last.is_some_and(|l| l >= index) {
                return Err(PruneError::UnitIndex {
                    group: self.group.clone(),
                    index,
                    n_units,
                });
            }
            kept[index] = true;
            last = Some(index);
        }
        for (unit, stays) in kept.iter().enumerate() {
            if let (false, Some(reason)) = (stays, &group.units[unit].frozen) {
                return Err(PruneError::FrozenUnit {
                    group: self.group.clone(),
                    unit,
                    reason: reason.clone(),
                });
            }
        }
        Ok(kept)
    }
}

/// The indices that stay on every axis that shrinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    axes: BTreeMap<(ValueId, usize), Vec<usize>>,
}

impl Kept {
    /// Returns the given indices of each axis.
    pub(crate) fn of_axes(axes: BTreeMap<(ValueId, usize), Vec<usize>>) -> Self {
        Self { axes }
    }

    /// Returns the indices that stay on an axis, ascending; `None` if all do.
    pub fn get(&self, value: ValueId, axis: usize) -> Option<&[usize]> {
        self.axes.get(&(value, axis)).map(Vec::as_slice)
    }

    /// Returns every axis that shrinks: value, axis, indices that stay.
    pub fn iter(&self) -> impl Iterator<Item = (ValueId, usize, &[usize])> {
        self.axes
            .iter()
            .map(|(&(v, a), kept)| (v, a, kept.as_slice()))
    }

    /// Returns true if nothing is removed.
    pub fn is_empty(&self) -> bool {
        self.axes.is_empty()
    }

    /// Returns the new extent of an axis that had `extent`.
    pub(crate) fn width(&self, value: ValueId, axis: usize, extent: usize) -> usize {
        self.get(value, axis).map_or(extent, <[usize]>::len)
    }
}
