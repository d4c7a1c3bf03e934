//! Units of small graphs, one an op rule.

use regraft_graph::op::{
    BinaryOp, Conv, Direction, GlobalPool, IndexOp, PadMode, Pool, PoolKind, Recurrent,
    RecurrentKind, ReduceKind, SliceAttributes, UnaryOp,
};
use regraft_graph::{Op, Tensor};

use crate::toy::{Toy, add, members, relu, residual};

/// One network between a first layer `p` (4 channels, 6×6) and a last layer `c`.
struct Case {
    name: &'static str,
    build: fn(&mut Toy),
    unit: usize,
    expected: &'static str,
}

fn slice_op() -> Op {
    Op::Slice(SliceAttributes::default())
}

fn pad_op(value: f32) -> Op {
    Op::Pad {
        mode: PadMode::Constant,
        pads: Some(vec![0, 1, 0, 0, 0, 2, 0, 0]),
        value,
    }
}

const CASES: &[Case] = &[
    Case {
        name: "conv and pointwise ops",
        build: |t| {
            relu(t, "p", "r");
            let pool = Op::Pool(Pool {
                kind: PoolKind::Max,
                kernel_shape: vec![2, 2],
                strides: vec![2, 2],
                dilations: vec![],
                pads: vec![],
                auto_pad: regraft_graph::op::AutoPad::NotSet,
                ceil_mode: false,
            });
            t.op(pool, &["r"], "m");
            t.conv("m", "c", (4, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:1 m:1:1 p.b:0:1 p.w:0:1 p:1:1 r:1:1",
    },
    Case {
        name: "batch normalisation",
        build: |t| {
            for n in ["s", "o", "m", "v"] {
                t.weight(n, &[4]);
            }
            let bn = Op::BatchNormalization { epsilon: 1e-5 };
            t.op(bn, &["p", "s", "o", "m", "v"], "n");
            t.conv("n", "c", (4, 2, 1));
        },
        unit: 3,
        expected: "c.w:1:3 m:0:3 n:1:3 o:0:3 p.b:0:3 p.w:0:3 p:1:3 s:0:3 v:0:3",
    },
    Case {
        name: "depthwise",
        build: |t| {
            t.grouped("p", "d", (4, 4, 3), 4);
            t.conv("d", "c", (4, 2, 1));
        },
        unit: 2,
        expected: "c.w:1:2 d.b:0:2 d.w:0:2 d:1:2 p.b:0:2 p.w:0:2 p:1:2",
    },
    Case {
        name: "depthwise with two outputs a channel",
        build: |t| {
            t.grouped("p", "d", (4, 8, 3), 4);
            t.conv("d", "c", (8, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:2,3 d.b:0:2,3 d.w:0:2,3 d:1:2,3 p.b:0:1 p.w:0:1 p:1:1",
    },
    Case {
        name: "grouped: a unit is a whole group",
        build: |t| {
            t.grouped("p", "d", (4, 6, 3), 2);
            t.conv("d", "c", (6, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:3,4,5 d.b:0:3,4,5 d.w:0:3,4,5 d:1:3,4,5 p.b:0:2,3 p.w:0:2,3 p:1:2,3",
    },
    Case {
        name: "transposed convolution",
        build: |t| {
            t.weight("t.w", &[4, 3, 2, 2]);
            t.op(Op::ConvTranspose(Conv::default()), &["p", "t.w"], "t");
            t.conv("t", "c", (3, 2, 1));
        },
        unit: 0,
        expected: "p.b:0:0 p.w:0:0 p:1:0 t.w:0:0",
    },
    Case {
        name: "broadcast mask of one channel couples nothing",
        build: |t| {
            t.conv("x", "g", (2, 1, 1));
            t.op(Op::Binary(BinaryOp::Mul), &["p", "g"], "m");
            t.conv("m", "c", (4, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:1 m:1:1 p.b:0:1 p.w:0:1 p:1:1",
    },
    Case {
        name: "constant of one number a channel",
        build: |t| {
            t.weight("k", &[4, 1, 1]);
            t.op(Op::Binary(BinaryOp::Mul), &["p", "k"], "m");
            t.conv("m", "c", (4, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:1 k:0:1 m:1:1 p.b:0:1 p.w:0:1 p:1:1",
    },
    Case {
        name: "concat",
        build: |t| {
            t.conv("x", "q", (2, 3, 1));
            t.op(Op::Concat { axis: 1 }, &["p", "q"], "j");
            t.conv("j", "c", (7, 2, 1));
        },
        unit: 5,
        expected: "c.w:1:5 j:1:5 q.b:0:1 q.w:0:1 q:1:1",
    },
    Case {
        name: "flatten",
        build: |t| {
            let pool = Op::GlobalPool(GlobalPool::Max);
            t.op(pool, &["p"], "m");
            t.op(Op::Expand, &["m", "shape"], "e");
            t.ints("shape", &[1, 4, 1, 2]);
            t.op(Op::Flatten { axis: 1 }, &["e"], "f");
            t.gemm("f", "c", (8, 2));
        },
        unit: 1,
        expected: "c.w:1:2,3 e:1:1 f:1:2,3 m:1:1 p.b:0:1 p.w:0:1 p:1:1",
    },
    Case {
        name: "reshape to rows and back",
        build: |t| {
            t.ints("rows", &[0, 4, 36]);
            t.op(Op::Reshape { allowzero: false }, &["p", "rows"], "f");
            let perm = Some(vec![0, 2, 1]);
            t.op(Op::Transpose { perm }, &["f"], "g");
            t.weight("c.w", &[4, 2]);
            t.op(Op::MatMul, &["g", "c.w"], "c");
        },
        unit: 2,
        expected: "c.w:0:2 f:1:2 g:2:2 p.b:0:2 p.w:0:2 p:1:2",
    },
    Case {
        name: "channel shuffle: the widest axis carries the channels",
        build: |t| {
            t.conv("x", "q", (2, 6, 1));
            t.ints("split", &[0, 2, 3, 6, 6]);
            t.op(Op::Reshape { allowzero: false }, &["q", "split"], "f");
            let perm = Some(vec![0, 2, 1, 3, 4]);
            t.op(Op::Transpose { perm }, &["f"], "g");
            t.ints("join", &[0, 6, 6, 6]);
            t.op(Op::Reshape { allowzero: false }, &["g", "join"], "h");
            t.conv("h", "c", (6, 2, 1));
            t.conv("p", "other", (4, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:2,3 f:2:1 g:1:1 h:1:2,3 q.b:0:1,4 q.w:0:1,4 q:1:1,4",
    },
    Case {
        name: "slice of channels",
        build: |t| {
            t.ints("from", &[1]);
            t.ints("to", &[3]);
            t.ints("axis", &[1]);
            t.op(slice_op(), &["p", "from", "to", "axis"], "s");
            t.conv("s", "c", (2, 2, 1));
        },
        unit: 2,
        expected: "c.w:1:1 p.b:0:2 p.w:0:2 p:1:2 s:1:1",
    },
    Case {
        name: "slice with a step",
        build: |t| {
            t.ints("from", &[3]);
            t.ints("to", &[-9]);
            t.ints("axis", &[1]);
            t.ints("step", &[-2]);
            t.op(slice_op(), &["p", "from", "to", "axis", "step"], "s");
            t.conv("s", "c", (2, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:1 p.b:0:1 p.w:0:1 p:1:1 s:1:1",
    },
    Case {
        name: "split",
        build: |t| {
            t.ints("sizes", &[3, 1]);
            let op = Op::Split {
                axis: 1,
                split: None,
                num_outputs: None,
            };
            t.b.op("split", op, &["p", "sizes"], &["s", "s2"]);
            t.conv("s", "c", (3, 2, 1));
            t.conv("s2", "d", (1, 2, 1));
        },
        unit: 3,
        expected: "d.w:1:0 p.b:0:3 p.w:0:3 p:1:3 s2:1:0",
    },
    Case {
        name: "padded channels",
        build: |t| {
            t.op(pad_op(0.0), &["p"], "s");
            t.conv("s", "c", (7, 2, 1));
        },
        unit: 0,
        expected: "c.w:1:1 p.b:0:0 p.w:0:0 p:1:0 s:1:1",
    },
    Case {
        name: "gather",
        build: |t| {
            t.ints("pick", &[2, 0]);
            t.op(Op::Gather { axis: 1 }, &["p", "pick"], "s");
            t.conv("s", "c", (2, 2, 1));
        },
        unit: 2,
        expected: "c.w:1:0 p.b:0:2 p.w:0:2 p:1:2 s:1:0",
    },
    Case {
        name: "tile",
        build: |t| {
            t.ints("repeats", &[1, 2, 1, 1]);
            t.op(Op::Tile, &["p", "repeats"], "s");
            t.conv("s", "c", (8, 2, 1));
        },
        unit: 1,
        expected: "c.w:1:1,5 p.b:0:1 p.w:0:1 p:1:1 s:1:1,5",
    },
    Case {
        name: "reduction of other axes, squeeze and unsqueeze",
        build: |t| {
            let mean = |axes: Vec<i64>, keepdims| Op::Reduce {
                kind: ReduceKind::Mean,
                axes: Some(axes),
                keepdims,
                noop_with_empty_axes: false,
            };
            t.op(mean(vec![3], false), &["p"], "m");
            t.op(mean(vec![-1], true), &["m"], "n");
            t.op(
                Op::Squeeze {
                    axes: Some(vec![2]),
                },
                &["n"],
                "o",
            );
            t.op(
                Op::Unsqueeze {
                    axes: Some(vec![1]),
                },
                &["o"],
                "q",
            );
            t.weight("c.w", &[4, 2]);
            t.op(Op::MatMul, &["q", "c.w"], "c");
        },
        unit: 1,
        expected: "c.w:0:1 m:1:1 n:1:1 o:1:1 p.b:0:1 p.w:0:1 p:1:1 q:2:1",
    },
    Case {
        name: "the inputs of a recurrent op",
        build: |t| {
            t.ints("rows", &[0, 4, 36]);
            t.op(Op::Reshape { allowzero: false }, &["p", "rows"], "f");
            let perm = Some(vec![2, 0, 1]);
            t.op(Op::Transpose { perm }, &["f"], "g");
            t.weight("c.w", &[1, 9, 4]);
            t.weight("c.r", &[1, 9, 3]);
            let gru = Recurrent {
                kind: RecurrentKind::Gru {
                    linear_before_reset: true,
                },
                hidden_size: 3,
                direction: Direction::Forward,
                batch_first: false,
            };
            t.op(Op::Recurrent(gru), &["g", "c.w", "c.r"], "c");
        },
        unit: 2,
        expected: "c.w:2:2 f:1:2 g:2:2 p.b:0:2 p.w:0:2 p:1:2",
    },
];

#[test]
fn units_of_every_rule() {
    let mut wrong = Vec::new();
    for case in CASES {
        let mut t = Toy::new(&[2, 6, 6]);
        t.conv("x", "p", (2, 4, 3));
        (case.build)(&mut t);
        let (graph, _, groups) = t.done(&["c"]);
        let group = if groups.find("p").is_some() && !case.expected.contains("q.w:0:1,4") {
            "p"
        } else {
            "q"
        };
        if groups.find(group).is_none() {
            wrong.push(format!("{}: no group\n{}", case.name, groups.dump(&graph)));
            continue;
        }
        let found = members(&graph, &groups, group, case.unit);
        if found != case.expected {
            wrong.push(format!(
                "{}\n  found    {found}\n  expected {}",
                case.name, case.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_shared_weight_couples_its_uses() {
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 4, 3));
    t.conv("p", "q", (4, 4, 1));
    let conv = Op::Conv(Conv::default());
    t.op(conv, &["q", "q.w", "q.b"], "r");
    t.conv("r", "c", (4, 2, 1));
    let (graph, _, groups) = t.done(&["c"]);
    assert_eq!(groups.groups.len(), 1, "{}", groups.dump(&graph));
    assert_eq!(
        members(&graph, &groups, "p", 1),
        "c.w:1:1 p.b:0:1 p.w:0:1 p:1:1 q.b:0:1 q.w:0:1 q.w:1:1 q:1:1 r:1:1"
    );
}

/// What has to stay, and a word of the reason.
type FrozenCase = (&'static str, fn(&mut Toy));

fn odd() -> Op {
    Op::Opaque {
        domain: "x.y".into(),
        op_type: "Odd".into(),
        reason: "no rule".into(),
    }
}

const FROZEN: &[FrozenCase] = &[
    ("an input of the network", |t| {
        add(t, "x", "p", "s");
        t.conv("s", "c", (2, 2, 1));
    }),
    ("an output of the network", |t| relu(t, "p", "c")),
    ("normalises over the channels", |t| {
        let op = Op::Softmax {
            axis: 1,
            flatten: false,
            log: false,
        };
        t.op(op, &["p"], "s");
        t.conv("s", "c", (2, 2, 1));
    }),
    ("reduces over the channels", |t| {
        let op = Op::ArgExtremum {
            axis: 1,
            keepdims: true,
            select_last: false,
            largest: true,
        };
        t.op(op, &["p"], "c");
    }),
    ("constant other than zero", |t| {
        t.op(pad_op(1.0), &["p"], "s");
        t.conv("s", "c", (5, 2, 1));
    }),
    ("is not understood: no rule", |t| {
        t.op(odd(), &["p"], "c");
    }),
    ("the weight of `m` (MatMul) is computed", |t| {
        t.weight("k", &[6, 3]);
        t.op(odd(), &["k"], "kt");
        t.op(Op::MatMul, &["p", "kt"], "m");
        t.op(
            Op::Shape {
                start: 0,
                end: None,
            },
            &["m"],
            "c",
        );
    }),
    ("what `m` (MatMul) makes is not known", |t| {
        t.op(odd(), &["p"], "o");
        t.weight("k", &[6, 3]);
        t.op(Op::MatMul, &["o", "k"], "m");
        t.op(
            Op::Shape {
                start: 0,
                end: None,
            },
            &["m"],
            "c",
        );
    }),
    (
        "`one` (Conv) makes values that have no other channel",
        |t| {
            t.conv("p", "one", (2, 1, 1));
            t.conv("one", "c", (1, 2, 1));
        },
    ),
];

#[test]
fn what_stays_says_why() {
    let mut wrong = Vec::new();
    for (word, build) in FROZEN {
        let mut t = Toy::new(&[2, 6, 6]);
        t.conv("x", "p", (2, 2, 3));
        build(&mut t);
        let (graph, _, groups) = t.done(&["c"]);
        if !groups.frozen.iter().any(|f| f.reason.contains(word)) {
            wrong.push(format!("{word}:\n{}", groups.dump(&graph)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_batch_part_of_a_shape_does_not_freeze() {
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 4, 3));
    let shape = Op::Shape {
        start: 0,
        end: None,
    };
    t.op(shape, &["p"], "shape");
    t.ints("zero", &[0]);
    t.op(Op::Gather { axis: 0 }, &["shape", "zero"], "n");
    t.ints("rest", &[-1]);
    t.op(Op::Concat { axis: 0 }, &["n", "rest"], "target");
    t.op(Op::Reshape { allowzero: false }, &["p", "target"], "f");
    t.gemm("f", "c", (144, 2));
    let (graph, _, groups) = t.done(&["c"]);
    let group = &groups.groups[0];
    assert_eq!(group.n_free(), 4, "{}", groups.dump(&graph));
    assert_eq!(group.consumers.len(), 1);
}

#[test]
fn a_residual_network_dumped() {
    let (graph, _, groups) = residual();
    insta::assert_snapshot!(groups.dump(&graph), @r"
    group stem: 8 units, made by [stem, a2, b2], read by [a1, b1, logits]
      4 units on 18 axes
      4 units on 8 axes
    group a1: 6 units, made by [a1], read by [a2]
      6 units on 5 axes
    group b1: 5 units, made by [b1], read by [b2]
      5 units on 5 axes
    frozen logits: 3 channels: `logits` is an output of the network
    ");
    assert_eq!(
        members(&graph, &groups, "stem", 0),
        "a1.w:1:0 a2.b:0:0 a2.w:0:0 a2:1:0 b1.w:1:0 b2.b:0:2 b2.w:0:2 b2:1:2 flat:1:2 \
         logits.w:1:2 pooled:1:2 r0:1:0 s1:1:0 s2:1:2 stem.b:0:0 stem.w:0:0 stem:1:0 wide:1:2"
    );
}

#[test]
fn a_long_chain_in_near_linear_time() {
    let mut t = Toy::new(&[8, 2, 2]);
    let mut x = "x".to_owned();
    for i in 0..2_500 {
        let (y, r) = (format!("c{i}"), format!("r{i}"));
        t.conv(&x, &y, (8, 8, 1));
        t.op(Op::Unary(UnaryOp::Relu), &[&y], &r);
        x = r;
    }
    t.conv(&x, "out", (8, 2, 1));
    let start = std::time::Instant::now();
    let (_, _, groups) = t.done(&["out"]);
    let elapsed = start.elapsed();
    assert_eq!(groups.groups.len(), 2_500);
    // Generous for a loaded machine; a quadratic search takes minutes.
    assert!(elapsed.as_secs() < 20, "{elapsed:?}");
}

#[test]
fn the_last_unit_of_every_axis_is_spared() {
    // `p` (4) beside `q` (3) is added to `c` (7): one group of seven units on three axes.
    let mut t = Toy::new(&[3, 6, 6]);
    t.conv("x", "p", (3, 4, 3));
    t.conv("x", "q", (3, 3, 3));
    t.op(Op::Concat { axis: 1 }, &["p", "q"], "j");
    t.conv("j", "c", (7, 7, 3));
    add(&mut t, "j", "c", "a");
    t.conv("a", "d", (7, 2, 3));
    let (_, _, groups) = t.done(&["d"]);
    let group = groups.find("p").expect("the group of `p`");
    let n_units = groups.groups[group].units.len();
    assert_eq!(n_units, 7);
    assert_eq!(
        groups.spare_last(group, &[0, 1, 2, 3, 4, 5, 6]),
        [0, 1, 2, 4, 5]
    );
    assert_eq!(groups.spare_last(group, &[6, 0, 5, 4]), [6, 0, 5]);
}

/// A file may ask for the triangle of a number, and take the diagonal's offset from channels.
#[test]
fn the_triangle_of_a_scalar() {
    let mut t = Toy::new(&[3]);
    t.gemm("x", "p", (3, 4));
    let one = Tensor::from_f32(Vec::new(), vec![1.0]).unwrap();
    t.b.tensor("one", one).unwrap();
    let upper = Op::Index(IndexOp::Trilu { upper: true });
    t.op(upper, &["one", "p"], "y");
    let (graph, _, groups) = t.done(&["y"]);
    assert_eq!(groups.groups.len(), 0, "{}", groups.dump(&graph));
}

#[test]
fn further_outputs_freeze_only_where_something_reads_them() {
    for is_read in [false, true] {
        let mut t = Toy::new(&[5, 6]);
        t.weight("p.w", &[6, 8]);
        t.op(Op::MatMul, &["x", "p.w"], "p");
        t.positive("scale", &[8]);
        let norm = Op::LayerNormalization {
            axis: -1,
            epsilon: 1e-5,
        };
        t.b.op("n", norm, &["p", "scale"], &["n", "mean"]);
        t.weight("c.w", &[8, 3]);
        t.op(Op::MatMul, &["n", "c.w"], "c");
        let outputs: &[&str] = if is_read { &["c", "mean"] } else { &["c"] };
        let (graph, _, groups) = t.done(outputs);
        let n_free = groups.find("p").map_or(0, |g| groups.groups[g].n_free());
        let wanted = if is_read { 0 } else { 8 };
        assert_eq!(n_free, wanted, "{}", groups.dump(&graph));
    }
}
