//! Pooling.

use regraft_graph::Op;
use regraft_graph::op::{GlobalPool, Pool, PoolKind};

use super::convolution::{auto_pad_name, check_axes, parse_auto_pad};
use crate::attributes::{NodeReader, Refusal, Setting};

pub(super) fn parse(node: &mut NodeReader) -> Result<Op, Refusal> {
    let kind = match node.node.op_type() {
        "MaxPool" => {
            // The order only concerns the indices.
            if node.flag("storage_order", false)? && node.has_output(1) {
                return Err(Refusal::Opaque(
                    "its indices are in column-major order".to_owned(),
                ));
            }
            PoolKind::Max
        }
        "LpPool" => PoolKind::Lp { p: exponent(node)? },
        _ => PoolKind::Average {
            count_include_pad: node.flag("count_include_pad", false)?,
        },
    };
    let pool = Pool {
        kind,
        kernel_shape: node.extents("kernel_shape", 1)?,
        strides: node.extents("strides", 1)?,
        dilations: node.extents("dilations", 1)?,
        pads: node.extents("pads", 0)?,
        auto_pad: parse_auto_pad(node)?,
        ceil_mode: node.flag("ceil_mode", false)?,
    };
    if pool.kernel_shape.is_empty() {
        return Err(node.fault("attribute `kernel_shape` is missing").into());
    }
    let lists = [
        ("kernel_shape", pool.kernel_shape.as_slice()),
        ("strides", &pool.strides),
        ("dilations", &pool.dilations),
    ];
    check_axes(node, &lists, &pool.pads)?;
    Ok(Op::Pool(pool))
}

fn exponent(node: &mut NodeReader) -> Result<u32, Refusal> {
    Ok(node.count("p", 2, 1)? as u32)
}

pub(super) fn parse_global(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::GlobalPool(match node.node.op_type() {
        "GlobalMaxPool" => GlobalPool::Max,
        "GlobalLpPool" => GlobalPool::Lp { p: exponent(node)? },
        _ => GlobalPool::Average,
    }))
}

pub(super) fn emit(pool: &Pool) -> Vec<Setting> {
    let mut settings = vec![
        Setting::text("auto_pad", auto_pad_name(pool.auto_pad), "NOTSET"),
        Setting::flag("ceil_mode", pool.ceil_mode, false),
        Setting::extents("dilations", &pool.dilations),
        Setting::extents("kernel_shape", &pool.kernel_shape),
        Setting::extents("pads", &pool.pads),
        Setting::extents("strides", &pool.strides),
    ];
    match pool.kind {
        PoolKind::Max => {}
        PoolKind::Average { count_include_pad } => {
            settings.push(Setting::flag("count_include_pad", count_include_pad, false));
        }
        PoolKind::Lp { p } => settings.push(Setting::int("p", p.into(), 2)),
    }
    settings
}
