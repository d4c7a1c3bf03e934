//! Matrix product on the register tiles of the convolutions.

use super::correlate::{Correlation, PackedWeight, correlate_packed};

/// A left factor, packed once for many products.
#[derive(Debug)]
pub(crate) struct LeftMatrix {
    rows: usize,
    inner: usize,
    packed: PackedWeight,
}

impl LeftMatrix {
    /// Packs a row-major `rows × inner` matrix.
    pub(crate) fn new(rows: usize, inner: usize, numbers: &[f32]) -> Self {
        Self {
            rows,
            inner,
            packed: PackedWeight::new(1, rows, inner, numbers),
        }
    }

    /// Packs the transpose of a row-major `inner × rows` matrix.
    pub(crate) fn transposed(rows: usize, inner: usize, numbers: &[f32]) -> Self {
        Self::new(rows, inner, &transpose(inner, rows, numbers))
    }

    /// Writes `self · right` into `result`.
    ///
    /// # Shapes
    /// `right` inner × cols, `result` rows × cols, row-major.
    pub(crate) fn times(&self, right: &[f32], cols: usize, result: &mut [f32], threads: usize) {
        if self.inner == 0 {
            result.fill(0.0);
            return;
        }
        if self.rows == 0 || cols == 0 {
            return;
        }
        let corr = Correlation {
            batch: 1,
            groups: 1,
            src_channels: self.inner,
            src_hw: [1, cols],
            dst_channels: self.rows,
            dst_hw: [1, cols],
            grid_hw: [1, cols],
            dst_step: [1, 1],
            dst_offset: [0, 0],
            src_step: [1, 1],
            taps: [vec![0], vec![0]],
        };
        correlate_packed(&corr, right, &self.packed, None, result, threads);
    }
}

/// Returns the transpose of a row-major `rows × cols` matrix.
pub(crate) fn transpose(rows: usize, cols: usize, numbers: &[f32]) -> Vec<f32> {
    let mut result = vec![0.0; rows * cols];
    if rows == 0 || cols == 0 {
        return result;
    }
    for (r, row) in numbers.chunks_exact(cols).enumerate() {
        for (value, slot) in row.iter().zip(result[r..].iter_mut().step_by(rows)) {
            *slot = *value;
        }
    }
    result
}
