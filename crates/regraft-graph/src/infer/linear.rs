//! Shapes of convolutions and matrix products.

use super::elementwise::{broadcast, show};
use super::params::{Window, window};
use super::{Context, typed};
use crate::op::{AutoPad, Conv, Gemm};
use crate::{Dim, GraphError, ValueType};

pub(super) fn conv(cx: &Context<'_>, conv: &Conv) -> Result<Option<ValueType>, GraphError> {
    let dtype = cx.dtype(0);
    let (Some(x), Some(w)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(typed(dtype, None));
    };
    check_ranks(cx, x, w)?;
    if let (Some(c), Some(per_group)) = (x[1].fixed(), w[1].fixed())
        && per_group.checked_mul(conv.group) != Some(c)
    {
        return Err(cx.error(format!(
            "the weight reads {per_group} channels in each of {} groups, the input has {c}",
            conv.group
        )));
    }
    if let Some(n_out) = w[0].fixed() {
        if n_out % conv.group != 0 {
            return Err(cx.error(format!(
                "{n_out} output channels do not split into {} groups",
                conv.group
            )));
        }
        check_bias(cx, n_out)?;
    }
    let Some(kernel) = kernel(cx, &conv.kernel_shape, w)? else {
        let mut shape = vec![Dim::Unknown; x.len()];
        shape[0] = x[0].clone();
        shape[1] = w[0].clone();
        return Ok(typed(dtype, Some(shape)));
    };
    let lists = (&conv.strides[..], &conv.dilations[..], &conv.pads[..]);
    let window = Window::new(kernel, lists, conv.auto_pad).map_err(|reason| cx.error(reason))?;
    let mut shape = vec![x[0].clone(), w[0].clone()];
    shape.extend(
        window
            .output_dims(&x[2..], false)
            .map_err(|reason| cx.error(reason))?,
    );
    Ok(typed(dtype, Some(shape)))
}

fn check_ranks(cx: &Context<'_>, x: &[Dim], w: &[Dim]) -> Result<(), GraphError> {
    if x.len() < 3 || x.len() != w.len() {
        return Err(cx.error(format!(
            "input {} and weight {} do not fit",
            show(x),
            show(w)
        )));
    }
    Ok(())
}

fn check_bias(cx: &Context<'_>, n_out: usize) -> Result<(), GraphError> {
    match cx.shape(2) {
        Some([Dim::Fixed(n)]) if *n != n_out => Err(cx.error(format!(
            "the bias has {n} entries for {n_out} output channels"
        ))),
        _ => Ok(()),
    }
}

fn kernel(cx: &Context<'_>, given: &[usize], w: &[Dim]) -> Result<Option<Vec<usize>>, GraphError> {
    let held: Option<Vec<usize>> = w[2..].iter().map(Dim::fixed).collect();
    match held {
        Some(held) if given.is_empty() || given == held => Ok(Some(held)),
        Some(held) => Err(cx.error(format!(
            "kernel_shape is {given:?}, the weight's kernel {held:?}"
        ))),
        None if given.is_empty() => Ok(None),
        None => Ok(Some(given.to_vec())),
    }
}

pub(super) fn conv_transpose(
    cx: &Context<'_>,
    conv: &Conv,
) -> Result<Option<ValueType>, GraphError> {
    let dtype = cx.dtype(0);
    let (Some(x), Some(w)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(typed(dtype, None));
    };
    check_ranks(cx, x, w)?;
    let n_out = w[1]
        .fixed()
        .and_then(|n| n.checked_mul(conv.group))
        .map_or(Dim::Unknown, Dim::Fixed);
    if let Dim::Fixed(n) = n_out {
        check_bias(cx, n)?;
    }
    let mut shape = vec![x[0].clone(), n_out];
    let kernel = kernel(cx, &conv.kernel_shape, w)?;
    for axis in 0..x.len() - 2 {
        let extent = conv.output_shape.get(axis).copied().or_else(|| {
            let at = |list: &[usize], default: usize| list.get(axis).copied().unwrap_or(default);
            let input = x[axis + 2].fixed()?;
            if matches!(conv.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
                return input.checked_mul(at(&conv.strides, 1));
            }
            let reach = kernel
                .as_ref()?
                .get(axis)?
                .checked_sub(1)?
                .checked_mul(at(&conv.dilations, 1))?;
            let full = input.checked_sub(1)?.checked_mul(at(&conv.strides, 1))?;
            let end = conv.pads.get(axis + x.len() - 2).copied().unwrap_or(0);
            let extra = at(&conv.output_padding, 0).checked_add(1)?;
            let padded = full.checked_add(reach)?.checked_add(extra)?;
            padded.checked_sub(at(&conv.pads, 0).checked_add(end)?)
        });
        shape.push(extent.map_or(Dim::Unknown, Dim::Fixed));
    }
    Ok(typed(dtype, Some(shape)))
}

