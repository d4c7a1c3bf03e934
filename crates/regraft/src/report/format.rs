//! Numbers and names for people: short, with units, safe to print.

use regraft_train::LEAST_ZEROS;

use super::schema::{
    Change, ClassMetrics, LatencyFigures, LayerFigures, Metrics, ModelFigures, Report,
};
use super::training::MeasureName;

/// Longest name that is shown; the whole one is in report.json.
const MAX_NAME_CHARS: usize = 96;
/// The end of a name that stays whole has at most this many characters.
const MAX_NAME_END: usize = 21;
/// And at least this many, if a name is cut at a separator.
const MIN_NAME_END: usize = 10;
/// Below this relative error a layer reads what it read before: there is nothing to mend.
const NOTHING_TO_MEND: f64 = 1e-6;
/// Fewer points lost than this are not worth a word above all others.
const WORTH_A_WORD_POINTS: f64 = 1.0;

/// Returns `n` with an SI prefix and about three digits: `853 k`, `125.5 M`.
pub(super) fn si(n: u64) -> String {
    let x = n as f64;
    for (scale, prefix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // 0.9995: a value that would be rounded to 1000 goes to the next prefix.
        if x >= scale * 0.9995 {
            return format!("{} {prefix}", three_digits(x / scale));
        }
    }
    n.to_string()
}

/// Returns a number of bytes in decimal units: `3.42 MB`.
pub(super) fn bytes(n: u64) -> String {
    let text = si(n);
    if text.contains(' ') {
        format!("{text}B")
    } else {
        format!("{text} B")
    }
}

/// Returns the change of a number, the prefix once where both have the same: `2.36 → 1.18 M`.
pub(super) fn si_change(change: Change<u64>) -> String {
    let (before, after) = (si(change.before), si(change.after));
    if before == after {
        return after;
    }
    match (before.split_once(' '), after.split_once(' ')) {
        (Some((number, a)), Some((_, b))) if a == b => format!("{number} → {after}"),
        _ => format!("{before} → {after}"),
    }
}

/// Returns `x` with three significant digits, at most five after the point.
pub(super) fn three_digits(x: f64) -> String {
    let decimals = match x.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        a if a >= 0.9995 || a == 0.0 => 2,
        a if a >= 0.099_95 => 3,
        a if a >= 0.009_995 => 4,
        _ => 5,
    };
    format!("{x:.decimals$}")
}

/// Returns a share as a percentage with `decimals` digits: `93.4 %`.
pub(super) fn percent(share: f64, decimals: usize) -> String {
    if !share.is_finite() {
        return "–".to_owned();
    }
    // Adding zero turns -0.0 into 0.0, which would print a lone minus sign.
    format!("{:.decimals$} %", share * 100.0 + 0.0)
}

/// Returns the part of a whole, with two decimals; a small part is not none.
pub(super) fn part(share: f64) -> String {
    if share > 0.0 && share < 5e-5 {
        "< 0.01 %".to_owned()
    } else {
        percent(share, 2)
    }
}

/// Returns an error or a ratio over many magnitudes: `0`, `0.0123`, `3.1e-7`.
pub(crate) fn scientific(x: f64) -> String {
    if !x.is_finite() {
        "not finite".to_owned()
    } else if x == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e4).contains(&x.abs()) {
        let digits = (2 - x.abs().log10().floor() as i32).clamp(0, 5) as usize;
        format!("{x:.digits$}")
    } else {
        // 1e-4, not 1.0e-4: a round number stays short.
        format!("{x:.1e}").replace(".0e", "e")
    }
}

/// Returns a round number without its last zeros: `0.001`.
pub(super) fn trimmed(x: f64) -> String {
    let text = scientific(x);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Returns a time: `820 ms`, `12.4 s`, `3 min 05 s`.
pub(super) fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        "–".to_owned()
    } else if s < 0.9995 {
        format!("{:.0} ms", s * 1e3)
    } else if s < 99.95 {
        format!("{} s", three_digits(s))
    } else {
        let whole = s.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// Returns a latency: `12.3 ms`, `0.0812 ms`.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms.is_finite() {
        format!("{} ms", three_digits(ms))
    } else {
        "–".to_owned()
    }
}

/// Returns `after / before`, or none if there is nothing to divide by.
pub(super) fn ratio(before: u64, after: u64) -> Option<f64> {
    (before > 0).then(|| after as f64 / before as f64)
}

