//! Constant data: initializers and the values of `Constant` nodes.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{DType, GraphError};

/// The elements of a [`Tensor`], shared between clones.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Elements of [`DType::F32`].
    F32(Arc<Vec<f32>>),
    /// Elements of [`DType::I64`].
    I64(Arc<Vec<i64>>),
    /// Little-endian bytes of any other element type, as the file holds them.
    Bytes(Arc<Vec<u8>>),
}

/// A dense array with a fixed shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// Returns a tensor of 32-bit floats.
    ///
    /// # Errors
    /// [`GraphError::TensorLength`] if `data` does not hold the product of `shape`.
    pub fn from_f32(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, GraphError> {
        check_len(&shape, data.len())?;
        Ok(Self {
            dtype: DType::F32,
            shape,
            data: TensorData::F32(Arc::new(data)),
        })
    }

    /// Returns a tensor of 64-bit integers.
    ///
    /// # Errors
    /// [`GraphError::TensorLength`] if `data` does not hold the product of `shape`.
    pub fn from_i64(shape: Vec<usize>, data: Vec<i64>) -> Result<Self, GraphError> {
        check_len(&shape, data.len())?;
        Ok(Self {
            dtype: DType::I64,
            shape,
            data: TensorData::I64(Arc::new(data)),
        })
    }

    /// Returns a one-axis tensor of 64-bit integers, the form of shapes, axes and pads.
    pub fn i64_list(data: Vec<i64>) -> Self {
        Self {
            dtype: DType::I64,
            shape: vec![data.len()],
            data: TensorData::I64(Arc::new(data)),
        }
    }

    /// Returns a tensor from little-endian bytes; 32-bit floats and 64-bit integers are decoded.
    ///
    /// # Errors
    /// [`GraphError::TensorLength`] if the bytes do not match shape and element size. Types without
    /// a fixed size ([`DType::Other`]) are taken as they are.
    pub fn from_le_bytes(
        dtype: DType,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    ) -> Result<Self, GraphError> {
        if let Some(size) = dtype.size_bytes() {
            if !bytes.len().is_multiple_of(size) {
                return Err(GraphError::TensorLength {
                    shape,
                    expected: None,
                    found: bytes.len() / size,
                });
            }
            check_len(&shape, bytes.len() / size)?;
        }
        let data = match dtype {
            DType::F32 => TensorData::F32(Arc::new(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            )),
            DType::I64 => TensorData::I64(Arc::new(
                bytes
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|b| i64::from_le_bytes(*b))
                    .collect(),
            )),
            _ => TensorData::Bytes(Arc::new(bytes)),
        };
        Ok(Self { dtype, shape, data })
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns true if the tensor holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the elements as they are held.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// Returns the elements if they are 32-bit floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            TensorData::I64(_) | TensorData::Bytes(_) => None,
        }
    }

    /// Returns the elements if they are 64-bit integers.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            TensorData::I64(v) => Some(v),
            TensorData::F32(_) | TensorData::Bytes(_) => None,
        }
    }

    /// Returns the elements in 32 bits for every floating type, `None` for the others.
    pub fn to_f32(&self) -> Option<Cow<'_, [f32]>> {
        let bytes = match &self.data {
            TensorData::F32(v) => return Some(Cow::Borrowed(v)),
            TensorData::I64(_) => return None,
            TensorData::Bytes(b) => b,
        };
        let wide: fn(u16) -> f32 = match self.dtype {
            DType::F64 => {
                let eights = bytes.as_chunks::<8>().0.iter();
                return Some(eights.map(|b| f64::from_le_bytes(*b) as f32).collect());
            }
            DType::F16 => half_to_f32,
            DType::Bf16 => |bits| f32::from_bits(u32::from(bits) << 16),
            _ => return None,
        };
        let pairs = bytes.as_chunks::<2>().0.iter();
        Some(pairs.map(|b| wide(u16::from_le_bytes(*b))).collect())
    }

    /// Returns the elements as integers for every integer and boolean type, `None` for the others.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let bytes = match &self.data {
            TensorData::I64(v) => return Some(v.to_vec()),
            TensorData::F32(_) => return None,
            TensorData::Bytes(b) => b,
        };
        Some(match self.dtype {
            DType::I32 => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b).into())
                .collect(),
            DType::U32 => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| u32::from_le_bytes(*b).into())
                .collect(),
            DType::I16 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| i16::from_le_bytes(*b).into())
                .collect(),
            DType::U16 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| u16::from_le_bytes(*b).into())
                .collect(),
            DType::U64 => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| u64::from_le_bytes(*b).cast_signed())
                .collect(),
            DType::I8 => bytes.iter().map(|b| i64::from(b.cast_signed())).collect(),
            DType::U8 | DType::Bool => bytes.iter().map(|b| i64::from(*b)).collect(),
            DType::F32 | DType::F64 | DType::F16 | DType::Bf16 | DType::I64 | DType::Other(_) => {
                return None;
            }
        })
    }

    /// Returns the little-endian bytes of the elements.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match &self.data {
            TensorData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            TensorData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            TensorData::Bytes(b) => b.to_vec(),
        }
    }

    /// Returns the same elements under another shape.
    ///
    /// # Errors
    /// [`GraphError::TensorLength`] if the number of elements differs.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, GraphError> {
        check_len(&shape, self.len())?;
        Ok(Self {
            dtype: self.dtype,
            shape,
            data: self.data.clone(),
        })
    }

    /// Returns the slices `keep` (in that order) of one axis.
    ///
    /// # Errors
    /// [`GraphError::Axis`] if the axis or an index is out of range, or the element type has no
    /// fixed size.
    pub fn select(&self, axis: usize, keep: &[usize]) -> Result<Self, GraphError> {
        let bad = || GraphError::Axis {
            axis,
            shape: self.shape.clone(),
        };
        let extent = *self.shape.get(axis).ok_or_else(bad)?;
        if keep.iter().any(|&k| k >= extent) {
            return Err(bad());
        }
        let inner: usize = self.shape[axis + 1..].iter().product();
        let outer: usize = self.shape[..axis].iter().product();
        let mut shape = self.shape.clone();
        shape[axis] = keep.len();
        let data = match &self.data {
            TensorData::F32(v) => TensorData::F32(Arc::new(take(v, outer, extent, inner, keep))),
            TensorData::I64(v) => TensorData::I64(Arc::new(take(v, outer, extent, inner, keep))),
            TensorData::Bytes(b) => {
                let size = self.dtype.size_bytes().ok_or_else(bad)?;
                TensorData::Bytes(Arc::new(take(b, outer, extent, inner * size, keep)))
            }
        };
        Ok(Self {
            dtype: self.dtype,
            shape,
            data,
        })
    }
}

