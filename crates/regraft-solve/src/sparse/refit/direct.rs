//! One support by a factor: of the Gram on it, or of the inverse off it.

use super::{ACCEPT, RefitWays, Scaled, Shared, Solved, TARGET, complement_cost, direct_cost};
use crate::error::SolveError;
use crate::factor::blocked::blocked_cholesky;
use crate::factor::{cholesky_in_place, cholesky_solve, subtract_product, taken_over, zeros_apart};
use crate::matrix::Matrix;
use crate::problem::dot;
use crate::sparse::Objective;

/// Corrections after which a factor that has not reached the target is not used any further.
const MAX_CORRECTIONS: usize = 12;

/// A correction must shrink the residual at least to this share, or the factor is spent.
const PROGRESS: f64 = 0.5;

/// Inputs up to which half a `d × d` matrix a thread is no matter.
const GATHERED_INPUTS: usize = 2048;

/// Rows of `P` that are copied at once.
const PANEL_ROWS: usize = 64;

/// Buffers of a thread that the next support takes over: fresh pages would be cleared for each.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The factor in f32.
    block: Vec<f32>,
    /// [`System::lower`].
    lower: Vec<f64>,
}

/// Returns the weights of all rows that share a support.
///
/// # Errors
/// [`SolveError::NotPositiveDefinite`] if the support has no factor in f64.
pub(super) fn solve(
    objective: &Objective,
    scaled: &Scaled,
    unit: &Shared<'_>,
    scratch: &mut Scratch,
) -> Result<Solved, SolveError> {
    let n_rows = unit.rows.len();
    let d = objective.n_in();
    let mut tried = 0;
    if complement_is_cheaper(unit, d) {
        tried += 1;
        if let Some((weights, residual)) = by_complement(objective, unit) {
            let ways = RefitWays {
                complement: n_rows,
                ..RefitWays::default()
            };
            return Ok(Solved {
                weights,
                residual,
                factorisations: tried,
                ways,
            });
        }
    }
    let system = System::new(objective, unit, std::mem::take(&mut scratch.lower));
    tried += 1;
    if let Some((weights, residual)) = system.in_f32(scaled, &mut scratch.block) {
        let ways = RefitWays {
            direct: n_rows,
            ..RefitWays::default()
        };
        let weights = system.spread(&weights);
        scratch.lower = system.lower;
        return Ok(Solved {
            weights,
            residual,
            factorisations: tried,
            ways,
        });
    }
    tried += 1;
    // The factor in f32 is of no use any more, and the one in f64 is twice as large.
    scratch.block = Vec::new();
    let (weights, residual) = system.in_f64(scaled)?;
    let ways = RefitWays {
        direct_f64: n_rows,
        ..RefitWays::default()
    };
    Ok(Solved {
        weights: system.spread(&weights),
        residual,
        factorisations: tried,
        ways,
    })
}

fn complement_is_cheaper(unit: &Shared<'_>, d: usize) -> bool {
    let n_rows = unit.rows.len();
    complement_cost(unit.n_kept, d, n_rows) < direct_cost(unit.n_kept, n_rows)
}

/// Returns how many f64 values [`solve`] holds for a support at once at most.
pub(super) fn held_values(unit: &Shared<'_>, d: usize) -> usize {
    let square = |n: usize| n.saturating_mul(n);
    let lower = if gathers(unit.n_kept, d) {
        square(unit.n_kept) / 2
    } else {
        0
    };
    let direct = lower + square(unit.n_kept);
    if complement_is_cheaper(unit, d) {
        // If the residual is too large, the other way follows.
        return direct.max(square(d - unit.n_kept)).max(lower);
    }
    direct
}

