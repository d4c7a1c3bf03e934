//! Shapes and constants on small graphs, and what must be refused.

use super::{InferOptions, infer};
use crate::op::{
    AutoPad, BinaryOp, Conv, Direction, Gemm, Pool, PoolKind, Recurrent, RecurrentKind, ReduceKind,
    SliceAttributes,
};
use crate::{DType, Dim, Graph, GraphBuilder, GraphError, Header, Op, Tensor, ValueType};

fn builder(shape: &[Dim]) -> GraphBuilder {
    let mut b = GraphBuilder::new(Header::default());
    b.input(
        "x",
        Some(ValueType {
            dtype: DType::F32,
            shape: Some(shape.to_vec()),
        }),
    );
    b
}

fn dims(text: &str) -> Vec<Dim> {
    let dim = |s: &str| match s.parse() {
        Ok(n) => Dim::Fixed(n),
        Err(_) if s == "?" => Dim::Unknown,
        Err(_) => Dim::symbol(s),
    };
    text.split_whitespace().map(dim).collect()
}

fn weight(b: &mut GraphBuilder, name: &str, shape: &[usize]) {
    let n = shape.iter().product();
    b.tensor(
        name,
        Tensor::from_f32(shape.to_vec(), vec![0.5; n]).unwrap(),
    )
    .unwrap();
}

fn shape_of(graph: &Graph, name: &str) -> String {
    let facts = infer(graph, &InferOptions::default()).unwrap();
    let shape = facts.shape(graph.find_value(name).unwrap());
    shape.map_or("none".into(), |s| {
        s.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    })
}

/// One op on an input `x`, with float weights and integer lists by name.
fn check(input: &str, op: Op, weights: &[&[usize]], lists: &[&[i64]], expected: &str) {
    let mut b = builder(&dims(input));
    let mut ports = vec!["x".to_owned()];
    for (i, w) in weights.iter().enumerate() {
        weight(&mut b, &format!("w{i}"), w);
        ports.push(format!("w{i}"));
    }
    for (i, l) in lists.iter().enumerate() {
        b.tensor(&format!("l{i}"), Tensor::i64_list(l.to_vec()))
            .unwrap();
        ports.push(format!("l{i}"));
    }
    let refs: Vec<&str> = ports.iter().map(String::as_str).collect();
    let label = format!("{op:?}");
    b.op("node", op, &refs, &["y"]);
    b.output("y");
    assert_eq!(shape_of(&b.finish().unwrap(), "y"), expected, "{label}");
}

fn conv(strides: &[usize], pads: &[usize], auto_pad: AutoPad, group: usize) -> Op {
    Op::Conv(Conv {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        auto_pad,
        group,
        ..Conv::default()
    })
}

#[test]
fn shapes_of_windows() {
    let pool = |ceil_mode| {
        Op::Pool(Pool {
            kind: PoolKind::Max,
            kernel_shape: vec![3, 3],
            strides: vec![2, 2],
            dilations: vec![],
            pads: vec![],
            auto_pad: AutoPad::NotSet,
            ceil_mode,
        })
    };
    check(
        "batch 3 32 32",
        conv(&[], &[1, 1, 1, 1], AutoPad::NotSet, 1),
        &[&[16, 3, 3, 3]],
        &[],
        "batch 16 32 32",
    );
    check(
        "batch 4 9 9",
        conv(&[2, 2], &[], AutoPad::SameUpper, 4),
        &[&[8, 1, 3, 3]],
        &[],
        "batch 8 5 5",
    );
    check(
        "n 2 time",
        conv(&[], &[1, 1], AutoPad::NotSet, 1),
        &[&[5, 2, 3]],
        &[],
        "n 5 time",
    );
    check("batch 2 8 8", pool(false), &[], &[], "batch 2 3 3");
    check("batch 2 8 8", pool(true), &[], &[], "batch 2 4 4");
}

