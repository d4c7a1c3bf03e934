//! Options of `fit`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use regraft::{
    DecayName, FitAugmentName, FitRecipe, LossName, MethodName, OptimizerName, PaceName,
    SoftAllocationName,
};

use super::attack::HardenArgs;
use super::{DataOptions, Device, KeepOptions, OutputOptions};
use crate::failure::Failure;
use crate::recipe::{device, read_text};

/// Train or fine-tune a network on labelled samples, and prune it while it trains.
///
/// The weights of the best epoch, by training samples that were held out, are written with a report,
/// a recipe and a table of every epoch beside them; the test split judges. With --sparsity single
/// connections go on the way. Everything that is not an option here is a line of the recipe.
#[derive(Debug, Args)]
#[command(mut_arg("output", |a| a.help("The network to write [default: the network's name, ending in .fit.onnx]")))]
#[command(after_help = "\
Examples:
  regraft fit lenet5.onnx --data mnist/ --epochs 20 -o trained.onnx
  regraft fit lenet5.onnx --data mnist/ --sparsity 0.99 --method surgery --run run/ -o sparse.onnx
  regraft fit lenet5.onnx --data mnist/ --attack pgd --attack-eps 0.1 --seeds 3 -o hardened.onnx
  regraft fit --recipe trained.recipe.toml --seed 1 -o again.onnx")]
pub(crate) struct FitArgs {
    /// The network, an ONNX file [default: the recipe's]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    /// Passes over the training samples [default: 20]
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    pub(crate) epochs: Option<usize>,
    /// Samples of a step [default: 128]
    #[arg(long, value_name = "SAMPLES", help_heading = "Training")]
    pub(crate) batch: Option<usize>,
    /// How weights move [default: sgd]
    #[arg(long, value_name = "HOW", help_heading = "Training")]
    pub(crate) optimizer: Option<Optimizer>,
    /// The highest learning rate [default: 0.05]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    pub(crate) learning_rate: Option<f64>,
    /// How the learning rate falls [default: cosine]
    #[arg(long, value_name = "HOW", help_heading = "Training")]
    pub(crate) decay: Option<Decay>,
    /// Weight decay [default: 0.0005]
    #[arg(long, value_name = "FACTOR", help_heading = "Training")]
    pub(crate) l2: Option<f32>,
    /// How scores are compared with what samples should be [default: cross-entropy]
    #[arg(long, value_name = "HOW", help_heading = "Training")]
    pub(crate) loss: Option<Loss>,
    /// Share of what hidden linear layers read that each step drops [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    pub(crate) dropout: Option<f32>,
    /// Weights that stay as they are: a name of theirs or of a node that reads them, * for any text;
    /// may be given again
    #[arg(long, value_name = "PATTERN", help_heading = "Training")]
    pub(crate) freeze: Vec<String>,
    /// A network to learn from [default: the given one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Training")]
    pub(crate) teacher: Option<PathBuf>,
    /// Share of the teacher's answers in the loss [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    pub(crate) teacher_share: Option<f32>,
    /// Factor of how far values inside of the network are from the teacher's, relative to them
    /// [default: 0]
    #[arg(long, value_name = "FACTOR", help_heading = "Training")]
    pub(crate) feature_weight: Option<f32>,
    /// How images are varied [default: none]
    #[arg(long, value_name = "HOW", help_heading = "Training")]
    pub(crate) augment: Option<FitAugment>,
    #[command(flatten)]
    pub(crate) harden: HardenArgs,
    /// Share of the weights that are zero at the end [default: no pruning]
    #[arg(long, value_name = "SHARE", help_heading = "Pruning while training")]
    pub(crate) sparsity: Option<f64>,
    /// Share of the multiply-accumulates that stays: whole channels go instead
    #[arg(
        long,
        value_name = "SHARE",
        conflicts_with = "sparsity",
        help_heading = "Pruning while training"
    )]
    pub(crate) macs: Option<f64>,
    /// How they go [default: gradual]
    #[arg(long, value_name = "METHOD", help_heading = "Pruning while training")]
    pub(crate) method: Option<Method>,
    /// How those that stay are shared between layers [default: global]
    #[arg(long, value_name = "HOW", help_heading = "Pruning while training")]
    pub(crate) allocation: Option<SoftAllocation>,
    /// How the share that has gone grows [default: exponential for asfp, cubic for the others]
    #[arg(long, value_name = "HOW", help_heading = "Pruning while training")]
    pub(crate) pace: Option<Pace>,
    /// Seed of every random choice [default: 0]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub(crate) seed: Option<u64>,
    /// Train with this many seeds, the first is --seed: mean and deviation of all, and the network of
    /// the best held-out score [default: 1]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub(crate) seeds: Option<usize>,
    /// Threads [default: all]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub(crate) threads: Option<usize>,
    /// Where the network runs [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    pub(crate) device: Option<Device>,
    /// A recipe that `regraft fit` wrote; options go before its lines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Run")]
    pub(crate) recipe: Option<PathBuf>,
    /// A folder in which an event file for `TensorBoard` is made
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Run")]
    pub(crate) log_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keep: KeepOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// How scores are compared.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Loss {
    /// One class for each sample
    CrossEntropy,
    /// Numbers; with classes 1 for the right one and 0 for the others
    SquaredError,
    /// Every class, or every number from 0 to 1, for itself
    Binary,
}

