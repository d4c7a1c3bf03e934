//! The figures of docs/results.md: real commands, judged from outside on the files they wrote.

mod training;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::process::{self, Measured, cargo};
use crate::python::{self, Environment};

/// Batch of the latency figure.
const LATENCY_BATCH: &str = "32";
const PEAK_BAR_BYTES: u64 = 2_000_000_000;
/// The head of the second section.
const TRAINING: &str = "\n## Training\n\n";
/// Exit codes that leave a written file: done, and done with reported fallbacks.
const WRITTEN: [i32; 2] = [0, 5];

/// What to measure and with what.
#[derive(Debug)]
pub(crate) struct Options {
    seeds: usize,
    only: Option<String>,
    no_tune: bool,
    training: bool,
    shared: PathBuf,
    python: Option<String>,
}

impl Options {
    /// Returns the options of the command line.
    pub(crate) fn from_arguments(arguments: &mut Arguments, root: &Path) -> Result<Self> {
        let shared = arguments.value("--shared")?;
        Ok(Self {
            seeds: arguments.number("--seeds", 1)?,
            only: arguments.value("--only")?,
            no_tune: arguments.switch("--no-tune"),
            training: arguments.switch("--training"),
            shared: root.join(shared.as_deref().unwrap_or("../shared")),
            python: arguments.value("--python")?,
        })
    }
}

/// One command and its bars.
struct Row {
    name: &'static str,
    model: &'static str,
    /// Folder of `data/`, and the set's name for judge.py.
    data: &'static str,
    set: &'static str,
    extra: &'static [&'static str],
    macs: &'static str,
    tune: &'static str,
    max_drop: Option<f64>,
    max_ratio: Option<f64>,
    max_seconds: Option<f64>,
}

const CIFAR: &[&str] = &["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"];

#[rustfmt::skip]
const ROWS: [Row; 5] = [
    Row { name: "resnet56 0.5", model: "resnet56_cifar10.onnx", data: "cifar10", set: "cifar", extra: CIFAR, macs: "0.5",
          tune: "blocks", max_drop: Some(1.5), max_ratio: Some(0.77), max_seconds: Some(360.0) },
    Row { name: "resnet56 0.5 without tuning", model: "resnet56_cifar10.onnx", data: "cifar10", set: "cifar", extra: CIFAR, macs: "0.5",
          tune: "none", max_drop: None, max_ratio: None, max_seconds: Some(120.0) },
    Row { name: "resnet56 0.75", model: "resnet56_cifar10.onnx", data: "cifar10", set: "cifar", extra: CIFAR, macs: "0.75",
          tune: "blocks", max_drop: Some(0.5), max_ratio: None, max_seconds: None },
    Row { name: "resnet20 0.5", model: "resnet20_cifar10.onnx", data: "cifar10", set: "cifar", extra: CIFAR, macs: "0.5",
          tune: "blocks", max_drop: Some(3.0), max_ratio: None, max_seconds: None },
    Row { name: "lenet5 0.25", model: "lenet5-caffe_mnist.onnx", data: "mnist", set: "mnist", extra: &[], macs: "0.25",
          tune: "blocks", max_drop: Some(0.3), max_ratio: None, max_seconds: None },
];

/// Runs the commands, judges what they wrote and writes docs/results.md.
///
/// # Errors
/// Where nothing can be measured; a command that fails is a row of the table instead.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let judge = options.shared.join("tools/judge.py");
    let judge = judge.canonicalize().with_context(|| {
        let folder = options.shared.display();
        format!("no `tools/judge.py` in `{folder}`: name the folder with `--shared`")
    })?;
    let python = python::interpreter(root, Environment::Peers, options.python.as_deref())?;
    process::run(cargo(root).args(["build", "--release", "--locked", "-p", "regraft-cli"]))?;
    let mut bench = Bench {
        binary: process::target_dir(root).join("release/regraft"),
        out: process::target_dir(root).join("figures"),
        options,
        python,
        judge,
        dense_accuracy: BTreeMap::new(),
    };
    std::fs::create_dir_all(&bench.out)?;
    let path = root.join("docs/results.md");
    // A page that is not there yet has no other section.
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let (pruning, training) = old.split_once(TRAINING).unwrap_or((&old, ""));
    if options.training {
        let section = training::section(&bench, root)?;
        let page = format!("{pruning}{TRAINING}{}{section}", written(root)?);
        std::fs::write(&path, page)?;
        println!("figures: wrote the section about training of docs/results.md");
        return Ok(());
    }
    let mut table = String::new();
    let wanted = |row: &&Row| {
        let is_named = options
            .only
            .as_deref()
            .is_none_or(|part| row.name.contains(part));
        is_named && (!options.no_tune || row.tune == "none")
    };
    for row in ROWS.iter().filter(wanted) {
        for seed in 0..options.seeds {
            println!("figures: {}, seed {seed}", row.name);
            let line = bench.row(row, seed)?;
            println!("{line}");
            writeln!(table, "{line}")?;
        }
    }
    let page = format!("{}{TRAINING}{training}", page(root, &table)?);
    std::fs::write(&path, page)?;
    println!("figures: wrote docs/results.md");
    Ok(())
}

