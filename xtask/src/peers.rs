//! docs/benchmarks.md: `PyTorch` and ONNX Runtime against our executor, interleaved in one run.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::figures::processor;
use crate::process::{self, cargo};
use crate::python;

/// What to measure and with what.
#[derive(Debug)]
pub(crate) struct Options {
    threads: usize,
    runs: usize,
    python: Option<String>,
}

impl Options {
    /// Returns the options of the command line.
    pub(crate) fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self {
            threads: arguments.number("--threads", 2)?,
            runs: arguments.number("--runs", 15)?,
            python: arguments.value("--python")?,
        })
    }
}

/// Builds our side, then lets `xtask/peers/bench_peers.py` measure all sides and write the page.
///
/// # Errors
/// Where a side cannot be built or run, or where outputs differ.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let python = python::interpreter(root, options.python.as_deref())?;
    let mut build = cargo(root);
    build.args(["build", "--release", "--locked", "-p", "regraft-exec"]);
    process::run(build.args(["--example", "peer_forward"]))?;
    let target = process::target_dir(root);
    let mut script = Command::new(python);
    script.arg(root.join("xtask/peers/bench_peers.py"));
    script
        .arg("--ours")
        .arg(target.join("release/examples/peer_forward"));
    script.arg("--models").arg(target.join("peers-models"));
    script.arg("--page").arg(root.join("docs/benchmarks.md"));
    script.args(["--threads", &options.threads.to_string()]);
    script.args([
        "--runs",
        &options.runs.to_string(),
        "--machine",
        &processor(),
    ]);
    process::run(&mut script)
}
