//! Repository tasks: `cargo xtask ci` runs what CI runs, cheapest first.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who started it"
)]

mod arguments;
mod ci;
mod conformance;
mod edits;
mod figures;
mod peers;
mod process;
mod python;
mod tidy;
mod zoo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;

const USAGE: &str = "\
usage: cargo xtask TASK

  ci                     what CI runs, cheapest first
  tidy                   the repository's own rules
  conformance            the ONNX backend suite against the committed outcomes
      --cases DIR        its `data` folder, from the wheel of onnx 1.22.0
      --write            write expectations.toml and docs/conformance.md
  figures                the figures of docs/results.md, on the data of --shared
      --seeds N          seeds 0 to N-1 for each command (1)
      --only TEXT        only the rows whose name contains TEXT
      --training         the section about training instead: the recipes of recipes/ (hours; what is there
                         stays; --only may then name several, by commas)
      --no-tune          with `--tune none`: without gradient tuning
      --shared DIR       where the models, the data and judge.py are (../shared)
      --python FILE      an interpreter with the packages of xtask/peers/requirements.txt
  edits                  docs/edits.md: every edit of the topology, run in ONNX Runtime and undone
      --only TEXT        only the networks whose name contains TEXT; the page stays
      --shared, --python as above
  bench-peers            docs/benchmarks.md: PyTorch, ONNX Runtime and NumPy against ours
      --only PART        `executor`, `solvers` or `training`; the other parts of the page stay
      --threads N        threads for each side (2)
      --runs N           timed runs of each side of the executor (15)
      --python FILE      as above
  zoo                    docs/coverage.md: networks of torchvision, transformers, timm and Keras, each exported
                         with random weights, pruned and judged; a run that was ended goes on
      --library NAME     `torchvision`, `transformers`, `timm` or `keras` alone
      --only TEXT        only the networks whose name contains TEXT
      --again            also those that did not pass before
      --page             write the page from the records alone
      --seconds N        for each step of a network (600)
      --python FILE      an interpreter with the packages of xtask/zoo/requirements.txt
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = Arguments::new(std::env::args().skip(1));
    let root = repository_root()?;
    match arguments.task().as_deref() {
        Some("ci") => {
            arguments.finish()?;
            ci::run(&root)
        }
        Some("tidy") => {
            arguments.finish()?;
            tidy::run(&root)
        }
        Some("conformance") => {
            let options = conformance::Options::from_arguments(&mut arguments)?;
            arguments.finish()?;
            conformance::run(&root, &options)
        }
        Some("figures") => {
            let options = figures::Options::from_arguments(&mut arguments, &root)?;
            arguments.finish()?;
            figures::run(&root, &options)
        }
        Some("edits") => {
            let options = edits::Options::from_arguments(&mut arguments, &root)?;
            arguments.finish()?;
            edits::run(&root, &options)
        }
        Some("bench-peers") => {
            let options = peers::Options::from_arguments(&mut arguments)?;
            arguments.finish()?;
            peers::run(&root, &options)
        }
        Some("zoo") => {
            let options = zoo::Options::from_arguments(&mut arguments)?;
            arguments.finish()?;
            zoo::run(&root, &options)
        }
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("unknown task `{other}`\n\n{USAGE}"),
        None => bail!("no task\n\n{USAGE}"),
    }
}

/// Returns the folder of the workspace: the parent of this crate's folder.
fn repository_root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("start this through `cargo xtask`, which names the folder")?;
    let root = Path::new(&here).parent();
    Ok(root.context("xtask has no parent folder")?.to_owned())
}
