//! Starting other programs: cargo, Python, and the measured binary with its peak memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Returns a command for the cargo that started this task.
pub(crate) fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root);
    // Set by `cargo run` for this binary; a child would build for the wrong package.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Runs a command whose output the person sees; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Returns what a command wrote to stdout; stderr goes to the person.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not write UTF-8"))
}

/// Returns whether a program of this name is on the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
    })
}

/// Returns the folder that cargo builds into.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    }
}

/// What a measured run took.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Exit code, or none where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Stdout.
    pub(crate) stdout: String,
    /// Wall time in seconds.
    pub(crate) seconds: f64,
    /// Peak resident memory in bytes as the kernel counts it; none off Linux.
    pub(crate) peak_bytes: Option<u64>,
}

/// Runs a command to its end and measures it from outside.
pub(crate) fn measure(command: &mut Command) -> Result<Measured> {
    let line = shown(command);
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let mut pipe = child.stdout.take().context("no stdout")?;
    // A thread reads: a full pipe would stop the child while this loop waits for it.
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut pipe));
    let mut peak_bytes = None;
    let status = loop {
        peak_bytes = peak_of(child.id()).or(peak_bytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let seconds = start.elapsed().as_secs_f64();
    let stdout = match reader.join() {
        Ok(text) => text.with_context(|| format!("cannot read the output of `{line}`"))?,
        Err(_) => bail!("reading the output of `{line}` panicked"),
    };
    Ok(Measured {
        code: status.code(),
        stdout,
        seconds,
        peak_bytes,
    })
}

/// Returns the peak resident memory of a running process, from `/proc`.
fn peak_of(id: u32) -> Option<u64> {
    memory_of(id, "VmHWM:")
}

/// Returns the resident memory of a running process, from `/proc`.
pub(crate) fn resident_bytes(id: u32) -> Option<u64> {
    memory_of(id, "VmRSS:")
}

fn memory_of(id: u32, what: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(what))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kib * 1024)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(OsStr::to_string_lossy)
            .map(std::borrow::Cow::into_owned),
    );
    words.join(" ")
}
