//! `shrink`: prune, verify, rebuild, judge, report.

use std::path::Path;

use regraft_exec::ExecOptions;
use regraft_graph::Graph;
use regraft_graph::cost::{Cost, total};
use regraft_graph::infer::{InferOptions, infer};
use regraft_prune::apply::{ApplyReport, mask};
use regraft_rebuild::rebuild::{
    DEFAULT_JOINT_MACS, Pair, RebuildConfig, Rebuilt, TuneConfig, kept_axes, rebuild,
};
use regraft_rebuild::{Augment, Mix};

use super::carried::{Carried, Feeds};
use super::finish::{Judged, Parts, finish};
use super::journal::{RunJournal, open_run};
use super::sparsify::{Work, sparsify};
use super::{Files, Log, Outcome, RunOptions};
use crate::evaluate::{metrics, outputs};
use crate::model::{Model, ModelInput};
use crate::progress::{Adapter, Progress};
use crate::recipe::{AugmentName, MixName, Tuning};
use crate::report::{CarriedFigures, VerifyFigures};
use crate::samples::{Samples, Source, open_data, prepare};
use crate::selection::{Selection, select};
use crate::verify::verify;
use crate::{Error, Recipe};

/// Rows of each layer's refit: at 576 inputs some 500 for each unknown of an output channel.
pub(crate) const REFIT_ROWS: usize = 300_000;

/// Work of the joint tuning where single connections go: at nine zeros in ten twice the passes
/// brought resnet20 another half point (docs/sparsity.md).
pub(crate) const SPARSE_JOINT_MACS: u64 = 2 * DEFAULT_JOINT_MACS;

/// Prunes and rebuilds a model as the recipe says, and writes the result with its report.
///
/// # Errors
/// [`Error`] with its kind; where it is [`crate::ErrorKind::Verify`] or anything before writing, no output
/// file was made.
pub fn shrink(
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    recipe.check()?;
    no_edits(recipe, "shrink")?;
    check_regrowth(recipe)?;
    if !recipe.is_sparse() {
        crate::selection::limit(recipe)?;
    }
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    let data = recipe.data.as_deref().ok_or_else(|| {
        Error::usage("no data is given")
            .with_hint("point --data at a folder or file of training samples")
    })?;
    let files = files(recipe, path)?;
    check_files(&files, &[path], recipe, options)?;
    let log = Log::new(progress);
    log.stage("read");
    let model = Model::open(path, recipe)?;
    let source = open_data(data, &model, &model.input()?)?;
    run(&model, &source, recipe, &files, options, &log).map_err(|e| e.in_model(path))
}

/// The embedded model and data of the demo.
pub(crate) struct DemoData {
    pub(crate) model: Model,
    pub(crate) source: Source,
}

/// Shrinks the embedded model.
pub(crate) fn shrink_demo(
    demo: &DemoData,
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    let files = files(recipe, Path::new("digits.onnx"))?;
    check_files(&files, &[], recipe, options)?;
    let log = Log::new(progress);
    run(&demo.model, &demo.source, recipe, &files, options, &log)
}

/// Returns the files of a result beside the small model.
pub(crate) fn files(recipe: &Recipe, model: &Path) -> Result<Files, Error> {
    let out = recipe
        .output
        .clone()
        .unwrap_or_else(|| model.with_extension("small.onnx"));
    let plan = out.with_extension("plan.toml");
    Ok(Files {
        plan: Some(plan),
        ..Files::beside(out, "the small model")?
    })
}

pub(crate) fn check_files(
    files: &Files,
    models: &[&Path],
    recipe: &Recipe,
    options: &RunOptions,
) -> Result<(), Error> {
    crate::outputs::check(&files.paths(), models, recipe, options)
}

/// Returns how models run under a recipe: with all threads of the machine unless it says otherwise.
pub(crate) fn exec(recipe: &Recipe) -> ExecOptions {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ExecOptions {
        threads: recipe.threads.unwrap_or_else(cores),
        device: recipe.device.into(),
        ..ExecOptions::default()
    }
}

/// Refuses the edits of a recipe where nothing would apply them.
pub(crate) fn no_edits(recipe: &Recipe, verb: &str) -> Result<(), Error> {
    match recipe.reshape.first() {
        None => Ok(()),
        Some(step) => Err(Error::usage(format!(
            "{verb} applies no edits, and the recipe has some: {}",
            step.name()
        ))
        .with_hint(
            "give what it writes to `regraft reshape steps` or `regraft rebuild` with this recipe",
        )),
    }
}

/// Connections come back where connections went.
fn check_regrowth(recipe: &Recipe) -> Result<(), Error> {
    if recipe.regrows() && !recipe.is_sparse() {
        return Err(Error::usage(
            "`rebuild_rate` and `move_rounds` need a network that loses single connections",
        )
        .with_hint("give --sparsity instead of --macs, --params or --latency"));
    }
    Ok(())
}

