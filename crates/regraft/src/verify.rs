//! The check of every run: the physically pruned model equals the masked dense one.

mod demands;
mod feeds;
mod given;
mod runtimes;
#[cfg(test)]
mod tests;

use regraft_exec::{ExecOptions, HostData, HostTensor};
use regraft_graph::{Graph, ValueId};

pub(crate) use feeds::{Attempts, Feeds, random_batch};
pub(crate) use given::read_feeds;
pub(crate) use runtimes::{Probe, Runtimes, in_any_runtime};

use crate::model::ModelInput;
use crate::report::VerifyFigures;
use crate::samples::Fed;
use crate::{Error, ErrorKind};

/// Largest relative difference that rounding explains: two ways of adding the same f32 products.
pub(crate) const LIMIT: f64 = 1e-4;

/// Samples of each kind that are compared.
const SAMPLES: usize = 32;

/// The two networks that must agree, with the same numbers for the same values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Networks<'a> {
    /// The dense network with what goes set to zero.
    pub(crate) masked: &'a Graph,
    /// The network without it.
    pub(crate) pruned: &'a Graph,
}

/// Compares the two models on random and on calibration samples.
pub(crate) fn verify(
    masked: &Graph,
    pruned: &Graph,
    input: &ModelInput,
    calibration: &Fed,
    seed: u64,
    exec: ExecOptions,
) -> Result<VerifyFigures, Error> {
    let real = if input.named {
        calibration.chunk(0)
    } else {
        first_samples(calibration, input.batch.unwrap_or(SAMPLES))
    };
    let random = random_like(&real, seed);
    let count = feeds::n_samples(&real);
    let sets: Vec<Feeds> = vec![random, real];
    let worst = runtimes::in_executor(Networks { masked, pruned }, &sets, exec)?;
    Ok(VerifyFigures {
        max_relative_difference: Some(worst),
        limit: LIMIT,
        random_samples: count,
        calibration_samples: count,
        ..VerifyFigures::default()
    })
}

/// Refuses to go on unless the check held.
pub(crate) fn require(checked: &VerifyFigures) -> Result<(), Error> {
    if checked.passed() {
        return Ok(());
    }
    let found = checked.max_relative_difference.unwrap_or(f64::INFINITY);
    Err(Error::new(
        ErrorKind::Verify,
        format!(
            "the pruned model differs from the masked one by {found:.2e} (relative), at most {:.0e} is allowed",
            checked.limit
        ),
    )
    .with_hint("nothing was written; this is a fault of regraft: please report it with the model"))
}

/// Returns the largest difference of an output of the first run from the same of the second,
/// relative to the largest number of that output over all sets; infinite where shapes, whole
/// numbers or truth values differ.
fn difference(a: &[Vec<HostTensor>], b: &[Vec<HostTensor>]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let n_outputs = a.first().map_or(0, Vec::len);
    let mut worst = 0.0f64;
    for output in 0..n_outputs {
        let mut scale = f64::MIN_POSITIVE;
        let mut largest = 0.0f64;
        for (x, y) in a.iter().zip(b) {
            let (Some(x), Some(y)) = (x.get(output), y.get(output)) else {
                return f64::INFINITY;
            };
            scale = scale.max(largest_number(x));
            largest = largest.max(absolute(x, y));
        }
        worst = worst.max(largest / scale);
    }
    worst
}

fn largest_number(x: &HostTensor) -> f64 {
    let numbers = x.as_f32().unwrap_or(&[]).iter();
    let finite = numbers
        .map(|v| f64::from(v.abs()))
        .filter(|v| v.is_finite());
    finite.fold(0.0, f64::max)
}

fn absolute(a: &HostTensor, b: &HostTensor) -> f64 {
    let (HostData::F32(x), HostData::F32(y)) = (&a.data, &b.data) else {
        return if a == b { 0.0 } else { f64::INFINITY };
    };
    if a.shape != b.shape {
        return f64::INFINITY;
    }
    let mut worst = 0.0f64;
    for (x, y) in x.iter().zip(y) {
        // Two infinities of one sign, or two values that are not numbers, are no difference.
        if x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()) {
            continue;
        }
        let d = f64::from((x - y).abs());
        worst = if d.is_nan() {
            f64::INFINITY
        } else {
            worst.max(d)
        };
    }
    worst
}

fn first_samples(all: &Fed, n: usize) -> Feeds {
    let mut feeds = all.chunk(0);
    for (_, first) in &mut feeds {
        let held = first.shape.first().copied().unwrap_or(0);
        let len = first.len() / held.max(1);
        let take = held.min(n);
        if let Some(data) = first.as_f32() {
            let mut shape = first.shape.clone();
            shape[0] = take;
            *first = HostTensor::f32(shape, data[..take * len].to_vec());
        }
    }
    feeds
}

/// Normal numbers with the mean and spread of the samples, from a seed; whole numbers and truth
/// values as they are, since they index and choose.
fn random_like(samples: &Feeds, seed: u64) -> Feeds {
    let mut random = feeds::Random::new(seed ^ 0x7665_7269_6679);
    let mut like = samples.clone();
    for (_, tensor) in &mut like {
        let Some(data) = tensor.as_f32() else {
            continue;
        };
        let n = data.len().max(1) as f64;
        let mean = data.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let spread = (data
            .iter()
            .map(|x| (f64::from(*x) - mean).powi(2))
            .sum::<f64>()
            / n)
            .sqrt()
            .max(1e-3);
        let values: Vec<f32> = data
            .iter()
            .map(|_| (mean + spread * random.normal()) as f32)
            .collect();
        *tensor = HostTensor::f32(tensor.shape.clone(), values);
    }
    like
}

/// Returns the name of a value, for messages.
fn name(graph: &Graph, value: ValueId) -> &str {
    graph.value(value).name.as_str()
}
