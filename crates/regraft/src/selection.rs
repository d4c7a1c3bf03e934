//! From a budget to a plan: orders and error curves of all groups, then widths under the budget.

mod by_weights;
mod depth;
mod time_model;

use regraft_graph::cost::Cost;
use regraft_prune::plan::{Budget, ChooseOptions, CostModel, CostState};
use regraft_prune::score::{Normalize, Score, Scores, score};
use regraft_prune::{Groups, Plan};
use regraft_rebuild::calibrate::{CalibrateConfig, Calibration, calibrate};
use regraft_rebuild::sensitivity::{GroupSensitivity, SensitivityConfig, sensitivities};
use regraft_rebuild::{Layer, find_layers};
use regraft_solve::allocate::{AllocateConfig, GroupCurve, allocate};

use crate::model::{Model, ModelInput};
use crate::pipeline::{RunOptions, Stages};
use crate::progress::{Adapter, Progress};
use crate::recipe::ScoreName;
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe};
pub(crate) use by_weights::{check_without_data, select_by_weights};
pub(crate) use depth::{DepthSelection, TimeSelection};
use depth::{Setting, select_with_blocks};

/// Rows of each layer's Gram when the order of removal is decided.
const ORDER_ROWS: usize = 100_000;

/// Chunks on which the network's output is measured with one group pruned.
const MEASURED_CHUNKS: usize = 2;

/// Least share of a group's channels that stays, so that no layer becomes a bottleneck.
const MIN_KEEP_RATIO: f64 = 0.1;

/// What was decided, and what it was decided on.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) groups: Groups,
    pub(crate) plan: Plan,
    pub(crate) sensitivities: Vec<Option<GroupSensitivity>>,
    /// Score of a kind that some groups could not have, and what they got.
    pub(crate) fallbacks: Vec<String>,
    /// Costs of the plan as the cost model counts them.
    pub(crate) cost: Cost,
    /// What was tried where whole blocks may go.
    pub(crate) depth: Option<DepthSelection>,
}

/// What a recipe limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    /// A count, which is known before anything is removed.
    Count(Budget),
    /// A share of the dense model's measured time.
    Time(f64),
}

impl Limit {
    /// Returns true if nothing has to go.
    fn keeps_all(self) -> bool {
        match self {
            Self::Count(Budget::Macs(share) | Budget::Params(share)) | Self::Time(share) => {
                share >= 1.0
            }
            Self::Count(_) => false,
        }
    }
}

/// Returns the budget of a recipe.
pub(crate) fn limit(recipe: &Recipe) -> Result<Limit, Error> {
    match (recipe.macs, recipe.params, recipe.latency) {
        (Some(share), None, None) => Ok(Limit::Count(Budget::Macs(share))),
        (None, Some(share), None) => Ok(Limit::Count(Budget::Params(share))),
        (None, None, Some(share)) => Ok(Limit::Time(share)),
        (None, None, None) => Err(Error::usage("no budget is given").with_hint(
            "say how much of the model to keep: --macs 0.5, --params 0.5 or --latency 0.6",
        )),
        _ => Err(one_budget()),
    }
}

/// More than one budget was given.
pub(crate) fn one_budget() -> Error {
    Error::usage("only one of `macs`, `params` and `latency` can be given")
}

