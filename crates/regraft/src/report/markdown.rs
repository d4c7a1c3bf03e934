//! report.md: what to paste into a ticket or a commit.

use std::fmt::{self, Write};

use super::format;
use super::schema::{LayerFigures, Report};

/// Layers listed; the rest is in report.json.
const MAX_LAYERS: usize = 200;
/// Frozen groups listed.
const MAX_FROZEN: usize = 50;
/// Warnings and fallbacks listed, each.
const MAX_NOTICES: usize = 50;

struct Sheet(String);

impl Sheet {
    fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

/// Returns `text` on one line with the characters escaped that mean something to Markdown or HTML.
fn esc(text: &str) -> String {
    let mut out = String::new();
    for c in format::one_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '`' | '*' | '[' | ']' | '\\' | '#' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            // In the middle of a word an underscore means nothing, at its edge it does.
            '_' => out.push_str("\\_"),
            other => out.push(other),
        }
    }
    out
}

fn name(text: &str) -> String {
    esc(&format::name(text))
}

/// Returns report.md.
pub(super) fn render(report: &Report) -> String {
    let mut sheet = Sheet(String::new());
    sheet.put(format_args!(
        "# {}, pruned and rebuilt\n\n",
        name(&report.model.name)
    ));
    outcome(&mut sheet, report);
    checks(&mut sheet, report);
    notices(&mut sheet, report);
    frozen(&mut sheet, report);
    layers(&mut sheet, report);
    run(&mut sheet, report);
    sheet.0
}

fn outcome(sheet: &mut Sheet, report: &Report) {
    sheet.put(format_args!(
        "| | dense | pruned | rebuilt | change |\n| --- | ---: | ---: | ---: | ---: |\n"
    ));
    for row in format::size_rows(report)
        .into_iter()
        .chain(format::metric_rows(report))
    {
        sheet.put(format_args!("| {} |", row.title));
        for cell in row.cells.iter().chain([&row.change]) {
            sheet.put(format_args!(" {} |", cell.as_deref().unwrap_or("–")));
        }
        sheet.put(format_args!("\n"));
    }
    if let (Some(latency), Some(ratio)) = (&report.latency, format::latency_ratio(report)) {
        sheet.put(format_args!(
            "| Latency | {} | – | {} | {ratio:.2}× |\n",
            format::milliseconds(latency.dense_ms),
            format::milliseconds(latency.small_ms)
        ));
    }
    sheet.put(format_args!("\n"));
}

fn checks(sheet: &mut Sheet, report: &Report) {
    if let Some(verify) = &report.verify {
        sheet.put(format_args!(
            "- Removal {}: masked and physically pruned model differ by at most {} (limit {}) on {} random and {} calibration inputs.\n",
            if verify.passed() { "verified" } else { "**not verified**" },
            verify.max_relative_difference.map_or_else(|| "a value that is not a number".to_owned(), format::scientific),
            format::scientific(verify.limit),
            verify.random_samples,
            verify.calibration_samples
        ));
    }
    if let Some(latency) = &report.latency {
        sheet.put(format_args!(
            "- Latency measured in {}: batch {}, threads {}, median of {} interleaved runs.\n",
            name(&latency.runtime),
            latency.batch,
            latency.threads,
            latency.runs
        ));
    }
    if let Some(data) = &report.data {
        sheet.put(format_args!(
            "- Data: {}; {} calibration, {} held-out, {} evaluation samples.\n",
            esc(&data.description),
            data.calibration,
            data.held_out,
            data.evaluation
        ));
    }
    sheet.put(format_args!("\n"));
}

