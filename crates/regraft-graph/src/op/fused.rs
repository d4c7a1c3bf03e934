//! Attributes of the fused ops that ONNX Runtime's optimiser writes (domain `com.microsoft`).

/// Heads of a fused attention.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedHeads {
    /// The number of heads of queries, keys and values.
    pub n_heads: usize,
    /// Factor of the products; `None`: one over the root of the head size.
    pub scale: Option<f32>,
    /// What is added to the score of a key that the key mask leaves out.
    pub mask_value: f32,
    /// True if a query sees no later key.
    pub is_causal: bool,
}

/// Heads of an attention whose keys and values several heads of queries share.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupedHeads {
    /// The number of heads of queries, a multiple of the other.
    pub q_heads: usize,
    /// The number of heads of keys and values.
    pub kv_heads: usize,
    /// Factor of the products; `None`: one over the root of the head size.
    pub scale: Option<f32>,
    /// Bound of the products by a hyperbolic tangent; 0: none.
    pub softcap: f32,
    /// How many keys a query sees, its own among them; `None`: all up to its own.
    pub window: Option<usize>,
    /// True if queries and keys turn with their positions.
    pub rotates: bool,
    /// True if neighbours turn together, else what lies half a head apart.
    pub interleaved: bool,
}

/// One op that stands for several of the standard domain.
#[derive(Clone, Debug, PartialEq)]
pub enum FusedOp {
    /// Attention over heads; inputs Q, K, V (`batch × positions × heads·size`), and optional: bias of
    /// all three, key mask, score bias, past keys, past values. Outputs Y, keys, values, scores.
    MultiHeadAttention(FusedHeads),
    /// Attention with its projections; inputs X, weight (`n_in × 3·heads·size`, columns of Q, K, V),
    /// and optional: bias, key mask, past keys and values in one, score bias. Outputs Y, keys and
    /// values in one.
    PackedAttention {
        /// The heads.
        heads: FusedHeads,
        /// The width of Q, of K and of V where the node states it.
        width: Option<usize>,
    },
    /// Causal attention with shared heads of keys; inputs Q, K, V (`batch × positions ×
    /// heads·size`, or all three side by side in the first), optional past keys and values
    /// (`batch × heads × positions × size`), the last position of each sample, the number of
    /// positions, and optional: tables of cosines and sines, positions, score bias. Outputs Y, keys,
    /// values.
    GroupedAttention(GroupedHeads),
    /// Normalisation of a sum over the last axis; inputs X, skip, scale, optional shift (of a centred
    /// one), optional bias of the sum. Outputs Y, mean, one over the deviation, the sum.
    SkipNormalization {
        /// Added to the variance.
        epsilon: f32,
        /// True if the mean is taken out.
        centred: bool,
    },
    /// Sum of word, position and segment vectors, normalised; inputs words, optional segments, the
    /// three tables (the last optional), scale, shift, optional mask, optional positions. Outputs Y,
    /// lengths by the mask, the sum.
    EmbedNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// GELU of a sum; inputs X and bias.
    BiasGelu {
        /// True for the approximation by a hyperbolic tangent.
        tanh: bool,
    },
}

impl FusedOp {
    /// Returns the operator's name in its domain.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MultiHeadAttention(_) => "MultiHeadAttention",
            Self::PackedAttention { .. } => "Attention",
            Self::GroupedAttention(_) => "GroupQueryAttention",
            Self::SkipNormalization { centred: true, .. } => "SkipLayerNormalization",
            Self::SkipNormalization { centred: false, .. } => "SkipSimplifiedLayerNormalization",
            Self::EmbedNormalization { .. } => "EmbedLayerNormalization",
            Self::BiasGelu { tanh: true } => "FastGelu",
            Self::BiasGelu { tanh: false } => "BiasGelu",
        }
    }

    /// Returns the normalisation over the last axis that the op ends with.
    pub fn norm(&self) -> Option<FusedNorm> {
        match self {
            Self::SkipNormalization { epsilon, centred } => Some(FusedNorm {
                epsilon: *epsilon,
                centred: *centred,
                scale: 2,
                shift: centred.then_some(3),
                bias: Some(if *centred { 4 } else { 3 }),
            }),
            Self::EmbedNormalization { epsilon } => Some(FusedNorm {
                epsilon: *epsilon,
                centred: true,
                scale: 5,
                shift: Some(6),
                bias: None,
            }),
            Self::MultiHeadAttention(_)
            | Self::PackedAttention { .. }
            | Self::GroupedAttention(_)
            | Self::BiasGelu { .. } => None,
        }
    }
}

/// How a sum is normalised; the ports hold one number a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FusedNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// True if the mean is taken out.
    pub centred: bool,
    /// Port of the factor of the normalised sum.
    pub scale: usize,
    /// Port of what is added at the end.
    pub shift: Option<usize>,
    /// Port of what is added before.
    pub bias: Option<usize>,
}