/// Returns the plan that meets the recipe's budget with the least estimated error.
pub(crate) fn select(
    model: &Model,
    input: &ModelInput,
    samples: &Samples,
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Selection, Error> {
    let exec = Stages::exec(recipe);
    let limit = limit(recipe)?;
    let groups = model.groups()?;
    // Keeping everything is possible in any network.
    let keeps_all = limit.keeps_all();
    if !keeps_all {
        nothing_prunable(&groups)?;
    }
    // A pattern that fits nothing is found before the long work.
    let patterns = ChooseOptions {
        ignore: recipe.ignore.clone(),
        only: recipe.only.clone(),
        ..ChooseOptions::default()
    };
    let selected = patterns.selected(&model.graph, &groups)?;
    let layers = find_layers(&model.graph, &model.facts);
    let monitor = Adapter::new(progress);
    progress.stage("calibrate");
    let config = CalibrateConfig {
        max_rows: ORDER_ROWS,
        exec,
    };
    let feeds = samples.fit_feeds(usize::MAX);
    let calibration = calibrate(
        &model.graph,
        &model.facts,
        &layers,
        &feeds,
        config,
        &monitor,
    )?;
    progress.stage("sensitivity");
    let (orders, fallbacks) = orders(model, &groups, &layers, &calibration, recipe)?;
    let config = SensitivityConfig {
        orders,
        multiple_of: recipe.multiple_of,
        exec,
    };
    let feeds = samples.fit_feeds(MEASURED_CHUNKS);
    let sensitivities = sensitivities(
        &model.graph,
        &layers,
        &groups,
        &calibration,
        &feeds,
        &config,
        &monitor,
    )?;
    let curves = width_curves(&groups, &selected.0, &sensitivities);
    let (plan, cost, depth) = match limit {
        // A budget that removes nothing changes nothing, whatever a clock says.
        _ if keeps_all => (Plan::dense(&groups), model.cost(), None),
        Limit::Count(budget) if !recipe.depth => {
            progress.stage("allocate");
            let (plan, cost) = widths(model, &groups, &curves, budget, recipe)?;
            (plan, cost, None)
        }
        limit => {
            let setting = Setting {
                model,
                input,
                samples,
                recipe,
                options,
                exec,
                progress,
            };
            let (plan, cost, depth) =
                select_with_blocks(setting, &groups, &selected.0, &curves, limit)?;
            (plan, cost, Some(depth))
        }
    };
    Ok(Selection {
        groups,
        plan,
        sensitivities,
        fallbacks,
        cost,
        depth,
    })
}

/// A network with nothing to prune ends here, with the reasons.
pub(crate) fn nothing_prunable(groups: &Groups) -> Result<(), Error> {
    if groups.groups.iter().any(|g| g.n_free() > 1) {
        return Ok(());
    }
    let reasons: Vec<String> = groups
        .frozen
        .iter()
        .map(|f| format!("{}: {}", f.group, f.reason))
        .collect();
    Err(
        Error::new(ErrorKind::Model, "nothing in this network can be pruned").with_hint(
            if reasons.is_empty() {
                "it has no channels".to_owned()
            } else {
                reasons.join("\n      ")
            },
        ),
    )
}

type Orders = Option<Vec<Vec<usize>>>;

/// Orders of removal for scores other than structured OBS: cheapest first.
fn orders(
    model: &Model,
    groups: &Groups,
    layers: &[Layer],
    calibration: &Calibration,
    recipe: &Recipe,
) -> Result<(Orders, Vec<String>), Error> {
    let kind = match recipe.score {
        ScoreName::Obs => return Ok((None, Vec::new())),
        ScoreName::L1 => Score::L1,
        ScoreName::L2 => Score::L2,
        ScoreName::BatchNorm => Score::BatchNormScale,
        ScoreName::Activation => {
            let energies = layers
                .iter()
                .filter_map(|l| Some((l.input, calibration.channel_energy(l)?)));
            Score::ActivationEnergy(energies.collect())
        }
        ScoreName::Random => Score::Random { seed: recipe.seed },
    };
    let scores: Scores = score(&model.graph, groups, &kind, Normalize::default())?;
    let orders = scores.removal_order(groups);
    Ok((Some(orders), scores.fallbacks))
}

/// What the width of each group costs, and the order in which its units go.
#[derive(Debug)]
pub(crate) struct WidthCurves {
    curves: Vec<GroupCurve>,
    removal: Vec<Vec<usize>>,
}

fn width_curves(
    groups: &Groups,
    may_shrink: &[bool],
    sensitivities: &[Option<GroupSensitivity>],
) -> WidthCurves {
    let mut curves = Vec::new();
    let mut removal = Vec::new();
    for ((group, sensitivity), may) in groups.groups.iter().zip(sensitivities).zip(may_shrink) {
        let n = group.units.len();
        if let Some(s) = sensitivity.as_ref().filter(|_| *may) {
            let least = ((n as f64 * MIN_KEEP_RATIO).ceil() as usize)
                .max(s.min_kept)
                .max(1);
            curves.push(GroupCurve {
                errors: s.errors.clone(),
                min_kept: least.min(n),
                max_kept: n,
                unit_width: group.unit_width,
            });
            removal.push(s.order.clone());
        } else {
            curves.push(GroupCurve {
                errors: vec![0.0; n + 1],
                min_kept: n,
                max_kept: n,
                unit_width: group.unit_width,
            });
            removal.push(Vec::new());
        }
    }
    WidthCurves { curves, removal }
}

/// Returns the cost with each group at its width, the first units of its order gone.
fn narrowed<'a>(
    costs: &'a CostModel,
    groups: &Groups,
    removal: &[Vec<usize>],
    widths: &[usize],
) -> CostState<'a> {
    let mut state = costs.start();
    for (g, &width) in widths.iter().enumerate() {
        let gone = groups.groups[g].units.len().saturating_sub(width);
        for &unit in removal[g].iter().take(gone) {
            state.remove(g, unit);
        }
    }
    state
}

fn widths(
    model: &Model,
    groups: &Groups,
    WidthCurves { curves, removal }: &WidthCurves,
    budget: Budget,
    recipe: &Recipe,
) -> Result<(Plan, Cost), Error> {
    let cost_model = CostModel::new(&model.graph, &model.facts, groups);
    let dense = cost_model.dense();
    let target = budget.target(dense)?;
    let cost_of = |widths: &[usize]| {
        let state = narrowed(&cost_model, groups, removal, widths);
        budget.of(state.cost()) as f64
    };
    let config = AllocateConfig {
        multiple_of: recipe.multiple_of,
        ..AllocateConfig::default()
    };
    let found = allocate(curves, &cost_of, target as f64, config)?;
    if !found.within_budget {
        let reached = found.cost / budget.of(dense).max(1) as f64;
        return Err(Error::new(
            ErrorKind::Model,
            format!("the budget cannot be reached: with every group at its narrowest {reached:.3} of the model stays"),
        )
        .with_hint("keep more, lower --multiple-of, or look at the frozen groups with `regraft inspect`"));
    }
    let plan = Plan::from_widths(groups, &found.widths, removal)?;
    let cost = cost_model.evaluate(groups, &plan)?;
    Ok((plan, cost))
}
