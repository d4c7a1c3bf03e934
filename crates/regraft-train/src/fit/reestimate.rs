//! Statistics of batch normalisations, estimated once more for the weights that are written.

use regraft_data::shuffled;

use super::{Run, Watch};
use crate::TrainError;
use crate::network::Moments;

/// Batches that statistics are estimated over; fewer where the training samples fill fewer.
pub const REESTIMATION_BATCHES: usize = 100;

/// What estimating the statistics again did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reestimation {
    /// Batches it was over.
    pub batches: usize,
    /// Held-out score with the running statistics.
    pub before: f64,
    /// Held-out score with the new ones, which are written where it is not less.
    pub after: f64,
}

impl Reestimation {
    /// Returns true if the new statistics were taken.
    pub fn is_taken(&self) -> bool {
        self.after >= self.before
    }
}

impl Run<'_> {
    /// Replaces the statistics of the best epoch by those of its weights over training batches,
    /// varied as in training and with nothing dropped, where the held-out score does not fall.
    pub(super) fn reestimate(
        &mut self,
        watch: &dyn Watch,
    ) -> Result<Option<Reestimation>, TrainError> {
        if !self.network.has_statistics() {
            return Ok(None);
        }
        let Some(mut best) = self.state.best.take() else {
            return Ok(None);
        };
        self.network.set_training(&self.ids, &best.weights)?;
        let batches = self.steps_per_epoch().min(REESTIMATION_BATCHES);
        let order = shuffled(self.samples.fit.len(), self.config.seed);
        let mut sums = Moments::default();
        for (at, part) in order.chunks(self.config.batch).take(batches).enumerate() {
            if watch.cancelled() {
                return Err(TrainError::Interrupted);
            }
            let indices: Vec<usize> = part.iter().map(|&i| self.samples.fit[i]).collect();
            let seed = self.config.seed ^ at as u64;
            let (feeds, _) = self.samples.varied(&indices, self.config.vary, seed)?;
            self.network.add_moments(&feeds, &mut sums)?;
        }
        let found = self.network.statistics_of(&sums, &best.statistics);
        let outcome = Reestimation {
            batches,
            before: best.score,
            after: self.score_of(&best.weights, &found)?,
        };
        if outcome.is_taken() {
            best.statistics = found;
            best.score = outcome.after;
        }
        self.state.best = Some(best);
        Ok(Some(outcome))
    }
}
