//! Ops that pick, place, sort or count elements.

use regraft_graph::op::{IndexOp, ScatterReduction};
use regraft_graph::{DType, Op};

use crate::attributes::{Content, NodeReader, Refusal, Setting};
use crate::tensor::{dtype, dtype_code};

const REDUCTIONS: [(&str, ScatterReduction); 5] = [
    ("none", ScatterReduction::Replace),
    ("add", ScatterReduction::Add),
    ("mul", ScatterReduction::Mul),
    ("max", ScatterReduction::Max),
    ("min", ScatterReduction::Min),
];
/// The operator set from which on `TopK` takes its number as an input.
const TOP_K_INPUT: i64 = 10;

/// Returns the op, if it is one of this family.
pub(super) fn parse(node: &mut NodeReader) -> Result<Option<Op>, Refusal> {
    let op = match node.node.op_type() {
        "GatherElements" => IndexOp::GatherElements {
            axis: node.int("axis")?.unwrap_or(0),
        },
        "GatherND" => IndexOp::GatherNd {
            batch_dims: node.count("batch_dims", 0, 0)?,
        },
        name @ ("ScatterElements" | "Scatter") => IndexOp::ScatterElements {
            axis: node.int("axis")?.unwrap_or(0),
            reduction: node.choice("reduction", "none", &REDUCTIONS)?,
            old_name: name == "Scatter",
        },
        "ScatterND" => IndexOp::ScatterNd {
            reduction: node.choice("reduction", "none", &REDUCTIONS)?,
        },
        "TensorScatter" => IndexOp::TensorScatter {
            axis: node.int("axis")?.unwrap_or(-2),
            circular: node.choice("mode", "linear", &CIRCULAR)?,
        },
        "Compress" => IndexOp::Compress {
            axis: node.int("axis")?,
        },
        "NonZero" => IndexOp::NonZero,
        "OneHot" => IndexOp::OneHot {
            axis: node.int("axis")?.unwrap_or(-1),
        },
        "TopK" => IndexOp::TopK {
            axis: node.int("axis")?.unwrap_or(-1),
            largest: node.flag("largest", true)?,
            sorted: node.flag("sorted", true)?,
            k: if node.opset < TOP_K_INPUT {
                Some(
                    node.int("k")?
                        .ok_or_else(|| node.fault("attribute `k` is missing"))?,
                )
            } else {
                None
            },
        },
        "Unique" => IndexOp::Unique {
            axis: node.int("axis")?,
            sorted: node.flag("sorted", true)?,
        },
        "Trilu" => IndexOp::Trilu {
            upper: node.flag("upper", true)?,
        },
        "ReverseSequence" => IndexOp::ReverseSequence {
            batch_axis: node.int("batch_axis")?.unwrap_or(1),
            time_axis: node.int("time_axis")?.unwrap_or(0),
        },
        name @ ("CumSum" | "CumProd") => IndexOp::Cumulative {
            product: name == "CumProd",
            exclusive: node.flag("exclusive", false)?,
            reverse: node.flag("reverse", false)?,
        },
        "EyeLike" => eye_like(node)?,
        _ => return Ok(None),
    };
    Ok(Some(Op::Index(op)))
}

const CIRCULAR: [(&str, bool); 2] = [("linear", false), ("circular", true)];

fn eye_like(node: &mut NodeReader) -> Result<IndexOp, Refusal> {
    let code = node.int("dtype")?;
    let dtype = code.map(|code| dtype(i32::try_from(code).unwrap_or(-1)));
    if let Some(DType::Other(code)) = dtype {
        return Err(Refusal::Opaque(format!(
            "element type {code} is not modelled"
        )));
    }
    Ok(IndexOp::EyeLike {
        dtype,
        k: node.int("k")?.unwrap_or(0),
    })
}

pub(super) fn emit(op: &IndexOp) -> Vec<Setting> {
    let optional = |name, value: Option<i64>| Setting::optional(name, value.map(Content::Int));
    match op {
        IndexOp::GatherElements { axis } => vec![Setting::int("axis", *axis, 0)],
        IndexOp::GatherNd { batch_dims } => vec![Setting::count("batch_dims", *batch_dims, 0)],
        IndexOp::ScatterElements {
            axis, reduction, ..
        } => vec![
            Setting::int("axis", *axis, 0),
            Setting::choice("reduction", *reduction, "none", &REDUCTIONS),
        ],
        IndexOp::ScatterNd { reduction } => {
            vec![Setting::choice(
                "reduction",
                *reduction,
                "none",
                &REDUCTIONS,
            )]
        }
        IndexOp::TensorScatter { axis, circular } => vec![
            Setting::int("axis", *axis, -2),
            Setting::choice("mode", *circular, "linear", &CIRCULAR),
        ],
        IndexOp::Compress { axis } => vec![optional("axis", *axis)],
        IndexOp::NonZero => Vec::new(),
        IndexOp::OneHot { axis } => vec![Setting::int("axis", *axis, -1)],
        IndexOp::TopK {
            axis,
            largest,
            sorted,
            k,
        } => vec![
            Setting::int("axis", *axis, -1),
            optional("k", *k),
            Setting::flag("largest", *largest, true),
            Setting::flag("sorted", *sorted, true),
        ],
        IndexOp::Unique { axis, sorted } => vec![
            optional("axis", *axis),
            Setting::flag("sorted", *sorted, true),
        ],
        IndexOp::Trilu { upper } => vec![Setting::flag("upper", *upper, true)],
        IndexOp::ReverseSequence {
            batch_axis,
            time_axis,
        } => vec![
            Setting::int("batch_axis", *batch_axis, 1),
            Setting::int("time_axis", *time_axis, 0),
        ],
        IndexOp::Cumulative {
            exclusive, reverse, ..
        } => vec![
            Setting::flag("exclusive", *exclusive, false),
            Setting::flag("reverse", *reverse, false),
        ],
        IndexOp::EyeLike { dtype, k } => vec![
            optional("dtype", dtype.map(|d| dtype_code(d).into())),
            Setting::int("k", *k, 0),
        ],
    }
}
