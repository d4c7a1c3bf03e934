//! Groups that no linear layer or cell reads: products of two computed values, transposed and
//! three-dimensional convolutions. No Gram says what their units matter, so the weights rank them and
//! the masked network says what they cost.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::{Graph, ValueId};
use regraft_prune::apply::mask;
use regraft_prune::score::{Normalize, Score, Scores, score};
use regraft_prune::{Groups, Plan};

use super::{GroupSensitivity, MEASURED_SHARES, SensitivityConfig, output_error};
use crate::stream::Stream;
use crate::{Activations, RebuildError};

/// The weights' ranking of all groups, made when the first group asks for it.
pub(super) struct Blind<'a> {
    pub(super) graph: &'a Graph,
    pub(super) groups: &'a Groups,
    pub(super) inputs: &'a BTreeMap<ValueId, Activations>,
    pub(super) reference: &'a [HostTensor],
    pub(super) config: &'a SensitivityConfig,
    pub(super) scores: Option<Scores>,
}

impl Blind<'_> {
    /// Returns the sensitivity of one group: its units by the squares of the weights that make and
    /// read them, and the network's output with the group masked to a few widths.
    pub(super) fn group(&mut self, which: usize) -> Result<Option<GroupSensitivity>, RebuildError> {
        let (graph, groups) = (self.graph, self.groups);
        if self.scores.is_none() {
            let found = score(graph, groups, &Score::L2, Normalize::None);
            self.scores = Some(found.map_err(RebuildError::Prune)?);
        }
        let given = self.config.orders.as_ref().and_then(|o| o.get(which));
        let Some(order) = given.cloned().or_else(|| {
            let scores = self.scores.as_ref()?;
            scores.removal_order(groups).get(which).cloned()
        }) else {
            return Ok(None);
        };
        let order = groups.spare_last(which, &order);
        let Some(&output) = graph.outputs().first() else {
            return Ok(None);
        };
        let n = groups.groups[which].units.len();
        let least = n - order.len();
        let mut measured = Vec::new();
        for share in MEASURED_SHARES {
            let kept = ((n as f64 * share).round() as usize).max(least).max(1);
            if kept >= n || measured.iter().any(|(k, _)| *k == kept) {
                continue;
            }
            let mut widths: Vec<usize> = groups.groups.iter().map(|g| g.units.len()).collect();
            let mut removal = vec![Vec::new(); widths.len()];
            widths[which] = kept;
            removal[which].clone_from(&order);
            let plan = Plan::from_widths(groups, &widths, &removal).map_err(RebuildError::Prune)?;
            let masked = mask(graph, groups, &plan).map_err(RebuildError::Prune)?;
            let stream = Stream::new("masked", &masked, self.inputs, self.config.exec)?;
            measured.push((kept, output_error(&stream, output, self.reference)?));
        }
        measured.sort_unstable_by_key(|(k, _)| *k);
        Ok(Some(GroupSensitivity {
            errors: curve(n, &measured),
            order,
            measured,
            damping: 0.0,
            min_kept: least.max(1),
        }))
    }
}

/// The error at every width: straight lines between the measured ones and none at the dense width,
/// the first line carried on below.
fn curve(n: usize, measured: &[(usize, f64)]) -> Vec<f64> {
    let mut points: Vec<(f64, f64)> = measured.iter().map(|(k, e)| (*k as f64, *e)).collect();
    points.push((n as f64, 0.0));
    let at = |k: usize| {
        let k = k as f64;
        let upper = points.iter().position(|(p, _)| *p >= k).unwrap_or(0).max(1);
        match (points.get(upper - 1), points.get(upper)) {
            (Some((a, x)), Some((b, y))) if b > a => (x + (y - x) * (k - a) / (b - a)).max(0.0),
            // Nothing could be measured: the group is as wide as it must be.
            _ => 0.0,
        }
    };
    (0..=n).map(at).collect()
}
