//! How many inputs an op takes.
#![allow(
    clippy::match_same_arms,
    reason = "a table: a guard or a special case stands before its general one"
)]

use std::ops::RangeInclusive;

use regraft_graph::Op;
use regraft_graph::op::{
    FusedOp, ImageOp, IndexOp, Normalization, QuantizeOp, RecurrentKind, SignalOp,
};

use crate::OnnxError;
use crate::attributes::NodeReader;

/// Checks that the required inputs are there, that no others are, and that there is an output.
///
/// # Errors
/// [`OnnxError::Attribute`] naming the node and the count.
pub(super) fn check(node: &NodeReader, op: &Op) -> Result<(), OnnxError> {
    let arity = inputs(op);
    let found = node.node.input.len();
    if found > *arity.end() {
        return Err(node.fault(format!(
            "it has {found} inputs, at most {} fit",
            arity.end()
        )));
    }
    if let Some(port) = (0..*arity.start()).find(|port| !node.has_input(*port)) {
        return Err(node.fault(format!("its required input {port} is missing")));
    }
    if !(0..node.node.output.len()).any(|port| node.has_output(port)) {
        return Err(node.fault("it has no output"));
    }
    Ok(())
}

fn inputs(op: &Op) -> RangeInclusive<usize> {
    match op {
        Op::Constant { .. } => 0..=0,
        Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::Activation(_)
        | Op::Unary(_)
        | Op::Softmax { .. }
        | Op::ArgExtremum { .. }
        | Op::Shape { .. }
        | Op::Size
        | Op::Flatten { .. }
        | Op::Transpose { .. }
        | Op::ConstantOfShape { .. }
        | Op::Cast { .. }
        | Op::Squeeze { axes: Some(_) }
        | Op::Unsqueeze { axes: Some(_) }
        | Op::Clip {
            from_inputs: false, ..
        } => 1..=1,
        Op::Reduce { .. } | Op::Squeeze { axes: None } | Op::Split { .. } => 1..=2,
        Op::Clip {
            from_inputs: true, ..
        } => 1..=3,
        Op::MatMul
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::PRelu
        | Op::Reshape { .. }
        | Op::Gather { .. }
        | Op::Expand
        | Op::Tile
        | Op::Unsqueeze { axes: None } => 2..=2,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::LayerNormalization { .. } => 2..=3,
        Op::Where | Op::Range | Op::InstanceNormalization { .. } => 3..=3,
        Op::BatchNormalization { .. } | Op::BatchStatistics { .. } => 5..=5,
        Op::Slice(slice) if slice.starts.is_some() => 1..=1,
        Op::Slice(_) => 3..=5,
        Op::Pad { pads: Some(_), .. } => 1..=1,
        Op::Pad { pads: None, .. } => 2..=4,
        Op::Recurrent(r) if r.kind == RecurrentKind::Lstm => 3..=8,
        Op::Recurrent(_) => 3..=6,
        Op::CastLike | Op::ChannelPRelu | Op::AlignedBinary { .. } => 2..=2,
        Op::Signal(SignalOp::Window { .. }) | Op::Quantize(QuantizeOp::DynamicQuantize) => 1..=1,
        Op::Signal(SignalOp::Dft { axis, .. }) => 1..=2 + usize::from(axis.is_none()),
        Op::Signal(SignalOp::Stft { .. }) => 2..=4,
        Op::Quantize(QuantizeOp::Quantize { .. } | QuantizeOp::Dequantize { .. }) => 2..=3,
        Op::Quantize(QuantizeOp::MatMulInteger) => 2..=4,
        Op::Quantize(QuantizeOp::QLinearMatMul) => 8..=8,
        Op::FloatTest(_) | Op::Determinant => 1..=1,
        Op::Dropout { .. } => 1..=3,
        Op::LabelLoss(_) => 2..=3,
        Op::RotaryEmbedding(_) => 3..=4,
        Op::Attention(_) => 3..=7,
        Op::Fused(op) => fused(op),
        Op::Einsum { .. } => 1..=usize::MAX,
        Op::Normalization(op) => normalization(op),
        Op::Index(op) => index(op),
        Op::Image(op) => image(op),
        Op::If { .. } => 1..=1,
        Op::Loop { .. } => 0..=usize::MAX,
        Op::Scan(_) | Op::Variadic(_) | Op::Concat { .. } => 1..=usize::MAX,
        Op::Opaque { .. } => 0..=usize::MAX,
    }
}

fn fused(op: &FusedOp) -> RangeInclusive<usize> {
    match op {
        FusedOp::MultiHeadAttention(_) => 3..=10,
        FusedOp::PackedAttention { .. } => 2..=7,
        FusedOp::GroupedAttention(_) => 1..=11,
        FusedOp::SkipNormalization { centred: true, .. } => 3..=5,
        FusedOp::SkipNormalization { centred: false, .. } => 3..=4,
        FusedOp::EmbedNormalization { .. } => 1..=9,
        FusedOp::BiasGelu { .. } => 2..=2,
    }
}

fn normalization(op: &Normalization) -> RangeInclusive<usize> {
    match op {
        Normalization::Group { .. } => 3..=3,
        Normalization::RootMeanSquare { .. } => 2..=2,
        Normalization::Length { .. }
        | Normalization::MeanVariance { .. }
        | Normalization::LocalResponse { .. }
        | Normalization::Hardmax { .. } => 1..=1,
    }
}

fn index(op: &IndexOp) -> RangeInclusive<usize> {
    match op {
        IndexOp::NonZero
        | IndexOp::Unique { .. }
        | IndexOp::EyeLike { .. }
        | IndexOp::TopK { k: Some(_), .. } => 1..=1,
        IndexOp::Trilu { .. } => 1..=2,
        IndexOp::GatherElements { .. }
        | IndexOp::GatherNd { .. }
        | IndexOp::Compress { .. }
        | IndexOp::TopK { k: None, .. }
        | IndexOp::ReverseSequence { .. }
        | IndexOp::Cumulative { .. } => 2..=2,
        IndexOp::TensorScatter { .. } => 2..=3,
        IndexOp::ScatterElements { .. } | IndexOp::ScatterNd { .. } | IndexOp::OneHot { .. } => {
            3..=3
        }
    }
}

fn image(op: &ImageOp) -> RangeInclusive<usize> {
    match op {
        ImageOp::Resize(resize) if resize.scales_first => 2..=2,
        ImageOp::Resize(_) => 1..=4,
        ImageOp::Upsample {
            scales: Some(_), ..
        }
        | ImageOp::DepthToSpace { .. }
        | ImageOp::SpaceToDepth { .. } => 1..=1,
        ImageOp::Upsample { scales: None, .. }
        | ImageOp::GridSample { .. }
        | ImageOp::AffineGrid { .. }
        | ImageOp::CenterCropPad { .. } => 2..=2,
        ImageOp::RoiAlign { .. } | ImageOp::Col2Im { .. } => 3..=3,
        ImageOp::NonMaxSuppression { .. } => 2..=5,
        ImageOp::MaxUnpool { .. } => 2..=3,
    }
}
