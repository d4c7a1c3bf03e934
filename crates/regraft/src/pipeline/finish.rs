//! The end of a run: the small model's file, latency, and the report in its three forms.

use std::path::{Path, PathBuf};

use regraft_exec::ExecOptions;
use regraft_graph::cost::{Cost, node_macs, total};
use regraft_graph::{Graph, NodeId};
use regraft_prune::{Group, Plan};
use regraft_rebuild::rebuild::Rebuilt;
use regraft_rebuild::without_all_states;
use regraft_train::trained;

use super::layers::layers;
use super::shrink::facts_of;
use super::{Files, Log, Outcome, RunOptions};
use crate::bench::LatencyOf;
use crate::latency::{Latency, MeasureConfig};
use crate::model::{Model, ModelInput};
use crate::plan_file::PlanFile;
use crate::progress::Progress;
use crate::report::{
    AllocationFigures, BlockFigures, BlockRemoval, BudgetInfo, CarriedFigures, Change, DataInfo,
    DepthFigures, Fallback, FrozenGroup, FusionFigures, GraphDrawing, GroupFigures, LatencyFigures,
    LayerTime, Metrics, ModelFigures, ModelInfo, PlanTrial, PruneStep, PrunedFigures,
    RegrowthFigures, Report, ReshapeFigures, SensitivityPoint, TimeBudget, TopologyFigures,
    VerifyFigures, WeightCount,
};
use crate::samples::Samples;
use crate::selection::{DepthSelection, Selection, TimeSelection};
use crate::storage::{peak_rss_bytes, write_atomic};
use crate::{Error, Recipe, ReshapeStep};

/// Quality of the three models.
pub(crate) struct Judged {
    pub(crate) dense: Metrics,
    pub(crate) pruned: Metrics,
    pub(crate) small: Metrics,
}

/// Everything the report is made of.
pub(crate) struct Parts<'a> {
    pub(crate) model: &'a Model,
    pub(crate) selection: Option<&'a Selection>,
    pub(crate) rebuilt: &'a Rebuilt,
    pub(crate) judged: Option<Judged>,
    pub(crate) verify: Option<VerifyFigures>,
    pub(crate) samples: &'a Samples,
    pub(crate) input: &'a ModelInput,
    pub(crate) recipe: &'a Recipe,
    pub(crate) exec: ExecOptions,
    pub(crate) allocation: Option<&'a AllocationFigures>,
    pub(crate) regrowth: Option<&'a RegrowthFigures>,
    pub(crate) prune_steps: &'a [PruneStep],
    pub(crate) carried: Option<CarriedFigures>,
    pub(crate) reshape: &'a [ReshapeFigures],
    pub(crate) topology: Option<TopologyFigures>,
    pub(crate) fusion: Option<FusionFigures>,
    pub(crate) drawing: Option<GraphDrawing>,
}

/// Writes the model and its report.
pub(crate) fn finish(
    parts: &Parts<'_>,
    files: &Files,
    options: &RunOptions,
    log: &Log<'_>,
) -> Result<Outcome, Error> {
    let channels = match parts.selection {
        Some(selection) => Channels::Of(&selection.plan),
        None if keeps_channels(parts) => Channels::AsGiven,
        None => Channels::Others,
    };
    let small = metadata(&parts.rebuilt.graph, parts.model, parts.recipe, channels)?;
    let bytes = regraft_onnx::write_bytes(&small)?;
    log.stage("latency");
    let latency = measure(parts, &bytes, options, log);
    log.check()?;
    log.stage("write");
    let mut report = report(parts, &small, bytes.len(), options, log)?;
    report.latency = latency;
    speed_warning(&mut report);
    zeros_warning(&mut report, parts.recipe);
    report.output = Some(files.model.display().to_string());
    report.stages = log.finish();
    report.peak_rss_bytes = peak_rss_bytes();
    let mut set = vec![
        (&files.recipe, parts.recipe.to_toml()?.into_bytes()),
        (&files.report_json, report.to_json()?.into_bytes()),
        (&files.report_md, report.to_markdown().into_bytes()),
        (&files.report_html, report.to_html().into_bytes()),
    ];
    if let (Some(path), Some(selection)) = (&files.plan, parts.selection) {
        let plan =
            PlanFile::from_plan(&selection.plan).with_costs(parts.model.cost(), selection.cost);
        set.push((path, plan.to_toml()?.into_bytes()));
    }
    // Last, so that a model never lies there without its report.
    set.push((&files.model, bytes));
    write_all(&set)?;
    Ok(Outcome {
        report,
        files: files.clone(),
    })
}

