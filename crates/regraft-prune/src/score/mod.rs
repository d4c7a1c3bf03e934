//! How much each unit matters.

mod random;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use random::SplitMix;
use regraft_graph::{Graph, Op, ValueId};

use crate::{Group, Groups, PruneError, Unit};

/// What a unit is judged by.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Score {
    /// Sum of absolute weights, over every weight that makes or sums over the unit's channels.
    L1,
    /// Root of the sum of squared weights, over the same weights.
    L2,
    /// Mean absolute scale of the unit's batch normalisations; L2 for groups without one.
    BatchNormScale,
    /// Mean square of the unit's channels times the squared weights that sum over them: the energy
    /// that goes missing downstream. Gives for each value that a consumer reads the mean square of
    /// each index of its channel axis.
    ActivationEnergy(BTreeMap<ValueId, Vec<f64>>),
    /// Uniform numbers from a seed.
    Random {
        /// The seed.
        seed: u64,
    },
    /// Numbers computed elsewhere, by group and unit.
    External(Vec<Vec<f64>>),
}

/// How the scores of one group are made comparable with those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Normalize {
    /// Not at all: for scores that are losses.
    None,
    /// Divided by the mean of the group.
    #[default]
    Mean,
    /// Divided by the largest of the group.
    Max,
}

/// A number for every unit of every group, low for unimportant.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The numbers, by group and unit, in the order of [`Groups::groups`].
    pub groups: Vec<Vec<f64>>,
    /// Names of groups that were judged by another score than asked for.
    pub fallbacks: Vec<String>,
}

impl Scores {
    /// Returns an error unless there is one finite number a unit.
    ///
    /// # Errors
    /// [`PruneError::GroupCount`], [`PruneError::UnitCount`] or [`PruneError::ScoreValue`].
    pub fn check(&self, groups: &Groups) -> Result<(), PruneError> {
        if self.groups.len() != groups.groups.len() {
            return Err(PruneError::GroupCount {
                what: "the scores",
                expected: groups.groups.len(),
                found: self.groups.len(),
            });
        }
        for (group, scores) in groups.groups.iter().zip(&self.groups) {
            if scores.len() != group.units.len() {
                return Err(PruneError::UnitCount {
                    group: group.name.clone(),
                    what: "the list of scores",
                    expected: group.units.len(),
                    found: scores.len(),
                });
            }
            if let Some(unit) = scores.iter().position(|s| !s.is_finite()) {
                return Err(PruneError::ScoreValue {
                    group: group.name.clone(),
                    unit,
                    value: scores[unit],
                });
            }
        }
        Ok(())
    }

    /// Returns for each group its units in the order in which they should go, frozen ones left out.
    pub fn removal_order(&self, groups: &Groups) -> Vec<Vec<usize>> {
        let order = |(group, scores): (&Group, &Vec<f64>)| {
            let mut units: Vec<usize> = (0..group.units.len().min(scores.len()))
                .filter(|&u| group.units[u].frozen.is_none())
                .collect();
            units.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
            units
        };
        groups.groups.iter().zip(&self.groups).map(order).collect()
    }
}

/// Returns the scores of every unit.
///
/// # Errors
/// [`PruneError::Statistics`] if activation statistics of a consumer's input are missing,
/// [`PruneError::GroupCount`], [`PruneError::UnitCount`] or [`PruneError::ScoreValue`] if numbers
/// given do not fit the groups or weights are not finite.
pub fn score(
    graph: &Graph,
    groups: &Groups,
    by: &Score,
    normalize: Normalize,
) -> Result<Scores, PruneError> {
    let mut result = Scores {
        groups: Vec::new(),
        fallbacks: Vec::new(),
    };
    match by {
        Score::External(given) => result.groups.clone_from(given),
        Score::Random { seed } => {
            let mut rng = SplitMix::new(*seed);
            let draw = |g: &Group| g.units.iter().map(|_| rng.uniform()).collect();
            result.groups = groups.groups.iter().map(draw).collect();
        }
        Score::L1 | Score::L2 | Score::BatchNormScale | Score::ActivationEnergy(_) => {
            let mut slices = Slices::new(graph, by);
            for group in &groups.groups {
                let scores = slices.group(group, &mut result.fallbacks)?;
                result.groups.push(scores);
            }
        }
    }
    result.check(groups)?;
    for scores in &mut result.groups {
        normalise(scores, normalize);
    }
    Ok(result)
}

fn normalise(scores: &mut [f64], normalize: Normalize) {
    let by = match normalize {
        Normalize::None => return,
        Normalize::Mean => scores.iter().sum::<f64>() / scores.len().max(1) as f64,
        Normalize::Max => scores.iter().copied().fold(0.0, f64::max),
    };
    if by > 0.0 {
        for s in scores {
            *s /= by;
        }
    }
}

/// Sums over the slices of each weight axis, computed once an axis.
struct Slices<'a> {
    graph: &'a Graph,
    by: &'a Score,
    sums: BTreeMap<(ValueId, usize, bool), Vec<f64>>,
}