pub(super) fn gemm(cx: &Context<'_>, gemm: &Gemm) -> Result<Option<ValueType>, GraphError> {
    let dtype = cx.dtype(0);
    let (Some(a), Some(b)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(typed(dtype, None));
    };
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return Err(cx.error(format!("{} times {}: both need two axes", show(a), show(b))));
    };
    let (rows, inner_a) = if gemm.trans_a { (a1, a0) } else { (a0, a1) };
    let (inner_b, cols) = if gemm.trans_b { (b1, b0) } else { (b0, b1) };
    check_inner(cx, inner_a, inner_b)?;
    let shape = vec![rows.clone(), cols.clone()];
    if let Some(c) = cx.shape(2)
        && broadcast(&shape, c).is_none_or(|s| s.len() > 2)
    {
        return Err(cx.error(format!(
            "C {} does not broadcast to {}",
            show(c),
            show(&shape)
        )));
    }
    Ok(typed(dtype, Some(shape)))
}

fn check_inner(cx: &Context<'_>, a: &Dim, b: &Dim) -> Result<(), GraphError> {
    match (a.fixed(), b.fixed()) {
        (Some(x), Some(y)) if x != y => Err(cx.error(format!(
            "the left side has {x} columns, the right side {y} rows"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn matmul(cx: &Context<'_>) -> Result<Option<ValueType>, GraphError> {
    product(cx, 0, 1)
}

/// Returns the type of the matrix product of two inputs.
pub(super) fn product(
    cx: &Context<'_>,
    left: usize,
    right: usize,
) -> Result<Option<ValueType>, GraphError> {
    let dtype = cx.dtype(left);
    let (Some(a), Some(b)) = (cx.shape(left), cx.shape(right)) else {
        return Ok(typed(dtype, None));
    };
    if a.is_empty() || b.is_empty() {
        return Err(cx.error("a scalar cannot be multiplied as a matrix"));
    }
    let one = [Dim::Fixed(1)];
    let (lead_a, rows, inner_a) = match a {
        [k] => (&one[..0], None, k),
        [lead @ .., m, k] => (lead, Some(m), k),
        [] => return Ok(None),
    };
    let (lead_b, inner_b, cols) = match b {
        [k] => (&one[..0], k, None),
        [lead @ .., k, n] => (lead, k, Some(n)),
        [] => return Ok(None),
    };
    check_inner(cx, inner_a, inner_b)?;
    let mut shape = broadcast(lead_a, lead_b).ok_or_else(|| {
        cx.error(format!(
            "{} times {}: the leading axes do not broadcast",
            show(a),
            show(b)
        ))
    })?;
    shape.extend(rows.cloned());
    shape.extend(cols.cloned());
    Ok(typed(dtype, Some(shape)))
}

/// Returns the window of a convolution node, with padding resolved where the extents allow.
pub(super) fn conv_window(cx: &Context<'_>, conv: &Conv) -> Option<Window> {
    let kernel = kernel(cx, &conv.kernel_shape, cx.shape(1)?).ok()??;
    let lists = (&conv.strides[..], &conv.dilations[..], &conv.pads[..]);
    window(kernel, lists, conv.auto_pad, cx.shape(0)?)
}
