//! All weights on some inputs, few directions on all others, together closest to a layer.
//!
//! With the weights `S` of the whole inputs `s` free and a product `U V` on the others `r`, the best `S` for a
//! given product is `S = W_s + (W_r − U V) G_rs G_ss⁻¹`: the whole inputs take over what they can tell of the
//! others. What is then left is `‖(W_r − U V) G'½‖²` with the Schur complement
//! `G' = G_rr − G_rs G_ss⁻¹ G_sr`, so that the best product is the spectrum of `W_r` under `G'`: both parts have
//! a closed form together.
//!
//! With the middle of a convolution's kernel as the whole inputs this is a layer at two scales: a small kernel for
//! everything and a large one for few directions, as the branches of Szegedy et al., "Going deeper with
//! convolutions", CVPR 2015, section 4.

use super::{Spectrum, spectrum, symmetric};
use crate::error::{SolveError, same};
use crate::factor::{cholesky, product};
use crate::{LeastSquares, Matrix};

/// Damping of the whole inputs' Gram, relative to its mean diagonal.
const DAMPING: f64 = 1e-8;

/// A layer that keeps all weights on some inputs, cut at any rank on the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    whole: Vec<usize>,
    rest: Vec<usize>,
    /// `W_s`, `r × |s|`.
    kept: Matrix,
    /// `W_r`, `r × |r|`.
    others: Matrix,
    /// `G_rs G_ss⁻¹`, `|r| × |s|`.
    told: Matrix,
    spectrum: Spectrum,
}

/// The two parts of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct TwoScales {
    /// All weights on the whole inputs, `r × |s|` in their order.
    pub whole: Matrix,
    /// `U`, `r × k`.
    pub outer: Matrix,
    /// `V`, `k × d`, zero on the whole inputs.
    pub inner: Matrix,
    /// What both amount to, `r × d`.
    pub composed: Matrix,
}

impl Scales {
    /// Returns the split of a layer's weights (`r × d`) with all weights on the inputs `whole`, ascending.
    ///
    /// # Errors
    /// [`SolveError::Shape`] if the weights have not `d` columns, [`SolveError::Index`] for inputs that are not
    /// there; a Gram that has no factor even damped.
    pub fn new(
        problem: &LeastSquares,
        weights: &Matrix,
        whole: &[usize],
    ) -> Result<Self, SolveError> {
        same("weights' inputs", problem.n_in(), weights.cols)?;
        let rest: Vec<usize> = (0..weights.cols)
            .filter(|i| whole.binary_search(i).is_err())
            .collect();
        let rows = problem.gram.select_rows(whole)?;
        let mut own = rows.select_cols(whole)?;
        let mean = own.diagonal().iter().sum::<f64>() / whole.len().max(1) as f64;
        for i in 0..whole.len() {
            own.set(i, i, own.at(i, i) + (DAMPING * mean).max(f64::MIN_POSITIVE));
        }
        let common = rows.select_cols(&rest)?;
        let mut told = common.clone();
        cholesky(&own)?.solve(&mut told);
        let told = told.transposed();
        let theirs = problem.gram.select_rows(&rest)?.select_cols(&rest)?;
        let explained = product(&told, &common);
        let mut left = theirs;
        for (l, e) in left.data.iter_mut().zip(&explained.data) {
            *l -= e;
        }
        let others = weights.select_cols(&rest)?;
        Ok(Self {
            spectrum: spectrum(&symmetric(&left), &others)?,
            kept: weights.select_cols(whole)?,
            whole: whole.to_vec(),
            rest,
            others,
            told,
        })
    }

    /// Returns the best parts with a product of rank `rank` at most.
    ///
    /// # Errors
    /// [`SolveError::Index`] never: the rank is cut to what there is.
    pub fn factors(&self, rank: usize) -> Result<TwoScales, SolveError> {
        let (outer, narrow) = self.spectrum.factors(rank)?;
        let thin = outer.times(&narrow);
        let mut missing = self.others.clone();
        for (m, t) in missing.data.iter_mut().zip(&thin.data) {
            *m -= t;
        }
        let mut whole = product(&missing, &self.told);
        for (w, k) in whole.data.iter_mut().zip(&self.kept.data) {
            *w += k;
        }
        let d = self.whole.len() + self.rest.len();
        let mut composed = Matrix::zeros(thin.rows, d);
        spread(&mut composed, &thin, &self.rest);
        spread(&mut composed, &whole, &self.whole);
        let mut inner = Matrix::zeros(narrow.rows, d);
        spread(&mut inner, &narrow, &self.rest);
        Ok(TwoScales {
            whole,
            outer,
            inner,
            composed,
        })
    }
}

/// Writes the columns of `from` to the places `at` of `to`.
fn spread(to: &mut Matrix, from: &Matrix, at: &[usize]) {
    for row in 0..from.rows {
        for (place, value) in at.iter().zip(from.row(row)) {
            to.set(row, *place, *value);
        }
    }
}
