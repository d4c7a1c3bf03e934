//! Which units are worth copying, or having back.

use std::collections::BTreeMap;

use regraft_prune::score::{Normalize, Score, Scores, score};
use regraft_prune::{Groups, PruneError};

use super::Network;
use crate::RebuildError;

/// Returns the scores given; else, where it is known what layers read, the energy that a unit gives
/// to what reads it, which is what an optimal refit can gain by it at most; else the length of its
/// weights.
///
/// # Errors
/// [`RebuildError::Prune`] if the scores are not those of the groups.
pub(super) fn importance(
    network: &Network,
    groups: &Groups,
    given: Option<&Scores>,
) -> Result<Scores, RebuildError> {
    if let Some(scores) = given {
        scores.check(groups)?;
        return Ok(scores.clone());
    }
    let graph = &network.graph;
    if let Some(calibration) = &network.calibration {
        let layers = network.layers.iter();
        let energies = layers.filter_map(|l| Some((l.input, calibration.channel_energy(l)?)));
        let by_energy = Score::ActivationEnergy(energies.collect::<BTreeMap<_, _>>());
        match score(graph, groups, &by_energy, Normalize::None) {
            // Cells and products of other ranks read values that no linear layer does.
            Err(PruneError::Statistics { .. }) => {}
            found => return Ok(found?),
        }
    }
    Ok(score(graph, groups, &Score::L2, Normalize::None)?)
}
