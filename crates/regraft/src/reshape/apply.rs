//! Steps on a graph, each measured and kept.

use regraft_exec::ExecOptions;
use regraft_graph::Graph;
use regraft_prune::Plan;
use regraft_rebuild::rebuild::KeptAxes;
use regraft_rebuild::reshape::{Network, output_change};

use super::edits::Done;
use super::step::ReshapeStep;
use crate::model::Model;
use crate::pipeline::Log;
use crate::progress::Progress;
use crate::report::{Change, ReshapeChange, ReshapeFigures};
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe};

/// Largest relative squared change of the output of an edit that keeps the function: 1e-5 squared.
const EXACT: f64 = 1e-10;

/// What steps start from.
pub(crate) struct Start<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) kept: &'a KeptAxes,
    /// The dense network.
    pub(crate) teacher: &'a Model,
    /// What the graph has of it; `None` where that cannot be told.
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) samples: &'a Samples,
    pub(crate) recipe: &'a Recipe,
    pub(crate) exec: ExecOptions,
}

/// A network after all steps.
pub(crate) struct Reshaped {
    pub(crate) graph: Graph,
    pub(crate) kept: KeptAxes,
    pub(crate) steps: Vec<ReshapeFigures>,
}

impl Reshaped {
    /// Returns true if there were steps and none changed what the network computes: nothing is to be
    /// mended then.
    pub(crate) fn keeps_function(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|s| s.exact)
    }
}

/// Returns true for an edit that comes after the rebuild, which would undo it.
fn is_last(step: &ReshapeStep) -> bool {
    matches!(step, ReshapeStep::Share(_))
}

/// Checks that no step comes behind one that must be last.
///
/// # Errors
/// [`ErrorKind::Usage`] naming it.
pub(crate) fn check_order(steps: &[ReshapeStep]) -> Result<(), Error> {
    let first = steps.iter().position(is_last).unwrap_or(steps.len());
    match steps[first..].iter().find(|s| !is_last(s)) {
        None => Ok(()),
        Some(step) => Err(Error::usage(format!(
            "{} cannot come behind {}: it changes weights",
            step.name(),
            steps[first].name()
        ))
        .with_hint("put it first")),
    }
}

/// Applies the recipe's steps in order, but for those after the rebuild.
pub(crate) fn apply(start: &Start<'_>, log: &Log<'_>) -> Result<Reshaped, Error> {
    let steps = start.recipe.reshape.iter().filter(|s| !is_last(s));
    applied(start, steps, log)
}

/// Applies the recipe's steps that come after the rebuild.
pub(crate) fn apply_last(start: &Start<'_>, log: &Log<'_>) -> Result<Reshaped, Error> {
    applied(
        start,
        start.recipe.reshape.iter().filter(|s| is_last(s)),
        log,
    )
}

fn applied<'a>(
    start: &Start<'_>,
    steps: impl Iterator<Item = &'a ReshapeStep>,
    log: &Log<'_>,
) -> Result<Reshaped, Error> {
    let mut state = Reshaped {
        graph: start.graph.clone(),
        kept: start.kept.clone(),
        steps: Vec::new(),
    };
    for step in steps {
        log.stage(step.name());
        let done = start.edit(&state.graph, &state.kept, step, log)?;
        log.check()?;
        let figures = start.measure(&state.graph, step, &done)?;
        log.note(&format!("  {}", figures.in_words()));
        if figures.changes.is_empty() {
            log.warn(format!("{}: nothing was changed", step.name()));
        }
        state.graph = done.edited.graph;
        state.kept = done.kept;
        state.steps.push(figures);
    }
    Ok(state)
}

impl Start<'_> {
    /// Compares the network with the one before, and says what the step did.
    fn measure(
        &self,
        before: &Graph,
        step: &ReshapeStep,
        done: &Done,
    ) -> Result<ReshapeFigures, Error> {
        let edited = &done.edited;
        let feeds = self.samples.held_out_feeds();
        let error = output_change(before, &edited.graph, &feeds, self.exec)?;
        if edited.exact && error > EXACT {
            return Err(Error::new(
                ErrorKind::Verify,
                format!(
                    "{} should keep the function, but the output moved by {:.1e}",
                    step.name(),
                    error.sqrt()
                ),
            )
            .with_hint("this is a bug in regraft; please report it with the network"));
        }
        let old = Network::new(before.clone())?.cost();
        let new = Network::new(edited.graph.clone())?.cost();
        let change = |c: &regraft_rebuild::reshape::Change| ReshapeChange {
            node: c.node.clone(),
            what: c.what.clone(),
            macs: Change::new(c.macs.0, c.macs.1),
            params: Change::new(c.params.0, c.params.1),
            error: c.error,
        };
        Ok(ReshapeFigures {
            edit: step.name().to_owned(),
            exact: edited.exact,
            macs: Change::new(old.macs, new.macs),
            params: Change::new(old.params, new.params),
            output_error: error,
            changes: edited.changes.iter().map(change).collect(),
            left: edited.left.clone(),
            bytes: done.bytes,
        })
    }
}
