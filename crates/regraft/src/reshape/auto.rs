//! `topology = "auto"`: the shape that a budget of multiply-accumulates serves best.
//!
//! A network that lost channels is one way to meet its cost. Others are to give channels back and to make
//! layers thin instead, all the way to the dense network in thin layers. Each is rebuilt in closed
//! form on some of the samples and judged on samples that were held out; the best is the one that the whole
//! rebuild goes on with.

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::cost::total;
use regraft_graph::{Graph, ValueId};
use regraft_rebuild::Activations;
use regraft_rebuild::rebuild::{KeptAxes, NoJournal, Pair, RebuildConfig, kept_axes, rebuild};
use regraft_rebuild::reshape::output_change;

use super::apply::Start;
use super::step::{LowRankStep, ReshapeStep};
use crate::model::{Model, ModelInput};
use crate::pipeline::{Log, REFIT_ROWS, facts_of};
use crate::progress::{Adapter, Progress};
use crate::report::{TopologyFigures, TopologyTrial};
use crate::samples::Samples;
use crate::selection::select;
use crate::{Error, Recipe, RunOptions};

/// Samples that a trial is rebuilt on.
const TRIAL_SAMPLES: usize = 512;

/// Shares of the way from the pruned network's cost to the dense one's, on a logarithmic scale, at
/// which channels are given back before layers become thin.
const WAYS: [f64; 3] = [0.33, 0.67, 1.0];

/// A network and what it has of the dense one.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) graph: Graph,
    pub(crate) kept: KeptAxes,
}

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
        let budget = macs(&given.graph)?;
        let dense = self.teacher.cost().macs.max(1);
        let share = budget as f64 / dense as f64;
        let mut best: Option<(f64, Topology)> = None;
        let mut trials: Vec<TopologyTrial> = Vec::new();
        let mut at = 0;
        let mut take = |what: String, topology: Topology, search: &Self| -> Result<(), Error> {
            search.log.stage("topology");
            let error = search.judge(&topology)?;
            let cost = macs(&topology.graph)?;
            search.log.note(&format!(
                "  {what}: {cost} MACs, output error {error:.4} after the closed form"
            ));
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, topology));
                at = trials.len();
            }
            trials.push(TopologyTrial {
                what,
                macs: cost,
                error,
            });
            Ok(())
        };
        take("as it was given".to_owned(), given.clone(), self)?;
        for way in WAYS {
            let wide = share.powf(1.0 - way);
            if wide <= share * 1.02 {
                continue;
            }
            let start = self.widened(wide)?;
            let step = ReshapeStep::LowRank(LowRankStep {
                macs: Some((budget as f64 / macs(&start.graph)?.max(1) as f64).min(1.0)),
                ..LowRankStep::default()
            });
            let what = if way < 1.0 {
                format!(
                    "channels for {:.0} % of the MACs, then thin layers",
                    100.0 * wide
                )
            } else {
                "all channels, thin layers".to_owned()
            };
            self.log.check()?;
            match self.thin(&start, &step) {
                Ok(topology) => take(what, topology, self)?,
                // A budget below what thin layers can reach is no topology to try.
                Err(error) => self.log.note(&format!("  {what}: {error}")),
            }
        }
        let (_, topology) = best.unwrap_or((0.0, given));
        Ok((
            topology,
            TopologyFigures {
                budget,
                chosen: at,
                trials,
            },
        ))
    }

    /// Returns the dense network with channels for a share of its cost.
    fn widened(&self, share: f64) -> Result<Topology, Error> {
        if share >= 1.0 {
            return Ok(Topology {
                graph: self.teacher.graph.clone(),
                kept: KeptAxes::new(),
            });
        }
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
        Ok(Topology {
            graph,
            kept: kept_axes(&applied),
        })
    }

    /// Refits a network in closed form and makes its layers thin.
    fn thin(&self, start: &Topology, step: &ReshapeStep) -> Result<Topology, Error> {
        self.log.stage("topology");
        let graph = if start.kept.is_empty() {
            start.graph.clone()
        } else {
            self.refitted(start)?
        };
        let edit = Start {
            graph: &graph,
            kept: &start.kept,
            teacher: self.teacher,
            plan: None,
            samples: self.samples,
            recipe: self.recipe,
            exec: self.exec,
        };
        let done = edit.edit(&graph, &start.kept, step, self.log)?;
        Ok(Topology {
            graph: done.edited.graph,
            kept: done.kept,
        })
    }

    fn refitted(&self, topology: &Topology) -> Result<Graph, Error> {
        let pair = Pair {
            dense: &self.teacher.graph,
            teacher: &self.teacher.graph,
            pruned: &topology.graph,
            kept: &topology.kept,
        };
        let mut inputs: BTreeMap<ValueId, Activations> = self.samples.fit_feeds(TRIAL_SAMPLES);
        let held_out = self.samples.held_out_feeds();
        let mut held_out_chunks = 0;
        for (value, others) in held_out {
            held_out_chunks = others.chunks.len();
            if let Some(list) = inputs.get_mut(&value) {
                list.chunks.extend(others.chunks);
            }
        }
        let config = RebuildConfig {
            damping: self.recipe.damping,
            max_rows: REFIT_ROWS,
            tune: None,
            held_out_chunks,
            sparsity: None,
            exec: self.exec,
        };
        let rebuilt = rebuild(pair, &inputs, &config, &NoJournal, &Adapter::new(self.log))?;
        Ok(rebuilt.graph)
    }

    /// Returns the output's relative squared error on held-out samples, as it is or after the closed
    /// form, whichever is smaller: a network that was tuned already loses by it.
    fn judge(&self, topology: &Topology) -> Result<f64, Error> {
        let feeds = self.samples.held_out_feeds();
        let error = |graph: &Graph| output_change(&self.teacher.graph, graph, &feeds, self.exec);
        let refitted = self.refitted(topology)?;
        Ok(error(&topology.graph)?.min(error(&refitted)?))
    }
}

fn macs(graph: &Graph) -> Result<u64, Error> {
    Ok(total(graph, &facts_of(graph)?).macs)
}
