//! Reconnecting: channels that pruning took come back, and more than there ever were if asked for.
//!
//! Units return with the weights that made them in the dense network; beyond the dense width, new
//! ones start from copies with noise. What reads them starts from zero, so that the network first
//! computes what the pruned one does, and is then solved by least squares over all that it now
//! reads: the returned weights are not copied blindly, as the others have moved since.

mod gain;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::cost::{node_macs, node_params};
use regraft_graph::op::BinaryOp;
use regraft_graph::{Graph, Node, Op, ValueId};
use regraft_prune::apply::{Share, apply, dry_run};
use regraft_prune::score::Scores;
use regraft_prune::{Groups, Plan, PruneError, find_groups};

pub use self::gain::widths_by_gain;
use super::fit::{Goal, chunks, fit_layers, held_out_error};
use super::importance::importance;
use super::widen::{NEW_UNIT_NOISE, WidenConfig, Widths, check_width, widen_by};
use super::{Ceiling, Change, Edited, FitConfig, Network, Samples};
use crate::layer::with_biases;
use crate::rebuild::{KeptAxes, indices_behind, kept_axes};
use crate::{Layer, Monitor, RebuildError};

/// A pruned network and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Descent<'a> {
    /// The network before pruning.
    pub dense: &'a Network,
    /// Its groups.
    pub groups: &'a Groups,
    /// What was kept of them.
    pub plan: &'a Plan,
    /// What pruning left, rebuilt or not. Its values have the identifiers of the dense one's.
    pub pruned: &'a Graph,
}

/// How much comes back.
#[derive(Clone, Debug, PartialEq)]
pub struct ReconnectConfig {
    /// Share of the removed units of every group that return, 0 to 1; 1 is the full topology.
    pub rebuild_rate: f64,
    /// Units of groups named here instead; more than the dense network had makes new ones.
    pub widths: Vec<(String, usize)>,
    /// Noise of new units, relative to the weights of the unit they start from.
    pub noise: f64,
    /// Its seed.
    pub seed: u64,
    /// What the network may cost afterwards.
    pub ceiling: Option<Ceiling>,
    /// What makes a unit worth having back; `None` for the energy that it gave to what reads it,
    /// where that is known from calibration, else the length of its weights.
    pub scores: Option<Scores>,
    /// True to fit every layer that reads a group, not only those that read what came back: networks of
    /// different widths are then compared after the same treatment.
    pub all_readers: bool,
    /// How what reads the units is fitted.
    pub fit: FitConfig,
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self {
            rebuild_rate: 1.0,
            widths: Vec::new(),
            noise: NEW_UNIT_NOISE,
            seed: 0,
            ceiling: None,
            scores: None,
            all_readers: false,
            fit: FitConfig::default(),
        }
    }
}

/// A network with units given back.
#[derive(Clone, Debug)]
pub struct Reconnected {
    /// The network and what changed against the pruned one.
    pub edited: Edited,
    /// The units of the dense network that it has.
    pub plan: Plan,
    /// The dense indices on every axis, those of new units as often as they were copied.
    pub kept: KeptAxes,
    /// Relative squared error of the first output on the held-out chunks with the pruned network.
    pub error_before: f64,
    /// The same with what came back.
    pub error_after: f64,
}

/// Returns the pruned network with units given back and what reads them fitted.
///
/// The weights that make the units which the pruned network had stay as they are, bit by bit, but
/// for layers that themselves read units that came back.
/// # Errors
/// [`RebuildError::Setting`] for a rate that is not a share, [`RebuildError::Width`] for a width below
/// the present one, [`RebuildError::Prune`] for groups that do not exist or cannot grow,
/// [`RebuildError::NotRelated`] if the networks do not belong together, [`RebuildError::OverBudget`]
/// if the result would cost more than the ceiling, and what fitting says.
pub fn reconnect(
    descent: Descent<'_>,
    samples: Samples<'_>,
    config: &ReconnectConfig,
    monitor: &dyn Monitor,
) -> Result<Reconnected, RebuildError> {
    let inputs = samples.inputs;
    chunks(inputs, &config.fit)?;
    let dense = descent.dense;
    let (plan, extra) = wanted(descent, config)?;
    let before = Network::new(descent.pruned.clone())?;
    let (mut wide, kept) = grown(descent, &plan, &extra, config)?;
    if let Some(ceiling) = config.ceiling {
        ceiling.check(wide.cost())?;
    }
    check_complete(&before, &wide)?;
    let (readers, left) = readers(descent, &plan, &extra, (&wide, config.all_readers))?;
    let none = KeptAxes::new();
    let goal = |kept| Goal {
        teacher: &dense.graph,
        kept,
        targets: samples.targets,
    };
    let error_before = held_out_error(descent.pruned, goal(&none), inputs, &config.fit)?;
    let (graph, fitted) = fit_layers(&wide, &readers, goal(&kept), inputs, &config.fit, monitor)?;
    wide.graph = graph;
    let error_after = held_out_error(&wide.graph, goal(&none), inputs, &config.fit)?;
    let mut changes = changes(&before, &wide);
    for (output, change) in &mut changes {
        let found = fitted.iter().find(|f| f.output == *output);
        change.error = found.map(|f| f.held_out_after);
    }
    Ok(Reconnected {
        edited: Edited::new(
            wide.graph,
            changes.into_iter().map(|(_, c)| c).collect(),
            left,
            false,
        ),
        plan,
        kept,
        error_before,
        error_after,
    })
}

