//! Rules for `Cargo.toml`: versions in one place, and a reason for each dependency.

use super::Finding;

/// Returns the findings of one manifest.
pub(super) fn check(path: &str, contents: &str) -> Vec<Finding> {
    let is_root = path == "Cargo.toml";
    let mut findings = Vec::new();
    let mut section = String::new();
    // Whether a comment stands above, in the same paragraph.
    let mut has_reason = false;
    for (index, line) in contents.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            has_reason = false;
        } else if section.ends_with("dependencies") && line.contains('=') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            let is_reasoned = has_reason || line.contains(" # ");
            if is_root && !is_reasoned {
                let message = format!("`{name}` has no comment that says why");
                findings.push(Finding::new(path, index + 1, message));
            }
            if !is_root && !line.contains("workspace = true") {
                let message = format!("the version of `{name}` belongs into the workspace");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_dependency_needs_a_reason_in_its_paragraph() {
        let good = "[workspace.dependencies]\n# Errors.\na = \"1\"\nb = \"1\"\n\nc = \"1\" # why\n";
        assert_eq!(check("Cargo.toml", good), []);
        let bad = "[workspace.dependencies]\n# Errors.\na = \"1\"\n\nb = \"1\"\n";
        assert_eq!(check("Cargo.toml", bad).len(), 1);
    }

    #[test]
    fn a_member_names_no_version() {
        let good = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n";
        assert_eq!(check("crates/x/Cargo.toml", good), []);
        let bad = "[dev-dependencies]\na = \"1\"\n";
        assert_eq!(check("crates/x/Cargo.toml", bad).len(), 1);
    }
}
