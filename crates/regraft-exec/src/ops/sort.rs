//! Ops that compare elements with each other: the largest ones, the distinct ones.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::elementwise::numbers;
use super::index::whole;
use super::{Inputs, axis_of};
use crate::error::{OpResult, invalid};
use crate::pick::pick;
use crate::value::{Array, Value};

/// Returns the elements as numbers with the order of the elements.
fn keys(value: &Value) -> OpResult<Vec<Key>> {
    Ok(match value {
        Value::Float(t) => numbers(t.clone())?.into_iter().map(Key::Float).collect(),
        Value::Int(a) => a.data.iter().map(|&x| Key::Int(x)).collect(),
        Value::Bool(a) => a.data.iter().map(|&x| Key::Int(x.into())).collect(),
    })
}

/// One element; all of one value are of one kind.
#[derive(Clone, Copy, Debug)]
enum Key {
    Float(f32),
    Int(i64),
}

impl Key {
    /// Zeros of both signs are equal; what is not a number comes last.
    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a
                .partial_cmp(&b)
                .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(_), Self::Int(_)) => Ordering::Less,
            (Self::Int(_), Self::Float(_)) => Ordering::Greater,
        }
    }
}

fn order_of(a: &[Key], b: &[Key]) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| a.order(*b));
    pairs.fold(Ordering::Equal, Ordering::then)
}

pub(super) fn top_k(
    axis: i64,
    largest: bool,
    k: Option<i64>,
    inputs: &mut Inputs,
) -> OpResult<Vec<Value>> {
    let data = inputs.value(0)?;
    let k = match k {
        Some(k) => k,
        None => whole(inputs.value(1)?)?,
    };
    let shape = data.shape();
    let axis = axis_of(axis, shape.len())?;
    let extent = shape[axis];
    let Some(k) = usize::try_from(k).ok().filter(|k| *k <= extent) else {
        return invalid(format!("the {k} first of an extent {extent}"));
    };
    let keys = keys(&data)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut out = shape.clone();
    out[axis] = k;
    let mut places = vec![0; outer * k * inner];
    let mut indices = vec![0; places.len()];
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * extent + j) * inner + i;
            let mut order: Vec<usize> = (0..extent).collect();
            // A stable sort: of equal elements the first one comes first.
            order.sort_by(|&a, &b| {
                let rising = keys[at(a)].order(keys[at(b)]);
                if largest { rising.reverse() } else { rising }
            });
            for (rank, &j) in order.iter().take(k).enumerate() {
                let slot = (o * k + rank) * inner + i;
                places[slot] = at(j);
                indices[slot] = j as i64;
            }
        }
    }
    let positions = Value::Int(Array::new(out.clone(), indices));
    Ok(vec![pick(data, out, places), positions])
}

pub(super) fn unique(axis: Option<i64>, sorted: bool, inputs: &mut Inputs) -> OpResult<Vec<Value>> {
    let mut data = inputs.value(0)?;
    let axis = if let Some(axis) = axis {
        axis_of(axis, data.shape().len())?
    } else {
        let len = data.len();
        data = data.reshape(&[len]);
        0
    };
    let shape = data.shape();
    let extent = shape[axis];
    let keys = keys(&data)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let slice = |j: usize| -> Vec<Key> {
        (0..outer)
            .flat_map(|o| keys[(o * extent + j) * inner..][..inner].iter().copied())
            .collect()
    };
    let slices: Vec<Vec<Key>> = (0..extent).map(slice).collect();
    let mut order: Vec<usize> = (0..extent).collect();
    order.sort_by(|&a, &b| order_of(&slices[a], &slices[b]));
    // Runs of equal slices; each run's first member is its first position.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for j in order {
        match runs.last_mut() {
            Some(run) if order_of(&slices[run[0]], &slices[j]) == Ordering::Equal => run.push(j),
            _ => runs.push(vec![j]),
        }
    }
    if !sorted {
        runs.sort_by_key(|run| run[0]);
    }
    let mut inverse = BTreeMap::new();
    for (number, run) in runs.iter().enumerate() {
        inverse.extend(run.iter().map(|&j| (j, number as i64)));
    }
    let firsts: Vec<usize> = runs.iter().map(|run| run[0]).collect();
    let positions = firsts.iter().map(|&j| j as i64).collect();
    let counts = runs.iter().map(|run| run.len() as i64).collect();
    Ok(vec![
        data.select(axis, &firsts),
        Value::ints(positions),
        Value::ints(inverse.into_values().collect()),
        Value::ints(counts),
    ])
}
