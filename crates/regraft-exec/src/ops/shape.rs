//! Ops that change or read the shape and keep the elements.

use super::{Inputs, axes_of, axis_of};
use crate::error::{OpResult, invalid};
use crate::value::Value;

pub(super) fn shape(start: i64, end: Option<i64>, inputs: &mut Inputs) -> OpResult<Value> {
    let shape = inputs.value(0)?.shape();
    let rank = shape.len() as i64;
    let clamp =
        |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
    let from = clamp(start);
    let to = clamp(end.unwrap_or(rank)).max(from);
    Ok(Value::ints(
        shape[from..to].iter().map(|&d| d as i64).collect(),
    ))
}

pub(super) fn size(inputs: &mut Inputs) -> OpResult<Value> {
    let len = inputs.value(0)?.len() as i64;
    Ok(Value::ints(vec![len]).reshape(&[]))
}

pub(super) fn reshape(allowzero: bool, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let Some(asked) = inputs.ints(1)? else {
        return invalid("input 1 is missing");
    };
    let from = data.shape();
    let mut to = Vec::with_capacity(asked.data.len());
    let mut open = None;
    for (i, &extent) in asked.data.iter().enumerate() {
        to.push(match extent {
            0 if !allowzero => match from.get(i) {
                Some(&copied) => copied,
                None => {
                    return invalid(format!("axis {i} of shape {:?} copies nothing", asked.data));
                }
            },
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            _ => match usize::try_from(extent) {
                Ok(extent) => extent,
                Err(_) => return invalid(format!("shape {:?} is not valid", asked.data)),
            },
        });
    }
    let known = to.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if let (Some(axis), Some(known)) = (open, known)
        && known > 0
        && data.len() % known == 0
    {
        to[axis] = data.len() / known;
    }
    if to.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(data.len()) {
        return invalid(format!(
            "shape {:?} does not hold the {} elements of {from:?}",
            asked.data,
            data.len()
        ));
    }
    Ok(data.reshape(&to))
}

pub(super) fn flatten(axis: i64, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let rank = shape.len() as i64;
    let cut = if axis < 0 {
        axis.saturating_add(rank)
    } else {
        axis
    };
    if !(0..=rank).contains(&cut) {
        return invalid(format!("axis {axis} is outside of {rank} axes"));
    }
    let (rows, columns) = shape.split_at(cut as usize);
    Ok(data.reshape(&[rows.iter().product(), columns.iter().product()]))
}

pub(super) fn transpose(perm: Option<&[i64]>, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let rank = data.shape().len();
    let axes: Vec<usize> = match perm {
        None => (0..rank).rev().collect(),
        Some(perm) => {
            if axes_of(perm, rank)?.len() != rank {
                return invalid(format!(
                    "permutation {perm:?} does not name all {rank} axes"
                ));
            }
            perm.iter()
                .map(|&a| axis_of(a, rank))
                .collect::<OpResult<_>>()?
        }
    };
    Ok(data.permute(&axes))
}

fn given_axes(axes: Option<&[i64]>, inputs: &mut Inputs) -> OpResult<Option<Vec<i64>>> {
    Ok(match axes {
        Some(axes) => Some(axes.to_vec()),
        None => inputs.ints(1)?.map(|a| a.data.to_vec()),
    })
}

pub(super) fn squeeze(axes: Option<&[i64]>, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let axes = match given_axes(axes, inputs)? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&i| shape[i] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return invalid(format!("axis {axis} of {shape:?} does not have extent 1"));
    }
    let kept: Vec<usize> = (0..shape.len())
        .filter(|i| !axes.contains(i))
        .map(|i| shape[i])
        .collect();
    Ok(data.reshape(&kept))
}

pub(super) fn unsqueeze(axes: Option<&[i64]>, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let mut shape = data.shape();
    let Some(axes) = given_axes(axes, inputs)? else {
        return invalid("input 1 is missing");
    };
    for axis in axes_of(&axes, shape.len() + axes.len())? {
        shape.insert(axis, 1);
    }
    Ok(data.reshape(&shape))
}
