//! Training towards numbers, from several inputs, towards what a teacher has inside, and with weights
//! that stay.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use regraft::report::{MeasureName, Report, TerminalStyle};
use regraft::{
    ErrorKind, FitRecipe, LossName, MethodName, OptimizerName, Quiet, Recipe, RunOptions, Tuning,
    eval, fit, shrink,
};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{BinaryOp, GlobalPool, UnaryOp};
use regraft_graph::{DType, Dim, Graph, Op, Tensor};
use regraft_onnx::{Limits, read};

use crate::material::{Net, Random, SIDE, network, write_model};
use crate::recurrent::{npy, npz};

const FEATURES: usize = 4;

/// Tests here write the same file again.
fn over() -> RunOptions {
    RunOptions {
        force: true,
        ..RunOptions::default()
    }
}

/// A network from four numbers to one.
fn regressor() -> Graph {
    let mut net = Net::without_input(11);
    net.declare(
        "x",
        DType::F32,
        &[Dim::symbol("batch"), Dim::Fixed(FEATURES)],
    );
    let hidden = net.linear("x", FEATURES, 24);
    let hidden = net.relu(&hidden);
    let y = net.linear(&hidden, 24, 1);
    net.finish(&y)
}

/// A table whose last column is a product and a sum of the others.
fn write_table(folder: &Path, n: usize) -> PathBuf {
    let mut random = Random(5);
    let mut text = String::from("a,b,c,d,target\n");
    for _ in 0..n {
        let x: Vec<f32> = (0..FEATURES).map(|_| random.uniform()).collect();
        let y = 3.0 * x[0] - 2.0 * x[1] * x[2] + 0.5;
        writeln!(text, "{},{},{},{},{y}", x[0], x[1], x[2], x[3]).unwrap();
    }
    let path = folder.join("table.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn training(report: &Report) -> &regraft::report::TrainingFigures {
    report.training.as_ref().unwrap()
}

#[test]
fn numbers_are_learned_judged_and_kept_by_what_is_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_table(folder.path(), 1200);
    let out = folder.path().join("trained.onnx");
    let recipe = FitRecipe {
        model: Some(write_model(folder.path(), &regressor())),
        data: Some(data.clone()),
        output: Some(out.clone()),
        loss: LossName::SquaredError,
        epochs: 30,
        batch: 32,
        learning_rate: 0.02,
        held_out: 100,
        threads: Some(1),
        ..FitRecipe::default()
    };
    let report = fit(&recipe, &over(), &Quiet).unwrap().report;
    let metrics = report.small.metrics.as_ref().unwrap();
    let r2 = metrics.r2.unwrap();
    assert!(r2 > 0.97, "R² {r2}");
    assert_eq!(metrics.accuracy, None);
    assert!(metrics.mean_absolute_error.unwrap() < 0.3);
    assert_eq!(training(&report).measure, MeasureName::R2);
    assert!(report.to_markdown().contains("R²"));
    let csv = std::fs::read_to_string(folder.path().join("trained.epochs.csv")).unwrap();
    assert!(
        csv.starts_with("epoch,steps,learning_rate,loss,held_out_r2,"),
        "{csv}"
    );

    // The other verbs judge by the same numbers.
    let judged = Recipe {
        model: Some(out.clone()),
        data: Some(data.clone()),
        threads: Some(1),
        ..Recipe::default()
    };
    let found = eval(&judged, None, &over(), &Quiet).unwrap();
    assert!(found.metrics.r2.unwrap() > 0.97);
    assert!(found.to_terminal(&TerminalStyle::default()).contains("R²"));
    let pruning = Recipe {
        output: Some(folder.path().join("sparse.onnx")),
        sparsity: Some(0.4),
        macs: None,
        calib: 256,
        tune: Tuning::None,
        ..judged
    };
    let report = shrink(&pruning, &over(), &Quiet).unwrap().report;
    let of = |m: &Option<regraft::report::Metrics>| m.as_ref().unwrap().r2.unwrap();
    let (dense, small) = (of(&report.dense.metrics), of(&report.small.metrics));
    assert!(dense > 0.97 && small > 0.8, "{dense} {small}");

    // Classes are what the default loss wants.
    let classes = FitRecipe {
        loss: LossName::CrossEntropy,
        ..recipe
    };
    let error = fit(&classes, &over(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    assert!(error.hint().unwrap().contains("squared-error"), "{error}");
}

const WORDS: usize = 12;
const LENGTH: usize = 5;

/// A network of words, a mask of truth values and numbers beside them, that finds one of three classes.
fn reader() -> Graph {
    let mut net = Net::without_input(3);
    let batch = Dim::symbol("batch");
    net.declare("ids", DType::I64, &[batch.clone(), Dim::Fixed(LENGTH)]);
    net.declare("mask", DType::Bool, &[batch.clone(), Dim::Fixed(LENGTH)]);
    net.declare("extra", DType::F32, &[batch, Dim::Fixed(8)]);
    net.weight("words", &[WORDS, 8]);
    let words = net.node(Op::Gather { axis: 0 }, &["words", "ids"]);
    let mask = net.node(Op::Cast { to: DType::F32 }, &["mask"]);
    net.b.tensor("last", Tensor::i64_list(vec![2])).unwrap();
    let mask = net.node(Op::Unsqueeze { axes: None }, &[&mask, "last"]);
    let words = net.node(Op::Binary(BinaryOp::Mul), &[&words, &mask]);
    let flat = net.flatten(&words);
    let hidden = net.linear(&flat, 8 * LENGTH, 24);
    let hidden = net.relu(&hidden);
    let beside = net.linear("extra", 8, 24);
    let sum = net.add(&hidden, &beside);
    let scores = net.linear(&sum, 24, 3);
    net.finish(&scores)
}

/// The class is that of the first word; every fourth sample has its class in the numbers beside instead.
fn write_arrays(folder: &Path, n: usize) -> PathBuf {
    let mut random = Random(9);
    let mut ids = Vec::new();
    let mut mask = Vec::new();
    let mut extra = Vec::new();
    let mut labels = Vec::new();
    for i in 0..n {
        let words: Vec<i64> = (0..LENGTH)
            .map(|_| (random.next() % WORDS as u64) as i64)
            .collect();
        let label = words[0] % 3;
        let beside = i % 4 == 0;
        ids.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        mask.extend((0..LENGTH).map(|at| u8::from(at > 0 || !beside)));
        let number = |at: i64| if beside && at == label { 3.0f32 } else { 0.0 };
        extra.extend((0..8).flat_map(|at| number(at).to_le_bytes()));
        labels.extend(label.to_le_bytes());
    }
    let path = folder.join("arrays.npz");
    npz(
        &path,
        &[
            ("ids", npy("<i8", &[n, LENGTH], &ids)),
            ("mask", npy("|b1", &[n, LENGTH], &mask)),
            ("extra", npy("<f4", &[n, 8], &extra)),
            ("labels", npy("<i8", &[n], &labels)),
        ],
    );
    path
}

#[test]
fn a_network_of_several_inputs_learns_from_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        model: Some(write_model(folder.path(), &reader())),
        data: Some(write_arrays(folder.path(), 1500)),
        output: Some(folder.path().join("trained.onnx")),
        epochs: 15,
        batch: 32,
        held_out: 150,
        sparsity: Some(0.6),
        threads: Some(1),
        ..FitRecipe::default()
    };
    let report = fit(&recipe, &over(), &Quiet).unwrap().report;
    let accuracy = report.small.metrics.as_ref().unwrap().accuracy.unwrap();
    assert!(accuracy > 0.9, "accuracy {accuracy}");
    let weights = report.small.weights.unwrap();
    assert!(
        weights.nonzero as f64 <= 0.41 * weights.all as f64,
        "{weights:?}"
    );
    // A run that is kept gives the same.
    let run = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..over()
    };
    let again = fit(&recipe, &run, &Quiet).unwrap().report;
    assert_eq!(again.small.metrics, report.small.metrics);
}

