//! Training: what it reaches, that a stopped run goes on to the same bytes, and what is refused.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use regraft::{
    ErrorKind, FitAugmentName, FitMixName, FitRecipe, LossName, MethodName, OptimizerName,
    PaceName, Progress, Quiet, RunOptions, SoftAllocationName, fit,
};
use regraft_graph::op::{GlobalPool, Normalization};
use regraft_graph::{Graph, Op};

use crate::material::{Net, SIDE, listing, network, write_model};
use crate::recurrent::{npy, npz};

const EPOCHS: usize = 16;

/// Images of three classes: a bright row, a bright column, or neither, in noise.
pub(crate) fn write_images(folder: &Path, n: usize, labels: impl Fn(usize) -> i64) -> PathBuf {
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

pub(crate) fn recipe(folder: &Path, graph: &Graph) -> FitRecipe {
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

/// The error with what caused it.
fn text(error: &regraft::Error) -> String {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |e| e.source());
    chain
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
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
        (MethodName::Sfp, SoftAllocationName::Global),
        (MethodName::Asfp, SoftAllocationName::Global),
        (MethodName::Str, SoftAllocationName::Global),
        (MethodName::Admm, SoftAllocationName::Global),
        (MethodName::Lottery, SoftAllocationName::Global),
        (MethodName::Greg, SoftAllocationName::Global),
        (MethodName::Iterative, SoftAllocationName::Global),
        (MethodName::Variational, SoftAllocationName::Global),
    ];
    for (method, allocation) in methods {
        let folder = tempfile::tempdir().unwrap();
        let recipe = FitRecipe {
            sparsity: Some(0.5),
            method,
            allocation,
            every: 5,
            drop: 0.1,
            rounds: 2,
            average: Some(0.5),
            clip: Some(5.0),
            teacher_share: 0.1,
            label_smoothing: 0.05,
            ..recipe(folder.path(), &network(None))
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let metrics = report.small.metrics.as_ref().unwrap();
        let accuracy = metrics.accuracy.unwrap();
        // Lottery tickets start again from early weights, with a third of the run for each round.
        let least = if method == MethodName::Lottery {
            0.75
        } else {
            0.9
        };
        assert!(accuracy > least, "{method:?}: accuracy {accuracy}");
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
fn whole_channels_go_while_a_network_learns() {
    let methods = [
        MethodName::Gradual,
        MethodName::Surgery,
        MethodName::Sfp,
        MethodName::Asfp,
        MethodName::Admm,
        MethodName::Lottery,
        MethodName::Greg,
        MethodName::Iterative,
    ];
    for method in methods {
        let folder = tempfile::tempdir().unwrap();
        let recipe = FitRecipe {
            macs: Some(0.5),
            method,
            every: 5,
            rounds: 2,
            teacher_share: 0.1,
            ..recipe(folder.path(), &network(None))
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let share = report.small.macs as f64 / report.dense.macs as f64;
        assert!(share > 0.3 && share <= 0.5, "{method:?}: {share}");
        let accuracy = report.small.metrics.as_ref().unwrap().accuracy.unwrap();
        let least = match method {
            // What soft filters set to zero at once, a rectifier hides from the gradient.
            // Growing decay chooses at once, by the weights of a network that has learned nothing yet.
            MethodName::Sfp | MethodName::Greg => 0.6,
            // A third of the run for each round.
            MethodName::Lottery => 0.75,
            _ => 0.85,
        };
        assert!(accuracy > least, "{method:?}: accuracy {accuracy}");
        let bytes = read(folder.path(), "trained.onnx").len();
        assert_eq!(report.small.bytes, bytes as u64);
        assert!(report.small.bytes < report.dense.bytes, "{method:?}");
    }
}

#[test]
fn mixed_images_and_other_losses_learn_too() {
    let losses = [
        (LossName::CrossEntropy, FitMixName::Mixup, 0.05),
        (LossName::SquaredError, FitMixName::None, 0.05),
        (LossName::Binary, FitMixName::Cutmix, 0.2),
    ];
    for (loss, mix, learning_rate) in losses {
        let folder = tempfile::tempdir().unwrap();
        let recipe = FitRecipe {
            loss,
            mix,
            learning_rate,
            cut_out: 2,
            group_lasso: 1e-4,
            ..recipe(folder.path(), &network(None))
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let accuracy = report.small.metrics.as_ref().unwrap().accuracy.unwrap();
        assert!(accuracy > 0.8, "{loss:?} {mix:?}: accuracy {accuracy}");
    }
}

#[test]
fn an_adaptive_pace_stops_where_accuracy_falls() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        sparsity: Some(0.999),
        pace: Some(PaceName::Adaptive),
        tolerance: 0.1,
        every: 4,
        ..recipe(folder.path(), &network(None))
    };
    let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
    let weights = report.small.weights.unwrap();
    let share = weights.nonzero as f64 / weights.all as f64;
    assert!(share > 0.002 && share < 0.8, "{weights:?}");
    let accuracy = report.small.metrics.as_ref().unwrap().accuracy.unwrap();
    assert!(accuracy > 0.8, "accuracy {accuracy} at {weights:?}");
}

#[test]
fn connections_and_channels_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let both = FitRecipe {
        sparsity: Some(0.5),
        macs: Some(0.5),
        ..recipe(folder.path(), &network(None))
    };
    let error = fit(&both, &RunOptions::default(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{}", text(&error));
    let single = FitRecipe {
        sparsity: None,
        method: MethodName::Rigl,
        ..both
    };
    let error = fit(&single, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(
        text(&error).contains("single connections only"),
        "{}",
        text(&error)
    );
    assert!(!folder.path().join("trained.onnx").exists());
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
        dropout: 0.2,
        average: Some(0.9),
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

/// Without statistics of batches, normalisations are folded and stay so.
#[test]
fn batch_normalisation_is_kept_where_it_trains() {
    let left = |batch_statistics: bool| {
        let folder = tempfile::tempdir().unwrap();
        let recipe = FitRecipe {
            epochs: 2,
            batch_statistics,
            ..recipe(folder.path(), &network(None))
        };
        let report = fit(&recipe, &RunOptions::default(), &Quiet).unwrap().report;
        let again = report.training.unwrap().statistics;
        assert_eq!(again.is_some(), batch_statistics);
        let bytes = read(folder.path(), "trained.onnx");
        let graph = regraft_onnx::read_bytes(&bytes, None, &regraft_onnx::Limits::default());
        let graph = graph.unwrap();
        let norms = graph
            .nodes()
            .filter(|(_, n)| n.op.name() == "BatchNormalization");
        norms.count()
    };
    assert_eq!(left(true), 1);
    assert_eq!(left(false), 0);
}

/// Spoils a recipe.
type Spoil = fn(&mut FitRecipe);

#[test]
fn a_bad_run_is_refused_and_leaves_nothing() {
    let cases: [(Spoil, ErrorKind, &str); 14] = [
        (|r| r.clip = Some(-1.0), ErrorKind::Usage, "clip"),
        (|r| r.epochs = 0, ErrorKind::Usage, "epochs"),
        (|r| r.epochs = usize::MAX, ErrorKind::Usage, "epochs"),
        (
            |r| (r.sparsity, r.method) = (None, MethodName::Surgery),
            ErrorKind::Usage,
            "nothing is to go",
        ),
        (
            |r| r.teacher = Some("nobody.onnx".into()),
            ErrorKind::Usage,
            "nothing is learned",
        ),
        (|r| r.batch = 1000, ErrorKind::Input, "batch of 1000"),
        (
            |r| r.learning_rate = -1.0,
            ErrorKind::Usage,
            "learning_rate",
        ),
        (|r| r.sparsity = Some(1.5), ErrorKind::Usage, "sparsity"),
        (|r| r.warm_up = 2.0, ErrorKind::Usage, "warm_up"),
        (|r| r.average = Some(1.0), ErrorKind::Usage, "average"),
        (|r| r.dropout = 1.0, ErrorKind::Usage, "dropout"),
        (
            |r| r.statistics_momentum = 0.0,
            ErrorKind::Usage,
            "statistics_momentum",
        ),
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

/// A loss may be a number and the run lost all the same; what was good stays to go on from.
#[test]
fn a_run_that_diverges_leaves_its_last_good_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let wild = FitRecipe {
        epochs: 100,
        // A decay that overshoots once the rate is above two.
        learning_rate: 10.0,
        l2: 1.0,
        warm_up: 0.9,
        batch_statistics: false,
        ..recipe(folder.path(), &network(None))
    };
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let error = fit(&wild, &options, &Quiet).unwrap_err();
    assert!(error.to_string().contains("diverges"), "{error}");
    let good = folder.path().join("run/last-good.onnx");
    let hint = error.hint().unwrap();
    assert!(hint.contains("last-good.onnx"), "{hint}");
    let table = std::fs::read_to_string(folder.path().join("run/epochs.csv")).unwrap();
    assert!(table.lines().count() > 1, "{table}");
    let on = FitRecipe {
        model: Some(good),
        output: Some(folder.path().join("on.onnx")),
        epochs: 1,
        learning_rate: 1e-3,
        ..recipe(folder.path(), &network(None))
    };
    fit(&on, &RunOptions::default(), &Quiet).unwrap();
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
    assert!(error.to_string().contains("`hardmax4`"), "{error}");
    assert!(error.hint().is_some());
}

/// Scores that only stay as good are no reason to go on.
#[test]
fn patience_ends_a_run_that_gets_no_better() {
    let folder = tempfile::tempdir().unwrap();
    let still = FitRecipe {
        epochs: 12,
        learning_rate: 1e-9,
        patience: Some(3),
        ..recipe(folder.path(), &network(None))
    };
    let report = fit(&still, &RunOptions::default(), &Quiet).unwrap().report;
    let epochs = report.training.unwrap().epochs.len();
    assert!((4..12).contains(&epochs), "{epochs}");
}
