//! The error of each layer before and after its refit, on a logarithmic axis.

use super::super::format::{self, Refit};
use super::super::schema::{LayerFigures, Report};
use super::page::{At, Detail, LogAxis, Page, decade, esc, path};

const HEIGHT: f64 = 300.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 268.0;
/// One layer that is nearly right must not press all others together.
const DECADES: f64 = 3.0;
/// More labels than this would touch on a page of full width.
const MAX_LABELS: usize = 27;
/// Pixels that a layer needs at least; more layers than fit scroll.
const MIN_STEP: usize = 5;

/// Writes the chart, if any layer was refitted.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    // The number of a layer is its place in graph order, here and in the table.
    let layers: Vec<(usize, &LayerFigures)> = report
        .layers
        .iter()
        .enumerate()
        .filter(|(_, l)| l.error_before_refit.is_some())
        .map(|(place, l)| (place + 1, l))
        .collect();
    let shown = layers.get(..detail.layers).unwrap_or(&layers);
    let errors = shown
        .iter()
        .filter(|(_, l)| format::refit(l) != Refit::NothingToMend)
        .flat_map(|(_, l)| [l.error_before_refit, l.error_after_refit]);
    let Some(axis) = LogAxis::of(errors.flatten(), DECADES).map(LogAxis::to_decades) else {
        return;
    };
    page.open(
        "errors",
        "Error of each layer, before and after its refit",
        "Squared error of the layer's output on calibration samples, relative to the power of the dense model's output. Numbers are those of the layer table.",
    );
    legend(page, shown, axis);
    page.put(format_args!(
        "<div class=\"scroll\"><div class=\"chart\" style=\"min-width:{}px\"><svg class=\"axis\" aria-hidden=\"true\">",
        48 + MIN_STEP * shown.len()
    ));
    for exponent in axis.decades() {
        page.put(format_args!(
            "<text x=\"40\" y=\"{}\" text-anchor=\"end\">{}</text>",
            At(y_of(axis, 10f64.powi(exponent)) + 4.0),
            decade(exponent)
        ));
    }
    page.put(format_args!(
        "</svg><svg class=\"plot\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"Error per layer before and after the refit\">\n"
    ));
    for exponent in axis.decades() {
        let y = At(y_of(axis, 10f64.powi(exponent)));
        page.put(format_args!(
            "<line class=\"grid\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\"/>"
        ));
    }
    draw(page, shown, axis);
    page.put(format_args!("</svg></div></div>\n"));
    page.left_out(shown.len(), layers.len(), "layers");
    page.close();
}

/// Writes what the marks mean, those that occur.
fn legend(page: &mut Page, layers: &[(usize, &LayerFigures)], axis: LogAxis) {
    let has = |wanted| layers.iter().any(|(_, l)| format::refit(l) == wanted);
    let below = layers.iter().any(|(_, l)| {
        format::refit(l) != Refit::NothingToMend
            && [l.error_before_refit, l.error_after_refit]
                .into_iter()
                .flatten()
                .any(|error| axis.is_below(error))
    });
    page.put(format_args!(
        "<p class=\"legend\"><span><i class=\"dot before\"></i>after pruning</span><span><i class=\"dot after\"></i>after the refit</span>"
    ));
    for (occurs, mark, meaning) in [
        (
            has(Refit::Dropped),
            "<i class=\"dot dropped\"></i>",
            "refit dropped: no gain on held-out samples",
        ),
        (
            has(Refit::NothingToMend),
            "<i class=\"dot idle\"></i>",
            "nothing to mend: the layer's input had not changed",
        ),
        (below, "▾ ", "smaller than the scale shows"),
    ] {
        if occurs {
            page.put(format_args!("<span>{mark}{meaning}</span>"));
        }
    }
    page.put(format_args!("</p>\n"));
}

fn y_of(axis: LogAxis, error: f64) -> f64 {
    BOTTOM - axis.share(error) * (BOTTOM - TOP)
}

/// Writes the tuned blocks, if any were.
pub(super) fn blocks(page: &mut Page, report: &Report, detail: &Detail) {
    if report.blocks.is_empty() {
        return;
    }
    page.open(
        "blocks",
        "Tuned blocks",
        "Error of each block's output on held-out samples, relative to the power of the dense model's, before and after the gradient steps.",
    );
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Block</th><th>Steps</th><th>Before</th><th>After</th><th>Tuning</th></tr></thead>\n<tbody>\n"
    ));
    let error = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), format::scientific);
    for block in report.blocks.iter().take(detail.groups) {
        page.put(format_args!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            path(&block.name),
            block.steps,
            error(block.held_out_before),
            error(block.held_out_after),
            if block.kept {
                "kept"
            } else {
                "dropped: no gain"
            }
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(
        detail.groups.min(report.blocks.len()),
        report.blocks.len(),
        "blocks",
    );
    page.close();
}

/// Writes the layers; across, the unit is a percentage, so that the chart fits into any width.
fn draw(page: &mut Page, layers: &[(usize, &LayerFigures)], axis: LogAxis) {
    let step = 100.0 / layers.len().max(1) as f64;
    let every = layers.len().div_ceil(MAX_LABELS).max(1);
    for (place, (number, layer)) in layers.iter().enumerate() {
        let refit = format::refit(layer);
        let before = layer.error_before_refit.unwrap_or(f64::NAN);
        let after = layer.error_after_refit.unwrap_or(before);
        page.put(format_args!(
            "<svg class=\"at\" x=\"{:.2}%\"><title>{number} {}: ",
            (place as f64 + 0.5) * step,
            esc(&layer.node)
        ));
        if refit == Refit::NothingToMend {
            page.put(format_args!(
                "{}, nothing to mend</title><circle class=\"idle\" cy=\"{}\" r=\"3\"/>",
                format::scientific(before),
                At(BOTTOM)
            ));
        } else {
            let class = if refit == Refit::Dropped {
                "dropped"
            } else {
                "after"
            };
            page.put(format_args!(
                "{} → {}</title><path class=\"stem\" d=\"M0 {}V{}\"/>",
                format::scientific(before),
                format::scientific(after),
                At(y_of(axis, before)),
                At(y_of(axis, after))
            ));
            mark(page, axis, before, "before");
            mark(page, axis, after, class);
        }
        if place % every == 0 {
            // On a narrow screen every second number is hidden.
            let class = if place / every % 2 == 1 {
                " class=\"odd\""
            } else {
                ""
            };
            page.put(format_args!(
                "<text{class} y=\"{}\" text-anchor=\"middle\">{number}</text>",
                At(BOTTOM + 20.0)
            ));
        }
        page.put(format_args!("</svg>\n"));
    }
}

/// Writes a circle or, at the bottom for an error below the scale, a triangle that points down.
fn mark(page: &mut Page, axis: LogAxis, error: f64, class: &str) {
    let y = At(y_of(axis, error));
    if axis.is_below(error) {
        page.put(format_args!(
            "<path class=\"{class}\" d=\"M-5 {y}h10l-5 7z\"/>"
        ));
    } else {
        page.put(format_args!(
            "<circle class=\"{class}\" cy=\"{y}\" r=\"4\"/>"
        ));
    }
}
