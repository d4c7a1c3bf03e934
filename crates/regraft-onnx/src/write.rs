//! A graph to ONNX bytes.

use std::collections::BTreeMap;

use protobuf::Message;
use regraft_graph::{DType, Graph, Initializer, Node, Op, Source, ValueId, ValueType};

use crate::attributes::overlay;
use crate::limits::MAX_PROTO_BYTES;
use crate::proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};
use crate::sparse::{DENSE, SPARSE, densify};
use crate::tensor::varint_len;
use crate::{Limits, OnnxError, op, tensor, value};

/// Written into models that no file gave versions to.
const DEFAULT_IR_VERSION: i64 = 8;

/// The first version of the format in which initializers need not be inputs of the graph.
const FREE_INITIALIZERS: i64 = 4;
const DEFAULT_OPSET: i64 = 17;

/// The keys of length-delimited fields, as they stand before a message: `number << 3 | 2`.
const MODEL_GRAPH: u8 = 7 << 3 | 2;
const GRAPH_INITIALIZER: u8 = 5 << 3 | 2;

/// Returns the model file of a graph.
///
/// Everything that the file it came from held is there again, external data inside the model.
///
/// # Errors
/// [`OnnxError::TooLarge`] for a model beyond the 2 GiB of one file; [`OnnxError::Model`] if a
/// source was not made by this crate.
pub fn write_bytes(graph: &Graph) -> Result<Vec<u8>, OnnxError> {
    let mut model = model_proto(graph)?;
    let mut body = graph_proto(graph)?;
    let mut dense = Vec::new();
    for (id, initializer) in graph.initializers() {
        match sparse_source(initializer)? {
            Some(sparse) => body.sparse_initializer.push(sparse),
            None => dense.push((graph.value(*id).name.as_str(), initializer)),
        }
    }
    // Initializers are encoded one after the other between the fields before and after them, so
    // that a large model is never held a second time as messages.
    let first = GraphProto {
        node: std::mem::take(&mut body.node),
        name: body.name.take(),
        ..Default::default()
    };
    let head = ModelProto {
        ir_version: model.ir_version.take(),
        producer_name: model.producer_name.take(),
        producer_version: model.producer_version.take(),
        domain: model.domain.take(),
        model_version: model.model_version.take(),
        doc_string: model.doc_string.take(),
        ..Default::default()
    };
    let mut graph_len = first.compute_size() + body.compute_size();
    for (name, initializer) in &dense {
        let source = tensor_source(initializer)?;
        let len = match carried(source.as_ref(), initializer) {
            Some(whole) => whole.compute_size(),
            None => tensor::encoded_len(source, Some(name), &initializer.tensor),
        };
        graph_len += 1 + varint_len(len) + len;
    }
    let total = head.compute_size() + 1 + varint_len(graph_len) + graph_len + model.compute_size();
    if total > MAX_PROTO_BYTES {
        return Err(OnnxError::TooLarge {
            bytes: total,
            limit: MAX_PROTO_BYTES,
        });
    }
    let mut out = Vec::with_capacity(total as usize);
    append(&head, &mut out)?;
    out.push(MODEL_GRAPH);
    push_varint(&mut out, graph_len);
    append(&first, &mut out)?;
    for (name, initializer) in &dense {
        let proto = tensor_proto(name, initializer)?;
        out.push(GRAPH_INITIALIZER);
        push_varint(&mut out, proto.compute_size());
        append(&proto, &mut out)?;
    }
    append(&body, &mut out)?;
    append(&model, &mut out)?;
    Ok(out)
}

fn append(message: &impl Message, out: &mut Vec<u8>) -> Result<(), OnnxError> {
    message
        .write_to_vec(out)
        .map_err(|e| OnnxError::model(format!("cannot be encoded: {e}")))
}

fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Returns the message that a source holds, or a new one.
fn restore<M: Message>(source: Option<&Source>) -> Result<M, OnnxError> {
    source.map_or_else(|| Ok(M::new()), |s| restore_bytes(&s.0))
}

fn restore_bytes<M: Message>(bytes: &[u8]) -> Result<M, OnnxError> {
    M::parse_from_bytes(bytes)
        .map_err(|e| OnnxError::model(format!("carries a part that is no ONNX message: {e}")))
}

