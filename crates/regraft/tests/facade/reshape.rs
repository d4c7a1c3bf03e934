//! Edits of the topology by recipe: budgets, functions that stay, order, codebooks that survive the rebuild.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regraft::{
    AttendStep, DeepenStep, ErrorKind, FormName, FuseStep, InsertName, LowRankStep, Outcome, Quiet,
    Recipe, ReshapeStep, RunOptions, ShareStep, TieStep, TopologyName, Tuning, WidenStep, rebuild,
    reshape, shrink, undo,
};
use regraft_onnx::{Limits, read};

use crate::material::{difference, listing, network, outputs, recipe, write_data, write_model};

fn given(folder: &Path) -> (PathBuf, PathBuf) {
    (write_model(folder, &network(None)), write_data(folder, 240))
}

fn with(folder: &Path, data: PathBuf, steps: Vec<ReshapeStep>) -> Recipe {
    Recipe {
        model: None,
        macs: None,
        tune: Tuning::None,
        reshape: steps,
        output: Some(folder.join("edited.onnx")),
        ..recipe(folder, PathBuf::new(), data)
    }
}

/// Half of a model's multiply-accumulates.
fn half(folder: &Path, model: &Path, base: &Recipe) -> Recipe {
    Recipe {
        model: Some(model.to_path_buf()),
        macs: Some(0.5),
        multiple_of: 1,
        output: Some(folder.join("pruned.onnx")),
        ..base.clone()
    }
}

fn run(model: &Path, recipe: &Recipe) -> Outcome {
    reshape(model, recipe, &RunOptions::default(), &Quiet).unwrap()
}

#[test]
fn thin_layers_keep_the_budget_and_say_what_they_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let step = LowRankStep {
        macs: Some(0.6),
        ..LowRankStep::default()
    };
    let recipe = with(folder.path(), data, vec![ReshapeStep::LowRank(step)]);
    let report = run(&model, &recipe).report;
    assert!(report.small.macs as f64 <= 0.6 * report.dense.macs as f64);
    let step = &report.reshape[0];
    assert!(!step.exact && step.output_error > 0.0 && !step.changes.is_empty());
    assert!(step.changes.iter().all(|c| c.error.is_some()));
    let text = report.to_markdown();
    assert!(text.contains("Reshaped: low-rank in"), "{text}");
    // A recipe beside the result repeats it.
    let again = Recipe::from_toml(&recipe.to_toml().unwrap()).unwrap();
    assert_eq!(again, recipe);
}

#[test]
fn edits_that_keep_the_function_write_a_network_that_gives_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let steps = vec![
        ReshapeStep::Widen(WidenStep {
            factor: Some(1.5),
            ..WidenStep::default()
        }),
        ReshapeStep::Deepen(DeepenStep::default()),
        ReshapeStep::Attend(AttendStep::default()),
    ];
    let found = run(&model, &with(folder.path(), data, steps));
    assert!(
        found
            .report
            .reshape
            .iter()
            .all(|s| s.exact && !s.changes.is_empty())
    );
    assert!(found.report.small.macs > found.report.dense.macs);
    assert!(
        found
            .report
            .layers
            .iter()
            .all(|l| l.held_out_after.is_none())
    );
    let (a, b) = (outputs(&model, 16), outputs(&found.files.model, 16));
    assert!(difference(&a, &b) < 1e-5);
}

