//! Ops that pick, place or count elements by position.

use regraft_graph::DType;
use regraft_graph::op::IndexOp;

use super::elementwise::numbers;
use super::{Context, Inputs, axis_of, scatter, sort};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::{NOWHERE, flat, for_each_index, pick};
use crate::sparse_map::{Rows, map_axis};
use crate::value::{Array, Value, strides};

/// Returns the outputs of an op of this family.
pub(super) fn run(op: &IndexOp, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let one = |value: OpResult<Value>| value.map(|v| vec![v]);
    match op {
        IndexOp::GatherElements { axis } => one(gather_elements(*axis, inputs)),
        IndexOp::GatherNd { batch_dims } => one(gather_nd(*batch_dims, inputs, context)),
        IndexOp::ScatterElements {
            axis, reduction, ..
        } => one(scatter::elements(*axis, *reduction, inputs)),
        IndexOp::ScatterNd { reduction } => one(scatter::slices(*reduction, inputs)),
        IndexOp::TensorScatter { axis, circular } => {
            one(scatter::into_cache(*axis, *circular, inputs))
        }
        IndexOp::Compress { axis } => one(compress(*axis, inputs)),
        IndexOp::NonZero => one(non_zero(inputs)),
        IndexOp::OneHot { axis } => one(one_hot(*axis, inputs, context)),
        IndexOp::TopK {
            axis, largest, k, ..
        } => sort::top_k(*axis, *largest, *k, inputs),
        IndexOp::Unique { axis, sorted } => sort::unique(*axis, *sorted, inputs),
        IndexOp::Trilu { upper } => one(trilu(*upper, inputs)),
        IndexOp::ReverseSequence {
            batch_axis,
            time_axis,
        } => one(reverse_sequence([*batch_axis, *time_axis], inputs)),
        IndexOp::Cumulative {
            product,
            exclusive,
            reverse,
        } => one(cumulative(
            [*product, *exclusive, *reverse],
            inputs,
            context,
        )),
        IndexOp::EyeLike { dtype, k } => one(eye_like(*dtype, *k, inputs)),
    }
}

/// Returns input `port` as integers.
pub(super) fn required_ints(inputs: &mut Inputs, port: usize) -> OpResult<Array<i64>> {
    match inputs.ints(port)? {
        Some(array) => Ok(array),
        None => invalid(format!("input {port} is missing")),
    }
}

/// Returns `index` counted from the front of `extent` elements.
pub(super) fn place_of(index: i64, extent: usize) -> OpResult<usize> {
    let n = extent as i64;
    let from_front = if index < 0 {
        index.saturating_add(n)
    } else {
        index
    };
    if (0..n).contains(&from_front) {
        Ok(from_front as usize)
    } else {
        invalid(format!("index {index} is outside of the extent {extent}"))
    }
}

fn gather_elements(axis: i64, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let indices = required_ints(inputs, 1)?;
    let places = element_places(&data.shape(), &indices, axis)?;
    Ok(pick(data, indices.shape.clone(), places))
}

/// Returns the flat place in `shape` that each index along `axis` names, other axes as they are.
pub(super) fn element_places(
    shape: &[usize],
    indices: &Array<i64>,
    axis: i64,
) -> OpResult<Vec<usize>> {
    let axis = axis_of(axis, shape.len())?;
    let fits = indices.shape.len() == shape.len()
        && (0..shape.len()).all(|i| i == axis || indices.shape[i] <= shape[i]);
    if !fits {
        return invalid(format!(
            "indices {:?} do not fit {shape:?} along axis {axis}",
            indices.shape
        ));
    }
    let places: Vec<usize> = indices
        .data
        .iter()
        .map(|&i| place_of(i, shape[axis]))
        .collect::<OpResult<_>>()?;
    let own = strides(shape);
    let mut result = Vec::with_capacity(places.len());
    let mut next = places.into_iter();
    for_each_index(&indices.shape, |index| {
        let place = next.next().unwrap_or(0);
        result.push(flat(index, &own) + place * own[axis] - index[axis] * own[axis]);
    });
    Ok(result)
}

/// Returns the first flat place of the slice that each index tuple names, and the slice's length.
pub(super) fn slice_places(
    shape: &[usize],
    indices: &Array<i64>,
    batch_dims: usize,
) -> OpResult<(Vec<usize>, usize)> {
    let Some((&n, lead)) = indices.shape.split_last() else {
        return invalid("the indices have no axis");
    };
    if batch_dims > lead.len()
        || batch_dims.saturating_add(n) > shape.len()
        || lead[..batch_dims] != shape[..batch_dims]
    {
        return invalid(format!(
            "indices {:?} with {batch_dims} shared axes do not fit {shape:?}",
            indices.shape
        ));
    }
    let own = strides(shape);
    let per_batch: usize = lead[batch_dims..].iter().product();
    let slice_len = shape[batch_dims + n..].iter().product();
    let batch_len: usize = shape[batch_dims..].iter().product();
    let count: usize = lead.iter().product();
    let mut starts = Vec::with_capacity(count);
    for i in 0..count {
        let mut start = i / per_batch.max(1) * batch_len;
        for j in 0..n {
            let axis = batch_dims + j;
            start += place_of(indices.data[i * n + j], shape[axis])? * own[axis];
        }
        starts.push(start);
    }
    Ok((starts, slice_len))
}

