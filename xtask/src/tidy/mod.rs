//! The repository's own rules, as one list of findings.

mod files;
mod manifests;
mod rooms;
mod source;
mod text;

use std::path::Path;

use anyhow::{Result, bail};

/// A broken rule: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1; 0 means the whole file.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

/// Checks every file of the repository and prints what breaks a rule.
///
/// # Errors
/// The number of findings, where there are any.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = files::list(root)?;
    let mut findings = Vec::new();
    for path in &files {
        findings.extend(files::check_name(path));
        // Data files (images, models, archives) are not text.
        let Ok(contents) = std::fs::read_to_string(root.join(path)) else {
            continue;
        };
        findings.extend(text::check(path, &contents));
        if has_extension(path, "rs") {
            findings.extend(source::check(path, &contents));
        }
        if path.ends_with("Cargo.toml") {
            findings.extend(manifests::check(path, &contents));
        }
    }
    findings.extend(rooms::check(root)?);
    findings.sort();
    for finding in &findings {
        eprintln!("{}:{}: {}", finding.path, finding.line, finding.message);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} findings in {} files", findings.len(), files.len())
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == extension)
}