#[test]
fn shared_weights_survive_the_rebuild_and_come_last() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let thin = ReshapeStep::LowRank(LowRankStep {
        params: Some(0.8),
        ..LowRankStep::default()
    });
    let share = ReshapeStep::Share(ShareStep {
        bits: Some(3),
        ..ShareStep::default()
    });
    let recipe = with(folder.path(), data, vec![thin.clone(), share.clone()]);
    let found = run(&model, &recipe);
    let bytes = found.report.reshape[1].bytes.unwrap();
    assert!(bytes.coded < bytes.dense / 3, "{bytes:?}");
    let graph = read(&found.files.model, &Limits::default()).unwrap();
    for init in graph.initializers().values() {
        let Some(data) = init
            .tensor
            .as_f32()
            .filter(|_| init.tensor.shape().len() > 1)
        else {
            continue;
        };
        let distinct: BTreeSet<u32> = data.iter().map(|w| w.to_bits()).collect();
        assert!(distinct.len() <= 9, "{} values", distinct.len());
    }
    let before = listing(folder.path());
    let wrong = Recipe {
        reshape: vec![share, thin],
        output: Some(folder.path().join("other.onnx")),
        ..recipe
    };
    let error = reshape(&model, &wrong, &RunOptions::default(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(before, listing(folder.path()), "nothing is written");
}

#[test]
fn the_topology_is_chosen_within_the_cost_of_what_was_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let base = with(folder.path(), data, Vec::new());
    let pruned = half(folder.path(), &model, &base);
    let small = shrink(&pruned, &RunOptions::default(), &Quiet).unwrap();
    let auto = Recipe {
        model: Some(model),
        topology: TopologyName::Auto,
        ..base
    };
    let found = rebuild(&small.files.model, &auto, &RunOptions::default(), &Quiet).unwrap();
    let topology = found.report.topology.unwrap();
    assert_eq!(topology.budget, small.report.small.macs);
    assert!(topology.trials.len() > 1);
    assert!(topology.trials.iter().all(|t| t.macs <= topology.budget));
    let least = topology
        .trials
        .iter()
        .map(|t| t.error)
        .fold(f64::INFINITY, f64::min);
    assert!(topology.trials[topology.chosen].error <= least);
    assert!(found.report.small.macs <= topology.budget);
    // Where nothing is fast enough, the fastest it is, and the report says so.
    let hurried = Recipe {
        latency: Some(1e-6),
        output: Some(folder.path().join("fastest.onnx")),
        ..auto
    };
    let found = rebuild(&small.files.model, &hurried, &RunOptions::default(), &Quiet).unwrap();
    let topology = found.report.topology.unwrap();
    let fastest = topology.trials.iter().filter_map(|t| t.time);
    let fastest = fastest.fold(f64::INFINITY, f64::min);
    assert_eq!(topology.trials[topology.chosen].time, Some(fastest));
    let warned = |w: &String| w.contains("the fastest is kept");
    assert!(found.report.warnings.iter().any(warned));
    // With a little training edits that add something are judged block by block, and the choice can be undone.
    let run_dir = folder.path().join("run");
    let trained = Recipe {
        latency: None,
        tune: Tuning::Blocks,
        epochs: 1,
        joint_epochs: Some(1),
        output: Some(folder.path().join("trained.onnx")),
        ..hurried
    };
    let options = RunOptions {
        run_dir: Some(run_dir.clone()),
        ..RunOptions::default()
    };
    let found = rebuild(&small.files.model, &trained, &options, &Quiet).unwrap();
    let topology = found.report.topology.unwrap();
    assert!(topology.places.iter().any(|p| p.edit == "attend"));
    assert!(topology.places.iter().any(|p| p.edit == "deepen"));
    assert!(topology.places.iter().all(|p| p.macs > 0));
    let kept = topology.places.iter().filter(|p| p.kept);
    assert!(kept.clone().map(|p| p.gain).all(|g| g > 0.0));
    let is_chosen = topology.trials[topology.chosen].what.contains("edits in");
    assert_eq!(kept.count() > 0, is_chosen, "kept is what was rebuilt");
    let decided = topology.trials.iter().filter_map(|t| t.trained);
    if let Some(least) = decided.reduce(f64::min) {
        assert_eq!(topology.trials[topology.chosen].trained, Some(least));
    }
    assert!(found.report.small.macs <= topology.budget);
    let back = folder.path().join("back.onnx");
    let undone = undo(&run_dir, None, &back, &RunOptions::default()).unwrap();
    assert_eq!((undone.step, undone.steps), (0, 0));
    assert!(difference(&outputs(&small.files.model, 16), &outputs(&back, 16)) < 1e-6);
}

