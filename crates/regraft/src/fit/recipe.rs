//! Everything that decides a training run, as one strict TOML file.

use std::path::PathBuf;

use regraft_data::{Augment, Mix};
use regraft_exec::ExecOptions;
use regraft_train::{
    Allocation, DEFAULT_TRAINING_STEPS, Decay, FitConfig, Goal, LabelLoss, Method, Objective,
    Optimizer, Pace, Saliency, Schedule, SoftPruning, TrainingMode, Variation,
};
use serde::{Deserialize, Serialize};

use super::FitAttackName;
use super::names::{
    DecayName, FitAugmentName, FitMixName, LossName, MethodName, OptimizerName, PaceName,
    SaliencyName, SoftAllocationName,
};
use crate::evaluate::NormName;
use crate::recipe::DeviceName;
use crate::{Error, Recipe};

/// One run of `fit`, complete: the same recipe and files give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FitRecipe {
    /// The ONNX file to train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The labelled data set: a file or a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Subtracted from each channel after scaling; empty for none, one for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f32>,
    /// Divided by, channel by channel; empty for none, one for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f32>,
    /// Height and width that images are brought to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<[usize; 2]>,
    /// Factor before mean and std; left out: 1/255 for images of bytes, 1 for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Training samples that choose the best epoch instead of training.
    pub held_out: usize,
    /// Passes over the training samples.
    pub epochs: usize,
    /// Samples of a step.
    pub batch: usize,
    /// How weights move.
    pub optimizer: OptimizerName,
    /// Share of the last step that goes on, of `sgd`.
    pub momentum: f32,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub decay: DecayName,
    /// Share of the run in which it rises from zero.
    pub warm_up: f64,
    /// Share of the run until which it stays at its highest.
    pub hold: f64,
    /// Weight decay.
    pub l2: f32,
    /// Factor of the sum of absolute weights in the loss.
    pub l1: f32,
    /// Factor of the group lasso over the weights of each channel that could be removed.
    pub group_lasso: f32,
    /// The largest length of a gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f32>,
    /// Share of the moving average of the weights that a step leaves; the average is what is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f32>,
    /// Batch normalisations train with the statistics of their batch; without, they are folded into
    /// the layers before them.
    pub batch_statistics: bool,
    /// Share of a batch in the running statistics of a batch normalisation.
    pub statistics_momentum: f32,
    /// Share of the inputs of hidden linear layers that each step drops.
    pub dropout: f32,
    /// Share of a label that goes to all classes alike.
    pub label_smoothing: f32,
    /// Share of a teacher's answers in the loss.
    pub teacher_share: f32,
    /// The teacher; left out: the network as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Temperature of both softmaxes.
    pub temperature: f32,
    /// Factor of how far values inside of the network are from the teacher's, relative to them.
    #[serde(skip_serializing_if = "is_zero")]
    pub feature_weight: f32,
    /// Those values by name, or activations and sums by patterns of names; left out: the last of each size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Weights that stay as they are: names of theirs or of nodes that read them, `*` for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// True if the zeros of weights that have lost single connections stay zero.
    pub hold_zeros: bool,
    /// How images are varied.
    pub augment: FitAugmentName,
    /// Pixels that images move at most.
    pub shift: usize,
    /// How images of a batch, and their labels, are mixed.
    pub mix: FitMixName,
    /// Side of the square that is cut out of each image, in pixels.
    pub cut_out: usize,
    /// How scores are compared with labels.
    pub loss: LossName,
    /// What samples are attacked with while training.
    pub attack: FitAttackName,
    /// How far a sample moves at most, in the range of a pixel from 0 to 1 or in numbers as stored; the
    /// standard deviation of noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack_eps: Option<f32>,
    /// How that is measured.
    pub attack_norm: NormName,
    /// Steps of `pgd`.
    pub attack_steps: usize,
    /// Length of a step of `pgd`; left out: 2.5 times the radius over the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack_step_size: Option<f32>,
    /// Share of each batch that is attacked.
    pub attack_share: f32,
    /// The lowest and the highest valid value; left out: 0 and 1 for images of bytes, none for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack_clip: Option<[f32; 2]>,
    /// Share of the weights that are zero at the end; left out: no pruning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// Share of the multiply-accumulates that stays, instead of `sparsity`: whole channels go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<f64>,
    /// How they go.
    pub method: MethodName,
    /// How those that stay are shared between layers.
    pub allocation: SoftAllocationName,
    /// Share of the run at which the first go.
    pub begin: f64,
    /// Share of the run after which no more go.
    pub end: f64,
    /// Steps between two changes.
    pub every: usize,
    /// How the share grows from `begin` to `end`; left out: as in the method's paper, `exponential` for
    /// `asfp` and `cubic` for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<PaceName>,
    /// What of the held-out score may be lost, of `pace = "adaptive"`.
    pub tolerance: f64,
    /// What decides which connections go.
    pub saliency: SaliencyName,
    /// By how much a weight outside must exceed one inside to come back, of `surgery`.
    pub margin: f32,
    /// Share of the connections replaced at an update, of `rigl` and `set`.
    pub drop: f32,
    /// Strength of the pull of `admm`, weight decay at the end of `greg`; left out: 0.01 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f32>,
    /// Rounds of `lottery` and `iterative`.
    pub rounds: usize,
    /// Share of the first round after which the weights are remembered, of `lottery`.
    pub rewind: f64,
    /// Epochs without a better held-out result after which training ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Seed of every random choice.
    pub seed: u64,
    /// Runs with this seed and those that follow; the best by the held-out samples is written.
    pub seeds: usize,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Where the network runs.
    pub device: DeviceName,
    /// Where the result goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
}

