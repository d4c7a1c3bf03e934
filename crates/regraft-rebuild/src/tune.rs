//! Tuning a block with gradients on unlabelled samples against the dense model.

use std::collections::{BTreeMap, BTreeSet};

use regraft_exec::{HostTensor, LossTerm};
use regraft_graph::{Tensor, ValueId};

use crate::stream::Stream;
use crate::{Augment, Mix, Monitor, RebuildError, Stage};

/// How to tune.
#[derive(Clone, Debug, PartialEq)]
pub struct TuneConfig {
    /// Passes over the calibration samples for each block.
    pub epochs: usize,
    /// First step size relative to the root mean square of each weight tensor.
    pub learning_rate: f64,
    /// Work of the passes with all blocks together at the end, in multiply-accumulates of both
    /// models forward and the small one backward; 0 for none. As many passes as fit, and at most
    /// [`MAX_JOINT_EPOCHS`].
    pub joint_macs: u64,
    /// Passes with all blocks together, instead of what the work allows.
    pub joint_epochs: Option<usize>,
    /// First step size of the joint passes.
    pub joint_learning_rate: f64,
    /// How images are varied in the joint passes.
    pub augment: Augment,
    /// How they are mixed with each other then.
    pub mix: Mix,
}

/// A small network is not tuned without end: past this, passes bring a tenth of a point each minute.
pub const MAX_JOINT_EPOCHS: usize = 120;

/// Two to three minutes on two cores.
pub const DEFAULT_JOINT_MACS: u64 = 10_000_000_000_000;

impl Default for TuneConfig {
    fn default() -> Self {
        Self {
            epochs: 8,
            learning_rate: 1e-2,
            joint_macs: DEFAULT_JOINT_MACS,
            joint_epochs: None,
            joint_learning_rate: 1e-2,
            augment: Augment::None,
            mix: Mix::None,
        }
    }
}

/// What tuning one block did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// Relative squared error of the block's output on held-out samples before.
    pub error_before: f64,
    /// The same after the best pass.
    pub error_after: f64,
    /// True if the tuned weights were kept, which only a lower held-out error earns.
    pub kept: bool,
    /// Gradient steps taken.
    pub steps: usize,
}

/// What is tuned towards.
pub(crate) struct Target<'a> {
    /// The values that should come close.
    pub(crate) terms: Vec<Term>,
    /// Chunks before this one are trained on, the others are held out.
    pub(crate) n_fit: usize,
    /// Makes a varied batch and its targets, one a term; without it the chunks are used as they are.
    pub(crate) vary: Option<Vary<'a>>,
}

/// Feeds and targets of one varied batch.
pub(crate) type Varied = (Vec<(ValueId, HostTensor)>, Vec<HostTensor>);

/// Returns the varied batch of a step.
pub(crate) type Vary<'a> = &'a dyn Fn(u64) -> Result<Varied, RebuildError>;

/// One value of the pruned model and what it should be.
pub(crate) struct Term {
    /// The value.
    pub(crate) value: ValueId,
    /// Its targets, chunk by chunk, in the shape of the pruned value.
    pub(crate) chunks: Vec<HostTensor>,
    /// Share of this value's relative error in the whole.
    pub(crate) weight: f64,
    /// Mean square of the targets: errors count relative to it.
    energy: f64,
}

impl Term {
    pub(crate) fn new(value: ValueId, chunks: Vec<HostTensor>, weight: f64) -> Self {
        let (mut sum, mut n) = (0.0, 0usize);
        for data in chunks.iter().filter_map(HostTensor::as_f32) {
            sum += data
                .iter()
                .map(|x| f64::from(*x) * f64::from(*x))
                .sum::<f64>();
            n += data.len();
        }
        let energy = sum / n.max(1) as f64;
        Self {
            value,
            chunks,
            weight,
            energy: if energy > 0.0 { energy } else { 1.0 },
        }
    }
}

/// Initializers by their value.
type Weights = Vec<(ValueId, Tensor)>;

/// Relative squared error that rounding explains.
const NOTHING_TO_MEND: f64 = 1e-10;

