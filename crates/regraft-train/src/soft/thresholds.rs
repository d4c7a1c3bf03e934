//! Learned thresholds (Kusupati et al., ICML 2020).
//!
//! A layer has the weights sign(w) max(|w| - t, 0). Its threshold is t = c exp(a): a, the memory of
//! its initializer, is learned; c is common to all layers and set so that the budget holds.

use super::Goal;
use super::pruner::Pruner;
use crate::TrainError;
use crate::parameters::Trained;
use crate::state::State;

/// How far a step moves a at most.
const MAX_MOVE: f32 = 0.02;
/// The largest size of a: a layer whose threshold grew above all of its weights would have no gradient left
/// to come back by.
const MAX_EXPONENT: f32 = 1.0;

/// Sets the thresholds so that the share `removed` is below them; at the end what is left becomes the
/// weights.
pub(super) fn update(
    pruner: &Pruner<'_>,
    state: &mut State,
    removed: f64,
    is_end: bool,
) -> Result<(), TrainError> {
    let exponents: Vec<f32> = state.memory.iter().map(|m| exponent(m)).collect();
    let relative = state.weights.iter().zip(&exponents);
    let relative: Vec<Vec<f32>> = relative
        .map(|(w, a)| w.iter().map(|w| w.abs() / a.exp()).collect())
        .collect();
    let weights = pruner
        .trained
        .iter()
        .zip(&relative)
        .filter(|(t, _)| t.is_weight);
    let mut sizes: Vec<f32> = weights.flat_map(|(_, r)| r).copied().collect();
    let keep = ((1.0 - removed) * sizes.len() as f64).round() as usize;
    // The largest of those that go.
    let common = if keep < sizes.len() {
        *sizes.select_nth_unstable_by(keep, |a, b| b.total_cmp(a)).1
    } else {
        0.0
    };
    let threshold = |(t, a): (&Trained, &f32)| if t.is_weight { common * a.exp() } else { 0.0 };
    state.thresholds = pruner
        .trained
        .iter()
        .zip(&exponents)
        .map(threshold)
        .collect();
    let above = |(w, t): (&Vec<f32>, &f32)| w.iter().map(|w| w.abs() > *t || *t == 0.0).collect();
    state.masks.all = state
        .weights
        .iter()
        .zip(&state.thresholds)
        .map(above)
        .collect();
    for (memory, a) in state.memory.iter_mut().zip(exponents) {
        *memory = vec![vec![a]];
    }
    if is_end {
        state.weights = state.effective();
        state.thresholds.clear();
        // Ties at the threshold are rare; the budget holds exactly all the same.
        if matches!(pruner.soft.goal, Goal::Connections { .. }) && state.masks.kept() > keep {
            state.masks.all = pruner.keep(&state.weights, removed)?;
        }
    }
    Ok(())
}

fn exponent(memory: &[Vec<f32>]) -> f32 {
    memory
        .first()
        .and_then(|m| m.first())
        .copied()
        .unwrap_or(0.0)
}

/// Stops the gradient at weights below their threshold, and moves a along its own gradient
/// (equations 5 and 6).
pub(super) fn adjust(
    trained: &[Trained],
    state: &mut State,
    gradients: &mut [Vec<f32>],
    rate: f32,
) {
    let parts = state.weights.iter().zip(&mut state.memory).zip(gradients);
    for (((weights, memory), gradient), (t, threshold)) in
        parts.zip(trained.iter().zip(&state.thresholds))
    {
        let Some(a) = memory.first_mut().and_then(|m| m.first_mut()) else {
            continue;
        };
        if !t.is_weight || *threshold == 0.0 {
            continue;
        }
        let mut along = 0.0;
        for (g, w) in gradient.iter_mut().zip(weights) {
            if w.abs() > *threshold {
                along += *g * w.signum();
            } else {
                *g = 0.0;
            }
        }
        let step = (rate * along * threshold).clamp(-MAX_MOVE, MAX_MOVE);
        *a = (*a + step).clamp(-MAX_EXPONENT, MAX_EXPONENT);
    }
}
