//! Networks of ONNX Runtime's fused ops against ONNX Runtime (refs/fused/make.py).
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::path::Path;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{DType, Graph, Op, ValueId};
use regraft_onnx::Limits;

/// Sums of some twenty products of numbers about one, in another order; GELU within its own error.
const FUSED: f32 = 2e-5;
const BATCH: usize = 2;
const WORDS: usize = 20;

/// The same numbers as in refs/fused/make.py.
fn feeds(graph: &Graph) -> Vec<(ValueId, HostTensor)> {
    let feed = |id: ValueId| {
        let value = graph.value(id);
        let declared = value.declared.clone().expect("a declared input");
        let shape: Vec<usize> = declared
            .shape
            .expect("a shape")
            .iter()
            .map(|d| d.fixed().unwrap_or(BATCH))
            .collect();
        let n: usize = shape.iter().product();
        let integers = |make: &dyn Fn(usize) -> usize| {
            HostTensor::i64(shape.clone(), (0..n).map(|i| make(i) as i64).collect())
        };
        let tensor = match (value.name.as_str(), declared.dtype) {
            ("words", _) => integers(&|i| i * 7 % WORDS),
            ("segments", _) => integers(&|i| i % 2),
            (_, DType::I32) => integers(&|i| usize::from(i < n - shape[1] / 2)),
            _ => {
                let data = (0..n).map(|i| ((i * 7919) % 2048) as f32 / 1024.0 - 1.0);
                HostTensor::f32(shape, data.collect())
            }
        };
        (id, tensor)
    };
    graph.required_inputs().into_iter().map(feed).collect()
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("refs/fused");
    let expected = include_str!("../refs/fused/expected.txt");
    let mut n_fused = 0;
    for line in expected.lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("a word");
        let (file, output, shape) = (word(), word(), word());
        let numbers: Vec<f32> = words.map(|w| w.parse().expect("a number")).collect();
        let graph = regraft_onnx::read(&folder.join(file), &Limits::default()).expect("a model");
        n_fused += graph
            .nodes()
            .filter(|(_, n)| matches!(n.op, Op::Fused(_)))
            .count();
        let executor = Executor::new(&graph, ExecOptions::default()).expect("an executor");
        let made = executor.run(&feeds(&graph)).expect("a run");
        let at = graph
            .outputs()
            .iter()
            .position(|o| graph.value(*o).name == output)
            .expect("the output");
        let dims: Vec<String> = made[at].shape.iter().map(ToString::to_string).collect();
        assert_eq!(dims.join("x"), shape, "{file} {output}");
        let own = made[at].as_f32().expect("floats");
        for (i, (a, b)) in own.iter().zip(&numbers).enumerate() {
            assert!((a - b).abs() < FUSED, "{file} {output}[{i}]: {a}, not {b}");
        }
    }
    // Eight in the encoder, two in the decoder, which has four outputs, two and one of grouped queries.
    assert_eq!(n_fused, 8 + 4 * 2 + 2 + 3);
}
