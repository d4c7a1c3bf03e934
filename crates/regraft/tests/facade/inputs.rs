//! `plan` and `apply` on networks with any inputs: nothing but the network is given.

use std::path::{Path, PathBuf};

use regraft::{
    Applied, ApplyOptions, ErrorKind, PlanFile, Quiet, Recipe, RunOptions, ScoreName, apply, plan,
    shrink,
};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{BinaryOp, UnaryOp};
use regraft_graph::{DType, Dim, Graph, Op, Tensor};
use regraft_onnx::{Limits, read};

use crate::material::{Net, SIDE, listing, network, write_data, write_model};
use crate::recurrent::{npy, npz};

/// Arrays for [`tokens`], written by inputs.py.
const ARRAYS: &[u8] = include_bytes!("inputs.npz");

/// Words of the embedding.
const WORDS: usize = 20;

/// A network of words: numbers of words, a mask of truth values and floats beside them.
fn tokens() -> Graph {
    let mut net = Net::without_input(3);
    let (batch, length) = (Dim::symbol("batch"), Dim::symbol("length"));
    net.declare("ids", DType::I64, &[batch.clone(), length.clone()]);
    net.declare("mask", DType::Bool, &[batch.clone(), length]);
    net.declare("extra", DType::F32, &[batch, Dim::Fixed(8)]);
    net.weight("words", &[WORDS, 8]);
    let words = net.node(Op::Gather { axis: 0 }, &["words", "ids"]);
    let mask = net.node(Op::Cast { to: DType::F32 }, &["mask"]);
    net.b.tensor("last", Tensor::i64_list(vec![2])).unwrap();
    let mask = net.node(Op::Unsqueeze { axes: None }, &[&mask, "last"]);
    let words = net.node(Op::Binary(BinaryOp::Mul), &[&words, &mask]);
    net.weight("up", &[8, 16]);
    net.weight("down", &[16, 8]);
    let hidden = net.node(Op::MatMul, &[&words, "up"]);
    let hidden = net.relu(&hidden);
    let words = net.node(Op::MatMul, &[&hidden, "down"]);
    net.b.tensor("middle", Tensor::i64_list(vec![1])).unwrap();
    let extra = net.node(Op::Unsqueeze { axes: None }, &["extra", "middle"]);
    let sum = net.add(&words, &extra);
    net.finish(&sum)
}

struct Case {
    folder: tempfile::TempDir,
    recipe: Recipe,
}

impl Case {
    fn new(graph: &Graph) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = write_model(folder.path(), graph);
        let recipe = Recipe {
            model: Some(model),
            output: Some(folder.path().join("pruned.onnx")),
            macs: Some(0.6),
            score: ScoreName::L2,
            multiple_of: 1,
            threads: Some(1),
            ..Recipe::default()
        };
        Self { folder, recipe }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plan(&self) -> PlanFile {
        let recipe = Recipe {
            output: None,
            ..self.recipe.clone()
        };
        plan(&recipe, &RunOptions::default(), &Quiet).unwrap()
    }

    fn apply(&self, wanted: &ApplyOptions) -> Result<Applied, regraft::Error> {
        self.apply_with(wanted, &RunOptions::default())
    }

    fn apply_with(
        &self,
        wanted: &ApplyOptions,
        options: &RunOptions,
    ) -> Result<Applied, regraft::Error> {
        apply(&self.recipe, &self.plan(), wanted, options, &Quiet)
    }
}

/// Runs a file on one sentence of three words.
fn run_tokens(path: &Path) -> Vec<f32> {
    let graph = read(path, &Limits::default()).unwrap();
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let tensors = [
        HostTensor::i64([1, 3], vec![4, 0, 19]),
        HostTensor::bool([1, 3], vec![true, true, false]),
        HostTensor::f32([1, 8], (0..8).map(|i| i as f32).collect()),
    ];
    let feeds: Vec<_> = graph.required_inputs().into_iter().zip(tensors).collect();
    executor.run(&feeds).unwrap()[0].as_f32().unwrap().to_vec()
}

#[test]
fn inputs_of_every_kind_are_made_up() {
    let case = Case::new(&tokens());
    let applied = case.apply(&ApplyOptions::default()).unwrap();
    assert!(applied.small.macs < applied.dense.macs);
    assert!(applied.verify.passed(), "{:?}", applied.verify);
    assert!(applied.verify.random_samples > 0);
    assert_eq!(applied.verify.runtime, None);
    assert_eq!(applied.masked, None);
}

