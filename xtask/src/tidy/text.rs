//! Rules for every text file: length, machine paths, open work without an issue.

use super::{Finding, has_extension};

/// Lines of a source file, tests and comments included.
const MAX_LINES: usize = 800;
/// Lines of ARCHITECTURE.md: it is read in one go or not at all.
const MAX_ARCHITECTURE_LINES: usize = 200;
/// Generated files, which no one reads from top to bottom.
const GENERATED: [&str; 1] = ["crates/regraft-onnx/src/proto/onnx.rs"];
/// First folders of paths that exist on one machine only. Without the slash, so
/// that this file does not contain what it looks for.
const MACHINE_FOLDERS: [&str; 5] = ["home", "root", "tmp", "Users", "work"];
/// Marks of open work; each needs the issue that will do it: `(#12)`.
const OPEN_WORK: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Returns the findings of one text file.
pub(super) fn check(path: &str, contents: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if GENERATED.contains(&path) || path == "Cargo.lock" {
        return findings;
    }
    let lines = contents.lines().count();
    if let Some(limit) = limit_of(path)
        && lines > limit
    {
        let message = format!("{lines} lines, at most {limit}: split it");
        findings.push(Finding::new(path, 0, message));
    }
    for (index, line) in contents.lines().enumerate() {
        if let Some(folder) = machine_path(line) {
            let message = format!("`/{folder}/...` exists on one machine only");
            findings.push(Finding::new(path, index + 1, message));
        }
        for mark in OPEN_WORK {
            if has_mark_without_issue(line, mark) {
                let message = format!("{mark} without an issue: write `{mark}(#12)`");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

fn limit_of(path: &str) -> Option<usize> {
    if path == "ARCHITECTURE.md" {
        return Some(MAX_ARCHITECTURE_LINES);
    }
    let source = ["rs", "py", "sh", "css", "js"];
    source
        .iter()
        .any(|e| has_extension(path, e))
        .then_some(MAX_LINES)
}

/// Returns the first folder of an absolute path that only one machine has.
fn machine_path(line: &str) -> Option<&'static str> {
    MACHINE_FOLDERS.into_iter().find(|folder| {
        let wanted = format!("/{folder}/");
        line.match_indices(&wanted).any(|(at, _)| {
            // `../shared/tmp/` and `https://host/home/` are not machine paths.
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            !before.is_some_and(|c| c.is_alphanumeric() || "._-/}~>".contains(c))
        })
    })
}

fn has_mark_without_issue(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + mark.len()..).unwrap_or_default();
        let is_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        is_word && !after.starts_with("(#")
    })
}

#[cfg(test)]
mod tests {
    use super::{MACHINE_FOLDERS, MAX_LINES, OPEN_WORK, check};

    fn count(path: &str, contents: &str) -> usize {
        check(path, contents).len()
    }

    #[test]
    fn long_sources_are_findings_and_long_data_is_not() {
        let long = "\n".repeat(MAX_LINES + 1);
        assert_eq!(count("a.rs", &long), 1);
        assert_eq!(count("a.py", &long), 1);
        assert_eq!(count("ARCHITECTURE.md", &long), 1);
        assert_eq!(count("a.csv", &long), 0);
        assert_eq!(count("a.rs", &"\n".repeat(MAX_LINES)), 0);
    }

    #[test]
    fn machine_paths_are_findings() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(count("a.md", &format!("open(\"/{folder}/x\")")), 1);
            assert_eq!(count("a.md", &format!("crates/{folder}/x")), 0);
        }
    }

    #[test]
    fn open_work_needs_an_issue() {
        for mark in OPEN_WORK {
            assert_eq!(count("a.rs", &format!("// {mark}: later")), 1);
            assert_eq!(count("a.rs", &format!("// {mark}(#12): later")), 0);
            assert_eq!(count("a.rs", &format!("let a{mark}b = 1;")), 0);
        }
    }
}