/// `v = w̃ − w̃_Z (P_ZZ)⁻¹ P_Z:`; `None` if the factor or the residual is not good.
fn by_complement(objective: &Objective, unit: &Shared<'_>) -> Option<(Matrix, f64)> {
    let d = objective.n_in();
    let gone: Vec<usize> = (0..d).filter(|&j| !unit.kept[j]).collect();
    let p = &objective.inverse;
    let n = gone.len();
    // A unit diagonal: inputs of very different sizes keep their digits.
    let root: Vec<f64> = gone.iter().map(|&j| p.at(j, j).sqrt().recip()).collect();
    let mut block = zeros_apart(n * n);
    for (i, &row) in gone.iter().enumerate() {
        let source = p.row(row);
        for (j, value) in block[i * n..(i + 1) * n].iter_mut().enumerate().skip(i) {
            *value = source[gone[j]] * root[i] * root[j];
        }
    }
    cholesky_in_place(&mut block, n).ok()?;
    let mut y = Matrix::zeros(unit.rows.len(), n);
    for (i, &row) in unit.rows.iter().enumerate() {
        let target = objective.target.row(row);
        for ((value, &col), scale) in y.row_mut(i).iter_mut().zip(&gone).zip(&root) {
            *value = target[col] * scale;
        }
    }
    cholesky_solve(&block, n, &mut y.data);
    drop(block);
    for row in y.data.chunks_exact_mut(n) {
        row.iter_mut().zip(&root).for_each(|(v, scale)| *v *= scale);
    }
    let mut weights = objective.target.select_rows(&unit.rows).ok()?;
    let places: Vec<usize> = (0..n).collect();
    for (chunk, places) in gone.chunks(PANEL_ROWS).zip(places.chunks(PANEL_ROWS)) {
        let panel = p.select_rows(chunk).ok()?;
        subtract_product(&mut weights, &y.select_cols(places).ok()?, &panel);
    }
    for i in 0..weights.rows {
        for (v, kept) in weights.row_mut(i).iter_mut().zip(unit.kept) {
            if !kept {
                *v = 0.0;
            }
        }
    }
    let system = System::new(objective, unit, Vec::new());
    let packed = weights.select_cols(&system.support).ok()?;
    let residual = system.residuals(&packed).1;
    (residual <= ACCEPT).then_some((weights, residual))
}

/// Returns whether `H_SS` is gathered for the residuals: that reads as much of `H` as one residual
/// does, and the next ones a small part of it. Where it would be large and has most of `H`, the rows
/// of `H` itself are read each time.
fn gathers(n_kept: usize, d: usize) -> bool {
    d <= GATHERED_INPUTS || 3 * n_kept <= 2 * d
}

/// `H_SS v = g_S` for the rows that share a support.
struct System<'a> {
    objective: &'a Objective,
    support: Vec<usize>,
    /// Lower triangle of `H_SS`, row after row: gathered once, read by every residual; empty where
    /// [`gathers`] says so.
    lower: Vec<f64>,
    /// `g_S`, one row each.
    rhs: Matrix,
    norms: Vec<f64>,
}

impl<'a> System<'a> {
    /// `lower` is a buffer to take over.
    fn new(objective: &'a Objective, unit: &Shared<'_>, mut lower: Vec<f64>) -> Self {
        let support: Vec<usize> = (0..unit.kept.len()).filter(|&j| unit.kept[j]).collect();
        let mut rhs = Matrix::zeros(unit.rows.len(), support.len());
        for (i, &row) in unit.rows.iter().enumerate() {
            let g = objective.g.row(row);
            for (value, &j) in rhs.row_mut(i).iter_mut().zip(&support) {
                *value = g[j];
            }
        }
        if gathers(support.len(), unit.kept.len()) {
            let len = support.len() * (support.len() + 1) / 2;
            lower = taken_over(lower, len);
            let mut rest = lower.as_mut_slice();
            for (k, &row) in support.iter().enumerate() {
                let (part, after) = rest.split_at_mut(k + 1);
                rest = after;
                let h = objective.h.row(row);
                part.iter_mut().zip(&support).for_each(|(v, &j)| *v = h[j]);
            }
        } else {
            lower = Vec::new();
        }
        let norms = (0..rhs.rows)
            .map(|i| dot(rhs.row(i), rhs.row(i)).sqrt())
            .collect();
        Self {
            objective,
            support,
            lower,
            rhs,
            norms,
        }
    }

