//! Widening: more channels, features, hidden units, heads, and the same outputs.
//!
//! New units are copies of units that are there, the most important ones first. By default what
//! reads a copy has zero weights, so the outputs keep their bits; what makes it gets a little noise
//! on top, so that a refit or training finds something new in it.

mod gain;
#[cfg(test)]
mod tests;

use regraft_data::SplitMix64;
use regraft_graph::{Graph, Tensor};
use regraft_prune::apply::{Grown, NodeChange, Share, grow};
use regraft_prune::score::Scores;
use regraft_prune::{Group, Groups, PruneError};

pub use self::gain::widths_by_gain;
use super::importance::importance;
use super::{Ceiling, Change, Edited, Network};
use crate::RebuildError;
use crate::rebuild::kept_axes;

/// Noise relative to each weight: as much as tells copies apart without making them another unit.
pub const DEFAULT_NOISE: f64 = 1e-2;
/// The same where new units are judged by what they bring: half of each weight, or a copy would have nothing to
/// say that the unit does not.
pub const NEW_UNIT_NOISE: f64 = 0.5;

/// How wide groups become.
#[derive(Clone, Debug, PartialEq)]
pub enum Widths {
    /// Units of each group that is named; the others stay.
    Units(Vec<(String, usize)>),
    /// As many times the units of every group that can grow.
    Factor(f64),
}

/// How to widen.
#[derive(Clone, Debug, PartialEq)]
pub struct WidenConfig {
    /// How the weights that read a unit are shared with its copies.
    pub share: Share,
    /// Standard deviation of the noise on the weights that make a copy, relative to each weight. It
    /// keeps the function, as only copies that nothing reads yet ([`Share::Zero`]) get it, and only
    /// where no statistics are taken over the channels.
    pub noise: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// What the network may cost afterwards.
    pub ceiling: Option<Ceiling>,
    /// What makes a unit worth copying; `None` for the energy that it gives to what reads it, where
    /// that is known from calibration, else the length of its weights.
    pub scores: Option<Scores>,
}

impl Default for WidenConfig {
    fn default() -> Self {
        Self {
            share: Share::Zero,
            noise: DEFAULT_NOISE,
            seed: 0,
            ceiling: None,
            scores: None,
        }
    }
}

/// Returns the network with more units in the groups asked for; what it computes stays.
///
/// # Errors
/// [`RebuildError::Width`] for a width that is not above the present one, [`RebuildError::Setting`]
/// for a factor that is not above 1 or noise below 0, [`RebuildError::Prune`] for a group that does
/// not exist or cannot grow (the node in the way is named), [`RebuildError::OverBudget`] if the
/// result would cost more than the ceiling.
/// # Reference
/// Chen et al., `Net2Net`: Accelerating Learning via Knowledge Transfer, ICLR 2016, section 2.2.
/// Zeros instead of equal shares are the other end of the same freedom.
pub fn widen(
    network: &Network,
    groups: &Groups,
    widths: &Widths,
    config: &WidenConfig,
) -> Result<Edited, RebuildError> {
    let (grown, left) = widen_by(network, groups, widths, config)?;
    let changes = grown.report.nodes.iter().filter_map(change).collect();
    Ok(Edited {
        kept: kept_axes(&grown.report),
        ..Edited::new(grown.graph, changes, left, true)
    })
}

/// The same with where each index comes from, and the groups left out.
pub(super) fn widen_by(
    network: &Network,
    groups: &Groups,
    widths: &Widths,
    config: &WidenConfig,
) -> Result<(Grown, Vec<(String, String)>), RebuildError> {
    if config.noise < 0.0 || !config.noise.is_finite() {
        return Err(RebuildError::Setting {
            what: "the noise",
            value: config.noise,
            bounds: "0 or above",
        });
    }
    let order = sources(network, groups, config)?;
    let mut left = Vec::new();
    let copies = match widths {
        Widths::Units(list) => copies_of_units(groups, list, &order)?,
        Widths::Factor(factor) => copies_by_factor(network, groups, *factor, &order, &mut left)?,
    };
    let mut grown = grow(
        &network.graph,
        &network.facts,
        groups,
        &copies,
        config.share,
    )?;
    if let Some(ceiling) = config.ceiling {
        ceiling.check(grown.report.after)?;
    }
    if config.share == Share::Zero && config.noise > 0.0 {
        grown.graph = with_noise(&grown, groups, config)?;
    }
    Ok((grown, left))
}

/// Returns for each group the units that may be copied, the most important first.
fn sources(
    network: &Network,
    groups: &Groups,
    config: &WidenConfig,
) -> Result<Vec<Vec<usize>>, RebuildError> {
    let scores = importance(network, groups, config.scores.as_ref())?;
    let order = |(group, scores): (&Group, &Vec<f64>)| {
        let free = (0..group.units.len()).filter(|u| group.units[*u].frozen.is_none());
        let mut order: Vec<usize> = free.collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order
    };
    Ok(groups
        .groups
        .iter()
        .zip(&scores.groups)
        .map(order)
        .collect())
}

