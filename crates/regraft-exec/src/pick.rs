//! Elements at given places: a copy whose gradient is a scattered sum.

use std::sync::Arc;

use crate::engine::{Backward, Float, HostKernel, run_unary};
use crate::kernels::KernelError;
use crate::value::{Array, Value};

/// The place of an element that is zero (or false) because it comes from nowhere.
pub(crate) const NOWHERE: usize = usize::MAX;

/// Elements of a flat tensor, each place below its length or [`NOWHERE`].
#[derive(Debug)]
struct PickKernel {
    out: Vec<usize>,
    places: Vec<usize>,
}

impl HostKernel for PickKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let at = |place: &usize| inputs[0].get(*place).copied().unwrap_or(0.0);
        Ok(self.places.iter().map(at).collect())
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut grad = vec![0.0; pass.inputs[0].len()];
        for (place, value) in self.places.iter().zip(pass.grad) {
            if let Some(slot) = grad.get_mut(*place) {
                *slot += value;
            }
        }
        Ok(vec![Some(grad)])
    }
}

fn pick_array<T: Copy + Default>(
    array: &Array<T>,
    shape: Vec<usize>,
    places: &[usize],
) -> Array<T> {
    let at = |place: &usize| array.data.get(*place).copied().unwrap_or_default();
    Array::new(shape, places.iter().map(at).collect())
}

/// Returns the elements at `places`, which fill `shape`.
pub(crate) fn pick_float(tensor: Float, shape: Vec<usize>, places: Vec<usize>) -> Float {
    if places.is_empty() || tensor.len() == 0 {
        return Float::full(0.0, &shape);
    }
    let kernel = PickKernel { out: shape, places };
    run_unary(tensor, Arc::new(kernel))
}

/// Returns the elements at `places`, which fill `shape`.
pub(crate) fn pick(value: Value, shape: Vec<usize>, places: Vec<usize>) -> Value {
    match value {
        Value::Float(t) => Value::Float(pick_float(t, shape, places)),
        Value::Int(a) => Value::Int(pick_array(&a, shape, &places)),
        Value::Bool(a) => Value::Bool(pick_array(&a, shape, &places)),
    }
}

/// Calls `visit` with every index of `shape`, the last axis fastest.
pub(crate) fn for_each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Returns the flat place of an index.
pub(crate) fn flat(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}
