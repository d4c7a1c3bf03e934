//! The verbs: options to a recipe, a call of the facade, the result to stdout.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::CommandFactory;
use regraft::report::TerminalStyle;
use regraft::{ApplyOptions, InspectOptions, Outcome, PlanFile, Recipe, RunOptions};
use serde::Serialize;

use crate::args::{
    self, ApplyArgs, BenchArgs, Cli, CompletionsArgs, DemoArgs, EvalArgs, FitArgs, FuseArgs,
    InspectArgs, JudgeOptions, KeepOptions, NewArgs, Other, OutputOptions, PlanArgs, RebuildArgs,
    ReshapeArgs, ShrinkArgs, TalkOptions, UndoArgs, Verb,
};
use crate::console_text::{style, to_stderr, to_stdout};
use crate::failure::Failure;
use crate::interrupt::{Resume, watch};
use crate::progress::{Reporter, Screen};
use crate::recipe::{Merge, need_model, read_text, set, start, topology};

/// Runs the command.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let talk = cli.talk;
    match cli.verb {
        Verb::Shrink(args) => shrink(&args, talk),
        Verb::Inspect(args) => inspect(&args, talk),
        Verb::Plan(args) => plan(&args, talk),
        Verb::Apply(args) => apply(&args, talk),
        Verb::Rebuild(args) => rebuild(&args, talk),
        Verb::Reshape(args) => reshape(&args, talk),
        Verb::New(args) => new(&args, talk),
        Verb::Fit(args) => fit(&args, talk),
        Verb::Eval(args) => eval(&args, talk),
        Verb::Bench(args) => bench(&args, talk),
        Verb::Demo(args) => demo(&args, talk),
        Verb::Completions(args) => completions(&args),
    }
}

fn shrink(args: &ShrinkArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    need_model(&mut recipe, args.model.as_ref())?;
    let parts: [&dyn Merge; 9] = [
        &args.data,
        &args.samples,
        &args.prune,
        &args.sparse,
        &args.regrow,
        &args.groups,
        &args.widths,
        &args.rebuild,
        &args.judge,
    ];
    merge(&mut recipe, &parts)?;
    set(&mut recipe.output, args.output.output.clone());
    let options = run_options(&args.run, &args.judge, &args.output, Some(&args.keep));
    let outcome = stoppable(talk, resume(&args.keep), |p| {
        regraft::shrink(&recipe, &options, p)
    })?;
    finish(&outcome, recipe.max_drop, talk)
}

fn rebuild(args: &RebuildArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    set(&mut recipe.model, args.teacher.clone());
    if recipe.model.is_none() {
        return Err(Failure::usage(
            "no dense teacher is given",
            "name the network it was pruned from: --teacher DENSE",
        ));
    }
    merge(
        &mut recipe,
        &[
            &args.data,
            &args.samples,
            &args.regrow,
            &args.rebuild,
            &args.judge,
        ],
    )?;
    if let Some(given) = args.topology {
        recipe.topology = topology(given);
    }
    set(&mut recipe.latency, args.latency);
    set(&mut recipe.output, args.output.output.clone());
    let options = run_options(&args.run, &args.judge, &args.output, Some(&args.keep));
    let run = |p: &Reporter| regraft::rebuild(&args.pruned, &recipe, &options, p);
    let outcome = stoppable(talk, resume(&args.keep), run)?;
    finish(&outcome, recipe.max_drop, talk)
}

fn reshape(args: &ReshapeArgs, talk: TalkOptions) -> Result<(), Failure> {
    let (given, step) = match args.edit.parts() {
        Ok(parts) => parts,
        Err(Other::Fuse(networks)) => return fuse(networks, talk),
        Err(Other::Undo(args)) => return undo(args, talk),
    };
    let mut recipe = start(&given.run)?;
    set(&mut recipe.model, given.teacher.clone());
    if let Some(step) = step {
        recipe.reshape = vec![step];
    }
    merge(
        &mut recipe,
        &[&given.data, &given.samples, &given.rebuild, &given.judge],
    )?;
    set(&mut recipe.output, given.output.output.clone());
    let options = run_options(&given.run, &given.judge, &given.output, Some(&given.keep));
    let run = |p: &Reporter| regraft::reshape(&given.network, &recipe, &options, p);
    let outcome = stoppable(talk, resume(&given.keep), run)?;
    finish(&outcome, recipe.max_drop, talk)
}

