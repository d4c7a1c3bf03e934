//! The top of the page: what happened, in one sentence and a few figures.

use super::super::format::{self, Quality};
use super::super::schema::Report;
use super::super::training::MeasureName;
use super::page::{Detail, Page, esc, sentence};

/// Longest warning that is shown.
const MAX_NOTICE_CHARS: usize = 400;

/// Writes the title, the sentence and the key figures.
pub(super) fn head(page: &mut Page, report: &Report) {
    page.put(format_args!(
        "<header>\n<p class=\"kicker\">regraft {}</p>\n<h1>{}</h1>\n<p class=\"lead\">",
        esc(&report.regraft),
        esc(&report.model.name)
    ));
    story(page, report);
    page.put(format_args!("</p>\n<div class=\"tiles\">\n"));
    if let Some((before, after)) = format::nonzero(report) {
        size_tile(page, "Nonzero weights", before, after, format::si);
    }
    size_tile(
        page,
        "Parameters",
        report.dense.params,
        report.small.params,
        format::si,
    );
    size_tile(
        page,
        "MACs per sample",
        report.dense.macs,
        report.small.macs,
        format::si,
    );
    size_tile(
        page,
        "Model file",
        report.dense.bytes,
        report.small.bytes,
        format::bytes,
    );
    if let Some(quality) = format::quality(report) {
        quality_tile(page, quality);
    }
    latency_tile(page, report);
    verify_tile(page, report);
    carried_tile(page, report);
    page.put(format_args!("</div>\n</header>\n"));
}

/// Writes what happened as one sentence.
fn story(page: &mut Page, report: &Report) {
    let share = |before, after| format::ratio(before, after).map(|r| format::percent(r, 0));
    let (dense, small) = (&report.dense, &report.small);
    if let Some((before, after)) = format::nonzero(report) {
        page.put(format_args!(
            "The small model has <b>{}</b> of the connections",
            share(before, after).unwrap_or_default()
        ));
        return story_end(page, report);
    }
    match (share(dense.macs, small.macs), share(dense.params, small.params)) {
        (Some(macs), Some(params)) => page.put(format_args!(
            "The small model needs <b>{macs}</b> of the multiplications and <b>{params}</b> of the parameters"
        )),
        _ => page.put(format_args!("The model was pruned")),
    }
    story_end(page, report);
}

fn story_end(page: &mut Page, report: &Report) {
    if let (Some(ratio), Some(latency)) = (format::latency_ratio(report), &report.latency) {
        page.put(format_args!(
            ", runs in <b>{ratio:.2}</b> of the time ({})",
            esc(&latency.runtime)
        ));
    }
    if let Some(q) = format::quality(report) {
        let (small, dense) = (q.shown(q.small), q.shown(q.dense));
        let [before, ..] = format::columns(report);
        match q.measure {
            MeasureName::Agreement => page.put(format_args!(
                ", and agrees with the dense model on <b>{small}</b> of the samples"
            )),
            MeasureName::R2 => page.put(format_args!(
                ", and has an R² of <b>{small}</b> ({before}: {dense})"
            )),
            MeasureName::Accuracy | MeasureName::Decisions => page.put(format_args!(
                ", and has an accuracy of <b>{small}</b> ({before}: {dense})"
            )),
        }
    }
    page.put(format_args!("."));
}

fn size_tile(page: &mut Page, label: &str, dense: u64, small: u64, show: fn(u64) -> String) {
    let share = format::ratio(dense, small).unwrap_or(1.0).clamp(0.0, 1.0);
    page.put(format_args!(
        "<div class=\"tile\"><span class=\"label\">{label}</span><span class=\"big\">{}</span>\
<span class=\"from\">from {} <b>{}</b></span><span class=\"meter\"><i style=\"width:{:.1}%\"></i></span></div>\n",
        show(small),
        show(dense),
        format::size_change(dense, small),
        share * 100.0
    ));
}

fn quality_tile(page: &mut Page, q: Quality) {
    let label = match q.measure {
        MeasureName::Accuracy | MeasureName::Decisions => "Accuracy",
        MeasureName::R2 => "R²",
        MeasureName::Agreement => "Agreement with dense",
    };
    let from = match q.measure {
        MeasureName::Agreement => "same first class".to_owned(),
        _ => format!("from {} <b>{}</b>", q.shown(q.dense), q.change()),
    };
    page.put(format_args!(
        "<div class=\"tile\"><span class=\"label\">{label}</span><span class=\"big\">{}</span><span class=\"from\">{from}</span>",
        q.shown(q.small)
    ));
    if let Some(pruned) = q.pruned {
        page.put(format_args!(
            "<span class=\"from\">{} before rebuilding</span>",
            q.shown(pruned)
        ));
    }
    page.put(format_args!("</div>\n"));
}

fn latency_tile(page: &mut Page, report: &Report) {
    let (Some(latency), Some(ratio)) = (&report.latency, format::latency_ratio(report)) else {
        return;
    };
    page.put(format_args!(
        "<div class=\"tile\"><span class=\"label\">Latency, batch {}</span><span class=\"big\">{}</span>\
<span class=\"from\">from {} <b>{ratio:.2}×</b></span><span class=\"meter\"><i style=\"width:{:.1}%\"></i></span></div>\n",
        latency.batch,
        format::milliseconds(latency.small_ms),
        format::milliseconds(latency.dense_ms),
        ratio.clamp(0.0, 1.0) * 100.0
    ));
}

