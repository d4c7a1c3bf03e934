//! Edits as a recipe names them: `[[reshape]]` tables, applied in order.

mod check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fuse::{BasisName, ZerosName};
use crate::recipe::{AutoName, RebuildRateName, RegrowUnitName};

/// One edit of the topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "kebab-case")]
pub enum ReshapeStep {
    /// Thin layers in place of wide ones.
    LowRank(LowRankStep),
    /// Attention, an identity at first.
    Attend(AttendStep),
    /// More units in groups; what the network computes stays.
    Widen(WidenStep),
    /// More layers; what the network computes stays.
    Deepen(DeepenStep),
    /// Shortcuts past layers, solved for, where they help.
    Link(LinkStep),
    /// Channels that were pruned come back.
    Reconnect(ReconnectStep),
    /// Weights become entries of codebooks; the last step, after the rebuild.
    Share(ShareStep),
    /// The mean with other networks of the same graph.
    Fuse(FuseStep),
    /// Layers that read one tensor; or convolutions of few kernels, after the rebuild.
    Tie(TieStep),
}

/// The mean of a network's weights with those of others, to be rebuilt towards the dense one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FuseStep {
    /// The other networks.
    pub networks: Vec<PathBuf>,
    /// How their channels correspond to those of the network.
    pub basis: BasisName,
    /// What becomes of connections that some have and others not.
    pub zeros: ZerosName,
}

/// Layers that read one tensor, or convolutions of few kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TieStep {
    /// The largest squared error of a layer relative to its energy; left out: 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
    /// Different kernels that each convolution keeps, in place of tying layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<usize>,
    /// How shared kernels are written.
    pub form: FormName,
    /// Which layers.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

/// Weights as entries of codebooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShareStep {
    /// Bits of an index: a codebook has two to this power entries; left out: 4, or as few as
    /// `max_error` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// The largest squared error of a layer's output, relative to its energy, in place of `bits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
    /// Who shares a codebook.
    pub scope: ScopeName,
    /// What an error of a weight costs.
    pub weighting: WeightingName,
    /// How shared weights are written.
    pub form: FormName,
    /// Which layers.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

/// Who shares a codebook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeName {
    /// The weights of each layer.
    #[default]
    Layer,
    /// Those of all layers.
    Network,
}

/// What an error of a weight costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightingName {
    /// Its square.
    Plain,
    /// Its square times the mean square of what it multiplies.
    Curvature,
    /// What it does to the layer's output together with all others.
    #[default]
    Gram,
}

/// How shared weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormName {
    /// As floats.
    #[default]
    Values,
    /// As a codebook and small indices.
    Gather,
}

/// More units in groups of channels that go together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WidenStep {
    /// As many times the units of every group that can grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// How the weights that read a unit are shared with its copies.
    pub share: ShareName,
    /// Noise on copies, relative to each weight; left out: 0.01, and 0.5 by gain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// The most multiply-accumulates, as a share of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_macs: Option<f64>,
    /// True to give units to the groups where the held-out error falls most for what they cost, up to
    /// `max_macs`, in place of `factor` and `widths`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_gain: bool,
    /// Units of single groups, by the group's name, in place of `factor`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub widths: BTreeMap<String, usize>,
}

/// How the weights that read a unit are shared with its copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShareName {
    /// Copies are not read at first.
    #[default]
    Zero,
    /// Evenly.
    Split,
}

/// More layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeepenStep {
    /// What is put in.
    pub insert: InsertName,
    /// Side of the kernel of new convolutions; left out: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<usize>,
    /// The most multiply-accumulates, as a share of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_macs: Option<f64>,
    /// True to put it only where the held-out error falls most for what it costs, up to `max_macs`, as found by
    /// training it everywhere for a few passes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_gain: bool,
    /// Behind which layers.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

/// What is put behind a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InsertName {
    /// A layer that gives what it reads.
    #[default]
    Identity,
    /// A residual block that adds nothing at first.
    Residual,
    /// Behind recurrent cells: another cell that adds nothing at first.
    Cell,
}

