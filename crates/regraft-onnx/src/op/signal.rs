//! Windows, Fourier transforms, and ops between floats and small integers.

use regraft_graph::op::{QuantizeOp, SignalOp, WindowKind};
use regraft_graph::{DType, Op};

use crate::attributes::{Content, NodeReader, Refusal, Setting};
use crate::tensor::{dtype, dtype_code};

/// The operator set from which on `DFT` takes its axis as an input.
const DFT_AXIS_INPUT: i64 = 20;

fn element_type(node: &mut NodeReader, name: &str) -> Result<Option<DType>, Refusal> {
    let code = node.int(name)?.filter(|code| *code != 0);
    let found = code.map(|code| dtype(i32::try_from(code).unwrap_or(-1)));
    match found {
        Some(DType::Other(code)) => Err(Refusal::Opaque(format!(
            "element type {code} is not modelled"
        ))),
        other => Ok(other),
    }
}

/// Returns the op, if it is one of these families.
pub(super) fn parse(node: &mut NodeReader) -> Result<Option<Op>, Refusal> {
    let window = |node: &mut NodeReader, kind| -> Result<Op, Refusal> {
        Ok(Op::Signal(SignalOp::Window {
            kind,
            periodic: node.flag("periodic", true)?,
            dtype: element_type(node, "output_datatype")?.unwrap_or(DType::F32),
        }))
    };
    Ok(Some(match node.node.op_type() {
        "HannWindow" => window(node, WindowKind::Hann)?,
        "HammingWindow" => window(node, WindowKind::Hamming)?,
        "BlackmanWindow" => window(node, WindowKind::Blackman)?,
        "DFT" => Op::Signal(SignalOp::Dft {
            inverse: node.flag("inverse", false)?,
            onesided: node.flag("onesided", false)?,
            axis: if node.opset < DFT_AXIS_INPUT {
                Some(node.int("axis")?.unwrap_or(1))
            } else {
                None
            },
        }),
        "STFT" => Op::Signal(SignalOp::Stft {
            onesided: node.flag("onesided", true)?,
        }),
        "QuantizeLinear" => {
            node.ignore("saturate");
            node.ignore("precision");
            Op::Quantize(QuantizeOp::Quantize {
                axis: node.int("axis")?.unwrap_or(1),
                block_size: node.count("block_size", 0, 0)?,
                dtype: element_type(node, "output_dtype")?,
            })
        }
        "DequantizeLinear" => {
            node.ignore("output_dtype");
            Op::Quantize(QuantizeOp::Dequantize {
                axis: node.int("axis")?.unwrap_or(1),
                block_size: node.count("block_size", 0, 0)?,
            })
        }
        "DynamicQuantizeLinear" => Op::Quantize(QuantizeOp::DynamicQuantize),
        "MatMulInteger" => Op::Quantize(QuantizeOp::MatMulInteger),
        "QLinearMatMul" => Op::Quantize(QuantizeOp::QLinearMatMul),
        _ => return Ok(None),
    }))
}

fn type_setting(name: &'static str, dtype: DType, default: i64) -> Setting {
    Setting::int(name, dtype_code(dtype).into(), default)
}

pub(super) fn emit(op: SignalOp) -> Vec<Setting> {
    match op {
        SignalOp::Window {
            periodic, dtype, ..
        } => vec![
            type_setting("output_datatype", dtype, 1),
            Setting::flag("periodic", periodic, true),
        ],
        SignalOp::Dft {
            inverse,
            onesided,
            axis,
        } => vec![
            Setting::optional("axis", axis.map(Content::Int)),
            Setting::flag("inverse", inverse, false),
            Setting::flag("onesided", onesided, false),
        ],
        SignalOp::Stft { onesided } => vec![Setting::flag("onesided", onesided, true)],
    }
}

pub(super) fn emit_quantize(op: QuantizeOp) -> Vec<Setting> {
    match op {
        QuantizeOp::Quantize {
            axis,
            block_size,
            dtype,
        } => vec![
            Setting::int("axis", axis, 1),
            Setting::count("block_size", block_size, 0),
            match dtype {
                Some(dtype) => type_setting("output_dtype", dtype, 0),
                None => Setting::int("output_dtype", 0, 0),
            },
        ],
        QuantizeOp::Dequantize { axis, block_size } => vec![
            Setting::int("axis", axis, 1),
            Setting::count("block_size", block_size, 0),
        ],
        QuantizeOp::DynamicQuantize | QuantizeOp::MatMulInteger | QuantizeOp::QLinearMatMul => {
            Vec::new()
        }
    }
}
