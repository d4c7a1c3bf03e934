//! Tensors as callers give and get them.

use regraft_graph::{DType, Tensor};

/// The elements of a [`HostTensor`], row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum HostData {
    /// Floating-point numbers; everything floating is computed in 32 bits.
    F32(Vec<f32>),
    /// Integers; every integer type is computed in 64 bits.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// A dense array in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// The extent of each axis.
    pub shape: Vec<usize>,
    /// The elements, as many as the product of `shape`.
    pub data: HostData,
}

impl HostTensor {
    /// Returns a tensor of 32-bit floats. The length is checked when the tensor is used.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        Self {
            shape: shape.into(),
            data: HostData::F32(data),
        }
    }

    /// Returns a tensor of integers. The length is checked when the tensor is used.
    pub fn i64(shape: impl Into<Vec<usize>>, data: Vec<i64>) -> Self {
        Self {
            shape: shape.into(),
            data: HostData::I64(data),
        }
    }

    /// Returns a tensor of truth values. The length is checked when the tensor is used.
    pub fn bool(shape: impl Into<Vec<usize>>, data: Vec<bool>) -> Self {
        Self {
            shape: shape.into(),
            data: HostData::Bool(data),
        }
    }

    /// Returns a constant as it is computed with: every floating type in 32 bits, every integer
    /// in 64; `None` for types that are not computed with.
    pub fn from_tensor(tensor: &Tensor) -> Option<Self> {
        let shape = tensor.shape().to_vec();
        if let Some(v) = tensor.to_f32() {
            return Some(Self::f32(shape, v.into_owned()));
        }
        let v = tensor.to_i64()?;
        if tensor.dtype() == DType::Bool {
            return Some(Self::bool(shape, v.iter().map(|&x| x != 0).collect()));
        }
        Some(Self::i64(shape, v))
    }

    /// Returns the elements if they are floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            HostData::F32(v) => Some(v),
            HostData::I64(_) | HostData::Bool(_) => None,
        }
    }

    /// Returns the elements if they are integers.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            HostData::I64(v) => Some(v),
            HostData::F32(_) | HostData::Bool(_) => None,
        }
    }

    /// Returns the elements if they are truth values.
    pub fn as_bool(&self) -> Option<&[bool]> {
        match &self.data {
            HostData::Bool(v) => Some(v),
            HostData::F32(_) | HostData::I64(_) => None,
        }
    }

    /// Returns the elements if they are floats, giving the tensor away.
    pub fn into_f32(self) -> Option<Vec<f32>> {
        match self.data {
            HostData::F32(v) => Some(v),
            HostData::I64(_) | HostData::Bool(_) => None,
        }
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            HostData::F32(_) => DType::F32,
            HostData::I64(_) => DType::I64,
            HostData::Bool(_) => DType::Bool,
        }
    }

    /// Returns the number of elements held.
    pub fn len(&self) -> usize {
        match &self.data {
            HostData::F32(v) => v.len(),
            HostData::I64(v) => v.len(),
            HostData::Bool(v) => v.len(),
        }
    }

    /// Returns true if no element is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the slices `indices` along `axis`, in that order and as often as they are named;
    /// `None` if the axis or an index is out of range, or the elements do not fill the shape.
    pub fn select(&self, axis: usize, indices: &[usize]) -> Option<Self> {
        let extent = *self.shape.get(axis)?;
        if !self.fills_shape() || indices.iter().any(|&i| i >= extent) {
            return None;
        }
        let inner: usize = self.shape[axis + 1..].iter().product();
        let data = match &self.data {
            HostData::F32(v) => HostData::F32(pick(v, extent, inner, indices)),
            HostData::I64(v) => HostData::I64(pick(v, extent, inner, indices)),
            HostData::Bool(v) => HostData::Bool(pick(v, extent, inner, indices)),
        };
        let mut shape = self.shape.clone();
        shape[axis] = indices.len();
        Some(Self { shape, data })
    }

    /// Returns true if the elements fill the shape.
    pub(crate) fn fills_shape(&self) -> bool {
        let len = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        len == Some(self.len())
    }
}

/// The slices `indices` of the middle axis of `outer × extent × inner`.
fn pick<T: Copy>(data: &[T], extent: usize, inner: usize, indices: &[usize]) -> Vec<T> {
    let block = (extent * inner).max(1);
    let mut out = Vec::with_capacity(data.len() / block * indices.len() * inner);
    for outer in data.chunks_exact(block) {
        for i in indices {
            out.extend_from_slice(&outer[i * inner..(i + 1) * inner]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_come_in_the_named_order_and_as_often() {
        let t = HostTensor::i64([2, 3, 2], (0..12).collect());
        let picked = t.select(1, &[2, 0, 2]).unwrap();
        let expected = vec![4, 5, 0, 1, 4, 5, 10, 11, 6, 7, 10, 11];
        assert_eq!(picked, HostTensor::i64([2, 3, 2], expected));
        let none = HostTensor::f32([2, 0], Vec::new());
        assert_eq!(none.select(0, &[1]), Some(HostTensor::f32([1, 0], vec![])));
    }

    #[test]
    fn what_is_not_there_cannot_be_selected() {
        let t = HostTensor::bool([2], vec![true, false]);
        assert_eq!(t.select(0, &[2]), None);
        assert_eq!(t.select(1, &[0]), None);
        assert_eq!(HostTensor::f32([3], vec![1.0]).select(0, &[0]), None);
    }
}
