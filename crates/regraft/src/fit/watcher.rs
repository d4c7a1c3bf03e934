//! What happens at every step and epoch: lines for people, events for `TensorBoard`, the state kept.

use std::time::Instant;

use regraft_graph::Graph;
use regraft_train::{EpochRecord, Measure, State, Trained, Watch};

use super::STATE;
use super::log::{self, EpochLog};
use super::rebuilder::Rebuilder;
use super::tensorboard::EventFile;
use crate::Error;
use crate::pipeline::Log;
use crate::progress::Progress as _;
use crate::storage::{RunDir, write_atomic};

/// Shows every epoch and keeps it.
pub(super) struct Watcher<'a> {
    pub(super) log: &'a Log<'a>,
    pub(super) lines: EpochLog,
    pub(super) run_dir: Option<RunDir>,
    pub(super) failed: Option<Error>,
    pub(super) events: Option<EventFile>,
    pub(super) rebuilder: Rebuilder<'a>,
    pub(super) clock: Clock,
}

/// How long a run has trained, stops left out.
pub(super) struct Clock {
    /// Seconds of earlier commands, up to the epoch that this one goes on from.
    before: f64,
    started: Instant,
}

impl Clock {
    /// Starts to count, where a run was left off in a run directory.
    pub(super) fn start(run_dir: Option<&RunDir>) -> Result<Self, Error> {
        let kept = match run_dir {
            Some(dir) => dir.get(SECONDS)?,
            None => None,
        };
        let kept = kept.and_then(|bytes| Some(f64::from_le_bytes(bytes.try_into().ok()?)));
        Ok(Self {
            before: kept.filter(|s| s.is_finite() && *s >= 0.0).unwrap_or(0.0),
            started: Instant::now(),
        })
    }

    /// Returns the seconds so far.
    pub(super) fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }
}

/// The table of the epochs so far, in the run directory.
const EPOCHS: &str = "epochs.csv";

/// Key of the seconds that training took.
const SECONDS: &str = "fit/seconds";

impl Watcher<'_> {
    /// Adds an epoch to the event file, if one is written.
    fn tell_tensorboard(
        &mut self,
        record: &EpochRecord,
        state: &State,
        trained: &[Trained],
    ) -> Result<(), Error> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let step = record.step;
        let nonzero = record.nonzero as f64 / record.weights.max(1) as f64;
        let held_out = format!("{}/held_out", self.lines.measure().key());
        events.scalars(
            step,
            &[
                ("loss/train", record.loss),
                (&held_out, record.held_out_score),
                ("learning_rate", record.rate),
                ("nonzero", nonzero),
            ],
        )?;
        for (weights, parameter) in state.effective().iter().zip(trained) {
            if !parameter.is_weight {
                continue;
            }
            let there = weights.iter().copied().filter(|w| *w != 0.0);
            let share = there.clone().count() as f64 / weights.len().max(1) as f64;
            events.histogram(step, &format!("weights/{}", parameter.name), there)?;
            let mask = weights.iter().map(|w| f32::from(u8::from(*w != 0.0)));
            events.histogram(step, &format!("masks/{}", parameter.name), mask)?;
            events.scalars(step, &[(&format!("nonzero/{}", parameter.name), share)])?;
        }
        Ok(())
    }
}

impl Watch for Watcher<'_> {
    fn begins(&mut self, measure: Measure) {
        self.lines.measures(measure.into());
    }

    fn unreached(&mut self, weights: &[&str], node: &str, op: &str) {
        let some: Vec<String> = weights.iter().take(3).map(|w| format!("`{w}`")).collect();
        let more = if weights.len() > 3 { ", …" } else { "" };
        self.log.warn(format!(
            "`{node}` ({op}) lets no gradient through: {} weights before it do not train ({}{more})",
            weights.len(),
            some.join(", ")
        ));
    }

    fn step(&mut self, done: usize, total: usize, loss: f32) {
        // A line for every step would cost more than the step.
        if done.is_multiple_of(20) || done == total {
            self.log.step(done, total, &format!("loss {loss:.4}"));
        }
    }

    fn epoch(&mut self, record: &EpochRecord, state: &State, trained: &[Trained]) {
        if let Some(line) = self.lines.line(record) {
            self.log.note(&line);
        }
        if let Err(error) = self.tell_tensorboard(record, state, trained) {
            self.failed.get_or_insert(error);
        }
        if let Some(dir) = &mut self.run_dir {
            let seconds = self.clock.seconds().to_le_bytes();
            let kept = dir.put(STATE, &state.to_bytes());
            let kept = kept.and_then(|()| dir.put(SECONDS, &seconds));
            // Where it stands, for who looks before it ends; and what there is of one that does not.
            let table = log::csv(state.records(), self.lines.measure());
            let told = |()| write_atomic(&dir.path().join(EPOCHS), table.as_bytes());
            if let Err(error) = kept.and_then(told) {
                self.failed.get_or_insert(error.into());
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.failed.is_some() || self.log.cancelled()
    }

    fn rebuild(&mut self, before: &Graph, pruned: &Graph) -> Result<Graph, String> {
        let rebuilt = self.rebuilder.rebuild(before, pruned);
        rebuilt.map_err(|error| {
            let reason = error.to_string();
            self.failed.get_or_insert(error);
            reason
        })
    }
}
