//! Copies of units: widths, settings, and the same outputs as before.

use regraft_graph::op::{Direction, Recurrent, RecurrentKind, SliceAttributes, UnaryOp};
use regraft_graph::{Graph, Op};

use super::{Grown, Share, grow};
use crate::toy::{Toy, check_masked, relu, residual};
use crate::{Groups, PruneError};

/// Copies of the listed units of the group with the given name.
fn copies(groups: &Groups, wanted: &[(&str, &[usize])]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new(); groups.groups.len()];
    for (name, units) in wanted {
        all[groups.find(name).expect("a group of this name")] = units.to_vec();
    }
    all
}

/// Grows a network both ways and compares its outputs.
fn check(toy: (Graph, regraft_graph::infer::Facts, Groups), wanted: &[(&str, &[usize])]) -> Grown {
    let (graph, facts, groups) = toy;
    let copies = copies(&groups, wanted);
    let split = grow(&graph, &facts, &groups, &copies, Share::Split).unwrap();
    check_masked(&graph, &split.graph);
    let zero = grow(&graph, &facts, &groups, &copies, Share::Zero).unwrap();
    check_masked(&graph, &zero.graph);
    assert!(zero.report.after.params > zero.report.before.params);
    assert_eq!(zero.report.after, split.report.after);
    zero
}

fn shape(graph: &Graph, name: &str) -> Vec<usize> {
    let value = graph.find_value(name).unwrap();
    graph.tensor(value).unwrap().shape().to_vec()
}

#[test]
fn no_copies_give_an_equal_graph() {
    let (graph, facts, groups) = residual();
    let grown = grow(&graph, &facts, &groups, &copies(&groups, &[]), Share::Zero).unwrap();
    assert_eq!(grown.graph, graph);
    assert_eq!(grown.grown().count(), 0);
}

#[test]
fn a_residual_network_grows() {
    let wanted: [(&str, &[usize]); 3] = [("stem", &[1, 5, 7, 1]), ("a1", &[0]), ("b1", &[2, 3])];
    let grown = check(residual(), &wanted);
    assert_eq!(shape(&grown.graph, "a1.w")[0], 7);
    assert_eq!(shape(&grown.graph, "b1.w")[0], 7);
    // Units 1, 5 and 7 of the sum: which of them the stem has is up to the padded shortcut.
    assert_eq!(shape(&grown.graph, "b2.w")[0], 12);
    assert_eq!(shape(&grown.graph, "logits.w"), [3, 12]);
    let logits = grown.graph.find_value("logits.w").unwrap();
    let origins = grown.origins(logits, 1).unwrap();
    assert_eq!(origins.iter().filter(|o| o.copy > 0).count(), 4);
    assert_eq!(grown.report.kept.get(logits, 1).unwrap().len(), 12);
}

#[test]
fn settings_follow_the_copies() {
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 8, 3));
    t.grouped("p", "d", (8, 8, 3), 8);
    relu(&mut t, "d", "r");
    let slice = Op::Slice(SliceAttributes {
        starts: Some(vec![2]),
        ends: Some(vec![6]),
        axes: Some(vec![1]),
    });
    t.op(slice, &["r"], "s");
    let split = Op::Split {
        axis: 1,
        split: None,
        num_outputs: None,
    };
    t.b.op("cut", split, &["s"], &["s1", "s2"]);
    t.ints("rows", &[-1, 72]);
    t.op(Op::Reshape { allowzero: false }, &["s2", "rows"], "f");
    t.gemm("f", "c1", (72, 2));
    t.conv("s1", "c2", (2, 2, 1));
    t.ints("pick", &[7, 0, 3, 7]);
    t.op(Op::Gather { axis: 1 }, &["r", "pick"], "g");
    t.conv("g", "c3", (4, 2, 1));
    t.ints("end", &[7]);
    t.ints("begin", &[-99]);
    t.ints("axis", &[1]);
    t.ints("step", &[-2]);
    let step = &["r", "end", "begin", "axis", "step"];
    t.b.op("back", Op::Slice(SliceAttributes::default()), step, &["h"]);
    t.conv("h", "c4", (4, 2, 1));
    let grown = check(
        t.done(&["c1", "c2", "c3", "c4"]),
        &[("p", &[0, 3, 3, 5, 7])],
    );
    assert_eq!(shape(&grown.graph, "c1.w"), [2, 108]);
    let d = grown.graph.node(grown.graph.find_node("d").unwrap());
    assert!(matches!(&d.op, Op::Conv(conv) if conv.group == 13));
}

