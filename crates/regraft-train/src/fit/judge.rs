//! Which epoch is the best, and what is written.

use regraft_data::argmax_rows;

use super::{Fitted, Run, forward};
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
        self.set_weights(&self.judged())?;
        let mut right = 0usize;
        for part in self.samples.held_out.chunks(self.config.batch.max(64)) {
            let input = self.samples.input(part, None)?;
            let found = forward(&self.executor, self.logits, input)?;
            let data = found.as_f32().unwrap_or_default();
            let classes = argmax_rows(data, self.n_classes)?;
            let labels = self.labels_of(part);
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
            });
        }
    }

    pub(super) fn finish(mut self) -> Result<Fitted, TrainError> {
        let (best_epoch, held_out_accuracy, weights) = match self.state.best.take() {
            Some(best) => (best.epoch, best.accuracy, best.weights),
            None => (0, 0.0, self.state.effective()),
        };
        let graph = self.with_weights(weights)?;
        let without = match &self.pruner {
            Some(pruner) => pruner.without(&graph, &self.state)?,
            None => None,
        };
        Ok(Fitted {
            graph: without.unwrap_or(graph),
            best_epoch,
            held_out_accuracy,
            records: self.state.records,
            trained: self.trained.to_vec(),
        })
    }
}
