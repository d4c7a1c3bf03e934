//! A convolution as a sum of products of one vector for each of its axes (canonical polyadic, CP).
//!
//! `W[o, c, y, x] ≈ Σ_k u_k[o] a_k[c] b_k[y] e_k[x]` runs as four thin layers: 1x1 from the inputs to `k` channels, a
//! column and a row on each of them alone, and 1x1 to the outputs. Terms are found one after the other on what is
//! left, `E = W − Σ_k u_k (a_k ⊗ b_k ⊗ e_k)`: the strongest direction of the outputs `E G Eᵀ`, and the product of
//! three vectors nearest to its row. Then each vector of each term in turn takes its best value for all others,
//! which is a least-squares problem of its own size on the layer's own Gram: no turn raises the error.
//!
//! # Reference
//! Lebedev et al., "Speeding-up convolutional neural networks using fine-tuned CP-decomposition", ICLR 2015; turns
//! over single terms as in Cichocki and Phan 2009 (hierarchical alternating least squares), here under the inputs'
//! Gram in place of the identity.

use crate::error::{SolveError, same};
use crate::factor::{cholesky, product};
use crate::problem::dot;
use crate::{LeastSquares, Matrix};

/// Turns over all terms at each rank that is asked for.
const SWEEPS: usize = 2;
/// Turns of a new term alone.
const FIRST_TURNS: usize = 4;
/// Steps of the power method.
const POWER_STEPS: usize = 12;
/// Damping of a vector's own problem, relative to its mean diagonal.
const DAMPING: f64 = 1e-9;

/// One product of four vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// One number for each output.
    pub outputs: Vec<f64>,
    /// One for each input channel.
    pub channels: Vec<f64>,
    /// One for each row of the kernel, and one for each column.
    pub kernel: [Vec<f64>; 2],
}

impl Term {
    /// Returns the kernel, rows times columns.
    fn taps(&self) -> Vec<f64> {
        let [column, line] = &self.kernel;
        let all = column.iter().flat_map(|b| line.iter().map(move |e| b * e));
        all.collect()
    }

    /// Returns the product of channels and kernel, `d` numbers.
    pub fn row(&self) -> Vec<f64> {
        let taps = self.taps();
        let all = self.channels.iter();
        all.flat_map(|a| taps.iter().map(move |t| a * t)).collect()
    }
}

/// Returns the terms of a layer's weights (`r × d`, a kernel of the given extents innermost) for each number of
/// terms in `ranks`, ascending.
///
/// # Errors
/// [`SolveError::Shape`] if the weights have not `d` columns or the kernel does not divide them;
/// [`SolveError::NotFinite`] if a vector is no number.
pub fn cp(
    problem: &LeastSquares,
    weights: &Matrix,
    kernel: [usize; 2],
    ranks: &[usize],
) -> Result<Vec<Vec<Term>>, SolveError> {
    same("weights' inputs", problem.n_in(), weights.cols)?;
    let taps = (kernel[0] * kernel[1]).max(1);
    let channels = weights.cols / taps;
    same("inputs in whole kernels", channels * taps, weights.cols)?;
    let mut work = Work {
        gram: &problem.gram,
        left: weights.clone(),
        extents: [channels, kernel[0], kernel[1]],
        terms: Vec::new(),
    };
    let mut found = Vec::with_capacity(ranks.len());
    for rank in ranks {
        while work.terms.len() < *rank {
            work.add_term()?;
        }
        for _ in 0..SWEEPS {
            for at in 0..work.terms.len() {
                work.improve(at)?;
            }
        }
        found.push(work.terms.clone());
    }
    Ok(found)
}

struct Work<'a> {
    gram: &'a Matrix,
    /// What the terms leave, `r × d`.
    left: Matrix,
    extents: [usize; 3],
    terms: Vec<Term>,
}

