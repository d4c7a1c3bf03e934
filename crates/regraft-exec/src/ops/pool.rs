//! Pooling over windows and over all spatial axes.

use std::sync::{Arc, OnceLock};

use regraft_graph::op::{GlobalPool, Pool, PoolKind};

use super::conv::{WindowLists, spatial, window, with_spatial};
use super::{Context, Inputs, windows};
use crate::engine::{Backward, DeviceOp, Float, HostKernel, run_kernel, run_unary};
use crate::error::{OpResult, invalid};
use crate::kernels::{
    ChannelShape, KernelError, PoolShape, average_pool_backward, average_pool_forward,
    global_average_pool_backward, global_average_pool_forward, max_pool_backward, max_pool_forward,
};
use crate::value::Value;

/// A window pooling of one input.
#[derive(Debug)]
struct PoolKernel {
    /// Whether padding counts as elements of a mean; `None`: the largest element.
    average: Option<bool>,
    shape: PoolShape,
    out: Vec<usize>,
    threads: usize,
    /// Where the largest elements were, for the backward pass.
    indices: OnceLock<Vec<u32>>,
}

impl HostKernel for PoolKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = vec![0.0; self.out.iter().product()];
        match self.average {
            None => {
                let mut indices = vec![0; output.len()];
                max_pool_forward(
                    &self.shape,
                    inputs[0],
                    &mut output,
                    &mut indices,
                    self.threads,
                )?;
                // One kernel runs forward once; a second run finds the same indices.
                let _ = self.indices.set(indices);
            }
            Some(count_include_pad) => {
                let (shape, threads) = (&self.shape, self.threads);
                average_pool_forward(shape, count_include_pad, inputs[0], &mut output, threads)?;
            }
        }
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut grad = vec![0.0; pass.inputs[0].len()];
        match self.average {
            None => {
                let indices = self.indices.get().map_or(&[][..], Vec::as_slice);
                max_pool_backward(&self.shape, indices, pass.grad, &mut grad, self.threads)?;
            }
            Some(count_include_pad) => {
                let (shape, threads) = (&self.shape, self.threads);
                average_pool_backward(shape, count_include_pad, pass.grad, &mut grad, threads)?;
            }
        }
        Ok(vec![Some(grad)])
    }
}

/// Returns what a pooling gives: by the two-axis kernels where they are enough.
pub(super) fn pool(op: &Pool, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let average = match op.kind {
        PoolKind::Max if context.n_outputs == 1 => Some(None),
        PoolKind::Average { count_include_pad } => Some(Some(count_include_pad)),
        PoolKind::Max | PoolKind::Lp { .. } => None,
    };
    let is_plane = op.kernel_shape.len() <= 2;
    match (average.filter(|_| is_plane), inputs.0.first()) {
        (Some(average), Some(Some(Value::Float(_)))) => {
            planes(op, average, inputs, context).map(|t| vec![Value::Float(t)])
        }
        _ => windows::pool(op, inputs, context),
    }
}

fn planes(
    op: &Pool,
    average: Option<bool>,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let in_hw = spatial(&shape)?;
    let kernel_hw = match (op.kernel_shape.as_slice(), shape.len()) {
        ([w], 3) => [1, *w],
        ([h, w], 4) => [*h, *w],
        (kernel, _) => return invalid(format!("kernel {kernel:?} for an input {shape:?}")),
    };
    let lists = WindowLists {
        strides: &op.strides,
        dilations: &op.dilations,
        pads: &op.pads,
        auto_pad: op.auto_pad,
    };
    let window = window(&lists, shape.len() - 2, in_hw, kernel_hw)?;
    let pool = PoolShape {
        batch: shape[0],
        channels: shape[1],
        in_hw,
        kernel_hw,
        stride_hw: window.stride_hw,
        dilation_hw: window.dilation_hw,
        pads: window.pads,
        ceil_mode: op.ceil_mode,
    };
    let out = with_spatial(shape.len(), shape[0], shape[1], pool.out_hw()?);
    context.check_size(&out)?;
    for i in 0..2 {
        context.check_size(&[out[out.len() - 1], kernel_hw[i]])?;
    }
    run_kernel(
        [x],
        Arc::new(PoolKernel {
            average,
            shape: pool,
            out,
            threads: context.threads,
            indices: OnceLock::new(),
        }),
    )
}

/// The mean of every plane.
#[derive(Debug)]
struct PlaneMeans {
    shape: ChannelShape,
    out: Vec<usize>,
    threads: usize,
}

impl HostKernel for PlaneMeans {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn device_op(&self) -> Option<DeviceOp> {
        Some(DeviceOp::PlaneMeans(self.shape))
    }

    fn keeps_inputs(&self) -> bool {
        false
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = vec![0.0; self.shape.batch * self.shape.channels];
        global_average_pool_forward(&self.shape, inputs[0], &mut output, self.threads)?;
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut grad = vec![0.0; pass.grad.len() * self.shape.plane];
        global_average_pool_backward(&self.shape, pass.grad, &mut grad, self.threads)?;
        Ok(vec![Some(grad)])
    }
}

/// Returns the mean over all axes after the second of a tensor with at least one element; these
/// axes stay with extent one.
pub(super) fn plane_means(x: Float, context: &Context) -> Float {
    let mut out = x.shape();
    let shape = ChannelShape {
        batch: out[0],
        channels: out[1],
        plane: out[2..].iter().product(),
    };
    out[2..].fill(1);
    let kernel = PlaneMeans {
        shape,
        out,
        threads: context.threads,
    };
    run_unary(x, Arc::new(kernel))
}

pub(super) fn global(kind: GlobalPool, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    if shape.len() < 3 {
        return invalid(format!("an input of shape {shape:?} has no spatial axis"));
    }
    let positions: usize = shape[2..].iter().product();
    if positions == 0 {
        return invalid(format!(
            "an input of shape {shape:?} has no element to pool"
        ));
    }
    let mut to = vec![1; shape.len()];
    to[..2].copy_from_slice(&shape[..2]);
    Ok(match kind {
        GlobalPool::Average => plane_means(x, context),
        GlobalPool::Max => {
            let flat = x.reshape(&[shape[0], shape[1], positions]);
            flat.max_axis(2).reshape(&to)
        }
        GlobalPool::Lp { p } => {
            let flat = x.reshape(&[shape[0], shape[1], positions]).abs();
            let sums = flat.pow_scalar(p as f32).sum_axes(&[2]);
            sums.pow_scalar(1.0 / p as f32).reshape(&to)
        }
    })
}