    /// Returns `g_S − v H_SS` and the largest norm relative to the right side.
    fn residuals(&self, weights: &Matrix) -> (Matrix, f64) {
        let mut out = self.rhs.clone();
        if self.lower.is_empty() {
            self.subtract_image(&mut out, weights);
        } else {
            self.subtract_gathered(&mut out, weights);
        }
        let mut largest = 0.0_f64;
        for (i, norm) in self.norms.iter().enumerate() {
            let found = dot(out.row(i), out.row(i)).sqrt();
            if found.is_nan() {
                largest = f64::INFINITY;
            } else if *norm > 0.0 {
                largest = largest.max(found / norm);
            }
        }
        (out, largest)
    }

    /// Subtracts `v H_SS`, read from the rows of `H`.
    fn subtract_image(&self, out: &mut Matrix, weights: &Matrix) {
        let spread = self.spread(weights);
        for (k, &row) in self.support.iter().enumerate() {
            let h = self.objective.h.row(row);
            for i in 0..weights.rows {
                let mut lanes = [0.0; 4];
                let (mut at_h, mut at_v) = (h.chunks_exact(4), spread.row(i).chunks_exact(4));
                for (h, v) in (&mut at_h).zip(&mut at_v) {
                    for lane in 0..4 {
                        lanes[lane] += h[lane] * v[lane];
                    }
                }
                let rest = dot(at_h.remainder(), at_v.remainder());
                out.row_mut(i)[k] -= lanes.iter().sum::<f64>() + rest;
            }
        }
    }

    /// Subtracts `v H_SS`, read from the gathered triangle.
    fn subtract_gathered(&self, out: &mut Matrix, weights: &Matrix) {
        let mut below = self.lower.as_slice();
        for k in 0..self.support.len() {
            // H is symmetric: one pass over its lower triangle serves both halves.
            let (row, rest) = below.split_at(k + 1);
            below = rest;
            let (part, diagonal) = row.split_at(k);
            for i in 0..weights.rows {
                let v = weights.row(i);
                let (head, tail) = out.row_mut(i).split_at_mut(k);
                let mut lanes = [0.0; 4];
                let (mut at_head, mut at_v) = (head.chunks_exact_mut(4), v[..k].chunks_exact(4));
                let mut at_part = part.chunks_exact(4);
                for ((o, x), p) in (&mut at_head).zip(&mut at_v).zip(&mut at_part) {
                    for lane in 0..4 {
                        o[lane] -= p[lane] * v[k];
                        lanes[lane] += p[lane] * x[lane];
                    }
                }
                let rest = at_head.into_remainder().iter_mut();
                for ((o, x), p) in rest.zip(at_v.remainder()).zip(at_part.remainder()) {
                    *o -= p * v[k];
                    lanes[0] += p * x;
                }
                tail[0] -= lanes.iter().sum::<f64>() + diagonal[0] * v[k];
            }
        }
    }

    /// Corrects from zero with an approximate solver (rows in, rows out) until the target is met or
    /// it makes no progress; returns the best weights and their residual.
    fn corrected(&self, mut step: impl FnMut(&mut Matrix)) -> (Matrix, f64) {
        let mut best = Matrix::zeros(self.rhs.rows, self.rhs.cols);
        let (mut residual, mut largest) = (self.rhs.clone(), 1.0);
        for _ in 0..MAX_CORRECTIONS {
            step(&mut residual);
            let mut next = best.clone();
            for (v, s) in next.data.iter_mut().zip(&residual.data) {
                *v += s;
            }
            let (left, found) = self.residuals(&next);
            let slow = found > PROGRESS * largest;
            if found < largest {
                (best, largest) = (next, found);
            }
            residual = left;
            if slow || largest <= TARGET {
                break;
            }
        }
        (best, largest)
    }

