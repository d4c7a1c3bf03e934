//! Ops that move or repeat elements.

use regraft_graph::Tensor;
use regraft_graph::op::{PadMode, SliceAttributes};

use super::{Context, Inputs, axes_of, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::value::{Array, Value, broadcast_shape};

pub(super) fn concat(axis: i64, inputs: Inputs) -> OpResult<Value> {
    let mut values: Vec<Value> = inputs.0.into_iter().flatten().collect();
    let Some(first) = values.first() else {
        return invalid("there is nothing to join");
    };
    let shape = first.shape();
    let axis = axis_of(axis, shape.len())?;
    for value in &values {
        let other = value.shape();
        let fits = other.len() == shape.len()
            && (0..shape.len()).all(|i| i == axis || other[i] == shape[i]);
        if !fits {
            return invalid(format!(
                "{other:?} does not join {shape:?} along axis {axis}"
            ));
        }
    }
    // Empty parts occur in exported shape arithmetic; the engine need not know them.
    if values.iter().any(|v| v.len() > 0) {
        values.retain(|v| v.len() > 0);
    }
    Value::concat(values, axis)
}

pub(super) fn split(
    axis: i64,
    split: Option<&[i64]>,
    num_outputs: Option<i64>,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Vec<Value>> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let axis = axis_of(axis, shape.len())?;
    let given = match split {
        Some(split) => Some(split.to_vec()),
        None => inputs.ints(1)?.map(|a| a.data.to_vec()),
    };
    let extent = shape[axis];
    let parts: Vec<usize> = if let Some(list) = given {
        list.iter()
            .map(|&n| usize::try_from(n).unwrap_or(usize::MAX))
            .collect()
    } else {
        let n = match num_outputs {
            Some(n) => usize::try_from(n).unwrap_or(0),
            None => context.n_outputs,
        };
        if n == 0 || n > context.n_outputs.max(1) {
            return invalid(format!("it is split into {n} parts"));
        }
        let size = extent.div_ceil(n);
        (0..n)
            .map(|i| size.min(extent.saturating_sub(i * size)))
            .collect()
    };
    if parts.iter().try_fold(0usize, |n, &p| n.checked_add(p)) != Some(extent) {
        return invalid(format!("parts {parts:?} do not fill the extent {extent}"));
    }
    let mut start = 0;
    let mut outputs = Vec::with_capacity(parts.len());
    for part in parts {
        let indices: Vec<usize> = (start..start + part).collect();
        outputs.push(data.clone().select(axis, &indices));
        start += part;
    }
    Ok(outputs)
}

/// Returns the indices that a range of ONNX `Slice` selects.
fn slice_indices(start: i64, end: i64, step: i64, extent: usize) -> OpResult<Vec<usize>> {
    let n = extent as i64;
    let front = |at: i64| if at < 0 { at.saturating_add(n) } else { at };
    if step == 0 {
        return invalid("a step of a slice is zero");
    }
    let (first, last) = if step > 0 {
        (front(start).clamp(0, n), front(end).clamp(0, n))
    } else {
        (front(start).clamp(-1, n - 1), front(end).clamp(-1, n - 1))
    };
    let mut indices = Vec::new();
    let mut at = first;
    while (step > 0 && at < last) || (step < 0 && at > last) {
        indices.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(indices)
}

pub(super) fn slice(attributes: &SliceAttributes, inputs: &mut Inputs) -> OpResult<Value> {
    let mut data = inputs.value(0)?;
    let mut list = |attribute: &Option<Vec<i64>>, port: usize| -> OpResult<Option<Vec<i64>>> {
        Ok(match attribute {
            Some(list) => Some(list.clone()),
            None => inputs.ints(port)?.map(|a| a.data.to_vec()),
        })
    };
    let (Some(starts), Some(ends)) = (list(&attributes.starts, 1)?, list(&attributes.ends, 2)?)
    else {
        return invalid("starts or ends are missing");
    };
    let axes = match list(&attributes.axes, 3)? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match list(&None, 4)? {
        Some(steps) => steps,
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return invalid("starts, ends, axes and steps have different lengths");
    }
    let shape = data.shape();
    axes_of(&axes, shape.len())?;
    for (i, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, shape.len())?;
        let indices = slice_indices(starts[i], ends[i], steps[i], shape[axis])?;
        if indices.len() != shape[axis] || steps[i] < 0 {
            data = data.select(axis, &indices);
        }
    }
    Ok(data)
}

/// Returns which element each place of a padded axis copies.
fn border_indices(mode: PadMode, begin: i64, end: i64, extent: usize) -> OpResult<Vec<usize>> {
    let n = extent as i64;
    if n == 0 && (begin > 0 || end > 0) {
        return invalid("an axis without elements has no border to copy");
    }
    if mode == PadMode::Reflect && (begin >= n || end >= n) && (begin > 0 || end > 0) {
        return invalid(format!(
            "a reflected border of {begin} and {end} is wider than {n}"
        ));
    }
    let place = |at: i64| match mode {
        PadMode::Edge | PadMode::Constant => at.clamp(0, n - 1),
        PadMode::Wrap => at.rem_euclid(n),
        PadMode::Reflect if at < 0 => -at,
        PadMode::Reflect if at >= n => 2 * (n - 1) - at,
        PadMode::Reflect => at,
    };
    Ok((-begin..n + end).map(|at| place(at) as usize).collect())
}

fn pad_constant(data: Value, axis: usize, at: [usize; 2], fill: &Value) -> OpResult<Value> {
    let shape = data.shape();
    let border = |extent: usize| {
        let mut side = shape.clone();
        side[axis] = extent;
        let scalar = fill.clone().reshape(&vec![1; shape.len()]);
        (extent > 0).then(|| scalar.broadcast(&side))
    };
    let parts: Vec<Value> = [
        border(at[0]),
        (data.len() > 0).then_some(data),
        border(at[1]),
    ]
    .into_iter()
    .flatten()
    .collect();
    Value::concat(parts, axis)
}

pub(super) fn pad(
    mode: PadMode,
    pads: Option<&[i64]>,
    value: f32,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let mut data = inputs.value(0)?;
    let shape = data.shape();
    let given = match pads {
        Some(pads) => pads.to_vec(),
        None => match inputs.ints(1)? {
            Some(array) => array.data.to_vec(),
            None => return invalid("input 1 is missing"),
        },
    };
    let fill = match (pads.is_none().then(|| inputs.optional(2)).flatten(), &data) {
        (Some(fill), _) if fill.len() == 1 => fill,
        (Some(fill), _) => return invalid(format!("the border has {} values", fill.len())),
        (None, Value::Float(_)) => Value::Float(Float::number(value)),
        (None, Value::Int(_)) => Value::Int(Array::new(vec![], vec![value as i64])),
        (None, Value::Bool(_)) => Value::Bool(Array::new(vec![], vec![value != 0.0])),
    };
    let axes: Vec<usize> = match if pads.is_none() {
        inputs.ints(3)?
    } else {
        None
    } {
        Some(axes) => {
            axes_of(&axes.data, shape.len())?;
            axes.data
                .iter()
                .map(|&a| axis_of(a, shape.len()))
                .collect::<OpResult<_>>()?
        }
        None => (0..shape.len()).collect(),
    };
    if given.len() != 2 * axes.len() {
        return invalid(format!("{} pads for {} axes", given.len(), axes.len()));
    }
    for (i, &axis) in axes.iter().enumerate() {
        let (begin, end) = (given[i], given[i + axes.len()]);
        let extent = data.shape()[axis];
        let after = (extent as i64).saturating_add(begin).saturating_add(end);
        if after < 0 || begin.unsigned_abs().max(end.unsigned_abs()) > context.max_elements as u64 {
            return invalid(format!(
                "pads {begin} and {end} do not fit the extent {extent}"
            ));
        }
        let mut padded = data.shape();
        padded[axis] = after as usize;
        context.check_size(&padded)?;
        if begin == 0 && end == 0 {
            continue;
        }
        // A negative pad crops; the other side may still grow.
        let from = usize::try_from(-begin).unwrap_or(0);
        let to = extent.saturating_sub(usize::try_from(-end).unwrap_or(0));
        if from > 0 || to < extent {
            data = data.select(axis, &(from..to).collect::<Vec<_>>());
        }
        let (begin, end) = (begin.max(0), end.max(0));
        data = if mode == PadMode::Constant {
            pad_constant(data, axis, [begin as usize, end as usize], &fill)?
        } else {
            let indices = border_indices(mode, begin, end, data.shape()[axis])?;
            data.select(axis, &indices)
        };
    }
    Ok(data)
}

pub(super) fn gather(axis: i64, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let Some(indices) = inputs.ints(1)? else {
        return invalid("input 1 is missing");
    };
    let shape = data.shape();
    let axis = axis_of(axis, shape.len())?;
    let extent = shape[axis] as i64;
    let mut flat = Vec::with_capacity(indices.data.len());
    for &index in indices.data.iter() {
        let from_front = if index < 0 {
            index.saturating_add(extent)
        } else {
            index
        };
        if !(0..extent).contains(&from_front) {
            return invalid(format!("index {index} is outside of the extent {extent}"));
        }
        flat.push(from_front as usize);
    }
    let mut to = shape[..axis].to_vec();
    to.extend_from_slice(&indices.shape);
    to.extend_from_slice(&shape[axis + 1..]);
    context.check_size(&to)?;
    Ok(data.select(axis, &flat).reshape(&to))
}

fn extents(inputs: &mut Inputs, port: usize) -> OpResult<Vec<usize>> {
    let Some(list) = inputs.ints(port)? else {
        return invalid(format!("input {port} is missing"));
    };
    list.data
        .iter()
        .map(|&n| match usize::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => invalid(format!("extent {n} in {:?} is negative", list.data)),
        })
        .collect()
}