impl Default for FitRecipe {
    fn default() -> Self {
        let soft = SoftPruning::default();
        let objective = Objective::default();
        let mode = TrainingMode::default();
        Self {
            model: None,
            data: None,
            mean: Vec::new(),
            std: Vec::new(),
            scale: None,
            resize: None,
            held_out: DEFAULT_HELD_OUT,
            epochs: 20,
            batch: 128,
            optimizer: OptimizerName::default(),
            momentum: 0.9,
            learning_rate: 0.05,
            decay: DecayName::default(),
            warm_up: 0.02,
            hold: 0.0,
            l2: 5e-4,
            l1: 0.0,
            group_lasso: 0.0,
            clip: None,
            average: None,
            batch_statistics: mode.batch_statistics,
            statistics_momentum: mode.statistics_momentum,
            dropout: mode.dropout,
            label_smoothing: objective.label_smoothing,
            teacher_share: objective.teacher,
            teacher: None,
            temperature: objective.temperature,
            feature_weight: objective.features,
            features: Vec::new(),
            freeze: Vec::new(),
            hold_zeros: true,
            augment: FitAugmentName::default(),
            shift: 2,
            mix: FitMixName::default(),
            cut_out: 0,
            loss: LossName::default(),
            attack: FitAttackName::default(),
            attack_eps: None,
            attack_norm: NormName::default(),
            attack_steps: DEFAULT_TRAINING_STEPS,
            attack_step_size: None,
            attack_share: 1.0,
            attack_clip: None,
            sparsity: None,
            macs: None,
            method: MethodName::default(),
            allocation: SoftAllocationName::default(),
            begin: soft.begin,
            end: soft.end,
            every: soft.every,
            pace: None,
            tolerance: 0.002,
            saliency: SaliencyName::default(),
            margin: 0.1,
            drop: 0.3,
            penalty: None,
            rounds: 5,
            rewind: 0.1,
            patience: None,
            seed: 0,
            seeds: 1,
            threads: None,
            device: DeviceName::default(),
            output: None,
        }
    }
}

