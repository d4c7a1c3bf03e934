//! Which epoch is the best, and what is written.

use super::{Fitted, Reestimation, Run, forward};
use crate::TrainError;
use crate::measure::Tally;
use crate::state::Best;
use crate::targets::Truth;

impl Run<'_> {
    /// Returns the weights that would be written now.
    fn judged(&self) -> Vec<Vec<f32>> {
        match self.config.average {
            Some(_) => self.state.averaged(),
            None => self.state.effective(),
        }
    }

    pub(super) fn held_out_score(&mut self) -> Result<f64, TrainError> {
        let statistics = self.state.statistics.judged().to_vec();
        self.score_of(&self.judged(), &statistics)
    }

    /// Returns the held-out score of weights with the statistics that belong to them.
    pub(super) fn score_of(
        &mut self,
        weights: &[Vec<f32>],
        statistics: &[Vec<f32>],
    ) -> Result<f64, TrainError> {
        self.network.set_inference(&self.ids, weights, statistics)?;
        let executor = self.network.inference();
        let mut tally = Tally::default();
        for part in self.samples.held_out.chunks(self.config.batch.max(64)) {
            let truth = self.truth.of(part);
            let mut feeds = self.samples.batch(part)?;
            let teacher = match &self.teacher {
                Some(teacher) if truth == Truth::Unknown => Some(teacher.answers(part, &feeds)?),
                _ => None,
            };
            if let Some(adversary) = &self.adversary {
                let labels = truth.classes();
                feeds = adversary.whole(executor, feeds, labels, self.config.seed)?;
            }
            let found = forward(executor, self.scores, &feeds)?;
            tally.add(self.measure, &found, &truth, teacher.as_ref())?;
        }
        Ok(tally.score(self.measure))
    }

    /// Keeps the weights of the best epoch; while something still goes, the newest.
    pub(super) fn keep_best(&mut self, score: f64) {
        let pruning = self.pruner.is_some() && !self.state.is_pruned;
        let kept = self.state.masks.kept();
        let better = match &self.state.best {
            Some(best) => pruning || best.nonzero > kept || score >= best.score,
            None => true,
        };
        if better {
            self.state.best = Some(Best {
                epoch: self.state.epoch - 1,
                score,
                nonzero: kept,
                weights: self.judged(),
                statistics: self.state.statistics.judged().to_vec(),
            });
        }
    }

    /// Takes the last epoch for the best one where the held-out samples are too few to tell them apart:
    /// it has trained for longest. The first of many equals is the best by luck.
    ///
    /// With a patience the last epochs are those that brought nothing.
    pub(super) fn prefer_last(&mut self) {
        let (Some(best), Some(last)) = (&self.state.best, self.state.records.last()) else {
            return;
        };
        let n = self.samples.held_out.len();
        let is_worse = last.held_out_score < best.score - self.measure.deviation(best.score, n);
        let is_other = best.nonzero != self.state.masks.kept() || best.epoch == last.epoch;
        if self.config.patience.is_some() || is_worse || is_other {
            return;
        }
        let (epoch, score, nonzero) = (last.epoch, last.held_out_score, best.nonzero);
        self.state.best = Some(Best {
            epoch,
            score,
            nonzero,
            weights: self.judged(),
            statistics: self.state.statistics.judged().to_vec(),
        });
    }

    pub(super) fn finish(
        mut self,
        reestimation: Option<Reestimation>,
    ) -> Result<Fitted, TrainError> {
        let best = self.state.best.take();
        // A run of no epoch at all writes what it was given.
        let best = best.unwrap_or_else(|| Best {
            epoch: 0,
            score: 0.0,
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
            held_out_score: best.score,
            measure: self.measure,
            records: self.state.records,
            trained: self.trained.to_vec(),
            reestimation,
        })
    }
}
