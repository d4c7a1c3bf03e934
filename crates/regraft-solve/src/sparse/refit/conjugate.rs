//! Conjugate gradients on many rows at once: one product with the Gram per step.

use super::{Scaled, TARGET};
use crate::factor::{product_f32, subtract_product};
use crate::matrix::Matrix;
use crate::problem::dot;
use crate::sparse::Objective;

/// Rows of a block: a product of so many rows runs at nearly full speed, and a layer of a few
/// hundred rows still has work for several threads. Fixed, so that no sum depends on the threads.
pub(super) const BLOCK_ROWS: usize = 96;

/// By how much the steps in f32 lower the residual before it is computed anew in f64.
const INNER: f32 = 1e-5;

/// A round must lower the residual at least to this share, or f32 gets no further.
const PROGRESS: f64 = 0.5;

/// What a block came to.
#[derive(Debug)]
pub(super) struct Found {
    /// One row for each row of the block, zero outside its support.
    pub(super) weights: Matrix,
    /// `‖(g − v H)_S‖ / ‖g_S‖` of each row.
    pub(super) residuals: Vec<f64>,
    /// Products with `H` in f32.
    pub(super) steps: usize,
}

/// Returns the weights of rows on their supports after at most `most` steps.
pub(super) fn solve(
    objective: &Objective,
    scaled: &Scaled,
    rows: &[(usize, &[bool])],
    most: usize,
) -> Found {
    let d = objective.n_in();
    let mut found = Found {
        weights: Matrix::zeros(rows.len(), d),
        residuals: vec![0.0; rows.len()],
        steps: 0,
    };
    let mut active = Vec::new();
    let mut residual = Matrix::zeros(rows.len(), d);
    let mut norms = vec![0.0; rows.len()];
    for (i, &(row, kept)) in rows.iter().enumerate() {
        masked_copy(residual.row_mut(i), objective.g.row(row), kept);
        norms[i] = dot(residual.row(i), residual.row(i)).sqrt();
        if norms[i] > 0.0 {
            found.residuals[i] = 1.0;
            active.push(i);
        }
    }
    while !active.is_empty() && found.steps < most {
        let budget = most - found.steps;
        let kept: Vec<&[bool]> = active.iter().map(|&i| rows[i].1).collect();
        let mut inner = Inner::new(d, &kept);
        for (k, &i) in active.iter().enumerate() {
            inner.start(k, residual.row(i), &scaled.root);
        }
        found.steps += inner.run(&scaled.h, budget);
        let mut weights = Matrix::zeros(active.len(), d);
        let mut left = Matrix::zeros(active.len(), d);
        for (k, &i) in active.iter().enumerate() {
            weights.row_mut(k).copy_from_slice(found.weights.row(i));
            inner.add_to(k, weights.row_mut(k), &scaled.root);
            left.row_mut(k).copy_from_slice(objective.g.row(rows[i].0));
        }
        subtract_product(&mut left, &weights, &objective.h);
        let mut still = Vec::new();
        for (k, &i) in active.iter().enumerate() {
            masked_copy(residual.row_mut(i), left.row(k), rows[i].1);
            let now = dot(residual.row(i), residual.row(i)).sqrt() / norms[i];
            let before = found.residuals[i];
            if now < before {
                found.weights.row_mut(i).copy_from_slice(weights.row(k));
                found.residuals[i] = now;
            }
            if now > TARGET && now < PROGRESS * before {
                still.push(i);
            }
        }
        active = still;
    }
    found
}

fn masked_copy(to: &mut [f64], from: &[f64], kept: &[bool]) {
    for ((to, from), kept) in to.iter_mut().zip(from).zip(kept) {
        *to = if *kept { *from } else { 0.0 };
    }
}

