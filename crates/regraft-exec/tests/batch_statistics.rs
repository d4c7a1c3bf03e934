//! Batch normalisation in training mode against other implementations (`refs/batch_statistics/make.py`).
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use regraft_exec::{ExecOptions, Executor, HostTensor, LossTerm};
use regraft_graph::{Graph, ValueId};
use regraft_onnx::Limits;

/// Sums of up to 72 numbers of size 20, in another order and width than the reference's.
const FORWARD: f32 = 2e-5;

/// Of the largest gradient: the reference sums in f64.
const GRADIENT: f32 = 1e-4;

const OUTPUTS: [&str; 3] = ["y", "running_mean", "running_variance"];

fn graph() -> Graph {
    let bytes = include_bytes!("../refs/batch_statistics/cases.onnx");
    regraft_onnx::read_bytes(bytes, None, &Limits::default()).expect("a model")
}

fn id(graph: &Graph, name: &str) -> ValueId {
    graph.find_value(name).expect("a value of the case")
}

fn expected(graph: &Graph, name: &str) -> HostTensor {
    let tensor = graph.tensor(id(graph, name)).expect("an initializer");
    let data = tensor.as_f32().expect("floats");
    HostTensor::f32(tensor.shape().to_vec(), data.to_vec())
}

fn check(what: &str, found: &HostTensor, expected: &HostTensor, tolerance: f32) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let pairs = found.as_f32().expect("floats").iter();
    let expected = expected.as_f32().expect("floats");
    let largest = expected.iter().fold(0.0f32, |m, e| m.max(e.abs()));
    for (f, e) in pairs.zip(expected) {
        assert!(
            (f - e).abs() <= tolerance * largest,
            "{what}: {f} is not {e}"
        );
    }
}

#[test]
fn outputs_and_gradients_are_those_of_other_implementations() {
    let graph = graph();
    for threads in [1, 2] {
        let options = ExecOptions {
            threads,
            ..ExecOptions::default()
        };
        let executor = Executor::new(&graph, options).expect("an executor");
        for case in ["images", "rows", "series", "far"] {
            let value = |name: &str| id(&graph, &format!("{case}.{name}"));
            let target = expected(&graph, &format!("{case}.target"));
            let term = LossTerm::mean_squared_error(value("y"), target);
            let wrt = ["x", "scale", "bias"].map(value);
            let found = executor
                .gradients_captured(&[], &[term], &wrt, &OUTPUTS.map(value))
                .expect("gradients");
            for output in OUTPUTS {
                let name = format!("{case}.expected.{output}");
                let tolerance = if case == "far" {
                    20.0 * FORWARD
                } else {
                    FORWARD
                };
                let captured = &found.captured[&value(output)];
                check(&name, captured, &expected(&graph, &name), tolerance);
            }
            for input in ["x", "scale", "bias"] {
                let name = format!("{case}.gradient.{input}");
                let gradient = &found.gradients[&value(input)];
                let tolerance = if case == "far" {
                    20.0 * GRADIENT
                } else {
                    GRADIENT
                };
                check(&name, gradient, &expected(&graph, &name), tolerance);
            }
        }
    }
}

#[test]
fn a_batch_without_numbers_is_refused() {
    let graph = graph();
    let executor = Executor::new(&graph, ExecOptions::default()).expect("an executor");
    let (x, y) = (id(&graph, "rows.x"), id(&graph, "rows.y"));
    let empty = HostTensor::f32(vec![0, 4], Vec::new());
    let error = executor
        .run_captured(&[(x, empty)], &[y])
        .expect_err("empty");
    assert!(error.to_string().contains("rows"), "{error}");
    let narrow = HostTensor::f32(vec![6, 3], vec![0.0; 18]);
    assert!(executor.run_captured(&[(x, narrow)], &[y]).is_err());
}
