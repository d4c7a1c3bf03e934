//! Where an edit that adds something is worth most.
//!
//! A gate of one or a residual block of zeros changes nothing before it is trained, so that a closed form cannot
//! judge it. All places get an edit at once and a few passes over the whole network train it. Then the
//! edit of one place alone is set back to what changes nothing: by how much the error on held-out
//! samples rises is what the edit is worth there. Of all edits and places those stay that are worth
//! most for their multiply-accumulates, as long as the budget allows.

use std::collections::BTreeSet;

use regraft_graph::Graph;
use regraft_rebuild::output::output_error;
use regraft_rebuild::rebuild::{NoJournal, Pair, RebuildConfig, Sparsity, TuneConfig, rebuild};

use super::apply::{Context, Topology};
use super::step::ReshapeStep;
use crate::inspect::thousands;
use crate::pipeline::{Log, cost_of, held_zeros, is_tuned, rebuild_config};
use crate::progress::{Adapter, Progress};
use crate::recipe::Tuning;
use crate::report::PlaceTrial;
use crate::{Error, ErrorKind};

/// Passes over the samples that an edit is trained for before it is judged.
pub(super) const PASSES: usize = 12;

/// Relative squared error of an output that rounding explains.
const NOTHING_MISSING: f64 = 1e-10;

/// What training begins with.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    /// True for what the closed form gives, false for the weights as they are: they were tuned before.
    refit: bool,
    /// Single connections that went, and stay away.
    zeros: Option<Sparsity>,
}

/// One edit at one place, and what it is worth there.
struct Candidate {
    /// The number of the edit.
    kind: usize,
    trial: PlaceTrial,
}

impl Candidate {
    fn per_mac(&self) -> f64 {
        self.trial.gain / self.trial.macs.max(1) as f64
    }
}

/// Edits at the places where they are worth most.
pub(super) struct Placed {
    /// Each edit that has a place, at its places alone.
    pub(super) steps: Vec<ReshapeStep>,
    /// Every edit at every place, the most worth for its cost first.
    pub(super) places: Vec<PlaceTrial>,
}

impl Placed {
    fn say(&self, log: &Log<'_>) {
        for place in self.places.iter().filter(|p| p.kept) {
            log.note(&format!(
                "  {} behind `{}`: worth {:.2e} of the output's error for {} MACs",
                place.edit,
                place.node,
                place.gain,
                thousands(place.macs)
            ));
        }
    }
}

/// Returns the edits at the places that are worth most and fit.
fn placed(mut candidates: Vec<Candidate>, kinds: &[ReshapeStep], budget: u64, own: u64) -> Placed {
    candidates.sort_by(|a, b| b.per_mac().total_cmp(&a.per_mac()));
    choose(&mut candidates, budget.saturating_sub(own));
    let kept = |kind| {
        let of_kind = candidates
            .iter()
            .filter(move |c| c.kind == kind && c.trial.kept);
        of_kind
            .map(|c| c.trial.node.clone())
            .collect::<Vec<String>>()
    };
    let at_places = kinds
        .iter()
        .enumerate()
        .map(|(kind, step)| (step, kept(kind)));
    let steps = at_places
        .filter(|(_, only)| !only.is_empty())
        .map(|(step, only)| step.at(only))
        .collect();
    Placed {
        steps,
        places: candidates.into_iter().map(|c| c.trial).collect(),
    }
}

/// The error of an edit that no place is worth, or that fits nowhere.
fn pays_nowhere(step: &ReshapeStep, places: &[PlaceTrial]) -> Error {
    let helps = || places.iter().filter(|p| p.gain > 0.0);
    let error = |why: &str| {
        Error::new(
            ErrorKind::Model,
            format!("{} {why} in this network", step.name()),
        )
    };
    match helps().map(|p| p.macs).min() {
        None => error("pays nowhere").with_hint(format!(
            "{} places were tried, and without it none does worse; more samples (--calib) may tell",
            places.len()
        )),
        Some(least) => error("fits nowhere").with_hint(format!(
            "{} places would gain, the cheapest for {} multiply-accumulates: a larger --max-macs allows it",
            helps().count(),
            thousands(least)
        )),
    }
}

