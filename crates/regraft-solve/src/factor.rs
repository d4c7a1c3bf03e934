//! Factorisations on row-major buffers. The only place that names faer.
//!
//! A symmetric matrix is the same bytes in row-major and column-major order, so
//! square buffers go to faer without a transpose.

pub(crate) mod blocked;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor as llt;
use faer::linalg::matmul::{matmul, triangular};
use faer::linalg::solvers::{DenseSolveCore, Llt, LltError};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve as tri;
use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par, Side, Spec};

use crate::error::SolveError;
use crate::factor::blocked::{Real, over_bands};
use crate::matrix::Matrix;

/// A pivot below this share of the largest diagonal entry is noise in f64: the
/// factor exists, but its solution has no correct digits.
const PIVOT_FLOOR: f64 = 1e-13;

/// A Cholesky factor `H = L Lᵀ`.
#[derive(Debug)]
pub(crate) struct Cholesky {
    factor: Llt<f64>,
    n: usize,
}

fn view(m: &Matrix) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(&m.data, m.rows, m.cols)
}

fn view_mut(m: &mut Matrix) -> MatMut<'_, f64> {
    MatMut::from_row_major_slice_mut(&mut m.data, m.rows, m.cols)
}

/// Returns the Cholesky factor of a symmetric matrix (its lower triangle is read).
///
/// # Errors
/// [`SolveError::NotPositiveDefinite`] with the first bad pivot and its value.
pub(crate) fn cholesky(h: &Matrix) -> Result<Cholesky, SolveError> {
    let n = h.rows;
    let largest = h.diagonal().into_iter().fold(0.0_f64, f64::max);
    match Llt::new(view(h), Side::Lower) {
        Ok(factor) => {
            let weakest = (0..n)
                .map(|i| (i, factor.L()[(i, i)].powi(2)))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            match weakest {
                Some((pivot, value)) if value.is_nan() || value <= PIVOT_FLOOR * largest => {
                    Err(SolveError::NotPositiveDefinite { pivot, n, value })
                }
                _ => Ok(Cholesky { factor, n }),
            }
        }
        Err(LltError::NonPositivePivot { index }) => Err(SolveError::NotPositiveDefinite {
            pivot: index,
            n,
            value: pivot_value(h, index),
        }),
    }
}

/// Returns the pivot that stopped a factorisation: the Schur complement of one entry.
fn pivot_value(h: &Matrix, pivot: usize) -> f64 {
    let lead = view(h).submatrix(0, 0, pivot, pivot);
    let Ok(factor) = Llt::new(lead, Side::Lower) else {
        return f64::NAN;
    };
    let mut column = h.row(pivot)[..pivot].to_vec();
    tri::solve_lower_triangular_in_place(
        factor.L(),
        MatMut::from_column_major_slice_mut(&mut column, pivot, 1),
        Par::Seq,
    );
    h.at(pivot, pivot) - column.iter().map(|v| v * v).sum::<f64>()
}

impl Cholesky {
    /// Overwrites `rhs` (`n × r`) with `H⁻¹ rhs`.
    pub(crate) fn solve(&self, rhs: &mut Matrix) {
        self.half_solve(rhs);
        self.other_half_solve(rhs);
    }

    /// Overwrites `rhs` (`n × r`) with `L⁻¹ rhs`.
    pub(crate) fn half_solve(&self, rhs: &mut Matrix) {
        tri::solve_lower_triangular_in_place(self.factor.L(), view_mut(rhs), Par::Seq);
    }

    /// Overwrites `rhs` (`n × r`) with `L⁻ᵀ rhs`.
    pub(crate) fn other_half_solve(&self, rhs: &mut Matrix) {
        tri::solve_upper_triangular_in_place(self.factor.L().transpose(), view_mut(rhs), Par::Seq);
    }