/// Shortcuts past layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkStep {
    /// Layers that a link may skip at most; left out: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past: Option<usize>,
    /// The most multiply-accumulates, as a share of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_macs: Option<f64>,
    /// Past which layers.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

/// What comes back as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReconnectUnitName {
    /// Channels, with everything that makes and reads them.
    #[default]
    Channel,
    /// Single connections, in layers that have lost some; they come back as the last edit, with the rebuild.
    Connection,
    /// All that one output has of one input channel.
    Kernel,
}

/// What was pruned comes back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconnectStep {
    /// What comes back as one.
    pub unit: ReconnectUnitName,
    /// Share of what was removed that comes back, of channels in every group; left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild_rate: Option<f64>,
    /// The most multiply-accumulates, as a share of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_macs: Option<f64>,
    /// Units of single groups, by the group's name; more than the dense network had are new ones.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub widths: BTreeMap<String, usize>,
    /// True to give units to the groups where the held-out error falls most for what they cost, up to
    /// `max_macs`, in place of `rebuild_rate` and `widths`; of connections and kernels as many as pay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_gain: bool,
}

/// Attention behind convolutions, linear layers and recurrent cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttendStep {
    /// What is put in.
    pub kind: AttendName,
    /// Channels for each hidden one of `squeeze-excite`, the reach of `channel`, the side of the kernel of
    /// `spatial`, the heads of `self-attention`; left out: 4, 3, 7, 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The most multiply-accumulates, as a share of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_macs: Option<f64>,
    /// True to put it only where the held-out error falls most for what it costs, up to `max_macs`, as found by
    /// training it everywhere for a few passes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_gain: bool,
    /// Which layers; left out: those that end a residual branch, or else convolutions, recurrent cells or linear
    /// layers, whatever the network has first.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

/// A kind of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttendName {
    /// A gate for each channel from the means of all.
    #[default]
    SqueezeExcite,
    /// A gate for each channel from the means of its neighbours.
    Channel,
    /// A gate for each position.
    Spatial,
    /// Each position reads all others.
    SelfAttention,
}

/// Which layers a step may touch: patterns of node names, `*` for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepLayers {
    /// Only these; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Never these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// Low rank: ranks of all layers by one budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LowRankStep {
    /// Share of the multiply-accumulates that stays, of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<f64>,
    /// Share of its parameters that stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<f64>,
    /// Share of the bytes of its weights that stays, where zeros are packed: one bit for each place, and
    /// the values that are not zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
    /// Kinds of factors tried; empty: all but `svd`, those with zeros only for `bytes`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<SchemeName>,
    /// Which layers.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

fn is_all(layers: &StepLayers) -> bool {
    *layers == StepLayers::default()
}

/// A way to factor a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeName {
    /// Fewer outputs, then a 1x1 layer back to all of them.
    Output,
    /// The same from the weights alone; only where it is asked for.
    Svd,
    /// A kernel's column, then its row.
    Spatial,
    /// Fewer inputs, a small core, then all outputs.
    Tucker,
    /// A few kernels for each input channel alone, then all outputs.
    Separable,
    /// A vector for each axis of a kernel and each term.
    Cp,
    /// A small kernel for everything, the whole one for few directions.
    MultiScale,
    /// Inputs and outputs in groups; blocks on the diagonal of a linear layer.
    Grouped,
    /// Single weights alone.
    Sparse,
    /// Fewer outputs and a 1x1 layer, plus single weights.
    SparseLowRank,
}

