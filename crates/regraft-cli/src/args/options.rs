//! Options that several verbs share, by what they are about.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum, ValueHint};
use regraft::{AutoName, RebuildRateName};

/// What is read and how it is turned into the network's input.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataOptions {
    /// Samples: CIFAR-10, MNIST IDX, .npy, .npz, CSV, or a folder of images by class
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) data: Option<PathBuf>,
    /// Subtracted from each channel after scaling: one number, or one for each channel
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', num_args = 1,
          allow_hyphen_values = true, value_parser = finite)]
    pub(crate) mean: Option<Vec<f32>>,
    /// Each channel is divided by it: one number, or one for each channel
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', num_args = 1,
          allow_hyphen_values = true, value_parser = finite)]
    pub(crate) std: Option<Vec<f32>>,
    /// Factor before mean and std [default: 1/255 for images of bytes, else 1]
    #[arg(long, value_name = "FACTOR", allow_hyphen_values = true, value_parser = factor)]
    pub(crate) scale: Option<f32>,
    /// Height and width that images are brought to, in pixels: 224x224, or 224 for both
    #[arg(long, value_name = "HxW", value_parser = height_width)]
    pub(crate) resize: Option<[usize; 2]>,
}

/// How much to keep. One of the three is needed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Budget")]
pub(crate) struct PruneOptions {
    /// Share of the dense network's multiply-accumulates to keep: 0.5 is half
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true,
          conflicts_with_all = ["params", "latency"])]
    pub(crate) macs: Option<f64>,
    /// Share of the dense network's parameters to keep: 0.5 is half
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true,
          conflicts_with = "latency")]
    pub(crate) params: Option<f64>,
    /// Share of the dense network's measured time to keep, whole residual blocks included
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    pub(crate) latency: Option<f64>,
    /// Let whole residual blocks go under --macs or --params too
    #[arg(long, conflicts_with = "latency")]
    pub(crate) depth: bool,
}

/// Single connections instead of channels.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections")]
pub(crate) struct SparseOptions {
    /// Share of single connections to remove, instead of channels: 0.8 leaves a fifth
    #[arg(long, value_name = "SHARE", value_parser = below_one, allow_negative_numbers = true,
          conflicts_with_all = ["macs", "params", "latency"])]
    pub(crate) sparsity: Option<f64>,
    /// Shape of the zeros: unstructured, 2:4 or any n:m, block:4x1 [default: unstructured]
    #[arg(long, value_name = "SHAPE", conflicts_with_all = ["macs", "params", "latency"])]
    pub(crate) pattern: Option<String>,
    /// How the connections that stay are shared between layers [default: auto]
    #[arg(long, value_name = "HOW")]
    pub(crate) allocation: Option<Allocation>,
    /// How they are chosen in a layer [default: best]
    #[arg(long, value_name = "METHOD")]
    pub(crate) mask: Option<MaskMethod>,
    /// What the weights on them are refitted to [default: asymmetric]
    #[arg(long, value_name = "HOW")]
    pub(crate) refit: Option<Refit>,
    /// Steps in which connections go, tuned in between [default: 2 where few stay, else 1]
    #[arg(long, value_name = "STEPS")]
    pub(crate) prune_steps: Option<usize>,
    /// Passes of exact swaps over each layer at most [default: 2]
    #[arg(long, value_name = "PASSES")]
    pub(crate) swap_passes: Option<usize>,
}

/// Connections that come back or move once the network is pruned.
#[derive(Debug, Args)]
#[command(next_help_heading = "Regrowth")]
pub(crate) struct RegrowOptions {
    /// Share of the pruned connections to give back, the best ones, or auto: as many as pay
    #[arg(long, value_name = "SHARE", value_parser = rate, allow_negative_numbers = true)]
    pub(crate) rebuild_rate: Option<RebuildRateName>,
    /// What ranks the connections that come back [default: gain]
    #[arg(long, value_name = "BY")]
    pub(crate) regrow: Option<Regrow>,
    /// What comes back as one [default: connection]
    #[arg(long, value_name = "UNIT")]
    pub(crate) regrow_unit: Option<RegrowUnit>,
    /// Rounds in which connections move between layers, each kept if it helps [default: 0]
    #[arg(long, value_name = "ROUNDS")]
    pub(crate) move_rounds: Option<usize>,
}

/// Which channels may go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Channels")]
pub(crate) struct GroupOptions {
    /// Leave the layers whose name fits whole: `*` stands for any text; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,
    /// Prune only the layers whose name fits; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Vec<String>,
}

