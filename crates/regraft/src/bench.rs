//! `bench` and `eval`: measuring models as they are.

use std::fmt::Write as _;
use std::path::Path;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{Graph, ValueId};
use serde::Serialize;

use crate::evaluate::{AttackFigures, metrics, outputs};
use crate::latency::{
    Candidates, Latency, MeasureConfig, NamedTensor, measure, measure_interleaved,
};
use crate::model::{Model, ModelInput};
use crate::pipeline::{RunOptions, Stages, latency_figures};
use crate::progress::Progress;
use crate::report::{LatencyFigures, Metrics, TerminalStyle};
use crate::samples::{EvaluationSamples, Fed, Source, open_data, prepare_evaluation};
use crate::verify::{Feeds, random_batch};
use crate::{Error, ErrorKind, Recipe};

/// Times of two models, or of one against itself.
#[derive(Clone, Debug, Serialize)]
pub struct Benchmark {
    /// Version of regraft.
    pub regraft: String,
    /// The times; of one model alone both are its own.
    pub latency: LatencyFigures,
    /// True if two models were measured.
    pub compares: bool,
    /// What should be known about them.
    pub note: Option<String>,
}

/// Measures the dense model against the small one, interleaved, one thread unless the recipe says more.
///
/// # Errors
/// [`Error`] if a file is refused or a model does not run.
pub fn bench(
    dense: &Path,
    small: Option<&Path>,
    recipe: &Recipe,
    options: &RunOptions,
) -> Result<Benchmark, Error> {
    recipe.check()?;
    let first = Model::open(dense, recipe)?;
    let second = Model::open(small.unwrap_or(dense), recipe)?;
    let input = first.input()?;
    let latency_of = LatencyOf {
        dense: &first,
        input: &input,
        samples: None,
        recipe,
        threads: recipe.threads.unwrap_or(1),
        options,
    };
    let found = latency_of.small(&second.graph, &second.bytes, &MeasureConfig::default())?;
    if let (Some(note), Some(_)) = (&found.note, &options.onnxruntime) {
        return Err(Error::new(ErrorKind::Input, note.clone())
            .with_hint("leave --onnxruntime out to measure in regraft's own executor"));
    }
    Ok(Benchmark {
        regraft: env!("CARGO_PKG_VERSION").to_owned(),
        latency: latency_figures(&found),
        compares: small.is_some(),
        note: found.note,
    })
}

/// What a small model is measured against, and how.
#[derive(Clone, Copy)]
pub(crate) struct LatencyOf<'a> {
    pub(crate) dense: &'a Model,
    pub(crate) input: &'a ModelInput,
    /// What a batch is taken from where the model has other inputs than one of floats; random
    /// numbers if there are none.
    pub(crate) samples: Option<&'a Fed>,
    pub(crate) recipe: &'a Recipe,
    pub(crate) threads: usize,
    pub(crate) options: &'a RunOptions,
}

impl LatencyOf<'_> {
    /// Returns the extents of one batch.
    pub(crate) fn shape(&self) -> Vec<usize> {
        let mut shape = vec![self.input.batch.unwrap_or(self.recipe.latency_batch)];
        shape.extend(self.input.sample.iter().map(|d| d.unwrap_or(1)));
        shape
    }

    /// Measures in ONNX Runtime where a library is found, else in our executor.
    pub(crate) fn small(
        &self,
        small: &Graph,
        small_bytes: &[u8],
        config: &MeasureConfig,
    ) -> Result<Latency, Error> {
        let batch = self.input.batch.unwrap_or(self.recipe.latency_batch);
        let feeds = self.feeds(batch)?;
        let graph = &self.dense.graph;
        let declared = |v: ValueId| graph.value(v).declared.as_ref().map(|t| t.dtype);
        let named: Vec<NamedTensor<'_>> = feeds
            .iter()
            .map(|(v, tensor)| NamedTensor {
                name: &graph.value(*v).name,
                dtype: declared(*v),
                tensor,
            })
            .collect();
        let candidates = Candidates {
            dense: &self.dense.bytes,
            small: small_bytes,
            inputs: &named,
            batch,
            threads: self.threads,
            library: self.options.onnxruntime.as_deref(),
            folders: &self.options.library_dirs,
        };
        measure(&candidates, config, || {
            in_our_executor(self.dense, small, &feeds, &candidates, config)
        })
    }

    /// One batch for every input.
    fn feeds(&self, batch: usize) -> Result<Feeds, Error> {
        if !self.input.named {
            let shape = self.shape();
            let data = noise(shape.iter().product(), 0);
            return Ok(vec![(self.input.value, HostTensor::f32(shape, data))]);
        }
        match self.samples.filter(|s| s.n_samples() > 0) {
            Some(samples) => Ok(samples.batch(batch, &self.input.others)),
            None => random_batch(&self.dense.graph, &self.dense.facts, batch),
        }
    }
}

