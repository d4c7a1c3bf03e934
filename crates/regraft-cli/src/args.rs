//! The command line as clap sees it. Every option of a run is optional here: what is left out
//! comes from the recipe or its defaults.

mod attack;
mod fit;
mod fuse;
mod new;
mod options;
mod reshape;
mod share;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub(crate) use attack::AttackArgs;
pub(crate) use fit::FitArgs;
pub(crate) use fuse::FuseArgs;
pub(crate) use new::NewArgs;
pub(crate) use options::{
    Allocation, Attention, Augment, DataOptions, Device, GroupOptions, JudgeOptions, KeepOptions,
    MaskMethod, Mix, OutputOptions, PruneOptions, RebuildOptions, Refit, Regrow, RegrowOptions,
    RegrowUnit, RunOptions, SampleOptions, Score, SparseOptions, Topology, Tune, WidthOptions,
};
pub(crate) use reshape::{Other, ReshapeArgs, UndoArgs};

/// What every verb's help ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, or the pruned model did not verify; no model was written
  2    an option or a recipe does not make sense
  3    done and written, but --max-drop was exceeded
  4    a model or data file is refused
  5    done and written, but something asked for was replaced: see `fallbacks` in the report
  70   internal error
  74   a file cannot be read or written
  130  stopped by Ctrl-C; with --run DIR the same command goes on from there

Results go to stdout, everything else to stderr. With --json stdout is one JSON object, and an
error is one JSON object too: the last line of stderr.";

/// Prunes trained ONNX networks and rebuilds what is left: smaller, faster, verified.
#[derive(Debug, Parser)]
#[command(
    name = "regraft",
    bin_name = "regraft",
    version,
    after_help = "First steps:\n  regraft demo\n  regraft inspect model.onnx\n  \
                  regraft shrink model.onnx --data samples/ --macs 0.5 -o small.onnx",
    after_long_help = EXIT_CODES,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    #[command(flatten)]
    pub(crate) talk: TalkOptions,
}

/// How much is said, and in which form.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct TalkOptions {
    /// Print one JSON object instead of text
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,

    /// Show no progress and no remarks
    #[arg(long, short, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Prune a network, rebuild what is left, verify and report
    Shrink(Box<ShrinkArgs>),
    /// Show layers, costs and which channels must go together; with --data what matters
    Inspect(Box<InspectArgs>),
    /// Decide which channels to remove and write it down, to be read and edited
    Plan(Box<PlanArgs>),
    /// Remove the channels of a plan, without rebuilding
    Apply(ApplyArgs),
    /// Rebuild a network that something else pruned, against its dense teacher
    Rebuild(Box<RebuildArgs>),
    /// Change the topology: thin, wider or more layers, links, attention, fusion
    Reshape(Box<ReshapeArgs>),
    /// Make a network with fresh weights, to be trained by `fit`
    New(Box<NewArgs>),
    /// Train or fine-tune a network on labelled samples, and prune it while it trains
    Fit(Box<FitArgs>),
    /// Measure how good a network is
    Eval(EvalArgs),
    /// Measure how long one or two networks take, interleaved
    Bench(BenchArgs),
    /// Shrink the network inside this program on the data inside it
    Demo(DemoArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
}

/// Prune a network, rebuild what is left, verify and report.
///
/// Decides which channels matter least, removes them physically, proves that nothing else
/// changed, rebuilds the rest on unlabelled samples and writes the small network with its report,
/// plan and recipe beside it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft shrink resnet20.onnx --data cifar10/ --macs 0.5 -o small.onnx
  regraft shrink lenet5.onnx --data mnist/ --params 0.25 --max-drop 0.3 --json
  regraft shrink --recipe small.recipe.toml --macs 0.75 -o larger.onnx

Exit codes other than 0 and what they mean: regraft --help")]
pub(crate) struct ShrinkArgs {
    /// The trained network, an ONNX file [default: the recipe's]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    #[command(flatten)]
    pub(crate) samples: SampleOptions,
    #[command(flatten)]
    pub(crate) prune: PruneOptions,
    #[command(flatten)]
    pub(crate) sparse: SparseOptions,
    #[command(flatten)]
    pub(crate) regrow: RegrowOptions,
    #[command(flatten)]
    pub(crate) groups: GroupOptions,
    #[command(flatten)]
    pub(crate) widths: WidthOptions,
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

/// Show layers, costs and which channels must go together; with --data what matters.
///
/// Groups that cannot be pruned are listed with the reason. With --data each group and each layer
/// is masked in turn: what the network loses stands beside how strong the part's connections are.
/// Samples are from the training split.
#[derive(Debug, Args)]
#[command(mut_arg("calib", |a| a.help("Training samples to judge on [default: 512]")))]
#[command(after_help = "\
Examples:
  regraft inspect resnet20.onnx
  regraft inspect resnet20.onnx --json | jq .macs
  regraft inspect resnet20.onnx --data cifar10/ --html matters.html")]
pub(crate) struct InspectArgs {
    /// The network, an ONNX file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    #[command(flatten)]
    pub(crate) samples: SampleOptions,
    #[command(flatten)]
    pub(crate) run: RunOptions,
    /// Also write a page that shows what matters
    #[arg(long, short = 'o', value_name = "FILE", value_hint = ValueHint::FilePath,
          help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long, short, action = ArgAction::SetTrue, help_heading = "Output")]
    pub(crate) force: bool,
}

