//! docs/edits.md: every edit of the topology on networks of five kinds, run and judged in ONNX Runtime.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::process::{self, cargo};
use crate::python::{self, Environment};

/// Exit codes that leave a written file: done, and done with reported fallbacks.
const WRITTEN: [i32; 2] = [0, 5];

/// How far the output may move where an edit claims to keep it, relative to the largest output.
const EXACT: f64 = 1e-5;

/// What to judge and with what.
#[derive(Debug)]
pub(crate) struct Options {
    only: Option<String>,
    shared: PathBuf,
    python: Option<String>,
}

impl Options {
    /// Returns the options of the command line.
    pub(crate) fn from_arguments(arguments: &mut Arguments, root: &Path) -> Result<Self> {
        let shared = arguments.value("--shared")?;
        Ok(Self {
            only: arguments.value("--only")?,
            shared: root.join(shared.as_deref().unwrap_or("../shared")),
            python: arguments.value("--python")?,
        })
    }
}

/// A network with its data.
struct Network {
    name: &'static str,
    /// A file of `models/`, or arguments of `regraft new`.
    source: Source,
    data: &'static str,
    extra: &'static [&'static str],
}

enum Source {
    Model(&'static str),
    New(&'static [&'static str]),
}

const NETWORKS: [Network; 5] = [
    Network {
        name: "convolutions (ResNet-20)",
        source: Source::Model("resnet20_cifar10.onnx"),
        data: "cifar10",
        extra: &["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"],
    },
    Network {
        name: "linear layers (LeNet-300-100)",
        source: Source::Model("lenet300-100_mnist.onnx"),
        data: "mnist",
        extra: &[],
    },
    Network {
        name: "recurrent (`new gru`)",
        source: Source::New(&[
            "gru",
            "--input",
            "48x40",
            "--hidden",
            "64",
            "--classes",
            "10",
        ]),
        data: "fsdd",
        extra: &[],
    },
    Network {
        name: "recurrent, both ways (`new lstm --bidirectional`)",
        source: Source::New(&[
            "lstm",
            "--bidirectional",
            "--input",
            "48x40",
            "--hidden",
            "48",
            "--layers",
            "2",
            "--classes",
            "10",
        ]),
        data: "fsdd",
        extra: &[],
    },
    Network {
        name: "transformer (`new transformer-tiny`)",
        source: Source::New(&[
            "transformer-tiny",
            "--input",
            "48x40",
            "--hidden",
            "64",
            "--layers",
            "2",
            "--classes",
            "10",
        ]),
        data: "fsdd",
        extra: &[],
    },
];

/// What an edit works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Dense,
    /// What `shrink` left, its own teacher.
    Pruned,
    /// What `shrink` left, towards the dense network.
    PrunedWithTeacher,
}

/// Each edit with its arguments.
const EDITS: [(&[&str], On); 17] = [
    (&["low-rank", "--macs", "0.7"], On::Dense),
    (&["low-rank", "--bytes", "0.3"], On::Dense),
    (&["widen", "--factor", "1.25"], On::Pruned),
    (
        &["widen", "--by-gain", "--max-macs", "1.2"],
        On::PrunedWithTeacher,
    ),
    (&["deepen"], On::Pruned),
    (&["deepen", "--insert", "residual"], On::Pruned),
    (&["deepen", "--insert", "cell"], On::Pruned),
    (&["attend", "--kind", "squeeze-excite"], On::Pruned),
    (&["attend", "--kind", "channel"], On::Pruned),
    (&["attend", "--kind", "spatial"], On::Pruned),
    (
        &["attend", "--kind", "self-attention", "--size", "1"],
        On::Pruned,
    ),
    (&["link", "--past", "3"], On::PrunedWithTeacher),
    (
        &["reconnect", "--rebuild-rate", "0.5"],
        On::PrunedWithTeacher,
    ),
    (
        &["reconnect", "--by-gain", "--max-macs", "1.2"],
        On::PrunedWithTeacher,
    ),
    (&["share", "--bits", "5"], On::Pruned),
    (&["tie", "--max-error", "0.5"], On::Pruned),
    (&["tie", "--kernels", "16", "--form", "gather"], On::Pruned),
];

