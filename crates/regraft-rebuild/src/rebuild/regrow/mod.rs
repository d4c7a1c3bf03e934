//! Giving pruned connections back, and moving connections between layers.
//!
//! A first pass without tuning gives masks and weights. On that network, layer after layer, the next
//! additions of every row are priced in the layer's own objective, scaled by what the layer's error
//! does to the network's output; the best of all layers come back, and a second sweep
//! refits every layer on the new masks. Moves are additions paid for by drops elsewhere.
//!
//! Everything is judged by the network's output on held-out samples, without tuning: what is kept
//! has lowered that error.

mod gradient;
mod scales;
mod survey;

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::{Graph, ValueId};
use regraft_solve::sparse::{Criterion, Mask};
use regraft_solve::sparsity::{
    Connection, Exchange, LayerKernels, LayerMarginals, exchange, grow, grow_kernels,
};

use super::{NoJournal, Pair, RebuildConfig, Rebuilt, rebuild};
use crate::output::{outputs, relative_error};
use crate::{Activations, Monitor, RebuildError, Stage};
use survey::{Reach, Surveyed, survey};

/// How much of what was pruned may come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RebuildRate {
    /// This share of the pruned connections.
    Share(f64),
    /// As much as pays: see [`RegrowConfig::price`].
    Auto,
}

/// What ranks the connections that may come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegrowBy {
    /// The exact gain of the layer's objective with the row refitted.
    #[default]
    Gain,
    /// The correlation of the layer's residual with the input.
    Residual,
    /// The gradient of the network's error, as in `RigL` (Evci et al., ICML 2020).
    Gradient,
}

impl RegrowBy {
    /// Returns the name as options spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gain => "gain",
            Self::Residual => "residual",
            Self::Gradient => "gradient",
        }
    }
}

/// What comes back as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegrowUnit {
    /// Single connections.
    #[default]
    Connection,
    /// Whole kernels: all that one output has of one input channel.
    Kernel,
}

/// How to regrow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegrowConfig {
    /// How much.
    pub rate: RebuildRate,
    /// By what.
    pub by: RegrowBy,
    /// In which units.
    pub unit: RegrowUnit,
    /// Rounds of moves between layers before anything grows; a round that does not lower the
    /// held-out error is undone and is the last.
    pub rounds: usize,
    /// For [`RebuildRate::Auto`]: growth goes on while the relative error of the network's output
    /// on held-out samples falls by more than this times the share of all connections added.
    pub price: f64,
}

/// A point more of connections must lower the error by a point.
pub const DEFAULT_PRICE: f64 = 1.0;

/// The steps of [`RebuildRate::Auto`], as shares of the pruned connections.
const AUTO_STEPS: [f64; 6] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5];

/// Connections that one round moves at most, as a share of the kept ones.
const MOVED_SHARE: f64 = 0.05;

/// One change of the masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegrowKind {
    /// The masks as they were found.
    Start,
    /// Connections moved between rows and layers.
    Move,
    /// Connections came back.
    Grow,
}

impl RegrowKind {
    /// Returns the name as reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Move => "move",
            Self::Grow => "grow",
        }
    }
}

/// What one change did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegrowStep {
    /// What was changed.
    pub kind: RegrowKind,
    /// Connections that came back or moved.
    pub changed: usize,
    /// Connections kept afterwards.
    pub connections: usize,
    /// Relative squared error of the network's output on held-out samples, before any tuning.
    pub held_out: f64,
    /// False if the change was undone.
    pub kept: bool,
}

/// One layer before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRegrown {
    /// The node's label.
    pub node: String,
    /// Connections that came.
    pub added: usize,
    /// Connections that went.
    pub dropped: usize,
}

/// The new masks and how they came about.
#[derive(Clone, Debug)]
pub struct Regrown {
    /// What stays, by the layer's output; `n_out × d` each.
    pub masks: BTreeMap<ValueId, Mask>,
    /// The changes in their order, the start first.
    pub steps: Vec<RegrowStep>,
    /// The layers, in graph order.
    pub layers: Vec<LayerRegrown>,
}

/// Masks by the layer's output.
type Masks = BTreeMap<ValueId, Mask>;

