//! The pruned network's weights put into a wider one.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::{Op, Tensor, ValueId};
use regraft_prune::Kept;

use super::super::Network;
use super::Descent;
use crate::RebuildError;

/// Returns `wide`, cut from the dense network, with the pruned network's weights where both have
/// them, and zeros where a layer reads what the pruned network does not have: it then computes what
/// the pruned network does.
///
/// `had` and `has` are the dense indices of the pruned and of the wide network.
pub(super) fn merge(
    descent: Descent<'_>,
    pruned: &Network,
    wide: &Network,
    (had, has): (&Kept, &Kept),
) -> Result<Network, RebuildError> {
    let dense = &descent.dense.graph;
    let read = read_axes(descent);
    let mut edit = wide.graph.edit();
    for (&value, init) in wide.graph.initializers() {
        let related = value.index() < dense.n_values();
        let Some(small) = pruned.graph.tensor(value).filter(|_| related) else {
            continue;
        };
        let Some(places) = places(dense.tensor(value), value, had, has) else {
            continue;
        };
        let axis = |axis: usize| read.contains(&(value, axis));
        if let Some(tensor) = scattered(&init.tensor, small, &places, &axis) {
            edit.set_initializer(value, tensor?);
        } else if small.as_f32().is_some() {
            let name = &dense.value(value).name;
            let found = small.shape();
            return Err(RebuildError::NotRelated {
                reason: format!("`{name}` has the shape {found:?}, which the plan does not give"),
            });
        }
    }
    // Biases that rebuilding added are no values of the dense network.
    for layer in &wide.layers {
        let old = pruned.layers.iter().find(|l| l.output == layer.output);
        let (Some(bias), Some(old)) = (layer.bias, old) else {
            continue;
        };
        let (Some(small), Some(big)) = (
            old.bias.and_then(|b| pruned.graph.tensor(b)),
            wide.graph.tensor(bias),
        ) else {
            continue;
        };
        if bias.index() < dense.n_values() {
            continue;
        }
        let axis = match wide.graph.node(layer.node).op {
            Op::Conv(_) => 1,
            _ => wide.facts.shape(layer.output).map_or(1, <[_]>::len) - 1,
        };
        let n = descent.dense.facts.shape(layer.output);
        let n = n.and_then(|s| s.get(axis)?.fixed());
        let place = n.and_then(|n| axis_places(n, layer.output, axis, had, has));
        if let Some(place) = place
            && let Some(tensor) = scattered(big, small, &[place], &|_| false)
        {
            edit.set_initializer(bias, tensor?);
        }
    }
    Ok(Network::new(edit.finish()?)?)
}

/// Weight axes over which some node sums channels.
fn read_axes(descent: Descent<'_>) -> BTreeSet<(ValueId, usize)> {
    let groups = descent.groups.groups.iter();
    let consumers = groups.flat_map(|g| &g.consumers);
    let mut read: BTreeSet<(ValueId, usize)> =
        consumers.map(|c| (c.weight, c.weight_axis)).collect();
    let nodes = descent.dense.graph.nodes();
    let cells = nodes.filter(|(_, n)| matches!(n.op, Op::Recurrent(_)));
    read.extend(cells.filter_map(|(_, n)| Some((n.input(2)?, 2))));
    read
}

/// For each axis, where the indices of the pruned tensor stand in the wide one.
fn places(
    dense: Option<&Tensor>,
    value: ValueId,
    had: &Kept,
    has: &Kept,
) -> Option<Vec<Vec<usize>>> {
    let extents = dense?.shape().iter().enumerate();
    extents
        .map(|(axis, n)| axis_places(*n, value, axis, had, has))
        .collect()
}

fn axis_places(
    n: usize,
    value: ValueId,
    axis: usize,
    had: &Kept,
    has: &Kept,
) -> Option<Vec<usize>> {
    let all: Vec<usize> = (0..n).collect();
    let small = had.get(value, axis).unwrap_or(&all);
    let wide = has.get(value, axis).unwrap_or(&all);
    let at: BTreeMap<usize, usize> = wide.iter().enumerate().map(|(p, i)| (*i, p)).collect();
    small.iter().map(|i| at.get(i).copied()).collect()
}

/// The wide tensor with the pruned one's elements, and zeros elsewhere along the axes that are
/// `read`; `None` if shapes do not fit or there are no floats.
fn scattered(
    wide: &Tensor,
    small: &Tensor,
    places: &[Vec<usize>],
    read: &dyn Fn(usize) -> bool,
) -> Option<Result<Tensor, RebuildError>> {
    let (w, s) = (wide.as_f32()?, small.as_f32()?);
    let expected: Vec<usize> = places.iter().map(Vec::len).collect();
    if expected != small.shape() || wide.shape().len() != places.len() {
        return None;
    }
    let mut data = w.to_vec();
    for (axis, place) in places.iter().enumerate().filter(|(a, _)| read(*a)) {
        let n = *wide.shape().get(axis)?;
        let inner: usize = wide.shape().iter().skip(axis + 1).product();
        let mut fresh = vec![true; n];
        for &p in place {
            *fresh.get_mut(p)? = false;
        }
        for (i, x) in data.iter_mut().enumerate() {
            if fresh[i / inner.max(1) % n] {
                *x = 0.0;
            }
        }
    }
    for (i, x) in s.iter().enumerate() {
        let (mut rest, mut stride, mut at) = (i, 1, 0);
        for (place, n) in places.iter().zip(wide.shape()).rev() {
            at += stride * place.get(rest % place.len())?;
            rest /= place.len();
            stride *= n;
        }
        *data.get_mut(at)? = *x;
    }
    let tensor = Tensor::from_f32(wide.shape().to_vec(), data);
    Some(tensor.map_err(RebuildError::from))
}