fn fuse(args: &FuseArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    merge(
        &mut recipe,
        &[&args.data, &args.samples, &args.rebuild, &args.judge],
    )?;
    set(&mut recipe.output, args.output.output.clone());
    let options = run_options(&args.run, &args.judge, &args.output, Some(&args.keep));
    let fused = stoppable(talk, resume(&args.keep), |p| {
        regraft::fuse(&args.networks, &recipe, &args.options(), &options, p)
    })?;
    finish(&fused.outcome, recipe.max_drop, talk)?;
    if !talk.json && !talk.quiet {
        to_stderr(&fused.fusion.to_terminal());
    }
    Ok(())
}

fn undo(args: &UndoArgs, talk: TalkOptions) -> Result<(), Failure> {
    let options = RunOptions {
        force: args.force,
        ..options()
    };
    let undone = regraft::undo(&args.run, args.step, &args.output, &options)?;
    show(&undone, talk, |_| undone.to_terminal())
}

fn new(args: &NewArgs, talk: TalkOptions) -> Result<(), Failure> {
    let design = args.design()?;
    let options = RunOptions {
        inputs: args.file().map(PathBuf::from).into_iter().collect(),
        force: args.output.force,
        ..options()
    };
    let made = regraft::new(
        &design,
        args.seed.unwrap_or_default(),
        &args.target(),
        &options,
    )?;
    show(&made, talk, |_| made.to_terminal())
}

fn fit(args: &FitArgs, talk: TalkOptions) -> Result<(), Failure> {
    let recipe = args.recipe()?;
    let options = RunOptions {
        run_dir: args.keep.run.clone(),
        inputs: args.recipe.iter().cloned().collect(),
        force: args.output.force,
        log_dir: args.log_dir.clone(),
        ..options()
    };
    let outcome = stoppable(talk, resume(&args.keep), |p| {
        regraft::fit(&recipe, &options, p)
    })?;
    finish(&outcome, None, talk)
}

fn demo(args: &DemoArgs, talk: TalkOptions) -> Result<(), Failure> {
    let options = RunOptions {
        onnxruntime: args.onnxruntime.clone(),
        ..options()
    };
    let outcome = stoppable(talk, Resume::Never, |p| {
        regraft::demo(&args.out, &options, p)
    })?;
    finish(&outcome, None, talk)
}

fn inspect(args: &InspectArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    recipe.model = Some(args.model.clone());
    if args.run.recipe.is_none() {
        recipe.calib = InspectOptions::DEFAULT_SAMPLES;
    }
    merge(&mut recipe, &[&args.data, &args.samples])?;
    let wanted = InspectOptions {
        html: args.html.clone(),
    };
    let options = RunOptions {
        inputs: args.run.recipe.iter().cloned().collect(),
        force: args.force,
        ..options()
    };
    if recipe.data.is_none() && wanted.html.is_none() {
        // Too quick for bars.
        let found = regraft::inspect(&recipe, &regraft::Quiet)?;
        return show(&found, talk, |style| found.to_terminal(style));
    }
    let found = stoppable(talk, Resume::Never, |p| {
        regraft::inspect_on_data(&recipe, &wanted, &options, p)
    })?;
    show(&found, talk, |style| {
        let mut text = found.to_terminal(style);
        if let Some(page) = &args.html {
            text.push_str("\nwritten to ");
            text.push_str(&page.display().to_string());
            text.push('\n');
        }
        text
    })
}

