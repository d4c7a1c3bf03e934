//! Which groups get back how many units.

use super::{Descent, ReconnectConfig, reconnect};
use crate::reshape::gain::{Quiet, Wider, Width, needed, search};
use crate::reshape::{ByGain, Network, Samples};
use crate::{Monitor, RebuildError};

/// How wide a group becomes at most, as a share of its dense width.
const MOST: f64 = 1.5;

/// A network to which units return, and new ones beyond the dense width.
struct Returning<'a> {
    descent: Descent<'a>,
    samples: Samples<'a>,
    config: ReconnectConfig,
    monitor: &'a dyn Monitor,
}

/// Returns the widths of groups that lower the error most within the ceiling, for
/// [`ReconnectConfig::widths`].
///
/// Rates and widths of `config` are not read.
/// # Errors
/// [`RebuildError::Setting`] without a ceiling; as [`reconnect`].
pub fn widths_by_gain(
    descent: Descent<'_>,
    samples: Samples<'_>,
    config: &ReconnectConfig,
    monitor: &dyn Monitor,
) -> Result<ByGain, RebuildError> {
    let ceiling = needed(config.ceiling)?;
    let flags = descent.plan.flags(descent.groups)?;
    let all = descent.groups.groups.iter().zip(&flags);
    let groups = all.map(|(group, flags)| Width {
        name: group.name.clone(),
        now: flags.iter().filter(|k| **k).count(),
        whole: flags.len(),
        most: (MOST * flags.len() as f64) as usize,
    });
    let returning = Returning {
        descent,
        samples,
        config: ReconnectConfig {
            rebuild_rate: 0.0,
            ceiling: Some(ceiling),
            all_readers: true,
            ..config.clone()
        },
        monitor,
    };
    search(&returning, groups.collect(), monitor)
}

impl Wider for Returning<'_> {
    fn tried(&self, widths: &[usize]) -> Result<Option<(f64, u64)>, RebuildError> {
        let all = self.descent.groups.groups.iter().zip(widths);
        let config = ReconnectConfig {
            widths: all.map(|(g, width)| (g.name.clone(), *width)).collect(),
            ..self.config.clone()
        };
        let found = reconnect(self.descent, self.samples, &config, &Quiet(self.monitor));
        match found {
            Ok(found) => {
                let cost = Network::new(found.edited.graph)?.cost();
                Ok(Some((found.error_after, cost.macs)))
            }
            Err(RebuildError::OverBudget { .. } | RebuildError::Prune(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }
}
