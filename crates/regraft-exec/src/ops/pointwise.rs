//! The rectifier, the square root and the residual sum as kernels of our own.
//!
//! A trained network spends most of its time outside of convolutions in these. The kernels write
//! into their first input where nothing else reads it, and run in every thread.

use std::sync::Arc;

use super::Context;
use crate::engine::{Backward, DeviceOp, Float, HostKernel, run_kernel, run_unary};
use crate::error::OpResult;
use crate::kernels::{
    KernelError, add_in_place, relu_backward, relu_in_place, sqrt_backward, sqrt_in_place,
};

/// What a kernel does to every number. The backward pass reads the result, so that the input can be
/// overwritten.
#[derive(Clone, Copy, Debug)]
enum Pointwise {
    /// max(x, 0).
    Relu,
    /// The square root. The engine's own backward pass takes a power of every input; this one divides by the
    /// result.
    Sqrt,
}

#[derive(Debug)]
struct PointwiseKernel {
    op: Pointwise,
    out: Vec<usize>,
    threads: usize,
}

impl HostKernel for PointwiseKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn device_op(&self) -> Option<DeviceOp> {
        Some(match self.op {
            Pointwise::Relu => DeviceOp::Relu,
            Pointwise::Sqrt => DeviceOp::Sqrt,
        })
    }

    fn keeps_inputs(&self) -> bool {
        false
    }

    fn keeps_output(&self) -> bool {
        true
    }

    fn overwrites(&self) -> bool {
        true
    }

    fn forward_in_place(&self, first: &mut [f32], _rest: &[&[f32]]) -> Result<(), KernelError> {
        match self.op {
            Pointwise::Relu => relu_in_place(first, self.threads),
            Pointwise::Sqrt => sqrt_in_place(first, self.threads),
        }
        Ok(())
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = inputs[0].to_vec();
        self.forward_in_place(&mut output, &[])?;
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut grad = vec![0.0; pass.grad.len()];
        let backward = match self.op {
            Pointwise::Relu => relu_backward,
            Pointwise::Sqrt => sqrt_backward,
        };
        backward(pass.output, pass.grad, &mut grad, self.threads)?;
        Ok(vec![Some(grad)])
    }
}

fn pointwise(op: Pointwise, x: Float, context: &Context) -> Float {
    let kernel = PointwiseKernel {
        op,
        out: x.shape(),
        threads: context.threads,
    };
    run_unary(x, Arc::new(kernel))
}

pub(super) fn relu(x: Float, context: &Context) -> Float {
    pointwise(Pointwise::Relu, x, context)
}

pub(super) fn sqrt(x: Float, context: &Context) -> Float {
    pointwise(Pointwise::Sqrt, x, context)
}

/// The sum of two tensors of one shape; each gets the gradient as it is.
#[derive(Debug)]
struct AddKernel {
    out: Vec<usize>,
    threads: usize,
}

impl HostKernel for AddKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn device_op(&self) -> Option<DeviceOp> {
        Some(DeviceOp::Add)
    }

    fn keeps_inputs(&self) -> bool {
        false
    }

    fn overwrites(&self) -> bool {
        true
    }

    fn passes_gradient(&self) -> bool {
        true
    }

    fn forward_in_place(&self, first: &mut [f32], rest: &[&[f32]]) -> Result<(), KernelError> {
        add_in_place(first, rest[0], self.threads)
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = inputs[0].to_vec();
        add_in_place(&mut output, inputs[1], self.threads)?;
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        Ok(vec![Some(pass.grad.to_vec()), Some(pass.grad.to_vec())])
    }
}

/// Returns the sum of two tensors of one shape.
pub(super) fn add(a: Float, b: Float, context: &Context) -> OpResult<Float> {
    let kernel = AddKernel {
        out: a.shape(),
        threads: context.threads,
    };
    run_kernel([a, b], Arc::new(kernel))
}