fn plan(args: &PlanArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    need_model(&mut recipe, args.model.as_ref())?;
    merge(
        &mut recipe,
        &[
            &args.data,
            &args.samples,
            &args.prune,
            &args.groups,
            &args.widths,
        ],
    )?;
    // A recipe's output is that of the model it makes.
    recipe.output.clone_from(&args.output.output);
    let options = RunOptions {
        force: args.output.force,
        inputs: args.run.recipe.iter().cloned().collect(),
        ..options()
    };
    let found = stoppable(talk, Resume::Never, |p| regraft::plan(&recipe, &options, p))?;
    if let Some(path) = args.output.output.as_deref() {
        let text = || format!("{}\nwritten to {}\n", found.to_terminal(), path.display());
        return show(&found, talk, |_| text());
    }
    if !talk.json && !talk.quiet {
        to_stderr(&format!("{}\n", found.to_terminal()));
    }
    let toml = found.to_toml()?;
    show(&found, talk, |_| toml)
}

fn apply(args: &ApplyArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    recipe.model = Some(args.model.clone());
    merge(&mut recipe, &[&args.data])?;
    recipe.output.clone_from(&args.output.output);
    let plan = PlanFile::from_toml(&read_text(&args.plan)?).map_err(|e| e.about(&args.plan))?;
    let options = RunOptions {
        inputs: args
            .run
            .recipe
            .iter()
            .chain([&args.plan])
            .cloned()
            .collect(),
        force: args.output.force,
        onnxruntime: args.onnxruntime.clone(),
        ..options()
    };
    let wanted = ApplyOptions {
        inputs: args.inputs.clone(),
        masked: args.masked.clone(),
    };
    let applied = watched(talk, |p| {
        regraft::apply(&recipe, &plan, &wanted, &options, p)
    })?;
    show(&applied, talk, |style| applied.to_terminal(style))
}

fn eval(args: &EvalArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = start(&args.run)?;
    need_model(&mut recipe, args.model.as_ref())?;
    merge(&mut recipe, &[&args.data])?;
    let teacher = args.teacher.as_deref();
    let found = watched(talk, |p| match args.attack.options() {
        Some(attack) => regraft::eval_under_attack(&recipe, teacher, &attack, &options(), p),
        None => regraft::eval(&recipe, teacher, &options(), p),
    })?;
    show(&found, talk, |style| found.to_terminal(style))
}

fn bench(args: &BenchArgs, talk: TalkOptions) -> Result<(), Failure> {
    let mut recipe = Recipe {
        threads: args.threads,
        ..Recipe::default()
    };
    if let Some(batch) = args.batch {
        recipe.latency_batch = batch;
    }
    let options = RunOptions {
        onnxruntime: args.onnxruntime.clone(),
        ..options()
    };
    let found = regraft::bench(&args.dense, args.small.as_deref(), &recipe, &options)?;
    show(&found, talk, |style| found.to_terminal(style))
}

fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "regraft", &mut text);
    // Ours, so written as it is: scripts may hold any character.
    std::io::Write::write_all(&mut std::io::stdout(), &text).or_else(|error| {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Ok(())
        } else {
            Err(Failure::stdout(&error))
        }
    })
}

fn merge(recipe: &mut Recipe, parts: &[&dyn Merge]) -> Result<(), Failure> {
    parts.iter().try_for_each(|part| part.merge(recipe))
}

/// Returns where a run goes on that the user stops.
fn resume(keep: &KeepOptions) -> Resume {
    if keep.run.is_some() {
        Resume::Here
    } else {
        Resume::NotKept
    }
}

/// Returns the options that every run has.
fn options() -> RunOptions {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|w| quoted(&w.to_string_lossy()))
        .collect();
    RunOptions {
        command: format!("regraft {}", words.join(" ")),
        // An active Python environment often holds the ONNX Runtime that will serve the model.
        library_dirs: ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"]
            .into_iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from)
            .collect(),
        ..RunOptions::default()
    }
}

