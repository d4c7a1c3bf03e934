//! Nothing of a model is lost: presence, unknown fields, what the graph does not model.

use super::*;
use crate::proto::onnx::{
    DeviceConfigurationProto, FunctionProto, SparseTensorProto, StringStringEntryProto,
    TensorAnnotation, TrainingInfoProto,
};
use crate::{Limits, read_bytes, write_bytes};

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: text(key),
        value: text(value),
        ..Default::default()
    }
}

fn same_bytes(label: &str, bytes: &[u8]) {
    let graph =
        read_bytes(bytes, None, &Limits::default()).unwrap_or_else(|e| panic!("{label}: {e:?}"));
    assert_eq!(write_bytes(&graph).expect("writable"), bytes, "{label}");
}

fn full_graph() -> GraphProto {
    let mut g = graph(vec![
        NodeProto {
            doc_string: text("why"),
            metadata_props: vec![entry("pkg.torch.onnx.name_scopes", "['', 'conv']")],
            // Present and empty, or zero: not the same as absent.
            domain: text(""),
            overload: text(""),
            ..node(
                "Flatten",
                &["x"],
                &["a"],
                vec![int("axis", 0), string("extra", "")],
            )
        },
        NodeProto {
            domain: text("com.example"),
            ..node(
                "Mystery",
                &["a", "", "w"],
                &["b", ""],
                vec![float("z", 0.0)],
            )
        },
        NodeProto {
            name: None,
            ..node("Relu", &["b"], &["y"], vec![])
        },
    ]);
    g.doc_string = text("");
    g.initializer = vec![
        TensorProto {
            doc_string: text("weight"),
            ..floats("w", &[2], &[1.0, 2.0])
        },
        TensorProto {
            raw_data: None,
            float_data: vec![1.0, -0.0],
            ..floats("typed", &[2], &[])
        },
        TensorProto {
            raw_data: None,
            ..floats("empty", &[0], &[])
        },
        TensorProto {
            data_type: Some(8),
            raw_data: None,
            string_data: vec![b"one".to_vec(), b"\xff".to_vec()],
            ..floats("strings", &[2], &[])
        },
        TensorProto {
            data_type: Some(22),
            raw_data: Some(vec![0x21, 0x03]),
            ..floats("int4", &[3], &[])
        },
        TensorProto {
            data_type: Some(3),
            raw_data: None,
            int32_data: vec![-1, 2],
            ..floats("int8", &[2], &[])
        },
        TensorProto {
            data_type: Some(10),
            raw_data: None,
            int32_data: vec![0x3c00],
            ..floats("half", &[], &[])
        },
        TensorProto {
            data_type: Some(14),
            raw_data: None,
            float_data: vec![1.0, 2.0],
            ..floats("complex", &[1], &[])
        },
        TensorProto {
            data_type: Some(12),
            raw_data: None,
            uint64_data: vec![u64::from(u32::MAX)],
            ..floats("u32", &[1], &[])
        },
    ];
    // An initializer that is also an input, as IR version 3 wants it.
    g.input.push(port("w", &[2]));
    g.value_info = vec![
        port("b", &[1, 32]),
        port("nowhere", &[3]),
        ValueInfoProto {
            name: text("a"),
            ..Default::default()
        },
    ];
    g.quantization_annotation.push(TensorAnnotation {
        tensor_name: text("w"),
        quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "typed")],
        ..Default::default()
    });
    g.sparse_initializer.push(SparseTensorProto {
        values: MessageField::some(floats("sparse", &[1], &[5.0])),
        indices: MessageField::some(TensorProto {
            dims: vec![1, 2],
            data_type: Some(7),
            int64_data: vec![1, 0],
            ..Default::default()
        }),
        dims: vec![2, 3],
        ..Default::default()
    });
    g.metadata_props.push(entry("k", ""));
    g
}

fn full_model() -> ModelProto {
    let mut m = model(17, full_graph());
    m.producer_name = text("pytorch");
    m.producer_version = text("");
    m.model_version = Some(0);
    m.doc_string = text("two\nlines");
    m.metadata_props = vec![entry("a", "1"), entry("a", "2")];
    m.functions.push(FunctionProto {
        name: text("f"),
        domain: text("com.example"),
        node: vec![node("Relu", &["p"], &["q"], vec![])],
        ..Default::default()
    });
    m.training_info.push(TrainingInfoProto {
        initialization_binding: vec![entry("w", "v")],
        ..Default::default()
    });
    m.configuration.push(DeviceConfigurationProto {
        name: text("gpu"),
        num_devices: Some(0),
        ..Default::default()
    });
    m
}

