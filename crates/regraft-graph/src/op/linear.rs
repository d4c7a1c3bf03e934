//! Attributes of convolutions and matrix products.

use super::AutoPad;

/// Attributes of a (transposed) convolution. Lists are empty where the file leaves them out.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Kernel extents; empty: those of the weight.
    pub kernel_shape: Vec<usize>,
    /// Strides; empty: 1.
    pub strides: Vec<usize>,
    /// Dilations; empty: 1.
    pub dilations: Vec<usize>,
    /// Padding at the begin of each spatial axis, then at the end; empty: 0.
    pub pads: Vec<usize>,
    /// How padding is found; `pads` counts only with [`AutoPad::NotSet`].
    pub auto_pad: AutoPad,
    /// Number of groups the channels are split into, at least 1.
    pub group: usize,
    /// Transposed only: added to the output extents; empty: 0.
    pub output_padding: Vec<usize>,
    /// Transposed only: the output extents, which then set the padding; empty: not given.
    pub output_shape: Vec<usize>,
}

impl Default for Conv {
    fn default() -> Self {
        Self {
            kernel_shape: Vec::new(),
            strides: Vec::new(),
            dilations: Vec::new(),
            pads: Vec::new(),
            auto_pad: AutoPad::NotSet,
            group: 1,
            output_padding: Vec::new(),
            output_shape: Vec::new(),
        }
    }
}

/// Attributes of `Gemm`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// True if A is transposed first.
    pub trans_a: bool,
    /// True if B is transposed first.
    pub trans_b: bool,
}

impl Default for Gemm {
    fn default() -> Self {
        Self {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b: false,
        }
    }
}
