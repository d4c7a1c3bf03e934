//! `apply`: removing what a plan says.

use std::fmt::Write as _;
use std::path::PathBuf;

use regraft_graph::Graph;
use regraft_prune::Plan;
use regraft_prune::apply::ApplyReport;
use serde::Serialize;

use crate::evaluate::{metrics, outputs};
use crate::model::{Model, ModelInput};
use crate::pipeline::{Channels, RunOptions, Stages, metadata};
use crate::plan_file::PlanFile;
use crate::progress::Progress;
use crate::report::{Metrics, ModelFigures, TerminalStyle, VerifyFigures};
use crate::samples::{Samples, open_data, prepare};
use crate::storage::write_atomic;
use crate::verify::{Attempts, Networks, Probe, Runtimes, in_any_runtime, read_feeds};
use crate::{Error, Recipe};

/// What `apply` may read and write besides the network and the plan.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// An `.npz` archive with one array for each input, by its name, to verify with; left out:
    /// random tensors by type and shape.
    pub inputs: Option<PathBuf>,
    /// Where the masked dense network goes: what the pruned one is compared with.
    pub masked: Option<PathBuf>,
}

/// What `apply` did.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// Version of regraft.
    pub regraft: String,
    /// The dense model.
    pub dense: ModelFigures,
    /// The pruned model, not rebuilt.
    pub small: ModelFigures,
    /// Masked dense model against physically pruned model.
    pub verify: VerifyFigures,
    /// The pruned model's file.
    pub output: String,
    /// The masked model's file, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked: Option<String>,
}

