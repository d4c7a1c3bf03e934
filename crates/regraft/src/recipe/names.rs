//! The names of methods, as recipes and options spell them.

use serde::{Deserialize, Serialize};

/// What ranks the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreName {
    /// Structured optimal brain surgery on the Gram of the inputs.
    #[default]
    Obs,
    /// Sum of absolute weights.
    L1,
    /// Root of the sum of squared weights.
    L2,
    /// Scale of the batch normalisation behind.
    BatchNorm,
    /// Mean square of the channel times the weights that read it.
    Activation,
    /// Uniform numbers: the floor every score must beat.
    Random,
}

/// What can go of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionName {
    /// Whole heads.
    #[default]
    Heads,
    /// The width of every head alike.
    Widths,
}

impl From<AttentionName> for regraft_prune::Attention {
    fn from(name: AttentionName) -> Self {
        match name {
            AttentionName::Heads => Self::Heads,
            AttentionName::Widths => Self::Widths,
        }
    }
}

/// What happens to the weights after pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tuning {
    /// Closed-form refit only.
    None,
    /// Closed-form refit, then gradients block by block against the dense model.
    #[default]
    Blocks,
}

/// How images are varied in tuning; the dense model sees the same variation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AugmentName {
    /// Colour images are mirrored and shifted, grey images shifted, other data left alone.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// Shifted by up to an eighth of the smaller side.
    Shift,
    /// Shifted and mirrored left to right.
    FlipShift,
}

/// How the images of a batch are mixed while the whole network is tuned; both models see the mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixName {
    /// Colour images are pasted into each other, other data are left alone.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// Weighted means of two images.
    Blend,
    /// A rectangle of every other image comes from another one.
    Paste,
}

/// How a budget of connections is shared between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationName {
    /// All of the others; the one with the lowest error on held-out samples is taken.
    #[default]
    Auto,
    /// The same share everywhere.
    Uniform,
    /// Erdős–Rényi kernel densities.
    Erk,
    /// Layer-adaptive magnitudes.
    Lamp,
    /// One threshold on the marginal losses of all layers.
    Global,
    /// Dynamic programming over solved levels.
    Dynamic,
    /// Evolutionary search on the network's output.
    Evolve,
}

/// How the connections that stay are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskName {
    /// `obs` or `alps`, each improved by swaps: whichever has the lower error, layer by layer.
    #[default]
    Best,
    /// The connection that is missed least goes, the others are refitted, and so on.
    Obs,
    /// Alternating directions (ALPS).
    Alps,
    /// The column sweep of `SparseGPT`.
    Sparsegpt,
    /// Weights times the root mean square of their inputs.
    Wanda,
    /// The largest weights.
    Magnitude,
}

/// What the weights on a mask are refitted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefitName {
    /// The pruned model's inputs, the dense model's outputs.
    #[default]
    Asymmetric,
    /// The dense model's inputs and outputs.
    Symmetric,
    /// Nothing: the old weights stay.
    None,
}

/// Where models run. Devices other than the CPU are cargo features of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA device.
    Cuda,
    /// The first Metal device.
    Metal,
    /// The first Vulkan device.
    Vulkan,
}

impl From<DeviceName> for regraft_exec::Device {
    fn from(name: DeviceName) -> Self {
        match name {
            DeviceName::Cpu => Self::Cpu,
            DeviceName::Cuda => Self::Cuda,
            DeviceName::Metal => Self::Metal,
            DeviceName::Vulkan => Self::Vulkan,
        }
    }
}

/// What ranks the connections that come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegrowName {
    /// The exact gain of each layer with the row refitted.
    #[default]
    Gain,
    /// The correlation of each layer's residual with its inputs.
    Residual,
    /// The gradient of the network's error (`RigL`).
    Gradient,
}

/// What comes back as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegrowUnitName {
    /// Single connections.
    #[default]
    Connection,
    /// Whole kernels: all that one output has of one input channel.
    Kernel,
}

/// How many of the pruned connections come back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RebuildRateName {
    /// This share of them.
    Share(f64),
    /// As many as pay on held-out samples.
    Word(AutoName),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoName {
    /// Chosen by what is measured.
    Auto,
}

/// The topology that a rebuild gives weights to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopologyName {
    /// That of the pruned network.
    #[default]
    Given,
    /// The best of several that cost no more.
    Auto,
}
