//! A plan from the weights alone: no data, and nothing is run.

use regraft_graph::cost::Cost;
use regraft_prune::plan::{Budget, ChooseOptions, CostModel, choose};
use regraft_prune::score::{Normalize, Score, score};
use regraft_prune::{Plan, PruneError};

use super::{Limit, limit, nothing_prunable};
use crate::model::Model;
use crate::progress::Progress;
use crate::recipe::ScoreName;
use crate::{Error, ErrorKind, Recipe};

/// Refuses what needs samples.
///
/// # Errors
/// [`ErrorKind::Usage`] for a score of samples and for a budget of time.
pub(crate) fn check_without_data(recipe: &Recipe) -> Result<(), Error> {
    of_weights(recipe)?;
    if recipe.depth {
        return Err(no_data().with_hint(
            "which blocks can go is seen on samples: point --data at some, or leave --depth out",
        ));
    }
    match limit(recipe)? {
        Limit::Count(_) => Ok(()),
        Limit::Time(_) => Err(no_data()
            .with_hint("a budget of time is met on samples: point --data at some, or use --macs")),
    }
}

/// Returns the plan that meets the recipe's budget by a score of the weights, and what it keeps.
///
/// # Errors
/// [`Error`] with its kind; a budget that cannot be met names the least share that can.
pub(crate) fn select_by_weights(
    model: &Model,
    recipe: &Recipe,
    progress: &dyn Progress,
) -> Result<(Plan, Cost), Error> {
    let kind = of_weights(recipe)?;
    let limit = limit(recipe)?;
    let Limit::Count(budget) = limit else {
        return Err(no_data());
    };
    progress.stage("groups");
    let groups = model.groups()?;
    if limit.keeps_all() {
        return Ok((Plan::dense(&groups), model.cost()));
    }
    nothing_prunable(&groups)?;
    let costs = CostModel::new(&model.graph, &model.facts, &groups);
    if budget.of(costs.dense()) == 0 {
        return Err(Error::new(
            ErrorKind::Model,
            "the multiply-accumulates of this network are not known before it runs",
        )
        .with_hint("use a budget of parameters: --params 0.5"));
    }
    progress.stage("allocate");
    let scores = score(&model.graph, &groups, &kind, Normalize::default())?;
    let options = ChooseOptions {
        multiple_of: recipe.multiple_of,
        ignore: recipe.ignore.clone(),
        only: recipe.only.clone(),
        ..ChooseOptions::default()
    };
    let plan = choose(&model.graph, &groups, &costs, &scores, budget, &options)
        .map_err(|error| out_of_reach(error, budget, costs.dense()))?;
    let cost = costs.evaluate(&groups, &plan)?;
    Ok((plan, cost))
}

fn of_weights(recipe: &Recipe) -> Result<Score, Error> {
    match recipe.score {
        ScoreName::L1 => Ok(Score::L1),
        ScoreName::L2 => Ok(Score::L2),
        ScoreName::BatchNorm => Ok(Score::BatchNormScale),
        ScoreName::Random => Ok(Score::Random { seed: recipe.seed }),
        ScoreName::Obs | ScoreName::Activation => Err(no_data().with_hint(
            "this score is measured on samples: point --data at some, or rank by the weights alone: --score l2",
        )),
    }
}

fn no_data() -> Error {
    Error::usage("no data is given")
}

/// Says what share could be asked for, where the budget cannot be met.
fn out_of_reach(error: PruneError, budget: Budget, dense: Cost) -> Error {
    let PruneError::Budget { reached, .. } = error else {
        return error.into();
    };
    let (what, option) = match budget {
        Budget::Params(_) => ("parameters", "params"),
        _ => ("multiply-accumulates", "macs"),
    };
    // Rounded up, so that asking for it succeeds.
    let least = (reached as f64 / budget.of(dense).max(1) as f64 * 1e4).ceil() / 1e4;
    Error::new(
        ErrorKind::Model,
        format!(
            "the budget cannot be reached: with every group at its narrowest {least:.4} of the {what} stay"
        ),
    )
    .with_hint(format!(
        "ask for no less than --{option} {least:.4}, lower --multiple-of, or look at the frozen groups with `regraft inspect`"
    ))
}