// Left out of the file where it does nothing.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(x: &f32) -> bool {
    *x == 0.0
}

/// Samples that choose the best epoch; at most a fifth of the training samples.
pub const DEFAULT_HELD_OUT: usize = 5000;

impl FitRecipe {
    /// Returns the recipe that a TOML text spells; unknown keys are refused.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] with the line and what is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e| {
            Error::usage("the recipe cannot be read")
                .with_hint("compare it with a recipe that `regraft fit` wrote beside a result")
                .because(e)
        })
    }

    /// Returns the TOML text of the recipe.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if a value has no TOML form, such as a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|e| Error::usage("the recipe cannot be written").because(e))
    }

    /// Returns what reading the model and its samples takes of a recipe.
    pub(crate) fn reading(&self) -> Recipe {
        Recipe {
            model: self.model.clone(),
            data: self.data.clone(),
            mean: self.mean.clone(),
            std: self.std.clone(),
            scale: self.scale,
            resize: self.resize,
            seed: self.seed,
            threads: self.threads,
            device: self.device,
            output: self.output.clone(),
            ..Recipe::default()
        }
    }

    /// Returns the part that the result depends on.
    pub(crate) fn decisive(&self) -> Self {
        Self {
            output: None,
            threads: None,
            ..self.clone()
        }
    }

    pub(crate) fn config(&self, exec: ExecOptions) -> FitConfig {
        FitConfig {
            epochs: self.epochs,
            batch: self.batch,
            optimizer: match self.optimizer {
                OptimizerName::Sgd => Optimizer::Sgd {
                    momentum: self.momentum,
                    nesterov: true,
                },
                OptimizerName::PlainSgd => Optimizer::Sgd {
                    momentum: self.momentum,
                    nesterov: false,
                },
                OptimizerName::Adam => Optimizer::Adam,
                OptimizerName::Adamw => Optimizer::AdamW,
            },
            schedule: Schedule {
                peak: self.learning_rate,
                decay: match self.decay {
                    DecayName::Constant => Decay::Constant,
                    DecayName::Step => Decay::Step {
                        times: 2,
                        factor: 0.1,
                    },
                    DecayName::Cosine => Decay::Cosine,
                    DecayName::OneCycle => Decay::OneCycle,
                },
                warm_up: self.warm_up,
                hold: self.hold,
            },
            objective: Objective {
                label_smoothing: self.label_smoothing,
                teacher: self.teacher_share,
                temperature: self.temperature,
                loss: match self.loss {
                    LossName::CrossEntropy => LabelLoss::CrossEntropy,
                    LossName::SquaredError => LabelLoss::SquaredError,
                    LossName::Binary => LabelLoss::Binary,
                },
                features: self.feature_weight,
            },
            l2: self.l2,
            l1: self.l1,
            group_lasso: self.group_lasso,
            clip: self.clip,
            average: self.average,
            training_mode: TrainingMode {
                batch_statistics: self.batch_statistics,
                statistics_momentum: self.statistics_momentum,
                dropout: self.dropout,
            },
            vary: Variation {
                augment: match self.augment {
                    FitAugmentName::None => Augment::None,
                    FitAugmentName::Shift => Augment::Shift(self.shift),
                    FitAugmentName::FlipShift => Augment::FlipShift(self.shift),
                },
                mix: match self.mix {
                    FitMixName::None => Mix::None,
                    FitMixName::Mixup => Mix::Blend,
                    FitMixName::Cutmix => Mix::Paste,
                },
                cut_out: self.cut_out,
            },
            adversary: self.adversary(),
            prune: self.pruning(),
            patience: self.patience,
            seed: self.seed,
            exec,
        }
    }

    /// Returns what goes while training, `None` for nothing.
    fn pruning(&self) -> Option<SoftPruning> {
        let goal = match (self.sparsity, self.macs) {
            (Some(sparsity), _) => Goal::Connections {
                sparsity,
                allocation: match self.allocation {
                    SoftAllocationName::Global => Allocation::Global,
                    SoftAllocationName::Lamp => Allocation::Lamp,
                    SoftAllocationName::Uniform => Allocation::Uniform,
                    SoftAllocationName::Erk => Allocation::Erk,
                },
            },
            (None, Some(macs)) => Goal::Channels { macs },
            (None, None) => return None,
        };
        Some(SoftPruning {
            method: self.method(),
            goal,
            begin: self.begin,
            end: self.end,
            every: self.every,
            pace: match self.pace.unwrap_or(self.method.pace()) {
                PaceName::Cubic => Pace::Cubic,
                PaceName::Exponential => Pace::Exponential,
                PaceName::Logarithmic => Pace::Logarithmic,
                PaceName::Adaptive => Pace::Adaptive {
                    tolerance: self.tolerance,
                },
            },
            saliency: match self.saliency {
                SaliencyName::Magnitude => Saliency::Magnitude,
                SaliencyName::Curvature => Saliency::Curvature,
            },
        })
    }

    fn method(&self) -> Method {
        let rounds = self.rounds;
        match self.method {
            MethodName::Gradual => Method::GradualMagnitude,
            MethodName::Surgery => Method::DynamicSurgery {
                margin: self.margin,
            },
            MethodName::Rigl => Method::RigL { drop: self.drop },
            MethodName::Set => Method::Set { drop: self.drop },
            MethodName::Sfp => Method::SoftFilter { asymptotic: false },
            MethodName::Asfp => Method::SoftFilter { asymptotic: true },
            MethodName::Str => Method::SoftThreshold,
            MethodName::Admm => Method::Admm {
                penalty: self.penalty.unwrap_or(0.01),
            },
            MethodName::Lottery => Method::Rewinding {
                rounds,
                rewind: self.rewind,
            },
            MethodName::Greg => Method::GrowingDecay {
                penalty: self.penalty.unwrap_or(1.0),
            },
            MethodName::Variational => Method::VariationalDropout,
            MethodName::Iterative => Method::Iterative { rounds },
        }
    }

    /// Refuses settings that contradict each other.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.sparsity.is_some() && self.macs.is_some() {
            return Err(
                Error::usage("both a sparsity and a share of the MACs are given").with_hint(
                    "single connections go with `sparsity`, whole channels with `macs`: give one of them",
                ),
            );
        }
        self.check_effects()
    }

    /// Refuses settings that were changed and decide nothing here.
    fn check_effects(&self) -> Result<(), Error> {
        let idle = Self::default();
        let asks_teacher = self.teacher_share > 0.0 || self.feature_weight > 0.0;
        let prunes = self.sparsity.is_some() || self.macs.is_some();
        let cases = [
            (
                !prunes && self.method != idle.method,
                "a method of pruning is named, and nothing is to go",
                "say how much: `sparsity` for single connections, `macs` for whole channels",
            ),
            (
                !prunes && self.pace != idle.pace,
                "a pace of pruning is named, and nothing is to go",
                "say how much: `sparsity` for single connections, `macs` for whole channels",
            ),
            (
                self.macs.is_some() && self.allocation != idle.allocation,
                "an allocation is named, which shares single connections between layers, and whole channels go",
                "leave it out, or give a `sparsity` in place of `macs`",
            ),
            (
                self.teacher.is_some() && !asks_teacher,
                "a teacher is named, and nothing is learned from it",
                "say how much it counts: `teacher_share` from 0 to 1, or `feature_weight`",
            ),
            (
                !self.features.is_empty() && self.feature_weight <= 0.0,
                "features are named, and they count nothing",
                "say how much they count: `feature_weight` above 0",
            ),
        ];
        match cases.into_iter().find(|(is_idle, ..)| *is_idle) {
            Some((_, what, hint)) => Err(Error::usage(what).with_hint(hint)),
            None => Ok(()),
        }
    }
}
