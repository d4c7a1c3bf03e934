//! How good outputs are, and how far two models agree.
//!
//! Outputs are `n × n_classes` scores, row-major: logits or probabilities. What
//! ranks classes within a sample (accuracy, confusion) is the same for both. The
//! precision-recall curve ranks samples by one class's score, so it differs:
//! pass [`softmax`] of logits for the usual figure.

mod curve;
#[cfg(test)]
mod tests;

pub use curve::{PrCurve, average_precision, precision_recall_curve};

use crate::error::DataError;

/// One value per class and their mean.
#[derive(Debug, Clone, PartialEq)]
pub struct PerClass {
    /// Per class; 0 where the ratio has no denominator (scikit-learn's
    /// `zero_division=0`), NaN never.
    pub per_class: Vec<f64>,
    /// Unweighted mean over all classes.
    pub macro_mean: f64,
}

/// All figures of one model on labelled samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Samples.
    pub n: usize,
    /// Classes, the width of the outputs.
    pub n_classes: usize,
    /// Share of samples whose largest score is the label's.
    pub accuracy: f64,
    /// Share whose label is among the five largest scores; `None` below six classes.
    pub top5: Option<f64>,
    /// Of the samples called a class, the share that are.
    pub precision: PerClass,
    /// Of the samples of a class, the share called so.
    pub recall: PerClass,
    /// Harmonic mean of precision and recall.
    pub f1: PerClass,
    /// Area under each class's precision-recall curve, one against the rest;
    /// a class without samples has 0 and is left out of the mean.
    pub average_precision: PerClass,
    /// `n_classes × n_classes` counts: row = label, column = predicted.
    pub confusion: Vec<u64>,
    /// Mean squared difference between scores and one-hot labels.
    pub mse_one_hot: f64,
}

/// How far the outputs of two models are from each other; needs no labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Share of samples with the same largest score.
    pub top1: f64,
    /// Mean squared difference of the outputs.
    pub mse: f64,
    /// `mse` over the mean square of the reference, 0 when both are 0.
    pub relative_mse: f64,
    /// Largest absolute difference.
    pub max_abs: f64,
}

impl Metrics {
    /// Returns all figures of `scores` against `labels`.
    ///
    /// # Shapes
    /// `scores` is `labels.len() × n_classes`, row-major.
    /// # Errors
    /// [`DataError::Metrics`] for no samples, a wrong length, or a score that is
    /// not finite; [`DataError::LabelRange`] for a label past the classes.
    pub fn new(scores: &[f32], n_classes: usize, labels: &[u32]) -> Result<Self, DataError> {
        check_scores(scores, n_classes)?;
        check_labels(scores, n_classes, labels)?;
        let predicted = argmax_rows(scores, n_classes)?;
        let confusion = confusion_matrix(&predicted, labels, n_classes)?;
        let (precision, recall, f1) = precision_recall_f1(&confusion, n_classes)?;
        Ok(Self {
            n: labels.len(),
            n_classes,
            accuracy: top_k_accuracy(scores, n_classes, labels, 1)?,
            top5: if n_classes > 5 {
                Some(top_k_accuracy(scores, n_classes, labels, 5)?)
            } else {
                None
            },
            precision,
            recall,
            f1,
            average_precision: class_average_precision(scores, n_classes, labels),
            confusion,
            mse_one_hot: mse_one_hot(scores, n_classes, labels),
        })
    }
}

/// Returns the index of the largest score of each row, the first of equal ones.
///
/// # Errors
/// [`DataError::Metrics`] for a length that is no multiple of `n_classes`, no
/// rows, or a score that is not finite.
pub fn argmax_rows(scores: &[f32], n_classes: usize) -> Result<Vec<u32>, DataError> {
    check_scores(scores, n_classes)?;
    let largest = |row: &[f32]| {
        let mut best = 0;
        for (i, &score) in row.iter().enumerate() {
            if score > row[best] {
                best = i;
            }
        }
        best as u32
    };
    Ok(scores.chunks_exact(n_classes).map(largest).collect())
}

