//! What training minimises.

use regraft_exec::{HostTensor, LossKind, LossTerm};
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
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            teacher: 0.0,
            temperature: 4.0,
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

    /// Returns the terms for one batch; `n_classes` is the width of the logits.
    pub(crate) fn terms(
        &self,
        logits: ValueId,
        labels: Option<&[usize]>,
        teacher: Option<HostTensor>,
        n_classes: usize,
    ) -> Vec<LossTerm> {
        let mut terms = Vec::new();
        let taught = if teacher.is_some() { self.teacher } else { 0.0 };
        if let Some(labels) = labels.filter(|_| taught < 1.0) {
            let kind = if self.label_smoothing > 0.0 {
                smoothed(labels, self.label_smoothing, n_classes)
            } else {
                LossKind::CrossEntropy {
                    labels: labels.to_vec(),
                }
            };
            terms.push(LossTerm {
                value: logits,
                kind,
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
}

/// The divergence from smoothed labels: their cross-entropy less their entropy, which is constant.
fn smoothed(labels: &[usize], share: f32, n_classes: usize) -> LossKind {
    let each = share / n_classes.max(1) as f32;
    let mut logits = vec![each.ln(); labels.len() * n_classes];
    for (row, &label) in logits.chunks_exact_mut(n_classes.max(1)).zip(labels) {
        if let Some(own) = row.get_mut(label) {
            *own = (1.0 - share + each).ln();
        }
    }
    LossKind::KlDivergence {
        target: HostTensor::f32(vec![labels.len(), n_classes], logits),
        temperature: 1.0,
    }
}

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
