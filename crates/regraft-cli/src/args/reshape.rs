//! Options of `reshape`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use regraft::{
    AttendName, AttendStep, DeepenStep, InsertName, LinkStep, LowRankStep, ReconnectStep,
    ReconnectUnitName, ReshapeStep, SchemeName, ShareName, StepLayers, WidenStep,
};

use super::options::share;
use super::share::{ShareArgs, TieArgs};
use super::{
    DataOptions, FuseArgs, JudgeOptions, KeepOptions, OutputOptions, RebuildOptions, RunOptions,
    SampleOptions,
};

/// Change the topology: thin, wider or more layers, links, attention, fusion.
///
/// Each edit keeps what the network computes or says by how much it changes it; what it changed is
/// refitted and tuned on unlabelled samples. A recipe can name several edits as its `reshape` steps.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape low-rank resnet56.onnx --data cifar10/ --macs 0.6 -o thin.onnx
  regraft reshape steps pruned.onnx --teacher dense.onnx --recipe steps.toml -o better.onnx")]
pub(crate) struct ReshapeArgs {
    #[command(subcommand)]
    pub(crate) edit: EditArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EditArgs {
    /// Thin layers in place of wide ones, ranks by one budget
    LowRank(Box<LowRankArgs>),
    /// Attention behind layers or cells, an identity at first
    Attend(Box<AttendArgs>),
    /// More units in groups of channels; the network computes what it did
    Widen(Box<WidenArgs>),
    /// More layers; the network computes what it did
    Deepen(Box<DeepenArgs>),
    /// Shortcuts past layers, solved for, kept where they help
    Link(Box<LinkArgs>),
    /// What was pruned comes back, with weights that are solved for
    Reconnect(Box<ReconnectArgs>),
    /// Weights as entries of codebooks, with the bytes of each stage of coding
    Share(Box<ShareArgs>),
    /// Layers that read one tensor, or convolutions of few kernels
    Tie(Box<TieArgs>),
    /// Several versions of one network into one of the same size
    Fuse(Box<FuseArgs>),
    /// The `reshape` steps of a recipe, in order
    Steps(Box<EditOptions>),
    /// The network as it was before an edit, out of the run folder
    Undo(Box<UndoArgs>),
}

/// What is no edit of one network.
pub(crate) enum Other<'a> {
    Fuse(&'a FuseArgs),
    Undo(&'a UndoArgs),
}

/// The network as it was before an edit, out of the run folder.
///
/// `--run DIR` keeps the network before and after every edit. Before `share`, which comes last, that is the
/// rebuilt network; before any other edit it is what the edit was given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape steps net.onnx --recipe steps.toml --data mnist/ --run run/ -o out.onnx
  regraft reshape undo run/ -o before.onnx
  regraft reshape undo run/ --step 1 -o given.onnx")]
pub(crate) struct UndoArgs {
    /// The folder that `reshape` was given with --run
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) run: PathBuf,
    /// The edit to go back before, from 1 [default: the last]
    #[arg(long, value_name = "N", help_heading = "Edit")]
    pub(crate) step: Option<usize>,
    /// The file to write
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub(crate) output: PathBuf,
    /// Replace files that exist
    #[arg(long, short, help_heading = "Output")]
    pub(crate) force: bool,
}

impl EditArgs {
    /// Returns the options of an edit of one network and its step, nothing where the recipe's steps count;
    /// what else it is where it is no edit of one network.
    pub(crate) fn parts(&self) -> Result<(&EditOptions, Option<ReshapeStep>), Other<'_>> {
        Ok(match self {
            Self::LowRank(args) => (
                &args.edit,
                Some(ReshapeStep::LowRank(LowRankStep {
                    macs: args.macs,
                    params: args.params,
                    bytes: args.bytes,
                    schemes: args.scheme.iter().map(|s| (*s).into()).collect(),
                    layers: args.layers.layers(),
                })),
            ),
            Self::Attend(args) => (
                &args.edit,
                Some(ReshapeStep::Attend(AttendStep {
                    kind: args.kind.unwrap_or(Kind::SqueezeExcite).into(),
                    size: args.size,
                    max_macs: args.max_macs,
                    by_gain: args.by_gain,
                    layers: args.layers.layers(),
                })),
            ),
            Self::Widen(args) => (
                &args.edit,
                Some(ReshapeStep::Widen(WidenStep {
                    factor: args.factor,
                    share: args.share.map_or(ShareName::Zero, Into::into),
                    noise: args.noise,
                    max_macs: args.max_macs,
                    by_gain: args.by_gain,
                    widths: args.width.iter().cloned().collect(),
                })),
            ),
            Self::Deepen(args) => (
                &args.edit,
                Some(ReshapeStep::Deepen(DeepenStep {
                    insert: args.insert.map_or(InsertName::Identity, Into::into),
                    kernel: args.kernel,
                    max_macs: args.max_macs,
                    by_gain: args.by_gain,
                    layers: args.layers.layers(),
                })),
            ),
            Self::Link(args) => (
                &args.edit,
                Some(ReshapeStep::Link(LinkStep {
                    past: args.past,
                    max_macs: args.max_macs,
                    layers: args.layers.layers(),
                })),
            ),
            Self::Reconnect(args) => (
                &args.edit,
                Some(ReshapeStep::Reconnect(ReconnectStep {
                    unit: args.unit.map_or(ReconnectUnitName::Channel, Into::into),
                    rebuild_rate: args.rebuild_rate,
                    max_macs: args.max_macs,
                    widths: args.width.iter().cloned().collect(),
                    by_gain: args.by_gain,
                })),
            ),
            Self::Share(args) => (&args.edit, Some(args.step())),
            Self::Tie(args) => (&args.edit, Some(args.step())),
            Self::Steps(options) => (options, None),
            Self::Fuse(args) => return Err(Other::Fuse(args)),
            Self::Undo(args) => return Err(Other::Undo(args)),
        })
    }
}

