//! Shapes of ops that pick, place, sort or count elements.

use super::{Context, Types, typed};
use crate::op::IndexOp;
use crate::{DType, Dim, GraphError, ValueType};

type Inferred = Result<Option<ValueType>, GraphError>;

const INDEX: Option<DType> = Some(DType::I64);

fn same(cx: &Context<'_>) -> Option<ValueType> {
    typed(cx.dtype(0), cx.shape(0).map(<[Dim]>::to_vec))
}

pub(super) fn index(cx: &Context<'_>, op: &IndexOp) -> Result<Types, GraphError> {
    Ok(match op {
        IndexOp::GatherElements { .. } => {
            vec![typed(cx.dtype(0), cx.shape(1).map(<[Dim]>::to_vec))]
        }
        IndexOp::GatherNd { batch_dims } => vec![gather_nd(cx, *batch_dims)?],
        IndexOp::ScatterElements { .. }
        | IndexOp::ScatterNd { .. }
        | IndexOp::TensorScatter { .. }
        | IndexOp::Trilu { .. }
        | IndexOp::ReverseSequence { .. }
        | IndexOp::Cumulative { .. } => vec![same(cx)],
        IndexOp::Compress { axis } => vec![compress(cx, *axis)?],
        IndexOp::NonZero => {
            let rank = cx.shape(0).map_or(Dim::Unknown, |s| Dim::Fixed(s.len()));
            vec![typed(INDEX, Some(vec![rank, Dim::Unknown]))]
        }
        IndexOp::OneHot { axis } => vec![one_hot(cx, *axis)?],
        IndexOp::TopK { axis, k, .. } => top_k(cx, *axis, *k)?,
        IndexOp::Unique { axis, .. } => unique(cx, *axis)?,
        IndexOp::EyeLike { dtype, .. } => {
            let shape = cx.shape(0).map(<[Dim]>::to_vec);
            vec![typed(dtype.or(cx.dtype(0)), shape)]
        }
    })
}

fn gather_nd(cx: &Context<'_>, batch_dims: usize) -> Inferred {
    let (Some(x), Some(i)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(typed(cx.dtype(0), None));
    };
    let Some((last, lead)) = i.split_last() else {
        return Err(cx.error("the indices have no axis"));
    };
    let Some(n) = last.fixed() else {
        return Ok(typed(cx.dtype(0), None));
    };
    let Some(rest) = batch_dims.checked_add(n).and_then(|from| x.get(from..)) else {
        return Err(cx.error(format!(
            "{batch_dims} shared axes and indices of {n} for {} axes",
            x.len()
        )));
    };
    let shape = lead.iter().chain(rest).cloned().collect();
    Ok(typed(cx.dtype(0), Some(shape)))
}

fn compress(cx: &Context<'_>, axis: Option<i64>) -> Inferred {
    let shape = match (axis, cx.shape(0)) {
        (None, _) => Some(vec![Dim::Unknown]),
        (Some(axis), Some(x)) => {
            let axis = cx.axis(axis, x.len())?;
            let mut shape = x.to_vec();
            shape[axis] = Dim::Unknown;
            Some(shape)
        }
        (Some(_), None) => None,
    };
    Ok(typed(cx.dtype(0), shape))
}

fn one_hot(cx: &Context<'_>, axis: i64) -> Inferred {
    let dtype = cx.dtype(2);
    let Some(x) = cx.shape(0) else {
        return Ok(typed(dtype, None));
    };
    let axis = cx.axis(axis, x.len() + 1)?;
    let depth = cx.ints(1).and_then(|list| list.first().copied());
    let depth = depth.and_then(|n| usize::try_from(n).ok());
    let mut shape = x.to_vec();
    shape.insert(axis, depth.map_or(Dim::Unknown, Dim::Fixed));
    Ok(typed(dtype, Some(shape)))
}

fn top_k(cx: &Context<'_>, axis: i64, k: Option<i64>) -> Result<Types, GraphError> {
    let Some(x) = cx.shape(0) else {
        return Ok(vec![typed(cx.dtype(0), None), typed(INDEX, None)]);
    };
    let axis = cx.axis(axis, x.len())?;
    let k = k.or_else(|| cx.ints(1).and_then(|list| list.first().copied()));
    let k = k.and_then(|n| usize::try_from(n).ok());
    if let (Some(k), Some(extent)) = (k, x[axis].fixed())
        && k > extent
    {
        return Err(cx.error(format!("the {k} first of an extent {extent}")));
    }
    let mut shape = x.to_vec();
    shape[axis] = k.map_or(Dim::Unknown, Dim::Fixed);
    Ok(vec![
        typed(cx.dtype(0), Some(shape.clone())),
        typed(INDEX, Some(shape)),
    ])
}

fn unique(cx: &Context<'_>, axis: Option<i64>) -> Result<Types, GraphError> {
    let list = typed(INDEX, Some(vec![Dim::Unknown]));
    let values = compress(cx, axis)?;
    Ok(vec![values, list.clone(), list.clone(), list])
}
