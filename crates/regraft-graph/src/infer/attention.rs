//! Shapes of attention, of sums over named axes and of losses.

use super::elementwise::show;
use super::{Context, Types, typed};
use crate::op::{Attention, LabelLoss, LossReduction};
use crate::{Dim, GraphError, ValueType};

/// Batch, heads, positions and head size.
type Heads = [Dim; 4];

fn heads(cx: &Context<'_>, port: usize, n: usize) -> Result<Option<Heads>, GraphError> {
    match cx.shape(port) {
        None => Ok(None),
        Some([b, h, s, d]) => Ok(Some([b.clone(), h.clone(), s.clone(), d.clone()])),
        Some([b, s, width]) if n > 0 => {
            let size = match width.fixed() {
                Some(w) if w % n != 0 => {
                    return Err(cx.error(format!("a width of {w} for {n} heads")));
                }
                Some(w) => Dim::Fixed(w / n),
                None => Dim::Unknown,
            };
            Ok(Some([b.clone(), Dim::Fixed(n), s.clone(), size]))
        }
        Some(other) => Err(cx.error(format!("input {port} is {}, with {n} heads", show(other)))),
    }
}

/// Returns the positions of past and present together.
fn total(cx: &Context<'_>, past: usize, now: &Dim) -> Dim {
    if cx.node.input(past).is_none() {
        return now.clone();
    }
    let before = cx.shape(past).and_then(|s| s.get(2)).and_then(Dim::fixed);
    let sum = before.zip(now.fixed()).and_then(|(a, b)| a.checked_add(b));
    sum.map_or(Dim::Unknown, Dim::Fixed)
}

/// `past`: the ports of earlier keys and values.
pub(super) fn attention(
    cx: &Context<'_>,
    op: &Attention,
    past: [usize; 2],
) -> Result<Types, GraphError> {
    let dtype = cx.dtype(0);
    let query = heads(cx, 0, op.q_heads)?;
    let key = heads(cx, 1, op.kv_heads)?;
    let value = heads(cx, 2, op.kv_heads)?;
    let (Some([b, q_heads, q_len, _]), Some([_, kv_heads, k_len, k_size]), Some(v)) =
        (query, key, value)
    else {
        return Ok(vec![typed(dtype, None); 4]);
    };
    let [_, _, v_len, v_size] = v;
    let y = if op.q_heads > 0 && cx.shape(0).is_some_and(|s| s.len() == 3) {
        let width = v_size.fixed().and_then(|n| n.checked_mul(op.q_heads));
        vec![
            b.clone(),
            q_len.clone(),
            width.map_or(Dim::Unknown, Dim::Fixed),
        ]
    } else {
        vec![b.clone(), q_heads.clone(), q_len.clone(), v_size.clone()]
    };
    let k_len = total(cx, past[0], &k_len);
    let v_len = total(cx, past[1], &v_len);
    let shapes = [
        y,
        vec![b.clone(), kv_heads.clone(), k_len.clone(), k_size],
        vec![b.clone(), kv_heads, v_len, v_size],
        vec![b, q_heads, q_len, k_len],
    ];
    Ok(shapes.map(|s| typed(dtype, Some(s))).into())
}

pub(super) fn label_loss(cx: &Context<'_>, op: &LabelLoss) -> Types {
    let per_label = cx.shape(1).map(<[Dim]>::to_vec);
    let loss = match op.reduction {
        LossReduction::None => per_label,
        LossReduction::Mean | LossReduction::Sum => Some(Vec::new()),
    };
    let scores = cx.shape(0).map(<[Dim]>::to_vec);
    vec![typed(cx.dtype(0), loss), typed(cx.dtype(0), scores)]
}

/// Names of axes of each input and of the output, `.` for the axes that an ellipsis stands for.
pub(super) fn einsum(cx: &Context<'_>, equation: &str) -> Result<Option<ValueType>, GraphError> {
    let dtype = cx.dtype(0);
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((inputs, output)) = text.split_once("->") else {
        return Ok(typed(dtype, None));
    };
    if inputs.split(',').count() != cx.node.inputs.len() {
        return Err(cx.error(format!(
            "`{equation}` is not for {} inputs",
            cx.node.inputs.len()
        )));
    }
    // Extents follow where every axis has a name.
    if text.contains('.') {
        return Ok(typed(dtype, None));
    }
    let mut shape = vec![Dim::Unknown; output.chars().count()];
    for (port, names) in inputs.split(',').enumerate() {
        let Some(own) = cx.shape(port) else {
            continue;
        };
        if own.len() != names.chars().count() {
            return Err(cx.error(format!("`{names}` does not name {}", show(own))));
        }
        for (name, dim) in names.chars().zip(own) {
            for (slot, _) in shape
                .iter_mut()
                .zip(output.chars())
                .filter(|(_, c)| *c == name)
            {
                if slot.fixed().is_none_or(|n| n == 1) {
                    *slot = dim.clone();
                }
            }
        }
    }
    Ok(typed(dtype, Some(shape)))
}

pub(super) fn determinant(cx: &Context<'_>) -> Option<ValueType> {
    let shape = cx.shape(0).map(|s| s[..s.len().saturating_sub(2)].to_vec());
    typed(cx.dtype(0), shape)
}
