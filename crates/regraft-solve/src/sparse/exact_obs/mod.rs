//! `ExactOBS`: which single connections a layer misses least, row by row, each step exact.
//!
//! A row of the objective is `(v − w̃) H (v − w̃)ᵀ` with `P = H⁻¹`. Removing connection `p` and
//! refitting the others raises it by `w_p² / P_pp`; then `w −= (w_p / P_pp) P_p:` and
//! `P −= P_:p P_p: / P_pp`, and `p` is gone. The cheapest goes first, until `min_keep` are left. For
//! a block of outputs that lose their connections together, the supports are equal, so `P` is, and
//! the rise is `Σ w_p² / P_pp` over the block's rows.
//!
//! That is a pivoted Cholesky factor of `P`: with `c = P_:p / √P_pp` a step subtracts `c cᵀ`. Only
//! the pivot's column and the diagonal are needed at once, so [`PANEL`] steps are collected and
//! subtracted as one product; within a panel a column is brought up to date from the collected ones.
//! Of each step only the connection and the rise are kept; weights come from the refit.
//!
//! All pivots of the exact process obey `P_jj ≥ 1 / H_jj` (equal when no other input explains `j`).
//! Rounding can break that where the Gram is nearly singular: such a diagonal is set to its bound,
//! and [`Traces::floored`] counts them.
//!
//! Memory: one `d × d` matrix per thread beside the objective, which is only read; wide layers have
//! fewer rows at once, so that this is one, or 64 MiB, and the threads share a row's products.
//!
//! # Reference
//! Frantar, Singh and Alistarh, "Optimal Brain Compression", `NeurIPS` 2022, algorithm 1 and the
//! global step of section 4.1. We work on the unmasked optimum instead of the old weights, keep no
//! weight traces, and merge rows by the slopes of their lower convex hulls.

mod sweep;
#[cfg(test)]
mod tests;
mod traces;

use crate::error::SolveError;
use crate::sparse::shards::{affordable, in_order};
use crate::sparse::{Objective, Pattern};

use sweep::Sweep;
pub use traces::{Trace, Traces};

/// Returns the order in which each row of a layer loses its connections, and what each costs.
///
/// A row stops at `min_keep` connections (0: goes to the end); with [`Pattern::Grouped`] at the
/// pattern's quota in every group, and `min_keep` does not count.
/// # Units
/// Rises are those of [`Objective::value`], not relative.
/// # Errors
/// [`SolveError::Pattern`] for a pattern that does not fit; [`SolveError::NotPositiveDefinite`],
/// [`SolveError::NotFinite`] and [`SolveError::Shape`] for an objective that was not made by
/// [`Objective::new`] or overflows.
pub fn exact_obs(
    objective: &Objective,
    pattern: Pattern,
    min_keep: usize,
    threads: usize,
) -> Result<Traces, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    pattern.check(r, d)?;
    objective.check()?;
    let block_rows = match pattern {
        Pattern::RowBlocks { rows } => rows,
        Pattern::Unstructured | Pattern::Grouped { .. } => 1,
    };
    // Rows share the threads, and the threads that have no room for a row of their own help.
    let at_once = affordable(threads, d * d, d).min((r / block_rows).max(1));
    let helpers = threads / at_once.max(1);
    let found = in_order(
        r / block_rows,
        at_once,
        || Sweep::new(d, block_rows, helpers),
        |sweep, block| {
            sweep.start(objective, block * block_rows);
            trace(sweep, pattern, min_keep)
        },
    );
    let traces: Result<Vec<_>, _> = found.into_iter().collect();
    Traces::merge(objective, pattern, block_rows, traces?)
}

/// Returns the removals of the block that `sweep` was started on, and how often it hit a bound.
fn trace(
    sweep: &mut Sweep,
    pattern: Pattern,
    min_keep: usize,
) -> Result<(Trace, usize), SolveError> {
    let d = sweep.n_open();
    let mut quota = match pattern {
        Pattern::Grouped { keep, group } => Some((vec![group - keep; d / group], group)),
        Pattern::Unstructured | Pattern::RowBlocks { .. } => None,
    };
    let mut steps = d.saturating_sub(min_keep);
    if let Some((left, group)) = &quota {
        steps = left.iter().sum();
        for (index, _) in left.iter().enumerate().filter(|(_, left)| **left == 0) {
            sweep.close(index * group..(index + 1) * group);
        }
    }
    let mut trace = Trace {
        order: Vec::with_capacity(steps),
        rises: Vec::with_capacity(steps),
    };
    while trace.order.len() < steps {
        let Some(at) = sweep.cheapest() else { break };
        let (col, rise) = sweep.remove(at);
        if !rise.is_finite() {
            let row = trace.order.len();
            return Err(SolveError::NotFinite {
                what: "trace of removals",
                row,
                col,
            });
        }
        trace.order.push(col as u32);
        trace.rises.push(rise);
        if let Some((left, group)) = &mut quota {
            let index = col / *group;
            left[index] -= 1;
            if left[index] == 0 {
                sweep.close(index * *group..(index + 1) * *group);
            }
        }
    }
    Ok((trace, sweep.floored()))
}
