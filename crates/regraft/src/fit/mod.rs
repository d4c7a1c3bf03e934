//! `fit`: trains or fine-tunes a network on labelled samples, and prunes it on the way.

mod hardening;
mod log;
mod names;
mod rebuilder;
mod recipe;
mod repeats;
mod tensorboard;

use std::path::Path;

use regraft_data::{DataSource, Dataset, Preprocess, Role, split_calibration};
use regraft_graph::Graph;
use regraft_train::{EpochRecord, Fitted, State, Trained, Watch};

use self::log::EpochLog;
use self::rebuilder::Rebuilder;
use self::tensorboard::EventFile;
pub use hardening::FitAttackName;
pub use names::{
    DecayName, FitAugmentName, FitMixName, LossName, MethodName, OptimizerName, PaceName,
    SaliencyName, SoftAllocationName,
};
pub use recipe::{DEFAULT_HELD_OUT, FitRecipe};

use crate::evaluate::{metrics, outputs};
use crate::model::Model;
use crate::pipeline::{
    Channels, Files, Log, Outcome, RunOptions, Stages, cost_of, count_weights, metadata, write_all,
};
use crate::progress::Progress;
use crate::report::{
    DataInfo, EpochFigures, ModelFigures, ModelInfo, Report, StatisticsFigures, TrainingFigures,
};
use crate::samples::{Fed, Source, activations, open_data, preprocess};
use crate::storage::{Fingerprint, RunDir, peak_rss_bytes};
use crate::{Error, ErrorKind, Recipe};

/// Key of the state of the last epoch in the run directory.
const STATE: &str = "fit/state";

/// Trains a network as the recipe says, and writes it with its report, its recipe and a log of every
/// epoch.
///
/// With [`RunOptions::run_dir`] every epoch is kept; the same recipe goes on from there and gives the
/// same bytes as a run without a stop.
/// # Errors
/// [`Error`] with its kind; no output file was made then.
pub fn fit(
    recipe: &FitRecipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    let reading = recipe.reading();
    reading.check()?;
    recipe.check()?;
    recipe.check_attack()?;
    repeats::check(recipe)?;
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    if recipe.data.is_none() {
        return Err(no_data());
    }
    let out = recipe.output.clone();
    let out = out.unwrap_or_else(|| path.with_extension("fit.onnx"));
    let files = Files::beside(out, "the trained model")?;
    let csv = files.model.with_extension("epochs.csv");
    let models: Vec<&Path> = std::iter::once(path)
        .chain(recipe.teacher.as_deref())
        .collect();
    let outputs = [&files.paths()[..], &[&csv]].concat();
    crate::outputs::check(&outputs, &models, &reading, options)?;
    let log = Log::new(progress);
    let mut done = match recipe.seeds {
        1 => one(recipe, options, &log)?,
        _ => repeats::run(recipe, options, &log)?,
    };
    log.stage("write");
    let report = &mut done.report;
    report.output = Some(files.model.display().to_string());
    report.warnings.clone_from(&log.warnings.borrow());
    report.stages = log.finish();
    report.peak_rss_bytes = peak_rss_bytes();
    write_all(&[
        (&files.recipe, recipe.to_toml()?.into_bytes()),
        (&csv, done.epochs.into_bytes()),
        (&files.report_json, report.to_json()?.into_bytes()),
        (&files.report_md, report.to_markdown().into_bytes()),
        (&files.report_html, report.to_html().into_bytes()),
        // Last, so that a model never lies there without its report.
        (&files.model, done.bytes),
    ])?;
    Ok(Outcome {
        report: done.report,
        files,
    })
}

/// What one training gives, before anything is written.
#[derive(Debug)]
struct Done {
    report: Report,
    /// The table of the epochs.
    epochs: String,
    /// The model file.
    bytes: Vec<u8>,
}

fn no_data() -> Error {
    Error::usage("no data is given")
        .with_hint("point --data at a folder or file of labelled samples")
}

