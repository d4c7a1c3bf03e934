//! Batch normalisation in training mode.

use std::sync::{Arc, OnceLock};

use super::{Context, Inputs};
use crate::engine::{Backward, Float, HostKernel, run_kernel};
use crate::error::{OpResult, invalid};
use crate::kernels::{
    BatchAffine, BatchMoments, BatchNormGrads, ChannelShape, KernelError,
    batch_statistics_backward, batch_statistics_forward,
};
use crate::value::Value;

/// Inputs X, scale, bias; the statistics are those of X, found by the forward pass.
#[derive(Debug)]
struct BatchStatisticsKernel {
    shape: ChannelShape,
    out: Vec<usize>,
    epsilon: f32,
    threads: usize,
    moments: OnceLock<BatchMoments>,
}

impl BatchStatisticsKernel {
    fn affine<'a>(&self, inputs: &[&'a [f32]]) -> BatchAffine<'a> {
        BatchAffine {
            scale: inputs[1],
            bias: inputs[2],
            epsilon: self.epsilon,
        }
    }
}

impl HostKernel for BatchStatisticsKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = vec![0.0; inputs[0].len()];
        let affine = self.affine(inputs);
        let found =
            batch_statistics_forward(&self.shape, &affine, inputs[0], &mut output, self.threads)?;
        // The same inputs give the same moments again.
        self.moments.get_or_init(|| found);
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
        let none = BatchMoments::default();
        batch_statistics_backward(
            &self.shape,
            &self.affine(pass.inputs),
            self.moments.get().unwrap_or(&none),
            (pass.inputs[0], pass.grad),
            grads,
            self.threads,
        )?;
        Ok(vec![Some(input), Some(scale), Some(bias)])
    }
}

/// Returns Y and both running statistics moved on. Only Y has a gradient: the others are buffers.
pub(super) fn run(
    epsilon: f32,
    momentum: f32,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Vec<Value>> {
    let x = inputs.float(0)?;
    let out = x.shape();
    let (Some(&batch), Some(&channels)) = (out.first(), out.get(1)) else {
        return invalid(format!("an input of shape {out:?} has no channel axis"));
    };
    if x.len() == 0 {
        return invalid(format!("an input of shape {out:?} has no statistics"));
    }
    let mut channelwise = |port: usize| {
        let tensor = inputs.float(port)?;
        if tensor.shape() == [channels] {
            return Ok(tensor);
        }
        let shape = tensor.shape();
        invalid(format!("input {port} is {shape:?}, not [{channels}]"))
    };
    let (scale, bias) = (channelwise(1)?, channelwise(2)?);
    let running = [channelwise(3)?, channelwise(4)?];
    let kernel = Arc::new(BatchStatisticsKernel {
        shape: ChannelShape {
            batch,
            channels,
            plane: out[2..].iter().product(),
        },
        out,
        epsilon,
        threads: context.threads,
        moments: OnceLock::new(),
    });
    let y = run_kernel([x, scale, bias], kernel.clone())?;
    let mut outputs = vec![Value::Float(y)];
    if let (Some(moments), true) = (kernel.moments.get(), context.n_outputs > 1) {
        let of_batch = [&moments.mean, &moments.variance];
        for (running, batch) in running.into_iter().zip(of_batch) {
            outputs.push(Value::Float(moved_on(running, batch, momentum)?));
        }
    }
    Ok(outputs)
}

fn moved_on(running: Float, batch: &[f64], momentum: f32) -> OpResult<Float> {
    let stays = f64::from(momentum);
    let running = running.into_vec().or_else(invalid)?;
    let mixed = running.iter().zip(batch).map(|(old, new)| {
        // A share of nothing, so that not even infinity is left of it.
        let old = if momentum == 0.0 {
            0.0
        } else {
            stays * f64::from(*old)
        };
        (old + (1.0 - stays) * new) as f32
    });
    Ok(Float::new(mixed.collect(), &[batch.len()]))
}
