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
//! The sweep is in f32 (the factor in f64, one `d × d` matrix beside the objective, of which a
//! block's columns at a time are copied). It never looks back: the same mask with exact weights
//! has a smaller error, so refit afterwards.
//!
//! # Reference
//! Frantar, Alistarh: `SparseGPT`: Massive Language Models Can Be Accurately Pruned in One-Shot,
//! ICML 2023, algorithm 1.

use super::select::{Keep, blocks_of, check_keep, check_start, highest, top};
use super::{Mask, Objective, Pattern};
use crate::error::SolveError;
use crate::factor::blocked::{BlockedFactor, blocked_cholesky, over_bands, subtract_left};
use crate::matrix::Matrix;

/// Inputs whose mask is chosen at once, and which are swept before later ones are touched.
pub const BLOCK: usize = 128;

/// Outputs that one thread takes at a time, rounded up to whole row blocks.
const BAND: usize = 96;

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
    let factor = blocked_cholesky(objective.inverse.data.clone(), d, threads)?;
    let mut bands = cut(objective, start, band_rows);
    // A group is never cut by a block.
    let block = match pattern {
        Pattern::Grouped { group, .. } => BLOCK.next_multiple_of(group),
        Pattern::Unstructured | Pattern::RowBlocks { .. } => BLOCK,
    };
    for from in (0..d).step_by(block) {
        let to = (from + block).min(d);
        let panel = &Panel::new(&factor, from, to);
        over_bands(&mut bands, 1, threads, &|_, part: &mut [Band]| {
            for band in part {
                let (weights, errors) = (&mut band.weights, &band.errors);
                subtract_left(weights, errors, &panel.values, d, from, panel.width);
            }
        });
        let group = if let Pattern::Grouped { keep, group } = pattern {
            Some((keep, group))
        } else {
            let share = share(keep, pattern, to, d) - share(keep, pattern, from, d);
            choose(&mut bands, panel, (from, to, d), pattern, share)?;
            None
        };
        over_bands(&mut bands, 1, threads, &|_, part: &mut [Band]| {
            for band in part {
                band.sweep(panel, (from, to, d), group);
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
    rise: f64,
}

/// The columns `from..to` of `U` (`H⁻¹ = Uᵀ U`, upper) in f32, down to the diagonal.
struct Panel {
    from: usize,
    width: usize,
    /// `to × width`.
    values: Vec<f32>,
}

impl Panel {
    fn new(factor: &BlockedFactor<f64>, from: usize, to: usize) -> Self {
        let width = to - from;
        let mut values = vec![0.0; to * width];
        for col in from..to {
            for row in 0..=col {
                values[row * width + col - from] = factor.lower(col, row) as f32;
            }
        }
        Self {
            from,
            width,
            values,
        }
    }

    fn diagonal(&self, j: usize) -> f32 {
        self.right_of_diagonal(j)[0]
    }

    /// Returns row `j` of `U` from its diagonal to the end of the panel.
    fn right_of_diagonal(&self, j: usize) -> &[f32] {
        let row = j * self.width;
        &self.values[row + j - self.from..row + self.width]
    }
}

fn cut(objective: &Objective, start: &Matrix, band_rows: usize) -> Vec<Band> {
    let d = objective.n_in();
    let rows = start.data.chunks((band_rows * d).max(1));
    let mut bands: Vec<Band> = rows
        .map(|rows| Band {
            weights: rows.iter().map(|&w| w as f32).collect(),
            errors: vec![0.0; rows.len()],
            kept: vec![true; rows.len()],
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
    panel: &Panel,
    (from, to, d): (usize, usize, usize),
    pattern: Pattern,
    units: usize,
) -> Result<(), SolveError> {
    let width = to - from;
    let pivots: Vec<f64> = (from..to)
        .map(|j| f64::from(panel.diagonal(j)).powi(2))
        .collect();
    let mut scores = Vec::new();
    for band in bands.iter() {
        for row in band.weights.chunks_exact(d) {
            let values = row[from..to].iter().zip(&pivots);
            scores.extend(values.map(|(&w, pivot)| f64::from(w).powi(2) / pivot));
        }
    }
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

impl Band {
    /// Sweeps the inputs `from..to`; with `(keep, group)` it chooses what stays on the way.
    fn sweep(
        &mut self,
        panel: &Panel,
        (from, to, d): (usize, usize, usize),
        group: Option<(usize, usize)>,
    ) {
        let weights = self.weights.chunks_exact_mut(d);
        let errors = self.errors.chunks_exact_mut(d);
        let kept = self.kept.chunks_exact_mut(d);
        for ((w, e), kept) in weights.zip(errors).zip(kept) {
            for j in from..to {
                let row = panel.right_of_diagonal(j);
                if let Some((keep, group)) = group
                    && j % group == 0
                {
                    let scores = group_scores(&w[j..j + group], panel, j);
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
                self.rise += f64::from(error).powi(2);
            }
        }
    }
}

fn group_scores(weights: &[f32], panel: &Panel, from: usize) -> Vec<f64> {
    let scored = weights.iter().enumerate().map(|(k, &w)| {
        let pivot = f64::from(panel.diagonal(from + k));
        (f64::from(w) / pivot).powi(2)
    });
    scored.collect()
}

fn collect(bands: &[Band], r: usize, d: usize) -> Result<SparseGpt, SolveError> {
    let weights = bands.iter().flat_map(|b| &b.weights);
    let weights = Matrix::from_vec(r, d, weights.map(|&w| f64::from(w)).collect())?;
    weights.check_finite("swept weights")?;
    let kept = bands.iter().flat_map(|b| &b.kept).copied().collect();
    Ok(SparseGpt {
        mask: Mask::from_vec(r, d, kept)?,
        weights,
        rise: bands.iter().map(|b| b.rise).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::ObjectiveConfig;
    use crate::{Bias, samples};

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
