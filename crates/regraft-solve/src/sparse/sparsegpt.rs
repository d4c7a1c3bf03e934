//! `SparseGPT`: one sweep over the inputs, each pruned connection paid for by the later ones.
//!
//! With `H⁻¹ = Uᵀ U`, `U` upper triangular, row j of `U` divided by `U_jj` is what removing
//! input j does to the inputs after it when those before it stay as they are, and `U_jj²` is
//! `[(H_{j:,j:})⁻¹]_11`. So for j = 1..d, with `q` the pruned value of `w_j` (0 or itself):
//!
//! ```text
//! e = (w_j − q) / U_jj        w_{j:} ← w_{j:} − e U_{j,j:}        error += e²
//! ```
//!
//! Which connections go is decided for [`BLOCK`] inputs at a time over all outputs, by
//! `w_ij² / U_jj²` as it is when the sweep gets there; with n:m groups at the first input of each
//! group, for each output. Later blocks see the errors of all earlier ones in one product.
//!
//! The sweep is in f32, the factor too unless its pivots are too small. It never looks back: the same mask with exact weights
//! has a smaller error, so refit afterwards.
//!
//! # Reference
//! Frantar, Alistarh: `SparseGPT`: Massive Language Models Can Be Accurately Pruned in One-Shot,
//! ICML 2023, algorithm 1.

use super::select::{Keep, blocks_of, check_keep, check_start, highest, top};
use super::{Mask, Objective, Pattern};
use crate::error::SolveError;
use crate::factor::blocked::{blocked_cholesky, lower_of, over_bands, subtract_errors};
use crate::matrix::Matrix;

/// Inputs whose mask is chosen at once, and which are swept before later ones are touched.
pub const BLOCK: usize = 128;

/// Outputs that one thread takes at a time, rounded up to whole row blocks.
const BAND: usize = 96;

/// Inputs of a block that are swept one by one before the rest of the block sees them.
const STRIP: usize = 32;

/// With smaller pivots, relative to a unit diagonal, a factor in f32 has too few digits.
const LEAST_PIVOT: f32 = 5e-4;

/// Rows of the factor that one thread scales at a time.
const TILE: usize = 32;

/// The mask and the weights of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseGpt {
    /// What stays.
    pub mask: Mask,
    /// `r × d`, zero where the mask is.
    pub weights: Matrix,
    /// What the sweep itself says the error rose by, from `start`: the sum of all `e²`.
    pub rise: f64,
}

/// Sweeps `start` (`r × d`: the old weights, or the objective's target) down to `keep`
/// connections.
///
/// Each block of inputs keeps its share of `keep`. [`Pattern::Grouped`] fixes the number itself:
/// `keep` is not read. Row blocks (whole blocks are chosen, by the sum over their outputs) need
/// `keep` to be a multiple of their outputs.
/// # Errors
/// Pattern, shape and option errors for arguments that do not fit;
/// [`SolveError::NotPositiveDefinite`] if `H⁻¹` has no factor.
pub fn sparsegpt(
    objective: &Objective,
    start: &Matrix,
    pattern: Pattern,
    keep: usize,
    threads: usize,
) -> Result<SparseGpt, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    pattern.check(r, d)?;
    check_start(start, r, d)?;
    let band_rows = match pattern {
        Pattern::RowBlocks { rows } => {
            blocks_of(keep, rows)?;
            BAND.next_multiple_of(rows)
        }
        Pattern::Unstructured | Pattern::Grouped { .. } => BAND,
    };
    if !matches!(pattern, Pattern::Grouped { .. }) {
        check_keep(keep, r * d)?;
    }
    let lower = lower_factor(objective, threads)?;
    let all_pivots: Vec<f32> = (0..d).map(|j| lower[j * d + j]).collect();
    let mut bands = cut(objective, start, band_rows);
    // A group is never cut by a block.
    let block = match pattern {
        Pattern::Grouped { group, .. } => BLOCK.next_multiple_of(group),
        Pattern::Unstructured | Pattern::RowBlocks { .. } => BLOCK,
    };
    for from in (0..d).step_by(block) {
        let to = (from + block).min(d);
        let pivots: Vec<f64> = all_pivots[from..to].iter().map(|p| square(*p)).collect();
        over_bands(&mut bands, 1, threads, &|_, part: &mut [Band]| {
            for band in part {
                let errors = (band.errors.as_slice(), 0..from);
                subtract_errors(&mut band.weights, errors, &lower, d, from..to);
                if !matches!(pattern, Pattern::Grouped { .. }) {
                    band.score(&pivots, (from, to, d));
                }
            }
        });
        let group = if let Pattern::Grouped { keep, group } = pattern {
            Some((keep, group))
        } else {
            let share = share(keep, pattern, to, d) - share(keep, pattern, from, d);
            choose(&mut bands, (from, to, d), pattern, share)?;
            None
        };
        over_bands(&mut bands, 1, threads, &|_, part: &mut [Band]| {
            for band in part {
                band.sweep(&lower, (from, to, d), group);
            }
        });
    }
    collect(&bands, r, d)
}

