//! How held-out samples are judged.

use regraft_data::{NumberSums, argmax_rows};
use regraft_exec::HostTensor;

use crate::TrainError;
use crate::targets::Truth;

/// What the score of held-out samples is; more is better, and 1 is the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Share of the samples whose class is found.
    #[default]
    Accuracy,
    /// Share of the samples whose class is the teacher's.
    Agreement,
    /// Share of all answers, a yes or no each, that are right; of the teacher's where nothing else is
    /// known.
    Decisions,
    /// The coefficient of determination: 1 less the squared error over the squares around the mean
    /// of each number, both summed over all numbers.
    R2,
}

impl Measure {
    /// Returns the standard error of a share over `n` samples; of R² nothing is known.
    pub(crate) fn deviation(self, score: f64, n: usize) -> f64 {
        match self {
            Self::Accuracy | Self::Agreement | Self::Decisions => {
                (score * (1.0 - score) / n.max(1) as f64).max(0.0).sqrt()
            }
            Self::R2 => 0.0,
        }
    }
}

/// Sums of a score over batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    judged: f64,
    right: f64,
    numbers: NumberSums,
}

impl Tally {
    /// Adds a batch: what was found, and what is wanted or what the teacher says.
    ///
    /// # Errors
    /// [`TrainError::Data`] for scores that are no numbers.
    pub(crate) fn add(
        &mut self,
        measure: Measure,
        found: &HostTensor,
        truth: &Truth,
        teacher: Option<&HostTensor>,
    ) -> Result<(), TrainError> {
        let scores = found.as_f32().unwrap_or_default();
        let taught = teacher.and_then(|t| t.as_f32()).unwrap_or_default();
        let n_classes = found.shape.last().copied().unwrap_or(1);
        match measure {
            Measure::Accuracy => {
                let classes = argmax_rows(scores, n_classes)?;
                self.count(classes.iter().map(|c| *c as usize), truth.classes());
            }
            Measure::Agreement => {
                let of = |scores| -> Result<Vec<usize>, TrainError> {
                    let all = argmax_rows(scores, n_classes)?;
                    Ok(all.into_iter().map(|c| c as usize).collect())
                };
                self.count(of(scores)?.into_iter(), &of(taught)?);
            }
            Measure::Decisions => {
                let wanted: Vec<usize> = match truth {
                    Truth::Numbers { values, .. } => {
                        values.iter().map(|x| usize::from(*x > 0.5)).collect()
                    }
                    // Classes were asked for one by one, a teacher's answers are before a sigmoid.
                    _ => taught.iter().map(|x| usize::from(*x > 0.0)).collect(),
                };
                self.count(scores.iter().map(|x| usize::from(*x > 0.0)), &wanted);
            }
            Measure::R2 => {
                let wanted = match truth {
                    Truth::Numbers { values, .. } => values,
                    _ => taught,
                };
                let n = found.shape.first().copied().unwrap_or(1).max(1);
                self.numbers.add(scores, wanted, scores.len() / n);
            }
        }
        Ok(())
    }

    fn count(&mut self, found: impl Iterator<Item = usize>, wanted: &[usize]) {
        for (found, wanted) in found.zip(wanted) {
            self.judged += 1.0;
            self.right += f64::from(u8::from(found == *wanted));
        }
    }

    /// Returns the score, 0 of no sample.
    pub(crate) fn score(&self, measure: Measure) -> f64 {
        if measure != Measure::R2 {
            return self.right / self.judged.max(1.0);
        }
        let found = self.numbers.figures();
        // Numbers that are all the same have no spread to explain: found or not.
        let is_found = found.mean_squared_error == 0.0;
        found.r2.unwrap_or(f64::from(u8::from(is_found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(measure: Measure, shape: &[usize], found: &[f32], truth: &Truth) -> f64 {
        let mut tally = Tally::default();
        let rows = shape[0];
        let width = found.len() / rows;
        // Two batches, so that sums are what counts.
        for at in 0..rows {
            let part = found[at * width..(at + 1) * width].to_vec();
            let shape = [&[1], &shape[1..]].concat();
            let tensor = HostTensor::f32(shape, part);
            tally.add(measure, &tensor, &truth.of(&[at]), None).unwrap();
        }
        tally.score(measure)
    }

    #[test]
    fn r2_is_that_of_all_numbers_by_their_variance() {
        // scikit-learn 1.7: r2_score(y, f, multioutput="variance_weighted") = 0.93825665859564...
        let values = vec![0.5, 1.0, -1.0, 1.0, 7.0, -6.0];
        let truth = Truth::Numbers { width: 2, values };
        let found = [0.0, 2.0, -1.0, 2.0, 8.0, -5.0];
        let score = score(Measure::R2, &[3, 2], &found, &truth);
        assert!((score - 0.938_256_658_595_641_6).abs() < 1e-12, "{score}");
    }

    #[test]
    fn constant_targets_have_no_spread() {
        let truth = Truth::Numbers {
            width: 1,
            values: vec![3.0, 3.0],
        };
        let of = |found: &[f32]| score(Measure::R2, &[2, 1], found, &truth);
        assert!((of(&[3.0, 3.0]) - 1.0).abs() < 1e-12);
        assert!(of(&[3.0, 2.0]).abs() < 1e-12);
    }

    #[test]
    fn single_answers_are_decided_at_zero() {
        let values = vec![1.0, 0.0, 0.0, 1.0];
        let truth = Truth::Numbers { width: 2, values };
        let found = [3.0, -0.5, 0.5, 2.0];
        let right = score(Measure::Decisions, &[2, 2], &found, &truth);
        assert!((right - 0.75).abs() < 1e-12, "{right}");
    }
}
