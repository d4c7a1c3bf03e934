//! Fusion: networks under one roof, graphs that differ refused by name, networks trained apart.

use std::path::{Path, PathBuf};

use regraft::{
    BasisName, Design, ErrorKind, FitRecipe, FuseFigures, FuseOptions, MixtureName, NamedOptions,
    Quiet, Recipe, RunOptions, Tuning, ZerosName, fit, fuse, new, undo,
};
use regraft_graph::op::BinaryOp;
use regraft_graph::{Graph, Op, Tensor};
use regraft_onnx::{Limits, read, write_bytes};

use crate::material::{
    Net, Random, difference, listing, network, outputs, recipe, slow, write_data,
};

/// The network with other weights: each moved by up to a fifth of itself, the zeros stay.
fn version(seed: u64) -> Graph {
    let graph = network(None);
    let mut random = Random(seed);
    let mut edit = graph.edit();
    for (value, init) in graph.initializers() {
        let Some(data) = init.tensor.as_f32() else {
            continue;
        };
        let data = data.iter().map(|w| w * (1.0 + 0.2 * random.uniform()));
        let tensor = Tensor::from_f32(init.tensor.shape().to_vec(), data.collect()).unwrap();
        edit.set_initializer(*value, tensor);
    }
    edit.finish().unwrap()
}

fn write(folder: &Path, name: &str, graph: &Graph) -> PathBuf {
    let path = folder.join(name).with_extension("onnx");
    std::fs::write(&path, write_bytes(graph).unwrap()).unwrap();
    path
}

fn plain(folder: &Path, output: &str) -> Recipe {
    let data = write_data(folder, 240);
    Recipe {
        model: None,
        macs: None,
        output: Some(folder.join(output).with_extension("onnx")),
        ..recipe(folder, PathBuf::new(), data)
    }
}

fn run(models: &[PathBuf], recipe: &Recipe, fusing: FuseOptions) -> FuseFigures {
    fuse(models, recipe, &fusing, &RunOptions::default(), &Quiet).unwrap()
}

#[test]
fn versions_of_one_network_become_one_and_the_same_bytes_for_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models: Vec<PathBuf> = (1..4)
        .map(|i| write(folder, &format!("v{i}"), &version(i)))
        .collect();
    let one = plain(folder, "one");
    let two = Recipe {
        threads: Some(2),
        ..plain(folder, "two")
    };
    let found = run(&models, &one, FuseOptions::default());
    let fusion = &found.fusion;
    let shares: Vec<f64> = fusion.networks.iter().map(|n| n.share).collect();
    assert_eq!(shares, vec![1.0 / 3.0; 3]);
    assert_eq!(found.outcome.report.fusion.as_ref(), Some(fusion));
    let page = found.outcome.report.to_markdown();
    assert!(page.contains("their weights, averaged"), "{page}");
    let closer = |m: &regraft::report::Metrics| m.mse_to_dense.unwrap();
    assert!(
        closer(&fusion.fused) <= closer(&fusion.averaged),
        "refitting helps"
    );
    let again = run(&models, &two, FuseOptions::default());
    let bytes = |f: &FuseFigures| std::fs::read(&f.outcome.files.model).unwrap();
    assert_eq!(bytes(&found), bytes(&again));
}

#[test]
fn a_stopped_fusion_goes_on_to_the_same_bytes_and_gives_the_networks_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models: Vec<PathBuf> = (1..3)
        .map(|i| write(folder, &format!("v{i}"), &version(i)))
        .collect();
    let options = RunOptions {
        run_dir: Some(folder.join("run")),
        ..RunOptions::default()
    };
    let bytes = |name: &str, options: &RunOptions, fusing: FuseOptions| {
        let found = fuse(&models, &plain(folder, name), &fusing, options, &Quiet);
        found.map(|f| std::fs::read(&f.outcome.files.model).unwrap())
    };
    let usual = FuseOptions::default();
    let fresh = bytes("fresh", &RunOptions::default(), usual).unwrap();
    assert_eq!(fresh, bytes("first", &options, usual).unwrap());
    assert_eq!(fresh, bytes("again", &options, usual).unwrap());
    for (at, model) in models.iter().enumerate() {
        let back = folder.join(format!("back{at}.onnx"));
        let undone = undo(
            &folder.join("run"),
            Some(at + 1),
            &back,
            &RunOptions::default(),
        );
        assert_eq!((undone.unwrap().edit.as_str(), at), ("fuse", at));
        // Its batch normalisations are part of its layers by now.
        assert!(difference(&outputs(model, 8), &outputs(&back, 8)) < 1e-5);
    }
    // Another fusion does not go on from this one.
    let other = FuseOptions {
        zeros: ZerosName::Union,
        ..usual
    };
    let error = bytes("other", &options, other).unwrap_err();
    assert!(error.to_string().contains("another run"), "{error}");
}

#[test]
fn soups_and_learned_weights_share_out_all_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models: Vec<PathBuf> = (1..4)
        .map(|i| write(folder, &format!("v{i}"), &version(i)))
        .collect();
    for (name, mixture) in [("soup", MixtureName::Soup), ("stack", MixtureName::Stack)] {
        let fusing = FuseOptions {
            mixture,
            ..FuseOptions::default()
        };
        let short = Recipe {
            tune: Tuning::None,
            ..plain(folder, name)
        };
        let found = run(&models, &short, fusing);
        let shares: Vec<f64> = found.fusion.networks.iter().map(|n| n.share).collect();
        let sum: f64 = shares.iter().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{name}: {shares:?}");
        assert!(shares.iter().all(|s| *s >= 0.0));
    }
}

