//! What went wrong, as text or as one JSON object, and the exit code for it.

use std::error::Error as _;
use std::path::Path;
use std::sync::Mutex;

use regraft::{Error, ErrorKind};
use serde::Serialize;

use crate::console_text::{safe_line, to_stderr};

/// Failed, or the pruned model did not verify.
const FAILED: u8 = 1;
/// An option or a recipe does not make sense; clap's own code too.
pub(crate) const USAGE: u8 = 2;
/// Everything was written, but the quality asked for was not reached.
const TARGET_MISSED: u8 = 3;
/// A model or data file is refused.
const REFUSED: u8 = 4;
/// Everything was written, but something asked for was replaced.
const WITH_FALLBACKS: u8 = 5;
/// A fault of this program (`EX_SOFTWARE` of sysexits).
const INTERNAL: u8 = 70;
/// A file cannot be read or written (`EX_IOERR` of sysexits).
const IO: u8 = 74;
/// Stopped by a signal: 128 and the number of SIGINT, as shells say it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why the command ends with a code other than 0.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    kind: &'static str,
    message: String,
    cause: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(rename = "exit_code")]
    pub(crate) code: u8,
}

/// The `error` of an object on stderr.
#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a Failure,
}

impl Failure {
    fn new(kind: &'static str, code: u8, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: Vec::new(),
            node: None,
            hint: None,
            code,
        }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns a failure for options that clap cannot judge.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new("usage", USAGE, message).with_hint(hint)
    }

    /// Returns what clap has to say, without its decoration.
    pub(crate) fn from_clap(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        let first = lines.next().unwrap_or_default();
        let mut failure = Self::new("usage", USAGE, first.trim_start_matches("error: "));
        failure.hint = lines
            .find_map(|l| l.strip_prefix("tip: "))
            .map(str::to_owned);
        failure
    }

    /// Returns a failure to read or write `path`.
    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        let mut failure = Self::new("io", IO, format!("cannot {doing} `{}`", path.display()));
        failure.cause.push(error.to_string());
        failure
    }

    /// Returns a failure to print a result.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        let mut failure = Self::new("io", IO, "cannot write the result to stdout");
        failure.cause.push(error.to_string());
        failure
    }

    /// Returns that a result has no JSON form.
    pub(crate) fn json(error: &impl std::error::Error) -> Self {
        let mut failure = Self::new("internal", INTERNAL, "the result cannot be written as JSON");
        failure.cause.push(error.to_string());
        failure
    }

    /// Returns that more quality was lost than allowed; all files are there.
    pub(crate) fn target_missed(what: &str, lost: f64, allowed: f64) -> Self {
        Self::new(
            "target-missed",
            TARGET_MISSED,
            format!("{what} fell by {lost:.2} points, more than the {allowed} of `--max-drop`"),
        )
        .with_hint("the files were written all the same; keep more of the network, or calibrate with more samples")
    }

    /// Returns that `--max-drop` was given, but nothing could be judged; all files are there.
    pub(crate) fn unjudged() -> Self {
        Self::new(
            "target-missed",
            TARGET_MISSED,
            "`--max-drop` was given, but there were no samples to judge on",
        )
        .with_hint("the files were written all the same; point --data at more samples")
    }

    /// Returns that something was replaced; all files are there.
    pub(crate) fn fallbacks(fallbacks: &[regraft::report::Fallback]) -> Self {
        let things = if fallbacks.len() == 1 {
            "thing"
        } else {
            "things"
        };
        let mut failure = Self::new(
            "fallbacks",
            WITH_FALLBACKS,
            format!(
                "done, but {} {things} asked for had to be replaced",
                fallbacks.len()
            ),
        )
        .with_hint("the files were written; the report says what was done instead");
        let line = |f: &regraft::report::Fallback| match &f.node {
            Some(node) => format!("`{node}`: {}", f.what),
            None => f.what.clone(),
        };
        failure.cause = fallbacks.iter().take(3).map(line).collect();
        failure
    }

    /// Returns what the hook of [`silence_panics`] saw first.
    pub(crate) fn from_panic() -> Self {
        let mut failure = Self::new("internal", INTERNAL, "internal error, please report");
        let seen = FIRST_PANIC.lock().ok().and_then(|mut seen| seen.take());
        failure.cause.extend(seen);
        failure.with_hint(format!(
            "this is a fault of regraft {}, not of your files: {}/issues",
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_REPOSITORY")
        ))
    }

    /// Writes the failure to stderr.
    pub(crate) fn print(&self, json: bool) {
        if json {
            // An object of strings always has a JSON form, and JSON spells controls out itself.
            let text = serde_json::to_string(&Envelope { error: self }).unwrap_or_default();
            to_stderr(&format!("{text}\n"));
        } else {
            to_stderr(&self.to_text());
        }
    }

    fn to_text(&self) -> String {
        // Not a failure: everything asked for was done, in one way or another.
        let (word, tone) = if self.code == WITH_FALLBACKS {
            ("warning", 33)
        } else {
            ("error", 31)
        };
        let mut text = format!(
            "\u{1b}[1;{tone}m{word}\u{1b}[0m: {}\n",
            safe_line(&self.message)
        );
        if let Some(node) = self.node.as_deref().filter(|n| !self.message.contains(*n)) {
            text.push_str("  at node: ");
            text.push_str(&safe_line(node));
            text.push('\n');
        }
        for cause in &self.cause {
            text.push_str(&indented("  cause: ", cause));
        }
        if let Some(hint) = &self.hint {
            text.push('\n');
            text.push_str(&indented("\u{1b}[1;36mhint\u{1b}[0m: ", hint));
        }
        text
    }
}

