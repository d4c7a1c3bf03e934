//! Each step of a recipe as an edit of a graph.

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::{Graph, ValueId};
use regraft_prune::apply::Share;
use regraft_prune::find_groups;
use regraft_rebuild::calibrate::{CalibrateConfig, calibrate};
use regraft_rebuild::rebuild::{KeptAxes, indices_behind};
use regraft_rebuild::reshape::attend::{AttendConfig, Attention, attend};
use regraft_rebuild::reshape::deepen::{DeepenConfig, Insert, deepen};
use regraft_rebuild::reshape::fuse::{FuseConfig, average, in_one_basis};
use regraft_rebuild::reshape::link::{DEFAULT_PAST, LinkConfig, link};
use regraft_rebuild::reshape::low_rank::{Limit, LowRankConfig, Scheme, low_rank};
use regraft_rebuild::reshape::reconnect::{self, Descent, ReconnectConfig, reconnect};
use regraft_rebuild::reshape::share::{
    Bits, Form, KernelConfig, Scope, ShareConfig, TieConfig, Weighting, share, tie, tie_kernels,
};
use regraft_rebuild::reshape::widen::{self, NEW_UNIT_NOISE, WidenConfig, Widths, widen};
use regraft_rebuild::reshape::{
    ByGain, Ceiling, Edited, FitConfig, GainStep, Network, Samples as FitSamples, Selection,
};
use regraft_rebuild::{RebuildError, find_layers};

use super::apply::{Context, Topology};
use super::fuse::{BasisName, same_channels};
use super::step::{
    AttendName, AttendStep, DeepenStep, FormName, FuseStep, InsertName, LowRankStep, ReconnectStep,
    ReshapeStep, SchemeName, ScopeName, ShareName, ShareStep, StepLayers, TieStep, WeightingName,
    WidenStep,
};
use crate::inspect::thousands;
use crate::model::Model;
use crate::pipeline::{Log, cost_of, facts_of, held_zeros};
use crate::progress::{Adapter, Progress};
use crate::report::ShareFigures;
use crate::{Error, ErrorKind};

/// Rows of each layer that an edit learns from.
const ROWS: usize = 100_000;

/// A network after an edit.
pub(super) struct Done {
    pub(super) edited: Edited,
    /// What shared weights take.
    pub(super) bytes: Option<ShareFigures>,
    /// Which indices of the dense network its axes have.
    pub(super) kept: KeptAxes,
}

