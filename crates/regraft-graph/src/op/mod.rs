//! What a node computes: one closed enum of typed operations.
//!
//! Attributes are parsed once, when a file is read. Where ONNX moved a setting from an attribute to
//! an input between operator sets (axes, pads, split sizes), the field is `Some` in the attribute
//! form and `None` in the input form; [`infer::params`](crate::infer::params) reads both.
//! A concern (shape, cost, read, write, forward, channel rule) is an exhaustive match over this
//! enum, one line an op, so that a missing rule does not compile.

mod attention;
mod control;
mod elementwise;
mod fused;
mod image;
mod index;
mod linear;
mod loss;
mod normalization;
mod pool;
mod quantize;
mod recurrent;
mod shape;
mod signal;

pub use attention::{Attention, RotaryEmbedding, ScoreOutput};
pub use control::{Body, Scan, ScanAxis};
pub use elementwise::{Activation, BinaryOp, CompareOp, FloatTest, UnaryOp, VariadicOp};
pub use fused::{FusedHeads, FusedNorm, FusedOp, GroupedHeads};
pub use image::{
    AspectPolicy, CoordinateMode, ImageOp, Interpolation, NearestMode, Resize, SamplePadding,
};
pub use index::{IndexOp, ScatterReduction};
pub use linear::{Conv, Gemm};
pub use loss::{LabelLoss, LossReduction};
pub use normalization::Normalization;
pub use pool::{AutoPad, GlobalPool, Pool, PoolKind};
pub use quantize::QuantizeOp;
pub use recurrent::{Direction, Recurrent, RecurrentKind};
pub use shape::{PadMode, ReduceKind, SliceAttributes};
pub use signal::{SignalOp, WindowKind};

use crate::{DType, Tensor};