impl Context<'_> {
    /// Returns a step that is to be placed by gain, at the places that pay for it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the run trains nothing, [`ErrorKind::Model`] if no place pays.
    pub(super) fn placed(
        &self,
        start: &Topology,
        step: &ReshapeStep,
        max_macs: f64,
        log: &Log<'_>,
    ) -> Result<(ReshapeStep, Vec<PlaceTrial>), Error> {
        if self.recipe.tune == Tuning::None {
            return Err(Error::usage(format!(
                "{} by gain has to be trained, and nothing is tuned",
                step.name()
            ))
            .with_hint("leave `--tune none` out"));
        }
        self.check_gain(&start.graph, step.name())?;
        let own = cost_of(&start.graph)?.macs;
        let room = (max_macs * own as f64) as u64;
        let begin = self.begin(start, log)?;
        // The limit is for the places that stay, not for all of them at once.
        let step = step.without_limit();
        let trials = self.worth(start, &step, &begin, log)?;
        let trials = trials.into_iter().map(|trial| Candidate { kind: 0, trial });
        let found = placed(trials.collect(), std::slice::from_ref(&step), room, own);
        found.say(log);
        let Some(step) = found.steps.into_iter().next() else {
            return Err(pays_nowhere(&step, &found.places));
        };
        Ok((step, found.places))
    }

    /// Checks that there is something to gain: that a network does not do what its teacher does.
    pub(super) fn check_gain(&self, graph: &Graph, edit: &str) -> Result<(), Error> {
        if self.error(graph)? < NOTHING_MISSING {
            return Err(Error::usage(format!(
                "{edit} by gain has nothing to gain: the network does what its teacher does"
            ))
            .with_hint("name the dense network that it is to come close to with --teacher"));
        }
        Ok(())
    }

    /// Returns where the edits of `kinds` are worth most for what they cost, in a network of at most `budget`
    /// multiply-accumulates.
    pub(super) fn by_gain(
        &self,
        start: &Topology,
        kinds: &[ReshapeStep],
        budget: u64,
        log: &Log<'_>,
    ) -> Result<Placed, Error> {
        let begin = self.begin(start, log)?;
        let mut candidates = Vec::new();
        for (kind, step) in kinds.iter().enumerate() {
            log.check()?;
            match self.worth(start, step, &begin, log) {
                Ok(trials) => {
                    let found = trials.into_iter();
                    candidates.extend(found.map(|trial| Candidate { kind, trial }));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                // An edit that finds no place in this network is none to try.
                Err(error) => log.note(&format!("  {}: {error}", step.name())),
            }
        }
        let own = cost_of(&start.graph)?.macs;
        let found = placed(candidates, kinds, budget, own);
        found.say(log);
        Ok(found)
    }

    /// Trains an edit at all of its places, and returns what it is worth at each.
    fn worth(
        &self,
        start: &Topology,
        step: &ReshapeStep,
        begin: &Begin,
        log: &Log<'_>,
    ) -> Result<Vec<PlaceTrial>, Error> {
        let done = self.edit(start, step, log)?;
        if done.edited.changes.is_empty() {
            return Ok(Vec::new());
        }
        let everywhere = Topology::new(done.edited.graph, done.kept);
        let trained = self.trained(&everywhere, begin, log)?;
        let whole = self.error(&trained)?;
        let own = cost_of(&start.graph)?.macs;
        let mut nodes = BTreeSet::new();
        let mut trials = Vec::new();
        for change in &done.edited.changes {
            log.check()?;
            if !nodes.insert(&change.node) {
                continue;
            }
            let alone = self.edit(start, &step.at(vec![change.node.clone()]), log)?;
            let alone = alone.edited.graph;
            let without = undone(&trained, &start.graph, &alone)?;
            trials.push(PlaceTrial {
                edit: step.name().to_owned(),
                node: change.node.clone(),
                what: change.what.clone(),
                macs: cost_of(&alone)?.macs.saturating_sub(own),
                gain: self.error(&without)? - whole,
                kept: false,
            });
        }
        log.note(&format!(
            "  {} in {} places: output error {whole:.4} after {PASSES} passes",
            step.name(),
            trials.len()
        ));
        Ok(trials)
    }

    /// Returns what training begins with.
    pub(super) fn begin(&self, topology: &Topology, log: &Log<'_>) -> Result<Begin, Error> {
        let config = RebuildConfig {
            sparsity: held_zeros(&topology.graph, log)?,
            ..rebuild_config(self.recipe, self.samples, self.exec)
        };
        let is_tuned = is_tuned(self.pair(topology), self.samples, &config, log)?;
        Ok(Begin {
            refit: !is_tuned,
            zeros: config.sparsity,
        })
    }

    /// Returns a network beside its teacher.
    pub(super) fn pair<'b>(&'b self, topology: &'b Topology) -> Pair<'b> {
        Pair {
            dense: &self.teacher.graph,
            teacher: &self.teacher.graph,
            pruned: &topology.graph,
            kept: &topology.kept,
        }
    }

    /// Returns a network trained for [`PASSES`] passes.
    pub(super) fn trained(
        &self,
        topology: &Topology,
        begin: &Begin,
        log: &Log<'_>,
    ) -> Result<Graph, Error> {
        let pair = self.pair(topology);
        let config = rebuild_config(self.recipe, self.samples, self.exec);
        let config = RebuildConfig {
            refit: begin.refit,
            sparsity: begin.zeros.clone(),
            tune: Some(TuneConfig {
                epochs: 0,
                joint_epochs: Some(PASSES),
                ..config.tune.unwrap_or_default()
            }),
            ..config
        };
        let feeds = self.samples.feeds();
        let rebuilt = rebuild(pair, &feeds, &config, &NoJournal, &Adapter::new(log))?;
        Ok(rebuilt.graph)
    }

    /// Returns the output's relative squared error on held-out samples.
    pub(super) fn error(&self, graph: &Graph) -> Result<f64, Error> {
        let feeds = self.samples.held_out_feeds();
        Ok(output_error(graph, &self.teacher.graph, &feeds, self.exec)?)
    }
}

