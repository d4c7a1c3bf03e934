//! Channels go through a resized map: what is removed before it is removed after it.

#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{Conv, ImageOp, Interpolation, Resize};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};
use regraft_prune::apply::apply;
use regraft_prune::plan::{Budget, ChooseOptions, CostModel, choose};
use regraft_prune::score::{Normalize, Score, score};
use regraft_prune::{Groups, find_groups};

fn weight(builder: &mut GraphBuilder, name: &str, shape: &[usize]) {
    let n: usize = shape.iter().product();
    let data = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
    let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
    builder.tensor(name, tensor).unwrap();
}

/// Convolution, upsampling by `scales`, convolution.
fn network(scales: [f32; 4]) -> Graph {
    let mut b = GraphBuilder::new(Header {
        opsets: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Header::default()
    });
    let dims = [Dim::symbol("batch"), 3.into(), 6.into(), 6.into()];
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(dims.to_vec()),
    };
    b.input("x", Some(declared));
    weight(&mut b, "w1", &[8, 3, 3, 3]);
    weight(&mut b, "w2", &[4, 8, 3, 3]);
    let list = Tensor::from_f32(vec![4], scales.to_vec()).unwrap();
    b.tensor("scales", list).unwrap();
    let resize = Resize {
        mode: Interpolation::Linear,
        ..Resize::default()
    };
    let conv = || Op::Conv(Conv::default());
    b.op("first", conv(), &["x", "w1"], &["narrow"]);
    let inputs = ["narrow", "", "scales"];
    b.op("up", Op::Image(ImageOp::Resize(resize)), &inputs, &["wide"]);
    b.op("second", conv(), &["wide", "w2"], &["y"]);
    b.output("y");
    b.finish().unwrap()
}

fn groups_of(graph: &Graph) -> Groups {
    let facts = infer(graph, &InferOptions::default()).unwrap();
    find_groups(graph, &facts).unwrap()
}

#[test]
fn channels_before_and_after_an_upsampling_go_together() {
    let graph = network([1.0, 1.0, 2.0, 2.0]);
    let facts = infer(&graph, &InferOptions::default()).unwrap();
    let groups = groups_of(&graph);
    assert_eq!(groups.groups.len(), 1, "{}", groups.dump(&graph));
    let group = &groups.groups[0];
    assert_eq!(
        (group.n_free(), group.consumers.len()),
        (8, 1),
        "{}",
        groups.dump(&graph)
    );
    let model = CostModel::new(&graph, &facts, &groups);
    let scores = score(&graph, &groups, &Score::L2, Normalize::Mean).unwrap();
    let (budget, options) = (Budget::Macs(0.5), ChooseOptions::default());
    let plan = choose(&graph, &groups, &model, &scores, budget, &options).unwrap();
    let (pruned, _) = apply(&graph, &facts, &groups, &plan).unwrap();
    let after = infer(&pruned, &InferOptions::default()).unwrap();
    let shape = after.shape(pruned.find_value("wide").unwrap()).unwrap();
    assert_eq!(shape[1..], [4.into(), 8.into(), 8.into()]);
}

#[test]
fn channels_that_are_interpolated_stay() {
    let groups = groups_of(&network([1.0, 1.01, 2.0, 2.0]));
    assert!(groups.groups.is_empty());
}
