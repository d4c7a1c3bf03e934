//! Normalisations and softmax.

use regraft_graph::Op;
use regraft_graph::op::Normalization;

use crate::attributes::{Content, NodeReader, Refusal, Setting};

/// The default that the specification gives for every `epsilon`.
pub(super) const EPSILON: f32 = 1e-5;

/// The default share of a running statistic that stays.
const MOMENTUM: f32 = 0.9;

/// The operator set from which on an attribute says that a node is in training mode.
const TRAINING_MODE: i64 = 14;

/// The operator set from which on softmax works on one axis instead of a flattened matrix.
const SOFTMAX_PER_AXIS: i64 = 13;

pub(super) fn parse_batch(node: &mut NodeReader) -> Result<Op, Refusal> {
    let epsilon = node.float("epsilon")?.unwrap_or(EPSILON);
    // Momentum only moves the running statistics in training.
    let momentum = node.float("momentum")?.unwrap_or(MOMENTUM);
    if node.int("spatial")?.unwrap_or(1) != 1 {
        return Err(Refusal::Opaque(
            "it normalises each position on its own (`spatial` = 0)".to_owned(),
        ));
    }
    // Operator set 6 has to be told that it is not training.
    let is_test = node.flag("is_test", false)?;
    let training = node.flag("training_mode", false)?;
    if training && node.opset >= TRAINING_MODE && !(3..5).any(|port| node.has_output(port)) {
        return Ok(Op::BatchStatistics { epsilon, momentum });
    }
    if node.opset < 7 && !is_test || training || (1..5).any(|port| node.has_output(port)) {
        return Err(Refusal::Opaque("it is in training mode".to_owned()));
    }
    Ok(Op::BatchNormalization { epsilon })
}

/// Batch normalisation, training or not, and instance normalisation.
pub(super) fn emit_by_channel(op: &Op) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Op::BatchNormalization { epsilon }
    | Op::InstanceNormalization { epsilon }
    | Op::BatchStatistics { epsilon, .. } = op
    {
        settings.push(Setting::float("epsilon", *epsilon, EPSILON));
    }
    if let Op::BatchStatistics { momentum, .. } = op {
        settings.push(Setting::float("momentum", *momentum, MOMENTUM));
        settings.push(Setting::flag("training_mode", true, false));
    }
    settings
}

pub(super) fn parse_layer(node: &mut NodeReader) -> Result<Op, Refusal> {
    let axis = node.int("axis")?.unwrap_or(-1);
    let epsilon = node.float("epsilon")?.unwrap_or(EPSILON);
    if node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Refusal::Opaque(
            "its statistics are not in 32-bit floats".to_owned(),
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

/// The operator set from which on scale and bias of groups have one entry a channel.
const GROUP_PER_CHANNEL: i64 = 21;
/// The axes that `MeanVarianceNormalization` takes if it is not told.
const MAP_AXES: [i64; 3] = [0, 2, 3];

/// Returns a normalisation beside the batch, layer and instance ones.
pub(super) fn parse_other(node: &mut NodeReader) -> Result<Option<Normalization>, Refusal> {
    let stash = |node: &mut NodeReader| match node.int("stash_type")?.unwrap_or(1) {
        1 => Ok(()),
        _ => Err(Refusal::Opaque(
            "its statistics are not in 32-bit floats".to_owned(),
        )),
    };
    Ok(Some(match node.node.op_type() {
        "GroupNormalization" => {
            stash(node)?;
            Normalization::Group {
                n_groups: node.count("num_groups", 0, 1)?,
                epsilon: node.float("epsilon")?.unwrap_or(EPSILON),
                per_group: node.opset < GROUP_PER_CHANNEL,
            }
        }
        // ONNX Runtime's name for it, in the standard domain.
        "RMSNormalization" | "SimplifiedLayerNormalization" => {
            stash(node)?;
            if node.has_output(1) {
                return Err(Refusal::Opaque(
                    "its output of a statistic is not modelled".to_owned(),
                ));
            }
            Normalization::RootMeanSquare {
                axis: node.int("axis")?.unwrap_or(-1),
                epsilon: node.float("epsilon")?.unwrap_or(EPSILON),
            }
        }
        "LpNormalization" => Normalization::Length {
            axis: node.int("axis")?.unwrap_or(-1),
            absolute: match node.int("p")?.unwrap_or(2) {
                1 => true,
                2 => false,
                p => return Err(node.fault(format!("attribute `p` is {p}")).into()),
            },
        },
        "MeanVarianceNormalization" => Normalization::MeanVariance {
            axes: node.ints("axes")?.unwrap_or(MAP_AXES.to_vec()),
        },
        "LRN" => Normalization::LocalResponse {
            alpha: node.float("alpha")?.unwrap_or(LRN_ALPHA),
            beta: node.float("beta")?.unwrap_or(LRN_BETA),
            bias: node.float("bias")?.unwrap_or(1.0),
            size: node.count("size", 0, 1)?,
        },
        "Hardmax" => {
            let flatten = node.opset < SOFTMAX_PER_AXIS;
            let axis = node.int("axis")?.unwrap_or(if flatten { 1 } else { -1 });
            Normalization::Hardmax { axis, flatten }
        }
        _ => return Ok(None),
    }))
}

const LRN_ALPHA: f32 = 1e-4;
const LRN_BETA: f32 = 0.75;

pub(super) fn emit_other(op: &Normalization) -> Vec<Setting> {
    match op {
        Normalization::Group {
            n_groups, epsilon, ..
        } => vec![
            Setting::float("epsilon", *epsilon, EPSILON),
            Setting::count("num_groups", *n_groups, 0),
        ],
        Normalization::RootMeanSquare { axis, epsilon } => emit_layer(*axis, *epsilon),
        Normalization::Length { axis, absolute } => vec![
            Setting::int("axis", *axis, -1),
            Setting::int("p", if *absolute { 1 } else { 2 }, 2),
        ],
        Normalization::MeanVariance { axes } => vec![Setting {
            name: "axes",
            value: Some(Content::Ints(axes.clone())),
            default: Some(Content::Ints(MAP_AXES.to_vec())),
        }],
        Normalization::LocalResponse {
            alpha,
            beta,
            bias,
            size,
        } => vec![
            Setting::float("alpha", *alpha, LRN_ALPHA),
            Setting::float("beta", *beta, LRN_BETA),
            Setting::float("bias", *bias, 1.0),
            Setting::count("size", *size, 0),
        ],
        Normalization::Hardmax { axis, flatten } => emit_softmax(*axis, *flatten),
    }
}
