//! The page of `inspect --html`: what is lost without each part, beside how strong it is.

use super::super::format;
use super::super::schema::{ExtremumKind, WeightFigures};
use super::page::{At, LogAxis, Page, esc, label, sentence};
use super::weights::{Range, box_plot, distribution, signed};
use crate::importance::{
    AxisProfile, Correlation, Effect, FIGURES, Importance, Part, Strength, change_in_points,
};
use crate::inspect::Inspection;

/// Parts of one section that are listed, and those of them that open.
const MAX_LISTED: usize = 300;
const MAX_OPEN: usize = 40;
/// Bars of a profile: more could not be told apart.
const MAX_BARS: usize = 64;
/// Errors this many decades below the largest lie at the bottom.
const DECADES: f64 = 4.0;
/// Names written into a scatter plot.
const MAX_NAMED: usize = 4;

/// Returns the page.
pub(in crate::report) fn render(model: &Inspection, found: &Importance) -> String {
    let mut page = Page::new(&model.model);
    head(&mut page, model, found);
    let groups = "Performance on the left, strength on the right. The thick bar is what is lost with the half of the channels with the lowest L2 norm masked, the thin one with all that may go. Output error has a logarithmic scale. Open a line for every figure, the distribution and the extrema along the axes.";
    let layers = "The same with the weaker half of a layer's connections set to zero, the layer alone. The bars have a scale of their own; boxes of weights much larger than the others' end at the frame.";
    section(&mut page, found, "groups", "Groups", groups, &found.groups);
    section(&mut page, found, "layers", "Layers", layers, &found.layers);
    scatters(&mut page, found);
    page.finish()
}

fn quality_name(found: &Importance) -> &'static str {
    if found.labelled {
        "accuracy"
    } else {
        "agreement"
    }
}

fn head(page: &mut Page, model: &Inspection, found: &Importance) {
    page.put(format_args!(
        "<p class=\"kicker\">regraft {} · what matters</p>\n<h1>{}</h1>\n<p class=\"lead\">Each group of channels and each layer is masked in turn, on <b>{} training samples</b> and without any rebuilding: what the network loses, beside how strong the connections are.</p>\n<div class=\"tiles\">\n",
        esc(&model.regraft),
        esc(&model.model),
        found.samples
    ));
    if let Some(accuracy) = found.dense.accuracy {
        let f1 = found.dense.macro_f1.unwrap_or(f64::NAN);
        let area = found.dense.average_precision.unwrap_or(f64::NAN);
        let from = format!(
            "macro F1 {}, average precision {}",
            format::percent(f1, 1),
            format::percent(area, 1)
        );
        tile(page, "dense accuracy", &format::percent(accuracy, 1), &from);
    }
    for (what, parts) in [("group", &found.groups), ("layer", &found.layers)] {
        let error = |p: &&Part| p.half.as_ref().and_then(|e| e.change.output_error);
        let most = parts
            .iter()
            .max_by(|a, b| error(a).unwrap_or(0.0).total_cmp(&error(b).unwrap_or(0.0)));
        if let (Some(part), Some(lost)) = (most, most.and_then(|p| p.half.as_ref()?.lost())) {
            let big = format!("{} points", points(-lost));
            let error = error(&part).map_or_else(String::new, format::scientific);
            let from = format!("{}, output error {error}", part.name);
            tile(page, &format!("{what} that matters most"), &big, &from);
        }
    }
    for c in found.headlines().filter(|c| c.loss == "output error") {
        let big = c.spearman.map_or_else(|| "–".to_owned(), rho);
        let title = format!("strength against error, {}", c.over);
        tile(page, &title, &big, &c.words);
    }
    page.put(format_args!("</div>\n"));
    for note in &found.notes {
        page.put(format_args!(
            "<p class=\"calm\">{}</p>\n",
            sentence(note, 400)
        ));
    }
}

fn rho(x: f64) -> String {
    format!("ρ = {x:.2}").replace('-', "−")
}

fn tile(page: &mut Page, title: &str, big: &str, from: &str) {
    page.put(format_args!(
        "<div class=\"tile\"><span class=\"label\">{}</span><span class=\"big\">{}</span><span class=\"from\">{}</span></div>\n",
        esc(title),
        esc(big),
        esc(from)
    ));
}

/// The scales that all parts of a section share.
struct Scales {
    lost: f64,
    error: Option<LogAxis>,
    weights: Range,
}

