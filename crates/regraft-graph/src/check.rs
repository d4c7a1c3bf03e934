//! The check every graph passes before anyone sees it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{Graph, GraphError, NodeId, ValueId};

/// Returns the graph with its derived tables filled and its nodes in an order in which they can
/// run; nodes already in such an order keep it.
pub(crate) fn check(mut graph: Graph) -> Result<Graph, GraphError> {
    let (producers, defined) = definitions(&graph)?;
    graph.producers = producers;
    dangling(&graph, &defined)?;
    sort(&mut graph)?;
    graph.producers = definitions(&graph)?.0;
    graph.consumers = consumers(&graph);
    Ok(graph)
}

/// The node that writes each value, and whether anything defines it.
type Definitions = (Vec<Option<NodeId>>, Vec<bool>);

fn definitions(graph: &Graph) -> Result<Definitions, GraphError> {
    let mut defined = vec![false; graph.values.len()];
    let mut producers = vec![None; graph.values.len()];
    let twice = |v: ValueId| GraphError::DefinedTwice {
        value: graph.values[v.index()].name.clone(),
    };
    for &v in &graph.inputs {
        if std::mem::replace(&mut defined[v.index()], true) {
            return Err(twice(v));
        }
    }
    // An initializer may also be an input: then it is that input's default.
    for &v in graph.initializers.keys() {
        defined[v.index()] = true;
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for &v in node.outputs.iter().flatten() {
            if std::mem::replace(&mut defined[v.index()], true) {
                return Err(twice(v));
            }
            producers[v.index()] = Some(NodeId::new(i));
        }
    }
    Ok((producers, defined))
}

fn dangling(graph: &Graph, defined: &[bool]) -> Result<(), GraphError> {
    let err = |v: ValueId, reader: String| GraphError::Dangling {
        value: graph.values[v.index()].name.clone(),
        reader,
    };
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Some(v) = node.reads().find(|v| !defined[v.index()]) {
            return Err(err(
                v,
                format!("node `{}`", graph.node_label(NodeId::new(i))),
            ));
        }
    }
    match graph.outputs.iter().find(|v| !defined[v.index()]) {
        Some(v) => Err(err(*v, "the graph's outputs".to_owned())),
        None => Ok(()),
    }
}

/// Kahn's algorithm, always taking the ready node that stands first in the file.
fn sort(graph: &mut Graph) -> Result<(), GraphError> {
    let n = graph.nodes.len();
    let mut waits = vec![0usize; n];
    let mut unlocks: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (i, node) in graph.nodes.iter().enumerate() {
        for v in node.reads() {
            if let Some(p) = graph.producers[v.index()] {
                waits[i] += 1;
                unlocks[p.index()].push(i);
            }
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..n).filter(|&i| waits[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(n);
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &j in &unlocks[i] {
            waits[j] -= 1;
            if waits[j] == 0 {
                ready.push(Reverse(j));
            }
        }
    }
    if let Some(stuck) = waits.iter().position(|&w| w > 0) {
        return Err(GraphError::Cycle {
            node: graph.node_label(NodeId::new(stuck)),
        });
    }
    let mut nodes: Vec<_> = std::mem::take(&mut graph.nodes)
        .into_iter()
        .map(Some)
        .collect();
    graph.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
    Ok(())
}

fn consumers(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut consumers = vec![Vec::new(); graph.values.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for v in node.reads() {
            let list: &mut Vec<NodeId> = &mut consumers[v.index()];
            if list.last() != Some(&NodeId::new(i)) {
                list.push(NodeId::new(i));
            }
        }
    }
    consumers
}
