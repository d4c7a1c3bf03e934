//! The error of each layer before and after its refit, on a logarithmic axis.

use super::super::format;
use super::super::schema::{LayerFigures, Report};
use super::page::{At, Detail, LogAxis, Page, decade, esc};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 268.0;

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
        .flat_map(|(_, l)| [l.error_before_refit, l.error_after_refit]);
    let Some(axis) = LogAxis::of(errors.flatten()).map(LogAxis::to_decades) else {
        return;
    };
    page.open(
        "errors",
        "Error of each layer, before and after its refit",
        "Squared error of the layer's output on calibration samples, relative to the power of the dense model's output. Numbers are those of the layer table.",
    );
    page.put(format_args!(
        "<p class=\"legend\"><span><i class=\"dot before\"></i>after pruning</span><span><i class=\"dot after\"></i>after the refit</span>\
<span><i class=\"dot dropped\"></i>refit dropped: no gain on held-out samples</span></p>\n\
<div class=\"scroll\"><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Error per layer before and after the refit\">\n"
    ));
    axes(page, axis);
    draw(page, shown, axis);
    page.put(format_args!("</svg></div>\n"));
    page.left_out(shown.len(), layers.len(), "layers");
    page.close();
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
            esc(&block.name),
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

fn axes(page: &mut Page, axis: LogAxis) {
    for exponent in axis.decades() {
        let share = axis.share(10f64.powi(exponent));
        let y = BOTTOM - share * (BOTTOM - TOP);
        page.put(format_args!(
            "<path class=\"grid\" d=\"M{} {y:.0}H{WIDTH}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            At(LEFT),
            At(LEFT - 8.0),
            At(y + 4.0),
            decade(exponent)
        ));
    }
}

fn draw(page: &mut Page, layers: &[(usize, &LayerFigures)], axis: LogAxis) {
    let step = (WIDTH - LEFT) / layers.len().max(1) as f64;
    let y = |error: f64| BOTTOM - axis.share(error) * (BOTTOM - TOP);
    // Labels stay at least 34 units apart.
    let every = (34.0 / step).ceil().max(1.0) as usize;
    for (place, (number, layer)) in layers.iter().enumerate() {
        let x = LEFT + (place as f64 + 0.5) * step;
        if place % every == 0 {
            page.put(format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{number}</text>",
                At(x),
                At(BOTTOM + 20.0)
            ));
        }
        let before = layer.error_before_refit.unwrap_or(f64::NAN);
        let after = layer.error_after_refit.unwrap_or(before);
        let (y_before, y_after) = (y(before), y(after));
        let class = if layer.kept == Some(false) {
            "dropped"
        } else {
            "after"
        };
        page.put(format_args!(
            "<g><title>{number} {}: {} → {}</title><path class=\"stem\" d=\"M{} {}V{}\"/>\
<circle class=\"before\" cx=\"{}\" cy=\"{}\" r=\"4\"/><circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"4\"/></g>\n",
            esc(&layer.node),
            format::scientific(before),
            format::scientific(after),
            At(x),
            At(y_before),
            At(y_after),
            At(x),
            At(y_before),
            At(x),
            At(y_after),
        ));
    }
}