impl Scales {
    fn of(parts: &[Part]) -> Self {
        let effects = || parts.iter().flat_map(|p| [&p.half, &p.all]).flatten();
        let errors = effects().filter_map(|e| e.change.output_error);
        // Whiskers would flatten all boxes, and so would one layer of another magnitude.
        let mut boxes: Vec<f64> = parts
            .iter()
            .map(|p| {
                p.strength
                    .box_plot
                    .q1
                    .abs()
                    .max(p.strength.box_plot.q3.abs())
            })
            .collect();
        boxes.sort_by(f64::total_cmp);
        let middle = boxes.get(boxes.len() / 2).copied().unwrap_or(0.0);
        let widest = boxes.last().copied().unwrap_or(0.0);
        let reach = 2.0 * widest.min(3.0 * middle);
        let reach = if reach > 0.0 { reach } else { 1.0 };
        Self {
            lost: effects().filter_map(Effect::lost).fold(0.0, f64::max),
            error: LogAxis::of(errors, DECADES),
            weights: Range {
                lo: -reach,
                hi: reach,
                width: 140.0,
            },
        }
    }
}

fn section(page: &mut Page, found: &Importance, id: &str, title: &str, note: &str, parts: &[Part]) {
    if parts.is_empty() {
        return;
    }
    page.open(id, title, note);
    let scales = Scales::of(parts);
    page.put(format_args!(
        "<div class=\"part head\"><span>name</span><span>{} lost</span><span class=\"value\">points</span><span>output error</span><span></span><span>weights</span><span class=\"value\">mean |w|</span></div>\n<div class=\"layers\">\n",
        quality_name(found)
    ));
    for (place, part) in parts.iter().take(MAX_LISTED).enumerate() {
        if place < MAX_OPEN {
            let open = if place == 0 { " open" } else { "" };
            page.put(format_args!("<details{open}><summary>"));
            row(page, part, &scales);
            page.put(format_args!("</summary>"));
            detail(page, part);
            page.put(format_args!("</details>\n"));
        } else {
            row(page, part, &scales);
        }
    }
    page.put(format_args!("</div>\n"));
    if parts.len() > MAX_OPEN {
        page.put(format_args!(
            "<p class=\"note\">The first {MAX_OPEN} of {} open, {} are listed; everything is in the output of --json.</p>\n",
            parts.len(),
            parts.len().min(MAX_LISTED)
        ));
    }
    page.close();
}

fn row(page: &mut Page, part: &Part, scales: &Scales) {
    let share = |e: &Option<Effect>| {
        let lost = e.as_ref().and_then(Effect::lost).unwrap_or(0.0);
        At(100.0 * (lost / scales.lost.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0))
    };
    page.put(format_args!(
        "<div class=\"part\"><span class=\"name id\" title=\"{}\">{}</span><span class=\"lost\"><b style=\"width:{}%\"></b>",
        esc(&part.name),
        label(&part.name),
        share(&part.half)
    ));
    if part.all.is_some() {
        page.put(format_args!(
            "<i style=\"width:{}%\"></i>",
            share(&part.all)
        ));
    }
    let points = part
        .half
        .as_ref()
        .and_then(Effect::lost)
        .map_or_else(|| "–".to_owned(), |lost| points(-lost));
    let error = part.half.as_ref().and_then(|e| e.change.output_error);
    let height = error
        .zip(scales.error)
        .map_or(0.0, |(e, axis)| axis.share(e));
    page.put(format_args!(
        "</span><span class=\"value\">{points}</span><span><i class=\"err\" style=\"width:{}%\"></i></span><span class=\"value\">{}</span><svg viewBox=\"0 0 140 22\" aria-hidden=\"true\"><path class=\"zero\" d=\"M70 0V22\"/>",
        At(100.0 * height),
        error.map_or_else(|| "–".to_owned(), format::scientific)
    ));
    box_plot(
        page,
        &part.strength.box_plot,
        scales.weights,
        "small",
        11.0,
        5.0,
    );
    page.put(format_args!(
        "</svg><span class=\"value\">{}</span></div>",
        format::scientific(part.strength.mean_abs)
    ));
}

/// A change of a share in points.
fn points(change: f64) -> String {
    change_in_points(change).replace('-', "−")
}

fn detail(page: &mut Page, part: &Part) {
    page.put(format_args!("<div class=\"open two\"><div>"));
    effects(page, part);
    page.put(format_args!("</div><div>"));
    strength(page, &part.strength);
    page.put(format_args!("</div></div>"));
}

