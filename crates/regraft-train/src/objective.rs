//! What training minimises.

use regraft_exec::kernels::mean_square;
use regraft_exec::{HostData, HostTensor, LossKind, LossTerm};
use regraft_graph::op::UnaryOp;
use regraft_graph::{Graph, Op, ValueId};

use crate::TrainError;
use crate::targets::{Truth, Wanted};

/// The loss of a batch: its targets, and the answers of a teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Share of a label's probability that goes to all classes alike (Szegedy et al., CVPR 2016,
    /// section 7).
    pub label_smoothing: f32,
    /// Share of the teacher in the loss, 0 without one.
    pub teacher: f32,
    /// Both softmaxes are taken of logits divided by this (Hinton et al. 2015, section 2).
    pub temperature: f32,
    /// How targets are compared.
    pub loss: LabelLoss,
    /// Factor of the mean, over values inside of the network, of their squared difference from the
    /// teacher's relative to the teacher's mean square (hints, Romero et al., ICLR 2015, at places of the
    /// same width); 0 without.
    pub features: f32,
}

/// How the scores are compared with the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelLoss {
    /// The cross-entropy of their softmax: one class a sample.
    #[default]
    CrossEntropy,
    /// Their squared difference to numbers; with classes to 1 for the label and 0 for the others (Hui
    /// and Belkin, ICLR 2021).
    SquaredError,
    /// The cross-entropy of the sigmoid of each: every class, or every number from 0 to 1, for itself.
    Binary,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            teacher: 0.0,
            temperature: 4.0,
            loss: LabelLoss::default(),
            features: 0.0,
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
                range: if below_one {
                    "should be a share, at least 0 and below 1"
                } else {
                    "should be a share, from 0 to 1"
                },
            })
        };
        share("label_smoothing", self.label_smoothing, true)?;
        share("teacher_share", self.teacher, false)?;
        if !(self.features >= 0.0 && self.features.is_finite()) {
            return Err(TrainError::Setting {
                name: "feature_weight",
                value: f64::from(self.features),
                range: "should be at least 0",
            });
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(TrainError::Setting {
                name: "temperature",
                value: f64::from(self.temperature),
                range: "should be above zero",
            });
        }
        Ok(())
    }

    /// Returns the terms for one batch: what its samples should become, and what a teacher says.
    pub(crate) fn terms(
        &self,
        scores: ValueId,
        wanted: &Wanted<'_>,
        teacher: Option<HostTensor>,
    ) -> Vec<LossTerm> {
        let mut terms = Vec::new();
        let taught = if teacher.is_some() { self.teacher } else { 0.0 };
        if wanted.truth != Truth::Unknown && taught < 1.0 {
            terms.push(LossTerm {
                value: scores,
                kind: self.of_wanted(wanted),
                weight: 1.0 - taught,
            });
        }
        if let Some(answers) = teacher.filter(|_| taught > 0.0) {
            terms.push(LossTerm {
                value: scores,
                kind: self.of_teacher(wanted, answers),
                weight: taught,
            });
        }
        terms
    }

    /// Returns the terms of values inside of the network, and what a teacher has there.
    pub(crate) fn of_features(
        &self,
        features: Vec<(ValueId, HostTensor)>,
    ) -> impl Iterator<Item = LossTerm> {
        let share = self.features / features.len().max(1) as f32;
        features.into_iter().filter_map(move |(value, target)| {
            let all = target.as_f32().unwrap_or_default();
            let mean = mean_square(all);
            // A teacher that is silent there says nothing.
            (mean > 0.0).then(|| LossTerm {
                weight: share / mean as f32,
                ..LossTerm::mean_squared_error(value, target)
            })
        })
    }

    fn of_wanted(&self, wanted: &Wanted<'_>) -> LossKind {
        let smoothing = match wanted.truth {
            Truth::Classes(_) => self.label_smoothing,
            Truth::Unknown | Truth::Numbers { .. } => 0.0,
        };
        match (self.loss, wanted.plain_classes()) {
            (LabelLoss::CrossEntropy, Some(classes)) if smoothing == 0.0 => {
                LossKind::CrossEntropy {
                    labels: classes.to_vec(),
                }
            }
            // Their divergence is their cross-entropy less their entropy, which is constant.
            (LabelLoss::CrossEntropy, _) => {
                let mut target = wanted.scores(smoothing);
                change(&mut target, |p| p.max(LEAST).ln());
                LossKind::KlDivergence {
                    target,
                    temperature: 1.0,
                }
            }
            (LabelLoss::SquaredError, _) => LossKind::MeanSquaredError {
                target: wanted.scores(smoothing).into(),
            },
            (LabelLoss::Binary, _) => LossKind::BinaryCrossEntropy {
                target: wanted.scores(smoothing),
            },
        }
    }

    /// A teacher's answers are compared as the samples' own are, classes by their softmax.
    fn of_teacher(&self, wanted: &Wanted<'_>, mut answers: HostTensor) -> LossKind {
        let has_classes = matches!(wanted.truth, Truth::Classes(_));
        match self.loss {
            LabelLoss::SquaredError if !has_classes => LossKind::MeanSquaredError {
                target: answers.into(),
            },
            LabelLoss::Binary => {
                change(&mut answers, |x| 1.0 / (1.0 + (-x).exp()));
                LossKind::BinaryCrossEntropy { target: answers }
            }
            LabelLoss::CrossEntropy | LabelLoss::SquaredError => LossKind::KlDivergence {
                target: answers,
                temperature: self.temperature,
            },
        }
    }

    /// Returns the value that the loss is taken of: the network's first output, or what its last
    /// softmax reads, which is part of a cross-entropy, or its last sigmoid, part of a binary one.
    pub(crate) fn scores(&self, graph: &Graph, has_numbers: bool) -> Option<ValueId> {
        match self.loss {
            LabelLoss::SquaredError if has_numbers => graph.outputs().first().copied(),
            LabelLoss::CrossEntropy | LabelLoss::SquaredError => logits(graph),
            LabelLoss::Binary => before(graph, |op| matches!(op, Op::Unary(UnaryOp::Sigmoid))),
        }
    }
}

fn change(tensor: &mut HostTensor, to: impl Fn(f32) -> f32) {
    if let HostData::F32(data) = &mut tensor.data {
        for x in data {
            *x = to(*x);
        }
    }
}

/// The least probability whose logarithm is taken.
const LEAST: f32 = 1e-9;

/// Returns the value whose softmax is the network's first output, or that output.
///
/// A softmax at the end is part of the loss while training.
pub fn logits(graph: &Graph) -> Option<ValueId> {
    before(graph, |op| matches!(op, Op::Softmax { .. }))
}

/// Returns what the op that makes the first output reads, if it is one of those.
fn before(graph: &Graph, is_one: impl Fn(&Op) -> bool) -> Option<ValueId> {
    let output = *graph.outputs().first()?;
    let producer = graph.producer(output).map(|id| graph.node(id));
    match producer {
        Some(node) if is_one(&node.op) => node.input(0),
        _ => Some(output),
    }
}
