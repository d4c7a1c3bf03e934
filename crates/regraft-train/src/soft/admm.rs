//! The alternating direction method of multipliers (Zhang et al., ECCV 2018).
//!
//! The memory of an initializer is Z, the nearest sparse weights, and U, the sum of what is between
//! them.

use super::pruner::Pruner;
use crate::TrainError;
use crate::parameters::Trained;
use crate::state::State;

/// Z becomes the sparse weights nearest to W + U, U grows by W - Z (equations 8 and 9); at the end the
/// largest of W stay, which are close to Z by then.
pub(super) fn update(
    pruner: &Pruner<'_>,
    state: &mut State,
    removed: f64,
    is_end: bool,
) -> Result<(), TrainError> {
    if is_end {
        state.masks.all = pruner.keep(&state.weights, removed)?;
        return Ok(());
    }
    let mut shifted = state.weights.clone();
    for (w, memory) in shifted.iter_mut().zip(&state.memory) {
        if let [_, u] = &memory[..] {
            w.iter_mut().zip(u).for_each(|(w, u)| *w += u);
        }
    }
    let kept = pruner.keep(&shifted, removed)?;
    let parts = state.memory.iter_mut().zip(shifted).zip(&kept);
    for ((memory, shifted), kept) in parts {
        let (mut z, mut u) = (shifted.clone(), shifted);
        for ((z, u), kept) in z.iter_mut().zip(&mut u).zip(kept) {
            if *kept {
                *u = 0.0;
            } else {
                *z = 0.0;
            }
        }
        *memory = vec![z, u];
    }
    Ok(())
}

/// Adds the gradient of ρ/2 ‖W - Z + U‖² (equation 7).
pub(super) fn pull(trained: &[Trained], state: &State, gradients: &mut [Vec<f32>], penalty: f32) {
    let parts = state.weights.iter().zip(&state.memory).zip(gradients);
    for (((weights, memory), gradient), t) in parts.zip(trained) {
        let ([z, u], true) = (&memory[..], t.is_weight) else {
            continue;
        };
        for ((g, w), (z, u)) in gradient.iter_mut().zip(weights).zip(z.iter().zip(u)) {
            *g += penalty * (w - z + u);
        }
    }
}