fn model_proto(graph: &Graph) -> Result<ModelProto, OnnxError> {
    let header = graph.header();
    let mut model: ModelProto = restore(header.model_source.as_ref())?;
    if header.model_source.is_none() {
        model.producer_name = Some("regraft".to_owned());
    }
    let is_input = |id: &ValueId| graph.inputs().contains(id);
    let ir_version = match header.ir_version {
        0 => DEFAULT_IR_VERSION,
        // Before it every initializer has to be an input too, and one that was added is not.
        old if old < FREE_INITIALIZERS && !graph.initializers().keys().all(is_input) => {
            FREE_INITIALIZERS
        }
        as_read => as_read,
    };
    if model.ir_version() != ir_version {
        model.ir_version = Some(ir_version);
    }
    let same = model.opset_import.len() == header.opsets.len()
        && model
            .opset_import
            .iter()
            .zip(&header.opsets)
            .all(|(a, b)| a.domain() == b.domain && a.version() == b.version);
    if !same || header.opsets.is_empty() {
        let set = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
            ..Default::default()
        };
        model.opset_import = header
            .opsets
            .iter()
            .map(|o| set(&o.domain, o.version))
            .collect();
        if model.opset_import.is_empty() {
            model.opset_import.push(set("", DEFAULT_OPSET));
        }
    }
    // Entries that say the same are kept as they are, unknown fields included.
    let mut old = std::mem::take(&mut model.metadata_props)
        .into_iter()
        .peekable();
    for (key, text) in &header.metadata {
        let kept = old.next_if(|e| e.key() == key && e.value() == text);
        model
            .metadata_props
            .push(kept.unwrap_or_else(|| StringStringEntryProto {
                key: Some(key.clone()),
                value: Some(text.clone()),
                ..Default::default()
            }));
    }
    Ok(model)
}

/// Returns the graph's message without its initializers.
fn graph_proto(graph: &Graph) -> Result<GraphProto, OnnxError> {
    let header = graph.header();
    let mut proto: GraphProto = restore(header.graph_source.as_ref())?;
    if proto.name() != header.name || header.graph_source.is_none() {
        proto.name = Some(header.name.clone());
    }
    let names: BTreeMap<&str, ValueId> = graph
        .values()
        .map(|(id, v)| (v.name.as_str(), id))
        .collect();
    let mut live = vec![false; graph.n_values()];
    for id in graph.inputs().iter().chain(graph.initializers().keys()) {
        live[id.index()] = true;
    }
    for (_, node) in graph.nodes() {
        proto.node.push(node_proto(graph, node)?);
        for id in node.outputs.iter().flatten() {
            live[id.index()] = true;
        }
    }
    let mut is_port = vec![false; graph.n_values()];
    for id in graph.inputs().iter().chain(graph.outputs()) {
        is_port[id.index()] = true;
    }
    let is_live = |name: &str| names.get(name).map(|id| live[id.index()]);
    proto.input = ports(graph, graph.inputs(), std::mem::take(&mut proto.input))?;
    proto.output = ports(graph, graph.outputs(), std::mem::take(&mut proto.output))?;
    proto
        .quantization_annotation
        .retain(|a| is_live(a.tensor_name()) != Some(false));
    let mut declared = Vec::new();
    for info in std::mem::take(&mut proto.value_info) {
        match names.get(info.name()) {
            None => declared.push(info),
            Some(id) if live[id.index()] => {
                declared.extend(inner_value(graph, *id, info, is_port[id.index()])?);
            }
            Some(_) => {}
        }
    }
    proto.value_info = declared;
    Ok(proto)
}

/// Returns the declaration of an inner value, unless nothing is known of it any more.
fn inner_value(
    graph: &Graph,
    id: ValueId,
    name: ValueInfoProto,
    is_port: bool,
) -> Result<Option<ValueInfoProto>, OnnxError> {
    let value = graph.value(id);
    let mut info = match (&value.source, &value.declared) {
        (None, None) => return Ok(None),
        (None, Some(_)) if is_port => return Ok(None),
        (None, Some(_)) => name,
        (Some(source), _) => restore_bytes(&source.0)?,
    };
    if !is_port {
        value::overlay(&mut info, value.declared.as_ref())?;
    }
    Ok(Some(info))
}

