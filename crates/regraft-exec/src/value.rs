//! What flows along an edge while a graph runs.
//!
//! Floats live in the engine. Integers and truth values are shapes, indices and masks: they stay
//! on the host, where the ops that take them as settings can read them.

use std::sync::Arc;

use regraft_graph::{DType, Tensor};

use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::select::select;
use crate::{HostData, HostTensor};

/// A host array, its elements shared between clones.
#[derive(Clone, Debug)]
pub(crate) struct Array<T> {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Arc<Vec<T>>,
}

impl<T: Copy> Array<T> {
    pub(crate) fn new(shape: Vec<usize>, data: Vec<T>) -> Self {
        Self {
            shape,
            data: Arc::new(data),
        }
    }

    fn into_vec(self) -> Vec<T> {
        Arc::try_unwrap(self.data).unwrap_or_else(|shared| shared.to_vec())
    }

    /// Returns the elements at flat positions `at`.
    fn pick(&self, shape: Vec<usize>, at: impl Iterator<Item = usize>) -> Self {
        Self::new(shape, at.map(|i| self.data[i]).collect())
    }

    pub(crate) fn reshape(self, shape: Vec<usize>) -> Self {
        Self { shape, ..self }
    }

    /// Returns the slices `indices` along `axis`.
    pub(crate) fn select(&self, axis: usize, indices: &[usize]) -> Self {
        let inner: usize = self.shape[axis + 1..].iter().product();
        let outer: usize = self.shape[..axis].iter().product();
        let extent = self.shape[axis];
        let mut shape = self.shape.clone();
        shape[axis] = indices.len();
        let at = (0..outer).flat_map(|o| {
            indices
                .iter()
                .flat_map(move |&k| (o * extent + k) * inner..(o * extent + k + 1) * inner)
        });
        self.pick(shape, at)
    }

    /// Returns the elements read with these strides (in elements) in row-major order of `shape`.
    fn strided(&self, shape: &[usize], strides: &[usize]) -> Self {
        let total: usize = shape.iter().product();
        let at = (0..total).map(|flat| {
            let mut rest = flat;
            let mut position = 0;
            for (extent, stride) in shape.iter().zip(strides).rev() {
                position += rest % extent * stride;
                rest /= extent;
            }
            position
        });
        self.pick(shape.to_vec(), at)
    }

    pub(crate) fn permute(&self, axes: &[usize]) -> Self {
        let own = strides(&self.shape);
        let shape: Vec<usize> = axes.iter().map(|&a| self.shape[a]).collect();
        let strides: Vec<usize> = axes.iter().map(|&a| own[a]).collect();
        self.strided(&shape, &strides)
    }

    /// Returns the array repeated to `shape`, which it broadcasts to.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Self {
        if self.shape == shape {
            return self.clone();
        }
        let own = strides(&self.shape);
        let lead = shape.len() - self.shape.len();
        let strides: Vec<usize> = (0..shape.len())
            .map(|i| match i.checked_sub(lead) {
                Some(j) if self.shape[j] != 1 => own[j],
                _ => 0,
            })
            .collect();
        self.strided(shape, &strides)
    }

    fn concat(parts: &[Self], axis: usize) -> Self {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        let mut data = Vec::with_capacity(shape.iter().product());
        for o in 0..outer {
            for part in parts {
                let run: usize = part.shape[axis..].iter().product();
                data.extend_from_slice(&part.data[o * run..(o + 1) * run]);
            }
        }
        Self::new(shape, data)
    }
}

/// Returns the row-major strides of a shape, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Returns the shape that both shapes broadcast to.
pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> OpResult<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], i: usize| match (i + s.len()).checked_sub(rank) {
        Some(j) => s[j],
        None => 1,
    };
    (0..rank)
        .map(|i| match (extent(a, i), extent(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            (x, y) => invalid(format!(
                "shapes {a:?} and {b:?} do not broadcast: {x} against {y}"
            )),
        })
        .collect()
}

/// Returns `shape` with ones in front, `rank` axes in all.
pub(crate) fn pad_rank(shape: &[usize], rank: usize) -> Vec<usize> {
    let mut padded = vec![1; rank.saturating_sub(shape.len())];
    padded.extend_from_slice(shape);
    padded
}

/// A value of the running graph.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Float(Float),
    Int(Array<i64>),
    Bool(Array<bool>),
}