impl Work<'_> {
    /// Adds a term for the strongest direction of what is left.
    fn add_term(&mut self) -> Result<(), SolveError> {
        let image = product(&self.left, self.gram);
        let covariance = product(&image, &self.left.transposed());
        let outputs = strongest(&covariance)?;
        let row = rows_along(&self.left, &outputs);
        let (channels, kernel) = nearest(&row, self.extents);
        self.terms.push(Term {
            outputs,
            channels,
            kernel,
        });
        let at = self.terms.len() - 1;
        self.shift(at, -1.0);
        for _ in 0..FIRST_TURNS {
            self.improve(at)?;
        }
        Ok(())
    }

    /// Adds a term to what is left, or takes it away.
    fn shift(&mut self, at: usize, sign: f64) {
        let term = &self.terms[at];
        let row = term.row();
        for (o, u) in term.outputs.iter().enumerate() {
            let factor = sign * u;
            if factor != 0.0 {
                let left = self.left.row_mut(o).iter_mut().zip(&row);
                left.for_each(|(l, r)| *l += factor * r);
            }
        }
    }

    /// Gives each vector of a term its best value for all others.
    fn improve(&mut self, at: usize) -> Result<(), SolveError> {
        self.shift(at, 1.0);
        let row = self.terms[at].row();
        let seen = times(self.gram, &row)?;
        let energy = dot(&row, &seen);
        if energy > 0.0 {
            let best = |o: usize| dot(self.left.row(o), &seen) / energy;
            self.terms[at].outputs = (0..self.left.rows).map(best).collect();
        }
        let outputs = &self.terms[at].outputs;
        let scale = dot(outputs, outputs);
        if scale > 0.0 {
            // Least of ‖row‖² − 2 row · wanted under the Gram.
            let wanted = times(self.gram, &rows_along(&self.left, outputs))?;
            let wanted: Vec<f64> = wanted.into_iter().map(|v| v / scale).collect();
            self.solve_channels(at, &wanted)?;
            self.solve_kernel(at, &wanted)?;
        }
        self.shift(at, -1.0);
        Ok(())
    }

    /// Solves for the channels of a term.
    fn solve_channels(&mut self, at: usize, wanted: &[f64]) -> Result<(), SolveError> {
        let taps = self.terms[at].taps();
        let n = self.extents[0];
        let mut own = Matrix::zeros(n, n);
        for i in 0..self.gram.rows {
            let factor = taps[i % taps.len()];
            let kernels = self.gram.row(i).chunks_exact(taps.len());
            let sums = own.row_mut(i / taps.len()).iter_mut().zip(kernels);
            sums.for_each(|(sum, kernel)| *sum += factor * dot(kernel, &taps));
        }
        let right = wanted.chunks_exact(taps.len());
        let right: Vec<f64> = right.map(|kernel| dot(kernel, &taps)).collect();
        self.terms[at].channels = solved(own, right)?.unwrap_or(self.terms[at].channels.clone());
        Ok(())
    }

    /// Solves for the column of the kernel of a term, then for its row.
    fn solve_kernel(&mut self, at: usize, wanted: &[f64]) -> Result<(), SolveError> {
        let [_, h, w] = self.extents;
        let taps = h * w;
        let channels = &self.terms[at].channels;
        // Gram and right side of the whole kernel, for these channels.
        let mut own = Matrix::zeros(taps, taps);
        let mut line = vec![0.0; taps];
        for i in 0..self.gram.rows {
            line.fill(0.0);
            let kernels = self.gram.row(i).chunks_exact(taps).zip(channels);
            for (kernel, a) in kernels {
                line.iter_mut().zip(kernel).for_each(|(l, g)| *l += a * g);
            }
            let factor = channels[i / taps];
            let sums = own.row_mut(i % taps).iter_mut().zip(&line);
            sums.for_each(|(sum, l)| *sum += factor * l);
        }
        let mut right = vec![0.0; taps];
        for (kernel, a) in wanted.chunks_exact(taps).zip(channels) {
            right.iter_mut().zip(kernel).for_each(|(r, v)| *r += a * v);
        }
        for axis in 0..2 {
            let n = [h, w][axis];
            let other = self.terms[at].kernel[1 - axis].clone();
            // Where a tap lies along this axis, and along the other one.
            let places = |tap: usize| {
                let place = [tap / w, tap % w];
                (place[axis], place[1 - axis])
            };
            let mut along = Matrix::zeros(n, n);
            let mut wanted = vec![0.0; n];
            for i in 0..taps {
                let (a, b) = places(i);
                wanted[a] += other[b] * right[i];
                for j in 0..taps {
                    let (c, d) = places(j);
                    let sum = along.at(a, c) + other[b] * other[d] * own.at(i, j);
                    along.set(a, c, sum);
                }
            }
            if let Some(found) = solved(along, wanted)? {
                self.terms[at].kernel[axis] = found;
            }
        }
        Ok(())
    }
}