fn run(
    model: &Model,
    source: &Source,
    recipe: &Recipe,
    files: &Files,
    options: &RunOptions,
    log: &Log<'_>,
) -> Result<Outcome, Error> {
    let exec = exec(recipe);
    let input = model.input()?;
    let samples = prepare(source, model, &input, recipe)?;
    log.samples(&samples);
    let run_dir = open_run(options, model, &samples, recipe)?;
    let journal = RunJournal::new(run_dir, recipe)?;
    if recipe.is_sparse() {
        let work = Work {
            model,
            input: &input,
            samples: &samples,
            recipe,
            exec,
            journal: &journal,
            log,
        };
        return run_sparse(&work, files, options);
    }
    let selection = if let Some(stored) = journal.plan()? {
        stored.resume(model)?
    } else {
        let selection = select(model, &input, &samples, recipe, options, log)?;
        journal.keep_selection(&selection)?;
        selection
    };
    log.check()?;
    let (pruned, applied, checked) = prune(model, &input, &samples, &selection, recipe, exec, log)?;
    let (rebuilt, carried) = rebuild_stage(
        model, &selection, &pruned, &applied, &samples, recipe, exec, &journal, log,
    )?;
    journal.check()?;
    log.check()?;
    let judged = judge(model, &pruned, &rebuilt.graph, &samples, exec, log)?;
    log.check()?;
    let parts = Parts {
        model,
        selection: Some(&selection),
        rebuilt: &rebuilt,
        judged,
        verify: Some(checked),
        samples: &samples,
        input: &input,
        recipe,
        exec,
        allocation: None,
        regrowth: None,
        prune_steps: &[],
        carried,
        reshape: &[],
        topology: None,
        fusion: None,
        drawing: None,
    };
    finish(&parts, files, options, log)
}

/// Removes single connections instead of channels.
fn run_sparse(work: &Work<'_>, files: &Files, options: &RunOptions) -> Result<Outcome, Error> {
    let Work {
        model,
        input,
        samples,
        recipe,
        exec,
        log,
        ..
    } = *work;
    let found = sparsify(work)?;
    log.check()?;
    let (masked, rebuilt) = (&found.masked, &found.rebuilt.graph);
    let judged = judge(model, masked, rebuilt, samples, exec, log)?;
    log.check()?;
    let parts = Parts {
        model,
        selection: None,
        rebuilt: &found.rebuilt,
        judged,
        verify: None,
        samples,
        input,
        recipe,
        exec,
        allocation: Some(&found.allocation),
        regrowth: found.regrowth.as_ref(),
        prune_steps: &found.steps,
        carried: None,
        reshape: &[],
        topology: None,
        fusion: None,
        drawing: None,
    };
    let files = Files {
        plan: None,
        ..files.clone()
    };
    finish(&parts, &files, options, log)
}

/// Removes the units physically and proves that the masked dense model does the same.
fn prune(
    model: &Model,
    input: &ModelInput,
    samples: &Samples,
    selection: &Selection,
    recipe: &Recipe,
    exec: ExecOptions,
    log: &Log<'_>,
) -> Result<(Graph, ApplyReport, VerifyFigures), Error> {
    log.stage("prune");
    let (pruned, applied) = model.pruned(&selection.groups, &selection.plan)?;
    let checked = check_pruned(
        model,
        &pruned,
        selection,
        input,
        samples,
        recipe.seed,
        exec,
        log,
    )?;
    Ok((pruned, applied, checked))
}

#[allow(
    clippy::too_many_arguments,
    reason = "a stage reads what the stages before it made"
)]
pub(crate) fn check_pruned(
    model: &Model,
    pruned: &Graph,
    selection: &Selection,
    input: &ModelInput,
    samples: &Samples,
    seed: u64,
    exec: ExecOptions,
    log: &Log<'_>,
) -> Result<VerifyFigures, Error> {
    log.stage("verify");
    let masked = mask(&model.graph, &selection.groups, &selection.plan)?;
    let checked = verify(&masked, pruned, input, &samples.calibration, seed, exec)?;
    crate::verify::require(&checked)?;
    Ok(checked)
}

