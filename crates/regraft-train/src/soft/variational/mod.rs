//! Variational dropout that sparsifies (Molchanov et al., ICML 2017).
//!
//! Every weight is a normal variable with mean θ and variance σ². Training sees the sums of a layer as
//! what they then are, normal too (the local reparameterisation of section 4.2), and the loss grows with
//! the divergence from a prior that does not mind large relative variances α = σ²/θ². Weights go by
//! θ²/σ², the least first.
//!
//! The memory of a weight is log σ² and the two moments of its gradient.

mod network;

pub(crate) use network::Noisy;

use crate::parameters::Trained;
use crate::state::State;

/// log σ² at first (section 5).
pub(crate) const FIRST: f32 = -8.0;
/// How far a step of Adam moves log σ².
const RATE: f32 = 0.01;
/// Bounds of log σ².
const BOUNDS: (f32, f32) = (-16.0, 2.0);
/// Share of the time of pruning in which the divergence gets its weight.
const RISE: f32 = 0.5;
/// The most that the divergence adds to the gradient of one weight.
const MAX_PULL: f32 = 1.0;

/// Constants of the approximate divergence (equation 14).
const K1: f32 = 0.63576;
const K2: f32 = 1.87320;
const K3: f32 = 1.48695;

/// Returns the derivative of the divergence with respect to log α.
fn divergence_slope(log_alpha: f32) -> f32 {
    let s = 1.0 / (1.0 + (-(K2 + K3 * log_alpha)).exp());
    // -KL = k1 s - 0.5 log(1 + 1/α) + C
    -(K1 * K3 * s * (1.0 - s) + 0.5 / (1.0 + log_alpha.exp()))
}

/// Gives every weight a small variance.
pub(super) fn begin(trained: &[Trained], state: &mut State) {
    let start = |(t, w): (&Trained, &Vec<f32>)| {
        if t.is_weight {
            let zeros = vec![0.0; w.len()];
            vec![vec![FIRST; w.len()], zeros.clone(), zeros]
        } else {
            Vec::new()
        }
    };
    state.memory = trained.iter().zip(&state.weights).map(start).collect();
}

/// What each weight counts as: |θ|/σ; nothing outside of the masks.
pub(super) fn sizes(state: &State) -> Vec<Vec<f32>> {
    let size = |(i, weights): (usize, &Vec<f32>)| {
        let (Some(log), mask) = (state.memory[i].first(), &state.masks.all[i]) else {
            return weights.clone();
        };
        let one = |((w, log), kept): ((&f32, &f32), &bool)| match kept {
            true => (w.abs() * (-0.5 * log).exp()).max(super::pruner::INSIDE),
            false => 0.0,
        };
        weights.iter().zip(log).zip(mask).map(one).collect()
    };
    state.weights.iter().enumerate().map(size).collect()
}

/// Returns the variances that a step sees: zero outside of the masks, empty for what is no weight.
pub(crate) fn variances(state: &State) -> Vec<Vec<f32>> {
    let parts = state.memory.iter().zip(&state.masks.all);
    let variance = |(memory, mask): (&Vec<Vec<f32>>, &Vec<bool>)| match memory.first() {
        Some(log) => {
            let one = |(log, kept): (&f32, &bool)| if *kept { log.exp() } else { 0.0 };
            log.iter().zip(mask).map(one).collect()
        }
        None => Vec::new(),
    };
    parts.map(variance).collect()
}

/// Moves the variances along their gradients with Adam, of which this is step `number`, and adds the divergence
/// to the gradients of the weights. `part` is the part of the time of pruning that is over, `n_samples` what the loss
/// is a mean of. What is outside of the masks stays as it was.
pub(crate) fn learn(
    state: &mut State,
    gradients: &mut [Vec<f32>],
    of_variances: &[Vec<f32>],
    (part, n_samples): (f32, usize),
    number: usize,
) {
    let weight = (part / RISE).clamp(0.0, 1.0) / n_samples.max(1) as f32;
    let number = i32::try_from(number.max(1)).unwrap_or(i32::MAX);
    let (c1, c2) = (1.0 - 0.9f32.powi(number), 1.0 - 0.999f32.powi(number));
    let parts = state.weights.iter().zip(&state.masks.all);
    let parts = parts.zip(&mut state.memory).zip(gradients);
    for ((((weights, mask), memory), gradient), of_variance) in parts.zip(of_variances) {
        let [log, first, second] = &mut memory[..] else {
            continue;
        };
        if of_variance.len() != log.len() || gradient.len() != log.len() {
            continue;
        }
        for (i, _) in mask.iter().enumerate().filter(|(_, kept)| **kept) {
            let w = weights[i];
            let log_alpha = log[i] - (w * w + 1e-12).ln();
            let slope = weight * divergence_slope(log_alpha);
            if w != 0.0 {
                gradient[i] += (-2.0 * slope / w).clamp(-MAX_PULL, MAX_PULL);
            }
            let g = of_variance[i] * log[i].exp() + slope;
            first[i] = 0.9 * first[i] + 0.1 * g;
            second[i] = 0.999 * second[i] + 0.001 * g * g;
            let direction = (first[i] / c1) / ((second[i] / c2).sqrt() + 1e-8);
            log[i] = (log[i] - RATE * direction).clamp(BOUNDS.0, BOUNDS.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_the_derivative_of_the_papers_divergence() {
        let divergence = |log_alpha: f64| {
            let s = 1.0 / (1.0 + (-(1.87320 + 1.48695 * log_alpha)).exp());
            -(0.63576 * s - 0.5 * (1.0 + (-log_alpha).exp()).ln())
        };
        for log_alpha in [-8.0, -3.0, -1.0, 0.0, 1.0, 3.0] {
            let h = 1e-5;
            let expected = (divergence(log_alpha + h) - divergence(log_alpha - h)) / (2.0 * h);
            let found = f64::from(divergence_slope(log_alpha as f32));
            assert!(
                (found - expected).abs() < 1e-5,
                "{log_alpha}: {found} {expected}"
            );
        }
    }
}