/// Returns the best weights found (equal to the given ones if nothing helped) and what was reached;
/// `None` where there is no error to lower.
///
/// Adam with a cosine schedule on the mean squared error. One chunk is one batch; the order of
/// chunks is rotated each pass, so the result depends on nothing but its inputs.
///
/// # Reference
/// Kingma and Ba, "Adam", ICLR 2015; block reconstruction as in Li et al., "BRECQ", ICLR 2021.
pub(crate) fn tune(
    stream: &mut Stream,
    target: &Target<'_>,
    start: &[(ValueId, Tensor)],
    schedule: &Schedule,
    monitor: &dyn Monitor,
) -> Result<Option<(Weights, Tuned)>, RebuildError> {
    let mut state: Vec<Parameter> = start
        .iter()
        .filter_map(|s| Parameter::new(s, schedule))
        .collect();
    // What ends alone is judged alone.
    let n_judged = if schedule.alone_after.is_some() {
        1
    } else {
        target.terms.len()
    };
    let before = held_out_error(stream, target, n_judged)?;
    if before < NOTHING_TO_MEND {
        return Ok(None);
    }
    let mut best = before;
    let mut best_state: Option<Vec<Vec<f32>>> = None;
    let total_steps = (schedule.epochs * target.n_fit).max(1);
    let mut step = 0;
    for epoch in 0..schedule.epochs {
        for i in 0..target.n_fit {
            if monitor.cancelled() {
                return Err(RebuildError::Interrupted);
            }
            // An odd stride visits the chunks in another order each pass.
            let chunk = (i * (2 * epoch + 1) + epoch) % target.n_fit;
            if target.vary.is_some() {
                monitor.progress(Stage::Tune, step, total_steps, "the whole network");
            }
            step += 1;
            let cosine = (std::f64::consts::PI * step as f64 / total_steps as f64).cos();
            let rate = schedule.learning_rate * (1.0 + cosine) / 2.0;
            let pace = Pace {
                rate,
                step,
                others: schedule.others_at(step as f64 / total_steps as f64),
            };
            descend(stream, target, chunk, &mut state, pace)?;
        }
        let error = held_out_error(stream, target, n_judged)?;
        if error < best {
            best = error;
            best_state = Some(state.iter().map(|p| p.data.clone()).collect());
        }
    }
    let kept = best_state.is_some();
    let mut tensors = Vec::new();
    for (i, parameter) in state.iter().enumerate() {
        let data = match &best_state {
            Some(b) => b[i].clone(),
            None => parameter.first.clone(),
        };
        tensors.push((
            parameter.id,
            Tensor::from_f32(parameter.shape.clone(), data)?,
        ));
    }
    stream.set(&tensors)?;
    Ok(Some((
        tensors,
        Tuned {
            error_before: before,
            error_after: best,
            kept,
            steps: step,
        },
    )))
}

/// How long and how fast, and what stays as it is.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) epochs: usize,
    pub(crate) learning_rate: f64,
    /// Share of the steps after which the first term is alone: the others count less and less
    /// until then. `None` where they count throughout.
    pub(crate) alone_after: Option<f64>,
    /// Weights whose zeros stay zero.
    pub(crate) held_zeros: BTreeSet<ValueId>,
    /// Factors of units, which end between nothing and one where they begin as zeros.
    pub(crate) factors: BTreeSet<ValueId>,
    /// Biases that are no vectors, those of recurrent cells.
    pub(crate) biases: BTreeSet<ValueId>,
}

impl Schedule {
    /// Returns the factor of all terms but the first at a share of the steps.
    fn others_at(&self, share: f64) -> f64 {
        self.alone_after
            .map_or(1.0, |end| (1.0 - share / end).max(0.0))
    }
}

/// One step of the descent.
#[derive(Clone, Copy)]
struct Pace {
    rate: f64,
    step: usize,
    /// Factor of all terms but the first.
    others: f64,
}

/// A bias that is still zero must be able to move.
const LEAST_SCALE: f64 = 1e-2;

/// Between nothing and one.
const SCALE_OF_FACTORS: f64 = 0.3;

/// Returns how large the weights of a layer that is still zero will be: those of a gate or of the last layer of
/// a block that was put in as an identity, 1 / √ of what one output reads (or, of factors that lie
/// as their inputs do, one input gives).
fn scale_of_zeros(shape: &[usize]) -> f64 {
    let [_, rest @ ..] = shape else {
        return LEAST_SCALE;
    };
    if rest.is_empty() {
        return LEAST_SCALE;
    }
    let read: usize = rest.iter().product();
    (1.0 / read.max(1) as f64).sqrt()
}

struct Parameter {
    id: ValueId,
    shape: Vec<usize>,
    first: Vec<f32>,
    data: Vec<f32>,
    mean: Vec<f64>,
    square: Vec<f64>,
    scale: f64,
    // True for the elements that stay zero.
    held: Option<Vec<bool>>,
}

