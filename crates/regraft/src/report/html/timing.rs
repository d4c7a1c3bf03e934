//! Latency, the time and memory of the run, and how to repeat it.

use super::super::format;
use super::super::schema::Report;
use super::page::{Page, block, esc, sentence};

/// Longest command line and recipe that are shown.
const MAX_COMMAND_CHARS: usize = 4_000;
/// Longest note about the measurement that is shown.
const MAX_NOTE_CHARS: usize = 300;
/// More stages than this are not drawn.
const MAX_STAGES: usize = 24;
/// Classes `s0` and on of the style sheet.
const STAGE_COLOURS: usize = 10;

/// Writes the latency of both models as two bars.
pub(super) fn latency(page: &mut Page, report: &Report) {
    let Some(latency) = &report.latency else {
        return;
    };
    let note = format!(
        "Measured in {}: batch {}, {} thread{}, median of {} interleaved runs of each model.",
        esc(&latency.runtime),
        latency.batch,
        latency.threads,
        if latency.threads == 1 { "" } else { "s" },
        latency.runs
    );
    page.open("latency", "Latency", &note);
    let longest = latency.dense_ms.max(latency.small_ms);
    page.put(format_args!("<div class=\"bars wide\">\n"));
    for (label, class, ms) in [
        ("dense", "dense", latency.dense_ms),
        ("small", "small", latency.small_ms),
    ] {
        let share = (ms / longest).clamp(0.0, 1.0) * 100.0;
        page.put(format_args!(
            "<div class=\"bar\"><span class=\"name\">{label}</span><span class=\"track\"><i class=\"{class}\" style=\"width:{:.1}%\"></i></span><span class=\"value\">{}</span></div>\n",
            if share.is_finite() { share } else { 0.0 },
            format::milliseconds(ms)
        ));
    }
    page.put(format_args!("</div>\n"));
    if let Some(ratio) = format::latency_ratio(report) {
        let macs = format::ratio(report.dense.macs, report.small.macs);
        page.put(format_args!(
            "<p class=\"note\">{ratio:.2} of the dense model's time{} at {} of its MACs.</p>\n",
            format::quartiles(latency),
            macs.map_or_else(|| "–".to_owned(), |r| format!("{r:.2}"))
        ));
    }
    if !report.removed_blocks.is_empty() {
        page.put(format_args!(
            "<p class=\"note\">{} residual blocks went whole.</p>\n",
            report.removed_blocks.len()
        ));
    }
    if let Some(note) = &latency.note {
        page.put(format_args!(
            "<p class=\"note\">{}</p>\n",
            sentence(note, MAX_NOTE_CHARS)
        ));
    }
    page.close();
}

/// Writes the stages as one stacked bar with a legend, and the peak memory.
pub(super) fn stages(page: &mut Page, report: &Report) {
    let valid = |s: f64| if s.is_finite() && s > 0.0 { s } else { 0.0 };
    let total: f64 = report.stages.iter().map(|s| valid(s.seconds)).sum();
    if total <= 0.0 {
        return;
    }
    let memory = report.peak_rss_bytes.map_or_else(String::new, |b| {
        format!("; peak memory {}", format::bytes(b))
    });
    let threads = report.threads.map_or_else(String::new, |n| {
        format!(" on {n} thread{}", if n == 1 { "" } else { "s" })
    });
    let device = match report.device.as_str() {
        "" | "cpu" => String::new(),
        device => format!(" and {device}"),
    };
    let note = format!(
        "{} in all{threads}{device}{memory}.",
        format::seconds(total)
    );
    page.open("stages", "Time and memory of this run", &note);
    let shown = report.stages.len().min(MAX_STAGES);
    page.put(format_args!("<div class=\"stack\" aria-hidden=\"true\">"));
    for (place, stage) in report.stages.iter().take(shown).enumerate() {
        page.put(format_args!(
            "<i class=\"s{}\" style=\"flex-grow:{:.4}\"></i>",
            place % STAGE_COLOURS,
            valid(stage.seconds) / total
        ));
    }
    page.put(format_args!("</div>\n<ul class=\"stages\">\n"));
    for (place, stage) in report.stages.iter().take(shown).enumerate() {
        page.put(format_args!(
            "<li><i class=\"s{}\"></i><span class=\"name\">{}</span><span class=\"value\">{}</span></li>\n",
            place % STAGE_COLOURS,
            esc(&stage.name),
            format::seconds(stage.seconds)
        ));
    }
    page.put(format_args!("</ul>\n"));
    page.left_out(shown, report.stages.len(), "stages");
    page.close();
}

/// Writes the command, the recipe and what identifies the input.
pub(super) fn reproduce(page: &mut Page, report: &Report) {
    page.open(
        "reproduce",
        "Run it again",
        "The same command on the same files with the same seed writes the same bytes on the CPU, with any number of threads.",
    );
    page.put(format_args!(
        "<pre>{}</pre>\n<dl class=\"facts\">",
        block(&report.command, MAX_COMMAND_CHARS)
    ));
    if let Some(data) = &report.data {
        page.put(format_args!(
            "<dt>data</dt><dd>{}</dd><dt>samples</dt><dd>{} calibration, {} held out, {} evaluation</dd>",
            sentence(&data.description, 300),
            data.calibration,
            data.held_out,
            data.evaluation
        ));
    }
    if let Some(budget) = &report.budget {
        page.put(format_args!(
            "<dt>budget</dt><dd>{} of the {}",
            format::percent(budget.keep_ratio, 0),
            esc(&budget.of)
        ));
        if let Some(multiple) = budget.multiple_of {
            page.put(format_args!(", widths in multiples of {multiple}"));
        }
        page.put(format_args!("</dd>"));
        for (label, value) in [("score", &budget.score), ("tuning", &budget.tune)] {
            if let Some(value) = value {
                page.put(format_args!("<dt>{label}</dt><dd>{}</dd>", esc(value)));
            }
        }
    }
    page.put(format_args!("<dt>seed</dt><dd>{}</dd>", report.seed));
    if let Some(sha256) = &report.model.sha256 {
        page.put(format_args!(
            "<dt>model</dt><dd><code>sha256 {}</code></dd>",
            esc(sha256)
        ));
    }
    if let Some(output) = &report.output {
        page.put(format_args!(
            "<dt>written</dt><dd><code>{}</code></dd>",
            esc(output)
        ));
    }
    page.put(format_args!("</dl>\n"));
    if let Some(recipe) = &report.recipe {
        page.put(format_args!(
            "<details class=\"recipe\"><summary>Recipe (TOML)</summary><pre>{}</pre></details>\n",
            block(recipe, MAX_COMMAND_CHARS)
        ));
    }
    page.close();
}
