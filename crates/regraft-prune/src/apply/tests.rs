//! Removing units: widths, settings, counts, and a naive run of the result.

use regraft_graph::cost::total;
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::SliceAttributes;
use regraft_graph::{Graph, Op, Tensor};

use super::{apply, dry_run, mask};
use crate::plan::CostModel;
use crate::toy::{Toy, check_masked, members, relu, residual};
use crate::{Groups, Plan};

/// The plan that removes the given units of the group with the given name.
fn without(groups: &Groups, removed: &[(&str, &[usize])]) -> Plan {
    let mut plan = Plan::dense(groups);
    for (name, units) in removed {
        let g = groups.find(name).expect("a group of this name");
        plan.groups[g].kept.retain(|u| !units.contains(u));
    }
    plan
}

fn tensor<'a>(graph: &'a Graph, name: &str) -> &'a Tensor {
    graph.tensor(graph.find_value(name).unwrap()).unwrap()
}

fn shape(graph: &Graph, name: &str) -> Vec<usize> {
    tensor(graph, name).shape().to_vec()
}

/// The constant that a node called `node` reads at `port`.
fn setting(graph: &Graph, node: &str, port: usize) -> Vec<i64> {
    let node = graph.node(graph.find_node(node).unwrap());
    let value = node.input(port).unwrap();
    graph.tensor(value).unwrap().as_i64().unwrap().to_vec()
}

#[test]
fn keeping_everything_gives_an_equal_graph() {
    let (graph, facts, groups) = residual();
    let (pruned, report) = apply(&graph, &facts, &groups, &Plan::dense(&groups)).unwrap();
    assert_eq!(pruned, graph);
    assert!(report.kept.is_empty());
    assert_eq!(mask(&graph, &groups, &Plan::dense(&groups)).unwrap(), graph);
}

#[test]
fn a_residual_network_shrinks() {
    let (graph, facts, groups) = residual();
    let plan = without(
        &groups,
        &[("stem", &[1, 5, 7]), ("a1", &[0]), ("b1", &[2, 3])],
    );
    let (pruned, report) = apply(&graph, &facts, &groups, &plan).unwrap();
    assert_eq!(shape(&pruned, "stem.w"), [3, 3, 3, 3]);
    assert_eq!(shape(&pruned, "a1.w"), [5, 3, 3, 3]);
    assert_eq!(shape(&pruned, "a2.w"), [3, 5, 3, 3]);
    assert_eq!(shape(&pruned, "b1.w"), [3, 3, 3, 3]);
    assert_eq!(shape(&pruned, "b2.w"), [5, 3, 3, 3]);
    assert_eq!(shape(&pruned, "logits.w"), [3, 5]);
    let pads = setting(&pruned, "wide", 1);
    assert_eq!(pads[1] + pads[5], 2);
    let model = CostModel::new(&graph, &facts, &groups);
    assert_eq!(report.before, model.dense());
    let expected = model.evaluate(&groups, &plan).unwrap();
    assert_eq!(
        (report.after.macs, report.after.params),
        (expected.macs, expected.params)
    );
    let new_facts = infer(&pruned, &InferOptions::default()).unwrap();
    assert_eq!(report.after, total(&pruned, &new_facts));
    let stem = &report.nodes[0];
    assert_eq!((stem.node.as_str(), stem.n_out), ("stem", (4, 3)));
    assert_eq!(stem.n_in, Some((3, 3)));
}

#[test]
fn settings_follow_the_widths() {
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 8, 3));
    t.ints("from", &[2]);
    t.ints("to", &[6]);
    t.ints("axis", &[1]);
    t.op(
        Op::Slice(SliceAttributes::default()),
        &["p", "from", "to", "axis"],
        "s",
    );
    let split = Op::Split {
        axis: 1,
        split: None,
        num_outputs: None,
    };
    t.b.op("cut", split, &["s"], &["s1", "s2"]);
    t.grouped("s1", "d", (2, 2, 3), 2);
    t.ints("rows", &[-1, 72]);
    t.op(Op::Reshape { allowzero: false }, &["s2", "rows"], "f");
    t.gemm("f", "c1", (72, 2));
    t.conv("d", "c2", (2, 2, 1));
    t.ints("pick", &[7, 0, 3]);
    t.op(Op::Gather { axis: 1 }, &["p", "pick"], "g");
    t.conv("g", "c3", (3, 2, 1));
    let step = &["p", "end", "begin", "axis", "step"];
    t.ints("end", &[7]);
    t.ints("begin", &[-99]);
    t.ints("step", &[-2]);
    t.b.op("back", Op::Slice(SliceAttributes::default()), step, &["h"]);
    t.conv("h", "c4", (4, 2, 1));
    let (graph, facts, groups) = t.done(&["c1", "c2", "c3", "c4"]);
    assert_eq!(groups.groups.len(), 1, "{}", groups.dump(&graph));
    let plan = without(&groups, &[("p", &[0, 2, 5])]);
    let (pruned, _) = apply(&graph, &facts, &groups, &plan).unwrap();
    assert_eq!(setting(&pruned, "s", 1), [1]);
    assert_eq!(setting(&pruned, "s", 2), [3]);
    assert_eq!(setting(&pruned, "cut", 1), [1, 1]);
    assert_eq!(setting(&pruned, "f", 1), [0, 36]);
    assert_eq!(setting(&pruned, "g", 1), [4, 1]);
    // 7, 5, 3, 1 without 5, renumbered: the step is no longer regular.
    assert_eq!(setting(&pruned, "back", 1), [4, 1, 0]);
    let d = pruned.node(pruned.find_node("d").unwrap());
    assert!(matches!(&d.op, Op::Conv(conv) if conv.group == 1));
}