/// Trains once and judges the result.
fn one(recipe: &FitRecipe, options: &RunOptions, log: &Log<'_>) -> Result<Done, Error> {
    let reading = recipe.reading();
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    let data = recipe.data.as_deref().ok_or_else(no_data)?;
    log.stage("read");
    let model = Model::open(path, &reading)?;
    let input = model.input()?;
    let Source::Set(source) = open_data(data, &model, &input)? else {
        return Err(Error::new(
            ErrorKind::Input,
            "training takes a network with one input of floats",
        )
        .with_hint("give a data set of samples and labels"));
    };
    let teacher = match &recipe.teacher {
        Some(path) if recipe.teacher_share > 0.0 => Some(Model::open(path, &reading)?),
        _ => None,
    };
    let graph = model.trainable(recipe.batch_statistics)?;
    let parts = Parts {
        recipe,
        reading: &reading,
        model: &model,
        graph: &graph,
        teacher: teacher.as_ref().unwrap_or(&model),
        source: &source,
        log,
    };
    let set = parts.samples(&input.sample)?;
    let fitted = parts.train(&set, input.value, options)?;
    log.check()?;
    log.stage("judge");
    let mut report = parts.report(&fitted, &set, options)?;
    let small = metadata(&fitted.graph, &model, &reading, Channels::AsGiven)?;
    let bytes = regraft_onnx::write_bytes(&small)?;
    report.small.bytes = bytes.len() as u64;
    Ok(Done {
        report,
        epochs: log::csv(&fitted.records),
        bytes,
    })
}

/// Samples of a run.
struct Set<'a> {
    train: &'a Dataset,
    preprocess: Preprocess,
    fit: Vec<usize>,
    held_out: Vec<usize>,
    judge: &'a Dataset,
    judge_preprocess: Preprocess,
    judged: Vec<usize>,
}

struct Parts<'a> {
    recipe: &'a FitRecipe,
    reading: &'a Recipe,
    model: &'a Model,
    /// The network that is trained.
    graph: &'a Graph,
    teacher: &'a Model,
    source: &'a DataSource,
    log: &'a Log<'a>,
}

