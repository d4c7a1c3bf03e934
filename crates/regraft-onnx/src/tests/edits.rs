//! An edited graph is written with the edits, and with everything else as it was.

use protobuf::Message;
use regraft_graph::{Dim, NodeId, Op, Tensor, ValueType};

use super::*;
use crate::{Limits, read_bytes, write_bytes};

fn base() -> regraft_graph::Graph {
    let conv = NodeProto {
        doc_string: text("kept"),
        ..node(
            "Conv",
            &["x", "w", "b"],
            &["c"],
            vec![int("group", 2), ints("pads", &[1; 4])],
        )
    };
    let mut g = graph(vec![conv, node("Relu", &["c"], &["y"], vec![])]);
    g.initializer = vec![
        floats("w", &[2, 1, 1, 1], &[1.0, 2.0]),
        TensorProto {
            raw_data: None,
            float_data: vec![3.0, 4.0],
            doc_string: text("bias"),
            ..floats("b", &[2], &[])
        },
    ];
    g.value_info = vec![port("c", &[1, 2, 6, 6]), port("w", &[2, 1, 1, 1])];
    read_bytes(&bytes(&model(17, g)), None, &Limits::default()).expect("readable")
}

fn written(graph: &regraft_graph::Graph) -> ModelProto {
    ModelProto::parse_from_bytes(&write_bytes(graph).expect("writable")).expect("a model")
}

#[test]
fn a_changed_op_changes_only_its_attributes() {
    let graph = base();
    let id = NodeId::new(0);
    let Op::Conv(mut conv) = graph.node(id).op.clone() else {
        panic!("a convolution")
    };
    conv.group = 1;
    conv.strides = vec![2, 2];
    let mut edit = graph.edit();
    edit.set_op(id, Op::Conv(conv));
    let out = written(&edit.finish().expect("a graph"));
    let node = &out.graph.node[0];
    assert_eq!(node.doc_string(), "kept");
    let names: Vec<&str> = node.attribute.iter().map(AttributeProto::name).collect();
    assert_eq!(names, ["group", "pads", "strides"]);
    assert_eq!(node.attribute[0].i(), 1);
    assert_eq!(node.attribute[2].ints, [2, 2]);
}

#[test]
fn changed_weights_keep_name_note_and_storage() {
    let graph = base();
    let (w, b) = (
        graph.find_value("w").expect("w"),
        graph.find_value("b").expect("b"),
    );
    let mut edit = graph.edit();
    edit.set_initializer(
        w,
        Tensor::from_f32(vec![1, 1, 1, 1], vec![7.0]).expect("fits"),
    );
    edit.set_initializer(b, Tensor::from_f32(vec![1], vec![8.0]).expect("fits"));
    let y = graph.outputs()[0];
    edit.set_declared(
        y,
        Some(ValueType {
            dtype: regraft_graph::DType::F32,
            shape: Some(vec![Dim::symbol("n"), Dim::Fixed(1)]),
        }),
    );
    let c = graph.find_value("c").expect("c");
    edit.forget_declared(c);
    edit.set_metadata("regraft.kept", "1/2");
    let out = written(&edit.finish().expect("a graph"));
    let tensors = &out.graph.initializer;
    assert_eq!(
        (tensors[0].name(), &tensors[0].dims),
        ("w", &vec![1, 1, 1, 1])
    );
    assert_eq!(tensors[0].raw_data(), 7.0f32.to_le_bytes());
    assert_eq!(
        (tensors[1].doc_string(), &tensors[1].float_data),
        ("bias", &vec![8.0])
    );
    assert!(tensors[1].raw_data.is_none());
    assert!(
        out.graph.value_info.is_empty(),
        "stale shapes stay: {:?}",
        out.graph.value_info
    );
    let shape = out.graph.output[0]
        .type_
        .tensor_type
        .shape
        .clone()
        .unwrap_or_default();
    assert_eq!(shape.dim[0].dim_param(), "n");
    assert_eq!(shape.dim[1].dim_value(), 1);
    assert_eq!(out.metadata_props[0].key(), "regraft.kept");
}

#[test]
fn a_model_made_here_is_complete() {
    let mut builder = regraft_graph::GraphBuilder::new(regraft_graph::Header::default());
    builder.input(
        "x",
        Some(ValueType {
            dtype: regraft_graph::DType::F32,
            shape: Some(vec![Dim::Fixed(2)]),
        }),
    );
    builder
        .tensor(
            "w",
            Tensor::from_f32(vec![2], vec![1.0, 2.0]).expect("fits"),
        )
        .expect("new");
    builder.op(
        "add",
        Op::Binary(regraft_graph::op::BinaryOp::Add),
        &["x", "w"],
        &["y"],
    );
    builder.output("y");
    let out = written(&builder.finish().expect("a graph"));
    assert_eq!(out.opset_import[0].version(), 17);
    assert_eq!(out.graph.node[0].op_type(), "Add");
    assert_eq!(out.graph.input[0].type_.tensor_type.elem_type(), 1);
    assert_eq!(out.graph.initializer[0].data_type(), 1);
}

#[test]
fn the_oldest_format_is_left_once_an_initializer_is_no_input() {
    let mut g = graph(vec![node("Add", &["x", "w"], &["y"], vec![])]);
    g.initializer = vec![floats("w", &[2], &[1.0, 2.0])];
    g.input.push(port("w", &[2]));
    let mut m = model(7, g);
    m.ir_version = Some(3);
    let graph = read_bytes(&bytes(&m), None, &Limits::default()).expect("readable");
    assert_eq!(written(&graph).ir_version(), 3);
    let mut edit = graph.edit();
    let tensor = Tensor::from_f32(vec![2], vec![3.0, 4.0]).unwrap();
    let added = edit.add_initializer("folded", tensor);
    edit.set_input(NodeId::new(0), 1, Some(added));
    assert_eq!(written(&edit.finish().unwrap()).ir_version(), 4);
}
