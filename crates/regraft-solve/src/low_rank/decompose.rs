//! Single weights and a product of thin matrices, together closest to a layer on one objective.
//!
//! `f(S + U V) = ‖(S + U V − W̃) H½‖² + const` over a mask of given size for `S` and a given rank for `U V`.
//! Each half alone has a closed form or an exact greedy one: for given `S`, the best product is the
//! spectrum of `(W̃ − S)` under `H`; for given `U V`, the best mask and its weights are those of the objective
//! moved to `W̃ − U V`. They take turns, and the best pair that was seen stays.
//!
//! # Reference
//! The split into both as in Zhou and Tao, "`GoDec`", ICML 2011, and Li et al., "`LoSparse`", ICML 2023; on a
//! layer's own inputs as in Zhang and Papyan, "OATS", ICLR 2025, and Makni et al., "HASSLE-free", 2025. Those
//! threshold; here masks come from exact optimal brain surgery and their weights from the exact refit.

use super::{Spectrum, spectrum};
use crate::error::SolveError;
use crate::factor::product;
use crate::problem::dot;
use crate::sparse::{
    AlpsConfig, MAX_GREEDY_INPUTS, Mask, Objective, ObjectiveConfig, Pattern, Traces, alps,
    exact_obs, refit_support,
};
use crate::{LeastSquares, Matrix};

/// A layer as single weights and a product.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseLowRank {
    /// `S`, `r × d`, zero outside its mask.
    pub sparse: Matrix,
    /// `U`, `r × k`.
    pub outer: Matrix,
    /// `V`, `k × d`.
    pub inner: Matrix,
}

impl SparseLowRank {
    /// Returns `S + U V`, `r × d`.
    pub fn composed(&self) -> Matrix {
        plus(&self.sparse, &self.outer.times(&self.inner), 1.0)
    }
}

/// A layer that is decomposed, at several ranks and sizes.
#[derive(Debug)]
pub struct Decomposition {
    // Its target, `G` and constant are those of the single weights' problem at hand.
    objective: Objective,
    target: Matrix,
    base: f64,
    whole: Spectrum,
    threads: usize,
}

impl Decomposition {
    /// Returns the decomposition of a layer's weights (`r × d`) on its problem, damped as masks are.
    ///
    /// # Errors
    /// As [`Objective::new`], or [`SolveError::NotFinite`] if there are no eigenvectors.
    pub fn new(
        problem: &LeastSquares,
        weights: &Matrix,
        config: &ObjectiveConfig,
        threads: usize,
    ) -> Result<Self, SolveError> {
        let objective = Objective::new(problem, Some(weights), config)?;
        let target = objective.target.clone();
        Ok(Self {
            base: objective.value(&target)?,
            whole: spectrum(&objective.h, &target)?,
            objective,
            target,
            threads,
        })
    }

    /// Returns the best product of rank `rank` with each of several numbers of single weights beside it,
    /// after one turn of each, in the order of `kept`.
    ///
    /// One sweep of removals serves all numbers, so that this is far cheaper than as many calls of
    /// [`Decomposition::solve`]; that may still lower the error.
    /// # Errors
    /// [`SolveError::Option`] for more single weights than there are; whatever masks and refits say.
    pub fn levels(
        &mut self,
        rank: usize,
        kept: &[usize],
        each: &mut dyn FnMut(SparseLowRank) -> Result<(), SolveError>,
    ) -> Result<(), SolveError> {
        let (outer, inner) = self.whole.factors(rank)?;
        self.aim_beside(&outer, &inner);
        let traces = self.traces()?;
        for &keep in kept {
            each(self.turn(traces.as_ref(), rank, keep)?)?;
        }
        Ok(())
    }