fn take<T: Copy>(data: &[T], outer: usize, extent: usize, inner: usize, keep: &[usize]) -> Vec<T> {
    let mut out = Vec::with_capacity(outer * keep.len() * inner);
    for o in 0..outer {
        for &k in keep {
            let start = (o * extent + k) * inner;
            out.extend_from_slice(&data[start..start + inner]);
        }
    }
    out
}

fn check_len(shape: &[usize], found: usize) -> Result<(), GraphError> {
    let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if expected == Some(found) {
        Ok(())
    } else {
        Err(GraphError::TensorLength {
            shape: shape.to_vec(),
            expected,
            found,
        })
    }
}

/// Returns the number a 16-bit IEEE float stands for.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_every_width_are_read() {
        let of = |dtype, bytes: &[u8]| {
            let n = bytes.len() / dtype_size(dtype);
            let tensor = Tensor::from_le_bytes(dtype, vec![n], bytes.to_vec()).unwrap();
            tensor.to_f32().map(Cow::into_owned)
        };
        // 1, -2, the smallest subnormal.
        let half = of(DType::F16, &[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00]);
        assert_eq!(half, Some(vec![1.0, -2.0, 2f32.powi(-24)]));
        assert_eq!(of(DType::Bf16, &[0x80, 0x3f]), Some(vec![1.0]));
        assert_eq!(of(DType::F64, &0.25f64.to_le_bytes()), Some(vec![0.25]));
        assert_eq!(of(DType::U8, &[1]), None);
        let endless = of(DType::F16, &[0x00, 0x7c]).unwrap();
        assert!(endless[0].is_infinite());
    }

    fn dtype_size(dtype: DType) -> usize {
        dtype.size_bytes().unwrap_or(1)
    }
}
