//! Networks from nothing: every architecture opens, runs and learns; the same seed gives the same
//! bytes; what makes no network is refused with the place.

use std::path::{Path, PathBuf};

use regraft::{
    Design, ErrorKind, FitRecipe, LayerFile, MethodName, NamedOptions, OptimizerName, Quiet,
    Recipe, RunOptions, Tuning, fit, inspect, new, shrink,
};
use regraft_exec::{ExecOptions, Executor, HostTensor, LossKind, LossTerm};
use regraft_onnx::{Limits, read};

use crate::material::{Random, listing};
use crate::recurrent::{npy, npz};

const CLASSES: usize = 3;

/// A network of every kind of layer for images.
const IMAGES: &str = r#"
input = [1, 8, 8]
layer = [
  { kind = "conv", out = 8, kernel = 3, padding = 1 },
  { kind = "batch-norm" },
  { kind = "silu" },
  { kind = "residual", layers = [
    { kind = "conv", out = 8, kernel = 3, padding = 1, groups = 2, bias = true },
    { kind = "gelu" },
    { kind = "conv", out = 12, kernel = 3, stride = 2, padding = 1 },
    { kind = "batch-norm" },
  ] },
  { kind = "relu" },
  { kind = "avg-pool", kernel = 3, stride = 1, padding = 1 },
  { kind = "max-pool", kernel = 2 },
  { kind = "flatten" },
  { kind = "residual", layers = [{ kind = "linear", out = 16 }, { kind = "tanh" }] },
  { kind = "batch-norm" },
  { kind = "sigmoid" },
  { kind = "linear", out = 3 },
]
"#;

/// A network of every kind of layer for sequences.
const SEQUENCES: &str = r#"
input = [6, 5]

[[layer]]
kind = "residual"
layers = [{ kind = "layer-norm" }, { kind = "linear", out = 8, bias = false }]

[[layer]]
kind = "positions"

[[layer]]
kind = "attention"
heads = 2

[[layer]]
kind = "gru"
hidden = 6
last = false
bidirectional = true

[[layer]]
kind = "lstm"
hidden = 7
last = false

[[layer]]
kind = "relu"

[[layer]]
kind = "lstm"
hidden = 4
bidirectional = true

[[layer]]
kind = "linear"
out = 3
"#;

fn named(name: &str, change: impl FnOnce(&mut NamedOptions)) -> Design {
    let mut options = NamedOptions {
        classes: Some(CLASSES),
        ..NamedOptions::default()
    };
    change(&mut options);
    Design::Named {
        name: name.to_owned(),
        options,
    }
}

fn file(text: &str) -> Design {
    Design::Layers(LayerFile::from_toml(text).unwrap())
}

/// Every architecture in a small form, with the extents of its samples.
fn designs() -> Vec<(&'static str, Design, Vec<usize>)> {
    let image = |o: &mut NamedOptions| o.input = Some(vec![1, 16, 16]);
    let steps = |o: &mut NamedOptions| {
        o.input = Some(vec![6, 5]);
        o.hidden = Some(16);
        o.layers = Some(2);
    };
    let small = |o: &mut NamedOptions| {
        o.input = Some(vec![1, 8, 8]);
        o.widths = Some(vec![16, 8]);
    };
    vec![
        ("lenet5", named("lenet5", image), vec![1, 16, 16]),
        ("mlp", named("mlp", small), vec![1, 8, 8]),
        (
            "resnet8",
            named("resnet8", |o| o.input = Some(vec![1, 8, 8])),
            vec![1, 8, 8],
        ),
        ("gru", named("gru", steps), vec![6, 5]),
        ("lstm", named("lstm", steps), vec![6, 5]),
        ("transformer", named("transformer-tiny", steps), vec![6, 5]),
        (
            "patches",
            named("transformer-tiny", |o| o.input = Some(vec![1, 8, 8])),
            vec![1, 8, 8],
        ),
        ("images", file(IMAGES), vec![1, 8, 8]),
        ("sequences", file(SEQUENCES), vec![6, 5]),
    ]
}

fn make(design: &Design, seed: u64, path: &Path) {
    new(design, seed, path, &RunOptions::default()).unwrap();
}

/// Noise with a third of the sample lifted: first, middle or last, each more than the one before.
fn write_samples(folder: &Path, n: usize, sample: &[usize]) -> PathBuf {
    let mut random = Random(3);
    let len: usize = sample.iter().product();
    let mut values = Vec::new();
    for i in 0..n {
        let lit = i % CLASSES * len / CLASSES..(i % CLASSES + 1) * len / CLASSES;
        for at in 0..len {
            let level = 0.8 * (i % CLASSES + 1) as f32;
            values.push(0.5 * random.uniform() + if lit.contains(&at) { level } else { 0.0 });
        }
    }
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let labels: Vec<u8> = (0..n)
        .flat_map(|i| ((i % CLASSES) as i64).to_le_bytes())
        .collect();
    let path = folder.join("samples.npz");
    let shape = [&[n], sample].concat();
    npz(
        &path,
        &[
            ("x", npy("<f4", &shape, &bytes)),
            ("y", npy("<i8", &[n], &labels)),
        ],
    );
    path
}