/// What decides about a channel, and which widths are allowed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Channels")]
pub(crate) struct WidthOptions {
    /// What ranks the channels [default: obs]
    #[arg(long, value_name = "NAME")]
    pub(crate) score: Option<Score>,
    /// Widths end on multiples of this many channels: vector lanes [default: 8]
    #[arg(long, value_name = "CHANNELS")]
    pub(crate) multiple_of: Option<usize>,
}

/// What happens to the weights that stay.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rebuilding")]
pub(crate) struct RebuildOptions {
    /// After the closed-form refit: nothing, or gradients block by block [default: blocks]
    #[arg(long, value_name = "HOW")]
    pub(crate) tune: Option<Tune>,
    /// Passes over the calibration samples for each tuned block [default: 8]
    #[arg(long, value_name = "PASSES")]
    pub(crate) epochs: Option<usize>,
    /// Passes with all blocks tuned together [default: as many as a fixed amount of work allows]
    #[arg(long, value_name = "PASSES")]
    pub(crate) joint_epochs: Option<usize>,
    /// How images are varied while all blocks are tuned together; the dense network sees the
    /// same variation [default: auto]
    #[arg(long, value_name = "HOW")]
    pub(crate) augment: Option<Augment>,
    /// How images of a batch are mixed with each other then [default: auto]
    #[arg(long, value_name = "HOW")]
    pub(crate) mix: Option<Mix>,
    /// First damping of the refit, relative to the mean power of a layer's inputs
    /// [default: 0.001]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(crate) damping: Option<f64>,
}

/// How the result is judged.
#[derive(Debug, Args)]
#[command(next_help_heading = "Judging")]
pub(crate) struct JudgeOptions {
    /// Exit with code 3 if more accuracy is lost, in points (without labels: agreement with the
    /// dense network)
    #[arg(long, value_name = "POINTS", allow_negative_numbers = true)]
    pub(crate) max_drop: Option<f64>,
    /// Samples in a batch when latency is measured [default: 32]
    #[arg(long, value_name = "SAMPLES")]
    pub(crate) batch: Option<usize>,
    /// The ONNX Runtime library to measure latency with [default: looked for]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) onnxruntime: Option<PathBuf>,
}

/// Which samples calibrate.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct SampleOptions {
    /// Unlabelled samples to calibrate on, held-out ones included [default: 1024]
    #[arg(long, value_name = "SAMPLES")]
    pub(crate) calib: Option<usize>,
    /// Seed of every random choice [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// What a run is made of besides its files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct RunOptions {
    /// A TOML file with these options, as one is saved beside each result; options given here
    /// win
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) recipe: Option<PathBuf>,
    /// Threads; the result does not depend on them [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Where models run; devices other than the CPU must be built in [default: cpu]
    #[arg(long, value_name = "DEVICE", value_enum)]
    pub(crate) device: Option<Device>,
    /// Fix an input, or a free extent of the inputs, so that branches which depend on it are taken once
    /// and for all; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) fix: Vec<String>,
    /// A state that the caller carries from one call to the next: its channels can go inside, the
    /// caller goes on passing all of them; may be repeated
    #[arg(long, value_name = "OUTPUT=INPUT")]
    pub(crate) state: Vec<String>,
    /// What can go of attention [default: heads]
    #[arg(long, value_name = "WHAT")]
    pub(crate) attention: Option<Attention>,
    /// Accept weights that are NaN or infinite
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) allow_nonfinite: bool,
    /// Read external data through hard links, as caches that store a file once make them
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) allow_hardlinks: bool,
}

/// Where the result goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// The file to write; its report, plan and recipe go beside it
    /// [default: the network's name, ending in .small.onnx]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub(crate) force: bool,
}

/// What outlives a kill.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct KeepOptions {
    /// Keep every finished stage in this folder: after a kill or Ctrl-C the same command goes
    /// on from there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) run: Option<PathBuf>,
}

/// Which network is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topology {
    /// The given one
    Given,
    /// The best of several that cost no more: channels given back, layers made thin
    Auto,
}

/// What can go of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attention {
    /// Whole heads
    Heads,
    /// The width of every head alike: queries with keys, values by themselves
    Widths,
}

/// What ranks the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Score {
    /// Structured optimal brain surgery on the second moments of the inputs
    Obs,
    /// Sum of absolute weights
    L1,
    /// Root of the sum of squared weights
    L2,
    /// Scale of the batch normalisation behind
    BatchNorm,
    /// Mean square of the channel times the weights that read it
    Activation,
    /// Uniform numbers: the floor every score must beat
    Random,
}

