//! ALPS: the mask by ADMM on the whole layer at once, then conjugate gradients on it.
//!
//! Inputs are scaled to a unit diagonal, `H̃ = H / (s sᵀ)` with `s = √diag H`; a row of weights
//! becomes `b = v s` and its right side `g / s`. With `D` on the mask, `V` the dual and ρ the
//! penalty, one iteration is
//!
//! ```text
//! B ← (H̃ + ρ I)⁻¹ (G/s − V + ρ D)      D ← P(B + V/ρ)      V ← V + ρ (B − D)
//! ```
//!
//! `P` keeps the `keep` largest of the layer (or of each group, or the blocks of the largest sum
//! of squares). It starts from `D = P(W̃ s)`, `V = 0`. Every third iteration the share of the
//! mask that changed sets ρ: above 0.1 it grows by 1.3, above 0.005 by 1.2, else by 1.1; with no
//! change, or after 30 iterations with less than 3e-4, it ends. If the mask never moved by more
//! than 0.005, ρ was too large to begin with: start again from a fifth of it.
//!
//! The authors apply `(H̃ + ρ I)⁻¹` through one eigendecomposition of `H̃`. ρ stays for three
//! iterations, so we factor `H̃ + ρ I` for each ρ instead: the same iterates for `d³/3` a factor
//! and `2 d² r` an iteration, where eigenvectors cost about `10 d³` once, half of it bound by
//! memory, and `4 d² r` an iteration. The factor is in f32: the smallest eigenvalue is at least ρ,
//! the largest at most d. Memory beside the objective: `H̃` and one factor, together one `d × d`
//! matrix in f64, and some ten `r × d` ones in f32.
//!
//! The conjugate gradients have their own step for every row, the residual projected on the mask,
//! and no preconditioner: the diagonal is 1.
//!
//! # Reference
//! Meng, Behdin, Wang, Mazumder: ALPS: Improved Optimization for Highly Sparse One-Shot Pruning
//! for Large Language Models, `NeurIPS` 2024, algorithms 1 and 2. The schedule of ρ and the step of
//! every row are those of the authors' program.

mod band;
mod project;

use super::select::{blocks_of, check_keep};
use super::{Mask, Objective, Pattern};
use crate::error::SolveError;
use crate::factor::blocked::{BlockedFactor, blocked_cholesky, copy_lower, over_bands};
use crate::matrix::Matrix;
use band::Band;

/// The penalty to start with, the authors' value: small beside the unit diagonal, so that the
/// mask can still move.
pub const DEFAULT_RHO: f64 = 0.1;

/// Iterations after which the mask has settled on every layer we measured.
pub const DEFAULT_MAX_ITERATIONS: usize = 300;

/// Steps of conjugate gradients, the authors' value: an error a few percent above the exact one.
pub const DEFAULT_REFIT_STEPS: usize = 10;

/// Residual relative to the right side at which conjugate gradients stop.
pub const DEFAULT_REFIT_TOLERANCE: f64 = 1e-4;

/// Iterations between two looks at the mask.
const LOOK_EVERY: usize = 3;

/// A change of the mask that says that ρ was small enough.
const MOVED: f64 = 0.005;

/// With less change than this after [`SETTLED_AFTER`] iterations it ends.
const SETTLED: f64 = 3e-4;
const SETTLED_AFTER: usize = 30;

/// ρ never goes below this share of the unit diagonal: the factor in f32 would be noise.
const LEAST_RHO: f64 = 1e-3;

/// Options of [`alps`].
#[derive(Debug, Clone, PartialEq)]
pub struct AlpsConfig {
    /// The penalty to start with, relative to the unit diagonal.
    pub rho: f64,
    /// Iterations at most.
    pub max_iterations: usize,
    /// Steps of conjugate gradients at most; 0 leaves the weights as ADMM has them.
    pub refit_steps: usize,
    /// Residual at which conjugate gradients stop, relative to the right side of each output.
    pub refit_tolerance: f64,
}

