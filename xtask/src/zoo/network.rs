//! The check of one network: exported, read, grouped, planned, pruned, judged.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use super::Tools;
use super::child::{self, Ended};
use super::record::{Failure, Record};

/// The share of the budget that is asked for first.
const SHARE: &str = "0.5";

/// Largest relative difference that passes, in ONNX Runtime as in regraft.
const LIMIT: f64 = 1e-4;

/// Failing files up to this size are kept.
const KEPT_BYTES: u64 = 4_000_000;

/// One network of a library.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) library: String,
    pub(crate) name: String,
    pub(crate) family: String,
    /// `any`: the old exporter, else the new one, or the only one of its library; `dynamo`: the new
    /// one; `free`: with free axes; `old`: an old operator set; `fixed`: with a fixed batch.
    pub(crate) exporter: String,
}

/// A step that did not succeed ends the check of its network.
type Step<T = ()> = Result<std::result::Result<T, Failure>>;

/// Goes on with what a step found, or returns its failure.
macro_rules! step {
    ($result:expr) => {
        match $result? {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        }
    };
}

/// Returns what became of a network; its files are gone, but for small ones that failed.
pub(crate) fn check(tools: &Tools, network: &Network) -> Result<Record> {
    let start = Instant::now();
    let folder = tools.folder.join(format!("work-{}", std::process::id()));
    clear(&folder)?;
    std::fs::create_dir_all(&folder)?;
    let mut run = Run {
        tools,
        network,
        folder,
        record: Record {
            library: network.library.clone(),
            name: network.name.clone(),
            family: network.family.clone(),
            wanted: network.exporter.clone(),
            ..Record::default()
        },
    };
    let outcome = run.steps()?;
    run.record.failure = outcome.err();
    run.record.seconds = start.elapsed().as_secs_f64();
    run.keep_failed()?;
    clear(&run.folder)?;
    Ok(run.record)
}

struct Run<'a> {
    tools: &'a Tools,
    network: &'a Network,
    folder: PathBuf,
    record: Record,
}

