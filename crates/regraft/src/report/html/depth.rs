//! Plans that take whole residual blocks or leave them, and what each block would cost.

use super::super::format;
use super::super::schema::{DepthFigures, Report};
use super::page::{Page, esc};

/// Longer lists are cut.
const MAX_ROWS: usize = 60;

/// Writes the plans, then the blocks, each with its error as a bar.
pub(super) fn depth(page: &mut Page, report: &Report) {
    let Some(depth) = &report.depth else { return };
    if depth.trials.is_empty() {
        return;
    }
    page.open(
        "plans",
        "Depth and width",
        "Plans that keep the budget, each rebuilt in closed form on a part of the samples and judged on others by the network's output. Tuning comes after the choice.",
    );
    plans(page, depth);
    blocks(page, depth, &report.removed_blocks);
    page.close();
}

fn plans(page: &mut Page, depth: &DepthFigures) {
    let errors = depth.trials.iter().map(|t| t.error);
    let (least, most) = errors.fold((f64::INFINITY, f64::MIN_POSITIVE), |(low, high), e| {
        (low.min(e), high.max(e))
    });
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Residual blocks gone</th><th>Share of the cost</th><th>Error of the output</th><th></th></tr></thead>\n<tbody>\n"
    ));
    for trial in depth.trials.iter().take(MAX_ROWS) {
        let kept = if trial.error <= least { ", kept" } else { "" };
        page.put(format_args!(
            "<tr><th>{}{kept}</th><td>{:.3}</td>",
            trial.removed_blocks, trial.ratio,
        ));
        bar(page, trial.error, most);
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(
        depth.trials.len().min(MAX_ROWS),
        depth.trials.len(),
        "plans",
    );
}

fn blocks(page: &mut Page, depth: &DepthFigures, removed: &[String]) {
    let finite = depth
        .blocks
        .iter()
        .map(|b| b.error)
        .filter(|e| e.is_finite());
    let most = finite.fold(f64::MIN_POSITIVE, f64::max);
    page.put(format_args!(
        "<p>The error of the output without one block alone, everything else rebuilt:</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>Block before</th><th>Error of the output</th><th></th></tr></thead>\n<tbody>\n"
    ));
    for block in depth.blocks.iter().take(MAX_ROWS) {
        let gone = if removed.contains(&block.block) {
            ", gone"
        } else {
            ""
        };
        page.put(format_args!("<tr><th>{}{gone}</th>", esc(&block.block)));
        bar(page, block.error, most);
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(
        depth.blocks.len().min(MAX_ROWS),
        depth.blocks.len(),
        "blocks",
    );
}

/// Ends a row with an error, as a bar and in words.
fn bar(page: &mut Page, error: f64, most: f64) {
    page.bar_cells(error / most, &format::percent(error, 2));
    page.put(format_args!("</tr>\n"));
}
