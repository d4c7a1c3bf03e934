//! docs/coverage.md: which networks of torchvision, timm, transformers and Keras can be pruned, each
//! judged from outside.

mod child;
mod network;
mod page;
mod record;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::process::{self, cargo};
use crate::python::{self, Environment};
use network::Network;
use record::Record;

/// The page of the figures.
const PAGE: &str = "docs/coverage.md";

/// Memory of one step, in bytes: the largest builders need half of it.
const MEMORY_BYTES: u64 = 12 << 30;

/// The libraries, in the order in which they run and are shown.
pub(crate) const LIBRARIES: [&str; 4] = ["torchvision", "transformers", "timm", "keras"];

/// What to run.
#[derive(Debug)]
pub(crate) struct Options {
    library: Option<String>,
    only: Option<String>,
    again: bool,
    page_only: bool,
    seconds: usize,
    python: Option<String>,
}

impl Options {
    /// Returns the options of the command line.
    pub(crate) fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        let library = arguments.value("--library")?;
        if let Some(name) = library.as_deref().filter(|l| !LIBRARIES.contains(l)) {
            bail!(
                "`--library` needs one of {}, not `{name}`",
                LIBRARIES.join(", ")
            );
        }
        Ok(Self {
            library,
            only: arguments.value("--only")?,
            again: arguments.switch("--again"),
            page_only: arguments.switch("--page"),
            seconds: arguments.number("--seconds", 600)?,
            python: arguments.value("--python")?,
        })
    }
}

/// Checks every network that is asked for and has no record yet, one by one, and writes the page.
///
/// # Errors
/// Where nothing can be run; a network that fails is a row of the page instead.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = process::target_dir(root).join("zoo");
    std::fs::create_dir_all(&folder)?;
    let records = folder.join("results.jsonl");
    if !options.page_only {
        check_all(root, &folder, &records, options)?;
    }
    let found = record::read(&records)?;
    std::fs::write(root.join(PAGE), page::page(&found, &versions(root)?))?;
    println!("zoo: wrote {PAGE}");
    Ok(())
}

fn check_all(root: &Path, folder: &Path, records: &Path, options: &Options) -> Result<()> {
    let python = python::interpreter(root, Environment::Zoo, options.python.as_deref())?;
    process::run(cargo(root).args(["build", "--release", "--locked", "-p", "regraft-cli"]))?;
    // A copy: a build while this runs for an hour would change what is measured.
    let binary = folder.join(format!("regraft-{}", std::process::id()));
    std::fs::copy(process::target_dir(root).join("release/regraft"), &binary)?;
    let tools = Tools {
        python,
        scripts: root.join("xtask/zoo"),
        binary,
        folder: folder.to_owned(),
        limits: child::Limits {
            seconds: options.seconds as u64,
            bytes: MEMORY_BYTES,
        },
    };
    let done = record::read(records)?;
    let is_done = |network: &Network| {
        let record = done.iter().find(|r| r.is_of(network));
        record.is_some_and(|r| r.passed() || !options.again)
    };
    let wanted = |network: &Network| {
        let is_named = options.only.as_deref();
        is_named.is_none_or(|part| network.name.contains(part)) && !is_done(network)
    };
    for library in LIBRARIES {
        if options.library.as_deref().is_some_and(|l| l != library) {
            continue;
        }
        let networks: Vec<Network> = tools
            .networks(library)?
            .into_iter()
            .filter(&wanted)
            .collect();
        for (i, network) in networks.iter().enumerate() {
            let record = network::check(&tools, network)?;
            let (at, of) = (i + 1, networks.len());
            println!("zoo: {library} {at} of {of}: {}", record.line());
            record::append(records, &record)?;
        }
    }
    std::fs::remove_file(&tools.binary)?;
    Ok(())
}

/// Returns the pinned packages, for the page.
fn versions(root: &Path) -> Result<Vec<String>> {
    let path = root.join("xtask/zoo/requirements.txt");
    let text = std::fs::read_to_string(path).context("cannot read the requirements")?;
    Ok(text.lines().map(|line| line.replace("==", " ")).collect())
}

/// The programs that a check uses.
#[derive(Debug)]
pub(crate) struct Tools {
    python: PathBuf,
    scripts: PathBuf,
    binary: PathBuf,
    folder: PathBuf,
    limits: child::Limits,
}

impl Tools {
    /// Returns a command for a script, on one thread.
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.scripts.join(name));
        command.env("OMP_NUM_THREADS", "1");
        command
    }

    /// Returns a command for the measured binary, which finds the ONNX Runtime of the environment.
    fn regraft(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--json");
        if let Some(environment) = self.python.parent().and_then(Path::parent) {
            command.env("VIRTUAL_ENV", environment);
        }
        command
    }

    fn networks(&self, library: &str) -> Result<Vec<Network>> {
        let text = process::output(self.script("export.py").args(["list", library]))?;
        let list: Vec<Value> =
            serde_json::from_str(text.trim()).context("the list of models is not JSON")?;
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let network = |row: &Value| Network {
            library: library.to_owned(),
            name: text(row, "name"),
            family: text(row, "family"),
            exporter: text(row, "exporter"),
        };
        Ok(list.iter().map(network).collect())
    }
}

impl Record {
    /// Returns the outcome in one line.
    fn line(&self) -> String {
        match &self.failure {
            None => format!("{} passed in {:.0} s", self.name, self.seconds),
            Some(failure) => format!("{}: {}: {}", self.name, failure.stage, failure.reason),
        }
    }
}
