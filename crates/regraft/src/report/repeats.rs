//! The same training with several seeds.

use serde::{Deserialize, Serialize};

use super::training::MeasureName;

/// Runs that differ in their seed alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepeatsFigures {
    /// The seed whose network was written: the best by the held-out samples, not by those that judge.
    pub chosen: u64,
    /// Every run, by its seed.
    pub runs: Vec<RepeatFigures>,
    /// What scores of held-out samples are.
    pub measure: MeasureName,
    /// Mean and deviation of the held-out score.
    pub held_out_score: Spread,
    /// Of the accuracy on the samples that judge; the error is 1 less the mean, with the same deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Spread>,
    /// Of the R² on the samples that judge, where they have numbers to find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<Spread>,
    /// Of the weights that are not zero.
    pub nonzero: Spread,
    /// Of the seconds of a run.
    pub seconds: Spread,
}

/// One run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepeatFigures {
    /// Its seed.
    pub seed: u64,
    /// The score of the held-out samples.
    pub held_out_score: f64,
    /// Share of the samples that judge whose class is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// R² on the samples that judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// Weights that are not zero; biases apart.
    pub nonzero: u64,
    /// How long it trained; where it went on from an earlier stop, both together.
    pub seconds: f64,
}

/// A mean and a standard deviation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of single runs, estimated with n - 1; 0 for one.
    pub deviation: f64,
}

impl Spread {
    /// Returns the spread of numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let numbers: Vec<f64> = numbers.into_iter().collect();
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
        Self {
            mean,
            deviation: (squares / (n - 1.0).max(1.0)).sqrt(),
        }
    }

    fn in_percent(self) -> String {
        format!("{:.2} ± {:.2} %", 100.0 * self.mean, 100.0 * self.deviation)
    }

    fn shown(self, measure: MeasureName) -> String {
        match measure {
            MeasureName::R2 => format!("{:.4} ± {:.4}", self.mean, self.deviation),
            MeasureName::Accuracy | MeasureName::Agreement | MeasureName::Decisions => {
                self.in_percent()
            }
        }
    }
}

impl RepeatFigures {
    /// Returns the run in words, without its seed; `measure` is what its held-out score is.
    pub fn in_words(&self, measure: MeasureName) -> String {
        let judged = match (self.accuracy, self.r2) {
            (Some(a), _) => format!(
                "accuracy {:.2} %, error {:.2} %, ",
                100.0 * a,
                100.0 * (1.0 - a)
            ),
            (None, Some(r2)) => format!("R² {r2:.4}, "),
            (None, None) => String::new(),
        };
        format!(
            "{judged}held-out {}, {} weights, {:.1} s",
            measure.shown(self.held_out_score),
            self.nonzero,
            self.seconds
        )
    }
}

impl RepeatsFigures {
    /// Returns the figures of runs of which one was chosen.
    pub fn of(chosen: u64, measure: MeasureName, runs: Vec<RepeatFigures>) -> Self {
        let all = |get: fn(&RepeatFigures) -> Option<f64>| -> Option<Vec<f64>> {
            runs.iter().map(get).collect()
        };
        Self {
            chosen,
            measure,
            held_out_score: Spread::of(runs.iter().map(|r| r.held_out_score)),
            accuracy: all(|r| r.accuracy).map(Spread::of),
            r2: all(|r| r.r2).map(Spread::of),
            nonzero: Spread::of(runs.iter().map(|r| r.nonzero as f64)),
            seconds: Spread::of(runs.iter().map(|r| r.seconds)),
            runs,
        }
    }

    /// Returns the mean and the deviation over the runs, and which was written, in words.
    pub fn in_words(&self) -> String {
        let numbers = |r2: Spread| format!("R² {}, ", r2.shown(MeasureName::R2));
        let numbers = self.r2.map_or(String::new(), numbers);
        let judged = self.accuracy.map_or(numbers, |a| {
            let error = Spread {
                mean: 1.0 - a.mean,
                ..a
            };
            format!(
                "accuracy {}, error {}, ",
                a.in_percent(),
                error.in_percent()
            )
        });
        format!(
            "{} seeds: {judged}held-out {}, {:.0} ± {:.0} weights, {:.1} ± {:.1} s; written is seed {}, the best by the held-out samples, not by those that judge",
            self.runs.len(),
            self.held_out_score.shown(self.measure),
            self.nonzero.mean,
            self.nonzero.deviation,
            self.seconds.mean,
            self.seconds.deviation,
            self.chosen
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{MeasureName, RepeatFigures, RepeatsFigures, Spread};

    #[test]
    fn spreads_are_those_of_single_runs() {
        let two = Spread::of([1.0, 3.0]);
        assert_eq!((two.mean, two.deviation), (2.0, 2.0f64.sqrt()));
        let one = Spread::of([5.0]);
        assert_eq!((one.mean, one.deviation), (5.0, 0.0));
    }

    #[test]
    fn a_run_without_labels_has_no_accuracy() {
        let run = |seed, accuracy| RepeatFigures {
            seed,
            held_out_score: 0.5,
            accuracy,
            r2: None,
            nonzero: 10,
            seconds: 2.0,
        };
        let accuracy = MeasureName::Accuracy;
        let all = RepeatsFigures::of(1, accuracy, vec![run(0, Some(0.75)), run(1, Some(0.25))]);
        let text = all.in_words();
        assert!(
            text.contains("accuracy 50.00 ± 35.36 %, error 50.00 ± 35.36 %"),
            "{text}"
        );
        assert!(text.contains("written is seed 1"), "{text}");
        assert_eq!(
            RepeatsFigures::of(0, accuracy, vec![run(0, None)]).accuracy,
            None
        );
    }
}