impl Context<'_> {
    /// Applies one step.
    pub(super) fn edit(
        &self,
        topology: &Topology,
        step: &ReshapeStep,
        log: &Log<'_>,
    ) -> Result<Done, Error> {
        let Topology { graph, kept, .. } = topology;
        let network = Network::new(graph.clone())?;
        let edited = match step {
            ReshapeStep::LowRank(step) => {
                let network = self.calibrated(network, log)?;
                low_rank(
                    &network,
                    &self.samples.fit_feeds(usize::MAX),
                    &selection(&step.layers),
                    &step.config(self.exec),
                    &Adapter::new(log),
                )?
            }
            ReshapeStep::Attend(step) => {
                let config = AttendConfig {
                    attention: step.attention(),
                    seed: self.recipe.seed,
                };
                let edited = attend(&network, &selection(&step.layers), &config)?;
                if let Some(ceiling) = ceiling(&network, step.max_macs) {
                    ceiling.check(cost_of(&edited.graph)?)?;
                }
                edited
            }
            ReshapeStep::Widen(step) => {
                let network = self.calibrated(network, log)?;
                let groups = find_groups(&network.graph, &network.facts)?;
                let config = step.config(&network, self.recipe.seed);
                let widths = if step.by_gain {
                    self.check_gain(graph, "widen")?;
                    check_whole(graph, log)?;
                    let found = widen::widths_by_gain(
                        (&network, &groups),
                        self.pair(topology),
                        &self.samples.feeds(),
                        (&config, &self.fit()),
                        &Adapter::new(log),
                    )?;
                    Widths::Units(said(found, log)?)
                } else {
                    step.widths()
                };
                widen(&network, &groups, &widths, &config)?
            }
            ReshapeStep::Deepen(step) => {
                deepen(&network, &step.config(&network, self.recipe.seed))?
            }
            ReshapeStep::Link(step) => {
                let pair = self.pair(topology);
                let config = LinkConfig {
                    selection: selection(&step.layers),
                    past: step.past.unwrap_or(DEFAULT_PAST),
                    ceiling: ceiling(&network, step.max_macs),
                    fit: self.fit(),
                };
                link(pair, &self.samples.feeds(), &config, &Adapter::new(log))?
            }
            ReshapeStep::Share(step) => return self.share(network, kept, step, log),
            ReshapeStep::Tie(step) => {
                let network = self.calibrated(network, log)?;
                let edited = step.tied(&network)?;
                warn_of_filled(&network.graph, &edited.graph, log)?;
                edited
            }
            ReshapeStep::Fuse(step) => self.fused(&network, step, log)?,
            ReshapeStep::Reconnect(step) => return self.reconnect(&network, step, log),
        };
        let kept = indices_behind(kept, &edited.kept);
        Ok(Done {
            edited,
            bytes: None,
            kept,
        })
    }

    fn reconnect(
        &self,
        network: &Network,
        step: &ReconnectStep,
        log: &Log<'_>,
    ) -> Result<Done, Error> {
        let plan = self.plan.ok_or_else(|| {
            Error::usage("reconnect has to know what was pruned, and that cannot be told here").with_hint(
                "give the network as `shrink` or `apply` wrote it, with the dense one as --teacher; not together \
                 with --topology auto, which gives channels back by itself",
            )
        })?;
        let flags = plan.flags(&self.teacher.groups()?)?;
        let is_whole = flags.iter().flatten().all(|stays| *stays);
        if is_whole && !step.by_gain && step.widths.is_empty() {
            return Err(
                Error::usage("it cannot be told what was pruned, so that nothing can come back")
                    .with_hint("give the network as `shrink` or `apply` wrote it, and the dense one with --teacher"),
            );
        }
        let dense = self.calibrated(Network::new(self.teacher.graph.clone())?, log)?;
        let mut config = ReconnectConfig {
            rebuild_rate: step.rebuild_rate.unwrap_or(1.0),
            widths: pairs(&step.widths),
            seed: self.recipe.seed,
            ceiling: ceiling(network, step.max_macs),
            fit: self.fit(),
            ..ReconnectConfig::default()
        };
        let descent = Descent {
            dense: &dense,
            groups: &self.teacher.groups()?,
            plan,
            pruned: &network.graph,
        };
        let samples = FitSamples {
            inputs: &self.samples.feeds(),
            targets: &BTreeMap::new(),
        };
        if step.by_gain {
            let monitor = Adapter::new(log);
            let found = reconnect::widths_by_gain(descent, samples, &config, &monitor)?;
            (config.rebuild_rate, config.widths) = (0.0, said(found, log)?);
        }
        let found = reconnect(descent, samples, &config, &Adapter::new(log))?;
        warn_of_filled(&network.graph, &found.edited.graph, log)?;
        Ok(Done {
            edited: found.edited,
            bytes: None,
            kept: found.kept,
        })
    }

    /// Returns the mean of a network's weights with those of others; the rebuild towards the dense network makes
    /// of it what it is for.
    fn fused(&self, network: &Network, step: &FuseStep, log: &Log<'_>) -> Result<Edited, Error> {
        let graph = &network.graph;
        if same_weights(graph, &self.teacher.graph) {
            return Err(
                Error::usage("the mean would be rebuilt towards the first of its networks")
                    .with_hint(
                        "name the dense network with --teacher; `regraft reshape fuse` rebuilds towards what all do \
                         together",
                    ),
            );
        }
        let mut models = vec![graph.clone()];
        for path in &step.networks {
            models.push(Model::open(path, self.recipe)?.graph);
        }
        if step.basis == BasisName::Same {
            same_channels(&models.iter().collect::<Vec<_>>())?;
        }
        let config = FuseConfig {
            basis: step.basis.into(),
            exec: self.exec,
            ..FuseConfig::default()
        };
        let monitor = Adapter::new(log);
        let based = in_one_basis(&models, &self.samples.feeds(), &config, &monitor)?;
        let mean = average(&based.models, &[], &step.zeros.into())?;
        let cost = network.cost();
        let moved: usize = based
            .alignments
            .iter()
            .flat_map(|a| &a.groups)
            .map(|g| g.moved)
            .sum();
        let change = regraft_rebuild::reshape::Change {
            node: "the whole network".to_owned(),
            what: format!(
                "the mean of {} networks, {moved} channels moved",
                models.len()
            ),
            macs: (cost.macs, cost.macs),
            params: (cost.params, cost.params),
            error: None,
        };
        Ok(Edited {
            graph: mean,
            changes: vec![change],
            left: Vec::new(),
            exact: false,
            kept: KeptAxes::new(),
            sparse: BTreeMap::new(),
        })
    }

    fn share(
        &self,
        network: Network,
        kept: &KeptAxes,
        step: &ShareStep,
        log: &Log<'_>,
    ) -> Result<Done, Error> {
        let config = step.config();
        let network = if config.weighting == Weighting::Plain {
            network
        } else {
            self.calibrated(network, log)?
        };
        let found = share(&network, &selection(&step.layers), &config)?;
        let totals = found.totals;
        Ok(Done {
            bytes: Some(ShareFigures {
                dense: totals.dense_bytes + totals.other_bytes,
                pruned: totals.pruned_bytes + totals.other_bytes,
                shared: totals.shared_bytes + totals.other_bytes,
                coded: totals.coded_bytes + totals.other_bytes,
                file: totals.file_bytes + totals.other_bytes,
            }),
            edited: found.edited,
            kept: kept.clone(),
        })
    }

    fn fit(&self) -> FitConfig {
        FitConfig {
            max_rows: ROWS,
            held_out_chunks: self.samples.held_out_chunks.max(1),
            exec: self.exec,
            ..FitConfig::default()
        }
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
}

