//! Which field of which message holds what: the table that the walker follows.
#![allow(
    clippy::match_same_arms,
    reason = "a table: one line a field, in the order of the specification"
)]

/// A message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    /// Tensor and sparse tensor types.
    TypeTensor,
    /// Sequence and optional types.
    TypeElement,
    TypeMap,
    TypeOpaque,
    Shape,
    Dimension,
    Entry,
    OperatorSet,
    Function,
    Training,
    Annotation,
    Device,
    /// Messages with nothing but numbers and other such messages below.
    NodeDevice,
    Sharding,
    ShardedDim,
    SimpleSharded,
    Numbers,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Message(Kind),
    /// UTF-8 without control characters, of limited length.
    Name,
    /// UTF-8.
    Text,
    Bytes,
    Varint,
    Fixed32,
    Fixed64,
    Unknown,
}

/// Returns the name and the content of field `number` of `kind`.
pub(super) fn field(kind: Kind, number: u64) -> (&'static str, Content) {
    use Content::{Message, Name, Text, Varint};
    match (kind, number) {
        (Kind::Model, _) => model(number),
        (Kind::Graph, _) => graph(number),
        (Kind::Node, _) => node(number),
        (Kind::Attribute, _) => attribute(number),
        (Kind::Tensor, _) => tensor(number),
        (Kind::Function, _) => function(number),
        (Kind::Type, _) => type_proto(number),
        (Kind::Sparse, 1) => ("values", Message(Kind::Tensor)),
        (Kind::Sparse, 2) => ("indices", Message(Kind::Tensor)),
        (Kind::Sparse, 3) => ("dims", Varint),
        (Kind::ValueInfo, 1) => ("name", Name),
        (Kind::ValueInfo, 2) => ("type", Message(Kind::Type)),
        (Kind::ValueInfo, 3) => ("doc_string", Text),
        (Kind::ValueInfo, 4) => ("metadata_props", Message(Kind::Entry)),
        (Kind::TypeTensor, 1) => ("elem_type", Varint),
        (Kind::TypeTensor, 2) => ("shape", Message(Kind::Shape)),
        (Kind::TypeElement, 1) => ("elem_type", Message(Kind::Type)),
        (Kind::TypeMap, 1) => ("key_type", Varint),
        (Kind::TypeMap, 2) => ("value_type", Message(Kind::Type)),
        (Kind::TypeOpaque, 1) => ("domain", Name),
        (Kind::TypeOpaque, 2) => ("name", Name),
        (Kind::Shape, 1) => ("dim", Message(Kind::Dimension)),
        (Kind::Dimension, 1) => ("dim_value", Varint),
        (Kind::Dimension, 2) => ("dim_param", Name),
        (Kind::Dimension, 3) => ("denotation", Name),
        (Kind::Entry, 1) => ("key", Name),
        (Kind::Entry, 2) => ("value", Text),
        (Kind::OperatorSet, 1) => ("domain", Name),
        (Kind::OperatorSet, 2) => ("version", Varint),
        (Kind::Training, 1) => ("initialization", Message(Kind::Graph)),
        (Kind::Training, 2) => ("algorithm", Message(Kind::Graph)),
        (Kind::Training, 3) => ("initialization_binding", Message(Kind::Entry)),
        (Kind::Training, 4) => ("update_binding", Message(Kind::Entry)),
        (Kind::Annotation, 1) => ("tensor_name", Name),
        (Kind::Annotation, 2) => ("quant_parameter_tensor_names", Message(Kind::Entry)),
        (Kind::Device, 1) => ("name", Name),
        (Kind::Device, 2) => ("num_devices", Varint),
        (Kind::Device, 3) => ("device", Name),
        (Kind::NodeDevice, 1) => ("configuration_id", Name),
        (Kind::NodeDevice, 2) => ("sharding_spec", Message(Kind::Sharding)),
        (Kind::NodeDevice, 3) => ("pipeline_stage", Varint),
        (Kind::Sharding, 1) => ("tensor_name", Name),
        (Kind::Sharding, 2) => ("device", Varint),
        (Kind::Sharding, 3) => ("index_to_device_group_map", Message(Kind::Numbers)),
        (Kind::Sharding, 4) => ("sharded_dim", Message(Kind::ShardedDim)),
        (Kind::ShardedDim, 1) => ("axis", Varint),
        (Kind::ShardedDim, 2) => ("simple_sharding", Message(Kind::SimpleSharded)),
        (Kind::SimpleSharded, 1) => ("dim_value", Varint),
        (Kind::SimpleSharded, 2) => ("dim_param", Name),
        (Kind::SimpleSharded, 3) => ("num_shards", Varint),
        (Kind::Numbers, 1) => ("begin", Varint),
        (Kind::Numbers, 2) => ("end", Varint),
        _ => ("unknown", Content::Unknown),
    }
}

