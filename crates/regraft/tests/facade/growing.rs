//! Edits that add to a network: real files of ../shared where they are there and fresh networks of
//! every architecture, written, read again, and compared with what was there before. The files stay
//! in the target folder, for a look at them in other runtimes.
// A test that skips says so.
#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};

use regraft::{Design, NamedOptions, RunOptions, new};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::fold::{fold, fold_batch_norm};
use regraft_graph::infer::InferOptions;
use regraft_graph::{DType, Dim, Graph};
use regraft_onnx::{Limits, read, write_bytes};
use regraft_prune::apply::Share;
use regraft_prune::find_groups;
use regraft_rebuild::reshape::deepen::{DeepenConfig, Insert, deepen};
use regraft_rebuild::reshape::widen::{WidenConfig, Widths, widen};
use regraft_rebuild::reshape::{Edited, Network};

use crate::material::Random;

/// Rounding of f32 sums in another order, relative to the largest output.
const TOL_F32: f32 = 1e-5;

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("growing");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn shared(name: &str) -> Option<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let path = models.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is absent", path.display());
    None
}

fn load(path: &Path) -> Network {
    let graph = read(path, &Limits::default()).unwrap();
    let (graph, _) = fold(&graph, &InferOptions::default()).unwrap();
    let (graph, _) = fold_batch_norm(&graph).unwrap();
    Network::new(graph).unwrap()
}

fn outputs(graph: &Graph) -> Vec<HostTensor> {
    let mut random = Random(8);
    let mut feeds = Vec::new();
    for id in graph.required_inputs() {
        let declared = graph.value(id).declared.clone().unwrap();
        let dims = declared.shape.unwrap();
        let shape: Vec<usize> = dims.iter().map(|d: &Dim| d.fixed().unwrap_or(2)).collect();
        let n = shape.iter().product();
        let tensor = match declared.dtype {
            DType::I64 => HostTensor::i64(shape, vec![16_000; n]),
            _ => HostTensor::f32(shape, (0..n).map(|_| random.uniform()).collect()),
        };
        feeds.push((id, tensor));
    }
    let executor = Executor::new(graph, ExecOptions::default()).unwrap();
    executor.run(&feeds).unwrap()
}

fn difference(a: &Graph, b: &Graph) -> f32 {
    let mut worst = 0f32;
    for (a, b) in outputs(a).iter().zip(outputs(b)) {
        assert_eq!(a.shape, b.shape);
        let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
        let scale = a.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let off = a.iter().zip(b).map(|(x, y)| (x - y).abs());
        worst = worst.max(off.fold(0f32, f32::max) / scale);
    }
    worst
}

fn check(name: &str, edit: &str, network: &Network, edited: &Edited) {
    assert!(edited.exact, "{name} {edit}");
    assert!(
        !edited.changes.is_empty(),
        "{name} {edit}: {:?}",
        edited.left
    );
    let path = folder().join(format!("{name}-{edit}.onnx"));
    std::fs::write(&path, write_bytes(&edited.graph).unwrap()).unwrap();
    let again = read(&path, &Limits::default()).unwrap();
    let off = difference(&network.graph, &again);
    assert!(off <= TOL_F32, "{name} {edit}: {off:e}");
    let (before, after) = (network.cost(), Network::new(again).unwrap().cost());
    assert!(after.params > before.params, "{name} {edit}");
    eprintln!(
        "{name} {edit}: {} changes, {} left, off by {off:.1e}, {} to {} parameters, {} to {} MACs",
        edited.changes.len(),
        edited.left.len(),
        before.params,
        after.params,
        before.macs,
        after.macs
    );
}

fn check_all(name: &str, path: &Path) {
    let network = load(path);
    let dense = folder().join(format!("{name}-dense.onnx"));
    std::fs::write(dense, write_bytes(&network.graph).unwrap()).unwrap();
    let groups = find_groups(&network.graph, &network.facts).unwrap();
    for (edit, share, factor) in [
        ("half-more", Share::Zero, 1.5),
        ("twice", Share::Zero, 2.0),
        ("split", Share::Split, 2.0),
    ] {
        let config = WidenConfig {
            share,
            ..WidenConfig::default()
        };
        let edited = widen(&network, &groups, &Widths::Factor(factor), &config).unwrap();
        check(name, edit, &network, &edited);
    }
    for (edit, insert) in [
        ("identity", Insert::Identity),
        ("residual", Insert::Residual),
    ] {
        let config = DeepenConfig {
            insert,
            ..DeepenConfig::default()
        };
        let edited = deepen(&network, &config).unwrap();
        check(name, edit, &network, &edited);
    }
}

#[test]
fn real_networks_grow_and_give_the_same() {
    for name in [
        "lenet300-100_mnist",
        "lenet5-caffe_mnist",
        "resnet20_cifar10",
        "resnet20_cifar10_bn",
        "fsdd_gru",
    ] {
        if let Some(path) = shared(&format!("{name}.onnx")) {
            check_all(name, &path);
        }
    }
}

#[test]
fn fresh_networks_of_every_architecture_grow_and_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (name, input) in [
        ("resnet8", vec![1, 8, 8]),
        ("mlp", vec![1, 8, 8]),
        ("gru", vec![6, 5]),
        ("lstm", vec![6, 5]),
        ("transformer-tiny", vec![6, 5]),
    ] {
        let sequence = input.len() == 2;
        let options = NamedOptions {
            classes: Some(3),
            input: Some(input),
            hidden: sequence.then_some(16),
            layers: sequence.then_some(2),
            ..NamedOptions::default()
        };
        let design = Design::Named {
            name: name.to_owned(),
            options,
        };
        let path = folder.path().join(format!("{name}.onnx"));
        new(&design, 1, &path, &RunOptions::default()).unwrap();
        check_all(name, &path);
    }
}
