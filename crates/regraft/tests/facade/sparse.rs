//! Single connections: the count that was asked for, zeros that stay, the same bytes again.

use std::path::Path;

use regraft::{AllocationName, ErrorKind, Quiet, Recipe, RunOptions, shrink};

use crate::material::{network, recipe, write_data, write_model};

fn sparse(folder: &Path) -> Recipe {
    let model = write_model(folder, &network(None));
    let data = write_data(folder, 240);
    Recipe {
        macs: None,
        params: None,
        sparsity: Some(0.7),
        ..recipe(folder, model, data)
    }
}

fn into(recipe: &Recipe, folder: &Path, name: &str) -> Recipe {
    Recipe {
        output: Some(folder.join(name).with_extension("onnx")),
        ..recipe.clone()
    }
}

#[test]
fn the_share_of_zeros_is_the_one_asked_for_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = sparse(folder.path());
    let outcome = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap();
    let (dense, small) = (&outcome.report.dense, &outcome.report.small);
    let (before, after) = (dense.weights.unwrap(), small.weights.unwrap());
    assert_eq!(before.all, after.all);
    assert_eq!(dense.macs, small.macs);
    let kept = before.all - (0.7 * before.all as f64).round() as u64;
    // A weight may be zero by chance, a zero may not be anything else.
    assert!(
        after.nonzero <= kept && after.nonzero + 2 >= kept,
        "{after:?}, {kept}"
    );
    let allocation = outcome.report.allocation.unwrap();
    let taken = allocation
        .candidates
        .iter()
        .find(|c| c.method == allocation.method);
    let least = allocation
        .candidates
        .iter()
        .map(|c| c.held_out)
        .fold(f64::MAX, f64::min);
    assert!(taken.unwrap().held_out <= least);
}

#[test]
fn the_same_recipe_gives_the_same_bytes_for_any_threads_and_from_stored_levels() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        allocation: AllocationName::Global,
        ..sparse(folder.path())
    };
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let bytes = |recipe: &Recipe, options: &RunOptions| {
        let outcome = shrink(recipe, options, &Quiet).unwrap();
        std::fs::read(outcome.files.model).unwrap()
    };
    let one = Recipe {
        threads: Some(1),
        ..into(&recipe, folder.path(), "one")
    };
    let first = bytes(&one, &RunOptions::default());
    let two = Recipe {
        threads: Some(2),
        ..into(&recipe, folder.path(), "two")
    };
    assert_eq!(first, bytes(&two, &options), "two threads, levels stored");
    // Another target in the same run directory finds the levels and does not take the first result.
    let other = Recipe {
        sparsity: Some(0.5),
        ..into(&recipe, folder.path(), "other")
    };
    let stored = bytes(&other, &options);
    let fresh = into(&other, folder.path(), "fresh");
    assert_eq!(
        stored,
        bytes(&fresh, &RunOptions::default()),
        "from stored levels"
    );
    assert_ne!(stored, first);
}

#[test]
fn steps_end_at_the_same_count_and_a_stopped_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        allocation: AllocationName::Global,
        prune_steps: Some(3),
        joint_epochs: Some(3),
        ..sparse(folder.path())
    };
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let run = |name: &str, options: &RunOptions| {
        let outcome = shrink(&into(&recipe, folder.path(), name), options, &Quiet).unwrap();
        (std::fs::read(&outcome.files.model).unwrap(), outcome.report)
    };
    let (bytes, report) = run("fresh", &RunOptions::default());
    let counts: Vec<usize> = report.prune_steps.iter().map(|s| s.connections).collect();
    let all = report.small.weights.unwrap().all as f64;
    // Each step keeps the same share of what the one before it kept: 0.3 in three steps.
    for (step, count) in (1..).zip(&counts) {
        let wanted = all * 0.3f64.powf(f64::from(step) / 3.0);
        assert!((*count as f64 - wanted).abs() <= 1.0, "{counts:?}");
    }
    assert_eq!(counts.len(), 3);
    let nonzero = report.small.weights.unwrap().nonzero as usize;
    assert!(nonzero <= counts[2] && nonzero + 2 >= counts[2]);
    assert!(bytes == run("first", &options).0, "with a run directory");
    assert!(bytes == run("again", &options).0, "from stored steps");
}

#[test]
fn a_network_with_zeros_is_rebuilt_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        refit: regraft::RefitName::None,
        tune: regraft::Tuning::None,
        ..into(&sparse(folder.path()), folder.path(), "masked")
    };
    let masked = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap();
    let again = Recipe {
        sparsity: None,
        ..into(&recipe, folder.path(), "again")
    };
    let rebuilt =
        regraft::rebuild(&masked.files.model, &again, &RunOptions::default(), &Quiet).unwrap();
    assert_eq!(masked.report.small.weights, rebuilt.report.small.weights);
    let errors = |r: &regraft::report::Report| -> f64 {
        r.layers.iter().filter_map(|l| l.error_after_refit).sum()
    };
    let before: f64 = rebuilt
        .report
        .layers
        .iter()
        .filter_map(|l| l.error_before_refit)
        .sum();
    assert!(errors(&rebuilt.report) < before);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = sparse(folder.path());
    let cases = [
        Recipe {
            sparsity: Some(1.0),
            ..recipe.clone()
        },
        Recipe {
            macs: Some(0.5),
            ..recipe.clone()
        },
        Recipe {
            pattern: "2:5".to_owned(),
            ..recipe.clone()
        },
        Recipe {
            pattern: "four".to_owned(),
            ..recipe.clone()
        },
        Recipe {
            only: vec!["nothing*".to_owned()],
            ..recipe.clone()
        },
        Recipe {
            pattern: "7:97".to_owned(),
            sparsity: None,
            ..recipe.clone()
        },
    ];
    let before = crate::material::listing(folder.path());
    for (at, case) in cases.iter().enumerate() {
        let error = shrink(case, &RunOptions::default(), &Quiet).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Usage | ErrorKind::Model),
            "case {at}: {error}"
        );
        assert_eq!(crate::material::listing(folder.path()), before, "case {at}");
    }
}