/// What all edits share.
#[derive(Debug, Args)]
pub(crate) struct EditOptions {
    /// The network, an ONNX file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) network: PathBuf,
    /// The dense network that the result is refitted towards [default: the network itself]
    #[arg(long, value_name = "DENSE", value_hint = ValueHint::FilePath)]
    pub(crate) teacher: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    #[command(flatten)]
    pub(crate) samples: SampleOptions,
    #[command(flatten)]
    pub(crate) rebuild: RebuildOptions,
    #[command(flatten)]
    pub(crate) judge: JudgeOptions,
    #[command(flatten)]
    pub(crate) run: RunOptions,
    #[command(flatten)]
    pub(crate) keep: KeepOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Which layers an edit may touch.
#[derive(Debug, Args)]
pub(crate) struct LayerOptions {
    /// Leave the layers whose name fits as they are: `*` stands for any text; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "Edit")]
    ignore: Vec<String>,
    /// Change only the layers whose name fits; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "Edit")]
    only: Vec<String>,
}

impl LayerOptions {
    pub(super) fn layers(&self) -> StepLayers {
        StepLayers {
            only: self.only.clone(),
            ignore: self.ignore.clone(),
        }
    }
}

/// Thin layers in place of wide ones, ranks by one budget.
///
/// Each layer becomes two or three: by its outputs' strongest directions, by its kernel's axes, or by
/// channels on both sides, whatever loses least for its cost on the samples.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape low-rank resnet56.onnx --data cifar10/ --macs 0.6 -o thin.onnx
  regraft reshape low-rank bert.onnx --data sentences.npz --params 0.7 --only '*intermediate*'
  regraft reshape low-rank resnet56.onnx --data cifar10/ --bytes 0.1 -o packed.onnx")]
pub(crate) struct LowRankArgs {
    #[command(flatten)]
    edit: EditOptions,
    /// Share of the multiply-accumulates to keep
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["params", "bytes"],
          required_unless_present_any = ["params", "bytes"], help_heading = "Edit")]
    macs: Option<f64>,
    /// Share of the parameters to keep
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "bytes",
          help_heading = "Edit")]
    params: Option<f64>,
    /// Share of the bytes of weights to keep; zeros take one bit each
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Edit")]
    bytes: Option<f64>,
    /// Kinds of factors tried, those with zeros only for --bytes; may be repeated [default: all but svd]
    #[arg(long, value_name = "KIND", help_heading = "Edit")]
    scheme: Vec<Scheme>,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scheme {
    /// Fewer outputs, then a 1x1 layer back to all of them
    Output,
    /// The same from the weights alone, a baseline
    Svd,
    /// A kernel's column, then its row
    Spatial,
    /// Fewer inputs, a small core, then all outputs
    Tucker,
    /// A few kernels for each input channel alone, then all outputs
    Separable,
    /// A vector for each axis of a kernel and each term (canonical polyadic)
    Cp,
    /// A small kernel for everything, the whole one for few directions
    MultiScale,
    /// Inputs and outputs in groups that share most: a grouped convolution, blocks in a linear layer
    Grouped,
    /// Single weights alone
    Sparse,
    /// Fewer outputs and a 1x1 layer, plus single weights
    SparseLowRank,
}