#[test]
fn layers_read_one_tensor_and_convolutions_have_few_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let tied = TieStep {
        max_error: Some(10.0),
        ..TieStep::default()
    };
    let first = with(folder.path(), data, vec![ReshapeStep::Tie(tied)]);
    let report = run(&model, &first).report;
    let step = &report.reshape[0];
    assert!(step.changes.len() > 1 && !step.exact, "{step:?}");
    assert!(report.small.params < report.dense.params);
    let graph = read(&folder.path().join("edited.onnx"), &Limits::default()).unwrap();
    let shared =
        |v| graph.tensor(v).is_some_and(|t| t.shape().len() > 1) && graph.consumers(v).len() > 1;
    assert!(graph.initializers().keys().any(|v| shared(*v)));
    let few = TieStep {
        kernels: Some(3),
        form: FormName::Gather,
        ..TieStep::default()
    };
    let second = Recipe {
        output: Some(folder.path().join("few.onnx")),
        reshape: vec![ReshapeStep::Tie(few.clone())],
        ..first.clone()
    };
    let report = run(&model, &second).report;
    let step = &report.reshape[0];
    let said = |c: &regraft::report::ReshapeChange| c.what.contains("share 3");
    assert!(!step.changes.is_empty() && step.changes.iter().all(said));
    // Codebooks behind them would undo them; shrink applies no edits at all.
    let both = Recipe {
        reshape: vec![
            ReshapeStep::Tie(few.clone()),
            ReshapeStep::Share(ShareStep::default()),
        ],
        output: Some(folder.path().join("both.onnx")),
        ..first.clone()
    };
    let error = reshape(&model, &both, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("undo each other"), "{error}");
    let shrunk = Recipe {
        model: Some(model.clone()),
        macs: Some(0.5),
        ..both
    };
    let error = shrink(&shrunk, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("applies no edits"), "{error}");
    // Few kernels come last: a rebuild behind them would undo them.
    for (steps, why) in [
        (vec![few.clone(), TieStep::default()], "cannot come behind"),
        (
            vec![TieStep {
                max_error: Some(0.1),
                ..few
            }],
            "not both",
        ),
        (
            vec![TieStep {
                form: FormName::Gather,
                ..TieStep::default()
            }],
            "one tensor",
        ),
    ] {
        let wrong = Recipe {
            reshape: steps.into_iter().map(ReshapeStep::Tie).collect(),
            output: Some(folder.path().join("wrong.onnx")),
            ..first.clone()
        };
        let error = reshape(&model, &wrong, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn steps_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let before = listing(folder.path());
    let both = LowRankStep {
        macs: Some(0.5),
        params: Some(0.5),
        ..LowRankStep::default()
    };
    for steps in [
        Vec::new(),
        vec![ReshapeStep::LowRank(LowRankStep::default())],
        vec![ReshapeStep::LowRank(both)],
        vec![ReshapeStep::Widen(WidenStep::default())],
    ] {
        let recipe = with(folder.path(), data.clone(), steps);
        let error = reshape(&model, &recipe, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.hint().is_some());
    }
    assert_eq!(before, listing(folder.path()), "nothing is written");
}

#[test]
fn a_recipe_fuses_versions_of_a_network_and_rebuilds_them_towards_the_dense_one() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let base = with(folder.path(), data, Vec::new());
    let versions: Vec<PathBuf> = (0..2)
        .map(|seed| {
            let recipe = Recipe {
                model: Some(model.clone()),
                sparsity: Some(0.6),
                seed,
                calib: 64,
                output: Some(folder.path().join(format!("v{seed}.onnx"))),
                ..base.clone()
            };
            let done = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap();
            done.files.model
        })
        .collect();
    let step = FuseStep {
        networks: vec![versions[1].clone()],
        ..FuseStep::default()
    };
    let fused = Recipe {
        model: Some(model.clone()),
        reshape: vec![ReshapeStep::Fuse(step)],
        output: Some(folder.path().join("fused.onnx")),
        ..base.clone()
    };
    let again = Recipe::from_toml(&fused.to_toml().unwrap()).unwrap();
    assert_eq!(again, fused);
    let report = run(&versions[0], &fused).report;
    assert!(
        report.reshape[0].changes[0]
            .what
            .contains("the mean of 2 networks")
    );
    assert!(report.reshape[0].output_error > 0.0);
    // Towards itself there is nothing to rebuild; none of the networks is written over.
    let alone = Recipe {
        model: None,
        output: Some(folder.path().join("alone.onnx")),
        ..fused.clone()
    };
    let error = reshape(&versions[0], &alone, &RunOptions::default(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let over = Recipe {
        output: Some(versions[1].clone()),
        ..fused
    };
    let force = RunOptions {
        force: true,
        ..RunOptions::default()
    };
    assert!(reshape(&versions[0], &over, &force, &Quiet).is_err());
}

#[test]
fn groups_grow_where_that_brings_a_network_closest_to_its_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let base = with(folder.path(), data, Vec::new());
    let small = Recipe {
        macs: Some(0.4),
        ..half(folder.path(), &model, &base)
    };
    let small = shrink(&small, &RunOptions::default(), &Quiet).unwrap();
    let recipe = |step: WidenStep| Recipe {
        model: Some(model.clone()),
        reshape: vec![ReshapeStep::Widen(step)],
        output: Some(folder.path().join("wide.onnx")),
        ..base.clone()
    };
    let by_gain = || WidenStep {
        by_gain: true,
        max_macs: Some(2.0),
        ..WidenStep::default()
    };
    let wanted = recipe(by_gain());
    let network = small.files.model.clone();
    assert_eq!(
        Recipe::from_toml(&wanted.to_toml().unwrap()).unwrap(),
        wanted
    );
    let report = run(&small.files.model, &wanted).report;
    let step = &report.reshape[0];
    assert!(step.exact && !step.changes.is_empty());
    assert!(step.macs.after > step.macs.before && step.macs.after <= 2 * step.macs.before);
    // New units bring it closer to what it was pruned from.
    let dense = outputs(&model, 64);
    let far = |file: &Path| difference(&dense, &outputs(file, 64));
    let wide = far(wanted.output.as_ref().unwrap());
    let small = far(&small.files.model);
    assert!(wide < small, "{small} to {wide}");
    let refused = |recipe: &Recipe| {
        let error = reshape(&network, recipe, &RunOptions::default(), &Quiet);
        error.unwrap_err().to_string()
    };
    for (step, why) in [
        (
            WidenStep {
                max_macs: None,
                ..by_gain()
            },
            "needs `max_macs`",
        ),
        (
            WidenStep {
                factor: Some(2.0),
                ..by_gain()
            },
            "one of",
        ),
        (
            WidenStep {
                max_macs: Some(0.9),
                ..by_gain()
            },
            "must be above 1",
        ),
    ] {
        let error = refused(&recipe(step));
        assert!(error.contains(why), "{error}");
    }
    let alone = Recipe {
        model: None,
        output: Some(folder.path().join("alone.onnx")),
        ..recipe(by_gain())
    };
    let error = refused(&alone);
    assert!(error.contains("nothing to gain"), "{error}");
}

#[test]
fn edits_go_where_they_gain_most_even_where_all_of_them_would_cost_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = given(folder.path());
    let base = with(folder.path(), data, Vec::new());
    let pruned = half(folder.path(), &model, &base);
    let small = shrink(&pruned, &RunOptions::default(), &Quiet).unwrap();
    let sparse = Recipe {
        macs: None,
        sparsity: Some(0.6),
        output: Some(folder.path().join("sparse.onnx")),
        ..pruned
    };
    let sparse = shrink(&sparse, &RunOptions::default(), &Quiet).unwrap();
    let deepen = |max_macs| {
        ReshapeStep::Deepen(DeepenStep {
            insert: InsertName::Residual,
            kernel: Some(1),
            max_macs,
            by_gain: true,
            ..DeepenStep::default()
        })
    };
    let recipe = |name: &str, step: ReshapeStep| Recipe {
        model: Some(model.clone()),
        tune: Tuning::Blocks,
        epochs: 1,
        joint_epochs: Some(2),
        reshape: vec![step],
        output: Some(folder.path().join(format!("{name}.onnx"))),
        ..base.clone()
    };
    let edit =
        |network: &Path, recipe: &Recipe| reshape(network, recipe, &RunOptions::default(), &Quiet);
    let everywhere = edit(&small.files.model, &recipe("much", deepen(Some(100.0)))).unwrap();
    let places = &everywhere.report.reshape[0].places;
    assert!(places.len() > 1 && places.iter().any(|p| p.kept));
    let macs = |r: &regraft::report::Report| r.reshape[0].macs;
    let all: u64 = places.iter().map(|p| p.macs).sum();
    // Room for the cheapest that gains, not for all.
    let gains = places.iter().filter(|p| p.gain > 0.0);
    let least = gains.map(|p| p.macs).min().unwrap();
    let own = macs(&everywhere.report).before;
    let share = (own + least) as f64 / own as f64 + 1e-9;
    let one = edit(&small.files.model, &recipe("one", deepen(Some(share)))).unwrap();
    assert!(macs(&one.report).after <= own + least && macs(&one.report).after < own + all);
    let kept = one.report.reshape[0].places.iter().filter(|p| p.kept);
    assert_eq!(kept.count(), one.report.reshape[0].changes.len());
    let tight = edit(
        &small.files.model,
        &recipe("none", deepen(Some(1.0 + 1e-6))),
    )
    .unwrap_err();
    assert!(tight.to_string().contains("fits nowhere"), "{tight}");
    // Zeros stay zeros.
    let attend = ReshapeStep::Attend(AttendStep {
        max_macs: Some(2.0),
        by_gain: true,
        ..AttendStep::default()
    });
    let count = |r: &regraft::report::Report| r.small.weights.unwrap().nonzero;
    if let Ok(found) = edit(&sparse.files.model, &recipe("gates", attend)) {
        let added = found.report.small.params - sparse.report.small.params;
        assert!(count(&found.report) <= count(&sparse.report) + added);
    }
    for (step, why) in [
        (deepen(None), "needs `max_macs`"),
        (deepen(Some(-1.0)), "above 0"),
        (deepen(Some(1.0)), "must be above 1"),
    ] {
        let error = edit(&small.files.model, &recipe("wrong", step)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(why), "{error}");
    }
    let alone = Recipe {
        model: None,
        ..recipe("alone", deepen(Some(2.0)))
    };
    let error = edit(&small.files.model, &alone).unwrap_err();
    assert!(error.to_string().contains("nothing to gain"), "{error}");
}