#[test]
fn shapes_of_single_moves_and_products() {
    check("batch 6 4 4", Op::Flatten { axis: 1 }, &[], &[], "batch 96");
    check(
        "batch 6 4 4",
        Op::Reshape { allowzero: false },
        &[],
        &[&[0, -1]],
        "batch 96",
    );
    check(
        "batch 6 4 4",
        Op::Reshape { allowzero: false },
        &[],
        &[&[-1, 96]],
        "batch 96",
    );
    check(
        "batch 6 4",
        Op::Transpose {
            perm: Some(vec![0, 2, 1]),
        },
        &[],
        &[],
        "batch 4 6",
    );
    check(
        "batch 1 4",
        Op::Squeeze {
            axes: Some(vec![1]),
        },
        &[],
        &[],
        "batch 4",
    );
    check(
        "batch 4",
        Op::Unsqueeze { axes: None },
        &[],
        &[&[-1]],
        "batch 4 1",
    );
    check(
        "batch 7",
        Op::Gemm(Gemm {
            trans_b: true,
            ..Gemm::default()
        }),
        &[&[3, 7]],
        &[],
        "batch 3",
    );
    check("batch 5 7", Op::MatMul, &[&[7, 2]], &[], "batch 5 2");
}

#[test]
fn shapes_of_slices_pads_and_broadcasts() {
    let slice = Op::Slice(SliceAttributes::default());
    check(
        "batch 8 9",
        slice.clone(),
        &[],
        &[&[0], &[i64::MAX], &[2], &[2]],
        "batch 8 5",
    );
    check(
        "batch 8 9",
        slice,
        &[],
        &[&[-1], &[i64::MIN], &[1], &[-1]],
        "batch 8 9",
    );
    let pad = Op::Pad {
        mode: crate::op::PadMode::Constant,
        pads: None,
        value: 0.0,
    };
    check("batch 8 9", pad, &[], &[&[0, 2, 0, 0, 2, 0]], "batch 12 9");
    check(
        "batch 8",
        Op::Binary(BinaryOp::Add),
        &[&[1]],
        &[],
        "batch 8",
    );
    check(
        "batch 8",
        Op::Gather { axis: 1 },
        &[],
        &[&[0, 3, 5]],
        "batch 3",
    );
}

/// In the type of shapes and, as tf2onnx computes them, in the smaller one.
#[test]
fn shape_arithmetic_keeps_the_batch_symbol() {
    for between in [DType::I64, DType::I32] {
        shape_arithmetic_in(between);
    }
}

fn shape_arithmetic_in(between: DType) {
    let mut b = builder(&dims("batch 6 2 2"));
    b.tensor("zero", Tensor::from_i64(vec![], vec![0]).unwrap())
        .unwrap();
    b.tensor("axes", Tensor::i64_list(vec![0])).unwrap();
    b.tensor("rest", Tensor::i64_list(vec![24])).unwrap();
    b.op(
        "shape",
        Op::Shape {
            start: 0,
            end: None,
        },
        &["x"],
        &["s64"],
    );
    b.op("cast", Op::Cast { to: between }, &["s64"], &["s"]);
    b.op("gather", Op::Gather { axis: 0 }, &["s", "zero"], &["n"]);
    b.op(
        "unsqueeze",
        Op::Unsqueeze { axes: None },
        &["n", "axes"],
        &["n0"],
    );
    b.op("back", Op::Cast { to: DType::I64 }, &["n0"], &["n1"]);
    b.op(
        "concat",
        Op::Concat { axis: 0 },
        &["n1", "rest"],
        &["target"],
    );
    b.op(
        "reshape",
        Op::Reshape { allowzero: false },
        &["x", "target"],
        &["y"],
    );
    b.output("y");
    let graph = b.finish().unwrap();
    assert_eq!(shape_of(&graph, "y"), "batch 24");
    let bound = InferOptions {
        bind: [("batch".to_owned(), 5)].into(),
        ..InferOptions::default()
    };
    let facts = infer(&graph, &bound).unwrap();
    assert_eq!(
        facts.ints(graph.find_value("target").unwrap()),
        Some(vec![5, 24])
    );
}

