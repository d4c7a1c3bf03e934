//! The runs of several seeds, one row each, and where they lie on one line.

use std::fmt::Write;

use super::super::format;
use super::super::repeats::RepeatsFigures;
use super::super::schema::Report;
use super::super::training::MeasureName;
use super::page::{At, Page};

const WIDTH: f64 = 300.0;
const MIDDLE: f64 = 14.0;

/// Writes the runs of all seeds, if there were several.
pub(super) fn section(page: &mut Page, report: &Report) {
    let Some(repeats) = report.repeats.as_ref().filter(|r| !r.runs.is_empty()) else {
        return;
    };
    page.open("repeats", "Seeds", &format!("{}.", repeats.in_words()));
    strip(page, repeats);
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Seed</th><th>{}</th><th>Held-out {}</th><th>Weights that are not zero</th><th>Time</th></tr></thead>\n<tbody>\n",
        if repeats.r2.is_some() { "R²" } else { "Accuracy" },
        repeats.measure.title()
    ));
    for run in &repeats.runs {
        let judged = run.accuracy.map(|a| format::percent(a, 2));
        let judged = judged.or(run.r2.map(|r| MeasureName::R2.shown(r)));
        page.put(format_args!(
            "<tr><th>{}{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            run.seed,
            if run.seed == repeats.chosen {
                ", written"
            } else {
                ""
            },
            judged.unwrap_or_else(|| "–".to_owned()),
            repeats.measure.shown(run.held_out_score),
            run.nonzero,
            format::seconds(run.seconds)
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.close();
}

/// Every run as a point on one line of what judges, accuracy or R², else of the held-out score; the
/// upright line is the run that was written.
fn strip(page: &mut Page, repeats: &RepeatsFigures) {
    let (title, measure) = match (repeats.accuracy, repeats.r2) {
        (Some(_), _) => ("Accuracy", MeasureName::Accuracy),
        (None, Some(_)) => ("R²", MeasureName::R2),
        (None, None) => ("Held-out score", repeats.measure),
    };
    let values: Vec<(u64, f64)> = repeats
        .runs
        .iter()
        .map(|r| (r.seed, r.accuracy.or(r.r2).unwrap_or(r.held_out_score)))
        .collect();
    let least = values.iter().fold(f64::MAX, |m, (_, v)| m.min(*v));
    let most = values.iter().fold(f64::MIN, |m, (_, v)| m.max(*v));
    if values.len() < 2 || least >= most {
        return;
    }
    let x = |v: f64| At((v - least) / (most - least) * WIDTH);
    let mut points = String::new();
    for (seed, value) in &values {
        if *seed == repeats.chosen {
            let _ = write!(
                points,
                "<path class=\"chosen\" d=\"M{} 0V{MIDDLE}\"/>",
                x(*value)
            );
        }
        // Writing into a String cannot fail.
        let _ = write!(
            points,
            "<circle cx=\"{}\" cy=\"{MIDDLE}\" r=\"3\"><title>seed {seed}</title></circle>",
            x(*value)
        );
    }
    page.put(format_args!(
        "<figure class=\"scatter\"><figcaption><span class=\"name\">{title}</span><span class=\"value\">{} to {}</span></figcaption>\
<svg viewBox=\"-4 0 {} {}\" role=\"img\" aria-label=\"{title} of every seed\"><path class=\"frame\" d=\"M0 {MIDDLE}H{WIDTH}\"/>{points}</svg></figure>\n",
        measure.shown(least),
        measure.shown(most),
        WIDTH + 8.0,
        MIDDLE + 6.0
    ));
}
