//! Which groups get how many units: where the error falls most for what they cost.
//!
//! A step gives one group an eighth of its whole width more. Its gain is measured: the units are put in, what
//! reads groups is solved for, and the fall of the network's error on held-out samples is divided by the
//! multiply-accumulates that it costs. All readers are solved for every time: a network that was tuned loses by that,
//! and would otherwise look better than any with more units. The best step is taken; gains that were measured before
//! another step was taken are measured again before they count (lazy greedy; Minoux 1978), as gains seldom rise.

use super::Ceiling;
use crate::{Monitor, RebuildError, Stage};

/// A step's units, as a share of the group's whole width.
const STEP: f64 = 0.125;

/// One step that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct GainStep {
    /// The group.
    pub group: String,
    /// Its units before and after.
    pub units: (usize, usize),
    /// Relative squared error of the first output on held-out samples before and after, all readers solved for.
    pub error: (f64, f64),
    /// Multiply-accumulates that the step costs.
    pub macs: u64,
}

/// Widths, and how they came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByGain {
    /// Units of groups; those that stay are not named.
    pub widths: Vec<(String, usize)>,
    /// The steps that led there, in their order.
    pub steps: Vec<GainStep>,
}

/// A group of units on its way.
pub(super) struct Width {
    pub(super) name: String,
    /// The units it has.
    pub(super) now: usize,
    /// The units that a step is a share of; below them a step goes no further.
    pub(super) whole: usize,
    /// The units it may have at most.
    pub(super) most: usize,
}

impl Width {
    /// The width after one more step; `None` where that is too wide.
    fn next(&self) -> Option<usize> {
        let step = (STEP * self.whole as f64).ceil() as usize;
        // What was pruned comes back before anything new is added.
        let next = if self.now < self.whole {
            (self.now + step).min(self.whole)
        } else {
            self.now + step
        };
        (next > self.now && next <= self.most).then_some(next)
    }
}

/// A network some of whose groups can have more units.
pub(super) trait Wider {
    /// Returns error and multiply-accumulates of the network with as many units in each group; `None` where it
    /// costs too much or a group cannot grow.
    fn tried(&self, widths: &[usize]) -> Result<Option<(f64, u64)>, RebuildError>;
}

/// Returns the ceiling that a choice by gain needs.
///
/// # Errors
/// [`RebuildError::Setting`] where none is given.
pub(super) fn needed(ceiling: Option<Ceiling>) -> Result<Ceiling, RebuildError> {
    ceiling.ok_or(RebuildError::Setting {
        what: "the ceiling of a choice by gain",
        value: 0.0,
        bounds: "given, or all groups would grow as far as they can",
    })
}

/// What one more step of a group would bring.
struct Offer {
    group: usize,
    /// Fall of the error for each multiply-accumulate.
    gain: f64,
    error: f64,
    macs: u64,
    /// The number of steps that were taken when it was measured.
    measured_at: usize,
}

/// A choice of widths on its way.
struct Search<'a> {
    wider: &'a dyn Wider,
    monitor: &'a dyn Monitor,
    groups: Vec<Width>,
    error: f64,
    macs: u64,
    steps: Vec<GainStep>,
}

/// Returns the widths of groups that lower the error most for what they cost, as long as the network allows them.
pub(super) fn search(
    wider: &dyn Wider,
    groups: Vec<Width>,
    monitor: &dyn Monitor,
) -> Result<ByGain, RebuildError> {
    let had: Vec<usize> = groups.iter().map(|g| g.now).collect();
    let (error, macs) = wider.tried(&had)?.unwrap_or((0.0, 0));
    let mut search = Search {
        wider,
        monitor,
        groups,
        error,
        macs,
        steps: Vec::new(),
    };
    search.run()?;
    let grown = search.groups.into_iter().zip(had);
    let grown = grown.filter(|(group, had)| group.now > *had);
    Ok(ByGain {
        widths: grown.map(|(group, _)| (group.name, group.now)).collect(),
        steps: search.steps,
    })
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), RebuildError> {
        let n_groups = self.groups.len();
        let mut offers = Vec::new();
        for group in 0..n_groups {
            self.progress(group, n_groups)?;
            offers.extend(self.offer(group)?);
        }
        loop {
            let best = (0..offers.len()).max_by(|a, b| offers[*a].gain.total_cmp(&offers[*b].gain));
            let Some(best) = best.map(|at| offers.swap_remove(at)) else {
                return Ok(());
            };
            if best.gain <= 0.0 {
                return Ok(());
            }
            let group = best.group;
            if best.measured_at == self.steps.len() {
                self.take(&best);
            }
            self.progress(n_groups, n_groups + offers.len())?;
            offers.extend(self.offer(group)?);
        }
    }

    fn progress(&self, done: usize, total: usize) -> Result<(), RebuildError> {
        if self.monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        let what = format!("{} steps taken", self.steps.len());
        self.monitor.progress(Stage::Regrow, done, total, &what);
        Ok(())
    }

    /// Measures one more step of a group; `None` where there is none that is allowed.
    fn offer(&self, group: usize) -> Result<Option<Offer>, RebuildError> {
        let Some(next) = self.groups[group].next() else {
            return Ok(None);
        };
        let mut widths: Vec<usize> = self.groups.iter().map(|g| g.now).collect();
        widths[group] = next;
        let Some((error, macs)) = self.wider.tried(&widths)? else {
            return Ok(None);
        };
        let cost = macs.saturating_sub(self.macs).max(1);
        Ok(Some(Offer {
            group,
            gain: (self.error - error) / cost as f64,
            error,
            macs,
            measured_at: self.steps.len(),
        }))
    }

    fn take(&mut self, offer: &Offer) {
        let group = &mut self.groups[offer.group];
        let Some(next) = group.next() else {
            return;
        };
        let before = std::mem::replace(&mut group.now, next);
        self.steps.push(GainStep {
            group: group.name.clone(),
            units: (before, next),
            error: (self.error, offer.error),
            macs: offer.macs.saturating_sub(self.macs),
        });
        (self.error, self.macs) = (offer.error, offer.macs);
    }
}

/// Passes on that work is to stop, and nothing else.
pub(super) struct Quiet<'a>(pub(super) &'a dyn Monitor);

impl Monitor for Quiet<'_> {
    fn progress(&self, _: Stage, _: usize, _: usize, _: &str) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