/// Returns the share of samples whose label is among the `k` largest scores.
///
/// Of equal scores the lower class comes first.
/// # Errors
/// As [`Metrics::new`].
pub fn top_k_accuracy(
    scores: &[f32],
    n_classes: usize,
    labels: &[u32],
    k: usize,
) -> Result<f64, DataError> {
    check_scores(scores, n_classes)?;
    check_labels(scores, n_classes, labels)?;
    let hit = |(row, &label): (&[f32], &u32)| {
        let own = row[label as usize];
        let ahead = row
            .iter()
            .enumerate()
            .filter(|&(class, &score)| score > own || (score >= own && class < label as usize));
        ahead.count() < k
    };
    let rows = scores.chunks_exact(n_classes).zip(labels);
    let hits = rows.filter(|&(row, label)| hit((row, label))).count();
    Ok(hits as f64 / labels.len() as f64)
}

/// Returns `n_classes × n_classes` counts: row = label, column = predicted.
///
/// # Errors
/// [`DataError::Metrics`] for different lengths, [`DataError::LabelRange`] for a
/// class past `n_classes`.
pub fn confusion_matrix(
    predicted: &[u32],
    labels: &[u32],
    n_classes: usize,
) -> Result<Vec<u64>, DataError> {
    if predicted.len() != labels.len() {
        return Err(metrics_error(format!(
            "{} predictions for {} labels",
            predicted.len(),
            labels.len()
        )));
    }
    check_range(predicted, n_classes)?;
    check_range(labels, n_classes)?;
    let cells = n_classes
        .checked_mul(n_classes)
        .filter(|&cells| cells <= 1 << 30)
        .ok_or_else(|| metrics_error(format!("{n_classes} classes are too many")))?;
    let mut counts = vec![0_u64; cells];
    for (&p, &l) in predicted.iter().zip(labels) {
        counts[l as usize * n_classes + p as usize] += 1;
    }
    Ok(counts)
}

/// Returns precision, recall and F1 of a confusion matrix.
///
/// # Errors
/// [`DataError::Metrics`] when it is not `n_classes × n_classes`.
pub fn precision_recall_f1(
    confusion: &[u64],
    n_classes: usize,
) -> Result<(PerClass, PerClass, PerClass), DataError> {
    if n_classes == 0 || Some(confusion.len()) != n_classes.checked_mul(n_classes) {
        return Err(metrics_error(format!(
            "a confusion matrix of {} cells for {n_classes} classes",
            confusion.len()
        )));
    }
    let at = |label: usize, predicted: usize| confusion[label * n_classes + predicted];
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    for c in 0..n_classes {
        let hits = at(c, c);
        let called: u64 = (0..n_classes).map(|label| at(label, c)).sum();
        let there: u64 = (0..n_classes).map(|predicted| at(c, predicted)).sum();
        lists[0].push(ratio(hits, called));
        lists[1].push(ratio(hits, there));
        lists[2].push(ratio(2 * hits, called + there));
    }
    let [precision, recall, f1] = lists.map(|per_class| PerClass {
        macro_mean: per_class.iter().sum::<f64>() / n_classes as f64,
        per_class,
    });
    Ok((precision, recall, f1))
}

/// Returns the mean squared difference of two equally long outputs, in f64.
///
/// # Errors
/// [`DataError::Metrics`] for different lengths, none, or values not finite.
pub fn mean_squared_error(outputs: &[f32], targets: &[f32]) -> Result<f64, DataError> {
    check_pair(outputs, targets)?;
    let squares = outputs.iter().zip(targets).map(|(&a, &b)| {
        let d = f64::from(a) - f64::from(b);
        d * d
    });
    Ok(squares.sum::<f64>() / outputs.len() as f64)
}

/// Returns how far `outputs` agree with those of a `reference` model.
///
/// # Shapes
/// Both `n × n_classes`, row-major; for outputs that are not classes use
/// `n_classes = 1`, where `top1` says nothing.
/// # Errors
/// [`DataError::Metrics`] for different lengths, none, or values not finite.
pub fn agreement(
    outputs: &[f32],
    reference: &[f32],
    n_classes: usize,
) -> Result<Agreement, DataError> {
    let mse = mean_squared_error(outputs, reference)?;
    let (a, b) = (
        argmax_rows(outputs, n_classes)?,
        argmax_rows(reference, n_classes)?,
    );
    let same = a.iter().zip(&b).filter(|(x, y)| x == y).count();
    let power = reference
        .iter()
        .map(|&r| f64::from(r) * f64::from(r))
        .sum::<f64>();
    let power = power / reference.len() as f64;
    let max_abs = outputs
        .iter()
        .zip(reference)
        .fold(0.0_f64, |max, (&x, &y)| {
            max.max((f64::from(x) - f64::from(y)).abs())
        });
    let relative_mse = if mse == 0.0 { 0.0 } else { mse / power };
    Ok(Agreement {
        top1: same as f64 / a.len() as f64,
        mse,
        relative_mse,
        max_abs,
    })
}

