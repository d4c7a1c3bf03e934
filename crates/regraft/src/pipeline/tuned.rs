//! Networks that were tuned or trained before: a closed form may lose what they have.

use regraft_graph::Graph;
use regraft_rebuild::output::output_error;
use regraft_rebuild::rebuild::{NoJournal, Pair, RebuildConfig, rebuild};

use super::Log;
use crate::Error;
use crate::progress::Adapter;
use crate::samples::Samples;

/// Relative squared error of outputs that are the same but for rounding.
const SAME: f64 = 1e-6;

/// A network whose output has lost more than this of its energy was not tuned.
const LOST: f64 = 0.5;

/// True if an error is larger than another by more than rounding and a percent.
pub(crate) fn is_worse(before: f64, after: f64) -> bool {
    before.is_finite() && (after.is_nan() || after > 1.01 * before.max(SAME))
}

/// Returns true if a network is closer to its teacher on held-out samples as it is than after the closed form, so
/// that what goes on begins with its own weights.
pub(crate) fn is_tuned(
    pair: Pair<'_>,
    samples: &Samples,
    config: &RebuildConfig,
    log: &Log<'_>,
) -> Result<bool, Error> {
    let held_out = samples.held_out_feeds();
    let error = |graph: &Graph| output_error(graph, pair.teacher, &held_out, config.exec);
    let given = error(pair.pruned)?;
    if given.is_nan() || given > LOST {
        return Ok(false);
    }
    let closed = closed_form(pair, samples, config.clone(), log)?;
    Ok(is_worse(given, error(&closed)?))
}

/// Returns a network rebuilt in closed form, without tuning.
pub(crate) fn closed_form(
    pair: Pair<'_>,
    samples: &Samples,
    config: RebuildConfig,
    log: &Log<'_>,
) -> Result<Graph, Error> {
    let config = RebuildConfig {
        tune: None,
        refit: true,
        ..config
    };
    let feeds = samples.feeds();
    let rebuilt = rebuild(pair, &feeds, &config, &NoJournal, &Adapter::new(log))?;
    Ok(rebuilt.graph)
}

#[cfg(test)]
mod tests {
    use super::is_worse;

    #[test]
    fn rounding_and_a_percent_are_not_worse() {
        assert!(is_worse(0.217, 0.361));
        assert!(is_worse(0.0, 2e-6));
        assert!(!is_worse(0.217, 0.219));
        assert!(!is_worse(1e-14, 1e-12));
        assert!(!is_worse(0.3, 0.2));
        assert!(
            !is_worse(f64::NAN, 0.2),
            "anything is better than no number"
        );
        assert!(is_worse(0.2, f64::INFINITY));
        assert!(is_worse(0.2, f64::NAN));
    }
}
