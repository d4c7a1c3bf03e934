//! Which epoch is the best, and what is written.

use regraft_data::argmax_rows;

use super::{Fitted, Reestimation, Run, forward};
use crate::TrainError;
use crate::state::Best;

impl Run<'_> {
    /// Returns the weights that would be written now.
    fn judged(&self) -> Vec<Vec<f32>> {
        match self.config.average {
            Some(_) => self.state.averaged(),
            None => self.state.effective(),
        }
    }

    pub(super) fn held_out_accuracy(&mut self) -> Result<f64, TrainError> {
        let statistics = self.state.statistics.judged().to_vec();
        self.accuracy_of(&self.judged(), &statistics)
    }

    /// Returns the held-out accuracy of weights with the statistics that belong to them.
    pub(super) fn accuracy_of(
        &mut self,
        weights: &[Vec<f32>],
        statistics: &[Vec<f32>],
    ) -> Result<f64, TrainError> {
        self.network.set_inference(&self.ids, weights, statistics)?;
        let mut right = 0usize;
        for part in self.samples.held_out.chunks(self.config.batch.max(64)) {
            let labels = self.labels_of(part);
            let mut input = self.samples.input(part)?;
            if let Some(adversary) = &self.adversary {
                let executor = self.network.inference();
                input = adversary.whole(executor, input, &labels, self.config.seed)?;
            }
            let found = forward(self.network.inference(), self.logits, input)?;
            let data = found.as_f32().unwrap_or_default();
            let classes = argmax_rows(data, self.n_classes)?;
            right += classes
                .iter()
                .zip(labels)
                .filter(|(c, l)| **c as usize == *l)
                .count();
        }
        Ok(right as f64 / self.samples.held_out.len().max(1) as f64)
    }

    /// Keeps the weights of the best epoch; while something still goes, the newest.
    pub(super) fn keep_best(&mut self, accuracy: f64) {
        let pruning = self.pruner.is_some() && !self.state.is_pruned;
        let kept = self.state.masks.kept();
        let better = match &self.state.best {
            Some(best) => pruning || best.nonzero > kept || accuracy >= best.accuracy,
            None => true,
        };
        if better {
            self.state.best = Some(Best {
                epoch: self.state.epoch - 1,
                accuracy,
                nonzero: kept,
                weights: self.judged(),
                statistics: self.state.statistics.judged().to_vec(),
            });
        }
    }

    pub(super) fn finish(
        mut self,
        reestimation: Option<Reestimation>,
    ) -> Result<Fitted, TrainError> {
        let best = self.state.best.take();
        // A run of no epoch at all writes what it was given.
        let best = best.unwrap_or_else(|| Best {
            epoch: 0,
            accuracy: 0.0,
            nonzero: self.state.masks.kept(),
            weights: self.state.effective(),
            statistics: self.state.statistics.now.clone(),
        });
        let graph = self.with_weights(best.weights, &best.statistics)?;
        let without = match &self.pruner {
            Some(pruner) => pruner.without(&graph, &self.state)?,
            None => None,
        };
        Ok(Fitted {
            graph: without.unwrap_or(graph),
            best_epoch: best.epoch,
            held_out_accuracy: best.accuracy,
            records: self.state.records,
            trained: self.trained.to_vec(),
            reestimation,
        })
    }
}
