//! What lies below the main graph: subgraphs of nodes, functions, training graphs.
//!
//! Here is only what the main graph must know of them: which outer values they use, that they hold
//! no external data, and that no function calls itself. Bodies that run are read in `control`.

use std::collections::{BTreeMap, BTreeSet};

use crate::OnnxError;
use crate::proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use crate::tensor::EXTERNAL;

/// Returns true if an attribute of the node is a graph.
pub(crate) fn has_subgraphs(node: &NodeProto) -> bool {
    node.attribute.iter().any(|a| graphs(a).next().is_some())
}

fn graphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

/// Returns the names of outer values that the subgraphs of a node use.
///
/// The recursion is as deep as the nesting of messages, which the scan has bounded.
pub(crate) fn captured_names(node: &NodeProto) -> BTreeSet<&str> {
    node.attribute
        .iter()
        .flat_map(graphs)
        .flat_map(free_names)
        .collect()
}

/// Returns the names of outer values that a graph inside a node uses.
pub(crate) fn free_names(graph: &GraphProto) -> BTreeSet<&str> {
    let mut used: BTreeSet<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    for node in &graph.node {
        used.extend(node.input.iter().map(String::as_str));
        used.extend(captured_names(node));
    }
    let inner = graph
        .input
        .iter()
        .map(ValueInfoProto::name)
        .chain(graph.initializer.iter().map(TensorProto::name))
        .chain(
            graph
                .sparse_initializer
                .iter()
                .filter_map(|s| s.values.as_ref())
                .map(TensorProto::name),
        )
        .chain(
            graph
                .node
                .iter()
                .flat_map(|n| &n.output)
                .map(String::as_str),
        );
    for name in inner {
        used.remove(name);
    }
    used.remove("");
    used
}

/// Checks that no tensor outside of the main graph's initializers has external data.
pub(crate) fn refuse_external(model: &ModelProto) -> Result<(), OnnxError> {
    for training in &model.training_info {
        for graph in training
            .initialization
            .iter()
            .chain(training.algorithm.iter())
        {
            refuse_in_graph(graph)?;
        }
    }
    for function in &model.functions {
        function.node.iter().try_for_each(refuse_in_node)?;
        function
            .attribute_proto
            .iter()
            .try_for_each(|a| refuse_in_attribute(function.name(), a))?;
    }
    if let Some(graph) = model.graph.as_ref() {
        graph.node.iter().try_for_each(refuse_in_node)?;
        refuse_in_sparse(graph)?;
    }
    Ok(())
}

fn refuse_in_graph(graph: &GraphProto) -> Result<(), OnnxError> {
    graph
        .initializer
        .iter()
        .try_for_each(|t| refuse_tensor(t.name(), t))?;
    refuse_in_sparse(graph)?;
    graph.node.iter().try_for_each(refuse_in_node)
}

fn refuse_in_sparse(graph: &GraphProto) -> Result<(), OnnxError> {
    let mut tensors = graph
        .sparse_initializer
        .iter()
        .flat_map(|s| s.values.iter().chain(s.indices.iter()));
    tensors.try_for_each(|t| refuse_tensor(t.name(), t))
}

fn refuse_in_node(node: &NodeProto) -> Result<(), OnnxError> {
    let label = if node.name().is_empty() {
        node.output.first().map_or("", String::as_str)
    } else {
        node.name()
    };
    node.attribute
        .iter()
        .try_for_each(|a| refuse_in_attribute(label, a))
}

fn refuse_in_attribute(node: &str, attribute: &AttributeProto) -> Result<(), OnnxError> {
    let sparse = attribute
        .sparse_tensor
        .iter()
        .chain(&attribute.sparse_tensors);
    let mut tensors = attribute
        .t
        .iter()
        .chain(&attribute.tensors)
        .chain(sparse.flat_map(|s| s.values.iter().chain(s.indices.iter())));
    tensors.try_for_each(|t| refuse_tensor(&format!("{node}.{}", attribute.name()), t))?;
    graphs(attribute).try_for_each(refuse_in_graph)
}

fn refuse_tensor(label: &str, tensor: &TensorProto) -> Result<(), OnnxError> {
    if tensor.data_location() == EXTERNAL {
        return Err(OnnxError::external(
            label,
            "only initializers of the main graph may have it",
        ));
    }
    Ok(())
}

/// Names a function of the model: domain and operator.
pub(crate) type FunctionKey = (String, String);

/// Returns the domain of a node or function, the standard one in its one spelling.
pub(crate) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// Returns the functions of a model, after checking that none calls itself.
pub(crate) fn functions(model: &ModelProto) -> Result<BTreeSet<FunctionKey>, OnnxError> {
    let mut calls: BTreeMap<FunctionKey, BTreeSet<FunctionKey>> = BTreeMap::new();
    for function in &model.functions {
        let key = (
            domain(function.domain()).to_owned(),
            function.name().to_owned(),
        );
        let called = calls.entry(key).or_default();
        function.node.iter().for_each(|n| collect_calls(n, called));
    }
    // Takes away functions that call no other one until none is left; what stays is in a cycle.
    let names: BTreeSet<FunctionKey> = calls.keys().cloned().collect();
    let mut callers: BTreeMap<FunctionKey, Vec<FunctionKey>> = BTreeMap::new();
    let mut open: BTreeMap<FunctionKey, usize> = BTreeMap::new();
    let mut ready = Vec::new();
    for (key, called) in &calls {
        let n = called.iter().filter(|c| names.contains(*c)).count();
        open.insert(key.clone(), n);
        if n == 0 {
            ready.push(key.clone());
        }
        for c in called {
            callers.entry(c.clone()).or_default().push(key.clone());
        }
    }
    while let Some(key) = ready.pop() {
        open.remove(&key);
        for caller in callers.get(&key).into_iter().flatten() {
            if let Some(n) = open.get_mut(caller) {
                *n -= 1;
                if *n == 0 {
                    ready.push(caller.clone());
                }
            }
        }
    }
    match open.keys().next() {
        Some((_, name)) => Err(OnnxError::model(format!(
            "has a function `{name}` that calls itself"
        ))),
        None => Ok(names),
    }
}

fn collect_calls(node: &NodeProto, called: &mut BTreeSet<FunctionKey>) {
    called.insert((domain(node.domain()).to_owned(), node.op_type().to_owned()));
    for graph in node.attribute.iter().flat_map(graphs) {
        graph.node.iter().for_each(|n| collect_calls(n, called));
    }
}
