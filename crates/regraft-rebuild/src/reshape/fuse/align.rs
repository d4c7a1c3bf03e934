//! Bringing one network into the basis of another: the channels of each coupled group in the order
//! in which they match.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Graph, ValueId};
use regraft_prune::{Group, Groups, find_groups};
use regraft_solve::{Matrix, SolveError, assign, assigned};

use super::similarity::{add, correlations, slots, weight_similarity};
use super::{Basis, FuseConfig, permuted};
use crate::calibrate::samples_of_chunk;
use crate::stream::Stream;
use crate::{Activations, Monitor, RebuildError, Stage};

/// Passes over all groups at most when weights are matched; some ten are taken.
const MAX_PASSES: usize = 100;

/// A gain relative to what there is that rounding explains.
const NO_GAIN: f64 = 1e-9;

/// Largest difference of the outputs before and after a change of order, relative to the largest
/// output: sums are taken in another order, which rounding shows.
const SAME_OUTPUT: f64 = 1e-3;

/// How one group of channels was matched.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMatch {
    /// The group's name.
    pub group: String,
    /// Units that could change places.
    pub channels: usize,
    /// Units that did.
    pub moved: usize,
    /// Mean similarity of the matched units before: a correlation for
    /// [`Basis::Activations`], a product of weights relative to the largest possible for
    /// [`Basis::Weights`].
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// True if the order was not taken because it did not keep the function: some operation in the
    /// group is not indifferent to it.
    pub left: bool,
}

/// A network in the basis of another.
#[derive(Clone, Debug)]
pub struct Aligned {
    /// The network, which gives what it gave.
    pub graph: Graph,
    /// What changed, group by group; empty for [`Basis::Same`].
    pub groups: Vec<GroupMatch>,
    /// For each group the units in their new order: unit `u` is what unit `orders[group][u]` was.
    pub orders: Vec<Vec<usize>>,
}

/// Returns `other` with the channels of every coupled group in the order in which they match those
/// of `first`.
///
/// Each group is one linear assignment. What its order does is checked on the first samples: a group
/// whose order changes the network's outputs is left as it was, and says so.
/// `other` is [`matched`](super::matched()) to `first`.
/// # Errors
/// [`RebuildError::Run`], [`RebuildError::Solve`] or [`RebuildError::Prune`];
/// [`RebuildError::TooFewSamples`] if activations are asked for and there are none.
/// # Reference
/// Li et al., "Convergent learning", ICLR 2016 (correlation of activations); Singh and Jaggi,
/// "Model fusion via optimal transport", `NeurIPS` 2020, of which a one-to-one transport between equal
/// widths is the assignment here; Ainsworth et al., "Git Re-Basin", ICLR 2023 (weights, algorithm
/// 1, with layers in their order instead of a random one).
pub fn align(
    first: &Graph,
    other: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
    monitor: &dyn Monitor,
) -> Result<Aligned, RebuildError> {
    if config.basis == Basis::Same {
        return Ok(Aligned {
            graph: other.clone(),
            groups: Vec::new(),
            orders: Vec::new(),
        });
    }
    let groups = find_groups(first, &infer(first, &InferOptions::default())?)?;
    let found = match config.basis {
        Basis::Same | Basis::Activations => {
            by_activations((first, other), &groups, inputs, config, monitor)?
        }
        Basis::Weights => by_weights((first, other), &groups, monitor)?,
    };
    checked(other, &groups, found, inputs, config)
}

/// Orders of all groups and what they bring.
struct Orders {
    orders: Vec<Vec<usize>>,
    matches: Vec<GroupMatch>,
}

/// The orders from the correlation of what the groups' producers give.
fn by_activations(
    (first, other): (&Graph, &Graph),
    groups: &Groups,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
    monitor: &dyn Monitor,
) -> Result<Orders, RebuildError> {
    let correlations = correlations((first, other), groups, inputs, config, monitor)?;
    let mut found = Orders {
        orders: Vec::new(),
        matches: Vec::new(),
    };
    for group in &groups.groups {
        let mut similarity = Matrix::zeros(group.units.len(), group.units.len());
        for producer in &group.producers {
            let key = (producer.output, producer.output_axis);
            if let Some(c) = correlations.get(&key) {
                add(&mut similarity, group, key, c);
            }
        }
        // A mean over the channels of a unit.
        let parts: Vec<usize> = (0..group.units.len())
            .map(|u| {
                group
                    .producers
                    .iter()
                    .map(|p| slots(group, u, (p.output, p.output_axis)).len())
                    .sum()
            })
            .collect();
        for (u, n) in parts.iter().enumerate() {
            similarity
                .row_mut(u)
                .iter_mut()
                .for_each(|s| *s /= (*n).max(1) as f64);
        }
        let order = best_order(group, &similarity).map_err(RebuildError::solve(&group.name))?;
        let n = group.n_free().max(1) as f64;
        found.matches.push(group_match(
            group,
            &order,
            (
                similarity_of(group, &similarity, None) / n,
                similarity_of(group, &similarity, Some(&order)) / n,
            ),
        ));
        found.orders.push(order);
    }
    Ok(found)
}