fn notices(sheet: &mut Sheet, report: &Report) {
    if report.warnings.is_empty() && report.fallbacks.is_empty() {
        return;
    }
    sheet.put(format_args!("## Warnings and fallbacks\n\n"));
    for warning in report.warnings.iter().take(MAX_NOTICES) {
        sheet.put(format_args!("- {}\n", esc(warning)));
    }
    for fallback in report.fallbacks.iter().take(MAX_NOTICES) {
        let node = fallback
            .node
            .as_ref()
            .map_or_else(String::new, |n| format!("{}: ", name(n)));
        sheet.put(format_args!("- {node}{}\n", esc(&fallback.what)));
    }
    let total = report.warnings.len() + report.fallbacks.len();
    let shown = report.warnings.len().min(MAX_NOTICES) + report.fallbacks.len().min(MAX_NOTICES);
    left_out(sheet, shown, total);
    sheet.put(format_args!("\n"));
}

fn frozen(sheet: &mut Sheet, report: &Report) {
    if report.frozen.is_empty() {
        return;
    }
    sheet.put(format_args!(
        "## Not pruned\n\n| group | channels | MACs | reason |\n| --- | ---: | ---: | --- |\n"
    ));
    for frozen in format::frozen_by_macs(report).into_iter().take(MAX_FROZEN) {
        sheet.put(format_args!(
            "| {} | {} | {} | {} |\n",
            name(&frozen.group),
            frozen
                .channels
                .map_or_else(|| "–".to_owned(), |c| c.to_string()),
            frozen.macs.map_or_else(|| "–".to_owned(), format::si),
            esc(&frozen.reason)
        ));
    }
    left_out(
        sheet,
        report.frozen.len().min(MAX_FROZEN),
        report.frozen.len(),
    );
    sheet.put(format_args!("\n"));
}

fn layers(sheet: &mut Sheet, report: &Report) {
    let changed = |l: &&LayerFigures| l.params.before != l.params.after || l.kept.is_some();
    let layers: Vec<&LayerFigures> = report.layers.iter().filter(changed).collect();
    if layers.is_empty() {
        return;
    }
    sheet.put(format_args!(
        "## Layers that changed\n\n| node | in | out | MACs | error before refit | after | held out after | damping | refit |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    ));
    let error = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), format::scientific);
    for layer in layers.iter().take(MAX_LAYERS) {
        sheet.put(format_args!(
            "| {} | {} → {} | {} → {} | {} | {} | {} | {} | {} | {} |\n",
            name(&layer.node),
            layer.channels_in.before,
            layer.channels_in.after,
            layer.channels_out.before,
            layer.channels_out.after,
            format::size_change(layer.macs.before, layer.macs.after),
            error(layer.error_before_refit),
            error(layer.error_after_refit),
            error(layer.held_out_after),
            layer
                .damping
                .map_or_else(|| "–".to_owned(), format::trimmed),
            match layer.kept {
                Some(true) => "kept",
                Some(false) => "dropped",
                None => "–",
            }
        ));
    }
    left_out(sheet, layers.len().min(MAX_LAYERS), layers.len());
    sheet.put(format_args!("\n"));
}

fn left_out(sheet: &mut Sheet, shown: usize, total: usize) {
    if shown < total {
        sheet.put(format_args!(
            "\n{shown} of {total} are shown; all of them are in report.json.\n"
        ));
    }
}

fn run(sheet: &mut Sheet, report: &Report) {
    sheet.put(format_args!("## The run\n\n"));
    // An indented block: no fence that the command itself could close.
    sheet.put(format_args!(
        "    {}\n\n",
        format::one_line(&report.command)
    ));
    if !report.stages.is_empty() {
        sheet.put(format_args!("| stage | time |\n| --- | ---: |\n"));
        for stage in &report.stages {
            sheet.put(format_args!(
                "| {} | {} |\n",
                name(&stage.name),
                format::seconds(stage.seconds)
            ));
        }
        sheet.put(format_args!("\n"));
    }
    if let Some(peak) = report.peak_rss_bytes {
        sheet.put(format_args!("Peak memory {}. ", format::bytes(peak)));
    }
    sheet.put(format_args!(
        "Seed {}, regraft {}",
        report.seed,
        esc(&report.regraft)
    ));
    if let Some(sha256) = &report.model.sha256 {
        sheet.put(format_args!(", model sha256 {}", name(sha256)));
    }
    sheet.put(format_args!(".\n"));
}
