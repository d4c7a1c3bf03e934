//! `expectations.toml`: one status for each case, cases of one reason together.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::judge::Status;

/// The status of each case, by kind and name.
pub(crate) type Expectations = BTreeMap<(String, String), Status>;

const HEADER: &str = "\
# How each case of the ONNX backend suite comes out. Written by
# `cargo xtask conformance --cases DIR --write`; do not edit by hand.
";

/// Returns what a file says.
pub(crate) fn parse(text: &str) -> Expectations {
    let table: toml::Table = text.parse().expect("expectations.toml is TOML");
    let mut found = Expectations::new();
    for (kind, statuses) in &table {
        for (status, groups) in statuses.as_table().expect("a table a kind") {
            for group in groups.as_array().expect("a list of groups") {
                let text = |key: &str| group.get(key).and_then(toml::Value::as_str);
                let reason = text("reason").unwrap_or_default().to_owned();
                let status = match status.as_str() {
                    "pass" => Status::Pass,
                    "unsupported" => Status::Unsupported(reason),
                    "wrong" => Status::Wrong(reason),
                    other => panic!("status `{other}`"),
                };
                let cases = group.get("cases").and_then(toml::Value::as_array);
                for case in cases.expect("a list of cases") {
                    let name = case.as_str().expect("a name").to_owned();
                    let before = found.insert((kind.clone(), name.clone()), status.clone());
                    assert!(before.is_none(), "{kind}/{name} has two statuses");
                }
            }
        }
    }
    found
}

/// Returns the file that says this.
pub(crate) fn format(expectations: &Expectations) -> String {
    type Group<'a> = (&'a str, &'a str, &'a str);
    let mut groups: BTreeMap<Group<'_>, Vec<&str>> = BTreeMap::new();
    for ((kind, name), status) in expectations {
        let key = (kind.as_str(), status.name(), status.reason());
        groups.entry(key).or_default().push(name);
    }
    let mut text = HEADER.to_owned();
    for ((kind, status, reason), cases) in groups {
        let _ = write!(text, "\n[[{kind}.{status}]]\n");
        if !reason.is_empty() {
            let _ = writeln!(text, "reason = {}", toml::Value::from(reason));
        }
        text.push_str("cases = [\n");
        for case in cases {
            let _ = writeln!(text, "  \"{case}\",");
        }
        text.push_str("]\n");
    }
    text
}

/// Returns a line for each case that came out otherwise than expected.
pub(crate) fn drift(expected: &Expectations, found: &Expectations) -> Vec<String> {
    let mut lines = Vec::new();
    for ((kind, name), status) in found {
        let how = match expected.get(&(kind.clone(), name.clone())) {
            Some(before) if before == status => continue,
            Some(before) => format!("{} ({})", before.name(), before.reason()),
            None => "not listed".to_owned(),
        };
        lines.push(format!(
            "{kind}/{name}: {} ({}), expected: {how}",
            status.name(),
            status.reason()
        ));
    }
    lines
}