/// Refuses a network that has lost single connections where layers are solved for as a whole.
fn check_whole(graph: &Graph, log: &Log<'_>) -> Result<(), Error> {
    if held_zeros(graph, log)?.is_none() {
        return Ok(());
    }
    Err(Error::usage(
        "widen by gain solves for whole layers, and this network has lost single connections",
    )
    .with_hint("give `--factor` or `--width`: zeros stay, and new units are read"))
}

/// Says how many zeros of layers an edit filled.
fn warn_of_filled(before: &Graph, after: &Graph, log: &Log<'_>) -> Result<(), Error> {
    let zeros = |graph: &Graph, output: ValueId| {
        let weight = graph.node(graph.producer(output)?).input(1)?;
        let data = graph.tensor(weight)?.as_f32()?;
        Some(data.iter().filter(|w| **w == 0.0).count())
    };
    let layers = find_layers(before, &facts_of(before)?);
    let filled = layers.iter().filter_map(|l| {
        let (old, new) = (zeros(before, l.output)?, zeros(after, l.output)?);
        old.checked_sub(new)
    });
    let filled: usize = filled.sum();
    if filled > 0 {
        log.warn(format!(
            "{filled} connections that had gone are back: what layers share has zeros where all of them had some, and \
             what reads channels that come back is solved for as a whole"
        ));
    }
    Ok(())
}

/// Returns true if every constant of a network is one of the other, too.
fn same_weights(a: &Graph, b: &Graph) -> bool {
    a.initializers()
        .keys()
        .all(|v| v.index() < b.n_values() && a.tensor(*v) == b.tensor(*v))
}

/// Says the steps that led to widths, and returns those.
fn said(found: ByGain, log: &Log<'_>) -> Result<Vec<(String, usize)>, Error> {
    for step in &found.steps {
        log.note(&gained(step));
    }
    if found.steps.is_empty() {
        return Err(Error::new(
            ErrorKind::Model,
            "no group of channels gains within `max_macs`",
        )
        .with_hint(
            "a larger --max-macs allows dearer ones: a group gets an eighth more at a time",
        ));
    }
    Ok(found.widths)
}

fn gained(step: &GainStep) -> String {
    let (from, to) = step.units;
    format!(
        "  `{}` {from} -> {to} units: held-out error {:.4} -> {:.4} for {} MACs",
        step.group,
        step.error.0,
        step.error.1,
        thousands(step.macs)
    )
}

