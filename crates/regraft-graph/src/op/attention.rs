//! Attributes of whole attention blocks and of rotary positions.

/// What the fourth output of `Attention` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreOutput {
    /// The scaled products of queries and keys.
    Products,
    /// Those with the soft cap.
    Capped,
    /// Those with the mask added.
    Masked,
    /// The probabilities.
    Probabilities,
}

/// Attributes of `Attention`; inputs Q, K, V, optional mask, past key, past value, lengths.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// True if a query sees no later key.
    pub is_causal: bool,
    /// Number of heads of queries; 0: the inputs have an axis of heads.
    pub q_heads: usize,
    /// Number of heads of keys and values; 0 as above.
    pub kv_heads: usize,
    /// Factor of the products; `None`: one over the root of the head size.
    pub scale: Option<f32>,
    /// Bound of the products by a hyperbolic tangent; 0: none.
    pub softcap: f32,
    /// What output 3 holds.
    pub score_output: ScoreOutput,
    /// The code of the element type that softmax is computed in; `None`: that of the input.
    pub softmax_precision: Option<i64>,
    /// How many keys before its own a query sees, -1: all.
    pub left_window: i64,
    /// How many keys after its own a query sees, -1: all.
    pub right_window: i64,
}

/// Attributes of `RotaryEmbedding`; inputs X, cosines, sines, optional positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotaryEmbedding {
    /// True if pairs are neighbours, else half a head apart.
    pub interleaved: bool,
    /// Number of heads, for inputs of three axes; else 0.
    pub n_heads: usize,
    /// The number of leading elements of a head that rotate; 0 is all.
    pub rotary_dim: usize,
}