fn in_our_executor(
    dense: &Model,
    small: &Graph,
    feeds: &Feeds,
    candidates: &Candidates<'_>,
    config: &MeasureConfig,
) -> Result<Latency, Error> {
    let threads = candidates.threads;
    let exec = |graph: &Graph| {
        Executor::new(
            graph,
            ExecOptions {
                threads,
                ..ExecOptions::default()
            },
        )
    };
    let (a, b) = (exec(&dense.graph)?, exec(small)?);
    let in_small = |(v, tensor): &(ValueId, HostTensor)| {
        let name = &dense.graph.value(*v).name;
        (small.find_value(name).unwrap_or(*v), tensor.clone())
    };
    let small_feeds: Feeds = feeds.iter().map(in_small).collect();
    let timing = measure_interleaved(
        &mut || a.run(feeds).map(|_| ()).map_err(Error::from),
        &mut || b.run(&small_feeds).map(|_| ()).map_err(Error::from),
        config,
    )?;
    Ok(Latency::new(
        "regraft executor",
        timing,
        candidates.batch,
        threads,
    ))
}

/// Uniform numbers of unit spread; times do not depend on them, denormals would.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut random = regraft_data::SplitMix64::new(seed);
    (0..n)
        .map(|_| (2.0 * random.uniform_f32() - 1.0) * 1.7)
        .collect()
}

impl Benchmark {
    /// Returns the lines for the terminal.
    pub fn to_terminal(&self, _style: &TerminalStyle) -> String {
        let l = &self.latency;
        let mut out = format!(
            "{}: batch {}, {} thread{}, {} runs",
            l.runtime,
            l.batch,
            l.threads,
            if l.threads == 1 { "" } else { "s" },
            l.runs,
        );
        if self.compares {
            let [low, high] = l.ratio_quartiles.unwrap_or([f64::NAN; 2]);
            let _ = writeln!(
                out,
                ", interleaved\n  dense  {:>9.3} ms\n  small  {:>9.3} ms  {:>6.3} of the dense model's time (middle half of the pairs: {low:.3} to {high:.3})",
                l.dense_ms,
                l.small_ms,
                l.ratio.unwrap_or(f64::NAN),
            );
        } else {
            let _ = writeln!(out, "\n  median {:>9.3} ms", l.dense_ms);
        }
        if let Some(note) = &self.note {
            let _ = writeln!(out, "  {note}");
        }
        out
    }
}

/// Quality of one model, and of its teacher where one is given.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Version of regraft.
    pub regraft: String,
    /// The model's file name.
    pub model: String,
    /// The samples, in words.
    pub data: String,
    /// Its quality.
    pub metrics: Metrics,
    /// The teacher's quality.
    pub teacher: Option<Metrics>,
    /// How both do under attack, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<AttackFigures>,
}

