//! Gathered slices of a float tensor, such as every second row: a copy and its scattered sum.

use std::sync::Arc;

use crate::engine::{Backward, Float, HostKernel, run_unary};
use crate::kernels::KernelError;

/// The slices `indices` along the middle axis of `outer × extent × inner`.
#[derive(Debug)]
struct SelectKernel {
    out: Vec<usize>,
    extent: usize,
    inner: usize,
    indices: Vec<usize>,
}

impl HostKernel for SelectKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = Vec::with_capacity(self.out.iter().product());
        for block in inputs[0].chunks_exact((self.extent * self.inner).max(1)) {
            if self.inner == 1 {
                output.extend(self.indices.iter().map(|&k| block[k]));
                continue;
            }
            for k in &self.indices {
                output.extend_from_slice(&block[k * self.inner..][..self.inner]);
            }
        }
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut grad = vec![0.0; pass.inputs[0].len()];
        let rows = pass
            .grad
            .chunks_exact((self.indices.len() * self.inner).max(1));
        let blocks = grad.chunks_exact_mut((self.extent * self.inner).max(1));
        for (block, rows) in blocks.zip(rows) {
            for (k, row) in self
                .indices
                .iter()
                .zip(rows.chunks_exact(self.inner.max(1)))
            {
                let slots = &mut block[k * self.inner..][..self.inner];
                for (slot, value) in slots.iter_mut().zip(row) {
                    *slot += value;
                }
            }
        }
        Ok(vec![Some(grad)])
    }
}

/// Returns the slices `indices`, each below the extent, along `axis`, in that order.
pub(crate) fn select(tensor: Float, axis: usize, indices: &[usize]) -> Float {
    let mut out = tensor.shape();
    let extent = out[axis];
    let inner = out[axis + 1..].iter().product();
    out[axis] = indices.len();
    let kernel = SelectKernel {
        out,
        extent,
        inner,
        indices: indices.to_vec(),
    };
    run_unary(tensor, Arc::new(kernel))
}