#[allow(
    clippy::too_many_arguments,
    reason = "a stage reads what the stages before it made"
)]
fn rebuild_stage(
    model: &Model,
    selection: &Selection,
    pruned: &Graph,
    applied: &ApplyReport,
    samples: &Samples,
    recipe: &Recipe,
    exec: ExecOptions,
    journal: &RunJournal,
    log: &Log<'_>,
) -> Result<(Rebuilt, Option<CarriedFigures>), Error> {
    if applied.kept.is_empty() && selection.plan.removed_blocks.is_empty() {
        // Nothing went, so there is nothing to mend: the dense weights are the best there are.
        let rebuilt = Rebuilt {
            graph: pruned.clone(),
            layers: Vec::new(),
            blocks: Vec::new(),
        };
        return Ok((rebuilt, None));
    }
    log.stage("rebuild");
    let kept = kept_axes(applied);
    let pair = Pair {
        dense: &model.graph,
        teacher: &model.graph,
        pruned,
        kept: &kept,
    };
    let on = |(inputs, held_out_chunks): &Feeds, round: usize| {
        let config = RebuildConfig {
            held_out_chunks: *held_out_chunks,
            ..rebuild_config(recipe, samples, exec)
        };
        journal.enter_step(round);
        let rebuilt = rebuild(pair, inputs, &config, journal, &Adapter::new(log))?;
        journal.check()?;
        Ok(rebuilt)
    };
    let rebuilt = on(&(samples.feeds(), samples.held_out_chunks), 0)?;
    match Carried::new(model, samples, exec, log)? {
        Some(carried) => {
            let (rebuilt, figures) = carried.settle(rebuilt, log, on)?;
            Ok((rebuilt, Some(figures)))
        }
        None => Ok((rebuilt, None)),
    }
}

pub(crate) fn rebuild_config(
    recipe: &Recipe,
    samples: &Samples,
    exec: ExecOptions,
) -> RebuildConfig {
    let tune = match recipe.tune {
        Tuning::None => None,
        Tuning::Blocks => Some(TuneConfig {
            epochs: recipe.epochs,
            joint_epochs: recipe.joint_epochs,
            augment: augmentation(recipe, samples),
            mix: mix(recipe, samples),
            joint_macs: if recipe.is_sparse() {
                SPARSE_JOINT_MACS
            } else {
                DEFAULT_JOINT_MACS
            },
            ..TuneConfig::default()
        }),
    };
    RebuildConfig {
        damping: recipe.damping,
        max_rows: REFIT_ROWS,
        tune,
        refit: true,
        held_out_chunks: samples.held_out_chunks,
        sparsity: None,
        exec,
    }
}

/// Returns the channels, height and width of the samples if they are images that may be changed:
/// what another input says of an image may not hold when it moves.
fn image(samples: &Samples) -> Option<[usize; 3]> {
    let calibration = &samples.calibration;
    match calibration.main().chunks.first()?.shape[..] {
        [_, channels, height, width] if !calibration.has_others() => {
            Some([channels, height, width])
        }
        _ => None,
    }
}

/// Returns how samples are varied: images by up to an eighth of their smaller side.
fn augmentation(recipe: &Recipe, samples: &Samples) -> Augment {
    let Some([channels, height, width]) = image(samples) else {
        return Augment::None;
    };
    let reach = (height.min(width) / 8).min(4);
    match recipe.augment {
        AugmentName::None => Augment::None,
        AugmentName::Shift => Augment::Shift(reach),
        AugmentName::FlipShift => Augment::FlipShift(reach),
        AugmentName::Auto if channels == 3 => Augment::FlipShift(reach),
        AugmentName::Auto => Augment::Shift(reach.min(1)),
    }
}

/// Returns how samples are mixed: colour images are pasted into each other.
fn mix(recipe: &Recipe, samples: &Samples) -> Mix {
    let Some([channels, _, _]) = image(samples) else {
        return Mix::None;
    };
    match recipe.mix {
        MixName::Blend => Mix::Blend,
        MixName::Paste => Mix::Paste,
        MixName::Auto if channels == 3 => Mix::Paste,
        MixName::None | MixName::Auto => Mix::None,
    }
}

/// Judges the three models on the evaluation samples.
pub(crate) fn judge(
    model: &Model,
    pruned: &Graph,
    small: &Graph,
    samples: &Samples,
    exec: ExecOptions,
    log: &Log<'_>,
) -> Result<Option<Judged>, Error> {
    let n = samples.n_evaluation();
    if n == 0 {
        log.warn("no samples are left to judge on: no accuracy is reported");
        return Ok(None);
    }
    log.stage("judge");
    let run = |graph: &Graph| outputs(graph, &samples.evaluation, exec);
    let dense = run(&model.graph)?;
    log.step(1, 3, "dense");
    let before = run(pruned)?;
    log.step(2, 3, "pruned");
    let after = run(small)?;
    log.step(3, 3, "rebuilt");
    let figures = |o, against| metrics(o, against, &samples.truth, &samples.class_names);
    Ok(Some(Judged {
        dense: figures(&dense, None)?,
        pruned: figures(&before, Some(&dense))?,
        small: figures(&after, Some(&dense))?,
    }))
}

/// Returns the folded graph's facts; for callers that changed it.
pub(crate) fn facts_of(graph: &Graph) -> Result<regraft_graph::infer::Facts, Error> {
    Ok(infer(graph, &InferOptions::default())?)
}

/// Returns what a graph costs.
pub(crate) fn cost_of(graph: &Graph) -> Result<Cost, Error> {
    Ok(total(graph, &facts_of(graph)?))
}