/// Some outputs in f32, and what the sweep found for them.
struct Band {
    weights: Vec<f32>,
    errors: Vec<f32>,
    kept: Vec<bool>,
    /// Of the inputs whose mask comes next.
    scores: Vec<f64>,
    rise: f64,
}

/// Returns `Uᵀ` (`d × d`, lower, `H⁻¹ = Uᵀ U`) in f32.
///
/// The factor of `H⁻¹` with a unit diagonal is made in f32, and in f64 where its pivots are too
/// small for that.
fn lower_factor(objective: &Objective, threads: usize) -> Result<Vec<f32>, SolveError> {
    let (d, inverse) = (objective.n_in(), &objective.inverse);
    let scale: Vec<f64> = inverse.diagonal().iter().map(|v| v.sqrt()).collect();
    let narrow = scaled_lower(&inverse.data, &scale, threads);
    if let Ok(factor) = blocked_cholesky(narrow, d, threads) {
        let mut lower = factor.into_lower();
        if (0..d).all(|i| lower[i * d + i].powi(2) >= LEAST_PIVOT) {
            over_bands(&mut lower, d, threads, &|i, row: &mut [f32]| {
                let size = scale[i] as f32;
                row[..=i].iter_mut().for_each(|v| *v *= size);
            });
            return Ok(lower);
        }
    }
    let factor = blocked_cholesky(lower_of(&inverse.data, d, threads), d, threads)?;
    Ok(factor.into_lower().iter().map(|v| *v as f32).collect())
}

/// Returns the lower triangle of `p / (scale scaleᵀ)` in f32, zeros above.
fn scaled_lower(p: &[f64], scale: &[f64], threads: usize) -> Vec<f32> {
    let d = scale.len();
    let mut out = vec![0.0_f32; d * d];
    over_bands(&mut out, TILE * d, threads, &|band, out: &mut [f32]| {
        for (i, out) in out.chunks_exact_mut(d).enumerate() {
            let at = band * TILE + i;
            let own = scale[at].recip();
            let row = p[at * d..=at * d + at].iter().zip(scale);
            for (out, (v, s)) in out.iter_mut().zip(row) {
                *out = (v * own / s) as f32;
            }
        }
    });
    out
}

fn cut(objective: &Objective, start: &Matrix, band_rows: usize) -> Vec<Band> {
    let d = objective.n_in();
    let rows = start.data.chunks((band_rows * d).max(1));
    let mut bands: Vec<Band> = rows
        .map(|rows| Band {
            weights: rows.iter().map(|&w| w as f32).collect(),
            errors: vec![0.0; rows.len()],
            kept: vec![true; rows.len()],
            scores: Vec::new(),
            rise: 0.0,
        })
        .collect();
    for band in &mut bands {
        for row in band.weights.chunks_exact_mut(d) {
            objective.dead_inputs.iter().for_each(|&j| row[j] = 0.0);
        }
    }
    bands
}

/// The number of connections, or row blocks of them, that the first `to` of `d` inputs keep.
fn share(keep: usize, pattern: Pattern, to: usize, d: usize) -> usize {
    let units = match pattern {
        Pattern::RowBlocks { rows } => keep / rows,
        Pattern::Unstructured | Pattern::Grouped { .. } => keep,
    };
    // Wide: `units` may be near the largest matrix, and is multiplied.
    (units as u128 * to as u128 / d.max(1) as u128) as usize
}