/// Prunes as `config.sparsity` says, then moves connections and gives some back.
///
/// The weights come from a rebuild on the masks that are returned ([`super::Sparsity::holding`]).
///
/// # Errors
/// As [`rebuild`]; [`RebuildError::Solve`] where the exact gain is asked for and a layer is too wide.
pub fn regrow(
    pair: Pair<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &RebuildConfig,
    wanted: &RegrowConfig,
    monitor: &dyn Monitor,
) -> Result<Regrown, RebuildError> {
    let plain = RebuildConfig {
        tune: None,
        ..config.clone()
    };
    let first = rebuild(pair, inputs, &plain, &NoJournal, monitor)?;
    let mut search = Search::new(pair, inputs, plain, first, wanted, monitor)?;
    let start = search.masks.clone();
    for _ in 0..wanted.rounds {
        if !search.move_connections()? {
            break;
        }
    }
    let pruned = search.n_pruned();
    match wanted.rate {
        RebuildRate::Share(share) => {
            let n = (share * pruned as f64).round() as usize;
            search.grow_by(n, None)?;
        }
        RebuildRate::Auto => {
            let mut grown = 0;
            for share in AUTO_STEPS {
                let n = (share * pruned as f64).round() as usize;
                if n <= grown {
                    continue;
                }
                if !search.grow_by(n - grown, Some(wanted.price))? {
                    break;
                }
                grown = n;
            }
        }
    }
    Ok(Regrown {
        layers: search.changes(&start),
        masks: search.masks,
        steps: search.steps,
    })
}

/// The masks on their way.
struct Search<'a> {
    pair: Pair<'a>,
    inputs: &'a BTreeMap<ValueId, Activations>,
    config: RebuildConfig,
    by: RegrowBy,
    unit: RegrowUnit,
    monitor: &'a dyn Monitor,
    held_out: HeldOut,
    masks: Masks,
    current: Rebuilt,
    steps: Vec<RegrowStep>,
}

impl<'a> Search<'a> {
    fn new(
        pair: Pair<'a>,
        inputs: &'a BTreeMap<ValueId, Activations>,
        config: RebuildConfig,
        first: Rebuilt,
        wanted: &RegrowConfig,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, RebuildError> {
        let held_out = HeldOut::new(pair.dense, inputs, config.held_out_chunks, config.exec)?;
        let outputs: Vec<ValueId> = config
            .sparsity
            .iter()
            .flat_map(|s| s.kept.keys().copied())
            .collect();
        let masks = survey::masks_of(&first.graph, &outputs)?;
        let mut search = Self {
            pair,
            inputs,
            config,
            by: wanted.by,
            unit: wanted.unit,
            monitor,
            held_out,
            masks,
            current: first,
            steps: Vec::new(),
        };
        let error = search.held_out.error(&search.current.graph)?;
        search.note(RegrowKind::Start, 0, error, true);
        Ok(search)
    }

    fn note(&mut self, kind: RegrowKind, changed: usize, held_out: f64, kept: bool) {
        self.steps.push(RegrowStep {
            kind,
            changed,
            connections: self.n_kept(),
            held_out,
            kept,
        });
    }

    fn n_kept(&self) -> usize {
        self.masks.values().map(Mask::n_kept).sum()
    }

    fn n_all(&self) -> usize {
        self.masks.values().map(|m| m.kept.len()).sum()
    }

    fn n_pruned(&self) -> usize {
        self.n_all() - self.n_kept()
    }

    fn error(&self) -> f64 {
        let kept = self.steps.iter().rev().find(|s| s.kept);
        kept.map_or(f64::INFINITY, |s| s.held_out)
    }

    /// Moves connections once; returns true if that was kept.
    fn move_connections(&mut self) -> Result<bool, RebuildError> {
        let n = (MOVED_SHARE * self.n_kept() as f64).ceil() as usize;
        let surveyed = self.survey(n, n, RegrowBy::Gain)?;
        let found = exchange(&priced(&surveyed), n, 1.0)?;
        if found.added.is_empty() {
            return Ok(false);
        }
        self.attempt(RegrowKind::Move, &surveyed, &found, |before, after| {
            after < before
        })
    }

    /// Gives `n` connections back; with a price only where that pays. Returns true if it was kept.
    fn grow_by(&mut self, n: usize, price: Option<f64>) -> Result<bool, RebuildError> {
        if n == 0 {
            return Ok(false);
        }
        let surveyed = self.survey(n, 0, self.by)?;
        let found = match self.unit {
            RegrowUnit::Connection => grow(&priced(&surveyed), n)?,
            RegrowUnit::Kernel => grow_kernels(&self.kernels(&surveyed), n)?,
        };
        if found.added.is_empty() {
            return Ok(false);
        }
        let share = found.added.len() as f64 / self.n_all().max(1) as f64;
        self.attempt(RegrowKind::Grow, &surveyed, &found, |before, after| {
            price.is_none_or(|p| before - after > p * share)
        })
    }

    fn kernels<'s>(&'s self, surveyed: &'s [Surveyed]) -> Vec<LayerKernels<'s>> {
        let layers = priced(surveyed).into_iter().zip(surveyed);
        let kernels = layers.filter_map(|(layer, s)| {
            Some(LayerKernels {
                layer,
                mask: self.masks.get(&s.output)?,
                taps: s.taps,
            })
        });
        kernels.collect()
    }

    fn survey(
        &self,
        gains: usize,
        costs: usize,
        by: RegrowBy,
    ) -> Result<Vec<Surveyed>, RebuildError> {
        let rows: usize = self.masks.values().map(|m| m.rows).sum();
        // Rows differ: some take many times their share.
        let per_row = |n: usize| (8 * n).div_ceil(rows.max(1)) + usize::from(n > 0) * 2;
        let (gains, costs) = (per_row(gains), per_row(costs));
        let graph = &self.current.graph;
        let pair = Pair {
            pruned: graph,
            ..self.pair
        };
        let criterion = match by {
            RegrowBy::Gain => Criterion::Exact,
            RegrowBy::Residual => Criterion::Correlation,
            RegrowBy::Gradient => {
                return gradient::survey(
                    pair,
                    self.inputs,
                    self.config.held_out_chunks,
                    &self.masks,
                    gains,
                    self.config.exec,
                    self.monitor,
                );
            }
        };
        let reach = Reach {
            criterion,
            gains,
            costs,
        };
        survey(
            pair,
            self.pair.pruned,
            self.inputs,
            &self.config,
            &self.masks,
            reach,
            self.monitor,
        )
    }

    /// Refits on changed masks and keeps them if `pays(error before, error after)`.
    fn attempt<F>(
        &mut self,
        kind: RegrowKind,
        surveyed: &[Surveyed],
        found: &Exchange,
        pays: F,
    ) -> Result<bool, RebuildError>
    where
        F: Fn(f64, f64) -> bool,
    {
        let mut masks = self.masks.clone();
        let mut put = |connections: &[Connection], kept: bool| {
            for (layer, row, input) in connections {
                if let Some(mask) = masks.get_mut(&surveyed[*layer].output) {
                    mask.row_mut(*row)[*input] = kept;
                }
            }
        };
        put(&found.dropped, false);
        put(&found.added, true);
        let config = RebuildConfig {
            sparsity: self
                .config
                .sparsity
                .as_ref()
                .map(|s| s.holding(masks.clone())),
            ..self.config.clone()
        };
        let rebuilt = rebuild(self.pair, self.inputs, &config, &NoJournal, self.monitor)?;
        let error = self.held_out.error(&rebuilt.graph)?;
        let kept = pays(self.error(), error);
        let before = std::mem::replace(&mut self.masks, masks);
        self.note(kind, found.added.len(), error, kept);
        if kept {
            self.current = rebuilt;
        } else {
            self.masks = before;
        }
        Ok(kept)
    }

    fn changes(&self, start: &Masks) -> Vec<LayerRegrown> {
        let graph = &self.current.graph;
        let count = |a: &Mask, b: &Mask| {
            let pairs = a.kept.iter().zip(&b.kept);
            pairs.filter(|(a, b)| **a && !**b).count()
        };
        let change = |(output, now): (&ValueId, &Mask)| {
            let before = start.get(output)?;
            let node = graph.producer(*output)?;
            Some((
                node,
                LayerRegrown {
                    node: graph.node_label(node),
                    added: count(now, before),
                    dropped: count(before, now),
                },
            ))
        };
        let mut layers: Vec<_> = self.masks.iter().filter_map(change).collect();
        layers.sort_by_key(|(node, _)| *node);
        layers.into_iter().map(|(_, layer)| layer).collect()
    }
}

fn priced(surveyed: &[Surveyed]) -> Vec<LayerMarginals<'_>> {
    surveyed
        .iter()
        .map(|s| LayerMarginals {
            marginals: &s.marginals,
            scale: s.scale,
        })
        .collect()
}