/// Returns the change of a size as a signed percentage: `−49.82 %`, `±0 %`.
pub(super) fn size_change(before: u64, after: u64) -> String {
    ratio(before, after).map_or_else(|| "–".to_owned(), |r| signed_percent(r - 1.0))
}

/// Returns a signed percentage with a true minus sign.
pub(super) fn signed_percent(x: f64) -> String {
    if !x.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{:.2}", x.abs() * 100.0);
    match (text.as_str(), x < 0.0) {
        ("0.00", _) => "±0 %".to_owned(),
        (_, true) => format!("−{text} %"),
        (_, false) => format!("+{text} %"),
    }
}

/// Returns a difference of two shares in points: `−1.30 points`.
pub(super) fn points(change: Change<f64>) -> String {
    let x = (change.after - change.before) * 100.0;
    let text = format!("{:.2}", x.abs());
    match (text.as_str(), x < 0.0) {
        ("0.00", _) => "±0 points".to_owned(),
        (_, true) => format!("−{text} points"),
        (_, false) => format!("+{text} points"),
    }
}

/// Returns `text` on one line, without characters that steer a terminal or turn the
/// direction of writing, and no longer than a name should be.
pub(super) fn name(text: &str) -> String {
    clip(&one_line(text), MAX_NAME_CHARS)
}

/// Returns `text` with every steering character replaced.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if is_steering(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Returns `text` with its middle left out if it has more than `max_chars`.
pub(super) fn clip(text: &str, max_chars: usize) -> String {
    let count = text.chars().count();
    if count <= max_chars {
        return text.to_owned();
    }
    // The end of a node's name tells more than its beginning.
    let tail = max_chars.saturating_sub(1) * 2 / 3;
    let head = max_chars.saturating_sub(1) - tail;
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    out.extend(text.chars().skip(count - tail));
    out
}

/// Returns `text` in two: where it is too long for its place, the end must stay whole.
///
/// The end begins at a `/` or `.` if one is near; a short name is all end.
pub(super) fn split_name(text: &str) -> (&str, &str) {
    let place_from_end = |n: usize| {
        text.char_indices()
            .rev()
            .nth(n.saturating_sub(1))
            .map(|c| c.0)
    };
    let Some(longest) = place_from_end(MAX_NAME_END + 1) else {
        return ("", text);
    };
    let shortest = place_from_end(MIN_NAME_END).unwrap_or(longest);
    let near = text
        .char_indices()
        .find(|(at, c)| *at > longest && *at <= shortest && matches!(c, '/' | '.'))
        .map(|(at, _)| at);
    let at = near.or_else(|| place_from_end(MAX_NAME_END));
    text.split_at(at.unwrap_or(0))
}

/// Returns `text` as pieces of prose and of code; code stands between backticks, which go.
pub(super) fn code_spans(text: &str) -> Vec<(bool, &str)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((prose, tail)) = rest.split_once('`') {
        let Some((code, after)) = tail.split_once('`').filter(|(code, _)| !code.is_empty()) else {
            break;
        };
        pieces.push((false, prose));
        pieces.push((true, code));
        rest = after;
    }
    pieces.push((false, rest));
    pieces
}

/// Returns true for controls and for the marks that reorder text (Unicode bidi).
pub(super) fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The figure that tells how well the small model works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quality {
    /// What it is.
    pub(super) measure: MeasureName,
    /// Of the dense model.
    pub(super) dense: f64,
    /// After pruning, before rebuilding.
    pub(super) pruned: Option<f64>,
    /// Of the small model.
    pub(super) small: f64,
}

impl Quality {
    /// Returns one of its figures as it is shown.
    pub(super) fn shown(&self, score: f64) -> String {
        match self.measure {
            MeasureName::R2 => self.measure.shown(score),
            _ => percent(score, 2),
        }
    }

    /// Returns by how much it changed, as it is shown.
    pub(super) fn change(&self) -> String {
        match self.measure {
            MeasureName::R2 => format!("{:+.4}", self.small - self.dense),
            _ => points(Change::new(self.dense, self.small)),
        }
    }
}