/// One output that says yes or no, as a logit or behind a sigmoid; classes are 0 and 1.
#[test]
fn a_network_of_one_output_decides_between_two_classes() {
    for has_sigmoid in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut net = Net::without_input(11);
        net.declare(
            "x",
            DType::F32,
            &[Dim::symbol("batch"), Dim::Fixed(FEATURES)],
        );
        let hidden = net.linear("x", FEATURES, 16);
        let hidden = net.relu(&hidden);
        let mut y = net.linear(&hidden, 16, 1);
        if has_sigmoid {
            y = net.node(Op::Unary(UnaryOp::Sigmoid), &[&y]);
        }
        let mut random = Random(5);
        let n = 1000;
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let x: Vec<f32> = (0..FEATURES).map(|_| random.uniform()).collect();
            // Floats that are whole are classes.
            labels.extend(f32::from(u8::from(x[0] + x[1] > 0.0)).to_le_bytes());
            values.extend(x.iter().flat_map(|x| x.to_le_bytes()));
        }
        let data = folder.path().join("data.npz");
        npz(
            &data,
            &[
                ("x", npy("<f4", &[n, FEATURES], &values)),
                ("y", npy("<f4", &[n], &labels)),
            ],
        );
        let recipe = FitRecipe {
            model: Some(write_model(folder.path(), &net.finish(&y))),
            data: Some(data),
            output: Some(folder.path().join("trained.onnx")),
            loss: LossName::Binary,
            epochs: 10,
            batch: 32,
            held_out: 100,
            threads: Some(1),
            ..FitRecipe::default()
        };
        let report = fit(&recipe, &over(), &Quiet).unwrap().report;
        let metrics = report.small.metrics.as_ref().unwrap();
        assert!(metrics.accuracy.unwrap() > 0.95, "{metrics:?}");
        assert_eq!(metrics.r2.is_some(), has_sigmoid);
        assert_eq!(training(&report).measure, MeasureName::Decisions);
        assert!(training(&report).held_out_score > 0.95);
        // An attack needs a score for each class.
        let attacked = FitRecipe {
            attack: regraft::FitAttackName::Fgsm,
            attack_eps: Some(0.1),
            ..recipe
        };
        let error = fit(&attacked, &over(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    }
}