impl<'a> Slices<'a> {
    fn new(graph: &'a Graph, by: &'a Score) -> Self {
        Self {
            graph,
            by,
            sums: BTreeMap::new(),
        }
    }

    fn group(
        &mut self,
        group: &Group,
        fallbacks: &mut Vec<String>,
    ) -> Result<Vec<f64>, PruneError> {
        match self.by {
            Score::ActivationEnergy(energy) => self.energy(group, energy),
            Score::BatchNormScale => {
                let scales = self.batch_norm_scales(group);
                if scales.iter().any(Option::is_some) {
                    return Ok(scales.into_iter().map(Option::unwrap_or_default).collect());
                }
                fallbacks.push(group.name.clone());
                Ok(self.norms(group, true))
            }
            Score::L1 => Ok(self.norms(group, false)),
            Score::L2 | Score::Random { .. } | Score::External(_) => Ok(self.norms(group, true)),
        }
    }

    /// L1 or L2 norms of all slices of weights that belong to each unit.
    fn norms(&mut self, group: &Group, squared: bool) -> Vec<f64> {
        let made = group.producers.iter().map(|p| (p.weight, p.weight_axis));
        let read = group.consumers.iter().map(|c| (c.weight, c.weight_axis));
        let mut axes: Vec<(ValueId, usize)> = made.chain(read).collect();
        axes.sort_unstable();
        axes.dedup();
        for &(value, axis) in &axes {
            self.sum(value, axis, squared);
        }
        let of_unit = |unit: &Unit| {
            let parts = unit.members.iter().filter_map(|m| {
                if axes.binary_search(&(m.value, m.axis)).is_err() {
                    return None;
                }
                self.sums.get(&(m.value, m.axis, squared))?.get(m.index)
            });
            let total: f64 = parts.sum();
            if squared { total.sqrt() } else { total }
        };
        group.units.iter().map(of_unit).collect()
    }

    fn sum(&mut self, value: ValueId, axis: usize, squared: bool) {
        let graph = self.graph;
        self.sums.entry((value, axis, squared)).or_insert_with(|| {
            let Some(tensor) = graph.tensor(value) else {
                return Vec::new();
            };
            let (Some(data), Some(&n)) = (tensor.to_f32(), tensor.shape().get(axis)) else {
                return Vec::new();
            };
            let inner: usize = tensor.shape()[axis + 1..].iter().product();
            let mut sums = vec![0.0; n];
            for (row, chunk) in data.chunks(inner.max(1)).enumerate() {
                let x = chunk.iter().map(|&w| {
                    let w = f64::from(w);
                    if squared { w * w } else { w.abs() }
                });
                sums[row % n.max(1)] += x.sum::<f64>();
            }
            sums
        });
    }

    fn batch_norm_scales(&self, group: &Group) -> Vec<Option<f64>> {
        let is_scale = |v: ValueId| {
            self.graph.consumers(v).iter().any(|&id| {
                let node = self.graph.node(id);
                matches!(node.op, Op::BatchNormalization { .. }) && node.input(1) == Some(v)
            })
        };
        let mut known: BTreeMap<ValueId, Option<Cow<'_, [f32]>>> = BTreeMap::new();
        let mut of_unit = |unit: &Unit| {
            let (mut sum, mut n) = (0.0, 0usize);
            for m in &unit.members {
                let data = known.entry(m.value).or_insert_with(|| {
                    let tensor = self.graph.tensor(m.value)?;
                    is_scale(m.value).then(|| tensor.to_f32()).flatten()
                });
                if let Some(x) = data.as_ref().and_then(|d| d.get(m.index)) {
                    sum += f64::from(x.abs());
                    n += 1;
                }
            }
            (n > 0).then(|| sum / n as f64)
        };
        group.units.iter().map(&mut of_unit).collect()
    }

    fn energy(
        &mut self,
        group: &Group,
        energy: &BTreeMap<ValueId, Vec<f64>>,
    ) -> Result<Vec<f64>, PruneError> {
        let mut of_weight: BTreeMap<(ValueId, usize), Vec<f64>> = BTreeMap::new();
        for c in &group.consumers {
            self.sum(c.weight, c.weight_axis, true);
            let Some(sums) = self.sums.get(&(c.weight, c.weight_axis, true)) else {
                continue;
            };
            let given = energy.get(&c.input).map_or(&[][..], Vec::as_slice);
            if given.len() != sums.len() {
                return Err(PruneError::Statistics {
                    value: self.graph.value(c.input).name.clone(),
                    expected: sums.len(),
                    found: given.len(),
                });
            }
            let total = of_weight
                .entry((c.weight, c.weight_axis))
                .or_insert_with(|| vec![0.0; sums.len()]);
            for ((t, s), e) in total.iter_mut().zip(sums).zip(given) {
                *t += s * e;
            }
        }
        let of_unit = |unit: &Unit| {
            let parts = unit.members.iter();
            let parts = parts.filter_map(|m| of_weight.get(&(m.value, m.axis))?.get(m.index));
            parts.sum()
        };
        Ok(group.units.iter().map(of_unit).collect())
    }
}
