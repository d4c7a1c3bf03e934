//! Exact refinement of a mask: the best swap with everything else refitted, again and again.
//!
//! Inside a row the change of the objective is known in closed form for every pair of a kept and a
//! pruned connection (see the tableau of this folder); between rows a connection moves where its drop costs
//! less than an addition elsewhere gains. Rows do not interact, so a move is exact as long as each
//! row takes part in one at a time. The count of the layer stays what it was.
//!
//! Memory: one square matrix of order `d + 1` per thread, together not above `d × d` or 64 MiB; wider layers than [`MAX_INPUTS`] are left
//! as they are, and the report says so.
//!
//! # Reference
//! Goodnight, "A tutorial on the SWEEP operator", The American Statistician 1979; swaps without a
//! refit as in Zimmer et al., "`SparseSwaps`", 2025.

#[cfg(test)]
mod tests;

use crate::error::{SolveError, same};
use crate::sparse::shards::{affordable, in_order};
use crate::sparse::tableau::Tableau;
use crate::sparse::{Mask, Objective, Pattern};

/// A tableau of this order takes 34 MB a thread, and a pass over a few hundred rows minutes.
pub const MAX_INPUTS: usize = 2048;

/// How long to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapConfig {
    /// The shape that the zeros keep.
    pub pattern: Pattern,
    /// Cheapest drops and best additions of a row that are paired; their pairs are all tried.
    pub candidates: usize,
    /// Passes over all rows at most.
    pub passes: usize,
    /// A swap must lower the row's objective by more than this share of the target's energy of the
    /// whole layer over its number of rows.
    pub tolerance: f64,
}

impl Default for SwapConfig {
    fn default() -> Self {
        Self {
            pattern: Pattern::Unstructured,
            candidates: 32,
            passes: 2,
            tolerance: 1e-7,
        }
    }
}

/// What was changed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SwapReport {
    /// Swaps inside rows.
    pub swaps: usize,
    /// Connections moved from one row to another.
    pub moves: usize,
    /// By how much the objective falls, as predicted swap by swap.
    pub gain: f64,
    /// True if the layer was left as it is: too wide, or its pattern has no single swaps.
    pub skipped: bool,
}

/// Improves `mask` in place; the weights on it come from a refit afterwards.
/// # Errors
/// [`SolveError::Shape`] if the mask is not `r × d`.
pub fn swap(
    objective: &Objective,
    mask: &mut Mask,
    config: &SwapConfig,
    threads: usize,
) -> Result<SwapReport, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    same("mask's rows", r, mask.rows)?;
    same("mask's columns", d, mask.cols)?;
    let mut report = SwapReport::default();
    if d > MAX_INPUTS || matches!(config.pattern, Pattern::RowBlocks { .. }) {
        report.skipped = true;
        return Ok(report);
    }
    let scale = if objective.energy > 0.0 {
        objective.energy
    } else {
        1.0
    };
    let least = config.tolerance * scale / r.max(1) as f64;
    for _ in 0..config.passes {
        let found = in_order(
            r,
            affordable(threads, (d + 1) * (d + 1), d),
            || Tableau::new(d),
            |tableau, row| {
                tableau.load(&objective.h.data, objective.g.row(row), mask.row(row));
                let (swaps, gain) = improve_row(tableau, objective, config, least);
                Row {
                    kept: tableau.kept().to_vec(),
                    swaps,
                    gain,
                    drop: tableau.cheapest_drop(),
                    add: tableau.best_add(&objective.h),
                }
            },
        );
        let before = report;
        for (row, found) in found.iter().enumerate() {
            mask.row_mut(row).copy_from_slice(&found.kept);
            report.swaps += found.swaps;
            report.gain += found.gain;
        }
        if config.pattern == Pattern::Unstructured {
            move_between(&found, mask, least, &mut report);
        }
        if (before.swaps, before.moves) == (report.swaps, report.moves) {
            break;
        }
    }
    Ok(report)
}

/// One row after its swaps.
struct Row {
    kept: Vec<bool>,
    swaps: usize,
    gain: f64,
    /// Cheapest drop and best addition: connection and what it costs or gains.
    drop: Option<(usize, f64)>,
    add: Option<(usize, f64)>,
}

