//! Shapes of ops on signals, and of ops between floats and small integers.

use super::{Context, Types, linear, typed};
use crate::op::{QuantizeOp, SignalOp};
use crate::{DType, Dim, GraphError, ValueType};

fn number(cx: &Context<'_>, port: usize) -> Option<usize> {
    let first = cx.ints(port)?.first().copied()?;
    usize::try_from(first).ok()
}

fn bins(length: Option<usize>, onesided: bool) -> Dim {
    let n = length.map(|n| if onesided { n / 2 + 1 } else { n });
    n.map_or(Dim::Unknown, Dim::Fixed)
}

pub(super) fn signal(cx: &Context<'_>, op: SignalOp) -> Result<Types, GraphError> {
    Ok(vec![match op {
        SignalOp::Window { dtype, .. } => {
            let length = number(cx, 0).map_or(Dim::Unknown, Dim::Fixed);
            typed(Some(dtype), Some(vec![length]))
        }
        SignalOp::Dft {
            onesided,
            axis,
            inverse,
        } => dft(cx, axis, onesided, inverse)?,
        SignalOp::Stft { onesided } => {
            let frame = number(cx, 3).or_else(|| match cx.shape(2) {
                Some([Dim::Fixed(n)]) => Some(*n),
                _ => None,
            });
            let batch = cx.shape(0).and_then(|s| s.first().cloned());
            let shape = vec![
                batch.unwrap_or(Dim::Unknown),
                Dim::Unknown,
                bins(frame, onesided),
                Dim::Fixed(2),
            ];
            typed(cx.dtype(0), Some(shape))
        }
    }])
}

fn dft(
    cx: &Context<'_>,
    axis: Option<i64>,
    onesided: bool,
    inverse: bool,
) -> Result<Option<ValueType>, GraphError> {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    let given = || cx.ints(2).and_then(|list| list.first().copied());
    let axis = match axis {
        Some(axis) => Some(axis),
        None if cx.node.input(2).is_some() => given(),
        None => Some(-2),
    };
    let Some(axis) = axis else {
        return Ok(typed(cx.dtype(0), Some(vec![Dim::Unknown; x.len()])));
    };
    let axis = cx.axis(axis, x.len())?;
    let length = if cx.node.input(1).is_some() {
        number(cx, 1)
    } else {
        x[axis].fixed()
    };
    let mut shape = x.to_vec();
    shape[axis] = bins(length, onesided && !inverse);
    if let Some(last) = shape.last_mut() {
        *last = Dim::Fixed(if onesided && inverse { 1 } else { 2 });
    }
    if onesided && inverse {
        shape[axis] = Dim::Unknown;
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

pub(super) fn quantize(cx: &Context<'_>, op: QuantizeOp) -> Result<Types, GraphError> {
    let shape = || cx.shape(0).map(<[Dim]>::to_vec);
    Ok(match op {
        QuantizeOp::Quantize { dtype, .. } => {
            let own = dtype.or_else(|| cx.dtype(2));
            let own = own.or(cx.node.input(2).is_none().then_some(DType::U8));
            vec![typed(own, shape())]
        }
        QuantizeOp::Dequantize { .. } => vec![typed(cx.dtype(1), shape())],
        QuantizeOp::DynamicQuantize => vec![
            typed(Some(DType::U8), shape()),
            typed(Some(DType::F32), Some(Vec::new())),
            typed(Some(DType::U8), Some(Vec::new())),
        ],
        QuantizeOp::MatMulInteger => {
            let product = linear::product(cx, 0, 1)?;
            vec![typed(Some(DType::I32), product.and_then(|t| t.shape))]
        }
        QuantizeOp::QLinearMatMul => {
            let product = linear::product(cx, 0, 3)?;
            vec![typed(cx.dtype(7), product.and_then(|t| t.shape))]
        }
    })
}