impl Default for AlpsConfig {
    fn default() -> Self {
        Self {
            rho: DEFAULT_RHO,
            max_iterations: DEFAULT_MAX_ITERATIONS,
            refit_steps: DEFAULT_REFIT_STEPS,
            refit_tolerance: DEFAULT_REFIT_TOLERANCE,
        }
    }
}

/// The mask and the weights of ALPS, and how it got there.
#[derive(Debug, Clone, PartialEq)]
pub struct Alps {
    /// What stays.
    pub mask: Mask,
    /// `r × d`, zero where the mask is.
    pub weights: Matrix,
    /// Iterations of ADMM, those before a restart included.
    pub iterations: usize,
    /// Whether the mask settled before the iterations ran out.
    pub settled: bool,
    /// Times it began again with a smaller ρ.
    pub restarts: usize,
    /// The last ρ.
    pub rho: f64,
    /// Entries of the mask that changed between the last two looks.
    pub last_flips: usize,
    /// `‖B − D‖ / ‖D‖` at the end of ADMM, in the scaled weights.
    pub gap: f64,
    /// Steps of conjugate gradients that the slowest outputs took.
    pub refit_steps: usize,
    /// Largest residual of an output on its mask, relative to its right side.
    pub refit_residual: f64,
}

/// Finds a mask of `keep` connections and weights on it.
///
/// [`Pattern::Grouped`] fixes the number itself: `keep` is not read. Row blocks need it to be a
/// multiple of their outputs.
/// # Errors
/// Pattern and option errors for arguments that do not fit; [`SolveError::NotPositiveDefinite`]
/// if `H̃ + ρ I` has no factor in f32; [`SolveError::NotFinite`].
pub fn alps(
    objective: &Objective,
    pattern: Pattern,
    keep: usize,
    config: &AlpsConfig,
    threads: usize,
) -> Result<Alps, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    pattern.check(r, d)?;
    check(config)?;
    let rows = match pattern {
        Pattern::RowBlocks { rows } => {
            blocks_of(keep, rows)?;
            rows
        }
        Pattern::Unstructured | Pattern::Grouped { .. } => 1,
    };
    let mut state = State {
        scale: objective.h.diagonal().iter().map(|v| v.sqrt()).collect(),
        pattern,
        keep: match pattern {
            Pattern::Grouped { keep, group } => r * d / group * keep,
            Pattern::Unstructured | Pattern::RowBlocks { .. } => keep,
        },
        threads,
        d,
        gram: Vec::new(),
        spare: Vec::new(),
        bands: Vec::new(),
    };
    check_keep(state.keep, r * d)?;
    state.gram = scaled_gram(&objective.h, &state.scale);
    state.bands = Band::cut(objective, &state.scale, rows);
    let mut found = state.iterate(config)?;
    state.spare = Vec::new();
    let steps = (config.refit_steps, config.refit_tolerance);
    state.each(|band, gram, d| band.refit(gram, d, steps));
    found.refit_steps = state.bands.iter().map(|b| b.steps).max().unwrap_or(0);
    let residuals = state.bands.iter().map(|b| b.residual);
    found.refit_residual = residuals.fold(0.0, f64::max);
    let kept = state.bands.iter().flat_map(|b| &b.kept).copied().collect();
    found.mask = Mask::from_vec(r, d, kept)?;
    let weights = state.bands.iter().flat_map(|b| b.weights(&state.scale));
    found.weights = Matrix::from_vec(r, d, weights.collect())?;
    found.weights.check_finite("weights of ALPS")?;
    Ok(found)
}

fn check(config: &AlpsConfig) -> Result<(), SolveError> {
    for (option, value, least) in [
        ("rho", config.rho, LEAST_RHO),
        ("refit_tolerance", config.refit_tolerance, 0.0),
    ] {
        if !value.is_finite() || value < least {
            return Err(SolveError::Option {
                option,
                value,
                expected: "a finite number is needed, for rho at least 0.001",
            });
        }
    }
    Ok(())
}