/// Runs and judges every edit, and writes docs/edits.md.
///
/// # Errors
/// Where nothing can be judged; an edit that fails its claim is a row of the table, and an error at the end.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let python = python::interpreter(root, Environment::Peers, options.python.as_deref())?;
    process::run(cargo(root).args(["build", "--release", "--locked", "-p", "regraft-cli"]))?;
    let bench = Bench {
        binary: process::target_dir(root).join("release/regraft"),
        out: process::target_dir(root).join("edits"),
        check: root.join("xtask/edits/check.py"),
        options,
        python,
    };
    std::fs::create_dir_all(&bench.out)?;
    let mut table = String::new();
    let mut wrong = 0;
    let wanted = |n: &&Network| options.only.as_deref().is_none_or(|o| n.name.contains(o));
    for network in NETWORKS.iter().filter(wanted) {
        println!("edits: {}", network.name);
        let given = bench.prepare(network)?;
        for (edit, on) in &EDITS {
            let row = bench.row(network, &given, edit, *on)?;
            wrong += usize::from(row.is_wrong);
            println!("{}", row.line);
            writeln!(table, "{}", row.line)?;
        }
        let row = bench.fused(network, &given)?;
        wrong += usize::from(row.is_wrong);
        println!("{}", row.line);
        writeln!(table, "{}", row.line)?;
    }
    if options.only.is_none() {
        std::fs::write(root.join("docs/edits.md"), page(&table))?;
        println!("edits: wrote docs/edits.md");
    }
    if wrong > 0 {
        bail!("{wrong} edits do not what they claim");
    }
    Ok(())
}

/// The files that edits start from.
struct Given {
    dense: PathBuf,
    pruned: PathBuf,
}

struct Row {
    line: String,
    is_wrong: bool,
}

struct Bench<'a> {
    binary: PathBuf,
    out: PathBuf,
    check: PathBuf,
    options: &'a Options,
    python: PathBuf,
}

impl Bench<'_> {
    fn prepare(&self, network: &Network) -> Result<Given> {
        let dense = match network.source {
            Source::Model(file) => self.options.shared.join("models").join(file),
            Source::New(arguments) => {
                let file = self.out.join(format!("{}.onnx", arguments[0]));
                let mut new = Command::new(&self.binary);
                new.arg("new").args(arguments).arg("--force").arg("-o");
                process::run(new.arg(&file))?;
                file
            }
        };
        let pruned = self.out.join("pruned.onnx");
        let mut shrink = self.command(network, &["shrink"], &[&dense], &pruned);
        if let Err(reason) = written(shrink.args(["--macs", "0.5"]))? {
            bail!("shrink of {} failed: {reason}", network.name);
        }
        Ok(Given { dense, pruned })
    }

    /// A command on the network's data, without tuning.
    fn command(
        &self,
        network: &Network,
        verb: &[&str],
        models: &[&Path],
        output: &Path,
    ) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(verb).args(models).arg("--data");
        command.arg(self.options.shared.join("data").join(network.data));
        command.args(network.extra);
        command.args([
            "--tune",
            "none",
            "--calib",
            "256",
            "--threads",
            "2",
            "--quiet",
        ]);
        command.args(["--force", "--json", "-o"]).arg(output);
        command
    }

    fn row(&self, network: &Network, given: &Given, edit: &[&str], on: On) -> Result<Row> {
        let before = if on == On::Dense {
            &given.dense
        } else {
            &given.pruned
        };
        let after = self.out.join("edited.onnx");
        let run = self.out.join("run");
        // Each edit has a run of its own.
        if run.exists() {
            std::fs::remove_dir_all(&run)?;
        }
        let verb: Vec<&str> = std::iter::once("reshape")
            .chain(edit.iter().copied())
            .collect();
        let mut command = self.command(network, &verb[..2], &[before], &after);
        command.args(&edit[1..]).arg("--run").arg(&run);
        if on == On::PrunedWithTeacher {
            command.arg("--teacher").arg(&given.dense);
        }
        let head = format!("| {} | `{}` |", network.name, edit.join(" "));
        let report = match written(&mut command)? {
            Ok(report) => report,
            Err(reason) => {
                return Ok(Row {
                    line: format!("{head} refused: {reason} | | | | |"),
                    is_wrong: false,
                });
            }
        };
        let back = self.out.join("back.onnx");
        let mut undo = Command::new(&self.binary);
        undo.args(["reshape", "undo", "--step", "1", "--quiet", "--force", "-o"]);
        undo.arg(&back)
            .arg(&run)
            .stdout(std::process::Stdio::null());
        process::run(&mut undo)?;
        let judged = self.judged(before, &after, Some(&back))?;
        Ok(line(&head, on, &report, &judged))
    }

    fn fused(&self, network: &Network, given: &Given) -> Result<Row> {
        let after = self.out.join("edited.onnx");
        let models: [&Path; 2] = [&given.pruned, &given.pruned];
        let mut command = self.command(network, &["reshape", "fuse"], &models, &after);
        let head = format!("| {} | `fuse`, with itself |", network.name);
        let Ok(_) = written(&mut command)? else {
            return Ok(Row {
                line: format!("{head} refused | | | | |"),
                is_wrong: true,
            });
        };
        let judged = self.judged(&given.pruned, &after, None)?;
        // The mean of a network with itself is the network; the closed form then moves it a little.
        let moved = judged["moved"].as_f64().unwrap_or(f64::INFINITY);
        Ok(Row {
            line: format!("{head} no | {moved:.0e} | – | – | – |"),
            is_wrong: !moved.is_finite(),
        })
    }

    fn judged(&self, before: &Path, after: &Path, back: Option<&Path>) -> Result<Value> {
        let mut command = Command::new(&self.python);
        command.arg(&self.check).args([before, after]);
        command.arg(back.unwrap_or(Path::new("-")));
        Ok(serde_json::from_str(&process::output(&mut command)?)?)
    }
}

