//! Precision against recall over all thresholds of one score.

/// Precision and recall at every distinct score, from the largest down.
///
/// At `threshold[i]` all samples with at least that score are called positive.
/// # Reference
/// The same points as scikit-learn's `precision_recall_curve`, in the opposite
/// order and without its added last point (precision 1, recall 0).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PrCurve {
    /// Share of positives among the samples called positive.
    pub precision: Vec<f64>,
    /// Share of the positives that are called positive, ascending.
    pub recall: Vec<f64>,
    /// The score, descending.
    pub threshold: Vec<f32>,
}

/// Returns the curve of `scores`; `None` without a positive sample, for
/// different lengths, or with a score that is NaN.
pub fn precision_recall_curve(scores: &[f32], positive: &[bool]) -> Option<PrCurve> {
    let n_positive = positive.iter().filter(|&&p| p).count();
    let unusable = scores.len() != positive.len() || scores.iter().any(|s| s.is_nan());
    if unusable || n_positive == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut curve = PrCurve::default();
    let mut hits = 0_usize;
    for (rank, &i) in order.iter().enumerate() {
        hits += usize::from(positive[i]);
        // Samples of one score cross the threshold together; -0 equals 0.
        let next_differs = order.get(rank + 1).is_none_or(|&j| scores[j] < scores[i]);
        if next_differs {
            curve.precision.push(hits as f64 / (rank + 1) as f64);
            curve.recall.push(hits as f64 / n_positive as f64);
            curve.threshold.push(scores[i]);
        }
    }
    Some(curve)
}

/// Returns the area under the curve as the sum of recall steps times precision.
///
/// `None` as [`precision_recall_curve`].
/// # Reference
/// scikit-learn's `average_precision_score`: no interpolation, which would be
/// optimistic.
pub fn average_precision(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let curve = precision_recall_curve(scores, positive)?;
    let mut last = 0.0;
    let mut area = 0.0;
    for (&precision, &recall) in curve.precision.iter().zip(&curve.recall) {
        area += (recall - last) * precision;
        last = recall;
    }
    Some(area)
}