impl ReshapeStep {
    /// Returns the name that recipes and the command line have for the edit.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LowRank(_) => "low-rank",
            Self::Attend(_) => "attend",
            Self::Widen(_) => "widen",
            Self::Deepen(_) => "deepen",
            Self::Link(_) => "link",
            Self::Reconnect(_) => "reconnect",
            Self::Share(_) => "share",
            Self::Fuse(_) => "fuse",
            Self::Tie(_) => "tie",
        }
    }

    /// Returns the edit at the given layers alone; widening and channels that come back go by groups, not layers.
    pub(crate) fn at(&self, only: Vec<String>) -> Self {
        let mut step = self.clone();
        let layers = match &mut step {
            Self::Attend(step) => &mut step.layers,
            Self::Deepen(step) => &mut step.layers,
            Self::Link(step) => &mut step.layers,
            Self::LowRank(step) => &mut step.layers,
            Self::Share(step) => &mut step.layers,
            Self::Tie(step) => &mut step.layers,
            Self::Widen(_) | Self::Reconnect(_) | Self::Fuse(_) => return step,
        };
        *layers = StepLayers {
            only,
            ignore: Vec::new(),
        };
        step
    }

    /// Returns the most multiply-accumulates of the network behind the edit, as a share of those before it.
    fn max_macs(&self) -> Option<f64> {
        match self {
            Self::Attend(step) => step.max_macs,
            Self::Widen(step) => step.max_macs,
            Self::Deepen(step) => step.max_macs,
            Self::Link(step) => step.max_macs,
            Self::Reconnect(step) => step.max_macs,
            Self::LowRank(_) | Self::Share(_) | Self::Fuse(_) | Self::Tie(_) => None,
        }
    }

    /// Returns an edit that is placed by gain without its bound on the whole network.
    pub(crate) fn without_limit(&self) -> Self {
        let mut step = self.clone();
        match &mut step {
            Self::Attend(step) => step.max_macs = None,
            Self::Deepen(step) => step.max_macs = None,
            _ => {}
        }
        step
    }

    /// True if the edit is placed by gain, as those are that change nothing before they are trained.
    fn is_placed_by_gain(&self) -> bool {
        match self {
            Self::Attend(step) => step.by_gain,
            Self::Deepen(step) => step.by_gain,
            _ => false,
        }
    }

    /// Returns true for connections and kernels that come back, which they do with the rebuild.
    pub(crate) fn is_of_connections(&self) -> bool {
        matches!(self, Self::Reconnect(step) if step.of_connections().is_some())
    }

    /// Returns the files that the edit reads.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &Path> {
        let paths = match self {
            Self::Fuse(step) => &step.networks[..],
            _ => &[],
        };
        paths.iter().map(PathBuf::as_path)
    }

    /// Returns how much a network may cost in which this edit is placed by gain; `None` where it is not.
    pub(crate) fn by_gain(&self) -> Option<f64> {
        self.max_macs().filter(|_| self.is_placed_by_gain())
    }

    /// Returns true for an edit that always adds something, where it finds a place.
    pub(crate) fn adds_always(&self) -> bool {
        matches!(self, Self::Attend(_) | Self::Widen(_) | Self::Deepen(_))
    }

    /// Returns true for an edit behind which layers have the outputs they had.
    pub(crate) fn keeps_channels(&self) -> bool {
        !matches!(self, Self::Widen(_) | Self::Reconnect(_))
    }

    /// Returns true for an edit of codebooks or kernels that says which layers it takes.
    pub(crate) fn is_bounded(&self) -> bool {
        match self {
            Self::Share(step) => !step.layers.only.is_empty(),
            Self::Tie(step) => !step.layers.only.is_empty(),
            _ => false,
        }
    }

    /// Returns true for an edit that comes after the rebuild, which would undo it.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Self::Share(_) => true,
            Self::Tie(step) => step.kernels.is_some(),
            _ => false,
        }
    }

    /// Returns true for an edit whose budget is in bytes.
    pub(crate) fn counts_bytes(&self) -> bool {
        matches!(self, Self::LowRank(step) if step.bytes.is_some())
    }
}

impl ReconnectStep {
    /// Returns what a recipe says of connections that come back, and what comes back as one; `None` for channels.
    pub(super) fn of_connections(&self) -> Option<(RebuildRateName, RegrowUnitName)> {
        let unit = match self.unit {
            ReconnectUnitName::Channel => return None,
            ReconnectUnitName::Connection => RegrowUnitName::Connection,
            ReconnectUnitName::Kernel => RegrowUnitName::Kernel,
        };
        let rate = if self.by_gain {
            RebuildRateName::Word(AutoName::Auto)
        } else {
            RebuildRateName::Share(self.rebuild_rate.unwrap_or(1.0))
        };
        Some((rate, unit))
    }
}