/// The held-out samples and what the dense model gives on them.
struct HeldOut {
    inputs: BTreeMap<ValueId, Activations>,
    reference: Vec<HostTensor>,
    exec: ExecOptions,
}

impl HeldOut {
    fn new(
        dense: &Graph,
        inputs: &BTreeMap<ValueId, Activations>,
        held_out_chunks: usize,
        exec: ExecOptions,
    ) -> Result<Self, RebuildError> {
        let last = |a: &Activations| Activations {
            axis: a.axis,
            chunks: a.chunks[a.chunks.len().saturating_sub(held_out_chunks)..].to_vec(),
        };
        let inputs: BTreeMap<ValueId, Activations> =
            inputs.iter().map(|(v, a)| (*v, last(a))).collect();
        let reference = outputs(dense, &inputs, exec)?;
        Ok(Self {
            inputs,
            reference,
            exec,
        })
    }

    fn error(&self, graph: &Graph) -> Result<f64, RebuildError> {
        let found = outputs(graph, &self.inputs, self.exec)?;
        Ok(relative_error(&found, &self.reference))
    }
}

/// Says that a layer is being looked at, or that the caller wants to stop.
fn step(monitor: &dyn Monitor, done: usize, total: usize, what: &str) -> Result<(), RebuildError> {
    monitor.progress(Stage::Regrow, done, total, what);
    if monitor.cancelled() {
        return Err(RebuildError::Interrupted);
    }
    Ok(())
}