/// Numbers of another width than the network's are refused before anything is trained.
#[test]
fn numbers_that_the_network_does_not_make_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let n = 50;
    let values: Vec<u8> = (0..n * FEATURES)
        .flat_map(|i| (i as f32).to_le_bytes())
        .collect();
    let numbers: Vec<u8> = (0..3 * n)
        .flat_map(|i| (0.5 + i as f32).to_le_bytes())
        .collect();
    let data = folder.path().join("data.npz");
    npz(
        &data,
        &[
            ("x", npy("<f4", &[n, FEATURES], &values)),
            ("targets", npy("<f4", &[n, 3], &numbers)),
        ],
    );
    let model = write_model(folder.path(), &regressor());
    let recipe = FitRecipe {
        model: Some(model.clone()),
        data: Some(data.clone()),
        loss: LossName::SquaredError,
        epochs: 1_000_000,
        ..FitRecipe::default()
    };
    let error = fit(&recipe, &over(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("3 numbers"), "{error}");
    let pruning = Recipe {
        model: Some(model),
        data: Some(data),
        sparsity: Some(0.5),
        macs: None,
        ..Recipe::default()
    };
    let error = shrink(&pruning, &over(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("3 numbers"), "{error}");
}

/// Nothing is to be learned before something is gone.
#[test]
fn a_network_is_its_own_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        model: Some(write_model(folder.path(), &student(1, 12))),
        teacher_share: 1.0,
        loss: LossName::SquaredError,
        data: Some(write_unlabelled(folder.path(), 300)),
        output: Some(folder.path().join("trained.onnx")),
        sparsity: Some(0.5),
        epochs: 4,
        every: 4,
        batch: 16,
        held_out: 30,
        threads: Some(1),
        ..FitRecipe::default()
    };
    let report = fit(&recipe, &over(), &Quiet).unwrap().report;
    assert_eq!(training(&report).measure, MeasureName::R2);
    let weights = report.small.weights.unwrap();
    assert!(
        weights.nonzero as f64 <= 0.51 * weights.all as f64,
        "{weights:?}"
    );
}

/// Images without labels.
fn write_unlabelled(folder: &Path, n: usize) -> PathBuf {
    let mut random = Random(21);
    let pixels = (0..n * SIDE * SIDE).flat_map(|_| random.uniform().to_le_bytes());
    let path = folder.join("images.npz");
    npz(
        &path,
        &[(
            "x",
            npy("<f4", &[n, 1, SIDE, SIDE], &pixels.collect::<Vec<u8>>()),
        )],
    );
    path
}

/// Convolutions of this width between two values that keep their names.
fn student(seed: u64, width: usize) -> Graph {
    let mut net = Net::new(seed, None);
    let x = net.conv("x", 1, width, 3);
    let x = net.node(Op::Unary(UnaryOp::Tanh), &[&x]);
    let x = net.conv(&x, width, 8, 3);
    let x = net.node(Op::Unary(UnaryOp::Tanh), &[&x]);
    let pooled = net.node(Op::GlobalPool(GlobalPool::Average), &[&x]);
    let flat = net.flatten(&pooled);
    let y = net.linear(&flat, 8, 3);
    net.finish(&y)
}

