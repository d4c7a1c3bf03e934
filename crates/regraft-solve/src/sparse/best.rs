//! The best mask that two starts and exact swaps find.

use super::alps::{AlpsConfig, alps};
use super::exact_obs::exact_obs;
use super::refit::{SupportRefit, refit_support};
use super::swap::{MAX_INPUTS, SwapConfig, SwapReport, swap};
use super::{Mask, Objective};
use crate::error::SolveError;

/// Greedy removal takes `r d³/3` operations and one `d × d` matrix a thread: beyond this width only
/// ALPS starts, whose cost is that of some hundred products.
pub const MAX_GREEDY_INPUTS: usize = 1536;

/// Where a mask came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Greedy removal by exact optimal brain surgery.
    ExactObs,
    /// Alternating directions.
    Alps,
}

/// A mask and how it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// What stays.
    pub mask: Mask,
    /// Which start led to it.
    pub start: Start,
    /// What the swaps did to it.
    pub swaps: SwapReport,
    /// The weights on it, refitted exactly.
    pub refit: SupportRefit,
}

/// Finds a mask of `keep` connections ([`super::Pattern::Grouped`] fixes the number itself).
///
/// Greedy removal and ALPS each give a mask, swaps improve both, and the one whose exact refit has
/// the lower objective is taken. Neither start is better on every layer: greedy removal wins where
/// few connections stay, ALPS where rows of very different weight share one count.
///
/// With `config.passes` 0 nothing is swapped. Layers of more than [`MAX_GREEDY_INPUTS`] inputs
/// start from ALPS alone.
/// # Errors
/// As the two starts: a count or a pattern that does not fit, a Gram that has no factor.
pub fn best_mask(
    objective: &Objective,
    keep: usize,
    config: &SwapConfig,
    threads: usize,
) -> Result<Best, SolveError> {
    let pattern = config.pattern;
    let from_alps = || -> Result<Mask, SolveError> {
        Ok(alps(objective, pattern, keep, &AlpsConfig::default(), threads)?.mask)
    };
    let finished = |mut mask: Mask, start: Start| -> Result<Best, SolveError> {
        let mut swaps = SwapReport::default();
        if config.passes > 0 {
            swaps = swap(objective, &mut mask, config, threads)?;
        }
        let refit = refit_support(objective, &mask, threads)?;
        Ok(Best {
            mask,
            start,
            swaps,
            refit,
        })
    };
    if objective.n_in() > MAX_GREEDY_INPUTS.min(MAX_INPUTS) {
        return finished(from_alps()?, Start::Alps);
    }
    let traces = exact_obs(objective, pattern, 0, threads)?;
    let greedy = traces.mask_of(keep)?;
    drop(traces);
    let greedy = finished(greedy, Start::ExactObs)?;
    // Nothing is left to choose where one of the starts keeps everything or nothing.
    if greedy.mask.n_kept() == 0 || greedy.mask.n_kept() == greedy.mask.kept.len() {
        return Ok(greedy);
    }
    let other = finished(from_alps()?, Start::Alps)?;
    let alps_is_lower = other.refit.relative_error < greedy.refit.relative_error;
    Ok(if alps_is_lower { other } else { greedy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Bias;
    use crate::samples;
    use crate::sparse::ObjectiveConfig;
    use crate::sparse::Pattern;

    #[test]
    fn it_is_below_both_of_its_starts() {
        for (seed, pattern) in [
            (1, Pattern::Unstructured),
            (2, Pattern::Unstructured),
            (3, Pattern::Grouped { keep: 2, group: 4 }),
            (4, Pattern::RowBlocks { rows: 4 }),
        ] {
            let (problem, old) = samples::layer(seed, 400, 24, 8, Bias::Fit);
            let objective =
                Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap();
            let keep = match pattern {
                Pattern::Grouped { .. } => 8 * 12,
                Pattern::Unstructured | Pattern::RowBlocks { .. } => 8 * 6,
            };
            let error = |mask: &Mask| refit_support(&objective, mask, 1).unwrap().relative_error;
            let config = SwapConfig {
                pattern,
                ..SwapConfig::default()
            };
            let found = best_mask(&objective, keep, &config, 1).unwrap();
            assert_eq!(found.mask.n_kept(), keep);
            let traces = exact_obs(&objective, pattern, 0, 1).unwrap();
            let greedy = traces.mask_of(keep).unwrap();
            let admm = alps(&objective, pattern, keep, &AlpsConfig::default(), 1).unwrap();
            let least = error(&greedy).min(error(&admm.mask));
            assert!(error(&found.mask) <= least * (1.0 + 1e-9), "{pattern:?}");
            assert_eq!(best_mask(&objective, keep, &config, 3).unwrap(), found);
        }
    }
}
