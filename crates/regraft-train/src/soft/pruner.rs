//! One method at work on the weights of a run.

use regraft_data::SplitMix64;
use regraft_graph::{Graph, Tensor, ValueId};

use super::choice::{Choice, Kept};
use super::masks::replace;
use super::{
    Method, Pace, Saliency, SoftPruning, admm, growing, rounds, surgery, thresholds, variational,
};
use crate::TrainError;
use crate::parameters::Trained;
use crate::state::State;

/// What weights that no sample moved count as, relative to the others.
const IDLE: f32 = 1e-12;
/// What a connection that is there counts as at least, so that none outside is taken for it; its
/// square is still a number.
pub(super) const INSIDE: f32 = 1e-18;

/// What the one outside with the largest gradient counts as.
const OUTSIDE: f32 = 1e-19;

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) step: usize,
    pub(crate) total: usize,
    pub(crate) seed: u64,
}

/// What pruning did before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// Nothing, or nothing that others need to know.
    Nothing,
    /// The masks or the weights changed.
    Changed,
    /// A round of pruning ended: what is left wants a rebuild.
    RoundEnded,
}

/// A method of pruning and what it prunes.
pub(crate) struct Pruner<'a> {
    pub(super) soft: SoftPruning,
    pub(super) trained: &'a [Trained],
    pub(super) choice: Choice<'a>,
    /// Share of the weights that had gone before the run; no less is gone at any time.
    pub(super) gone: f64,
}

/// Returns the share of zeros in the weights whose zeros stay, of all weights.
fn gone(graph: &Graph, trained: &[Trained], held: &[ValueId]) -> f64 {
    let weights = || trained.iter().filter(|t| t.is_weight);
    let data = |t: &Trained| graph.tensor(t.id).and_then(Tensor::as_f32);
    let zeros = |t: &Trained| data(t).map_or(0, |d| d.iter().filter(|w| **w == 0.0).count());
    let of_held = weights().filter(|t| held.contains(&t.id));
    let all: usize = weights().map(|t| t.shape.iter().product::<usize>()).sum();
    of_held.map(zeros).sum::<usize>() as f64 / all.max(1) as f64
}

impl<'a> Pruner<'a> {
    /// `held` are weights whose zeros stay.
    pub(crate) fn new(
        soft: SoftPruning,
        graph: &'a Graph,
        trained: &'a [Trained],
        held: &[ValueId],
    ) -> Result<Self, TrainError> {
        Ok(Self {
            soft,
            trained,
            choice: Choice::new(graph, trained, soft.goal)?,
            gone: gone(graph, trained, held),
        })
    }

    /// Returns the share that is gone of `done` of `rounds` rounds: each leaves the same share of what is there.
    pub(super) fn removed_after(&self, done: usize, rounds: usize) -> f64 {
        let most = self.soft.goal.removed().max(self.gone);
        let left = (1.0 - most) / (1.0 - self.gone).max(f64::MIN_POSITIVE);
        1.0 - (1.0 - self.gone) * left.powf(done as f64 / rounds as f64)
    }

    /// Returns the step since which the optimiser sums moments: what it summed before was set to zero.
    pub(crate) fn since(&self, at: At) -> usize {
        match self.soft.method {
            Method::Rewinding { .. } | Method::Iterative { .. } => self.span(at.step, at.total).0,
            _ => 0,
        }
    }

    /// Returns the step before which weights get variances.
    pub(crate) fn noisy_since(&self, total: usize) -> usize {
        let begin = (self.soft.begin * total as f64).ceil() as usize;
        begin.next_multiple_of(self.soft.every).min(self.end(total))
    }

    pub(crate) fn saliency(&self) -> Saliency {
        self.soft.saliency
    }

    pub(crate) fn moves_outside(&self) -> bool {
        self.soft.method.moves_outside()
    }

    /// Moves an adaptive pace on after an epoch of `epochs`, once pruning has begun.
    pub(crate) fn judge(&self, state: &mut State, score: f64, epochs: usize) {
        let has_begun = self.soft.part(state.epoch, epochs) >= 0.0;
        let waits = state.is_pruned || !has_begun;
        if let (Pace::Adaptive { tolerance }, false) = (self.soft.pace, waits) {
            let time = (self.soft.end - self.soft.begin) * epochs as f64;
            state.level.judge(score, tolerance, time);
        }
    }

