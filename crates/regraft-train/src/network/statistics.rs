//! Running statistics as a run keeps them.

use regraft_graph::{Graph, ValueId};

use super::batch_norm::running_statistics;
use crate::FitConfig;

/// Running statistics beside the weights that they belong to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Statistics {
    /// Those of the weights.
    pub(crate) now: Vec<Vec<f32>>,
    /// Those of the moving average of the weights; empty if none is kept.
    pub(crate) average: Vec<Vec<f32>>,
}

impl Statistics {
    /// Returns what a run starts from.
    pub(crate) fn of(graph: &Graph, frozen: &[ValueId], config: &FitConfig) -> Self {
        let now = if config.training_mode.batch_statistics {
            running_statistics(graph, frozen)
        } else {
            Vec::new()
        };
        let average = match config.average {
            Some(_) => now.clone(),
            None => Vec::new(),
        };
        Self { now, average }
    }

    /// Moves the averages on as those of the weights: a share of them stays.
    pub(crate) fn follow(&mut self, share: f32) {
        for (average, now) in self.average.iter_mut().zip(&self.now) {
            for (a, n) in average.iter_mut().zip(now) {
                *a = share * *a + (1.0 - share) * n;
            }
        }
    }

    /// Returns those of the weights that would be written.
    pub(crate) fn judged(&self) -> &[Vec<f32>] {
        if self.average.is_empty() {
            &self.now
        } else {
            &self.average
        }
    }

    /// Returns the length of every list, which tells networks apart.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        let lists = self.now.iter().chain(&self.average);
        lists.map(Vec::len).collect()
    }
}