/// Swaps until none is worth it; returns how many and what they gained.
fn improve_row(
    tableau: &mut Tableau,
    objective: &Objective,
    config: &SwapConfig,
    least: f64,
) -> (usize, f64) {
    let (mut swaps, mut gained) = (0, 0.0);
    // A swap never makes the objective larger, so this ends; the bound is against rounding.
    for _ in 0..tableau.kept().len() {
        let Some((j, i, change)) = best_swap(tableau, objective, config) else {
            break;
        };
        if -change <= least {
            break;
        }
        tableau.flip(j);
        tableau.flip(i);
        swaps += 1;
        gained -= change;
    }
    (swaps, gained)
}

fn best_swap(
    tableau: &Tableau,
    objective: &Objective,
    config: &SwapConfig,
) -> Option<(usize, usize, f64)> {
    let d = tableau.kept().len();
    let (kept, pruned): (Vec<usize>, Vec<usize>) = (0..d).partition(|&j| tableau.kept()[j]);
    let diagonal = |i: usize| objective.h.at(i, i);
    let lowest = |list: Vec<usize>, key: &dyn Fn(usize) -> f64| {
        let mut keyed: Vec<(f64, usize)> = list.into_iter().map(|j| (key(j), j)).collect();
        if keyed.len() > config.candidates && config.candidates > 0 {
            keyed.select_nth_unstable_by(config.candidates - 1, |a, b| {
                a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
            });
            keyed.truncate(config.candidates);
        }
        keyed.into_iter().map(|(_, j)| j).collect::<Vec<_>>()
    };
    let (drops, adds) = match config.pattern {
        // Pairs are few inside groups: all of them are tried.
        Pattern::Grouped { .. } => (kept, pruned),
        Pattern::Unstructured | Pattern::RowBlocks { .. } => (
            lowest(kept, &|j| tableau.drop_cost(j)),
            lowest(pruned, &|i| -tableau.add_gain(i, diagonal(i))),
        ),
    };
    let mut best: Option<(usize, usize, f64)> = None;
    for &j in &drops {
        let partners = match config.pattern {
            Pattern::Grouped { group, .. } => {
                let first = j / group * group;
                let from = adds.partition_point(|i| *i < first);
                let to = adds.partition_point(|i| *i < first + group);
                &adds[from..to]
            }
            Pattern::Unstructured | Pattern::RowBlocks { .. } => &adds[..],
        };
        for &i in partners {
            let change = tableau.swap_change(j, i, diagonal(i));
            let better = |b: &(usize, usize, f64)| {
                change < b.2 || (change.total_cmp(&b.2).is_eq() && (j, i) < (b.0, b.1))
            };
            if best.as_ref().is_none_or(better) {
                best = Some((j, i, change));
            }
        }
    }
    best
}

/// Moves connections from the rows that miss one least to those that gain most, each row once.
fn move_between(rows: &[Row], mask: &mut Mask, least: f64, report: &mut SwapReport) {
    let mut drops: Vec<(usize, usize, f64)> = Vec::new();
    let mut adds: Vec<(usize, usize, f64)> = Vec::new();
    for (row, found) in rows.iter().enumerate() {
        drops.extend(found.drop.map(|(j, cost)| (row, j, cost)));
        adds.extend(found.add.map(|(i, gain)| (row, i, gain)));
    }
    drops.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.cmp(&b.0)));
    adds.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    let mut busy = vec![false; rows.len()];
    let mut next = 0;
    for (to, i, gain) in adds {
        if busy[to] {
            continue;
        }
        while next < drops.len() && (busy[drops[next].0] || drops[next].0 == to) {
            next += 1;
        }
        let Some(&(from, j, cost)) = drops.get(next) else {
            break;
        };
        if gain - cost <= least {
            break;
        }
        (busy[from], busy[to]) = (true, true);
        mask.row_mut(from)[j] = false;
        mask.row_mut(to)[i] = true;
        report.moves += 1;
        report.gain += gain - cost;
    }
}
