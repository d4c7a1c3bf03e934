//! Branches on small graphs.

use std::sync::Arc;

use crate::infer::{Facts, InferOptions, infer};
use crate::op::{Attention, Body, ScoreOutput};
use crate::{DType, Dim, Graph, GraphBuilder, GraphError, Header, Op, Tensor, ValueType};

fn declared(dtype: DType, shape: &[Dim]) -> ValueType {
    ValueType {
        dtype,
        shape: Some(shape.to_vec()),
    }
}

/// Removes axis `axis` of the outer value `x`.
fn squeeze(axis: i64) -> Body {
    let mut b = GraphBuilder::new(Header::default());
    let axes = Some(vec![axis]);
    b.op("cut", Op::Squeeze { axes }, &["x"], &["y"]);
    b.input("x", None);
    b.output("y");
    Body {
        graph: Arc::new(b.finish().unwrap()),
        n_own: 0,
    }
}

/// `x` of shape `[1, 1, n]` loses its first axis, or its last one where the condition is false.
fn network(condition: Option<i64>) -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    b.input(
        "x",
        Some(declared(DType::F32, &[1.into(), 1.into(), 5.into()])),
    );
    match condition {
        Some(c) => {
            let bytes = vec![c as u8];
            let c = Tensor::from_le_bytes(DType::Bool, vec![], bytes).unwrap();
            b.tensor("c", c).unwrap();
        }
        None => {
            b.input("c", Some(declared(DType::Bool, &[])));
        }
    }
    let op = Op::If {
        then_branch: squeeze(0),
        else_branch: squeeze(1),
    };
    b.op("if", op, &["c"], &["y"]);
    let graph = b.finish().unwrap();
    // The builder adds no captures: an edit does not either, so the node is made again with them.
    with_captures(&graph)
}

fn with_captures(graph: &Graph) -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    for (_, value) in graph.values() {
        b.value(&value.name);
    }
    for &id in graph.inputs() {
        b.input(&graph.value(id).name, graph.value(id).declared.clone());
    }
    for (&id, initializer) in graph.initializers() {
        let tensor = initializer.tensor.clone();
        b.tensor(&graph.value(id).name, tensor).unwrap();
    }
    for (_, node) in graph.nodes() {
        let mut node = node.clone();
        node.captures = vec![graph.find_value("x").unwrap()];
        b.node(node);
    }
    b.output("y");
    b.finish().unwrap()
}

fn facts(graph: &Graph) -> Result<Facts, GraphError> {
    infer(graph, &InferOptions::default())
}

#[test]
fn a_constant_condition_takes_its_branch() {
    for condition in [0, 1] {
        let graph = network(Some(condition));
        let facts = facts(&graph).unwrap();
        let y = graph.find_value("y").unwrap();
        assert_eq!(facts.fixed_shape(y), Some(vec![1, 5]), "{condition}");
    }
}

#[test]
fn both_branches_say_what_they_agree_on() {
    let graph = network(None);
    let facts = facts(&graph).unwrap();
    let y = graph.find_value("y").unwrap();
    assert_eq!(facts.dtype(y), Some(DType::F32));
    assert_eq!(facts.fixed_shape(y), Some(vec![1, 5]));
}

#[test]
fn the_dearer_branch_is_what_a_choice_costs() {
    let branch = |n: usize| {
        let mut b = GraphBuilder::new(Header::default());
        let w = Tensor::from_f32(vec![4, n], vec![0.5; 4 * n]).unwrap();
        b.tensor("w", w).unwrap();
        b.op("mul", Op::MatMul, &["x", "w"], &["y"]);
        b.input("x", None);
        b.output("y");
        Body {
            graph: Arc::new(b.finish().unwrap()),
            n_own: 0,
        }
    };
    let mut b = GraphBuilder::new(Header::default());
    b.input(
        "x",
        Some(declared(DType::F32, &[1.into(), 3.into(), 4.into()])),
    );
    b.input("c", Some(declared(DType::Bool, &[])));
    let op = Op::If {
        then_branch: branch(5),
        else_branch: branch(7),
    };
    b.op("if", op, &["c"], &["y"]);
    let graph = with_captures(&b.finish().unwrap());
    let facts = facts(&graph).unwrap();
    assert_eq!(crate::cost::total(&graph, &facts).macs, 3 * 4 * 7);
}

#[test]
fn products_over_named_axes_and_heads_cost_what_they_multiply() {
    let mut b = GraphBuilder::new(Header::default());
    for (name, shape) in [("q", [1, 2, 3, 4]), ("k", [1, 2, 5, 4])] {
        b.input(name, Some(declared(DType::F32, &shape.map(Dim::Fixed))));
    }
    let equation = "bhqd,bhkd->bhqk".to_owned();
    b.op("scores", Op::Einsum { equation }, &["q", "k"], &["s"]);
    let attention = Op::Attention(Attention {
        is_causal: false,
        q_heads: 0,
        kv_heads: 0,
        scale: None,
        softcap: 0.0,
        score_output: ScoreOutput::Products,
        softmax_precision: None,
        left_window: -1,
        right_window: -1,
    });
    b.op("attention", attention, &["q", "k", "k"], &["y"]);
    b.output("s");
    b.output("y");
    let graph = b.finish().unwrap();
    let facts = facts(&graph).unwrap();
    let macs = |name: &str| crate::cost::node_macs(&graph, &facts, graph.find_node(name).unwrap());
    assert_eq!(macs("scores"), 2 * 3 * 5 * 4);
    assert_eq!(macs("attention"), 2 * (2 * 3 * 5 * 4));
}
