//! How a network does under attack.

use regraft_data::argmax_rows;
use regraft_exec::{ExecError, HostTensor};
use regraft_graph::ValueId;

use super::perturb::{fed, sample_seed};
use super::{Attack, AttackMethod, InputRange, Target, perturb};
use crate::TrainError;

/// Counts over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Samples.
    pub samples: usize,
    /// Samples whose class is found without an attack.
    pub clean_right: usize,
    /// Samples whose class is found under attack.
    pub right: usize,
    /// Samples that are right without the attack and wrong under it.
    pub fooled: usize,
    /// Samples whose perturbation counts.
    pub perturbed: usize,
    /// Sum over them of the largest change, in raw units.
    pub linf_sum: f64,
}

impl Tally {
    /// Adds the counts of other samples.
    pub fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.clean_right += other.clean_right;
        self.right += other.right;
        self.fooled += other.fooled;
        self.perturbed += other.perturbed;
        self.linf_sum += other.linf_sum;
    }

    /// Returns the share of the samples that are right without an attack.
    pub fn clean_accuracy(&self) -> f64 {
        self.clean_right as f64 / self.samples.max(1) as f64
    }

    /// Returns the share of the samples that are right under attack.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.samples.max(1) as f64
    }

    /// Returns the share of the clean right samples that the attack fools; `None` if there are none.
    pub fn success(&self) -> Option<f64> {
        (self.clean_right > 0).then(|| self.fooled as f64 / self.clean_right as f64)
    }

    /// Returns the mean of the largest change of the perturbed samples, in raw units.
    pub fn mean_linf(&self) -> f64 {
        self.linf_sum / self.perturbed.max(1) as f64
    }
}

/// Attacks one batch and counts.
///
/// A sample that is wrong without an attack is wrong under an attack that searches: leaving it alone is
/// in the ball. Noise searches nothing: it counts what is found in noise. The perturbation that counts
/// is the one that fooled the network, else the last; of samples that are right at first, and with
/// noise of all.
/// # Shapes
/// One label for each sample of `feeds`; `first` is the number of the first sample, which decides the
/// draws together with `seed`.
/// # Errors
/// As [`perturb`], [`TrainError::Label`] for a label that is no class, and
/// [`TrainError::NoInputGradient`] if no gradient reaches the input in the first batch.
pub fn attack_chunk(
    target: Target<'_>,
    feeds: &[(ValueId, HostTensor)],
    labels: &[usize],
    attack: &Attack,
    range: &InputRange,
    (first, seed): (usize, u64),
) -> Result<Tally, TrainError> {
    let clean = right(target, feeds, labels, first)?;
    let searches = attack.method != AttackMethod::Noise;
    let mut stands: Vec<bool> = clean.clone();
    let mut linf = vec![0.0f32; labels.len()];
    for start in 0..attack.starts() {
        let open = |i: usize| !searches || stands[i];
        if !(0..labels.len()).any(open) {
            break;
        }
        let seeds: Vec<u64> = (0..labels.len())
            .map(|i| sample_seed(seed, first + i, start))
            .collect();
        let found = perturb(target, feeds, labels, attack, range, &seeds)?;
        if first == 0 && !found.has_gradient {
            return Err(no_gradient(target));
        }
        let after = right(
            target,
            &fed(feeds, target.input, found.input),
            labels,
            first,
        )?;
        for i in 0..labels.len() {
            if !searches || stands[i] {
                linf[i] = found.linf.get(i).copied().unwrap_or(0.0);
                stands[i] = after[i];
            }
        }
    }
    let count = |of: &[bool]| of.iter().filter(|x| **x).count();
    let counts = |i: usize| !searches || clean[i];
    let perturbed: Vec<usize> = (0..labels.len()).filter(|i| counts(*i)).collect();
    Ok(Tally {
        samples: labels.len(),
        clean_right: count(&clean),
        right: count(&stands),
        fooled: (0..labels.len())
            .filter(|&i| clean[i] && !stands[i])
            .count(),
        perturbed: perturbed.len(),
        linf_sum: perturbed.iter().map(|&i| f64::from(linf[i])).sum(),
    })
}

/// Returns which samples get their label.
fn right(
    target: Target<'_>,
    feeds: &[(ValueId, HostTensor)],
    labels: &[usize],
    first: usize,
) -> Result<Vec<bool>, TrainError> {
    let Target {
        executor, logits, ..
    } = target;
    let mut found = executor.run_captured(feeds, &[logits])?;
    let tensor = found.remove(&logits);
    let scores = tensor.as_ref().and_then(HostTensor::as_f32);
    let scores = scores.filter(|s| !labels.is_empty() && s.len().is_multiple_of(labels.len()));
    let Some(scores) = scores else {
        return Err(TrainError::Run(ExecError::Value {
            value: executor.graph().value(logits).name.clone(),
            reason: format!("it does not hold scores for {} samples", labels.len()),
        }));
    };
    let n_classes = scores.len() / labels.len();
    if let Some(i) = labels.iter().position(|l| *l >= n_classes) {
        return Err(TrainError::Label {
            sample: first + i,
            label: labels[i] as u32,
            n_classes,
        });
    }
    let classes = argmax_rows(scores, n_classes)?;
    let pairs = classes.iter().zip(labels);
    Ok(pairs.map(|(c, l)| *c as usize == *l).collect())
}

pub(super) fn no_gradient(target: Target<'_>) -> TrainError {
    let graph = target.executor.graph();
    TrainError::NoInputGradient {
        input: graph.value(target.input).name.clone(),
        logits: graph.value(target.logits).name.clone(),
    }
}