/// The relative squared distance of a value of two networks on random images.
fn distance(a: &Graph, b: &Graph, value: &str) -> f64 {
    let mut random = Random(33);
    let data: Vec<f32> = (0..16 * SIDE * SIDE).map(|_| random.uniform()).collect();
    let input = HostTensor::f32(vec![16, 1, SIDE, SIDE], data);
    let of = |graph: &Graph| {
        let id = graph.find_value(value).unwrap();
        let executor = Executor::new(graph, ExecOptions::default()).unwrap();
        let fed = [(graph.required_inputs()[0], input.clone())];
        let found = executor.run_captured(&fed, &[id]).unwrap();
        found[&id].as_f32().unwrap().to_vec()
    };
    let (a, b) = (of(a), of(b));
    let square = |x: f32| f64::from(x) * f64::from(x);
    let apart: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
    apart / b.iter().map(|b| square(*b)).sum::<f64>()
}

#[test]
fn a_teacher_is_followed_inside_too() {
    let folder = tempfile::tempdir().unwrap();
    let teacher_graph = student(1, 12);
    let teacher = folder.path().join("teacher.onnx");
    std::fs::copy(write_model(folder.path(), &teacher_graph), &teacher).unwrap();
    let recipe = FitRecipe {
        model: Some(write_model(folder.path(), &student(2, 12))),
        teacher: Some(teacher),
        teacher_share: 1.0,
        data: Some(write_unlabelled(folder.path(), 600)),
        output: Some(folder.path().join("trained.onnx")),
        epochs: 12,
        batch: 32,
        held_out: 60,
        optimizer: OptimizerName::Adam,
        learning_rate: 5e-3,
        threads: Some(1),
        ..FitRecipe::default()
    };
    let trained = |weight: f32, features: &[&str]| {
        let recipe = FitRecipe {
            feature_weight: weight,
            features: features.iter().map(|f| (*f).to_owned()).collect(),
            ..recipe.clone()
        };
        let report = fit(&recipe, &over(), &Quiet).unwrap().report;
        assert_eq!(training(&report).measure, MeasureName::Agreement);
        let path = folder.path().join("trained.onnx");
        read(&path, &Limits::default()).unwrap()
    };
    let last = "tanh4";
    let plain = distance(&trained(0.0, &[]), &teacher_graph, last);
    let followed = distance(&trained(1.0, &[]), &teacher_graph, last);
    assert!(
        followed < 0.5 * plain && followed < 0.3,
        "{followed} against {plain}"
    );
    for names in [&[last][..], &["tanh*"], &["tanh*", last]] {
        let named = distance(&trained(1.0, names), &teacher_graph, last);
        assert!(named < 0.5 * plain, "{names:?}: {named} against {plain}");
    }

    let missing = FitRecipe {
        feature_weight: 1.0,
        features: vec!["nothing".to_owned()],
        ..recipe.clone()
    };
    let error = fit(&missing, &over(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.hint().unwrap().contains(last), "{error}");
}

#[test]
fn a_narrower_network_follows_the_channels_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let dense = write_model(folder.path(), &student(1, 12));
    let data = write_unlabelled(folder.path(), 600);
    let small = folder.path().join("small.onnx");
    let pruning = Recipe {
        model: Some(dense.clone()),
        data: Some(data.clone()),
        output: Some(small.clone()),
        macs: Some(0.5),
        multiple_of: 1,
        calib: 128,
        tune: Tuning::None,
        threads: Some(1),
        ..Recipe::default()
    };
    shrink(&pruning, &over(), &Quiet).unwrap();
    let recipe = FitRecipe {
        model: Some(small),
        teacher: Some(dense),
        teacher_share: 1.0,
        feature_weight: 1.0,
        features: vec!["tanh2".to_owned()],
        data: Some(data),
        output: Some(folder.path().join("trained.onnx")),
        epochs: 3,
        batch: 32,
        held_out: 60,
        learning_rate: 1e-3,
        threads: Some(1),
        ..FitRecipe::default()
    };
    let report = fit(&recipe, &over(), &Quiet).unwrap().report;
    let losses: Vec<f64> = training(&report).epochs.iter().map(|e| e.loss).collect();
    // The refit left those channels as they were: of other channels they would be far apart.
    assert!(losses[0] < 1e-3, "{losses:?}");

    // Without the plan nobody knows which channels are meant.
    let other = FitRecipe {
        model: Some(write_model(
            tempfile::tempdir_in(folder.path())
                .unwrap()
                .keep()
                .as_path(),
            &student(2, 7),
        )),
        ..recipe
    };
    let error = fit(&other, &over(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

fn labelled(folder: &Path, n: usize) -> PathBuf {
    let mut random = Random(8);
    let pixels = (0..n * SIDE * SIDE).flat_map(|_| random.uniform().to_le_bytes());
    let labels = (0..n as i64).flat_map(|i| (i % 3).to_le_bytes());
    let path = folder.join("labelled.npz");
    npz(
        &path,
        &[
            (
                "x",
                npy("<f4", &[n, 1, SIDE, SIDE], &pixels.collect::<Vec<u8>>()),
            ),
            ("y", npy("<i8", &[n], &labels.collect::<Vec<u8>>())),
        ],
    );
    path
}

fn short(folder: &Path, graph: &Graph) -> FitRecipe {
    FitRecipe {
        model: Some(write_model(folder, graph)),
        data: Some(labelled(folder, 200)),
        output: Some(folder.join("trained.onnx")),
        epochs: 1,
        batch: 32,
        held_out: 20,
        threads: Some(1),
        ..FitRecipe::default()
    }
}

#[test]
fn frozen_weights_stay() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        freeze: vec!["w1".to_owned(), "gemm*".to_owned()],
        ..short(folder.path(), &network(None))
    };
    fit(&recipe, &over(), &Quiet).unwrap();
    let before = network(None);
    let after = read(&folder.path().join("trained.onnx"), &Limits::default()).unwrap();
    let mut same = 0;
    let mut other = 0;
    for (id, value) in before.values() {
        let Some(a) = before.tensor(id).and_then(|t| t.as_f32()) else {
            continue;
        };
        let b = after.find_value(&value.name).and_then(|v| after.tensor(v));
        let b = b.and_then(|t| t.as_f32()).unwrap();
        let of_linear = before
            .consumers(id)
            .iter()
            .any(|n| matches!(before.node(*n).op, Op::Gemm(_)));
        if value.name == "w1" || of_linear {
            assert_eq!(a, b, "`{}`", value.name);
            same += 1;
        } else if a != b {
            other += 1;
        }
    }
    assert!(same > 1 && other > 1, "{same} {other}");

    let whole: [fn(&mut FitRecipe); 2] = [
        |r| r.macs = Some(0.5),
        |r| (r.sparsity, r.method, r.rounds) = (Some(0.5), MethodName::Iterative, 1),
    ];
    for change in whole {
        let mut other = recipe.clone();
        change(&mut other);
        let error = fit(&other, &over(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains("frozen"), "{error}");
    }
    let wrong = FitRecipe {
        freeze: vec!["nothing*".to_owned()],
        ..recipe
    };
    let error = fit(&wrong, &over(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.hint().unwrap().contains("`w1`"), "{error}");
}

/// What is rounded does not move with its weights: those before it cannot train, those behind it can.
#[test]
fn what_no_gradient_reaches_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Net::new(5, None);
    let x = net.conv("x", 1, 8, 3);
    let x = net.node(Op::Unary(UnaryOp::Round), &[&x]);
    let x = net.conv(&x, 8, 8, 3);
    let pooled = net.node(Op::GlobalPool(GlobalPool::Average), &[&x]);
    let flat = net.flatten(&pooled);
    let y = net.linear(&flat, 8, 3);
    let before = net.finish(&y);
    let recipe = short(folder.path(), &before);
    let report = fit(&recipe, &over(), &Quiet).unwrap().report;
    let after = read(&folder.path().join("trained.onnx"), &Limits::default()).unwrap();
    let of = |graph: &Graph, name: &str| {
        let id = graph.find_value(name).unwrap();
        graph.tensor(id).unwrap().as_f32().unwrap().to_vec()
    };
    // No decay either.
    assert_eq!(of(&before, "w1"), of(&after, "w1"));
    assert_ne!(of(&before, "w3"), of(&after, "w3"));
    let told = report.warnings.iter().find(|w| w.contains("`round2`"));
    assert!(
        told.is_some_and(|w| w.contains("`w1`")),
        "{:?}",
        report.warnings
    );
}
