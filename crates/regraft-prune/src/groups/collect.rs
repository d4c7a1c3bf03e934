//! From joined elements to groups of units.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::cost::node_macs;
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, Node, NodeId, Op, ValueId};

use super::elements::Elements;
use super::search::Found;
use super::{AxisOwners, Consumer, Frozen, Group, Groups, Member, Producer, Unit};

const NONE: u32 = u32::MAX;

pub(super) fn collect(graph: &Graph, facts: &Facts, found: Found) -> Groups {
    let Found {
        mut elements,
        producers,
        consumers,
    } = found;
    let unit_of = units_of_elements(&mut elements);
    let n_units = unit_of.iter().max().map_or(0, |m| *m as usize + 1);
    let group_of_unit = groups_of_units(&elements, &unit_of, n_units);
    let parts = Parts {
        elements: &elements,
        unit_of: &unit_of,
        group_of_unit: &group_of_unit,
    };
    let mut builder = parts.build(n_units);
    parts.attach(&mut builder, &producers, &consumers);
    finish(graph, facts, &parts, builder)
}

/// Numbers the disjoint sets by their first element, so producers' channels come first.
fn units_of_elements(elements: &mut Elements) -> Vec<u32> {
    let n = elements.n_elements();
    let mut number = vec![NONE; n];
    let mut unit_of = vec![NONE; n];
    let mut next = 0;
    for i in 0..n {
        let root = elements.root(i as u32) as usize;
        if number[root] == NONE {
            number[root] = next;
            next += 1;
        }
        unit_of[i] = number[root];
    }
    unit_of
}

/// Joins units that share an axis; groups are numbered by their first unit.
fn groups_of_units(elements: &Elements, unit_of: &[u32], n_units: usize) -> Vec<u32> {
    let mut parent: Vec<u32> = (0..n_units as u32).collect();
    let root = |parent: &mut Vec<u32>, mut x: u32| {
        while parent[x as usize] != x {
            parent[x as usize] = parent[parent[x as usize] as usize];
            x = parent[x as usize];
        }
        x
    };
    for axis in &elements.axes {
        let base = axis.base as usize;
        for i in 1..axis.len {
            let a = root(&mut parent, unit_of[base]);
            let b = root(&mut parent, unit_of[base + i]);
            parent[a.max(b) as usize] = a.min(b);
        }
    }
    let mut number = vec![NONE; n_units];
    let mut next = 0;
    let mut group_of = vec![NONE; n_units];
    for u in 0..n_units {
        let r = root(&mut parent, u as u32) as usize;
        if number[r] == NONE {
            number[r] = next;
            next += 1;
        }
        group_of[u] = number[r];
    }
    group_of
}

struct Parts<'a> {
    elements: &'a Elements,
    unit_of: &'a [u32],
    group_of_unit: &'a [u32],
}

#[derive(Default)]
struct Draft {
    units: Vec<Unit>,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
}

impl Parts<'_> {
    /// Returns a draft a group and the place of each unit in its group.
    fn build(&self, n_units: usize) -> (Vec<Draft>, Vec<u32>) {
        let n_groups = self.group_of_unit.iter().max().map_or(0, |m| m + 1);
        let mut drafts: Vec<Draft> = (0..n_groups).map(|_| Draft::default()).collect();
        let mut place = vec![0; n_units];
        for unit in 0..n_units {
            let units = &mut drafts[self.group_of_unit[unit] as usize].units;
            place[unit] = units.len() as u32;
            units.push(Unit {
                members: Vec::new(),
                frozen: None,
                class: 0,
            });
        }
        let mut why: Vec<Option<usize>> = vec![None; n_units];
        for axis in &self.elements.axes {
            for index in 0..axis.len {
                let unit = self.unit_of[axis.base as usize + index] as usize;
                let group = self.group_of_unit[unit] as usize;
                drafts[group].units[place[unit] as usize]
                    .members
                    .push(Member {
                        value: axis.value,
                        axis: axis.axis,
                        index,
                    });
                // The reason met first, in the order of discovery.
                if let Some(reason) = axis.frozen {
                    why[unit] = Some(why[unit].map_or(reason, |w| w.min(reason)));
                }
            }
        }
        for unit in 0..n_units {
            let group = self.group_of_unit[unit] as usize;
            let slot = &mut drafts[group].units[place[unit] as usize];
            slot.members.sort_unstable();
            slot.frozen = why[unit].map(|r| self.elements.reasons[r].clone());
        }
        (drafts, place)
    }

    fn group_of_axis(&self, id: Option<usize>) -> Option<usize> {
        let axis = self.elements.axes.get(id?)?;
        if axis.len == 0 {
            return None;
        }
        let unit = self.unit_of[axis.base as usize] as usize;
        Some(self.group_of_unit[unit] as usize)
    }

    fn attach(
        &self,
        (drafts, _): &mut (Vec<Draft>, Vec<u32>),
        producers: &[Producer],
        consumers: &[Consumer],
    ) {
        for p in producers {
            let axis = self.elements.get(p.output, p.output_axis);
            if let Some(group) = self.group_of_axis(axis) {
                drafts[group].producers.push(*p);
            }
        }
        for c in consumers {
            let axis = self.elements.get(c.weight, c.weight_axis);
            if let Some(group) = self.group_of_axis(axis) {
                drafts[group].consumers.push(*c);
            }
        }
    }
}

