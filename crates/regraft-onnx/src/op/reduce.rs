//! Reductions and positions of extrema.

use regraft_graph::Op;
use regraft_graph::op::ReduceKind;

use crate::attributes::{NodeReader, Refusal, Setting};

/// Returns the reduction called `op_type`.
pub(super) fn kind(op_type: &str) -> Option<ReduceKind> {
    Some(match op_type {
        "ReduceMean" => ReduceKind::Mean,
        "ReduceSum" => ReduceKind::Sum,
        "ReduceMax" => ReduceKind::Max,
        "ReduceMin" => ReduceKind::Min,
        "ReduceProd" => ReduceKind::Prod,
        "ReduceL1" => ReduceKind::L1,
        "ReduceL2" => ReduceKind::L2,
        "ReduceSumSquare" => ReduceKind::SumSquare,
        "ReduceLogSum" => ReduceKind::LogSum,
        "ReduceLogSumExp" => ReduceKind::LogSumExp,
        _ => return None,
    })
}

pub(super) fn parse(node: &mut NodeReader, kind: ReduceKind) -> Result<Op, Refusal> {
    Ok(Op::Reduce {
        kind,
        axes: node.ints("axes")?,
        keepdims: node.flag("keepdims", true)?,
        noop_with_empty_axes: node.flag("noop_with_empty_axes", false)?,
    })
}

pub(super) fn emit(
    axes: Option<&Vec<i64>>,
    keepdims: bool,
    noop_with_empty_axes: bool,
) -> Vec<Setting> {
    vec![
        Setting::ints("axes", axes),
        Setting::flag("keepdims", keepdims, true),
        Setting::flag("noop_with_empty_axes", noop_with_empty_axes, false),
    ]
}

pub(super) fn parse_arg(node: &mut NodeReader, largest: bool) -> Result<Op, Refusal> {
    Ok(Op::ArgExtremum {
        axis: node.int("axis")?.unwrap_or(0),
        keepdims: node.flag("keepdims", true)?,
        select_last: node.flag("select_last_index", false)?,
        largest,
    })
}

pub(super) fn emit_arg(axis: i64, keepdims: bool, select_last: bool) -> Vec<Setting> {
    vec![
        Setting::int("axis", axis, 0),
        Setting::flag("keepdims", keepdims, true),
        Setting::flag("select_last_index", select_last, false),
    ]
}