/// Keeps the candidates, in order, that are worth something and fit into `room`, one for each place.
fn choose(candidates: &mut [Candidate], mut room: u64) {
    let mut places: BTreeSet<String> = BTreeSet::new();
    for candidate in candidates {
        let PlaceTrial {
            node, macs, gain, ..
        } = &candidate.trial;
        if *gain > 0.0 && *macs <= room && !places.contains(node) {
            room -= macs;
            places.insert(node.clone());
            candidate.trial.kept = true;
        }
    }
}

/// Returns a trained network in which what an edit added at one place is what it was at first: the
/// initializers that the network with that place alone has and the network before has not.
fn undone(trained: &Graph, before: &Graph, alone: &Graph) -> Result<Graph, Error> {
    let mut edit = trained.edit();
    for value in alone.initializers().keys() {
        let name = &alone.value(*value).name;
        if before.find_value(name).is_some() {
            continue;
        }
        if let (Some(there), Some(tensor)) = (trained.find_value(name), alone.tensor(*value)) {
            edit.set_initializer(there, tensor.clone());
        }
    }
    Ok(edit.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: &str, macs: u64, gain: f64) -> Candidate {
        Candidate {
            kind: 0,
            trial: PlaceTrial {
                node: node.to_owned(),
                macs,
                gain,
                ..PlaceTrial::default()
            },
        }
    }

    #[test]
    fn one_edit_a_place_as_long_as_it_pays_and_fits() {
        let mut all = vec![
            candidate("a", 10, 0.9),
            candidate("a", 10, 0.8),
            candidate("b", 95, 0.7),
            candidate("c", 80, 0.5),
            candidate("d", 5, -0.1),
        ];
        choose(&mut all, 100);
        let kept: Vec<bool> = all.iter().map(|c| c.trial.kept).collect();
        assert_eq!(kept, [true, false, false, true, false]);
    }
}
