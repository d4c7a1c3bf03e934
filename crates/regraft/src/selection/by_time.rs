//! From a share of the dense model's time to a plan: blocks and widths under one budget.
//!
//! Blocks are choices of the same allocation as widths: two levels, there or gone, with the error
//! that the greedy order of removal gave each. That error is measured with nothing mended, a
//! group's with its readers refitted, so the two are not in one currency. The rate between them is
//! searched: at each rate the allocation gives a plan, which is corrected until the *real* model
//! takes the wanted time, rebuilt in closed form on a part of the samples, and judged on others by
//! the network's output. The best one is the plan.

use std::collections::BTreeSet;

use regraft_exec::ExecOptions;
use regraft_graph::cost::{Cost, total};
use regraft_graph::infer::{InferOptions, infer};
use regraft_prune::blocks::{RemovableBlock, find_blocks};
use regraft_prune::{Groups, Plan};
use regraft_rebuild::Silent;
use regraft_rebuild::depth::{BlockStep, block_order, output_error};
use regraft_rebuild::rebuild::{NoJournal, Pair, RebuildConfig, kept_axes, rebuild};
use regraft_solve::allocate::{AllocateConfig, GroupCurve, allocate};

use super::time_model::{TimeModel, TimeParts, TimeTable};
use super::{MEASURED_CHUNKS, WidthCurves};
use crate::bench::LatencyOf;
use crate::latency::{LayerClock, MeasureConfig};
use crate::model::{Model, ModelInput};
use crate::pipeline::RunOptions;
use crate::progress::{Adapter, Progress};
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe};

/// A plan is close enough where its time is within this share of the target: medians of one model
/// differ by as much from one minute to the next.
const CLOSE: f64 = 0.015;

/// The most that a plan may miss the target by.
const ALLOWED: f64 = 0.03;

/// Corrections of the budget at one rate.
const MAX_CORRECTIONS: usize = 6;

/// Factor between rates of exchange that are tried.
const RATE_STEP: f64 = 3.0;

/// Rates tried at most, in both directions together.
const MAX_RATES: usize = 7;

/// Chunks of samples that a plan is rebuilt on to be judged, and that judge it.
const TRIAL_FIT: usize = 6;
const TRIAL_JUDGE: usize = 4;

/// Rows of each layer's refit in a trial.
const TRIAL_ROWS: usize = 60_000;

/// Enough for a ratio within a few per cent.
const TRIAL_RUNS: MeasureConfig = MeasureConfig {
    runs: 25,
    max_seconds: 8.0,
    warmup: 2,
};

/// What was measured for a time budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeSelection {
    /// What the times were measured in.
    pub(crate) runtime: String,
    /// Time of the dense model, milliseconds a batch.
    pub(crate) dense_ms: f64,
    /// Share of it that the plan's model took.
    pub(crate) ratio: f64,
    /// Single layers.
    pub(crate) table: TimeTable,
    /// Blocks that could go, with the error of each in the order of removal.
    pub(crate) blocks: Vec<(String, f64)>,
    /// Plans that were rebuilt and judged: blocks gone, share of the time, error of the output.
    pub(crate) trials: Vec<(usize, f64, f64)>,
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

/// A plan whose model was measured.
struct Candidate {
    widths: Vec<usize>,
    plan: Plan,
    ratio: f64,
}

/// The search at one target.
struct Search<'a> {
    setting: Setting<'a>,
    groups: &'a Groups,
    widths: &'a WidthCurves,
    blocks: Vec<RemovableBlock>,
    steps: Vec<BlockStep>,
    times: TimeModel<'a>,
    latency: LatencyOf<'a>,
    dense_ms: f64,
    target: f64,
}

