//! Loss, held-out score and connections over the epochs.

use std::fmt::Write;

use super::super::format;
use super::super::schema::Report;
use super::super::training::EpochFigures;
use super::page::{At, Page};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 120.0;
/// More points than a drawing of this size can show.
const MOST_POINTS: usize = 150;

/// Writes a curve of each figure of a training run.
pub(super) fn section(page: &mut Page, report: &Report) {
    let Some(training) = &report.training else {
        return;
    };
    let note = format!(
        "{}. The upright line marks the epoch that was kept.",
        training.in_words()
    );
    page.open("training", "Training", &note);
    page.put(format_args!("<div class=\"multiples\">\n"));
    let epochs = &training.epochs;
    let best = training.best_epoch;
    curve(
        page,
        "Loss",
        epochs,
        best,
        |e| e.loss,
        |x| format!("{x:.4}"),
    );
    let percent = |x: f64| format!("{:.2} %", 100.0 * x);
    curve(
        page,
        &format!("Held-out {}", training.measure.title()),
        epochs,
        best,
        |e| e.held_out_score,
        |score| training.measure.shown(score),
    );
    curve(
        page,
        "Learning rate",
        epochs,
        best,
        |e| e.learning_rate,
        format::scientific,
    );
    if epochs.iter().any(|e| e.nonzero < e.weights) {
        let share = |e: &EpochFigures| e.nonzero as f64 / e.weights.max(1) as f64;
        curve(page, "Connections left", epochs, best, share, percent);
    }
    page.put(format_args!("</div>\n"));
    page.close();
}

fn curve(
    page: &mut Page,
    title: &str,
    epochs: &[EpochFigures],
    best: usize,
    figure: impl Fn(&EpochFigures) -> f64,
    words: impl Fn(f64) -> String,
) {
    let values: Vec<f64> = epochs.iter().map(figure).collect();
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (least, most) = (
        finite().fold(f64::MAX, f64::min),
        finite().fold(f64::MIN, f64::max),
    );
    if values.len() < 2 || least > most {
        return;
    }
    let span = (most - least).max(f64::MIN_POSITIVE);
    let x = |i: usize| At(i as f64 / (values.len() - 1) as f64 * WIDTH);
    let y = |v: f64| At(HEIGHT - 4.0 - (v - least) / span * (HEIGHT - 8.0));
    let stride = values.len().div_ceil(MOST_POINTS);
    let mut line = String::new();
    for (i, v) in values.iter().enumerate() {
        if !v.is_finite() || !(i.is_multiple_of(stride) || i + 1 == values.len()) {
            continue;
        }
        let pen = if line.is_empty() { 'M' } else { 'L' };
        // Writing into a String cannot fail.
        let _ = write!(line, "{pen}{} {}", x(i), y(*v));
    }
    let kept = best.saturating_sub(1).min(values.len() - 1);
    page.put(format_args!(
        "<figure><figcaption><span class=\"name\">{title}</span><span class=\"value\">{} to {}</span></figcaption>\
<svg viewBox=\"-4 0 {} {}\" role=\"img\" aria-label=\"{title} over the epochs\"><path class=\"frame\" d=\"M0 {HEIGHT}H{WIDTH}\"/>\
<path class=\"curve\" d=\"{line}\"/><path class=\"chosen\" d=\"M{} 0V{HEIGHT}\"/>\
<text x=\"-2\" y=\"{}\">1</text><text x=\"{WIDTH}\" y=\"{}\" text-anchor=\"end\">{}</text></svg></figure>\n",
        words(least),
        words(most),
        WIDTH + 8.0,
        HEIGHT + 15.0,
        x(kept),
        HEIGHT + 13.0,
        HEIGHT + 13.0,
        values.len()
    ));
}
