//! The page's frame, escaping, and the little SVG that all drawings share.

use std::fmt::{self, Write};

use super::super::format;

/// Width of the longest bar in a table, pixels.
pub(super) const BAR_WIDTH: f64 = 180.0;

/// How much a page shows; what is left out is named on the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    /// Layers listed and drawn as points.
    pub(super) layers: usize,
    /// Layers whose weights are drawn.
    pub(super) drawings: usize,
    /// Groups, frozen groups and notices.
    pub(super) groups: usize,
    /// Classes.
    pub(super) classes: usize,
}

impl Detail {
    pub(super) const fn new(layers: usize, drawings: usize, groups: usize, classes: usize) -> Self {
        Self {
            layers,
            drawings,
            groups,
            classes,
        }
    }
}

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page {
    html: String,
}

// img-src data: is for a browser's own default icon; there is no image here.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n";

impl Page {
    /// Returns a page with its head written.
    pub(super) fn new(title: &str) -> Self {
        let mut page = Self {
            html: HEAD.to_owned(),
        };
        page.put(format_args!(
            "<title>{} · regraft</title>\n<style>{}</style>\n</head>\n<body>\n",
            esc(title),
            include_str!("style.css")
        ));
        page
    }

    /// Appends formatted text; every argument from a model goes through [`esc`].
    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.html.write_fmt(text);
    }

    /// Opens a section with a heading and a sentence that tells how to read it.
    pub(super) fn open(&mut self, id: &str, title: &str, note: &str) {
        self.put(format_args!(
            "<section id=\"{id}\">\n<h2>{title}</h2>\n<p class=\"note\">{note}</p>\n"
        ));
    }

    /// Closes a section.
    pub(super) fn close(&mut self) {
        self.put(format_args!("</section>\n"));
    }

    /// Says how many of a list were left out, if any were.
    pub(super) fn left_out(&mut self, shown: usize, total: usize, what: &str) {
        if shown < total {
            self.put(format_args!(
                "<p class=\"note\">{shown} of {total} {what} are shown here; all of them are in report.json.</p>\n"
            ));
        }
    }

    /// Writes two cells of a table: a bar of a part of the whole width, and what it says.
    pub(super) fn bar_cells(&mut self, part: f64, text: &str) {
        let width = if part.is_finite() {
            (part * BAR_WIDTH).clamp(1.0, BAR_WIDTH)
        } else {
            1.0
        };
        self.put(format_args!(
            "<td><svg class=\"inline\" width=\"{BAR_WIDTH}\" height=\"10\" role=\"img\" aria-label=\"{text}\"><rect class=\"is\" width=\"{width:.1}\" height=\"10\"/></svg></td><td>{text}</td>"
        ));
    }

    /// Returns the finished text.
    pub(super) fn finish(mut self) -> String {
        self.put(format_args!("</body>\n</html>\n"));
        self.html
    }
}

/// Text that is safe in HTML content and in double-quoted attributes.
#[derive(Debug)]
pub(super) struct Escaped(String);

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Returns a name: one line, clipped, escaped.
pub(super) fn esc(text: &str) -> Escaped {
    Escaped(format::name(text))
}

/// A sentence that is safe in HTML content, what stands between backticks as code.
#[derive(Debug)]
pub(super) struct Sentence(String);

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (is_code, piece) in format::code_spans(&self.0) {
            let piece = Escaped(piece.to_owned());
            if is_code {
                write!(f, "<code>{piece}</code>")?;
            } else {
                write!(f, "{piece}")?;
            }
        }
        Ok(())
    }
}

/// Returns a sentence: one line, at most `max_chars`, escaped.
pub(super) fn sentence(text: &str, max_chars: usize) -> Sentence {
    Sentence(format::clip(&format::one_line(text), max_chars))
}

/// The content of an element of the class `name`: where it is too narrow, the middle goes.
#[derive(Debug)]
pub(super) struct Label(String);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = format::split_name(&self.0);
        if !start.is_empty() {
            write!(f, "<i>{}</i>", Escaped(start.to_owned()))?;
        }
        write!(f, "<span>{}</span>", Escaped(end.to_owned()))
    }
}

/// Returns a name for an element of the class `name`, which carries the whole one as its title.
pub(super) fn label(text: &str) -> Label {
    Label(format::name(text))
}

/// A name that breaks at its separators.
#[derive(Debug)]
pub(super) struct Path(String);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(['/', '.', '_']) {
            write!(f, "{}<wbr>", Escaped(piece.to_owned()))?;
        }
        Ok(())
    }
}

/// Returns a name for a cell of a table: on a narrow screen it breaks at its separators.
pub(super) fn path(text: &str) -> Path {
    Path(format::name(text))
}

/// Returns text of several lines, at most `max_chars`, escaped.
pub(super) fn block(text: &str, max_chars: usize) -> Escaped {
    let clean: String = text
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if format::is_steering(c) => '\u{fffd}',
            c => c,
        })
        .collect();
    Escaped(format::clip(&clean, max_chars))
}

/// A coordinate with at most one digit after the point: small files, still sharp.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) f64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = if self.0.is_finite() {
            (self.0 * 10.0).round() as i64
        } else {
            0
        };
        let sign = if tenths < 0 { "-" } else { "" };
        let (whole, rest) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
        if rest == 0 {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{rest}")
        }
    }
}

/// A logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogAxis {
    /// Exponent of the smallest value.
    lo: f64,
    /// Exponent of the largest value, above `lo`.
    hi: f64,
}

impl LogAxis {
    /// Returns the axis that holds all positive finite `values`, at most `decades` below the largest.
    pub(super) fn of(values: impl Iterator<Item = f64>, decades: f64) -> Option<Self> {
        let (min, max) = values
            .filter(|v| v.is_finite() && *v > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(lo, hi), v| {
                (lo.min(v), hi.max(v))
            });
        if max <= 0.0 {
            return None;
        }
        let hi = max.log10();
        // Half a decade at least: equal values would have no axis.
        let lo = min.log10().max(hi - decades).min(hi - 0.5);
        Some(Self { lo, hi })
    }

    /// Returns the axis widened to whole decades.
    pub(super) fn to_decades(self) -> Self {
        Self {
            lo: self.lo.floor(),
            hi: self.hi.ceil(),
        }
    }

    /// Returns where `value` lies, 0 at the bottom and 1 at the top; zero and less lie at the bottom.
    pub(super) fn share(self, value: f64) -> f64 {
        if value.is_nan() || value <= 0.0 {
            return 0.0;
        }
        ((value.log10() - self.lo) / (self.hi - self.lo)).clamp(0.0, 1.0)
    }

    /// Returns true if `value` lies below the smallest that the axis shows.
    pub(super) fn is_below(self, value: f64) -> bool {
        value < 10f64.powf(self.lo)
    }

    /// Returns the smallest and the largest value.
    pub(super) fn ends(self) -> (f64, f64) {
        (10f64.powf(self.lo), 10f64.powf(self.hi))
    }

    /// Returns the exponents of the decades inside.
    pub(super) fn decades(self) -> std::ops::RangeInclusive<i32> {
        self.lo.ceil() as i32..=self.hi.floor() as i32
    }
}

/// Returns the label of the decade `10^exponent`.
pub(super) fn decade(exponent: i32) -> String {
    if (-3..=3).contains(&exponent) {
        let decimals = exponent.min(0).unsigned_abs() as usize;
        format!("{:.decimals$}", 10f64.powi(exponent))
    } else {
        format!("1e{exponent}")
    }
}