/// Judges the recipe's model on its data: the test split, else everything.
///
/// # Errors
/// [`Error`] if a file is refused or the model does not run.
pub fn eval(
    recipe: &Recipe,
    teacher: Option<&Path>,
    _options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Evaluation, Error> {
    Judged::open(recipe, teacher, progress)?.evaluation(recipe, progress)
}

/// A model, the samples that judge it, and the teacher it is compared with.
pub(crate) struct Judged {
    pub(crate) model: Model,
    pub(crate) teacher: Option<Model>,
    pub(crate) input: ModelInput,
    pub(crate) source: Source,
    pub(crate) found: EvaluationSamples,
}

impl Judged {
    pub(crate) fn open(
        recipe: &Recipe,
        teacher: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        recipe.check()?;
        let path = recipe
            .model
            .as_deref()
            .ok_or_else(|| Error::usage("no model is given"))?;
        let data = recipe
            .data
            .as_deref()
            .ok_or_else(|| Error::usage("no data is given"))?;
        progress.stage("read");
        let model = Model::open(path, recipe)?;
        let input = model.input()?;
        let source = open_data(data, &model, &input)?;
        Ok(Self {
            found: prepare_evaluation(&source, &input, recipe)?,
            teacher: teacher.map(|path| Model::open(path, recipe)).transpose()?,
            model,
            input,
            source,
        })
    }

    pub(crate) fn evaluation(
        &self,
        recipe: &Recipe,
        progress: &dyn Progress,
    ) -> Result<Evaluation, Error> {
        progress.stage("judge");
        let exec = Stages::exec(recipe);
        let EvaluationSamples {
            samples,
            truth,
            class_names,
        } = &self.found;
        let found = outputs(&self.model.graph, samples, exec)?;
        let dense = match &self.teacher {
            Some(teacher) => {
                let samples = samples.for_model(&self.model.graph, teacher)?;
                Some(outputs(&teacher.graph, &samples, exec)?)
            }
            None => None,
        };
        let judged = |o, against| metrics(o, against, truth, class_names);
        Ok(Evaluation {
            regraft: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.name.clone(),
            data: self.source.describe(&self.model),
            metrics: judged(&found, dense.as_ref())?,
            teacher: dense.as_ref().map(|d| judged(d, None)).transpose()?,
            attack: None,
        })
    }
}

impl Evaluation {
    /// Returns the table for the terminal.
    pub fn to_terminal(&self, _style: &TerminalStyle) -> String {
        let clean: String = self.model.chars().filter(|c| !c.is_control()).collect();
        let mut out = format!(
            "{clean} on {} samples ({})\n",
            self.metrics.samples, self.data
        );
        let mut line = |name: &str, pick: &dyn Fn(&Metrics) -> Option<f64>, percent: bool| {
            let Some(value) = pick(&self.metrics) else {
                return;
            };
            let show = |v: f64| {
                if percent {
                    format!("{:.2} %", 100.0 * v)
                } else {
                    format!("{v:.4e}")
                }
            };
            let teacher = self
                .teacher
                .as_ref()
                .and_then(pick)
                .map_or(String::new(), |t| format!("   teacher {}", show(t)));
            let _ = writeln!(out, "  {name:<22} {:>11}{teacher}", show(value));
        };
        line("accuracy", &|m| m.accuracy, true);
        line("top-5", &|m| m.top5, true);
        line("macro precision", &|m| m.macro_precision, true);
        line("macro recall", &|m| m.macro_recall, true);
        line("macro F1", &|m| m.macro_f1, true);
        line("average precision", &|m| m.average_precision, true);
        line("R²", &|m| m.r2, false);
        line("mean absolute error", &|m| m.mean_absolute_error, false);
        line("mean squared error", &|m| m.mean_squared_error, false);
        line("agreement with teacher", &|m| m.agreement_with_dense, true);
        line("MSE to teacher", &|m| m.mse_to_dense, false);
        if !self.metrics.has_truth() && self.teacher.is_none() {
            out.push_str(
                "  the data has no labels: --teacher DENSE.onnx compares with another model\n",
            );
        }
        if let Some(attack) = &self.attack {
            out.push_str(&attack.to_terminal());
        }
        out
    }
}