#[test]
fn folding_turns_constants_into_initializers() {
    let mut b = builder(&dims("batch 4"));
    b.op(
        "c",
        Op::Constant {
            value: Tensor::i64_list(vec![2, 2]),
        },
        &[],
        &["c"],
    );
    b.op(
        "id",
        Op::Unary(crate::op::UnaryOp::Identity),
        &["x"],
        &["x1"],
    );
    b.op(
        "id2",
        Op::Unary(crate::op::UnaryOp::Identity),
        &["x1"],
        &["x2"],
    );
    b.op(
        "k",
        Op::Constant {
            value: Tensor::i64_list(vec![-1]),
        },
        &[],
        &["k"],
    );
    b.op("cat", Op::Concat { axis: 0 }, &["k", "c"], &["shape"]);
    b.op(
        "reshape",
        Op::Reshape { allowzero: false },
        &["x2", "shape"],
        &["y"],
    );
    b.output("y");
    let (folded, report) =
        crate::fold::fold(&b.finish().unwrap(), &InferOptions::default()).unwrap();
    assert_eq!((report.folded, report.bypassed), (3, 2));
    assert_eq!(
        folded.dump(),
        "input x\nconst shape i64 [3]\ny = Reshape(x, shape)\noutput y\n"
    );
}

fn refused(input: &str, op: Op, weights: &[&[usize]], lists: &[&[i64]]) -> GraphError {
    let mut b = builder(&dims(input));
    let mut ports = vec!["x".to_owned()];
    for (i, w) in weights.iter().enumerate() {
        weight(&mut b, &format!("w{i}"), w);
        ports.push(format!("w{i}"));
    }
    for (i, l) in lists.iter().enumerate() {
        b.tensor(&format!("l{i}"), Tensor::i64_list(l.to_vec()))
            .unwrap();
        ports.push(format!("l{i}"));
    }
    let refs: Vec<&str> = ports.iter().map(String::as_str).collect();
    b.op("node", op, &refs, &["y"]);
    b.output("y");
    infer(&b.finish().unwrap(), &InferOptions::default()).unwrap_err()
}

#[test]
fn contradictions_are_errors_that_name_the_node() {
    let cases = [
        refused(
            "batch 3 4 4",
            conv(&[], &[], AutoPad::NotSet, 1),
            &[&[8, 5, 3, 3]],
            &[],
        ),
        refused(
            "batch 3 2 2",
            conv(&[], &[], AutoPad::NotSet, 1),
            &[&[8, 3, 5, 5]],
            &[],
        ),
        refused("batch 7", Op::MatMul, &[&[8, 2]], &[]),
        refused("batch 8", Op::Binary(BinaryOp::Add), &[&[3]], &[]),
        refused("2 8", Op::Reshape { allowzero: false }, &[], &[&[5, 5]]),
        refused(
            "batch 8",
            Op::Transpose {
                perm: Some(vec![0, 0]),
            },
            &[],
            &[],
        ),
    ];
    for error in cases {
        assert!(error.to_string().starts_with("node `node`"), "{error}");
    }
    let bomb = refused("1", Op::Expand, &[], &[&[1 << 40]]);
    assert!(matches!(bomb, GraphError::TooLarge { .. }), "{bomb}");
    let bomb = refused("1 1", Op::Tile, &[], &[&[1 << 31, 1 << 31]]);
    assert!(matches!(bomb, GraphError::TooLarge { .. }), "{bomb}");
}

#[test]
fn wrong_graphs_are_refused() {
    let relu = || Op::Unary(crate::op::UnaryOp::Relu);
    let mut cycle = builder(&dims("batch 8"));
    cycle.op("a", Op::Binary(BinaryOp::Add), &["x", "v"], &["u"]);
    cycle.op("b", relu(), &["u"], &["v"]);
    cycle.output("v");
    assert!(matches!(cycle.finish(), Err(GraphError::Cycle { .. })));
    let mut twice = builder(&dims("batch 8"));
    twice.op("a", relu(), &["x"], &["u"]);
    twice.op("b", relu(), &["x"], &["u"]);
    assert!(matches!(
        twice.finish(),
        Err(GraphError::DefinedTwice { .. })
    ));
    let mut dangling = builder(&dims("batch 8"));
    dangling.op("a", relu(), &["nowhere"], &["u"]);
    assert!(matches!(
        dangling.finish(),
        Err(GraphError::Dangling { .. })
    ));
}

