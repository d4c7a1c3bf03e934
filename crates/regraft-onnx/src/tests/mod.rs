//! Tests at the crate's border, on models made from messages.
#![allow(
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "tables of cases, and short builders for them"
)]

mod edits;
mod external;
mod lossless;
mod ops;
mod properties;
mod refused;

use protobuf::{Message, MessageField};

use crate::proto::onnx::type_proto;
use crate::proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto,
};

pub(crate) fn text(s: &str) -> Option<String> {
    Some(s.to_owned())
}

pub(crate) fn node(
    op_type: &str,
    inputs: &[&str],
    outputs: &[&str],
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: outputs.iter().map(|s| (*s).to_owned()).collect(),
        name: text("n"),
        op_type: text(op_type),
        attribute,
        ..Default::default()
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto {
        name: text(name),
        type_: Some(kind),
        ..Default::default()
    }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        i: Some(i),
        ..attribute(name, 2)
    }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        f: Some(f),
        ..attribute(name, 1)
    }
}

pub(crate) fn ints(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: list.to_vec(),
        ..attribute(name, 7)
    }
}

pub(crate) fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        s: Some(s.as_bytes().to_vec()),
        ..attribute(name, 3)
    }
}

pub(crate) fn strings(name: &str, list: &[&str]) -> AttributeProto {
    AttributeProto {
        strings: list.iter().map(|s| s.as_bytes().to_vec()).collect(),
        ..attribute(name, 8)
    }
}

pub(crate) fn tensor_attribute(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto {
        t: MessageField::some(t),
        ..attribute(name, 4)
    }
}

pub(crate) fn graph_attribute(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto {
        g: MessageField::some(g),
        ..attribute(name, 5)
    }
}

/// Returns a raw tensor of 32-bit floats.
pub(crate) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: text(name),
        dims: dims.to_vec(),
        data_type: Some(1),
        raw_data: Some(data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ..Default::default()
    }
}

/// Returns a declared 32-bit float of fixed extents.
pub(crate) fn port(name: &str, dims: &[i64]) -> ValueInfoProto {
    let mut tensor = type_proto::Tensor {
        elem_type: Some(1),
        ..Default::default()
    };
    let shape = tensor.shape.mut_or_insert_default();
    for d in dims {
        let dim = crate::proto::onnx::tensor_shape_proto::Dimension {
            dim_value: Some(*d),
            ..Default::default()
        };
        shape.dim.push(dim);
    }
    let kind = TypeProto {
        tensor_type: MessageField::some(tensor),
        ..Default::default()
    };
    ValueInfoProto {
        name: text(name),
        type_: MessageField::some(kind),
        ..Default::default()
    }
}

pub(crate) fn graph(nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        name: text("g"),
        input: vec![port("x", &[1, 2, 4, 4])],
        output: vec![port("y", &[])],
        node: nodes,
        ..Default::default()
    }
}

pub(crate) fn model(opset: i64, graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: text(""),
            version: Some(opset),
            ..Default::default()
        }],
        graph: MessageField::some(graph),
        ..Default::default()
    }
}

pub(crate) fn bytes(model: &ModelProto) -> Vec<u8> {
    model.write_to_bytes().expect("encodes")
}