    /// True while weights have variances.
    pub(crate) fn is_noisy(&self, state: &State) -> bool {
        self.soft.method == Method::VariationalDropout && !state.is_pruned
    }

    /// True if connections outside of the masks never come back, and nobody asks for their gradients.
    pub(crate) fn stays_out(&self, state: &State) -> bool {
        let method = matches!(
            self.soft.method,
            Method::GradualMagnitude | Method::VariationalDropout
        );
        let comes_back = matches!(self.soft.pace, Pace::Adaptive { .. });
        state.is_pruned || (method && !comes_back)
    }

    /// Returns the part of the time of pruning that is over.
    pub(crate) fn part(&self, at: At) -> f32 {
        self.soft.part(at.step, at.total).max(0.0) as f32
    }

    /// True if rounds end with a rebuild.
    pub(crate) fn is_rebuilt(&self) -> bool {
        matches!(self.soft.method, Method::Iterative { .. })
    }

    /// True if a round ends before a step, and what is left wants a rebuild.
    pub(crate) fn rebuilds(&self, at: At) -> bool {
        let Method::Iterative { rounds } = self.soft.method else {
            return false;
        };
        rounds::ends_before(self.end(at.total), rounds, at)
    }

    /// Returns where the run of the learning rate that a step is part of starts, and how long it is.
    pub(crate) fn span(&self, step: usize, total: usize) -> (usize, usize) {
        match self.soft.method {
            Method::Rewinding { rounds, .. } | Method::Iterative { rounds } => {
                rounds::span(self.end(total), rounds, step, total)
            }
            _ => (0, total),
        }
    }

    /// The step before which the last connections go.
    fn end(&self, total: usize) -> usize {
        ((self.soft.end * total as f64) as usize).min(total.saturating_sub(1))
    }

    /// Changes masks and weights where a change is due before a step.
    pub(crate) fn update(&self, state: &mut State, at: At) -> Result<Did, TrainError> {
        if state.is_pruned {
            return Ok(Did::Nothing);
        }
        let end = self.end(at.total);
        if let Method::Rewinding { rounds, .. } | Method::Iterative { rounds } = self.soft.method {
            return rounds::update(self, state, at, (end, rounds));
        }
        let is_end = at.step >= end;
        let begun = self.soft.part(at.step, at.total) >= 0.0;
        let is_due = is_end || (begun && at.step.is_multiple_of(self.soft.every));
        if !is_due {
            return Ok(match self.soft.method {
                Method::DynamicSurgery { margin } => surgery::splice(state, margin),
                _ => Did::Nothing,
            });
        }
        let most = self.soft.goal.removed();
        let removed = match self.soft.pace {
            Pace::Adaptive { .. } => state.level.removed(most),
            _ if is_end => most,
            _ => self.soft.removed_at(at.step, at.total),
        };
        let removed = removed.max(self.gone);
        self.change(state, at, removed, is_end)?;
        if is_end || !self.moves_outside() {
            state.clear_outside();
        }
        state.settle(is_end);
        Ok(Did::Changed)
    }