    /// Returns `H⁻¹`, symmetric, as [`Cholesky::inverse`] does, holding two matrices of its order
    /// at most, the result included, besides whatever the factor was made of.
    pub(crate) fn into_inverse(self) -> Matrix {
        let n = self.n;
        let mut lower = Matrix::zeros(n, n);
        let columns = MatMut::from_column_major_slice_mut(&mut lower.data, n, n);
        invert_lower_triangular(columns, self.factor.L(), Par::Seq);
        drop(self);
        let mut out = Matrix::zeros(n, n);
        let half = MatRef::from_column_major_slice(&lower.data, n, n);
        triangular::matmul(
            MatMut::from_column_major_slice_mut(&mut out.data, n, n),
            triangular::BlockStructure::TriangularLower,
            Accum::Replace,
            half.transpose(),
            triangular::BlockStructure::TriangularUpper,
            half,
            triangular::BlockStructure::TriangularLower,
            1.0,
            Par::Seq,
        );
        // The lower triangle of columns is the upper one of rows.
        for i in 0..n {
            for j in 0..i {
                out.data[i * n + j] = out.data[j * n + i];
            }
        }
        out
    }

    /// Returns `H⁻¹`, symmetric.
    pub(crate) fn inverse(&self) -> Matrix {
        let inverse = self.factor.inverse();
        let mut out = Matrix::zeros(self.n, self.n);
        for i in 0..self.n {
            for j in 0..=i {
                let v = inverse[(i, j)];
                out.data[i * self.n + j] = v;
                out.data[j * self.n + i] = v;
            }
        }
        out
    }
}

/// Returns `(eigenvalues ascending, eigenvectors as columns)` of a symmetric matrix.
pub(crate) fn symmetric_eigen(h: &Matrix) -> Option<(Vec<f64>, Matrix)> {
    let eigen = view(h).self_adjoint_eigen(Side::Lower).ok()?;
    let n = h.rows;
    let values: Vec<f64> = (0..n).map(|i| eigen.S()[i]).collect();
    let mut vectors = Matrix::zeros(n, n);
    for i in 0..n {
        for j in 0..n {
            vectors.set(i, j, eigen.U()[(i, j)]);
        }
    }
    values
        .iter()
        .all(|v| v.is_finite())
        .then_some((values, vectors))
}

/// Returns `a b`.
pub(crate) fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(a.rows, b.cols);
    if a.cols > 0 {
        let dst = view_mut(&mut out);
        matmul(dst, Accum::Replace, view(a), view(b), 1.0, Par::Seq);
    }
    out
}

/// Adds `-a b` to `out`.
pub(crate) fn subtract_product(out: &mut Matrix, a: &Matrix, b: &Matrix) {
    matmul(view_mut(out), Accum::Add, view(a), view(b), -1.0, Par::Seq);
}

/// Adds `-a b` to the lower triangle of the square `out`.
pub(crate) fn subtract_product_lower(out: &mut Matrix, a: &Matrix, b: &Matrix) {
    triangular::matmul(
        view_mut(out),
        triangular::BlockStructure::TriangularLower,
        Accum::Add,
        view(a),
        triangular::BlockStructure::Rectangular,
        view(b),
        triangular::BlockStructure::Rectangular,
        -1.0,
        Par::Seq,
    );
}

/// Rows of the lower triangle that [`downdate_lower`] updates at once: a strip is one product over
/// its columns up to the diagonal, and at 96 rows little of it lies above.
const STRIP_ROWS: usize = 96;

/// Adds `-c cᵀ` to the lower triangle of `p` (`n × n`, row-major); `c` is `n × width`, column after
/// column. Entries above the diagonal are scratch.
pub(crate) fn downdate_lower(p: &mut [f64], n: usize, c: &[f64], width: usize, threads: usize) {
    if width == 0 {
        return;
    }
    let c = MatRef::from_column_major_slice(&c[..n * width], n, width);
    let p = &mut p[..n * n];
    over_bands(p, STRIP_ROWS * n, threads, &|i, strip: &mut [f64]| {
        let (from, len) = (i * STRIP_ROWS, strip.len() / n);
        let rows = MatMut::from_row_major_slice_mut(strip, len, n);
        matmul(
            rows.subcols_mut(0, from + len),
            Accum::Add,
            c.subrows(from, len),
            c.subrows(0, from + len).transpose(),
            -1.0,
            Par::Seq,
        );
    });
}