/// A recurrent layer of width 3 over 5 steps of 4 numbers, its last state read by a linear layer.
fn recurrent(kind: RecurrentKind, direction: Direction, state: bool) -> Toy {
    let (n_gates, n) = (
        match kind {
            RecurrentKind::Lstm => 4,
            RecurrentKind::Gru { .. } => 3,
            RecurrentKind::Rnn => 1,
        },
        direction.count(),
    );
    let mut t = Toy::new(&[5, 4]);
    let turned = Op::Transpose {
        perm: Some(vec![1, 0, 2]),
    };
    t.op(turned, &["x"], "steps");
    t.weight("w", &[n, n_gates * 3, 4]);
    t.weight("r", &[n, n_gates * 3, 3]);
    t.weight("b", &[n, 2 * n_gates * 3]);
    let mut inputs = vec!["steps", "w", "r", "b"];
    if state {
        let zeros = regraft_graph::Tensor::from_f32(vec![n, 2, 3], vec![0.0; n * 6]).unwrap();
        t.b.tensor("zeros", zeros).unwrap();
        inputs.extend(["", "zeros"]);
    }
    let op = Op::Recurrent(Recurrent {
        kind,
        hidden_size: 3,
        direction,
        batch_first: false,
    });
    t.b.op("cell", op, &inputs, &["all", "last"]);
    let turned = Op::Transpose {
        perm: Some(vec![1, 0, 2]),
    };
    t.op(turned, &["last"], "l");
    t.op(Op::Flatten { axis: 1 }, &["l"], "flat");
    t.gemm("flat", "y", (3 * n, 2));
    t
}

#[test]
fn hidden_units_grow() {
    let kinds = [
        RecurrentKind::Lstm,
        RecurrentKind::Gru {
            linear_before_reset: true,
        },
        RecurrentKind::Gru {
            linear_before_reset: false,
        },
        RecurrentKind::Rnn,
    ];
    for kind in kinds {
        for direction in [Direction::Forward, Direction::Bidirectional] {
            for state in [false, true] {
                let toy = recurrent(kind, direction, state).done(&["y"]);
                let name = toy.2.groups[0].name.clone();
                let grown = check(toy, &[(&name, &[0, 2, 2, 1, 0])]);
                assert_eq!(shape(&grown.graph, "r")[2], 8, "{kind:?} {direction:?}");
            }
        }
    }
}

#[test]
fn a_normalised_stream_grows_as_a_whole() {
    let build = || {
        let mut t = Toy::new(&[4, 6]);
        t.weight("in.w", &[6, 3]);
        t.op(Op::MatMul, &["x", "in.w"], "p");
        t.weight("scale", &[3]);
        t.weight("shift", &[3]);
        let norm = Op::LayerNormalization {
            axis: -1,
            epsilon: 1e-5,
        };
        t.op(norm, &["p", "scale", "shift"], "n");
        t.op(Op::Unary(UnaryOp::Tanh), &["n"], "h");
        t.weight("out.w", &[3, 2]);
        t.op(Op::MatMul, &["h", "out.w"], "y");
        t.done(&["y"])
    };
    check(build(), &[("p", &[0, 1, 2])]);
    let (graph, facts, groups) = build();
    let some = copies(&groups, &[("p", &[1])]);
    let error = grow(&graph, &facts, &groups, &some, Share::Zero).unwrap_err();
    assert_eq!(error.node(), Some("n"), "{error}");
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let (graph, facts, groups) = residual();
    let refused =
        |copies: &[Vec<usize>]| grow(&graph, &facts, &groups, copies, Share::Zero).unwrap_err();
    assert!(matches!(refused(&[]), PruneError::GroupCount { .. }));
    let wanted = copies(&groups, &[("a1", &[6])]);
    assert!(matches!(refused(&wanted), PruneError::UnitIndex { .. }));
}