#[test]
fn a_plan_that_tears_a_unit_apart_names_the_node() {
    // A dry run against groups of another network: the shortcut is missing there.
    let plain = || {
        let mut t = Toy::new(&[3, 4, 4]);
        t.conv("x", "p", (3, 4, 1));
        t.conv("x", "q", (3, 4, 1));
        t
    };
    let mut apart = plain();
    apart.conv("p", "c", (4, 2, 1));
    apart.conv("q", "d", (4, 2, 1));
    let (_, _, loose) = apart.done(&["c", "d"]);
    let mut joined = plain();
    crate::toy::add(&mut joined, "p", "q", "sum");
    joined.conv("sum", "c", (4, 2, 1));
    let (graph, facts, _) = joined.done(&["c"]);
    let plan = without(&loose, &[("p", &[1])]);
    let error = dry_run(&graph, &facts, &loose, &plan).unwrap_err();
    assert_eq!(error.node(), Some("sum"), "{error}");
}

#[test]
fn masked_equals_removed_on_a_small_perceptron() {
    let mut t = Toy::new(&[3]);
    t.gemm("x", "p", (3, 6));
    relu(&mut t, "p", "r");
    t.gemm("r", "q", (6, 4));
    relu(&mut t, "q", "s");
    t.gemm("s", "c", (4, 2));
    let (graph, facts, groups) = t.done(&["c"]);
    let plan = without(&groups, &[("p", &[0, 4]), ("q", &[3])]);
    let (pruned, _) = apply(&graph, &facts, &groups, &plan).unwrap();
    let masked = mask(&graph, &groups, &plan).unwrap();
    let x = [0.3, -1.2, 0.7];
    let (a, b) = (perceptron(&masked, &x), perceptron(&pruned, &x));
    assert_ne!(a, perceptron(&graph, &x));
    for (a, b) in a.iter().zip(&b) {
        // Same products in the same order, zeros left out.
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

/// A run of Gemm and Relu, the only ops in it, for one sample.
fn perceptron(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let mut x = x.to_vec();
    for (_, node) in graph.nodes() {
        let Op::Gemm(_) = node.op else {
            for v in &mut x {
                *v = v.max(0.0);
            }
            continue;
        };
        let get = |port: usize| graph.tensor(node.input(port).unwrap()).unwrap();
        let (w, b) = (get(1).as_f32().unwrap(), get(2).as_f32().unwrap());
        let row = |o: usize| {
            let products = x.iter().zip(&w[o * x.len()..]).map(|(x, w)| x * w);
            b[o] + products.sum::<f32>()
        };
        x = (0..b.len()).map(row).collect();
    }
    x
}

#[test]
fn the_order_of_members_is_that_of_the_channels() {
    let (graph, _, groups) = residual();
    assert!(members(&graph, &groups, "a1", 3).contains("a2.w:1:3"));
}

/// A product by a vector has no axis but the one it sums over.
#[test]
fn products_by_vectors_are_summed_over_what_stays() {
    let mut t = Toy::new(&[2]);
    t.gemm("x", "p", (2, 4));
    relu(&mut t, "p", "r");
    t.gemm("r", "q", (4, 3));
    t.weight("v", &[3]);
    t.op(Op::MatMul, &["q", "v"], "s");
    let (graph, facts, groups) = t.done(&["s"]);
    for plan in [
        Plan::dense(&groups),
        without(&groups, &[(&groups.groups[0].name, &[1, 2])]),
    ] {
        let (pruned, _) = apply(&graph, &facts, &groups, &plan).unwrap();
        check_masked(&mask(&graph, &groups, &plan).unwrap(), &pruned);
    }
}
