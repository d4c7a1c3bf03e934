//! Whole residual blocks and widths under one budget: a share of the dense model's time, or a count.
//!
//! Blocks are choices of the same allocation as widths: two levels, there or gone, with the error of
//! the network's output without that block, all else rebuilt in closed form. A group's error is
//! measured with its readers refitted, so the two are in one currency as long as few blocks go:
//! together they cost more than one by one. The rate between blocks and widths is searched: at each
//! rate the allocation gives a plan, which is corrected until the *real* model keeps the budget,
//! rebuilt in closed form on a part of the samples, and judged on others by the network's output. Then
//! single blocks go or come back, the widths follow, and what lowers that error is kept.

mod blocks;
mod meter;
mod search;
mod trial;

use regraft_exec::ExecOptions;
use regraft_graph::cost::Cost;
use regraft_prune::blocks::{RemovableBlock, find_blocks};
use regraft_prune::plan::CostModel;
use regraft_prune::{Groups, Plan};
use serde::{Deserialize, Serialize};

use super::time_model::{TimeModel, TimeParts, TimeTable};
use super::{Limit, WidthCurves};
use crate::bench::LatencyOf;
use crate::latency::{LayerClock, MeasureConfig};
use crate::model::{Model, ModelInput};
use crate::pipeline::RunOptions;
use crate::progress::Progress;
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe};
use meter::{Clock, Counter, Meter};
use search::{Search, Trials};
use trial::{PLAN, Trial};

/// What was measured for a time budget.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TimeSelection {
    /// What the times were measured in.
    pub(crate) runtime: String,
    /// Time of the dense model, milliseconds a batch.
    pub(crate) dense_ms: f64,
    /// Share of it that the plan's model took.
    pub(crate) ratio: f64,
    /// Single layers.
    pub(crate) table: TimeTable,
}

/// What was tried where whole blocks may go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DepthSelection {
    /// Blocks that could go, with the error of the output without each alone, all else rebuilt.
    pub(crate) blocks: Vec<(String, f64)>,
    /// Plans that were rebuilt and judged: blocks gone, share of the cost, error of the output.
    pub(crate) trials: Trials,
    /// What a time budget was met with.
    pub(crate) time: Option<TimeSelection>,
}

/// What the search reads.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) model: &'a Model,
    pub(crate) input: &'a ModelInput,
    pub(crate) samples: &'a Samples,
    pub(crate) recipe: &'a Recipe,
    pub(crate) options: &'a RunOptions,
    pub(crate) exec: ExecOptions,
    pub(crate) progress: &'a dyn Progress,
}

/// Returns the plan that keeps the limit, its cost, and what was tried.
pub(crate) fn select_with_blocks(
    setting: Setting<'_>,
    groups: &Groups,
    may_shrink: &[bool],
    widths: &WidthCurves,
    limit: Limit,
) -> Result<(Plan, Cost, DepthSelection), Error> {
    let Setting { model, .. } = setting;
    let mut blocks = find_blocks(&model.graph, &model.facts);
    blocks.retain(|b| may_go(groups, may_shrink, b));
    setting.progress.stage("depth");
    let errors = blocks::errors(setting, groups, &blocks)?;
    // The clock is opened here, as the meter borrows it.
    let clock;
    let mut runtime = String::new();
    let (meter, target) = match limit {
        Limit::Count(budget) => {
            let costs = CostModel::new(&model.graph, &model.facts, groups);
            // Refuses shares that are none.
            budget.target(costs.dense())?;
            let counter = Counter::new(budget, costs, groups, &widths.removal, &blocks);
            (Meter::Count(counter), budget.share())
        }
        Limit::Time(target) => {
            setting.progress.stage("time table");
            clock = LayerClock::open(&model.graph, 1, setting.options);
            let found = time_meter(setting, groups, widths, &blocks, &clock)?;
            runtime = found.1;
            (Meter::Time(found.0), target)
        }
    };
    let search = Search {
        setting,
        groups,
        widths,
        blocks,
        errors,
        meter,
        target,
        trial: Trial::new(setting, groups, PLAN)?,
    };
    setting.progress.stage("allocate");
    let (best, trials) = search.best()?;
    let (pruned, _) = model.pruned(groups, &best.plan)?;
    let names = search.blocks.iter().map(|b| b.name.clone());
    let blocks = names.zip(search.errors.iter().copied()).collect();
    let time = match &search.meter {
        Meter::Time(clock) => Some(TimeSelection {
            runtime,
            dense_ms: clock.dense_ms,
            ratio: best.share,
            table: clock.times.table.take(),
        }),
        Meter::Count(_) => None,
    };
    let found = DepthSelection {
        blocks,
        trials,
        time,
    };
    Ok((best.plan, meter::cost(&pruned)?, found))
}

/// Measures the dense model and returns its clock, and the runtime in words.
fn time_meter<'a>(
    setting: Setting<'a>,
    groups: &Groups,
    widths: &WidthCurves,
    blocks: &[RemovableBlock],
    clock: &'a LayerClock,
) -> Result<(Clock<'a>, String), Error> {
    let Setting { model, input, .. } = setting;
    let latency = LatencyOf {
        dense: model,
        input,
        samples: Some(&setting.samples.calibration),
        recipe: setting.recipe,
        threads: 1,
        options: setting.options,
    };
    let dense = latency.small(&model.graph, &model.bytes, &MeasureConfig::default())?;
    if let (Some(note), Some(_)) = (&dense.note, &setting.options.onnxruntime) {
        return Err(Error::new(ErrorKind::Input, note.clone())
            .with_hint("leave --onnxruntime out to measure in regraft's own executor"));
    }
    let shape = latency.shape();
    let parts = TimeParts {
        graph: &model.graph,
        groups,
        removal: &widths.removal,
        blocks,
        input: (input.value, &shape),
    };
    let times = TimeModel::new(&parts, clock, dense.dense_ms)?;
    let clock = Clock {
        times,
        latency,
        dense_ms: dense.dense_ms,
    };
    Ok((clock, dense.runtime))
}

/// A block that holds a layer which has to stay whole stays too.
fn may_go(groups: &Groups, may_shrink: &[bool], block: &RemovableBlock) -> bool {
    let producers = groups.groups.iter().zip(may_shrink);
    producers.filter(|(_, may)| !**may).all(|(group, _)| {
        let nodes = group.producers.iter().map(|p| p.node);
        nodes
            .into_iter()
            .all(|n| block.nodes.binary_search(&n).is_err())
    })
}
