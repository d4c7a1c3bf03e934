//! Attributes of ops that pick, place, sort or count elements.

use crate::DType;

/// How `Scatter…` joins what it writes with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScatterReduction {
    /// The last one written stays.
    Replace,
    /// Sum.
    Add,
    /// Product.
    Mul,
    /// Largest.
    Max,
    /// Smallest.
    Min,
}

/// An op that addresses elements by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexOp {
    /// One element along an axis for each index; inputs data, indices.
    GatherElements {
        /// The axis, may be negative.
        axis: i64,
    },
    /// Slices by index tuples, the last axis of the indices; inputs data, indices.
    GatherNd {
        /// The number of leading axes that data and indices share.
        batch_dims: usize,
    },
    /// Writes elements along an axis; inputs data, indices, updates.
    ScatterElements {
        /// The axis, may be negative.
        axis: i64,
        /// How writes join.
        reduction: ScatterReduction,
        /// True if the file calls it `Scatter`, as before opset 11.
        old_name: bool,
    },
    /// Writes slices by index tuples; inputs data, indices, updates.
    ScatterNd {
        /// How writes join.
        reduction: ScatterReduction,
    },
    /// Writes a run of slices into a cache; inputs cache, update, optional first index per sample.
    TensorScatter {
        /// The axis of the run, may be negative.
        axis: i64,
        /// True if the run goes on at the begin where it reaches the end.
        circular: bool,
    },
    /// Slices where a condition holds; inputs data, condition.
    Compress {
        /// The axis, may be negative; `None`: of the flattened input.
        axis: Option<i64>,
    },
    /// Positions of what is not zero, one row an axis.
    NonZero,
    /// A vector of off values with one on value for each index; inputs indices, depth, values.
    OneHot {
        /// The new axis, may be negative.
        axis: i64,
    },
    /// The k largest or smallest along an axis and where they were; inputs X, k.
    TopK {
        /// The axis, may be negative.
        axis: i64,
        /// True for the largest.
        largest: bool,
        /// True if they come in order; they always do here.
        sorted: bool,
        /// The number in the attribute form, before opset 10.
        k: Option<i64>,
    },
    /// What differs, with first positions, positions in the result and counts.
    Unique {
        /// The axis whose slices are compared, may be negative; `None`: of the flattened input.
        axis: Option<i64>,
        /// True in rising order, false in order of appearance.
        sorted: bool,
    },
    /// Keeps a triangle of the last two axes, zero elsewhere; inputs X, optional k.
    Trilu {
        /// True for the upper triangle.
        upper: bool,
    },
    /// Reverses the head of each sequence; inputs X, lengths.
    ReverseSequence {
        /// The axis of samples.
        batch_axis: i64,
        /// The axis of steps.
        time_axis: i64,
    },
    /// Running sums or products along an axis; inputs X, axis.
    Cumulative {
        /// True for products.
        product: bool,
        /// True if an element does not count itself.
        exclusive: bool,
        /// True from the end on.
        reverse: bool,
    },
    /// Ones on a diagonal, in the shape of the input.
    EyeLike {
        /// The element type; `None`: that of the input.
        dtype: Option<DType>,
        /// The diagonal, above the main one where positive.
        k: i64,
    },
}

impl IndexOp {
    /// Returns the operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GatherElements { .. } => "GatherElements",
            Self::GatherNd { .. } => "GatherND",
            Self::ScatterElements { old_name: true, .. } => "Scatter",
            Self::ScatterElements { .. } => "ScatterElements",
            Self::ScatterNd { .. } => "ScatterND",
            Self::TensorScatter { .. } => "TensorScatter",
            Self::Compress { .. } => "Compress",
            Self::NonZero => "NonZero",
            Self::OneHot { .. } => "OneHot",
            Self::TopK { .. } => "TopK",
            Self::Unique { .. } => "Unique",
            Self::Trilu { .. } => "Trilu",
            Self::ReverseSequence { .. } => "ReverseSequence",
            Self::Cumulative { product: true, .. } => "CumProd",
            Self::Cumulative { .. } => "CumSum",
            Self::EyeLike { .. } => "EyeLike",
        }
    }
}
