//! Nodes to typed ops and back: one line an op, each calling the file of its family.

mod arity;
mod attention;
mod convolution;
mod elementwise;
mod fused;
mod image;
mod index;
mod normalization;
mod pool;
mod recurrent;
mod reduce;
mod shape;
mod signal;

use regraft_graph::Op;
use regraft_graph::op::{BinaryOp, CompareOp, FloatTest, GlobalPool, UnaryOp, VariadicOp};

use crate::attributes::{NodeReader, Refusal, Setting};

/// Returns the typed op of a node of the standard domain.
///
/// # Errors
/// [`Refusal::Opaque`] if the op or its attributes are not modelled, [`Refusal::Fault`] if they break
/// the specification.
pub(crate) fn parse(node: &mut NodeReader) -> Result<Op, Refusal> {
    let op = typed(node)?;
    check(node, &op)?;
    Ok(op)
}

/// The domain of what ONNX Runtime fuses.
pub(crate) const RUNTIME_DOMAIN: &str = "com.microsoft";

/// Returns the typed op of a node of ONNX Runtime's own domain: a standard op by another name, or
/// several in one. The node's bytes keep its name and domain.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_runtime(node: &mut NodeReader) -> Result<Op, Refusal> {
    let Some(op) = fused::parse(node)? else {
        return Err(Refusal::Opaque(format!(
            "the operator `{}` of `{RUNTIME_DOMAIN}` is not modelled",
            node.node.op_type()
        )));
    };
    check(node, &op)?;
    Ok(op)
}

/// Checks that every attribute was read, and the number of inputs.
///
/// # Errors
/// As [`parse`].
pub(crate) fn check(node: &NodeReader, op: &Op) -> Result<(), Refusal> {
    if let Some(name) = node.unread() {
        return Err(Refusal::Opaque(format!(
            "its attribute `{name}` is not modelled"
        )));
    }
    Ok(arity::check(node, op)?)
}

fn typed(node: &mut NodeReader) -> Result<Op, Refusal> {
    let op_type = node.node.op_type();
    match op_type {
        "Conv" => convolution::parse_conv(node),
        "ConvTranspose" => convolution::parse_transposed(node),
        "Gemm" => convolution::parse_gemm(node),
        "MatMul" => Ok(Op::MatMul),
        "BatchNormalization" => normalization::parse_batch(node),
        "LayerNormalization" => normalization::parse_layer(node),
        "InstanceNormalization" => normalization::parse_instance(node),
        "Softmax" => normalization::parse_softmax(node, false),
        "LogSoftmax" => normalization::parse_softmax(node, true),
        "MaxPool" | "AveragePool" | "LpPool" => pool::parse(node),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => pool::parse_global(node),
        "Clip" => elementwise::parse_clip(node),
        "Dropout" => elementwise::parse_dropout(node),
        "Cast" => elementwise::parse_cast(node),
        "Where" => Ok(Op::Where),
        // Before operator set 7 the slope is per channel, not broadcast.
        "PRelu" if node.opset < 7 => Ok(Op::ChannelPRelu),
        "PRelu" => Ok(Op::PRelu),
        "ArgMax" => reduce::parse_arg(node, true),
        "ArgMin" => reduce::parse_arg(node, false),
        "Shape" => shape::parse_shape(node),
        "Size" => Ok(Op::Size),
        "Reshape" => shape::parse_reshape(node),
        "Flatten" => shape::parse_flatten(node),
        "Transpose" => shape::parse_transpose(node),
        "Squeeze" => shape::parse_squeeze(node),
        "Unsqueeze" => shape::parse_unsqueeze(node),
        "Concat" => shape::parse_concat(node),
        "Split" => shape::parse_split(node),
        "Slice" => shape::parse_slice(node),
        "Pad" => shape::parse_pad(node),
        "Gather" => shape::parse_gather(node),
        "Expand" => Ok(Op::Expand),
        "Tile" => Ok(Op::Tile),
        "Range" => Ok(Op::Range),
        "ConstantOfShape" => shape::parse_constant_of_shape(node),
        "Constant" => shape::parse_constant(node),
        "CastLike" => {
            node.ignore("saturate");
            node.ignore("round_mode");
            Ok(Op::CastLike)
        }
        "IsNaN" => Ok(Op::FloatTest(FloatTest::Nan)),
        "IsInf" => elementwise::parse_is_inf(node),
        "Einsum" => attention::parse_einsum(node),
        "Det" => Ok(Op::Determinant),
        "Attention" => attention::parse(node),
        "RotaryEmbedding" => attention::parse_rotary(node),
        "NegativeLogLikelihoodLoss" => attention::parse_loss(node, false),
        "SoftmaxCrossEntropyLoss" => attention::parse_loss(node, true),
        "SimplifiedLayerNormalization" => fused::parse_simplified(node),
        "LSTM" | "GRU" | "RNN" => recurrent::parse(node),
        _ => by_family(node),
    }
}

