//! Local improvement after the descent.

use super::Search;

/// An exchange must lower the error by this share to count: less is rounding, and could
/// go in circles.
const MIN_GAIN: f64 = 1e-9;

/// Steps taken elsewhere to pay for one given back, at most.
const MAX_PAYMENTS: usize = 8;

impl Search<'_> {
    /// Makes exchanges that lower the error and hold the budget; returns how many.
    pub(super) fn exchange(&mut self, max_exchanges: usize) -> usize {
        if self.cost() > self.budget {
            return 0;
        }
        self.spend_slack(None);
        let mut done = 0;
        while done < max_exchanges && self.exchange_once() {
            done += 1;
        }
        done
    }

    /// Tries every group as the one that moves first; keeps the best exchange.
    fn exchange_once(&mut self) -> bool {
        let start = self.at.clone();
        let before = self.error();
        let mut best: Option<(f64, Vec<usize>)> = None;
        for group in 0..start.len() {
            for up in [true, false] {
                self.at.clone_from(&start);
                let possible = if up {
                    self.give_back(group)
                } else {
                    self.take_first(group)
                };
                let error = self.error();
                let limit = best.as_ref().map_or(before * (1.0 - MIN_GAIN), |b| b.0);
                if possible && error < limit {
                    best = Some((error, self.at.clone()));
                }
            }
        }
        let found = best.is_some();
        self.at = best.map_or(start, |(_, at)| at);
        found
    }

    /// One step up in `group`, paid by steps down elsewhere.
    fn give_back(&mut self, group: usize) -> bool {
        if self.at[group] == 0 {
            return false;
        }
        self.at[group] -= 1;
        let mut cost = self.cost();
        for _ in 0..MAX_PAYMENTS {
            if cost <= self.budget {
                break;
            }
            let Some(step) = self.best_step_down(cost, Some(group)) else {
                break;
            };
            self.at[step.group] = step.to;
            cost = step.after;
        }
        cost <= self.budget
    }

    /// One step down in `group`, what it saves spent elsewhere.
    fn take_first(&mut self, group: usize) -> bool {
        if self.at[group] + 1 >= self.levels[group].widths.len() {
            return false;
        }
        self.at[group] += 1;
        self.spend_slack(Some(group));
        true
    }

    /// Gives steps back, the one with the largest fall of error first, while they fit.
    fn spend_slack(&mut self, except: Option<usize>) {
        loop {
            let mut best: Option<(usize, f64)> = None;
            for group in 0..self.at.len() {
                let at = self.at[group];
                if Some(group) == except || at == 0 {
                    continue;
                }
                let fall = self.levels[group].errors[at] - self.levels[group].errors[at - 1];
                if fall <= best.map_or(0.0, |b| b.1) {
                    continue;
                }
                self.at[group] -= 1;
                let fits = self.cost() <= self.budget;
                self.at[group] += 1;
                if fits {
                    best = Some((group, fall));
                }
            }
            let Some((group, _)) = best else { return };
            self.at[group] -= 1;
        }
    }
}
