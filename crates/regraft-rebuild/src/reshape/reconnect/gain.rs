//! Which groups get how many units: where the error falls most for what they cost.
//!
//! A step gives one group an eighth of its dense width more, back from pruning as long as some are missing and
//! new ones beyond. Its gain is measured: the units are put in, what reads groups is solved for, and the fall of the
//! network's error on held-out samples is divided by the multiply-accumulates that it costs. All readers are solved for
//! every time: a network that was tuned loses by that, and would otherwise look better than any with more units. The best step is
//! taken; gains that were measured before another step was taken are measured again before they count (lazy
//! greedy; Minoux 1978), as gains seldom rise.

use super::{Descent, ReconnectConfig, reconnect};
use crate::reshape::{Ceiling, Network, Samples};
use crate::{Monitor, RebuildError, Stage};

/// A step's units, as a share of the group's dense width.
const STEP: f64 = 0.125;
/// How wide a group becomes at most, as a share of its dense width.
const MOST: f64 = 1.5;

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
    descent: Descent<'a>,
    samples: Samples<'a>,
    config: &'a ReconnectConfig,
    monitor: &'a dyn Monitor,
    ceiling: Ceiling,
    widths: Vec<usize>,
    error: f64,
    macs: u64,
    steps: Vec<GainStep>,
}

/// Widths, and how they came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByGain {
    /// For [`ReconnectConfig::widths`]; groups that stay are not named.
    pub widths: Vec<(String, usize)>,
    /// The steps that led there, in their order.
    pub steps: Vec<GainStep>,
}

/// Returns the widths of groups that lower the error most within the ceiling.
///
/// Rates and widths of `config` are not read.
/// # Errors
/// [`RebuildError::Setting`] without a ceiling; as [`reconnect`].
pub fn widths_by_gain(
    descent: Descent<'_>,
    samples: Samples<'_>,
    config: &ReconnectConfig,
    monitor: &dyn Monitor,
) -> Result<ByGain, RebuildError> {
    let Some(ceiling) = config.ceiling else {
        return Err(RebuildError::Setting {
            what: "the ceiling of a choice by gain",
            value: 0.0,
            bounds: "given, or all groups would grow as far as they can",
        });
    };
    let flags = descent.plan.flags(descent.groups)?;
    let had: Vec<usize> = flags
        .iter()
        .map(|f| f.iter().filter(|k| **k).count())
        .collect();
    let mut search = Search {
        descent,
        samples,
        config,
        monitor,
        ceiling,
        widths: had.clone(),
        error: 0.0,
        macs: 0,
        steps: Vec::new(),
    };
    let (error, macs) = search.tried(&had)?.unwrap_or((0.0, 0));
    (search.error, search.macs) = (error, macs);
    search.run()?;
    let named = |g: usize| (descent.groups.groups[g].name.clone(), search.widths[g]);
    let grown = (0..had.len()).filter(|&g| search.widths[g] > had[g]);
    Ok(ByGain {
        widths: grown.map(named).collect(),
        steps: search.steps,
    })
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), RebuildError> {
        let n_groups = self.widths.len();
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

    /// The width of a group after one more step; `None` where that is too wide.
    fn next(&self, group: usize) -> Option<usize> {
        let dense = self.descent.groups.groups[group].units.len();
        let step = (STEP * dense as f64).ceil() as usize;
        let (now, most) = (self.widths[group], (MOST * dense as f64) as usize);
        // What was pruned comes back before anything new is added.
        let next = if now < dense {
            (now + step).min(dense)
        } else {
            now + step
        };
        (next > now && next <= most).then_some(next)
    }

    /// Measures one more step of a group; `None` where there is none that the ceiling allows.
    fn offer(&self, group: usize) -> Result<Option<Offer>, RebuildError> {
        let Some(next) = self.next(group) else {
            return Ok(None);
        };
        let mut widths = self.widths.clone();
        widths[group] = next;
        let Some((error, macs)) = self.tried(&widths)? else {
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
        let Some(next) = self.next(offer.group) else {
            return;
        };
        let name = self.descent.groups.groups[offer.group].name.clone();
        let before = std::mem::replace(&mut self.widths[offer.group], next);
        self.steps.push(GainStep {
            group: name,
            units: (before, next),
            error: (self.error, offer.error),
            macs: offer.macs.saturating_sub(self.macs),
        });
        (self.error, self.macs) = (offer.error, offer.macs);
    }

    /// Returns error and multiply-accumulates of a network of these widths; `None` where it costs too much
    /// or a group cannot grow.
    fn tried(&self, widths: &[usize]) -> Result<Option<(f64, u64)>, RebuildError> {
        let groups = &self.descent.groups.groups;
        let all = groups.iter().zip(widths);
        let config = ReconnectConfig {
            rebuild_rate: 0.0,
            widths: all.map(|(g, width)| (g.name.clone(), *width)).collect(),
            ceiling: Some(self.ceiling),
            all_readers: true,
            ..self.config.clone()
        };
        let found = reconnect(self.descent, self.samples, &config, &Quiet(self.monitor));
        match found {
            Ok(found) => {
                let cost = Network::new(found.edited.graph)?.cost();
                Ok(Some((found.error_after, cost.macs)))
            }
            Err(RebuildError::OverBudget { .. } | RebuildError::Prune(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// Passes on that work is to stop, and nothing else.
struct Quiet<'a>(&'a dyn Monitor);

impl Monitor for Quiet<'_> {
    fn progress(&self, _: Stage, _: usize, _: usize, _: &str) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
