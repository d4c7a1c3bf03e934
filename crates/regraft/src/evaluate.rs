//! How good a model is on the evaluation samples, run by our executor.

mod attack;

use std::collections::BTreeMap;

use regraft_data::{Numbers, agreement, precision_recall_curve, softmax};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::Graph;

use crate::report::{ClassMetrics, Metrics, PrPoint};
use crate::samples::{Fed, Truth};
use crate::{Error, ErrorKind};

pub(crate) use attack::checked_clip;
pub use attack::{
    AttackFigures, AttackName, AttackOptions, AttackedFigures, NormName, eval_under_attack,
};

/// Points of a precision-recall curve in the report.
const PR_POINTS: usize = 101;

/// Outputs of a model over samples: `n × width`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outputs {
    pub(crate) n: usize,
    pub(crate) width: usize,
    pub(crate) data: Vec<f32>,
}

impl Outputs {
    /// Returns the outputs that belong to the chunks of `samples`.
    pub(crate) fn of(samples: &Fed, found: &[HostTensor]) -> Result<Self, Error> {
        let mut result = Self {
            n: 0,
            width: 0,
            data: Vec::new(),
        };
        for (chunk, tensor) in samples.main().chunks.iter().zip(found) {
            result.append(chunk, tensor)?;
        }
        Ok(result)
    }

    /// Adds the output for one chunk of samples.
    fn append(&mut self, chunk: &HostTensor, output: &HostTensor) -> Result<(), Error> {
        let n = chunk.shape.first().copied().unwrap_or(0);
        let Some(data) = output.as_f32() else {
            return Err(Error::new(
                ErrorKind::Model,
                "the model's first output does not hold floats",
            ));
        };
        self.n += n;
        self.width = data.len() / n.max(1);
        self.data.extend_from_slice(data);
        Ok(())
    }
}

/// Returns the model's first output for all samples.
pub(crate) fn outputs(graph: &Graph, samples: &Fed, exec: ExecOptions) -> Result<Outputs, Error> {
    let executor = Executor::new(graph, exec)?;
    let Some(&output) = graph.outputs().first() else {
        return Err(Error::new(ErrorKind::Model, "the model has no output"));
    };
    let mut result = Outputs {
        n: 0,
        width: 0,
        data: Vec::new(),
    };
    for (i, chunk) in samples.main().chunks.iter().enumerate() {
        let mut found: BTreeMap<_, _> = executor.run_captured(&samples.chunk(i), &[output])?;
        if let Some(tensor) = found.remove(&output) {
            result.append(chunk, &tensor)?;
        }
    }
    Ok(result)
}

/// Returns the quality of outputs: against what is known of the samples, against the dense model's.
pub(crate) fn metrics(
    outputs: &Outputs,
    dense: Option<&Outputs>,
    truth: &Truth,
    class_names: &[String],
) -> Result<Metrics, Error> {
    let mut result = Metrics {
        samples: outputs.n,
        ..Metrics::default()
    };
    if outputs.n == 0 || outputs.width == 0 {
        return Ok(result);
    }
    if let Some(dense) = dense {
        let found = agreement(&outputs.data, &dense.data, outputs.width)?;
        result.mse_to_dense = Some(found.mse);
        result.agreement_with_dense = (outputs.width > 1).then_some(found.top1);
    }
    let classes = outputs.width;
    let labels = match truth {
        Truth::Classes(labels) if labels.len() == outputs.n && classes > 1 => labels,
        Truth::Numbers(numbers) if numbers.len() == outputs.n => {
            compare(numbers, outputs, &mut result)?;
            return Ok(result);
        }
        Truth::Unknown | Truth::Classes(_) | Truth::Numbers(_) => return Ok(result),
    };
    if let Some(at) = labels.iter().position(|c| *c as usize >= classes) {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "sample {at} has label {}, and the model has {classes} classes",
                labels[at]
            ),
        )
        .with_hint(
            "classes count from 0; leave the labels out to compare with the dense model only",
        ));
    }
    let scores = probabilities(outputs)?;
    let m = regraft_data::Metrics::new(&scores, classes, labels)?;
    result.accuracy = Some(m.accuracy);
    result.top5 = m.top5;
    result.macro_f1 = Some(m.f1.macro_mean);
    result.macro_precision = Some(m.precision.macro_mean);
    result.macro_recall = Some(m.recall.macro_mean);
    result.average_precision = Some(m.average_precision.macro_mean);
    result.confusion = Some(m.confusion.chunks(classes).map(<[u64]>::to_vec).collect());
    for c in 0..classes {
        result.per_class.push(ClassMetrics {
            class: class_names.get(c).cloned().unwrap_or_else(|| c.to_string()),
            support: m.confusion[c * classes..(c + 1) * classes].iter().sum(),
            precision: m.precision.per_class.get(c).copied(),
            recall: m.recall.per_class.get(c).copied(),
            f1: m.f1.per_class.get(c).copied(),
            average_precision: m.average_precision.per_class.get(c).copied(),
        });
    }
    result.pr_curve = pooled_curve(&scores, classes, labels);
    Ok(result)
}

/// Adds how far outputs are from numbers to find.
fn compare(numbers: &Numbers, outputs: &Outputs, result: &mut Metrics) -> Result<(), Error> {
    if numbers.width != outputs.width {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "there are {} numbers to find for a sample, and the model's first output has {}",
                numbers.width, outputs.width
            ),
        )
        .with_hint("leave them out to compare with the dense model only"));
    }
    let found = numbers.figures(&outputs.data)?;
    result.r2 = found.r2;
    result.mean_absolute_error = Some(found.mean_absolute_error);
    result.mean_squared_error = Some(found.mean_squared_error);
    Ok(())
}

/// Outputs that already are probabilities stay; logits go through softmax.
fn probabilities(outputs: &Outputs) -> Result<Vec<f32>, Error> {
    let is_distribution = |row: &[f32]| {
        let sum: f32 = row.iter().sum();
        row.iter().all(|p| (0.0..=1.0).contains(p)) && (sum - 1.0).abs() < 1e-3
    };
    if outputs.data.chunks(outputs.width).all(is_distribution) {
        return Ok(outputs.data.clone());
    }
    Ok(softmax(&outputs.data, outputs.width)?)
}

/// All classes pooled, one against the rest, thinned to a fixed number of points.
fn pooled_curve(scores: &[f32], classes: usize, labels: &[u32]) -> Vec<PrPoint> {
    let positive: Vec<bool> = labels
        .iter()
        .flat_map(|l| (0..classes).map(move |c| c == *l as usize))
        .collect();
    let Some(curve) = precision_recall_curve(scores, &positive) else {
        return Vec::new();
    };
    let points: Vec<(f64, f64)> = curve
        .recall
        .iter()
        .copied()
        .zip(curve.precision.iter().copied())
        .collect();
    let mut thinned = Vec::new();
    for i in 0..PR_POINTS {
        let wanted = i as f64 / (PR_POINTS - 1) as f64;
        let at_least = points.iter().filter(|(r, _)| *r >= wanted).map(|(_, p)| *p);
        if let Some(precision) = at_least.fold(None, |best: Option<f64>, p| {
            Some(best.map_or(p, |b| b.max(p)))
        }) {
            thinned.push(PrPoint {
                recall: wanted,
                precision,
            });
        }
    }
    thinned
}
