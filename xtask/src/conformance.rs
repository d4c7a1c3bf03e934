//! The ONNX backend suite against the committed outcomes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::process::{self, cargo};

/// What the task was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    cases: PathBuf,
    write: bool,
}

impl Options {
    /// Takes the task's options.
    pub(crate) fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        let cases = arguments.value("--cases")?;
        let cases = PathBuf::from(cases.context("`--cases DIR` names the suite's `data` folder")?);
        let cases = cases
            .canonicalize()
            .with_context(|| format!("cannot find `{}`", cases.display()))?;
        Ok(Self {
            cases,
            write: arguments.switch("--write"),
        })
    }
}

/// Runs every case; with `--write`, what comes out is what is expected from now on.
///
/// # Errors
/// Where a case comes out otherwise than expected, or something panicked.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut command = cargo(root);
    command
        .args(["test", "--locked", "-p", "regraft-exec", "--test"])
        .args(["conformance", "--", "the_whole_suite"])
        .env("REGRAFT_ONNX_CASES", &options.cases);
    if options.write {
        command.env("REGRAFT_WRITE_CONFORMANCE", "1");
    }
    process::run(&mut command)
}