impl Run<'_> {
    fn steps(&mut self) -> Step {
        step!(self.export());
        step!(self.inspect());
        step!(self.plan());
        let small = step!(self.apply());
        self.judge(&small)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn export(&mut self) -> Step {
        let mut command = self.tools.script("export.py");
        command.args(["model", &self.network.library, &self.network.name]);
        command.arg(&self.folder);
        command.args(["--exporter", &self.network.exporter]);
        let ended = child::run(&mut command, self.tools.limits)?;
        let found = last_json(&ended.stdout);
        let failed = |reason: String| Ok(Err(failure("export", reason)));
        if !ended.succeeded {
            let why = ended.stopped.clone();
            return failed(why.unwrap_or_else(|| ended.last_words().to_owned()));
        }
        self.record.exporter = found["exporter"].as_str().map(str::to_owned);
        self.record.params = found["parameters"].as_u64();
        match self.record.exporter {
            Some(_) => Ok(Ok(())),
            None => failed(all_messages(&found["failed"])),
        }
    }

    fn inspect(&mut self) -> Step {
        let found = step!(self.regraft("read", &["inspect", &self.file("model.onnx")]));
        let groups = found["groups"].as_array().map_or(0, Vec::len) as u64;
        self.record.groups = Some(groups);
        self.record.prunable = match (found["prunable_params"].as_f64(), found["params"].as_f64()) {
            (Some(some), Some(all)) if all > 0.0 => Some(some / all),
            _ => None,
        };
        if groups == 0 {
            return Ok(Err(failure("groups", reasons(&found))));
        }
        Ok(Ok(()))
    }

    /// Plans for half of the multiply-accumulates, for the least share if that cannot be reached,
    /// and for parameters where the others are not known.
    fn plan(&mut self) -> Step {
        let mut budget = ("--macs".to_owned(), SHARE.to_owned());
        for _ in 0..3 {
            let (model, plan) = (self.file("model.onnx"), self.file("plan.toml"));
            let words = [
                "plan",
                &model,
                &budget.0,
                &budget.1,
                "--score",
                "l2",
                "--multiple-of",
                "1",
                "--force",
                "-o",
                &plan,
            ];
            let refused = match self.regraft("plan", &words)? {
                Ok(found) => {
                    self.record.macs_kept = found["keeps"]["macs"].as_f64();
                    self.record.params_kept = found["keeps"]["params"].as_f64();
                    return Ok(Ok(()));
                }
                Err(refused) => refused,
            };
            match asked_instead(&refused.reason) {
                Some(next) if next != budget => budget = next,
                _ => return Ok(Err(refused)),
            }
        }
        Ok(Err(failure("plan", "no budget could be reached")))
    }

    /// Removes and verifies on random tensors; returns what regraft says of the pruned network.
    fn apply(&mut self) -> Step<Value> {
        let [model, plan, pruned, masked, inputs] = [
            "model.onnx",
            "plan.toml",
            "pruned.onnx",
            "masked.onnx",
            "inputs.npz",
        ]
        .map(|name| self.file(name));
        let base = [
            "apply",
            &model,
            &plan,
            "--force",
            "-o",
            &pruned,
            "--threads",
            "1",
        ];
        let with = |more: &[&'static str]| -> Vec<&str> { [&base[..], more].concat() };
        let mut words = [&base[..], &["--masked", &masked]].concat();
        let mut outcome = self.regraft("apply", &words)?;
        if outcome
            .as_ref()
            .is_err_and(|f| f.reason.contains("external data"))
        {
            self.note("the masked file would exceed 2 GiB: judged by regraft alone");
            words = with(&[]);
            outcome = self.regraft("apply", &words)?;
        }
        if outcome.is_err() {
            let given = [&words[..], &["--inputs", &inputs]].concat();
            if let Ok(found) = self.regraft("apply", &given)? {
                self.note("verified on the exporter's inputs, random ones do not fit");
                outcome = Ok(found);
            }
        }
        let found = match outcome {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let verify = &found["verify"];
        self.record.verified = verify["max_relative_difference"].as_f64();
        self.record.runtime = verify["runtime"].as_str().map(str::to_owned);
        if let Some(note) = verify["note"].as_str() {
            self.note(note);
        }
        Ok(Ok(found))
    }

    fn judge(&mut self, applied: &Value) -> Step {
        let mut command = self.tools.script("check.py");
        let ended = child::run(command.arg(&self.folder), self.tools.limits)?;
        let failed = |reason: String| Ok(Err(failure("judge", reason)));
        if !ended.succeeded {
            let why = ended.stopped.clone();
            return failed(why.unwrap_or_else(|| ended.last_words().to_owned()));
        }
        let found = last_json(&ended.stdout);
        if let Some(file) = found["failed"].as_str() {
            let message = found["message"].as_str().unwrap_or_default();
            return failed(format!("{file}.onnx does not run: {}", one_line(message)));
        }
        self.record.judged = found["masked"].as_f64();
        self.record.moved = found["dense"].as_f64();
        let weights = found["weights_after"].as_u64();
        let expected = applied["small"]["params"].as_u64();
        if weights != expected {
            self.note("the file's weights are not those that were counted");
        }
        if found["finite"] == Value::Bool(false) {
            return failed("the pruned network gives values that are not finite".to_owned());
        }
        match self.record.judged {
            None if found["compares"] == Value::Bool(false) => Ok(Ok(())),
            Some(difference) if difference <= LIMIT => Ok(Ok(())),
            Some(difference) => failed(format!("masked and removed differ by {difference:.1e}")),
            None => failed("masked and removed give other shapes or whole numbers".to_owned()),
        }
    }

    fn note(&mut self, text: &str) {
        self.record.notes.push(text.to_owned());
    }

    /// Runs the measured binary and reads its object, or its error.
    fn regraft(&self, stage: &str, words: &[&str]) -> Step<Value> {
        let ended = child::run(&mut self.tools.regraft(words), self.tools.limits)?;
        if !ended.succeeded {
            // The page is read elsewhere.
            let reason = error_of(&ended).replace(&self.file(""), "");
            return Ok(Err(failure(stage, reason)));
        }
        Ok(Ok(last_json(&ended.stdout)))
    }

    fn keep_failed(&self) -> Result<()> {
        let model = self.folder.join("model.onnx");
        let size = std::fs::metadata(&model).map_or(u64::MAX, |m| m.len());
        if self.record.passed() || size > KEPT_BYTES {
            return Ok(());
        }
        let kept = self.tools.folder.join("failed");
        let kept = kept.join(format!("{}-{}", self.network.library, self.network.name));
        clear(&kept)?;
        std::fs::create_dir_all(&kept)?;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
        Ok(())
    }
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn failure(stage: &str, reason: impl AsRef<str>) -> Failure {
    Failure {
        stage: stage.to_owned(),
        reason: one_line(reason.as_ref()),
    }
}

/// Returns message, hint and cause of the error object on stderr, or the last words.
fn error_of(ended: &Ended) -> String {
    if let Some(stopped) = &ended.stopped {
        return stopped.clone();
    }
    let Ok(object) = serde_json::from_str::<Value>(ended.last_words()) else {
        return ended.last_words().to_owned();
    };
    let error = &object["error"];
    let mut text = error["message"].as_str().unwrap_or_default().to_owned();
    let causes = error["cause"].as_array().into_iter().flatten();
    for part in causes.chain([&error["hint"]]).filter_map(Value::as_str) {
        text.push_str("; ");
        text.push_str(part);
    }
    text
}

/// Returns the option and the share that an error says to ask for instead.
fn asked_instead(reason: &str) -> Option<(String, String)> {
    for option in ["--macs", "--params"] {
        let Some((_, after)) = reason.split_once(&format!("{option} ")) else {
            continue;
        };
        let share: String = after
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let number = share.parse::<f64>().ok()?;
        // The whole network: nothing would go.
        if number < 1.0 {
            return Some((option.to_owned(), share));
        }
    }
    None
}

/// Returns why groups are frozen, the most frequent reasons first, without names of nodes.
fn reasons(inspection: &Value) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    let frozen = inspection["frozen"].as_array().into_iter().flatten();
    for text in frozen.filter_map(|f| f["reason"].as_str()) {
        match counts.iter_mut().find(|(known, _)| known == text) {
            Some((_, n)) => *n += 1,
            None => counts.push((text.to_owned(), 1)),
        }
    }
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let shown: Vec<String> = counts.into_iter().take(3).map(|(text, _)| text).collect();
    format!("nothing can be pruned: {}", shown.join("; "))
}

fn all_messages(failed: &Value) -> String {
    let entries = failed.as_object().into_iter().flatten();
    let texts: Vec<String> = entries
        .filter_map(|(exporter, text)| Some(format!("{exporter}: {}", text.as_str()?)))
        .collect();
    texts.join("; ")
}

fn last_json(stdout: &str) -> Value {
    let line = stdout.trim().lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or(Value::Null)
}

/// Returns the text on one line without characters that steer a terminal, cut to a length.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(500)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::asked_instead;

    #[test]
    fn the_share_to_ask_for_is_read_from_the_hint() {
        let asked = |text: &str| asked_instead(text).map(|(o, s)| format!("{o} {s}"));
        let hint = "ask for no less than --macs 0.6242, lower --multiple-of";
        assert_eq!(asked(hint).as_deref(), Some("--macs 0.6242"));
        assert_eq!(asked("use --params 0.5").as_deref(), Some("--params 0.5"));
        assert_eq!(asked("no less than --macs 1.0000"), None);
        assert_eq!(asked("nothing can be pruned"), None);
    }
}
