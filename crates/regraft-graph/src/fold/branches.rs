//! Branches that are always taken become part of the graph.

use std::collections::BTreeMap;

use crate::infer::{InferOptions, infer};
use crate::op::Body;
use crate::{Graph, GraphEdit, GraphError, Node, NodeId, Op, ValueId, op::UnaryOp};

/// Nested branches opened at most.
const MAX_DEPTH: usize = 64;

/// Returns the graph with every `If` replaced by the branch that it takes, where its condition is the
/// same on every run, and the number of those.
///
/// A graph in which a branch holds what can only be written back as part of its node stays as it is.
///
/// # Errors
/// As [`infer`]: a graph whose shapes contradict each other.
pub fn open_branches(graph: &Graph, options: &InferOptions) -> Result<(Graph, usize), GraphError> {
    let mut opened = graph.clone();
    let mut n = 0;
    for _ in 0..MAX_DEPTH {
        let facts = infer(&opened, options)?;
        let mut edit = opened.edit();
        let before = n;
        for (id, node) in opened.nodes() {
            let Op::If {
                then_branch,
                else_branch,
            } = &node.op
            else {
                continue;
            };
            let condition = node.input(0).and_then(|v| facts.constant(v)?.to_i64());
            let Some(condition) = condition.and_then(|list| list.first().copied()) else {
                continue;
            };
            let body = if condition == 0 {
                else_branch
            } else {
                then_branch
            };
            if splice(&opened, id, body, &mut edit) {
                n += 1;
            }
        }
        if n == before {
            break;
        }
        opened = edit.finish()?;
    }
    let lost = |(_, node): (NodeId, &Node)| {
        let kept_whole = matches!(
            node.op,
            Op::If { .. } | Op::Loop { .. } | Op::Scan(_) | Op::Opaque { .. }
        );
        kept_whole && node.source.is_none()
    };
    if opened.nodes().any(lost) {
        return Ok((graph.clone(), 0));
    }
    Ok((opened, n))
}

/// Puts the nodes of a body in the place of a node; false where outer values cannot be told apart.
fn splice(graph: &Graph, id: NodeId, body: &Body, edit: &mut GraphEdit) -> bool {
    let node = graph.node(id);
    let inner = &body.graph;
    let mut outer_of: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for &input in inner.inputs().get(body.n_own..).unwrap_or(&[]) {
        let name = &inner.value(input).name;
        let captured = |v: &&ValueId| graph.value(**v).name == *name;
        let Some(outer) = node.captures.iter().find(captured) else {
            return false;
        };
        outer_of.insert(input, *outer);
    }
    edit.remove_node(id);
    // What a branch returns takes the identity of what the node returned.
    let returned = inner.outputs().iter().zip(&node.outputs);
    let mut copies = Vec::new();
    for (inner_value, outer) in returned {
        let Some(outer) = *outer else { continue };
        let computed = inner.producer(*inner_value).is_some();
        if computed && !outer_of.contains_key(inner_value) {
            outer_of.insert(*inner_value, outer);
        } else {
            copies.push((*inner_value, outer));
        }
    }
    for (&value, init) in inner.initializers() {
        let name = &inner.value(value).name;
        outer_of.insert(value, edit.add_initializer(name, init.tensor.clone()));
    }
    let mut of = |value: ValueId, edit: &mut GraphEdit| {
        *outer_of
            .entry(value)
            .or_insert_with(|| edit.add_value(&inner.value(value).name))
    };
    for (_, node) in inner.nodes() {
        let mut map = |list: &[Option<ValueId>], edit: &mut GraphEdit| -> Vec<Option<ValueId>> {
            list.iter().map(|v| v.map(|v| of(v, edit))).collect()
        };
        let inputs = map(&node.inputs, edit);
        let outputs = map(&node.outputs, edit);
        let captures = node.captures.iter().map(|v| of(*v, edit)).collect();
        edit.add_node(Node {
            inputs,
            outputs,
            captures,
            edited: true,
            ..node.clone()
        });
    }
    for (value, outer) in copies {
        let input = of(value, edit);
        edit.add_op(
            Op::Unary(UnaryOp::Identity),
            vec![Some(input)],
            vec![Some(outer)],
        );
    }
    true
}
