//! `plan`: deciding without removing.

use regraft_graph::cost::Cost;
use regraft_prune::Plan;

use crate::model::Model;
use crate::pipeline::RunOptions;
use crate::plan_file::PlanFile;
use crate::progress::Progress;
use crate::samples::{open_data, prepare};
use crate::storage::write_atomic;
use crate::{Error, Recipe};

/// Decides what to remove under the recipe's budget, and removes nothing; writes the plan where the
/// recipe says so.
///
/// Without data the recipe's score must be one of the weights alone; the network is not run then,
/// so that it may hold operators that are not run here, and any number of inputs.
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
    if let Some(output) = &recipe.output {
        crate::outputs::check(&[output], &[path], recipe, options)?;
    }
    if recipe.data.is_none() {
        crate::selection::check_without_data(recipe)?;
    }
    progress.stage("read");
    let model = Model::open(path, recipe)?;
    let (chosen, cost) = match recipe.data.as_deref() {
        Some(data) => on_data(&model, data, recipe, options, progress)?,
        None => crate::selection::select_by_weights(&model, recipe, progress)?,
    };
    let plan = PlanFile::from_plan(&chosen).with_costs(model.cost(), cost);
    if let Some(output) = &recipe.output {
        write_atomic(output, plan.to_toml()?.as_bytes())?;
    }
    Ok(plan)
}

fn on_data(
    model: &Model,
    data: &std::path::Path,
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<(Plan, Cost), Error> {
    let input = model.input()?;
    let samples = prepare(&open_data(data, model, &input)?, model, &input, recipe)?;
    let found = crate::selection::select(model, &input, &samples, recipe, options, progress)?;
    Ok((found.plan, found.cost))
}