impl Parameter {
    fn new((id, tensor): &(ValueId, Tensor), schedule: &Schedule) -> Option<Self> {
        let data = tensor.as_f32()?.to_vec();
        let hold_zeros = schedule.held_zeros.contains(id);
        let held: Option<Vec<bool>> = hold_zeros.then(|| data.iter().map(|w| *w == 0.0).collect());
        let n_held = held
            .as_ref()
            .map_or(0, |h| h.iter().filter(|h| **h).count());
        let n = (data.len() - n_held).max(1) as f64;
        let rms = (data
            .iter()
            .map(|w| f64::from(*w) * f64::from(*w))
            .sum::<f64>()
            / n)
            .sqrt();
        Some(Self {
            id: *id,
            shape: tensor.shape().to_vec(),
            first: data.clone(),
            held,
            mean: vec![0.0; data.len()],
            square: vec![0.0; data.len()],
            data,
            scale: if rms > 0.0 {
                rms.max(LEAST_SCALE)
            } else if schedule.factors.contains(id) {
                SCALE_OF_FACTORS
            } else if schedule.biases.contains(id) {
                LEAST_SCALE
            } else {
                scale_of_zeros(tensor.shape())
            },
        })
    }

    fn step(&mut self, gradient: &[f32], rate: f64, step: usize) {
        const BETA1: f64 = 0.9;
        const BETA2: f64 = 0.999;
        let t = i32::try_from(step).unwrap_or(i32::MAX);
        let (c1, c2) = (1.0 - BETA1.powi(t), 1.0 - BETA2.powi(t));
        for i in 0..self.data.len() {
            if self.held.as_ref().is_some_and(|h| h[i]) {
                continue;
            }
            let g = f64::from(gradient[i]);
            self.mean[i] = BETA1 * self.mean[i] + (1.0 - BETA1) * g;
            self.square[i] = BETA2 * self.square[i] + (1.0 - BETA2) * g * g;
            let direction = self.mean[i] / c1 / ((self.square[i] / c2).sqrt() + 1e-12);
            self.data[i] -= (rate * self.scale * direction) as f32;
        }
    }
}

fn descend(
    stream: &mut Stream,
    target: &Target<'_>,
    chunk: usize,
    state: &mut [Parameter],
    pace: Pace,
) -> Result<(), RebuildError> {
    let wrt: Vec<ValueId> = state.iter().map(|p| p.id).collect();
    let (feeds, targets) = match target.vary {
        Some(vary) => vary(pace.step as u64)?,
        None => (
            stream.feeds(chunk),
            target
                .terms
                .iter()
                .map(|t| t.chunks[chunk].clone())
                .collect(),
        ),
    };
    let term = |(i, (t, wanted)): (usize, (&Term, HostTensor))| {
        let share = if i == 0 { 1.0 } else { pace.others };
        LossTerm {
            weight: (share * t.weight / t.energy) as f32,
            ..LossTerm::mean_squared_error(t.value, wanted)
        }
    };
    let pairs = target.terms.iter().zip(targets).enumerate();
    let loss: Vec<LossTerm> = pairs.map(term).filter(|t| t.weight > 0.0).collect();
    let gradients: BTreeMap<ValueId, HostTensor> = stream.gradients(&feeds, &loss, &wrt)?;
    for parameter in state.iter_mut() {
        let Some(gradient) = gradients.get(&parameter.id).and_then(HostTensor::as_f32) else {
            continue;
        };
        if gradient.len() != parameter.data.len() || gradient.iter().any(|g| !g.is_finite()) {
            continue;
        }
        parameter.step(gradient, pace.rate, pace.step);
    }
    for parameter in state.iter() {
        stream.set_data(parameter.id, &parameter.data)?;
    }
    Ok(())
}

/// Weighted mean squared error of the first `n_terms` relative to their targets' energy, over the
/// held-out chunks.
fn held_out_error(
    stream: &Stream,
    target: &Target<'_>,
    n_terms: usize,
) -> Result<f64, RebuildError> {
    let terms = &target.terms[..n_terms.min(target.terms.len())];
    let values: Vec<ValueId> = terms.iter().map(|t| t.value).collect();
    let n_chunks = terms.iter().map(|t| t.chunks.len()).min().unwrap_or(0);
    let mut sums = vec![(0.0, 0usize); values.len()];
    for chunk in target.n_fit..n_chunks {
        let found = stream.chunk(chunk, &values)?;
        for ((sum, term), value) in sums.iter_mut().zip(terms).zip(&found) {
            let (Some(y), Some(t)) = (value.as_f32(), term.chunks[chunk].as_f32()) else {
                continue;
            };
            sum.0 += y
                .iter()
                .zip(t)
                .map(|(a, b)| f64::from(a - b) * f64::from(a - b))
                .sum::<f64>();
            sum.1 += t.len();
        }
    }
    let weights: f64 = terms.iter().map(|t| t.weight).sum();
    let relative = sums
        .iter()
        .zip(terms)
        .map(|((e, n), t)| t.weight * e / (*n).max(1) as f64 / t.energy);
    Ok(relative.sum::<f64>() / weights.max(f64::MIN_POSITIVE))
}