/// The orders from the products of weights: one group at a time, the others as they are by then.
fn by_weights(
    (first, other): (&Graph, &Graph),
    groups: &Groups,
    monitor: &dyn Monitor,
) -> Result<Orders, RebuildError> {
    let n_groups = groups.groups.len();
    let mut orders: Vec<Vec<usize>> = groups.groups.iter().map(identity).collect();
    let mut current = other.clone();
    let mut first_similarity = vec![0.0; n_groups];
    let mut last_similarity = vec![0.0; n_groups];
    for pass in 0..MAX_PASSES {
        let mut moved = false;
        for (g, group) in groups.groups.iter().enumerate() {
            if monitor.cancelled() {
                return Err(RebuildError::Interrupted);
            }
            let (similarity, scale) = weight_similarity(first, &current, group)?;
            let order = best_order(group, &similarity).map_err(RebuildError::solve(&group.name))?;
            let before = similarity_of(group, &similarity, None);
            let after = similarity_of(group, &similarity, Some(&order));
            if pass == 0 {
                first_similarity[g] = before / scale;
            }
            last_similarity[g] = before.max(after) / scale;
            if after <= before + NO_GAIN * scale {
                continue;
            }
            let mut step: Vec<Vec<usize>> = vec![Vec::new(); n_groups];
            step[g].clone_from(&order);
            current = permuted(&current, groups, &step)?;
            orders[g] = order.iter().map(|u| orders[g][*u]).collect();
            moved = true;
        }
        monitor.progress(Stage::Calibrate, pass, MAX_PASSES, "weights");
        if !moved {
            break;
        }
    }
    let figures = first_similarity.into_iter().zip(last_similarity);
    let all = groups.groups.iter().zip(&orders).zip(figures);
    Ok(Orders {
        matches: all.map(|((g, o), f)| group_match(g, o, f)).collect(),
        orders,
    })
}

fn identity(group: &Group) -> Vec<usize> {
    (0..group.units.len()).collect()
}

/// Returns the best order of a group's free units, each within its class.
fn best_order(group: &Group, similarity: &Matrix) -> Result<Vec<usize>, SolveError> {
    let mut order = identity(group);
    for class in 0..group.n_classes {
        let is_free =
            |u: &usize| group.units[*u].frozen.is_none() && group.units[*u].class == class;
        let units: Vec<usize> = (0..group.units.len()).filter(is_free).collect();
        if units.len() < 2 {
            continue;
        }
        let part = similarity.select_rows(&units)?.select_cols(&units)?;
        let columns = assign(&part)?;
        let stay: Vec<usize> = (0..units.len()).collect();
        // What rounding alone prefers stays where it is.
        let gain = assigned(&part, &columns) - assigned(&part, &stay);
        let scale: f64 = part.data.iter().map(|s| s.abs()).sum();
        if gain > NO_GAIN * scale / units.len() as f64 {
            for (row, col) in columns.iter().enumerate() {
                order[units[row]] = units[*col];
            }
        }
    }
    Ok(order)
}

/// The sum of the similarities of free units that are matched.
fn similarity_of(group: &Group, similarity: &Matrix, order: Option<&[usize]>) -> f64 {
    let free = (0..group.units.len()).filter(|u| group.units[*u].frozen.is_none());
    free.map(|u| similarity.at(u, order.map_or(u, |o| o[u])))
        .sum()
}

fn group_match(group: &Group, order: &[usize], (before, after): (f64, f64)) -> GroupMatch {
    GroupMatch {
        group: group.name.clone(),
        channels: group.n_free(),
        moved: order
            .iter()
            .enumerate()
            .filter(|(to, from)| to != *from)
            .count(),
        before,
        after,
        left: false,
    }
}

/// Applies the orders that keep the network's outputs.
fn checked(
    other: &Graph,
    groups: &Groups,
    mut found: Orders,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
) -> Result<Aligned, RebuildError> {
    let done = |graph: Graph, found: Orders| Aligned {
        graph,
        groups: found.matches,
        orders: found.orders,
    };
    let graph = permuted(other, groups, &found.orders)?;
    if inputs.is_empty() || samples_of_chunk(inputs, 0) == 0 {
        return Ok(done(graph, found));
    }
    let reference = outputs(other, inputs, config)?;
    if same(&reference, &outputs(&graph, inputs, config)?) {
        return Ok(done(graph, found));
    }
    // One group at a time finds what cannot be reordered.
    let mut current = other.clone();
    for g in 0..groups.groups.len() {
        let mut step: Vec<Vec<usize>> = vec![Vec::new(); groups.groups.len()];
        step[g].clone_from(&found.orders[g]);
        let next = permuted(&current, groups, &step)?;
        if same(&reference, &outputs(&next, inputs, config)?) {
            current = next;
        } else {
            found.orders[g] = identity(&groups.groups[g]);
            let m = &mut found.matches[g];
            (m.left, m.moved, m.after) = (true, 0, m.before);
        }
    }
    Ok(done(current, found))
}

/// What the network gives for the first samples.
fn outputs(
    graph: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
) -> Result<Vec<HostTensor>, RebuildError> {
    let stream = Stream::new("other", graph, inputs, config.exec)?;
    stream.chunk(0, graph.outputs())
}

fn same(a: &[HostTensor], b: &[HostTensor]) -> bool {
    a.iter().zip(b).all(|(a, b)| {
        let (Some(x), Some(y)) = (a.as_f32(), b.as_f32()) else {
            return a == b;
        };
        let scale = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let gap = x
            .iter()
            .zip(y)
            .fold(0.0f32, |m, (p, q)| m.max((p - q).abs()));
        f64::from(gap) <= SAME_OUTPUT * f64::from(scale).max(f64::MIN_POSITIVE)
    })
}