/// Returns the options of a run that prunes or rebuilds.
fn run_options(
    run: &args::RunOptions,
    judge: &JudgeOptions,
    output: &OutputOptions,
    keep: Option<&KeepOptions>,
) -> RunOptions {
    RunOptions {
        run_dir: keep.and_then(|k| k.run.clone()),
        inputs: run.recipe.iter().cloned().collect(),
        force: output.force,
        onnxruntime: judge.onnxruntime.clone(),
        ..options()
    }
}

/// Returns a word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./,=:+%@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Runs with progress; a signal ends the program at once.
fn watched<T>(
    talk: TalkOptions,
    run: impl FnOnce(&Reporter) -> Result<T, regraft::Error>,
) -> Result<T, Failure> {
    with(
        &Reporter::new(Screen::new(talk.quiet), Arc::new(AtomicBool::new(false))),
        run,
    )
}

/// Runs with progress; the first signal asks the run to stop.
fn stoppable<T>(
    talk: TalkOptions,
    resume: Resume,
    run: impl FnOnce(&Reporter) -> Result<T, regraft::Error>,
) -> Result<T, Failure> {
    let screen = Screen::new(talk.quiet);
    let stop = watch(&screen, resume);
    with(&Reporter::new(screen, stop), run)
}

fn with<T>(
    reporter: &Reporter,
    run: impl FnOnce(&Reporter) -> Result<T, regraft::Error>,
) -> Result<T, Failure> {
    let result = run(reporter);
    reporter.close(result.is_ok());
    Ok(result?)
}

/// Prints a result in the form asked for.
fn show<T: Serialize>(
    result: &T,
    talk: TalkOptions,
    text: impl FnOnce(&TerminalStyle) -> String,
) -> Result<(), Failure> {
    let text = if talk.json {
        let mut line = serde_json::to_string(result).map_err(|e| Failure::json(&e))?;
        line.push('\n');
        line
    } else {
        text(&style())
    };
    to_stdout(&text).map_err(|e| Failure::stdout(&e))
}

/// Prints what a run did, and says with a code of its own where it is not all that was asked for.
fn finish(outcome: &Outcome, max_drop: Option<f64>, talk: TalkOptions) -> Result<(), Failure> {
    let report = &outcome.report;
    let page = outcome.files.report_html.display().to_string();
    if !talk.json && !talk.quiet {
        to_stderr("\n");
    }
    show(report, talk, |style| report.to_terminal(style, Some(&page)))?;
    match (max_drop, report.drop_points()) {
        (Some(allowed), Some((what, lost))) if lost > allowed => {
            return Err(Failure::target_missed(what, lost, allowed));
        }
        (Some(_), None) => {
            return Err(Failure::unjudged());
        }
        _ => {}
    }
    if report.fallbacks.is_empty() {
        Ok(())
    } else {
        Err(Failure::fallbacks(&report.fallbacks))
    }
}

#[cfg(test)]
mod tests {
    use regraft::report::{Metrics, Report};

    use super::quoted;

    #[test]
    fn words_survive_a_shell() {
        for (word, expected) in [
            ("a/b.onnx", "a/b.onnx"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("conv*", "'conv*'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn quality_is_accuracy_where_there_is_one() {
        let metrics = |accuracy, agreement_with_dense| {
            Some(Metrics {
                accuracy,
                agreement_with_dense,
                ..Metrics::default()
            })
        };
        let mut report = Report::new();
        assert_eq!(report.drop_points(), None);
        report.small.metrics = metrics(None, Some(0.75));
        assert_eq!(
            report.drop_points(),
            Some(("agreement with the dense network", 25.0))
        );
        report.dense.metrics = metrics(Some(0.75), None);
        report.small.metrics = metrics(Some(0.5), Some(0.75));
        assert_eq!(report.drop_points(), Some(("accuracy", 25.0)));
    }
}