/// The widest that a group may become, in multiples of what it is.
const MOST_TIMES: usize = 64;

/// Refuses a width that only a slip of the hand asks for, before a network of it is made.
pub(super) fn check_width(wanted: usize, n_units: usize) -> Result<(), RebuildError> {
    if wanted <= n_units.saturating_mul(MOST_TIMES) {
        return Ok(());
    }
    Err(RebuildError::Setting {
        what: "the width of a group",
        value: wanted as f64,
        bounds: "at most 64 times its units",
    })
}

/// The units in their order, over and over, `extra` of them.
fn repeated(order: &[usize], extra: usize) -> Vec<usize> {
    order.iter().copied().cycle().take(extra).collect()
}

fn copies_of_units(
    groups: &Groups,
    list: &[(String, usize)],
    order: &[Vec<usize>],
) -> Result<Vec<Vec<usize>>, RebuildError> {
    let mut copies = vec![Vec::new(); groups.groups.len()];
    for (name, wanted) in list {
        let Some(g) = groups.find(name) else {
            return Err(RebuildError::Prune(PruneError::UnknownGroup {
                group: name.clone(),
            }));
        };
        let n_units = groups.groups[g].units.len();
        if *wanted <= n_units || !copies[g].is_empty() {
            return Err(RebuildError::Width {
                group: name.clone(),
                n_units: n_units + copies[g].len(),
                wanted: *wanted,
            });
        }
        check_width(*wanted, n_units)?;
        copies[g] = repeated(&order[g], wanted - n_units);
    }
    Ok(copies)
}

fn copies_by_factor(
    network: &Network,
    groups: &Groups,
    factor: f64,
    order: &[Vec<usize>],
    left: &mut Vec<(String, String)>,
) -> Result<Vec<Vec<usize>>, RebuildError> {
    if !(factor > 1.0 && factor <= MOST_TIMES as f64) {
        return Err(RebuildError::Setting {
            what: "the factor of widths",
            value: factor,
            bounds: "above 1 and at most 64",
        });
    }
    let mut copies = vec![Vec::new(); groups.groups.len()];
    for (g, group) in groups.groups.iter().enumerate() {
        let n_units = group.units.len();
        let wanted = (n_units as f64 * factor).round() as usize;
        let mut alone = vec![Vec::new(); groups.groups.len()];
        alone[g] = repeated(&order[g], wanted - n_units);
        let (graph, facts) = (&network.graph, &network.facts);
        match grow(graph, facts, groups, &alone, Share::Zero) {
            Ok(_) => copies[g] = std::mem::take(&mut alone[g]),
            Err(PruneError::Inconsistent { node, reason, .. }) => {
                left.push((group.name.clone(), format!("`{node}` {reason}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(copies)
}

/// Multiplies the weights that make copies by numbers around one.
fn with_noise(grown: &Grown, groups: &Groups, config: &WidenConfig) -> Result<Graph, RebuildError> {
    let mut random = SplitMix64::new(config.seed);
    let mut edit = grown.graph.edit();
    for (g, group) in groups.groups.iter().enumerate() {
        if grown.normalised.contains(&g) {
            continue;
        }
        for producer in &group.producers {
            let (weight, axis) = (producer.weight, producer.weight_axis);
            let (Some(origins), Some(tensor)) =
                (grown.origins(weight, axis), edit.graph().tensor(weight))
            else {
                continue;
            };
            let Some(data) = tensor.as_f32() else {
                continue;
            };
            let shape = tensor.shape().to_vec();
            let inner: usize = shape.iter().skip(axis + 1).product();
            let mut data = data.to_vec();
            for (i, w) in data.iter_mut().enumerate() {
                if origins[i / inner.max(1) % origins.len()].copy > 0 {
                    // Uniform with a variance of one.
                    let z = random.symmetric() * 3f64.sqrt();
                    *w = (f64::from(*w) * (1.0 + config.noise * z)) as f32;
                }
            }
            edit.set_initializer(weight, Tensor::from_f32(shape, data)?);
        }
    }
    Ok(edit.finish()?)
}

/// What happened to a node, `None` where nothing did.
pub(super) fn change(node: &NodeChange) -> Option<Change> {
    let moved = |(from, to): (usize, usize)| from != to;
    let mut parts = Vec::new();
    if moved(node.n_out) {
        parts.push(format!(
            "{} -> {} output channels",
            node.n_out.0, node.n_out.1
        ));
    }
    if let Some(n_in) = node.n_in.filter(|n| moved(*n)) {
        parts.push(format!("{} -> {} input channels", n_in.0, n_in.1));
    }
    (!parts.is_empty()).then(|| Change {
        node: node.node.clone(),
        what: parts.join(", "),
        macs: node.macs,
        params: node.params,
        error: Some(0.0),
    })
}