    fn change(
        &self,
        state: &mut State,
        at: At,
        removed: f64,
        is_end: bool,
    ) -> Result<(), TrainError> {
        match self.soft.method {
            Method::GradualMagnitude => state.masks.all = self.smallest_go(state, removed)?,
            Method::DynamicSurgery { margin } => {
                surgery::update(self, state, removed, margin, is_end)?;
            }
            Method::RigL { drop } => {
                state.masks.all = self.smallest_go(state, removed)?;
                let part = self.soft.part(at.step, at.total).max(0.0);
                // Before the first step there is no gradient to go by.
                if part < 1.0 && at.step > 0 {
                    let falling = f64::midpoint(1.0, (std::f64::consts::PI * part).cos());
                    let scores = state.gradients.clone();
                    self.replace(state, f64::from(drop) * falling, &scores);
                }
            }
            Method::Set { drop } => {
                state.masks.all = self.smallest_go(state, removed)?;
                if !is_end && at.step > 0 {
                    let mut random = SplitMix64::new(at.seed ^ at.step as u64);
                    let draws = |w: &Vec<f32>| w.iter().map(|_| random.uniform_f32()).collect();
                    let scores: Vec<Vec<f32>> = state.weights.iter().map(draws).collect();
                    self.replace(state, f64::from(drop), &scores);
                }
            }
            Method::SoftFilter { .. } => {
                let sizes = self.sizes(state, false);
                let kept = self.choice.keep(&sizes, removed, !is_end)?;
                if is_end {
                    state.masks.all = kept;
                } else {
                    // Momenta stay: what is zero now may come back.
                    let full = std::mem::replace(&mut state.masks.all, kept);
                    state.masks.clear_outside(&mut state.weights);
                    state.masks.all = full;
                }
            }
            Method::VariationalDropout => {
                if state.memory.iter().all(Vec::is_empty) {
                    variational::begin(self.trained, state);
                }
                state.masks.all = self.keep(&variational::sizes(state), removed)?;
            }
            Method::SoftThreshold => thresholds::update(self, state, removed, is_end)?,
            Method::Admm { .. } => admm::update(self, state, removed, is_end)?,
            Method::GrowingDecay { .. } => growing::update(self, state, is_end)?,
            // Those have a clock of their own.
            Method::Rewinding { .. } | Method::Iterative { .. } => {}
        }
        Ok(())
    }

    /// Changes the gradients of a step, before the optimizer takes it.
    pub(crate) fn adjust(&self, state: &mut State, gradients: &mut [Vec<f32>], at: At, rate: f32) {
        if state.is_pruned {
            return;
        }
        match self.soft.method {
            Method::Admm { penalty } => admm::pull(self.trained, state, gradients, penalty),
            Method::GrowingDecay { penalty } => {
                growing::pull(state, gradients, penalty * self.part(at));
            }
            Method::SoftThreshold => thresholds::adjust(self.trained, state, gradients, rate),
            _ => {}
        }
    }

    /// Returns the graph, whose weights are those of the run, without its removed channels.
    pub(crate) fn without(
        &self,
        graph: &Graph,
        state: &State,
    ) -> Result<Option<Graph>, TrainError> {
        if !state.is_pruned {
            return Ok(None);
        }
        self.choice.without(graph, &state.masks.all)
    }

    pub(super) fn keep(&self, sizes: &[Vec<f32>], removed: f64) -> Result<Kept, TrainError> {
        self.choice.keep(sizes, removed, false)
    }

    /// Lets the smallest go; what went stays away. First go those that no sample moved: they lead from
    /// a dead input, or to a unit that nothing reads any more.
    pub(super) fn smallest_go(&self, state: &State, removed: f64) -> Result<Kept, TrainError> {
        self.keep(&self.sizes(state, true), removed)
    }

    /// What every element counts as; `masked`: nothing outside of the masks.
    fn sizes(&self, state: &State, masked: bool) -> Vec<Vec<f32>> {
        let curvature = self.soft.saliency == Saliency::Curvature;
        let parts = state.weights.iter().zip(&state.gradients);
        let size = |((weights, gradient), mask): ((&Vec<f32>, &Vec<f32>), &Vec<bool>)| {
            let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            let moved = largest > 0.0;
            let largest = largest.max(f32::MIN_POSITIVE);
            let size = |((w, g), kept): ((&f32, &f32), &bool)| {
                let size = match moved && *g == 0.0 {
                    true => w.abs() * IDLE,
                    false if moved && curvature => w.abs() * g.sqrt(),
                    false => w.abs(),
                };
                match (masked, kept) {
                    (false, _) => size,
                    (true, true) => size.max(INSIDE),
                    // Below all that are there; where some may come back, by their gradient.
                    (true, false) => OUTSIDE * (g.abs() / largest),
                }
            };
            weights.iter().zip(gradient).zip(mask).map(size).collect()
        };
        parts.zip(&state.masks.all).map(size).collect()
    }

    fn replace(&self, state: &mut State, share: f64, scores: &[Vec<f32>]) {
        let weights = self.trained.iter().zip(&state.weights).zip(scores);
        for (mask, ((t, weights), scores)) in state.masks.all.iter_mut().zip(weights) {
            if t.is_weight {
                replace(mask, weights, share, |i| scores[i].abs());
            }
        }
    }
}