/// True if the network that is written has the channels of the one that was given.
fn keeps_channels(parts: &Parts<'_>) -> bool {
    let is_given = parts.topology.as_ref().is_none_or(|t| t.chosen == 0);
    is_given && parts.recipe.reshape.iter().all(ReshapeStep::keeps_channels)
}

/// Writes a set of files; where one cannot be written, those that were not there before are gone.
pub(crate) fn write_all(set: &[(&PathBuf, Vec<u8>)]) -> Result<(), Error> {
    let mut made: Vec<&Path> = Vec::new();
    for (path, bytes) in set {
        let is_new = !path.exists();
        if let Err(error) = write_atomic(path, bytes) {
            for path in made {
                // The first error is the one to report.
                let _ = std::fs::remove_file(path);
            }
            return Err(error.into());
        }
        if is_new {
            made.push(path);
        }
    }
    Ok(())
}

/// Key of the dense network's digest.
pub(crate) const BASE: &str = "regraft.base_sha256";

/// Key of the plan that says which channels of the dense network are there.
pub(crate) const PLAN: &str = "regraft.plan";

/// Which channels of the dense network a written one has.
#[derive(Clone, Copy)]
pub(crate) enum Channels<'a> {
    /// Those of the file that was read: a plan in it stays true if it speaks of the same dense network.
    AsGiven,
    /// Those of a plan, which the metadata then say, so that a rebuild knows them however weights change.
    Of(&'a Plan),
    /// Others, that edits made.
    Others,
}

/// Returns the graph with what was done written into its metadata.
pub(crate) fn metadata(
    graph: &Graph,
    model: &Model,
    recipe: &Recipe,
    channels: Channels<'_>,
) -> Result<Graph, Error> {
    let mut edit = graph.edit();
    without_all_states(graph, &mut edit);
    let entry = |key: &str| graph.header().metadata.iter().find(|(k, _)| k == key);
    let same_base = entry(BASE).is_some_and(|(_, base)| *base == model.sha256);
    // A pruned network that was worked on without its dense one still descends from that.
    let is_own = graph.header().metadata == model.graph.header().metadata;
    let has_base = is_own && entry(BASE).is_some();
    let descends = is_own && entry(PLAN).is_some() && matches!(channels, Channels::AsGiven);
    match channels {
        Channels::AsGiven if same_base || descends => {}
        Channels::AsGiven | Channels::Others => edit.remove_metadata(PLAN),
        Channels::Of(plan) => edit.set_metadata(PLAN, &PlanFile::from_plan(plan).to_toml()?),
    }
    edit.set_metadata("regraft.version", env!("CARGO_PKG_VERSION"));
    if !has_base {
        edit.set_metadata(BASE, &model.sha256);
    }
    let edits: Vec<&str> = recipe.reshape.iter().map(ReshapeStep::name).collect();
    let budget = match (recipe.macs, recipe.params, recipe.latency) {
        (Some(share), _, _) => format!("macs {share}"),
        (None, Some(share), _) => format!("params {share}"),
        (None, None, Some(share)) => format!("latency {share}"),
        (None, None, None) if !edits.is_empty() => format!("reshaped: {}", edits.join(", ")),
        (None, None, None) => "given by a plan".to_owned(),
    };
    edit.set_metadata("regraft.budget", &budget);
    Ok(edit.finish()?)
}

