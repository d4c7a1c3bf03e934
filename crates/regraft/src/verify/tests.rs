//! What is fed, and what counts as a difference.

use regraft_exec::{HostData, HostTensor};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{BinaryOp, Conv};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};

use super::difference;
use super::feeds::{Attempts, Feeds};

/// Two inputs of words, one of them through a cast, and a mask: words of 7 and of 3 kinds.
fn words() -> Graph {
    let mut b = GraphBuilder::new(Header {
        ir_version: 8,
        opsets: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Header::default()
    });
    let shape = || Some(vec![Dim::symbol("n"), Dim::symbol("length")]);
    for (name, dtype) in [
        ("ids", DType::I64),
        ("kinds", DType::I32),
        ("mask", DType::I64),
    ] {
        let declared = ValueType {
            dtype,
            shape: shape(),
        };
        b.input(name, Some(declared));
    }
    for (name, n) in [("a", 7), ("b", 3)] {
        let tensor = Tensor::from_f32(vec![n, 2], vec![0.5; 2 * n]).unwrap();
        b.tensor(name, tensor).unwrap();
    }
    b.op("x", Op::Gather { axis: 0 }, &["a", "ids"], &["x"]);
    b.op("wide", Op::Cast { to: DType::I64 }, &["kinds"], &["wide"]);
    b.op("y", Op::Gather { axis: -2 }, &["b", "wide"], &["y"]);
    b.op("m", Op::Cast { to: DType::F32 }, &["mask"], &["m"]);
    for output in ["x", "y", "m"] {
        b.output(output);
    }
    b.finish().unwrap()
}

fn integers(feeds: &Feeds, at: usize) -> &[i64] {
    feeds[at].1.as_i64().unwrap()
}

#[test]
fn words_stay_within_what_is_selected_and_shapes_agree() {
    let graph = words();
    let facts = infer(&graph, &InferOptions::default()).unwrap();
    let attempts: Vec<_> = Attempts::new(&graph, &facts, 5).sets().collect();
    assert!(attempts.len() > 1, "the length is free");
    for sets in attempts {
        for feeds in &sets.unwrap() {
            let shapes: Vec<_> = feeds.iter().map(|(_, t)| &t.shape).collect();
            assert!(shapes.iter().all(|s| *s == shapes[0]), "{shapes:?}");
            for (at, below) in [(0, 7), (1, 3), (2, 2)] {
                let found = integers(feeds, at);
                assert!(found.iter().all(|i| (0..below).contains(i)), "{found:?}");
                assert!(found.contains(&(below - 1)), "{found:?}");
            }
            // Padding is at the end, and never everything.
            let length = feeds[2].1.shape[1];
            for row in integers(feeds, 2).chunks(length) {
                assert!(row[0] == 1 && row.is_sorted_by(|a, b| a >= b), "{row:?}");
            }
        }
    }
}

#[test]
fn a_difference_is_relative_to_its_own_output() {
    let f = |v: &[f32]| HostTensor::f32([v.len()], v.to_vec());
    let i = |v: &[i64]| HostTensor::i64([v.len()], v.to_vec());
    let nan = f32::NAN;
    let cases = [
        (vec![f(&[1.0, 100.0])], vec![f(&[1.5, 100.0])], 0.005),
        (
            vec![f(&[100.0]), f(&[1.0])],
            vec![f(&[100.0]), f(&[1.5])],
            0.5,
        ),
        (vec![f(&[nan, 1.0])], vec![f(&[nan, 1.0])], 0.0),
        (vec![f(&[nan, 1.0])], vec![f(&[1.0, 1.0])], f64::INFINITY),
        (
            vec![f(&[f32::INFINITY, 1.0])],
            vec![f(&[f32::INFINITY, 1.0])],
            0.0,
        ),
        (vec![i(&[3, 4])], vec![i(&[3, 4])], 0.0),
        (vec![i(&[3, 4])], vec![i(&[4, 3])], f64::INFINITY),
        (vec![f(&[1.0])], vec![f(&[1.0, 1.0])], f64::INFINITY),
        (vec![f(&[1.0])], vec![], f64::INFINITY),
    ];
    for (a, b, expected) in cases {
        let found = difference(std::slice::from_ref(&a), std::slice::from_ref(&b));
        let close =
            (found - expected).abs() < 1e-9 || found.is_infinite() && expected.is_infinite();
        assert!(close, "{a:?} {b:?}: {found}");
    }
    assert!(matches!(i(&[1]).data, HostData::I64(_)));
}

#[test]
fn free_axes_have_the_extents_that_weights_read() {
    let mut b = GraphBuilder::new(Header {
        ir_version: 8,
        opsets: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Header::default()
    });
    let declared = |dims: &[&str]| ValueType {
        dtype: DType::F32,
        shape: Some(dims.iter().map(|d| Dim::symbol(d)).collect()),
    };
    // Channels last, scaled, turned, then convolved in groups; and rows of features.
    b.input("image", Some(declared(&["n", "h", "w", "c"])));
    b.input("rows", Some(declared(&["n", "d"])));
    let tensor = |shape: &[usize]| {
        let n = shape.iter().product();
        Tensor::from_f32(shape.to_vec(), vec![0.5; n]).unwrap()
    };
    b.tensor("scale", tensor(&[6])).unwrap();
    b.tensor("k", tensor(&[4, 3, 3, 3])).unwrap();
    b.tensor("m", tensor(&[5, 2])).unwrap();
    let mul = Op::Binary(BinaryOp::Mul);
    b.op("scaled", mul, &["image", "scale"], &["scaled"]);
    let turn = Op::Transpose {
        perm: Some(vec![0, 3, 1, 2]),
    };
    b.op("turned", turn, &["scaled"], &["turned"]);
    let conv = Conv {
        group: 2,
        ..Conv::default()
    };
    b.op("y", Op::Conv(conv), &["turned", "k"], &["y"]);
    b.op("z", Op::MatMul, &["rows", "m"], &["z"]);
    b.output("y");
    b.output("z");
    let graph = b.finish().unwrap();
    let facts = infer(&graph, &InferOptions::default()).unwrap();
    let first = Attempts::new(&graph, &facts, 5).sets().next();
    let feeds = &first.unwrap().unwrap()[0];
    assert_eq!(feeds[0].1.shape, [4, 8, 8, 6]);
    assert_eq!(feeds[1].1.shape, [4, 5]);
}
