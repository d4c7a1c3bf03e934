//! The same training with several seeds: how much of a result is luck.

use std::path::PathBuf;

use super::{Done, FitRecipe, one};
use crate::Error;
use crate::pipeline::{Log, RunOptions};
use crate::progress::Progress as _;
use crate::report::{MeasureName, RepeatFigures, RepeatsFigures};

/// More repeats than this are a slip of the finger.
const MOST_SEEDS: usize = 1000;

/// Checks the number of repeats.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) for none or far too many, or seeds past the last one.
pub(super) fn check(recipe: &FitRecipe) -> Result<(), Error> {
    if recipe.seeds == 0 || recipe.seeds > MOST_SEEDS {
        return Err(Error::usage(format!(
            "`seeds` is {}, it must be from 1 to {MOST_SEEDS}",
            recipe.seeds
        ))
        .with_hint("`seeds` is how often training is repeated, `seed` the first of them"));
    }
    if recipe.seed.checked_add(recipe.seeds as u64).is_none() {
        return Err(Error::usage(format!(
            "`seed` is {}: there are no {} seeds from there on",
            recipe.seed, recipe.seeds
        ))
        .with_hint("take a smaller one"));
    }
    Ok(())
}

/// Trains with the recipe's seed and those that follow, and returns the run of the best held-out score
/// with the figures of all; the first of equals.
///
/// The test samples have no part in the choice: the best of several by them would look better than it
/// is. With a run directory every seed has a folder of its own in it.
/// # Errors
/// As one run.
pub(super) fn run(recipe: &FitRecipe, options: &RunOptions, log: &Log<'_>) -> Result<Done, Error> {
    let n = recipe.seeds;
    let mut best: Option<(f64, Done)> = None;
    let mut runs = Vec::with_capacity(n);
    let mut measure = MeasureName::default();
    for i in 0..n {
        let seed = recipe.seed + i as u64;
        log.note(&format!("seed {seed}, {} of {n}", i + 1));
        let single = FitRecipe {
            seed,
            seeds: 1,
            ..recipe.clone()
        };
        let below = |folder: &Option<PathBuf>| {
            let folder = folder.as_ref();
            folder.map(|f| f.join(format!("seed-{seed}")))
        };
        let own = RunOptions {
            run_dir: below(&options.run_dir),
            log_dir: below(&options.log_dir),
            ..options.clone()
        };
        let done = one(&single, &own, log)?;
        let figures = figures(seed, &done);
        measure = done.report.training.as_ref().map_or(measure, |t| t.measure);
        log.note(&format!("  {}", figures.in_words(measure)));
        let held_out = figures.held_out_score;
        runs.push(figures);
        if best.as_ref().is_none_or(|(most, _)| held_out > *most) {
            best = Some((held_out, done));
        }
    }
    let Some((_, mut done)) = best else {
        return Err(Error::usage("no seed was given"));
    };
    done.report.recipe = Some(recipe.to_toml()?);
    done.report.repeats = Some(RepeatsFigures::of(done.report.seed, measure, runs));
    Ok(done)
}

fn figures(seed: u64, done: &Done) -> RepeatFigures {
    let report = &done.report;
    let training = report.training.as_ref();
    RepeatFigures {
        seed,
        held_out_score: training.map_or(0.0, |t| t.held_out_score),
        r2: report.small.metrics.as_ref().and_then(|m| m.r2),
        accuracy: report.small.metrics.as_ref().and_then(|m| m.accuracy),
        nonzero: report.small.weights.map_or(0, |w| w.nonzero),
        seconds: training.map_or(0.0, |t| t.seconds),
    }
}
