//! The pipeline: each verb chooses which of the same stages run.

mod carried;
mod drawing;
mod finish;
mod journal;
mod kept_channels;
mod layers;
mod rebuild_pruned;
mod regrow;
mod related;
mod shrink;
mod sparsify;
mod tuned;
mod weights;
mod zeros;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::progress::Progress;
use crate::report::{Fallback, Report, StageTime};
use crate::samples::Samples;

pub(crate) use finish::{
    Channels, Judged, PLAN, Parts, count_weights, figures as latency_figures, finish,
    frozen as frozen_figures, metadata, write_all,
};
pub(crate) use journal::{RunJournal, open_run_of};
pub(crate) use kept_channels::told_channels;
pub(crate) use rebuild_pruned::aligned;
pub use rebuild_pruned::rebuild;
pub use shrink::shrink;
pub(crate) use shrink::{
    DemoData, REFIT_ROWS, check_files, cost_of, facts_of, files, no_edits, rebuild_config,
    shrink_demo,
};
pub(crate) use sparsify::pattern;
pub(crate) use tuned::{closed_form, is_tuned};
pub(crate) use weights::weight_figures;
pub(crate) use zeros::held_zeros;

/// What a run needs besides its recipe: nothing here changes the result.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The command line, for the report.
    pub command: String,
    /// Where every finished stage is kept, so that the same command goes on after a kill.
    pub run_dir: Option<PathBuf>,
    /// Files that were read for this run, a recipe or a plan: they are never written over.
    pub inputs: Vec<PathBuf>,
    /// True to replace files that exist.
    pub force: bool,
    /// The ONNX Runtime library to measure with; left out: looked for.
    pub onnxruntime: Option<PathBuf>,
    /// Where `fit` adds an event file for `TensorBoard`.
    pub log_dir: Option<PathBuf>,
    /// More folders to look for it in.
    pub library_dirs: Vec<PathBuf>,
}

/// The files of one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The small model.
    pub model: PathBuf,
    /// The report for programs.
    pub report_json: PathBuf,
    /// The report for a ticket.
    pub report_md: PathBuf,
    /// The report for people.
    pub report_html: PathBuf,
    /// The recipe that repeats the run.
    pub recipe: PathBuf,
    /// The plan that was applied; not written by `rebuild`.
    pub plan: Option<PathBuf>,
}

impl Files {
    /// Returns the files of a result that goes to `out`, which is `what`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if that is not the name of a file.
    pub(crate) fn beside(out: PathBuf, what: &str) -> Result<Self, crate::Error> {
        if out.file_name().is_none() {
            return Err(crate::Error::usage(format!(
                "`{}` is not a file name for {what}",
                out.display()
            )));
        }
        let beside = |suffix: &str| -> PathBuf { out.with_extension(suffix) };
        Ok(Self {
            report_json: beside("report.json"),
            report_md: beside("report.md"),
            report_html: beside("report.html"),
            recipe: beside("recipe.toml"),
            plan: None,
            model: out,
        })
    }

    /// Returns the path of every file.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        let always = [
            &self.model,
            &self.report_json,
            &self.report_md,
            &self.report_html,
            &self.recipe,
        ];
        let all = always.into_iter().chain(&self.plan);
        all.map(PathBuf::as_path).collect()
    }
}

/// What a run gives back.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that was done and measured.
    pub report: Report,
    /// Where it was written.
    pub files: Files,
}

/// What verbs outside of the pipeline share with its stages.
pub(crate) struct Stages;

impl Stages {
    /// Returns how models run under a recipe.
    pub(crate) fn exec(recipe: &crate::Recipe) -> regraft_exec::ExecOptions {
        shrink::exec(recipe)
    }
}

/// Stage times and remarks of a run under way.
pub(crate) struct Log<'a> {
    progress: &'a dyn Progress,
    stages: RefCell<Vec<StageTime>>,
    started: RefCell<Instant>,
    pub(crate) warnings: RefCell<Vec<String>>,
    pub(crate) fallbacks: RefCell<Vec<Fallback>>,
}

impl<'a> Log<'a> {
    pub(crate) fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            stages: RefCell::new(Vec::new()),
            started: RefCell::new(Instant::now()),
            warnings: RefCell::new(Vec::new()),
            fallbacks: RefCell::new(Vec::new()),
        }
    }

    fn close(&self) {
        let seconds = self.started.replace(Instant::now()).elapsed().as_secs_f64();
        if let Some(last) = self.stages.borrow_mut().last_mut() {
            last.seconds += seconds;
        }
    }

    /// Returns an error once the run should stop.
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        if self.progress.cancelled() {
            return Err(crate::Error::new(
                crate::ErrorKind::Interrupted,
                "interrupted",
            ));
        }
        Ok(())
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        self.progress.note(&text);
        self.warnings.borrow_mut().push(text);
    }

    /// Says what the samples are, and warns of what may be wrong with them.
    pub(crate) fn samples(&self, samples: &Samples) {
        self.progress.note(&samples.description);
        for remark in &samples.remarks {
            self.progress.note(remark);
        }
        for note in &samples.notes {
            self.warn(note.clone());
        }
    }

    /// Returns the stages so far, the current one closed.
    pub(crate) fn finish(&self) -> Vec<StageTime> {
        self.close();
        self.stages.borrow().clone()
    }
}

impl Progress for Log<'_> {
    fn stage(&self, name: &str) {
        self.close();
        self.stages.borrow_mut().push(StageTime {
            name: name.to_owned(),
            seconds: 0.0,
        });
        self.progress.stage(name);
    }

    fn step(&self, done: usize, total: usize, what: &str) {
        self.progress.step(done, total, what);
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }
}
