//! The plans that are tried.

use std::collections::BTreeSet;

use regraft_prune::blocks::RemovableBlock;
use regraft_prune::{Groups, Plan};
use regraft_solve::allocate::{AllocateConfig, allocate};

use super::blocks::{Choice, curves, may_go};
use super::meter::Meter;
use super::trial::Trial;
use super::{Setting, WidthCurves};
use crate::{Error, ErrorKind};

/// Corrections of the budget of one plan.
const MAX_CORRECTIONS: usize = 6;

/// Factor between rates of exchange that are tried.
const RATE_STEP: f64 = 3.0;

/// Plans that are rebuilt and judged at most: at different rates, and all together.
const MAX_RATES: usize = 7;
const MAX_TRIALS: usize = 20;

/// Moves in a row that were no better, after which the search ends.
const MAX_IDLE: usize = 6;

/// Blocks of each kind that a round of moves considers.
const MOVED_BLOCKS: usize = 3;

/// A plan whose model was measured.
pub(super) struct Candidate {
    widths: Vec<usize>,
    pub(super) plan: Plan,
    /// Share of the dense network's cost.
    pub(super) share: f64,
}

/// Blocks removed, share of the cost and error of each plan that was rebuilt.
pub(super) type Trials = Vec<(usize, f64, f64)>;

/// The search at one target.
pub(super) struct Search<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) groups: &'a Groups,
    pub(super) widths: &'a WidthCurves,
    pub(super) blocks: Vec<RemovableBlock>,
    /// Error of the output without each block.
    pub(super) errors: Vec<f64>,
    pub(super) meter: Meter<'a>,
    pub(super) target: f64,
    pub(super) trial: Trial<'a>,
}

/// What is known on the way.
#[derive(Default)]
struct State {
    best: Option<(Candidate, f64)>,
    trials: Trials,
    seen: BTreeSet<Vec<usize>>,
    /// Share nearest to the target.
    nearest: Option<f64>,
}

