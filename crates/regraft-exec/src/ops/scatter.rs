//! Ops that write elements over others.

use regraft_graph::op::ScatterReduction;

use super::elementwise::numbers;
use super::index::{element_places, required_ints, slice_places};
use super::{Inputs, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::pick;
use crate::sparse_map::{Rows, map_axis};
use crate::value::{Array, Value};

pub(super) fn elements(
    axis: i64,
    reduction: ScatterReduction,
    inputs: &mut Inputs,
) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let indices = required_ints(inputs, 1)?;
    let updates = inputs.value(2)?;
    if updates.shape() != indices.shape {
        return invalid(format!(
            "updates {:?} for indices {:?}",
            updates.shape(),
            indices.shape
        ));
    }
    let places = element_places(&data.shape(), &indices, axis)?;
    scatter(data, updates, &places, reduction)
}

pub(super) fn slices(reduction: ScatterReduction, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let indices = required_ints(inputs, 1)?;
    let updates = inputs.value(2)?;
    let (starts, len) = slice_places(&data.shape(), &indices, 0)?;
    if updates.len() != starts.len() * len {
        return invalid(format!(
            "updates {:?} for {} slices of {len} elements",
            updates.shape(),
            starts.len()
        ));
    }
    let places: Vec<usize> = starts.iter().flat_map(|&s| s..s + len).collect();
    scatter(data, updates, &places, reduction)
}

pub(super) fn into_cache(axis: i64, circular: bool, inputs: &mut Inputs) -> OpResult<Value> {
    let (data, updates) = (inputs.value(0)?, inputs.value(1)?);
    let (shape, run) = (data.shape(), updates.shape());
    let axis = axis_of(axis, shape.len())?;
    let fits = run.len() == shape.len()
        && axis > 0
        && (0..shape.len()).all(|i| run[i] == shape[i] || i == axis && run[i] <= shape[i]);
    if !fits {
        return invalid(format!("{run:?} is no run along axis {axis} of {shape:?}"));
    }
    let starts = match inputs.ints(2)? {
        Some(a) if a.data.len() == shape[0] => a.data.to_vec(),
        Some(a) => return invalid(format!("{} starts for {} samples", a.data.len(), shape[0])),
        None => vec![0; shape[0]],
    };
    let inner: usize = shape[axis + 1..].iter().product();
    let between: usize = shape[1..axis].iter().product();
    let mut places = Vec::with_capacity(updates.len());
    for (sample, &start) in starts.iter().enumerate() {
        let last = start.saturating_add(run[axis] as i64);
        if start < 0 || !circular && last > shape[axis] as i64 {
            return invalid(format!("a run from {start} to {last} in {}", shape[axis]));
        }
        for block in 0..between {
            for step in 0..run[axis] {
                let at = (start as usize % shape[axis].max(1) + step) % shape[axis].max(1);
                let first = ((sample * between + block) * shape[axis] + at) * inner;
                places.extend(first..first + inner);
            }
        }
    }
    scatter(data, updates, &places, ScatterReduction::Replace)
}

/// Returns `data` with update `i` written at flat place `places[i]`.
fn scatter(
    data: Value,
    updates: Value,
    places: &[usize],
    reduction: ScatterReduction,
) -> OpResult<Value> {
    if places.is_empty() {
        return Ok(data);
    }
    let shape = data.shape();
    match reduction {
        ScatterReduction::Replace => {
            let n = data.len();
            let mut sources: Vec<usize> = (0..n).collect();
            for (i, &place) in places.iter().enumerate() {
                sources[place] = n + i;
            }
            Ok(pick(join(data, updates)?, shape, sources))
        }
        ScatterReduction::Add
        | ScatterReduction::Mul
        | ScatterReduction::Max
        | ScatterReduction::Min => match (data, updates) {
            (Value::Float(data), Value::Float(updates)) => {
                reduce_floats(data, updates, places, reduction).map(Value::Float)
            }
            (Value::Int(data), Value::Int(updates)) => {
                let join = match reduction {
                    ScatterReduction::Add | ScatterReduction::Replace => i64::wrapping_add,
                    ScatterReduction::Mul => i64::wrapping_mul,
                    ScatterReduction::Max => i64::max,
                    ScatterReduction::Min => i64::min,
                };
                let mut result = data.data.to_vec();
                for (&place, &x) in places.iter().zip(updates.data.iter()) {
                    result[place] = join(result[place], x);
                }
                Ok(Value::Int(Array::new(shape, result)))
            }
            (a, b) => invalid(format!(
                "{} and {} cannot be joined",
                a.describe(),
                b.describe()
            )),
        },
    }
}

/// Returns both values as one list, the second one behind.
fn join(a: Value, b: Value) -> OpResult<Value> {
    let (n, m) = (a.len(), b.len());
    Value::concat(vec![a.reshape(&[n]), b.reshape(&[m])], 0)
}

fn reduce_floats(
    data: Float,
    updates: Float,
    places: &[usize],
    reduction: ScatterReduction,
) -> OpResult<Float> {
    let shape = data.shape();
    let (n, m) = (data.len(), updates.len());
    let both = Float::concat(vec![data.reshape(&[n]), updates.reshape(&[m])], 0);
    let found = match reduction {
        ScatterReduction::Add if both.is_tracked() => {
            let mut sources: Vec<Vec<usize>> = (0..n).map(|i| vec![i]).collect();
            for (i, &place) in places.iter().enumerate() {
                sources[place].push(n + i);
            }
            let mut rows = Rows::default();
            for row in sources {
                for column in row {
                    rows.push(column, 1.0);
                }
                rows.end_row();
            }
            map_axis(both, 0, rows)
        }
        ScatterReduction::Add | ScatterReduction::Mul => {
            if both.is_tracked() {
                return unsupported("its products have no gradient");
            }
            let all = numbers(both.clone())?;
            let mut result = all[..n].to_vec();
            for (&place, x) in places.iter().zip(&all[n..]) {
                if reduction == ScatterReduction::Add {
                    result[place] += x;
                } else {
                    result[place] *= x;
                }
            }
            Float::new(result, &[n])
        }
        ScatterReduction::Max | ScatterReduction::Min | ScatterReduction::Replace => {
            let all = numbers(both.clone())?;
            let mut sources: Vec<usize> = (0..n).collect();
            for (i, &place) in places.iter().enumerate() {
                let (old, new) = (all[sources[place]], all[n + i]);
                let better = match reduction {
                    ScatterReduction::Max => new > old,
                    ScatterReduction::Min => new < old,
                    ScatterReduction::Replace | ScatterReduction::Add | ScatterReduction::Mul => {
                        true
                    }
                };
                if better {
                    sources[place] = n + i;
                }
            }
            crate::pick::pick_float(both, vec![n], sources)
        }
    };
    Ok(found.reshape(&shape))
}
