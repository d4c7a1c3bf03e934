//! Shapes of pooling.

use super::params::{Window, window};
use super::{Context, Types, typed};
use crate::op::Pool;
use crate::{DType, Dim, GraphError, ValueType};

pub(super) fn pool(cx: &Context<'_>, pool: &Pool) -> Result<Types, GraphError> {
    let dtype = cx.dtype(0);
    let Some(x) = cx.shape(0) else {
        return Ok(vec![typed(dtype, None), typed(Some(DType::I64), None)]);
    };
    if x.len() != pool.kernel_shape.len() + 2 {
        return Err(cx.error(format!(
            "{} axes for a window over {}",
            x.len(),
            pool.kernel_shape.len()
        )));
    }
    let lists = (&pool.strides[..], &pool.dilations[..], &pool.pads[..]);
    let window = Window::new(pool.kernel_shape.clone(), lists, pool.auto_pad)
        .map_err(|reason| cx.error(reason))?;
    let mut shape = x[..2].to_vec();
    shape.extend(
        window
            .output_dims(&x[2..], pool.ceil_mode)
            .map_err(|reason| cx.error(reason))?,
    );
    Ok(vec![
        typed(dtype, Some(shape.clone())),
        typed(Some(DType::I64), Some(shape)),
    ])
}

pub(super) fn global(cx: &Context<'_>) -> Result<Option<ValueType>, GraphError> {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    if x.len() < 2 {
        return Err(cx.error(format!(
            "the input has {} axes, at least 2 are needed",
            x.len()
        )));
    }
    let mut shape = x.to_vec();
    shape[2..].fill(Dim::Fixed(1));
    Ok(typed(cx.dtype(0), Some(shape)))
}

/// Returns the window of a pooling node, with padding resolved where the extents allow.
pub(super) fn pool_window(cx: &Context<'_>, pool: &Pool) -> Option<Window> {
    let lists = (&pool.strides[..], &pool.dilations[..], &pool.pads[..]);
    window(
        pool.kernel_shape.clone(),
        lists,
        pool.auto_pad,
        cx.shape(0)?,
    )
}