fn measure(
    parts: &Parts<'_>,
    bytes: &[u8],
    options: &RunOptions,
    log: &Log<'_>,
) -> Option<LatencyFigures> {
    let latency_of = LatencyOf {
        dense: parts.model,
        input: parts.input,
        samples: Some(&parts.samples.calibration),
        recipe: parts.recipe,
        threads: 1,
        options,
    };
    match latency_of.small(&parts.rebuilt.graph, bytes, &MeasureConfig::default()) {
        Ok(found) => {
            if let Some(note) = &found.note {
                log.note(note);
                // A library that was asked for by name and not used is something else instead.
                if options.onnxruntime.is_some() {
                    log.fallbacks.borrow_mut().push(Fallback {
                        node: None,
                        what: format!("latency was measured in regraft's own executor: {note}"),
                    });
                }
            }
            Some(figures(&found))
        }
        Err(error) => {
            log.warn(format!("latency could not be measured: {error}"));
            None
        }
    }
}

pub(crate) fn figures(found: &Latency) -> LatencyFigures {
    LatencyFigures {
        runtime: found.runtime.clone(),
        dense_ms: found.dense_ms,
        small_ms: found.small_ms,
        ratio: Some(found.ratio),
        ratio_quartiles: Some([found.ratio_quartiles.lower, found.ratio_quartiles.upper]),
        note: found.note.clone(),
        batch: found.batch,
        threads: found.threads,
        runs: found.runs,
    }
}

/// A runtime that multiplies by zeros gains nothing from them.
fn zeros_warning(report: &mut Report, recipe: &Recipe) {
    let by_edit = report.reshape.iter().any(|step| step.packed.is_some());
    if !recipe.is_sparse() && !by_edit {
        return;
    }
    let measured = report
        .latency
        .as_ref()
        .and_then(|l| Some((l.ratio?, l.runtime.clone())));
    let Some((ratio, runtime)) = measured.filter(|(r, _)| *r > 0.9) else {
        return;
    };
    report.warnings.push(format!(
        "zeros of the pattern `{}` bring no speed in {runtime}: {ratio:.2} of the dense model's time; the file only \
         becomes smaller where it is compressed, and --macs or --latency remove channels, which are faster everywhere",
        recipe.pattern
    ));
}

/// A smaller model that is not faster is worth a word.
fn speed_warning(report: &mut Report) {
    let Some(ratio) = report.latency.as_ref().and_then(|l| l.ratio) else {
        return;
    };
    let macs = report.small.macs as f64 / report.dense.macs.max(1) as f64;
    if ratio > 0.97 && macs < 0.9 {
        report.warnings.push(format!(
            "{:.0} % of the MACs went, but the time is {ratio:.2} of the dense model's: widths that are not \
             multiples of the vector lanes bring little (see --multiple-of), and a model this small spends its \
             time elsewhere",
            (1.0 - macs) * 100.0
        ));
    }
}