impl Parts<'_> {
    /// The training split trains and chooses; the test split judges. Where there is none, a part of
    /// the training samples that neither trains nor chooses does.
    fn samples(&self, sample: &[Option<usize>]) -> Result<Set<'_>, Error> {
        let first = self.source.splits.first().map(|s| &s.data);
        let train =
            self.source.split(Role::Train).or(first).ok_or_else(|| {
                Error::new(ErrorKind::Input, "the data set has no split to train on")
            })?;
        if train.labels().is_none() && self.recipe.teacher_share < 1.0 {
            return Err(
                Error::new(ErrorKind::Input, "the training samples have no labels").with_hint(
                    "give labelled samples, or learn from a teacher alone: teacher_share = 1",
                ),
            );
        }
        let roles = [Role::Test, Role::Validation];
        let judge = roles.into_iter().find_map(|r| self.source.split(r));
        let n = train.len();
        let held_out = self.recipe.held_out.clamp(1, (n / 5).max(1));
        let judged = if judge.is_some() { 0 } else { held_out };
        let n_fit = n.saturating_sub(held_out + judged);
        if n_fit == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{n} samples are too few to train on"),
            ));
        }
        let split = split_calibration(n, n_fit, held_out, self.recipe.seed)?;
        let settings = preprocess(self.reading);
        let (judge, judged) = match judge {
            Some(data) => (data, (0..data.len()).collect()),
            None => (train, split.rest),
        };
        self.log.note(&self.source.describe());
        Ok(Set {
            train,
            preprocess: settings.clone().fit_to(train, sample)?,
            fit: split.calibration,
            held_out: split.held_out,
            judge_preprocess: settings.fit_to(judge, sample)?,
            judge,
            judged,
        })
    }

    fn train(
        &self,
        set: &Set<'_>,
        input: regraft_graph::ValueId,
        options: &RunOptions,
    ) -> Result<Fitted, Error> {
        self.log.stage("train");
        let samples = regraft_train::Samples {
            data: set.train,
            preprocess: &set.preprocess,
            input,
            fit: &set.fit,
            held_out: &set.held_out,
        };
        let config = self.recipe.config(Stages::exec(self.reading));
        let run_dir = self.open_run(set, options)?;
        let start = match &run_dir {
            Some(dir) => dir.get(STATE)?,
            None => None,
        };
        let start = start.map(|bytes| State::from_bytes(&bytes)).transpose()?;
        if let Some(state) = &start {
            self.log
                .note(&format!("  goes on after epoch {}", state.epochs_done()));
        }
        let mut watch = Watcher {
            log: self.log,
            lines: EpochLog::new(self.recipe.epochs),
            run_dir,
            failed: None,
            events: match &options.log_dir {
                Some(folder) => Some(EventFile::create(folder)?),
                None => None,
            },
            rebuilder: Rebuilder {
                set,
                samples,
                exec: config.exec,
                log: self.log,
            },
        };
        let fitted = regraft_train::fit(
            self.graph,
            Some(&self.teacher.graph),
            samples,
            &config,
            start,
            &mut watch,
        );
        if let Some(error) = watch.failed {
            return Err(error);
        }
        let fitted = fitted?;
        if let Some(found) = &fitted.reestimation {
            self.log.note(&log::reestimation(found));
        }
        Ok(fitted)
    }

    fn open_run(&self, set: &Set<'_>, options: &RunOptions) -> Result<Option<RunDir>, Error> {
        let Some(dir) = &options.run_dir else {
            return Ok(None);
        };
        // The whole set decides; its first samples and its size stand for it.
        let some: Vec<usize> = set.fit.iter().copied().take(256).collect();
        let values = set.train.batch(&some, &set.preprocess)?;
        let mut bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes.extend((set.train.len() as u64).to_le_bytes());
        let labels = set.train.labels().unwrap_or_default();
        bytes.extend(labels.iter().flat_map(|l| l.to_le_bytes()));
        let model = self.model.fingerprint()? + &self.teacher.fingerprint()?;
        let fingerprint = Fingerprint {
            model_sha256: crate::storage::sha256_hex(model.as_bytes()),
            data: crate::storage::sha256_hex(&bytes),
            config: self.recipe.decisive().to_toml()?,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.recipe.seed,
            threads: 0,
        };
        Ok(Some(RunDir::open(dir, &fingerprint)?))
    }

    fn report(
        &self,
        fitted: &Fitted,
        set: &Set<'_>,
        options: &RunOptions,
    ) -> Result<Report, Error> {
        let exec = Stages::exec(self.reading);
        let samples = activations(set.judge, &set.judged, &set.judge_preprocess, 64)?;
        let fed = Fed::one(self.model.input()?.value, samples);
        let labels = set.judge.labels_of(&set.judged)?;
        let classes = set.judge.class_names();
        let dense = outputs(self.graph, &fed, exec)?;
        let small = outputs(&fitted.graph, &fed, exec)?;
        let figures = |graph: &Graph, bytes: usize, m| -> Result<ModelFigures, Error> {
            let cost = cost_of(graph)?;
            Ok(ModelFigures {
                params: cost.params,
                macs: cost.macs,
                bytes: bytes as u64,
                weights: count_weights(graph),
                metrics: Some(m),
            })
        };
        let judged = |o, against| metrics(o, against, labels.as_deref(), classes);
        let mut report = Report::new();
        report.command.clone_from(&options.command);
        report.recipe = Some(self.recipe.to_toml()?);
        report.seed = self.recipe.seed;
        report.threads = Some(exec.threads);
        report.device = exec.device.to_string();
        report.model = ModelInfo {
            name: self.model.name.clone(),
            sha256: Some(self.model.sha256.clone()),
        };
        report.data = Some(DataInfo {
            description: self.source.describe(),
            calibration: set.fit.len(),
            held_out: set.held_out.len(),
            evaluation: set.judged.len(),
        });
        let bytes = self.model.bytes.len();
        report.dense = figures(self.graph, bytes, judged(&dense, None)?)?;
        report.small = figures(&fitted.graph, 0, judged(&small, Some(&dense))?)?;
        report.training = Some(TrainingFigures {
            epochs: fitted.records.iter().map(epoch_figures).collect(),
            best_epoch: fitted.best_epoch + 1,
            held_out_accuracy: fitted.held_out_accuracy,
            statistics: fitted.reestimation.map(|r| StatisticsFigures {
                batches: r.batches,
                running_accuracy: r.before,
                new_accuracy: r.after,
            }),
            attack: self.recipe.attack_in_words(),
        });
        Ok(report)
    }
}