    fn in_f32(&self, scaled: &Scaled, scratch: &mut Vec<f32>) -> Option<(Matrix, f64)> {
        let (n, d) = (self.support.len(), self.objective.n_in());
        // Only the lower triangle is read: what another row left above it does not matter.
        let mut block = taken_over(std::mem::take(scratch), n * n);
        for (i, &row) in self.support.iter().enumerate() {
            let source = &scaled.h[row * d..(row + 1) * d];
            let values = block[i * n..=i * n + i].iter_mut();
            for (value, &j) in values.zip(&self.support) {
                *value = source[j];
            }
        }
        let factor = blocked_cholesky(block, n, 1).ok()?;
        let (weights, residual) = self.corrected(|rows| {
            // f32 holds the digits, the row's size is put back afterwards.
            let mut sizes = Vec::with_capacity(rows.rows);
            let mut rhs = Vec::with_capacity(rows.data.len());
            for i in 0..rows.rows {
                let row = self.support.iter().zip(rows.row(i));
                let row: Vec<f64> = row.map(|(&j, v)| v * scaled.root[j]).collect();
                let size = row.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                let size = if size > 0.0 { size } else { 1.0 };
                rhs.extend(row.iter().map(|v| (v / size) as f32));
                sizes.push(size);
            }
            factor.solve_rows(&mut rhs);
            for (i, (solved, size)) in rhs.chunks_exact(n).zip(sizes).enumerate() {
                let row = rows.row_mut(i).iter_mut().zip(solved).zip(&self.support);
                for ((value, s), &j) in row {
                    *value = f64::from(*s) * size * scaled.root[j];
                }
            }
        });
        *scratch = factor.into_lower();
        (residual <= ACCEPT).then_some((weights, residual))
    }

    fn in_f64(&self, scaled: &Scaled) -> Result<(Matrix, f64), SolveError> {
        let n = self.support.len();
        let mut block = zeros_apart(n * n);
        for (i, &row) in self.support.iter().enumerate() {
            let source = self.objective.h.row(row);
            let values = block[i * n + i..(i + 1) * n].iter_mut();
            for (value, &j) in values.zip(&self.support[i..]) {
                *value = source[j] * scaled.root[row] * scaled.root[j];
            }
        }
        // In its place: it is the largest thing here.
        cholesky_in_place(&mut block, n)?;
        Ok(self.corrected(|rows| {
            let scale = |rows: &mut Matrix| {
                for row in rows.data.chunks_exact_mut(n) {
                    let values = row.iter_mut().zip(&self.support);
                    values.for_each(|(v, &j)| *v *= scaled.root[j]);
                }
            };
            scale(rows);
            cholesky_solve(&block, n, &mut rows.data);
            scale(rows);
        }))
    }

    /// Returns rows over the support as rows over all inputs.
    fn spread(&self, weights: &Matrix) -> Matrix {
        let mut out = Matrix::zeros(weights.rows, self.objective.n_in());
        for i in 0..weights.rows {
            let target = out.row_mut(i);
            for (&j, v) in self.support.iter().zip(weights.row(i)) {
                target[j] = *v;
            }
        }
        out
    }
}

/// Returns what each way by a factor gives, whatever it costs.
#[cfg(test)]
pub(super) fn each_way(
    objective: &Objective,
    scaled: &Scaled,
    unit: &Shared<'_>,
) -> Vec<(&'static str, Option<(Matrix, f64)>)> {
    let system = System::new(objective, unit, Vec::new());
    let spread = |(weights, residual): (Matrix, f64)| (system.spread(&weights), residual);
    vec![
        ("complement", by_complement(objective, unit)),
        ("f32", system.in_f32(scaled, &mut Vec::new()).map(spread)),
        ("f64", system.in_f64(scaled).ok().map(spread)),
    ]
}
