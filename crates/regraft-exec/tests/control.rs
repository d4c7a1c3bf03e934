//! Choices and loops: what they give, their gradients, and what is refused.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::sync::Arc;

use regraft_exec::{ExecOptions, Executor, HostTensor, LossTerm};
use regraft_graph::op::{BinaryOp, Body, Scan, ScanAxis, UnaryOp};
use regraft_graph::{Graph, GraphBuilder, Header, Node, Op, Tensor, ValueId};

/// A step of central differences and the share of the gradient that it may be off.
const STEP: f32 = 1e-2;
const GRADIENT: f32 = 1e-2;

/// A body with its own inputs, then the outer values that it reads.
fn body(own: &[&str], outer: &[&str], fill: impl Fn(&mut GraphBuilder), outputs: &[&str]) -> Body {
    let mut b = GraphBuilder::new(Header::default());
    for name in own.iter().chain(outer) {
        b.input(name, None);
    }
    fill(&mut b);
    for name in outputs {
        b.output(name);
    }
    Body {
        graph: Arc::new(b.finish().expect("a body")),
        n_own: own.len(),
    }
}

/// A graph of one node that also reads `outer` by name.
fn network(op: Op, inputs: &[&str], outer: &[&str], outputs: &[&str]) -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    let mut ports = |names: &[&str]| -> Vec<ValueId> { names.iter().map(|n| b.value(n)).collect() };
    let (read, captured, written) = (ports(inputs), ports(outer), ports(outputs));
    let some = |ids: Vec<ValueId>| ids.into_iter().map(Some).collect();
    b.node(Node {
        name: "node".to_owned(),
        op,
        inputs: some(read),
        outputs: some(written),
        captures: captured,
        source: None,
        edited: false,
    });
    for name in inputs.iter().chain(outer) {
        b.input(name, None);
    }
    for name in outputs {
        b.output(name);
    }
    b.finish().expect("a graph")
}

fn run(graph: &Graph, feeds: &[(&str, HostTensor)]) -> Result<Vec<HostTensor>, String> {
    let executor = Executor::new(graph, ExecOptions::default()).expect("an executor");
    executor.run(&ids(graph, feeds)).map_err(|e| e.to_string())
}

fn ids(graph: &Graph, feeds: &[(&str, HostTensor)]) -> Vec<(ValueId, HostTensor)> {
    let id = |name: &str| graph.find_value(name).expect("a value");
    feeds.iter().map(|(n, t)| (id(n), t.clone())).collect()
}

fn truth(value: bool) -> HostTensor {
    HostTensor::bool(vec![], vec![value])
}

/// `x · w` where the condition holds, else `tanh(x) · w`.
fn choice() -> Graph {
    let product = Op::Binary(BinaryOp::Mul);
    let plain = body(
        &[],
        &["w", "x"],
        |b| b.op("mul", product.clone(), &["x", "w"], &["y"]),
        &["y"],
    );
    let bounded = body(
        &[],
        &["w", "x"],
        |b| {
            b.op("tanh", Op::Unary(UnaryOp::Tanh), &["x"], &["t"]);
            b.op("mul", product.clone(), &["t", "w"], &["y"]);
        },
        &["y"],
    );
    let op = Op::If {
        then_branch: plain,
        else_branch: bounded,
    };
    network(op, &["c"], &["w", "x"], &["y"])
}

#[test]
fn gradients_go_through_the_branch_that_is_taken() {
    let graph = choice();
    let executor = Executor::new(&graph, ExecOptions::default()).expect("an executor");
    let (x, y) = (
        graph.find_value("x").expect("x"),
        graph.find_value("y").expect("y"),
    );
    for condition in [true, false] {
        let feeds = |delta: f32| {
            let x = HostTensor::f32(vec![2], vec![0.4 + delta, -0.7]);
            let w = HostTensor::f32(vec![2], vec![1.5, 2.0]);
            ids(&graph, &[("c", truth(condition)), ("x", x), ("w", w)])
        };
        let target = HostTensor::f32(vec![2], vec![0.0, 0.0]);
        let loss = || vec![LossTerm::mean_squared_error(y, target.clone())];
        let found = executor
            .gradients(&feeds(0.0), &loss(), &[x])
            .expect("a run");
        let gradient = found.gradients[&x].as_f32().expect("floats")[0];
        let at = |delta| {
            let found = executor.gradients(&feeds(delta), &loss(), &[x]);
            found.expect("a run").loss
        };
        let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        assert!(
            (slope - gradient).abs() <= GRADIENT * slope.abs(),
            "{condition}: {gradient} instead of {slope}"
        );
    }
}