fn epoch_figures(r: &EpochRecord) -> EpochFigures {
    EpochFigures {
        epoch: r.epoch + 1,
        steps: r.step,
        learning_rate: r.rate,
        loss: r.loss,
        held_out_accuracy: r.held_out_accuracy,
        nonzero: r.nonzero as u64,
        weights: r.weights as u64,
    }
}

/// Shows every epoch and keeps it.
struct Watcher<'a> {
    log: &'a Log<'a>,
    lines: EpochLog,
    run_dir: Option<RunDir>,
    failed: Option<Error>,
    events: Option<EventFile>,
    rebuilder: Rebuilder<'a>,
}

impl Watcher<'_> {
    /// Adds an epoch to the event file, if one is written.
    fn tell_tensorboard(
        &mut self,
        record: &EpochRecord,
        state: &State,
        trained: &[Trained],
    ) -> Result<(), Error> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let step = record.step;
        let nonzero = record.nonzero as f64 / record.weights.max(1) as f64;
        events.scalars(
            step,
            &[
                ("loss/train", record.loss),
                ("accuracy/held_out", record.held_out_accuracy),
                ("learning_rate", record.rate),
                ("nonzero", nonzero),
            ],
        )?;
        for (weights, parameter) in state.effective().iter().zip(trained) {
            if !parameter.is_weight {
                continue;
            }
            let there = weights.iter().copied().filter(|w| *w != 0.0);
            let share = there.clone().count() as f64 / weights.len().max(1) as f64;
            events.histogram(step, &format!("weights/{}", parameter.name), there)?;
            events.scalars(step, &[(&format!("nonzero/{}", parameter.name), share)])?;
        }
        Ok(())
    }
}

impl Watch for Watcher<'_> {
    fn step(&mut self, done: usize, total: usize, loss: f32) {
        // A line for every step would cost more than the step.
        if done.is_multiple_of(20) || done == total {
            self.log.step(done, total, &format!("loss {loss:.4}"));
        }
    }

    fn epoch(&mut self, record: &EpochRecord, state: &State, trained: &[Trained]) {
        if let Some(line) = self.lines.line(record) {
            self.log.note(&line);
        }
        if let Err(error) = self.tell_tensorboard(record, state, trained) {
            self.failed.get_or_insert(error);
        }
        if let Some(dir) = &mut self.run_dir
            && let Err(error) = dir.put(STATE, &state.to_bytes())
        {
            self.failed.get_or_insert(error.into());
        }
    }

    fn cancelled(&self) -> bool {
        self.failed.is_some() || self.log.cancelled()
    }

    fn rebuild(&mut self, before: &Graph, pruned: &Graph) -> Result<Graph, String> {
        let rebuilt = self.rebuilder.rebuild(before, pruned);
        rebuilt.map_err(|error| {
            let reason = error.to_string();
            self.failed.get_or_insert(error);
            reason
        })
    }
}