fn gather_nd(batch_dims: usize, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let indices = required_ints(inputs, 1)?;
    let shape = data.shape();
    let (starts, len) = slice_places(&shape, &indices, batch_dims)?;
    let n = indices.shape.last().copied().unwrap_or(0);
    let mut out = indices.shape[..indices.shape.len().saturating_sub(1)].to_vec();
    out.extend_from_slice(&shape[batch_dims + n..]);
    context.check_size(&out)?;
    let places = starts.iter().flat_map(|&s| s..s + len).collect();
    Ok(pick(data, out, places))
}

fn compress(axis: Option<i64>, inputs: &mut Inputs) -> OpResult<Value> {
    let mut data = inputs.value(0)?;
    let Value::Bool(condition) = inputs.value(1)? else {
        return invalid("the condition does not hold truth values");
    };
    let axis = if let Some(axis) = axis {
        axis_of(axis, data.shape().len())?
    } else {
        let len = data.len();
        data = data.reshape(&[len]);
        0
    };
    let extent = data.shape()[axis];
    let kept: Vec<usize> = condition
        .data
        .iter()
        .take(extent)
        .enumerate()
        .filter(|(_, keep)| **keep)
        .map(|(i, _)| i)
        .collect();
    if condition.data.len() > extent {
        return invalid(format!(
            "{} conditions for an extent {extent}",
            condition.data.len()
        ));
    }
    Ok(data.select(axis, &kept))
}

fn non_zero(inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let holds: Vec<bool> = match data {
        Value::Float(t) => numbers(t)?.iter().map(|&x| x != 0.0).collect(),
        Value::Int(a) => a.data.iter().map(|&x| x != 0).collect(),
        Value::Bool(a) => a.data.to_vec(),
    };
    let found: Vec<usize> = (0..holds.len()).filter(|&i| holds[i]).collect();
    let own = strides(&shape);
    let mut positions = Vec::with_capacity(shape.len() * found.len());
    for axis in 0..shape.len() {
        positions.extend(found.iter().map(|&i| (i / own[axis] % shape[axis]) as i64));
    }
    Ok(Value::Int(Array::new(
        vec![shape.len(), found.len()],
        positions,
    )))
}

/// Returns the first element of an input as an integer, rounded towards zero.
pub(super) fn whole(value: Value) -> OpResult<i64> {
    let first = match value {
        Value::Int(a) => a.data.first().copied(),
        Value::Float(t) => t.into_vec().ok().and_then(|v| v.first().map(|&x| x as i64)),
        Value::Bool(_) => None,
    };
    match first {
        Some(n) => Ok(n),
        None => invalid("a number is needed"),
    }
}

fn one_hot(axis: i64, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let first = inputs.value(0)?;
    let shape = first.shape();
    let indices: Vec<i64> = match first {
        Value::Int(a) => a.data.to_vec(),
        Value::Float(t) => numbers(t)?.iter().map(|&x| x as i64).collect(),
        Value::Bool(_) => return invalid("truth values are no indices"),
    };
    let depth = whole(inputs.value(1)?)?;
    let values = inputs.value(2)?;
    let axis = axis_of(axis, shape.len() + 1)?;
    let Ok(extent) = usize::try_from(depth) else {
        return invalid(format!("a depth of {depth}"));
    };
    if values.len() != 2 {
        return invalid(format!("{} values instead of off and on", values.len()));
    }
    let mut out = shape.clone();
    out.insert(axis, extent);
    let total = context.check_size(&out)?;
    let inner: usize = shape[axis..].iter().product();
    let mut places = vec![0; total];
    for (i, &index) in indices.iter().enumerate() {
        let index = if index < 0 {
            index.saturating_add(depth)
        } else {
            index
        };
        if (0..depth).contains(&index) {
            let (outer, rest) = (i / inner.max(1), i % inner.max(1));
            places[(outer * extent + index as usize) * inner + rest] = 1;
        }
    }
    Ok(pick(values, out, places))
}

fn trilu(upper: bool, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let k = match inputs.optional(1) {
        Some(k) => whole(k)?,
        None => 0,
    };
    let shape = data.shape();
    let Some([rows, columns]) = shape.last_chunk::<2>() else {
        return invalid(format!("{shape:?} has no matrix"));
    };
    let plane = rows * columns;
    let places = (0..data.len())
        .map(|i| {
            let (row, column) = (i % plane / columns, i % columns);
            let above = (column as i64).saturating_sub(row as i64);
            let kept = if upper { above >= k } else { above <= k };
            if kept { i } else { NOWHERE }
        })
        .collect();
    Ok(pick(data, shape, places))
}

