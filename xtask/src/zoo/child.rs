//! One step of a check in a process of its own, ended when it takes too long or too much.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::resident_bytes;

/// What a step may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) seconds: u64,
    pub(crate) bytes: u64,
}

/// What a step left.
#[derive(Debug)]
pub(crate) struct Ended {
    /// True for exit status 0.
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Why it was ended, if it was.
    pub(crate) stopped: Option<String>,
}

impl Ended {
    /// Returns the last line of stderr that is not empty.
    pub(crate) fn last_words(&self) -> &str {
        let lines = self.stderr.lines().map(str::trim);
        lines.rev().find(|line| !line.is_empty()).unwrap_or("")
    }
}

/// Runs a command to its end, or ends it at a limit.
pub(crate) fn run(command: &mut Command, limits: Limits) -> Result<Ended> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a step")?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let mut stopped = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let too_much = resident_bytes(child.id()).is_some_and(|bytes| bytes > limits.bytes);
        if too_much || start.elapsed().as_secs() >= limits.seconds {
            stopped = Some(if too_much {
                format!("it took more than {} GB of memory", limits.bytes >> 30)
            } else {
                format!("it took longer than {} s", limits.seconds)
            });
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Ended {
        succeeded: status.success() && stopped.is_none(),
        stdout: text(stdout),
        stderr: text(stderr),
        stopped,
    })
}

/// A thread reads: a full pipe would stop the child.
fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is what there is to say.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Limits, run};

    #[test]
    fn a_step_that_takes_too_long_is_ended() {
        let limits = Limits {
            seconds: 1,
            bytes: u64::MAX,
        };
        let slow = run(Command::new("sleep").arg("30"), limits).unwrap();
        assert!(!slow.succeeded && slow.stopped.unwrap().contains("longer"));
        let quick = run(Command::new("echo").arg("word"), limits).unwrap();
        assert!(quick.succeeded && quick.stdout == "word\n");
    }
}