/// Returns the plan that takes `target` of the dense model's time, its cost, and what was measured.
pub(crate) fn select_by_time(
    setting: Setting<'_>,
    groups: &Groups,
    may_shrink: &[bool],
    widths: &WidthCurves,
    target: f64,
) -> Result<(Plan, Cost, TimeSelection), Error> {
    let Setting { model, input, .. } = setting;
    let mut blocks = find_blocks(&model.graph, &model.facts);
    blocks.retain(|b| may_go(groups, may_shrink, b));
    setting.progress.stage("depth");
    let feeds = setting.samples.fit_feeds(MEASURED_CHUNKS);
    let monitor = Adapter::new(setting.progress);
    let steps = block_order(&model.graph, &blocks, &feeds, setting.exec, &monitor)?;
    setting.progress.stage("time table");
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
    let clock = LayerClock::open(&model.graph, 1, setting.options);
    let shape = latency.shape();
    let parts = TimeParts {
        graph: &model.graph,
        groups,
        removal: &widths.removal,
        blocks: &blocks,
        input: (input.value, &shape),
    };
    let times = TimeModel::new(&parts, &clock, dense.dense_ms)?;
    let search = Search {
        setting,
        groups,
        widths,
        blocks,
        steps,
        times,
        latency,
        dense_ms: dense.dense_ms,
        target,
    };
    setting.progress.stage("allocate");
    let (best, trials) = search.best()?;
    let (pruned, _) = model.pruned(groups, &best.plan)?;
    let cost = total(&pruned, &infer(&pruned, &InferOptions::default())?);
    let name = |s: &BlockStep| Some((search.blocks.get(s.block)?.name.clone(), s.error));
    let found = TimeSelection {
        runtime: dense.runtime,
        dense_ms: dense.dense_ms,
        ratio: best.ratio,
        blocks: search.steps.iter().filter_map(name).collect(),
        trials,
        table: search.times.table.take(),
    };
    Ok((best.plan, cost, found))
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

/// Blocks removed, share of the time and error of each plan that was rebuilt.
type Trials = Vec<(usize, f64, f64)>;

impl Search<'_> {
    /// Tries rates of exchange from 1 outwards while they get better.
    fn best(&self) -> Result<(Candidate, Trials), Error> {
        let mut trials = Vec::new();
        let mut seen: BTreeSet<Vec<usize>> = BTreeSet::new();
        let mut best: Option<(Candidate, f64)> = None;
        let mut nearest = f64::INFINITY;
        for step in [1.0 / RATE_STEP, RATE_STEP] {
            let mut rate = if step < 1.0 { 1.0 } else { RATE_STEP };
            // The error may rise once by chance before it falls on.
            let mut worse = 0;
            while worse < 2 && trials.len() < MAX_RATES && (1e-6..=1e6).contains(&rate) {
                self.go_on()?;
                let candidate = self.at_rate(rate)?;
                rate *= step;
                if (candidate.ratio - self.target).abs() < (nearest - self.target).abs() {
                    nearest = candidate.ratio;
                }
                if self.miss(&candidate) > ALLOWED || !seen.insert(candidate.widths.clone()) {
                    worse += 1;
                    continue;
                }
                let error = self.trial(&candidate)?;
                let gone = candidate.plan.removed_blocks.len();
                self.setting.progress.note(&format!(
                    "{gone} blocks removed: {:.3} of the time, error {error:.4} after a closed-form rebuild",
                    candidate.ratio
                ));
                trials.push((gone, candidate.ratio, error));
                if best.as_ref().is_none_or(|(_, lowest)| error < *lowest) {
                    best = Some((candidate, error));
                    worse = 0;
                } else {
                    worse += 1;
                }
            }
        }
        match best {
            Some((candidate, _)) => Ok((candidate, trials)),
            None => Err(unreachable_target(self.target, nearest)),
        }
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.setting.progress.cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }

    fn miss(&self, candidate: &Candidate) -> f64 {
        (candidate.ratio / self.target - 1.0).abs()
    }

    /// The plan at one rate, its budget corrected until the real model takes the wanted time.
    fn at_rate(&self, rate: f64) -> Result<Candidate, Error> {
        let mut budget = self.target * self.dense_ms;
        let mut nearest: Option<Candidate> = None;
        for _ in 0..MAX_CORRECTIONS {
            self.go_on()?;
            let candidate = self.measured(rate, budget)?;
            let ratio = candidate.ratio;
            let again = nearest
                .as_ref()
                .is_some_and(|n| n.widths == candidate.widths);
            if nearest
                .as_ref()
                .is_none_or(|n| self.miss(&candidate) < self.miss(n))
            {
                nearest = Some(candidate);
            }
            let close = nearest.as_ref().is_some_and(|n| self.miss(n) <= CLOSE);
            if close || again || !(ratio.is_finite() && ratio > 0.0) {
                break;
            }
            budget *= self.target / ratio;
        }
        nearest.ok_or_else(|| unreachable_target(self.target, f64::INFINITY))
    }

    fn measured(&self, rate: f64, budget: f64) -> Result<Candidate, Error> {
        let mut curves = self.widths.curves.clone();
        curves.extend(block_curves(self.blocks.len(), &self.steps, rate));
        let config = AllocateConfig {
            multiple_of: self.setting.recipe.multiple_of,
            look_ahead: 2,
            max_exchanges: 16,
        };
        let found = allocate(&curves, &|w| self.times.ms(w), budget, config)?;
        self.times.check()?;
        let (widths, kept) = found.widths.split_at(self.groups.groups.len());
        let mut plan = Plan::from_widths(self.groups, widths, &self.widths.removal)?;
        let gone = self.blocks.iter().zip(kept).filter(|(_, kept)| **kept == 0);
        plan.removed_blocks = gone.map(|(b, _)| b.name.clone()).collect();
        let Setting { model, .. } = self.setting;
        let (pruned, _) = model.pruned(self.groups, &plan)?;
        let bytes = regraft_onnx::write_bytes(&pruned)?;
        let measured = self.latency.small(&pruned, &bytes, &TRIAL_RUNS)?;
        Ok(Candidate {
            widths: found.widths,
            plan,
            ratio: measured.ratio,
        })
    }

    /// The relative squared error of the output after a closed-form rebuild on a part of the samples.
    fn trial(&self, candidate: &Candidate) -> Result<f64, Error> {
        let Setting { model, samples, .. } = self.setting;
        let (pruned, applied) = model.pruned(self.groups, &candidate.plan)?;
        let kept = kept_axes(&applied);
        let pair = Pair {
            dense: &model.graph,
            teacher: &model.graph,
            pruned: &pruned,
            kept: &kept,
        };
        let n_chunks = samples.calibration.n_chunks();
        let feeds = |from: usize, n: usize| samples.calibration.chunks(from..from + n);
        // The last chunk of the fitted ones decides what is kept; the judges were not seen.
        let n_fit = (TRIAL_FIT + 1).min(n_chunks.saturating_sub(1)).max(2);
        let config = RebuildConfig {
            damping: self.setting.recipe.damping,
            max_rows: TRIAL_ROWS,
            tune: None,
            refit: true,
            held_out_chunks: 1,
            sparsity: None,
            exec: self.setting.exec,
        };
        let rebuilt = rebuild(pair, &feeds(0, n_fit), &config, &NoJournal, &Silent)?;
        let judges = feeds(n_fit.min(n_chunks.saturating_sub(1)), TRIAL_JUDGE);
        Ok(output_error(
            &rebuilt.graph,
            &model.graph,
            &judges,
            self.setting.exec,
        )?)
    }
}

