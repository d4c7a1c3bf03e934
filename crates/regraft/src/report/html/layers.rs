//! One line per layer; opened, it shows the figures of the refit and the weights.

use super::super::format::{self, Refit};
use super::super::schema::{Change, LayerFigures, Report};
use super::page::{Detail, Page, esc, label};
use super::weights;

/// Writes the layer table.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    if report.layers.is_empty() {
        return;
    }
    page.open(
        "layers",
        "Layers",
        "In graph order. Open a line for its refit and the distribution of its weights, dense above and small below: histogram, box plot (quartiles, median; the dot is the mean) and local extrema (▼ above a peak, ▲ below a valley).",
    );
    page.put(format_args!(
        "<div class=\"layers\">\n<div class=\"row head\"><span>#</span><span>Layer</span><span>In</span><span>Out</span><span>MACs dense → small</span><span>Kept</span><span>Error</span><span>Weights</span></div>\n"
    ));
    let shown = report.layers.len().min(detail.layers);
    for (place, layer) in report.layers.iter().take(shown).enumerate() {
        row(page, place, layer, place < detail.drawings);
    }
    page.put(format_args!("</div>\n"));
    page.left_out(shown, report.layers.len(), "layers");
    page.left_out(shown.min(detail.drawings), shown, "layers' weights");
    page.close();
}

fn row(page: &mut Page, place: usize, layer: &LayerFigures, drawn: bool) {
    let kept = format::ratio(layer.macs.before, layer.macs.after).unwrap_or(1.0);
    page.put(format_args!(
        "<details><summary class=\"row\"><span class=\"no\">{}</span><span class=\"name id\" title=\"{}\">{}<small>{}</small></span>\
<span>{}</span><span>{}</span><span>{}</span><span class=\"meter\" title=\"{} of the MACs\"><i style=\"width:{:.0}%\"></i></span>{}",
        place + 1,
        esc(&layer.node),
        label(&layer.node),
        esc(&layer.op),
        width(layer.channels_in),
        width(layer.channels_out),
        format::si_change(layer.macs),
        format::percent(kept, 0),
        kept.clamp(0.0, 1.0) * 100.0,
        error(layer)
    ));
    let drawn = layer.weights.as_ref().filter(|_| drawn);
    if let Some(stats) = drawn {
        weights::thumbnail(page, stats);
    } else {
        page.put(format_args!("<span></span>"));
    }
    page.put(format_args!("</summary><div class=\"open\">"));
    facts(page, layer);
    if let Some(stats) = drawn {
        weights::figure(page, stats);
    }
    page.put(format_args!("</div></details>\n"));
}

fn width(channels: Change<usize>) -> String {
    if channels.before == channels.after {
        channels.after.to_string()
    } else {
        format!("{} → {}", channels.before, channels.after)
    }
}

/// The cell of the table that says what the refit did to the error.
fn error(layer: &LayerFigures) -> String {
    let (Some(before), Some(after)) = (layer.error_before_refit, layer.error_after_refit) else {
        return "<span class=\"none\">–</span>".to_owned();
    };
    let (before, after) = (format::scientific(before), format::scientific(after));
    match format::refit(layer) {
        Refit::NothingToMend => "<span class=\"none\">nothing to mend</span>".to_owned(),
        Refit::Dropped => format!("<span class=\"dropped\">{before} · dropped</span>"),
        Refit::Kept | Refit::None => format!("<span>{before} → {after}</span>"),
    }
}

fn facts(page: &mut Page, layer: &LayerFigures) {
    page.put(format_args!("<dl>"));
    let mut fact = |label: &str, value: &str| {
        page.put(format_args!("<dt>{label}</dt><dd>{value}</dd>"));
    };
    if let Some(group) = &layer.group {
        fact("group", &esc(group).to_string());
    }
    let change = |c: Change<u64>| format!("{} → {}", format::si(c.before), format::si(c.after));
    fact("parameters", &change(layer.params));
    fact("MACs", &change(layer.macs));
    if let Some(sparsity) = layer.sparsity {
        fact("zeros", &format::percent(sparsity, 1));
    }
    if let Some(mask) = &layer.mask {
        fact("mask found by", &esc(mask).to_string());
    }
    if let Some(swaps) = layer.swaps {
        fact("swapped connections", &swaps.to_string());
    }
    if let Some(residual) = layer.residual {
        fact("residual of the refit", &format::scientific(residual));
    }
    let errors = |before: Option<f64>, after: Option<f64>| match (before, after) {
        (Some(b), Some(a)) => Some(format!(
            "{} → {}",
            format::scientific(b),
            format::scientific(a)
        )),
        (Some(x), None) | (None, Some(x)) => Some(format::scientific(x)),
        (None, None) => None,
    };
    if let Some(text) = errors(layer.error_before_refit, layer.error_after_refit) {
        fact("calibration error", &text);
    }
    if let Some(text) = errors(layer.held_out_before, layer.held_out_after) {
        fact("held-out error", &text);
    }
    let refit = match format::refit(layer) {
        Refit::Kept => "kept",
        Refit::Dropped => "dropped: it did not lower the held-out error",
        Refit::NothingToMend => "nothing to mend: the layer's input had not changed",
        Refit::None => "none",
    };
    fact("refit", refit);
    if let Some(damping) = layer.damping {
        let steps = match layer.damping_steps {
            Some(0) | None => String::new(),
            Some(1) => ", 1 step up the ladder".to_owned(),
            Some(n) => format!(", {n} steps up the ladder"),
        };
        fact("damping", &format!("{}{steps}", format::trimmed(damping)));
    }
    if let Some(dead) = layer.dead_inputs.filter(|dead| *dead > 0) {
        fact("dead inputs", &dead.to_string());
    }
    page.put(format_args!("</dl>"));
}
