//! Steps on a graph, each measured and kept.

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::{Graph, ValueId};
use regraft_rebuild::Activations;
use regraft_rebuild::calibrate::{CalibrateConfig, calibrate};
use regraft_rebuild::rebuild::KeptAxes;
use regraft_rebuild::reshape::attend::{AttendConfig, Attention, attend};
use regraft_rebuild::reshape::low_rank::{Limit, LowRankConfig, Scheme, low_rank};
use regraft_rebuild::reshape::{Edited, Network, Selection, output_change};

use super::step::{AttendName, AttendStep, LowRankStep, ReshapeStep, SchemeName, StepLayers};
use crate::pipeline::Log;
use crate::progress::{Adapter, Progress};
use crate::report::{Change, ReshapeChange, ReshapeFigures};
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe};

/// Rows of each layer that an edit learns from.
const ROWS: usize = 100_000;

/// Samples on which a layer's weight in the network is measured.
const PROBE_SAMPLES: usize = 256;

/// Largest relative squared change of the output of an edit that keeps the function: 1e-5 squared.
const EXACT: f64 = 1e-10;

/// What steps start from.
pub(crate) struct Start<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) kept: &'a KeptAxes,
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

/// Applies the recipe's steps in order.
pub(crate) fn apply(start: &Start<'_>, log: &Log<'_>) -> Result<Reshaped, Error> {
    let mut state = Reshaped {
        graph: start.graph.clone(),
        kept: start.kept.clone(),
        steps: Vec::new(),
    };
    for step in &start.recipe.reshape {
        log.stage(step.name());
        let edited = start.edit(&state.graph, step, log)?;
        log.check()?;
        let figures = start.measure(&state.graph, step, &edited)?;
        log.note(&format!("  {}", figures.in_words()));
        if figures.changes.is_empty() {
            log.warn(format!("{}: nothing was changed", step.name()));
        }
        state.graph = edited.graph;
        state.steps.push(figures);
    }
    Ok(state)
}

impl Start<'_> {
    pub(super) fn edit(
        &self,
        graph: &Graph,
        step: &ReshapeStep,
        log: &Log<'_>,
    ) -> Result<Edited, Error> {
        let network = Network::new(graph.clone())?;
        match step {
            ReshapeStep::LowRank(step) => {
                let network = self.calibrated(network, log)?;
                let found = low_rank(
                    &network,
                    &self.probes(),
                    &selection(&step.layers),
                    &step.config(self.exec),
                    &Adapter::new(log),
                )?;
                Ok(found)
            }
            ReshapeStep::Attend(step) => {
                let config = AttendConfig {
                    attention: step.attention(),
                    seed: self.recipe.seed,
                };
                Ok(attend(&network, &selection(&step.layers), &config)?)
            }
        }
    }

    fn probes(&self) -> BTreeMap<ValueId, Activations> {
        self.samples.fit_feeds(PROBE_SAMPLES)
    }

    fn calibrated(&self, mut network: Network, log: &Log<'_>) -> Result<Network, Error> {
        let config = CalibrateConfig {
            max_rows: ROWS,
            exec: self.exec,
        };
        let feeds = self.samples.fit_feeds(usize::MAX);
        let Network {
            graph,
            facts,
            layers,
            ..
        } = &network;
        let found = calibrate(graph, facts, layers, &feeds, config, &Adapter::new(log))?;
        network.calibration = Some(found);
        Ok(network)
    }

    /// Compares the network with the one before, and says what the step did.
    fn measure(
        &self,
        before: &Graph,
        step: &ReshapeStep,
        edited: &Edited,
    ) -> Result<ReshapeFigures, Error> {
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
        })
    }
}

fn selection(layers: &StepLayers) -> Selection {
    Selection {
        only: layers.only.clone(),
        ignore: layers.ignore.clone(),
    }
}

impl AttendStep {
    fn attention(&self) -> Attention {
        let size = |usual: usize| self.size.unwrap_or(usual);
        match self.kind {
            AttendName::SqueezeExcite => Attention::SqueezeExcite { reduction: size(4) },
            AttendName::Channel => Attention::Channel { reach: size(3) },
            AttendName::Spatial => Attention::Spatial { kernel: size(7) },
            AttendName::SelfAttention => Attention::SelfAttention { heads: size(4) },
        }
    }
}

impl LowRankStep {
    fn config(&self, exec: ExecOptions) -> LowRankConfig {
        let scheme = |s: &SchemeName| match s {
            SchemeName::Output => Scheme::Output,
            SchemeName::Spatial => Scheme::Spatial,
            SchemeName::Tucker => Scheme::Tucker,
            SchemeName::Separable => Scheme::Separable,
        };
        let all = [
            Scheme::Output,
            Scheme::Spatial,
            Scheme::Tucker,
            Scheme::Separable,
        ];
        LowRankConfig {
            limit: match (self.macs, self.params) {
                (Some(share), _) => Limit::Macs(share),
                (None, share) => Limit::Params(share.unwrap_or(1.0)),
            },
            schemes: if self.schemes.is_empty() {
                all.to_vec()
            } else {
                self.schemes.iter().map(scheme).collect()
            },
            exec,
        }
    }
}