fn report(
    parts: &Parts<'_>,
    small: &Graph,
    small_bytes: usize,
    options: &RunOptions,
    log: &Log<'_>,
) -> Result<Report, Error> {
    let facts = facts_of(small)?;
    let mut report = Report::new();
    report.command.clone_from(&options.command);
    report.recipe = Some(parts.recipe.to_toml()?);
    report.seed = parts.recipe.seed;
    report.threads = Some(parts.exec.threads);
    report.device = parts.exec.device.to_string();
    report.model = ModelInfo {
        name: parts.model.name.clone(),
        sha256: Some(parts.model.sha256.clone()),
    };
    report.data = Some(data_info(parts.samples));
    report.budget = budget(parts.recipe);
    report.dense = figures_of(parts.model.cost(), parts.model.bytes.len());
    report.small = figures_of(total(small, &facts), small_bytes);
    report.dense.weights = count_weights(&parts.model.graph);
    report.small.weights = count_weights(small);
    report.allocation = parts
        .allocation
        .filter(|a| !a.candidates.is_empty())
        .cloned();
    report.regrowth = parts.regrowth.cloned();
    report.prune_steps = parts.prune_steps.to_vec();
    report.pruned = Some(PrunedFigures::default());
    if let Some(judged) = &parts.judged {
        report.dense.metrics = Some(judged.dense.clone());
        report.pruned = Some(PrunedFigures {
            metrics: Some(judged.pruned.clone()),
        });
        report.small.metrics = Some(judged.small.clone());
    }
    report.verify.clone_from(&parts.verify);
    report.carried.clone_from(&parts.carried);
    report.reshape = parts.reshape.to_vec();
    report.topology.clone_from(&parts.topology);
    report.fusion.clone_from(&parts.fusion);
    report.drawing.clone_from(&parts.drawing);
    report.layers = layers(parts, small, &facts);
    report.blocks = blocks(parts);
    if let Some(selection) = parts.selection {
        report.groups = groups(parts.model, selection);
        report.frozen = selection.groups.frozen.iter().map(frozen).collect();
        report
            .removed_blocks
            .clone_from(&selection.plan.removed_blocks);
        report.depth = selection.depth.as_ref().map(depth);
        let time = selection.depth.as_ref().and_then(|d| d.time.as_ref());
        report.time_budget = time.map(time_budget);
        for what in &selection.fallbacks {
            report.fallbacks.push(Fallback {
                node: Some(what.clone()),
                what: "no batch normalisation behind it: its channels are ranked by L2 norm"
                    .to_owned(),
            });
        }
    }
    report
        .fallbacks
        .extend(log.fallbacks.borrow().iter().cloned());
    for layer in parts.rebuilt.layers.iter().filter(|l| l.clamped > 0) {
        report.fallbacks.push(Fallback {
            node: Some(layer.node.clone()),
            what: format!(
                "no damping was enough: {} eigenvalues of the Gram were clamped",
                layer.clamped
            ),
        });
    }
    report.warnings.clone_from(&log.warnings.borrow());
    report
        .warnings
        .extend(parts.carried.as_ref().and_then(CarriedFigures::warning));
    for layer in parts.rebuilt.layers.iter().filter(|l| l.swaps_skipped) {
        report.warnings.push(format!(
            "{}: no connections were swapped, the layer is too wide for it",
            layer.node
        ));
    }
    Ok(report)
}

fn data_info(samples: &Samples) -> DataInfo {
    let said = std::iter::once(&samples.description).chain(&samples.remarks);
    DataInfo {
        description: said.cloned().collect::<Vec<_>>().join("; "),
        calibration: samples.n_fit,
        held_out: samples.n_held_out,
        evaluation: samples.n_evaluation(),
    }
}

fn budget(recipe: &Recipe) -> Option<BudgetInfo> {
    if recipe.is_sparse() {
        return sparse_budget(recipe);
    }
    let (of, keep_ratio) = match (recipe.macs, recipe.params, recipe.latency) {
        (Some(share), _, _) => ("macs", share),
        (None, Some(share), _) => ("params", share),
        (None, None, Some(share)) => ("latency", share),
        (None, None, None) => return None,
    };
    let name =
        |v: Result<String, serde_json::Error>| v.ok().map(|s| s.trim_matches('"').to_owned());
    Some(BudgetInfo {
        of: of.to_owned(),
        keep_ratio,
        multiple_of: Some(recipe.multiple_of),
        score: name(serde_json::to_string(&recipe.score)),
        tune: name(serde_json::to_string(&recipe.tune)),
    })
}

fn sparse_budget(recipe: &Recipe) -> Option<BudgetInfo> {
    let fixed = super::pattern(&recipe.pattern).ok()?.keep_ratio();
    let name =
        |v: Result<String, serde_json::Error>| v.ok().map(|s| s.trim_matches('"').to_owned());
    Some(BudgetInfo {
        of: format!("connections ({})", recipe.pattern),
        keep_ratio: fixed.unwrap_or_else(|| 1.0 - recipe.sparsity.unwrap_or_default()),
        multiple_of: None,
        score: name(serde_json::to_string(&recipe.mask)),
        tune: name(serde_json::to_string(&recipe.tune)),
    })
}

