//! Blocked Cholesky factor, triangular solves and products, shared between threads.
//!
//! Work is cut into bands whose size depends on the matrix alone, and each band is one fixed
//! sequence of products: the number of threads decides who does a band, never what it gives.

use std::ops::Range;

use faer::linalg::matmul::{matmul, triangular};
use faer::linalg::solvers::{Llt, LltError};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::reborrow::{Reborrow, ReborrowMut};
use faer::traits::RealField;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};

use crate::error::SolveError;

/// Columns of a panel: its factor is made at once, everything else is a product.
const PANEL: usize = 96;

/// Rows of a band of a factorisation's trailing update.
const BAND: usize = 192;

/// Rows of a band of a product: few, so that packing the other side does not show.
const PRODUCT_BAND: usize = 192;

/// f32 or f64.
pub(crate) trait Real: RealField + Copy + Send + Sync {
    /// The number 1.
    const ONE: Self;
    /// The number -1.
    const MINUS_ONE: Self;
    /// The number 0.
    const ZERO: Self;
    /// The number as f64.
    fn wide(self) -> f64;
}

impl Real for f32 {
    const ONE: Self = 1.0;
    const MINUS_ONE: Self = -1.0;
    const ZERO: Self = 0.0;
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const ONE: Self = 1.0;
    const MINUS_ONE: Self = -1.0;
    const ZERO: Self = 0.0;
    fn wide(self) -> f64 {
        self
    }
}

fn rows_of<T>(data: &[T], rows: usize, cols: usize, stride: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice_with_stride(data, rows, cols, stride)
}

fn rows_of_mut<T>(data: &mut [T], rows: usize, stride: usize) -> MatMut<'_, T> {
    MatMut::from_row_major_slice_mut(data, rows, stride)
}

/// Runs `work(band, rows)` on the bands of `band_len` values of `data`.
pub(crate) fn over_bands<T: Send, F>(data: &mut [T], band_len: usize, threads: usize, work: &F)
where
    F: Fn(usize, &mut [T]) + Sync,
{
    let band_len = band_len.max(1);
    let n_bands = data.len().div_ceil(band_len);
    let threads = threads.clamp(1, n_bands.max(1));
    let bands = data.chunks_mut(band_len).enumerate();
    if threads == 1 {
        return bands.for_each(|(i, band)| work(i, band));
    }
    let queue = std::sync::Mutex::new(bands);
    let next = || match queue.lock() {
        Ok(mut bands) => bands.next(),
        // Another thread panicked; the scope passes that on.
        Err(_) => None,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, band)) = next() {
                    work(i, band);
                }
            });
        }
    });
}

/// A lower Cholesky factor in row-major order, and the inverses of its diagonal blocks.
#[derive(Debug)]
pub(crate) struct BlockedFactor<T> {
    n: usize,
    lower: Vec<T>,
    inverses: Vec<Mat<T>>,
}

/// Returns a copy of the lower triangle of a row-major matrix, zeros above: half the memory is
/// touched.
pub(crate) fn lower_of<T: Real>(a: &[T], n: usize, threads: usize) -> Vec<T> {
    let mut lower = vec![T::ZERO; n * n];
    copy_lower(&mut lower, a, n, threads);
    lower
}

/// Copies the lower triangle of a row-major matrix; what `lower` has above it stays.
pub(crate) fn copy_lower<T: Real>(lower: &mut [T], a: &[T], n: usize, threads: usize) {
    over_bands(lower, BAND * n, threads, &|band, out: &mut [T]| {
        let from = band * BAND;
        let rows = a[from * n..].chunks_exact(n);
        for (i, (out, row)) in out.chunks_exact_mut(n).zip(rows).enumerate() {
            out[..=from + i].copy_from_slice(&row[..=from + i]);
        }
    });
}

/// Returns the factor of a symmetric row-major matrix (its lower triangle is read).
/// # Errors
/// [`SolveError::NotPositiveDefinite`] with the first bad pivot.
pub(crate) fn blocked_cholesky<T: Real>(
    mut a: Vec<T>,
    n: usize,
    threads: usize,
) -> Result<BlockedFactor<T>, SolveError> {
    let mut inverses = Vec::with_capacity(n.div_ceil(PANEL.max(1)));
    let mut from = 0;
    while from < n {
        let len = PANEL.min(n - from);
        let end = from + len;
        let block = rows_of(&a[from * n + from..], len, len, n).to_owned();
        let (inverse, factor) = factor_block(&block, from, n)?;
        for i in 0..len {
            for j in 0..len {
                let value = if j <= i { factor[(i, j)] } else { T::ZERO };
                a[(from + i) * n + from + j] = value;
            }
        }
        if end < n {
            trail(&mut a[end * n..], &inverse, (n, from, end), threads);
        }
        inverses.push(inverse);
        from = end;
    }
    Ok(BlockedFactor {
        n,
        lower: a,
        inverses,
    })
}