fn model(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("ir_version", Content::Varint),
        2 => ("producer_name", Content::Name),
        3 => ("producer_version", Content::Text),
        4 => ("domain", Content::Name),
        5 => ("model_version", Content::Varint),
        6 => ("doc_string", Content::Text),
        7 => ("graph", Content::Message(Kind::Graph)),
        8 => ("opset_import", Content::Message(Kind::OperatorSet)),
        14 => ("metadata_props", Content::Message(Kind::Entry)),
        20 => ("training_info", Content::Message(Kind::Training)),
        25 => ("functions", Content::Message(Kind::Function)),
        26 => ("configuration", Content::Message(Kind::Device)),
        _ => ("unknown", Content::Unknown),
    }
}

fn graph(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("node", Content::Message(Kind::Node)),
        2 => ("name", Content::Name),
        5 => ("initializer", Content::Message(Kind::Tensor)),
        10 => ("doc_string", Content::Text),
        11 => ("input", Content::Message(Kind::ValueInfo)),
        12 => ("output", Content::Message(Kind::ValueInfo)),
        13 => ("value_info", Content::Message(Kind::ValueInfo)),
        14 => (
            "quantization_annotation",
            Content::Message(Kind::Annotation),
        ),
        15 => ("sparse_initializer", Content::Message(Kind::Sparse)),
        16 => ("metadata_props", Content::Message(Kind::Entry)),
        _ => ("unknown", Content::Unknown),
    }
}

fn node(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("input", Content::Name),
        2 => ("output", Content::Name),
        3 => ("name", Content::Name),
        4 => ("op_type", Content::Name),
        5 => ("attribute", Content::Message(Kind::Attribute)),
        6 => ("doc_string", Content::Text),
        7 => ("domain", Content::Name),
        8 => ("overload", Content::Name),
        9 => ("metadata_props", Content::Message(Kind::Entry)),
        10 => ("device_configurations", Content::Message(Kind::NodeDevice)),
        _ => ("unknown", Content::Unknown),
    }
}

fn attribute(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("name", Content::Name),
        2 => ("f", Content::Fixed32),
        3 => ("i", Content::Varint),
        4 => ("s", Content::Bytes),
        5 => ("t", Content::Message(Kind::Tensor)),
        6 => ("g", Content::Message(Kind::Graph)),
        7 => ("floats", Content::Fixed32),
        8 => ("ints", Content::Varint),
        9 => ("strings", Content::Bytes),
        10 => ("tensors", Content::Message(Kind::Tensor)),
        11 => ("graphs", Content::Message(Kind::Graph)),
        13 => ("doc_string", Content::Text),
        14 => ("tp", Content::Message(Kind::Type)),
        15 => ("type_protos", Content::Message(Kind::Type)),
        20 => ("type", Content::Varint),
        21 => ("ref_attr_name", Content::Name),
        22 => ("sparse_tensor", Content::Message(Kind::Sparse)),
        23 => ("sparse_tensors", Content::Message(Kind::Sparse)),
        _ => ("unknown", Content::Unknown),
    }
}

fn tensor(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("dims", Content::Varint),
        2 => ("data_type", Content::Varint),
        3 => ("segment", Content::Message(Kind::Numbers)),
        4 => ("float_data", Content::Fixed32),
        5 => ("int32_data", Content::Varint),
        6 => ("string_data", Content::Bytes),
        7 => ("int64_data", Content::Varint),
        8 => ("name", Content::Name),
        9 => ("raw_data", Content::Bytes),
        10 => ("double_data", Content::Fixed64),
        11 => ("uint64_data", Content::Varint),
        12 => ("doc_string", Content::Text),
        13 => ("external_data", Content::Message(Kind::Entry)),
        14 => ("data_location", Content::Varint),
        16 => ("metadata_props", Content::Message(Kind::Entry)),
        _ => ("unknown", Content::Unknown),
    }
}

fn function(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("name", Content::Name),
        2 => ("since_version", Content::Varint),
        3 => ("status", Content::Varint),
        4 => ("input", Content::Name),
        5 => ("output", Content::Name),
        6 => ("attribute", Content::Name),
        7 => ("node", Content::Message(Kind::Node)),
        8 => ("doc_string", Content::Text),
        9 => ("opset_import", Content::Message(Kind::OperatorSet)),
        10 => ("domain", Content::Name),
        11 => ("attribute_proto", Content::Message(Kind::Attribute)),
        12 => ("value_info", Content::Message(Kind::ValueInfo)),
        13 => ("overload", Content::Name),
        14 => ("metadata_props", Content::Message(Kind::Entry)),
        _ => ("unknown", Content::Unknown),
    }
}

fn type_proto(number: u64) -> (&'static str, Content) {
    match number {
        1 => ("tensor_type", Content::Message(Kind::TypeTensor)),
        4 => ("sequence_type", Content::Message(Kind::TypeElement)),
        5 => ("map_type", Content::Message(Kind::TypeMap)),
        6 => ("denotation", Content::Name),
        7 => ("opaque_type", Content::Message(Kind::TypeOpaque)),
        8 => ("sparse_tensor_type", Content::Message(Kind::TypeTensor)),
        9 => ("optional_type", Content::Message(Kind::TypeElement)),
        _ => ("unknown", Content::Unknown),
    }
}
