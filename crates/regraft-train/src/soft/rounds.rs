//! Methods that prune in rounds, each a training run of its own.

use super::Method;
use super::pruner::{At, Did, Pruner};
use crate::TrainError;
use crate::state::State;

/// Returns the first step of the round that `step` is in, and the steps of it; `end` is the first step of
/// the last one.
pub(super) fn span(end: usize, rounds: usize, step: usize, total: usize) -> (usize, usize) {
    if step >= end {
        return (end, total - end);
    }
    let length = length(end, rounds);
    let round = (step / length).min(rounds - 1);
    let from = round * length;
    let to = if round + 1 == rounds {
        end
    } else {
        from + length
    };
    (from, to - from)
}

/// Steps of a round but the last, which has what is left.
fn length(end: usize, rounds: usize) -> usize {
    (end / rounds).max(1)
}

/// True if a round ends before a step.
pub(super) fn ends_before(end: usize, rounds: usize, at: At) -> bool {
    at.step > 0 && span(end, rounds, at.step, at.total).0 == at.step
}

/// Remembers weights where rewinding goes back to, and ends rounds.
pub(super) fn update(
    pruner: &Pruner<'_>,
    state: &mut State,
    at: At,
    (end, rounds): (usize, usize),
) -> Result<Did, TrainError> {
    let length = length(end, rounds);
    if let Method::Rewinding { rewind, .. } = pruner.soft.method
        && at.step == (rewind * length as f64) as usize
        && state.memory.iter().all(Vec::is_empty)
    {
        state.memory = state.weights.iter().map(|w| vec![w.clone()]).collect();
    }
    if !ends_before(end, rounds, at) {
        return Ok(Did::Nothing);
    }
    let done = if at.step >= end {
        rounds
    } else {
        at.step / length
    };
    let removed = pruner.removed_after(done, rounds);
    state.masks.all = pruner.smallest_go(state, removed)?;
    for (weights, memory) in state.weights.iter_mut().zip(&state.memory) {
        if let Some(early) = memory.first() {
            weights.clone_from(early);
        }
    }
    state.rest();
    state.clear_outside();
    // What was averaged are the weights of the round that ended.
    if !state.average.is_empty() {
        state.average = state.effective();
    }
    state.settle(done == rounds);
    Ok(match pruner.soft.method {
        Method::Iterative { .. } => Did::RoundEnded,
        _ => Did::Changed,
    })
}