/// Returns the softmax of each row, computed in f64.
///
/// # Errors
/// [`DataError::Metrics`] as [`argmax_rows`].
pub fn softmax(logits: &[f32], n_classes: usize) -> Result<Vec<f32>, DataError> {
    check_scores(logits, n_classes)?;
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(n_classes) {
        let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let powers: Vec<f64> = row.iter().map(|&x| f64::from(x - max).exp()).collect();
        let sum: f64 = powers.iter().sum();
        out.extend(powers.iter().map(|p| (p / sum) as f32));
    }
    Ok(out)
}

fn class_average_precision(scores: &[f32], n_classes: usize, labels: &[u32]) -> PerClass {
    let mut per_class = Vec::with_capacity(n_classes);
    let mut present = Vec::new();
    for class in 0..n_classes {
        let column: Vec<f32> = scores
            .iter()
            .skip(class)
            .step_by(n_classes)
            .copied()
            .collect();
        let positive: Vec<bool> = labels.iter().map(|&l| l as usize == class).collect();
        let area = average_precision(&column, &positive);
        present.extend(area);
        per_class.push(area.unwrap_or(0.0));
    }
    PerClass {
        macro_mean: present.iter().sum::<f64>() / present.len().max(1) as f64,
        per_class,
    }
}

fn mse_one_hot(scores: &[f32], n_classes: usize, labels: &[u32]) -> f64 {
    let mut sum = 0.0;
    for (row, &label) in scores.chunks_exact(n_classes).zip(labels) {
        for (class, &score) in row.iter().enumerate() {
            let target = if class == label as usize { 1.0 } else { 0.0 };
            let d = f64::from(score) - target;
            sum += d * d;
        }
    }
    sum / scores.len() as f64
}

fn metrics_error(reason: String) -> DataError {
    DataError::Metrics { reason }
}

fn check_scores(scores: &[f32], n_classes: usize) -> Result<(), DataError> {
    if scores.is_empty() || n_classes == 0 || !scores.len().is_multiple_of(n_classes) {
        return Err(metrics_error(format!(
            "{} scores do not make rows of {n_classes} classes",
            scores.len()
        )));
    }
    match scores.iter().position(|s| !s.is_finite()) {
        None => Ok(()),
        Some(i) => Err(metrics_error(format!(
            "the score of sample {}, class {} is {}",
            i / n_classes,
            i % n_classes,
            scores[i]
        ))),
    }
}

fn check_labels(scores: &[f32], n_classes: usize, labels: &[u32]) -> Result<(), DataError> {
    let rows = scores.len() / n_classes;
    if rows != labels.len() {
        return Err(metrics_error(format!(
            "{rows} rows of scores for {} labels",
            labels.len()
        )));
    }
    check_range(labels, n_classes)
}

fn check_range(classes: &[u32], n_classes: usize) -> Result<(), DataError> {
    match classes.iter().position(|&c| c as usize >= n_classes) {
        None => Ok(()),
        Some(sample) => Err(DataError::LabelRange {
            file: "labels".to_owned(),
            label: i64::from(classes[sample]),
            sample: sample as u64,
            n_classes: n_classes as u64,
        }),
    }
}

fn check_pair(a: &[f32], b: &[f32]) -> Result<(), DataError> {
    if a.is_empty() || a.len() != b.len() {
        return Err(metrics_error(format!(
            "{} values against {}",
            a.len(),
            b.len()
        )));
    }
    match a.iter().chain(b).find(|v| !v.is_finite()) {
        None => Ok(()),
        Some(v) => Err(metrics_error(format!("an output is {v}"))),
    }
}
