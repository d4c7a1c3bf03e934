//! A sparse matrix along one axis: interpolation, sums over windows, running sums.

use std::sync::Arc;

use crate::engine::{Backward, Float, HostKernel, run_unary};
use crate::kernels::KernelError;

/// A sparse matrix by rows.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Where each row ends in the two lists.
    ends: Vec<usize>,
    columns: Vec<usize>,
    weights: Vec<f32>,
}

impl Rows {
    /// Adds to the row under way.
    pub(crate) fn push(&mut self, column: usize, weight: f32) {
        self.columns.push(column);
        self.weights.push(weight);
    }

    /// Ends the row under way.
    pub(crate) fn end_row(&mut self) {
        self.ends.push(self.columns.len());
    }

    /// Returns columns and weights of a row.
    pub(crate) fn row(&self, index: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let start = index.checked_sub(1).map_or(0, |i| self.ends[i]);
        let range = start..self.ends[index];
        let columns = self.columns[range.clone()].iter().copied();
        columns.zip(self.weights[range].iter().copied())
    }

    /// Returns `y[o, i, k] = Σ w[i, j] · x[o, j, k]`, from or to the transposed matrix.
    fn apply(&self, x: &[f32], dims: [usize; 2], transposed: bool) -> Vec<f32> {
        let [extent, inner] = dims;
        let rows = self.ends.len();
        let (from, to) = if transposed {
            (rows, extent)
        } else {
            (extent, rows)
        };
        let blocks = x.len() / (from * inner).max(1);
        let mut y = vec![0.0; blocks * to * inner];
        let pairs = x
            .chunks_exact((from * inner).max(1))
            .zip(y.chunks_exact_mut((to * inner).max(1)));
        for (x, y) in pairs {
            for i in 0..rows {
                for (j, w) in self.row(i) {
                    let (source, target) = if transposed { (i, j) } else { (j, i) };
                    let source = &x[source * inner..][..inner];
                    let target = &mut y[target * inner..][..inner];
                    for (t, s) in target.iter_mut().zip(source) {
                        *t += w * s;
                    }
                }
            }
        }
        y
    }
}

#[derive(Debug)]
struct MapKernel {
    rows: Rows,
    extent: usize,
    inner: usize,
    out: Vec<usize>,
}

impl HostKernel for MapKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn keeps_inputs(&self) -> bool {
        false
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        Ok(self.rows.apply(inputs[0], [self.extent, self.inner], false))
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let grad = self.rows.apply(pass.grad, [self.extent, self.inner], true);
        Ok(vec![Some(grad)])
    }
}

/// Returns the tensor with the matrix applied along `axis`; every column is below its extent.
pub(crate) fn map_axis(tensor: Float, axis: usize, rows: Rows) -> Float {
    let mut out = tensor.shape();
    let extent = out[axis];
    out[axis] = rows.ends.len();
    if tensor.len() == 0 || out.contains(&0) {
        return Float::full(0.0, &out);
    }
    let kernel = MapKernel {
        inner: out[axis + 1..].iter().product(),
        rows,
        extent,
        out,
    };
    run_unary(tensor, Arc::new(kernel))
}
