//! What a caller is told while a run goes on, and how it stops one.

use std::cell::Cell;

use regraft_rebuild::{Monitor, Stage};

/// Told about the progress of a run. Every method may be called from one thread only.
pub trait Progress {
    /// A new stage begins.
    fn stage(&self, name: &str);

    /// `done` of `total` steps of the current stage are finished; `what` is being worked on.
    fn step(&self, done: usize, total: usize, what: &str);

    /// Something the user should know.
    fn note(&self, text: &str);

    /// Returns true once the run should stop as soon as it can.
    fn cancelled(&self) -> bool;
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _: &str) {}

    fn step(&self, _: usize, _: usize, _: &str) {}

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Hands the progress of a rebuild on.
pub(crate) struct Adapter<'a> {
    progress: &'a dyn Progress,
    tunes: Cell<bool>,
}

impl<'a> Adapter<'a> {
    pub(crate) fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            tunes: Cell::new(false),
        }
    }
}

impl Monitor for Adapter<'_> {
    fn progress(&self, stage: Stage, done: usize, total: usize, what: &str) {
        // The long second half of a rebuild is a stage of its own to whoever waits.
        if stage == Stage::Tune && !self.tunes.replace(true) {
            self.progress.stage("tune");
        }
        self.progress.step(done, total, what);
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }
}
