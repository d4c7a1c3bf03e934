//! Names of choices, as a recipe of `fit` spells them.

use serde::{Deserialize, Serialize};

/// How weights move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Gradient descent with Nesterov's momentum.
    #[default]
    Sgd,
    /// Gradient descent with plain momentum.
    PlainSgd,
    /// Adam.
    Adam,
    /// Adam with weight decay apart from the gradient.
    Adamw,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayName {
    /// Not at all.
    Constant,
    /// To a tenth, twice, at equal shares of the run.
    Step,
    /// Along half a cosine to zero.
    #[default]
    Cosine,
    /// Up and down once.
    OneCycle,
}

/// How images are varied while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitAugmentName {
    /// Not at all.
    #[default]
    None,
    /// They move.
    Shift,
    /// They move, and every other one is mirrored.
    FlipShift,
}

/// How images of a batch are mixed while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitMixName {
    /// Not at all.
    #[default]
    None,
    /// Weighted means of two (Zhang et al. 2018).
    Mixup,
    /// A rectangle of another one (Yun et al. 2019).
    Cutmix,
}

/// How scores are compared with labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Cross-entropy of the softmax.
    #[default]
    CrossEntropy,
    /// Squared difference to one for the label and zero for the others.
    SquaredError,
    /// Cross-entropy of each sigmoid.
    Binary,
}

/// Methods of pruning while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// Gradual magnitude (Zhu and Gupta 2017).
    #[default]
    Gradual,
    /// Dynamic network surgery (Guo et al. 2016).
    Surgery,
    /// `RigL` (Evci et al. 2020).
    Rigl,
    /// SET (Mocanu et al. 2018).
    Set,
    /// Soft filter pruning (He et al. 2018).
    Sfp,
    /// Asymptotic soft filter pruning (He et al. 2020).
    Asfp,
    /// Soft-threshold reparameterisation (Kusupati et al. 2020).
    Str,
    /// The alternating direction method of multipliers (Zhang et al. 2018).
    Admm,
    /// Lottery tickets with rewinding (Frankle et al. 2020).
    Lottery,
    /// Growing regularisation (Wang et al. 2021).
    Greg,
    /// Variational dropout (Molchanov et al. 2017).
    Variational,
    /// Rounds of pruning, rebuilding and training (Han et al. 2015).
    Iterative,
}

impl MethodName {
    /// Returns the pace of the method's paper, or that which most have.
    #[must_use]
    pub fn pace(self) -> PaceName {
        match self {
            Self::Asfp => PaceName::Exponential,
            Self::Gradual
            | Self::Surgery
            | Self::Rigl
            | Self::Set
            | Self::Sfp
            | Self::Str
            | Self::Admm
            | Self::Lottery
            | Self::Greg
            | Self::Variational
            | Self::Iterative => PaceName::Cubic,
        }
    }
}

/// How connections that stay are shared between layers while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoftAllocationName {
    /// The largest of the network stay.
    #[default]
    Global,
    /// Largest relative to their layer (LAMP, Lee et al. 2021).
    Lamp,
    /// The same share of every layer.
    Uniform,
    /// A larger share of small layers.
    Erk,
}

/// How the share of zeros grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaceName {
    /// Fast at first, along a cube (Zhu and Gupta 2017).
    #[default]
    Cubic,
    /// Slowly at the end, in the logarithm of what is left.
    Logarithmic,
    /// Three quarters in an eighth of the time (He et al. 2020).
    Exponential,
    /// Faster while the held-out score holds, back where it does not.
    Adaptive,
}

/// What a connection counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaliencyName {
    /// Its size.
    #[default]
    Magnitude,
    /// The growth of the loss without it (`LeCun` et al. 1989).
    Curvature,
}
