//! Distribution of a layer's weights: a thumbnail for the line, a figure below it.

use super::super::format;
use super::super::schema::{BoxPlot, Change, ExtremumKind, Histogram, WeightFigures};
use super::page::{At, Page};

/// More bins than this are merged: they could not be told apart.
const MAX_BINS: usize = 48;
/// More extrema than this are noise.
const MAX_EXTREMA: usize = 12;
const WIDTH: f64 = 480.0;

/// The range of both distributions on one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) width: f64,
}

impl Range {
    /// Returns the range of both box plots, or none if it is empty or not finite.
    fn of(stats: &Change<WeightFigures>, width: f64) -> Option<Self> {
        let (a, b) = (&stats.before.box_plot, &stats.after.box_plot);
        let (lo, hi) = (a.min.min(b.min), a.max.max(b.max));
        (lo.is_finite() && hi.is_finite() && lo < hi).then_some(Self { lo, hi, width })
    }

    pub(super) fn x(self, value: f64) -> At {
        At(((value - self.lo) / (self.hi - self.lo)).clamp(0.0, 1.0) * self.width)
    }
}

/// Writes two tiny box plots.
pub(super) fn thumbnail(page: &mut Page, stats: &Change<WeightFigures>) {
    let Some(range) = Range::of(stats, 96.0) else {
        page.put(format_args!("<span></span>"));
        return;
    };
    page.put(format_args!(
        "<svg class=\"thumb\" viewBox=\"0 0 96 22\" aria-hidden=\"true\">"
    ));
    box_plot(page, &stats.before.box_plot, range, "dense", 6.0, 3.0);
    box_plot(page, &stats.after.box_plot, range, "small", 16.0, 3.0);
    page.put(format_args!("</svg>"));
}

/// Writes both histograms with their box plots and extrema over one axis.
pub(super) fn figure(page: &mut Page, stats: &Change<WeightFigures>) {
    let Some(range) = Range::of(stats, WIDTH) else {
        page.put(format_args!(
            "<p class=\"note\">All weights are the same.</p>"
        ));
        return;
    };
    page.put(format_args!(
        "<svg class=\"weights\" viewBox=\"-6 -14 {} 196\" role=\"img\" aria-label=\"Weights, dense above and small below\">",
        At(WIDTH + 12.0)
    ));
    distribution(page, &stats.before, range, "dense", 0.0);
    distribution(page, &stats.after, range, "small", 84.0);
    page.put(format_args!(
        "<text x=\"0\" y=\"178\">{}</text><text x=\"{}\" y=\"178\" text-anchor=\"end\">{}</text>",
        signed(range.lo),
        At(WIDTH),
        signed(range.hi)
    ));
    if range.lo < 0.0 && range.hi > 0.0 {
        page.put(format_args!(
            "<path class=\"zero\" d=\"M{} -6V166\"/><text x=\"{}\" y=\"178\" text-anchor=\"middle\">0</text>",
            range.x(0.0),
            range.x(0.0)
        ));
    }
    page.put(format_args!("</svg>"));
}

pub(super) fn signed(x: f64) -> String {
    format::scientific(x).replace('-', "−")
}

/// Writes one histogram of height 54 at `top`, its extrema above and its box plot below.
pub(super) fn distribution(
    page: &mut Page,
    stats: &WeightFigures,
    range: Range,
    class: &str,
    top: f64,
) {
    let base = top + 56.0;
    let densities = densities(&stats.histogram);
    let tallest = densities.iter().map(|d| d.2).fold(0.0_f64, f64::max);
    let height = |density: f64| {
        if tallest > 0.0 {
            density / tallest * 50.0
        } else {
            0.0
        }
    };
    page.put(format_args!("<path class=\"hist {class}\" d=\""));
    for (place, (from, to, density)) in densities.iter().enumerate() {
        let y = At(base - height(*density));
        if place == 0 {
            page.put(format_args!("M{} {}", range.x(*from), At(base)));
        }
        page.put(format_args!("V{y}H{}", range.x(*to)));
    }
    page.put(format_args!("V{}Z\"/>", At(base)));
    for extremum in stats.extrema.iter().take(MAX_EXTREMA) {
        let bin = densities
            .iter()
            .find(|(from, to, _)| (*from..*to).contains(&extremum.x));
        let y = base - bin.map_or(0.0, |(_, _, density)| height(*density));
        match extremum.kind {
            ExtremumKind::Max => page.put(format_args!(
                "<path class=\"peak\" d=\"M{} {}l4-7h-8z\"/>",
                range.x(extremum.x),
                At(y - 2.0)
            )),
            ExtremumKind::Min => page.put(format_args!(
                "<path class=\"valley\" d=\"M{} {}l4 7h-8z\"/>",
                range.x(extremum.x),
                At(y + 2.0)
            )),
        }
    }
    box_plot(page, &stats.box_plot, range, class, base + 10.0, 4.0);
}

/// Returns (from, to, count per unit of width) of each bin, at most [`MAX_BINS`] of them.
fn densities(histogram: &Histogram) -> Vec<(f64, f64, f64)> {
    let bins: Vec<(f64, f64, u64)> = histogram
        .edges
        .windows(2)
        .zip(&histogram.counts)
        .filter_map(|(edge, count)| match edge {
            [from, to] if from < to => Some((*from, *to, *count)),
            _ => None,
        })
        .collect();
    let merged = bins.len().div_ceil(MAX_BINS).max(1);
    bins.chunks(merged)
        .filter_map(|chunk| {
            let (first, last) = (chunk.first()?, chunk.last()?);
            let count: f64 = chunk.iter().map(|bin| bin.2 as f64).sum();
            Some((first.0, last.1, count / (last.1 - first.0)))
        })
        .collect()
}

pub(super) fn box_plot(
    page: &mut Page,
    plot: &BoxPlot,
    range: Range,
    class: &str,
    y: f64,
    half: f64,
) {
    let (q1, q3) = (range.x(plot.q1), range.x(plot.q3));
    let (top, bottom) = (At(y - half), At(y + half));
    page.put(format_args!(
        "<path class=\"box {class}\" d=\"M{} {}H{q1}M{q3} {}H{}M{q1} {top}H{q3}V{bottom}H{q1}ZM{} {top}V{bottom}\"/>\
<circle class=\"mean\" cx=\"{}\" cy=\"{}\" r=\"{}\"/>",
        range.x(plot.min),
        At(y),
        At(y),
        range.x(plot.max),
        range.x(plot.median),
        range.x(plot.mean),
        At(y),
        At(half * 0.5)
    ));
}
