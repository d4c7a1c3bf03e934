//! Writes what was read: with the file's own bytes, and from the typed ops alone.

use regraft_graph::{Graph, GraphBuilder, Header, Initializer, Node, ValueId};
use regraft_onnx::Limits;

use crate::cases::Case;

/// Returns how the written models differ from the read one.
pub(crate) fn faults(case: &Case) -> Vec<String> {
    let limits = Limits {
        allow_nonfinite: true,
        ..Limits::default()
    };
    let read = |bytes: &[u8]| regraft_onnx::read_bytes(bytes, None, &limits);
    let Ok(graph) = read(&case.model) else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    match regraft_onnx::write_bytes(&graph).map(|bytes| read(&bytes)) {
        Ok(Ok(again)) if again == graph => {}
        other => faults.push(format!("{}: as it was: {:?}", case.name, other.err())),
    }
    // Bodies and what is opaque live in the file's bytes alone.
    let is_typed = |node: &Node| node.op.bodies().is_empty() && !is_opaque(node);
    // Before operator set 7 attributes say what the typed ops take for granted: no training.
    let is_old = graph.header().opset().is_some_and(|opset| opset < 7);
    if is_old || !graph.nodes().all(|(_, node)| is_typed(node)) {
        return faults;
    }
    let bare = rebuilt(&graph, true);
    match regraft_onnx::write_bytes(&bare).map(|bytes| read(&bytes)) {
        Ok(Ok(again)) => {
            let ops = |g: &Graph| g.nodes().map(|(_, n)| n.op.clone()).collect::<Vec<_>>();
            if ops(&again) != ops(&graph) {
                let (found, wanted) = (ops(&again), ops(&graph));
                faults.push(format!("{}: {found:?} instead of {wanted:?}", case.name));
            }
        }
        Ok(Err(error)) | Err(error) => faults.push(format!("{}: {error}", case.name)),
    }
    faults
}

fn is_opaque(node: &Node) -> bool {
    matches!(node.op, regraft_graph::Op::Opaque { .. })
}

/// Returns the graph as if it had been built here, values declared or the inputs alone.
pub(crate) fn rebuilt(graph: &Graph, declares: bool) -> Graph {
    let old = graph.header();
    let mut builder = GraphBuilder::new(Header {
        name: old.name.clone(),
        ir_version: old.ir_version,
        opsets: old.opsets.clone(),
        ..Header::default()
    });
    let name = |id: ValueId| graph.value(id).name.as_str();
    for (_, value) in graph.values() {
        builder.value(&value.name);
    }
    for (id, initializer) in graph.initializers() {
        let own = Initializer {
            tensor: initializer.tensor.clone(),
            source: None,
        };
        builder.initializer(name(*id), own).expect("a new value");
    }
    for &id in graph.inputs() {
        builder.input(name(id), graph.value(id).declared.clone());
    }
    for (_, node) in graph.nodes() {
        builder.node(Node {
            source: None,
            ..node.clone()
        });
    }
    for &id in graph.outputs() {
        let own = builder.output(name(id));
        if declares {
            let declared = &graph.value(id).declared;
            builder.value_mut(own).declared.clone_from(declared);
        }
    }
    builder.finish().expect("the same graph")
}
