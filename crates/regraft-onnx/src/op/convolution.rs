//! Convolutions and `Gemm`.

use regraft_graph::Op;
use regraft_graph::op::{AutoPad, Conv, Gemm};

use crate::attributes::{NodeReader, Refusal, Setting};

/// Reads `auto_pad`, shared with pooling.
pub(super) fn parse_auto_pad(node: &mut NodeReader) -> Result<AutoPad, Refusal> {
    Ok(match node.text("auto_pad")?.as_deref() {
        None | Some("NOTSET") => AutoPad::NotSet,
        Some("SAME_UPPER") => AutoPad::SameUpper,
        Some("SAME_LOWER") => AutoPad::SameLower,
        Some("VALID") => AutoPad::Valid,
        Some(other) => {
            return Err(node
                .fault(format!("attribute `auto_pad` is `{other}`"))
                .into());
        }
    })
}

/// Returns the format's word for `auto_pad`.
pub(super) fn auto_pad_name(auto_pad: AutoPad) -> &'static str {
    match auto_pad {
        AutoPad::NotSet => "NOTSET",
        AutoPad::SameUpper => "SAME_UPPER",
        AutoPad::SameLower => "SAME_LOWER",
        AutoPad::Valid => "VALID",
    }
}

/// Checks that the lists of a window op are about the same number of axes.
pub(super) fn check_axes(
    node: &NodeReader,
    per_axis: &[(&str, &[usize])],
    pads: &[usize],
) -> Result<(), Refusal> {
    let mut known: Option<(&str, usize)> = None;
    let halves = (pads.len() / 2, pads.len() % 2);
    if halves.1 != 0 {
        return Err(node
            .fault(format!(
                "attribute `pads` has {} numbers, an odd count",
                pads.len()
            ))
            .into());
    }
    let all = per_axis
        .iter()
        .map(|(name, list)| (*name, list.len()))
        .chain([("pads", halves.0)]);
    for (name, n) in all.filter(|(_, n)| *n > 0) {
        match known {
            Some((first, m)) if m != n => {
                return Err(node
                    .fault(format!(
                        "attribute `{first}` is about {m} axes, `{name}` about {n}"
                    ))
                    .into());
            }
            _ => known = Some((name, n)),
        }
    }
    Ok(())
}

fn conv(node: &mut NodeReader) -> Result<Conv, Refusal> {
    let conv = Conv {
        kernel_shape: node.extents("kernel_shape", 1)?,
        strides: node.extents("strides", 1)?,
        dilations: node.extents("dilations", 1)?,
        pads: node.extents("pads", 0)?,
        auto_pad: parse_auto_pad(node)?,
        group: match node.int("group")?.unwrap_or(1) {
            n @ 1..=0x7fff_ffff => n as usize,
            n => {
                return Err(node
                    .fault(format!("attribute `group` is {n}, should be at least 1"))
                    .into());
            }
        },
        output_padding: Vec::new(),
        output_shape: Vec::new(),
    };
    let lists = [
        ("kernel_shape", conv.kernel_shape.as_slice()),
        ("strides", &conv.strides),
        ("dilations", &conv.dilations),
    ];
    check_axes(node, &lists, &conv.pads)?;
    Ok(conv)
}

pub(super) fn parse_conv(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Conv(conv(node)?))
}

pub(super) fn parse_transposed(node: &mut NodeReader) -> Result<Op, Refusal> {
    let mut conv = conv(node)?;
    conv.output_padding = node.extents("output_padding", 0)?;
    conv.output_shape = node.extents("output_shape", 1)?;
    Ok(Op::ConvTranspose(conv))
}

pub(super) fn emit_conv(conv: &Conv) -> Vec<Setting> {
    vec![
        Setting::text("auto_pad", auto_pad_name(conv.auto_pad), "NOTSET"),
        Setting::extents("dilations", &conv.dilations),
        Setting::int("group", i64::try_from(conv.group).unwrap_or(i64::MAX), 1),
        Setting::extents("kernel_shape", &conv.kernel_shape),
        Setting::extents("pads", &conv.pads),
        Setting::extents("strides", &conv.strides),
    ]
}

pub(super) fn emit_transposed(conv: &Conv) -> Vec<Setting> {
    let mut settings = emit_conv(conv);
    settings.push(Setting::extents("output_padding", &conv.output_padding));
    settings.push(Setting::extents("output_shape", &conv.output_shape));
    settings
}

pub(super) fn parse_gemm(node: &mut NodeReader) -> Result<Op, Refusal> {
    if node.opset < 7 {
        // Whether C may broadcast; from 7 on it always may.
        node.ignore("broadcast");
    }
    Ok(Op::Gemm(Gemm {
        alpha: node.float("alpha")?.unwrap_or(1.0),
        beta: node.float("beta")?.unwrap_or(1.0),
        trans_a: node.flag("transA", false)?,
        trans_b: node.flag("transB", false)?,
    }))
}

pub(super) fn emit_gemm(gemm: &Gemm) -> Vec<Setting> {
    vec![
        Setting::float("alpha", gemm.alpha, 1.0),
        Setting::float("beta", gemm.beta, 1.0),
        Setting::flag("transA", gemm.trans_a, false),
        Setting::flag("transB", gemm.trans_b, false),
    ]
}