impl From<Scheme> for SchemeName {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Output => Self::Output,
            Scheme::Svd => Self::Svd,
            Scheme::Spatial => Self::Spatial,
            Scheme::Tucker => Self::Tucker,
            Scheme::Separable => Self::Separable,
            Scheme::Cp => Self::Cp,
            Scheme::MultiScale => Self::MultiScale,
            Scheme::Grouped => Self::Grouped,
            Scheme::Sparse => Self::Sparse,
            Scheme::SparseLowRank => Self::SparseLowRank,
        }
    }
}

/// Attention behind layers or cells, an identity at first.
///
/// Gates of exactly one, or a projection of zeros: the network computes what it did, and is then tuned
/// towards its teacher.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  regraft reshape attend small.onnx --teacher resnet20.onnx --data cifar10/ -o attending.onnx")]
pub(crate) struct AttendArgs {
    #[command(flatten)]
    edit: EditOptions,
    /// What is put in [default: squeeze-excite]
    #[arg(long, value_name = "KIND", help_heading = "Edit")]
    kind: Option<Kind>,
    /// Channels for each hidden one of squeeze-excite, reach of channel, side of the kernel of spatial,
    /// heads of self-attention [default: 4, 3, 7, 4]
    #[arg(long, value_name = "N", help_heading = "Edit")]
    size: Option<usize>,
    /// The most multiply-accumulates, as a share of the network's
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    max_macs: Option<f64>,
    /// Only where the held-out error falls most for its cost, up to --max-macs, found by training it everywhere
    #[arg(long, requires = "max_macs", help_heading = "Edit")]
    by_gain: bool,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A gate for each channel from the means of all
    SqueezeExcite,
    /// A gate for each channel from the means of its neighbours
    Channel,
    /// A gate for each position
    Spatial,
    /// Each position reads all others
    SelfAttention,
}

impl From<Kind> for AttendName {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::SqueezeExcite => Self::SqueezeExcite,
            Kind::Channel => Self::Channel,
            Kind::Spatial => Self::Spatial,
            Kind::SelfAttention => Self::SelfAttention,
        }
    }
}

/// More units in groups of channels; the network computes what it did.
///
/// Each group's most important units are copied. What reads a copy starts at zero, or the unit and its
/// copies share it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  regraft reshape widen small.onnx --factor 1.5 --data cifar10/ -o wide.onnx")]
pub(crate) struct WidenArgs {
    #[command(flatten)]
    edit: EditOptions,
    /// As many times the units of every group that can grow
    #[arg(
        long,
        value_name = "FACTOR",
        conflicts_with_all = ["width", "by_gain"],
        required_unless_present_any = ["width", "by_gain"],
        help_heading = "Edit"
    )]
    factor: Option<f64>,
    /// Units of one group, by its name; may be repeated
    #[arg(
        long,
        value_name = "GROUP=UNITS",
        value_parser = width,
        conflicts_with = "by_gain",
        help_heading = "Edit"
    )]
    width: Vec<(String, usize)>,
    /// How the weights that read a unit are shared with its copies [default: zero]
    #[arg(long, value_name = "HOW", help_heading = "Edit")]
    share: Option<Share>,
    /// Units for the groups where the held-out error falls most for their cost, up to --max-macs
    #[arg(long, requires = "max_macs", help_heading = "Edit")]
    by_gain: bool,
    /// Noise on the weights that make copies, relative to each [default: 0.01, by gain 0.5]
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    noise: Option<f64>,
    /// The most multiply-accumulates, as a share of the network's
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    max_macs: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Share {
    /// Copies are not read at first
    Zero,
    /// Evenly
    Split,
}

