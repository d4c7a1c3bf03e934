//! docs/benchmarks.md: our executor beside `PyTorch` and ONNX Runtime, our solvers beside `NumPy`, our
//! training beside `PyTorch`, each in turns in one run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::figures::processor;
use crate::process::{self, cargo};
use crate::python::{self, Environment};

/// The page of the figures.
const PAGE: &str = "docs/benchmarks.md";

/// Where the solvers' part of the page begins.
const SOLVERS: &str = "## Solvers of single connections\n";

/// Where the part of training begins; it goes on to the end.
const TRAINING: &str = "## Training steps\n";

/// What to measure and with what.
#[derive(Debug)]
pub(crate) struct Options {
    threads: usize,
    runs: usize,
    python: Option<String>,
    only: Option<Part>,
}

/// A part of the page, with a script of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Executor,
    Solvers,
    Training,
}

impl Options {
    /// Returns the options of the command line.
    pub(crate) fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        let only = match arguments.value("--only")?.as_deref() {
            None => None,
            Some("executor") => Some(Part::Executor),
            Some("solvers") => Some(Part::Solvers),
            Some("training") => Some(Part::Training),
            Some(other) => {
                bail!("`--only` needs `executor`, `solvers` or `training`, not `{other}`")
            }
        };
        Ok(Self {
            threads: arguments.number("--threads", 2)?,
            runs: arguments.number("--runs", 15)?,
            python: arguments.value("--python")?,
            only,
        })
    }
}

/// Measures the parts that are asked for and puts them on the page; the other parts stay.
///
/// # Errors
/// Where a side cannot be built or run, or where outputs differ.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let python = python::interpreter(root, Environment::Peers, options.python.as_deref())?;
    let page = root.join(PAGE);
    for part in [Part::Executor, Part::Solvers, Part::Training] {
        if options.only.is_none_or(|only| only == part) {
            let text = measure(root, &python, part, options)?;
            let old = std::fs::read_to_string(&page).context("cannot read docs/benchmarks.md")?;
            std::fs::write(&page, joined(&old, part, &text))?;
        }
    }
    Ok(())
}

/// Returns the page with one part replaced.
fn joined(page: &str, part: Part, text: &str) -> String {
    let (rest, training) = page.split_at(page.find(TRAINING).unwrap_or(page.len()));
    let (executor, solvers) = rest.split_at(rest.find(SOLVERS).unwrap_or(rest.len()));
    let parts = match part {
        Part::Executor => [text, solvers, training],
        Part::Solvers => [executor, text, training],
        Part::Training => [executor, solvers, text],
    };
    let parts = parts.map(str::trim_end);
    let filled = parts.into_iter().filter(|part| !part.is_empty());
    filled.collect::<Vec<_>>().join("\n\n") + "\n"
}

/// Builds our side of a part, lets its script measure all sides, and returns what it wrote.
fn measure(root: &Path, python: &Path, part: Part, options: &Options) -> Result<String> {
    let (example, script) = match part {
        Part::Executor => (Some(("regraft-exec", "peer_forward")), "bench_peers.py"),
        Part::Solvers => (Some(("regraft-solve", "solve_speed")), "solve_peers.py"),
        // The program as users have it.
        Part::Training => (None, "training_peers.py"),
    };
    let target = process::target_dir(root);
    let mut build = cargo(root);
    build.args(["build", "--release", "--locked"]);
    let ours = match example {
        Some((package, example)) => {
            build.args(["-p", package, "--example", example]);
            target.join("release/examples").join(example)
        }
        None => target.join("release/regraft"),
    };
    process::run(&mut build)?;
    let written = target.join("peers-page.md");
    let mut command = Command::new(python);
    command.arg(root.join("xtask/peers").join(script));
    command.arg("--ours").arg(ours);
    command.arg("--page").arg(&written);
    command.args(["--threads", &options.threads.to_string()]);
    command.args(["--machine", &processor()]);
    if part != Part::Solvers {
        command.arg("--models").arg(target.join("peers-models"));
    }
    if part == Part::Executor {
        command.args(["--runs", &options.runs.to_string()]);
    }
    process::run(&mut command)?;
    std::fs::read_to_string(&written).with_context(|| format!("`{script}` wrote no page"))
}

#[cfg(test)]
mod tests {
    use super::{Part, SOLVERS, TRAINING, joined};

    #[test]
    fn each_part_replaces_itself_alone() {
        let first = joined("# Old\n", Part::Executor, "# Benchmarks\n\nfast\n");
        assert_eq!(first, "# Benchmarks\n\nfast\n");
        let solvers = format!("{SOLVERS}\nfaster\n");
        let both = joined(&first, Part::Solvers, &solvers);
        assert_eq!(both, format!("{first}\n{solvers}"));
        let changed = joined(&both, Part::Executor, "# Benchmarks\n\nslow\n");
        assert_eq!(changed, format!("# Benchmarks\n\nslow\n\n{solvers}"));
        assert_eq!(joined(&both, Part::Solvers, &solvers), both);
        let steps = format!("{TRAINING}\nslow steps\n");
        let all = joined(&both, Part::Training, &steps);
        assert_eq!(all, format!("{both}\n{steps}"));
        assert_eq!(joined(&all, Part::Solvers, &solvers), all);
        let alone = joined(&first, Part::Training, &steps);
        assert_eq!(joined(&alone, Part::Solvers, &solvers), all);
    }
}
