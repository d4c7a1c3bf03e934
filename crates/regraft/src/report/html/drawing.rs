//! The network before and after, side by side: nodes from top to bottom, arcs where one reads another
//! that does not stand just above it.

use super::super::drawing::{DrawnNode, GraphDrawing, Row};
use super::super::format;
use super::page::{At, Page, esc};

/// Pixels of a row, of a node and of the whole drawing.
const ROW: f64 = 24.0;
const HEIGHT: f64 = 19.0;
const WIDTH: f64 = 1072.0;
/// Room for arcs at each side.
const ARCS: f64 = 96.0;
/// Between the two networks.
const GAP: f64 = 24.0;
const NODE: f64 = (WIDTH - 2.0 * ARCS - GAP) / 2.0;
/// Rows drawn at most where all are; beyond, those that differ and their neighbours.
const ALL_ROWS: usize = 160;
/// Rows drawn at most.
const MAX_ROWS: usize = 400;
/// Characters of a name.
const NAME: usize = 34;

/// One of the two networks.
struct Side<'a> {
    nodes: &'a [DrawnNode],
    /// Left edge of the nodes, the edge that arcs start from, and 1 if they go to the right.
    left: f64,
    edge: f64,
    sign: f64,
    /// The row of each node, if it is drawn.
    rows: Vec<Option<usize>>,
}

/// Writes the drawing.
pub(super) fn figure(page: &mut Page, drawing: &GraphDrawing) {
    let all = drawing.rows();
    let n_rows = all.len();
    let rows = visible(drawing, all);
    let place = |list: &[DrawnNode], of: fn(&Row) -> Option<usize>| {
        let mut places = vec![None; list.len()];
        for (row, pair) in rows.iter().enumerate() {
            if let Some(slot) = of(pair).and_then(|at| places.get_mut(at)) {
                *slot = Some(row);
            }
        }
        places
    };
    let sides = [
        Side {
            nodes: &drawing.before,
            left: ARCS,
            edge: ARCS,
            sign: -1.0,
            rows: place(&drawing.before, |r| r.0),
        },
        Side {
            nodes: &drawing.after,
            left: ARCS + NODE + GAP,
            edge: WIDTH - ARCS,
            sign: 1.0,
            rows: place(&drawing.after, |r| r.1),
        },
    ];
    let nodes = drawing.before.iter().chain(&drawing.after);
    let most = nodes.map(|n| n.macs).max().unwrap_or(0).max(1) as f64;
    let height = ROW * (rows.len() as f64 + 1.0) + 8.0;
    page.put(format_args!(
        "<p class=\"note\">The network before on the left, as it was written on the right; what differs is framed. The filled part of a node is its share of the most multiply-accumulates, an arc is a value that skips nodes.</p>\n\
         <div class=\"scroll\"><svg class=\"graph\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{} nodes before, {} after\">\n",
        At(WIDTH),
        At(height),
        drawing.before.len(),
        drawing.after.len()
    ));
    for (side, title) in sides.iter().zip(["before", "after"]) {
        page.put(format_args!(
            "<text x=\"{}\" y=\"14\">{title}</text>\n",
            At(side.left)
        ));
        edges(page, side);
    }
    for pair in &rows {
        let differs = drawing.differs(*pair);
        for (side, at) in sides.iter().zip([pair.0, pair.1]) {
            if let Some(at) = at {
                node(page, side, at, differs, most);
            }
        }
    }
    page.put(format_args!("</svg></div>\n"));
    page.left_out(rows.len(), n_rows, "rows");
}

/// Returns the rows that are drawn.
fn visible(drawing: &GraphDrawing, rows: Vec<Row>) -> Vec<Row> {
    if rows.len() <= ALL_ROWS {
        return rows;
    }
    let differs: Vec<bool> = rows.iter().map(|r| drawing.differs(*r)).collect();
    let near = |at: usize| {
        let around = at.saturating_sub(1)..(at + 2).min(rows.len());
        differs[around].contains(&true)
    };
    let shown = (0..rows.len()).filter(|at| near(*at));
    shown.map(|at| rows[at]).take(MAX_ROWS).collect()
}

fn top(row: usize) -> f64 {
    ROW * (row as f64 + 1.0)
}

fn node(page: &mut Page, side: &Side<'_>, at: usize, differs: bool, most: f64) {
    let (Some(node), Some(Some(row))) = (side.nodes.get(at), side.rows.get(at)) else {
        return;
    };
    let y = top(*row);
    let class = if differs { "node changed" } else { "node" };
    page.put(format_args!(
        "<g><title>{}: {}, {} MACs</title><rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>",
        esc(&node.name),
        esc(&node.what),
        format::si(node.macs),
        At(side.left),
        At(y),
        At(NODE),
        At(HEIGHT)
    ));
    if node.macs > 0 {
        let share = (node.macs as f64 / most * NODE).max(1.0);
        page.put(format_args!(
            "<rect class=\"load\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"4\"/>",
            At(side.left),
            At(y + HEIGHT - 4.0),
            At(share)
        ));
    }
    page.put(format_args!(
        "<text x=\"{}\" y=\"{}\">{}</text><text class=\"what\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text></g>\n",
        At(side.left + 6.0),
        At(y + 12.5),
        esc(&end_of(&node.name)),
        At(side.left + NODE - 6.0),
        At(y + 12.5),
        esc(&format::clip(&node.what, 44))
    ));
}

/// Returns the end of a name, which says more than its beginning.
fn end_of(name: &str) -> String {
    let n = name.chars().count();
    if n <= NAME {
        return name.to_owned();
    }
    let end: String = name.chars().skip(n + 1 - NAME).collect();
    format!("…{end}")
}

fn edges(page: &mut Page, side: &Side<'_>) {
    for (at, node) in side.nodes.iter().enumerate() {
        let Some(Some(row)) = side.rows.get(at) else {
            continue;
        };
        for from in &node.reads {
            let Some(Some(above)) = side.rows.get(*from) else {
                continue;
            };
            if from + 1 == at {
                let x = side.left + NODE / 2.0;
                page.put(format_args!(
                    "<path class=\"edge\" d=\"M{} {}V{}\"/>\n",
                    At(x),
                    At(top(*above) + HEIGHT),
                    At(top(*row))
                ));
                continue;
            }
            let (start, end) = (top(*above) + HEIGHT / 2.0, top(*row) + HEIGHT / 2.0);
            let span = (*row as f64 - *above as f64).abs();
            let reach = side.edge + side.sign * (14.0 + 9.0 * span).min(1.3 * ARCS);
            page.put(format_args!(
                "<path class=\"edge\" d=\"M{} {}C{} {} {} {} {} {}\"/>\n",
                At(side.edge),
                At(start),
                At(reach),
                At(start),
                At(reach),
                At(end),
                At(side.edge),
                At(end)
            ));
        }
    }
}