/// How the share that has gone grows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Pace {
    /// Fast at first (Zhu and Gupta 2017)
    Cubic,
    /// Slower and slower where little is left
    Logarithmic,
    /// Most of it early (He et al. 2020)
    Exponential,
    /// Faster while the held-out score holds, back where it does not
    Adaptive,
}

/// How weights move.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Optimizer {
    /// Gradient descent with Nesterov's momentum
    Sgd,
    /// Gradient descent with plain momentum
    PlainSgd,
    /// Adam
    Adam,
    /// Adam with weight decay apart from the gradient
    Adamw,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Decay {
    /// Not at all
    Constant,
    /// To a tenth, twice, at equal shares of the run
    Step,
    /// Along half a cosine to zero
    Cosine,
    /// Up and down once
    OneCycle,
}

/// How images are varied.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FitAugment {
    /// Not at all
    None,
    /// They move by up to two pixels
    Shift,
    /// They move, and every other one is mirrored
    FlipShift,
}

/// How connections go.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Method {
    /// The smallest go and stay away (Zhu and Gupta 2017)
    Gradual,
    /// They come back when they grow (dynamic network surgery, Guo et al. 2016)
    Surgery,
    /// A fixed number; the smallest give way to those of the largest gradient (Evci et al. 2020)
    Rigl,
    /// A fixed number; the smallest give way to random ones (SET, Mocanu et al. 2018)
    Set,
    /// The smallest are set to zero, train on, and may come back (soft filter pruning, He et al. 2018)
    Sfp,
    /// The same, more and more of them (He et al. 2020)
    Asfp,
    /// Each layer learns a threshold (Kusupati et al. 2020)
    Str,
    /// Weights are drawn to the nearest sparse ones (Zhang et al. 2018)
    Admm,
    /// Rounds, each from the weights of an early step (lottery tickets, Frankle et al. 2020)
    Lottery,
    /// What is to go decays more and more (growing regularisation, Wang et al. 2021)
    Greg,
    /// Weights learn a variance, and go where it is large (variational dropout, Molchanov et al. 2017)
    Variational,
    /// Rounds of pruning, closed-form rebuild and training (Han et al. 2015)
    Iterative,
}

/// How those that stay are shared.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SoftAllocation {
    /// The largest of the network stay
    Global,
    /// Largest relative to their layer (LAMP)
    Lamp,
    /// The same share of every layer
    Uniform,
    /// A larger share of small layers
    Erk,
}

