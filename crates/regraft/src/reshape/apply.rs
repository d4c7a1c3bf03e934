//! Steps on a graph, each measured and kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::cost::packed_size;
use regraft_graph::{Graph, ValueId};
use regraft_prune::Plan;
use regraft_rebuild::output::output_error;
use regraft_rebuild::rebuild::KeptAxes;

use super::edits::Done;
use super::kept_steps::KeptSteps;
use super::step::ReshapeStep;
use crate::model::Model;
use crate::pipeline::{Log, cost_of};
use crate::progress::Progress;
use crate::report::{Change, ReshapeChange, ReshapeFigures};
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe};

/// Largest relative squared change of the output of an edit that keeps the function: 1e-5 squared.
const EXACT: f64 = 1e-10;

/// A network, and what it has of the dense one.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) graph: Graph,
    /// The dense indices of its axes; axes that are not there have them all.
    pub(crate) kept: KeptAxes,
    /// How many weights stay of the layers that edits left with zeros, by the layer's output.
    pub(crate) sparse: BTreeMap<ValueId, usize>,
}

impl Topology {
    /// Returns a network without zeros that are to stay.
    pub(crate) fn new(graph: Graph, kept: KeptAxes) -> Self {
        Self {
            graph,
            kept,
            sparse: BTreeMap::new(),
        }
    }

    /// Returns the network after an edit.
    fn edited(self, done: Done) -> Self {
        let graph = done.edited.graph;
        let mut sparse = self.sparse;
        sparse.extend(done.edited.sparse);
        sparse.retain(|output, _| graph.producer(*output).is_some());
        Self {
            graph,
            kept: done.kept,
            sparse,
        }
    }
}

/// What steps work with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The dense network.
    pub(crate) teacher: &'a Model,
    /// What is left of it before the first step; `None` where that cannot be told.
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) samples: &'a Samples,
    pub(crate) recipe: &'a Recipe,
    pub(crate) exec: ExecOptions,
}

/// A network after all steps.
pub(crate) struct Reshaped {
    pub(crate) topology: Topology,
    pub(crate) steps: Vec<ReshapeFigures>,
}

impl Reshaped {
    /// Returns true if there were steps and none changed what the network computes: nothing is to be
    /// mended then.
    pub(crate) fn keeps_function(&self) -> bool {
        let keeps = |s: &ReshapeFigures| s.exact || s.changes.is_empty();
        !self.steps.is_empty() && self.steps.iter().all(keeps)
    }
}

/// Checks that no step comes behind one that must be last, and that the last ones do not undo each other.
///
/// # Errors
/// [`ErrorKind::Usage`] naming it.
pub(crate) fn check_order(steps: &[ReshapeStep]) -> Result<(), Error> {
    let first = steps
        .iter()
        .position(ReshapeStep::is_last)
        .unwrap_or(steps.len());
    let last = &steps[first..];
    let mixed = last.iter().any(|s| s.name() != steps[first].name());
    if mixed && last.iter().all(ReshapeStep::is_last) && !last.iter().all(ReshapeStep::is_bounded) {
        return Err(Error::usage(
            "share and tie with `kernels` undo each other where both change a layer",
        )
        .with_hint("say with `only` which layers each of them takes"));
    }
    match last.iter().find(|s| !s.is_last()) {
        None => Ok(()),
        Some(step) => Err(Error::usage(format!(
            "{} cannot come behind {}: it changes weights",
            step.name(),
            steps[first].name()
        ))
        .with_hint("put it first")),
    }
}

/// Reasons that an error shows at most.
const SHOWN: usize = 3;

/// The error of an edit that finds no place.
fn nothing_to_edit(step: &ReshapeStep, figures: &ReshapeFigures) -> Error {
    // One node for each reason.
    let mut said = BTreeMap::new();
    for (node, why) in &figures.left {
        said.entry(why).or_insert(node);
    }
    let reasons = said.iter().take(SHOWN);
    let reasons: Vec<String> = reasons
        .map(|(why, node)| format!("`{node}`: {why}"))
        .collect();
    let colon = if reasons.is_empty() { "" } else { ": " };
    Error::new(
        ErrorKind::Model,
        format!(
            "{} finds nothing to change in this network{colon}{}",
            step.name(),
            reasons.join(", ")
        ),
    )
    .with_hint("docs/topology.md says which layers each edit takes")
}

impl Context<'_> {
    /// Applies the recipe's steps in order, but for those after the rebuild.
    pub(crate) fn apply(
        &self,
        start: Topology,
        kept: KeptSteps<'_>,
        log: &Log<'_>,
    ) -> Result<Reshaped, Error> {
        self.applied(start, kept, log, |s| !s.is_last() && !s.is_of_connections())
    }

    /// Applies the recipe's steps that come after the rebuild.
    pub(crate) fn apply_last(
        &self,
        start: Topology,
        kept: KeptSteps<'_>,
        log: &Log<'_>,
    ) -> Result<Reshaped, Error> {
        self.applied(start, kept, log, ReshapeStep::is_last)
    }

    fn applied(
        &self,
        mut topology: Topology,
        kept: KeptSteps<'_>,
        log: &Log<'_>,
        wanted: impl Fn(&ReshapeStep) -> bool,
    ) -> Result<Reshaped, Error> {
        let mut steps = Vec::new();
        let numbered = self.recipe.reshape.iter().enumerate();
        for (at, step) in numbered.filter(|(_, s)| wanted(s)) {
            log.stage(step.name());
            if let Some(found) = kept.find(at + 1)? {
                log.note("  done by an earlier run");
                topology = found.topology;
                steps.extend(found.figures);
                continue;
            }
            if step.is_last() {
                kept.keep_before(at + 1, &topology.graph)?;
            }
            let (step, places) = match step.by_gain() {
                Some(max_macs) => {
                    let (step, places) = self.placed(&topology, step, max_macs, log)?;
                    (Cow::Owned(step), places)
                }
                None => (Cow::Borrowed(step), Vec::new()),
            };
            let step = step.as_ref();
            let done = self.edit(&topology, step, log)?;
            log.check()?;
            let figures = ReshapeFigures {
                places,
                ..self.measure(&topology.graph, step, &done)?
            };
            log.note(&format!("  {}", figures.in_words()));
            if figures.changes.is_empty() && step.adds_always() {
                return Err(nothing_to_edit(step, &figures));
            }
            if figures.changes.is_empty() {
                log.warn(format!("{}: nothing was changed", step.name()));
            }
            topology = topology.edited(done);
            kept.keep(at + 1, &topology, Some(&figures), None)?;
            steps.push(figures);
        }
        Ok(Reshaped { topology, steps })
    }

    /// Compares the network with the one before, and says what the step did.
    fn measure(
        &self,
        before: &Graph,
        step: &ReshapeStep,
        done: &Done,
    ) -> Result<ReshapeFigures, Error> {
        let edited = &done.edited;
        let feeds = self.samples.held_out_feeds();
        let error = output_error(&edited.graph, before, &feeds, self.exec)?;
        if edited.exact && (error.is_nan() || error > EXACT) {
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
        let (old, new) = (cost_of(before)?, cost_of(&edited.graph)?);
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
            places: Vec::new(),
            bytes: done.bytes,
            packed: step
                .counts_bytes()
                .then(|| Change::new(packed_size(before), packed_size(&edited.graph))),
        })
    }
}
