//! What every epoch did, for people and for tables.

use std::fmt::Write as _;

use regraft_train::{EpochRecord, Reestimation};

/// Lines of progress that a long run shows.
const LINES: usize = 20;

/// Which epochs are shown.
#[derive(Debug)]
pub(super) struct EpochLog {
    epochs: usize,
    every: usize,
}

impl EpochLog {
    pub(super) fn new(epochs: usize) -> Self {
        Self {
            epochs,
            every: epochs.div_ceil(LINES).max(1),
        }
    }

    /// Returns what to say of an epoch, if it is its turn.
    pub(super) fn line(&self, r: &EpochRecord) -> Option<String> {
        let number = r.epoch + 1;
        if number != 1 && number != self.epochs && !number.is_multiple_of(self.every) {
            return None;
        }
        let mut line = format!(
            "  epoch {number:>4}  loss {:.4}  held-out {:.2} %",
            r.loss,
            100.0 * r.held_out_accuracy
        );
        if r.nonzero < r.weights {
            let times = r.weights as f64 / r.nonzero.max(1) as f64;
            let _ = write!(line, "  {} weights left, {times:.1} times fewer", r.nonzero);
        }
        Some(line)
    }
}

/// Returns what estimating the statistics of batch normalisations again did.
pub(super) fn reestimation(r: &Reestimation) -> String {
    format!(
        "  statistics of batch normalisation over {} batches: held-out {:.2} %, with the running ones {:.2} %: {}",
        r.batches,
        100.0 * r.after,
        100.0 * r.before,
        if r.is_taken() { "taken" } else { "left" }
    )
}

/// Returns every epoch as a table of comma-separated values with a head.
pub(super) fn csv(records: &[EpochRecord]) -> String {
    let mut text =
        String::from("epoch,steps,learning_rate,loss,held_out_accuracy,nonzero,weights\n");
    for r in records {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{}",
            r.epoch + 1,
            r.step,
            r.rate,
            r.loss,
            r.held_out_accuracy,
            r.nonzero,
            r.weights
        );
    }
    text
}
