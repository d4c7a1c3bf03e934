//! How good a model is on the evaluation samples, run by our executor.

mod attack;

use std::collections::BTreeMap;

use regraft_data::{Numbers, agreement, precision_recall_curve, softmax};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::UnaryOp;
use regraft_graph::{Graph, Op};

use crate::report::{ClassMetrics, Metrics, PrPoint};
use crate::samples::{Fed, Truth, check_width};
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
    /// Above it an output that answers yes or no says yes: half of a probability, zero before a sigmoid.
    pub(crate) decides_at: f32,
}

impl Outputs {
    fn none(decides_at: f32) -> Self {
        Self {
            n: 0,
            width: 0,
            data: Vec::new(),
            decides_at,
        }
    }

    /// Returns the outputs that belong to the chunks of `samples`.
    pub(crate) fn of(samples: &Fed, found: &[HostTensor], decides_at: f32) -> Result<Self, Error> {
        let mut result = Self::none(decides_at);
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

/// Returns where a model's answers become yes: at half of what a sigmoid says, else at zero.
pub(crate) fn decides_at(graph: &Graph) -> f32 {
    let output = graph.outputs().first().copied();
    let producer = output.and_then(|v| graph.producer(v));
    let op = producer.map(|id| &graph.node(id).op);
    match op {
        Some(Op::Unary(UnaryOp::Sigmoid)) => 0.5,
        _ => 0.0,
    }
}

/// Returns the model's first output for all samples.
pub(crate) fn outputs(graph: &Graph, samples: &Fed, exec: ExecOptions) -> Result<Outputs, Error> {
    let executor = Executor::new(graph, exec)?;
    let Some(&output) = graph.outputs().first() else {
        return Err(Error::new(ErrorKind::Model, "the model has no output"));
    };
    let mut result = Outputs::none(decides_at(graph));
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
        Truth::Classes(labels) if labels.len() == outputs.n => {
            let numbers = Numbers {
                width: 1,
                values: labels.iter().map(|c| *c as f32).collect(),
            };
            compare(&numbers, outputs, &mut result)?;
            return Ok(result);
        }
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

/// Adds how far outputs are from numbers to find; where all are 0 or 1 the share of right decisions, and
/// how far probabilities are.
fn compare(numbers: &Numbers, outputs: &Outputs, result: &mut Metrics) -> Result<(), Error> {
    check_width(numbers, outputs.width)?;
    let at = outputs.decides_at;
    if numbers.values.iter().all(|x| [0.0, 1.0].contains(x)) {
        let answers = outputs.data.iter().zip(&numbers.values);
        let right = answers.filter(|(x, c)| (**x > at) == (**c > 0.5)).count();
        result.accuracy = Some(right as f64 / numbers.values.len() as f64);
        if at == 0.0 {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(data: &[f32], labels: &[u32], decides_at: f32) -> Metrics {
        let outputs = Outputs {
            n: data.len(),
            width: 1,
            data: data.to_vec(),
            decides_at,
        };
        metrics(&outputs, None, &Truth::Classes(labels.to_vec()), &[]).unwrap()
    }

    #[test]
    fn one_output_decides_or_counts() {
        let probabilities = judged(&[0.2, 0.9, 0.4, 0.6], &[0, 1, 1, 1], 0.5);
        assert_eq!(probabilities.accuracy, Some(0.75));
        assert!(probabilities.mean_absolute_error.is_some());
        // Logits that happen to lie between 0 and 1 are logits.
        let logits = judged(&[-2.0, 0.2, 0.3, -0.1], &[0, 1, 1, 0], 0.0);
        assert_eq!((logits.accuracy, logits.r2), (Some(1.0), None));
        let ages = judged(&[30.0, 8.0, 50.0], &[34, 7, 50], 0.0);
        assert_eq!(ages.accuracy, None);
        assert!(ages.r2.unwrap() > 0.97 && ages.mean_absolute_error.is_some());
    }
}
