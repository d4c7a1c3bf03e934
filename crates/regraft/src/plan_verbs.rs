//! `plan` and `apply`: deciding without removing, and removing what a plan says.

use std::fmt::Write as _;

use serde::Serialize;

use crate::evaluate::{metrics, outputs};
use crate::model::Model;
use crate::pipeline::{RunOptions, Stages, metadata};
use crate::plan_file::PlanFile;
use crate::progress::Progress;
use crate::report::{Metrics, ModelFigures, TerminalStyle, VerifyFigures};
use crate::samples::{open_data, prepare};
use crate::storage::write_atomic;
use crate::{Error, Recipe};

/// Decides what to remove under the recipe's budget, and removes nothing; writes the plan where the
/// recipe says so.
///
/// # Errors
/// [`Error`] with its kind.
pub fn plan(
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<PlanFile, Error> {
    recipe.check()?;
    crate::selection::limit(recipe)?;
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    let data = recipe.data.as_deref().ok_or_else(|| {
        Error::usage("no data is given")
            .with_hint("a plan is decided on samples: point --data at some")
    })?;
    if let Some(output) = &recipe.output {
        crate::outputs::check(&[output], &[path], recipe, options)?;
    }
    progress.stage("read");
    let model = Model::open(path, recipe)?;
    let input = model.input()?;
    let samples = prepare(&open_data(data)?, &input, recipe)?;
    let selection = crate::selection::select(&model, &input, &samples, recipe, options, progress)?;
    let plan = PlanFile::from_plan(&selection.plan).with_costs(model.cost(), selection.cost);
    if let Some(output) = &recipe.output {
        write_atomic(output, plan.to_toml()?.as_bytes())?;
    }
    Ok(plan)
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
}

/// Removes what a plan says and writes the pruned model, verified and not rebuilt.
///
/// # Errors
/// [`Error`] with its kind; nothing is written unless the check holds.
pub fn apply(
    recipe: &Recipe,
    plan: &PlanFile,
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
    crate::outputs::check(&[&out], &[path], recipe, options)?;
    progress.stage("read");
    let model = Model::open(path, recipe)?;
    let input = model.input()?;
    let exec = Stages::exec(recipe);
    progress.stage("prune");
    let groups = regraft_prune::find_groups(&model.graph, &model.facts)?;
    let wanted = plan.to_plan()?;
    let (pruned, report) =
        regraft_prune::apply::apply(&model.graph, &model.facts, &groups, &wanted)?;
    progress.stage("verify");
    let real = match &recipe.data {
        Some(data) => Some(prepare(&open_data(data)?, &input, recipe)?),
        None => None,
    };
    let calibration = real.as_ref().map(|s| s.calibration.clone());
    let probe = calibration.unwrap_or_else(|| crate::verify::made_samples(&input));
    let masked = regraft_prune::apply::mask(&model.graph, &groups, &wanted)?;
    let verify = crate::verify::verify(&masked, &pruned, &input, &probe, recipe.seed, exec)?;
    crate::verify::require(&verify)?;
    let quality = |graph| -> Result<Option<Metrics>, Error> {
        let Some(samples) = real.as_ref().filter(|s| s.n_evaluation() > 0) else {
            return Ok(None);
        };
        let found = outputs(graph, input.value, &samples.evaluation, exec)?;
        Ok(Some(metrics(
            &found,
            None,
            samples.labels.as_deref(),
            &samples.class_names,
        )?))
    };
    let (dense_metrics, small_metrics) = (quality(&model.graph)?, quality(&pruned)?);
    let bytes = regraft_onnx::write_bytes(&metadata(&pruned, &model, recipe)?)?;
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
        dense: figures(report.before, model.bytes.len(), dense_metrics),
        small: figures(report.after, bytes.len(), small_metrics),
        verify,
        output: out.display().to_string(),
    })
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
        let difference = self.verify.max_relative_difference.unwrap_or(f64::INFINITY);
        let _ = writeln!(
            out,
            "\nverified: masked = removed, largest relative difference {difference:.1e}"
        );
        out.push_str("not rebuilt: `regraft rebuild` gets accuracy back\n");
        out
    }
}
