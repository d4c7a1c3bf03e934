//! Attributes of normalisations beside the batch, layer and instance ones.

/// A normalisation.
#[derive(Clone, Debug, PartialEq)]
pub enum Normalization {
    /// Of groups of channels of each sample; inputs X, scale, bias.
    Group {
        /// The number of groups.
        n_groups: usize,
        /// Added to the variance.
        epsilon: f32,
        /// True before opset 21: scale and bias have one entry a group.
        per_group: bool,
    },
    /// By the root of the mean square over the trailing axes from `axis`; inputs X, scale.
    RootMeanSquare {
        /// First normalised axis, may be negative.
        axis: i64,
        /// Added to the mean square.
        epsilon: f32,
    },
    /// By the sum of absolute values or the Euclidean length along an axis.
    Length {
        /// The axis, may be negative.
        axis: i64,
        /// True for the sum of absolute values.
        absolute: bool,
    },
    /// To mean zero and variance one over axes.
    MeanVariance {
        /// The axes, may be negative.
        axes: Vec<i64>,
    },
    /// By the squares of neighbouring channels.
    LocalResponse {
        /// Factor of the mean square.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added before the power.
        bias: f32,
        /// The number of channels, at least 1.
        size: usize,
    },
    /// One where the largest element along an axis is, zero elsewhere.
    Hardmax {
        /// The axis, may be negative.
        axis: i64,
        /// True before opset 13: all axes from `axis` on are flattened into one.
        flatten: bool,
    },
}

impl Normalization {
    /// Returns the operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Group { .. } => "GroupNormalization",
            Self::RootMeanSquare { .. } => "RMSNormalization",
            Self::Length { .. } => "LpNormalization",
            Self::MeanVariance { .. } => "MeanVarianceNormalization",
            Self::LocalResponse { .. } => "LRN",
            Self::Hardmax { .. } => "Hardmax",
        }
    }
}
