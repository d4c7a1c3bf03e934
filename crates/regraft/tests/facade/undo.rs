//! Edits in a run directory: going on after a stop, and back before an edit; channels told by the plan.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use regraft::{
    DeepenStep, ErrorKind, LowRankStep, Outcome, Progress, Quiet, Recipe, ReconnectStep,
    ReshapeStep, RunOptions, ShareStep, Tuning, WidenStep, reshape, shrink, undo,
};

use crate::material::{difference, listing, network, outputs, recipe, write_data, write_model};

fn steps() -> Vec<ReshapeStep> {
    let widen = WidenStep {
        factor: Some(1.5),
        ..WidenStep::default()
    };
    let thin = LowRankStep {
        bytes: Some(0.4),
        ..LowRankStep::default()
    };
    let share = ShareStep {
        bits: Some(4),
        ..ShareStep::default()
    };
    vec![
        ReshapeStep::Widen(widen),
        ReshapeStep::LowRank(thin),
        ReshapeStep::Share(share),
    ]
}

fn given(folder: &Path) -> (PathBuf, Recipe) {
    let model = write_model(folder, &network(None));
    let data = write_data(folder, 240);
    let recipe = Recipe {
        model: None,
        macs: None,
        tune: Tuning::None,
        reshape: steps(),
        output: Some(folder.join("edited.onnx")),
        ..recipe(folder, PathBuf::new(), data)
    };
    (model, recipe)
}

fn options(folder: &Path, name: &str) -> RunOptions {
    RunOptions {
        run_dir: Some(folder.join(name)),
        force: true,
        ..RunOptions::default()
    }
}

/// Stops when a stage begins.
struct StopAt<'a> {
    stage: &'a str,
    reached: Cell<bool>,
}

impl Progress for StopAt<'_> {
    fn stage(&self, name: &str) {
        if name == self.stage {
            self.reached.set(true);
        }
    }

    fn step(&self, _: usize, _: usize, _: &str) {}

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        self.reached.get()
    }
}

fn bytes(outcome: &Outcome) -> Vec<u8> {
    std::fs::read(&outcome.files.model).unwrap()
}

#[test]
fn a_stopped_run_of_edits_goes_on_and_ends_with_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let (model, recipe) = given(folder.path());
    let whole = reshape(&model, &recipe, &options(folder.path(), "whole"), &Quiet).unwrap();
    let wanted = bytes(&whole);
    for stage in ["low-rank", "rebuild", "share"] {
        let options = options(folder.path(), stage);
        let stop = StopAt {
            stage,
            reached: Cell::new(false),
        };
        let error = reshape(&model, &recipe, &options, &stop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{stage}");
        let found = reshape(&model, &recipe, &options, &Quiet).unwrap();
        assert!(bytes(&found) == wanted, "stopped at {stage}");
        assert_eq!(found.report.reshape, whole.report.reshape, "{stage}");
    }
}

#[test]
fn every_edit_can_be_undone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, recipe) = given(folder.path());
    let options = options(folder.path(), "run");
    let run_dir = options.run_dir.clone().unwrap();
    let edited = reshape(&model, &recipe, &options, &Quiet).unwrap();
    let back = |step: Option<usize>, name: &str| {
        let path = folder.path().join(name);
        let found = undo(&run_dir, step, &path, &RunOptions::default()).unwrap();
        assert_eq!(found.steps, 3);
        (found, path)
    };
    let (first, path) = back(Some(1), "first.onnx");
    assert_eq!(first.edit, "widen");
    assert!(difference(&outputs(&model, 16), &outputs(&path, 16)) < 1e-6);
    let (second, path) = back(Some(2), "second.onnx");
    assert_eq!(second.edit, "low-rank");
    assert!(second.params > first.params, "it was widened");
    assert!(difference(&outputs(&model, 16), &outputs(&path, 16)) < 1e-5);
    let (last, path) = back(None, "last.onnx");
    assert_eq!((last.step, last.edit.as_str()), (3, "share"));
    let moved = difference(&outputs(&edited.files.model, 16), &outputs(&path, 16));
    assert!(moved > 1e-6, "codebooks move the output");
    let text = last.to_terminal();
    assert!(text.contains("before step 3 of 3, share"), "{text}");
    // What cannot be undone leaves nothing.
    let before = listing(folder.path());
    let other = folder.path().join("other.onnx");
    let usual = RunOptions::default();
    for (dir, step) in [(&run_dir, Some(4)), (&run_dir, Some(0))] {
        let error = undo(dir, step, &other, &usual).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    assert!(undo(folder.path(), None, &other, &usual).is_err());
    assert!(undo(&run_dir, None, &path, &usual).is_err(), "exists");
    assert_eq!(before, listing(folder.path()));
}