impl Value {
    pub(crate) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Float(t) => t.shape(),
            Self::Int(a) => a.shape.clone(),
            Self::Bool(a) => a.shape.clone(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Float(t) => t.len() * size_of::<f32>(),
            Self::Int(a) => a.data.len() * size_of::<i64>(),
            Self::Bool(a) => a.data.len(),
        }
    }

    /// Returns element type and shape for messages.
    pub(crate) fn describe(&self) -> String {
        let kind = match self {
            Self::Float(_) => DType::F32,
            Self::Int(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
        };
        format!("{kind}{:?}", self.shape())
    }

    /// Returns a list of integers as a value of one axis.
    pub(crate) fn ints(list: Vec<i64>) -> Self {
        Self::Int(Array::new(vec![list.len()], list))
    }

    pub(crate) fn from_host(tensor: HostTensor) -> Self {
        match tensor.data {
            HostData::F32(v) => Self::Float(Float::new(v, &tensor.shape)),
            HostData::I64(v) => Self::Int(Array::new(tensor.shape, v)),
            HostData::Bool(v) => Self::Bool(Array::new(tensor.shape, v)),
        }
    }

    pub(crate) fn into_host(self) -> Result<HostTensor, String> {
        Ok(match self {
            Self::Float(t) => {
                let shape = t.shape();
                HostTensor::f32(shape, t.into_vec()?)
            }
            Self::Int(a) => HostTensor::i64(a.shape.clone(), a.into_vec()),
            Self::Bool(a) => HostTensor::bool(a.shape.clone(), a.into_vec()),
        })
    }

    /// Returns the value of a constant; every floating type becomes 32 bits, every integer 64.
    pub(crate) fn from_tensor(tensor: &Tensor) -> OpResult<Self> {
        match HostTensor::from_tensor(tensor) {
            Some(host) => Ok(Self::from_host(host)),
            None => unsupported(format!(
                "constants of type {} are not computed with",
                tensor.dtype()
            )),
        }
    }

    pub(crate) fn reshape(self, shape: &[usize]) -> Self {
        match self {
            Self::Float(t) => Self::Float(t.reshape(shape)),
            Self::Int(a) => Self::Int(a.reshape(shape.to_vec())),
            Self::Bool(a) => Self::Bool(a.reshape(shape.to_vec())),
        }
    }

    pub(crate) fn permute(self, axes: &[usize]) -> Self {
        match self {
            Self::Float(t) => Self::Float(t.permute(axes)),
            Self::Int(a) => Self::Int(a.permute(axes)),
            Self::Bool(a) => Self::Bool(a.permute(axes)),
        }
    }

    pub(crate) fn select(self, axis: usize, indices: &[usize]) -> Self {
        match self {
            Self::Float(t) => Self::Float(select_float(t, axis, indices)),
            Self::Int(a) => Self::Int(a.select(axis, indices)),
            Self::Bool(a) => Self::Bool(a.select(axis, indices)),
        }
    }

    /// Returns the value repeated to `shape`, which it broadcasts to.
    pub(crate) fn broadcast(self, shape: &[usize]) -> Self {
        match self {
            Self::Float(t) => {
                let padded = pad_rank(&t.shape(), shape.len());
                Self::Float(t.reshape(&padded).expand(shape))
            }
            Self::Int(a) => Self::Int(a.broadcast(shape)),
            Self::Bool(a) => Self::Bool(a.broadcast(shape)),
        }
    }

    /// Returns the values joined along `axis`; all are of one kind and fit.
    pub(crate) fn concat(values: Vec<Self>, axis: usize) -> OpResult<Self> {
        let mut floats = Vec::new();
        let mut ints = Vec::new();
        let mut bools = Vec::new();
        for value in values {
            match value {
                Self::Float(t) => floats.push(t),
                Self::Int(a) => ints.push(a),
                Self::Bool(a) => bools.push(a),
            }
        }
        match (floats.is_empty(), ints.is_empty(), bools.is_empty()) {
            (false, true, true) => Ok(Self::Float(Float::concat(floats, axis))),
            (true, false, true) => Ok(Self::Int(Array::concat(&ints, axis))),
            (true, true, false) => Ok(Self::Bool(Array::concat(&bools, axis))),
            _ => invalid("the inputs have different element types, or there are none"),
        }
    }
}

/// A run of consecutive indices is a view; anything else gathers.
fn select_float(tensor: Float, axis: usize, indices: &[usize]) -> Float {
    match indices {
        [first, .., last] if indices.windows(2).all(|w| w[1] == w[0] + 1) => {
            tensor.range(axis, *first, *last + 1)
        }
        [one] => tensor.range(axis, *one, *one + 1),
        _ => select(tensor, axis, indices),
    }
}
