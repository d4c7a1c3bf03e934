//! Another order of the channels of coupled groups, the function the same.

use std::collections::BTreeMap;

use regraft_graph::{Graph, Op, Tensor, ValueId};
use regraft_prune::{Group, Groups, Unit};

use crate::RebuildError;

/// Indices of one axis that change places: the new index, and where it is taken from.
type Takes = BTreeMap<(ValueId, usize), Vec<(usize, usize)>>;

/// Returns the graph with the units of each group in another order: unit `u` of a group becomes
/// what unit `orders[group][u]` was, in every weight that makes, scales or reads it.
///
/// A group with an empty order stays. Units change places only with units of their class, and
/// frozen ones stay.
/// # Errors
/// [`RebuildError::Fuse`] if an order is no permutation of a group's free units within their
/// classes.
pub fn permuted(
    graph: &Graph,
    groups: &Groups,
    orders: &[Vec<usize>],
) -> Result<Graph, RebuildError> {
    let mut takes = Takes::new();
    for (group, order) in groups.groups.iter().zip(orders) {
        if order.is_empty() {
            continue;
        }
        check(group, order)?;
        for (to, from) in order.iter().enumerate().filter(|(to, from)| to != *from) {
            add_unit(&group.units[to], &group.units[*from], &mut takes);
        }
    }
    let mut edit = graph.edit();
    let reordered = |value: ValueId, tensor: &Tensor| -> Result<Option<Tensor>, RebuildError> {
        let mut result: Option<Tensor> = None;
        for axis in 0..tensor.shape().len() {
            let Some(moves) = takes.get(&(value, axis)) else {
                continue;
            };
            let mut from: Vec<usize> = (0..tensor.shape()[axis]).collect();
            for (to, source) in moves {
                if let Some(slot) = from.get_mut(*to) {
                    *slot = *source;
                }
            }
            result = Some(result.as_ref().unwrap_or(tensor).select(axis, &from)?);
        }
        Ok(result)
    };
    for (&value, init) in graph.initializers() {
        if let Some(tensor) = reordered(value, &init.tensor)? {
            edit.set_initializer(value, tensor);
        }
    }
    for (id, node) in graph.nodes() {
        let (Op::Constant { value: tensor }, Some(out)) = (&node.op, node.output(0)) else {
            continue;
        };
        if let Some(value) = reordered(out, tensor)? {
            edit.set_op(id, Op::Constant { value });
        }
    }
    Ok(edit.finish()?)
}

/// The members of both units on each axis, in their order, belong together.
fn add_unit(to: &Unit, from: &Unit, takes: &mut Takes) {
    let by_axis = |unit: &Unit| {
        let mut found: BTreeMap<(ValueId, usize), Vec<usize>> = BTreeMap::new();
        for m in &unit.members {
            found.entry((m.value, m.axis)).or_default().push(m.index);
        }
        found
    };
    let sources = by_axis(from);
    for (axis, targets) in by_axis(to) {
        let pairs = targets
            .into_iter()
            .zip(sources.get(&axis).into_iter().flatten().copied());
        takes.entry(axis).or_default().extend(pairs);
    }
}

fn check(group: &Group, order: &[usize]) -> Result<(), RebuildError> {
    let n = group.units.len();
    let mut seen = vec![false; n];
    let fits = order.len() == n
        && order.iter().enumerate().all(|(to, &from)| {
            let Some(slot) = seen.get_mut(from) else {
                return false;
            };
            let (a, b) = (&group.units[to], &group.units[from]);
            let free = a.frozen.is_none() && b.frozen.is_none() && a.class == b.class;
            !std::mem::replace(slot, true) && (to == from || free)
        });
    if fits {
        return Ok(());
    }
    Err(RebuildError::Fuse {
        reason: format!(
            "the channels of `{}` cannot be put in this order",
            group.name
        ),
    })
}
