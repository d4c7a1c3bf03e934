//! The same recipe gives the same bytes: again, on other threads, after a stop; and nothing asked
//! for is nothing changed.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use regraft::{ErrorKind, Progress, Quiet, Recipe, RunOptions, shrink};

use crate::material::{
    difference, listing, network, outputs, recipe, slow, write_data, write_model,
};

/// Two ways of adding the same f32 products, over four layers.
const TOL_F32_NETWORK: f64 = 1e-5;

/// Returns the small model's bytes.
fn small(recipe: &Recipe, options: &RunOptions) -> Vec<u8> {
    let outcome = shrink(recipe, options, &Quiet).unwrap();
    assert!(outcome.report.small.macs < outcome.report.dense.macs);
    std::fs::read(outcome.files.model).unwrap()
}

fn into(recipe: &Recipe, out: &Path, threads: usize) -> Recipe {
    Recipe {
        output: Some(out.to_path_buf()),
        threads: Some(threads),
        ..recipe.clone()
    }
}

fn check_repeats(folder: &Path, recipe: &Recipe) {
    let before = listing(folder);
    let run = |name: &str, threads| {
        let out = folder.join(name).with_extension("onnx");
        small(&into(recipe, &out, threads), &RunOptions::default())
    };
    let first = run("first", 1);
    assert_eq!(first, run("second", 1), "the same recipe again");
    assert_eq!(first, run("third", 2), "two threads");
    let after = listing(folder);
    for (path, bytes) in before {
        assert_eq!(after[&path], bytes, "{} was changed", path.display());
    }
}

#[test]
fn a_recipe_gives_the_same_bytes_again_and_on_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let data = write_data(folder.path(), 240);
    check_repeats(folder.path(), &recipe(folder.path(), model, data));
}

#[test]
fn the_demo_gives_the_same_bytes_again_and_on_two_threads() {
    // About a minute where dependencies are built with little optimisation.
    if !slow() {
        return;
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        mean: vec![0.0192],
        std: vec![0.0236],
        multiple_of: 4,
        calib: 256,
        ..recipe(folder.path(), demo.join("digits.onnx"), demo)
    };
    check_repeats(folder.path(), &recipe);
}

/// Stops at the n-th time it is asked.
struct StopAt(Cell<usize>);

impl Progress for StopAt {
    fn stage(&self, _: &str) {}

    fn step(&self, _: usize, _: usize, _: &str) {}

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let data = write_data(folder.path(), 240);
    let recipe = recipe(folder.path(), model, data);
    let whole = small(&recipe, &RunOptions::default());
    let mut stops = 0;
    for at in [1, 5, 9, 12, 16, 24] {
        let out = folder.path().join(format!("resumed{at}.onnx"));
        let resumed = into(&recipe, &out, 1);
        let options = RunOptions {
            run_dir: Some(folder.path().join(format!("run{at}"))),
            ..RunOptions::default()
        };
        match shrink(&resumed, &options, &StopAt(Cell::new(at))) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                assert!(!out.exists(), "a stopped run wrote its model");
                stops += 1;
                assert_eq!(small(&resumed, &options), whole, "stopped at {at}");
            }
            Ok(outcome) => {
                // It was never asked that often.
                assert_eq!(std::fs::read(outcome.files.model).unwrap(), whole);
            }
        }
    }
    assert!(stops >= 3, "only {stops} runs were stopped");
}

#[test]
fn keeping_everything_gives_an_equal_model() {
    for batch in [None, Some(4)] {
        let folder = tempfile::tempdir().unwrap();
        let model = write_model(folder.path(), &network(batch));
        let data = write_data(folder.path(), 120);
        let recipe = Recipe {
            macs: Some(1.0),
            calib: 64,
            ..recipe(folder.path(), model.clone(), data)
        };
        let outcome = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap();
        assert_eq!(outcome.report.small.macs, outcome.report.dense.macs);
        let small: PathBuf = outcome.files.model;
        let found = difference(&outputs(&model, 4), &outputs(&small, 4));
        assert!(found < TOL_F32_NETWORK, "{batch:?}: {found:.2e}");
    }
}
