//! The tables for the terminal.

use std::fmt::Write as _;

use super::{Correlation, Effect, FIGURES, Importance, Part, Quality};
use crate::report::{TerminalStyle, printable};

/// Columns of the figures beside the name.
const FIGURES_WIDTH: usize = 74;

impl Importance {
    /// Returns the tables, at most `style.width` columns wide.
    pub fn to_terminal(&self, style: &TerminalStyle) -> String {
        let mut out = format!("\nwhat matters, on {} training samples\n", self.samples);
        let names = ["accuracy", "precision", "recall", "F1", "AP"];
        let dense: Vec<String> = names
            .iter()
            .zip(FIGURES)
            .filter_map(|(name, (_, pick))| {
                Some(format!("{name} {:.1}", 100.0 * pick(&self.dense)?))
            })
            .collect();
        if !dense.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  dense, in percent: {}", dense.join(", "));
        }
        for note in &self.notes {
            let _ = writeln!(out, "  {note}");
        }
        let width = style.width.clamp(96, 100) - FIGURES_WIDTH;
        self.table(&mut out, "group", &self.groups, width);
        self.table(&mut out, "layer", &self.layers, width);
        let _ = writeln!(
            out,
            "  half: {:.0} % of the channels (lowest L2 norm) or connections (smallest |w|) set to zero,\n  \
             all: every channel that may go. Changes in points; error: of the outputs, relative.",
            100.0 * self.share
        );
        let _ = writeln!(
            out,
            "\nmean |w| against what is lost {:>7} {:>6} {:>7}",
            "rho", "tau", "chance"
        );
        let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.2}"));
        for c in self.headlines() {
            let _ = writeln!(
                out,
                "  {:<26} {:>7} {:>6} {:>7}  {}",
                format!("{}, {}", c.over, c.loss),
                number(c.spearman),
                number(c.kendall),
                number(c.chance),
                c.words
            );
        }
        out
    }

    /// The correlations of the mean absolute weight: with quality lost and with the outputs' error.
    pub(crate) fn headlines(&self) -> impl Iterator<Item = &Correlation> {
        let quality = if self.labelled {
            "accuracy"
        } else {
            "agreement"
        };
        self.correlations.iter().filter(move |c| {
            c.strength == "mean |w|" && (c.loss == quality || c.loss == "output error")
        })
    }

    fn table(&self, out: &mut String, what: &str, parts: &[Part], width: usize) {
        if parts.is_empty() {
            return;
        }
        let first = if self.labelled { "accuracy" } else { "agree" };
        let _ = writeln!(
            out,
            "\n  {what:<width$} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8}",
            "half", "mean|w|", "L2", first, "F1", "AP", "error", "all"
        );
        for part in parts {
            let half = part.half.as_ref();
            let masked = half.map_or_else(
                || "-".to_owned(),
                |e| format!("{}/{}", short(e.masked), short(e.of)),
            );
            let points = |pick: fn(&Quality) -> Option<f64>| {
                half.and_then(|e| pick(&e.change))
                    .map_or_else(|| "-".to_owned(), change_in_points)
            };
            let error = half.and_then(|e| e.quality?.output_error);
            let _ = writeln!(
                out,
                "  {:<width$} {masked:>9} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8}",
                tail(&part.name, width),
                size(part.strength.mean_abs),
                size(part.strength.l2),
                points(|q| q.accuracy.or(q.agreement)),
                points(|q| q.macro_f1),
                points(|q| q.average_precision),
                error.map_or_else(|| "-".to_owned(), size),
                part.all
                    .as_ref()
                    .and_then(Effect::lost)
                    .map_or_else(|| "-".to_owned(), |lost| change_in_points(-lost)),
            );
        }
    }
}

/// A change of a share in points, with its sign; what rounds to nothing has none.
pub(crate) fn change_in_points(change: f64) -> String {
    let text = format!("{:+.1}", 100.0 * change);
    match text.as_str() {
        "+0.0" | "-0.0" => "0.0".to_owned(),
        _ => text,
    }
}

/// The end of a name, which tells more than its beginning.
fn tail(name: &str, width: usize) -> String {
    let name = printable(name);
    let n = name.chars().count();
    if n <= width {
        return name;
    }
    let end = name.chars().skip(n + 1 - width);
    std::iter::once('…').chain(end).collect()
}

/// A count in at most four characters up to a million.
fn short(n: usize) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{}k", n / 1000),
        _ => format!("{}M", n / 1_000_000),
    }
}

/// A number of any size in at most eight characters.
fn size(x: f64) -> String {
    if x == 0.0 || (1e-3..1e4).contains(&x.abs()) {
        let digits = if x.abs() >= 100.0 { 1 } else { 3 };
        format!("{x:.digits$}")
    } else {
        format!("{x:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(change_in_points(-1e-4), "0.0");
        assert_eq!(change_in_points(-0.873), "-87.3");
        assert_eq!((short(9_999), short(36_864)), ("9999".into(), "36k".into()));
        assert_eq!((size(0.0), size(4.2e-5)), ("0.000".into(), "4.2e-5".into()));
        assert_eq!(tail("/a/b/conv", 5), "…conv");
        assert_eq!(tail("conv", 5), "conv");
    }
}