#[test]
fn budgets_in_bytes_leave_zeros_that_the_rebuild_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (model, recipe) = given(folder.path());
    let recipe = Recipe {
        reshape: vec![ReshapeStep::LowRank(LowRankStep {
            bytes: Some(0.3),
            ..LowRankStep::default()
        })],
        tune: Tuning::Blocks,
        joint_epochs: Some(2),
        ..recipe
    };
    let found = reshape(&model, &recipe, &RunOptions::default(), &Quiet).unwrap();
    let packed = found.report.reshape[0].packed.unwrap();
    assert!(packed.after as f64 <= 0.3 * packed.before as f64);
    let graph = regraft_onnx::read(&found.files.model, &regraft_onnx::Limits::default()).unwrap();
    let written = regraft_graph::cost::packed_size(&graph);
    // Biases that layers had none of before are all that may come.
    assert!(
        written <= packed.after + 4 * 64,
        "{written} of {}",
        packed.after
    );
    let (a, b) = (outputs(&model, 16), outputs(&found.files.model, 16));
    assert!(difference(&a, &b).is_finite());
    let text = found.report.to_markdown();
    assert!(text.contains("with zeros packed"), "{text}");
}

/// The recipe that prunes half of the multiply-accumulates, without edits.
fn halved(folder: &Path, model: &Path, base: &Recipe) -> Recipe {
    Recipe {
        model: Some(model.to_owned()),
        macs: Some(0.5),
        multiple_of: 1,
        reshape: Vec::new(),
        output: Some(folder.join("pruned.onnx")),
        ..base.clone()
    }
}

/// What the metadata of a file say of a key.
fn entry(path: &Path, key: &str) -> Option<String> {
    let graph = regraft_onnx::read(path, &regraft_onnx::Limits::default()).unwrap();
    let mut entries = graph.header().metadata.clone().into_iter();
    entries.find(|(k, _)| k == key).map(|(_, text)| text)
}

#[test]
fn a_network_that_shrink_rebuilt_says_which_channels_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (model, base) = given(folder.path());
    let pruned = halved(folder.path(), &model, &base);
    let small = shrink(&pruned, &RunOptions::default(), &Quiet).unwrap();
    let back = Recipe {
        model: Some(model),
        reshape: vec![ReshapeStep::Reconnect(ReconnectStep::default())],
        ..base
    };
    let found = reshape(&small.files.model, &back, &RunOptions::default(), &Quiet).unwrap();
    assert_eq!(found.report.small.macs, found.report.dense.macs);
    assert!(
        found
            .report
            .warnings
            .iter()
            .all(|w| !w.contains("cannot be told"))
    );
    // Pruned again, it has a plan of its own that speaks of the network before.
    let again = Recipe {
        model: Some(small.files.model.clone()),
        macs: Some(0.8),
        output: Some(folder.path().join("again.onnx")),
        ..pruned
    };
    let twice = shrink(&again, &RunOptions::default(), &Quiet).unwrap();
    let plan = |path: &Path| entry(path, "regraft.plan").unwrap();
    assert_ne!(plan(&small.files.model), plan(&twice.files.model));
    assert_eq!(
        entry(&found.files.model, "regraft.budget").unwrap(),
        "reshaped: reconnect"
    );
    // The channels are others now: the plan is no longer true and gone.
    let graph = regraft_onnx::read(&found.files.model, &regraft_onnx::Limits::default()).unwrap();
    assert!(
        graph
            .header()
            .metadata
            .iter()
            .all(|(k, _)| k != "regraft.plan")
    );
}

/// Edits that leave the outputs of layers alone leave what is known of the channels too; those that came
/// first are not lost by a reconnect.
#[test]
fn channels_are_known_behind_edits_and_edits_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (model, base) = given(folder.path());
    let pruned = halved(folder.path(), &model, &base);
    let small = shrink(&pruned, &RunOptions::default(), &Quiet).unwrap();
    let deeper = Recipe {
        model: None,
        reshape: vec![ReshapeStep::Deepen(DeepenStep::default())],
        output: Some(folder.path().join("deeper.onnx")),
        ..base.clone()
    };
    let deeper = reshape(&small.files.model, &deeper, &RunOptions::default(), &Quiet).unwrap();
    let plan = |path: &Path| entry(path, "regraft.plan");
    assert!(plan(&small.files.model).is_some());
    assert_eq!(plan(&small.files.model), plan(&deeper.files.model));
    let back = Recipe {
        model: Some(model),
        reshape: vec![ReshapeStep::Reconnect(ReconnectStep::default())],
        output: Some(folder.path().join("back.onnx")),
        ..base
    };
    let before = listing(folder.path());
    let error = reshape(&deeper.files.model, &back, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("would be lost"), "{error}");
    assert_eq!(listing(folder.path()), before);
}
