//! Shapes of elementwise ops.

use super::{Context, typed};
use crate::{DType, Dim, GraphError, ValueType};

/// Returns the extent two axes broadcast to, `None` if they contradict.
pub(super) fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => Some(d.clone()),
        (Dim::Fixed(x), Dim::Fixed(y)) => (x == y).then_some(Dim::Fixed(*x)),
        // A symbol that meets a number other than 1 must be that number (or 1) at run time.
        (Dim::Fixed(x), _) | (_, Dim::Fixed(x)) => Some(Dim::Fixed(*x)),
        (x, y) if x == y => Some(x.clone()),
        _ => Some(Dim::Unknown),
    }
}

pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| {
        (i + s.len())
            .checked_sub(rank)
            .map_or(Dim::Fixed(1), |j| s[j].clone())
    };
    (0..rank)
        .map(|i| broadcast_dim(&at(a, i), &at(b, i)))
        .collect()
}

pub(super) fn show(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// Returns the type of all present inputs broadcast together.
pub(super) fn broadcast_all(
    cx: &Context<'_>,
    dtype: Option<DType>,
) -> Result<Option<ValueType>, GraphError> {
    let mut shape: Option<Vec<Dim>> = None;
    for port in 0..cx.node.inputs.len() {
        if cx.node.input(port).is_none() {
            continue;
        }
        let Some(next) = cx.shape(port) else {
            return Ok(typed(dtype, None));
        };
        shape = Some(match shape {
            None => next.to_vec(),
            Some(s) => broadcast(&s, next).ok_or_else(|| {
                cx.error(format!(
                    "inputs of shape {} and {} do not broadcast",
                    show(&s),
                    show(next)
                ))
            })?,
        });
    }
    Ok(typed(dtype, shape))
}

/// Checks that the statistics have one entry a channel.
/// The result is as without training, the statistics are as the running ones.
pub(super) fn batch_statistics(cx: &Context<'_>) -> Result<Vec<Option<ValueType>>, GraphError> {
    let like = |port: usize| typed(cx.dtype(port), cx.shape(port).map(<[Dim]>::to_vec));
    Ok(vec![batch_normalization(cx)?, like(3), like(4)])
}

pub(super) fn batch_normalization(cx: &Context<'_>) -> Result<Option<ValueType>, GraphError> {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    let channels = x.get(1).and_then(Dim::fixed);
    for port in 1..5 {
        let stat = cx.shape(port).map(<[Dim]>::to_vec);
        if let (Some(c), Some([Dim::Fixed(n)])) = (channels, stat.as_deref())
            && c != *n
        {
            return Err(cx.error(format!("input {port} has {n} entries for {c} channels")));
        }
    }
    Ok(typed(cx.dtype(0), Some(x.to_vec())))
}
