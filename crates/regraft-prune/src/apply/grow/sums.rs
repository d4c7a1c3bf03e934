//! What sums over channels: weights that copies share, and what allows no copies.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::infer::Facts;
use regraft_graph::op::ReduceKind;
use regraft_graph::{Graph, GraphEdit, NodeId, Op, Tensor, ValueId};

use super::{Origin, Share, refused};
use crate::PruneError;
use crate::apply::mask_nodes::last_axis_norm;
use crate::rules::{self, Port, Site};

type Origins = BTreeMap<(ValueId, usize), Vec<Origin>>;

/// Axes of values.
type Axes = BTreeSet<(ValueId, usize)>;

/// Returns the weight axes that are summed over a grown axis, and the grown axes over which
/// statistics are taken.
pub(super) fn shared(
    graph: &Graph,
    facts: &Facts,
    origins: &Origins,
) -> Result<(Axes, Axes), PruneError> {
    let mut statistics = Axes::new();
    let never = |_: ValueId, _: usize| false;
    let mut found: BTreeMap<(ValueId, usize), BTreeSet<NodeId>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        let site = Site {
            graph,
            facts,
            id,
            node,
            touched: &never,
        };
        statistics.extend(check_node(&site, origins)?);
        let mut weights: Vec<(ValueId, usize)> = rules::contractions(&site)
            .into_iter()
            .map(|c| (c.weight, c.weight_axis))
            .collect();
        // Hidden units feed back even where their states are no output.
        if let (Op::Recurrent(_), Some(r)) = (&node.op, node.input(2)) {
            weights.push((r, 2));
        }
        for at in weights {
            if origins.contains_key(&at) {
                found.entry(at).or_default().insert(id);
            }
        }
    }
    for ((weight, axis), nodes) in &found {
        let alone = graph.consumers(*weight).iter().all(|c| nodes.contains(c));
        if !alone || graph.tensor(*weight).is_none() {
            let Some(&id) = nodes.first() else { continue };
            let name = &graph.value(*weight).name;
            let reason = format!("sums over axis {axis} of `{name}`, which is not its own weight");
            return Err(refused(graph, id, reason));
        }
    }
    Ok((found.into_keys().collect(), statistics))
}

/// Returns the grown axis over which a node takes statistics, if it does; refuses copies that it
/// would count: products of two computed values, unequal copies under statistics.
fn check_node(site: &Site<'_>, origins: &Origins) -> Result<Option<(ValueId, usize)>, PruneError> {
    let refuse = |why: &str| Err(refused(site.graph, site.id, why.to_owned()));
    for (port, axis) in rules::sums(site) {
        let value = site.value(port);
        if value.is_some_and(|v| origins.contains_key(&(v, axis))) {
            return refuse("sums over the channels of computed values, which copies would change");
        }
    }
    let mut at = None;
    if last_axis_norm(&site.node.op).is_some() {
        let last = site.rank(Port::Out(0)).and_then(|r| r.checked_sub(1));
        at = site.node.output(0).zip(last);
    }
    if let (Some((axis, kind)), Some(x)) = (rules::statistics(site), site.node.input(0)) {
        at = Some((x, axis));
        let grows = at.is_some_and(|at| origins.contains_key(&at));
        if grows && kind != ReduceKind::Mean {
            return refuse("sums over the channels, which copies would change");
        }
    }
    let Some((at, list)) = at.and_then(|at| Some((at, origins.get(&at)?))) else {
        return Ok(None);
    };
    if !uniform(list) {
        return refuse("takes statistics over the channels: all must have as many copies");
    }
    Ok(Some(at))
}

fn uniform(list: &[Origin]) -> bool {
    let first = list.first().map(|o| o.n_copies);
    list.iter().all(|o| Some(o.n_copies) == first)
}

/// Shares the weights of an axis that is summed over between the copies of each unit.
pub(super) fn share(
    edit: &mut GraphEdit,
    (weight, axis): (ValueId, usize),
    origins: &Origins,
    share: Share,
) -> Result<(), PruneError> {
    let (Some(list), Some(tensor)) = (origins.get(&(weight, axis)), edit.graph().tensor(weight))
    else {
        return Ok(());
    };
    let shape = tensor.shape().to_vec();
    let Some(data) = tensor.as_f32() else {
        let name = edit.graph().value(weight).name.clone();
        return Err(PruneError::NotFloat { value: name });
    };
    let factors: Vec<f64> = list.iter().map(|o| factor(*o, share)).collect();
    let inner: usize = shape.iter().skip(axis + 1).product();
    let scaled = data.iter().enumerate().map(|(i, w)| {
        let f = factors[i / inner.max(1) % factors.len()];
        (f64::from(*w) * f) as f32
    });
    let tensor = Tensor::from_f32(shape, scaled.collect()).map_err(PruneError::Graph)?;
    edit.set_initializer(weight, tensor);
    Ok(())
}

fn factor(origin: Origin, share: Share) -> f64 {
    let (copy, m) = (origin.copy as f64, origin.n_copies as f64);
    match share {
        Share::Zero if origin.copy == 0 => 1.0,
        Share::Zero => 0.0,
        Share::Split => 2.0 * (copy + 1.0) / (m * (m + 1.0)),
    }
}
