//! Training on attacked samples.

use regraft_exec::{Executor, HostData};
use regraft_graph::ValueId;

use super::judge::no_gradient;
use super::perturb::sample_seed;
use super::{Attack, AttackMethod, InputRange, Target, perturb};
use crate::samples::Feeds;
use crate::{Samples, TrainError};

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
    /// Returns an adversary for the samples of a run; they may have classes that `logits` score.
    ///
    /// # Errors
    /// [`TrainError::Setting`] out of range, [`TrainError::AttackLabels`] without labels.
    pub(crate) fn new(
        adversary: Adversary,
        samples: Samples<'_>,
        (logits, has_classes): (ValueId, bool),
    ) -> Result<Self, TrainError> {
        if !(adversary.share > 0.0 && adversary.share <= 1.0) {
            return Err(TrainError::Setting {
                name: "attack_share",
                value: f64::from(adversary.share),
                range: "should be above 0 and at most 1",
            });
        }
        if !has_classes && adversary.attack.method != AttackMethod::Noise {
            return Err(TrainError::AttackLabels);
        }
        let range = samples.inputs.range(adversary.clip)?;
        let one = samples.batch(&samples.fit[..1])?;
        let sample_len = one.first().map_or(0, |(_, t)| t.len());
        adversary.attack.check(&range, sample_len)?;
        Ok(Self {
            adversary,
            range,
            input: samples.inputs.main()?,
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
        feeds: Feeds,
        labels: &[usize],
        (step, seed): (usize, u64),
    ) -> Result<Feeds, TrainError> {
        let n = count(&feeds);
        let attacked = ((n as f32 * self.adversary.share).round() as usize).clamp(n.min(1), n);
        let (feeds, has_gradient) = self.first(executor, feeds, labels, (attacked, seed))?;
        if step == 0 && !has_gradient {
            return Err(no_gradient(self.target(executor)));
        }
        Ok(feeds)
    }

    /// Returns a batch that is attacked whole.
    ///
    /// # Errors
    /// As [`perturb`].
    pub(crate) fn whole(
        &self,
        executor: &Executor,
        feeds: Feeds,
        labels: &[usize],
        seed: u64,
    ) -> Result<Feeds, TrainError> {
        let n = count(&feeds);
        Ok(self.first(executor, feeds, labels, (n, seed))?.0)
    }

    fn target<'a>(&self, executor: &'a Executor) -> Target<'a> {
        Target {
            executor,
            input: self.input,
            logits: self.logits,
        }
    }

    /// Attacks the first `n` samples; where there are several inputs the whole batch, of which the
    /// others are put back.
    fn first(
        &self,
        executor: &Executor,
        mut feeds: Feeds,
        labels: &[usize],
        (n, seed): (usize, u64),
    ) -> Result<(Feeds, bool), TrainError> {
        let chosen: Vec<usize> = (0..n).collect();
        let part = match &feeds[..] {
            [(input, only)] => only.select(0, &chosen).map(|part| vec![(*input, part)]),
            _ => Some(feeds.clone()),
        };
        let Some(part) = part else {
            return Ok((feeds, false));
        };
        let attacked = count(&part);
        let seeds: Vec<u64> = (0..attacked).map(|i| sample_seed(seed, i, 0)).collect();
        // Noise needs no labels, only their number.
        let mut labels = labels.to_vec();
        labels.resize(attacked, 0);
        let found = perturb(
            self.target(executor),
            &part,
            &labels,
            &self.adversary.attack,
            &self.range,
            &seeds,
        )?;
        let main = feeds.iter_mut().find(|(v, _)| *v == self.input);
        if let (Some((_, tensor)), Some(changed)) = (main, found.input.as_f32())
            && let HostData::F32(all) = &mut tensor.data
        {
            let kept = changed.len() / attacked.max(1) * n;
            for (x, changed) in all.iter_mut().zip(changed.iter().take(kept)) {
                *x = *changed;
            }
        }
        Ok((feeds, found.has_gradient))
    }
}

/// Returns the samples of a batch.
fn count(feeds: &Feeds) -> usize {
    let main = feeds.first().and_then(|(_, t)| t.shape.first());
    main.copied().unwrap_or(0)
}
