//! How like each other the channels of two networks are.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::{Graph, Tensor, ValueId};
use regraft_prune::{Group, Groups};
use regraft_solve::stats::ChannelMoments;
use regraft_solve::{CrossAccumulator, Matrix, Samples, SolveError};

use super::FuseConfig;
use crate::calibrate::n_samples;
use crate::stream::Stream;
use crate::{Activations, Monitor, RebuildError, Stage};

/// Correlations between the channels of an axis in both networks.
pub(super) type Correlations = BTreeMap<(ValueId, usize), Matrix>;

/// Returns the correlations of what both networks give on every axis that a group's producer makes.
pub(super) fn correlations(
    (first, other): (&Graph, &Graph),
    groups: &Groups,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
    monitor: &dyn Monitor,
) -> Result<Correlations, RebuildError> {
    if n_samples(inputs) < 2 {
        return Err(RebuildError::TooFewSamples {
            found: n_samples(inputs),
            needed: 2,
        });
    }
    let producers = groups.groups.iter().flat_map(|g| &g.producers);
    let mut keys: Vec<(ValueId, usize)> = producers.map(|p| (p.output, p.output_axis)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut sums: Vec<Option<PairSums>> = keys.iter().map(|_| None).collect();
    let fetch: Vec<ValueId> = {
        let mut values: Vec<ValueId> = keys.iter().map(|k| k.0).collect();
        values.dedup();
        values
    };
    let a = Stream::new("first", first, inputs, config.exec)?;
    let b = Stream::new("other", other, inputs, config.exec)?;
    for chunk in 0..a.n_chunks() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        monitor.progress(Stage::Calibrate, chunk, a.n_chunks(), "both networks");
        let (x, y) = (a.chunk(chunk, &fetch)?, b.chunk(chunk, &fetch)?);
        for ((value, axis), sum) in keys.iter().zip(&mut sums) {
            let Some(at) = fetch.iter().position(|v| v == value) else {
                continue;
            };
            let label = &first.value(*value).name;
            add_rows(sum, (&x[at], &y[at]), *axis, config).map_err(RebuildError::solve(label))?;
        }
    }
    let mut found = Correlations::new();
    for (key, sum) in keys.into_iter().zip(sums) {
        if let Some(sum) = sum {
            let label = &first.value(key.0).name;
            found.insert(key, sum.correlation().map_err(RebuildError::solve(label))?);
        }
    }
    Ok(found)
}

/// Sums over rows of the same channels in two networks.
struct PairSums {
    cross: CrossAccumulator,
    first: ChannelMoments,
    other: ChannelMoments,
}

impl PairSums {
    fn correlation(self) -> Result<Matrix, SolveError> {
        let cross = self.cross.finish()?;
        let mut result = cross.matrix;
        let deviation =
            |m: &ChannelMoments| -> Vec<f64> { m.variance().iter().map(|v| v.sqrt()).collect() };
        let (da, db) = (deviation(&self.first), deviation(&self.other));
        for i in 0..result.rows {
            for j in 0..result.cols {
                let covariance = result.at(i, j) - self.first.mean()[i] * self.other.mean()[j];
                let scale = da[i] * db[j];
                // A channel that never changes goes with any other.
                let value = if scale > 0.0 { covariance / scale } else { 0.0 };
                result.set(i, j, value);
            }
        }
        Ok(result)
    }
}

/// True once a correlation has seen its rows.
fn enough(sums: Option<&PairSums>, config: &FuseConfig) -> bool {
    sums.is_some_and(|s| s.cross.n_rows() >= config.max_rows as u64)
}

fn add_rows(
    sums: &mut Option<PairSums>,
    (x, y): (&HostTensor, &HostTensor),
    axis: usize,
    config: &FuseConfig,
) -> Result<(), SolveError> {
    let (Some(a), Some(b), Some(&n)) = (x.as_f32(), y.as_f32(), x.shape.get(axis)) else {
        return Ok(());
    };
    if n == 0 || x.shape != y.shape || enough(sums.as_ref(), config) {
        return Ok(());
    }
    if sums.is_none() {
        *sums = Some(PairSums {
            cross: CrossAccumulator::new(n, n, config.exec.threads)?,
            first: ChannelMoments::new(n),
            other: ChannelMoments::new(n),
        });
    }
    let Some(sums) = sums else { return Ok(()) };
    let inner: usize = x.shape[axis + 1..].iter().product();
    let mut add = |a: Samples<'_>, b: Samples<'_>| -> Result<(), SolveError> {
        sums.first.add(a)?;
        sums.other.add(b)?;
        sums.cross.add(a, b)
    };
    if inner == 1 {
        let rows = a.len() / n;
        return add(Samples::rows(a, rows, n)?, Samples::rows(b, rows, n)?);
    }
    let len = (n * inner).max(1);
    for (a, b) in a.chunks_exact(len).zip(b.chunks_exact(len)) {
        add(
            Samples::channels(a, n, inner)?,
            Samples::channels(b, n, inner)?,
        )?;
    }
    Ok(())
}