#[test]
fn everything_a_model_can_hold_comes_back() {
    same_bytes("full", &bytes(&full_model()));
}

#[test]
fn unknown_fields_come_back() {
    let mut m = full_model();
    m.special_fields.mut_unknown_fields().add_varint(900, 7);
    let g = m.graph.mut_or_insert_default();
    g.special_fields
        .mut_unknown_fields()
        .add_length_delimited(901, b"graph".to_vec());
    g.node[0]
        .special_fields
        .mut_unknown_fields()
        .add_fixed32(902, 1);
    g.node[0].attribute[0]
        .special_fields
        .mut_unknown_fields()
        .add_fixed64(903, 2);
    g.initializer[0]
        .special_fields
        .mut_unknown_fields()
        .add_varint(904, 0);
    g.input[0]
        .special_fields
        .mut_unknown_fields()
        .add_varint(905, 5);
    g.value_info[0]
        .special_fields
        .mut_unknown_fields()
        .add_varint(906, 6);
    same_bytes("unknown", &bytes(&m));
}

#[test]
fn subgraphs_keep_the_outer_values_they_read() {
    let branch = GraphProto {
        node: vec![
            node("Add", &["x", "local"], &["o"], vec![]),
            node(
                "If",
                &["o"],
                &["p"],
                vec![graph_attribute(
                    "then_branch",
                    GraphProto {
                        node: vec![node("Neg", &["deep"], &["q"], vec![])],
                        ..Default::default()
                    },
                )],
            ),
        ],
        initializer: vec![floats("local", &[1], &[1.0])],
        output: vec![port("o", &[])],
        ..Default::default()
    };
    let mut g = graph(vec![node(
        "If",
        &["c"],
        &["y"],
        vec![graph_attribute("else_branch", branch)],
    )]);
    g.initializer = vec![floats("deep", &[1], &[1.0]), floats("c", &[], &[1.0])];
    let file = bytes(&model(17, g));
    let graph = read_bytes(&file, None, &Limits::default()).expect("readable");
    let (_, node) = graph.nodes().next().expect("one node");
    let names: Vec<&str> = node
        .captures
        .iter()
        .map(|v| graph.value(*v).name.as_str())
        .collect();
    assert_eq!(names, ["deep", "x"]);
    same_bytes("subgraphs", &file);
}

#[test]
fn bodies_have_the_outer_values_behind_their_own_inputs() {
    let body = GraphProto {
        input: vec![port("round", &[]), port("go", &[]), port("state", &[])],
        node: vec![
            node("Add", &["state", "x"], &["next"], vec![]),
            node("Identity", &["go"], &["again"], vec![]),
        ],
        output: vec![port("again", &[]), port("next", &[])],
        ..Default::default()
    };
    let mut g = graph(vec![node(
        "Loop",
        &["n", "", "x"],
        &["y"],
        vec![graph_attribute("body", body)],
    )]);
    g.initializer = vec![floats("n", &[], &[3.0])];
    let file = bytes(&model(17, g));
    let graph = read_bytes(&file, None, &Limits::default()).expect("readable");
    let (_, node) = graph.nodes().next().expect("one node");
    let regraft_graph::Op::Loop { body } = &node.op else {
        panic!("{:?}", node.op);
    };
    let inner = &body.graph;
    let names: Vec<&str> = inner
        .inputs()
        .iter()
        .map(|v| inner.value(*v).name.as_str())
        .collect();
    assert_eq!(names, ["round", "go", "state", "x"]);
    assert_eq!((body.n_own, inner.n_nodes()), (3, 2));
    same_bytes("loop", &file);
}

#[test]
fn fields_in_another_order_mean_the_same() {
    let m = full_model();
    let mut tail = m.clone();
    let head = ModelProto {
        graph: tail.graph.take().into(),
        ..Default::default()
    };
    let odd = [bytes(&head), bytes(&tail)].concat();
    let graph = read_bytes(&odd, None, &Limits::default()).expect("readable");
    assert_eq!(write_bytes(&graph).expect("writable"), bytes(&m));
}

#[test]
fn nodes_out_of_order_are_sorted() {
    let m = model(
        17,
        graph(vec![
            node("Relu", &["a"], &["y"], vec![]),
            node("Abs", &["x"], &["a"], vec![]),
        ]),
    );
    let graph = read_bytes(&bytes(&m), None, &Limits::default()).expect("readable");
    let ops: Vec<&str> = graph.nodes().map(|(_, n)| n.op.name()).collect();
    assert_eq!(ops, ["Abs", "Relu"]);
}
