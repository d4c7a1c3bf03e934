//! Training on attacked samples.

use regraft_exec::{Executor, HostData, HostTensor};
use regraft_graph::ValueId;

use super::judge::no_gradient;
use super::perturb::sample_seed;
use super::{Attack, AttackMethod, InputRange, Target, perturb};
use crate::TrainError;
use crate::fit::Samples;

/// An attack on the samples that a network is trained on.
///
/// Each batch is attacked with the weights of its step, before the step (Madry et al. 2018, section 2).
/// The held-out samples that choose the epoch are attacked alike. A teacher is asked about the samples
/// as they are, and its answers are learned on the attacked ones: a teacher that was not hardened itself
/// errs under attack, and its errors are nothing to learn (Goldblum, Fowl, Feizi, Goldstein,
/// "Adversarially robust distillation", AAAI 2020, equation 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adversary {
    /// The attack; its restarts are not used.
    pub attack: Attack,
    /// Share of each batch that is attacked.
    pub share: f32,
    /// The lowest and the highest valid raw value, as [`InputRange::of`] takes them.
    pub clip: Option<[f32; 2]>,
}

/// An adversary with what it needs of the samples.
#[derive(Debug)]
pub(crate) struct Hardened {
    adversary: Adversary,
    range: InputRange,
    input: ValueId,
    logits: ValueId,
}

impl Hardened {
    /// Returns an adversary for the samples of a run.
    ///
    /// # Errors
    /// [`TrainError::Setting`] out of range, [`TrainError::AttackLabels`] without labels.
    pub(crate) fn new(
        adversary: Adversary,
        samples: Samples<'_>,
        logits: ValueId,
    ) -> Result<Self, TrainError> {
        if !(adversary.share > 0.0 && adversary.share <= 1.0) {
            return Err(TrainError::Setting {
                name: "attack_share",
                value: f64::from(adversary.share),
                range: "should be above 0 and at most 1",
            });
        }
        if samples.data.labels().is_none() && adversary.attack.method != AttackMethod::Noise {
            return Err(TrainError::AttackLabels);
        }
        let range = InputRange::of(samples.data, samples.preprocess, adversary.clip)?;
        let shape = samples.preprocess.sample_shape(samples.data)?;
        adversary.attack.check(&range, shape.iter().product())?;
        Ok(Self {
            adversary,
            range,
            input: samples.input,
            logits,
        })
    }

    /// Returns the batch of a step of which the first samples are attacked: as many as the share says,
    /// but one at least. Batches are in random order.
    ///
    /// # Errors
    /// As [`perturb`], and [`TrainError::NoInputGradient`] if no gradient reaches the input at the first
    /// step; later the network may be dead, which its loss tells.
    pub(crate) fn batch(
        &self,
        executor: &Executor,
        input: HostTensor,
        labels: &[usize],
        (step, seed): (usize, u64),
    ) -> Result<HostTensor, TrainError> {
        let n = input.shape.first().copied().unwrap_or(0);
        let attacked = ((n as f32 * self.adversary.share).round() as usize).clamp(n.min(1), n);
        let (input, has_gradient) = self.first(executor, input, labels, (attacked, seed))?;
        if step == 0 && !has_gradient {
            return Err(no_gradient(self.target(executor)));
        }
        Ok(input)
    }

    /// Returns a batch that is attacked whole.
    ///
    /// # Errors
    /// As [`perturb`].
    pub(crate) fn whole(
        &self,
        executor: &Executor,
        input: HostTensor,
        labels: &[usize],
        seed: u64,
    ) -> Result<HostTensor, TrainError> {
        let n = input.shape.first().copied().unwrap_or(0);
        Ok(self.first(executor, input, labels, (n, seed))?.0)
    }

    fn target<'a>(&self, executor: &'a Executor) -> Target<'a> {
        Target {
            executor,
            input: self.input,
            logits: self.logits,
        }
    }

    fn first(
        &self,
        executor: &Executor,
        mut input: HostTensor,
        labels: &[usize],
        (n, seed): (usize, u64),
    ) -> Result<(HostTensor, bool), TrainError> {
        let chosen: Vec<usize> = (0..n).collect();
        let Some(part) = input.select(0, &chosen) else {
            return Ok((input, false));
        };
        let seeds: Vec<u64> = (0..n).map(|i| sample_seed(seed, i, 0)).collect();
        // Noise needs no labels, only their number.
        let mut labels = labels.to_vec();
        labels.resize(n, 0);
        let found = perturb(
            self.target(executor),
            &[(self.input, part)],
            &labels,
            &self.adversary.attack,
            &self.range,
            &seeds,
        )?;
        if let (HostData::F32(all), Some(changed)) = (&mut input.data, found.input.as_f32())
            && let Some(slot) = all.get_mut(..changed.len())
        {
            slot.copy_from_slice(changed);
        }
        Ok((input, found.has_gradient))
    }
}
