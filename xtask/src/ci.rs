//! What CI runs, cheapest first; the first step that fails ends the run.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::{self, cargo};
use crate::tidy;

/// Runs every step and prints each with its time.
///
/// # Errors
/// The first step that fails, by name.
pub(crate) fn run(root: &Path) -> Result<()> {
    let start = Instant::now();
    step("fmt", || {
        process::run(cargo(root).args(["fmt", "--all", "--check"]))
    })?;
    step("tidy", || tidy::run(root))?;
    tool("typos", Command::new("typos").current_dir(root))?;
    // Clippy and rustdoc share the metadata of the dependencies: `check` builds it once
    // for both. Tests and doc tests share the other, compiled, set.
    step("clippy", || {
        let mut command = cargo(root);
        command.args(["clippy", "--locked", "--workspace", "--all-targets"]);
        process::run(command.args(["--", "-D", "warnings"]))
    })?;
    step("doc", || {
        let mut command = cargo(root);
        command.args(["doc", "--locked", "--workspace", "--no-deps"]);
        process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    tool("cargo-deny", cargo(root).args(["deny", "check"]))?;
    tool("cargo-machete", cargo(root).arg("machete"))?;
    // Clippy has checked the examples: linking a dozen programs that hold no tests would only take time.
    step("test", || {
        let mut command = cargo(root);
        command.args(["test", "--locked", "--workspace"]);
        process::run(command.args(["--lib", "--bins", "--tests"]))
    })?;
    step("doc tests", || {
        process::run(cargo(root).args(["test", "--locked", "--workspace", "--doc"]))
    })?;
    println!("ci: everything passed in {}", time_since(start));
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("ci: {name} ...");
    let start = Instant::now();
    work().with_context(|| format!("step `{name}`"))?;
    println!("ci: {name} passed in {}", time_since(start));
    Ok(())
}

/// Runs a step whose program is not part of the Rust toolchain, where it is installed.
fn tool(program: &str, command: &mut Command) -> Result<()> {
    if process::is_installed(program) {
        return step(program, || process::run(command));
    }
    println!(
        "ci: {program} skipped: not installed (`cargo install --locked {}`)",
        package(program)
    );
    Ok(())
}

fn package(program: &str) -> &str {
    match program {
        "typos" => "typos-cli",
        other => other,
    }
}

fn time_since(start: Instant) -> String {
    format!("{:.1} s", start.elapsed().as_secs_f64())
}
