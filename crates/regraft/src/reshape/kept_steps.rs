//! Steps in the run directory: where a killed run goes on, and what an edit is undone with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use regraft_graph::Graph;
use regraft_graph::cost::Cost;
use regraft_onnx::Limits;
use regraft_rebuild::rebuild::KeptAxes;
use serde::{Deserialize, Serialize};

use super::apply::Topology;
use crate::inspect::thousands;
use crate::pipeline::{RunJournal, aligned, cost_of};
use crate::report::{ReshapeFigures, TopologyFigures};
use crate::storage::{RunDir, write_atomic};
use crate::{Error, ErrorKind, Recipe, RunOptions};

/// Before the names of all steps.
const STEPS: &str = "reshape/";

/// What else a step leaves besides its network; values by their names.
#[derive(Serialize, Deserialize)]
struct StoredStep {
    /// What the step did; nothing for the network before the first one.
    figures: Option<ReshapeFigures>,
    /// What was tried, where the network before the first step is one of several.
    #[serde(default)]
    trials: Option<TopologyFigures>,
    kept: Vec<(String, usize, Vec<usize>)>,
    sparse: Vec<(String, usize)>,
}

/// A step as it was kept.
pub(crate) struct KeptStep {
    pub(crate) topology: Topology,
    pub(crate) figures: Option<ReshapeFigures>,
    pub(crate) trials: Option<TopologyFigures>,
}

/// The steps of one run. Number 0 is the network before the first step, every other one the network
/// after that step; before number 0 lies what was given, where that is the best of several.
#[derive(Clone, Copy)]
pub(crate) struct KeptSteps<'a> {
    pub(crate) journal: &'a RunJournal,
    pub(crate) teacher: &'a Graph,
}

impl KeptSteps<'_> {
    /// Returns what an earlier run kept of a step.
    pub(crate) fn find(&self, number: usize) -> Result<Option<KeptStep>, Error> {
        let told = self.journal.of_target(&told(number))?;
        let network = self.journal.of_target(&network(number))?;
        let Some((told, network)) = told.zip(network) else {
            return Ok(None);
        };
        let stored: StoredStep = serde_json::from_slice(&told).map_err(damaged)?;
        let graph = regraft_onnx::read_bytes(&network, None, &Limits::default())?;
        let graph = aligned(self.teacher, &graph)?;
        let value = |name: &str| graph.find_value(name);
        let kept = stored.kept.into_iter();
        let kept = kept.filter_map(|(name, axis, list)| Some(((value(&name)?, axis), list)));
        let sparse = stored.sparse.into_iter();
        let sparse: BTreeMap<_, _> = sparse
            .filter_map(|(name, n)| Some((value(&name)?, n)))
            .collect();
        let kept = kept.collect();
        Ok(Some(KeptStep {
            topology: Topology {
                graph,
                kept,
                sparse,
            },
            figures: stored.figures,
            trials: stored.trials,
        }))
    }

    /// Keeps what a step is given that comes after the rebuild, or a choice between topologies.
    pub(crate) fn keep_before(&self, number: usize, graph: &Graph) -> Result<(), Error> {
        if !self.journal.keeps() {
            return Ok(());
        }
        let bytes = regraft_onnx::write_bytes(graph)?;
        self.journal.keep_of_target(&before(number), &bytes)
    }

    /// Keeps the step that gave connections back, which the rebuild did.
    pub(crate) fn keep_reconnected(
        &self,
        number: usize,
        graph: &Graph,
        kept: &KeptAxes,
    ) -> Result<(), Error> {
        let figures = ReshapeFigures {
            edit: "reconnect".to_owned(),
            ..ReshapeFigures::default()
        };
        let grown = Topology::new(graph.clone(), kept.clone());
        self.keep(number, &grown, Some(&figures), None)
    }

    /// Keeps a step; without a run directory nothing is kept.
    pub(crate) fn keep(
        &self,
        number: usize,
        topology: &Topology,
        figures: Option<&ReshapeFigures>,
        trials: Option<&TopologyFigures>,
    ) -> Result<(), Error> {
        if !self.journal.keeps() {
            return Ok(());
        }
        let graph = &topology.graph;
        let name = |v| graph.value(v).name.clone();
        let kept = topology.kept.iter();
        let stored = StoredStep {
            figures: figures.cloned(),
            trials: trials.cloned(),
            kept: kept
                .map(|((v, axis), list)| (name(*v), *axis, list.clone()))
                .collect(),
            sparse: topology
                .sparse
                .iter()
                .map(|(v, n)| (name(*v), *n))
                .collect(),
        };
        let bytes = regraft_onnx::write_bytes(graph)?;
        self.journal.keep_of_target(&network(number), &bytes)?;
        let bytes = serde_json::to_vec(&stored).map_err(damaged)?;
        self.journal.keep_of_target(&told(number), &bytes)
    }
}

