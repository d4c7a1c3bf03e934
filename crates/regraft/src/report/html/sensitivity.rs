//! What pruning each group alone would cost: small multiples with one shared scale.

use std::fmt::Write;

use super::super::format;
use super::super::schema::{GroupFigures, Report};
use super::page::{At, Detail, LogAxis, Page, esc, label};

const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 64.0;
/// Errors more decades below the largest lie at the bottom: there they do not matter.
const DECADES: f64 = 4.0;

/// Writes one small curve per group that has one.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    let measured: Vec<&GroupFigures> = report
        .groups
        .iter()
        .filter(|g| g.sensitivity.len() > 1)
        .collect();
    let errors = measured
        .iter()
        .flat_map(|g| &g.sensitivity)
        .map(|p| p.error);
    let Some(axis) = LogAxis::of(errors, DECADES) else {
        return;
    };
    let note = format!(
        "Error over the share of channels kept, 0 to 1, with this group alone pruned; all of them on one logarithmic scale from {} to {}. The dashed end leads to all channels kept, where there is no error. The upright line marks the width that was chosen.",
        format::scientific(axis.ends().0),
        format::scientific(axis.ends().1)
    );
    page.open("sensitivity", "Sensitivity of each group", &note);
    page.put(format_args!("<div class=\"multiples\">\n"));
    for group in measured.iter().take(detail.groups) {
        multiple(page, group, axis);
    }
    page.put(format_args!("</div>\n"));
    page.left_out(detail.groups.min(measured.len()), measured.len(), "groups");
    page.close();
}

fn multiple(page: &mut Page, group: &GroupFigures, axis: LogAxis) {
    let dense = group.channels.before.max(1) as f64;
    let x = |kept: usize| At((kept as f64 / dense).clamp(0.0, 1.0) * WIDTH);
    let label_y = HEIGHT + 13.0;
    let y = |error: f64| At(HEIGHT - 4.0 - axis.share(error) * (HEIGHT - 6.0));
    page.put(format_args!(
        "<figure><figcaption><span class=\"name id\" title=\"{}\">{}</span><span class=\"value\">{} of {} kept</span></figcaption>\
<svg viewBox=\"-4 0 {} {}\" role=\"img\" aria-label=\"Error over the share of channels kept\">\
<path class=\"frame\" d=\"M0 {HEIGHT}H{WIDTH}M0 {HEIGHT}v3M{} {HEIGHT}v3M{WIDTH} {HEIGHT}v3\"/>\
<text x=\"-2\" y=\"{label_y}\">0</text><text x=\"{}\" y=\"{label_y}\" text-anchor=\"middle\">0.5</text><text x=\"{}\" y=\"{label_y}\" text-anchor=\"end\">1</text>",
        esc(&group.name),
        label(&group.name),
        group.channels.after,
        group.channels.before,
        WIDTH + 8.0,
        HEIGHT + 15.0,
        WIDTH / 2.0,
        WIDTH / 2.0,
        WIDTH + 2.0,
    ));
    let all_kept = group
        .sensitivity
        .iter()
        .any(|p| p.kept >= group.channels.before);
    let mut points = group.sensitivity.clone();
    // A logarithm has no place for an error of zero: the curve ends before it.
    points.retain(|p| p.error > 0.0);
    points.sort_by_key(|p| p.kept);
    // 40 points are more than a drawing of this size can show.
    let stride = points.len().div_ceil(40).max(1);
    let points: Vec<_> = points.into_iter().step_by(stride).collect();
    let mut line = String::new();
    for point in &points {
        let pen = if line.is_empty() { 'M' } else { 'L' };
        // Writing into a String cannot fail.
        let _ = write!(line, "{pen}{} {}", x(point.kept), y(point.error));
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        page.put(format_args!(
            "<path class=\"area\" d=\"{line}L{} {HEIGHT}L{} {HEIGHT}Z\"/><path class=\"curve\" d=\"{line}\"/>",
            x(last.kept),
            x(first.kept)
        ));
        if all_kept && last.kept < group.channels.before {
            page.put(format_args!(
                "<path class=\"curve end\" d=\"M{} {}L{WIDTH} {HEIGHT}\"/>",
                x(last.kept),
                y(last.error)
            ));
        }
    }
    page.put(format_args!(
        "<path class=\"chosen\" d=\"M{} 0V{HEIGHT}\"/></svg></figure>\n",
        x(group.channels.after)
    ));
}
