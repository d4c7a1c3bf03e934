//! How wide each group was and is; and the groups that could not be pruned.

use super::super::format;
use super::super::schema::Report;
use super::page::{Detail, Page, esc, label, path, sentence};

/// Longest reason that is shown.
const MAX_REASON_CHARS: usize = 300;

/// Writes one bar per group: dense width, and the channels kept of it.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    if report.groups.is_empty() {
        return;
    }
    page.open(
        "widths",
        "Widths",
        "Channels of each group: kept (filled) of dense (pale). Channels of one group go together in every node that they touch.",
    );
    let widest = report.groups.iter().map(|g| g.channels.before).max();
    let widest = widest.unwrap_or(1).max(1) as f64;
    page.put(format_args!("<div class=\"bars\">\n"));
    for group in report.groups.iter().take(detail.groups) {
        let (before, after) = (group.channels.before, group.channels.after);
        let dense_share = before as f64 / widest * 100.0;
        let kept = after as f64 / before.max(1) as f64;
        page.put(format_args!(
            "<div class=\"bar\" title=\"{}: {} kept\"><span class=\"name id\">{}</span>\
<span class=\"track\"><i style=\"width:{dense_share:.1}%\"><b style=\"width:{:.1}%\"></b></i></span>\
<span class=\"value\">{before} → {after}</span></div>\n",
            esc(&group.name),
            format::percent(kept, 0),
            label(&group.name),
            kept.clamp(0.0, 1.0) * 100.0,
        ));
    }
    page.put(format_args!("</div>\n"));
    page.left_out(
        detail.groups.min(report.groups.len()),
        report.groups.len(),
        "groups",
    );
    page.close();
}

/// Writes the frozen groups with their reasons, the costliest first.
pub(super) fn frozen(page: &mut Page, report: &Report, detail: &Detail) {
    page.open(
        "frozen",
        "What was not pruned, and why",
        "A group that is not understood completely is left as it is. The costliest first.",
    );
    if report.frozen.is_empty() {
        page.put(format_args!("<p>Every group could be pruned.</p>\n"));
        page.close();
        return;
    }
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Group</th><th>Channels</th><th>MACs</th><th>Share</th><th class=\"text\">Reason</th></tr></thead>\n<tbody>\n"
    ));
    for frozen in format::frozen_by_macs(report)
        .into_iter()
        .take(detail.groups)
    {
        let share = frozen
            .macs
            .and_then(|macs| format::ratio(report.dense.macs, macs))
            .map_or_else(|| "–".to_owned(), format::part);
        page.put(format_args!(
            "<tr><th><code>{}</code></th><td>{}</td><td>{}</td><td>{share}</td><td class=\"text\">{}</td></tr>\n",
            path(&frozen.group),
            frozen.channels.map_or_else(|| "–".to_owned(), |c| c.to_string()),
            frozen.macs.map_or_else(|| "–".to_owned(), format::si),
            sentence(&frozen.reason, MAX_REASON_CHARS)
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(
        detail.groups.min(report.frozen.len()),
        report.frozen.len(),
        "frozen groups",
    );
    page.close();
}