pub(super) fn expand(inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = broadcast_shape(&data.shape(), &extents(inputs, 1)?)?;
    context.check_size(&shape)?;
    Ok(data.broadcast(&shape))
}

pub(super) fn tile(inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let mut data = inputs.value(0)?;
    let repeats = extents(inputs, 1)?;
    let shape = data.shape();
    if repeats.len() != shape.len() {
        return invalid(format!(
            "{} repeats for {} axes",
            repeats.len(),
            shape.len()
        ));
    }
    let to: Vec<usize> = shape
        .iter()
        .zip(&repeats)
        .map(|(&d, &n)| d.saturating_mul(n))
        .collect();
    context.check_size(&to)?;
    for (axis, &n) in repeats.iter().enumerate() {
        if n != 1 {
            let indices: Vec<usize> = (0..n).flat_map(|_| 0..shape[axis]).collect();
            data = data.select(axis, &indices);
        }
    }
    Ok(data)
}

pub(super) fn constant_of_shape(
    value: &Tensor,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let shape = extents(inputs, 0)?;
    context.check_size(&shape)?;
    if value.len() != 1 {
        return invalid(format!("the value has {} elements", value.len()));
    }
    let scalar = Value::from_tensor(value)?.reshape(&[]);
    if shape.is_empty() {
        return Ok(scalar);
    }
    if let Value::Float(number) = &scalar {
        let number = number.clone().into_vec().unwrap_or_default();
        return Ok(Value::Float(Float::full(
            number.first().copied().unwrap_or(0.0),
            &shape,
        )));
    }
    Ok(scalar.broadcast(&shape))
}

