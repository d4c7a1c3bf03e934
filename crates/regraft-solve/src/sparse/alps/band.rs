//! Some outputs of the layer in f32: what one thread works on at a time.

use super::super::Objective;
use crate::factor::blocked::{BlockedFactor, product_rows};

/// Outputs of a band at most: enough to feed a product, few enough for several threads.
const MOST_ROWS: usize = 192;

/// Outputs of a band at least, and the number of bands that smaller layers are cut into.
const LEAST_ROWS: usize = 16;
const WANTED_BANDS: usize = 4;

/// State of some outputs, all in scaled weights (`b = v s`), row after row.
pub(super) struct Band {
    /// Outputs of the band.
    pub(super) rows: usize,
    /// `G / s`.
    right: Vec<f32>,
    /// `W̃ s`.
    start: Vec<f32>,
    /// `B`, without a mask.
    free: Vec<f32>,
    /// `B + V/ρ`, of which `D` is the kept part.
    pub(super) shifted: Vec<f32>,
    /// `V`.
    dual: Vec<f32>,
    /// Where `D` is not zero.
    pub(super) kept: Vec<bool>,
    last_kept: Vec<bool>,
    /// Steps of conjugate gradients, and their largest relative residual.
    pub(super) steps: usize,
    pub(super) residual: f64,
}

impl Band {
    /// Cuts the layer into bands of whole `unit`s of outputs, by its shape alone.
    pub(super) fn cut(objective: &Objective, scale: &[f64], unit: usize) -> Vec<Self> {
        let (r, d) = (objective.n_out(), objective.n_in());
        let rows = r
            .div_ceil(WANTED_BANDS)
            .clamp(LEAST_ROWS, MOST_ROWS)
            .next_multiple_of(unit);
        let len = (rows * d).max(1);
        let pairs = objective
            .g
            .data
            .chunks(len)
            .zip(objective.target.data.chunks(len));
        let scaled = |values: &[f64], factor: &dyn Fn(f64, f64) -> f64| -> Vec<f32> {
            let rows = values.chunks_exact(d);
            rows.flat_map(|row| row.iter().zip(scale).map(|(v, s)| factor(*v, *s) as f32))
                .collect()
        };
        let band = |(g, target): (&[f64], &[f64])| Self {
            rows: g.len() / d,
            right: scaled(g, &|v, s| v / s),
            start: scaled(target, &|v, s| v * s),
            free: vec![0.0; g.len()],
            shifted: vec![0.0; g.len()],
            dual: vec![0.0; g.len()],
            kept: vec![true; g.len()],
            last_kept: vec![true; g.len()],
            steps: 0,
            residual: 0.0,
        };
        pairs.map(band).collect()
    }

    /// Returns to `W̃ s` without a dual; the projection comes next.
    pub(super) fn begin(&mut self) {
        self.shifted.copy_from_slice(&self.start);
        self.free.copy_from_slice(&self.start);
        self.dual.fill(0.0);
    }

    /// `B ← (H̃ + ρ)⁻¹ (G/s − V + ρ D)`, and `B + V/ρ`.
    pub(super) fn solve(&mut self, factor: &BlockedFactor<f32>, rho: f32) {
        let masked = self.shifted.iter().zip(&self.kept);
        let known = self.right.iter().zip(&self.dual).zip(masked);
        for (b, ((g, v), (t, kept))) in self.free.iter_mut().zip(known) {
            *b = g - v + if *kept { rho * t } else { 0.0 };
        }
        factor.solve_rows(&mut self.free);
        let sums = self.free.iter().zip(&self.dual);
        for (t, (b, v)) in self.shifted.iter_mut().zip(sums) {
            *t = b + v / rho;
        }
    }

    /// `V ← V + ρ (B − D)`.
    pub(super) fn raise_dual(&mut self, rho: f32) {
        let masked = self.shifted.iter().zip(&self.kept);
        for (v, (b, (t, kept))) in self.dual.iter_mut().zip(self.free.iter().zip(masked)) {
            *v += rho * (b - if *kept { *t } else { 0.0 });
        }
    }

    /// Returns how many entries of the mask changed since the last look.
    pub(super) fn look(&mut self) -> usize {
        let pairs = self.kept.iter().zip(&self.last_kept);
        let flips = pairs.filter(|(a, b)| a != b).count();
        self.last_kept.copy_from_slice(&self.kept);
        flips
    }