impl From<Share> for ShareName {
    fn from(share: Share) -> Self {
        match share {
            Share::Zero => Self::Zero,
            Share::Split => Self::Split,
        }
    }
}

/// More layers; the network computes what it did.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  regraft reshape deepen small.onnx --only 'layer2*' --data cifar10/ -o deep.onnx")]
pub(crate) struct DeepenArgs {
    #[command(flatten)]
    edit: EditOptions,
    /// What is put behind a layer [default: identity]
    #[arg(long, value_name = "WHAT", help_heading = "Edit")]
    insert: Option<Insert>,
    /// Side of the kernel of new convolutions, odd [default: 3]
    #[arg(long, value_name = "N", help_heading = "Edit")]
    kernel: Option<usize>,
    /// The most multiply-accumulates, as a share of the network's
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    max_macs: Option<f64>,
    /// Only where the held-out error falls most for its cost, up to --max-macs, found by training it everywhere
    #[arg(long, requires = "max_macs", help_heading = "Edit")]
    by_gain: bool,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Insert {
    /// A layer that gives what it reads
    Identity,
    /// A residual block that adds nothing at first
    Residual,
    /// Behind recurrent cells: another cell that adds nothing at first
    Cell,
}

impl From<Insert> for InsertName {
    fn from(insert: Insert) -> Self {
        match insert {
            Insert::Identity => Self::Identity,
            Insert::Residual => Self::Residual,
            Insert::Cell => Self::Cell,
        }
    }
}

/// Shortcuts past layers, solved for, kept where they help.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  regraft reshape link small.onnx --teacher resnet20.onnx --data cifar10/ -o linked.onnx")]
pub(crate) struct LinkArgs {
    #[command(flatten)]
    edit: EditOptions,
    /// Layers that a link may skip at most; of all its starts the best is taken [default: 2]
    #[arg(long, value_name = "LAYERS", help_heading = "Edit")]
    past: Option<usize>,
    /// The most multiply-accumulates, as a share of the network's
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    max_macs: Option<f64>,
    #[command(flatten)]
    layers: LayerOptions,
}

/// What was pruned comes back, with weights that are solved for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape reconnect small.onnx --teacher resnet20.onnx --rebuild-rate 0.3 --data cifar10/
  regraft reshape reconnect sparse.onnx --teacher dense.onnx --unit connection --by-gain --data mnist/")]
pub(crate) struct ReconnectArgs {
    #[command(flatten)]
    edit: EditOptions,
    /// What comes back as one [default: channel]
    #[arg(long, value_name = "WHAT", help_heading = "Edit")]
    unit: Option<Unit>,
    /// Share of what was removed that comes back, of channels in every group [default: 1]
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    rebuild_rate: Option<f64>,
    /// Units of one group, by its name; more than the dense network had are new; may be repeated
    #[arg(long, value_name = "GROUP=UNITS", value_parser = width, help_heading = "Edit")]
    width: Vec<(String, usize)>,
    /// Units for the groups where the held-out error falls most for their cost, up to --max-macs; of
    /// connections and kernels as many as pay
    #[arg(long, help_heading = "Edit")]
    by_gain: bool,
    /// The most multiply-accumulates, as a share of the network's
    #[arg(long, value_name = "SHARE", help_heading = "Edit")]
    max_macs: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unit {
    /// Channels, with everything that makes and reads them
    Channel,
    /// Single connections, in layers that have lost some
    Connection,
    /// All that one output has of one input channel
    Kernel,
}

impl From<Unit> for ReconnectUnitName {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Channel => Self::Channel,
            Unit::Connection => Self::Connection,
            Unit::Kernel => Self::Kernel,
        }
    }
}

/// Reads `GROUP=UNITS`; the name may hold further equals signs.
fn width(text: &str) -> Result<(String, usize), String> {
    let (group, units) = text
        .rsplit_once('=')
        .ok_or("is not GROUP=UNITS; write conv1=48")?;
    let units = units.parse().map_err(|_| "does not end in a number")?;
    Ok((group.to_owned(), units))
}
