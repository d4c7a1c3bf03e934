//! report.md: what to paste into a ticket or a commit.

use std::fmt::{self, Write};

use super::format::{self, Refit};
use super::schema::{Change, GroupFigures, LayerFigures, Report};

/// Layers listed; the rest is in report.json.
const MAX_LAYERS: usize = 200;
/// Frozen groups listed.
const MAX_FROZEN: usize = 50;
/// Blocks, groups and classes listed, each.
const MAX_ROWS: usize = 20;
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

/// Returns a sentence in which what stands between backticks stays code, if nothing in it could end the code.
fn sentence(text: &str) -> String {
    let clean = format::one_line(text);
    let pieces = format::code_spans(&clean).into_iter();
    let set = |(is_code, piece): (bool, &str)| {
        let harmless = |c: char| c.is_alphanumeric() || " /._-:=,+()".contains(c);
        match (is_code, piece.chars().all(harmless)) {
            (false, _) => esc(piece),
            (true, true) => format!("`{piece}`"),
            (true, false) => format!("\\`{}\\`", esc(piece)),
        }
    };
    pieces.map(set).collect()
}

fn name(text: &str) -> String {
    esc(&format::name(text))
}

/// Returns report.md.
pub(super) fn render(report: &Report) -> String {
    let mut sheet = Sheet(String::new());
    sheet.put(format_args!(
        "# {}, {}\n\n",
        name(&report.model.name),
        if report.training.is_some() {
            "trained"
        } else if report.fusion.is_some() {
            "fused"
        } else {
            "pruned and rebuilt"
        }
    ));
    outcome(&mut sheet, report);
    checks(&mut sheet, report);
    notices(&mut sheet, report);
    frozen(&mut sheet, report);
    layers(&mut sheet, report);
    allocation(&mut sheet, report);
    prune_steps(&mut sheet, report);
    regrowth(&mut sheet, report);
    blocks(&mut sheet, report);
    sensitivity(&mut sheet, report);
    classes(&mut sheet, report);
    run(&mut sheet, report);
    sheet.0
}