#[test]
fn given_arrays_are_used_and_the_masked_network_is_written() {
    let case = Case::new(&tokens());
    std::fs::write(case.path("inputs.npz"), ARRAYS).unwrap();
    let wanted = ApplyOptions {
        inputs: Some(case.path("inputs.npz")),
        masked: Some(case.path("masked.onnx")),
    };
    let applied = case.apply(&wanted).unwrap();
    assert_eq!(
        (
            applied.verify.random_samples,
            applied.verify.calibration_samples
        ),
        (0, 3)
    );
    let (masked, pruned) = (
        run_tokens(&case.path("masked.onnx")),
        run_tokens(&case.path("pruned.onnx")),
    );
    let dense = run_tokens(&case.path("model.onnx"));
    let far = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b);
        pairs.fold(0.0f32, |m, (x, y)| m.max((x - y).abs()))
    };
    assert!(far(&masked, &pruned) < 1e-5);
    assert!(far(&dense, &pruned) > 1e-3, "nothing was removed");
    let size = |name: &str| std::fs::metadata(case.path(name)).unwrap().len();
    assert!(size("pruned.onnx") < size("masked.onnx"));
}

#[test]
fn arrays_that_do_not_fit_are_refused_and_leave_nothing() {
    // An archive for other inputs, and files that must not be written over.
    let case = Case::new(&network(None));
    std::fs::write(case.path("inputs.npz"), ARRAYS).unwrap();
    std::fs::write(case.path("no.npz"), b"PK\x03\x04 nothing").unwrap();
    let before = listing(case.folder.path());
    let given = |name: &str| ApplyOptions {
        inputs: Some(case.path(name)),
        masked: None,
    };
    let masked = |name: &str| ApplyOptions {
        inputs: None,
        masked: Some(case.path(name)),
    };
    let cases = [
        (
            given("inputs.npz"),
            ErrorKind::Input,
            "no array for input `x`",
        ),
        (given("no.npz"), ErrorKind::Input, "no.npz"),
        (given("absent.npz"), ErrorKind::Io, "absent.npz"),
        (masked("model.onnx"), ErrorKind::Io, "model.onnx"),
        (masked("pruned.onnx"), ErrorKind::Usage, "same file"),
    ];
    for (wanted, kind, says) in cases {
        let error = case.apply(&wanted).unwrap_err();
        assert_eq!(error.kind(), kind, "{says}: {error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(listing(case.folder.path()) == before, "{says}");
    }
}

/// A network with an operator that is not run here.
fn unknown_operator() -> Graph {
    let mut net = Net::new(4, Some(2));
    let a = net.conv("x", 1, 8, 3);
    let a = net.relu(&a);
    let a = net.conv(&a, 8, 3, 3);
    let opaque = Op::Opaque {
        domain: "example".to_owned(),
        op_type: "Wobble".to_owned(),
        reason: "nobody knows it".to_owned(),
    };
    let y = net.node(opaque, &[&a]);
    net.finish(&y)
}

#[test]
fn what_no_runtime_runs_is_not_written() {
    let case = Case::new(&unknown_operator());
    let plan = case.plan();
    let before = listing(case.folder.path());
    let missing = RunOptions {
        onnxruntime: Some(case.path("libonnxruntime.so")),
        ..RunOptions::default()
    };
    let wanted = ApplyOptions::default();
    let error = apply(&case.recipe, &plan, &wanted, &missing, &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    // Whatever is installed, no runtime knows this operator.
    let error = apply(&case.recipe, &plan, &wanted, &RunOptions::default(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    assert!(error.to_string().contains("Wobble"), "{error}");
    assert!(error.hint().unwrap().contains("--onnxruntime"));
    assert!(listing(case.folder.path()) == before);
}

#[test]
fn a_plan_without_data_is_of_the_weights() {
    let case = Case::new(&network(None));
    let with = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe {
            output: None,
            ..case.recipe.clone()
        };
        change(&mut recipe);
        plan(&recipe, &RunOptions::default(), &Quiet)
    };
    let keeps = with(|_| ()).unwrap().keeps.unwrap();
    assert!(keeps.macs <= 0.6 && keeps.macs > 0.3, "{keeps:?}");
    let error = with(|r| r.score = ScoreName::Obs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint().unwrap().contains("--score l2"), "{error}");
    let error = with(|r| (r.macs, r.latency) = (None, Some(0.5))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    // What cannot be reached names what can.
    let error = with(|r| r.macs = Some(0.001)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    let hint = error.hint().unwrap();
    let share = hint.split("--macs ").nth(1).unwrap();
    let share: f64 = share.split(',').next().unwrap().parse().unwrap();
    let again = Recipe {
        output: None,
        macs: Some(share),
        ..case.recipe.clone()
    };
    let keeps = plan(&again, &RunOptions::default(), &Quiet).unwrap().keeps;
    assert!(keeps.unwrap().macs <= share);
}

#[test]
fn data_and_inputs_together_are_refused() {
    let mut case = Case::new(&network(None));
    let plan = case.plan();
    case.recipe.data = Some(write_data(case.folder.path(), 96));
    let wanted = ApplyOptions {
        inputs: Some(case.path("inputs.npz")),
        masked: None,
    };
    let error = apply(&case.recipe, &plan, &wanted, &RunOptions::default(), &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!(SIDE, 8);
}

#[test]
fn every_output_is_compared() {
    // The second output reads the channels before the activation.
    let mut net = Net::new(6, None);
    let a = net.conv("x", 1, 8, 3);
    let b = net.node(Op::Unary(UnaryOp::Relu), &[&a]);
    let c = net.conv(&b, 8, 2, 3);
    let d = net.conv(&b, 8, 3, 3);
    net.b.output(&d);
    let case = Case::new(&net.finish(&c));
    let applied = case.apply(&ApplyOptions::default()).unwrap();
    assert!(applied.small.params < applied.dense.params);
    assert!(applied.verify.passed());
}

/// Arrays for [`tokens`]: `n` sentences of three words, some left out.
fn sentences(n: usize) -> Vec<(&'static str, Vec<u8>)> {
    let ids = (0..3 * n).flat_map(|i| ((i * 7 % WORDS) as i64).to_le_bytes());
    let mask = (0..3 * n).map(|i| u8::from(i % 3 == 0 || i % 7 != 0));
    let extra = (0..8 * n).flat_map(|i| ((i as f32 * 0.37).sin()).to_le_bytes());
    vec![
        ("ids", npy("<i8", &[n, 3], &ids.collect::<Vec<u8>>())),
        ("mask", npy("|b1", &[n, 3], &mask.collect::<Vec<u8>>())),
        ("extra", npy("<f4", &[n, 8], &extra.collect::<Vec<u8>>())),
    ]
}

/// A network of words is shrunk like any other, from arrays by input name.
#[test]
fn every_input_is_fed_by_name() {
    let case = Case::new(&tokens());
    npz(&case.path("words.npz"), &sentences(300));
    let recipe = Recipe {
        data: Some(case.path("words.npz")),
        output: Some(case.path("small.onnx")),
        macs: Some(0.6),
        multiple_of: 1,
        calib: 128,
        epochs: 1,
        joint_epochs: Some(2),
        ..case.recipe.clone()
    };
    let run = || {
        shrink(&recipe, &RunOptions::default(), &Quiet)
            .unwrap()
            .report
    };
    let report = run();
    assert!(report.verify.as_ref().unwrap().passed());
    assert!(report.small.macs * 10 <= report.dense.macs * 6);
    assert_eq!(report.data.as_ref().unwrap().evaluation, 172);
    let first = std::fs::read(case.path("small.onnx")).unwrap();
    assert_eq!(run_tokens(&case.path("small.onnx")).len(), 3 * 8);
    let again = RunOptions {
        force: true,
        ..RunOptions::default()
    };
    shrink(&recipe, &again, &Quiet).unwrap();
    assert!(std::fs::read(case.path("small.onnx")).unwrap() == first);
}

/// Spoils the arrays of a network of words.
type SpoilArrays = fn(&mut Vec<(&'static str, Vec<u8>)>);

#[test]
fn arrays_that_do_not_feed_every_input_are_refused() {
    let case = Case::new(&tokens());
    let cases: [(SpoilArrays, &str); 5] = [
        (|a| a.truncate(2), "no array for input `extra`"),
        (|a| a[0].1 = npy("<f4", &[20, 3], &[0; 240]), "another kind"),
        (
            |a| a[1].1 = npy("|b1", &[7, 3], &[1; 21]),
            "holds 7 samples",
        ),
        (
            |a| a[2].1 = npy("<f4", &[20, 9], &[0; 720]),
            "has the shape [20, 9]",
        ),
        (
            |a| a.push(("labels", npy("<i8", &[3], &[0; 24]))),
            "3 labels for 20 samples",
        ),
    ];
    for (i, (spoil, says)) in cases.into_iter().enumerate() {
        let mut arrays = sentences(20);
        spoil(&mut arrays);
        let data = case.path(&format!("words{i}.npz"));
        npz(&data, &arrays);
        let before = listing(case.folder.path());
        let recipe = Recipe {
            data: Some(data),
            macs: Some(0.5),
            ..case.recipe.clone()
        };
        let error = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{says}: {error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(listing(case.folder.path()) == before, "{says}");
    }
}
