//! Attributes of ops that move elements.

/// How `Pad` fills the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// With a constant.
    Constant,
    /// With the mirror image, the edge not repeated.
    Reflect,
    /// With the edge.
    Edge,
    /// Cyclically.
    Wrap,
}

/// Attributes of `Slice` before opset 10; all `None` in the input form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceAttributes {
    /// Start of each range.
    pub starts: Option<Vec<i64>>,
    /// End of each range, exclusive.
    pub ends: Option<Vec<i64>>,
    /// The axes; left out: the first ones.
    pub axes: Option<Vec<i64>>,
}

/// What `Reduce` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Arithmetic mean.
    Mean,
    /// Sum.
    Sum,
    /// Largest element.
    Max,
    /// Smallest element.
    Min,
    /// Product.
    Prod,
    /// Sum of absolute values.
    L1,
    /// Root of the sum of squares.
    L2,
    /// Sum of squares.
    SumSquare,
    /// Logarithm of the sum.
    LogSum,
    /// Logarithm of the sum of exponentials.
    LogSumExp,
}

impl ReduceKind {
    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "ReduceMean",
            Self::Sum => "ReduceSum",
            Self::Max => "ReduceMax",
            Self::Min => "ReduceMin",
            Self::Prod => "ReduceProd",
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::SumSquare => "ReduceSumSquare",
            Self::LogSum => "ReduceLogSum",
            Self::LogSumExp => "ReduceLogSumExp",
        }
    }
}
