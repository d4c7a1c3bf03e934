//! Several networks that became one: how good each is, alone and together.

use super::super::schema::Report;
use super::page::{Page, sentence};

/// Pixels of the longest bar.
const WIDTH: f64 = 220.0;
/// Characters of a name at most.
const NAME: usize = 120;

/// Writes the comparison, if networks were fused.
pub(super) fn section(page: &mut Page, report: &Report) {
    let Some(fusion) = &report.fusion else {
        return;
    };
    page.open(
        "fusion",
        "Fusion",
        "Each network alone, the mean of their outputs, the mean of their weights, and what that became by the \
         rebuild. Bars begin at the least and end at the best of these.",
    );
    let rows = fusion.rows();
    let scores = || rows.iter().filter_map(|r| r.score);
    let least = scores().fold(f64::INFINITY, f64::min);
    let most = scores().fold(f64::NEG_INFINITY, f64::max);
    let span = (most - least).max(f64::MIN_POSITIVE);
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Network</th><th>Share</th><th></th><th>Quality</th></tr></thead>\n<tbody>\n"
    ));
    for row in &rows {
        let part = row.score.map_or(0.0, |s| (s - least) / span);
        let width = (part * WIDTH).clamp(1.0, WIDTH);
        page.put(format_args!(
            "<tr><th>{}</th><td>{}</td><td><svg class=\"inline\" width=\"{WIDTH}\" height=\"10\" role=\"img\" aria-label=\"{}\"><rect class=\"is\" width=\"{width:.1}\" height=\"10\"/></svg></td><td>{}</td></tr>\n",
            sentence(&row.what, NAME),
            row.share.map_or_else(|| "–".to_owned(), |s| format!("{s:.2}")),
            row.in_words,
            row.in_words,
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.close();
}