fn recurrent(kind: RecurrentKind, direction: Direction, batch_first: bool) -> Op {
    Op::Recurrent(Recurrent {
        kind,
        hidden_size: 5,
        direction,
        batch_first,
    })
}

#[test]
fn shapes_of_recurrent_ops() {
    let gru = RecurrentKind::Gru {
        linear_before_reset: true,
    };
    let both = Direction::Bidirectional;
    check(
        "time batch 3",
        recurrent(RecurrentKind::Lstm, Direction::Forward, false),
        &[&[1, 20, 3], &[1, 20, 5]],
        &[],
        "time 1 batch 5",
    );
    check(
        "7 batch 3",
        recurrent(gru, both, false),
        &[&[2, 15, 3], &[2, 15, 5]],
        &[],
        "7 2 batch 5",
    );
    check(
        "batch 7 3",
        recurrent(RecurrentKind::Rnn, Direction::Reverse, true),
        &[&[1, 5, 3], &[1, 5, 5]],
        &[],
        "batch 7 1 5",
    );
    let wrong = [
        // Rows of four gates of 5, features, axes.
        refused(
            "7 batch 3",
            recurrent(RecurrentKind::Lstm, Direction::Forward, false),
            &[&[1, 19, 3], &[1, 20, 5]],
            &[],
        ),
        refused(
            "7 batch 4",
            recurrent(gru, both, false),
            &[&[2, 15, 3], &[2, 15, 5]],
            &[],
        ),
        refused(
            "batch 3",
            recurrent(RecurrentKind::Rnn, Direction::Forward, false),
            &[&[1, 5, 3], &[1, 5, 5]],
            &[],
        ),
    ];
    for error in wrong {
        assert!(error.to_string().starts_with("node `node`"), "{error}");
    }
}

#[test]
fn shapes_of_reductions() {
    let reduce = |axes: Option<&[i64]>, keepdims, noop_with_empty_axes| Op::Reduce {
        kind: ReduceKind::Mean,
        axes: axes.map(<[i64]>::to_vec),
        keepdims,
        noop_with_empty_axes,
    };
    let cases: [(Op, &[&[i64]], &str); 8] = [
        (reduce(Some(&[2, 3]), true, false), &[], "batch 6 1 1"),
        (reduce(Some(&[-1, -2]), false, false), &[], "batch 6"),
        (reduce(None, false, false), &[&[1]], "batch 4 5"),
        (reduce(None, true, false), &[&[-3]], "batch 1 4 5"),
        (reduce(None, false, false), &[], ""),
        (reduce(None, true, false), &[], "1 1 1 1"),
        (reduce(None, false, true), &[], "batch 6 4 5"),
        (reduce(Some(&[]), false, false), &[], ""),
    ];
    for (op, lists, expected) in cases {
        check("batch 6 4 5", op, &[], lists, expected);
    }
    let arg = |axis, keepdims| Op::ArgExtremum {
        axis,
        keepdims,
        select_last: false,
        largest: true,
    };
    check("batch 6 4", arg(1, false), &[], &[], "batch 4");
    check("batch 6 4", arg(-1, true), &[], &[], "batch 6 1");
    let error = refused("batch 6", reduce(Some(&[2]), true, false), &[], &[]);
    assert!(error.to_string().contains("axes do not exist"), "{error}");
}