/// Chooses what stays of the inputs `from..to`, over all outputs.
fn choose(
    bands: &mut [Band],
    (from, to, d): (usize, usize, usize),
    pattern: Pattern,
    units: usize,
) -> Result<(), SolveError> {
    let width = to - from;
    let scores = joined(bands, |b| &b.scores);
    let scores = Matrix::from_vec(scores.len() / width, width, scores)?;
    let keep = match pattern {
        Pattern::RowBlocks { rows } => units * rows,
        Pattern::Unstructured | Pattern::Grouped { .. } => units,
    };
    let mask = highest(&scores, pattern, Keep::Layer(keep))?;
    let mut chosen = mask.kept.chunks_exact(width);
    for band in bands {
        for (row, kept) in band.kept.chunks_exact_mut(d).zip(&mut chosen) {
            row[from..to].copy_from_slice(kept);
        }
    }
    Ok(())
}

fn square(value: f32) -> f64 {
    f64::from(value).powi(2)
}

impl Band {
    /// Scores the inputs `from..to` as they are now.
    fn score(&mut self, pivots: &[f64], (from, to, d): (usize, usize, usize)) {
        self.scores.clear();
        for row in self.weights.chunks_exact(d) {
            let values = row[from..to].iter().zip(pivots);
            self.scores
                .extend(values.map(|(&w, pivot)| square(w) / pivot));
        }
    }

    /// Sweeps the inputs `from..to`; with `(keep, group)` it chooses what stays on the way.
    fn sweep(
        &mut self,
        lower: &[f32],
        (from, to, d): (usize, usize, usize),
        group: Option<(usize, usize)>,
    ) {
        // A group is never cut by a strip.
        let strip = STRIP.next_multiple_of(group.map_or(1, |(_, group)| group));
        let mut upper = Vec::new();
        for begin in (from..to).step_by(strip) {
            let end = (begin + strip).min(to);
            upper.clear();
            for j in begin..end {
                upper.extend((begin..end).map(|k| lower[k * d + j]));
            }
            self.sweep_strip(&upper, (begin, end, d), group);
            let errors = (self.errors.as_slice(), begin..end);
            subtract_errors(&mut self.weights, errors, lower, d, end..to);
        }
    }

    /// Sweeps the inputs `from..to`, of which `upper` is the square of `U`.
    fn sweep_strip(
        &mut self,
        upper: &[f32],
        (from, to, d): (usize, usize, usize),
        group: Option<(usize, usize)>,
    ) {
        let weights = self.weights.chunks_exact_mut(d);
        let errors = self.errors.chunks_exact_mut(d);
        let kept = self.kept.chunks_exact_mut(d);
        for ((w, e), kept) in weights.zip(errors).zip(kept) {
            let width = to - from;
            for (k, row) in upper.chunks_exact(width).enumerate() {
                let (j, row) = (from + k, &row[k..]);
                if let Some((keep, group)) = group
                    && j % group == 0
                {
                    let pivots = (k..k + group).map(|k| upper[k * width + k]);
                    let scores = group_scores(&w[j..j + group], pivots);
                    kept[j..j + group].copy_from_slice(&top(&scores, keep));
                }
                if kept[j] {
                    continue;
                }
                let error = w[j] / row[0];
                for (w, u) in w[j..to].iter_mut().zip(row) {
                    *w -= error * u;
                }
                w[j] = 0.0;
                e[j] = error;
                self.rise += square(error);
            }
        }
    }
}

fn group_scores(weights: &[f32], pivots: impl Iterator<Item = f32>) -> Vec<f64> {
    let pairs = weights.iter().zip(pivots);
    pairs
        .map(|(w, pivot)| (f64::from(*w) / f64::from(pivot)).powi(2))
        .collect()
}

/// Returns a list of every band, one after the other.
fn joined<T: Copy>(bands: &[Band], of: impl Fn(&Band) -> &Vec<T>) -> Vec<T> {
    let lists: Vec<&[T]> = bands.iter().map(|b| of(b).as_slice()).collect();
    lists.concat()
}

