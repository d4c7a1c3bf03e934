//! Quality by class: table, confusion matrices, precision over recall.

use super::super::format;
use super::super::schema::{Change, Metrics, PrPoint, Report};
use super::page::{At, Detail, Page, esc};

/// Writes what is known about single classes, if anything is.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    let (Some(dense), Some(small)) = (&report.dense.metrics, &report.small.metrics) else {
        return;
    };
    if small.per_class.is_empty() && small.confusion.is_none() && small.pr_curve.is_empty() {
        return;
    }
    page.open(
        "classes",
        "Quality by class",
        "Where the two models differ.",
    );
    let [before, _, after] = format::columns(report);
    per_class(page, (dense, small), (before, after), detail);
    page.put(format_args!("<div class=\"pair\">\n"));
    confusion(page, &capital(before), dense, small, detail);
    confusion(page, &capital(after), small, small, detail);
    let curves = (&dense.pr_curve[..], &small.pr_curve[..]);
    precision_recall(page, curves, (before, after));
    page.put(format_args!("</div>\n"));
    page.close();
}

/// Returns a word with a capital letter.
fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn per_class(
    page: &mut Page,
    (dense, small): (&Metrics, &Metrics),
    (before, after): (&str, &str),
    detail: &Detail,
) {
    let rows = format::classes(dense, small, detail.classes);
    if rows.is_empty() {
        return;
    }
    let total = small.per_class.len();
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Class</th><th>Samples</th><th>F1 {before}</th><th>F1 {after}</th><th>Change</th><th>Precision {after}</th><th>Recall {after}</th><th>Average precision {after}</th></tr></thead>\n<tbody>\n"
    ));
    for (now, then) in &rows {
        let f1 = then.and_then(|b| b.f1);
        let change = match (f1, now.f1) {
            (Some(b), Some(a)) => format::points(Change::new(b, a)),
            _ => "–".to_owned(),
        };
        page.put(format_args!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{change}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            esc(&now.class),
            now.support,
            share(f1),
            share(now.f1),
            share(now.precision),
            share(now.recall),
            share(now.average_precision)
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(rows.len(), total, "classes (those that lost most)");
}

fn share(x: Option<f64>) -> String {
    x.map_or_else(|| "–".to_owned(), |v| format::percent(v, 2))
}

/// Writes one confusion matrix as a table whose cells are tinted by their share of the row.
fn confusion(page: &mut Page, title: &str, metrics: &Metrics, names: &Metrics, detail: &Detail) {
    let Some(matrix) = metrics.confusion.as_ref().filter(|m| !m.is_empty()) else {
        return;
    };
    if matrix.len() > detail.classes {
        page.put(format_args!(
            "<p class=\"note\">{title}: the confusion matrix of {} classes is in report.json.</p>\n",
            matrix.len()
        ));
        return;
    }
    page.put(format_args!(
        "<figure class=\"confusion\"><figcaption>{title} model: true class (row), predicted class (column)</figcaption><div class=\"scroll\"><table>\n<thead><tr><th></th>"
    ));
    let name = |class: usize| {
        let known = names.per_class.get(class);
        known.map_or_else(|| class.to_string(), |c| c.class.clone())
    };
    for class in 0..matrix.len() {
        page.put(format_args!("<th><span>{}</span></th>", esc(&name(class))));
    }
    page.put(format_args!("</tr></thead>\n<tbody>\n"));
    for (class, row) in matrix.iter().enumerate() {
        let sum: u64 = row.iter().sum();
        page.put(format_args!("<tr><th>{}</th>", esc(&name(class))));
        for (predicted, count) in row.iter().take(detail.classes).enumerate() {
            let tint = *count as f64 / sum.max(1) as f64;
            let class_name = match (predicted == class, tint > 0.5) {
                (true, true) => "hit",
                (true, false) => "hit low",
                (false, _) => "miss",
            };
            if *count == 0 {
                page.put(format_args!("<td></td>"));
            } else {
                page.put(format_args!(
                    "<td class=\"{class_name}\" style=\"--a:{:.0}%\">{count}</td>",
                    // A few per cent of confusion must be visible beside the diagonal.
                    if predicted == class {
                        tint * 85.0
                    } else {
                        12.0 + tint * 300.0
                    }
                    .min(90.0)
                ));
            }
        }
        page.put(format_args!("</tr>\n"));
    }
    page.put(format_args!("</tbody></table></div></figure>\n"));
}

fn precision_recall(
    page: &mut Page,
    (dense, small): (&[PrPoint], &[PrPoint]),
    (before, after): (&str, &str),
) {
    if small.len() < 2 {
        return;
    }
    page.put(format_args!(
        "<figure class=\"pr\"><figcaption>Precision over recall, all classes pooled (micro average) <span class=\"legend\"><span><i class=\"dot dense\"></i>{before}</span><span><i class=\"dot after\"></i>{after}</span></span></figcaption>\
<svg viewBox=\"-34 -8 380 244\" role=\"img\" aria-label=\"Precision over recall, all classes pooled\">"
    ));
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (x, y) = (At(share * 336.0), At(210.0 - share * 210.0));
        page.put(format_args!(
            "<path class=\"grid\" d=\"M0 {y}H336\"/><text x=\"-6\" y=\"{}\" text-anchor=\"end\">{share}</text><text x=\"{x}\" y=\"228\" text-anchor=\"middle\">{share}</text>",
            At(214.0 - share * 210.0)
        ));
    }
    for (class, points) in [("dense", dense), ("small", small)] {
        if points.len() < 2 {
            continue;
        }
        // 200 points are more than the drawing can show.
        let stride = points.len().div_ceil(200).max(1);
        page.put(format_args!("<path class=\"line {class}\" d=\""));
        for (place, point) in points.iter().step_by(stride).enumerate() {
            page.put(format_args!(
                "{}{} {}",
                if place == 0 { 'M' } else { 'L' },
                At(point.recall.clamp(0.0, 1.0) * 336.0),
                At(210.0 - point.precision.clamp(0.0, 1.0) * 210.0)
            ));
        }
        page.put(format_args!("\"/>"));
    }
    page.put(format_args!("</svg></figure>\n"));
}
