//! What finishing an edit removes, names of new values, and graphs of many nodes.

use crate::fold::fold;
use crate::infer::{InferOptions, infer};
use crate::op::{BinaryOp, UnaryOp};
use crate::{DType, Dim, Graph, GraphBuilder, Header, Op, Tensor, ValueType};

fn float(shape: Vec<Dim>) -> ValueType {
    ValueType {
        dtype: DType::F32,
        shape: Some(shape),
    }
}

/// `y = relu(x + w) · v`, every weight also an input, as IR version 3 asks; `unread` is read by nothing.
fn declared_weights() -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    b.input("x", Some(float(vec![Dim::symbol("batch"), Dim::Fixed(2)])));
    for name in ["w", "v", "unread"] {
        b.input(name, Some(float(vec![Dim::Fixed(2)])));
        b.tensor(name, Tensor::from_f32(vec![2], vec![1.0, 2.0]).unwrap())
            .unwrap();
    }
    b.op("add", Op::Binary(BinaryOp::Add), &["x", "w"], &["a"]);
    b.op("relu", Op::Unary(UnaryOp::Relu), &["a"], &["r"]);
    b.op("mul", Op::Binary(BinaryOp::Mul), &["r", "v"], &["y"]);
    b.output("y");
    b.finish().unwrap()
}

fn names(graph: &Graph) -> (Vec<&str>, Vec<&str>) {
    let name = |v: &crate::ValueId| graph.value(*v).name.as_str();
    (
        graph.inputs().iter().map(name).collect(),
        graph.initializers().keys().map(name).collect(),
    )
}

#[test]
fn an_input_whose_default_lost_its_reader_goes_with_it() {
    let graph = declared_weights();
    let untouched = graph.edit().finish().unwrap();
    assert_eq!(untouched, graph, "an empty edit changes nothing");
    let mut edit = graph.edit();
    let x = graph.find_value("x").unwrap();
    edit.set_input(graph.find_node("relu").unwrap(), 0, Some(x));
    let changed = edit.finish().unwrap();
    assert_eq!(changed.n_nodes(), 2);
    assert_eq!(
        names(&changed),
        (vec!["x", "v", "unread"], vec!["v", "unread"]),
        "`w` is gone, what nothing read before stays as the file has it"
    );
    assert_eq!(changed.required_inputs(), [x]);
}

#[test]
fn an_input_that_must_be_given_stays_though_nothing_reads_it() {
    let graph = declared_weights();
    let mut edit = graph.edit();
    let (w, add) = (
        graph.find_value("w").unwrap(),
        graph.find_node("add").unwrap(),
    );
    edit.set_input(add, 0, Some(w));
    assert_eq!(names(&edit.finish().unwrap()).0, ["x", "w", "v", "unread"]);
}

#[test]
fn new_values_get_names_nothing_has() {
    let mut edit = declared_weights().edit();
    let made: Vec<String> = ["w", "w", "new", "w_2"]
        .iter()
        .map(|hint| {
            let id = edit.add_value(hint);
            edit.graph().value(id).name.clone()
        })
        .collect();
    assert_eq!(made, ["w_2", "w_3", "new", "w_2_2"]);
}

#[test]
fn many_nodes_and_inputs_take_one_pass_each() {
    // Every step here was quadratic once: 20,000 nodes would not end in a test run.
    const N: usize = 20_000;
    let mut b = GraphBuilder::new(Header::default());
    b.input("x", Some(float(vec![Dim::symbol("batch"), Dim::Fixed(1)])));
    for i in 0..N {
        let (w, read) = (format!("w{i}"), format!("n{i}"));
        b.input(&w, Some(float(vec![Dim::Fixed(1)])));
        b.tensor(&w, Tensor::from_f32(vec![1], vec![1.0]).unwrap())
            .unwrap();
        let read = if i == 0 { "x" } else { &read };
        let (sum, next) = (format!("s{i}"), format!("n{}", i + 1));
        b.op("", Op::Binary(BinaryOp::Add), &[read, &w], &[&sum]);
        b.op("", Op::Unary(UnaryOp::Identity), &[&sum], &[&next]);
    }
    b.output(&format!("n{N}"));
    let graph = b.finish().unwrap();
    let facts = infer(&graph, &InferOptions::default()).unwrap();
    let shape = facts.shape(graph.outputs()[0]).unwrap();
    assert_eq!(shape, [Dim::symbol("batch"), Dim::Fixed(1)]);
    let (folded, report) = fold(&graph, &InferOptions::default()).unwrap();
    assert_eq!((folded.n_nodes(), report.bypassed), (N + 1, N - 1));
    let mut edit = folded.edit();
    let made: Vec<_> = (0..N).map(|_| edit.add_value("w")).collect();
    let last = &edit.graph().value(made[N - 1]).name;
    assert_eq!(
        last, "w_20000",
        "the first is `w` itself: the file has none"
    );
    assert_eq!(edit.finish().unwrap().n_nodes(), N + 1);
}