/// Returns the report of a command that wrote its file; nothing where it refused, with the reason.
fn written(command: &mut Command) -> Result<Result<Value, String>> {
    let found = command.output().context("regraft does not start")?;
    let report = found.status.code().filter(|code| WRITTEN.contains(code));
    if report.is_some() {
        return Ok(Ok(serde_json::from_slice(&found.stdout)?));
    }
    let text = String::from_utf8_lossy(&found.stderr);
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let message = last["error"]["message"].as_str().or(last["error"].as_str());
    Ok(Err(message.unwrap_or("no reason").to_owned()))
}

fn line(head: &str, on: On, report: &Value, judged: &Value) -> Row {
    let step = &report["reshape"][0];
    let exact = step["exact"].as_bool() == Some(true);
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    let (moved, back) = (number(&judged["moved"]), number(&judged["back"]));
    let places = step["changes"].as_array().map_or(0, Vec::len);
    let (said, counted) = (&report["small"]["params"], &judged["params"]);
    // What edits add besides weights, scales and shapes of constants, is no parameter.
    let macs = |side: &str| number(&step["macs"][side]);
    // Towards a teacher the edited network is rebuilt: it is to move then.
    let rebuilt = on == On::PrunedWithTeacher;
    let is_wrong = !(moved.is_finite() && back <= EXACT) || (exact && !rebuilt && moved > EXACT);
    let claim = match (exact, places) {
        (_, 0) => "nothing to change",
        (true, _) if rebuilt => "yes, then rebuilt towards the dense network",
        (true, _) => "yes",
        (false, _) => "no",
    };
    let note = if is_wrong { " **wrong**" } else { "" };
    Row {
        line: format!(
            "{head} {claim}{note} | {moved:.0e} | {:.2} | {said} of {counted} | {back:.0e} |",
            macs("after") / macs("before"),
        ),
        is_wrong,
    }
}

fn page(table: &str) -> String {
    format!(
        "# Every edit, judged from outside\n\n\
         Written by `cargo xtask edits`, not by hand. What each edit does: [topology.md](topology.md).\n\n\
         Every edit of `regraft reshape` on a network of each kind, closed form alone (`--tune none`), 256 samples: `low-rank` on the dense\n\
         network, the others on what `shrink --macs 0.5` left of it. The written file runs in ONNX Runtime. *Moved*: the largest change of its\n\
         outputs on 16 random samples, relative to the largest output; at most 1e-5 where an edit says that it keeps the function. *MACs*: as a\n\
         share of the network before the edit. *Parameters*: as the report counts them, of all floating-point numbers in the file. *Undone*: how far\n\
         what `reshape undo` writes is from the network before.\n\n\
         | network | edit | keeps the function | moved | MACs | parameters | undone |\n\
         | --- | --- | --- | ---: | ---: | ---: | ---: |\n{table}"
    )
}