/// Returns the accuracy of the three models, R² where there are numbers to find or, without labels, their
/// agreement with the dense one.
pub(super) fn quality(report: &Report) -> Option<Quality> {
    type Get = fn(&Metrics) -> Option<f64>;
    let metrics = |m: &ModelFigures| m.metrics.clone();
    let pruned = report.pruned.as_ref().and_then(|p| p.metrics.as_ref());
    let small = metrics(&report.small)?;
    let of_truth: [(MeasureName, Get); 2] = [
        (MeasureName::Accuracy, |m| m.accuracy),
        (MeasureName::R2, |m| m.r2),
    ];
    for (measure, get) in of_truth {
        let dense = metrics(&report.dense).as_ref().and_then(get);
        if let (Some(dense), Some(small)) = (dense, get(&small)) {
            return Some(Quality {
                measure,
                dense,
                pruned: pruned.and_then(get),
                small,
            });
        }
    }
    small.agreement_with_dense.map(|agreement| Quality {
        measure: MeasureName::Agreement,
        dense: 1.0,
        pruned: pruned.and_then(|m| m.agreement_with_dense),
        small: agreement,
    })
}

/// Returns what a reader must know about the quality: a fall, or that there were no labels to judge by.
pub(super) fn quality_notice(report: &Report) -> Option<String> {
    let q = quality(report)?;
    if q.measure == MeasureName::R2 {
        return (q.dense - q.small > WORTH_A_WORD_POINTS / 100.0)
            .then(|| format!("R² fell from {} to {}", q.shown(q.dense), q.shown(q.small)));
    }
    if q.measure == MeasureName::Accuracy {
        let lost = (q.dense - q.small) * 100.0;
        return (lost > WORTH_A_WORD_POINTS).then(|| {
            format!(
                "accuracy fell by {lost:.2} points, from {} to {}",
                percent(q.dense, 2),
                percent(q.small, 2)
            )
        });
    }
    let samples = report.small.metrics.as_ref().map_or(0, |m| m.samples);
    Some(format!(
        "without labels the accuracy is not known; the small model agrees with the dense one on {} of {samples} samples",
        percent(q.small, 2)
    ))
}

/// What the refit did to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refit {
    /// It was not tried.
    None,
    /// The layer's input had not changed.
    NothingToMend,
    /// It lowered the held-out error.
    Kept,
    /// It did not, and was dropped.
    Dropped,
}

/// Returns what the refit did to `layer`.
pub(super) fn refit(layer: &LayerFigures) -> Refit {
    let idle = layer
        .error_before_refit
        .is_some_and(|error| error.max(layer.held_out_before.unwrap_or(0.0)) < NOTHING_TO_MEND);
    match layer.kept {
        None => Refit::None,
        Some(_) if idle => Refit::NothingToMend,
        Some(true) => Refit::Kept,
        Some(false) => Refit::Dropped,
    }
}

/// Returns the classes, small beside dense; of more than `max` those that lost most F1.
pub(super) fn classes<'a>(
    dense: &'a Metrics,
    small: &'a Metrics,
    max: usize,
) -> Vec<(&'a ClassMetrics, Option<&'a ClassMetrics>)> {
    let mut rows: Vec<(&ClassMetrics, Option<&ClassMetrics>)> = small
        .per_class
        .iter()
        .enumerate()
        .map(|(class, after)| (after, dense.per_class.get(class)))
        .collect();
    if rows.len() > max {
        let gain = |(after, before): &(&ClassMetrics, Option<&ClassMetrics>)| {
            after.f1.unwrap_or(0.0) - before.and_then(|b| b.f1).unwrap_or(0.0)
        };
        rows.sort_by(|a, b| gain(a).total_cmp(&gain(b)));
        rows.truncate(max);
    }
    rows
}

/// Returns `small_ms / dense_ms` as measured.
pub(super) fn latency_ratio(report: &Report) -> Option<f64> {
    let latency = report.latency.as_ref()?;
    let ratio = latency.small_ms / latency.dense_ms;
    latency
        .ratio
        .or(Some(ratio))
        .filter(|r| r.is_finite() && *r > 0.0)
}

/// Returns how steady the ratio of the times was: ` (quartiles 0.74 to 0.78)`, or nothing.
pub(super) fn quartiles(latency: &LatencyFigures) -> String {
    latency
        .ratio_quartiles
        .filter(|q| q.iter().all(|r| r.is_finite()))
        .map_or_else(String::new, |[low, high]| {
            format!(" (quartiles {low:.2} to {high:.2})")
        })
}