struct Bench<'a> {
    binary: PathBuf,
    out: PathBuf,
    options: &'a Options,
    python: PathBuf,
    judge: PathBuf,
    dense_accuracy: BTreeMap<&'static str, f64>,
}

impl Bench<'_> {
    /// Returns one line of the table.
    fn row(&mut self, row: &Row, seed: usize) -> Result<String> {
        let dense = self.options.shared.join("models").join(row.model);
        let small = self
            .out
            .join(format!("{}-seed{seed}.onnx", row.name.replace(' ', "-")));
        // What an earlier run left must not be judged for this one.
        if small.exists() {
            std::fs::remove_file(&small)?;
        }
        let mut command = Command::new(&self.binary);
        command.arg("shrink").arg(&dense).arg("--data");
        command.arg(self.options.shared.join("data").join(row.data));
        command
            .args(row.extra)
            .args(["--macs", row.macs, "--tune", row.tune]);
        command.args([
            "--seed",
            &seed.to_string(),
            "--threads",
            "2",
            "--force",
            "--json",
            "-o",
        ]);
        let measured = process::measure(command.arg(&small))?;
        let shown = shown_command(row, seed);
        let is_written =
            measured.code.is_some_and(|code| WRITTEN.contains(&code)) && small.exists();
        if !is_written {
            let code = measured
                .code
                .map_or("a signal".to_owned(), |code| code.to_string());
            return Ok(format!(
                "| {shown} | no file, exit {code} | – | – | no | {:.0} s | – |",
                measured.seconds
            ));
        }
        let figures = self.judged(row, &dense, &small)?;
        Ok(line(row, &shown, &figures, &measured))
    }

    fn judged(&mut self, row: &Row, dense: &Path, small: &Path) -> Result<Figures> {
        let before = if let Some(&known) = self.dense_accuracy.get(row.model) {
            known
        } else {
            let measured = self.judge(&["accuracy", row.set], &[dense])?;
            self.dense_accuracy.insert(row.model, measured);
            measured
        };
        let after = self.judge(&["accuracy", row.set], &[small])?;
        let ratio = match row.max_ratio {
            Some(_) => Some(self.latency(dense, small)?),
            None => None,
        };
        Ok(Figures {
            before,
            after,
            ratio,
        })
    }

    fn latency(&self, dense: &Path, small: &Path) -> Result<f64> {
        let mut command = Command::new(&self.python);
        command
            .arg(&self.judge)
            .arg("latency")
            .arg(dense)
            .arg(small)
            .arg(LATENCY_BATCH);
        number(&process::output(&mut command)?)
    }

    fn judge(&self, words: &[&str], files: &[&Path]) -> Result<f64> {
        let mut command = Command::new(&self.python);
        command.arg(&self.judge).args(words).args(files);
        number(&process::output(&mut command)?)
    }
}

struct Figures {
    before: f64,
    after: f64,
    ratio: Option<f64>,
}

fn number(text: &str) -> Result<f64> {
    let text = text.trim();
    text.parse()
        .with_context(|| format!("judge.py wrote `{text}`, not a number"))
}

fn shown_command(row: &Row, seed: usize) -> String {
    let mut words = vec!["shrink", row.model, "--data", row.data];
    words.extend(row.extra);
    words.extend(["--macs", row.macs, "--tune", row.tune, "--seed"]);
    format!("`{} {seed}`", words.join(" "))
}

