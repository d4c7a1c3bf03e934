//! Growing regularisation (Wang et al., ICLR 2021, GReg-1).
//!
//! The memory of an initializer is 1 where an element is to go, 0 elsewhere.

use super::pruner::Pruner;
use crate::TrainError;
use crate::state::State;

/// Chooses once what is to go; at the end it goes.
pub(super) fn update(
    pruner: &Pruner<'_>,
    state: &mut State,
    is_end: bool,
) -> Result<(), TrainError> {
    if state.memory.iter().all(Vec::is_empty) {
        let kept = pruner.smallest_go(state, pruner.soft.goal.removed())?;
        let goes = |kept: &Vec<bool>| kept.iter().map(|k| f32::from(u8::from(!k))).collect();
        state.memory = kept.iter().map(|k| vec![goes(k)]).collect();
    }
    if is_end {
        let stays = |m: &Vec<Vec<f32>>| m.iter().flatten().map(|g| *g == 0.0).collect();
        state.masks.all = state.memory.iter().map(stays).collect();
    }
    Ok(())
}

/// Adds the weight decay of what is to go.
pub(super) fn pull(state: &State, gradients: &mut [Vec<f32>], decay: f32) {
    let parts = state.weights.iter().zip(&state.memory).zip(gradients);
    for ((weights, memory), gradient) in parts {
        let Some(goes) = memory.first() else { continue };
        for ((g, w), goes) in gradient.iter_mut().zip(weights).zip(goes) {
            *g += decay * goes * w;
        }
    }
}
