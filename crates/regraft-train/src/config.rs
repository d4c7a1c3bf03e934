//! How to train.

use regraft_exec::ExecOptions;

use crate::{
    Adversary, Objective, Optimizer, Schedule, SoftPruning, TrainError, TrainingMode, Variation,
};

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitConfig {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Samples of a step.
    pub batch: usize,
    /// How weights move.
    pub optimizer: Optimizer,
    /// How far.
    pub schedule: Schedule,
    /// What is minimised.
    pub objective: Objective,
    /// Weight decay: factor of each weight in its gradient. Biases and scales do not decay.
    pub l2: f32,
    /// Factor of the sum of the absolute weights in the loss.
    pub l1: f32,
    /// Factor of the group lasso over the weights of each channel that could be removed.
    pub group_lasso: f32,
    /// The largest length of the whole gradient, `None`: as long as it is.
    pub clip: Option<f32>,
    /// Share of the moving average of the weights that one step leaves; the average is what is
    /// judged and written. `None`: the weights themselves.
    pub average: Option<f32>,
    /// What differs while the network trains: statistics of batches, dropout.
    pub training_mode: TrainingMode,
    /// How images are varied.
    pub vary: Variation,
    /// Attacks on the samples.
    pub adversary: Option<Adversary>,
    /// Pruning while training.
    pub prune: Option<SoftPruning>,
    /// Epochs without a better held-out result after which training ends, `None`: all epochs.
    pub patience: Option<usize>,
    /// Seed of the order and of every draw.
    pub seed: u64,
    /// How the network runs.
    pub exec: ExecOptions,
}

/// Nobody trains for longer; numbers of steps stay numbers.
const MOST_EPOCHS: usize = 1_000_000;

impl FitConfig {
    /// Refuses settings out of range, and a batch that `n_fit` samples do not fill.
    ///
    /// # Errors
    /// [`TrainError::Setting`] with the setting's name and range, [`TrainError::BatchTooLarge`].
    pub fn check(&self, n_fit: usize) -> Result<(), TrainError> {
        self.schedule.check()?;
        self.optimizer.check()?;
        self.objective.check()?;
        self.training_mode.check()?;
        if let Some(soft) = &self.prune {
            soft.check()?;
        }
        for (name, value) in [
            ("l2", self.l2),
            ("l1", self.l1),
            ("group_lasso", self.group_lasso),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(TrainError::Setting {
                    name,
                    value: f64::from(value),
                    range: "should be at least 0",
                });
            }
        }
        if let Some(share) = self.average.filter(|s| !(0.0..1.0).contains(s)) {
            return Err(TrainError::Setting {
                name: "average",
                value: f64::from(share),
                range: "should be a share, at least 0 and below 1",
            });
        }
        if let Some(clip) = self.clip.filter(|c| !(*c > 0.0 && c.is_finite())) {
            return Err(TrainError::Setting {
                name: "clip",
                value: f64::from(clip),
                range: "should be a length above zero",
            });
        }
        if !(1..=MOST_EPOCHS).contains(&self.epochs) {
            return Err(TrainError::Setting {
                name: "epochs",
                value: self.epochs as f64,
                range: "should be at least 1 and at most a million",
            });
        }
        if self.batch == 0 {
            return Err(TrainError::Setting {
                name: "batch",
                value: 0.0,
                range: "should be at least 1",
            });
        }
        if self.batch > n_fit {
            return Err(TrainError::BatchTooLarge {
                batch: self.batch,
                found: n_fit,
            });
        }
        if let Some(soft) = &self.prune {
            soft.check_length(n_fit / self.batch * self.epochs)?;
        }
        Ok(())
    }
}
