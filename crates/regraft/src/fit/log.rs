//! What every epoch did, for people and for tables.

use std::fmt::Write as _;

use regraft_train::{EpochRecord, Reestimation};

use crate::report::MeasureName;

/// Lines of progress that a long run shows.
const LINES: usize = 20;

/// Which epochs are shown.
#[derive(Debug)]
pub(super) struct EpochLog {
    epochs: usize,
    every: usize,
    measure: MeasureName,
}

impl EpochLog {
    pub(super) fn new(epochs: usize) -> Self {
        Self {
            measure: MeasureName::default(),
            epochs,
            every: epochs.div_ceil(LINES).max(1),
        }
    }

    /// Takes held-out scores as scores of `measure` from here on.
    pub(super) fn measures(&mut self, measure: MeasureName) {
        self.measure = measure;
    }

    pub(super) fn measure(&self) -> MeasureName {
        self.measure
    }

    /// Returns what to say of an epoch, if it is its turn.
    pub(super) fn line(&self, r: &EpochRecord) -> Option<String> {
        let number = r.epoch + 1;
        if number != 1 && number != self.epochs && !number.is_multiple_of(self.every) {
            return None;
        }
        let mut line = format!(
            "  epoch {number:>4}  loss {:.4}  held-out {}",
            r.loss,
            self.measure.shown(r.held_out_score)
        );
        if r.nonzero < r.weights {
            let times = r.weights as f64 / r.nonzero.max(1) as f64;
            let _ = write!(line, "  {} weights left, {times:.1} times fewer", r.nonzero);
        }
        Some(line)
    }
}

/// Returns what estimating the statistics of batch normalisations again did.
pub(super) fn reestimation(r: &Reestimation, measure: MeasureName) -> String {
    format!(
        "  statistics of batch normalisation over {} batches: held-out {}, with the running ones {}: {}",
        r.batches,
        measure.shown(r.after),
        measure.shown(r.before),
        if r.is_taken() { "taken" } else { "left" }
    )
}

/// Returns every epoch as a table of comma-separated values with a head.
pub(super) fn csv(records: &[EpochRecord], measure: MeasureName) -> String {
    let mut text = format!(
        "epoch,steps,learning_rate,loss,held_out_{},nonzero,weights\n",
        measure.key()
    );
    for r in records {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{}",
            r.epoch + 1,
            r.step,
            r.rate,
            r.loss,
            r.held_out_score,
            r.nonzero,
            r.weights
        );
    }
    text
}