#[test]
fn equal_networks_give_that_network() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models: Vec<PathBuf> = (1..3)
        .map(|i| write(folder, &format!("v{i}"), &version(7)))
        .collect();
    let fusing = FuseOptions {
        basis: BasisName::Activations,
        zeros: ZerosName::Union,
        ..FuseOptions::default()
    };
    let found = run(&models, &plain(folder, "same"), fusing);
    let gap = difference(
        &outputs(&models[0], 8),
        &outputs(&found.outcome.files.model, 8),
    );
    // Batch normalisation is folded.
    assert!(gap < 1e-5, "{gap}");
}

#[test]
fn networks_of_other_graphs_are_refused_by_node_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut net = Net::new(5, None);
    let stem = net.conv("x", 1, 8, 3);
    let stem = net.relu(&stem);
    let other = net.conv(&stem, 8, 8, 5);
    let other = net.head(&other, 8);
    let models = [
        write(folder, "v1", &version(1)),
        write(folder, "other", &other),
    ];
    let recipe = plain(folder, "out");
    let before = listing(folder);
    let fusing = FuseOptions::default();
    let options = RunOptions {
        run_dir: Some(folder.join("run")),
        ..RunOptions::default()
    };
    let refused =
        |models: &[PathBuf]| fuse(models, &recipe, &fusing, &options, &Quiet).unwrap_err();
    let error = refused(&models);
    assert_eq!(error.kind(), ErrorKind::Model);
    let text = error.to_string();
    assert!(text.contains("number 2 at `conv"), "{text}");
    assert!(error.node().is_some_and(|n| n.starts_with("conv")));
    assert!(error.hint().is_some());
    assert_eq!(refused(&models[..1]).kind(), ErrorKind::Usage);
    assert_eq!(listing(folder), before);
}

fn accuracy(m: &regraft::report::Metrics) -> f64 {
    100.0 * m.accuracy.unwrap()
}

/// Two LeNet-5 trained from different seeds lose at most a point when fused; the mean of their
/// weights as they are is of no use.
#[test]
fn networks_trained_apart_fuse_once_their_channels_are_matched() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/mnist");
    if !slow() || !data.exists() {
        println!("skipped: REGRAFT_SLOW is not 1, or no shared data `mnist`");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let options = RunOptions::default();
    let train = |seed: u64| {
        let design = Design::Named {
            name: "lenet5".to_owned(),
            options: NamedOptions::default(),
        };
        let fresh = folder.join(format!("fresh{seed}.onnx"));
        new(&design, seed, &fresh, &options).unwrap();
        let recipe = FitRecipe {
            model: Some(fresh),
            data: Some(data.clone()),
            epochs: 1,
            seed,
            output: Some(folder.join(format!("trained{seed}.onnx"))),
            ..FitRecipe::default()
        };
        fit(&recipe, &options, &Quiet).unwrap().files.model
    };
    let models = [train(1), train(2)];
    let recipe = |name: &str, tune: Tuning| Recipe {
        data: Some(data.clone()),
        output: Some(folder.join(name).with_extension("onnx")),
        joint_epochs: Some(10),
        tune,
        ..Recipe::default()
    };
    let as_they_are = run(
        &models,
        &recipe("plain", Tuning::None),
        FuseOptions::default(),
    );
    let fusing = FuseOptions {
        basis: BasisName::Activations,
        ..FuseOptions::default()
    };
    let matched = run(&models, &recipe("matched", Tuning::Blocks), fusing);
    let given: Vec<f64> = matched
        .fusion
        .networks
        .iter()
        .map(|n| accuracy(&n.metrics))
        .collect();
    let best = given[0].max(given[1]);
    let collapsed = accuracy(&as_they_are.fusion.averaged);
    assert!(collapsed < best - 10.0, "{collapsed} of {given:?}");
    let fused = accuracy(&matched.fusion.fused);
    assert!(fused > best - 1.0, "{fused} of {given:?}");
}

#[test]
fn constants_that_multiply_are_not_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mask = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.5];
    let masked = |seed: u64| {
        let mut net = Net::new(seed, None);
        let conv = net.conv("x", 1, 8, 3);
        let tensor = Tensor::from_f32(vec![8, 1, 1], mask.to_vec()).unwrap();
        net.b.tensor("mask", tensor).unwrap();
        let product = net.node(Op::Binary(BinaryOp::Mul), &[&conv, "mask"]);
        let active = net.relu(&product);
        net.head(&active, 8)
    };
    let models = [1, 2].map(|seed| write(folder, &format!("m{seed}"), &masked(seed)));
    let tuned = Recipe {
        tune: Tuning::Blocks,
        epochs: 1,
        joint_epochs: Some(3),
        ..plain(folder, "tuned")
    };
    let found = run(&models, &tuned, FuseOptions::default());
    let graph = read(&found.outcome.files.model, &Limits::default()).unwrap();
    let written = graph
        .find_value("mask")
        .and_then(|v| graph.tensor(v)?.as_f32());
    assert_eq!(written, Some(&mask[..]));
}
