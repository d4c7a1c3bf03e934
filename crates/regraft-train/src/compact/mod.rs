//! A network that has lost most of its connections trains on what is left.
//!
//! A channel that only weights outside of the masks read has no influence on the loss, and no gradient
//! reaches what makes it. Steps run a smaller graph without such channels; a run's state keeps its full
//! lists, of which the kept elements are gathered before a step, and zeros stand for the gradients of
//! the others. Which channels are left out follows from the masks alone, so that a run that goes on from
//! a checkpoint has the same form. Where anything does not fit, the whole network trains as it did.

#[cfg(test)]
mod tests;
mod unread;

use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{Graph, Tensor, ValueId};
use regraft_prune::apply::apply;
use regraft_prune::{Groups, Plan, find_groups};

use self::unread::Channels;
use crate::differentiate::{Problem, Slopes, differentiate};
use crate::network::Network;
use crate::parameters::Trained;
use crate::soft::Noisy;
use crate::{FitConfig, TrainError};

/// The largest initializer whose places are whole numbers in a float.
const MAX_ELEMENTS: usize = 1 << 24;

/// The largest share of the multiply-accumulates that is worth a form of its own.
const MAX_SHARE: f64 = 0.9;

/// Makes smaller forms of a network.
pub(crate) struct Compactor<'a> {
    trained: &'a [Trained],
    frozen: &'a [ValueId],
    config: &'a FitConfig,
    /// The network, each trained initializer and running statistic with its own places for elements.
    places: Graph,
    running: Vec<ValueId>,
    facts: Facts,
    groups: Groups,
    channels: Channels,
}

/// The units of each group that are left out, and the form without them where it is worth one.
pub(crate) struct Compact {
    gone: Vec<Vec<usize>>,
    pub(crate) small: Option<Small>,
}

/// A network without the channels that nothing reads.
pub(crate) struct Small {
    network: Network,
    noisy: Option<Noisy>,
    /// Of each trained initializer.
    trained: Vec<Kept>,
    /// Of each running statistic.
    statistics: Vec<Kept>,
}

/// Which elements of a list are part of a smaller one, in its order.
#[derive(Debug)]
struct Kept {
    places: Vec<usize>,
    of: usize,
}

impl Kept {
    /// Reads the places of an initializer of `of` elements that holds them.
    fn of(graph: &Graph, id: ValueId, of: usize) -> Option<Self> {
        let data = graph.tensor(id)?.as_f32()?;
        let places: Vec<usize> = data.iter().map(|x| *x as usize).collect();
        let fits = places.iter().all(|at| *at < of);
        fits.then_some(Self { places, of })
    }

    /// Returns the kept elements; of an empty list nothing.
    fn gather(&self, list: &[f32]) -> Vec<f32> {
        let one = |at: &usize| list.get(*at).copied();
        self.places.iter().filter_map(one).collect()
    }

    /// Returns a list of full length, zeros where nothing was kept; of an empty list an empty one.
    fn scatter(&self, list: &[f32]) -> Vec<f32> {
        if list.is_empty() {
            return Vec::new();
        }
        let mut full = vec![0.0; self.of];
        self.write(list, &mut full);
        full
    }

    /// Writes the kept elements into a list of full length.
    fn write(&self, list: &[f32], full: &mut [f32]) {
        for (at, x) in self.places.iter().zip(list) {
            if let Some(slot) = full.get_mut(*at) {
                *slot = *x;
            }
        }
    }
}

fn each(
    kept: &[Kept],
    lists: &[Vec<f32>],
    of: impl Fn(&Kept, &[f32]) -> Vec<f32>,
) -> Vec<Vec<f32>> {
    kept.iter()
        .zip(lists)
        .map(|(k, list)| of(k, list))
        .collect()
}

