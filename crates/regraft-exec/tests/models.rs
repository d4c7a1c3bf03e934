//! The shared models against ONNX Runtime (refs/models/make.py), skipped where they are absent.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::path::{Path, PathBuf};

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{Dim, Graph};
use regraft_onnx::Limits;

/// Logits reach 35; 56 layers of f32 sums in another order differ by some 1e-6 of that.
const LOGITS: f32 = 2e-4;

const BATCH: usize = 2;

fn models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if folder.is_dir() {
        Some(folder)
    } else {
        println!("skipped: {} is absent", folder.display());
        None
    }
}

fn read(folder: &Path, file: &str) -> Graph {
    regraft_onnx::read(&folder.join(file), &Limits::default()).expect("a readable model")
}

/// The same numbers as in refs/models/make.py.
fn formula(shape: Vec<usize>) -> HostTensor {
    let n: usize = shape.iter().product();
    let data = (0..n).map(|i| ((i * 7919) % 2048) as f32 / 1024.0 - 1.0);
    HostTensor::f32(shape, data.collect())
}

fn inputs(graph: &Graph) -> Vec<(regraft_graph::ValueId, HostTensor)> {
    graph
        .required_inputs()
        .into_iter()
        .map(|id| {
            let declared = graph.value(id).declared.clone().expect("a declared input");
            let shape = declared.shape.expect("a shape");
            let shape = shape.iter().map(|d| d.fixed().unwrap_or(BATCH));
            (id, formula(shape.collect()))
        })
        .collect()
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    let Some(folder) = models() else { return };
    let expected = include_str!("../refs/models/expected.txt");
    for line in expected.lines() {
        let mut words = line.split(' ');
        let (file, output, shape) = (words.next(), words.next(), words.next());
        let numbers: Vec<f32> = words.map(|w| w.parse().expect("a number")).collect();
        let graph = read(&folder, file.expect("a file"));
        let mut results = Vec::new();
        for threads in [1, 2] {
            let options = ExecOptions {
                threads,
                ..ExecOptions::default()
            };
            let executor = Executor::new(&graph, options).expect("an executor");
            results.push(
                executor
                    .run(&inputs(&graph))
                    .unwrap_or_else(|e| panic!("{line:.40}: {e}")),
            );
        }
        assert_eq!(
            results[0], results[1],
            "{file:?}: one and two threads differ"
        );
        let at = graph
            .outputs()
            .iter()
            .position(|&id| Some(graph.value(id).name.as_str()) == output);
        let found = &results[0][at.expect("the output")];
        let dims: Vec<String> = found.shape.iter().map(ToString::to_string).collect();
        assert_eq!(Some(dims.join("x").as_str()), shape, "{file:?}");
        for (a, b) in found.as_f32().expect("floats").iter().zip(&numbers) {
            assert!((a - b).abs() <= LOGITS, "{file:?}: {a} instead of {b}");
        }
    }
}

#[test]
fn a_part_of_the_graph_gives_what_the_whole_gives() {
    let Some(folder) = models() else { return };
    let graph = read(&folder, "resnet20_cifar10.onnx");
    let options = ExecOptions {
        threads: 2,
        ..ExecOptions::default()
    };
    let executor = Executor::new(&graph, options).expect("an executor");
    let convs: Vec<_> = graph
        .nodes()
        .filter(|(_, n)| n.op.name() == "Add")
        .collect();
    let cut = convs[3].1.output(0).expect("an output");
    let last = graph.outputs()[0];
    let whole = executor
        .run_captured(&inputs(&graph), &[cut, last])
        .expect("a run");
    let part = executor
        .run_captured(&[(cut, whole[&cut].clone())], &[last])
        .expect("a run");
    assert_eq!(whole[&last], part[&last]);
    let fetched = executor.fetch(&inputs(&graph), &[last]).expect("a run");
    // Three maps of 2 x 16 x 32 x 32 floats live at once at most, besides the input.
    assert!(
        fetched.peak_live_bytes <= 4 * 2 * 16 * 32 * 32 * 4,
        "{}",
        fetched.peak_live_bytes
    );
}

#[test]
fn another_batch_size_needs_no_other_executor() {
    let Some(folder) = models() else { return };
    let graph = read(&folder, "lenet5-caffe_mnist.onnx");
    let executor = Executor::new(&graph, ExecOptions::default()).expect("an executor");
    let input = graph.required_inputs()[0];
    let declared = graph
        .value(input)
        .declared
        .clone()
        .and_then(|d| d.shape)
        .expect("a shape");
    assert!(matches!(declared[0], Dim::Symbol(_)));
    for batch in [1, 7] {
        let out = executor
            .run(&[(input, formula(vec![batch, 1, 28, 28]))])
            .expect("a run");
        assert_eq!(out[0].shape, [batch, 10]);
    }
}