/// Returns the frozen groups, those with the most MACs first.
pub(super) fn frozen_by_macs(report: &Report) -> Vec<&super::schema::FrozenGroup> {
    let mut frozen: Vec<_> = report.frozen.iter().collect();
    frozen.sort_by_key(|f| std::cmp::Reverse(f.macs.unwrap_or(0)));
    frozen
}

/// One figure of the three models.
#[derive(Debug)]
pub(super) struct MetricRow {
    /// Its title.
    pub(super) title: &'static str,
    /// Dense, pruned, rebuilt.
    pub(super) cells: [Option<String>; 3],
    /// From dense to rebuilt.
    pub(super) change: Option<String>,
}

/// Returns the heads of the three columns of figures.
pub(super) fn columns(report: &Report) -> [&'static str; 3] {
    match report.training {
        Some(_) => ["given", "", "trained"],
        None if report.fusion.is_some() => ["best given", "averaged", "fused"],
        None => ["dense", "pruned", "rebuilt"],
    }
}

/// Returns parameters, MACs and file size; the pruned model has the size of the small one.
pub(super) fn size_rows(report: &Report) -> Vec<MetricRow> {
    let (dense, small) = (&report.dense, &report.small);
    let row = |title, before, after, show: fn(u64) -> String| MetricRow {
        title,
        cells: [
            Some(show(before)),
            // Training has nothing between before and after.
            report.training.is_none().then(|| show(after)),
            Some(show(after)),
        ],
        change: Some(size_change(before, after)),
    };
    let mut rows = vec![
        row("Parameters", dense.params, small.params, si),
        row("MACs per sample", dense.macs, small.macs, si),
        row("Model file", dense.bytes, small.bytes, bytes),
    ];
    if let Some((before, after)) = nonzero(report) {
        rows.insert(0, row("Nonzero weights", before, after, si));
    }
    rows
}

/// Returns the nonzero weights of both models where single connections went, now or earlier.
pub(super) fn nonzero(report: &Report) -> Option<(u64, u64)> {
    let (before, after) = (report.dense.weights?, report.small.weights?);
    let is_sparse = (before.nonzero as f64) < (1.0 - LEAST_ZEROS) * before.all as f64;
    // Channels that go take zeros and others with them: then the parameters say it.
    (before.all == after.all && (after.nonzero < before.nonzero || is_sparse))
        .then_some((before.nonzero, after.nonzero))
}

fn number(title: &str, x: f64) -> String {
    match title {
        "R²" => MeasureName::R2.shown(x),
        _ => scientific(x),
    }
}

/// Returns the metrics that at least one of the models has.
pub(super) fn metric_rows(report: &Report) -> Vec<MetricRow> {
    type Get = fn(&Metrics) -> Option<f64>;
    let shares: [(&'static str, Get); 7] = [
        ("Accuracy", |m| m.accuracy),
        ("Top-5 accuracy", |m| m.top5),
        ("Agreement with dense", |m| m.agreement_with_dense),
        ("Macro F1", |m| m.macro_f1),
        ("Macro precision", |m| m.macro_precision),
        ("Macro recall", |m| m.macro_recall),
        ("Average precision", |m| m.average_precision),
    ];
    let models = [
        report.dense.metrics.as_ref(),
        report.pruned.as_ref().and_then(|p| p.metrics.as_ref()),
        report.small.metrics.as_ref(),
    ];
    let mut rows: Vec<MetricRow> = shares
        .into_iter()
        .map(|(title, get)| {
            let values = models.map(|m| m.and_then(get));
            MetricRow {
                title,
                cells: values.map(|v| v.map(|share| percent(share, 2))),
                change: match values {
                    [Some(before), _, Some(after)] => Some(points(Change::new(before, after))),
                    _ => None,
                },
            }
        })
        .collect();
    let numbers: [(&'static str, Get); 4] = [
        ("R²", |m| m.r2),
        ("Mean absolute error", |m| m.mean_absolute_error),
        ("Mean squared error", |m| m.mean_squared_error),
        ("Squared error to dense", |m| m.mse_to_dense),
    ];
    rows.extend(numbers.into_iter().map(|(title, get)| MetricRow {
        title,
        cells: models.map(|m| m.and_then(get).map(|x| number(title, x))),
        change: None,
    }));
    rows.retain(|row| row.cells.iter().any(Option::is_some));
    rows
}
