//! Widths of all groups under one budget, from their error curves.
//!
//! Each group has a curve of error against kept units, already weighted so that curves
//! of different groups can be added. Greedy descent: of all groups, the one whose next
//! step costs the least error per cost saved gives it, until the budget holds. The ratio
//! uses the curve's lower convex hull, so that a cheap far step is seen behind a dear
//! near one. Then a local exchange: give a step back here, take steps there, while the
//! total error falls and the budget holds.

mod exchange;
mod levels;

use crate::error::SolveError;
use levels::Levels;

/// One group's error against its width.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupCurve {
    /// `errors[k]` is the weighted error with `k` units kept; the last entry is the dense
    /// width. A curve that is not monotone is raised to be so.
    pub errors: Vec<f64>,
    /// Fewest units that must stay.
    pub min_kept: usize,
    /// Most units that may stay; the dense width for no limit.
    pub max_kept: usize,
    /// Channels that one unit stands for, 1 for most groups: a whole attention head has many.
    pub unit_width: usize,
}

impl GroupCurve {
    /// Returns a curve that may go anywhere between one unit and the dense width.
    pub fn new(errors: Vec<f64>) -> Self {
        let width = errors.len().saturating_sub(1);
        Self {
            errors,
            min_kept: 1.min(width),
            max_kept: width,
            unit_width: 1,
        }
    }
}

/// How to allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocateConfig {
    /// Widths in channels end on multiples of this, or at the dense width.
    pub multiple_of: usize,
    /// Accepted exchanges at most.
    pub max_exchanges: usize,
    /// Widths below the present one that a step down may reach, at least 1: where the cost is a
    /// measured time, the next width can cost as much as this one and the one after it half.
    pub look_ahead: usize,
}

impl Default for AllocateConfig {
    fn default() -> Self {
        // Exchanges stop by themselves; the limit only bounds the calls of the cost.
        Self {
            multiple_of: 1,
            max_exchanges: 64,
            look_ahead: 1,
        }
    }
}

/// One step of the greedy descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The group that gave.
    pub group: usize,
    /// Its width before.
    pub from: usize,
    /// Its width after.
    pub to: usize,
    /// Rise of its error on the monotone curve.
    pub error_rise: f64,
    /// Cost saved at that moment.
    pub cost_saved: f64,
}

/// Widths under a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Units kept in each group.
    pub widths: Vec<usize>,
    /// Sum of the groups' errors at these widths.
    pub error: f64,
    /// Cost of these widths.
    pub cost: f64,
    /// Whether the cost is within the budget; false when every group is at its minimum.
    pub within_budget: bool,
    /// The greedy descent, step by step.
    pub trace: Vec<Step>,
    /// Exchanges that lowered the error after the descent.
    pub exchanges: usize,
}

/// Returns widths whose cost is at most `budget`, with a low sum of errors.
///
/// `cost` maps the widths of all groups to a cost (MACs, parameters, milliseconds) that
/// does not rise when a width falls. Ties go to the first group.
/// # Errors
/// [`SolveError::Option`] for a zero multiple, [`SolveError::Shape`] for an empty curve
/// or a range that holds no width, [`SolveError::NotFinite`] for a bad error value.
pub fn allocate(
    curves: &[GroupCurve],
    cost: &dyn Fn(&[usize]) -> f64,
    budget: f64,
    config: AllocateConfig,
) -> Result<Allocation, SolveError> {
    if config.multiple_of == 0 {
        return Err(SolveError::Option {
            option: "multiple_of",
            value: 0.0,
            expected: "at least 1 is needed",
        });
    }
    let levels = curves
        .iter()
        .enumerate()
        .map(|(group, curve)| Levels::new(group, curve, config.multiple_of))
        .collect::<Result<Vec<_>, _>>()?;
    let mut search = Search {
        at: vec![0; levels.len()],
        levels: &levels,
        cost,
        budget,
        look_ahead: config.look_ahead.max(1),
    };
    let trace = search.descend();
    let exchanges = search.exchange(config.max_exchanges);
    let final_cost = search.cost();
    Ok(Allocation {
        widths: search.widths(),
        error: search.error(),
        cost: final_cost,
        within_budget: final_cost <= budget,
        trace,
        exchanges,
    })
}

/// The level of each group (0 = widest) and what the search needs to move.
struct Search<'a> {
    at: Vec<usize>,
    levels: &'a [Levels],
    cost: &'a dyn Fn(&[usize]) -> f64,
    budget: f64,
    look_ahead: usize,
}

/// A step down: the group, its new level, the cost after it.
struct Move {
    group: usize,
    to: usize,
    after: f64,
}

impl Search<'_> {
    fn widths(&self) -> Vec<usize> {
        self.at
            .iter()
            .zip(self.levels)
            .map(|(&at, levels)| levels.widths[at])
            .collect()
    }

    fn cost(&self) -> f64 {
        (self.cost)(&self.widths())
    }

    fn error(&self) -> f64 {
        self.at
            .iter()
            .zip(self.levels)
            .map(|(&at, levels)| levels.errors[at])
            .sum()
    }

    /// Returns the step down of a group, other than `except`, that costs the least error per cost
    /// saved.
    fn best_step_down(&mut self, cost: f64, except: Option<usize>) -> Option<Move> {
        let mut best: Option<(Move, f64)> = None;
        for group in (0..self.at.len()).filter(|g| Some(*g) != except) {
            let at = self.at[group];
            let last = self.levels[group].widths.len() - 1;
            for to in at + 1..=last.min(at + self.look_ahead) {
                let rise = self.levels[group].hull[to] - self.levels[group].hull[at];
                self.at[group] = to;
                let after = self.cost();
                self.at[group] = at;
                let saved = cost - after;
                let ratio = match (rise > 0.0, saved > 0.0) {
                    (_, true) => rise.max(0.0) / saved,
                    // Nothing lost and nothing saved: it may open the way for another group.
                    (false, false) => f64::MAX,
                    (true, false) => continue,
                };
                if best.as_ref().is_none_or(|(_, lowest)| ratio < *lowest) {
                    best = Some((Move { group, to, after }, ratio));
                }
            }
        }
        best.map(|(step, _)| step)
    }

    fn descend(&mut self) -> Vec<Step> {
        let mut trace = Vec::new();
        let mut cost = self.cost();
        while cost > self.budget {
            let Some(Move { group, to, after }) = self.best_step_down(cost, None) else {
                break;
            };
            let (levels, at) = (&self.levels[group], self.at[group]);
            trace.push(Step {
                group,
                from: levels.widths[at],
                to: levels.widths[to],
                error_rise: levels.errors[to] - levels.errors[at],
                cost_saved: cost - after,
            });
            self.at[group] = to;
            cost = after;
        }
        trace
    }
}

#[cfg(test)]
mod tests;
