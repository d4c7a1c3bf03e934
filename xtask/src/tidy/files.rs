//! The list of files, and their names.

use std::path::Path;

use anyhow::{Context, Result};

use super::Finding;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 3] = ["utils", "helpers", "common"];

/// Returns the files of the repository, relative to its root, with `/`, sorted.
///
/// Walks folders instead of asking git: an unpacked archive is checked as well.
pub(super) fn list(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !is_ignored(&name) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(root)?.to_string_lossy();
                found.push(relative.replace('\\', "/"));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns whether a folder holds build results or another program's state.
fn is_ignored(folder: &str) -> bool {
    let own = [".ci", ".cargo", ".github"];
    folder == "target"
        || folder.starts_with("target-")
        || folder == "__pycache__"
        || folder.starts_with('.') && !own.contains(&folder)
}

/// Returns a finding where the file's or module's name says nothing.
pub(super) fn check_name(path: &str) -> Option<Finding> {
    let path_without_extension = path.strip_suffix(".rs")?;
    let name = path_without_extension
        .strip_suffix("/mod")
        .unwrap_or(path_without_extension);
    let name = name.rsplit('/').next()?;
    EMPTY_NAMES.contains(&name).then(|| {
        let message = format!("`{name}` says nothing: name the module for what it does");
        Finding::new(path, 0, message)
    })
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_say_nothing_are_findings() {
        assert!(check_name("crates/a/src/utils.rs").is_some());
        assert!(check_name("crates/a/src/common/mod.rs").is_some());
        assert!(check_name("crates/a/src/conv.rs").is_none());
        assert!(check_name("docs/common.md").is_none());
    }
}