fn scaled_gram(h: &Matrix, scale: &[f64]) -> Vec<f32> {
    let mut scaled = Vec::with_capacity(h.data.len());
    for (row, a) in h.data.chunks_exact(h.cols.max(1)).zip(scale) {
        let row = row.iter().zip(scale);
        scaled.extend(row.map(|(v, b)| (v / (a * b)) as f32));
    }
    scaled
}

struct State {
    scale: Vec<f64>,
    pattern: Pattern,
    keep: usize,
    threads: usize,
    d: usize,
    /// `H̃`, `d × d`.
    gram: Vec<f32>,
    /// The buffer of the last factor.
    spare: Vec<f32>,
    bands: Vec<Band>,
}

impl State {
    fn iterate(&mut self, config: &AlpsConfig) -> Result<Alps, SolveError> {
        let mut out = Alps {
            mask: Mask::default(),
            weights: Matrix::default(),
            iterations: 0,
            settled: false,
            restarts: 0,
            rho: config.rho,
            last_flips: 0,
            gap: 0.0,
            refit_steps: 0,
            refit_residual: 0.0,
        };
        let mut first_rho = config.rho;
        let mut moved = false;
        let mut since_start = 0;
        self.begin();
        while out.iterations < config.max_iterations {
            let steps = LOOK_EVERY.min(config.max_iterations - out.iterations);
            self.step(out.rho, steps)?;
            out.iterations += steps;
            since_start += steps;
            if steps < LOOK_EVERY {
                break;
            }
            out.last_flips = self.bands.iter_mut().map(Band::look).sum();
            let change = out.last_flips as f64 / self.keep.max(1) as f64;
            moved |= change > MOVED;
            if !moved && first_rho / 5.0 >= LEAST_RHO {
                first_rho /= 5.0;
                out.rho = first_rho;
                out.restarts += 1;
                since_start = 0;
                self.begin();
            } else if out.last_flips == 0 || (since_start >= SETTLED_AFTER && change < SETTLED) {
                out.settled = true;
                break;
            } else {
                out.rho *= growth(change);
            }
        }
        let gaps = self.bands.iter().map(Band::gap);
        let (apart, size) = gaps.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        out.gap = if size > 0.0 {
            (apart / size).sqrt()
        } else {
            0.0
        };
        Ok(out)
    }

    /// Makes steps with one ρ; its factor is gone before the next one is made.
    fn step(&mut self, rho: f64, steps: usize) -> Result<(), SolveError> {
        let factor = self.factor(rho)?;
        let rho = rho as f32;
        for _ in 0..steps {
            self.each(|band, _, _| band.solve(&factor, rho));
            self.project();
            self.each(|band, _, _| band.raise_dual(rho));
        }
        self.spare = factor.into_lower();
        Ok(())
    }

    fn begin(&mut self) {
        self.each(|band, _, _| band.begin());
        self.project();
        self.each(|band, _, _| {
            band.look();
        });
    }

    fn factor(&mut self, rho: f64) -> Result<BlockedFactor<f32>, SolveError> {
        let mut shifted = std::mem::take(&mut self.spare);
        shifted.resize(self.d * self.d, 0.0);
        copy_lower(&mut shifted, &self.gram, self.d, self.threads);
        for j in 0..self.d {
            shifted[j * self.d + j] += rho as f32;
        }
        blocked_cholesky(shifted, self.d, self.threads)
    }

    fn project(&mut self) {
        project::project(
            &mut self.bands,
            self.pattern,
            self.keep,
            self.d,
            self.threads,
        );
    }

    fn each(&mut self, work: impl Fn(&mut Band, &[f32], usize) + Sync) {
        let (gram, d) = (&self.gram, self.d);
        over_bands(&mut self.bands, 1, self.threads, &|_, part: &mut [Band]| {
            for band in part.iter_mut() {
                work(band, gram, d);
            }
        });
    }
}

fn growth(change: f64) -> f64 {
    if change > 0.1 {
        1.3
    } else if change > MOVED {
        1.2
    } else {
        1.1
    }
}

#[cfg(test)]
mod tests;
