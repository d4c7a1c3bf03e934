//! What training did, epoch by epoch.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// A training run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingFigures {
    /// Every epoch, in order.
    pub epochs: Vec<EpochFigures>,
    /// The epoch whose weights were written, from 1.
    pub best_epoch: usize,
    /// Share of the held-out samples whose class its weights find.
    pub held_out_accuracy: f64,
    /// What samples were attacked with, the held-out ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<String>,
    /// What estimating the statistics of batch normalisations again did; left out without such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<StatisticsFigures>,
}

/// Statistics of batch normalisations, estimated again for the weights that were written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatisticsFigures {
    /// Batches of training samples it was over.
    pub batches: usize,
    /// Held-out accuracy with the running statistics.
    pub running_accuracy: f64,
    /// Held-out accuracy with the new ones, which are written where it is not less.
    pub new_accuracy: f64,
}

impl TrainingFigures {
    /// Returns what was done in words.
    pub fn in_words(&self) -> String {
        let attack = match &self.attack {
            Some(attack) => format!(" under attack ({attack})"),
            None => String::new(),
        };
        let mut words = format!(
            "{} epochs; the weights of epoch {} are kept, which find the class of {:.2} % of the held-out samples{attack}",
            self.epochs.len(),
            self.best_epoch,
            100.0 * self.held_out_accuracy
        );
        if let Some(found) = &self.statistics {
            let _ = write!(
                words,
                "; statistics of batch normalisation estimated again over {} batches find {:.2} % instead of {:.2} %",
                found.batches,
                100.0 * found.new_accuracy,
                100.0 * found.running_accuracy
            );
        }
        words
    }
}

/// One pass over the training samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EpochFigures {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps taken so far.
    pub steps: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean loss of its steps.
    pub loss: f64,
    /// Share of the held-out samples whose class is found.
    pub held_out_accuracy: f64,
    /// Weights that are not zero; biases apart.
    pub nonzero: u64,
    /// All weights.
    pub weights: u64,
}
