//! report.html: one page, offline, without a script.
//!
//! The page is static text and our own SVG, so its content security policy
//! forbids every script and every outside resource. Whatever comes from a model
//! passes through [`page::esc`]; numbers are formatted by us.

mod classes;
mod connections;
mod depth;
mod drawing;
mod errors;
mod fusion;
mod hero;
mod importance;
mod layers;
mod page;
mod repeats;
mod reshape;
mod sensitivity;
mod timing;
mod training;
mod weights;
mod widths;

pub(super) use importance::render as importance_page;

use super::schema::Report;
use page::{Detail, Page};

/// Largest size of report.html; a page that would be larger is drawn with fewer details.
pub const MAX_HTML_BYTES: usize = 300_000;

/// From everything to the least; the last fits for any report, see the tests.
const DETAILS: [Detail; 5] = [
    Detail::new(400, 400, 200, 20),
    Detail::new(400, 90, 120, 20),
    Detail::new(300, 40, 60, 12),
    Detail::new(120, 16, 40, 10),
    Detail::new(40, 4, 16, 6),
];

/// Returns the page with as much detail as fits into [`MAX_HTML_BYTES`].
pub(super) fn render(report: &Report) -> String {
    let mut html = String::new();
    for detail in &DETAILS {
        html = render_with(report, detail);
        if html.len() <= MAX_HTML_BYTES {
            break;
        }
    }
    html
}

fn render_with(report: &Report, detail: &Detail) -> String {
    let mut page = Page::new(&report.model.name);
    hero::head(&mut page, report);
    hero::notices(&mut page, report, detail);
    hero::outcome(&mut page, report);
    training::section(&mut page, report);
    repeats::section(&mut page, report);
    fusion::section(&mut page, report);
    reshape::section(&mut page, report, detail);
    widths::section(&mut page, report, detail);
    connections::section(&mut page, report, detail);
    errors::section(&mut page, report, detail);
    errors::blocks(&mut page, report, detail);
    sensitivity::section(&mut page, report, detail);
    layers::section(&mut page, report, detail);
    widths::frozen(&mut page, report, detail);
    classes::section(&mut page, report, detail);
    depth::depth(&mut page, report);
    timing::latency(&mut page, report);
    timing::stages(&mut page, report);
    timing::reproduce(&mut page, report);
    page.finish()
}