fn verify_tile(page: &mut Page, report: &Report) {
    // A run that removed nothing itself, such as `rebuild`, has nothing to verify.
    let Some(verify) = &report.verify else {
        return;
    };
    let (class, word) = if verify.passed() {
        ("good", "verified")
    } else {
        ("bad", "failed")
    };
    let difference = verify
        .max_relative_difference
        .map_or_else(|| "not a number".to_owned(), format::scientific);
    page.put(format_args!(
        "<div class=\"tile {class}\"><span class=\"label\">Removal</span><span class=\"big\">{word}</span>\
<span class=\"from\">masked = removed within <b>{difference}</b></span><span class=\"from\">limit {}, {} random + {} calibration inputs</span></div>\n",
        format::scientific(verify.limit),
        verify.random_samples,
        verify.calibration_samples
    ));
}

/// Writes how the network does on states of its own that its caller carries.
fn carried_tile(page: &mut Page, report: &Report) {
    let Some(carried) = &report.carried else {
        return;
    };
    let class = if carried.drifts() { "bad" } else { "good" };
    page.put(format_args!(
        "<div class=\"tile {class}\"><span class=\"label\">Own states</span><span class=\"big\">{:.4}</span>\
<span class=\"from\">mean difference of the outputs over <b>{}</b> samples in a row</span>\
<span class=\"from\">{:.4} with the dense model's states</span></div>\n",
        carried.difference_own, carried.longest_run, carried.difference_given
    ));
}

/// Writes a fall in quality, fallbacks and warnings, or that there were none.
pub(super) fn notices(page: &mut Page, report: &Report, detail: &Detail) {
    let quality = format::quality_notice(report);
    let total = report.warnings.len() + report.fallbacks.len();
    if total == 0 && quality.is_none() {
        page.put(format_args!(
            "<p class=\"calm\">No warnings, and nothing was done otherwise than asked for.</p>\n"
        ));
        return;
    }
    page.put(format_args!(
        "<section class=\"notices\" id=\"notices\">\n<h2>Before you ship it</h2>\n<ul>\n"
    ));
    if let Some(quality) = quality {
        page.put(format_args!(
            "<li><b class=\"tag\">quality</b><span>{quality}</span></li>\n"
        ));
    }
    for fallback in report.fallbacks.iter().take(detail.groups) {
        page.put(format_args!("<li><b class=\"tag\">fallback</b><span>"));
        if let Some(node) = &fallback.node {
            page.put(format_args!("<code>{}</code>: ", esc(node)));
        }
        page.put(format_args!(
            "{}</span></li>\n",
            sentence(&fallback.what, MAX_NOTICE_CHARS)
        ));
    }
    for warning in report.warnings.iter().take(detail.groups) {
        page.put(format_args!(
            "<li><b class=\"tag\">warning</b><span>{}</span></li>\n",
            sentence(warning, MAX_NOTICE_CHARS)
        ));
    }
    page.put(format_args!("</ul>\n"));
    let shown =
        report.warnings.len().min(detail.groups) + report.fallbacks.len().min(detail.groups);
    page.left_out(shown, total, "warnings and fallbacks");
    page.close();
}

/// Writes the table dense, pruned, rebuilt.
pub(super) fn outcome(page: &mut Page, report: &Report) {
    let samples = report.small.metrics.as_ref().map_or(0, |m| m.samples);
    let note = if samples > 0 {
        let columns = if report.training.is_some() {
            "Given: before training. Trained: what was written."
        } else if report.fusion.is_some() {
            "Best given: the best of the networks. Averaged: the mean of their weights. Fused: what was written."
        } else {
            "Pruned: right after the removal. Rebuilt: what was written."
        };
        format!("Quality on {samples} evaluation samples. {columns}")
    } else {
        "Without evaluation samples there is no figure of quality.".to_owned()
    };
    page.open("outcome", "Outcome", &note);
    let [before, between, after] = format::columns(report);
    // Training has nothing between before and after.
    let shows = |column: usize| column != 1 || !between.is_empty();
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th></th>"
    ));
    let heads = [before, between, after, "change"];
    for (_, head) in heads.iter().enumerate().filter(|(i, _)| shows(*i)) {
        page.put(format_args!("<th>{head}</th>"));
    }
    page.put(format_args!("</tr></thead>\n<tbody>\n"));
    for row in format::size_rows(report)
        .into_iter()
        .chain(format::metric_rows(report))
    {
        page.put(format_args!("<tr><th>{}</th>", row.title));
        let cells = row.cells.iter().chain([&row.change]).enumerate();
        for (_, cell) in cells.filter(|(i, _)| shows(*i)) {
            page.put(format_args!("<td>{}</td>", cell.as_deref().unwrap_or("–")));
        }
        page.put(format_args!("</tr>\n"));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.close();
}
