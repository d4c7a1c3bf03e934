//! What training did, epoch by epoch.

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
}

impl TrainingFigures {
    /// Returns what was done in words.
    pub fn in_words(&self) -> String {
        let attack = match &self.attack {
            Some(attack) => format!(" under attack ({attack})"),
            None => String::new(),
        };
        format!(
            "{} epochs; the weights of epoch {} are kept, which find the class of {:.2} % of the held-out samples{attack}",
            self.epochs.len(),
            self.best_epoch,
            100.0 * self.held_out_accuracy
        )
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
