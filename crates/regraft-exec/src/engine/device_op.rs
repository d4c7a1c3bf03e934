//! Operations that the engine has on every device, for kernels whose own code runs on the host.

use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Scalar, Shape, TensorData, TensorMetadata};

use super::float::shape_of;
use crate::kernels::{ChannelShape, ConvShape};

/// What a kernel is in terms of the engine.
#[derive(Clone, Debug)]
pub(crate) enum DeviceOp {
    /// Inputs X, W, optional B.
    Conv(ConvShape),
    /// One input.
    Relu,
    /// One input.
    Sqrt,
    /// Two inputs of one shape.
    Add,
    /// The mean of every plane.
    PlaneMeans(ChannelShape),
    /// Inputs X, scale, bias; the statistics are fixed.
    BatchNorm {
        shape: ChannelShape,
        mean: Vec<f32>,
        variance: Vec<f32>,
        epsilon: f32,
    },
}

/// What the backward pass of a device operation reads.
pub(super) struct DevicePass<'a, B: Backend> {
    pub(super) inputs: &'a [FloatTensor<B>],
    /// The result, where the kernel keeps it.
    pub(super) output: Option<&'a FloatTensor<B>>,
    pub(super) grad: FloatTensor<B>,
    /// The shapes of the inputs.
    pub(super) shapes: &'a [Vec<usize>],
    pub(super) wanted: &'a [bool],
}

/// The gradient of each wanted input.
pub(super) type DeviceGrads<B> = Vec<Option<FloatTensor<B>>>;

fn reshaped<B: Backend>(tensor: FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    let shape = shape_of(shape);
    if tensor.shape() == shape {
        return tensor;
    }
    B::float_reshape(tensor, shape)
}

fn conv_options(shape: &ConvShape) -> ConvOptions<2> {
    let [top, left, bottom, right] = shape.pads;
    ConvOptions {
        stride: shape.stride_hw,
        padding: [(top, bottom), (left, right)],
        dilation: shape.dilation_hw,
        groups: shape.groups,
    }
}

/// Input and weight with two spatial axes.
fn planar<B: Backend>(
    shape: &ConvShape,
    x: &FloatTensor<B>,
    w: &FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [h, wide] = shape.in_hw;
    let [kh, kw] = shape.kernel_hw;
    let per_group = shape.c_in / shape.groups;
    (
        reshaped::<B>(x.clone(), &[shape.batch, shape.c_in, h, wide]),
        reshaped::<B>(w.clone(), &[shape.c_out, per_group, kh, kw]),
    )
}

/// Constants on the device of `like`, one a channel.
fn constants<B: Backend>(numbers: Vec<f32>, like: &FloatTensor<B>) -> FloatTensor<B> {
    let shape = Shape::from(vec![1, numbers.len(), 1]);
    B::float_from_data(TensorData::new(numbers, shape), &like.device())
}

impl DeviceOp {
    /// Returns the result, of shape `out`.
    pub(super) fn forward<B: Backend>(
        &self,
        inputs: &[FloatTensor<B>],
        out: &[usize],
    ) -> FloatTensor<B> {
        let result = match self {
            Self::Conv(shape) => {
                let (x, w) = planar::<B>(shape, &inputs[0], &inputs[1]);
                B::conv2d(x, w, inputs.get(2).cloned(), conv_options(shape))
            }
            Self::Relu => B::relu(inputs[0].clone()),
            Self::Sqrt => B::float_sqrt(inputs[0].clone()),
            Self::Add => B::float_add(inputs[0].clone(), inputs[1].clone()),
            Self::PlaneMeans(shape) => {
                let rows = [shape.batch * shape.channels, shape.plane];
                B::float_mean_dim(reshaped::<B>(inputs[0].clone(), &rows), 1)
            }
            Self::BatchNorm { shape, .. } => {
                let (centred, gain) = self.standard::<B>(shape, inputs);
                let bias = reshaped::<B>(inputs[2].clone(), &[1, shape.channels, 1]);
                B::float_add(B::float_mul(centred, gain), bias)
            }
        };
        reshaped::<B>(result, out)
    }