fn finish(
    graph: &Graph,
    facts: &Facts,
    parts: &Parts<'_>,
    (drafts, place): (Vec<Draft>, Vec<u32>),
) -> Groups {
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    let first = |d: &Draft| d.producers.first().map(|p| p.node);
    order.sort_by_key(|&i| (first(&drafts[i]).is_none(), first(&drafts[i])));
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    let followed: BTreeSet<NodeId> = drafts
        .iter()
        .flatten()
        .flat_map(|d| d.producers.iter().map(|p| p.node))
        .collect();
    let mut names = BTreeSet::new();
    let mut final_of = vec![None; drafts.len()];
    let (mut groups, mut frozen) = (Vec::new(), Vec::new());
    for i in order {
        let Some(draft) = drafts[i].take() else {
            continue;
        };
        let name = unique_name(graph, first(&draft), &mut names);
        frozen.extend(frozen_of(graph, facts, &name, &draft));
        // A single unit is all that its values have: it cannot go.
        if draft.units.len() < 2 || draft.units.iter().all(|u| u.frozen.is_some()) {
            continue;
        }
        final_of[i] = Some(groups.len() as u32);
        let mut group = Group {
            name,
            units: draft.units,
            producers: draft.producers,
            consumers: draft.consumers,
            n_classes: 0,
            unit_width: 1,
        };
        classify(&mut group);
        group.unit_width = unit_width(&group);
        groups.push(group);
    }
    frozen.extend(not_followed(graph, facts, &followed, &mut names));
    let owners = |axis: &super::elements::Reached| AxisOwners {
        value: axis.value,
        axis: axis.axis,
        owners: (0..axis.len)
            .map(|i| {
                let unit = parts.unit_of[axis.base as usize + i] as usize;
                final_of[parts.group_of_unit[unit] as usize].map(|g| (g, place[unit]))
            })
            .collect(),
    };
    Groups {
        groups,
        frozen,
        axes: parts.elements.axes.iter().map(owners).collect(),
        index: parts.elements.index.clone(),
    }
}

fn unique_name(graph: &Graph, node: Option<NodeId>, names: &mut BTreeSet<String>) -> String {
    let base = node.map_or_else(|| "unnamed".to_owned(), |id| graph.node_label(id));
    let mut name = base.clone();
    let mut n = 1;
    while !names.insert(name.clone()) {
        n += 1;
        name = format!("{base}#{n}");
    }
    name
}

fn frozen_of(graph: &Graph, facts: &Facts, name: &str, draft: &Draft) -> Option<Frozen> {
    let stay: Vec<&String> = draft
        .units
        .iter()
        .filter_map(|u| u.frozen.as_ref())
        .collect();
    let macs: u64 = draft
        .producers
        .iter()
        .map(|p| node_macs(graph, facts, p.node))
        .sum();
    let single = draft.units.len() == 1;
    let reason = match stay.first() {
        Some(reason) => (*reason).clone(),
        None if single => match draft.producers.first() {
            Some(p) => format!(
                "`{}` ({}) makes values that have no other channel",
                graph.node_label(p.node),
                graph.node(p.node).op.name()
            ),
            None => "its values have no other channel".to_owned(),
        },
        None => return None,
    };
    let n_channels = if single { 1 } else { stay.len() };
    let share = macs as f64 * n_channels as f64 / draft.units.len() as f64;
    Some(Frozen {
        group: name.to_owned(),
        n_channels,
        reason,
        macs: share.round() as u64,
    })
}