/// An operation with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution over any number of spatial axes; inputs X, W, optional B.
    Conv(Conv),
    /// Transposed convolution; inputs X, W (`n_in × n_out/group × kernel`), optional B.
    ConvTranspose(Conv),
    /// `alpha·A·B + beta·C`; inputs A, B, optional C.
    Gemm(Gemm),
    /// Matrix product with broadcast leading axes; inputs A, B.
    MatMul,
    /// Normalisation with running statistics; inputs X, scale, bias, mean, variance.
    BatchNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `BatchNormalization` in training mode, with the statistics of its batch; inputs X, scale, bias,
    /// running mean, running variance; outputs Y, and optionally both running statistics moved on:
    /// `momentum` times the input and the rest the batch's, its variance divided by the count.
    BatchStatistics {
        /// Added to the variance.
        epsilon: f32,
        /// Share of a running statistic that stays.
        momentum: f32,
    },
    /// Normalisation over the trailing axes from `axis`; inputs X, scale, optional bias.
    LayerNormalization {
        /// First normalised axis, may be negative.
        axis: i64,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Normalisation of each channel of each sample; inputs X, scale, bias.
    InstanceNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Max or average pooling over windows.
    Pool(Pool),
    /// Pooling over all spatial axes.
    GlobalPool(GlobalPool),
    /// Elementwise function of one input, with parameters.
    Activation(Activation),
    /// Elementwise function of one input, without parameters.
    Unary(UnaryOp),
    /// Elementwise function of two broadcast inputs.
    Binary(BinaryOp),
    /// Elementwise function of any number of broadcast inputs.
    Variadic(VariadicOp),
    /// Elementwise comparison or logic of two broadcast inputs, boolean result.
    Compare(CompareOp),
    /// Choice by a condition; inputs condition, X, Y.
    Where,
    /// Bounds; attributes up to opset 6..10, inputs min and max from 11 on.
    Clip {
        /// Lower bound in the attribute form.
        min: Option<f32>,
        /// Upper bound in the attribute form.
        max: Option<f32>,
        /// True if the bounds are optional inputs 1 and 2.
        from_inputs: bool,
    },
    /// Slope per channel for negative inputs; inputs X, slope.
    PRelu,
    /// Exponential normalisation, or its logarithm.
    Softmax {
        /// The axis, may be negative.
        axis: i64,
        /// True before opset 13: all axes from `axis` on are flattened into one.
        flatten: bool,
        /// True for `LogSoftmax`.
        log: bool,
    },
    /// Reduction over axes.
    Reduce {
        /// What is reduced to.
        kind: ReduceKind,
        /// Axes in the attribute form; `None`: input 1, or all axes if that is left out.
        axes: Option<Vec<i64>>,
        /// True if reduced axes stay with extent 1.
        keepdims: bool,
        /// True if empty axes (given or left out) mean "reduce nothing".
        noop_with_empty_axes: bool,
    },
    /// Index of the largest or smallest element along an axis.
    ArgExtremum {
        /// The axis, may be negative.
        axis: i64,
        /// True if the axis stays with extent 1.
        keepdims: bool,
        /// True if the last of equal elements counts.
        select_last: bool,
        /// True for `ArgMax`, false for `ArgMin`.
        largest: bool,
    },
    /// Shape of the input as integers, from axis `start` to `end`.
    Shape {
        /// First axis, may be negative.
        start: i64,
        /// One past the last axis; `None` is all.
        end: Option<i64>,
    },
    /// Number of elements of the input.
    Size,
    /// Same elements, other shape; inputs data, shape.
    Reshape {
        /// True if a 0 in the shape means extent 0 instead of "copy".
        allowzero: bool,
    },
    /// Two axes: all before `axis`, all from `axis` on.
    Flatten {
        /// The cut, may be negative.
        axis: i64,
    },
    /// Permutation of the axes; `None` reverses them.
    Transpose {
        /// Output axis `i` is input axis `perm[i]`.
        perm: Option<Vec<i64>>,
    },
    /// Removes axes of extent 1; `axes` is the attribute form, else input 1.
    Squeeze {
        /// Axes in the attribute form.
        axes: Option<Vec<i64>>,
    },
    /// Inserts axes of extent 1; `axes` is the attribute form, else input 1.
    Unsqueeze {
        /// Axes in the attribute form.
        axes: Option<Vec<i64>>,
    },
    /// Joins its inputs along an axis.
    Concat {
        /// The axis, may be negative.
        axis: i64,
    },
    /// Cuts its input along an axis.
    Split {
        /// The axis, may be negative.
        axis: i64,
        /// Extents in the attribute form, else input 1, else equal parts.
        split: Option<Vec<i64>>,
        /// The number of parts (opset 18), else one an output.
        num_outputs: Option<i64>,
    },
    /// Ranges along axes; attribute form before opset 10, else inputs starts, ends, axes, steps.
    Slice(SliceAttributes),
    /// Adds a border; attribute form before opset 11, else inputs pads, value, axes.
    Pad {
        /// How the border is filled.
        mode: PadMode,
        /// Begin of every axis, then end of every axis, in the attribute form.
        pads: Option<Vec<i64>>,
        /// The constant in the attribute form.
        value: f32,
    },
    /// Picks slices by index along an axis; inputs data, indices.
    Gather {
        /// The axis, may be negative.
        axis: i64,
    },
    /// Broadcasts to a shape; inputs data, shape.
    Expand,
    /// Repeats along every axis; inputs data, repeats.
    Tile,
    /// A tensor of one value; input shape.
    ConstantOfShape {
        /// The value, one element.
        value: Tensor,
    },
    /// A constant held in the node.
    Constant {
        /// The value.
        value: Tensor,
    },
    /// Numbers from start below limit by delta; inputs start, limit, delta.
    Range,
    /// Conversion of the element type.
    Cast {
        /// The target type.
        to: DType,
    },
    /// Elementwise function whose second input is aligned at an axis, as before opset 7.
    AlignedBinary {
        /// The function.
        op: BinaryOp,
        /// The axis of the first input that the second one's first axis belongs to.
        axis: i64,
    },
    /// Conversion to the element type of another value; inputs X, that value.
    CastLike,
    /// Elementwise question about floats.
    FloatTest(FloatTest),
    /// Slope per channel for negative inputs, aligned at the channel axis as before opset 7.
    ChannelPRelu,
    /// Another normalisation.
    Normalization(Normalization),
    /// Picking, placing, sorting or counting elements.
    Index(IndexOp),
    /// Resampling and rearranging maps.
    Image(ImageOp),
    /// Sums of products over named axes.
    Einsum {
        /// The names of each input's axes, and of the output's.
        equation: String,
    },
    /// Determinants of the last two axes.
    Determinant,
    /// Attention over heads.
    Attention(Attention),
    /// Rotation of pairs by position.
    RotaryEmbedding(RotaryEmbedding),
    /// Several standard ops in one, of ONNX Runtime's domain.
    Fused(FusedOp),
    /// Windows and Fourier transforms.
    Signal(SignalOp),
    /// Between floats and small integers.
    Quantize(QuantizeOp),
    /// A loss at labels.
    LabelLoss(LabelLoss),
    /// `Dropout` outside of training: X itself, and a mask of ones as output 1; inputs X, optional ratio
    /// and mode.
    Dropout {
        /// Share that training drops, where an attribute says it (before operator set 12).
        ratio: Option<f32>,
    },
    /// LSTM, GRU or plain RNN.
    Recurrent(Recurrent),
    /// One of two graphs, by a condition.
    If {
        /// Runs where the condition holds.
        then_branch: Body,
        /// Runs where it does not.
        else_branch: Body,
    },
    /// A graph run again and again; inputs the number of rounds, the condition, states. The body
    /// has the round and the condition before the states, and after them outputs to be stacked.
    Loop {
        /// What runs in each round.
        body: Body,
    },
    /// A graph run for each slice of its inputs.
    Scan(Scan),
    /// An operation kept as it is: written back unchanged, never pruned through.
    Opaque {
        /// The operator domain, empty for the standard one.
        domain: String,
        /// The operator's name.
        op_type: String,
        /// Why it is opaque, in words.
        reason: String,
    },
}

