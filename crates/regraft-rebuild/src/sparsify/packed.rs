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

    /// Returns the tensor.
    /// # Errors
    /// [`GraphError`] for a shape that is too large.
    pub fn tensor(&self) -> Result<Tensor, GraphError> {
        let len = self.shape.iter().product();
        let mut values = self.values.iter();
        let value = |i: usize| {
            let word = self.bits.get(i / 64).copied().unwrap_or(0);
            let there = word >> (i % 64) & 1 == 1;
            let value = if there { values.next() } else { None };
            value.copied().unwrap_or(0.0)
        };
        Tensor::from_f32(self.shape.clone(), (0..len).map(value).collect())
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
            assert_eq!(Packed::of(&tensor).tensor().unwrap(), tensor, "{n}");
        }
        let full = Tensor::from_f32(vec![2, 35], vec![-1.5; 70]).unwrap();
        assert_eq!(Packed::of(&full).tensor().unwrap(), full);
    }
}
