//! How strong the connections of a part are, and how that runs along the axes.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::{Graph, Tensor, ValueId};
use regraft_prune::Group;
use regraft_rebuild::{Layer, LayerKind};
use regraft_solve::stats::{self, local_extrema, quantile};

use super::{AxisExtremum, AxisProfile, Strength};
use crate::pipeline::weight_figures;
use crate::report::ExtremumKind;

/// Shares at which absolute weights are listed.
const QUANTILES: [f64; 7] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];

/// Steps between the lowest and the highest value of a profile when extrema are looked for.
const STEPS: f64 = 1e6;

/// Least rise of a peak over its valley, as a share of the profile's range, to be named.
const PROMINENCE: f64 = 0.1;

/// Returns the strength of a layer's weights.
pub(super) fn of_layer(layer: &Layer, weight: &Tensor) -> Strength {
    let data = weight.as_f32().unwrap_or_default();
    let mut strength = of_weights(data);
    let names = axis_names(layer, weight.shape().len());
    for (axis, name) in names.into_iter().enumerate() {
        if weight.shape().get(axis).is_some_and(|&n| n > 1) {
            strength.axes.push(profile(name, along(weight, data, axis)));
        }
    }
    strength
}

/// Returns the strength of all connections that make or read a group's channels; `norms` are
/// those of its channels.
pub(super) fn of_group(graph: &Graph, group: &Group, norms: &[f64]) -> Strength {
    let mut parts: BTreeMap<ValueId, BTreeMap<usize, BTreeSet<usize>>> = BTreeMap::new();
    for member in group.units.iter().flat_map(|u| &u.members) {
        let axes = parts.entry(member.value).or_default();
        axes.entry(member.axis).or_default().insert(member.index);
    }
    let mut weights = Vec::new();
    for (value, axes) in &parts {
        let Some(tensor) = graph.tensor(*value).filter(|t| t.shape().len() > 1) else {
            continue;
        };
        let data = tensor.as_f32().unwrap_or_default();
        let is_member = |at: usize| {
            let on = |(axis, indices): (&usize, &BTreeSet<usize>)| {
                indices.contains(&index_on(tensor.shape(), *axis, at))
            };
            axes.iter().any(on)
        };
        let own = data.iter().enumerate().filter(|(at, _)| is_member(*at));
        weights.extend(own.map(|(_, w)| *w));
    }
    let mut strength = of_weights(&weights);
    strength.axes.push(profile("channel", norms.to_vec()));
    strength
}

fn of_weights(weights: &[f32]) -> Strength {
    let mut sizes: Vec<f32> = weights
        .iter()
        .filter(|w| w.is_finite())
        .map(|w| w.abs())
        .collect();
    sizes.sort_by(f32::total_cmp);
    let n = sizes.len().max(1) as f64;
    let sum = |power: i32| sizes.iter().map(|w| f64::from(*w).powi(power)).sum::<f64>();
    let figures = weight_figures(weights).unwrap_or_default();
    Strength {
        connections: weights.len(),
        zeros: sizes.partition_point(|w| *w <= 0.0),
        mean_abs: sum(1) / n,
        l2: sum(2).sqrt(),
        quantiles: QUANTILES
            .into_iter()
            .filter_map(|share| Some((share, quantile(&sizes, share)?)))
            .collect(),
        box_plot: figures.box_plot,
        histogram: figures.histogram,
        extrema: figures.extrema,
        axes: Vec::new(),
    }
}

/// Names the axes of a weight as it is stored.
fn axis_names(layer: &Layer, rank: usize) -> Vec<&'static str> {
    match (layer.kind, rank) {
        (LayerKind::Conv { .. }, 3) => vec!["output", "input", "kernel position"],
        (LayerKind::Conv { .. }, _) => vec!["output", "input", "kernel row", "kernel column"],
        (LayerKind::Gemm { trans_b: true }, _) => vec!["output", "input"],
        (LayerKind::Gemm { trans_b: false } | LayerKind::MatMul, _) => vec!["input", "output"],
    }
}

/// The index on one axis of the element at a place of row-major data.
fn index_on(shape: &[usize], axis: usize, at: usize) -> usize {
    let inner: usize = shape.iter().skip(axis + 1).product();
    let n = shape.get(axis).copied().unwrap_or(1);
    at / inner.max(1) % n.max(1)
}

/// The mean absolute weight at each index of an axis.
fn along(tensor: &Tensor, data: &[f32], axis: usize) -> Vec<f64> {
    let n = tensor.shape().get(axis).copied().unwrap_or(0);
    let mut sums = vec![0.0; n];
    for (at, w) in data.iter().enumerate().filter(|(_, w)| w.is_finite()) {
        if let Some(sum) = sums.get_mut(index_on(tensor.shape(), axis, at)) {
            *sum += f64::from(w.abs());
        }
    }
    let each = (data.len() / n.max(1)).max(1) as f64;
    sums.iter().map(|s| s / each).collect()
}

fn profile(axis: &str, values: Vec<f64>) -> AxisProfile {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(*v), h.max(*v))
        });
    let mut extrema = Vec::new();
    if low < high {
        let step = |v: &f64| ((v - low) / (high - low) * STEPS).round() as u64;
        let steps: Vec<u64> = values.iter().map(step).collect();
        for e in local_extrema(&steps, PROMINENCE) {
            if let Some(&value) = values.get(e.bin) {
                extrema.push(AxisExtremum {
                    index: e.bin,
                    value,
                    kind: match e.kind {
                        stats::ExtremumKind::Peak => ExtremumKind::Max,
                        stats::ExtremumKind::Valley => ExtremumKind::Min,
                    },
                });
            }
        }
    }
    AxisProfile {
        axis: axis.to_owned(),
        values,
        extrema,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExtremumKind::{Max, Min};

    #[test]
    fn profiles_by_hand() {
        let weight = Tensor::from_f32(vec![2, 3], vec![1.0, -2.0, 3.0, -1.0, 4.0, 1.0]).unwrap();
        let data = weight.as_f32().unwrap();
        assert_eq!(along(&weight, data, 0), [2.0, 2.0]);
        assert_eq!(along(&weight, data, 1), [1.0, 3.0, 2.0]);
        let found = profile("input", along(&weight, data, 1));
        let marks: Vec<_> = found.extrema.iter().map(|e| (e.index, e.kind)).collect();
        assert_eq!(marks, [(1, Max)]);
        assert!(profile("output", vec![2.0, 2.0]).extrema.is_empty());
        let two = profile("output", vec![0.0, 4.0, 1.0, 3.0]);
        let marks: Vec<_> = two.extrema.iter().map(|e| (e.index, e.kind)).collect();
        assert_eq!(marks, [(1, Max), (2, Min), (3, Max)]);
    }

    #[test]
    fn strength_by_hand() {
        let found = of_weights(&[3.0, -4.0, 0.0, f32::NAN]);
        assert_eq!((found.connections, found.zeros), (4, 1));
        assert!((found.l2 - 5.0).abs() < 1e-12 && (found.mean_abs - 7.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.quantiles[3], (0.5, 3.0));
        assert_eq!(of_weights(&[]).connections, 0);
    }
}