impl Op {
    /// Returns the graphs that the op runs.
    pub fn bodies(&self) -> Vec<&Body> {
        match self {
            Self::If {
                then_branch,
                else_branch,
            } => vec![then_branch, else_branch],
            Self::Loop { body } | Self::Scan(Scan { body, .. }) => vec![body],
            _ => Vec::new(),
        }
    }

    /// Returns the operator's ONNX name.
    pub fn name(&self) -> &str {
        match self {
            Self::Conv(_) => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::Gemm(_) => "Gemm",
            Self::MatMul => "MatMul",
            Self::BatchNormalization { .. } | Self::BatchStatistics { .. } => "BatchNormalization",
            Self::LayerNormalization { .. } => "LayerNormalization",
            Self::InstanceNormalization { .. } => "InstanceNormalization",
            Self::Pool(p) => p.name(),
            Self::GlobalPool(p) => p.name(),
            Self::Activation(a) => a.name(),
            Self::Unary(u) => u.name(),
            Self::Binary(b) => b.name(),
            Self::Variadic(v) => v.name(),
            Self::Compare(c) => c.name(),
            Self::Where => "Where",
            Self::Clip { .. } => "Clip",
            Self::PRelu | Self::ChannelPRelu => "PRelu",
            Self::Softmax { log: false, .. } => "Softmax",
            Self::Softmax { log: true, .. } => "LogSoftmax",
            Self::Reduce { kind, .. } => kind.name(),
            Self::ArgExtremum { largest: true, .. } => "ArgMax",
            Self::ArgExtremum { largest: false, .. } => "ArgMin",
            Self::Shape { .. } => "Shape",
            Self::Size => "Size",
            Self::Reshape { .. } => "Reshape",
            Self::Flatten { .. } => "Flatten",
            Self::Transpose { .. } => "Transpose",
            Self::Squeeze { .. } => "Squeeze",
            Self::Unsqueeze { .. } => "Unsqueeze",
            Self::Concat { .. } => "Concat",
            Self::Split { .. } => "Split",
            Self::Slice(_) => "Slice",
            Self::Pad { .. } => "Pad",
            Self::Gather { .. } => "Gather",
            Self::Expand => "Expand",
            Self::Tile => "Tile",
            Self::ConstantOfShape { .. } => "ConstantOfShape",
            Self::Constant { .. } => "Constant",
            Self::Range => "Range",
            Self::Cast { .. } => "Cast",
            Self::AlignedBinary { op, .. } => op.name(),
            Self::Signal(s) => s.name(),
            Self::Quantize(q) => q.name(),
            Self::CastLike => "CastLike",
            Self::FloatTest(t) => t.name(),
            Self::Normalization(n) => n.name(),
            Self::Index(i) => i.name(),
            Self::Image(i) => i.name(),
            Self::Einsum { .. } => "Einsum",
            Self::Determinant => "Det",
            Self::Attention(_) => "Attention",
            Self::RotaryEmbedding(_) => "RotaryEmbedding",
            Self::Fused(f) => f.name(),
            Self::LabelLoss(l) => l.name(),
            Self::Dropout { .. } => "Dropout",
            Self::Recurrent(r) => r.name(),
            Self::If { .. } => "If",
            Self::Loop { .. } => "Loop",
            Self::Scan(_) => "Scan",
            Self::Opaque { op_type, .. } => op_type,
        }
    }
}
