//! Distributions of a layer's weights for the report.

use regraft_graph::Tensor;
use regraft_solve::stats::{self, box_plot, histogram, local_extrema};

use crate::report::{BoxPlot, Change, Extremum, ExtremumKind, Histogram, WeightFigures};

/// Bins of a histogram: enough for two peaks, few enough for a small picture.
const BINS: usize = 32;

/// Least rise of a peak over its valley, as a share of the highest bin, to be marked.
const PROMINENCE: f64 = 0.05;

/// Returns the distributions before and after, on one common axis.
pub(crate) fn distributions(before: &Tensor, after: &Tensor) -> Option<Change<WeightFigures>> {
    let (a, b) = (before.as_f32()?, after.as_f32()?);
    let all = a.iter().chain(b).filter(|w| w.is_finite());
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), w| {
        (l.min(f64::from(*w)), h.max(f64::from(*w)))
    });
    let range = (low < high).then_some((low, high));
    Some(Change {
        before: figures(a, range)?,
        after: figures(b, range)?,
    })
}

/// Returns the distribution of one set of weights on its own axis.
pub(crate) fn weight_figures(weights: &[f32]) -> Option<WeightFigures> {
    figures(weights, None)
}

fn figures(weights: &[f32], range: Option<(f64, f64)>) -> Option<WeightFigures> {
    let h = histogram(weights, BINS, range);
    let b = box_plot(weights)?;
    let edges = (0..=h.counts.len())
        .map(|i| h.bin_centre(0) + (i as f64 - 0.5) * h.bin_width())
        .collect();
    let extrema = local_extrema(&h.counts, PROMINENCE);
    let mark = |e: &stats::Extremum| Extremum {
        x: h.bin_centre(e.bin),
        kind: match e.kind {
            stats::ExtremumKind::Peak => ExtremumKind::Max,
            stats::ExtremumKind::Valley => ExtremumKind::Min,
        },
    };
    Some(WeightFigures {
        extrema: extrema.iter().map(mark).collect(),
        histogram: Histogram {
            edges,
            counts: h.counts.clone(),
        },
        box_plot: BoxPlot {
            min: b.min,
            q1: b.q1,
            median: b.median,
            q3: b.q3,
            max: b.max,
            mean: b.mean,
        },
    })
}
