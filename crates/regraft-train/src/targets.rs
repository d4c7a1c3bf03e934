//! What samples are said to be, checked against a network and its loss.

use regraft_exec::HostTensor;

use crate::objective::LabelLoss;
use crate::samples::Targets;
use crate::{Measure, TrainError};

/// What is known of every sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Truth {
    /// Nothing but what a teacher says.
    Unknown,
    /// A class each.
    Classes(Vec<usize>),
    /// Numbers each, sample after sample.
    Numbers { width: usize, values: Vec<f32> },
}

/// What the samples of one batch should become.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) truth: Truth,
    /// What each sample was mixed with, and its share; empty if nothing was.
    pub(crate) partners: &'a [(usize, f32)],
    /// The shape of the scores, samples first.
    pub(crate) shape: &'a [usize],
}

impl Truth {
    /// Returns what targets say to a network whose scores of one sample have this shape.
    ///
    /// # Errors
    /// [`TrainError::Label`] for a class that is none, [`TrainError::Targets`] for another number of
    /// numbers than scores or of a kind that the loss does not take, [`TrainError::NoTargets`] if
    /// nobody says anything.
    pub(crate) fn new(
        targets: Targets<'_>,
        loss: LabelLoss,
        score_shape: &[usize],
        is_taught: bool,
    ) -> Result<Self, TrainError> {
        let n_scores: usize = score_shape.iter().product();
        let n_classes = score_shape.last().copied().unwrap_or(1);
        match targets {
            Targets::None if is_taught => Ok(Self::Unknown),
            Targets::None => Err(TrainError::NoTargets),
            // The one score of a network that decides between no and yes.
            Targets::Classes(classes) if loss == LabelLoss::Binary && n_scores == 1 => {
                check_classes(classes, 2)?;
                let values = classes.iter().map(|c| *c as f32).collect();
                Ok(Self::Numbers { width: 1, values })
            }
            Targets::Classes(classes) if loss == LabelLoss::SquaredError && n_scores == 1 => {
                let values = classes.iter().map(|c| *c as f32).collect();
                Ok(Self::Numbers { width: 1, values })
            }
            Targets::Classes(_) if n_scores != n_classes => {
                let reason = format!(
                    "one class is given for a sample, and the network makes {} rows of scores",
                    n_scores / n_classes.max(1)
                );
                Err(TrainError::Targets { reason })
            }
            Targets::Classes(classes) => {
                check_classes(classes, n_classes)?;
                Ok(Self::Classes(classes.iter().map(|c| *c as usize).collect()))
            }
            Targets::Numbers { width, values } => {
                check_numbers(width, values, loss, n_scores)?;
                let values = values.to_vec();
                Ok(Self::Numbers { width, values })
            }
        }
    }

    /// Returns what is known of some samples.
    pub(crate) fn of(&self, indices: &[usize]) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Classes(all) => {
                let class = |i: &usize| all.get(*i).copied().unwrap_or(0);
                Self::Classes(indices.iter().map(class).collect())
            }
            Self::Numbers { width, values } => {
                let of = |i: &usize| values.get(i * width..(i + 1) * width).unwrap_or_default();
                Self::Numbers {
                    width: *width,
                    values: indices.iter().flat_map(of).copied().collect(),
                }
            }
        }
    }

    /// Returns the mean square of the numbers to find; 0 for anything else.
    pub(crate) fn energy(&self) -> f32 {
        let Self::Numbers { values, .. } = self else {
            return 0.0;
        };
        let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        (squares / values.len().max(1) as f64) as f32
    }

    /// Returns the classes; empty for anything else.
    pub(crate) fn classes(&self) -> &[usize] {
        match self {
            Self::Classes(classes) => classes,
            Self::Unknown | Self::Numbers { .. } => &[],
        }
    }

    /// Returns how held-out samples are judged. Where nothing is known, against a teacher.
    pub(crate) fn measure(&self, loss: LabelLoss) -> Measure {
        match (self, loss) {
            (Self::Classes(_), _) => Measure::Accuracy,
            (Self::Unknown, LabelLoss::CrossEntropy) => Measure::Agreement,
            (_, LabelLoss::Binary) => Measure::Decisions,
            _ => Measure::R2,
        }
    }
}

/// Refuses classes that a network of so many scores does not know.
///
/// # Errors
/// [`TrainError::Label`] with the first of them.
pub fn check_classes(classes: &[u32], n_classes: usize) -> Result<(), TrainError> {
    match classes.iter().position(|c| *c as usize >= n_classes) {
        None => Ok(()),
        Some(sample) => Err(TrainError::Label {
            sample,
            label: classes[sample],
            n_classes,
        }),
    }
}

