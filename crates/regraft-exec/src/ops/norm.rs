//! Normalisations.

use std::sync::Arc;

use super::elementwise::same_rank;
use super::{Context, Inputs, axis_of};
use crate::engine::{Backward, DeviceOp, Float, HostKernel, run_kernel};
use crate::error::{OpResult, invalid};
use crate::kernels::{
    BatchNorm, BatchNormGrads, ChannelShape, KernelError, batch_norm_backward, batch_norm_forward,
};
use crate::value::{Value, broadcast_shape};

/// Returns one number a channel in the shape 1 × channels × 1 ….
pub(super) fn per_channel(tensor: Float, rank: usize, channels: usize) -> Float {
    let mut shape = vec![1; rank];
    shape[1] = channels;
    tensor.reshape(&shape)
}

/// A normalisation with fixed statistics: inputs X, scale, bias. Mean and variance are buffers
/// of the model, not parameters: nothing is differentiated with respect to them.
#[derive(Debug)]
struct BatchNormKernel {
    shape: ChannelShape,
    out: Vec<usize>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f32,
    threads: usize,
}

impl BatchNormKernel {
    fn norm<'a>(&'a self, inputs: &[&'a [f32]]) -> BatchNorm<'a> {
        BatchNorm {
            scale: inputs[1],
            bias: inputs[2],
            mean: &self.mean,
            variance: &self.variance,
            epsilon: self.epsilon,
        }
    }
}

impl HostKernel for BatchNormKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn device_op(&self) -> Option<DeviceOp> {
        Some(DeviceOp::BatchNorm {
            shape: self.shape,
            mean: self.mean.clone(),
            variance: self.variance.clone(),
            epsilon: self.epsilon,
        })
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = vec![0.0; inputs[0].len()];
        let norm = self.norm(inputs);
        batch_norm_forward(&self.shape, &norm, inputs[0], &mut output, self.threads)?;
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut input = vec![0.0; pass.inputs[0].len()];
        let mut scale = vec![0.0; self.shape.channels];
        let mut bias = vec![0.0; self.shape.channels];
        let grads = BatchNormGrads {
            input: &mut input,
            scale: &mut scale,
            bias: &mut bias,
        };
        let norm = self.norm(pass.inputs);
        batch_norm_backward(
            &self.shape,
            &norm,
            pass.inputs[0],
            pass.grad,
            grads,
            self.threads,
        )?;
        Ok(vec![Some(input), Some(scale), Some(bias)])
    }
}

pub(super) fn batch_norm(epsilon: f32, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let out = x.shape();
    let (Some(&batch), Some(&channels)) = (out.first(), out.get(1)) else {
        return invalid(format!("an input of shape {out:?} has no channel axis"));
    };
    let mut given = Vec::with_capacity(4);
    for port in 1..5 {
        let tensor = inputs.float(port)?;
        if tensor.shape() != [channels] {
            return invalid(format!(
                "input {port} is {:?}, not [{channels}]",
                tensor.shape()
            ));
        }
        given.push(tensor);
    }
    let [scale, bias, mean, variance] = <[Float; 4]>::try_from(given)
        .or_else(|_| invalid("scale, bias, mean and variance are needed"))?;
    let numbers = |tensor: Float| tensor.into_vec().or_else(invalid);
    run_kernel(
        [x, scale, bias],
        Arc::new(BatchNormKernel {
            shape: ChannelShape {
                batch,
                channels,
                plane: out[2..].iter().product(),
            },
            out,
            mean: numbers(mean)?,
            variance: numbers(variance)?,
            epsilon,
            threads: context.threads,
        }),
    )
}

/// Returns x with mean zero and variance one over `axes`, the mean, and one over the deviation.
pub(super) fn standardise(x: Float, axes: &[usize], epsilon: f32) -> (Float, Float, Float) {
    let shape = x.shape();
    let count: usize = axes.iter().map(|&a| shape[a]).product();
    let mean = |t: Float| t.sum_axes(axes).mul_scalar(1.0 / count as f32);
    let centre = mean(x.clone());
    let centred = x.sub(centre.clone());
    let variance = mean(centred.clone().mul(centred.clone()));
    let deviation = variance.add_scalar(epsilon).sqrt();
    let inverse = deviation.clone().recip();
    (centred.div(deviation), centre, inverse)
}

pub(super) fn layer_norm(
    axis: i64,
    epsilon: f32,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Vec<Value>> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let first = axis_of(axis, shape.len())?;
    let axes: Vec<usize> = (first..shape.len()).collect();
    let (mut result, mean, inverse) = standardise(x, &axes, epsilon);
    for (port, scales) in [(1, true), (2, false)] {
        let Some(tensor) = inputs.optional_float(port)? else {
            continue;
        };
        if broadcast_shape(&tensor.shape(), &shape)? != shape {
            return invalid(format!(
                "input {port} is {:?}, not {shape:?}",
                tensor.shape()
            ));
        }
        let (a, b) = same_rank(result, tensor);
        result = if scales { a.mul(b) } else { a.add(b) };
    }
    let mut outputs = vec![Value::Float(result)];
    if context.n_outputs > 1 {
        outputs.extend([mean, inverse].map(Value::Float));
    }
    Ok(outputs)
}

pub(super) fn instance_norm(epsilon: f32, inputs: &mut Inputs) -> OpResult<Float> {
    let (x, scale, bias) = (inputs.float(0)?, inputs.float(1)?, inputs.float(2)?);
    let shape = x.shape();
    let Some(&channels) = shape.get(1) else {
        return invalid(format!("an input of shape {shape:?} has no channel axis"));
    };
    if scale.shape() != [channels] || bias.shape() != [channels] {
        return invalid(format!(
            "scale {:?} and bias {:?} for {channels} channels",
            scale.shape(),
            bias.shape()
        ));
    }
    let axes: Vec<usize> = (2..shape.len()).collect();
    let rank = shape.len();
    Ok(standardise(x, &axes, epsilon)
        .0
        .mul(per_channel(scale, rank, channels))
        .add(per_channel(bias, rank, channels)))
}
