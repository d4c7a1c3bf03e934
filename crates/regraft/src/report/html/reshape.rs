//! Edits of the topology: what each layer became, and what it costs now.

use super::super::format;
use super::super::reshape::{PlaceTrial, ReshapeChange, ReshapeFigures, TopologyFigures};
use super::super::schema::Report;
use super::drawing;
use super::page::{BAR_WIDTH, Detail, Page, label, sentence};

/// Characters of a sentence at most.
const SENTENCE: usize = 300;

/// Writes every step, if there were any.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    if report.reshape.is_empty() && report.topology.is_none() {
        return;
    }
    page.open(
        "reshape",
        "Topology",
        "What each layer became. Grey: its multiply-accumulates before the step; blue: after it.",
    );
    if let Some(topology) = &report.topology {
        trials(page, topology);
        places(page, &topology.places, detail);
    }
    for step in &report.reshape {
        one(page, step, detail);
    }
    if let Some(drawing) = &report.drawing {
        drawing::figure(page, drawing);
    }
    page.close();
}

fn one(page: &mut Page, step: &ReshapeFigures, detail: &Detail) {
    page.put(format_args!(
        "<p>{}.</p>\n",
        sentence(&step.in_words(), SENTENCE)
    ));
    places(page, &step.places, detail);
    let cost = |c: &ReshapeChange| c.macs.before.max(c.macs.after);
    let most = step.changes.iter().map(cost).max().unwrap_or(0).max(1) as f64;
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Layer</th><th class=\"words\">became</th><th>MACs</th><th></th><th>Parameters</th><th>Error</th></tr></thead>\n<tbody>\n"
    ));
    for change in step.changes.iter().take(detail.layers) {
        let bar = |n: u64| (n as f64 / most * BAR_WIDTH).max(1.0);
        page.put(format_args!(
            "<tr><th>{}</th><td class=\"words\">{}</td><td><svg class=\"inline\" width=\"{BAR_WIDTH}\" height=\"14\" role=\"img\" aria-label=\"{} to {}\"><rect class=\"was\" width=\"{:.1}\" height=\"14\"/><rect class=\"is\" y=\"4\" width=\"{:.1}\" height=\"6\"/></svg></td><td>{} → {}</td><td>{} → {}</td><td>{}</td></tr>\n",
            label(&change.node),
            sentence(&change.what, SENTENCE),
            change.macs.before,
            change.macs.after,
            bar(change.macs.before),
            bar(change.macs.after),
            format::si(change.macs.before),
            format::si(change.macs.after),
            format::si(change.params.before),
            format::si(change.params.after),
            change.error.map_or_else(|| "–".to_owned(), |e| format::percent(e, 2)),
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(
        step.changes.len().min(detail.layers),
        step.changes.len(),
        "layers",
    );
    if !step.left.is_empty() {
        page.put(format_args!("<p>Left as they were:</p>\n<ul>\n"));
        for (node, why) in step.left.iter().take(detail.groups) {
            page.put(format_args!(
                "<li>{}: {}</li>\n",
                label(node),
                sentence(why, SENTENCE)
            ));
        }
        page.put(format_args!("</ul>\n"));
        page.left_out(
            step.left.len().min(detail.groups),
            step.left.len(),
            "layers",
        );
    }
}

/// The topologies that were tried, one row each; the bar is the error that the closed form leaves.
fn trials(page: &mut Page, topology: &TopologyFigures) {
    page.put(format_args!(
        "<p>{}.</p>\n",
        sentence(&topology.in_words(), SENTENCE)
    ));
    let errors = topology.trials.iter().map(|t| t.error);
    let most = errors.fold(f64::MIN_POSITIVE, f64::max);
    page.put(format_args!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Topology</th><th>MACs</th><th>Time</th><th>Error of the output</th><th></th><th>Trained a little</th></tr></thead>\n<tbody>\n"
    ));
    for (at, trial) in topology.trials.iter().enumerate() {
        let kept = if at == topology.chosen { ", kept" } else { "" };
        page.put(format_args!(
            "<tr><th>{}{kept}</th><td>{}</td><td>{}</td>",
            sentence(&trial.what, SENTENCE),
            format::si(trial.macs),
            trial.time_in_words(),
        ));
        page.bar_cells(trial.error / most, &format::percent(trial.error, 2));
        page.put(format_args!("<td>{}</td></tr>\n", trial.trained_in_words()));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
}

/// The edits that were tried block by block: a bar to the right is what one is worth.
fn places(page: &mut Page, places: &[PlaceTrial], detail: &Detail) {
    if places.is_empty() {
        return;
    }
    let kept = places.iter().filter(|p| p.kept).count();
    page.put(format_args!(
        "<p>Edits that only training can judge, tried at {} places: {kept} of them are in the network that was rebuilt. The worth of one is by how much the error rises without it.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>Behind</th><th class=\"words\">added</th><th>MACs</th><th>Worth</th><th></th><th></th></tr></thead>\n<tbody>\n",
        places.len()
    ));
    let gains = places.iter().map(|p| p.gain);
    let most = gains.fold(f64::MIN_POSITIVE, f64::max);
    for place in places.iter().take(detail.layers) {
        page.put(format_args!(
            "<tr><th>{}</th><td class=\"words\">{}</td><td>{}</td>",
            label(&place.node),
            sentence(&place.what, SENTENCE),
            format::si(place.macs),
        ));
        let worth = format!("{:+.3} %", 100.0 * place.gain);
        page.bar_cells(place.gain / most, &worth);
        let kept = if place.kept { "kept" } else { "" };
        page.put(format_args!("<td>{kept}</td></tr>\n"));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.left_out(places.len().min(detail.layers), places.len(), "edits");
}