/// Refuses a network with layers or sums that it does not have any more with its units back: edits that came
/// before would be gone.
fn check_complete(before: &Network, wide: &Network) -> Result<(), RebuildError> {
    let names: BTreeSet<&str> = values_of_nodes(&wide.graph);
    let is_computed = |v: &ValueId| before.graph.producer(*v).is_some();
    let is_sum = |node: &Node| {
        let mut inputs = node.inputs.iter().flatten();
        matches!(node.op, Op::Binary(BinaryOp::Add)) && inputs.all(is_computed)
    };
    let has_weights = |node: &Node| {
        let layer = |l: &Layer| node.output(0) == Some(l.output);
        before.layers.iter().any(layer) || matches!(node.op, Op::Recurrent(_))
    };
    let lost = before.graph.nodes().find(|(_, node)| {
        let outputs = node.outputs.iter().flatten();
        let mut names_of = outputs.map(|v| before.graph.value(*v).name.as_str());
        (has_weights(node) || is_sum(node)) && !names_of.any(|n| names.contains(n))
    });
    let Some((id, node)) = lost else {
        return Ok(());
    };
    Err(RebuildError::Edit {
        reason: format!(
            "`{}` ({}) is not in the dense network and would be lost: units come back before other edits, so put \
             `reconnect` first",
            before.graph.node_label(id),
            node.op.name()
        ),
    })
}

fn values_of_nodes(graph: &Graph) -> BTreeSet<&str> {
    let outputs = graph
        .nodes()
        .flat_map(|(_, node)| node.outputs.iter().flatten());
    outputs.map(|v| graph.value(*v).name.as_str()).collect()
}

/// Returns the plan with what comes back, and how many units each group has beyond it.
fn wanted(
    descent: Descent<'_>,
    config: &ReconnectConfig,
) -> Result<(Plan, Vec<usize>), RebuildError> {
    if !(0.0..=1.0).contains(&config.rebuild_rate) {
        return Err(RebuildError::Setting {
            what: "the rebuild rate",
            value: config.rebuild_rate,
            bounds: "from 0 to 1",
        });
    }
    let groups = descent.groups;
    for (name, _) in &config.widths {
        if groups.find(name).is_none() {
            let group = name.clone();
            return Err(PruneError::UnknownGroup { group }.into());
        }
    }
    let scores = importance(descent.dense, groups, config.scores.as_ref())?;
    let flags = descent.plan.flags(groups)?;
    let mut plan = Plan::dense(groups);
    plan.removed_blocks.clone_from(&descent.plan.removed_blocks);
    let mut extra = vec![0; groups.groups.len()];
    for (g, entry) in plan.groups.iter_mut().enumerate() {
        let mut stays = flags[g].clone();
        let mut gone: Vec<usize> = (0..stays.len()).filter(|u| !stays[*u]).collect();
        let now = stays.len() - gone.len();
        let named = config.widths.iter().find(|(name, _)| *name == entry.group);
        let width = match named {
            Some((name, width)) if *width < now => {
                return Err(RebuildError::Width {
                    group: name.clone(),
                    n_units: now,
                    wanted: *width,
                });
            }
            Some((_, width)) => *width,
            None => now + (gone.len() as f64 * config.rebuild_rate).round() as usize,
        };
        check_width(width, stays.len())?;
        extra[g] = width.saturating_sub(stays.len());
        let score = |u: usize| scores.groups[g][u];
        gone.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
        for &unit in gone.iter().take(width - now) {
            stays[unit] = true;
        }
        entry.kept = (0..stays.len()).filter(|u| stays[*u]).collect();
    }
    Ok((plan, extra))
}