/// Removes what a plan says and writes the pruned model, verified and not rebuilt.
///
/// With data it is verified on samples and on random inputs like them, in regraft. Without, it is
/// verified on the arrays that `wanted` names, else on random tensors for every input; in ONNX
/// Runtime where `options` names one, or where regraft does not run the network.
///
/// # Errors
/// [`Error`] with its kind; nothing is written unless the check holds.
pub fn apply(
    recipe: &Recipe,
    plan: &PlanFile,
    wanted: &ApplyOptions,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Applied, Error> {
    recipe.check()?;
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    let out = recipe
        .output
        .clone()
        .unwrap_or_else(|| path.with_extension("pruned.onnx"));
    check_files(&out, recipe, wanted, options)?;
    progress.stage("read");
    let model = Model::open(path, recipe)?;
    progress.stage("prune");
    let removed = Removed::new(&model, plan)?;
    let real = match &recipe.data {
        Some(data) => {
            let input = model.input()?;
            let samples = prepare(&open_data(data, &model, &input)?, &model, &input, recipe)?;
            Some((input, samples))
        }
        None => None,
    };
    progress.stage("verify");
    let verify = verified(&model, &removed, real.as_ref(), recipe, wanted, options)?;
    crate::verify::require(&verify)?;
    let quality = |graph| match &real {
        Some((_, samples)) => quality(graph, samples, recipe),
        None => Ok(None),
    };
    let (dense_metrics, small_metrics) = (quality(&model.graph)?, quality(&removed.pruned)?);
    let channels = Channels::Of(&removed.plan);
    let small = metadata(&removed.pruned, &model, recipe, channels)?;
    let bytes = regraft_onnx::write_bytes(&small)?;
    if let Some(path) = &wanted.masked {
        let bytes = regraft_onnx::write_bytes(&metadata(
            &removed.masked,
            &model,
            recipe,
            Channels::AsGiven,
        )?)?;
        write_atomic(path, &bytes)?;
    }
    write_atomic(&out, &bytes)?;
    let figures = |cost: regraft_graph::cost::Cost, bytes: usize, metrics| ModelFigures {
        params: cost.params,
        macs: cost.macs,
        bytes: bytes as u64,
        weights: None,
        metrics,
    };
    Ok(Applied {
        regraft: env!("CARGO_PKG_VERSION").to_owned(),
        dense: figures(removed.report.before, model.bytes.len(), dense_metrics),
        small: figures(removed.report.after, bytes.len(), small_metrics),
        verify,
        output: out.display().to_string(),
        masked: wanted.masked.as_ref().map(|p| p.display().to_string()),
    })
}

/// The two networks that a plan makes of one.
struct Removed {
    plan: Plan,
    masked: Graph,
    pruned: Graph,
    report: ApplyReport,
}

impl Removed {
    fn new(model: &Model, plan: &PlanFile) -> Result<Self, Error> {
        let groups = model.groups()?;
        let wanted = plan.to_plan()?;
        let (pruned, report) = model.pruned(&groups, &wanted)?;
        Ok(Self {
            masked: regraft_prune::apply::mask(&model.graph, &groups, &wanted)?,
            plan: wanted,
            pruned,
            report,
        })
    }
}

/// Refuses files that would be lost, and options that contradict each other.
fn check_files(
    out: &std::path::Path,
    recipe: &Recipe,
    wanted: &ApplyOptions,
    options: &RunOptions,
) -> Result<(), Error> {
    let mut outputs = vec![out];
    if let Some(masked) = wanted.masked.as_deref() {
        if masked == out {
            return Err(Error::usage(
                "the masked and the pruned network cannot go to the same file",
            ));
        }
        outputs.push(masked);
    }
    if wanted.inputs.is_some() && recipe.data.is_some() {
        return Err(Error::usage("only one of `inputs` and `data` can be given"));
    }
    let mut options = options.clone();
    options.inputs.extend(wanted.inputs.clone());
    let models: Vec<&std::path::Path> = recipe.model.as_deref().into_iter().collect();
    crate::outputs::check(&outputs, &models, recipe, &options)
}

fn verified(
    model: &Model,
    removed: &Removed,
    real: Option<&(ModelInput, Samples)>,
    recipe: &Recipe,
    wanted: &ApplyOptions,
    options: &RunOptions,
) -> Result<VerifyFigures, Error> {
    let exec = Stages::exec(recipe);
    let (masked, pruned) = (&removed.masked, &removed.pruned);
    if let Some((input, samples)) = real {
        let samples = &samples.calibration;
        return crate::verify::verify(masked, pruned, input, samples, recipe.seed, exec);
    }
    let probe = match &wanted.inputs {
        Some(path) => Probe::Given(read_feeds(path, &model.graph, &model.facts)?),
        None => Probe::Random(Attempts::new(&model.graph, &model.facts, recipe.seed)),
    };
    let networks = Networks { masked, pruned };
    in_any_runtime(networks, &probe, Runtimes { exec, options })
}

fn quality(graph: &Graph, samples: &Samples, recipe: &Recipe) -> Result<Option<Metrics>, Error> {
    if samples.n_evaluation() == 0 {
        return Ok(None);
    }
    let exec = Stages::exec(recipe);
    let found = outputs(graph, &samples.evaluation, exec)?;
    metrics(&found, None, &samples.truth, &samples.class_names).map(Some)
}

impl Applied {
    /// Returns the lines for the terminal.
    pub fn to_terminal(&self, _style: &TerminalStyle) -> String {
        use crate::inspect::thousands;
        let line = |what: &str, a: u64, b: u64| {
            let share = b as f64 / a.max(1) as f64;
            format!(
                "{what:<11} {:>15} -> {:>15}  {share:>6.3}\n",
                thousands(a),
                thousands(b)
            )
        };
        let mut out = line("parameters", self.dense.params, self.small.params);
        out.push_str(&line("MACs", self.dense.macs, self.small.macs));
        out.push_str(&line("bytes", self.dense.bytes, self.small.bytes));
        let accuracy = |m: &ModelFigures| m.metrics.as_ref().and_then(|m| m.accuracy);
        if let (Some(a), Some(b)) = (accuracy(&self.dense), accuracy(&self.small)) {
            let _ = writeln!(
                out,
                "accuracy    {:>14.2}% -> {:>14.2}%",
                100.0 * a,
                100.0 * b
            );
        }
        let r2 = |m: &ModelFigures| m.metrics.as_ref().and_then(|m| m.r2);
        if let (Some(a), Some(b)) = (r2(&self.dense), r2(&self.small)) {
            let _ = writeln!(out, "R²          {a:>15.4} -> {b:>15.4}");
        }
        let difference = self.verify.max_relative_difference.unwrap_or(f64::INFINITY);
        let runtime = self.verify.runtime.as_deref();
        let _ = writeln!(
            out,
            "\nverified{}: masked = removed, largest relative difference {difference:.1e}",
            runtime.map_or_else(String::new, |r| format!(" in {r}"))
        );
        if let Some(note) = &self.verify.note {
            let clean: String = note.chars().filter(|c| !c.is_control()).collect();
            let _ = writeln!(out, "{clean}");
        }
        out.push_str("not rebuilt: `regraft rebuild` gets accuracy back\n");
        out
    }
}
