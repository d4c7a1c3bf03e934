//! Attributes of ops between floats and small integers.

use crate::DType;

/// An op between floats and small integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizeOp {
    /// Floats to integers; inputs X, scale, optional zero point.
    Quantize {
        /// The axis that scales are for, may be negative.
        axis: i64,
        /// The number of elements that share a scale along the axis; 0: one scale an index.
        block_size: usize,
        /// The integer type; `None`: that of the zero point, else 8 bits unsigned.
        dtype: Option<DType>,
    },
    /// Integers to floats; inputs X, scale, optional zero point.
    Dequantize {
        /// The axis that scales are for, may be negative.
        axis: i64,
        /// The number of elements that share a scale along the axis; 0: one scale an index.
        block_size: usize,
    },
    /// Floats to 8 bits unsigned over their own range; outputs Y, scale, zero point.
    DynamicQuantize,
    /// Matrix product of integers; inputs A, B, optional zero points of both.
    MatMulInteger,
    /// Matrix product of quantised numbers; inputs A with scale and zero point, B with both, scale
    /// and zero point of the result.
    QLinearMatMul,
}

impl QuantizeOp {
    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quantize { .. } => "QuantizeLinear",
            Self::Dequantize { .. } => "DequantizeLinear",
            Self::DynamicQuantize => "DynamicQuantizeLinear",
            Self::MatMulInteger => "MatMulInteger",
            Self::QLinearMatMul => "QLinearMatMul",
        }
    }
}
