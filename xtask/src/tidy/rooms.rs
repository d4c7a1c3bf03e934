//! The dependency table of ARCHITECTURE.md against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::process::{self, cargo};

const PAGE: &str = "ARCHITECTURE.md";

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    line: usize,
    name: String,
    /// Rooms that it may use.
    may_use: BTreeSet<String>,
    /// Outside crates that it may use and that others may use only if their line says so too;
    /// a `*` at the end stands for any rest.
    outside: BTreeSet<String>,
}

/// Returns where the crates and the table differ.
///
/// Development dependencies do not count: they are not part of what is shipped.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let page = std::fs::read_to_string(root.join(PAGE)).context("cannot read ARCHITECTURE.md")?;
    let mut command = cargo(root);
    command.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let metadata = serde_json::from_str(&process::output(&mut command)?)?;
    Ok(compare(&read_table(&page), &dependencies(&metadata)))
}

/// Returns the lines of the table whose first cell is a crate of ours.
fn read_table(page: &str) -> Vec<Room> {
    let mut rooms: Vec<Room> = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, _, may_use, outside, _] = cells.as_slice() else {
            continue;
        };
        let name = name.trim_matches('`');
        if !name.starts_with("regraft") {
            continue;
        }
        let may_use = match *may_use {
            "all above" => rooms.iter().map(|room| room.name.clone()).collect(),
            list => words(list).map(|room| full_name(&room)).collect(),
        };
        rooms.push(Room {
            line: index + 1,
            name: name.to_owned(),
            may_use,
            outside: words(outside).collect(),
        });
    }
    rooms
}

fn words(cell: &str) -> impl Iterator<Item = String> {
    cell.split(',')
        .map(|word| word.trim().trim_matches('`').to_owned())
        .filter(|word| !word.is_empty() && word != "–")
}

fn full_name(room: &str) -> String {
    match room {
        "regraft" => room.to_owned(),
        short => format!("regraft-{short}"),
    }
}

/// Returns the normal and build dependencies of every crate of ours.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter_map(|package| {
            let name = package["name"].as_str()?;
            let used = package["dependencies"].as_array()?.iter();
            let used = used.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
            let names = used.filter_map(|dependency| dependency["name"].as_str());
            let is_room = name.starts_with("regraft");
            is_room.then(|| (name.to_owned(), names.map(str::to_owned).collect()))
        })
        .collect()
}

fn compare(rooms: &[Room], used: &BTreeMap<String, BTreeSet<String>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in rooms.iter().filter(|room| !used.contains_key(&room.name)) {
        let message = format!("`{}` is in the table but is no crate", room.name);
        findings.push(Finding::new(PAGE, room.line, message));
    }
    for (name, dependencies) in used {
        let path = format!("crates/{name}/Cargo.toml");
        let Some(room) = rooms.iter().find(|room| room.name == *name) else {
            let message = format!("`{name}` has no line in the table of {PAGE}");
            findings.push(Finding::new(&path, 0, message));
            continue;
        };
        for dependency in dependencies {
            let message = if dependency.starts_with("regraft") {
                (!room.may_use.contains(dependency))
                    .then(|| format!("`{name}` may not use `{dependency}` ({PAGE})"))
            } else {
                let owner = rooms.iter().find(|r| covers(&r.outside, dependency));
                owner
                    .filter(|_| !covers(&room.outside, dependency))
                    .map(|o| format!("only `{}` may use `{dependency}` ({PAGE})", o.name))
            };
            findings.extend(message.map(|message| Finding::new(&path, 0, message)));
        }
    }
    findings
}

fn covers(patterns: &BTreeSet<String>, name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{compare, dependencies, read_table};

    const TABLE: &str = "\
| crate | its one job | may use | alone with |
| --- | --- | --- | --- |
| `regraft-graph` | graph | – | – |
| `regraft-exec` | runs | graph | `burn-*` |
| `regraft` | facade | all above | `serde` |
";

    fn check(name: &str, dependencies: &[&str], expected: &[&str]) {
        let mut used: BTreeMap<String, BTreeSet<String>> =
            ["regraft", "regraft-exec", "regraft-graph"]
                .map(|name| (name.to_owned(), BTreeSet::new()))
                .into();
        let names = dependencies.iter().map(|&name| name.to_owned());
        used.insert(name.to_owned(), names.collect());
        let findings = compare(&read_table(TABLE), &used);
        let messages: Vec<_> = findings.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(messages, expected, "{name} uses {dependencies:?}");
    }

    #[test]
    fn the_table_is_the_law() {
        check(
            "regraft-exec",
            &["burn-flex", "regraft-graph", "rayon"],
            &[],
        );
        check("regraft", &["regraft-exec", "regraft-graph", "serde"], &[]);
        let message = "`regraft-graph` may not use `regraft-exec` (ARCHITECTURE.md)";
        check("regraft-graph", &["regraft-exec"], &[message]);
        let message = "only `regraft-exec` may use `burn-flex` (ARCHITECTURE.md)";
        check("regraft", &["burn-flex"], &[message]);
        let message = "`regraft-new` has no line in the table of ARCHITECTURE.md";
        check("regraft-new", &[], &[message]);
    }

    #[test]
    fn development_dependencies_do_not_count() {
        let metadata = serde_json::json!({"packages": [{"name": "regraft-exec", "dependencies": [
            {"name": "regraft-graph", "kind": null},
            {"name": "regraft-onnx", "kind": "dev"},
        ]}]});
        let used = dependencies(&metadata);
        assert_eq!(
            used["regraft-exec"],
            BTreeSet::from(["regraft-graph".to_owned()])
        );
    }
}
