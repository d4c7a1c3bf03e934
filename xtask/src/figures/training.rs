//! The section about training of docs/results.md: recipes of the repository with several seeds, each
//! judged from outside on the file it wrote.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Bench, CIFAR};
use crate::process;

/// What a network is before its recipe.
enum Start {
    /// A file of `models/`.
    Model(&'static str),
    /// The options of `regraft new`.
    New(&'static [&'static str]),
    /// What the row of this name wrote, of the same seed.
    Row(&'static str),
    /// What the row of this name wrote, of the first seed.
    First(&'static str),
    /// A file of `models/` that `regraft shrink` shrinks with these options; it is the teacher too.
    Shrunk(&'static str, &'static [&'static str]),
}

/// One recipe and its bars.
struct Row {
    name: &'static str,
    start: Start,
    recipe: &'static str,
    /// Folder of `data/`, and the set's name for judge.py.
    data: &'static str,
    set: &'static str,
    /// The most that may be wrong, in percent.
    max_error: Option<f64>,
    /// The most that may be wrong beyond what is wrong of this file, in points.
    max_more: Option<(Beyond, f64)>,
    /// At least so many times fewer weights.
    min_times: Option<f64>,
    max_minutes: f64,
}

/// What an error is compared with.
#[derive(Clone, Copy)]
enum Beyond {
    /// A file of `models/`.
    Model(&'static str),
    /// The network that the row of this name wrote, of the same seed.
    Row(&'static str),
}

#[rustfmt::skip]
const ROWS: [Row; 6] = [
    Row { name: "lenet300-100-80x", start: Start::Model("lenet300-100_mnist.onnx"), recipe: "lenet300-100-80x.toml",
          data: "mnist", set: "mnist", max_error: Some(1.9), max_more: None, min_times: Some(80.0), max_minutes: 60.0 },
    Row { name: "lenet5-dense", start: Start::New(&["lenet5"]), recipe: "lenet5-dense.toml", data: "mnist", set: "mnist",
          max_error: None, max_more: None, min_times: None, max_minutes: 60.0 },
    Row { name: "lenet5-300x", start: Start::First("lenet5-dense"), recipe: "lenet5-300x.toml",
          data: "mnist", set: "mnist", max_error: Some(0.85), max_more: None, min_times: Some(300.0), max_minutes: 60.0 },
    Row { name: "gru", start: Start::New(&["gru", "--input", "48x40", "--hidden", "96", "--classes", "10"]),
          recipe: "gru-fsdd.toml", data: "fsdd", set: "fsdd", max_error: Some(3.0), max_more: None, min_times: None,
          max_minutes: 60.0 },
    Row { name: "gru-sparse", start: Start::Row("gru"), recipe: "gru-fsdd-sparse.toml", data: "fsdd", set: "fsdd",
          max_error: None, max_more: Some((Beyond::Row("gru"), 1.0)), min_times: Some(10.0), max_minutes: 60.0 },
    Row { name: "resnet56-half", start: Start::Shrunk("resnet56_cifar10.onnx", &["--macs", "0.5", "--multiple-of", "4"]),
          recipe: "resnet56-finetune.toml", data: "cifar10", set: "cifar", max_error: None,
          max_more: Some((Beyond::Model("resnet56_cifar10.onnx"), 0.3)), min_times: None, max_minutes: 20.0 },
];

/// What one seed reached.
struct Found {
    /// In percent, by ONNX Runtime.
    error: f64,
    /// Error beyond what it is compared with, in points.
    more: Option<f64>,
    /// All weights, and those that are not zero; biases apart.
    weights: [f64; 2],
    minutes: f64,
}

/// Returns the section: a line for each recipe, run with every seed.
///
/// A seed whose file and report lie in the folder of figures is judged and not run again.
pub(super) fn section(bench: &Bench<'_>, root: &Path) -> Result<String> {
    let options = bench.options;
    let mut table = String::new();
    for row in &ROWS {
        let names = |only: &str| only.split(',').any(|part| row.name.contains(part));
        if !options.only.as_deref().is_none_or(names) {
            continue;
        }
        let mut found = Vec::new();
        for seed in 0..options.seeds {
            println!("figures: {}, seed {seed}", row.name);
            found.push(Run { bench, root, seed }.row(row)?);
        }
        let line = line(row, &found);
        println!("{line}");
        writeln!(table, "{line}")?;
    }
    Ok(format!(
        "Recipes of `recipes/`, each `regraft fit FROM --data DATA --recipe recipes/RECIPE --seed S -o OUT` with the seeds 0 to {}; a run whose file and report are there from an \
         earlier commit and the same recipe is judged and not run again. Errors are those of the written files in ONNX Runtime, all 10,000 test images of MNIST, the 300 test \
         recordings of spoken digits, the first 1,000 test images of CIFAR-10; with several seeds mean ± standard deviation \
         of single runs, and every run in brackets. Weights are counted without biases. Time is that of training alone, \
         with what else the machine did.\n\n\
         | recipe | from | error | weights | times fewer | minutes of a run | bar: at most | reached by |\n\
         | --- | --- | --- | ---: | ---: | ---: | --- | --- |\n{table}",
        options.seeds.saturating_sub(1),
    ))
}

struct Run<'a> {
    bench: &'a Bench<'a>,
    root: &'a Path,
    seed: usize,
}

impl Run<'_> {
    fn row(&self, row: &Row) -> Result<Found> {
        let small = self.file(row.name);
        let report = small.with_extension("report.json");
        if !(small.exists() && self.is_of(row, &report)?) {
            self.fit(row, &small)?;
        }
        let text = std::fs::read_to_string(&report)
            .with_context(|| format!("no report beside `{}`", small.display()))?;
        let report: Value = serde_json::from_str(&text)?;
        let weights = &report["small"]["weights"];
        let count = |key: &str| weights[key].as_f64().unwrap_or(f64::NAN);
        let error = self.error(row, &small)?;
        let more = match row.max_more {
            Some((Beyond::Model(name), _)) => Some(error - self.error(row, &self.model(name))?),
            Some((Beyond::Row(name), _)) => Some(error - self.error(row, &self.file(name))?),
            None => None,
        };
        Ok(Found {
            error,
            more,
            weights: [count("all"), count("nonzero")],
            minutes: seconds(&report) / 60.0,
        })
    }

    /// True if a report tells of this recipe and this seed.
    fn is_of(&self, row: &Row, report: &Path) -> Result<bool> {
        let Ok(text) = std::fs::read_to_string(report) else {
            return Ok(false);
        };
        let report: Value = serde_json::from_str(&text)?;
        let wanted = std::fs::read_to_string(self.root.join("recipes").join(row.recipe))?;
        let found = report["recipe"].as_str().unwrap_or_default();
        Ok(report["seed"].as_u64() == Some(self.seed as u64) && follows(&wanted, found)?)
    }

    fn file(&self, name: &str) -> PathBuf {
        let name = format!("{name}-seed{}.onnx", self.seed);
        self.bench.out.join(name)
    }

    fn model(&self, name: &str) -> PathBuf {
        self.bench.options.shared.join("models").join(name)
    }

    fn error(&self, row: &Row, file: &Path) -> Result<f64> {
        Ok(100.0 - self.bench.judge(&["accuracy", row.set], &[file])?)
    }

    /// Runs a recipe; its run directory goes on where an earlier command was ended.
    fn fit(&self, row: &Row, small: &Path) -> Result<()> {
        let data = self.bench.options.shared.join("data").join(row.data);
        let seed = self.seed.to_string();
        let mut command = self.regraft("fit");
        match row.start {
            Start::Model(name) => {
                command.arg(self.model(name));
            }
            Start::Row(name) => {
                command.arg(self.file(name));
            }
            Start::First(name) => {
                let first = Self { seed: 0, ..*self };
                command.arg(first.file(name));
            }
            Start::New(design) => {
                let start = self.file(&format!("{}-start", row.name));
                let mut new = self.regraft("new");
                new.args(design).args(["--seed", &seed, "--force", "-o"]);
                written(new.arg(&start))?;
                command.arg(start);
            }
            Start::Shrunk(name, options) => {
                let start = self.file(&format!("{}-start", row.name));
                let mut shrink = self.regraft("shrink");
                shrink.arg(self.model(name)).arg("--data").arg(&data);
                shrink.args(CIFAR).args(options);
                shrink.args(["--seed", &seed, "--threads", "2", "--force", "-o"]);
                written(shrink.arg(&start))?;
                command.arg(start).arg("--teacher").arg(self.model(name));
            }
        }
        let recipe = self.root.join("recipes").join(row.recipe);
        command.arg("--recipe").arg(recipe).arg("--data").arg(data);
        command.args(["--seed", &seed, "--threads", "2", "--force", "--run"]);
        command.arg(small.with_extension("run"));
        written(command.arg("-o").arg(small))
    }

    fn regraft(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.bench.binary);
        command.arg(verb);
        command
    }
}

/// True if a recipe that was written has every line of the given one, but where files are.
fn follows(wanted: &str, found: &str) -> Result<bool> {
    let (wanted, found): (toml::Table, toml::Table) =
        (toml::from_str(wanted)?, toml::from_str(found)?);
    let mut lines = wanted.iter().filter(|(key, _)| *key != "teacher");
    Ok(lines.all(|(key, value)| match (value, found.get(key)) {
        // Numbers of 32 bits are written with more digits.
        (toml::Value::Float(a), Some(toml::Value::Float(b))) => (a - b).abs() <= 1e-6 * a.abs(),
        (value, found) => Some(value) == found,
    }))
}

/// Runs a command that must leave its file.
fn written(command: &mut Command) -> Result<()> {
    let measured = process::measure(command)?;
    let is_written = measured.code.is_some_and(|c| super::WRITTEN.contains(&c));
    ensure!(
        is_written,
        "{:?} ended with {:?}",
        command.get_args(),
        measured.code
    );
    Ok(())
}

/// Returns the seconds of training that a report tells.
fn seconds(report: &Value) -> f64 {
    let stages = report["stages"].as_array();
    let train = stages.and_then(|all| all.iter().find(|s| s["name"] == "train"));
    report["training"]["seconds"]
        .as_f64()
        .or_else(|| train?["seconds"].as_f64())
        .unwrap_or(f64::NAN)
}

/// Returns the mean and the deviation of single runs, which is nothing of one.
fn spread(numbers: &[f64]) -> (f64, Option<f64>) {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()))
}

fn reaches(row: &Row, found: &Found) -> bool {
    let [all, nonzero] = found.weights;
    // Errors are read with two decimals: half of the last one is rounding.
    let below = |value: Option<f64>, bar: Option<f64>| match (value, bar) {
        (Some(value), Some(bar)) => value <= bar + 0.005,
        (_, bar) => bar.is_none(),
    };
    below(Some(found.error), row.max_error)
        && below(found.more, row.max_more.map(|(_, bar)| bar))
        // A share of a number of weights is rounded up to whole ones.
        && row.min_times.is_none_or(|times| nonzero <= (all / times).ceil())
        && found.minutes <= row.max_minutes
}

fn line(row: &Row, found: &[Found]) -> String {
    let of = |get: fn(&Found) -> f64| -> Vec<f64> { found.iter().map(get).collect() };
    let errors = of(|f| f.error);
    let error = match spread(&errors) {
        (mean, None) => format!("{mean:.2} %"),
        (mean, Some(deviation)) => {
            let each: Vec<String> = errors.iter().map(|e| format!("{e:.2}")).collect();
            format!("{mean:.2} ± {deviation:.2} % ({})", each.join(", "))
        }
    };
    let (nonzero, _) = spread(&of(|f| f.weights[1]));
    let (times, _) = spread(&of(|f| f.weights[0] / f.weights[1]));
    let minutes: Vec<String> = found.iter().map(|f| format!("{:.0}", f.minutes)).collect();
    let mut bars = Vec::new();
    bars.extend(row.max_error.map(|bar| format!("{bar} %")));
    bars.extend(row.max_more.map(|(beyond, bar)| match beyond {
        Beyond::Model(_) => format!("{bar} points over dense"),
        Beyond::Row(name) => format!("{bar} points over `{name}`"),
    }));
    bars.extend(
        row.min_times
            .map(|times| format!("1/{times} of the weights")),
    );
    bars.push(format!("{} minutes", row.max_minutes));
    let from = match row.start {
        Start::Model(name) | Start::Row(name) => format!("`{name}`"),
        Start::First(name) => format!("`{name}` of seed 0"),
        Start::New(design) => format!("`regraft new {}`", design.join(" ")),
        Start::Shrunk(name, options) => format!("`regraft shrink {name} {}`", options.join(" ")),
    };
    let reached = found.iter().filter(|f| reaches(row, f)).count();
    format!(
        "| `{}` | {from} | {error} | {nonzero:.0} | {times:.1} | {} | {} | {reached} of {} |",
        row.recipe,
        minutes.join(", "),
        bars.join(", "),
        found.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(error: f64, nonzero: f64, minutes: f64) -> Found {
        Found {
            error,
            more: None,
            weights: [430_500.0, nonzero],
            minutes,
        }
    }

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn every_bar_counts() {
        let sparse = row("lenet5-300x");
        assert!(reaches(sparse, &found(0.85, 1434.0, 60.0)));
        assert!(!reaches(sparse, &found(0.86, 1434.0, 60.0)));
        assert!(!reaches(sparse, &found(0.85, 1436.0, 60.0)));
        assert!(!reaches(sparse, &found(0.85, 1434.0, 60.1)));
        let tenth = Found {
            more: Some(1.0),
            weights: [40_128.0, 4013.0],
            ..found(1.0, 0.0, 1.0)
        };
        assert!(reaches(row("gru-sparse"), &tenth));
        let text = line(
            sparse,
            &[found(0.8, 1434.0, 50.0), found(0.9, 1434.0, 51.0)],
        );
        assert!(text.contains("0.85 ± 0.07 % (0.80, 0.90)"), "{text}");
        assert!(text.ends_with("| 1 of 2 |"), "{text}");
    }

    #[test]
    fn a_recipe_is_known_by_its_lines() {
        let found = "epochs = 40\nl2 = 0.00030000001\nteacher = \"/a.onnx\"\nseed = 1\n";
        assert!(follows("epochs = 40\nl2 = 3e-4\nteacher = \"a.onnx\"\n", found).unwrap());
        assert!(!follows("epochs = 41\n", found).unwrap());
        assert!(!follows("hold = 0.5\n", found).unwrap());
    }

    #[test]
    fn seconds_are_those_of_training_stops_left_out() {
        let old =
            r#"{"stages": [{"name": "read", "seconds": 1}, {"name": "train", "seconds": 90}]}"#;
        let old: Value = serde_json::from_str(old).unwrap();
        assert_eq!(seconds(&old).round() as i64, 90);
        let new = r#"{"training": {"seconds": 120}, "stages": [{"name": "train", "seconds": 3}]}"#;
        let new: Value = serde_json::from_str(new).unwrap();
        assert_eq!(seconds(&new).round() as i64, 120);
    }
}