    /// Returns `keep` single weights and a product of rank `rank` after at most `turns` turns of each, the
    /// better of two: from the product first, and from the single weights first.
    ///
    /// # Errors
    /// As [`Decomposition::levels`].
    pub fn solve(
        &mut self,
        rank: usize,
        keep: usize,
        turns: usize,
    ) -> Result<SparseLowRank, SolveError> {
        let start = self.whole.factors(rank)?;
        let (value, found) = self.turns(start, rank, keep, turns)?;
        // One part alone is done at once.
        if rank == 0 || keep == 0 {
            return Ok(found);
        }
        let start = self.whole.factors(0)?;
        let (other_value, other) = self.turns(start, rank, keep, turns)?;
        Ok(if other_value < value { other } else { found })
    }

    /// Lets both parts take turns, and returns the best objective with the pair that has it.
    fn turns(
        &mut self,
        (mut outer, mut inner): (Matrix, Matrix),
        rank: usize,
        keep: usize,
        turns: usize,
    ) -> Result<(f64, SparseLowRank), SolveError> {
        let mut best: Option<(f64, SparseLowRank)> = None;
        for _ in 0..turns.max(1) {
            self.aim_beside(&outer, &inner);
            let traces = self.traces()?;
            let found = self.turn(traces.as_ref(), rank, keep)?;
            (outer, inner) = (found.outer.clone(), found.inner.clone());
            let value = self.value(&found.composed());
            let before = best.as_ref().map_or(f64::INFINITY, |(v, _)| *v);
            if value < before {
                best = Some((value, found));
            }
            if rank == 0 || keep == 0 || value > before - LEAST_GAIN * before {
                break;
            }
        }
        best.ok_or(SolveError::NotFinite {
            what: "decomposition",
            row: 0,
            col: 0,
        })
    }

    /// Returns the objective of the whole: the one that was given.
    fn value(&self, weights: &Matrix) -> f64 {
        let miss = plus(weights, &self.target, -1.0);
        self.base + dot(&product(&miss, &self.objective.h).data, &miss.data)
    }

    /// Moves the objective to what single weights are to add to a product.
    fn aim_beside(&mut self, outer: &Matrix, inner: &Matrix) {
        let objective = &mut self.objective;
        objective.target = plus(&self.target, &outer.times(inner), -1.0);
        objective.g = product(&objective.target, &objective.h);
        objective.constant = self.base + dot(&objective.g.data, &objective.target.data);
    }

    /// Returns the single weights that the objective aims at by now, then the product beside them.
    fn turn(
        &self,
        traces: Option<&Traces>,
        rank: usize,
        keep: usize,
    ) -> Result<SparseLowRank, SolveError> {
        let mask = self.mask(traces, keep)?;
        let sparse = refit_support(&self.objective, &mask, self.threads)?.weights;
        let (outer, inner) = if rank == 0 {
            self.whole.factors(0)?
        } else {
            let rest = plus(&self.target, &sparse, -1.0);
            spectrum(&self.objective.h, &rest)?.factors(rank)?
        };
        Ok(SparseLowRank {
            sparse,
            outer,
            inner,
        })
    }

    /// Removals in their order, where the layer is not too wide for them.
    fn traces(&self) -> Result<Option<Traces>, SolveError> {
        if self.objective.n_in() > MAX_GREEDY_INPUTS {
            return Ok(None);
        }
        exact_obs(&self.objective, Pattern::Unstructured, 0, self.threads).map(Some)
    }

    fn mask(&self, traces: Option<&Traces>, keep: usize) -> Result<Mask, SolveError> {
        if let Some(traces) = traces {
            return traces.mask_at(keep);
        }
        let config = AlpsConfig::default();
        let found = alps(
            &self.objective,
            Pattern::Unstructured,
            keep,
            &config,
            self.threads,
        )?;
        Ok(found.mask)
    }
}

/// Turns end where one lowers the objective by less than this share.
const LEAST_GAIN: f64 = 1e-3;

/// Returns `a + factor · b`.
fn plus(a: &Matrix, b: &Matrix, factor: f64) -> Matrix {
    let data = a.data.iter().zip(&b.data).map(|(a, b)| a + factor * b);
    Matrix {
        rows: a.rows,
        cols: a.cols,
        data: data.collect(),
    }
}