fn ceiling(network: &Network, share: Option<f64>) -> Option<Ceiling> {
    share.map(|s| Ceiling::Macs((s * network.cost().macs as f64) as u64))
}

fn pairs(widths: &BTreeMap<String, usize>) -> Vec<(String, usize)> {
    widths.iter().map(|(g, n)| (g.clone(), *n)).collect()
}

impl WidenStep {
    fn widths(&self) -> Widths {
        match self.factor {
            Some(factor) => Widths::Factor(factor),
            None => Widths::Units(pairs(&self.widths)),
        }
    }

    fn config(&self, network: &Network, seed: u64) -> WidenConfig {
        let usual = WidenConfig::default();
        WidenConfig {
            share: match self.share {
                ShareName::Zero => Share::Zero,
                ShareName::Split => Share::Split,
            },
            noise: self.noise.unwrap_or(if self.by_gain {
                NEW_UNIT_NOISE
            } else {
                usual.noise
            }),
            seed,
            ceiling: ceiling(network, self.max_macs),
            scores: None,
        }
    }
}

impl TieStep {
    fn tied(&self, network: &Network) -> Result<Edited, RebuildError> {
        let selection = selection(&self.layers);
        if let Some(n_kernels) = self.kernels {
            let form = self.form.into();
            return tie_kernels(network, &selection, KernelConfig { n_kernels, form });
        }
        let usual = TieConfig::default();
        let max_error = self.max_error.unwrap_or(usual.max_error);
        tie(network, &selection, TieConfig { max_error })
    }
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Values => Self::Values,
            FormName::Gather => Self::Gather,
        }
    }
}

impl ShareStep {
    fn config(&self) -> ShareConfig {
        ShareConfig {
            bits: match (self.bits, self.max_error) {
                (_, Some(max_error)) => Bits::Auto { max_error },
                (bits, None) => Bits::Fixed(bits.unwrap_or(4)),
            },
            scope: match self.scope {
                ScopeName::Layer => Scope::Layer,
                ScopeName::Network => Scope::Network,
            },
            weighting: match self.weighting {
                WeightingName::Plain => Weighting::Plain,
                WeightingName::Curvature => Weighting::Curvature,
                WeightingName::Gram => Weighting::Gram,
            },
            form: self.form.into(),
        }
    }
}

impl DeepenStep {
    fn config(&self, network: &Network, seed: u64) -> DeepenConfig {
        let usual = DeepenConfig::default();
        DeepenConfig {
            selection: selection(&self.layers),
            insert: match self.insert {
                InsertName::Identity => Insert::Identity,
                InsertName::Residual => Insert::Residual,
                InsertName::Cell => Insert::Cell,
            },
            kernel: self.kernel.unwrap_or(usual.kernel),
            seed,
            ceiling: ceiling(network, self.max_macs),
        }
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

impl From<SchemeName> for Scheme {
    fn from(name: SchemeName) -> Self {
        match name {
            SchemeName::Output => Self::Output,
            SchemeName::Svd => Self::Svd,
            SchemeName::Spatial => Self::Spatial,
            SchemeName::Tucker => Self::Tucker,
            SchemeName::Separable => Self::Separable,
            SchemeName::Cp => Self::Cp,
            SchemeName::MultiScale => Self::MultiScale,
            SchemeName::Grouped => Self::Grouped,
            SchemeName::Sparse => Self::Sparse,
            SchemeName::SparseLowRank => Self::SparseLowRank,
        }
    }
}

impl LowRankStep {
    fn config(&self, exec: ExecOptions) -> LowRankConfig {
        LowRankConfig {
            limit: match (self.macs, self.bytes) {
                (Some(share), _) => Limit::Macs(share),
                (None, Some(share)) => Limit::Bytes(share),
                (None, None) => Limit::Params(self.params.unwrap_or(1.0)),
            },
            schemes: match (self.schemes.is_empty(), self.bytes) {
                (true, Some(_)) => Scheme::ALL.to_vec(),
                (true, None) => Scheme::THIN.to_vec(),
                (false, _) => self.schemes.iter().map(|s| (*s).into()).collect(),
            },
            exec,
        }
    }
}