/// Returns nonzero weights and all weights that a product sums over; biases apart.
pub(crate) fn count_weights(graph: &Graph) -> Option<WeightCount> {
    let mut count = WeightCount::default();
    for t in trained(graph).iter().filter(|t| t.is_weight) {
        let data = graph.tensor(t.id)?.as_f32()?;
        count.all += data.len() as u64;
        count.nonzero += data.iter().filter(|w| **w != 0.0).count() as u64;
    }
    Some(count)
}

fn time_budget(time: &TimeSelection) -> TimeBudget {
    let layer = |(layer, ms): (&String, &f64)| LayerTime {
        layer: layer.clone(),
        ms: *ms,
    };
    TimeBudget {
        runtime: time.runtime.clone(),
        dense_ms: time.dense_ms,
        ratio: time.ratio,
        table: time.table.iter().map(layer).collect(),
    }
}

fn depth(depth: &DepthSelection) -> DepthFigures {
    let removal = |(block, error): &(String, f64)| BlockRemoval {
        block: block.clone(),
        error: *error,
    };
    let trial = |&(removed_blocks, ratio, error): &(usize, f64, f64)| PlanTrial {
        removed_blocks,
        ratio,
        error,
    };
    DepthFigures {
        blocks: depth.blocks.iter().map(removal).collect(),
        trials: depth.trials.iter().map(trial).collect(),
    }
}

fn figures_of(cost: Cost, bytes: usize) -> ModelFigures {
    ModelFigures {
        params: cost.params,
        macs: cost.macs,
        bytes: bytes as u64,
        weights: None,
        metrics: None,
    }
}

pub(crate) fn frozen(f: &regraft_prune::Frozen) -> FrozenGroup {
    FrozenGroup {
        group: f.group.clone(),
        reason: f.reason.clone(),
        channels: Some(f.n_channels),
        macs: Some(f.macs),
    }
}

fn blocks(parts: &Parts<'_>) -> Vec<BlockFigures> {
    let block = |b: &regraft_rebuild::rebuild::BlockTuning| BlockFigures {
        name: b.output.clone(),
        steps: b.tuned.steps,
        held_out_before: Some(b.tuned.error_before),
        held_out_after: Some(b.tuned.error_after),
        kept: b.tuned.kept,
    };
    parts.rebuilt.blocks.iter().map(block).collect()
}

fn groups(model: &Model, selection: &Selection) -> Vec<GroupFigures> {
    let all = model.cost().macs.max(1) as f64;
    let kept = |g: &Group| {
        let plan = selection.plan.groups.iter().find(|p| p.group == g.name);
        plan.map_or(g.units.len(), |p| p.kept.len())
    };
    let mut figures = Vec::new();
    for (g, sensitivity) in selection.groups.groups.iter().zip(&selection.sensitivities) {
        if g.n_free() == 0 {
            continue;
        }
        let nodes: Vec<NodeId> = g
            .producers
            .iter()
            .map(|p| p.node)
            .chain(g.consumers.iter().map(|c| c.node))
            .collect();
        let macs: u64 = nodes
            .iter()
            .map(|n| node_macs(&model.graph, &model.facts, *n))
            .sum();
        let point = |(kept, error): &(usize, f64)| SensitivityPoint {
            kept: *kept,
            error: *error,
        };
        let mut curve: Vec<SensitivityPoint> = sensitivity
            .iter()
            .flat_map(|s| s.measured.iter().map(point))
            .collect();
        if !curve.is_empty() {
            curve.push(SensitivityPoint {
                kept: g.units.len(),
                error: 0.0,
            });
        }
        figures.push(GroupFigures {
            name: g.name.clone(),
            channels: Change::new(g.units.len(), kept(g)),
            macs_share: Some(macs as f64 / all),
            sensitivity: curve,
            nodes: nodes.iter().map(|n| model.graph.node_label(*n)).collect(),
        });
    }
    figures
}
