//! Normalisations and softmax.

use regraft_graph::Op;

use crate::attributes::{NodeReader, Refusal, Setting};

/// The default that the specification gives for every `epsilon`.
pub(super) const EPSILON: f32 = 1e-5;

/// The operator set from which on softmax works on one axis instead of a flattened matrix.
const SOFTMAX_PER_AXIS: i64 = 13;

pub(super) fn parse_batch(node: &mut NodeReader) -> Result<Op, Refusal> {
    let epsilon = node.float("epsilon")?.unwrap_or(EPSILON);
    // Momentum only moves the running statistics in training.
    node.float("momentum")?;
    if node.int("spatial")?.unwrap_or(1) != 1 {
        return Err(Refusal::Opaque(
            "it normalises each position on its own (`spatial` = 0)".to_owned(),
        ));
    }
    // Operator set 6 has to be told that it is not training.
    let is_test = node.flag("is_test", false)?;
    if node.opset < 7 && !is_test
        || node.flag("training_mode", false)?
        || (1..5).any(|port| node.has_output(port))
    {
        return Err(Refusal::Opaque("it is in training mode".to_owned()));
    }
    Ok(Op::BatchNormalization { epsilon })
}

pub(super) fn parse_layer(node: &mut NodeReader) -> Result<Op, Refusal> {
    let axis = node.int("axis")?.unwrap_or(-1);
    let epsilon = node.float("epsilon")?.unwrap_or(EPSILON);
    if node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Refusal::Opaque(
            "its statistics are not in 32-bit floats".to_owned(),
        ));
    }
    if node.has_output(1) || node.has_output(2) {
        return Err(Refusal::Opaque(
            "its outputs of statistics are not modelled".to_owned(),
        ));
    }
    Ok(Op::LayerNormalization { axis, epsilon })
}

pub(super) fn emit_layer(axis: i64, epsilon: f32) -> Vec<Setting> {
    vec![
        Setting::int("axis", axis, -1),
        Setting::float("epsilon", epsilon, EPSILON),
    ]
}

pub(super) fn parse_instance(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::InstanceNormalization {
        epsilon: node.float("epsilon")?.unwrap_or(EPSILON),
    })
}

pub(super) fn parse_softmax(node: &mut NodeReader, log: bool) -> Result<Op, Refusal> {
    let flatten = node.opset < SOFTMAX_PER_AXIS;
    let axis = node.int("axis")?.unwrap_or(if flatten { 1 } else { -1 });
    Ok(Op::Softmax { axis, flatten, log })
}

pub(super) fn emit_softmax(axis: i64, flatten: bool) -> Vec<Setting> {
    vec![Setting::int("axis", axis, if flatten { 1 } else { -1 })]
}
