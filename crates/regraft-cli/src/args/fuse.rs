//! Options of `reshape fuse`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use regraft::{BasisName, FuseOptions, MixtureName, ZerosName};

use super::{
    DataOptions, JudgeOptions, KeepOptions, OutputOptions, RebuildOptions, RunOptions,
    SampleOptions,
};

/// Several versions of one network into one of the same size.
///
/// Their graphs must be the same. The mean of their weights is refitted towards the mean of what they do,
/// layer by layer, then tuned towards their mean output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape fuse a.onnx b.onnx c.onnx --data cifar10/ -o one.onnx
  regraft reshape fuse seed0.onnx seed1.onnx --basis activations --data mnist/ -o one.onnx")]
pub(crate) struct FuseArgs {
    /// The networks, ONNX files
    #[arg(value_hint = ValueHint::FilePath, num_args = 2.., required = true)]
    pub(crate) networks: Vec<PathBuf>,
    /// How their channels correspond [default: same]
    #[arg(long, value_name = "HOW", help_heading = "Fusion")]
    basis: Option<Basis>,
    /// Which go into the mean, and with which weight [default: mean]
    #[arg(long, value_name = "HOW", help_heading = "Fusion")]
    mixture: Option<Mixture>,
    /// What becomes of connections that some have and others not [default: vote]
    #[arg(long, value_name = "HOW", help_heading = "Fusion")]
    zeros: Option<Zeros>,
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
    pub(crate) output: OutputOptions,
    #[command(flatten)]
    pub(crate) keep: KeepOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Basis {
    /// One to one: they descend from the same weights
    Same,
    /// By the correlation of what they give on samples
    Activations,
    /// By the products of their weights
    Weights,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mixture {
    /// All alike
    Mean,
    /// The best, and those that do not lower its score
    Soup,
    /// The weights with which their answers together come closest to the labels
    Stack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Zeros {
    /// All of them stay: denser than the networks
    Union,
    /// As many stay as the networks have on average
    Vote,
    /// Those of the first network stay
    First,
}

impl FuseArgs {
    pub(crate) fn options(&self) -> FuseOptions {
        let usual = FuseOptions::default();
        FuseOptions {
            basis: self.basis.map_or(usual.basis, |b| match b {
                Basis::Same => BasisName::Same,
                Basis::Activations => BasisName::Activations,
                Basis::Weights => BasisName::Weights,
            }),
            mixture: self.mixture.map_or(usual.mixture, |m| match m {
                Mixture::Mean => MixtureName::Mean,
                Mixture::Soup => MixtureName::Soup,
                Mixture::Stack => MixtureName::Stack,
            }),
            zeros: self.zeros.map_or(usual.zeros, |z| match z {
                Zeros::Union => ZerosName::Union,
                Zeros::Vote => ZerosName::Vote,
                Zeros::First => ZerosName::First,
            }),
        }
    }
}
