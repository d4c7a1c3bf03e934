//! Which groups are worth more units.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::ValueId;
use regraft_prune::{Group, Groups};

use super::{WidenConfig, Widths, widen_by};
use crate::rebuild::{KeptAxes, Pair, indices_behind, kept_axes};
use crate::reshape::fit::{Goal, chunks, fit_layers, held_out_error};
use crate::reshape::gain::{Quiet, Wider, Width, needed, search};
use crate::reshape::{ByGain, FitConfig, Network};
use crate::{Activations, Monitor, RebuildError};

/// How wide a group becomes at most, as a share of its width.
const MOST: f64 = 2.0;

/// A network whose groups get copies of their units.
struct Widening<'a> {
    network: &'a Network,
    groups: &'a Groups,
    pair: Pair<'a>,
    inputs: &'a BTreeMap<ValueId, Activations>,
    config: &'a WidenConfig,
    fit: &'a FitConfig,
    monitor: &'a dyn Monitor,
    /// What linear layers that read a group make.
    readers: BTreeSet<ValueId>,
}

/// Returns the widths of groups that bring a network closest to its teacher within the ceiling, for
/// [`Widths::Units`]. `pair` holds the network as the pruned one.
///
/// New units are copies with noise, as they are when [`widen`](super::widen) makes them; a copy says something new
/// as far as the noise is large.
/// # Errors
/// [`RebuildError::Setting`] without a ceiling, [`RebuildError::TooFewSamples`], and whatever stops a run or a
/// solution.
pub fn widths_by_gain(
    (network, groups): (&Network, &Groups),
    pair: Pair<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    (config, fit): (&WidenConfig, &FitConfig),
    monitor: &dyn Monitor,
) -> Result<ByGain, RebuildError> {
    needed(config.ceiling)?;
    chunks(inputs, fit)?;
    let graph = &network.graph;
    let consumers = groups.groups.iter().flat_map(|g| &g.consumers);
    let outputs = consumers.filter_map(|c| graph.node(c.node).output(0));
    let is_linear = |v: &ValueId| network.layers.iter().any(|l| l.output == *v);
    let widening = Widening {
        network,
        groups,
        pair,
        inputs,
        config,
        fit,
        monitor,
        readers: outputs.filter(is_linear).collect(),
    };
    let width = |group: &Group| Width {
        name: group.name.clone(),
        now: group.units.len(),
        whole: group.units.len(),
        most: (MOST * group.units.len() as f64) as usize,
    };
    let widths = groups.groups.iter().map(width).collect();
    search(&widening, widths, monitor)
}

impl Wider for Widening<'_> {
    fn tried(&self, widths: &[usize]) -> Result<Option<(f64, u64)>, RebuildError> {
        let all = self.groups.groups.iter().zip(widths);
        let wider = all.filter(|(g, width)| **width > g.units.len());
        let wider = Widths::Units(wider.map(|(g, n)| (g.name.clone(), *n)).collect());
        let grown = match widen_by(self.network, self.groups, &wider, self.config) {
            Ok((grown, _)) => grown,
            Err(RebuildError::OverBudget { .. } | RebuildError::Prune(_)) => return Ok(None),
            Err(other) => return Err(other),
        };
        let kept = indices_behind(self.pair.kept, &kept_axes(&grown.report));
        let wide = Network::new(grown.graph)?;
        let none = BTreeMap::new();
        let goal = |kept| Goal {
            teacher: self.pair.teacher,
            kept,
            targets: &none,
        };
        let quiet = Quiet(self.monitor);
        let readers = &self.readers;
        let (graph, _) = fit_layers(&wide, readers, goal(&kept), self.inputs, self.fit, &quiet)?;
        let whole = KeptAxes::new();
        let error = held_out_error(&graph, goal(&whole), self.inputs, self.fit)?;
        Ok(Some((error, wide.cost().macs)))
    }
}
