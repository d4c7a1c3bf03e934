//! What is limited: a measured time, or a count.

use std::collections::BTreeSet;

use regraft_graph::cost::{Cost, total};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Graph, NodeId};
use regraft_prune::Groups;
use regraft_prune::blocks::RemovableBlock;
use regraft_prune::plan::{Budget, CostModel};

use crate::Error;
use crate::bench::LatencyOf;
use crate::latency::MeasureConfig;
use crate::selection::narrowed;
use crate::selection::time_model::TimeModel;

/// A plan is close enough where its time misses the target by this share: medians of one model differ
/// by as much from one minute to the next.
const CLOSE: f64 = 0.015;

/// The most that a plan may miss a time by: what was promised, 3 %, less what the next measurement
/// may differ by.
const ALLOWED: f64 = 0.02;

/// Enough for a ratio within a few per cent.
const TRIAL_RUNS: MeasureConfig = MeasureConfig {
    runs: 25,
    max_seconds: 8.0,
    warmup: 2,
};

/// The budget of a search.
pub(super) enum Meter<'a> {
    Time(Clock<'a>),
    Count(Counter<'a>),
}

/// Milliseconds of a batch.
pub(super) struct Clock<'a> {
    pub(super) times: TimeModel<'a>,
    pub(super) latency: LatencyOf<'a>,
    pub(super) dense_ms: f64,
}

/// Multiply-accumulates or parameters.
pub(super) struct Counter<'a> {
    budget: Budget,
    costs: CostModel,
    groups: &'a Groups,
    removal: &'a [Vec<usize>],
    /// The nodes of each block.
    blocks: Vec<BTreeSet<NodeId>>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(
        budget: Budget,
        costs: CostModel,
        groups: &'a Groups,
        removal: &'a [Vec<usize>],
        blocks: &[RemovableBlock],
    ) -> Self {
        let nodes = |b: &RemovableBlock| b.nodes.iter().copied().collect();
        Self {
            budget,
            costs,
            groups,
            removal,
            blocks: blocks.iter().map(nodes).collect(),
        }
    }

    fn count(&self, widths: &[usize]) -> f64 {
        let (widths, kept) = widths.split_at(self.groups.groups.len().min(widths.len()));
        let mut state = narrowed(&self.costs, self.groups, self.removal, widths);
        for (block, _) in self.blocks.iter().zip(kept).filter(|(_, kept)| **kept == 0) {
            state.remove_nodes(block);
        }
        self.budget.of(state.cost()) as f64
    }
}

impl Meter<'_> {
    /// Returns the cost of the dense network.
    pub(super) fn dense(&self) -> f64 {
        match self {
            Self::Time(clock) => clock.dense_ms,
            Self::Count(counter) => counter.budget.of(counter.costs.dense()) as f64,
        }
    }

    /// Returns the cost at widths of all groups, followed by 1 or 0 for each block that stays or
    /// goes.
    pub(super) fn at(&self, widths: &[usize]) -> f64 {
        match self {
            Self::Time(clock) => clock.times.ms(widths),
            Self::Count(counter) => counter.count(widths),
        }
    }

    /// Returns the first error of a measurement, which [`Self::at`] could not report.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Time(clock) => clock.times.check(),
            Self::Count(_) => Ok(()),
        }
    }

    /// Returns the share of the dense network's cost that a real model has.
    pub(super) fn share(&self, pruned: &Graph) -> Result<f64, Error> {
        match self {
            Self::Time(clock) => {
                let bytes = regraft_onnx::write_bytes(pruned)?;
                Ok(clock.latency.small(pruned, &bytes, &TRIAL_RUNS)?.ratio)
            }
            Self::Count(counter) => Ok(counter.budget.of(cost(pruned)?) as f64 / self.dense()),
        }
    }

    /// Returns by what share of the target a plan misses it; a count below the target misses nothing.
    ///
    /// A time above the target counts twice: of plans that are as good, one that was timed too fast
    /// by chance is the wider one and has the lower error, so that the best plan of many tends to be
    /// slower than it was measured.
    pub(super) fn miss(&self, share: f64, target: f64) -> f64 {
        let off = share / target - 1.0;
        match self {
            Self::Time(_) if off > 0.0 => 2.0 * off,
            Self::Time(_) => -off,
            Self::Count(_) => off.max(0.0),
        }
    }

    /// Returns the miss at which no correction is tried any more, and the largest one allowed.
    pub(super) fn tolerance(&self) -> (f64, f64) {
        match self {
            Self::Time(_) => (CLOSE, ALLOWED),
            Self::Count(_) => (0.0, 0.0),
        }
    }

    /// Returns what is limited, in words.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Time(_) => "time",
            Self::Count(counter) => counter.budget.what(),
        }
    }
}

/// Returns the counts of a network.
pub(super) fn cost(graph: &Graph) -> Result<Cost, Error> {
    Ok(total(graph, &infer(graph, &InferOptions::default())?))
}
