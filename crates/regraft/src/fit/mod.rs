//! `fit`: trains or fine-tunes a network on labelled samples, and prunes it on the way.

mod features;
mod hardening;
mod last_good;
mod log;
mod names;
mod rebuilder;
mod recipe;
mod repeats;
mod set;
mod tensorboard;
mod watcher;

use std::path::Path;

use regraft_exec::ExecError;
use regraft_graph::{Graph, ValueId};
use regraft_train::{EpochRecord, Fitted, State, Task, TrainError, sparse_weights};

use self::log::EpochLog;
use self::rebuilder::Rebuilder;
use self::set::Set;
use self::tensorboard::EventFile;
use self::watcher::{Clock, Watcher};
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
use crate::samples::open_data;
use crate::storage::{Fingerprint, RunDir, peak_rss_bytes};
use crate::{Error, Recipe};

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
    let source = open_data(data, &model, &input)?;
    let set = Set::new(&source, &input, recipe, source.describe(&model))?;
    log.note(&set.description);
    let truth = set.truth()?;
    truth.check(&model)?;
    truth.check_classes(&model)?;
    let teacher = match &recipe.teacher {
        Some(path) if recipe.teacher_share > 0.0 || recipe.feature_weight > 0.0 => {
            Some(Model::open(path, &reading)?)
        }
        _ => None,
    };
    let graph = model.trainable(recipe.batch_statistics)?;
    let parts = Parts {
        recipe,
        reading: &reading,
        model: &model,
        graph: &graph,
        teacher: teacher.as_ref().unwrap_or(&model),
        log,
    };
    let (fitted, seconds) = parts.train(&set, options)?;
    log.check()?;
    log.stage("judge");
    let mut report = parts.report(&fitted, &set, options)?;
    if let Some(training) = &mut report.training {
        training.seconds = seconds;
    }
    let channels = match recipe.macs {
        Some(_) => Channels::Others,
        None => Channels::AsGiven,
    };
    let small = metadata(&fitted.graph, &model, &reading, channels)?;
    let bytes = regraft_onnx::write_bytes(&small)?;
    report.small.bytes = bytes.len() as u64;
    Ok(Done {
        report,
        epochs: log::csv(&fitted.records, fitted.measure.into()),
        bytes,
    })
}

struct Parts<'a> {
    recipe: &'a FitRecipe,
    reading: &'a Recipe,
    model: &'a Model,
    /// The network that is trained.
    graph: &'a Graph,
    teacher: &'a Model,
    log: &'a Log<'a>,
}

impl Parts<'_> {
    /// Returns the trained network, and the seconds it took with those of earlier commands.
    fn train(&self, set: &Set<'_>, options: &RunOptions) -> Result<(Fitted, f64), Error> {
        self.log.stage("train");
        let samples = set.samples();
        let config = self.recipe.config(Stages::exec(self.reading));
        // Before a run directory belongs to a run that cannot begin.
        config.check(samples.fit.len())?;
        if let Some(unused) = set.unvaried(config.vary)? {
            self.log.warn(unused);
        }
        let frozen = features::frozen(self.graph, &self.recipe.freeze)?;
        let features = features::features(self.recipe, self.graph, self.teacher)?;
        let held = self.held();
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
        let clock = Clock::start(run_dir.as_ref())?;
        let mut watch = Watcher {
            clock,
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
                exec: config.exec,
                log: self.log,
            },
        };
        let task = Task {
            graph: self.graph,
            frozen: &frozen,
            held: &held,
            teacher: Some(&self.teacher.graph),
            features: &features,
            samples,
        };
        let fitted = regraft_train::fit(task, &config, start, &mut watch);
        if let Some(error) = watch.failed {
            return Err(error);
        }
        let fitted = match fitted {
            Err(error @ TrainError::Diverged { .. }) => {
                return Err(last_good::kept(error, &task, &config, &mut watch));
            }
            other => other.map_err(|error| self.explained(error, &frozen))?,
        };
        if let Some(found) = &fitted.reestimation {
            self.log
                .note(&log::reestimation(found, fitted.measure.into()));
        }
        Ok((fitted, watch.clock.seconds()))
    }

    /// Returns the weights whose zeros stay, and says so.
    fn held(&self) -> Vec<ValueId> {
        let found = sparse_weights(self.graph);
        if found.is_empty() {
            return found;
        }
        let n = found.len();
        // Whole channels go with everything that is in them, and their masks are of channels.
        if !self.recipe.hold_zeros || self.recipe.macs.is_some() {
            self.log.warn(format!(
                "the weights of {n} layers have lost single connections: those come back as they train"
            ));
            return Vec::new();
        }
        self.log.note(&format!(
            "the weights of {n} layers have lost single connections: their zeros stay (`hold_zeros = false` trains them, too)"
        ));
        found
    }

    /// Returns an error with what to freeze where an op without a gradient stopped training.
    fn explained(&self, error: TrainError, frozen: &[ValueId]) -> Error {
        let hint = match &error {
            TrainError::Run(ExecError::Unsupported { node, .. }) => {
                features::before_node(self.graph, node, frozen)
            }
            _ => None,
        };
        let error = Error::from(error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    fn open_run(&self, set: &Set<'_>, options: &RunOptions) -> Result<Option<RunDir>, Error> {
        let Some(dir) = &options.run_dir else {
            return Ok(None);
        };
        let model = self.model.fingerprint()? + &self.teacher.fingerprint()?;
        let fingerprint = Fingerprint {
            model_sha256: crate::storage::sha256_hex(model.as_bytes()),
            data: set.digest()?,
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
        let (fed, truth) = (set.judging()?, set.truth()?);
        let mut dense = outputs(self.graph, &fed, exec)?;
        let mut small = outputs(&fitted.graph, &fed, exec)?;
        if self.recipe.loss == LossName::SquaredError {
            // Trained towards 0 and 1, they are as good as probabilities.
            (dense.decides_at, small.decides_at) = (0.5, 0.5);
        }
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
        let judged = |o, against| metrics(o, against, &truth, set.class_names());
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
            description: set.description.clone(),
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
            held_out_score: fitted.held_out_score,
            measure: fitted.measure.into(),
            seconds: 0.0,
            statistics: fitted.reestimation.map(|r| StatisticsFigures {
                batches: r.batches,
                running_score: r.before,
                new_score: r.after,
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
        held_out_score: r.held_out_score,
        nonzero: r.nonzero as u64,
        weights: r.weights as u64,
    }
}