fn outcome(sheet: &mut Sheet, report: &Report) {
    let [before, between, after] = format::columns(report);
    // Training has nothing between before and after.
    let shows = |column: usize| column != 1 || !between.is_empty();
    let heads = [before, between, after, "change"];
    let heads = heads.iter().enumerate().filter(|(i, _)| shows(*i));
    sheet.put(format_args!("| |"));
    for (_, head) in heads.clone() {
        sheet.put(format_args!(" {head} |"));
    }
    sheet.put(format_args!("\n| --- |"));
    for _ in heads {
        sheet.put(format_args!(" ---: |"));
    }
    sheet.put(format_args!("\n"));
    for row in format::size_rows(report)
        .into_iter()
        .chain(format::metric_rows(report))
    {
        sheet.put(format_args!("| {} |", row.title));
        let cells = row.cells.iter().chain([&row.change]).enumerate();
        for (_, cell) in cells.filter(|(i, _)| shows(*i)) {
            sheet.put(format_args!(" {} |", cell.as_deref().unwrap_or("–")));
        }
        sheet.put(format_args!("\n"));
    }
    if let (Some(latency), Some(ratio)) = (&report.latency, format::latency_ratio(report)) {
        let none = if shows(1) { " – |" } else { "" };
        sheet.put(format_args!(
            "| Latency | {} |{none} {} | {ratio:.2}× |\n",
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
    fused(sheet, report);
    reshaped(sheet, report);
    if let Some(training) = &report.training {
        sheet.put(format_args!("- Trained: {}.\n", training.in_words()));
    }
    repeats(sheet, report);
    if let Some(carried) = &report.carried {
        sheet.put(format_args!(
            "- States that the caller carries: {}.\n",
            carried.in_words()
        ));
    }
    if !report.removed_blocks.is_empty() {
        let names: Vec<String> = report.removed_blocks.iter().map(|b| name(b)).collect();
        sheet.put(format_args!(
            "- Removed whole: the residual blocks before {}.\n",
            names.join(", ")
        ));
    }
    if let Some(time) = &report.time_budget {
        sheet.put(format_args!(
            "- Time budget: {} layer times measured in {}, {:.3} of the dense model's time before the rebuild.\n",
            time.table.len(),
            name(&time.runtime),
            time.ratio
        ));
    }
    if let Some(depth) = &report.depth {
        sheet.put(format_args!(
            "- Plans with and without whole blocks: {} rebuilt and compared, {} residual blocks priced.\n",
            depth.trials.len(),
            depth.blocks.len()
        ));
    }
    if let Some(latency) = &report.latency {
        sheet.put(format_args!(
            "- Latency measured in {}: batch {}, threads {}, median of {} interleaved runs{}.{}\n",
            name(&latency.runtime),
            latency.batch,
            latency.threads,
            latency.runs,
            match format::quartiles(latency) {
                text if text.is_empty() => text,
                text => format!("; ratio{text}"),
            },
            latency
                .note
                .as_ref()
                .map_or_else(String::new, |note| format!(" {}", sentence(note)))
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

/// Networks that became one, how good each is and the whole.
fn fused(sheet: &mut Sheet, report: &Report) {
    let Some(fusion) = &report.fusion else {
        return;
    };
    sheet.put(format_args!("- Fused:\n"));
    for row in fusion.rows().iter().take(MAX_ROWS) {
        let share = row
            .share
            .map_or_else(String::new, |s| format!(", share {s:.2}"));
        sheet.put(format_args!(
            "  - {}{share}: {}\n",
            esc(&row.what),
            row.in_words
        ));
    }
}

/// Topologies tried, then each edit with what it changed.
fn reshaped(sheet: &mut Sheet, report: &Report) {
    if let Some(topology) = &report.topology {
        sheet.put(format_args!("- Topology: {}.\n", esc(&topology.in_words())));
        for trial in topology.trials.iter().take(MAX_ROWS) {
            sheet.put(format_args!(
                "  - {}: {} MACs, time {}, error {}, trained a little {}\n",
                esc(&trial.what),
                format::si(trial.macs),
                trial.time_in_words(),
                format::percent(trial.error, 2),
                trial.trained_in_words()
            ));
        }
        for place in topology.places.iter().filter(|p| p.kept).take(MAX_ROWS) {
            sheet.put(format_args!(
                "  - behind `{}`: {}, worth {:.3} % of the output for {} MACs\n",
                esc(&place.node),
                esc(&place.what),
                100.0 * place.gain,
                format::si(place.macs)
            ));
        }
    }
    for step in &report.reshape {
        sheet.put(format_args!("- Reshaped: {}.\n", esc(&step.in_words())));
        for change in step.changes.iter().take(MAX_ROWS) {
            sheet.put(format_args!(
                "  - {}: {}\n",
                name(&change.node),
                esc(&change.what)
            ));
        }
    }
}

/// The mean over the seeds, and a line for each of them.
fn repeats(sheet: &mut Sheet, report: &Report) {
    let Some(repeats) = &report.repeats else {
        return;
    };
    sheet.put(format_args!("- Repeated: {}.\n", repeats.in_words()));
    for run in &repeats.runs {
        sheet.put(format_args!(
            "  - seed {}: {}\n",
            run.seed,
            run.in_words(repeats.measure)
        ));
    }
}

fn notices(sheet: &mut Sheet, report: &Report) {
    let quality = format::quality_notice(report);
    if report.warnings.is_empty() && report.fallbacks.is_empty() && quality.is_none() {
        return;
    }
    sheet.put(format_args!("## Before you ship it\n\n"));
    if let Some(quality) = quality {
        sheet.put(format_args!("- **Quality:** {quality}.\n"));
    }
    for fallback in report.fallbacks.iter().take(MAX_NOTICES) {
        let node = fallback
            .node
            .as_ref()
            .map_or_else(String::new, |n| format!("{}: ", name(n)));
        sheet.put(format_args!(
            "- Fallback: {node}{}\n",
            sentence(&fallback.what)
        ));
    }
    for warning in report.warnings.iter().take(MAX_NOTICES) {
        sheet.put(format_args!("- Warning: {}\n", sentence(warning)));
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
            sentence(&frozen.reason)
        ));
    }
    left_out(
        sheet,
        report.frozen.len().min(MAX_FROZEN),
        report.frozen.len(),
    );
    sheet.put(format_args!("\n"));
}

fn error(x: Option<f64>) -> String {
    x.map_or_else(|| "–".to_owned(), format::scientific)
}

fn layers(sheet: &mut Sheet, report: &Report) {
    let changed = |l: &&LayerFigures| l.params.before != l.params.after || l.kept.is_some();
    let layers: Vec<&LayerFigures> = report.layers.iter().filter(changed).collect();
    if layers.is_empty() {
        return;
    }
    sheet.put(format_args!(
        "## Layers that changed\n\n| node | in | out | MACs | zeros | error before refit | after | held out after | damping | refit |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    ));
    for layer in layers.iter().take(MAX_LAYERS) {
        sheet.put(format_args!(
            "| {} | {} → {} | {} → {} | {} | {} | {} | {} | {} | {} | {} |\n",
            name(&layer.node),
            layer.channels_in.before,
            layer.channels_in.after,
            layer.channels_out.before,
            layer.channels_out.after,
            format::size_change(layer.macs.before, layer.macs.after),
            layer
                .sparsity
                .map_or_else(|| "–".to_owned(), |s| format::percent(s, 1)),
            error(layer.error_before_refit),
            error(layer.error_after_refit),
            error(layer.held_out_after),
            layer
                .damping
                .map_or_else(|| "–".to_owned(), format::trimmed),
            match format::refit(layer) {
                Refit::Kept => "kept",
                Refit::Dropped => "dropped",
                Refit::NothingToMend => "nothing to mend",
                Refit::None => "–",
            }
        ));
    }
    left_out(sheet, layers.len().min(MAX_LAYERS), layers.len());
    sheet.put(format_args!("\n"));
}

fn allocation(sheet: &mut Sheet, report: &Report) {
    let Some(allocation) = &report.allocation else {
        return;
    };
    sheet.put(format_args!(
        "## How the connections were shared between layers\n\nError of the network's output before any layer was solved on pruned inputs; {} runs of the network.\n\n| way | error | held out | |\n| --- | ---: | ---: | --- |\n",
        allocation.evaluations
    ));
    for c in allocation.candidates.iter().take(MAX_LAYERS) {
        sheet.put(format_args!(
            "| {} | {} | {} | {} |\n",
            name(&c.method),
            format::scientific(c.error),
            format::scientific(c.held_out),
            if c.method == allocation.method {
                "taken"
            } else {
                ""
            }
        ));
    }
    sheet.put(format_args!("\n"));
}

fn prune_steps(sheet: &mut Sheet, report: &Report) {
    if report.prune_steps.is_empty() {
        return;
    }
    sheet.put(format_args!(
        "## Pruning steps\n\nThe whole network was tuned after each.\n\n| step | connections that stay | held-out error after tuning |\n| ---: | ---: | ---: |\n"
    ));
    for (i, step) in report.prune_steps.iter().enumerate() {
        sheet.put(format_args!(
            "| {} | {} | {} |\n",
            i + 1,
            step.connections,
            error(step.held_out)
        ));
    }
    sheet.put(format_args!("\n"));
}

fn regrowth(sheet: &mut Sheet, report: &Report) {
    let Some(regrowth) = &report.regrowth else {
        return;
    };
    sheet.put(format_args!(
        "## Connections that moved or came back\n\nRanked by {}. Error of the network's output on held-out samples, every layer refitted, before any tuning.\n\n| change | connections | kept of all | held-out error | |\n| --- | ---: | ---: | ---: | --- |\n",
        name(&regrowth.by)
    ));
    for step in regrowth.steps.iter().take(MAX_ROWS) {
        sheet.put(format_args!(
            "| {} | {} | {} | {} | {} |\n",
            step.described(),
            step.changed,
            format::percent(
                step.connections as f64 / regrowth.connections.max(1) as f64,
                1
            ),
            format::scientific(step.held_out),
            if step.kept { "" } else { "undone" }
        ));
    }
    sheet.put(format_args!("\n"));
}

fn blocks(sheet: &mut Sheet, report: &Report) {
    if report.blocks.is_empty() {
        return;
    }
    sheet.put(format_args!(
        "## Tuned blocks\n\n| block | steps | held-out error before | after | tuning |\n| --- | ---: | ---: | ---: | --- |\n"
    ));
    for block in report.blocks.iter().take(MAX_ROWS) {
        sheet.put(format_args!(
            "| {} | {} | {} | {} | {} |\n",
            name(&block.name),
            block.steps,
            error(block.held_out_before),
            error(block.held_out_after),
            if block.kept { "kept" } else { "dropped" }
        ));
    }
    and_more(sheet, report.blocks.len());
}

fn sensitivity(sheet: &mut Sheet, report: &Report) {
    let measured = |g: &&GroupFigures| !g.sensitivity.is_empty();
    let groups: Vec<&GroupFigures> = report.groups.iter().filter(measured).collect();
    if groups.is_empty() {
        return;
    }
    sheet.put(format_args!(
        "## Sensitivity\n\nError with this group alone pruned to the width that was chosen; ≈ lies between two measured widths.\n\n| group | channels | kept | error |\n| --- | ---: | ---: | ---: |\n"
    ));
    for group in groups.iter().take(MAX_ROWS) {
        let kept = format::ratio(group.channels.before as u64, group.channels.after as u64);
        sheet.put(format_args!(
            "| {} | {} → {} | {} | {} |\n",
            name(&group.name),
            group.channels.before,
            group.channels.after,
            kept.map_or_else(|| "–".to_owned(), |k| format::percent(k, 0)),
            error_at_chosen(group)
        ));
    }
    and_more(sheet, groups.len());
}

/// Returns the error at the chosen width as measured, else between its measured neighbours.
fn error_at_chosen(group: &GroupFigures) -> String {
    let chosen = group.channels.after;
    let points = &group.sensitivity;
    let below = points
        .iter()
        .filter(|p| p.kept <= chosen)
        .max_by_key(|p| p.kept);
    let above = points
        .iter()
        .filter(|p| p.kept >= chosen)
        .min_by_key(|p| p.kept);
    match (below, above) {
        (Some(a), Some(b)) if a.kept < b.kept => {
            let share = (chosen - a.kept) as f64 / (b.kept - a.kept) as f64;
            format!(
                "≈ {}",
                format::scientific(a.error + share * (b.error - a.error))
            )
        }
        (Some(a), Some(_)) => format::scientific(a.error),
        _ => "–".to_owned(),
    }
}

fn classes(sheet: &mut Sheet, report: &Report) {
    let (Some(dense), Some(small)) = (&report.dense.metrics, &report.small.metrics) else {
        return;
    };
    let rows = format::classes(dense, small, MAX_ROWS);
    if rows.is_empty() {
        return;
    }
    let which = if rows.len() < small.per_class.len() {
        ", those that lost most"
    } else {
        ""
    };
    let [given, _, written] = format::columns(report);
    sheet.put(format_args!(
        "## Quality by class{which}\n\n| class | samples | F1 {given} | F1 {written} | change | precision {written} | recall {written} | average precision {written} |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    ));
    let share = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |v| format::percent(v, 2));
    for (after, before) in &rows {
        let f1 = before.and_then(|b| b.f1);
        let change = f1.zip(after.f1);
        sheet.put(format_args!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            name(&after.class),
            after.support,
            share(f1),
            share(after.f1),
            change.map_or_else(
                || "–".to_owned(),
                |(b, a)| format::points(Change::new(b, a))
            ),
            share(after.precision),
            share(after.recall),
            share(after.average_precision)
        ));
    }
    and_more(sheet, small.per_class.len());
}

/// Ends a table of at most [`MAX_ROWS`].
fn and_more(sheet: &mut Sheet, total: usize) {
    if total > MAX_ROWS {
        sheet.put(format_args!(
            "\nand {} more in report.json.\n",
            total - MAX_ROWS
        ));
    }
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
