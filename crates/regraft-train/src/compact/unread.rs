//! Channels that nothing reads any more.

use regraft_graph::{Graph, NodeId, Op, ValueId};
use regraft_prune::{Group, Groups, Member, Unit};

use crate::parameters::Trained;

/// Part of a trained initializer.
#[derive(Clone, Copy, Debug)]
struct Slice {
    initializer: usize,
    axis: usize,
    index: usize,
}

/// A channel that only weights read, wherever it goes: without those it has no influence.
#[derive(Debug)]
struct Channel {
    group: usize,
    unit: usize,
    /// The weights that read it.
    readers: Vec<Slice>,
    /// The weights that make or read it.
    all: Vec<Slice>,
}

/// All channels that only weights read.
#[derive(Debug)]
pub(super) struct Channels(Vec<Channel>);

impl Channels {
    /// Returns those of `groups`, but those that are part of `scores`.
    pub(super) fn new(
        graph: &Graph,
        groups: &Groups,
        trained: &[Trained],
        scores: ValueId,
    ) -> Self {
        let mut found = Vec::new();
        for (g, group) in groups.groups.iter().enumerate() {
            // Hidden units of a cell read one another.
            let mut makers = group.producers.iter().map(|p| &graph.node(p.node).op);
            if !makers.all(is_linear) {
                continue;
            }
            for (u, unit) in group.units.iter().enumerate() {
                let is_read = |m: &Member| m.value == scores;
                let free = unit.frozen.is_none() && !unit.members.iter().any(is_read);
                if !free || !is_read_by_weights(graph, group, unit) {
                    continue;
                }
                let Some(readers) = readers(group, unit, trained) else {
                    continue;
                };
                found.push(Channel {
                    group: g,
                    unit: u,
                    readers,
                    all: slices(unit, trained).collect(),
                });
            }
        }
        Self(found)
    }

    /// Returns the units of each group that nothing reads, but those that are the last on some axis:
    /// all weights that read one are outside of the masks or make or read others of these units.
    pub(super) fn unread(
        &self,
        groups: &Groups,
        trained: &[Trained],
        masks: &[Vec<bool>],
    ) -> Vec<Vec<usize>> {
        let mut live = masks.to_vec();
        let mut unread = vec![Vec::new(); groups.groups.len()];
        let mut open: Vec<&Channel> = self.0.iter().collect();
        loop {
            let before = open.len();
            open.retain(|channel| {
                let places = |s: &Slice| trained[s.initializer].slice(s.axis, s.index);
                let is_live = |s: &Slice| places(s).any(|at| live[s.initializer][at]);
                if channel.readers.iter().any(is_live) {
                    return true;
                }
                for slice in &channel.all {
                    for at in places(slice) {
                        live[slice.initializer][at] = false;
                    }
                }
                unread[channel.group].push(channel.unit);
                false
            });
            if open.len() == before {
                break;
            }
        }
        for (group, units) in unread.iter_mut().enumerate() {
            units.sort_unstable();
            *units = groups.spare_last(group, units);
        }
        unread
    }
}

fn slices(unit: &Unit, trained: &[Trained]) -> impl Iterator<Item = Slice> {
    unit.members.iter().filter_map(|m| {
        let is_it = |t: &Trained| t.is_weight && t.id == m.value;
        Some(Slice {
            initializer: trained.iter().position(is_it)?,
            axis: m.axis,
            index: m.index,
        })
    })
}

/// Returns the weights that read a unit; `None` if one of them does not train, or there is none.
fn readers(group: &Group, unit: &Unit, trained: &[Trained]) -> Option<Vec<Slice>> {
    let mut found = Vec::new();
    for member in &unit.members {
        let reads =
            |c: &regraft_prune::Consumer| c.weight == member.value && c.weight_axis == member.axis;
        if !group.consumers.iter().any(reads) {
            continue;
        }
        let is_it = |t: &Trained| t.is_weight && t.id == member.value;
        found.push(Slice {
            initializer: trained.iter().position(is_it)?,
            axis: member.axis,
            index: member.index,
        });
    }
    (!found.is_empty()).then_some(found)
}

/// True if a unit's values go through nothing that mixes channels, but layers with weights.
fn is_read_by_weights(graph: &Graph, group: &Group, unit: &Unit) -> bool {
    let is_computed = |m: &&Member| graph.tensor(m.value).is_none();
    unit.members.iter().filter(is_computed).all(|member| {
        let mut readers = graph.consumers(member.value).iter();
        readers.all(|id| is_apart(graph, group, unit, (*id, *member)))
    })
}

/// True if a node that has a member of a unit for an input takes it by the group's weights, or leaves it
/// in the unit and the other channels alone.
fn is_apart(graph: &Graph, group: &Group, unit: &Unit, (id, member): (NodeId, Member)) -> bool {
    let node = graph.node(id);
    let is_linear = is_linear(&node.op);
    let sums = group
        .consumers
        .iter()
        .any(|c| c.node == id && c.input == member.value && c.input_axis == member.axis);
    if sums {
        return is_linear;
    }
    let is_weight = |port| node.input(port).is_some_and(|v| graph.tensor(v).is_some());
    let keeps = if is_linear {
        is_weight(0) || is_weight(1)
    } else {
        keeps_channels(&node.op)
    };
    let of_unit = |v: &ValueId| {
        let found = unit.members.binary_search_by(|m| m.value.cmp(v));
        found.is_ok()
    };
    keeps && node.outputs.iter().flatten().any(of_unit)
}

/// True for ops that sum over one weight, and whose channels read nothing of one another.
fn is_linear(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
    )
}

/// True for ops that make each channel of their result from one channel of each input, whatever axis
/// the channels are on as long as the result has them.
fn keeps_channels(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Activation(_)
            | Op::Binary(_)
            | Op::Variadic(_)
            | Op::Clip { .. }
            | Op::PRelu
            | Op::ChannelPRelu
            | Op::Dropout { .. }
            | Op::BatchNormalization { .. }
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Reduce { .. }
            | Op::Reshape { .. }
            | Op::Flatten { .. }
            | Op::Transpose { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Concat { .. }
            | Op::Split { .. }
            | Op::Slice(_)
            | Op::Pad { .. }
    )
}
