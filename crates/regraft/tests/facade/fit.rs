//! Training: what it reaches, that a stopped run goes on to the same bytes, and what is refused.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use regraft::{
    ErrorKind, FitAugmentName, FitRecipe, MethodName, OptimizerName, Progress, Quiet, RunOptions,
    SoftAllocationName, fit,
};
use regraft_graph::op::{GlobalPool, Normalization};
use regraft_graph::{Graph, Op};

use crate::material::{Net, SIDE, listing, network, write_model};
use crate::recurrent::{npy, npz};

const EPOCHS: usize = 16;

/// Images of three classes: a bright row, a bright column, or neither, in noise.
fn write_images(folder: &Path, n: usize, labels: impl Fn(usize) -> i64) -> PathBuf {
    let mut state = 17u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut pixels = Vec::new();
    for i in 0..n {
        let at = (noise() * SIDE as f32) as usize;
        for y in 0..SIDE {
            for x in 0..SIDE {
                let lit = (i % 3 == 0 && y == at) || (i % 3 == 1 && x == at);
                pixels.push(0.5 * noise() + if lit { 1.0 } else { 0.0 });
            }
        }
    }
    let bytes: Vec<u8> = pixels.iter().flat_map(|x| x.to_le_bytes()).collect();
    let labels: Vec<u8> = (0..n).flat_map(|i| labels(i).to_le_bytes()).collect();
    let path = folder.join("images.npz");
    npz(
        &path,
        &[
            ("x", npy("<f4", &[n, 1, SIDE, SIDE], &bytes)),
            ("y", npy("<i8", &[n], &labels)),
        ],
    );
    path
}

fn recipe(folder: &Path, graph: &Graph) -> FitRecipe {
    FitRecipe {
        model: Some(write_model(folder, graph)),
        data: Some(write_images(folder, 600, |i| i as i64 % 3)),
        output: Some(folder.join("trained.onnx")),
        epochs: EPOCHS,
        batch: 32,
        held_out: 60,
        threads: Some(1),
        ..FitRecipe::default()
    }
}

/// Stops after some epochs: every epoch says a line.
pub(crate) struct StopAfter(Cell<usize>);

impl StopAfter {
    pub(crate) fn new(epochs: usize) -> Self {
        Self(Cell::new(epochs))
    }
}

impl Progress for StopAfter {
    fn stage(&self, _: &str) {}

    fn step(&self, _: usize, _: usize, _: &str) {}

    fn note(&self, text: &str) {
        if text.contains("epoch") && text.contains("loss") {
            self.0.set(self.0.get().saturating_sub(1));
        }
    }

    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

fn read(path: &Path, name: &str) -> Vec<u8> {
    std::fs::read(path.join(name)).unwrap()
}

#[test]
fn a_network_learns_and_loses_connections() {
    let methods = [
        (MethodName::Gradual, SoftAllocationName::Global),
        (MethodName::Surgery, SoftAllocationName::Lamp),
        (MethodName::Rigl, SoftAllocationName::Erk),
        (MethodName::Set, SoftAllocationName::Uniform),
    ];
    for (method, allocation) in methods {
        let folder = tempfile::tempdir().unwrap();
        let recipe = FitRecipe {
            sparsity: Some(0.5),
            method,
            allocation,
            every: 5,
            drop: 0.1,
            average: Some(0.5),
            clip: Some(5.0),
            teacher_share: 0.1,
            label_smoothing: 0.05,
            ..recipe(folder.path(), &network(None))
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let metrics = report.small.metrics.as_ref().unwrap();
        assert!(
            metrics.accuracy.unwrap() > 0.9,
            "{method:?}: {:?}",
            metrics.accuracy
        );
        let weights = report.small.weights.unwrap();
        let share = weights.nonzero as f64 / weights.all as f64;
        // Connections drawn at random may lead to units that are dead, and never move from zero.
        let least = if method == MethodName::Set { 0.4 } else { 0.48 };
        assert!(share > least && share < 0.52, "{method:?}: {weights:?}");
        let training = report.training.unwrap();
        assert_eq!(training.epochs.len(), EPOCHS);
        assert!(
            training.epochs[EPOCHS - 1].loss < training.epochs[0].loss,
            "{method:?}"
        );
        let csv = String::from_utf8(read(folder.path(), "trained.epochs.csv")).unwrap();
        assert_eq!(csv.lines().count(), EPOCHS + 1);
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        sparsity: Some(0.6),
        optimizer: OptimizerName::Adamw,
        learning_rate: 3e-3,
        augment: FitAugmentName::FlipShift,
        shift: 1,
        ..recipe(folder.path(), &network(None))
    };
    fit(&recipe, &RunOptions::default(), &Quiet).unwrap();
    let whole = read(folder.path(), "trained.onnx");
    let again = FitRecipe {
        output: Some(folder.path().join("again.onnx")),
        threads: Some(2),
        ..recipe
    };
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let stopped = fit(&again, &options, &StopAfter::new(2)).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Interrupted);
    assert!(!folder.path().join("again.onnx").exists());
    let report = fit(&again, &options, &Quiet).unwrap().report;
    assert_eq!(report.training.unwrap().epochs.len(), EPOCHS);
    assert!(whole == read(folder.path(), "again.onnx"), "other bytes");
    // Another recipe does not go on from there.
    let other = FitRecipe {
        seed: 1,
        output: Some(folder.path().join("other.onnx")),
        ..again
    };
    assert!(fit(&other, &options, &Quiet).is_err());
}

/// Spoils a recipe.
type Spoil = fn(&mut FitRecipe);

#[test]
fn a_bad_run_is_refused_and_leaves_nothing() {
    let cases: [(Spoil, ErrorKind, &str); 7] = [
        (|r| r.batch = 1000, ErrorKind::Input, "batch of 1000"),
        (
            |r| r.learning_rate = -1.0,
            ErrorKind::Usage,
            "learning_rate",
        ),
        (|r| r.sparsity = Some(1.5), ErrorKind::Usage, "sparsity"),
        (|r| r.warm_up = 2.0, ErrorKind::Usage, "warm_up"),
        (|r| r.average = Some(1.0), ErrorKind::Usage, "average"),
        (|r| r.data = None, ErrorKind::Usage, "data"),
        (|r| r.learning_rate = 1e30, ErrorKind::Model, "diverges"),
    ];
    for (spoil, kind, said) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut recipe = recipe(folder.path(), &network(None));
        spoil(&mut recipe);
        let before = listing(folder.path());
        let error = fit(&recipe, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(listing(folder.path()), before);
    }
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        data: Some(write_images(folder.path(), 300, |i| i as i64 % 4)),
        ..recipe(folder.path(), &network(None))
    };
    write_images(folder.path(), 300, |i| i as i64 % 4);
    let error = fit(&recipe, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("label 3"), "{error}");
    assert!(error.hint().is_some());
}

/// The class that was chosen has no gradient.
#[test]
fn a_choice_at_the_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Net::new(5, None);
    let x = net.conv("x", 1, 8, 3);
    let pooled = net.node(Op::GlobalPool(GlobalPool::Average), &[&x]);
    let flat = net.node(Op::Flatten { axis: 1 }, &[&pooled]);
    let hard = Normalization::Hardmax {
        axis: -1,
        flatten: false,
    };
    let y = net.node(Op::Normalization(hard), &[&flat]);
    let recipe = recipe(folder.path(), &net.finish(&y));
    let error = fit(&recipe, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("no gradient"), "{error}");
    assert!(error.hint().is_some());
}