/// The steps in f32, from zero, over rows scaled to a right side of norm 1.
struct Inner {
    d: usize,
    /// 1 on the support, 0 off it; all blocks `m × d`.
    mask: Vec<f32>,
    x: Vec<f32>,
    residual: Vec<f32>,
    direction: Vec<f32>,
    image: Vec<f32>,
    /// Squared norm of each row's residual, and what it was scaled by.
    square: Vec<f32>,
    size: Vec<f64>,
}

impl Inner {
    fn new(d: usize, kept: &[&[bool]]) -> Self {
        let m = kept.len();
        let mask = kept
            .iter()
            .flat_map(|row| row.iter().map(|k| f32::from(u8::from(*k))));
        Self {
            d,
            mask: mask.collect(),
            x: vec![0.0; m * d],
            residual: vec![0.0; m * d],
            direction: vec![0.0; m * d],
            image: vec![0.0; m * d],
            square: vec![0.0; m],
            size: vec![0.0; m],
        }
    }

    fn start(&mut self, k: usize, residual: &[f64], root: &[f64]) {
        let row = k * self.d..(k + 1) * self.d;
        let scaled: Vec<f64> = residual.iter().zip(root).map(|(v, s)| v * s).collect();
        let size = dot(&scaled, &scaled).sqrt();
        self.size[k] = size;
        if size > 0.0 {
            for (to, v) in self.residual[row.clone()].iter_mut().zip(&scaled) {
                *to = (v / size) as f32;
            }
        }
        self.direction[row.clone()].copy_from_slice(&self.residual[row.clone()]);
        self.square[k] = dot_f32(&self.residual[row.clone()], &self.residual[row]);
    }

    /// Runs until every row is done, at most `most` steps; returns how many.
    fn run(&mut self, h: &[f32], most: usize) -> usize {
        let d = self.d;
        let mut open: Vec<bool> = self.square.iter().map(|s| *s > 0.0).collect();
        for step in 0..most {
            if !open.contains(&true) {
                return step;
            }
            product_f32(&mut self.image, &self.direction, h, d);
            for k in (0..open.len()).filter(|&k| open[k]).collect::<Vec<_>>() {
                open[k] = self.advance(k);
            }
        }
        most
    }

    /// Makes one row's step; returns whether it needs another.
    fn advance(&mut self, k: usize) -> bool {
        let row = k * self.d..(k + 1) * self.d;
        let (mask, x) = (&self.mask[row.clone()], &mut self.x[row.clone()]);
        let residual = &mut self.residual[row.clone()];
        let direction = &mut self.direction[row.clone()];
        let image = &mut self.image[row];
        for (v, m) in image.iter_mut().zip(mask) {
            *v *= m;
        }
        let curvature = dot_f32(direction, image);
        if curvature.is_nan() || curvature <= 0.0 {
            return false;
        }
        let alpha = self.square[k] / curvature;
        for ((x, r), (p, q)) in x
            .iter_mut()
            .zip(&mut *residual)
            .zip(direction.iter().zip(&*image))
        {
            *x += alpha * p;
            *r -= alpha * q;
        }
        let square = dot_f32(residual, residual);
        let beta = square / self.square[k];
        self.square[k] = square;
        for (p, r) in direction.iter_mut().zip(&*residual) {
            *p = r + beta * *p;
        }
        // The right side has norm 1.
        square.is_finite() && square > INNER * INNER
    }

    /// Adds a row's solution, in the units of the weights.
    fn add_to(&self, k: usize, weights: &mut [f64], root: &[f64]) {
        let x = &self.x[k * self.d..(k + 1) * self.d];
        for ((w, x), s) in weights.iter_mut().zip(x).zip(root) {
            *w += f64::from(*x) * s * self.size[k];
        }
    }
}

/// Sixteen running sums: fast, and closer than one in f32.
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (mut of_a, mut of_b) = (a.chunks_exact(16), b.chunks_exact(16));
    for (a, b) in (&mut of_a).zip(&mut of_b) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    let rest = of_a.remainder().iter().zip(of_b.remainder());
    rest.map(|(x, y)| x * y).sum::<f32>() + lanes.iter().sum::<f32>()
}