/// What follows the closed-form refit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tune {
    /// Closed-form refit only
    None,
    /// Gradients block by block against the dense network, on unlabelled samples
    Blocks,
}

/// How a budget of connections is shared between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allocation {
    /// All of the others; the one with the lowest error on held-out samples is taken
    Auto,
    /// The same share everywhere
    Uniform,
    /// Erdős–Rényi kernel densities
    Erk,
    /// Layer-adaptive magnitudes
    Lamp,
    /// One threshold on the marginal losses of all layers
    Global,
    /// Dynamic programming over solved levels
    Dynamic,
    /// Evolutionary search on the network's output
    Evolve,
}

/// How the connections that stay are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MaskMethod {
    /// `obs` or `alps`, each improved by swaps: whichever has the lower error, layer by layer
    Best,
    /// The connection that is missed least goes, the others are refitted, and so on
    Obs,
    /// Alternating directions (ALPS)
    Alps,
    /// The column sweep of `SparseGPT`
    Sparsegpt,
    /// Weights times the root mean square of their inputs
    Wanda,
    /// The largest weights
    Magnitude,
}

/// What ranks the connections that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Regrow {
    /// The exact gain of each layer with the row refitted
    Gain,
    /// The correlation of each layer's residual with its inputs
    Residual,
    /// The gradient of the network's error (`RigL`)
    Gradient,
}

/// What comes back as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegrowUnit {
    /// Single connections
    Connection,
    /// Whole kernels: all that one output has of one input channel
    Kernel,
}

/// What the weights on a mask are refitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Refit {
    /// The pruned network's inputs, the dense network's outputs
    Asymmetric,
    /// The dense network's inputs and outputs
    Symmetric,
    /// Nothing: the old weights stay
    None,
}

/// How images of a batch are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// Colour images are pasted into each other, other data left alone
    Auto,
    /// Not at all
    None,
    /// Weighted means of two images
    Blend,
    /// A rectangle of every other image comes from another one
    Paste,
}

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The processor
    Cpu,
    /// The first NVIDIA device
    Cuda,
    /// The first Metal device
    Metal,
    /// The first Vulkan device
    Vulkan,
}

/// How images are varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Augment {
    /// Colour images mirrored and shifted, grey images shifted, other data left alone
    Auto,
    /// Not at all
    None,
    /// Shifted by up to an eighth of the smaller side
    Shift,
    /// Shifted and mirrored left to right
    FlipShift,
}

/// A number, or a fraction such as 1/255.
fn factor(text: &str) -> Result<f32, String> {
    match text.split_once('/') {
        Some((above, below)) => finite(above.trim())
            .and_then(|a| Ok(a / finite(below.trim())?))
            .and_then(|f| finite(&f.to_string())),
        None => finite(text),
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        Ok(_) => Err("must be above 0 and at most 1; 0.5 keeps half".to_owned()),
        Err(_) => Err("is not a number; 0.5 keeps half".to_owned()),
    }
}

fn rate(text: &str) -> Result<RebuildRateName, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(RebuildRateName::Share(share)),
        Err(_) if text == "auto" => Ok(RebuildRateName::Word(AutoName::Auto)),
        Ok(_) => Err("must be from 0 to 1; 0.1 gives a tenth back".to_owned()),
        Err(_) => Err("is neither a number nor auto; 0.1 gives a tenth back".to_owned()),
    }
}

fn below_one(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        Ok(_) => Err("must be above 0 and below 1; 0.8 leaves a fifth".to_owned()),
        Err(_) => Err("is not a number; 0.8 leaves a fifth".to_owned()),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("is not a finite number".to_owned()),
    }
}

fn height_width(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once(['x', 'X']).unwrap_or((text, text));
    match (height.parse(), width.parse()) {
        (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok([height, width]),
        _ => Err("is not a size in pixels; write 224x224, height first".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{finite, height_width, share};

    #[test]
    fn values_are_checked_where_they_are_given() {
        for (text, good) in [
            ("0.5", true),
            ("1", true),
            ("0", false),
            ("1.5", false),
            ("nan", false),
            ("x", false),
        ] {
            assert_eq!(share(text).is_ok(), good, "share {text}");
        }
        for (text, good) in [("-0.5", true), (" 2", true), ("inf", false), ("", false)] {
            assert_eq!(finite(text).is_ok(), good, "finite {text}");
        }
        let sizes = [
            ("224", Some([224, 224])),
            ("32x64", Some([32, 64])),
            ("0x3", None),
            ("32x", None),
            ("-1", None),
        ];
        for (text, size) in sizes {
            assert_eq!(height_width(text).ok(), size, "size {text}");
        }
    }
}
