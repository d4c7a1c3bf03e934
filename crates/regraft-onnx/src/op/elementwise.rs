//! Elementwise ops.

use regraft_graph::op::{Activation, BinaryOp, FloatTest};
use regraft_graph::{DType, Op};

use crate::attributes::{Content, NodeReader, Refusal, Setting};
use crate::tensor::{dtype, dtype_code};

/// The operator set from which on `Clip` takes its bounds as inputs.
const CLIP_INPUTS: i64 = 11;
/// Defaults of `Selu`, as the specification writes them.
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_GAMMA: f32 = 1.050_701;

pub(super) fn parse_dropout(node: &mut NodeReader) -> Result<Op, Refusal> {
    let ratio = node.float("ratio")?;
    node.int("seed")?;
    if node.opset < 7 && !node.flag("is_test", false)? {
        return Err(Refusal::Opaque("it is in training mode".to_owned()));
    }
    Ok(Op::Dropout { ratio })
}

pub(super) fn emit_dropout(ratio: Option<f32>) -> Vec<Setting> {
    vec![Setting::optional("ratio", ratio.map(Content::Float))]
}

const DIRECTIONS: [(&str, BinaryOp); 2] = [
    ("LEFT", BinaryOp::ShiftLeft),
    ("RIGHT", BinaryOp::ShiftRight),
];

pub(super) fn parse_binary(node: &mut NodeReader, op: BinaryOp) -> Result<Op, Refusal> {
    if node.opset < 7 {
        // Without an axis the last axes of both are aligned, as they always are from 7 on.
        node.flag("broadcast", false)?;
        if let Some(axis) = node.int("axis")? {
            return Ok(Op::AlignedBinary { op, axis });
        }
    }
    if op == BinaryOp::Mod && node.flag("fmod", false)? {
        return Ok(Op::Binary(BinaryOp::Fmod));
    }
    Ok(Op::Binary(op))
}

pub(super) fn parse_shift(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Binary(node.choice("direction", "", &DIRECTIONS)?))
}

pub(super) fn emit_binary(op: BinaryOp) -> Vec<Setting> {
    match op {
        BinaryOp::Mod | BinaryOp::Fmod => {
            vec![Setting::flag("fmod", op == BinaryOp::Fmod, false)]
        }
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => {
            vec![Setting::choice("direction", op, "", &DIRECTIONS)]
        }
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Pow
        | BinaryOp::BitwiseAnd
        | BinaryOp::BitwiseOr
        | BinaryOp::BitwiseXor => Vec::new(),
    }
}

pub(super) fn emit_aligned(axis: i64) -> Vec<Setting> {
    vec![
        Setting::required("axis", Content::Int(axis)),
        Setting::required("broadcast", Content::Int(1)),
    ]
}

pub(super) fn parse_is_inf(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::FloatTest(FloatTest::Infinite {
        negative: node.flag("detect_negative", true)?,
        positive: node.flag("detect_positive", true)?,
    }))
}

pub(super) fn emit_test(test: FloatTest) -> Vec<Setting> {
    match test {
        FloatTest::Nan => Vec::new(),
        FloatTest::Infinite { negative, positive } => vec![
            Setting::flag("detect_negative", negative, true),
            Setting::flag("detect_positive", positive, true),
        ],
    }
}

pub(super) fn parse_activation(node: &mut NodeReader) -> Result<Option<Activation>, Refusal> {
    Ok(Some(match node.node.op_type() {
        "LeakyRelu" => Activation::LeakyRelu {
            alpha: node.float("alpha")?.unwrap_or(0.01),
        },
        "Elu" => Activation::Elu {
            alpha: node.float("alpha")?.unwrap_or(1.0),
        },
        "Selu" => Activation::Selu {
            alpha: node.float("alpha")?.unwrap_or(SELU_ALPHA),
            gamma: node.float("gamma")?.unwrap_or(SELU_GAMMA),
        },
        "Celu" => Activation::Celu {
            alpha: node.float("alpha")?.unwrap_or(1.0),
        },
        "HardSigmoid" => Activation::HardSigmoid {
            alpha: node.float("alpha")?.unwrap_or(0.2),
            beta: node.float("beta")?.unwrap_or(0.5),
        },
        "ThresholdedRelu" => Activation::ThresholdedRelu {
            alpha: node.float("alpha")?.unwrap_or(1.0),
        },
        "Gelu" => Activation::Gelu {
            tanh: match node.text("approximate")?.as_deref() {
                None | Some("none") => false,
                Some("tanh") => true,
                Some(other) => {
                    return Err(node
                        .fault(format!("attribute `approximate` is `{other}`"))
                        .into());
                }
            },
        },
        "Swish" => Activation::Swish {
            alpha: node.float("alpha")?.unwrap_or(1.0),
        },
        "Shrink" => Activation::Shrink {
            lambd: node.float("lambd")?.unwrap_or(0.5),
            bias: node.float("bias")?.unwrap_or(0.0),
        },
        _ => return Ok(None),
    }))
}

pub(super) fn emit_activation(activation: Activation) -> Vec<Setting> {
    match activation {
        Activation::LeakyRelu { alpha } => vec![Setting::float("alpha", alpha, 0.01)],
        Activation::Elu { alpha }
        | Activation::Celu { alpha }
        | Activation::Swish { alpha }
        | Activation::ThresholdedRelu { alpha } => {
            vec![Setting::float("alpha", alpha, 1.0)]
        }
        Activation::Selu { alpha, gamma } => {
            vec![
                Setting::float("alpha", alpha, SELU_ALPHA),
                Setting::float("gamma", gamma, SELU_GAMMA),
            ]
        }
        Activation::HardSigmoid { alpha, beta } => {
            vec![
                Setting::float("alpha", alpha, 0.2),
                Setting::float("beta", beta, 0.5),
            ]
        }
        Activation::Shrink { lambd, bias } => vec![
            Setting::float("bias", bias, 0.0),
            Setting::float("lambd", lambd, 0.5),
        ],
        Activation::Gelu { tanh } => {
            vec![Setting::text(
                "approximate",
                if tanh { "tanh" } else { "none" },
                "none",
            )]
        }
    }
}

pub(super) fn parse_clip(node: &mut NodeReader) -> Result<Op, Refusal> {
    if node.opset >= CLIP_INPUTS {
        return Ok(Op::Clip {
            min: None,
            max: None,
            from_inputs: true,
        });
    }
    Ok(Op::Clip {
        min: node.float("min")?,
        max: node.float("max")?,
        from_inputs: false,
    })
}

pub(super) fn emit_clip(min: Option<f32>, max: Option<f32>, from_inputs: bool) -> Vec<Setting> {
    let bound = |x: Option<f32>| x.filter(|_| !from_inputs).map(Content::Float);
    vec![
        Setting::optional("max", bound(max)),
        Setting::optional("min", bound(min)),
    ]
}

pub(super) fn parse_cast(node: &mut NodeReader) -> Result<Op, Refusal> {
    let code = node
        .int("to")?
        .ok_or_else(|| node.fault("attribute `to` is missing"))?;
    let to = dtype(i32::try_from(code).unwrap_or(-1));
    if let DType::Other(_) = to {
        return Err(Refusal::Opaque(format!(
            "element type {code} is not modelled"
        )));
    }
    // Both concern the 8-bit floats only.
    node.ignore("saturate");
    node.ignore("round_mode");
    Ok(Op::Cast { to })
}

pub(super) fn emit_cast(to: DType) -> Vec<Setting> {
    vec![Setting::required("to", Content::Int(dtype_code(to).into()))]
}
