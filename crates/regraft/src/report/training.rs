//! What training did, epoch by epoch.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What a score of held-out samples is; more is better, and 1 is the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasureName {
    /// Share of the samples whose class is found.
    #[default]
    Accuracy,
    /// Share of the samples whose class is the teacher's.
    Agreement,
    /// Share of all answers, a yes or no each, that are right.
    Decisions,
    /// The coefficient of determination.
    R2,
}

impl From<regraft_train::Measure> for MeasureName {
    fn from(measure: regraft_train::Measure) -> Self {
        match measure {
            regraft_train::Measure::Accuracy => Self::Accuracy,
            regraft_train::Measure::Agreement => Self::Agreement,
            regraft_train::Measure::Decisions => Self::Decisions,
            regraft_train::Measure::R2 => Self::R2,
        }
    }
}

impl MeasureName {
    /// Returns its name behind "held-out".
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Agreement => "agreement with the teacher",
            Self::Decisions => "right answers",
            Self::R2 => "R²",
        }
    }

    /// Returns it as a word of a file: lower case, no blanks.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Agreement => "agreement",
            Self::Decisions => "decisions",
            Self::R2 => "r2",
        }
    }

    /// Returns a score as it is shown: shares in percent.
    pub(crate) fn shown(self, score: f64) -> String {
        match self {
            Self::R2 => format!("{score:.4}"),
            Self::Accuracy | Self::Agreement | Self::Decisions => {
                format!("{:.2} %", 100.0 * score)
            }
        }
    }

    /// Returns what weights reach on the held-out samples, in words.
    fn reached(self, score: f64) -> String {
        let score = self.shown(score);
        match self {
            Self::Accuracy => format!("find the class of {score} of the held-out samples"),
            Self::Agreement => {
                format!("find the teacher's class of {score} of the held-out samples")
            }
            Self::Decisions => format!("give {score} right answers on the held-out samples"),
            Self::R2 => format!("have an R² of {score} on the held-out samples"),
        }
    }
}

/// A training run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingFigures {
    /// Every epoch, in order.
    pub epochs: Vec<EpochFigures>,
    /// The epoch whose weights were written, from 1.
    pub best_epoch: usize,
    /// What scores of held-out samples are.
    pub measure: MeasureName,
    /// The score of the held-out samples by its weights.
    pub held_out_score: f64,
    /// Seconds of training; where it went on from an earlier stop, both together.
    pub seconds: f64,
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
    /// Held-out score with the running statistics.
    pub running_score: f64,
    /// Held-out score with the new ones, which are written where it is not less.
    pub new_score: f64,
}

impl TrainingFigures {
    /// Returns what was done in words.
    pub fn in_words(&self) -> String {
        let attack = match &self.attack {
            Some(attack) => format!(" under attack ({attack})"),
            None => String::new(),
        };
        let mut words = format!(
            "{} epochs; the weights of epoch {} are kept, which {}{attack}",
            self.epochs.len(),
            self.best_epoch,
            self.measure.reached(self.held_out_score)
        );
        if let Some(found) = &self.statistics {
            let _ = write!(
                words,
                "; statistics of batch normalisation estimated again over {} batches give {} instead of {}",
                found.batches,
                self.measure.shown(found.new_score),
                self.measure.shown(found.running_score)
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
    /// The score of the held-out samples.
    pub held_out_score: f64,
    /// Weights that are not zero; biases apart.
    pub nonzero: u64,
    /// All weights.
    pub weights: u64,
}