/// Decide which channels to remove and write it down, to be read and edited.
///
/// The plan is a TOML file for `regraft apply`. Without --output it goes to stdout.
#[derive(Debug, Args)]
#[command(mut_arg("output", |a| a.help("The plan to write [default: stdout]")))]
#[command(after_help = "\
Example:
  regraft plan resnet20.onnx --data cifar10/ --macs 0.5 -o half.toml")]
pub(crate) struct PlanArgs {
    /// The trained network, an ONNX file [default: the recipe's]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    #[command(flatten)]
    pub(crate) samples: SampleOptions,
    #[command(flatten)]
    pub(crate) prune: PruneOptions,
    #[command(flatten)]
    pub(crate) groups: GroupOptions,
    #[command(flatten)]
    pub(crate) widths: WidthOptions,
    #[command(flatten)]
    pub(crate) run: RunOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Remove the channels of a plan, without rebuilding.
///
/// The result is verified against the masked dense network: on random tensors for every input, by
/// its type and shape, or on those of --inputs; with --data on samples too, with their accuracy.
/// Where this program does not run the network, ONNX Runtime verifies, if it is found.
#[derive(Debug, Args)]
#[command(mut_arg("output", |a| a.help("The network to write [default: the network's name, ending in .pruned.onnx]")))]
#[command(after_help = "\
Examples:
  regraft apply resnet20.onnx half.toml -o pruned.onnx
  regraft apply bert.onnx half.toml --inputs sentences.npz --masked masked.onnx")]
pub(crate) struct ApplyArgs {
    /// The trained network, an ONNX file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// The plan, as `regraft plan` writes it
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) plan: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    /// Arrays to verify with, one for each input by name [default: random]
    #[arg(long, value_name = "FILE.npz", value_hint = ValueHint::FilePath,
          help_heading = "Data", conflicts_with = "data")]
    pub(crate) inputs: Option<PathBuf>,
    /// The ONNX Runtime library to verify in [default: looked for]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath,
          help_heading = "Run", conflicts_with = "data")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Also write the masked dense network that the pruned one is compared with
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          help_heading = "Output")]
    pub(crate) masked: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Rebuild a network that something else pruned, against its dense teacher.
///
/// Both networks must have the same nodes; only widths may differ.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft rebuild pruned.onnx --teacher resnet20.onnx --data cifar10/ -o rebuilt.onnx
  regraft rebuild pruned.onnx --teacher resnet20.onnx --data cifar10/ --topology auto --latency 0.9")]
pub(crate) struct RebuildArgs {
    /// The pruned network, an ONNX file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) pruned: PathBuf,
    /// The dense network it came from [default: the recipe's model]
    #[arg(long, value_name = "DENSE", value_hint = ValueHint::FilePath)]
    pub(crate) teacher: Option<PathBuf>,
    /// Which network is rebuilt: the given one, or the best of several topologies that cost no more
    /// [default: given]
    #[arg(long, value_name = "HOW", help_heading = "Rebuild")]
    pub(crate) topology: Option<Topology>,
    /// With --topology: the most time, as a share of the dense network's measured time
    #[arg(long, value_name = "SHARE", value_parser = options::share, requires = "topology",
          help_heading = "Rebuild")]
    pub(crate) latency: Option<f64>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    #[command(flatten)]
    pub(crate) samples: SampleOptions,
    #[command(flatten)]
    pub(crate) regrow: RegrowOptions,
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

/// Measure how good a network is.
///
/// With labels: accuracy, precision, recall, F1. With --teacher: agreement with it, which needs
/// no labels. With --attack also on samples that are changed to fool the network.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft eval small.onnx --data cifar10/
  regraft eval small.onnx --teacher resnet20.onnx --data photos/ --json
  regraft eval small.onnx --teacher lenet5.onnx --data mnist/ --attack pgd --eps 0.1")]
pub(crate) struct EvalArgs {
    /// The network, an ONNX file [default: the recipe's]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    /// The dense network to compare with
    #[arg(long, value_name = "DENSE", value_hint = ValueHint::FilePath)]
    pub(crate) teacher: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    #[command(flatten)]
    pub(crate) attack: AttackArgs,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// Measure how long one or two networks take, interleaved.
///
/// The median of runs that take turns, in ONNX Runtime where a library is found, else in this
/// program; the result says which.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  regraft bench resnet20.onnx small.onnx --batch 32 --threads 1")]
pub(crate) struct BenchArgs {
    /// The network, an ONNX file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) dense: PathBuf,
    /// A second network, to compare with
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) small: Option<PathBuf>,
    /// Samples in a batch [default: 32]
    #[arg(long, value_name = "SAMPLES")]
    pub(crate) batch: Option<usize>,
    /// Threads [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The ONNX Runtime library [default: looked for]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) onnxruntime: Option<PathBuf>,
}

/// Shrink the network inside this program on the data inside it.
///
/// Handwritten digits and a small network that reads them; needs no file and no network access.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  regraft demo --out digits/")]
pub(crate) struct DemoArgs {
    /// Where the small network and its report go
    #[arg(long, short = 'o', value_name = "DIR", value_hint = ValueHint::DirPath,
          default_value = "regraft-demo")]
    pub(crate) out: PathBuf,
    /// The ONNX Runtime library to measure latency with [default: looked for]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) onnxruntime: Option<PathBuf>,
}

/// Print the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft completions bash > ~/.local/share/bash-completion/completions/regraft
  regraft completions zsh > ~/.zfunc/_regraft
  regraft completions fish > ~/.config/fish/completions/regraft.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
