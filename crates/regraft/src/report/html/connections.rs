//! Runs in which single connections went: what each layer keeps, how the budget was shared, what
//! came back.

use super::super::format;
use super::super::schema::Report;
use super::page::{Detail, Page, esc, label};

/// Writes what is known about single connections; nothing for a run that removed channels.
pub(super) fn section(page: &mut Page, report: &Report, detail: &Detail) {
    densities(page, report, detail);
    allocation(page, report);
    regrowth(page, report);
}

/// A bar with its name and its value: a share of a pale track, or on its own.
fn bar(page: &mut Page, name: &str, on_track: bool, share: f64, value: &str) {
    let width = share.clamp(0.0, 1.0) * 100.0;
    let drawn = if on_track {
        format!("<i style=\"width:100%\"><b style=\"width:{width:.1}%\"></b></i>")
    } else {
        format!("<i class=\"small\" style=\"width:{width:.1}%\"></i>")
    };
    page.put(format_args!(
        "<div class=\"bar\" title=\"{}: {}\"><span class=\"name id\">{}</span>\
<span class=\"track\">{drawn}</span><span class=\"value\">{}</span></div>\n",
        esc(name),
        esc(value),
        label(name),
        esc(value),
    ));
}

fn densities(page: &mut Page, report: &Report, detail: &Detail) {
    let sparse: Vec<_> = report
        .layers
        .iter()
        .filter_map(|l| Some((l, l.sparsity?)))
        .collect();
    if sparse.is_empty() {
        return;
    }
    page.open(
        "connections",
        "Connections that stay",
        "Share of each layer's connections that are kept (filled), in graph order.",
    );
    page.put(format_args!("<div class=\"bars\">\n"));
    for (layer, sparsity) in sparse.iter().take(detail.layers) {
        let kept = 1.0 - sparsity;
        bar(page, &layer.node, true, kept, &format::percent(kept, 1));
    }
    page.put(format_args!("</div>\n"));
    page.left_out(detail.layers.min(sparse.len()), sparse.len(), "layers");
    page.close();
}

fn allocation(page: &mut Page, report: &Report) {
    let Some(allocation) = &report.allocation else {
        return;
    };
    let errors = allocation.candidates.iter().map(|c| c.held_out);
    let worst = errors.fold(0.0, f64::max);
    if worst <= 0.0 {
        return;
    }
    page.open(
        "allocation",
        "How the connections were shared between layers",
        "Error of the network's output on held-out samples for every way that was tried, before any layer was solved on pruned inputs. The shortest bar was taken.",
    );
    page.put(format_args!("<div class=\"bars wide\">\n"));
    for c in &allocation.candidates {
        let share = c.held_out / worst;
        bar(
            page,
            &c.method,
            false,
            share,
            &format::scientific(c.held_out),
        );
    }
    page.put(format_args!("</div>\n"));
    page.close();
}

fn regrowth(page: &mut Page, report: &Report) {
    let Some(regrowth) = &report.regrowth else {
        return;
    };
    let worst = regrowth
        .steps
        .iter()
        .map(|s| s.held_out)
        .fold(0.0, f64::max);
    page.open(
        "regrowth",
        "Connections that moved or came back",
        "Error of the network's output on held-out samples after each change, every layer refitted, before any tuning. What did not pay was undone.",
    );
    page.put(format_args!("<div class=\"scroll\"><table>\n<thead><tr><th>Change</th><th>Connections</th><th>Kept of all</th><th>Held-out error</th><th class=\"text\"></th></tr></thead>\n<tbody>\n"));
    for step in &regrowth.steps {
        let kept = step.connections as f64 / regrowth.connections.max(1) as f64;
        let share = if worst > 0.0 {
            step.held_out / worst
        } else {
            0.0
        };
        page.put(format_args!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"text\"><span class=\"track\"><i class=\"{}\" style=\"width:{:.1}%\"></i></span></td></tr>\n",
            if step.kept { step.described().to_owned() } else { format!("{}, undone", step.described()) },
            step.changed,
            format::percent(kept, 1),
            format::scientific(step.held_out),
            if step.kept { "small" } else { "" },
            share * 100.0,
        ));
    }
    page.put(format_args!("</tbody>\n</table></div>\n"));
    page.close();
}
