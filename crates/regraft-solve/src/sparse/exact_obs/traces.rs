//! What the eliminations of all rows say together: one curve, and masks of any size.
//!
//! Rows are merged by prefixes: a mask takes the first `k_i` removals of each row `i`, and the best
//! one minimises `Σ cum_i(k_i)` at a given `Σ k_i`. A row's rises mostly grow, but not always: a
//! costly removal can make the next ones cheap. Merged by single rises, a row with one costly step
//! would hide the cheap ones behind it; by their running maximum, it would be charged for it as if
//! they were all costly. What is optimal at every threshold `μ`, the smallest `cum_i(k) − μ k`, is
//! reached at the corners of the lower convex hull of `cum_i`. So each removal is given the slope of
//! its piece of the hull, which never falls along a row; sorted by it, every row's own order holds,
//! and wherever a piece ends no choice of prefixes of the same size has a smaller sum. Inside a
//! piece the curve says what that mask really costs.

use crate::error::SolveError;
use crate::sparse::{Mask, Objective, Pattern};

/// The removals of one block of rows, first to last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// The inputs, in the order in which they go.
    pub order: Vec<u32>,
    /// What the removal of each raises the objective by, with the rest refitted; at least 0.
    pub rises: Vec<f64>,
}

/// The removals of a layer and the order in which its rows take turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// Number of outputs.
    pub rows: usize,
    /// Number of inputs.
    pub cols: usize,
    /// Outputs that lose their connections together; 1 unless the pattern is one of blocks.
    pub block_rows: usize,
    /// The pattern the traces were made for.
    pub pattern: Pattern,
    /// One trace for each block of rows.
    pub blocks: Vec<Trace>,
    /// The objective with nothing removed.
    pub base: f64,
    /// The target's energy: errors are relative to it.
    pub energy: f64,
    /// Pivots that rounding took below their bound (see the module page); the Gram is nearly
    /// singular if it is not 0, and the order is then less than exact.
    pub floored: usize,
    merged: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    /// Slope of the hull, for one connection.
    slope: f64,
    block: u32,
    at: u32,
}

impl Traces {
    pub(super) fn merge(
        objective: &Objective,
        pattern: Pattern,
        block_rows: usize,
        found: Vec<(Trace, usize)>,
    ) -> Result<Self, SolveError> {
        let mut merged = Vec::with_capacity(found.iter().map(|(t, _)| t.order.len()).sum());
        for (block, (trace, _)) in found.iter().enumerate() {
            for (at, slope) in hull_slopes(&trace.rises).into_iter().enumerate() {
                merged.push(Step {
                    slope: slope / block_rows as f64,
                    block: block as u32,
                    at: at as u32,
                });
            }
        }
        merged.sort_unstable_by(|a: &Step, b| {
            let rows = (a.block, a.at).cmp(&(b.block, b.at));
            a.slope.total_cmp(&b.slope).then(rows)
        });
        Ok(Self {
            rows: objective.n_out(),
            cols: objective.n_in(),
            block_rows,
            pattern,
            base: objective.value(&objective.target)?,
            energy: objective.energy,
            floored: found.iter().map(|(_, floored)| floored).sum(),
            blocks: found.into_iter().map(|(trace, _)| trace).collect(),
            merged,
        })
    }

    /// Returns the number of removals: connections, or blocks of them.
    pub fn n_steps(&self) -> usize {
        self.merged.len()
    }

    /// Returns the fewest connections a mask can keep.
    pub fn min_kept(&self) -> usize {
        self.rows * self.cols - self.n_steps() * self.block_rows
    }

    /// Returns what the objective has risen by after `t` removals, for every `t` from 0 to
    /// [`Traces::n_steps`]; it never falls. The objective itself is this plus [`Traces::base`], and
    /// its relative error that over [`Traces::energy`].
    pub fn curve(&self) -> Vec<f64> {
        let mut total = 0.0;
        let steps = self.merged.iter().map(|step| {
            let trace = self.blocks.get(step.block as usize);
            total += trace
                .and_then(|t| t.rises.get(step.at as usize))
                .unwrap_or(&0.0);
            total
        });
        std::iter::once(0.0).chain(steps).collect()
    }