    /// Returns the gradient of each wanted input.
    pub(super) fn backward<B: Backend>(&self, pass: DevicePass<'_, B>) -> DeviceGrads<B> {
        let wanted = |i: usize| pass.wanted.get(i) == Some(&true);
        match self {
            Self::Conv(shape) => conv_backward::<B>(shape, &pass),
            Self::Relu => vec![pass.output.map(|y| B::relu_backward(y.clone(), pass.grad))],
            Self::Sqrt => vec![pass.output.map(|root| {
                let twice = B::float_mul_scalar(root.clone(), Scalar::from(2.0f32));
                B::float_div(pass.grad, twice)
            })],
            Self::Add => (0..2)
                .map(|i| wanted(i).then(|| pass.grad.clone()))
                .collect(),
            Self::PlaneMeans(shape) => {
                let rows = shape.batch * shape.channels;
                let grad = reshaped::<B>(pass.grad, &[rows, 1]);
                let grad = B::float_expand(grad, Shape::from(vec![rows, shape.plane]));
                let mean = Scalar::from(1.0 / shape.plane.max(1) as f32);
                vec![Some(reshaped::<B>(
                    B::float_mul_scalar(grad, mean),
                    &pass.shapes[0],
                ))]
            }
            Self::BatchNorm { shape, .. } => {
                let (centred, gain) = self.standard::<B>(shape, pass.inputs);
                let grad = reshaped::<B>(
                    pass.grad.clone(),
                    &[shape.batch, shape.channels, shape.plane],
                );
                let sums = |t: FloatTensor<B>| {
                    let sum = B::float_sum_dim(B::float_sum_dim(t, 0), 2);
                    reshaped::<B>(sum, &[shape.channels])
                };
                let input = B::float_mul(grad.clone(), gain);
                let scale = sums(B::float_mul(
                    grad.clone(),
                    B::float_mul(centred, self.inverse_deviation::<B>(&grad)),
                ));
                let bias = sums(grad);
                vec![
                    Some(reshaped::<B>(input, &pass.shapes[0])),
                    Some(scale),
                    Some(bias),
                ]
            }
        }
    }

    /// `1 / sqrt(variance + epsilon)`, one a channel.
    fn inverse_deviation<B: Backend>(&self, like: &FloatTensor<B>) -> FloatTensor<B> {
        let Self::BatchNorm {
            variance, epsilon, ..
        } = self
        else {
            return like.clone();
        };
        let numbers = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt());
        constants::<B>(numbers.collect(), like)
    }

    /// Returns `x - mean` as batch × channels × plane, and what it is multiplied by.
    fn standard<B: Backend>(
        &self,
        shape: &ChannelShape,
        inputs: &[FloatTensor<B>],
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let x = reshaped::<B>(
            inputs[0].clone(),
            &[shape.batch, shape.channels, shape.plane],
        );
        let scale = reshaped::<B>(inputs[1].clone(), &[1, shape.channels, 1]);
        let gain = B::float_mul(scale, self.inverse_deviation::<B>(&x));
        let Self::BatchNorm { mean, .. } = self else {
            return (x, gain);
        };
        let mean = constants::<B>(mean.clone(), &x);
        (B::float_sub(x, mean), gain)
    }
}

fn conv_backward<B: Backend>(shape: &ConvShape, pass: &DevicePass<'_, B>) -> DeviceGrads<B> {
    let (x, w) = planar::<B>(shape, &pass.inputs[0], &pass.inputs[1]);
    let options = || conv_options(shape);
    let spatial = pass.grad.shape().to_vec();
    let (rank, wide) = (spatial.len(), spatial[spatial.len() - 1]);
    let high = if rank == 4 { spatial[2] } else { 1 };
    let grad = reshaped::<B>(pass.grad.clone(), &[shape.batch, shape.c_out, high, wide]);
    let wanted = |i: usize| pass.wanted.get(i) == Some(&true);
    let input = wanted(0).then(|| {
        let found = B::conv2d_x_backward(x.clone(), w.clone(), grad.clone(), options());
        reshaped::<B>(found, &pass.shapes[0])
    });
    let weight = wanted(1).then(|| {
        let found = B::conv2d_weight_backward(x.clone(), w, grad.clone(), options());
        reshaped::<B>(found, &pass.shapes[1])
    });
    let mut grads = vec![input, weight];
    if let Some(bias) = pass.inputs.get(2) {
        grads.push(wanted(2).then(|| B::conv2d_bias_backward(x, bias.clone(), grad)));
    }
    grads
}

#[cfg(test)]
mod tests;
