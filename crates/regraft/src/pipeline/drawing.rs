//! What the report draws of a network before and after an edit.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::cost::node_macs;
use regraft_graph::{Graph, Node, NodeId, Op, Tensor, ValueId};
use regraft_train::LEAST_ZEROS;

use super::layers::sparsity;
use super::shrink::facts_of;
use crate::Error;
use crate::report::{DrawnNode, GraphDrawing};

/// A larger network is not drawn: its report would be all drawing.
const MAX_NODES: usize = 2000;

/// Returns both networks as the report draws them; nothing for very large ones.
pub(super) fn drawing(before: &Graph, after: &Graph) -> Result<Option<GraphDrawing>, Error> {
    let (mut old, mut new) = (Drawn::of(before)?, Drawn::of(after)?);
    if old.nodes.len().max(new.nodes.len()) > MAX_NODES {
        return Ok(None);
    }
    for (output, at) in &new.places {
        if let Some(twin) = old.places.get(output) {
            old.nodes[*twin].twin = Some(*at);
            new.nodes[*at].twin = Some(*twin);
        }
    }
    Ok(Some(GraphDrawing {
        before: old.nodes,
        after: new.nodes,
    }))
}

/// The drawn nodes of one network.
struct Drawn {
    nodes: Vec<DrawnNode>,
    /// Place of the node that writes a value, by the value's name.
    places: BTreeMap<String, usize>,
}

impl Drawn {
    fn of(graph: &Graph) -> Result<Self, Error> {
        let facts = facts_of(graph)?;
        let mut drawn = Self {
            nodes: Vec::new(),
            places: BTreeMap::new(),
        };
        // For every value that samples decide, the drawn nodes it comes from.
        let mut from: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
        from.extend(graph.inputs().iter().map(|v| (*v, BTreeSet::new())));
        for (id, node) in graph.nodes() {
            let read: Vec<ValueId> = node.reads().filter(|v| from.contains_key(v)).collect();
            if read.is_empty() {
                continue;
            }
            let mut sources: BTreeSet<usize> =
                read.iter().flat_map(|v| &from[v]).copied().collect();
            let macs = node_macs(graph, &facts, id);
            if macs > 0 || meets(&read, node) {
                let at = drawn.nodes.len();
                drawn.nodes.push(DrawnNode {
                    name: graph.node_label(id),
                    what: in_words(graph, id),
                    macs,
                    reads: sources.into_iter().collect(),
                    twin: None,
                });
                if let Some(output) = node.output(0) {
                    drawn.places.insert(graph.value(output).name.clone(), at);
                }
                sources = BTreeSet::from([at]);
            }
            let written = node.outputs.iter().flatten();
            from.extend(written.map(|v| (*v, sources.clone())));
        }
        Ok(drawn)
    }
}

/// Returns true if branches meet in a node: not where it only asks one of them for its shape.
fn meets(read: &[ValueId], node: &Node) -> bool {
    let moves = matches!(
        node.op,
        Op::Reshape { .. } | Op::Expand | Op::Slice(_) | Op::Pad { .. } | Op::Shape { .. }
    );
    let distinct: BTreeSet<&ValueId> = read.iter().collect();
    distinct.len() > 1 && !moves
}

fn in_words(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let weight = node.input(1).and_then(|v| graph.tensor(v));
    let words = match (&node.op, weight.map(Tensor::shape)) {
        (Op::Conv(conv), Some([n_out, n_in, kernel @ ..])) => {
            let extents: Vec<String> = kernel.iter().map(ToString::to_string).collect();
            let kernel = extents.join("x");
            let stride = match conv.strides.iter().max() {
                Some(stride) if *stride > 1 => format!(", stride {stride}"),
                _ => String::new(),
            };
            let groups = conv.group;
            if groups > 1 && *n_in == 1 {
                format!("{kernel} on each of {groups}, to {n_out}{stride}")
            } else if groups > 1 {
                format!(
                    "{kernel}, {} to {n_out} in {groups} groups{stride}",
                    n_in * groups
                )
            } else {
                format!("{kernel}, {n_in} to {n_out}{stride}")
            }
        }
        (Op::Gemm(gemm), Some([a, b])) => {
            let (n_in, n_out) = if gemm.trans_b { (b, a) } else { (a, b) };
            format!("{n_in} to {n_out}")
        }
        (Op::MatMul, Some([.., n_in, n_out])) => format!("{n_in} to {n_out}"),
        (Op::Recurrent(cell), Some([_, _, n_in])) => {
            format!("{}, {n_in} to {}", node.op.name(), cell.hidden_size)
        }
        _ => match node.op.name() {
            "Add" | "Sum" => "sum".to_owned(),
            "Mul" => "product".to_owned(),
            "MatMul" => "product of two".to_owned(),
            other => other.to_owned(),
        },
    };
    format!("{words}{}", zeros(weight))
}

fn zeros(weight: Option<&Tensor>) -> String {
    match weight.and_then(sparsity) {
        Some(share) if share >= LEAST_ZEROS => format!(", {:.0} % zeros", 100.0 * share),
        _ => String::new(),
    }
}