    /// Returns `(‖B − D‖², ‖D‖²)`.
    pub(super) fn gap(&self) -> (f64, f64) {
        let masked = self.shifted.iter().zip(&self.kept);
        let mut sums = (0.0, 0.0);
        for (b, (t, kept)) in self.free.iter().zip(masked) {
            let d = if *kept { f64::from(*t) } else { 0.0 };
            sums.0 += (f64::from(*b) - d).powi(2);
            sums.1 += d * d;
        }
        sums
    }

    /// Returns the weights, not scaled, zero where the mask is.
    pub(super) fn weights<'a>(&'a self, scale: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        let scales = scale.iter().cycle();
        let masked = self.shifted.iter().zip(&self.kept).zip(scales);
        masked.map(|((t, kept), s)| if *kept { f64::from(*t) / s } else { 0.0 })
    }

    /// Conjugate gradients on the mask from `D` on; each row has its own step.
    pub(super) fn refit(&mut self, gram: &[f32], d: usize, (steps, tolerance): (usize, f64)) {
        let (x, kept) = (&mut self.shifted, &self.kept);
        for (v, k) in x.iter_mut().zip(kept) {
            if !k {
                *v = 0.0;
            }
        }
        let sizes = norms(&self.right, kept, d);
        let mut residual = vec![0.0; x.len()];
        remainder(&mut residual, &self.right, x, (gram, kept, d));
        let mut direction = residual.clone();
        let mut image = vec![0.0; x.len()];
        let mut squares = norms(&residual, kept, d);
        self.steps = 0;
        let open = |squares: &[f64]| {
            let pairs = squares.iter().zip(&sizes);
            pairs
                .into_iter()
                .any(|(a, b)| *a > tolerance * tolerance * b)
        };
        while self.steps < steps && open(&squares) {
            self.steps += 1;
            product_rows(&mut image, &direction, gram, (d, d), 1);
            for i in 0..self.rows {
                let row = i * d..(i + 1) * d;
                let (p, q) = (&mut direction[row.clone()], &image[row.clone()]);
                let curvature: f64 = p.iter().zip(q).map(|(a, b)| wide(*a, *b)).sum();
                if curvature <= 0.0 || squares[i] == 0.0 {
                    continue;
                }
                let step = (squares[i] / curvature) as f32;
                let (x, e) = (&mut x[row.clone()], &mut residual[row.clone()]);
                let mut after = 0.0;
                for (j, kept) in kept[row].iter().enumerate() {
                    if *kept {
                        x[j] += step * p[j];
                        e[j] -= step * q[j];
                        after += wide(e[j], e[j]);
                    }
                }
                let turn = (after / squares[i]) as f32;
                p.iter_mut().zip(e).for_each(|(p, e)| *p = *e + turn * *p);
                squares[i] = after;
            }
        }
        remainder(&mut residual, &self.right, x, (gram, kept, d));
        let squares = norms(&residual, kept, d);
        let shares = squares.iter().zip(&sizes).filter(|(_, size)| **size > 0.0);
        self.residual = shares.map(|(a, b)| (a / b).sqrt()).fold(0.0, f64::max);
    }
}

fn wide(a: f32, b: f32) -> f64 {
    f64::from(a) * f64::from(b)
}

/// `out ← right − x H̃` on the mask, zero elsewhere.
fn remainder(out: &mut [f32], right: &[f32], x: &[f32], (gram, kept, d): (&[f32], &[bool], usize)) {
    product_rows(out, x, gram, (d, d), 1);
    for (o, (g, kept)) in out.iter_mut().zip(right.iter().zip(kept)) {
        *o = if *kept { g - *o } else { 0.0 };
    }
}

/// Returns the sum of the kept squares of each row.
fn norms(values: &[f32], kept: &[bool], d: usize) -> Vec<f64> {
    let rows = values.chunks_exact(d).zip(kept.chunks_exact(d));
    rows.map(|(row, kept)| {
        let pairs = row.iter().zip(kept).filter(|(_, k)| **k);
        pairs.map(|(v, _)| wide(*v, *v)).sum()
    })
    .collect()
}