/// Adds `-c x` to `out` (`n`); `c` is `n × x.len()`, column after column.
pub(crate) fn subtract_columns(out: &mut [f64], c: &[f64], x: &[f64]) {
    let (n, width) = (out.len(), x.len());
    if width == 0 {
        return;
    }
    matmul(
        MatMut::from_column_major_slice_mut(out, n, 1),
        Accum::Add,
        MatRef::from_column_major_slice(&c[..n * width], n, width),
        MatRef::from_column_major_slice(x, width, 1),
        -1.0,
        Par::Seq,
    );
}

/// Overwrites the symmetric `a` (`n × n`, its lower triangle column after column is read) with its
/// Cholesky factor.
///
/// # Errors
/// [`SolveError::NotPositiveDefinite`] with the first bad pivot.
pub(crate) fn cholesky_in_place<T: Real>(a: &mut [T], n: usize) -> Result<(), SolveError> {
    let need = llt::cholesky_in_place_scratch::<T>(n, Par::Seq, Spec::default());
    let mut scratch = MemBuffer::new(need);
    let factored = llt::cholesky_in_place(
        MatMut::from_column_major_slice_mut(a, n, n),
        llt::LltRegularization::default(),
        Par::Seq,
        MemStack::new(&mut scratch),
        Spec::default(),
    );
    match factored {
        Ok(_) => Ok(()),
        Err(LltError::NonPositivePivot { index }) => Err(SolveError::NotPositiveDefinite {
            pivot: index,
            n,
            value: a[index * n + index].wide(),
        }),
    }
}

/// Overwrites `rhs` (`n × r`, column after column) with `(L Lᵀ)⁻¹ rhs`, `L` from
/// [`cholesky_in_place`].
pub(crate) fn cholesky_solve<T: Real>(factor: &[T], n: usize, rhs: &mut [T]) {
    let r = rhs.len() / n.max(1);
    let factor = MatRef::from_column_major_slice(factor, n, n);
    let mut rhs = MatMut::from_column_major_slice_mut(rhs, n, r);
    tri::solve_lower_triangular_in_place(factor, rhs.rb_mut(), Par::Seq);
    tri::solve_upper_triangular_in_place(factor.transpose(), rhs, Par::Seq);
}

/// Returns `len` zeros in a block of their own.
///
/// glibc takes blocks of up to 32 MiB out of arenas, one a thread, that keep what was freed: the
/// squares of a wide layer's rows, each of another size, would stay there several times over.
/// Larger blocks are mapped alone and go when they are freed; pages that are not touched cost nothing.
pub(crate) fn zeros_apart<T: Real>(len: usize) -> Vec<T> {
    const LARGE: usize = 4 << 20;
    const MAPPED: usize = (32 << 20) + 4096;
    let size = size_of::<T>();
    let least = if len.saturating_mul(size) > LARGE {
        MAPPED / size
    } else {
        0
    };
    let mut zeros = Vec::with_capacity(len.max(least));
    zeros.resize(len, T::ZERO);
    zeros
}

/// Returns a buffer of `len` values that takes over an old one if that is large enough, with what
/// it held.
pub(crate) fn taken_over<T: Real>(mut old: Vec<T>, len: usize) -> Vec<T> {
    if old.capacity() < len {
        return zeros_apart(len);
    }
    old.resize(len, T::ZERO);
    old
}

/// Overwrites `out` (`m × d`) with `a h` in f32; `a` is `m × d`, `h` `d × d`, all row-major.
pub(crate) fn product_f32(out: &mut [f32], a: &[f32], h: &[f32], d: usize) {
    let m = a.len() / d.max(1);
    matmul(
        MatMut::from_row_major_slice_mut(out, m, d),
        Accum::Replace,
        MatRef::from_row_major_slice(a, m, d),
        MatRef::from_row_major_slice(h, d, d),
        1.0,
        Par::Seq,
    );
}