#[test]
fn shapes_of_transposed_convolutions() {
    let op = |conv: Conv| Op::ConvTranspose(conv);
    let two = || Conv {
        strides: vec![2, 2],
        ..Conv::default()
    };
    let cases = [
        (two(), "batch 4 10 14"),
        (
            Conv {
                pads: vec![1, 0, 1, 2],
                output_padding: vec![1, 0],
                ..two()
            },
            "batch 4 9 12",
        ),
        (
            Conv {
                dilations: vec![2, 3],
                ..Conv::default()
            },
            "batch 4 10 10",
        ),
        (
            Conv {
                auto_pad: AutoPad::SameUpper,
                ..two()
            },
            "batch 4 8 14",
        ),
        (
            Conv {
                group: 3,
                output_shape: vec![9, 13],
                ..two()
            },
            "batch 12 9 13",
        ),
    ];
    // A weight is `n_in x n_out / group x kernel`; here the kernel is 4 x 2.
    for (conv, expected) in cases {
        check("batch 6 4 7", op(conv), &[&[6, 4, 4, 2]], &[], expected);
    }
    check(
        "batch 6 time",
        op(Conv::default()),
        &[&[6, 4, 1]],
        &[],
        "batch 4 ?",
    );
    let huge = Conv {
        dilations: vec![usize::MAX, 1],
        pads: vec![usize::MAX; 4],
        ..two()
    };
    check(
        "batch 6 4 7",
        op(huge),
        &[&[6, 4, 4, 2]],
        &[],
        "batch 4 ? ?",
    );
}

/// The op, its parts as an input, the outputs' shapes.
type SplitCase<'a> = (Op, Option<&'a [i64]>, &'a [&'a str]);

#[test]
fn shapes_of_split_parts() {
    let parts = |op: Op, list: Option<&[i64]>, n: usize| -> Result<Vec<String>, GraphError> {
        let mut b = builder(&dims("batch 10 3"));
        let mut inputs = vec!["x"];
        if let Some(list) = list {
            b.tensor("parts", Tensor::i64_list(list.to_vec())).unwrap();
            inputs.push("parts");
        }
        let outputs: Vec<String> = (0..n).map(|i| format!("y{i}")).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        b.op("node", op, &inputs, &names);
        for name in &names {
            b.output(name);
        }
        let graph = b.finish().unwrap();
        infer(&graph, &InferOptions::default())?;
        Ok(names.iter().map(|n| shape_of(&graph, n)).collect())
    };
    let split = |list: Option<&[i64]>, num_outputs| Op::Split {
        axis: -2,
        split: list.map(<[i64]>::to_vec),
        num_outputs,
    };
    let cases: [SplitCase<'_>; 4] = [
        (
            split(Some(&[4, 6]), None),
            None,
            &["batch 4 3", "batch 6 3"],
        ),
        (
            split(None, None),
            Some(&[1, 9]),
            &["batch 1 3", "batch 9 3"],
        ),
        (split(None, None), None, &["batch 5 3", "batch 5 3"]),
        // Opset 18: the last part is the smaller one.
        (
            split(None, Some(4)),
            None,
            &["batch 3 3", "batch 3 3", "batch 3 3", "batch 1 3"],
        ),
    ];
    for (op, list, expected) in cases {
        let label = format!("{op:?} {list:?}");
        assert_eq!(
            parts(op, list, expected.len()).unwrap(),
            expected,
            "{label}"
        );
    }
    for (op, list) in [
        (split(Some(&[4, 7]), None), None),
        (split(Some(&[10]), None), None),
        (split(None, None), Some([i64::MAX, i64::MAX].as_slice())),
        (split(None, Some(i64::MAX)), None),
    ] {
        let label = format!("{op:?} {list:?}");
        let error = parts(op, list, 2).unwrap_err();
        assert!(error.to_string().starts_with("node `node`"), "{label}");
    }
}

