//! The check of every run: the physically pruned model equals the masked dense one.

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::{Graph, ValueId};
use regraft_rebuild::Activations;

use crate::evaluate::{Outputs, outputs};
use crate::model::ModelInput;
use crate::report::VerifyFigures;
use crate::{Error, ErrorKind};

/// Largest relative difference that rounding explains: two ways of adding the same f32 products.
pub(crate) const LIMIT: f64 = 1e-4;

/// Samples of each kind that are compared.
const SAMPLES: usize = 32;

/// Compares the two models on random and on calibration samples.
pub(crate) fn verify(
    masked: &Graph,
    pruned: &Graph,
    input: &ModelInput,
    calibration: &Activations,
    seed: u64,
    exec: ExecOptions,
) -> Result<VerifyFigures, Error> {
    let real = first_samples(calibration, input.batch.unwrap_or(SAMPLES));
    let random = random_like(&real, seed);
    let mut worst: f64 = 0.0;
    for samples in [&random, &real] {
        worst = worst.max(difference(masked, pruned, input.value, samples, exec)?);
    }
    let count = |a: &Activations| a.chunks.iter().filter_map(|c| c.shape.first()).sum();
    Ok(VerifyFigures {
        max_relative_difference: Some(worst),
        limit: LIMIT,
        random_samples: count(&random),
        calibration_samples: count(&real),
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

/// Returns samples of zeros and ones in turn, for a check without data: only their shape counts.
pub(crate) fn made_samples(input: &ModelInput) -> Activations {
    let sample: Vec<usize> = input.sample.iter().map(|d| d.unwrap_or(1)).collect();
    let n = input.batch.unwrap_or(SAMPLES);
    let values: Vec<f32> = (0..n * sample.iter().product::<usize>())
        .map(|i| (i % 2) as f32)
        .collect();
    Activations::from_samples(&values, &sample, n)
}

fn difference(
    masked: &Graph,
    pruned: &Graph,
    input: ValueId,
    samples: &Activations,
    exec: ExecOptions,
) -> Result<f64, Error> {
    let a: Outputs = outputs(masked, input, samples, exec)?;
    let b: Outputs = outputs(pruned, input, samples, exec)?;
    if a.data.len() != b.data.len() {
        return Ok(f64::INFINITY);
    }
    let scale = a
        .data
        .iter()
        .fold(0.0f64, |m, x| m.max(f64::from(x.abs())))
        .max(f64::MIN_POSITIVE);
    let mut worst = 0.0f64;
    for (x, y) in a.data.iter().zip(&b.data) {
        let d = f64::from((x - y).abs());
        // A value that is not finite on one side only is a difference, whatever its size.
        worst = if d.is_nan() && x.is_nan() != y.is_nan() {
            f64::INFINITY
        } else {
            worst.max(d)
        };
    }
    Ok(worst / scale)
}

fn first_samples(all: &Activations, n: usize) -> Activations {
    let Some(first) = all.chunks.first() else {
        return Activations::default();
    };
    let take = first.shape.first().copied().unwrap_or(0).min(n);
    let len = first.len() / first.shape.first().copied().unwrap_or(1).max(1);
    let data = first
        .as_f32()
        .map(|d| d[..take * len].to_vec())
        .unwrap_or_default();
    Activations::from_samples(&data, &first.shape[1..], take.max(1))
}

/// Normal numbers with the mean and spread of the samples, from a seed.
fn random_like(samples: &Activations, seed: u64) -> Activations {
    let mut random = regraft_data::SplitMix64::new(seed ^ 0x7665_7269_6679);
    let mut uniform = move || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut chunks = Vec::new();
    for chunk in &samples.chunks {
        let data = chunk.as_f32().unwrap_or(&[]);
        let n = data.len().max(1) as f64;
        let mean = data.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let spread = (data
            .iter()
            .map(|x| (f64::from(*x) - mean).powi(2))
            .sum::<f64>()
            / n)
            .sqrt()
            .max(1e-3);
        let mut normal = || {
            let (a, b): (f64, f64) = (uniform(), uniform());
            (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        };
        let values: Vec<f32> = data
            .iter()
            .map(|_| (mean + spread * normal()) as f32)
            .collect();
        chunks.push(HostTensor::f32(chunk.shape.clone(), values));
    }
    Activations { chunks }
}
