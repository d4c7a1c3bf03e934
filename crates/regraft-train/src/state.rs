//! Everything a run needs to go on: weights, moments, masks, the best weights so far.

use regraft_graph::Graph;

use crate::fit::EpochRecord;
use crate::network::Statistics;
use crate::parameters::Trained;
use crate::soft::Masks;
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
    pub(crate) accuracy: f64,
    pub(crate) nonzero: usize,
    pub(crate) weights: Vec<Vec<f32>>,
    /// Running statistics that belong to them.
    pub(crate) statistics: Vec<Vec<f32>>,
}

impl State {
    pub(crate) fn new(graph: &Graph, trained: &[Trained], config: &FitConfig) -> Self {
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
        let prunable = trained.iter().filter(|t| t.is_weight);
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
            masks: Masks::full(prunable.map(|t| t.shape.iter().product())),
            statistics: Statistics::of(graph, config),
            weights,
            best: None,
            records: Vec::new(),
        }
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

    /// Returns the weights as the network has them: zeros outside of the masks.
    pub fn effective(&self, trained: &[Trained]) -> Vec<Vec<f32>> {
        self.masked(&self.weights, trained)
    }

    /// Returns the moving average with zeros outside of the masks.
    pub(crate) fn averaged(&self, trained: &[Trained]) -> Vec<Vec<f32>> {
        self.masked(&self.average, trained)
    }

    fn masked(&self, weights: &[Vec<f32>], trained: &[Trained]) -> Vec<Vec<f32>> {
        let mut masks = self.masks.layers.iter();
        let mut all = weights.to_vec();
        for (data, parameter) in all.iter_mut().zip(trained) {
            let mask = parameter.is_weight.then(|| masks.next()).flatten();
            for (w, kept) in data.iter_mut().zip(mask.into_iter().flatten()) {
                if !kept {
                    *w = 0.0;
                }
            }
        }
        all
    }

    /// Sets weights outside of the masks, and their moments, to zero.
    pub(crate) fn clear_outside(&mut self, trained: &[Trained]) {
        let mut masks = self.masks.layers.iter();
        let parts = self.weights.iter_mut().zip(&mut self.moments);
        for ((weights, moments), parameter) in parts.zip(trained) {
            let mask = parameter.is_weight.then(|| masks.next()).flatten();
            for (i, _) in mask.into_iter().flatten().enumerate().filter(|(_, k)| !**k) {
                weights[i] = 0.0;
                moments.first[i] = 0.0;
                if let Some(second) = moments.second.get_mut(i) {
                    *second = 0.0;
                }
            }
        }
    }

    /// Checks that a stored state is of a run like the one that `fresh` starts.
    pub(crate) fn fits(&self, fresh: &Self) -> Result<(), TrainError> {
        let lengths = |lists: &[Vec<f32>]| -> Vec<usize> { lists.iter().map(Vec::len).collect() };
        let moments = |s: &Self| -> Vec<(usize, usize)> {
            let lengths = |m: &Moments| (m.first.len(), m.second.len());
            s.moments.iter().map(lengths).collect()
        };
        let masks = |s: &Self| -> Vec<usize> { s.masks.layers.iter().map(Vec::len).collect() };
        let same = lengths(&self.weights) == lengths(&fresh.weights)
            && lengths(&self.gradients) == lengths(&fresh.gradients)
            && lengths(&self.average) == lengths(&fresh.average)
            && moments(self) == moments(fresh)
            && masks(self) == masks(fresh)
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