fn collect(bands: &[Band], r: usize, d: usize) -> Result<SparseGpt, SolveError> {
    let mut weights = Vec::with_capacity(r * d);
    for band in bands {
        weights.extend(band.weights.iter().map(|&w| f64::from(w)));
    }
    let weights = Matrix::from_vec(r, d, weights)?;
    weights.check_finite("swept weights")?;
    Ok(SparseGpt {
        mask: Mask::from_vec(r, d, joined(bands, |b| &b.kept))?,
        weights,
        rise: bands.iter().map(|b| b.rise).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::ObjectiveConfig;
    use crate::{Bias, Gram, LeastSquares, samples};

    /// The sweep is in f32, the value it is compared with in f64.
    const F32_SWEEP: f64 = 1e-4;

    #[test]
    fn two_inputs_by_hand() {
        // H = [[2, 1], [1, 2]], H⁻¹ = [[2, -1], [-1, 2]]/3, U = [[√(2/3), -1/√6], [0, 1/√2]].
        // w = (1, 3): scores 1/(2/3) and 9·2, so input 0 goes, e = 1/√(2/3), e² = 1.5, and
        // w_1 becomes 3 + √1.5/√6 = 3.5; exactly: g_1/H_11 = (1 + 6)/2.
        let objective = Objective {
            h: Matrix::from_vec(2, 2, vec![2.0, 1.0, 1.0, 2.0]).unwrap(),
            inverse: Matrix::from_vec(2, 2, [2.0, -1.0, -1.0, 2.0].map(|v| v / 3.0).to_vec())
                .unwrap(),
            g: Matrix::from_vec(1, 2, vec![5.0, 7.0]).unwrap(),
            target: Matrix::from_vec(1, 2, vec![1.0, 3.0]).unwrap(),
            constant: 26.0,
            energy: 26.0,
            damping: 0.0,
            ladder_steps: 0,
            dead_inputs: vec![],
        };
        let found = sparsegpt(&objective, &objective.target, Pattern::Unstructured, 1, 1).unwrap();
        assert_eq!(found.mask.kept, [false, true]);
        assert!((found.weights.at(0, 1) - 3.5).abs() < 1e-6);
        assert!((found.rise - 1.5).abs() < 1e-6);
        assert!((objective.value(&found.weights).unwrap() - 1.5).abs() < 1e-6);
    }

    #[test]
    fn small_pivots_are_factored_in_f64() {
        // All inputs but their own 1e-5 are one: the last pivot is about 1e-5 of its input.
        let d = 40;
        let mut h = Matrix::from_vec(d, d, vec![1.0; d * d]).unwrap();
        (0..d).for_each(|i| h.set(i, i, 1.0 + 1e-5));
        let gram = Gram {
            matrix: h,
            mean: vec![0.0; d],
            n: 1,
        };
        let old = Matrix::from_f32(3, d, &samples::noise(4, 3 * d)).unwrap();
        let problem = LeastSquares::from_weights(&gram, &old, Bias::None).unwrap();
        let config = ObjectiveConfig { ladder: vec![0.0] };
        let objective = Objective::new(&problem, None, &config).unwrap();
        let wide = blocked_cholesky(objective.inverse.data.clone(), d, 1).unwrap();
        let wide = wide.into_lower();
        for (i, row) in lower_factor(&objective, 2).unwrap().chunks(d).enumerate() {
            let wanted = &wide[i * d..=i * d + i];
            assert!(
                row.iter()
                    .zip(wanted)
                    .all(|(a, b)| a.to_bits() == (*b as f32).to_bits()),
                "{i}"
            );
        }
    }

    #[test]
    fn its_own_sum_of_errors_is_the_rise_of_the_objective() {
        let (problem, old) = samples::layer(11, 900, 200, 6, Bias::Fit);
        let objective = Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap();
        let best = objective.value(&objective.target).unwrap();
        for (pattern, keep) in [
            (Pattern::Unstructured, 500),
            (Pattern::RowBlocks { rows: 3 }, 501),
            (Pattern::Grouped { keep: 3, group: 5 }, 720),
        ] {
            let target = &objective.target;
            let found = sparsegpt(&objective, target, pattern, keep, 1).unwrap();
            assert_eq!(found.mask.n_kept(), keep, "{pattern:?}");
            let rise = objective.value(&found.weights).unwrap() - best;
            assert!((rise - found.rise).abs() < F32_SWEEP * rise, "{pattern:?}");
            let threaded = sparsegpt(&objective, target, pattern, keep, 3).unwrap();
            assert!(found == threaded, "{pattern:?}: threads changed the result");
            let masked = Mask::of_nonzero(&found.weights);
            assert!(
                masked
                    .kept
                    .iter()
                    .zip(&found.mask.kept)
                    .all(|(w, m)| *m || !w)
            );
        }
    }
}