    /// Returns the connections that go when every removal goes whose marginal rise (its row's hull
    /// slope, for one connection, in units of the objective) is at most `threshold`.
    ///
    /// One threshold over many layers, each divided by its layer's sensitivity, gives the least sum
    /// of their errors at that size.
    pub fn n_below(&self, threshold: f64) -> usize {
        self.merged.partition_point(|step| step.slope <= threshold) * self.block_rows
    }

    /// Returns the marginal rise of every removal in the order in which they go, for one
    /// connection; it never falls.
    pub fn slopes(&self) -> impl Iterator<Item = f64> + '_ {
        self.merged.iter().map(|step| step.slope)
    }

    /// Returns the mask that [`Traces::n_below`] counts.
    /// # Errors
    /// As [`Traces::mask_at`].
    pub fn mask_below(&self, threshold: f64) -> Result<Mask, SolveError> {
        self.mask_after(self.n_below(threshold) / self.block_rows)
    }

    /// Returns the cheapest mask that keeps `n_kept` connections, or with blocks the fewest whole
    /// blocks above.
    /// # Errors
    /// [`SolveError::Option`] if the traces end before so few are kept, or the layer has not so
    /// many; [`SolveError::Pattern`] if only the end of the traces has the pattern.
    pub fn mask_at(&self, n_kept: usize) -> Result<Mask, SolveError> {
        let all = self.rows * self.cols;
        if n_kept < self.min_kept() || n_kept > all {
            return Err(SolveError::Option {
                option: "connections kept",
                value: n_kept as f64,
                expected: "a number that the traces reach is needed",
            });
        }
        self.mask_after((all - n_kept) / self.block_rows)
    }

    /// Returns the mask of `keep` connections; [`Pattern::Grouped`] fixes the number itself, and
    /// `keep` is not read.
    /// # Errors
    /// As [`Traces::mask_at`].
    pub fn mask_of(&self, keep: usize) -> Result<Mask, SolveError> {
        match self.pattern {
            Pattern::Grouped { .. } => Ok(self.last_mask()),
            Pattern::Unstructured | Pattern::RowBlocks { .. } => self.mask_at(keep),
        }
    }

    /// Returns the mask with everything removed that the traces hold: the only one of
    /// [`Pattern::Grouped`].
    pub fn last_mask(&self) -> Mask {
        self.prefixes(self.n_steps())
    }

    fn mask_after(&self, steps: usize) -> Result<Mask, SolveError> {
        if let Pattern::Grouped { keep, group } = self.pattern
            && steps != self.n_steps()
        {
            return Err(SolveError::Pattern {
                what: "connections kept, as a mask before the end has more,",
                size: keep,
                of: group,
            });
        }
        Ok(self.prefixes(steps))
    }

    fn prefixes(&self, steps: usize) -> Mask {
        let mut mask = Mask::full(self.rows, self.cols);
        for step in &self.merged[..steps] {
            let block = step.block as usize;
            let gone = self.blocks.get(block);
            let Some(&col) = gone.and_then(|t| t.order.get(step.at as usize)) else {
                continue;
            };
            for row in block * self.block_rows..(block + 1) * self.block_rows {
                mask.row_mut(row)[col as usize] = false;
            }
        }
        mask
    }
}

/// Returns for every step the slope of the lower convex hull of the running sum at it.
///
/// Neighbours whose means fall are pooled until none do; the pools are the pieces of the hull.
pub(super) fn hull_slopes(rises: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for &rise in rises {
        let (mut sum, mut count) = (rise, 1);
        while let Some(&(before, steps)) = pools.last() {
            if before / (steps as f64) < sum / f64::from(count) {
                break;
            }
            sum += before;
            count += steps as u32;
            pools.pop();
        }
        pools.push((sum, count as usize));
    }
    let slopes = pools.iter().flat_map(|&(sum, count)| {
        let slope = sum / count as f64;
        std::iter::repeat_n(slope, count)
    });
    slopes.collect()
}
