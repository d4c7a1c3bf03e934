//! `topology = "auto"`: the shape that a budget of multiply-accumulates serves best.
//!
//! A network that lost channels is one way to meet its cost. Others are to give channels back and to make
//! layers thin instead, all the way to the dense network in thin layers. Each is rebuilt in closed
//! form and judged on samples that were held out; the best is the one that the whole rebuild goes on with. Thin
//! layers spend their time elsewhere than in multiplications, so each is also timed, and one that takes longer
//! than a budget of time allows is not taken. The best of those with thin layers is then made a little
//! thinner, and edits that only training can judge are tried on it block by block (`by_block`).

mod by_block;

use regraft_exec::ExecOptions;
use regraft_graph::Graph;
use regraft_prune::Plan;
use regraft_rebuild::rebuild::{KeptAxes, kept_axes};

use super::apply::{Context, Topology};
use super::by_gain::{PASSES, Placed};
use super::step::{LinkStep, LowRankStep, ReconnectStep, ReshapeStep};
use crate::bench::LatencyOf;
use crate::inspect::thousands;
use crate::latency::MeasureConfig;
use crate::model::{Model, ModelInput};
use crate::pipeline::{Log, closed_form, cost_of, rebuild_config};
use crate::progress::Progress;
use crate::recipe::Tuning;
use crate::report::{PlaceTrial, TopologyFigures, TopologyTrial};
use crate::samples::Samples;
use crate::selection::{Selection, select};
use crate::{Error, Recipe, RunOptions};

/// Shares of the way from the pruned network's cost to the dense one's, on a logarithmic scale, at
/// which channels are given back before layers become thin.
const WAYS: [f64; 3] = [0.33, 0.67, 1.0];

/// Share of the budget that stays for shortcuts, in one trial.
const FOR_LINKS: f64 = 0.05;

/// Share of the budget that channels are given back for one after the other, in one trial.
const FOR_GAINS: f64 = 0.2;

/// Share of the budget that stays for edits judged block by block.
const FOR_BLOCKS: f64 = 0.04;

/// Seconds that timing a trial takes at most.
const TIMED_SECONDS: f64 = 5.0;

/// What trials work with.
pub(crate) struct Search<'a> {
    pub(crate) teacher: &'a Model,
    pub(crate) input: &'a ModelInput,
    pub(crate) samples: &'a Samples,
    pub(crate) recipe: &'a Recipe,
    pub(crate) options: &'a RunOptions,
    pub(crate) exec: ExecOptions,
    pub(crate) log: &'a Log<'a>,
}