/// Solves a vector's own problem, a little damped; `None` where nothing sees the vector.
fn solved(mut own: Matrix, right: Vec<f64>) -> Result<Option<Vec<f64>>, SolveError> {
    let n = own.rows;
    let mean = own.diagonal().iter().sum::<f64>() / n.max(1) as f64;
    if mean <= 0.0 {
        return Ok(None);
    }
    for i in 0..n {
        own.set(i, i, own.at(i, i) + DAMPING * mean);
    }
    let mut right = Matrix::from_vec(n, 1, right)?;
    let Ok(factor) = cholesky(&own) else {
        return Ok(None);
    };
    factor.solve(&mut right);
    right.check_finite("term")?;
    Ok(Some(right.data))
}

/// Returns the product of the matrix with a vector.
fn times(matrix: &Matrix, vector: &[f64]) -> Result<Vec<f64>, SolveError> {
    let column = Matrix::from_vec(vector.len(), 1, vector.to_vec())?;
    Ok(product(matrix, &column).data)
}

/// Returns `Eᵀ u`.
fn rows_along(matrix: &Matrix, along: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; matrix.cols];
    for (o, u) in along.iter().enumerate() {
        let parts = sum.iter_mut().zip(matrix.row(o));
        parts.for_each(|(s, v)| *s += u * v);
    }
    sum
}

/// Returns the eigenvector of the largest eigenvalue, nearly, of length one.
fn strongest(covariance: &Matrix) -> Result<Vec<f64>, SolveError> {
    let diagonal = covariance.diagonal();
    let first = (0..diagonal.len()).max_by(|a, b| diagonal[*a].total_cmp(&diagonal[*b]));
    let mut vector = first.map_or_else(Vec::new, |i| covariance.row(i).to_vec());
    for _ in 0..POWER_STEPS {
        vector = times(covariance, &normalised(vector))?;
    }
    Ok(normalised(vector))
}

/// Returns channels and kernel whose product is near to a row of inputs, by turns from the strongest channel.
fn nearest(row: &[f64], [channels, h, w]: [usize; 3]) -> (Vec<f64>, [Vec<f64>; 2]) {
    let kernels = || row.chunks_exact((h * w).max(1));
    let energy = |kernel: &[f64]| dot(kernel, kernel);
    let first = kernels().max_by(|a, b| energy(a).total_cmp(&energy(b)));
    let first = first.unwrap_or_default();
    let lines = first.chunks_exact(w.max(1));
    let line = lines.max_by(|a, b| energy(a).total_cmp(&energy(b)));
    let mut line = line.unwrap_or_default().to_vec();
    let mut column = vec![0.0; h];
    let mut along = vec![0.0; channels];
    let mut kernel = first.to_vec();
    for _ in 0..POWER_STEPS {
        column = normalised(
            kernel
                .chunks_exact(w.max(1))
                .map(|l| dot(l, &line))
                .collect(),
        );
        line.fill(0.0);
        for (b, own) in column.iter().zip(kernel.chunks_exact(w.max(1))) {
            line.iter_mut().zip(own).for_each(|(l, v)| *l += b * v);
        }
        line = normalised(line);
        let taps: Vec<f64> = column
            .iter()
            .flat_map(|b| line.iter().map(move |e| b * e))
            .collect();
        along = kernels().map(|kernel| dot(kernel, &taps)).collect();
        kernel.fill(0.0);
        for (a, own) in along.iter().zip(kernels()) {
            kernel.iter_mut().zip(own).for_each(|(k, v)| *k += a * v);
        }
    }
    (along, [column, line])
}

/// Returns a vector of length one along another one, or zeros.
fn normalised(vector: Vec<f64>) -> Vec<f64> {
    let length = dot(&vector, &vector).sqrt();
    if length > 0.0 && length.is_finite() {
        return vector.into_iter().map(|v| v / length).collect();
    }
    vec![0.0; vector.len()]
}
