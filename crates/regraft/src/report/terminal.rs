//! The table that ends a run on the terminal.

use super::format::{self, Refit};
use super::schema::{LayerFigures, Report};
use super::training::MeasureName;

/// Columns taken by the labels on the left.
const LABEL: usize = 13;
/// Narrower terminals get lines of this width all the same.
const MIN_WIDTH: usize = 60;
/// Wider lines are hard to read.
const MAX_WIDTH: usize = 100;
/// Frozen groups, warnings and fallbacks listed; the rest is counted.
const MAX_LISTED: usize = 3;
/// Tones of a row of figures: the rebuilt model is what matters.
const NUMBERS: [Tone; 4] = [Tone::Plain, Tone::Plain, Tone::Bold, Tone::Plain];

/// How the table is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether to write ANSI colours.
    pub colour: bool,
}

impl Default for TerminalStyle {
    /// Returns 80 columns without colour, as for a file or a pipe.
    fn default() -> Self {
        Self {
            width: 80,
            colour: false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

struct Sheet {
    text: String,
    width: usize,
    colour: bool,
}

impl Sheet {
    fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour && !tone.code().is_empty() && !text.is_empty() {
            format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code())
        } else {
            text.to_owned()
        }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// Writes a label and a paragraph that hangs beside it.
    fn item(&mut self, label: &str, tone: Tone, text: &str) {
        let lines = wrap(text, self.width.saturating_sub(LABEL));
        for (place, line) in lines.iter().enumerate() {
            let label = if place == 0 { label } else { "" };
            let label = self.paint(tone, &format!("{label:<LABEL$}"));
            self.line(&format!("{label}{line}"));
        }
    }

    /// Writes one row of the table: label, dense, pruned, rebuilt, change.
    fn row(&mut self, label: &str, cells: [&str; 4], tones: [Tone; 4]) {
        let column = (self.width - LABEL) / 4;
        let mut line = format!("{label:<LABEL$}");
        for (cell, tone) in cells.iter().zip(tones) {
            // Padding by hand: escape codes have no width. Two cells never touch.
            let pad = column.saturating_sub(cell.chars().count()).max(1);
            line.push_str(&" ".repeat(pad));
            line.push_str(&self.paint(tone, cell));
        }
        self.line(&line);
    }
}

/// Returns the table of `report` with what a person needs to know below it.
pub(super) fn render(report: &Report, style: &TerminalStyle, report_path: Option<&str>) -> String {
    let mut sheet = Sheet {
        text: String::new(),
        width: style.width.clamp(MIN_WIDTH, MAX_WIDTH),
        colour: style.colour,
    };
    table(&mut sheet, report);
    sheet.line("");
    checks(&mut sheet, report);
    frozen(&mut sheet, report);
    notices(&mut sheet, report);
    closing(&mut sheet, report, report_path);
    sheet.text
}

fn table(sheet: &mut Sheet, report: &Report) {
    let title = sheet.paint(Tone::Bold, &format::name(&report.model.name));
    sheet.line(&title);
    let [before, between, after] = format::columns(report);
    sheet.row("", [before, between, after, "change"], [Tone::Dim; 4]);
    for row in format::size_rows(report) {
        let label = match row.title {
            "Parameters" => "parameters",
            "MACs per sample" => "MACs",
            "Nonzero weights" => "connections",
            _ => "model file",
        };
        let [first, middle, last] = &row.cells;
        let cell = |cell: &Option<String>| cell.as_deref().unwrap_or("–").to_owned();
        // Training has nothing between before and after.
        let middle = if between.is_empty() {
            String::new()
        } else {
            cell(middle)
        };
        let (first, last, change) = (cell(first), cell(last), cell(&row.change));
        sheet.row(label, [&first, &middle, &last, &change], NUMBERS);
    }
    if let Some(q) = format::quality(report) {
        let none = if between.is_empty() { "" } else { "–" };
        let pruned = q.pruned.map_or_else(|| none.to_owned(), |p| q.shown(p));
        let (dense, small) = (q.shown(q.dense), q.shown(q.small));
        let label = match q.measure {
            MeasureName::Agreement => "agreement",
            measure => measure.title(),
        };
        sheet.row(label, [&dense, &pruned, &small, &q.change()], NUMBERS);
    }
    if let (Some(latency), Some(ratio)) = (&report.latency, format::latency_ratio(report)) {
        let (dense, small) = (
            format::milliseconds(latency.dense_ms),
            format::milliseconds(latency.small_ms),
        );
        sheet.row(
            "latency",
            [&dense, "–", &small, &format!("{ratio:.2}×")],
            NUMBERS,
        );
    }
}

fn checks(sheet: &mut Sheet, report: &Report) {
    if let Some(verify) = &report.verify {
        let difference = verify
            .max_relative_difference
            .map_or_else(|| "not a number".to_owned(), format::scientific);
        let (label, tone) = if verify.passed() {
            ("verified", Tone::Good)
        } else {
            ("NOT VERIFIED", Tone::Bad)
        };
        let inputs = verify.random_samples + verify.calibration_samples;
        let limit = format::scientific(verify.limit);
        sheet.item(
            label,
            tone,
            &format!("masked = removed within {difference} (limit {limit}) on {inputs} inputs"),
        );
    }
    rebuilt(sheet, report);
    if let Some(topology) = &report.topology {
        sheet.item("topology", Tone::Plain, &topology.in_words());
    }
    for step in &report.reshape {
        sheet.item("reshaped", Tone::Plain, &step.in_words());
    }
    if let Some(training) = &report.training {
        sheet.item("trained", Tone::Plain, &training.in_words());
    }
    if let Some(repeats) = &report.repeats {
        sheet.item("repeated", Tone::Plain, &repeats.in_words());
    }
    if let Some(carried) = &report.carried {
        let tone = if carried.drifts() {
            Tone::Bad
        } else {
            Tone::Plain
        };
        sheet.item("own states", tone, &carried.in_words());
    }
    regrown(sheet, report);
    if !report.removed_blocks.is_empty() {
        let text = format!("{} residual blocks whole", report.removed_blocks.len());
        sheet.item("removed", Tone::Plain, &text);
    }
    if let Some(time) = &report.time_budget {
        let text = format!(
            "{} layer times in {}; {:.3} of the time before the rebuild",
            time.table.len(),
            format::name(&time.runtime),
            time.ratio
        );
        sheet.item("time table", Tone::Plain, &text);
    }
    if let Some(depth) = &report.depth {
        let text = format!(
            "{} rebuilt and compared, {} residual blocks priced",
            depth.trials.len(),
            depth.blocks.len()
        );
        sheet.item("plans", Tone::Plain, &text);
    }
    if let Some(latency) = &report.latency {
        let threads = if latency.threads == 1 {
            "thread"
        } else {
            "threads"
        };
        sheet.item(
            "measured in",
            Tone::Plain,
            &format!(
                "{}, batch {}, {} {threads}, median of {} interleaved runs",
                format::name(&latency.runtime),
                latency.batch,
                latency.threads,
                latency.runs
            ),
        );
    }
}

/// Says how many layers the refit changed, and what became of the others.
/// What moved or came back, and what that did before any tuning.
fn regrown(sheet: &mut Sheet, report: &Report) {
    let Some((regrowth, first)) = report
        .regrowth
        .as_ref()
        .and_then(|r| Some((r, r.steps.first()?)))
    else {
        return;
    };
    let kept = |kind: &str| -> usize {
        let steps = regrowth.steps.iter().filter(|s| s.kept && s.kind == kind);
        steps.map(|s| s.changed).sum()
    };
    let last = regrowth.steps.iter().rfind(|s| s.kept).unwrap_or(first);
    let moved = match kept("move") {
        0 => String::new(),
        n => format!("{n} connections moved, "),
    };
    let text = format!(
        "{moved}{} came back; error of the output on held-out samples {} → {} before tuning",
        kept("grow"),
        format::scientific(first.held_out),
        format::scientific(last.held_out)
    );
    sheet.item("regrown", Tone::Plain, &text);
}

fn rebuilt(sheet: &mut Sheet, report: &Report) {
    let count = |wanted| {
        let wanted = |l: &&LayerFigures| format::refit(l) == wanted;
        report.layers.iter().filter(wanted).count()
    };
    let (kept, dropped) = (count(Refit::Kept), count(Refit::Dropped));
    let idle = count(Refit::NothingToMend);
    let mut parts = Vec::new();
    if kept + dropped > 0 {
        parts.push(format!("{kept} of {} layers", kept + dropped));
    }
    if dropped > 0 {
        parts.push(format!("{dropped} did not lower the held-out error"));
    }
    if idle > 0 {
        parts.push(format!("{idle} had nothing to mend"));
    }
    if !parts.is_empty() {
        sheet.item("rebuilt", Tone::Plain, &parts.join("; "));
    }
}

fn frozen(sheet: &mut Sheet, report: &Report) {
    let frozen = format::frozen_by_macs(report);
    for (place, group) in frozen.iter().take(MAX_LISTED).enumerate() {
        let share = group
            .macs
            .and_then(|macs| format::ratio(report.dense.macs, macs))
            .map_or_else(String::new, |r| {
                format!(" ({} of the MACs)", format::part(r))
            });
        let text = format!(
            "{}{share}: {}",
            format::name(&group.group),
            format::one_line(&group.reason)
        );
        sheet.item(
            if place == 0 { "not pruned" } else { "" },
            Tone::Plain,
            &text,
        );
    }
    if frozen.len() > MAX_LISTED {
        sheet.item(
            "",
            Tone::Plain,
            &format!("and {} more", frozen.len() - MAX_LISTED),
        );
    }
}

fn notices(sheet: &mut Sheet, report: &Report) {
    for fallback in report.fallbacks.iter().take(MAX_LISTED) {
        let what = format::one_line(&fallback.what);
        let text = fallback.node.as_ref().map_or_else(
            || what.clone(),
            |node| format!("{}: {what}", format::name(node)),
        );
        sheet.item("fallback", Tone::Warn, &text);
    }
    for warning in report.warnings.iter().take(MAX_LISTED) {
        sheet.item("warning", Tone::Warn, &format::one_line(warning));
    }
    let more = report.warnings.len().saturating_sub(MAX_LISTED)
        + report.fallbacks.len().saturating_sub(MAX_LISTED);
    if more > 0 {
        sheet.item("", Tone::Plain, &format!("and {more} more in the report"));
    }
}

fn closing(sheet: &mut Sheet, report: &Report, report_path: Option<&str>) {
    let total: f64 = report.stages.iter().map(|s| s.seconds).sum();
    if total > 0.0 {
        let memory = report.peak_rss_bytes.map_or_else(String::new, |b| {
            format!(", peak memory {}", format::bytes(b))
        });
        sheet.item(
            "took",
            Tone::Plain,
            &format!("{}{memory}", format::seconds(total)),
        );
    }
    if let Some(output) = &report.output {
        sheet.item("written", Tone::Plain, &format::one_line(output));
    }
    if let Some(path) = report_path {
        sheet.item("report", Tone::Plain, &format::one_line(path));
    }
}

/// Returns `text` broken at spaces into lines of at most `width`; a longer word gets its own line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