#[test]
fn every_architecture_opens_and_learns() {
    for (name, design, sample) in designs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let made = new(&design, 1, &path, &RunOptions::default()).unwrap();
        assert!(made.macs > 0, "{name}");
        assert_eq!((made.classes, &made.input), (CLASSES, &sample), "{name}");
        let looked = Recipe {
            model: Some(path.clone()),
            ..Recipe::default()
        };
        let found = inspect(&looked, &Quiet).unwrap();
        assert!(found.opaque.is_empty(), "{name}");
        assert!(!found.groups.is_empty(), "{name}: nothing can be pruned");
        let recipe = FitRecipe {
            model: Some(path),
            data: Some(write_samples(folder.path(), 240, &sample)),
            output: Some(folder.path().join("trained.onnx")),
            epochs: 10,
            batch: 16,
            held_out: 30,
            optimizer: OptimizerName::Adamw,
            learning_rate: 4e-3,
            threads: Some(1),
            ..FitRecipe::default()
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let epochs = report.training.unwrap().epochs;
        let (first, last) = (epochs[0].loss, epochs[epochs.len() - 1].loss);
        assert!(last < 0.7 * first, "{name}: {first} to {last}");
        let accuracy = report.small.metrics.unwrap().accuracy.unwrap();
        assert!(accuracy > 0.8, "{name}: {accuracy}");
    }
}

/// Weights of cells are drawn, those of layers make noisy sums; both lose what is noise.
#[test]
fn weights_of_cells_take_part_in_variational_dropout() {
    for (name, design, sample) in designs() {
        if !["gru", "lstm", "sequences"].contains(&name) {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        make(&design, 1, &path);
        let recipe = FitRecipe {
            model: Some(path),
            data: Some(write_samples(folder.path(), 480, &sample)),
            output: Some(folder.path().join("trained.onnx")),
            sparsity: Some(0.6),
            method: MethodName::Variational,
            epochs: 20,
            batch: 16,
            every: 25,
            held_out: 48,
            optimizer: OptimizerName::Adamw,
            learning_rate: 4e-3,
            clip: Some(1.0),
            threads: Some(1),
            ..FitRecipe::default()
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let weights = report.small.weights.unwrap();
        let share = weights.nonzero as f64 / weights.all as f64;
        assert!(share < 0.41, "{name}: {weights:?}");
        let accuracy = report.small.metrics.unwrap().accuracy.unwrap();
        assert!(accuracy > 0.8, "{name}: {accuracy}");
    }
}

#[test]
fn a_gradient_reaches_every_weight() {
    for (name, design, sample) in designs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        make(&design, 1, &path);
        let graph = read(&path, &Limits::default()).unwrap();
        let trained = regraft_train::trained(&graph);
        let ids: Vec<_> = trained.iter().map(|t| t.id).collect();
        let mut random = Random(5);
        let shape = [&[4], &sample[..]].concat();
        let values = (0..shape.iter().product()).map(|_| random.uniform());
        let input = HostTensor::f32(shape, values.collect());
        let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
        let term = LossTerm {
            value: graph.outputs()[0],
            kind: LossKind::CrossEntropy {
                labels: vec![0, 1, 2, 0],
            },
            weight: 1.0,
        };
        let feeds = [(graph.required_inputs()[0], input)];
        let found = executor.gradients(&feeds, &[term], &ids).unwrap();
        assert!(
            found.loss.is_finite() && found.loss < 10.0,
            "{name}: {}",
            found.loss
        );
        for parameter in &trained {
            let gradient = found.gradients[&parameter.id].as_f32().unwrap();
            assert!(
                gradient.iter().all(|g| g.is_finite()),
                "{name}: {}",
                parameter.name
            );
        }
        let dead: Vec<&str> = trained
            .iter()
            .filter(|t| {
                found.gradients[&t.id]
                    .as_f32()
                    .unwrap()
                    .iter()
                    .all(|g| *g == 0.0)
            })
            .map(|t| t.name.as_str())
            .collect();
        // Behind a scale that starts at zero nothing moves in the first step.
        let expected = |name: &&str| name.starts_with("conv") || name.starts_with("norm");
        let blocks = matches!(name, "resnet8" | "images");
        assert!(
            dead.iter().all(|d| blocks && expected(d)),
            "{name}: {dead:?}"
        );
    }
}

#[test]
fn a_seed_gives_the_bytes() {
    for (name, design, _) in designs() {
        let folder = tempfile::tempdir().unwrap();
        let made = |file: &str, seed| {
            let path = folder.path().join(file);
            make(&design, seed, &path);
            std::fs::read(path).unwrap()
        };
        let first = made("a.onnx", 5);
        assert!(first == made("b.onnx", 5), "{name}: other bytes");
        assert!(first != made("c.onnx", 6), "{name}: the seed does nothing");
    }
}

#[test]
fn the_batch_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    for (name, design, sample) in designs() {
        let options = RunOptions {
            force: true,
            ..RunOptions::default()
        };
        new(&design, 0, &path, &options).unwrap();
        let graph = read(&path, &Limits::default()).unwrap();
        let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
        for batch in [1, 3] {
            let shape = [&[batch], &sample[..]].concat();
            let n = shape.iter().product();
            let input = HostTensor::f32(shape, vec![0.5; n]);
            let out = executor
                .run(&[(graph.required_inputs()[0], input)])
                .unwrap();
            assert_eq!(out[0].shape, [batch, CLASSES], "{name}");
        }
    }
}

