//! The layer's output error over shared weights, and the two steps that lower it.
//!
//! With `e = w − w'` for one output's weights the error is `eᵀ G e`. For a given assignment `S`
//! (`w' = S c`) it is a quadratic of the few entries `c`, whose normal equations sum over all outputs:
//! `(Σ Sᵀ G S) c = Σ Sᵀ G w` ([`System`]). For given entries one weight at a time goes to the entry
//! nearest to `w'_i + (G e)_i / G_ii`, the best value given all others ([`reassign`]): what an
//! earlier weight lost, a later one pays back. Neither step raises the error.

use super::fit::Part;
use super::kmeans::nearest;
use crate::error::SolveError;
use crate::factor::cholesky;
use crate::matrix::Matrix;

/// Damping of the normal equations, relative to their mean diagonal, raised until they have a
/// factor: entries that few weights have, or that differ where no input does, are not determined.
const LADDER: [f64; 5] = [1e-10, 1e-8, 1e-6, 1e-4, 1e-2];

/// Sweeps over the weights of an output at most.
const MAX_SWEEPS: usize = 4;

/// Returns `Σ_o w_o G w_oᵀ` over the rows of `weights` (`r × d`).
///
/// # Shapes
/// `grams`: one matrix of order `d` for each of as many equal ranges of rows, none for the identity.
pub fn output_energy(weights: &Matrix, grams: &[Matrix]) -> f64 {
    let part = Part { weights, grams };
    let row = |o: usize| {
        let w = weights.row(o);
        match part.gram(o) {
            None => w.iter().map(|v| v * v).sum::<f64>(),
            Some(gram) => dot(w, &gram_times(gram, w)),
        }
    };
    (0..weights.rows).map(row).sum()
}

/// Returns the squared error of the shared weights, as [`output_energy`] measures.
pub(super) fn error(part: &Part<'_>, entries: &[f64], indices: &[u16]) -> f64 {
    let mut left = part.weights.clone();
    for (w, i) in left.data.iter_mut().zip(indices) {
        *w -= entries[usize::from(*i)];
    }
    output_energy(&left, part.grams).max(0.0)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add_scaled(out: &mut [f64], factor: f64, row: &[f64]) {
    for (o, v) in out.iter_mut().zip(row) {
        *o += factor * v;
    }
}

/// Returns `G x`, at the cost of the entries of `x` that are not zero.
fn gram_times(gram: &Matrix, x: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    for (j, v) in x.iter().enumerate().filter(|(_, v)| **v != 0.0) {
        add_scaled(&mut out, *v, gram.row(j));
    }
    out
}

/// Entries by value, for the search of the nearest.
struct Sorted {
    values: Vec<f64>,
    index: Vec<u16>,
}

impl Sorted {
    /// Returns the entries from number `first` on.
    fn new(entries: &[f64], first: usize) -> Self {
        let mut order: Vec<usize> = (first..entries.len()).collect();
        order.sort_by(|a, b| entries[*a].total_cmp(&entries[*b]));
        Self {
            values: order.iter().map(|i| entries[*i]).collect(),
            index: order.iter().map(|i| *i as u16).collect(),
        }
    }
}

/// Moves weights to better entries. Elements of entry 0 stay if `zero`.
pub(super) fn reassign(part: &Part<'_>, entries: &[f64], zero: bool, indices: &mut [u16]) {
    let sorted = Sorted::new(entries, zero.into());
    let d = part.weights.cols;
    if d == 0 || sorted.values.is_empty() {
        return;
    }
    for (o, own) in indices.chunks_mut(d).enumerate() {
        let w = part.weights.row(o);
        let Some(gram) = part.gram(o) else { continue };
        let left: Vec<f64> = (w.iter().zip(own.iter()))
            .map(|(w, i)| w - entries[usize::from(*i)])
            .collect();
        let mut pull = gram_times(gram, &left);
        for _ in 0..MAX_SWEEPS {
            let mut moved = 0;
            for (j, index) in own.iter_mut().enumerate() {
                let (at, curvature) = (usize::from(*index), gram.at(j, j));
                if zero && at == 0 || curvature <= 0.0 {
                    continue;
                }
                let wanted = entries[at] + pull[j] / curvature;
                let place = nearest(&sorted.values, wanted);
                let step = sorted.values[place] - entries[at];
                if step != 0.0 {
                    add_scaled(&mut pull, -step, gram.row(j));
                    *index = sorted.index[place];
                    moved += 1;
                }
            }
            if moved == 0 {
                break;
            }
        }
    }
}

/// The normal equations of the entries.
pub(super) struct System {
    matrix: Matrix,
    right: Vec<f64>,
    zero: bool,
}

impl System {
    /// Returns equations of `k` entries; entry 0 stays as it is if `zero`.
    pub(super) fn new(k: usize, zero: bool) -> Self {
        Self {
            matrix: Matrix::zeros(k, k),
            right: vec![0.0; k],
            zero,
        }
    }

    /// Adds `scale` times the error of a layer.
    pub(super) fn add(&mut self, part: &Part<'_>, indices: &[u16], scale: f64) {
        let d = part.weights.cols.max(1);
        for (o, own) in indices.chunks(d).enumerate() {
            let Some(gram) = part.gram(o) else { continue };
            let w = part.weights.row(o);
            let moved = |j: &usize| !self.zero || own[*j] > 0;
            let support: Vec<usize> = (0..own.len()).filter(moved).collect();
            for &i in &support {
                let row = gram.row(i);
                let a = usize::from(own[i]);
                let line = self.matrix.row_mut(a);
                let mut right = 0.0;
                for &j in &support {
                    line[usize::from(own[j])] += scale * row[j];
                    right += row[j] * w[j];
                }
                self.right[a] += scale * right;
            }
        }
    }

    /// Returns entries that lower the error, from `entries` on.
    ///
    /// The damping holds the entries where they are, not at zero: any damping lowers the error.
    pub(super) fn solve(&self, entries: &[f64]) -> Result<Vec<f64>, SolveError> {
        let k = entries.len();
        let mean = self.matrix.diagonal().iter().sum::<f64>() / k.max(1) as f64;
        if mean <= 0.0 {
            return Ok(entries.to_vec());
        }
        let residual: Vec<f64> = (0..k)
            .map(|i| self.right[i] - dot(self.matrix.row(i), entries))
            .collect();
        let mut last = None;
        for damping in LADDER {
            let mut damped = self.matrix.clone();
            for i in 0..k {
                damped.set(i, i, self.matrix.at(i, i) + damping * mean);
            }
            match cholesky(&damped) {
                Ok(factor) => {
                    let mut step = Matrix::from_vec(k, 1, residual)?;
                    factor.solve(&mut step);
                    return Ok(entries.iter().zip(&step.data).map(|(e, s)| e + s).collect());
                }
                Err(failure) => last = Some(failure),
            }
        }
        last.map_or_else(|| Ok(entries.to_vec()), Err)
    }
}