/// Returns the line of a run that wrote its file.
fn line(row: &Row, shown: &str, figures: &Figures, measured: &Measured) -> String {
    let drop = figures.before - figures.after;
    let mut reached = Vec::new();
    let mut bars = Vec::new();
    if let Some(bar) = row.max_drop {
        // Accuracies are read with two decimals: half of the last one is rounding.
        reached.push(drop <= bar + 0.005);
        bars.push(format!("{bar} points"));
    }
    if let (Some(bar), Some(ratio)) = (row.max_ratio, figures.ratio) {
        reached.push(ratio <= bar);
        bars.push(format!("{bar}× time"));
    }
    if let Some(bar) = row.max_seconds {
        reached.push(measured.seconds <= bar);
        bars.push(format!("{bar} s"));
    }
    if let Some(bytes) = measured.peak_bytes {
        reached.push(bytes < PEAK_BAR_BYTES);
        bars.push("2 GB".to_owned());
    }
    let peak = measured.peak_bytes.map_or("–".to_owned(), |bytes| {
        format!("{} MB", bytes / 1_000_000)
    });
    let time_ratio = figures
        .ratio
        .map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
    let kept = kept_macs(&measured.stdout).map_or("–".to_owned(), |share| format!("{share:.3}"));
    let is_reached = if reached.iter().all(|&ok| ok) {
        "yes"
    } else {
        "no"
    };
    format!(
        "| {shown} | {:.2} → {:.2} ({drop:+.2} lost), MACs {kept}, time {time_ratio} | {} | {is_reached} | {:.0} s | {peak} |",
        figures.before,
        figures.after,
        bars.join(", "),
        measured.seconds,
    )
}

/// Returns the share of the MACs that was kept, as the program itself reports it.
fn kept_macs(stdout: &str) -> Option<f64> {
    let report: Value = serde_json::from_str(stdout).ok()?;
    let dense = report["dense"]["macs"].as_f64()?;
    Some(report["small"]["macs"].as_f64()? / dense)
}

/// Returns when and where a section was written.
fn written(root: &Path) -> Result<String> {
    let commit = process::output(
        Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(root),
    )?;
    Ok(format!(
        "Commit {}, {}, 2 threads, release build.\n\n",
        commit.trim(),
        processor(),
    ))
}

fn page(root: &Path, table: &str) -> Result<String> {
    Ok(format!(
        "# Results\n\nWritten by `cargo xtask figures`, the second part by `cargo xtask figures --training`, not by hand.\n\n\
         ## Pruning and rebuilding\n\n{}\
         Accuracy is judged by a script of its own with ONNX Runtime on the written file: the first 1,000 CIFAR-10 test \
         images (standard error about 0.8 points), all 10,000 of MNIST. Calibration uses no labels. `time` is the small \
         model's time as a share of the dense one's in ONNX Runtime, one thread, batch {LATENCY_BATCH}, median of interleaved runs. \
         Memory is the kernel's peak for the whole process.\n\n\
         | command | accuracy, figures | bar: at most | reached | wall time | peak memory |\n\
         | --- | --- | --- | --- | --- | --- |\n{table}",
        written(root)?
    ))
}

/// Returns the processor's name.
pub(crate) fn processor() -> String {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = information
        .lines()
        .find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split(':').nth(1));
    name.unwrap_or("unknown processor").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Figures, ROWS, kept_macs, line};
    use crate::process::Measured;

    fn check(figures: &Figures, seconds: f64, peak_bytes: u64, expected: bool) {
        let measured = Measured {
            code: Some(0),
            stdout: String::new(),
            seconds,
            peak_bytes: Some(peak_bytes),
        };
        let text = line(&ROWS[0], "`x`", figures, &measured);
        assert_eq!(text.contains("| yes |"), expected, "{text}");
    }

    #[test]
    fn every_bar_counts() {
        let good = Figures {
            before: 92.6,
            after: 91.1,
            ratio: Some(0.77),
        };
        check(&good, 360.0, 1_999_999_999, true);
        check(&good, 361.0, 1, false);
        check(&good, 1.0, 2_000_000_000, false);
        check(
            &Figures {
                after: 91.0,
                ..good
            },
            1.0,
            1,
            false,
        );
        let slow = Figures {
            before: 92.6,
            after: 92.6,
            ratio: Some(0.78),
        };
        check(&slow, 1.0, 1, false);
    }

    #[test]
    fn kept_macs_come_from_the_report() {
        let report = r#"{"dense": {"macs": 200}, "small": {"macs": 100}}"#;
        assert_eq!(kept_macs(report), Some(0.5));
        assert_eq!(kept_macs("no report"), None);
    }
}
