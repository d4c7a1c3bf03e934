//! A teacher's answers: asked for once where the samples stay as they are.

use regraft_exec::{Executor, HostTensor};
use regraft_graph::{Graph, ValueId};

use super::{Samples, forward};
use crate::objective::logits;
use crate::{FitConfig, TrainError};

/// The most answers that are kept: 256 MB.
const MAX_KEPT: usize = 1 << 26;

/// The network that a run learns from.
pub(super) struct Teacher {
    executor: Executor,
    logits: ValueId,
    kept: Option<Kept>,
}

/// Logits by sample of the data set.
struct Kept {
    width: usize,
    /// Where the row of a sample is; samples that do not train have none.
    rows: Vec<Option<usize>>,
    logits: Vec<f32>,
}

impl Teacher {
    pub(super) fn new(graph: &Graph, config: &FitConfig) -> Result<Self, TrainError> {
        Ok(Self {
            executor: Executor::new(graph, config.exec)?,
            logits: logits(graph).ok_or_else(super::no_output)?,
            kept: None,
        })
    }

    /// Asks for every training sample once, if images do not vary and the answers fit into memory.
    ///
    /// Returns false if `cancelled` ended it.
    pub(super) fn prepare(
        &mut self,
        samples: Samples<'_>,
        config: &FitConfig,
        cancelled: impl Fn() -> bool,
    ) -> Result<bool, TrainError> {
        // A single pass would be asked for once anyway.
        if !config.vary.is_none() || config.epochs < 2 {
            return Ok(true);
        }
        let width = self.ask(samples.input(&samples.fit[..1])?)?.len();
        if samples.fit.len().saturating_mul(width) > MAX_KEPT {
            return Ok(true);
        }
        let mut rows = vec![None; samples.data.len()];
        let mut all = Vec::with_capacity(samples.fit.len() * width);
        for part in samples.fit.chunks(config.batch.max(1)) {
            if cancelled() {
                return Ok(false);
            }
            for (i, &sample) in part.iter().enumerate() {
                rows[sample] = Some(all.len() / width.max(1) + i);
            }
            let found = self.ask(samples.input(part)?)?;
            all.extend_from_slice(found.as_f32().unwrap_or_default());
        }
        self.kept = Some(Kept {
            width,
            rows,
            logits: all,
        });
        Ok(true)
    }

    /// Returns the logits of a batch, whose samples are `indices`.
    pub(super) fn answers(
        &self,
        indices: &[usize],
        input: &HostTensor,
    ) -> Result<HostTensor, TrainError> {
        match self.kept.as_ref().and_then(|k| k.of(indices)) {
            Some(found) => Ok(found),
            None => self.ask(input.clone()),
        }
    }

    fn ask(&self, input: HostTensor) -> Result<HostTensor, TrainError> {
        forward(&self.executor, self.logits, input)
    }
}

impl Kept {
    fn of(&self, indices: &[usize]) -> Option<HostTensor> {
        let mut found = Vec::with_capacity(indices.len() * self.width);
        for &i in indices {
            let from = (*self.rows.get(i)?)? * self.width;
            found.extend_from_slice(self.logits.get(from..from + self.width)?);
        }
        Some(HostTensor::f32(vec![indices.len(), self.width], found))
    }
}
