//! Small dense arrays and the moves that fold through shape arithmetic.

use std::sync::Arc;

use crate::Dim;

/// One integer of shape arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Elem {
    /// A number.
    Int(i64),
    /// The extent that a symbol stands for.
    Symbol(Arc<str>),
    /// A number that cannot be expressed.
    Unknown,
}

impl Elem {
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Symbol(_) | Self::Unknown => None,
        }
    }

    pub(crate) fn from_dim(dim: &Dim) -> Self {
        match dim {
            Dim::Fixed(n) => i64::try_from(*n).map_or(Self::Unknown, Self::Int),
            Dim::Symbol(s) => Self::Symbol(Arc::clone(s)),
            Dim::Unknown => Self::Unknown,
        }
    }

    /// Returns the extent this stands for; negative numbers are none.
    pub(crate) fn to_dim(&self) -> Option<Dim> {
        match self {
            Self::Int(n) => usize::try_from(*n).ok().map(Dim::Fixed),
            Self::Symbol(s) => Some(Dim::Symbol(Arc::clone(s))),
            Self::Unknown => Some(Dim::Unknown),
        }
    }
}

/// A dense row-major array.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array<T> {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<T>,
}

impl<T: Clone> Array<T> {
    pub(crate) fn list(data: Vec<T>) -> Self {
        Self {
            shape: vec![data.len()],
            data,
        }
    }

    /// Returns the array whose element at each index of `shape` is the one `source` names.
    fn pick(&self, shape: Vec<usize>, source: impl Fn(&[usize]) -> usize) -> Option<Self> {
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let mut index = vec![0; shape.len()];
        let mut data = Vec::with_capacity(n);
        for _ in 0..n {
            data.push(self.data.get(source(&index))?.clone());
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(Self { shape, data })
    }

    fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.shape.len()];
        for axis in (0..self.shape.len().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1].saturating_mul(self.shape[axis + 1]);
        }
        strides
    }

    pub(crate) fn transposed(&self, perm: &[usize]) -> Option<Self> {
        let strides = self.strides();
        let shape = perm
            .iter()
            .map(|&p| self.shape.get(p).copied())
            .collect::<Option<Vec<_>>>()?;
        self.pick(shape, |i| {
            i.iter().zip(perm).map(|(x, &p)| x * strides[p]).sum()
        })
    }

    /// Returns the array broadcast to `shape`, which must be reachable.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Option<Self> {
        let lead = shape.len().checked_sub(self.shape.len())?;
        let fits = self
            .shape
            .iter()
            .zip(&shape[lead..])
            .all(|(a, b)| a == b || *a == 1);
        let strides = self.strides();
        fits.then_some(())?;
        self.pick(shape.to_vec(), |i| {
            let axes = i[lead..].iter().zip(&self.shape).zip(&strides);
            axes.map(|((x, &extent), s)| if extent == 1 { 0 } else { x * s })
                .sum()
        })
    }

    /// Returns `len` slices of an axis from `start` in steps of `step`.
    pub(crate) fn sliced(&self, axis: usize, start: i64, step: i64, len: usize) -> Option<Self> {
        let strides = self.strides();
        let mut shape = self.shape.clone();
        *shape.get_mut(axis)? = len;
        let at = |x: usize| usize::try_from(start + step * i64::try_from(x).ok()?).ok();
        if len > 0 && (at(0)? >= self.shape[axis] || at(len - 1)? >= self.shape[axis]) {
            return None;
        }
        self.pick(shape, |i| {
            let moved = |(a, x): (usize, &usize)| if a == axis { at(*x).unwrap_or(0) } else { *x };
            i.iter()
                .enumerate()
                .map(moved)
                .zip(&strides)
                .map(|(x, s)| x * s)
                .sum()
        })
    }

    /// Returns the slices `indices` of an axis; the shape of `indices` takes the axis' place.
    pub(crate) fn gathered(&self, axis: usize, indices: &Array<i64>) -> Option<Self> {
        let extent = *self.shape.get(axis)?;
        let indices_flat = indices
            .data
            .iter()
            .map(|&i| super::normalize_axis(i, extent))
            .collect::<Option<Vec<_>>>()?;
        let n = indices.shape.len();
        let mut shape = self.shape[..axis].to_vec();
        shape.extend(&indices.shape);
        shape.extend(&self.shape[axis + 1..]);
        let strides = self.strides();
        let index_strides = indices.strides();
        self.pick(shape, |i| {
            let at: usize = i[axis..axis + n]
                .iter()
                .zip(&index_strides)
                .map(|(x, s)| x * s)
                .sum();
            let before: usize = i[..axis].iter().zip(&strides).map(|(x, s)| x * s).sum();
            let after: usize = i[axis + n..]
                .iter()
                .zip(&strides[axis + 1..])
                .map(|(x, s)| x * s)
                .sum();
            before + indices_flat.get(at).copied().unwrap_or(0) * strides[axis] + after
        })
    }

    pub(crate) fn concatenated(parts: &[Self], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let mut shape = first.shape.clone();
        *shape.get_mut(axis)? = parts
            .iter()
            .try_fold(0usize, |n, p| n.checked_add(*p.shape.get(axis)?))?;
        let outer: usize = first.shape[..axis].iter().product();
        let mut data = Vec::new();
        for o in 0..outer {
            for part in parts {
                let run: usize = part.shape[axis..].iter().product();
                data.extend_from_slice(part.data.get(o * run..(o + 1) * run)?);
            }
        }
        Some(Self { shape, data })
    }

    pub(crate) fn reshaped(self, shape: Vec<usize>) -> Option<Self> {
        let n: usize = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (n == self.data.len()).then_some(Self {
            shape,
            data: self.data,
        })
    }
}

/// Returns the shape that two shapes broadcast to.
pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
