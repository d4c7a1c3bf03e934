//! Everything a run needs to go on: weights, moments, masks, the best weights so far.

use regraft_graph::{Graph, ValueId};

use crate::fit::EpochRecord;
use crate::network::Statistics;
use crate::parameters::Trained;
use crate::soft::{Level, Masks};
use crate::{FitConfig, TrainError};

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Epochs done.
    pub(crate) epoch: usize,
    /// Steps done.
    pub(crate) step: usize,
    /// The weights, those outside of the masks included.
    pub(crate) weights: Vec<Vec<f32>>,
    pub(crate) moments: Vec<Moments>,
    /// Sums of the gradients since the masks changed.
    pub(crate) gradients: Vec<Vec<f32>>,
    /// Moving average, empty if none is kept.
    pub(crate) average: Vec<Vec<f32>>,
    pub(crate) masks: Masks,
    /// True once everything that is to go has gone.
    pub(crate) is_pruned: bool,
    /// What the method of pruning remembers of each initializer.
    pub(crate) memory: Vec<Vec<Vec<f32>>>,
    /// What is subtracted from the sizes of each initializer; empty for most methods.
    pub(crate) thresholds: Vec<f32>,
    /// How far an adaptive pace is.
    pub(crate) level: Level,
    /// Running statistics of batch normalisations.
    pub(crate) statistics: Statistics,
    pub(crate) best: Option<Best>,
    pub(crate) records: Vec<EpochRecord>,
}

/// Moments of a gradient.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    /// Empty if the optimiser keeps none.
    pub(crate) second: Vec<f32>,
}

/// The best epoch so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Best {
    pub(crate) epoch: usize,
    pub(crate) score: f64,
    pub(crate) nonzero: usize,
    pub(crate) weights: Vec<Vec<f32>>,
    /// Running statistics that belong to them.
    pub(crate) statistics: Vec<Vec<f32>>,
}

impl State {
    pub(crate) fn new(
        graph: &Graph,
        trained: &[Trained],
        (frozen, held): (&[ValueId], &[ValueId]),
        config: &FitConfig,
    ) -> Self {
        let data = |t: &Trained| {
            let tensor = graph.tensor(t.id);
            tensor
                .and_then(|t| t.as_f32())
                .map(<[f32]>::to_vec)
                .unwrap_or_default()
        };
        let weights: Vec<Vec<f32>> = trained.iter().map(data).collect();
        let zeros = |w: &Vec<f32>| vec![0.0; w.len()];
        let adaptive = config.optimizer.is_adaptive();
        let moments = weights.iter().map(|w| Moments {
            first: zeros(w),
            second: if adaptive { zeros(w) } else { Vec::new() },
        });
        let average = if config.average.is_some() {
            weights.clone()
        } else {
            Vec::new()
        };
        Self {
            epoch: 0,
            step: 0,
            moments: moments.collect(),
            gradients: weights.iter().map(zeros).collect(),
            average,
            masks: Masks::without_zeros(trained, &weights, held),
            is_pruned: false,
            memory: vec![Vec::new(); trained.len()],
            thresholds: Vec::new(),
            level: Level::default(),
            statistics: Statistics::of(graph, frozen, config),
            weights,
            best: None,
            records: Vec::new(),
        }
    }

    /// True while every weight is a number.
    pub(crate) fn is_finite(&self) -> bool {
        self.weights.iter().flatten().all(|w| w.is_finite())
    }

    /// Returns the epochs done.
    pub fn epochs_done(&self) -> usize {
        self.epoch
    }

    /// Returns what every epoch so far did.
    pub fn records(&self) -> &[EpochRecord] {
        &self.records
    }

    /// Returns mean and variance of each batch normalisation that trains, in the order of the nodes.
    pub fn running_statistics(&self) -> &[Vec<f32>] {
        &self.statistics.now
    }

    /// Returns the weights as the network has them: zeros outside of the masks, sizes less their
    /// thresholds.
    pub fn effective(&self) -> Vec<Vec<f32>> {
        let mut all = self.weights.clone();
        self.masks.clear_outside(&mut all);
        for (weights, threshold) in all.iter_mut().zip(&self.thresholds) {
            if *threshold > 0.0 {
                let shrink = |w: f32| (w.abs() - threshold).max(0.0).copysign(w);
                for w in weights {
                    *w = shrink(*w);
                }
            }
        }
        all
    }

    /// Returns the moving average with zeros outside of the masks.
    pub(crate) fn averaged(&self) -> Vec<Vec<f32>> {
        let mut all = self.average.clone();
        self.masks.clear_outside(&mut all);
        all
    }

    /// Sets weights outside of the masks, and their moments, to zero.
    pub(crate) fn clear_outside(&mut self) {
        self.masks.clear_outside(&mut self.weights);
        for (moments, mask) in self.moments.iter_mut().zip(&self.masks.all) {
            let Moments { first, second } = moments;
            for (i, _) in mask.iter().enumerate().filter(|(_, kept)| !**kept) {
                for list in [&mut *first, &mut *second] {
                    if let Some(m) = list.get_mut(i) {
                        *m = 0.0;
                    }
                }
            }
        }
    }

    /// Starts the sums of the gradients again, after a change of the masks; the last one, `is_end`, leaves
    /// nothing to remember.
    pub(crate) fn settle(&mut self, is_end: bool) {
        self.gradients.iter_mut().for_each(|g| g.fill(0.0));
        if is_end {
            self.is_pruned = true;
            self.memory.iter_mut().for_each(Vec::clear);
        }
    }

    /// Sets all moments to zero.
    pub(crate) fn rest(&mut self) {
        for Moments { first, second } in &mut self.moments {
            first.fill(0.0);
            second.fill(0.0);
        }
    }

    /// Checks that a stored state is of a run like the one that `fresh` starts.
    pub(crate) fn fits(&self, fresh: &Self) -> Result<(), TrainError> {
        let lengths = |lists: &[Vec<f32>]| -> Vec<usize> { lists.iter().map(Vec::len).collect() };
        let moments = |s: &Self| -> Vec<(usize, usize)> {
            let lengths = |m: &Moments| (m.first.len(), m.second.len());
            s.moments.iter().map(lengths).collect()
        };
        let masks = |s: &Self| -> Vec<usize> { s.masks.all.iter().map(Vec::len).collect() };
        let remembers = self.memory.len() == self.weights.len()
            && self
                .memory
                .iter()
                .zip(&self.weights)
                .all(|(lists, w)| lists.iter().all(|l| l.len() == w.len() || l.len() == 1))
            && (self.thresholds.is_empty() || self.thresholds.len() == self.weights.len());
        let same = lengths(&self.weights) == lengths(&fresh.weights)
            && lengths(&self.gradients) == lengths(&fresh.gradients)
            && lengths(&self.average) == lengths(&fresh.average)
            && moments(self) == moments(fresh)
            && masks(self) == masks(fresh)
            && self.masks.is_weight == fresh.masks.is_weight
            && remembers
            && self.statistics.lengths() == fresh.statistics.lengths()
            && self.best.as_ref().is_none_or(|b| {
                lengths(&b.weights) == lengths(&fresh.weights)
                    && lengths(&b.statistics) == lengths(&fresh.statistics.now)
            });
        if same {
            return Ok(());
        }
        Err(TrainError::Checkpoint {
            reason: "its weights are of another network or optimiser".to_owned(),
        })
    }
}