fn check_numbers(
    width: usize,
    values: &[f32],
    loss: LabelLoss,
    n_scores: usize,
) -> Result<(), TrainError> {
    let no = |reason: String| Err(TrainError::Targets { reason });
    if width != n_scores {
        return no(format!(
            "{width} numbers are given for a sample, and the network makes {n_scores}"
        ));
    }
    match loss {
        LabelLoss::CrossEntropy => no(
            "they are numbers, and a cross-entropy compares with classes: take `squared-error`, or `binary` for numbers from 0 to 1"
                .to_owned(),
        ),
        LabelLoss::Binary => match values.iter().position(|x| !(0.0..=1.0).contains(x)) {
            Some(at) => no(format!(
                "{} of sample {} is not a number from 0 to 1, which the loss `binary` compares with",
                values[at],
                at / width.max(1)
            )),
            None => Ok(()),
        },
        LabelLoss::SquaredError => Ok(()),
    }
}

impl Wanted<'_> {
    /// Returns the classes if every sample has exactly one.
    pub(crate) fn plain_classes(&self) -> Option<&[usize]> {
        let is_plain = self.partners.iter().all(|(_, share)| *share == 0.0);
        match &self.truth {
            Truth::Classes(classes) if is_plain => Some(classes),
            _ => None,
        }
    }

    /// Returns the wanted scores: the numbers, or the probability of each class, of which `smoothing`
    /// goes to all alike; mixed as the samples are.
    pub(crate) fn scores(&self, smoothing: f32) -> HostTensor {
        let len: usize = self.shape.iter().product();
        let n = self.shape.first().copied().unwrap_or(1).max(1);
        let width = len / n;
        let mut all = vec![0.0; len];
        for (row, out) in all.chunks_mut(width.max(1)).enumerate() {
            let (partner, share) = self.partners.get(row).copied().unwrap_or((row, 0.0));
            self.add(row, (1.0 - share) * (1.0 - smoothing), out);
            self.add(partner, share * (1.0 - smoothing), out);
            for p in out.iter_mut().filter(|_| smoothing > 0.0) {
                *p += smoothing / width.max(1) as f32;
            }
        }
        HostTensor::f32(self.shape.to_vec(), all)
    }

    fn add(&self, row: usize, share: f32, out: &mut [f32]) {
        if share == 0.0 {
            return;
        }
        match &self.truth {
            Truth::Unknown => {}
            Truth::Classes(classes) => {
                if let Some(p) = classes.get(row).and_then(|c| out.get_mut(*c)) {
                    *p += share;
                }
            }
            Truth::Numbers { width, values } => {
                let own = values.get(row * width..(row + 1) * width);
                for (p, x) in out.iter_mut().zip(own.unwrap_or_default()) {
                    *p += share * x;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_mixed_and_smoothed() {
        let wanted = Wanted {
            truth: Truth::Classes(vec![0, 2]),
            partners: &[(1, 0.25), (1, 0.0)],
            shape: &[2, 3],
        };
        let near = |smoothing: f32, expected: [f32; 6]| {
            let found = wanted.scores(smoothing);
            for (f, e) in found.as_f32().unwrap().iter().zip(expected) {
                assert!((f - e).abs() < 1e-6, "{found:?}");
            }
        };
        near(0.0, [0.75, 0.0, 0.25, 0.0, 0.0, 1.0]);
        near(0.3, [0.625, 0.1, 0.275, 0.1, 0.1, 0.8]);
    }

    #[test]
    fn numbers_are_mixed_as_their_samples_are() {
        let wanted = Wanted {
            truth: Truth::Numbers {
                width: 2,
                values: vec![1.0, -2.0, 3.0, 4.0],
            },
            partners: &[(1, 0.5), (1, 0.0)],
            shape: &[2, 1, 2],
        };
        let found = wanted.scores(0.0);
        assert_eq!(found.shape, [2, 1, 2]);
        assert_eq!(found.as_f32().unwrap(), [2.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn targets_of_another_kind_are_refused() {
        let numbers = |width| Targets::Numbers {
            width,
            values: &[0.5, 2.0],
        };
        let reason = |targets, loss, shape: &[usize]| {
            Truth::new(targets, loss, shape, false)
                .unwrap_err()
                .to_string()
        };
        let text = reason(numbers(1), LabelLoss::CrossEntropy, &[1]);
        assert!(text.contains("squared-error"), "{text}");
        let text = reason(numbers(2), LabelLoss::SquaredError, &[3]);
        assert!(text.contains("the network makes 3"), "{text}");
        let text = reason(numbers(1), LabelLoss::Binary, &[1]);
        assert!(text.contains("2 of sample 1"), "{text}");
        let text = reason(Targets::Classes(&[0, 1]), LabelLoss::CrossEntropy, &[4, 3]);
        assert!(text.contains("4 rows"), "{text}");
        let text = reason(Targets::None, LabelLoss::SquaredError, &[1]);
        assert!(text.contains("teacher"), "{text}");
        let yes = Truth::new(Targets::Classes(&[0, 1]), LabelLoss::Binary, &[1], false);
        let values = vec![0.0, 1.0];
        assert_eq!(yes.unwrap(), Truth::Numbers { width: 1, values });
        let ages = Targets::Classes(&[34, 7]);
        let ages = Truth::new(ages, LabelLoss::SquaredError, &[1], false);
        let values = vec![34.0, 7.0];
        assert_eq!(ages.unwrap(), Truth::Numbers { width: 1, values });
    }
}