pub(super) fn range(inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let bounds = [inputs.value(0)?, inputs.value(1)?, inputs.value(2)?];
    match bounds {
        [Value::Int(start), Value::Int(limit), Value::Int(delta)] => {
            let number = |a: &Array<i64>| a.data.first().copied().unwrap_or(0);
            let (start, limit, delta) = (number(&start), number(&limit), number(&delta));
            if delta == 0 {
                return invalid("the step is zero");
            }
            let span = i128::from(limit) - i128::from(start);
            let delta_wide = i128::from(delta);
            let n = ((span + delta_wide - delta_wide.signum()) / delta_wide).max(0);
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            context.check_size(&[n])?;
            Ok(Value::ints(
                (0..n).map(|i| start + i as i64 * delta).collect(),
            ))
        }
        [
            Value::Float(start),
            Value::Float(limit),
            Value::Float(delta),
        ] => {
            let number = |t: Float| t.into_vec().ok().and_then(|v| v.first().copied());
            let (Some(start), Some(limit), Some(delta)) =
                (number(start), number(limit), number(delta))
            else {
                return invalid("a bound has no elements");
            };
            let n = ((limit - start) / delta).ceil();
            if !n.is_finite() {
                return invalid(format!("{start}, {limit} and {delta} are not a range"));
            }
            let n = n.max(0.0) as usize;
            context.check_size(&[n])?;
            let data = (0..n).map(|i| start + i as f32 * delta).collect();
            Ok(Value::Float(Float::new(data, &[n])))
        }
        _ => invalid("start, limit and step have different element types"),
    }
}
