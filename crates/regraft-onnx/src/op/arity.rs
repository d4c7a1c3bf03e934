//! How many inputs an op takes.
#![allow(
    clippy::match_same_arms,
    reason = "a table: a guard or a special case stands before its general one"
)]

use std::ops::RangeInclusive;

use regraft_graph::Op;
use regraft_graph::op::{RecurrentKind, UnaryOp};

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
        Op::Unary(UnaryOp::Dropout) => 1..=3,
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
        Op::BatchNormalization { .. } => 5..=5,
        Op::Slice(slice) if slice.starts.is_some() => 1..=1,
        Op::Slice(_) => 3..=5,
        Op::Pad { pads: Some(_), .. } => 1..=1,
        Op::Pad { pads: None, .. } => 2..=4,
        Op::Recurrent(r) if r.kind == RecurrentKind::Lstm => 3..=8,
        Op::Recurrent(_) => 3..=6,
        Op::Variadic(_) | Op::Concat { .. } => 1..=usize::MAX,
        Op::Opaque { .. } => 0..=usize::MAX,
    }
}