/// Returns the declarations of the graph's inputs or outputs, from what the file held of them.
fn ports(
    graph: &Graph,
    ids: &[ValueId],
    old: Vec<ValueInfoProto>,
) -> Result<Vec<ValueInfoProto>, OnnxError> {
    let mut by_name: BTreeMap<String, ValueInfoProto> = old
        .into_iter()
        .map(|info| (info.name().to_owned(), info))
        .collect();
    let mut out = Vec::with_capacity(ids.len());
    for id in ids {
        let value = graph.value(*id);
        let mut info = by_name
            .remove(&value.name)
            .unwrap_or_else(|| ValueInfoProto {
                name: Some(value.name.clone()),
                ..Default::default()
            });
        let declared = match graph.tensor(*id) {
            // An input with a default is declared as that default is.
            Some(t) => Some(default_type(value.declared.as_ref(), t)),
            None => value.declared.clone(),
        };
        // No declared type here means that there was none to understand, not that it was forgotten.
        if declared.is_some() {
            value::overlay(&mut info, declared.as_ref())?;
        }
        out.push(info);
    }
    Ok(out)
}

fn default_type(declared: Option<&ValueType>, tensor: &regraft_graph::Tensor) -> ValueType {
    let shape: Vec<_> = tensor.shape().iter().map(|&n| n.into()).collect();
    match declared {
        Some(d)
            if d.shape
                .as_ref()
                .is_none_or(|s| s.len() == shape.len() && fits(s, tensor.shape())) =>
        {
            d.clone()
        }
        _ => ValueType {
            dtype: tensor.dtype(),
            shape: Some(shape),
        },
    }
}

fn fits(declared: &[regraft_graph::Dim], shape: &[usize]) -> bool {
    declared
        .iter()
        .zip(shape)
        .all(|(d, n)| d.fixed().is_none_or(|d| d == *n))
}

fn node_proto(graph: &Graph, node: &Node) -> Result<NodeProto, OnnxError> {
    let mut proto: NodeProto = restore(node.source.as_ref())?;
    let name =
        |port: &Option<ValueId>| port.map_or_else(String::new, |id| graph.value(id).name.clone());
    proto.input = node.inputs.iter().map(name).collect();
    proto.output = node.outputs.iter().map(name).collect();
    if proto.name() != node.name {
        proto.name = Some(node.name.clone());
    }
    let fresh = node.source.is_none();
    if fresh || node.edited {
        proto.op_type = Some(node.op.name().to_owned());
        if let Op::Opaque { domain, .. } = &node.op {
            proto.domain = Some(domain.clone()).filter(|d| !d.is_empty());
        }
    }
    // The data of a constant is in the op only.
    let holds_data =
        matches!(node.op, Op::Constant { .. }) && proto.attribute.iter().any(|a| a.t.is_some());
    if fresh || node.edited || holds_data {
        overlay(&mut proto, op::emit(&node.op));
    }
    Ok(proto)
}

/// Returns the sparse message of an initializer that was sparse and still has the same elements.
fn sparse_source(initializer: &Initializer) -> Result<Option<SparseTensorProto>, OnnxError> {
    let Some([SPARSE, bytes @ ..]) = initializer.source.as_ref().map(|s| &*s.0) else {
        return Ok(None);
    };
    let proto: SparseTensorProto = restore_bytes(bytes)?;
    let (_, dense) = densify(&proto, &Limits::default())?;
    Ok((dense == initializer.tensor).then_some(proto))
}

fn tensor_source(initializer: &Initializer) -> Result<Option<TensorProto>, OnnxError> {
    match initializer.source.as_ref().map(|s| &*s.0) {
        Some([DENSE, bytes @ ..]) => restore_bytes(bytes).map(Some),
        // A sparse tensor that changed goes on as a dense one.
        _ => Ok(None),
    }
}

/// Returns the message of a tensor whose data the graph does not hold, strings and such.
fn carried<'a>(
    source: Option<&'a TensorProto>,
    initializer: &Initializer,
) -> Option<&'a TensorProto> {
    let opaque = matches!(initializer.tensor.dtype(), DType::Other(_));
    source.filter(|proto| opaque && proto.raw_data.is_none())
}

fn tensor_proto(name: &str, initializer: &Initializer) -> Result<TensorProto, OnnxError> {
    let source = tensor_source(initializer)?;
    if carried(source.as_ref(), initializer).is_some() {
        return Ok(source.unwrap_or_default());
    }
    Ok(tensor::encode(source, Some(name), &initializer.tensor))
}
