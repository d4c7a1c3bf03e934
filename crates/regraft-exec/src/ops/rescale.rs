//! Normalisations beside the batch, layer and instance ones, and determinants.

use regraft_graph::op::Normalization;

use super::elementwise::{numbers, numbers_without_gradient, same_rank};
use super::norm::{per_channel, standardise};
use super::{Inputs, axes_of, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::sparse_map::{Rows, map_axis};
use crate::value::broadcast_shape;

/// What `MeanVarianceNormalization` adds, as its specification says.
const MEAN_VARIANCE_EPSILON: f32 = 1e-9;

pub(super) fn run(op: &Normalization, inputs: &mut Inputs) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    if x.len() == 0 {
        return Ok(x);
    }
    match op {
        Normalization::Group {
            n_groups,
            epsilon,
            per_group,
        } => group(x, *n_groups, *epsilon, *per_group, inputs),
        Normalization::RootMeanSquare { axis, epsilon } => {
            let first = axis_of(*axis, shape.len())?;
            let axes: Vec<usize> = (first..shape.len()).collect();
            let count: usize = shape[first..].iter().product();
            let squares = x.clone().mul(x.clone()).sum_axes(&axes);
            let mean = squares.mul_scalar(1.0 / count as f32);
            let scale = inputs.float(1)?;
            if broadcast_shape(&scale.shape(), &shape)? != shape {
                return invalid(format!("scale {:?} for {shape:?}", scale.shape()));
            }
            let (y, scale) = same_rank(x.div(mean.add_scalar(*epsilon).sqrt()), scale);
            Ok(y.mul(scale))
        }
        Normalization::Length { axis, absolute } => {
            let axis = axis_of(*axis, shape.len())?;
            let length = if *absolute {
                x.clone().abs().sum_axes(&[axis])
            } else {
                x.clone().mul(x.clone()).sum_axes(&[axis]).sqrt()
            };
            // A vector of zeros stays one.
            let numbers = numbers(length.clone())?;
            let zeros = numbers.iter().map(|&n| n == 0.0).collect();
            let ones = Float::full(1.0, &length.shape());
            Ok(x.div(length.replace(zeros, ones)))
        }
        Normalization::MeanVariance { axes } => {
            let axes = axes_of(axes, shape.len())?;
            Ok(standardise(x, &axes, MEAN_VARIANCE_EPSILON).0)
        }
        Normalization::LocalResponse {
            alpha,
            beta,
            bias,
            size,
        } => local_response(x, [*alpha, *beta, *bias], *size),
        Normalization::Hardmax { axis, flatten } => {
            let axis = axis_of(*axis, shape.len())?;
            let dims = if *flatten {
                [shape[axis..].iter().product(), 1]
            } else {
                [shape[axis], shape[axis + 1..].iter().product()]
            };
            hardmax(x, dims)
        }
    }
}

fn group(
    x: Float,
    n_groups: usize,
    epsilon: f32,
    per_group: bool,
    inputs: &mut Inputs,
) -> OpResult<Float> {
    let shape = x.shape();
    let (scale, bias) = (inputs.float(1)?, inputs.float(2)?);
    let channels = shape.get(1).copied().unwrap_or(0);
    if n_groups == 0 || channels == 0 || !channels.is_multiple_of(n_groups) {
        return invalid(format!("{channels} channels in {n_groups} groups"));
    }
    let entries = if per_group { n_groups } else { channels };
    if scale.shape() != [entries] || bias.shape() != [entries] {
        return invalid(format!(
            "scale {:?} and bias {:?} for {entries} entries",
            scale.shape(),
            bias.shape()
        ));
    }
    let rest: usize = shape[1..].iter().product::<usize>() / n_groups;
    let groups = x.reshape(&[shape[0], n_groups, rest]);
    let y = standardise(groups, &[2], epsilon).0;
    let apply = |y: Float| {
        let rank = y.shape().len();
        y.mul(per_channel(scale, rank, entries))
            .add(per_channel(bias, rank, entries))
    };
    Ok(if per_group {
        apply(y).reshape(&shape)
    } else {
        apply(y.reshape(&shape))
    })
}

fn local_response(x: Float, [alpha, beta, bias]: [f32; 3], size: usize) -> OpResult<Float> {
    let shape = x.shape();
    if shape.len() < 2 || size == 0 {
        return invalid(format!("{size} channels of {shape:?}"));
    }
    let channels = shape[1];
    let mut rows = Rows::default();
    for channel in 0..channels {
        let first = channel.saturating_sub((size - 1) / 2);
        let last = channel.saturating_add(size / 2).min(channels - 1);
        for other in first..=last {
            rows.push(other, alpha / size as f32);
        }
        rows.end_row();
    }
    let squares = map_axis(x.clone().mul(x.clone()), 1, rows);
    Ok(x.mul(squares.add_scalar(bias).pow_scalar(-beta)))
}

/// `dims` are the extent of the axis and of what is inside of it.
fn hardmax(x: Float, [extent, inner]: [usize; 2]) -> OpResult<Float> {
    let shape = x.shape();
    let numbers = numbers(x)?;
    let mut result = vec![0.0; numbers.len()];
    for base in (0..numbers.len()).step_by((extent * inner).max(1)) {
        for i in 0..inner {
            let at = |k: usize| base + k * inner + i;
            let best = (1..extent).fold(0, |best, k| {
                if numbers[at(k)] > numbers[at(best)] {
                    k
                } else {
                    best
                }
            });
            result[at(best)] = 1.0;
        }
    }
    Ok(Float::new(result, &shape))
}

/// Returns the determinants of the last two axes.
pub(super) fn determinant(inputs: &mut Inputs) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let Some((lead, [n, m])) = shape.split_last_chunk::<2>() else {
        return invalid(format!("{shape:?} holds no matrix"));
    };
    if n != m || *n == 0 {
        return invalid(format!("{n} x {m} is not square"));
    }
    let numbers = numbers_without_gradient(x, "it has no gradient")?;
    let found = numbers.chunks_exact(n * n).map(|m| eliminated(m, *n));
    Ok(Float::new(found.collect(), lead))
}

/// Gauss with partial pivots, in f64.
fn eliminated(matrix: &[f32], n: usize) -> f32 {
    let mut a: Vec<f64> = matrix.iter().map(|&x| f64::from(x)).collect();
    let mut determinant = 1.0;
    for k in 0..n {
        let larger = |&i: &usize, &j: &usize| a[i * n + k].abs().total_cmp(&a[j * n + k].abs());
        let pivot = (k..n).max_by(larger).unwrap_or(k);
        if a[pivot * n + k] == 0.0 {
            return 0.0;
        }
        if pivot != k {
            for j in 0..n {
                a.swap(k * n + j, pivot * n + j);
            }
            determinant = -determinant;
        }
        determinant *= a[k * n + k];
        for i in k + 1..n {
            let factor = a[i * n + k] / a[k * n + k];
            for j in k..n {
                a[i * n + j] -= factor * a[k * n + j];
            }
        }
    }
    determinant as f32
}