/// Returns the network with all units, computing what the pruned one does, and its dense indices.
fn grown(
    descent: Descent<'_>,
    plan: &Plan,
    extra: &[usize],
    config: &ReconnectConfig,
) -> Result<(Network, KeptAxes), RebuildError> {
    let (dense, groups) = (descent.dense, descent.groups);
    let had = dry_run(&dense.graph, &dense.facts, groups, descent.plan)?;
    let (graph, report) = apply(&dense.graph, &dense.facts, groups, plan)?;
    let pruned = Network::new(descent.pruned.clone())?;
    let added = |l: &Layer| l.bias.is_some_and(|b| b.index() >= dense.graph.n_values());
    let graph = if pruned.layers.iter().any(added) {
        with_biases(&graph, &Network::new(graph.clone())?.facts)?
    } else {
        graph
    };
    let bigger = merge::merge(
        descent,
        &pruned,
        &Network::new(graph)?,
        (&had, &report.kept),
    )?;
    let kept = kept_axes(&report);
    if extra.iter().all(|n| *n == 0) {
        return Ok((bigger, kept));
    }
    let found = find_groups(&bigger.graph, &bigger.facts)?;
    let mut widths = Vec::new();
    for (group, n) in groups.groups.iter().zip(extra).filter(|(_, n)| **n > 0) {
        let output = group.producers.first().map(|p| p.output);
        let same = found
            .groups
            .iter()
            .find(|g| g.producers.first().map(|p| p.output) == output);
        let Some(same) = same else {
            let group = group.name.clone();
            return Err(PruneError::UnknownGroup { group }.into());
        };
        widths.push((same.name.clone(), same.units.len() + n));
    }
    let options = WidenConfig {
        share: Share::Zero,
        noise: config.noise,
        seed: config.seed,
        ceiling: None,
        scores: None,
    };
    let (wide, _) = widen_by(&bigger, &found, &Widths::Units(widths), &options)?;
    let kept = indices_behind(&kept, &kept_axes(&wide.report));
    Ok((Network::new(wide.graph)?, kept))
}

/// The values made by linear layers that read what came back, and what else reads it.
type Readers = (BTreeSet<ValueId>, Vec<(String, String)>);

fn readers(
    descent: Descent<'_>,
    plan: &Plan,
    extra: &[usize],
    (wide, all): (&Network, bool),
) -> Result<Readers, RebuildError> {
    let flags = descent.plan.flags(descent.groups)?;
    let graph = &descent.dense.graph;
    let mut outputs = BTreeSet::new();
    let mut left = BTreeMap::new();
    for (g, group) in descent.groups.groups.iter().enumerate() {
        let had = flags[g].iter().filter(|stays| **stays).count();
        if plan.groups[g].kept.len() == had && extra[g] == 0 && !all {
            continue;
        }
        for consumer in &group.consumers {
            let Some(output) = graph.node(consumer.node).output(0) else {
                continue;
            };
            if wide.layers.iter().any(|l| l.output == output) {
                outputs.insert(output);
            } else {
                let reason = "no linear layer: what came back is not read yet".to_owned();
                left.insert(graph.node_label(consumer.node), reason);
            }
        }
    }
    Ok((outputs, left.into_iter().collect()))
}

/// What differs in width between two networks with the same values, by the value a layer makes.
fn changes(before: &Network, after: &Network) -> Vec<(ValueId, Change)> {
    let mut all = Vec::new();
    for layer in &after.layers {
        let Some(old) = before.layers.iter().find(|l| l.output == layer.output) else {
            continue;
        };
        let widths = [
            ("output", old.n_out, layer.n_out),
            ("input", old.n_in(), layer.n_in()),
        ];
        let moved = widths.iter().filter(|(_, from, to)| from != to);
        let parts: Vec<String> = moved
            .map(|(side, from, to)| format!("{from} -> {to} {side} channels"))
            .collect();
        if parts.is_empty() {
            continue;
        }
        let change = Change {
            node: after.graph.node_label(layer.node),
            what: parts.join(", "),
            macs: (
                node_macs(&before.graph, &before.facts, old.node),
                node_macs(&after.graph, &after.facts, layer.node),
            ),
            params: (
                node_params(&before.graph, old.node),
                node_params(&after.graph, layer.node),
            ),
            error: None,
        };
        all.push((layer.output, change));
    }
    all.extend(cell_changes(before, after));
    all
}

fn cell_changes(before: &Network, after: &Network) -> Vec<(ValueId, Change)> {
    let mut all = Vec::new();
    for (id, node) in after.graph.nodes() {
        let (Op::Recurrent(new), Some(output)) = (&node.op, node.output(0)) else {
            continue;
        };
        let old_id = super::fit::made(&before.graph, output)
            .then(|| before.graph.producer(output))
            .flatten();
        let Some(old_id) = old_id else { continue };
        let Op::Recurrent(old) = &before.graph.node(old_id).op else {
            continue;
        };
        if old.hidden_size == new.hidden_size {
            continue;
        }
        let change = Change {
            node: after.graph.node_label(id),
            what: format!("{} -> {} hidden units", old.hidden_size, new.hidden_size),
            macs: (
                node_macs(&before.graph, &before.facts, old_id),
                node_macs(&after.graph, &after.facts, id),
            ),
            params: (
                node_params(&before.graph, old_id),
                node_params(&after.graph, id),
            ),
            error: None,
        };
        all.push((output, change));
    }
    all
}