fn factor_block<T: Real>(
    block: &Mat<T>,
    from: usize,
    n: usize,
) -> Result<(Mat<T>, Mat<T>), SolveError> {
    let len = block.nrows();
    let bad = |pivot: usize, value: f64| SolveError::NotPositiveDefinite {
        pivot: from + pivot,
        n,
        value,
    };
    let factor = Llt::new(block.as_ref(), Side::Lower).map_err(|error| match error {
        LltError::NonPositivePivot { index } => bad(index, f64::NAN),
    })?;
    let mut inverse = Mat::from_fn(len, len, |_, _| T::ZERO);
    invert_lower_triangular(inverse.as_mut(), factor.L(), Par::Seq);
    if let Some(pivot) = (0..len).find(|&i| !inverse[(i, i)].wide().is_finite()) {
        return Err(bad(pivot, factor.L()[(pivot, pivot)].wide().powi(2)));
    }
    Ok((inverse, factor.L().to_owned()))
}

/// Writes the panel below a factored block and subtracts its product from the rest.
fn trail<T: Real>(
    below: &mut [T],
    inverse: &Mat<T>,
    (n, from, end): (usize, usize, usize),
    threads: usize,
) {
    let len = end - from;
    let left = n - end;
    let mut panel = vec![T::ZERO; left * len];
    let read = &*below;
    over_bands(&mut panel, BAND * len, threads, &|i, out: &mut [T]| {
        let rows = out.len() / len;
        let a = rows_of(&read[i * BAND * n + from..], rows, len, n);
        let out = rows_of_mut(out, rows, len);
        matmul(
            out,
            Accum::Replace,
            a,
            inverse.transpose(),
            T::ONE,
            Par::Seq,
        );
    });
    let panel = &panel;
    over_bands(below, BAND * n, threads, &|i, out: &mut [T]| {
        let rows = out.len() / n;
        let first = i * BAND;
        let own = rows_of(&panel[first * len..], rows, len, len);
        let mut out = rows_of_mut(out, rows, n);
        out.rb_mut().subcols_mut(from, len).copy_from(own);
        let before = rows_of(panel, first, len, len);
        matmul(
            out.rb_mut().subcols_mut(end, first),
            Accum::Add,
            own,
            before.transpose(),
            T::MINUS_ONE,
            Par::Seq,
        );
        triangular::matmul(
            out.subcols_mut(end + first, rows),
            triangular::BlockStructure::TriangularLower,
            Accum::Add,
            own,
            triangular::BlockStructure::Rectangular,
            own.transpose(),
            triangular::BlockStructure::Rectangular,
            T::MINUS_ONE,
            Par::Seq,
        );
    });
}

impl<T: Real> BlockedFactor<T> {
    /// Returns the factor `L`, row-major; zero above its diagonal if the matrix was.
    pub(crate) fn into_lower(self) -> Vec<T> {
        self.lower
    }

    /// Overwrites each row `b` (length n) of `rows` with `H⁻¹ b`.
    pub(crate) fn solve_rows(&self, rows: &mut [T]) {
        let n = self.n;
        if n == 0 {
            return;
        }
        let n_rows = rows.len() / n;
        let starts: Vec<usize> = (0..n).step_by(PANEL).collect();
        let mut scratch = Mat::from_fn(n_rows, PANEL.min(n), |_, _| T::ZERO);
        for (b, &from) in starts.iter().enumerate() {
            let len = PANEL.min(n - from);
            let (done, rest) = rows_of_mut(rows, n_rows, n).split_at_col_mut(from);
            let lower = rows_of(&self.lower[from * n..], len, from, n);
            let inverse = self.inverses[b].transpose();
            block_step(
                rest.subcols_mut(0, len),
                done.rb(),
                lower.transpose(),
                inverse,
                &mut scratch,
            );
        }
        for (b, &from) in starts.iter().enumerate().rev() {
            let len = PANEL.min(n - from);
            let end = from + len;
            let (open, done) = rows_of_mut(rows, n_rows, n).split_at_col_mut(end);
            let below = self.lower.get(end * n + from..).unwrap_or_default();
            let lower = rows_of(below, n - end, len, n);
            let inverse = self.inverses[b].as_ref();
            block_step(
                open.subcols_mut(from, len),
                done.rb(),
                lower,
                inverse,
                &mut scratch,
            );
        }
    }
}

