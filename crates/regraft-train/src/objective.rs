//! What training minimises.

use regraft_exec::{HostData, HostTensor, LossKind, LossTerm};
use regraft_graph::{Graph, Op, ValueId};

use crate::TrainError;

/// The loss of a batch: its labels, and the answers of a teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Share of a label's probability that goes to all classes alike (Szegedy et al., CVPR 2016,
    /// section 7).
    pub label_smoothing: f32,
    /// Share of the teacher in the loss, 0 without one.
    pub teacher: f32,
    /// Both softmaxes are taken of logits divided by this (Hinton et al. 2015, section 2).
    pub temperature: f32,
    /// What the labels say.
    pub loss: LabelLoss,
}

/// How the scores are compared with the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelLoss {
    /// The cross-entropy of their softmax: one class a sample.
    #[default]
    CrossEntropy,
    /// Their squared difference to 1 for the label and 0 for the others (Hui and Belkin, ICLR 2021).
    SquaredError,
    /// The cross-entropy of the sigmoid of each: every class for itself.
    Binary,
}

/// The labels of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) of: &'a [usize],
    /// What each sample was mixed with, and its share; empty if nothing was.
    pub(crate) partners: &'a [(usize, f32)],
    pub(crate) n_classes: usize,
}

impl Labels<'_> {
    /// True if every sample has the one class of its label.
    fn are_plain(self) -> bool {
        self.partners.iter().all(|(_, share)| *share == 0.0)
    }

    /// Returns the probability of each class, samples by classes; `smoothing` goes to all alike.
    fn probabilities(self, smoothing: f32) -> HostTensor {
        let n = self.n_classes;
        let mut all = vec![smoothing / n.max(1) as f32; self.of.len() * n];
        let mut add = |row: usize, label: Option<&usize>, share: f32| {
            let at = label.map(|l| row * n + l);
            if let Some(p) = at.and_then(|at| all.get_mut(at)) {
                *p += (1.0 - smoothing) * share;
            }
        };
        for (row, label) in self.of.iter().enumerate() {
            let (partner, share) = self.partners.get(row).copied().unwrap_or((row, 0.0));
            add(row, Some(label), 1.0 - share);
            add(row, self.of.get(partner), share);
        }
        HostTensor::f32(vec![self.of.len(), n], all)
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            teacher: 0.0,
            temperature: 4.0,
            loss: LabelLoss::default(),
        }
    }
}

impl Objective {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let share = |name, value: f32, below_one: bool| {
            let fits = value >= 0.0 && (value < 1.0 || (!below_one && value <= 1.0));
            if fits {
                return Ok(());
            }
            Err(TrainError::Setting {
                name,
                value: f64::from(value),
                range: "should be a share, from 0 to 1",
            })
        };
        share("label_smoothing", self.label_smoothing, true)?;
        share("teacher", self.teacher, false)?;
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(TrainError::Setting {
                name: "temperature",
                value: f64::from(self.temperature),
                range: "should be above zero",
            });
        }
        Ok(())
    }

    /// Returns the terms for one batch.
    pub(crate) fn terms(
        &self,
        logits: ValueId,
        labels: Option<Labels<'_>>,
        teacher: Option<HostTensor>,
    ) -> Vec<LossTerm> {
        let mut terms = Vec::new();
        let taught = if teacher.is_some() { self.teacher } else { 0.0 };
        if let Some(labels) = labels.filter(|_| taught < 1.0) {
            terms.push(LossTerm {
                value: logits,
                kind: self.of_labels(labels),
                weight: 1.0 - taught,
            });
        }
        if let Some(target) = teacher.filter(|_| taught > 0.0) {
            terms.push(LossTerm {
                value: logits,
                kind: LossKind::KlDivergence {
                    target,
                    temperature: self.temperature,
                },
                weight: taught,
            });
        }
        terms
    }

    fn of_labels(&self, labels: Labels<'_>) -> LossKind {
        let smoothing = self.label_smoothing;
        match self.loss {
            LabelLoss::CrossEntropy if smoothing == 0.0 && labels.are_plain() => {
                LossKind::CrossEntropy {
                    labels: labels.of.to_vec(),
                }
            }
            // Their divergence is their cross-entropy less their entropy, which is constant.
            LabelLoss::CrossEntropy => {
                let mut target = labels.probabilities(smoothing);
                if let HostData::F32(data) = &mut target.data {
                    for p in data {
                        *p = p.max(LEAST).ln();
                    }
                }
                LossKind::KlDivergence {
                    target,
                    temperature: 1.0,
                }
            }
            LabelLoss::SquaredError => LossKind::MeanSquaredError {
                target: labels.probabilities(smoothing),
            },
            LabelLoss::Binary => LossKind::BinaryCrossEntropy {
                target: labels.probabilities(smoothing),
            },
        }
    }
}

/// The least probability whose logarithm is taken.
const LEAST: f32 = 1e-9;

/// Returns the value whose softmax is the network's first output, or that output.
///
/// A softmax at the end is part of the loss while training.
pub fn logits(graph: &Graph) -> Option<ValueId> {
    let output = *graph.outputs().first()?;
    let producer = graph.producer(output).map(|id| graph.node(id));
    match producer {
        Some(node) if matches!(node.op, Op::Softmax { .. }) => node.input(0),
        _ => Some(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_mixed_and_smoothed() {
        let labels = Labels {
            of: &[0, 2],
            partners: &[(1, 0.25), (1, 0.0)],
            n_classes: 3,
        };
        let near = |smoothing: f32, expected: [f32; 6]| {
            let found = labels.probabilities(smoothing);
            for (f, e) in found.as_f32().unwrap().iter().zip(expected) {
                assert!((f - e).abs() < 1e-6, "{found:?}");
            }
        };
        near(0.0, [0.75, 0.0, 0.25, 0.0, 0.0, 1.0]);
        near(0.3, [0.625, 0.1, 0.275, 0.1, 0.1, 0.8]);
    }
}