#[test]
fn shapes_of_expand_and_gather() {
    let cases: [(&str, &[i64], &str); 4] = [
        ("batch 1 4", &[1, 6, 1], "batch 6 4"),
        ("3 1", &[3, 5], "3 5"),
        ("3", &[2, 3], "2 3"),
        ("2 3", &[1], "2 3"),
    ];
    for (input, target, expected) in cases {
        check(input, Op::Expand, &[], &[target], expected);
    }
    refused("3 4", Op::Expand, &[], &[&[5, 4]]);
    // The product of the extents does not fit a machine word.
    let bomb = refused("1 1", Op::Expand, &[], &[&[1 << 40, 1 << 40]]);
    assert!(matches!(bomb, GraphError::TooLarge { .. }), "{bomb}");
    let gather = |axis| Op::Gather { axis };
    check("batch 8 9", gather(-1), &[], &[&[0, -9]], "batch 8 2");
    check("batch 8 9", gather(0), &[], &[&[0]], "1 8 9");
    for (axis, list) in [(1, [8]), (1, [-9]), (3, [0])] {
        let error = refused("batch 8 9", gather(axis), &[], &[&list]);
        assert!(error.to_string().starts_with("node `node`"), "{error}");
    }
}

/// The constant that `op` gives on `input`, as type and little-endian bytes; `None` if not folded.
fn folded(op: Op, input: &Tensor) -> (Option<DType>, Option<Tensor>) {
    let mut b = builder(&dims("1"));
    b.tensor("c", input.clone()).unwrap();
    b.op("node", op, &["c"], &["y"]);
    b.output("y");
    let graph = b.finish().unwrap();
    let facts = infer(&graph, &InferOptions::default()).unwrap();
    let y = graph.find_value("y").unwrap();
    (facts.dtype(y), facts.constant(y).cloned())
}

#[test]
fn a_cast_folds_only_to_the_type_it_names() {
    let floats = Tensor::from_f32(vec![3], vec![-1.5, 0.0, 2.7]).unwrap();
    let ints = Tensor::i64_list(vec![-1, 0, 7]);
    let bytes =
        |dtype, bytes: &[u8]| Some(Tensor::from_le_bytes(dtype, vec![3], bytes.to_vec()).unwrap());
    let cases = [
        (&floats, DType::F32, Some(floats.clone())),
        (&floats, DType::I64, Some(Tensor::i64_list(vec![-1, 0, 2]))),
        (&floats, DType::Bool, bytes(DType::Bool, &[1, 0, 1])),
        (&floats, DType::F64, None),
        (&floats, DType::F16, None),
        (&floats, DType::U8, None),
        (&ints, DType::I64, Some(ints.clone())),
        (
            &ints,
            DType::I32,
            bytes(DType::I32, &[255, 255, 255, 255, 0, 0, 0, 0, 7, 0, 0, 0]),
        ),
        (&ints, DType::Bool, bytes(DType::Bool, &[1, 0, 1])),
        (
            &ints,
            DType::F32,
            Some(Tensor::from_f32(vec![3], vec![-1.0, 0.0, 7.0]).unwrap()),
        ),
        (&ints, DType::F64, None),
        (&ints, DType::I8, None),
    ];
    for (input, to, expected) in cases {
        let label = format!("{} to {to}", input.dtype());
        assert_eq!(
            folded(Op::Cast { to }, input),
            (Some(to), expected),
            "{label}"
        );
    }
}

#[test]
fn a_folded_constant_has_the_type_and_shape_inferred() {
    let fill = |value: Tensor| Op::ConstantOfShape { value };
    let shape = Tensor::i64_list(vec![2]);
    let f32s = |x| Tensor::from_f32(vec![1], vec![x]).unwrap();
    let f64s = Tensor::from_le_bytes(DType::F64, vec![1], 1.0f64.to_le_bytes().to_vec()).unwrap();
    let u16s = Tensor::from_le_bytes(DType::U16, vec![1], vec![1, 0]).unwrap();
    let cases = [
        (f32s(1.5), DType::F32, true),
        (Tensor::i64_list(vec![3]), DType::I64, true),
        (f64s, DType::F64, false),
        (u16s, DType::U16, false),
    ];
    for (value, dtype, known) in cases {
        let (found, constant) = folded(fill(value), &shape);
        assert_eq!((found, constant.is_some()), (Some(dtype), known), "{dtype}");
        if let Some(t) = constant {
            assert_eq!((t.dtype(), t.shape()), (dtype, [2].as_slice()));
        }
    }
}
