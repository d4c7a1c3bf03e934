//! Moving connections and giving some back, as a recipe asks for it.

use std::collections::BTreeMap;

use regraft_graph::{Graph, ValueId};
use regraft_rebuild::rebuild::regrow::{
    DEFAULT_PRICE, RebuildRate, RegrowBy, RegrowConfig, RegrowKind, RegrowUnit, Regrown, regrow,
};
use regraft_rebuild::rebuild::{Pair, RebuildConfig, Sparsity};
use regraft_rebuild::{Activations, find_layers};
use regraft_solve::sparse::{MAX_INPUTS, Mask};
use serde::{Deserialize, Serialize};

use super::Log;
use super::journal::RunJournal;
use super::shrink::facts_of;
use crate::progress::{Adapter, Progress};
use crate::recipe::{RebuildRateName, RegrowName, RegrowUnitName};
use crate::report::{Fallback, RegrownLayer, RegrowthFigures, RegrowthStep};
use crate::{Error, ErrorKind, Recipe};

/// Returns the sparsity with the masks that moves and growth lead to, and what they did.
pub(crate) fn regrown(
    pair: Pair<'_>,
    feeds: &BTreeMap<ValueId, Activations>,
    config: &RebuildConfig,
    recipe: &Recipe,
    journal: &RunJournal,
    log: &Log<'_>,
) -> Result<(Sparsity, RegrowthFigures), Error> {
    let sparsity = config.sparsity.clone().unwrap_or_default();
    log.stage("regrow");
    let stored = journal.of_target(STORED)?;
    let stored: Option<Stored> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some((masks, figures)) = stored.and_then(|s| s.load(pair.pruned)) {
        return Ok((sparsity.holding(masks), figures));
    }
    let (by, rounds) = search(pair, &sparsity, recipe, log)?;
    let wanted = RegrowConfig {
        rate: match recipe.rebuild_rate {
            None => RebuildRate::Share(0.0),
            Some(RebuildRateName::Share(share)) => RebuildRate::Share(share),
            Some(RebuildRateName::Word(_)) => RebuildRate::Auto,
        },
        by,
        unit: match recipe.regrow_unit {
            RegrowUnitName::Connection => RegrowUnit::Connection,
            RegrowUnitName::Kernel => RegrowUnit::Kernel,
        },
        rounds,
        price: DEFAULT_PRICE,
    };
    let found = regrow(pair, feeds, config, &wanted, &Adapter::new(log))?;
    say(&found, log);
    let figures = figures(&found, wanted.by);
    let stored = Stored::of(pair.pruned, &found.masks, &figures);
    let bytes = serde_json::to_vec(&stored)
        .map_err(|e| Error::new(ErrorKind::Internal, "a stage cannot be stored").because(e))?;
    journal.keep_of_target(STORED, &bytes)?;
    Ok((sparsity.holding(found.masks), figures))
}

/// The name of the stage in the run directory.
const STORED: &str = "regrow/masks";

/// The stage as it is stored: masks as the places of what stays, by the name of the layer's output.
#[derive(Serialize, Deserialize)]
struct Stored {
    figures: RegrowthFigures,
    masks: Vec<(String, usize, usize, Vec<usize>)>,
}

impl Stored {
    fn of(graph: &Graph, masks: &BTreeMap<ValueId, Mask>, figures: &RegrowthFigures) -> Self {
        let places = |m: &Mask| {
            let kept = m.kept.iter().enumerate();
            kept.filter_map(|(i, kept)| kept.then_some(i)).collect()
        };
        let mask =
            |(v, m): (&ValueId, &Mask)| (graph.value(*v).name.clone(), m.rows, m.cols, places(m));
        Self {
            figures: figures.clone(),
            masks: masks.iter().map(mask).collect(),
        }
    }

    fn load(self, graph: &Graph) -> Option<(BTreeMap<ValueId, Mask>, RegrowthFigures)> {
        let mask = |(name, rows, cols, places): (String, usize, usize, Vec<usize>)| {
            let mut kept = vec![false; rows.checked_mul(cols)?];
            for i in places {
                *kept.get_mut(i)? = true;
            }
            let mask = Mask::from_vec(rows, cols, kept).ok()?;
            Some((graph.find_value(&name)?, mask))
        };
        let masks = self.masks.into_iter().map(mask).collect::<Option<_>>()?;
        Some((masks, self.figures))
    }
}

/// What is searched, and for how many rounds connections move. Exact gains take a square matrix for
/// each thread: where a layer is too wide for them nothing moves, connections are ranked by
/// residuals, and the report says so.
fn search(
    pair: Pair<'_>,
    sparsity: &Sparsity,
    recipe: &Recipe,
    log: &Log<'_>,
) -> Result<(RegrowBy, usize), Error> {
    let by = match recipe.regrow {
        RegrowName::Gain => RegrowBy::Gain,
        RegrowName::Residual => RegrowBy::Residual,
        RegrowName::Gradient => RegrowBy::Gradient,
    };
    let layers = find_layers(pair.pruned, &facts_of(pair.pruned)?);
    let mut sparse = layers
        .iter()
        .filter(|l| sparsity.kept.contains_key(&l.output));
    let needed = by == RegrowBy::Gain || recipe.move_rounds > 0;
    let Some(wide) = sparse.find(|l| needed && l.d > MAX_INPUTS) else {
        return Ok((by, recipe.move_rounds));
    };
    log.fallbacks.borrow_mut().push(Fallback {
        node: Some(pair.pruned.node_label(wide.node)),
        what: format!(
            "{} inputs are too many for exact gains: no connections move, and those that come back are ranked by residuals",
            wide.d
        ),
    });
    let by = match by {
        RegrowBy::Gain => RegrowBy::Residual,
        RegrowBy::Residual | RegrowBy::Gradient => by,
    };
    Ok((by, 0))
}

fn say(found: &Regrown, log: &Log<'_>) {
    for step in &found.steps {
        let undone = if step.kept { "" } else { ", undone" };
        let what = match step.kind {
            RegrowKind::Start => "as pruned".to_owned(),
            RegrowKind::Move => format!("{} connections moved", step.changed),
            RegrowKind::Grow => format!("{} connections came back", step.changed),
        };
        log.note(&format!(
            "{what}: held-out error {:.4}{undone}",
            step.held_out
        ));
    }
}

fn figures(found: &Regrown, by: RegrowBy) -> RegrowthFigures {
    let step = |s: &regraft_rebuild::rebuild::regrow::RegrowStep| RegrowthStep {
        kind: s.kind.name().to_owned(),
        changed: s.changed,
        connections: s.connections,
        held_out: s.held_out,
        kept: s.kept,
    };
    RegrowthFigures {
        by: by.name().to_owned(),
        connections: found.masks.values().map(|m| m.kept.len()).sum(),
        steps: found.steps.iter().map(step).collect(),
        layers: found
            .layers
            .iter()
            .filter(|l| l.added + l.dropped > 0)
            .map(|l| RegrownLayer {
                node: l.node.clone(),
                added: l.added,
                dropped: l.dropped,
            })
            .collect(),
    }
}