/// Returns the nodes with weights whose channels nothing follows: they are in no group, and say why.
fn not_followed(
    graph: &Graph,
    facts: &Facts,
    followed: &BTreeSet<NodeId>,
    names: &mut BTreeSet<String>,
) -> Vec<Frozen> {
    let weights = weights_of_constants(graph);
    let others = graph.nodes().filter(|(id, _)| !followed.contains(id));
    let frozen = |(id, node): (NodeId, &Node)| {
        let is_linear = matches!(
            node.op,
            Op::Conv(_)
                | Op::ConvTranspose(_)
                | Op::Gemm(_)
                | Op::MatMul
                | Op::Einsum { .. }
                | Op::Recurrent(_)
        );
        let computed = |v: &ValueId| weights.contains(v);
        // What a node multiplies from the left is no weight of its own.
        let weight = node.inputs.iter().skip(1).flatten().find(|v| {
            let stored = graph.tensor(**v).is_some_and(|t| t.shape().len() > 1);
            stored || computed(v)
        });
        let weight = *weight.filter(|_| is_linear)?;
        let output = node.outputs.iter().flatten().next()?;
        let (label, op) = (graph.node_label(id), node.op.name());
        let why = if computed(&weight) {
            format!("the weight of `{label}` ({op}) is computed in the network")
        } else if facts.shape(*output).is_none() {
            format!("the shape of what `{label}` ({op}) makes is not known")
        } else {
            format!("`{label}` ({op}) is of a form whose channels are not followed")
        };
        Some(Frozen {
            group: unique_name(graph, Some(id), names),
            n_channels: made_channels(node, &facts.fixed_shape(weight).unwrap_or_default()),
            reason: why,
            macs: node_macs(graph, facts, id),
        })
    };
    others.filter_map(frozen).collect()
}

/// Returns how many channels a node makes with a weight of this shape; 0 where that cannot be told.
fn made_channels(node: &Node, weight: &[usize]) -> usize {
    let extent = match &node.op {
        Op::Conv(_) => weight.first().copied(),
        Op::ConvTranspose(conv) => weight.get(1).map(|n| n * conv.group),
        Op::Gemm(gemm) => weight.get(usize::from(!gemm.trans_b)).copied(),
        Op::Recurrent(op) => Some(op.hidden_size),
        Op::MatMul => weight.last().copied(),
        _ => None,
    };
    extent.unwrap_or(0)
}

/// Returns the values that are computed from constants alone.
fn weights_of_constants(graph: &Graph) -> BTreeSet<ValueId> {
    let mut found: BTreeSet<ValueId> = BTreeSet::new();
    for (_, node) in graph.nodes() {
        let mut inputs = node.inputs.iter().flatten().peekable();
        let is_constant = inputs.peek().is_some()
            && node.captures.is_empty()
            && inputs.all(|v| graph.tensor(*v).is_some() || found.contains(v));
        if is_constant {
            found.extend(node.outputs.iter().flatten());
        }
    }
    found
}

/// Gives units with the same number of members on each axis the same class.
fn classify(group: &mut Group) {
    let mut classes = BTreeMap::new();
    for unit in &mut group.units {
        // Value, axis, number of members.
        let mut uses: Vec<(usize, usize, usize)> = Vec::new();
        for m in &unit.members {
            match uses.last_mut() {
                Some(last) if (last.0, last.1) == (m.value.index(), m.axis) => last.2 += 1,
                _ => uses.push((m.value.index(), m.axis, 1)),
            }
        }
        let next = classes.len();
        unit.class = *classes.entry((uses, unit.frozen.is_some())).or_insert(next);
    }
    group.n_classes = classes.len();
}

/// The fewest members that a unit has on an axis of a weight that makes or reads the group.
fn unit_width(group: &Group) -> usize {
    let made = group.producers.iter().map(|p| (p.weight, p.weight_axis));
    let read = group.consumers.iter().map(|c| (c.weight, c.weight_axis));
    let axes: BTreeSet<_> = made.chain(read).collect();
    let mut least = usize::MAX;
    for unit in &group.units {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        let places = unit.members.iter().map(|m| (m.value, m.axis));
        for place in places.filter(|place| axes.contains(place)) {
            *counts.entry(place).or_default() += 1;
        }
        least = least.min(counts.into_values().min().unwrap_or(1));
    }
    if least == usize::MAX { 1 } else { least }
}
