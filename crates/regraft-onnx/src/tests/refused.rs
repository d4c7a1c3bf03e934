//! Models that must be refused, each with an error that names the fault.

use std::error::Error;

use super::*;
use crate::proto::onnx::{FunctionProto, SparseTensorProto, TensorProto};
use crate::{Limits, OnnxError, read_bytes};

/// Returns the error with its causes, as the command line prints them.
fn report(error: &OnnxError) -> String {
    let mut text = error.to_string();
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}

fn check(cases: Vec<(&str, Vec<u8>, &str)>) {
    let mut failed = Vec::new();
    for (label, bytes, want) in cases {
        match read_bytes(&bytes, None, &Limits::default()) {
            Ok(_) => failed.push(format!("{label}: was read")),
            Err(e) if report(&e).contains(want) => {}
            Err(e) => failed.push(format!("{label}: wanted `{want}`, got `{}`", report(&e))),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn relu() -> ModelProto {
    model(17, graph(vec![node("Relu", &["x"], &["y"], vec![])]))
}

fn with_tensor(tensor: TensorProto) -> Vec<u8> {
    let mut m = relu();
    m.graph.mut_or_insert_default().initializer.push(tensor);
    bytes(&m)
}

#[test]
fn models() {
    let whole = bytes(&relu());
    let edit = |change: &dyn Fn(&mut ModelProto)| {
        let mut m = relu();
        change(&mut m);
        bytes(&m)
    };
    let call = |name: &str| NodeProto {
        domain: text("f"),
        ..node(name, &["x"], &["y"], vec![])
    };
    let function = |name: &str, body: &str| FunctionProto {
        name: text(name),
        domain: text("f"),
        node: vec![call(body)],
        ..Default::default()
    };
    check(vec![
        ("1 empty", vec![], "empty"),
        (
            "2 truncated",
            whole[..whole.len() - 3].to_vec(),
            "bytes has only",
        ),
        ("3 pickle", b"\x80\x02}q\x00.".to_vec(), "pickle"),
        (
            "7 trailing bytes",
            [whole.clone(), vec![0; 16]].concat(),
            "field number 0",
        ),
        (
            "no graph",
            edit(&|m| m.graph = MessageField::none()),
            "has no graph",
        ),
        (
            "37 future IR",
            edit(&|m| m.ir_version = Some(99)),
            "IR version 99",
        ),
        (
            "37 old IR",
            edit(&|m| m.ir_version = Some(2)),
            "IR version 2",
        ),
        (
            "37 future opset",
            edit(&|m| m.opset_import[0].version = Some(400)),
            "operator set 400",
        ),
        (
            "no opset",
            edit(&|m| m.opset_import.clear()),
            "imports no operator set",
        ),
        (
            "two opsets",
            edit(&|m| m.opset_import.push(m.opset_import[0].clone())),
            "twice",
        ),
        (
            "standard op without its set",
            edit(&|m| m.opset_import[0].domain = text("other")),
            "without importing an operator set",
        ),
        (
            "36 function calls itself",
            edit(&|m| m.functions = vec![function("a", "b"), function("b", "a")]),
            "calls itself",
        ),
    ]);
}

#[test]
fn graphs() {
    let nodes = |list: Vec<NodeProto>| bytes(&model(17, graph(list)));
    let twice = |tensor: TensorProto| {
        let mut m = relu();
        m.graph.mut_or_insert_default().initializer = vec![tensor.clone(), tensor];
        bytes(&m)
    };
    check(vec![
        (
            "32 duplicate initializer",
            twice(floats("w", &[1], &[1.0])),
            "`w` is defined more than once",
        ),
        (
            "33 duplicate output",
            nodes(vec![
                node("Relu", &["x"], &["y"], vec![]),
                node("Abs", &["x"], &["y"], vec![]),
            ]),
            "`y` is defined more than once",
        ),
        (
            "34 dangling input",
            nodes(vec![node("Relu", &["z"], &["y"], vec![])]),
            "`z`, read by node `n`",
        ),
        (
            "35 cycle",
            nodes(vec![
                node("Relu", &["b"], &["y"], vec![]),
                node("Relu", &["y"], &["b"], vec![]),
            ]),
            "cycle",
        ),
        (
            "no op type",
            nodes(vec![node("", &["x"], &["y"], vec![])]),
            "no operator type",
        ),
        (
            "dangling capture",
            nodes(vec![node(
                "If",
                &["x"],
                &["y"],
                vec![graph_attribute(
                    "then_branch",
                    GraphProto {
                        node: vec![node("Relu", &["outer"], &["o"], vec![])],
                        ..Default::default()
                    },
                )],
            )]),
            "`outer`",
        ),
    ]);
}

#[test]
fn tensors() {
    let base = || floats("w", &[2, 2], &[1.0; 4]);
    check(vec![
        (
            "27 negative extent",
            with_tensor(TensorProto {
                dims: vec![-2, 2],
                ..base()
            }),
            "extent of -2",
        ),
        (
            "28 overflow",
            with_tensor(TensorProto {
                dims: vec![1 << 40, 1 << 40],
                ..base()
            }),
            "too many elements",
        ),
        (
            "29 huge",
            with_tensor(TensorProto {
                dims: vec![1 << 40],
                ..base()
            }),
            "bytes of data",
        ),
        (
            "29 huge, small data",
            with_tensor(TensorProto {
                dims: vec![1 << 20],
                ..base()
            }),
            "needs 4194304 bytes",
        ),
        (
            "30 length",
            with_tensor(TensorProto {
                raw_data: Some(vec![0; 15]),
                ..base()
            }),
            "`raw_data` has 15",
        ),
        (
            "30 both",
            with_tensor(TensorProto {
                float_data: vec![0.0; 4],
                ..base()
            }),
            "twice",
        ),
        (
            "30 wrong field",
            with_tensor(TensorProto {
                raw_data: None,
                int64_data: vec![0; 4],
                ..base()
            }),
            "cannot be in `int64_data`",
        ),
        (
            "30 typed length",
            with_tensor(TensorProto {
                raw_data: None,
                float_data: vec![0.0; 3],
                ..base()
            }),
            "needs 4 numbers in `float_data`, found 3",
        ),
        (
            "31 unknown type",
            with_tensor(TensorProto {
                data_type: Some(77),
                ..base()
            }),
            "element type 77",
        ),
        (
            "31 no type",
            with_tensor(TensorProto {
                data_type: None,
                ..base()
            }),
            "element type 0",
        ),
        (
            "31 packed int4 of odd count",
            with_tensor(TensorProto {
                dims: vec![5],
                data_type: Some(22),
                raw_data: Some(vec![0; 2]),
                ..base()
            }),
            "needs 3 bytes",
        ),
        (
            "no name",
            with_tensor(TensorProto {
                name: None,
                ..base()
            }),
            "without a name",
        ),
        (
            "41 NaN",
            with_tensor(floats("w", &[2], &[f32::NAN, 1.5])),
            "1 values in 1 tensors",
        ),
        (
            "41 infinite",
            with_tensor(floats("w", &[2], &[f32::INFINITY, 1.5])),
            "NaN or infinite",
        ),
        (
            "27 declared extent",
            {
                let mut m = relu();
                m.graph.mut_or_insert_default().input = vec![port("x", &[-7])];
                bytes(&m)
            },
            "extent of -7",
        ),
    ]);
}

#[test]
fn nonfinite_weights_are_read_when_allowed_and_masks_always() {
    let limits = Limits {
        allow_nonfinite: true,
        ..Limits::default()
    };
    assert!(
        read_bytes(
            &with_tensor(floats("w", &[2], &[f32::NAN, 1.5])),
            None,
            &limits
        )
        .is_ok()
    );
    let mask = with_tensor(floats("m", &[3], &[0.0, f32::NEG_INFINITY, 1.0]));
    assert!(read_bytes(&mask, None, &Limits::default()).is_ok());
}

#[test]
fn sparse_tensors() {
    let sparse = |dims: &[i64], at: &[i64]| {
        let mut m = relu();
        let indices = TensorProto {
            dims: vec![at.len() as i64],
            data_type: Some(7),
            int64_data: at.to_vec(),
            ..Default::default()
        };
        m.graph
            .mut_or_insert_default()
            .sparse_initializer
            .push(SparseTensorProto {
                values: MessageField::some(floats("s", &[1], &[2.0])),
                indices: MessageField::some(indices),
                dims: dims.to_vec(),
                ..Default::default()
            });
        bytes(&m)
    };
    check(vec![
        ("outside", sparse(&[4], &[4]), "index 4 lies outside"),
        ("negative", sparse(&[4], &[-1]), "index -1 lies outside"),
        ("count", sparse(&[4], &[0, 1]), "do not fit 1 values"),
        ("bomb", sparse(&[1 << 35], &[0]), "bytes when dense"),
    ]);
}

#[test]
fn attributes() {
    let with = |op: &str, attributes: Vec<AttributeProto>| {
        bytes(&model(
            9,
            graph(vec![node(op, &["x", "x"], &["y"], attributes)]),
        ))
    };
    let reference = AttributeProto {
        ref_attr_name: text("axis"),
        ..int("axis", 0)
    };
    check(vec![
        (
            "39 wrong type",
            with("Conv", vec![float("group", 1.0)]),
            "`group` is a float, should be an integer",
        ),
        (
            "39 group 0",
            with("Conv", vec![int("group", 0)]),
            "`group` is 0",
        ),
        (
            "39 stride 0",
            with("Conv", vec![ints("strides", &[1, 0])]),
            "`strides` holds 0",
        ),
        (
            "39 dilation",
            with(
                "MaxPool",
                vec![ints("kernel_shape", &[2]), ints("dilations", &[-1])],
            ),
            "`dilations` holds -1",
        ),
        (
            "39 negative pad",
            with("Conv", vec![ints("pads", &[0, -1])]),
            "`pads` holds -1",
        ),
        (
            "39 odd pads",
            with("Conv", vec![ints("pads", &[0, 1, 2])]),
            "odd count",
        ),
        (
            "39 axes differ",
            with("Conv", vec![ints("strides", &[1]), ints("pads", &[0; 4])]),
            "about 1 axes",
        ),
        (
            "39 kernel missing",
            with("MaxPool", vec![]),
            "`kernel_shape` is missing",
        ),
        (
            "39 auto_pad",
            with("Conv", vec![string("auto_pad", "MAYBE")]),
            "`auto_pad` is `MAYBE`",
        ),
        (
            "39 perm",
            with("Transpose", vec![ints("perm", &[0, 0])]),
            "not a permutation",
        ),
        (
            "39 axis missing",
            with("Concat", vec![]),
            "`axis` is missing",
        ),
        (
            "39 hidden size",
            with("LSTM", vec![int("hidden_size", -3)]),
            "`hidden_size` is -3",
        ),
        (
            "39 twice",
            with("Concat", vec![int("axis", 0), int("axis", 1)]),
            "appears twice",
        ),
        ("39 no name", with("Relu", vec![int("", 0)]), "has no name"),
        (
            "reference outside of a function",
            with("Concat", vec![reference]),
            "refers to a function",
        ),
        (
            "slice lengths",
            with("Slice", vec![ints("starts", &[0]), ints("ends", &[1, 2])]),
            "different lengths",
        ),
        ("inputs missing", with("Where", vec![]), "required input 2"),
        (
            "too many inputs",
            with("Abs", vec![]),
            "2 inputs, at most 1",
        ),
        ("empty constant", with("Constant", vec![]), "holds no value"),
        (
            "constant tensor",
            with(
                "Constant",
                vec![tensor_attribute(
                    "value",
                    TensorProto {
                        dims: vec![3],
                        ..floats("", &[2], &[0.0; 2])
                    },
                )],
            ),
            "tensor `n.value`",
        ),
    ]);
}

#[test]
fn a_model_cut_anywhere_is_an_error_or_a_model_but_no_panic() {
    let mut m = relu();
    m.graph
        .mut_or_insert_default()
        .initializer
        .push(floats("w", &[2], &[1.0, 2.0]));
    let whole = bytes(&m);
    let refused = (0..whole.len())
        .filter(|n| read_bytes(&whole[..*n], None, &Limits::default()).is_err())
        .count();
    assert!(refused > whole.len() / 2, "{refused} of {}", whole.len());
}

#[test]
fn changed_bytes_never_panic() {
    let mut m = relu();
    m.graph
        .mut_or_insert_default()
        .initializer
        .push(floats("w", &[2], &[1.0, 2.0]));
    let whole = bytes(&m);
    let mut refused = 0;
    for at in 0..whole.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(graph) = read_bytes(&changed, None, &Limits::default()) {
                assert!(crate::write_bytes(&graph).is_ok());
            } else {
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}