/// Adds `x` to the state in each round, and gives the state of each round.
fn sums(condition: &'static str) -> Graph {
    let body = body(
        &["round", "go", "state"],
        &["x"],
        |b| {
            b.op("add", Op::Binary(BinaryOp::Add), &["state", "x"], &["next"]);
            b.op("keep", Op::Unary(UnaryOp::Identity), &["next"], &["each"]);
            b.op(
                "goes",
                Op::Unary(UnaryOp::Identity),
                &[condition],
                &["again"],
            );
        },
        &["again", "next", "each"],
    );
    let inputs = ["n", "c", "start"];
    network(Op::Loop { body }, &inputs, &["x"], &["last", "all"])
}

fn loop_feeds(rounds: i64) -> Vec<(&'static str, HostTensor)> {
    vec![
        ("n", HostTensor::i64(vec![], vec![rounds])),
        ("c", truth(true)),
        ("start", HostTensor::f32(vec![1], vec![1.0])),
        ("x", HostTensor::f32(vec![1], vec![0.5])),
    ]
}

#[test]
fn a_loop_carries_its_state_and_stacks_its_outputs() {
    let found = run(&sums("go"), &loop_feeds(3)).expect("a run");
    assert_eq!(found[0], HostTensor::f32(vec![1], vec![2.5]));
    assert_eq!(found[1], HostTensor::f32(vec![3, 1], vec![1.5, 2.0, 2.5]));
}

#[test]
fn loops_that_cannot_be_run_are_refused_with_the_reason() {
    let wrong = run(&sums("round"), &loop_feeds(3)).expect_err("a condition of integers");
    assert!(wrong.contains("the condition is"), "{wrong}");
    let endless = run(&sums("go"), &loop_feeds(i64::MAX)).expect_err("no end");
    assert!(endless.contains("rounds"), "{endless}");
    let none = run(&sums("go"), &loop_feeds(0)).expect_err("an output of no type");
    assert!(none.contains("no round"), "{none}");
}

#[test]
fn a_scan_reads_and_writes_in_either_direction() {
    let body = body(
        &["state", "slice"],
        &[],
        |b| {
            b.op(
                "add",
                Op::Binary(BinaryOp::Add),
                &["state", "slice"],
                &["next"],
            );
            b.op("keep", Op::Unary(UnaryOp::Identity), &["next"], &["each"]);
        },
        &["next", "each"],
    );
    let along = |reverse| vec![ScanAxis { axis: 0, reverse }];
    let scan = Scan {
        body,
        inputs: along(true),
        outputs: along(false),
    };
    let graph = network(Op::Scan(scan), &["start", "x"], &[], &["last", "all"]);
    let feeds = [
        ("start", HostTensor::f32(vec![], vec![0.0])),
        ("x", HostTensor::f32(vec![3], vec![1.0, 10.0, 100.0])),
    ];
    let found = run(&graph, &feeds).expect("a run");
    assert_eq!(found[0].as_f32(), Some(&[111.0][..]));
    assert_eq!(found[1].as_f32(), Some(&[100.0, 110.0, 111.0][..]));
}

#[test]
fn weights_inside_of_a_branch_are_found() {
    let inner = |value: f32| {
        let tensor = Tensor::from_f32(vec![1], vec![value]).expect("a tensor");
        body(
            &[],
            &["x"],
            |b| {
                b.tensor("w", tensor.clone()).expect("a new name");
                b.op("mul", Op::Binary(BinaryOp::Mul), &["x", "w"], &["y"]);
            },
            &["y"],
        )
    };
    let op = Op::If {
        then_branch: inner(2.0),
        else_branch: inner(3.0),
    };
    let graph = network(op, &["c"], &["x"], &["y"]);
    for (condition, expected) in [(true, 8.0), (false, 12.0)] {
        let x = HostTensor::f32(vec![1], vec![4.0]);
        let found = run(&graph, &[("c", truth(condition)), ("x", x)]).expect("a run");
        assert_eq!(found[0].as_f32(), Some(&[expected][..]));
    }
}
