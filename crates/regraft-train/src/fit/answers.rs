//! A teacher's answers: asked for once where the samples stay as they are.

use regraft_exec::{Executor, HostTensor};
use regraft_graph::{Graph, ValueId};

use super::{Task, forward};
use crate::samples::Feeds;
use crate::{FitConfig, Samples, TrainError};

/// The most answers that are kept: 256 MB.
const MAX_KEPT: usize = 1 << 26;

/// A value inside of a network, and that of its teacher which it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The network's value.
    pub own: ValueId,
    /// The teacher's.
    pub theirs: ValueId,
    /// An axis of the teacher's value and the channels of it that the network kept; `None` for all.
    pub kept: Option<(usize, Vec<usize>)>,
}

/// What a teacher says of a batch.
#[derive(Debug, Default)]
pub(super) struct Lesson {
    /// Its scores; `None` where only its features are asked for.
    pub(super) answers: Option<HostTensor>,
    /// Each value of the network, and what it should be.
    pub(super) features: Vec<(ValueId, HostTensor)>,
}

/// The network that a run learns from.
pub(super) struct Teacher {
    executor: Executor,
    /// Inputs of the network that trains, and those of the teacher that are fed the same.
    inputs: Vec<(ValueId, ValueId)>,
    scores: ValueId,
    /// True if its scores are learned.
    answers: bool,
    /// Features that are learned.
    features: Vec<Feature>,
    kept: Option<Kept>,
}

/// Answers by sample.
struct Kept {
    /// The shape of one answer.
    shape: Vec<usize>,
    width: usize,
    /// Where the row of a sample is; samples that nobody asks about have none.
    rows: Vec<Option<usize>>,
    answers: Vec<f32>,
}

impl Teacher {
    /// Returns the teacher of a network that is fed `fed`.
    ///
    /// # Errors
    /// [`TrainError::TeacherInput`] if it takes more than that, by name or as its only input.
    pub(super) fn new(
        teacher: &Graph,
        task: &Task<'_>,
        fed: &Feeds,
        (config, has_numbers): (&FitConfig, bool),
    ) -> Result<Self, TrainError> {
        let wanted = teacher.required_inputs();
        let inputs = match (&wanted[..], &fed[..]) {
            (&[theirs], &[(ours, _)]) => vec![(ours, theirs)],
            _ => wanted
                .iter()
                .map(|&theirs| {
                    let input = &teacher.value(theirs).name;
                    let named =
                        |(v, _): &&(ValueId, HostTensor)| task.graph.value(*v).name == *input;
                    let ours = fed.iter().find(named).map(|(v, _)| *v);
                    let input = input.clone();
                    ours.map(|ours| (ours, theirs))
                        .ok_or(TrainError::TeacherInput { input })
                })
                .collect::<Result<_, _>>()?,
        };
        let scores = config.objective.scores(teacher, has_numbers);
        Ok(Self {
            executor: Executor::new(teacher, config.exec)?,
            inputs,
            scores: scores.ok_or(TrainError::NoInput)?,
            answers: config.objective.teacher > 0.0,
            features: if config.objective.features > 0.0 {
                task.features.to_vec()
            } else {
                Vec::new()
            },
            kept: None,
        })
    }

    /// Refuses a teacher whose answers are not of the length of the network's scores.
    pub(super) fn check(&self, feeds: &Feeds, scores: &HostTensor) -> Result<(), TrainError> {
        let answer = self.ask(feeds)?;
        if answer.len() == scores.len() {
            return Ok(());
        }
        let n = scores.shape.first().copied().unwrap_or(1).max(1);
        Err(TrainError::TeacherWidth {
            teacher: answer.len() / n,
            own: scores.len() / n,
        })
    }

    /// Asks about every sample of `asked` once, if images do not vary and the answers fit into memory.
    ///
    /// Returns false if `cancelled` ended it.
    pub(super) fn prepare(
        &mut self,
        samples: Samples<'_>,
        asked: &[usize],
        config: &FitConfig,
        cancelled: impl Fn() -> bool,
    ) -> Result<bool, TrainError> {
        // A single pass would be asked for once anyway, and so would features.
        if !config.vary.is_none() || config.epochs < 2 || !self.features.is_empty() {
            return Ok(true);
        }
        let one = self.ask(&samples.batch(&asked[..1])?)?;
        let width = one.len();
        if asked.len().saturating_mul(width) > MAX_KEPT {
            return Ok(true);
        }
        let mut rows = vec![None; samples.inputs.len()];
        let mut answers = Vec::with_capacity(asked.len() * width);
        for part in asked.chunks(config.batch.max(1)) {
            if cancelled() {
                return Ok(false);
            }
            for (i, &sample) in part.iter().enumerate() {
                rows[sample] = Some(answers.len() / width.max(1) + i);
            }
            let found = self.ask(&samples.batch(part)?)?;
            answers.extend_from_slice(found.as_f32().unwrap_or_default());
        }
        self.kept = Some(Kept {
            shape: one.shape.get(1..).unwrap_or_default().to_vec(),
            width,
            rows,
            answers,
        });
        Ok(true)
    }

    /// Returns what a batch, whose samples are `indices`, teaches.
    pub(super) fn lesson(&self, indices: &[usize], feeds: &Feeds) -> Result<Lesson, TrainError> {
        if self.features.is_empty() {
            return Ok(Lesson {
                answers: Some(self.answers(indices, feeds)?),
                features: Vec::new(),
            });
        }
        let theirs = self.features.iter().map(|f| f.theirs);
        let wanted: Vec<ValueId> = theirs.chain(self.answers.then_some(self.scores)).collect();
        let mut found = self.executor.run_captured(&self.fed(feeds), &wanted)?;
        let answers = found.get(&self.scores).filter(|_| self.answers).cloned();
        // Taken, not copied: features of a batch are as large as what the pass computes.
        let feature = |f: &Feature| {
            let all = found.remove(&f.theirs)?;
            let kept = match &f.kept {
                Some((axis, channels)) => all.select(*axis, channels)?,
                None => all,
            };
            Some((f.own, kept))
        };
        Ok(Lesson {
            features: self.features.iter().filter_map(feature).collect(),
            answers,
        })
    }

    /// Returns the answers for a batch, whose samples are `indices`.
    pub(super) fn answers(
        &self,
        indices: &[usize],
        feeds: &Feeds,
    ) -> Result<HostTensor, TrainError> {
        match self.kept.as_ref().and_then(|k| k.of(indices)) {
            Some(found) => Ok(found),
            None => self.ask(feeds),
        }
    }

    fn ask(&self, feeds: &Feeds) -> Result<HostTensor, TrainError> {
        forward(&self.executor, self.scores, &self.fed(feeds))
    }

    /// Returns the batch as the teacher is fed it.
    fn fed(&self, feeds: &Feeds) -> Feeds {
        let theirs = |(ours, theirs): &(ValueId, ValueId)| {
            let fed = feeds.iter().find(|(v, _)| v == ours);
            fed.map(|(_, tensor)| (*theirs, tensor.clone()))
        };
        self.inputs.iter().filter_map(theirs).collect()
    }
}

impl Kept {
    fn of(&self, indices: &[usize]) -> Option<HostTensor> {
        let mut found = Vec::with_capacity(indices.len() * self.width);
        for &i in indices {
            let from = (*self.rows.get(i)?)? * self.width;
            found.extend_from_slice(self.answers.get(from..from + self.width)?);
        }
        let shape = [&[indices.len()], &self.shape[..]].concat();
        Some(HostTensor::f32(shape, found))
    }
}