#[test]
fn what_makes_no_network_is_refused_with_the_place() {
    let with = |layers: &str| format!("input = [1, 8, 8]\nlayer = [{layers}]");
    let cases = [
        (String::new(), "cannot be read"),
        ("input = [1]\nlayers = []".to_owned(), "cannot be read"),
        ("input = [-1]".to_owned(), "cannot be read"),
        (with(""), "ends with samples of shape 1x8x8"),
        (with("{ out = 3 }"), "layer 1 (`?`)"),
        (with("{ kind = 'blur' }"), "layer 1 (`blur`)"),
        (with("{ kind = 'relu', slope = 1 }"), "layer 1 (`relu`)"),
        (
            with("{ kind = 'flatten' }, { kind = 'linear', out = 3, biass = true }"),
            "layer 2 (`linear`)",
        ),
        (
            with("{ kind = 'dropout', share = 0.5 }"),
            "layer 1 (`dropout`)",
        ),
        (
            with("{ kind = 'conv', out = 4, kernel = -3 }"),
            "layer 1 (`conv`)",
        ),
        (
            with("{ kind = 'conv', out = 4, kernel = 3 }, { kind = 'conv', out = 4, kernel = 7 }"),
            "layer 2 (`conv`) cannot be put behind samples of shape 4x6x6",
        ),
        (
            with(
                "{ kind = 'residual', layers = [{ kind = 'relu' }, { kind = 'gru', hidden = 2 }] }",
            ),
            "layer 1.2 (`gru`)",
        ),
        (
            with("{ kind = 'flatten' }, { kind = 'linear', out = 9000000000000 }"),
            "layer 2 (`linear`)",
        ),
        (
            with(&format!(
                "{}{{ kind = 'relu' }}{}",
                "{ kind = 'residual', layers = [".repeat(12),
                "] }".repeat(12)
            )),
            "deep",
        ),
    ];
    for (text, said) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let run = |file: &LayerFile| {
            let design = Design::Layers(file.clone());
            new(&design, 0, &path, &RunOptions::default())
        };
        let error = LayerFile::from_toml(&text)
            .and_then(|f| run(&f))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(said), "{text}: {error}");
        assert!(error.hint().is_some(), "{error}");
        assert!(listing(folder.path()).is_empty());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    make(&named("mlp", |_| ()), 0, &path);
    let before = listing(folder.path());
    let error = new(&named("mlp", |_| ()), 1, &path, &RunOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(listing(folder.path()), before);
}

/// The classifier reads the last state alone: the cell is refitted all the same, and the file written has
/// no output that the given one has not.
#[test]
fn cells_of_which_the_last_state_is_read_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let options = |o: &mut NamedOptions| {
        o.input = Some(vec![6, 5]);
        o.hidden = Some(16);
    };
    make(&named("gru", options), 1, &path);
    let recipe = Recipe {
        model: Some(path.clone()),
        data: Some(write_samples(folder.path(), 240, &[6, 5])),
        macs: Some(0.6),
        multiple_of: 1,
        tune: Tuning::None,
        output: Some(folder.path().join("small.onnx")),
        ..Recipe::default()
    };
    let report = shrink(&recipe, &RunOptions::default(), &Quiet)
        .unwrap()
        .report;
    assert!(
        report.layers.iter().any(|l| l.op == "GRU"),
        "{:?}",
        report.layers
    );
    let states = |path: &Path| {
        let graph = read(path, &Limits::default()).unwrap();
        let mut cells = graph.nodes().filter(|(_, n)| n.op.name() == "GRU");
        let cell = cells.next().unwrap().1.clone();
        (cell.output(0).is_some(), cell.output(1).is_some())
    };
    assert_eq!(states(&path), (false, true));
    assert_eq!(states(&folder.path().join("small.onnx")), (false, true));
}