fn reverse_sequence(axes: [i64; 2], inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let lengths = required_ints(inputs, 1)?;
    let shape = data.shape();
    let batch = axis_of(axes[0], shape.len())?;
    let time = axis_of(axes[1], shape.len())?;
    if batch == time || lengths.data.len() != shape[batch] {
        return invalid(format!(
            "{} lengths for axis {batch} of {shape:?}",
            lengths.data.len()
        ));
    }
    if let Some(n) = lengths
        .data
        .iter()
        .find(|n| usize::try_from(**n).is_ok_and(|n| n > shape[time]) || **n < 0)
    {
        return invalid(format!("a length of {n} in {} steps", shape[time]));
    }
    let own = strides(&shape);
    let mut places = Vec::with_capacity(data.len());
    for_each_index(&shape, |index| {
        let length = lengths.data[index[batch]] as usize;
        let step = index[time];
        let place = flat(index, &own);
        places.push(if step < length {
            place + (length - 1 - step) * own[time] - step * own[time]
        } else {
            place
        });
    });
    Ok(pick(data, shape, places))
}

/// Returns for each place of an axis the places that count for it, in order.
fn counted(extent: usize, exclusive: bool, reverse: bool, i: usize) -> std::ops::Range<usize> {
    match (reverse, exclusive) {
        (false, false) => 0..i + 1,
        (false, true) => 0..i,
        (true, false) => i..extent,
        (true, true) => i + 1..extent,
    }
}

fn cumulative(
    [product, exclusive, reverse]: [bool; 3],
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let axis = axis_of(whole(inputs.value(1)?)?, shape.len())?;
    let extent = shape[axis];
    match data {
        Value::Float(t) if t.is_tracked() => {
            if product {
                return unsupported("its products have no gradient");
            }
            context.check_size(&[extent, extent])?;
            let mut rows = Rows::default();
            for i in 0..extent {
                for j in counted(extent, exclusive, reverse, i) {
                    rows.push(j, 1.0);
                }
                rows.end_row();
            }
            Ok(Value::Float(map_axis(t, axis, rows)))
        }
        Value::Float(t) => {
            let join: (f32, fn(f32, f32) -> f32) = if product {
                (1.0, |a, b| a * b)
            } else {
                (0.0, |a, b| a + b)
            };
            let found = running(&numbers(t)?, &shape, axis, [exclusive, reverse], join);
            Ok(Value::Float(Float::new(found, &shape)))
        }
        Value::Int(a) => {
            let directions = [exclusive, reverse];
            let found = if product {
                running(&a.data, &shape, axis, directions, (1, i64::wrapping_mul))
            } else {
                running(&a.data, &shape, axis, directions, (0, i64::wrapping_add))
            };
            Ok(Value::Int(Array::new(shape, found)))
        }
        Value::Bool(_) => invalid("truth values have no sum"),
    }
}

/// Returns the running totals along `axis`, from `join.0` on by `join.1`.
fn running<T: Copy>(
    data: &[T],
    shape: &[usize],
    axis: usize,
    [exclusive, reverse]: [bool; 2],
    join: (T, fn(T, T) -> T),
) -> Vec<T> {
    let inner: usize = shape[axis + 1..].iter().product();
    let extent = shape[axis];
    let mut result = data.to_vec();
    for block in result.chunks_exact_mut((extent * inner).max(1)) {
        for k in 0..inner {
            let mut total = join.0;
            for step in 0..extent {
                let i = if reverse { extent - 1 - step } else { step };
                let slot = &mut block[i * inner + k];
                let own = *slot;
                if exclusive {
                    *slot = total;
                }
                total = join.1(total, own);
                if !exclusive {
                    *slot = total;
                }
            }
        }
    }
    result
}

fn eye_like(dtype: Option<DType>, k: i64, inputs: &mut Inputs) -> OpResult<Value> {
    let like = inputs.value(0)?;
    let shape = like.shape();
    let [rows, columns] = shape[..] else {
        return invalid(format!("{shape:?} is not a matrix"));
    };
    let on = |i: usize| {
        let above = (i % columns) as i64 - (i / columns) as i64;
        above == k
    };
    let len = rows * columns;
    let kind = match (dtype, &like) {
        (Some(DType::Bool), _) | (None, Value::Bool(_)) => DType::Bool,
        (Some(t), _) if t.is_float() => DType::F32,
        (None, Value::Float(_)) => DType::F32,
        _ => DType::I64,
    };
    let truths = (0..len).map(on);
    Ok(match kind {
        DType::Bool => Value::Bool(Array::new(shape, truths.collect())),
        DType::F32 => {
            let data = truths.map(|x| f32::from(u8::from(x))).collect();
            Value::Float(Float::new(data, &shape))
        }
        _ => Value::Int(Array::new(shape, truths.map(i64::from).collect())),
    })
}