impl<'a> Compactor<'a> {
    /// Returns what makes smaller forms of `graph`, whose whole form is `network`; `None` where its
    /// channels are not understood.
    pub(crate) fn new(
        graph: &Graph,
        network: &Network,
        trained: &'a [Trained],
        frozen: &'a [ValueId],
        (scores, config): (ValueId, &'a FitConfig),
    ) -> Option<Self> {
        let facts = infer(graph, &InferOptions::default()).ok()?;
        let groups = find_groups(graph, &facts).ok()?;
        let running = network.running().to_vec();
        let mut edit = graph.edit();
        for id in trained.iter().map(|t| t.id).chain(running.iter().copied()) {
            let tensor = graph.tensor(id).filter(|t| t.len() <= MAX_ELEMENTS)?;
            let places = (0..tensor.len()).map(|at| at as f32).collect();
            let places = Tensor::from_f32(tensor.shape().to_vec(), places).ok()?;
            edit.set_initializer(id, places);
        }
        Some(Self {
            channels: Channels::new(graph, &groups, trained, scores),
            places: edit.finish().ok()?,
            trained,
            frozen,
            config,
            running,
            facts,
            groups,
        })
    }

    /// Returns the form for masks, noisy or not, `now` where that is it.
    pub(crate) fn compact(
        &self,
        masks: &[Vec<bool>],
        is_noisy: bool,
        now: Option<Compact>,
    ) -> Compact {
        let gone = self.channels.unread(&self.groups, self.trained, masks);
        match now {
            Some(now) if now.gone == gone => now,
            _ => Compact {
                small: self.small(&gone, is_noisy),
                gone,
            },
        }
    }

    fn small(&self, gone: &[Vec<usize>], is_noisy: bool) -> Option<Small> {
        if gone.iter().all(Vec::is_empty) {
            return None;
        }
        let mut plan = Plan::dense(&self.groups);
        for (entry, gone) in plan.groups.iter_mut().zip(gone) {
            entry.kept.retain(|unit| !gone.contains(unit));
        }
        let (graph, report) = apply(&self.places, &self.facts, &self.groups, &plan).ok()?;
        if report.after.macs as f64 > MAX_SHARE * report.before.macs as f64 {
            return None;
        }
        self.form(&graph, is_noisy).ok()?
    }

    fn form(&self, graph: &Graph, is_noisy: bool) -> Result<Option<Small>, TrainError> {
        let of = |id: ValueId| {
            let full = self.places.tensor(id)?.len();
            Kept::of(graph, id, full)
        };
        let kept: Option<Vec<Kept>> = self.trained.iter().map(|t| of(t.id)).collect();
        let statistics: Option<Vec<Kept>> = self.running.iter().map(|id| of(*id)).collect();
        let config = self.config;
        let network = Network::new(graph, self.frozen, config.training_mode, config.exec)?;
        let (Some(kept), Some(statistics)) = (kept, statistics) else {
            return Ok(None);
        };
        if network.running() != self.running {
            return Ok(None);
        }
        let noisy = if is_noisy {
            let shape = |id| graph.tensor(id).map(|t| t.shape().to_vec());
            let small = |t: &Trained| Trained {
                shape: shape(t.id).unwrap_or_default(),
                ..t.clone()
            };
            let trained: Vec<Trained> = self.trained.iter().map(small).collect();
            Some(Noisy::new(network.training(), &trained, config.exec)?)
        } else {
            None
        };
        Ok(Some(Small {
            network,
            noisy,
            trained: kept,
            statistics,
        }))
    }
}

impl Small {
    /// Returns what [`differentiate`] returns of the whole network, up to rounding and to other draws of
    /// what is random; statistics of channels that are left out stay.
    pub(crate) fn differentiate(
        &mut self,
        problem: Problem<'_>,
        statistics: &mut [Vec<f32>],
    ) -> Result<Slopes, TrainError> {
        let weights = each(&self.trained, problem.weights, Kept::gather);
        let variances = each(&self.trained, problem.variances, Kept::gather);
        let mut now = each(&self.statistics, statistics, Kept::gather);
        let noisy = self.noisy.as_mut().filter(|_| !variances.is_empty());
        let small = Problem {
            weights: &weights,
            variances: &variances,
            ..problem
        };
        let found = differentiate(&mut self.network, noisy, small, &mut now)?;
        for ((kept, now), full) in self.statistics.iter().zip(&now).zip(statistics) {
            kept.write(now, full);
        }
        Ok(Slopes {
            loss: found.loss,
            of_weights: each(&self.trained, &found.of_weights, Kept::scatter),
            of_variances: each(&self.trained, &found.of_variances, Kept::scatter),
        })
    }
}
