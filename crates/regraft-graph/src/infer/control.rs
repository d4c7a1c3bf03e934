//! What is known of the outputs of nodes that run graphs.

use super::constant::Known;
use super::{Context, Facts, InferOptions, Types, infer_nodes, start};
use crate::op::{Body, Scan};
use crate::{DType, Dim, Graph, NodeId, ValueType};

/// Types and elements of a node's outputs.
pub(super) type Outcome = (Types, Vec<Option<Known>>);

/// Returns the facts of a body whose outer values are known; `None` if it contradicts itself, as
/// the branch that is never taken may.
fn facts_of(cx: &Context<'_>, body: &Body) -> Option<Facts> {
    let graph = &body.graph;
    let options = InferOptions {
        bind: cx.bind.clone(),
        max_elements: cx.max_elements,
    };
    let mut facts = Facts {
        types: vec![None; graph.n_values()],
        constants: std::collections::BTreeMap::new(),
        partial: std::collections::BTreeMap::new(),
    };
    start(graph, &options, &mut facts);
    for &inner in graph.inputs().get(body.n_own..).unwrap_or(&[]) {
        let name = &graph.value(inner).name;
        let is_outer = |v: &&crate::ValueId| cx.graph.value(**v).name == *name;
        let Some(&outer) = cx.node.captures.iter().find(is_outer) else {
            continue;
        };
        let known = cx.facts;
        facts.types[inner.index()] = known.types.get(outer.index()).cloned().flatten();
        if let Some(tensor) = known.constants.get(&outer) {
            facts.constants.insert(inner, tensor.clone());
        }
        if let Some(array) = known.partial.get(&outer) {
            facts.partial.insert(inner, array.clone());
        }
    }
    infer_nodes(graph, &options, &mut facts).ok()?;
    Some(facts)
}

/// Returns the multiply-accumulates of the branch that costs most, for one sample.
pub(crate) fn branch_macs(graph: &Graph, facts: &Facts, id: NodeId) -> u64 {
    let cx = super::params::context(graph, facts, id);
    let bodies = cx.node.op.bodies().into_iter();
    let macs = bodies.filter_map(|body| {
        let inner = facts_of(&cx, body)?;
        Some(crate::cost::macs(&body.graph, &inner))
    });
    macs.max().unwrap_or(0)
}

fn outcome(body: &Body, facts: &Facts) -> Outcome {
    let outputs = body.graph.outputs();
    let types = outputs.iter().map(|v| facts.types[v.index()].clone());
    let known = |v| {
        let tensor = facts.constants.get(v).cloned().map(Known::Tensor);
        tensor.or_else(|| facts.partial.get(v).cloned().map(Known::Partial))
    };
    (types.collect(), outputs.iter().map(known).collect())
}

/// The branch that a constant condition takes, else what both branches agree on.
pub(super) fn branches(cx: &Context<'_>, branches: [&Body; 2]) -> Outcome {
    let taken = cx.ints(0).and_then(|list| list.first().copied());
    if let Some(condition) = taken {
        let body = branches[usize::from(condition == 0)];
        return facts_of(cx, body).map_or((Vec::new(), Vec::new()), |f| outcome(body, &f));
    }
    let [Some(a), Some(b)] = branches.map(|body| facts_of(cx, body).map(|f| outcome(body, &f).0))
    else {
        return (Vec::new(), Vec::new());
    };
    (
        a.into_iter().zip(b).map(|(a, b)| join(a?, b?)).collect(),
        Vec::new(),
    )
}

fn join(a: ValueType, b: ValueType) -> Option<ValueType> {
    if a.dtype != b.dtype {
        return None;
    }
    let shape = match (a.shape, b.shape) {
        (Some(x), Some(y)) if x.len() == y.len() => {
            let same = |(x, y): (Dim, Dim)| if x == y { x } else { Dim::Unknown };
            Some(x.into_iter().zip(y).map(same).collect())
        }
        _ => None,
    };
    Some(ValueType {
        dtype: a.dtype,
        shape,
    })
}

/// Returns the element type and the fixed extents that a body declares for an output.
fn declared(body: &Body, port: usize) -> Option<(DType, Option<Vec<Dim>>)> {
    let id = *body.graph.outputs().get(port)?;
    let declared = body.graph.value(id).declared.as_ref()?;
    let fixed = |d: &Dim| d.fixed().map_or(Dim::Unknown, Dim::Fixed);
    let shape = declared.shape.as_ref();
    Some((declared.dtype, shape.map(|s| s.iter().map(fixed).collect())))
}

/// States keep their element type; an extent may change from one round to the next.
pub(super) fn repeated(cx: &Context<'_>, body: &Body) -> Types {
    let n_states = body.n_own.saturating_sub(2);
    let output = |port: usize| {
        let (dtype, shape) = declared(body, port + 1)?;
        let shape = if port < n_states {
            shape.map(|s| vec![Dim::Unknown; s.len()])
        } else {
            shape.map(|mut s| {
                s.insert(0, Dim::Unknown);
                s
            })
        };
        Some(ValueType { dtype, shape })
    };
    (0..cx.node.outputs.len()).map(output).collect()
}

pub(super) fn scan(cx: &Context<'_>, op: &Scan) -> Types {
    let n_states = cx.node.outputs.len().saturating_sub(op.outputs.len());
    let output = |port: usize| {
        let (dtype, shape) = declared(&op.body, port)?;
        let shape = match port.checked_sub(n_states).and_then(|i| op.outputs.get(i)) {
            None => shape,
            Some(along) => shape.and_then(|mut s| {
                let axis = super::normalize_axis(along.axis, s.len() + 1)?;
                s.insert(axis, Dim::Unknown);
                Some(s)
            }),
        };
        Some(ValueType { dtype, shape })
    };
    (0..cx.node.outputs.len()).map(output).collect()
}

#[cfg(test)]
mod tests;