/// `x ← (x − done · factor) · inverse`.
fn block_step<T: Real>(
    mut x: MatMut<'_, T>,
    done: MatRef<'_, T>,
    factor: MatRef<'_, T>,
    inverse: MatRef<'_, T>,
    scratch: &mut Mat<T>,
) {
    if done.ncols() > 0 {
        matmul(x.rb_mut(), Accum::Add, done, factor, T::MINUS_ONE, Par::Seq);
    }
    let mut out = scratch.as_mut().subcols_mut(0, x.ncols());
    matmul(
        out.rb_mut(),
        Accum::Replace,
        x.rb(),
        inverse,
        T::ONE,
        Par::Seq,
    );
    x.copy_from(out);
}

/// Overwrites `out` (`m × n`) with `a b`, all row-major.
pub(crate) fn product_rows<T: Real>(
    out: &mut [T],
    a: &[T],
    b: &[T],
    (k, n): (usize, usize),
    threads: usize,
) {
    over_bands(out, PRODUCT_BAND * n, threads, &|i, out: &mut [T]| {
        let rows = out.len() / n;
        let a = rows_of(&a[i * PRODUCT_BAND * k..], rows, k, k);
        let b = rows_of(b, k, n, n);
        matmul(
            rows_of_mut(out, rows, n),
            Accum::Replace,
            a,
            b,
            T::ONE,
            Par::Seq,
        );
    });
}

/// Subtracts `errors lowerᵀ` from the columns `to` of the band `out`, all rows of `n`.
///
/// Of `errors` the columns given with it count, and of `lowerᵀ` the rows of the same numbers.
pub(crate) fn subtract_errors(
    out: &mut [f32],
    (errors, from): (&[f32], Range<usize>),
    lower: &[f32],
    n: usize,
    to: Range<usize>,
) {
    if from.is_empty() || to.is_empty() || out.is_empty() {
        return;
    }
    let rows = out.len() / n;
    let errors = rows_of(&errors[from.start..], rows, from.len(), n);
    let lower = rows_of(&lower[to.start * n + from.start..], to.len(), from.len(), n);
    let out = rows_of_mut(out, rows, n).subcols_mut(to.start, to.len());
    matmul(out, Accum::Add, errors, lower.transpose(), -1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::samples::noise;

    /// Largest difference to the right side, relative: f64 products of order 500.
    const F64_SOLVE: f64 = 1e-10;

    fn spd(n: usize) -> Matrix {
        let raw = Matrix::from_f32(n, n, &noise(3, n * n)).unwrap();
        let mut h = crate::factor::product(&raw, &raw.transposed());
        for i in 0..n {
            let v = h.at(i, i) / n as f64;
            h.set(i, i, h.at(i, i) + v + 0.1);
        }
        h
    }

    #[test]
    fn rows_are_solved_and_threads_do_not_show() {
        for n in [1, 5, PANEL, PANEL + 1, 2 * PANEL + 77] {
            let h = spd(n);
            let rhs = Matrix::from_f32(3, n, &noise(9, 3 * n)).unwrap();
            let one = blocked_cholesky(h.data.clone(), n, 1).unwrap();
            let two = blocked_cholesky(h.data.clone(), n, 2).unwrap();
            assert!(one.lower == two.lower, "{n}");
            let mut x = rhs.clone();
            one.solve_rows(&mut x.data);
            let mut image = Matrix::zeros(3, n);
            product_rows(&mut image.data, &x.data, &h.data, (n, n), 2);
            for (found, wanted) in image.data.iter().zip(&rhs.data) {
                assert!((found - wanted).abs() < F64_SOLVE, "{n}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn a_bad_pivot_is_named() {
        let mut h = spd(PANEL + 3);
        h.set(PANEL + 1, PANEL + 1, -1.0);
        let error = blocked_cholesky(h.data, PANEL + 3, 2).unwrap_err();
        let wanted = PANEL + 1;
        assert!(matches!(error, SolveError::NotPositiveDefinite { pivot, .. } if pivot == wanted));
    }
}
