//! What stays when a share has to go.

use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{Graph, Tensor};
use regraft_prune::plan::{Budget, ChooseOptions, CostModel, choose};
use regraft_prune::score::{Normalize, Score, score};
use regraft_prune::{Groups, Plan, find_groups};

use super::allocation::LayerSize;
use super::masks::largest;
use super::{Allocation, Goal};
use crate::TrainError;
use crate::parameters::Trained;

/// Masks of all trained initializers.
pub(super) type Kept = Vec<Vec<bool>>;

/// Chooses connections or channels by the sizes of weights.
pub(super) enum Choice<'a> {
    Connections {
        trained: &'a [Trained],
        allocation: Allocation,
    },
    Channels(Box<Channels<'a>>),
}

pub(super) struct Channels<'a> {
    graph: &'a Graph,
    trained: &'a [Trained],
    facts: Facts,
    groups: Groups,
    costs: CostModel,
}

impl<'a> Choice<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        trained: &'a [Trained],
        goal: Goal,
    ) -> Result<Self, TrainError> {
        match goal {
            Goal::Connections { allocation, .. } => Ok(Self::Connections {
                trained,
                allocation,
            }),
            Goal::Channels { .. } => {
                let facts = infer(graph, &InferOptions::default())?;
                let groups = find_groups(graph, &facts)?;
                Ok(Self::Channels(Box::new(Channels {
                    costs: CostModel::new(graph, &facts, &groups),
                    graph,
                    trained,
                    facts,
                    groups,
                })))
            }
        }
    }

    /// Returns what stays when the share `removed` is gone, by the sizes of all trained initializers;
    /// those of weights count. With `made_only` a channel goes where it is made alone: the weights of what makes
    /// it, not its bias, its normalisation or what reads it. So it can come back.
    pub(super) fn keep(
        &self,
        sizes: &[Vec<f32>],
        removed: f64,
        made_only: bool,
    ) -> Result<Kept, TrainError> {
        match self {
            Self::Connections {
                trained,
                allocation,
            } => Ok(connections(trained, *allocation, sizes, removed)),
            Self::Channels(channels) => channels.masks(&channels.plan(sizes, removed)?, made_only),
        }
    }

    /// Returns the graph without the channels that `kept` left out; `None` for connections.
    pub(super) fn without(
        &self,
        graph: &Graph,
        kept: &[Vec<bool>],
    ) -> Result<Option<Graph>, TrainError> {
        let Self::Channels(channels) = self else {
            return Ok(None);
        };
        let plan = channels.plan_of(kept);
        let (small, _) =
            regraft_prune::apply::apply(graph, &channels.facts, &channels.groups, &plan)?;
        Ok(Some(small))
    }
}

fn connections(
    trained: &[Trained],
    allocation: Allocation,
    sizes: &[Vec<f32>],
    removed: f64,
) -> Kept {
    let weights = trained.iter().zip(sizes).filter(|(t, _)| t.is_weight);
    let layers: Vec<LayerSize<'_>> = weights
        .map(|(t, weights)| LayerSize {
            weights,
            shape: &t.shape,
        })
        .collect();
    let total: usize = layers.iter().map(|l| l.weights.len()).sum();
    let keep = ((1.0 - removed) * total as f64).round() as usize;
    let mut counts = allocation.share(&layers, keep).into_iter();
    let mask = |(t, sizes): (&Trained, &Vec<f32>)| match t.is_weight.then(|| counts.next()) {
        Some(Some(count)) => largest(sizes, count),
        _ => vec![true; sizes.len()],
    };
    trained.iter().zip(sizes).map(mask).collect()
}

impl Channels<'_> {
    fn plan(&self, sizes: &[Vec<f32>], removed: f64) -> Result<Plan, TrainError> {
        let mut edit = self.graph.edit();
        for (t, sizes) in self.trained.iter().zip(sizes) {
            edit.set_initializer(t.id, Tensor::from_f32(t.shape.clone(), sizes.clone())?);
        }
        let sized = edit.finish()?;
        let scores = score(&sized, &self.groups, &Score::L2, Normalize::Mean)?;
        let budget = Budget::Macs((1.0 - removed).clamp(f64::MIN_POSITIVE, 1.0));
        let options = ChooseOptions::default();
        Ok(choose(
            self.graph,
            &self.groups,
            &self.costs,
            &scores,
            budget,
            &options,
        )?)
    }

    fn masks(&self, plan: &Plan, made_only: bool) -> Result<Kept, TrainError> {
        let kept = plan.resolve(self.graph, &self.groups)?;
        let mask = |t: &Trained| {
            let mut mask = vec![true; t.shape.iter().product()];
            // What is added behind a filter keeps the channel alive: a rectifier's zero would have no gradient.
            let counts = |axis: &usize| !made_only || (t.is_weight && *axis == t.out_axis);
            for axis in (0..t.shape.len()).filter(counts) {
                let Some(stays) = kept.get(t.id, axis) else {
                    continue;
                };
                let goes = (0..t.shape[axis]).filter(|i| stays.binary_search(i).is_err());
                for place in goes.flat_map(|index| t.slice(axis, index)) {
                    mask[place] = false;
                }
            }
            mask
        };
        Ok(self.trained.iter().map(mask).collect())
    }

    /// The plan that has these masks: a unit goes whose slice of some initializer is not there.
    fn plan_of(&self, kept: &[Vec<bool>]) -> Plan {
        let mut plan = Plan::dense(&self.groups);
        for (group, entry) in self.groups.groups.iter().zip(&mut plan.groups) {
            entry.kept.retain(|&unit| {
                group.units[unit].members.iter().all(|m| {
                    let at = self.trained.iter().position(|t| t.id == m.value);
                    at.is_none_or(|i| {
                        let mut slice = self.trained[i].slice(m.axis, m.index);
                        slice.any(|place| kept[i][place])
                    })
                })
            });
        }
        plan
    }
}