impl FitArgs {
    /// Returns the recipe file's content, or the defaults, with the options on top.
    pub(crate) fn recipe(&self) -> Result<FitRecipe, Failure> {
        let mut recipe = match &self.recipe {
            Some(path) => FitRecipe::from_toml(&read_text(path)?).map_err(|e| e.about(path))?,
            None => FitRecipe::default(),
        };
        let r = &mut recipe;
        over(&mut r.model, self.model.clone().map(Some));
        if r.model.is_none() {
            return Err(Failure::usage(
                "no network is given",
                "name an ONNX file, or a recipe that names one: --recipe FILE",
            ));
        }
        over(&mut r.data, self.data.data.clone().map(Some));
        over(&mut r.mean, self.data.mean.clone());
        over(&mut r.std, self.data.std.clone());
        over(&mut r.scale, self.data.scale.map(Some));
        over(&mut r.epochs, self.epochs);
        over(&mut r.batch, self.batch);
        over(&mut r.optimizer, self.optimizer.map(Into::into));
        over(&mut r.learning_rate, self.learning_rate);
        over(&mut r.decay, self.decay.map(Into::into));
        over(&mut r.l2, self.l2);
        over(&mut r.resize, self.data.resize.map(Some));
        over(&mut r.loss, self.loss.map(Into::into));
        over(&mut r.dropout, self.dropout);
        if !self.freeze.is_empty() {
            r.freeze.clone_from(&self.freeze);
        }
        over(&mut r.teacher, self.teacher.clone().map(Some));
        over(&mut r.feature_weight, self.feature_weight);
        over(&mut r.pace, self.pace.map(|p| Some(p.into())));
        over(&mut r.teacher_share, self.teacher_share);
        over(&mut r.augment, self.augment.map(Into::into));
        over(&mut r.sparsity, self.sparsity.map(Some));
        over(&mut r.macs, self.macs.map(Some));
        over(&mut r.method, self.method.map(Into::into));
        over(&mut r.allocation, self.allocation.map(Into::into));
        self.harden.merge(r);
        over(&mut r.seed, self.seed);
        over(&mut r.seeds, self.seeds);
        over(&mut r.threads, self.threads.map(Some));
        over(&mut r.device, self.device.map(device));
        over(&mut r.output, self.output.output.clone().map(Some));
        Ok(recipe)
    }
}

impl From<Loss> for LossName {
    fn from(name: Loss) -> Self {
        match name {
            Loss::CrossEntropy => Self::CrossEntropy,
            Loss::SquaredError => Self::SquaredError,
            Loss::Binary => Self::Binary,
        }
    }
}

impl From<Pace> for PaceName {
    fn from(name: Pace) -> Self {
        match name {
            Pace::Cubic => Self::Cubic,
            Pace::Logarithmic => Self::Logarithmic,
            Pace::Exponential => Self::Exponential,
            Pace::Adaptive => Self::Adaptive,
        }
    }
}

pub(super) fn over<T>(slot: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *slot = value;
    }
}

impl From<Optimizer> for OptimizerName {
    fn from(name: Optimizer) -> Self {
        match name {
            Optimizer::Sgd => Self::Sgd,
            Optimizer::PlainSgd => Self::PlainSgd,
            Optimizer::Adam => Self::Adam,
            Optimizer::Adamw => Self::Adamw,
        }
    }
}

impl From<Decay> for DecayName {
    fn from(name: Decay) -> Self {
        match name {
            Decay::Constant => Self::Constant,
            Decay::Step => Self::Step,
            Decay::Cosine => Self::Cosine,
            Decay::OneCycle => Self::OneCycle,
        }
    }
}

impl From<FitAugment> for FitAugmentName {
    fn from(name: FitAugment) -> Self {
        match name {
            FitAugment::None => Self::None,
            FitAugment::Shift => Self::Shift,
            FitAugment::FlipShift => Self::FlipShift,
        }
    }
}

impl From<Method> for MethodName {
    fn from(name: Method) -> Self {
        match name {
            Method::Gradual => Self::Gradual,
            Method::Surgery => Self::Surgery,
            Method::Rigl => Self::Rigl,
            Method::Set => Self::Set,
            Method::Sfp => Self::Sfp,
            Method::Asfp => Self::Asfp,
            Method::Str => Self::Str,
            Method::Admm => Self::Admm,
            Method::Lottery => Self::Lottery,
            Method::Greg => Self::Greg,
            Method::Variational => Self::Variational,
            Method::Iterative => Self::Iterative,
        }
    }
}

impl From<SoftAllocation> for SoftAllocationName {
    fn from(name: SoftAllocation) -> Self {
        match name {
            SoftAllocation::Global => Self::Global,
            SoftAllocation::Lamp => Self::Lamp,
            SoftAllocation::Uniform => Self::Uniform,
            SoftAllocation::Erk => Self::Erk,
        }
    }
}
