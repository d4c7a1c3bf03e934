//! Commands on what earlier commands wrote: zeros that stay or may grow, channels that cannot be told, runs that could
//! not begin.

use std::path::{Path, PathBuf};

use regraft::{
    AttendStep, ErrorKind, FitRecipe, MethodName, Quiet, Recipe, ReshapeStep, RunOptions, Tuning,
    WidenStep, fit, reshape, shrink,
};
use regraft_graph::Graph;
use regraft_onnx::{Limits, read};

use crate::fit::{recipe as fit_recipe, write_images};
use crate::material::{network, recipe, write_data, write_model};

fn graph(file: &Path) -> Graph {
    read(file, &Limits::default()).unwrap()
}

/// Zeros of all weights of more than one axis by their names, and their numbers.
fn zeros(graph: &Graph) -> Vec<(String, usize, usize)> {
    let weight = |(v, i): (&regraft_graph::ValueId, &regraft_graph::Initializer)| {
        let data = i.tensor.as_f32()?;
        let zeros = data.iter().filter(|w| **w == 0.0).count();
        let name = graph.value(*v).name.clone();
        (i.tensor.shape().len() > 1).then_some((name, zeros, data.len()))
    };
    graph.initializers().iter().filter_map(weight).collect()
}

fn pruned(folder: &Path) -> (PathBuf, PathBuf, Recipe) {
    let (model, data) = (write_model(folder, &network(None)), write_data(folder, 240));
    let base = Recipe {
        multiple_of: 1,
        tune: Tuning::None,
        ..recipe(folder, model.clone(), data)
    };
    let small = Recipe {
        macs: Some(0.15),
        output: Some(folder.join("small.onnx")),
        ..base.clone()
    };
    let small = shrink(&small, &RunOptions::default(), &Quiet).unwrap();
    let later = Recipe {
        macs: None,
        tune: Tuning::Blocks,
        epochs: 1,
        joint_epochs: Some(16),
        ..base
    };
    (model, small.files.model, later)
}

#[test]
fn channels_that_cannot_be_told_are_tuned_and_not_solved_for() {
    let folder = tempfile::tempdir().unwrap();
    let (model, small, base) = pruned(folder.path());
    let wide = Recipe {
        model: None,
        reshape: vec![ReshapeStep::Widen(WidenStep {
            factor: Some(1.5),
            ..WidenStep::default()
        })],
        output: Some(folder.path().join("wide.onnx")),
        ..base.clone()
    };
    let wide = reshape(&small, &wide, &RunOptions::default(), &Quiet).unwrap();
    let later = Recipe {
        model: Some(model),
        reshape: vec![ReshapeStep::Attend(AttendStep::default())],
        output: Some(folder.path().join("later.onnx")),
        ..base
    };
    let later = reshape(&wide.files.model, &later, &RunOptions::default(), &Quiet).unwrap();
    let fallbacks = &later.report.fallbacks;
    assert!(fallbacks.iter().any(|f| f.what.contains("cannot be told")));
    assert!(
        later
            .report
            .layers
            .iter()
            .all(|l| l.kept != Some(true) || l.held_out_after < l.held_out_before)
    );
}

#[test]
fn a_sparse_network_trains_on_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let dense = network(None);
    let sparse = FitRecipe {
        sparsity: Some(0.7),
        epochs: 4,
        every: 5,
        ..fit_recipe(folder.path(), &dense)
    };
    let sparse = fit(&sparse, &RunOptions::default(), &Quiet).unwrap();
    let nonzero = |file: &Path| {
        let all = zeros(&graph(file));
        all.iter().map(|(_, z, n)| n - z).sum::<usize>()
    };
    let had = nonzero(&sparse.files.model);
    let on = |name: &str, change: &dyn Fn(&mut FitRecipe)| {
        let mut recipe = FitRecipe {
            model: Some(sparse.files.model.clone()),
            data: Some(folder.path().join("images.npz")),
            output: Some(folder.path().join(format!("{name}.onnx"))),
            epochs: 2,
            every: 5,
            batch: 32,
            held_out: 60,
            threads: Some(1),
            ..FitRecipe::default()
        };
        change(&mut recipe);
        nonzero(
            &fit(&recipe, &RunOptions::default(), &Quiet)
                .unwrap()
                .files
                .model,
        )
    };
    assert_eq!(on("on", &|_| {}), had);
    assert!(on("filled", &|r| r.hold_zeros = false) > had);
    // Half of what is left goes, and at no time is more there than was.
    let more = on("more", &|r| r.sparsity = Some(0.85));
    assert!(more <= had / 2 + 4, "{had} to {more}");
    for method in [MethodName::Lottery, MethodName::Admm] {
        let less = on(&format!("{method:?}"), &|r| {
            (r.sparsity, r.method, r.rounds) = (Some(0.5), method, 2);
        });
        assert_eq!(less, had, "{method:?}");
    }
}

#[test]
fn a_run_that_could_not_begin_leaves_its_folder_free() {
    let folder = tempfile::tempdir().unwrap();
    let right = FitRecipe {
        epochs: 1,
        ..fit_recipe(folder.path(), &network(None))
    };
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let wrong = FitRecipe {
        freeze: vec!["no such weight".to_owned()],
        ..right.clone()
    };
    assert!(fit(&wrong, &options, &Quiet).is_err());
    fit(&right, &options, &Quiet).unwrap();
    // One that has an epoch is of that run.
    let other = FitRecipe {
        l2: 1e-3,
        output: Some(folder.path().join("other.onnx")),
        ..right
    };
    assert!(fit(&other, &options, &Quiet).is_err());
}

#[test]
fn samples_that_judge_have_neither_trained_nor_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_images(folder.path(), 200, |i| i as i64 % 3);
    let test = folder.path().join("test");
    std::fs::create_dir(&test).unwrap();
    std::fs::rename(data, test.join("test.npz")).unwrap();
    let recipe = FitRecipe {
        epochs: 1,
        data: Some(test),
        ..fit_recipe(folder.path(), &network(None))
    };
    let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
    let data = report.data.unwrap();
    assert!(
        data.calibration + data.held_out + data.evaluation <= 200,
        "{data:?}"
    );
}

/// The setting that is refused, and what sets it.
type Change = (&'static str, fn(&mut FitRecipe));

#[test]
fn rounds_and_variations_that_leave_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = FitRecipe {
        sparsity: Some(0.5),
        method: MethodName::Lottery,
        rounds: 3,
        epochs: 1,
        ..fit_recipe(folder.path(), &network(None))
    };
    let changes: [Change; 4] = [
        ("end", |r| r.end = 0.0),
        ("begin", |r| r.begin = 0.2),
        ("shift", |r| {
            (r.augment, r.shift) = (regraft::FitAugmentName::Shift, 8);
        }),
        ("cut_out", |r| r.cut_out = 16),
    ];
    for (name, change) in changes {
        let mut recipe = base.clone();
        change(&mut recipe);
        let error = fit(&recipe, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
