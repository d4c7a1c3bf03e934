//! What a tuning step minimises: a weighted sum of terms over values of the graph.

use std::sync::Arc;

use crate::engine::{Backward, Float, HostKernel, run_unary};
use crate::error::{OpResult, invalid};
use crate::kernels::{KernelError, mean_squared_difference, scaled_difference};
use crate::ops::softplus;
use crate::{HostData, HostTensor};
use regraft_graph::ValueId;

/// What one value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum LossKind {
    /// The mean over all elements of the squared difference to the target.
    MeanSquaredError {
        /// Floats of the value's shape; shared, since it can be as large as the value.
        target: Arc<HostTensor>,
    },
    /// The mean over rows of the Kullback-Leibler divergence from the target's softmax to the
    /// value's, both along the last axis, both logits divided by the temperature, times the
    /// square of the temperature (Hinton et al. 2015, section 2).
    KlDivergence {
        /// Logits of the value's shape.
        target: HostTensor,
        /// Above zero; 1 leaves the logits as they are.
        temperature: f32,
    },
    /// The mean over all elements of the cross-entropy between the target, a probability, and the
    /// value's sigmoid.
    BinaryCrossEntropy {
        /// Numbers from 0 to 1 of the value's shape.
        target: HostTensor,
    },
    /// The mean over rows of minus the log-softmax, along the last axis, at the label.
    CrossEntropy {
        /// One class a row.
        labels: Vec<usize>,
    },
}

/// One term of a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LossTerm {
    /// The value that is compared, any value of the graph.
    pub value: ValueId,
    /// With what.
    pub kind: LossKind,
    /// Factor of the term.
    pub weight: f32,
}

impl LossTerm {
    /// Returns the mean squared error of `value` to `target`, with weight 1.
    pub fn mean_squared_error(value: ValueId, target: HostTensor) -> Self {
        Self {
            value,
            kind: LossKind::MeanSquaredError {
                target: Arc::new(target),
            },
            weight: 1.0,
        }
    }

    /// Returns the cross-entropy of the logits `value` at `labels`, with weight 1.
    pub fn cross_entropy(value: ValueId, labels: Vec<usize>) -> Self {
        Self {
            value,
            kind: LossKind::CrossEntropy { labels },
            weight: 1.0,
        }
    }
}

/// The mean squared difference to a target, in one pass forward and one back.
#[derive(Debug)]
struct DistanceKernel {
    target: Arc<HostTensor>,
    threads: usize,
}

impl DistanceKernel {
    fn target(&self) -> &[f32] {
        self.target.as_f32().unwrap_or_default()
    }
}

impl HostKernel for DistanceKernel {
    fn output_shape(&self) -> &[usize] {
        &[1]
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mean = mean_squared_difference(inputs[0], self.target(), self.threads)?;
        Ok(vec![mean])
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let value = pass.inputs[0];
        let factor = 2.0 * pass.grad[0] / value.len() as f32;
        let slopes = scaled_difference(value, self.target(), factor, self.threads)?;
        Ok(vec![Some(slopes)])
    }
}

/// Returns the elements of a target that has the shape of the value.
fn elements_of<'a>(target: &'a HostTensor, shape: &[usize]) -> OpResult<&'a [f32]> {
    match &target.data {
        HostData::F32(data) if target.fills_shape() && target.shape == shape => Ok(data),
        HostData::F32(_) | HostData::I64(_) | HostData::Bool(_) => invalid(format!(
            "the target {}{:?} is not floats of the shape {shape:?}",
            target.dtype(),
            target.shape
        )),
    }
}

fn target_of(target: &HostTensor, shape: &[usize]) -> OpResult<Float> {
    Ok(Float::new(elements_of(target, shape)?.to_vec(), shape))
}

/// Returns rows and columns of a value whose last axis is the classes.
fn rows_of(shape: &[usize]) -> OpResult<(usize, usize)> {
    match shape.split_last() {
        Some((&columns, lead)) if columns > 0 && !lead.contains(&0) => {
            Ok((lead.iter().product(), columns))
        }
        _ => invalid(format!("a value of shape {shape:?} has no classes")),
    }
}

/// Returns the mean of the squared differences; by the engine's own operations where there are no threads of
/// the host.
fn distance(
    target: &Arc<HostTensor>,
    value: Float,
    host_threads: Option<usize>,
) -> OpResult<Float> {
    let shape = value.shape();
    if let Some(threads) = host_threads {
        elements_of(target, &shape)?;
        let target = target.clone();
        return Ok(run_unary(
            value,
            Arc::new(DistanceKernel { target, threads }),
        ));
    }
    // Flat, because the engine's gradients know no rank zero.
    let count = value.len();
    let target = target_of(target, &shape)?.reshape(&[count]);
    let difference = value.reshape(&[count]).sub(target);
    let squares = difference.clone().mul(difference);
    Ok(squares.sum_all().mul_scalar(1.0 / count as f32))
}

/// Returns the term's one number, weight included; on the host by its threads.
pub(crate) fn evaluate(
    term: &LossTerm,
    value: Float,
    host_threads: Option<usize>,
) -> OpResult<Float> {
    let shape = value.shape();
    if value.len() == 0 {
        return invalid(format!("a value of shape {shape:?} has no elements"));
    }
    let loss = match &term.kind {
        LossKind::MeanSquaredError { target } => distance(target, value, host_threads)?,
        LossKind::BinaryCrossEntropy { target } => {
            let count = value.len();
            let target = target_of(target, &shape)?.reshape(&[count]);
            let value = value.reshape(&[count]);
            // -t log σ(x) - (1 - t) log(1 - σ(x)) = softplus(x) - t x
            let loss = softplus(value.clone()).sub(target.mul(value));
            loss.sum_all().mul_scalar(1.0 / count as f32)
        }
        LossKind::KlDivergence {
            target,
            temperature,
        } => {
            let (rows, columns) = rows_of(&shape)?;
            if temperature.is_nan() || *temperature <= 0.0 {
                return invalid(format!("a temperature of {temperature}"));
            }
            let cool = |t: Float| t.reshape(&[rows, columns]).mul_scalar(1.0 / temperature);
            let wanted = cool(target_of(target, &shape)?).log_softmax(1);
            let found = cool(value).log_softmax(1);
            let divergence = wanted.clone().exp().mul(wanted.sub(found)).sum_all();
            divergence.mul_scalar(temperature * temperature / rows as f32)
        }
        LossKind::CrossEntropy { labels } => {
            let (rows, columns) = rows_of(&shape)?;
            if labels.len() != rows || labels.iter().any(|&l| l >= columns) {
                return invalid(format!(
                    "{} labels up to {:?} for {rows} rows of {columns} classes",
                    labels.len(),
                    labels.iter().max()
                ));
            }
            let mut at = vec![0.0; rows * columns];
            for (row, &label) in labels.iter().enumerate() {
                at[row * columns + label] = -1.0 / rows as f32;
            }
            let found = value.reshape(&[rows, columns]).log_softmax(1);
            found.mul(Float::new(at, &[rows, columns])).sum_all()
        }
    };
    Ok(loss.reshape(&[1]).mul_scalar(term.weight))
}
