//! A tensor of mostly zeros, for levels that are kept by the dozen.

use regraft_graph::{GraphError, Tensor};

/// A tensor of 32-bit floats as its shape, a bit for each place and the values that are not zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    shape: Vec<usize>,
    bits: Vec<u64>,
    values: Vec<f32>,
}

impl Packed {
    /// Returns the packed form of a tensor; one without floats is empty.
    pub fn of(tensor: &Tensor) -> Self {
        let data = tensor.as_f32().unwrap_or(&[]);
        let word = |part: &[f32]| {
            let bits = part.iter().enumerate();
            bits.fold(0u64, |word, (i, x)| word | (u64::from(*x != 0.0) << i))
        };
        let mut values = Vec::with_capacity(data.iter().filter(|x| **x != 0.0).count());
        values.extend(data.iter().filter(|x| **x != 0.0));
        Self {
            shape: tensor.shape().to_vec(),
            bits: data.chunks(64).map(word).collect(),
            values,
        }
    }

    /// Returns the tensor with these values at these places, which ascend; `None` where they do not
    /// fit the shape.
    pub fn from_nonzero(shape: Vec<usize>, places: &[u32], values: Vec<f32>) -> Option<Self> {
        let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let ascend = places.windows(2).all(|w| w[0] < w[1]);
        let inside = places.last().is_none_or(|last| (*last as usize) < len);
        if !ascend || !inside || places.len() != values.len() || values.contains(&0.0) {
            return None;
        }
        let mut bits = vec![0; len.div_ceil(64)];
        for place in places {
            bits[*place as usize / 64] |= 1 << (place % 64);
        }
        Some(Self {
            shape,
            bits,
            values,
        })
    }

    /// Returns the shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the values that are not zero with their places, in order.
    pub fn nonzero(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        let there = |i: &usize| self.bits[i / 64] >> (i % 64) & 1 == 1;
        (0..64 * self.bits.len())
            .filter(there)
            .zip(self.values.iter().copied())
    }

    /// Returns the tensor.
    /// # Errors
    /// [`GraphError`] for a shape that is too large.
    pub fn tensor(&self) -> Result<Tensor, GraphError> {
        let mut data = vec![0.0; self.shape.iter().product()];
        for (place, value) in self.nonzero() {
            data[place] = value;
        }
        Tensor::from_f32(self.shape.clone(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let sparse = |n: usize| (0..n).map(|i| if i % 3 == 1 { i as f32 } else { 0.0 });
        for n in [0, 1, 2, 63, 64, 65, 200] {
            let tensor = Tensor::from_f32(vec![n], sparse(n).collect()).unwrap();
            let packed = Packed::of(&tensor);
            assert_eq!(packed.tensor().unwrap(), tensor, "{n}");
            let (places, values): (Vec<u32>, Vec<f32>) =
                packed.nonzero().map(|(i, x)| (i as u32, x)).unzip();
            assert_eq!(
                Packed::from_nonzero(vec![n], &places, values),
                Some(packed),
                "{n}"
            );
        }
        let full = Tensor::from_f32(vec![2, 35], vec![-1.5; 70]).unwrap();
        assert_eq!(Packed::of(&full).tensor().unwrap(), full);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let from = |places: &[u32], values: &[f32]| {
            Packed::from_nonzero(vec![2, 2], places, values.to_vec())
        };
        assert!(from(&[0, 3], &[1.0, 2.0]).is_some());
        assert!(from(&[0, 4], &[1.0, 2.0]).is_none());
        assert!(from(&[1, 1], &[1.0, 2.0]).is_none());
        assert!(from(&[1], &[1.0, 2.0]).is_none());
        assert!(from(&[1], &[0.0]).is_none());
        assert!(Packed::from_nonzero(vec![usize::MAX, 2], &[], Vec::new()).is_none());
    }
}