/// Returns `text` behind `label`, further lines set under the first.
fn indented(label: &str, text: &str) -> String {
    let indent = " ".repeat(console::measure_text_width(label));
    let mut out = String::new();
    for (place, line) in text.trim_end().lines().enumerate() {
        out.push_str(if place == 0 { label } else { &indent });
        out.push_str(&safe_line(line));
        out.push('\n');
    }
    out
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, code) = match error.kind() {
            ErrorKind::Usage => ("usage", USAGE),
            ErrorKind::Input => ("input", REFUSED),
            ErrorKind::Model => ("model", FAILED),
            ErrorKind::Verify => ("verify", FAILED),
            ErrorKind::Io => ("io", IO),
            ErrorKind::Interrupted => ("interrupted", INTERRUPTED),
            ErrorKind::Internal => ("internal", INTERNAL),
            _ => ("failed", FAILED),
        };
        let mut failure = Self::new(kind, code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            failure.cause.push(cause.to_string());
            source = cause.source();
        }
        failure.node = error.node().map(str::to_owned);
        failure.hint = error.hint().map(str::to_owned);
        failure
    }
}

static FIRST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// From now on a panic prints nothing; the first one is kept for [`Failure::from_panic`].
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic".to_owned());
        let place = info
            .location()
            .map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        if let Ok(mut seen) = FIRST_PANIC.lock() {
            seen.get_or_insert(format!("{text}{place}"));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn hostile_names_are_spelt_out_and_lines_are_set_under_each_other() {
        let mut failure = Failure::new("input", 4, "node `\u{1b}[2J`");
        failure.cause.push("first\nsecond".to_owned());
        failure.hint = Some("one\ntwo".to_owned());
        let text = anstream::adapter::strip_str(&failure.to_text()).to_string();
        assert_eq!(
            text,
            "error: node `\\u{1b}[2J`\n  cause: first\n         second\n\nhint: one\n      two\n"
        );
    }

    #[test]
    fn json_has_the_code_and_the_kind() {
        let failure = Failure::target_missed("accuracy", 1.25, 1.0);
        let text = serde_json::to_string(&super::Envelope { error: &failure }).unwrap();
        assert!(
            text.starts_with("{\"error\":{\"kind\":\"target-missed\""),
            "{text}"
        );
        assert!(text.contains("\"exit_code\":3"), "{text}");
    }
}
