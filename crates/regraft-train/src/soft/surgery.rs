//! Dynamic network surgery (Guo et al., NIPS 2016, equation 3): each layer has two thresholds. A
//! connection is cut when its size falls below the lower one and spliced in again when it grows above the
//! upper one; between the two it stays what it is.
//!
//! The paper derives the thresholds from the weights at the start, and sees how many connections are left. Here
//! there is a budget: at every update the thresholds are set so that it holds, and in between every
//! step cuts and splices by them.

use super::pruner::Pruner;
use super::{Did, Goal};
use crate::TrainError;
use crate::state::State;

/// Sets masks and thresholds so that the share `removed` is gone. The upper threshold is `margin` above
/// the lower one: what is there counts as that much larger.
pub(super) fn update(
    pruner: &Pruner<'_>,
    state: &mut State,
    removed: f64,
    margin: f32,
    is_end: bool,
) -> Result<(), TrainError> {
    let lift = |(w, k): (&f32, &bool)| if *k { w * (1.0 + margin) } else { *w };
    let parts = state.weights.iter().zip(&state.masks.all);
    let lifted: Vec<Vec<f32>> = parts
        .map(|(w, m)| w.iter().zip(m).map(lift).collect())
        .collect();
    state.masks.all = pruner.choice.keep(&lifted, removed, !is_end)?;
    if matches!(pruner.soft.goal, Goal::Connections { .. }) {
        let parts = lifted.iter().zip(&state.masks.all);
        let upper = parts.map(|(sizes, mask)| smallest_inside(sizes, mask));
        state.memory = upper
            .map(|u| u.map(|u| vec![u]).into_iter().collect())
            .collect();
    }
    Ok(())
}

/// Cuts and splices by the thresholds of the last update.
pub(super) fn splice(state: &mut State, margin: f32) -> Did {
    let mut did = Did::Nothing;
    let parts = state.weights.iter().zip(&mut state.masks.all);
    for ((weights, mask), memory) in parts.zip(&state.memory) {
        let Some(&upper) = memory.first().and_then(|m| m.first()) else {
            continue;
        };
        let lower = upper / (1.0 + margin);
        for (w, kept) in weights.iter().zip(mask) {
            let stays = w.abs() >= if *kept { lower } else { upper };
            if stays != *kept {
                *kept = stays;
                did = Did::Changed;
            }
        }
    }
    did
}

/// The smallest size of a connection that is there; `None` where none went.
fn smallest_inside(sizes: &[f32], mask: &[bool]) -> Option<f32> {
    if mask.iter().all(|k| *k) {
        return None;
    }
    let inside = sizes.iter().zip(mask).filter(|(_, k)| **k);
    Some(inside.fold(f32::INFINITY, |least, (s, _)| least.min(s.abs())))
}
