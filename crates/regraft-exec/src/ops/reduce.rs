//! Reductions over axes, and where the extremum lies.

use regraft_graph::Op;
use regraft_graph::op::ReduceKind;

use super::elementwise::ordered;
use super::pool::plane_means;
use super::{Context, Inputs, axes_of, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::value::{Array, Value, strides};

fn without(shape: &[usize], axes: &[usize], keepdims: bool) -> Vec<usize> {
    (0..shape.len())
        .filter(|i| keepdims || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { shape[i] })
        .collect()
}

/// Returns what a `Reduce` op gives.
pub(super) fn reduce_op(op: &Op, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let Op::Reduce {
        kind,
        axes,
        keepdims,
        noop_with_empty_axes,
    } = op
    else {
        return invalid("it is no reduction");
    };
    let flags = [*keepdims, *noop_with_empty_axes];
    reduce(*kind, axes.as_deref(), flags, inputs, context)
}

/// Returns what an `ArgMax` or `ArgMin` gives.
pub(super) fn arg_extremum_op(op: &Op, inputs: &mut Inputs) -> OpResult<Value> {
    let Op::ArgExtremum {
        axis,
        keepdims,
        select_last,
        largest,
    } = op
    else {
        return invalid("it finds no position");
    };
    arg_extremum(*axis, [*keepdims, *select_last, *largest], inputs)
}

fn reduce(
    kind: ReduceKind,
    axes: Option<&[i64]>,
    [keepdims, noop]: [bool; 2],
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let given = match axes {
        Some(axes) => axes.to_vec(),
        None => inputs.ints(1)?.map_or_else(Vec::new, |a| a.data.to_vec()),
    };
    if given.is_empty() && noop {
        return Ok(data);
    }
    let axes = if given.is_empty() {
        (0..shape.len()).collect()
    } else {
        axes_of(&given, shape.len())?
    };
    let to = without(&shape, &axes, keepdims);
    if data.len() == 0 {
        context.check_size(&to)?;
        return over_nothing(kind, &data, &to);
    }
    let is_planes = axes.first() == Some(&2) && axes.len() + 2 == shape.len();
    match data {
        Value::Float(tensor) if kind == ReduceKind::Mean && is_planes => {
            Ok(Value::Float(plane_means(tensor, context).reshape(&to)))
        }
        Value::Float(tensor) => Ok(Value::Float(reduce_float(kind, tensor, &axes).reshape(&to))),
        Value::Int(array) => reduce_int(kind, &array, &axes).map(|v| v.reshape(&to)),
        Value::Bool(a) if matches!(kind, ReduceKind::Max | ReduceKind::Min) => {
            let ints = a.data.iter().map(|&x| i64::from(x)).collect();
            let found = reduce_int(kind, &Array::new(a.shape.clone(), ints), &axes)?;
            let truth = |a: &Array<i64>| a.data.iter().map(|&x| x != 0).collect();
            match found {
                Value::Int(a) => Ok(Value::Bool(Array::new(to, truth(&a)))),
                other => Ok(other),
            }
        }
        Value::Bool(_) => invalid("truth values cannot be reduced"),
    }
}

/// Returns what a reduction starts from.
fn over_nothing(kind: ReduceKind, data: &Value, to: &[usize]) -> OpResult<Value> {
    let start = match kind {
        ReduceKind::Sum | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::SumSquare => 0.0,
        ReduceKind::Prod => 1.0,
        ReduceKind::Max | ReduceKind::LogSum | ReduceKind::LogSumExp => f32::NEG_INFINITY,
        ReduceKind::Min => f32::INFINITY,
        ReduceKind::Mean => f32::NAN,
    };
    match data {
        Value::Float(_) => Ok(Value::Float(Float::full(start, to))),
        Value::Int(_) if start.is_finite() => {
            let n = to.iter().product();
            Ok(Value::Int(Array::new(to.to_vec(), vec![start as i64; n])))
        }
        Value::Int(_) | Value::Bool(_) => unsupported(format!("{} over no elements", kind.name())),
    }
}

fn reduce_float(kind: ReduceKind, tensor: Float, axes: &[usize]) -> Float {
    let shape = tensor.shape();
    let count: usize = axes.iter().map(|&a| shape[a]).product();
    let largest = |mut t: Float| {
        for &axis in axes {
            t = t.max_axis(axis);
        }
        t
    };
    match kind {
        ReduceKind::Sum => tensor.sum_axes(axes),
        ReduceKind::Mean => tensor.sum_axes(axes).mul_scalar(1.0 / count as f32),
        ReduceKind::Max => largest(tensor),
        ReduceKind::Min => largest(tensor.neg()).neg(),
        ReduceKind::L1 => tensor.abs().sum_axes(axes),
        ReduceKind::SumSquare => tensor.clone().mul(tensor).sum_axes(axes),
        ReduceKind::L2 => tensor.clone().mul(tensor).sum_axes(axes).sqrt(),
        ReduceKind::LogSum => tensor.sum_axes(axes).log(),
        ReduceKind::LogSumExp => {
            // The largest element is taken out so that no exponential overflows.
            let peak = largest(tensor.clone());
            tensor
                .sub(peak.clone())
                .exp()
                .sum_axes(axes)
                .log()
                .add(peak)
        }
        ReduceKind::Prod => {
            // The engine's product goes through logarithms and loses the sign.
            let mut t = tensor;
            for &axis in axes {
                let mut total = t.clone().range(axis, 0, 1);
                for i in 1..shape[axis] {
                    total = total.mul(t.clone().range(axis, i, i + 1));
                }
                t = total;
            }
            t
        }
    }
}

fn reduce_int(kind: ReduceKind, array: &Array<i64>, axes: &[usize]) -> OpResult<Value> {
    let start = match kind {
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::L1 | ReduceKind::SumSquare => 0,
        ReduceKind::Prod => 1,
        ReduceKind::Max => i64::MIN,
        ReduceKind::Min => i64::MAX,
        ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp => {
            return unsupported(format!("{} of integers", kind.name()));
        }
    };
    let to = without(&array.shape, axes, true);
    let (from_strides, to_strides) = (strides(&array.shape), strides(&to));
    let mut totals = vec![start; to.iter().product()];
    for (flat, &x) in array.data.iter().enumerate() {
        let at: usize = (0..to.len())
            .map(|i| flat / from_strides[i] % array.shape[i] % to[i] * to_strides[i])
            .sum();
        let total: i64 = totals[at];
        totals[at] = match kind {
            ReduceKind::Max => total.max(x),
            ReduceKind::Min => total.min(x),
            ReduceKind::Prod => total.wrapping_mul(x),
            ReduceKind::L1 => total.wrapping_add(x.wrapping_abs()),
            ReduceKind::SumSquare => total.wrapping_add(x.wrapping_mul(x)),
            ReduceKind::Sum
            | ReduceKind::Mean
            | ReduceKind::L2
            | ReduceKind::LogSum
            | ReduceKind::LogSumExp => total.wrapping_add(x),
        };
    }
    if kind == ReduceKind::Mean {
        let count = (array.data.len() / totals.len()) as i64;
        for total in &mut totals {
            *total /= count;
        }
    }
    Ok(Value::Int(Array::new(to, totals)))
}

fn arg_extremum(
    axis: i64,
    [keepdims, select_last, largest]: [bool; 3],
    inputs: &mut Inputs,
) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let axis = axis_of(axis, shape.len())?;
    if data.len() == 0 {
        return invalid("there is no element");
    }
    let numbers = ordered(&data)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut found = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let at = |k: usize| numbers[(o * shape[axis] + k) * inner + i];
            let mut best = 0;
            for k in 1..shape[axis] {
                let better = if largest {
                    at(k) > at(best)
                } else {
                    at(k) < at(best)
                };
                if better || (select_last && at(k) >= at(best) && at(k) <= at(best)) {
                    best = k;
                }
            }
            found.push(best as i64);
        }
    }
    Ok(Value::Int(Array::new(
        without(&shape, &[axis], keepdims),
        found,
    )))
}