/// Returns the op of a family whose members differ in nothing but their name.
fn by_family(node: &mut NodeReader) -> Result<Op, Refusal> {
    let op_type = node.node.op_type();
    if let Some(op) = UnaryOp::ALL.iter().find(|u| u.name() == op_type) {
        return Ok(Op::Unary(*op));
    }
    let binary = BinaryOp::ALL.iter().find(|b| b.name() == op_type);
    if let Some(op) = binary.filter(|_| op_type != "BitShift") {
        return elementwise::parse_binary(node, *op);
    }
    if let Some(op) = VariadicOp::ALL.iter().find(|v| v.name() == op_type) {
        return Ok(Op::Variadic(*op));
    }
    if let Some(op) = CompareOp::ALL.iter().find(|c| c.name() == op_type) {
        return Ok(Op::Compare(*op));
    }
    if op_type == "BitShift" {
        return elementwise::parse_shift(node);
    }
    if let Some(op) = normalization::parse_other(node)? {
        return Ok(Op::Normalization(op));
    }
    if let Some(op) = index::parse(node)? {
        return Ok(op);
    }
    if let Some(op) = signal::parse(node)? {
        return Ok(op);
    }
    if let Some(op) = image::parse(node)? {
        return Ok(op);
    }
    if let Some(activation) = elementwise::parse_activation(node)? {
        return Ok(Op::Activation(activation));
    }
    if let Some(kind) = reduce::kind(op_type) {
        return reduce::parse(node, kind);
    }
    Err(Refusal::Opaque(format!(
        "the operator `{op_type}` is not modelled"
    )))
}

/// Returns the attributes that say what `op` says.
pub(crate) fn emit(op: &Op) -> Vec<Setting> {
    match op {
        Op::Conv(conv) => convolution::emit_conv(conv),
        Op::ConvTranspose(conv) => convolution::emit_transposed(conv),
        Op::Gemm(gemm) => convolution::emit_gemm(gemm),
        Op::BatchNormalization { .. }
        | Op::InstanceNormalization { .. }
        | Op::BatchStatistics { .. } => normalization::emit_by_channel(op),
        Op::LayerNormalization { axis, epsilon } => normalization::emit_layer(*axis, *epsilon),
        Op::Softmax { axis, flatten, .. } => normalization::emit_softmax(*axis, *flatten),
        Op::Pool(pool) => pool::emit(pool),
        Op::Activation(activation) => elementwise::emit_activation(*activation),
        Op::Clip {
            min,
            max,
            from_inputs,
        } => elementwise::emit_clip(*min, *max, *from_inputs),
        Op::Cast { to } => elementwise::emit_cast(*to),
        Op::Reduce {
            axes,
            keepdims,
            noop_with_empty_axes,
            ..
        } => reduce::emit(axes.as_ref(), *keepdims, *noop_with_empty_axes),
        Op::ArgExtremum {
            axis,
            keepdims,
            select_last,
            ..
        } => reduce::emit_arg(*axis, *keepdims, *select_last),
        Op::Shape { start, end } => shape::emit_shape(*start, *end),
        Op::Reshape { allowzero } => vec![Setting::flag("allowzero", *allowzero, false)],
        Op::Flatten { axis } => vec![Setting::int("axis", *axis, shape::FLATTEN_AXIS)],
        Op::Transpose { perm } => vec![Setting::ints("perm", perm.as_ref())],
        Op::Squeeze { axes } | Op::Unsqueeze { axes } => vec![Setting::ints("axes", axes.as_ref())],
        Op::Concat { axis } => shape::emit_concat(*axis),
        Op::Split {
            axis,
            split,
            num_outputs,
        } => shape::emit_split(*axis, split.as_ref(), *num_outputs),
        Op::Slice(slice) => shape::emit_slice(slice),
        Op::Pad { mode, pads, value } => shape::emit_pad(*mode, pads.as_ref(), *value),
        Op::Gather { axis } => vec![Setting::int("axis", *axis, 0)],
        Op::ConstantOfShape { value } => shape::emit_constant_of_shape(value),
        Op::Constant { value } => shape::emit_constant(value),
        Op::Recurrent(recurrent) => recurrent::emit(recurrent),
        Op::FloatTest(test) => elementwise::emit_test(*test),
        Op::Dropout { ratio } => elementwise::emit_dropout(*ratio),
        Op::Binary(op) => elementwise::emit_binary(*op),
        Op::AlignedBinary { axis, .. } => elementwise::emit_aligned(*axis),
        Op::Signal(op) => signal::emit(*op),
        Op::Quantize(op) => signal::emit_quantize(*op),
        Op::GlobalPool(GlobalPool::Lp { p }) => vec![Setting::int("p", (*p).into(), 2)],
        Op::Normalization(op) => normalization::emit_other(op),
        Op::Index(op) => index::emit(op),
        Op::Image(op) => image::emit(op),
        Op::Einsum { equation } => attention::emit_einsum(equation),
        Op::Attention(op) => attention::emit(op),
        Op::RotaryEmbedding(op) => attention::emit_rotary(op),
        Op::Fused(op) => fused::emit(op),
        Op::LabelLoss(op) => attention::emit_loss(op),
        Op::MatMul
        | Op::GlobalPool(GlobalPool::Average | GlobalPool::Max)
        | Op::Unary(_)
        | Op::CastLike
        | Op::ChannelPRelu
        | Op::Determinant
        | Op::If { .. }
        | Op::Loop { .. }
        | Op::Scan(_)
        | Op::Variadic(_)
        | Op::Compare(_)
        | Op::Where
        | Op::PRelu
        | Op::Size
        | Op::Expand
        | Op::Tile
        | Op::Range
        | Op::Opaque { .. } => Vec::new(),
    }
}