/// Every figure: masked, its absolute and its relative change.
fn effects(page: &mut Page, part: &Part) {
    for (name, effect) in [("weaker half", &part.half), ("all that may go", &part.all)] {
        let Some(effect) = effect else { continue };
        page.put(format_args!(
            "<table><thead><tr><th>{name}: {} of {}</th><th>masked</th><th>change</th><th>relative</th></tr></thead><tbody>",
            effect.masked, effect.of
        ));
        if effect.quality.is_none() {
            page.put(format_args!(
                "<tr><th>outputs are not finite</th><td>–</td><td>–</td><td>–</td></tr>"
            ));
        }
        for (title, pick) in FIGURES {
            let Some(value) = effect.quality.as_ref().and_then(pick) else {
                continue;
            };
            let is_error = title == "output error";
            let change = pick(&effect.change).filter(|_| !is_error);
            page.put(format_args!(
                "<tr><th>{title}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                if is_error {
                    format::scientific(value)
                } else {
                    format::percent(value, 1)
                },
                change.map_or_else(|| "–".to_owned(), points),
                pick(&effect.relative)
                    .filter(|_| !is_error)
                    .map_or_else(|| "–".to_owned(), format::signed_percent)
            ));
        }
        page.put(format_args!("</tbody></table>"));
    }
}

fn strength(page: &mut Page, strength: &Strength) {
    let quantiles: Vec<String> = strength
        .quantiles
        .iter()
        .map(|(share, value)| format!("{:.0} % {}", 100.0 * share, format::scientific(*value)))
        .collect();
    page.put(format_args!(
        "<dl><dt>connections</dt><dd>{}, {} of them zero</dd><dt>mean |w|, L2 norm</dt><dd>{}, {}</dd><dt>quantiles of |w|</dt><dd>{}</dd></dl>",
        format::si(strength.connections as u64),
        format::si(strength.zeros as u64),
        format::scientific(strength.mean_abs),
        format::scientific(strength.l2),
        quantiles.join(" · ")
    ));
    let plot = &strength.box_plot;
    if plot.min.is_finite() && plot.max.is_finite() && plot.min < plot.max {
        let range = Range {
            lo: plot.min,
            hi: plot.max,
            width: 480.0,
        };
        let figures = WeightFigures {
            histogram: strength.histogram.clone(),
            box_plot: *plot,
            extrema: strength.extrema.clone(),
        };
        page.put(format_args!(
            "<svg class=\"weights\" viewBox=\"-6 -14 492 106\" role=\"img\" aria-label=\"Distribution of the weights\">"
        ));
        distribution(page, &figures, range, "small", 0.0);
        page.put(format_args!(
            "<text x=\"0\" y=\"88\">{}</text><text x=\"480\" y=\"88\" text-anchor=\"end\">{}</text></svg>",
            signed(range.lo),
            signed(range.hi)
        ));
    }
    page.put(format_args!("<div class=\"profiles\">"));
    for axis in &strength.axes {
        profile(page, axis);
    }
    page.put(format_args!("</div>"));
}

/// Bars from the profile's lowest value to its highest, peaks and valleys marked.
fn profile(page: &mut Page, axis: &AxisProfile) {
    let n = axis.values.len();
    let merged = n.div_ceil(MAX_BARS).max(1);
    let highest = axis.values.iter().copied().fold(0.0, f64::max);
    let height = |v: f64| 40.0 * v / highest.max(f64::MIN_POSITIVE);
    let step = 160.0 / n.max(1) as f64;
    page.put(format_args!(
        "<figure><figcaption><span>{} axis, {n}</span><span class=\"value\">{} maxima, {} minima</span></figcaption><svg viewBox=\"0 -9 160 52\" role=\"img\" aria-label=\"Strength along the axis\">",
        esc(&axis.axis),
        count(axis, ExtremumKind::Max),
        count(axis, ExtremumKind::Min)
    ));
    for (place, bars) in axis.values.chunks(merged).enumerate() {
        let mean = bars.iter().sum::<f64>() / bars.len() as f64;
        let wide = step * bars.len() as f64;
        page.put(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            At(place as f64 * step * merged as f64),
            At(42.0 - height(mean)),
            At((wide - 0.6).max(0.5)),
            At(height(mean))
        ));
    }
    for e in axis.extrema.iter().take(2 * MAX_BARS) {
        let (x, y) = (At((e.index as f64 + 0.5) * step), 42.0 - height(e.value));
        match e.kind {
            ExtremumKind::Max => page.put(format_args!(
                "<path class=\"peak\" d=\"M{x} {}l2.5-5h-5z\"/>",
                At(y - 1.0)
            )),
            ExtremumKind::Min => page.put(format_args!(
                "<path class=\"valley\" d=\"M{x} {}l2.5 5h-5z\"/>",
                At(y + 1.0)
            )),
        }
    }
    page.put(format_args!("</svg></figure>"));
}