/// Products of the weights of each unit of one network with those of each of the other, and the
/// largest sum that they can have.
pub(super) fn weight_similarity(
    first: &Graph,
    other: &Graph,
    group: &Group,
) -> Result<(Matrix, f64), RebuildError> {
    let n = group.units.len();
    let mut similarity = Matrix::zeros(n, n);
    let mut scale = 0.0;
    let mut axes: Vec<(ValueId, usize)> = Vec::new();
    axes.extend(
        group
            .units
            .iter()
            .flat_map(|u| &u.members)
            .map(|m| (m.value, m.axis)),
    );
    axes.sort_unstable();
    axes.dedup();
    for (value, axis) in axes {
        let (Some(x), Some(y)) = (first.tensor(value), other.tensor(value)) else {
            continue;
        };
        let label = &first.value(value).name;
        let products = products(x, y, axis).map_err(RebuildError::solve(label))?;
        if let Some((products, largest)) = products {
            add(&mut similarity, group, (value, axis), &products);
            scale += largest;
        }
    }
    Ok((similarity, scale.max(f64::MIN_POSITIVE)))
}

/// Products of the slices of two tensors along an axis, and that of their norms.
fn products(x: &Tensor, y: &Tensor, axis: usize) -> Result<Option<(Matrix, f64)>, SolveError> {
    let (Some(a), Some(b), Some(&n)) = (x.as_f32(), y.as_f32(), x.shape().get(axis)) else {
        return Ok(None);
    };
    if n == 0 || a.is_empty() || x.shape() != y.shape() {
        return Ok(None);
    }
    let inner: usize = x.shape()[axis + 1..].iter().product();
    // One row an element of a slice.
    let mut sums = CrossAccumulator::new(n, n, 1)?;
    if inner == 1 {
        let rows = a.len() / n;
        sums.add(Samples::rows(a, rows, n)?, Samples::rows(b, rows, n)?)?;
    } else {
        for (a, b) in a.chunks_exact(n * inner).zip(b.chunks_exact(n * inner)) {
            sums.add(
                Samples::channels(a, n, inner)?,
                Samples::channels(b, n, inner)?,
            )?;
        }
    }
    let cross = sums.finish()?;
    let rows = cross.n as f64;
    let mut matrix = cross.matrix;
    matrix.data.iter_mut().for_each(|p| *p *= rows);
    let norm = |v: &[f32]| {
        v.iter()
            .map(|w| f64::from(*w) * f64::from(*w))
            .sum::<f64>()
            .sqrt()
    };
    Ok(Some((matrix, norm(a) * norm(b))))
}

/// Indices of a unit on one axis.
pub(super) fn slots(group: &Group, unit: usize, (value, axis): (ValueId, usize)) -> Vec<usize> {
    let members = group.units[unit].members.iter();
    let here = members.filter(|m| m.value == value && m.axis == axis);
    here.map(|m| m.index).collect()
}

/// Adds the similarities of the indices of an axis to those of the units.
pub(super) fn add(similarity: &mut Matrix, group: &Group, axis: (ValueId, usize), of: &Matrix) {
    let all: Vec<Vec<usize>> = (0..group.units.len())
        .map(|u| slots(group, u, axis))
        .collect();
    for (u, rows) in all.iter().enumerate() {
        for (v, cols) in all.iter().enumerate() {
            let pairs = rows
                .iter()
                .zip(cols)
                .filter(|(i, j)| **i < of.rows && **j < of.cols);
            let sum: f64 = pairs.map(|(i, j)| of.at(*i, *j)).sum();
            similarity.set(u, v, similarity.at(u, v) + sum);
        }
    }
}