impl Search<'_> {
    /// Returns the best topology that costs no more than `given`.
    pub(crate) fn best(&self, given: Topology) -> Result<(Topology, TopologyFigures), Error> {
        let budget = cost_of(&given.graph)?.macs;
        let dense = self.teacher.cost().macs.max(1);
        let share = budget as f64 / dense as f64;
        let mut tried = vec![self.tried("as it was given".to_owned(), given)?];
        let mut try_one = |what: String, made: Result<Topology, Error>| {
            self.log.check()?;
            match made {
                Ok(topology) => {
                    tried.push(self.tried(what, topology)?);
                    Ok::<_, Error>(tried.last().map(|(_, trial)| trial.error))
                }
                // A budget below what an edit can reach is no topology to try.
                Err(error) => {
                    self.log.note(&format!("  {what}: {error}"));
                    Ok(None)
                }
            }
        };
        let mut best_way: Option<(f64, f64, Topology)> = None;
        for way in WAYS {
            let wide = share.powf(1.0 - way);
            if wide <= share * 1.02 {
                continue;
            }
            let start = self.widened(wide)?;
            let error = try_one(in_words(wide), self.thin(start.clone(), budget))?;
            if let Some(error) = error
                && best_way.as_ref().is_none_or(|(least, ..)| error < *least)
            {
                best_way = Some((error, wide, start));
            }
        }
        let what = "channels given back where that gains most".to_owned();
        try_one(what, self.by_gain(share, budget))?;
        if let Some((_, wide, start)) = &best_way {
            let what = format!("{}, and shortcuts", in_words(*wide));
            try_one(what, self.linked(start.clone(), budget))?;
        }
        let all: Vec<&TopologyTrial> = tried.iter().map(|(_, trial)| trial).collect();
        let mut chosen = self.chosen(&all);
        let mut places = Vec::new();
        if let Some((_, wide, start)) = best_way
            && self.recipe.tune != Tuning::None
        {
            let grown = self.thin(start, (budget as f64 * (1.0 - FOR_BLOCKS)) as u64);
            places = self.grown(grown, &in_words(wide), budget, &mut tried, &mut chosen)?;
        }
        let (mut topologies, trials): (Vec<Topology>, Vec<TopologyTrial>) =
            tried.into_iter().unzip();
        let figures = TopologyFigures {
            budget,
            chosen,
            trials,
            places,
        };
        Ok((topologies.swap_remove(chosen), figures))
    }

    /// Tries edits block by block on a network that leaves room for them, and chooses it if it does better
    /// than the best so far after as much training. Returns what was tried where.
    fn grown(
        &self,
        thin: Result<Topology, Error>,
        what: &str,
        budget: u64,
        tried: &mut Vec<(Topology, TopologyTrial)>,
        chosen: &mut usize,
    ) -> Result<Vec<PlaceTrial>, Error> {
        let thin = match thin {
            Ok(thin) => Topology::new(self.refitted(&thin)?, thin.kept),
            // As for whole networks: a budget below what an edit can reach.
            Err(error) => {
                self.log.note(&format!("  {what}: {error}"));
                return Ok(Vec::new());
            }
        };
        let (grown, Placed { steps, mut places }) = self.by_block(&thin, budget)?;
        if steps.is_empty() {
            return Ok(places);
        }
        let n = places.iter().filter(|p| p.kept).count();
        let (topology, mut trial) =
            self.tried(format!("{what}, and edits in {n} places"), grown)?;
        let (best, best_trial) = &mut tried[*chosen];
        let context = self.context(None);
        let error = |topology: &Topology| {
            let begin = context.begin(topology, self.log)?;
            context.error(&context.trained(topology, &begin, self.log)?)
        };
        let (before, after) = (error(best)?, error(&topology)?);
        (best_trial.trained, trial.trained) = (Some(before), Some(after));
        self.log.note(&format!(
            "  after {PASSES} passes over the whole network: output error {after:.4}, {before:.4} without them"
        ));
        let is_fast = |t: &TopologyTrial| match self.recipe.latency {
            Some(limit) => t.time.is_some_and(|time| time <= limit),
            None => true,
        };
        if after < before && is_fast(&trial) {
            *chosen = tried.len();
        } else {
            for place in &mut places {
                place.kept = false;
            }
        }
        tried.push((topology, trial));
        Ok(places)
    }

    /// Returns the trial of the least error that is fast enough; the fastest where none is.
    fn chosen(&self, trials: &[&TopologyTrial]) -> usize {
        let limit = self.recipe.latency.unwrap_or(f64::INFINITY);
        // A trial without a time counts as fast only where no time was asked for.
        let time = |trial: &TopologyTrial| trial.time.unwrap_or(f64::MAX);
        let numbered = || trials.iter().enumerate();
        let fast = numbered().filter(|(_, t)| time(t) <= limit);
        if let Some((at, _)) = fast.min_by(|a, b| a.1.error.total_cmp(&b.1.error)) {
            return at;
        }
        self.log.warn(format!(
            "no topology takes at most {limit} of the dense network's time: the fastest is kept"
        ));
        let fastest = numbered().min_by(|a, b| time(a.1).total_cmp(&time(b.1)));
        fastest.map_or(0, |(at, _)| at)
    }

    /// Returns the time that a network takes as a share of the dense one's; nothing where it cannot be
    /// measured.
    fn time(&self, graph: &Graph) -> Option<f64> {
        let latency = LatencyOf {
            dense: self.teacher,
            input: self.input,
            samples: Some(&self.samples.calibration),
            recipe: self.recipe,
            threads: 1,
            options: self.options,
        };
        let config = MeasureConfig {
            max_seconds: TIMED_SECONDS,
            ..MeasureConfig::default()
        };
        let bytes = regraft_onnx::write_bytes(graph).ok()?;
        Some(latency.small(graph, &bytes, &config).ok()?.ratio)
    }

    /// Judges a topology.
    fn tried(&self, what: String, topology: Topology) -> Result<(Topology, TopologyTrial), Error> {
        self.log.stage("topology");
        let error = self.judge(&topology)?;
        let macs = cost_of(&topology.graph)?.macs;
        let time = self.time(&topology.graph);
        let timed = time.map_or_else(String::new, |t| format!(", {t:.2} of the dense time"));
        self.log.note(&format!(
            "  {what}: {} MACs{timed}, output error {error:.4} after the closed form",
            thousands(macs)
        ));
        let trial = TopologyTrial {
            what,
            macs,
            time,
            error,
            trained: None,
        };
        Ok((topology, trial))
    }

    /// Returns the dense network with channels for a share of its cost.
    fn widened(&self, share: f64) -> Result<Topology, Error> {
        if share >= 1.0 {
            let graph = self.teacher.graph.clone();
            return Ok(Topology::new(graph, KeptAxes::new()));
        }
        Ok(self.selected(share)?.1)
    }

    /// Returns what stays of the dense network for a share of its cost, and the network with that.
    fn selected(&self, share: f64) -> Result<(Selection, Topology), Error> {
        let recipe = Recipe {
            macs: Some(share),
            params: None,
            latency: None,
            ..self.recipe.clone()
        };
        let selection = select(
            self.teacher,
            self.input,
            self.samples,
            &recipe,
            self.options,
            self.log,
        )?;
        let (graph, applied) = self.teacher.pruned(&selection.groups, &selection.plan)?;
        let kept = kept_axes(&applied);
        Ok((selection, Topology::new(graph, kept)))
    }

    /// Returns the network with fewer channels than the budget allows, and more of them one group after the other.
    fn by_gain(&self, share: f64, budget: u64) -> Result<Topology, Error> {
        self.log.stage("topology");
        let (selection, start) = self.selected(share * (1.0 - FOR_GAINS))?;
        let start = Topology::new(self.refitted(&start)?, start.kept);
        let own = cost_of(&start.graph)?.macs.max(1);
        let step = ReshapeStep::Reconnect(ReconnectStep {
            by_gain: true,
            max_macs: Some(budget as f64 / own as f64),
            ..ReconnectStep::default()
        });
        self.edited(&start, &step, Some(&selection.plan))
    }

    /// Makes a network thinner than the budget asks for, and spends what is left on shortcuts.
    fn linked(&self, start: Topology, budget: u64) -> Result<Topology, Error> {
        let thin = self.thin(start, (budget as f64 * (1.0 - FOR_LINKS)) as u64)?;
        let thin = Topology::new(self.refitted(&thin)?, thin.kept);
        let own = cost_of(&thin.graph)?.macs.max(1);
        let step = ReshapeStep::Link(LinkStep {
            past: Some(3),
            max_macs: Some(budget as f64 / own as f64),
            ..LinkStep::default()
        });
        self.edited(&thin, &step, None)
    }

    /// Applies one edit.
    fn edited(
        &self,
        start: &Topology,
        step: &ReshapeStep,
        plan: Option<&Plan>,
    ) -> Result<Topology, Error> {
        let done = self.context(plan).edit(start, step, self.log)?;
        Ok(Topology::new(done.edited.graph, done.kept))
    }

    /// Returns what edits work with.
    fn context<'b>(&'b self, plan: Option<&'b Plan>) -> Context<'b> {
        Context {
            teacher: self.teacher,
            plan,
            samples: self.samples,
            recipe: self.recipe,
            exec: self.exec,
        }
    }

    /// Refits a network in closed form and makes its layers as thin as the budget says.
    fn thin(&self, start: Topology, budget: u64) -> Result<Topology, Error> {
        self.log.stage("topology");
        let dense = cost_of(&start.graph)?.macs.max(1);
        let step = ReshapeStep::LowRank(LowRankStep {
            macs: Some((budget as f64 / dense as f64).min(1.0)),
            ..LowRankStep::default()
        });
        let start = if start.kept.is_empty() {
            start
        } else {
            Topology::new(self.refitted(&start)?, start.kept)
        };
        self.edited(&start, &step, None)
    }

    fn refitted(&self, topology: &Topology) -> Result<Graph, Error> {
        let config = rebuild_config(self.recipe, self.samples, self.exec);
        let context = self.context(None);
        closed_form(context.pair(topology), self.samples, config, self.log)
    }

    /// Returns the output's relative squared error on held-out samples, as it is or after the closed
    /// form, whichever is smaller: a network that was tuned already loses by it.
    fn judge(&self, topology: &Topology) -> Result<f64, Error> {
        let context = self.context(None);
        let refitted = self.refitted(topology)?;
        Ok(context
            .error(&topology.graph)?
            .min(context.error(&refitted)?))
    }
}

/// Returns what a network with channels for a share of the dense one's cost becomes, in words.
fn in_words(wide: f64) -> String {
    if wide >= 1.0 {
        return "all channels, thin layers".to_owned();
    }
    format!(
        "channels for {:.0} % of the MACs, then thin layers",
        100.0 * wide
    )
}