/// Strided f32 operand: `rows × cols` with the given strides over `data`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Distance between rows when `by_rows`, otherwise between columns.
    pub(crate) stride: usize,
    pub(crate) by_rows: bool,
}

impl<'a> Strided<'a> {
    /// Returns row `i` when stored by rows, otherwise column `i`.
    pub(crate) fn outer(self, i: usize) -> &'a [f32] {
        let inner = if self.by_rows { self.cols } else { self.rows };
        &self.data[i * self.stride..i * self.stride + inner]
    }

    /// Returns the rows `from..from + len`.
    pub(crate) fn slice_rows(self, from: usize, len: usize) -> Self {
        let skip = if self.by_rows {
            from * self.stride
        } else {
            from
        };
        Self {
            data: self.data.get(skip..).unwrap_or_default(),
            rows: len,
            ..self
        }
    }

    /// Returns the columns `from..from + len`.
    pub(crate) fn slice_cols(self, from: usize, len: usize) -> Self {
        let skip = if self.by_rows {
            from
        } else {
            from * self.stride
        };
        Self {
            data: self.data.get(skip..).unwrap_or_default(),
            cols: len,
            ..self
        }
    }

    fn mat(self) -> MatRef<'a, f32> {
        let len = |outer: usize, inner: usize| {
            if outer == 0 || inner == 0 {
                0
            } else {
                (outer - 1) * self.stride + inner
            }
        };
        let (rows, cols) = (self.rows, self.cols);
        if self.by_rows {
            let data = &self.data[..len(rows, cols)];
            row_major(data, rows, cols, self.stride)
        } else {
            let data = &self.data[..len(cols, rows)];
            row_major(data, cols, rows, self.stride).transpose()
        }
    }
}

fn row_major(data: &[f32], rows: usize, cols: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice_with_stride(data, rows, cols, stride)
}

/// Overwrites the lower triangle of `out` (`d × d`) with `xᵀ x` in f32.
pub(crate) fn syrk_f32(out: &mut [f32], x: Strided<'_>) {
    let d = x.cols;
    let m = x.mat();
    // The row-major lower triangle is the column-major upper one; asked for so, faer
    // takes 0.8 of the time at 144 columns.
    triangular::matmul(
        MatMut::from_column_major_slice_mut(out, d, d),
        triangular::BlockStructure::TriangularUpper,
        Accum::Replace,
        m.transpose(),
        triangular::BlockStructure::Rectangular,
        m,
        triangular::BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
}

/// Overwrites `out` (`d`) with the sum of the rows of `x` in f32.
pub(crate) fn sum_rows_f32(out: &mut [f32], x: Strided<'_>, ones: &[f32]) {
    matmul(
        MatMut::from_column_major_slice_mut(out, x.cols, 1),
        Accum::Replace,
        x.mat().transpose(),
        MatRef::from_column_major_slice(&ones[..x.rows], x.rows, 1),
        1.0,
        Par::Seq,
    );
}

/// Overwrites `out` (`d_in × d_out`) with `xᵀ y` in f32.
pub(crate) fn cross_f32(out: &mut [f32], x: Strided<'_>, y: Strided<'_>) {
    matmul(
        MatMut::from_row_major_slice_mut(out, x.cols, y.cols),
        Accum::Replace,
        x.mat().transpose(),
        y.mat(),
        1.0,
        Par::Seq,
    );
}

/// Returns a square f32 product, for the benchmark of the Gram accumulation.
#[doc(hidden)]
pub fn square_product_f32(out: &mut [f32], a: &[f32], b: &[f32], n: usize) {
    matmul(
        MatMut::from_row_major_slice_mut(out, n, n),
        Accum::Replace,
        MatRef::from_row_major_slice(a, n, n),
        MatRef::from_row_major_slice(b, n, n),
        1.0,
        Par::Seq,
    );
}