fn told(number: usize) -> String {
    format!("{STEPS}{number}/told")
}

fn network(number: usize) -> String {
    format!("{STEPS}{number}/network")
}

fn before(number: usize) -> String {
    format!("{STEPS}{number}/before")
}

fn damaged(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "a step cannot be stored").because(e)
}

/// A network as it was before an edit.
#[derive(Clone, Debug, Serialize)]
pub struct Undone {
    /// Version of regraft.
    pub regraft: String,
    /// The edit that it is the network before, as recipes name it.
    pub edit: String,
    /// Its number, from 1; 0 for the choice between topologies, or connections that came back.
    pub step: usize,
    /// Steps that the run directory has.
    pub steps: usize,
    /// The file.
    pub output: String,
    /// Floating-point parameters.
    pub params: u64,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
}

/// Writes the network as it was before an edit that a run directory keeps: before step `step`, counted
/// from 1, or before the last. Step 0 is the choice of `topology = "auto"`, where there was one.
///
/// Nothing was refitted between the steps, so that this is what the edit was given; before `share`, which
/// comes last, it is the rebuilt network.
/// # Errors
/// [`ErrorKind::Usage`] for a directory without steps or a number that it has not; [`ErrorKind::Io`] for a
/// file that exists or cannot be written.
pub fn undo(
    run_dir: &Path,
    step: Option<usize>,
    output: &Path,
    options: &RunOptions,
) -> Result<Undone, Error> {
    crate::outputs::check(&[output], &[], &Recipe::default(), options)?;
    let not_kept = |what: &str| {
        Error::usage(format!("{} {what}", run_dir.display()))
            .with_hint("name the folder that `reshape` was given with --run")
    };
    let run = RunDir::existing(run_dir)?.ok_or_else(|| not_kept("is no run directory"))?;
    // Everything of one target has the same beginning; a run directory of edits has one target.
    let keys: Vec<String> = run
        .keys()
        .filter(|k| k.contains(STEPS))
        .map(str::to_owned)
        .collect();
    let named = |number: usize| keys.iter().find(|k| k.ends_with(&network(number)));
    let numbers = 1..=keys.len();
    let steps = numbers.take_while(|n| named(*n).is_some()).count();
    let first = usize::from(!keys.iter().any(|k| k.ends_with(&before(0))));
    if steps < first {
        return Err(not_kept("keeps no edits"));
    }
    let wanted = step.unwrap_or(steps);
    if !(first..=steps).contains(&wanted) {
        return Err(Error::usage(format!("there is no step {wanted}"))
            .with_hint(format!("the run directory has steps {first} to {steps}")));
    }
    let missing = || Error::new(ErrorKind::Input, "the network before the edit is not there");
    // A last edit works on what was rebuilt after the others.
    let key = keys.iter().find(|k| k.ends_with(&before(wanted)));
    let key = key.or_else(|| wanted.checked_sub(1).and_then(named));
    let key = key.ok_or_else(missing)?;
    let bytes = run.get(key)?.ok_or_else(missing)?;
    let figures = keys.iter().find(|k| k.ends_with(&told(wanted)));
    let figures = figures.map(|k| run.get(k));
    let stored: Option<StoredStep> = match figures.transpose()?.flatten() {
        Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(damaged)?),
        None => None,
    };
    let graph = regraft_onnx::read_bytes(&bytes, None, &Limits::default())?;
    let Cost { params, macs, .. } = cost_of(&graph)?;
    write_atomic(output, &bytes)?;
    Ok(Undone {
        regraft: env!("CARGO_PKG_VERSION").to_owned(),
        edit: match stored.and_then(|s| s.figures) {
            Some(figures) => figures.edit,
            None if wanted == 0 => "the choice of a topology or what came back".to_owned(),
            None => String::new(),
        },
        step: wanted,
        steps,
        output: output.display().to_string(),
        params,
        macs,
    })
}

impl Undone {
    /// Returns the summary for the terminal.
    pub fn to_terminal(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "the network before step {} of {}, {}: {} parameters, {} MACs a sample",
            self.step,
            self.steps,
            self.edit,
            thousands(self.params),
            thousands(self.macs)
        );
        let _ = writeln!(out, "written to {}", self.output);
        out
    }
}
