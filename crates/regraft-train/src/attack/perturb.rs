//! The perturbation of one batch.

use regraft_data::SplitMix64;
use regraft_exec::{ExecError, Executor, HostTensor, LossKind, LossTerm};
use regraft_graph::ValueId;

use super::ball::{Ball, gaussian};
use super::{Attack, AttackMethod, InputRange};
use crate::TrainError;

/// The network that is attacked.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The network.
    pub executor: &'a Executor,
    /// The input of floats that is changed; its first axis counts the samples.
    pub input: ValueId,
    /// The scores of the classes, before a softmax.
    pub logits: ValueId,
}

/// A batch under attack.
#[derive(Clone, Debug)]
pub struct Perturbed {
    /// The changed input.
    pub input: HostTensor,
    /// The largest change of each sample, in raw units.
    pub linf: Vec<f32>,
    /// True if some gradient was not zero; true for noise, which needs none.
    pub has_gradient: bool,
}

/// Returns the batch `feeds` with its input changed by the attack, to raise the cross-entropy of
/// `labels`.
///
/// # Shapes
/// One label and one seed for each sample; the seeds decide all draws.
/// # Errors
/// [`TrainError::Run`] if the network does not run on the feeds or has an op without a gradient rule,
/// [`TrainError::AttackLoss`] if the loss is no number.
/// # Reference
/// Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015; Madry,
/// Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial attacks",
/// ICLR 2018.
pub fn perturb(
    target: Target<'_>,
    feeds: &[(ValueId, HostTensor)],
    labels: &[usize],
    attack: &Attack,
    range: &InputRange,
    seeds: &[u64],
) -> Result<Perturbed, TrainError> {
    let clean = feeds.iter().find(|(id, _)| *id == target.input);
    let floats = clean.and_then(|(_, t)| Some((t.as_f32()?, &t.shape)));
    let Some((clean, shape)) = floats else {
        return Err(TrainError::Run(ExecError::Value {
            value: target.executor.graph().value(target.input).name.clone(),
            reason: "an attack changes an input of floats".to_owned(),
        }));
    };
    let sample_len = clean.len() / labels.len().max(1);
    let ball = Ball::new(attack.norm, attack.eps, range, clean, sample_len);
    let mut search = Search {
        target,
        feeds,
        labels,
        shape,
        ball,
        has_gradient: false,
    };
    let found = match attack.method {
        AttackMethod::Fgsm => {
            let mut at = vec![0.0; clean.len()];
            search.step(&mut at, attack.eps)?;
            at
        }
        AttackMethod::Pgd => {
            let mut at = search.ball.start(seeds);
            for _ in 0..attack.steps {
                search.step(&mut at, attack.step_length())?;
            }
            at
        }
        AttackMethod::Noise => {
            search.has_gradient = true;
            let draw = |seed: &u64| gaussian(&mut SplitMix64::new(*seed), sample_len);
            let mut at: Vec<f32> = seeds.iter().flat_map(draw).collect();
            for x in &mut at {
                *x *= attack.eps;
            }
            search.ball.fit(&mut at);
            at
        }
    };
    let largest = |part: &[f32]| part.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    Ok(Perturbed {
        linf: found.chunks(sample_len.max(1)).map(largest).collect(),
        input: HostTensor::f32(shape.clone(), search.ball.inputs(&found)),
        has_gradient: search.has_gradient,
    })
}

/// A search for perturbations under way.
struct Search<'a> {
    target: Target<'a>,
    feeds: &'a [(ValueId, HostTensor)],
    labels: &'a [usize],
    shape: &'a [usize],
    ball: Ball<'a>,
    has_gradient: bool,
}

impl Search<'_> {
    /// Moves the perturbations one step up the loss.
    fn step(&mut self, perturbation: &mut [f32], length: f32) -> Result<(), TrainError> {
        let Target {
            executor,
            input,
            logits,
        } = self.target;
        let changed = HostTensor::f32(self.shape.to_vec(), self.ball.inputs(perturbation));
        let feeds = fed(self.feeds, input, changed);
        // The sum over samples: the mean of many would make small gradients smaller still.
        let loss = LossTerm {
            value: logits,
            kind: LossKind::CrossEntropy {
                labels: self.labels.to_vec(),
            },
            weight: self.labels.len() as f32,
        };
        let mut found = executor.gradients(&feeds, &[loss], &[input])?;
        if !found.loss.is_finite() {
            return Err(TrainError::AttackLoss { loss: found.loss });
        }
        let gradient = found.gradients.remove(&input);
        let gradient = gradient.and_then(HostTensor::into_f32).unwrap_or_default();
        self.has_gradient |= gradient.iter().any(|g| *g != 0.0);
        self.ball.climb(perturbation, &gradient, length);
        Ok(())
    }
}

/// Returns feeds with another tensor for one input.
pub(super) fn fed(
    feeds: &[(ValueId, HostTensor)],
    input: ValueId,
    changed: HostTensor,
) -> Vec<(ValueId, HostTensor)> {
    let others = feeds.iter().filter(|(id, _)| *id != input).cloned();
    others.chain([(input, changed)]).collect()
}

/// Returns the seed of one sample's draw.
pub(super) fn sample_seed(seed: u64, sample: usize, start: usize) -> u64 {
    let mut random = SplitMix64::new(seed ^ (sample as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    random.next_u64().wrapping_add(start as u64)
}