impl Search<'_> {
    /// Tries rates of exchange, then moves of single blocks.
    pub(super) fn best(&self) -> Result<(Candidate, Trials), Error> {
        let mut state = State::default();
        self.rates(&mut state)?;
        self.moves(&mut state)?;
        match state.best {
            Some((candidate, _)) => Ok((candidate, state.trials)),
            None => Err(self.unreachable(state.nearest)),
        }
    }

    /// Rates from 1 outwards while they get better.
    fn rates(&self, state: &mut State) -> Result<(), Error> {
        let open = vec![Choice::Open; self.blocks.len()];
        for step in [1.0 / RATE_STEP, RATE_STEP] {
            let mut rate = if step < 1.0 { 1.0 } else { RATE_STEP };
            // The error may rise once by chance before it falls on.
            let mut worse = 0;
            while worse < 2 && state.trials.len() < MAX_RATES && (1e-6..=1e6).contains(&rate) {
                worse = if self.attempt(&open, rate, state)? {
                    0
                } else {
                    worse + 1
                };
                rate *= step;
            }
        }
        Ok(())
    }

    /// From the best plan on one block goes, comes back, or takes another's place, as long as that
    /// lowers the error.
    fn moves(&self, state: &mut State) -> Result<(), Error> {
        let prices = self.prices();
        let mut tried: BTreeSet<Vec<usize>> = BTreeSet::new();
        let mut idle = 0;
        while state.trials.len() < MAX_TRIALS && idle < MAX_IDLE {
            let Some((best, _)) = &state.best else { break };
            let kept = best.widths[self.groups.groups.len()..].to_vec();
            let open = self
                .neighbours(&kept, &prices)
                .into_iter()
                .find(|next| tried.insert(next.clone()));
            let Some(next) = open else { break };
            let choices = next.iter().map(|kept| match kept {
                0 => Choice::Goes,
                _ => Choice::Stays,
            });
            let better = self.attempt(&choices.collect::<Vec<_>>(), 1.0, state)?;
            idle = if better { 0 } else { idle + 1 };
        }
        Ok(())
    }

    /// Blocks kept (1) or gone (0) after one move, the most promising first.
    fn neighbours(&self, kept: &[usize], prices: &[f64]) -> Vec<Vec<usize>> {
        let by_price = |state: usize| {
            let mut found: Vec<usize> = (0..kept.len())
                .filter(|b| kept[*b] == state && may_go(self.errors[*b]))
                .collect();
            found.sort_by(|a, b| prices[*a].total_cmp(&prices[*b]));
            found
        };
        let cheapest: Vec<usize> = by_price(1).into_iter().take(MOVED_BLOCKS).collect();
        let dearest: Vec<usize> = by_price(0).into_iter().rev().take(MOVED_BLOCKS).collect();
        let moved = |goes: Option<usize>, returns: Option<usize>| {
            let mut next = kept.to_vec();
            if let Some(block) = goes {
                next[block] = 0;
            }
            if let Some(block) = returns {
                next[block] = 1;
            }
            next
        };
        let mut next = Vec::new();
        for rank in 0..MOVED_BLOCKS {
            let (goes, returns) = (cheapest.get(rank).copied(), dearest.get(rank).copied());
            next.extend(goes.map(|b| moved(Some(b), None)));
            next.extend(returns.map(|b| moved(None, Some(b))));
        }
        for returns in &dearest {
            next.extend(cheapest.iter().map(|b| moved(Some(*b), Some(*returns))));
        }
        next
    }

    /// The error of each block for what it costs in the dense network.
    fn prices(&self) -> Vec<f64> {
        let n_groups = self.groups.groups.len();
        let mut widths: Vec<usize> = self.groups.groups.iter().map(|g| g.units.len()).collect();
        widths.extend(std::iter::repeat_n(1, self.blocks.len()));
        let whole = self.meter.at(&widths);
        let price = |(block, error): (usize, &f64)| {
            widths[n_groups + block] = 0;
            let saved = whole - self.meter.at(&widths);
            widths[n_groups + block] = 1;
            error / saved.max(f64::MIN_POSITIVE)
        };
        self.errors.iter().enumerate().map(price).collect()
    }

    /// Makes a plan and judges it if it is new and keeps the budget; returns whether it is the
    /// best so far.
    fn attempt(&self, choices: &[Choice], rate: f64, state: &mut State) -> Result<bool, Error> {
        let candidate = self.within(choices, rate)?;
        let off = |share: f64| (share - self.target).abs();
        if state.nearest.is_none_or(|n| off(candidate.share) < off(n)) {
            state.nearest = Some(candidate.share);
        }
        if self.miss(&candidate) > self.meter.tolerance().1
            || !state.seen.insert(candidate.widths.clone())
        {
            return Ok(false);
        }
        let error = self.trial.error(&candidate.plan)?;
        // As the first plan, one that gives no numbers would stay the best: nothing is below it.
        if !error.is_finite() {
            return Ok(false);
        }
        let gone = candidate.plan.removed_blocks.len();
        self.setting.progress.note(&format!(
            "{gone} block{} removed: {:.3} of the {}, error {error:.4} after a closed-form rebuild",
            if gone == 1 { "" } else { "s" },
            candidate.share,
            self.meter.what()
        ));
        state.trials.push((gone, candidate.share, error));
        let better = state
            .best
            .as_ref()
            .is_none_or(|(_, lowest)| error < *lowest);
        if better {
            state.best = Some((candidate, error));
        }
        Ok(better)
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.setting.progress.cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }

    fn miss(&self, candidate: &Candidate) -> f64 {
        self.meter.miss(candidate.share, self.target)
    }

    /// A plan, its budget corrected until the real model keeps it.
    fn within(&self, choices: &[Choice], rate: f64) -> Result<Candidate, Error> {
        let mut budget = self.target * self.meter.dense();
        let mut nearest: Option<Candidate> = None;
        for _ in 0..MAX_CORRECTIONS {
            self.go_on()?;
            let candidate = self.measured(choices, rate, budget)?;
            let share = candidate.share;
            let again = nearest
                .as_ref()
                .is_some_and(|n| n.widths == candidate.widths);
            if nearest
                .as_ref()
                .is_none_or(|n| self.miss(&candidate) < self.miss(n))
            {
                nearest = Some(candidate);
            }
            let close = |n: &Candidate| self.miss(n) <= self.meter.tolerance().0;
            let close = nearest.as_ref().is_some_and(close);
            if close || again || !(share.is_finite() && share > 0.0) {
                break;
            }
            budget *= self.target / share;
        }
        nearest.ok_or_else(|| self.unreachable(None))
    }

    fn measured(&self, choices: &[Choice], rate: f64, budget: f64) -> Result<Candidate, Error> {
        let mut both = self.widths.curves.clone();
        both.extend(curves(&self.errors, choices, rate));
        let config = AllocateConfig {
            multiple_of: self.setting.recipe.multiple_of,
            look_ahead: 2,
            max_exchanges: 16,
        };
        let found = allocate(&both, &|w| self.meter.at(w), budget, config)?;
        self.meter.check()?;
        let (widths, kept) = found.widths.split_at(self.groups.groups.len());
        let mut plan = Plan::from_widths(self.groups, widths, &self.widths.removal)?;
        let gone = self.blocks.iter().zip(kept).filter(|(_, kept)| **kept == 0);
        plan.removed_blocks = gone.map(|(b, _)| b.name.clone()).collect();
        let (pruned, _) = self.setting.model.pruned(self.groups, &plan)?;
        Ok(Candidate {
            widths: found.widths,
            plan,
            share: self.meter.share(&pruned)?,
        })
    }

    fn unreachable(&self, nearest: Option<f64>) -> Error {
        unreachable_target(self.meter.what(), self.target, nearest)
    }
}

fn unreachable_target(what: &str, target: f64, nearest: Option<f64>) -> Error {
    let found = match nearest {
        Some(nearest) => format!("the nearest that was found is {nearest:.3}"),
        None => "nothing could be measured".to_owned(),
    };
    Error::new(
        ErrorKind::Model,
        format!("{target} of the {what} cannot be reached: {found}"),
    )
    .with_hint("ask for a share near that one, lower --multiple-of, or look at the frozen groups with `regraft inspect`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_out_of_reach_says_what_is_in_reach() {
        let text = unreachable_target("time", 0.1, Some(0.3456)).to_string();
        assert!(
            text.contains("0.1 of the time") && text.contains("0.346"),
            "{text}"
        );
    }
}