fn count(axis: &AxisProfile, kind: ExtremumKind) -> usize {
    axis.extrema.iter().filter(|e| e.kind == kind).count()
}

fn scatters(page: &mut Page, found: &Importance) {
    page.open(
        "correlation",
        "Are the weak parts those that matter least?",
        "Each point is a part: its mean absolute weight to the right, the error of the network's outputs with its weaker half masked upwards, both on logarithmic scales. If strength told what matters, the points would rise.",
    );
    page.put(format_args!("<div class=\"pair\">\n"));
    scatter(page, "Groups", &found.groups);
    scatter(page, "Layers", &found.layers);
    page.put(format_args!("</div>\n"));
    correlations(page, &found.correlations);
    page.close();
}

fn scatter(page: &mut Page, title: &str, parts: &[Part]) {
    let point = |p: &Part| {
        let error = p.half.as_ref()?.change.output_error?;
        Some((p.strength.mean_abs, error))
    };
    let points: Vec<(&Part, (f64, f64))> =
        parts.iter().filter_map(|p| Some((p, point(p)?))).collect();
    let axis_x = LogAxis::of(points.iter().map(|p| p.1.0), DECADES);
    let axis_y = LogAxis::of(points.iter().map(|p| p.1.1), DECADES);
    let (Some(axis_x), Some(axis_y)) = (axis_x, axis_y) else {
        return;
    };
    let x = |v: f64| At(52.0 + 390.0 * axis_x.share(v));
    let y = |v: f64| At(250.0 - 220.0 * axis_y.share(v));
    let ((left, right), (low, high)) = (axis_x.ends(), axis_y.ends());
    page.put(format_args!(
        "<figure class=\"scatter\"><figcaption><span>{title}</span></figcaption><svg viewBox=\"0 0 480 292\" role=\"img\" aria-label=\"Strength against output error\"><path class=\"grid\" d=\"M44 14V258H460\"/><text x=\"52\" y=\"274\">{}</text><text x=\"442\" y=\"274\" text-anchor=\"middle\">{}</text><text x=\"247\" y=\"288\" text-anchor=\"middle\">mean |w|</text><text x=\"40\" y=\"254\" text-anchor=\"end\">{}</text><text x=\"40\" y=\"34\" text-anchor=\"end\">{}</text><text x=\"48\" y=\"12\">output error</text>",
        format::scientific(left),
        format::scientific(right),
        format::scientific(low),
        format::scientific(high)
    ));
    for (part, (strength, error)) in &points {
        page.put(format_args!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"5\"><title>{}: mean |w| {}, error {}</title></circle>",
            x(*strength),
            y(*error),
            esc(&part.name),
            format::scientific(*strength),
            format::scientific(*error)
        ));
    }
    let mut most: Vec<_> = points.iter().collect();
    most.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut taken: Vec<f64> = Vec::new();
    for (part, (strength, error)) in most.into_iter().take(MAX_NAMED) {
        let at = y(*error);
        // Names that would overlap are left to the tooltip.
        if taken.iter().any(|other| (other - at.0).abs() < 12.0) {
            continue;
        }
        taken.push(at.0);
        let (dx, anchor) = if axis_x.share(*strength) > 0.5 {
            (-9.0, "end")
        } else {
            (9.0, "start")
        };
        page.put(format_args!(
            "<text class=\"tag-at\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            At(x(*strength).0 + dx),
            At(at.0 + 4.0),
            esc(&part.name)
        ));
    }
    page.put(format_args!("</svg></figure>\n"));
}

fn correlations(page: &mut Page, list: &[Correlation]) {
    page.put(format_args!(
        "<div class=\"scroll\"><table><thead><tr><th>over</th><th>strength</th><th>lost</th><th>parts</th><th>Spearman ρ</th><th>Kendall τ</th><th>chance</th><th class=\"text\">in words</th></tr></thead><tbody>"
    ));
    let number = |x: Option<f64>| {
        x.map_or_else(
            || "–".to_owned(),
            |x| format!("{:.2}", x + 0.0).replace('-', "−"),
        )
    };
    for c in list {
        page.put(format_args!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            esc(&c.over),
            esc(&c.strength),
            esc(&c.loss),
            c.n,
            number(c.spearman),
            number(c.kendall),
            number(c.chance),
            esc(&c.words)
        ));
    }
    page.put(format_args!(
        "</tbody></table></div>\n<p class=\"note\">Chance: a |ρ| that unrelated lists of this length stay below 19 times out of 20.</p>\n"
    ));
}