/// Two levels for each block: there without error, gone at what it adds in the order of removal.
fn block_curves(n: usize, steps: &[BlockStep], rate: f64) -> Vec<GroupCurve> {
    let stays = GroupCurve {
        errors: vec![0.0, 0.0],
        min_kept: 1,
        max_kept: 1,
        unit_width: 1,
    };
    let mut curves = vec![stays; n];
    let mut before = 0.0_f64;
    for step in steps {
        let added = (step.error - before).max(0.0);
        before = before.max(step.error);
        if let Some(curve) = curves.get_mut(step.block) {
            curve.errors[0] = added * rate;
            curve.min_kept = 0;
        }
    }
    curves
}

fn unreachable_target(target: f64, nearest: f64) -> Error {
    let found = if nearest.is_finite() {
        format!("the nearest that was found is {nearest:.3}")
    } else {
        "nothing could be measured".to_owned()
    };
    Error::new(
        ErrorKind::Model,
        format!("the time budget of {target} cannot be reached within 3 %: {found}"),
    )
    .with_hint("ask for a share near that one, lower --multiple-of, or look at the frozen groups with `regraft inspect`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cost_what_they_add_in_their_order() {
        let step = |block, error| BlockStep { block, error };
        let steps = [step(2, 0.1), step(0, 0.25), step(3, 0.2)];
        let curves = block_curves(4, &steps, 2.0);
        let found: Vec<(f64, usize)> = curves.iter().map(|c| (c.errors[0], c.min_kept)).collect();
        // Block 3 came out cheaper than those before it alone: it adds nothing. Block 1 stays.
        assert_eq!(found, [(0.3, 0), (0.0, 1), (0.2, 0), (0.0, 0)]);
    }

    #[test]
    fn a_target_out_of_reach_says_what_is_in_reach() {
        let text = unreachable_target(0.1, 0.3456).to_string();
        assert!(text.contains("0.1") && text.contains("0.346"), "{text}");
    }
}
