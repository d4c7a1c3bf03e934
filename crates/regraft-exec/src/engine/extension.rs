//! Our own kernels as operations of the engine, with their own gradients.
//!
//! A [`HostKernel`] computes on plain slices. The extension trait runs it on the engine's host
//! tensors without a copy, and the implementation for the gradient-tracking backend keeps what the
//! kernel's own backward pass reads.

use std::any::Any;
use std::fmt::Debug;
use std::panic::resume_unwind;
use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward as EngineBackward, Ops, OpsKind};
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorData, TensorMetadata};
use burn_backend_extension::backend_extension;
use burn_dispatch::Dispatch;
use burn_flex::{Flex, FlexTensor};

use super::Float;
use crate::error::{OpResult, unsupported};
use crate::kernels::KernelError;

/// The names under which the extension macro looks for the engine.
mod burn {
    pub(super) mod backend {
        pub(crate) use burn_backend::AutodiffBackend;
        pub(crate) use burn_dispatch::backends::{Autodiff, Flex, autodiff};
        pub(crate) use burn_dispatch::{
            BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
            GradientCheckpointingStrategy,
        };
    }
}

/// What a backward pass reads.
#[derive(Debug)]
pub(crate) struct Backward<'a> {
    /// The inputs of the forward pass.
    pub(crate) inputs: &'a [&'a [f32]],
    /// The result of the forward pass, empty if the kernel does not keep it.
    pub(crate) output: &'a [f32],
    /// The gradient of the loss with respect to the result.
    pub(crate) grad: &'a [f32],
    /// Which inputs' gradients are asked for.
    pub(crate) wanted: &'a [bool],
}

/// An operation on float tensors in host memory, its shapes already checked.
pub(crate) trait HostKernel: Debug + Send + Sync {
    /// Returns the shape of the result.
    fn output_shape(&self) -> &[usize];

    /// Returns true if the backward pass reads the result of the forward pass.
    fn keeps_output(&self) -> bool {
        false
    }

    /// Returns true if the backward pass reads the inputs of the forward pass.
    fn keeps_inputs(&self) -> bool {
        true
    }

    /// Returns true if [`forward_in_place`](Self::forward_in_place) is there.
    fn overwrites(&self) -> bool {
        false
    }

    /// Returns true if every input's gradient is that of the result.
    fn passes_gradient(&self) -> bool {
        false
    }

    /// Writes the result over the first input, which has its shape.
    fn forward_in_place(&self, _first: &mut [f32], _rest: &[&[f32]]) -> Result<(), KernelError> {
        Ok(())
    }

    /// Returns the result.
    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError>;

    /// Returns the gradient of each wanted input.
    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError>;
}

/// Runs a kernel on one engine tensor, tracked if that is.
pub(crate) fn run_unary(input: Float, kernel: Arc<dyn HostKernel>) -> Float {
    Float::from_engine(Dispatch::kernel_1(input.into_engine(), kernel))
}

/// Runs a kernel on one, two, three or six engine tensors, tracked if one of them is.
pub(crate) fn run_kernel<const N: usize>(
    inputs: [Float; N],
    kernel: Arc<dyn HostKernel>,
) -> OpResult<Float> {
    let mut engine = inputs
        .into_iter()
        .map(Float::into_engine)
        .collect::<Vec<_>>();
    let mut next = || engine.remove(0);
    Ok(Float::from_engine(match N {
        1 => Dispatch::kernel_1(next(), kernel),
        2 => Dispatch::kernel_2(next(), next(), kernel),
        3 => Dispatch::kernel_3(next(), next(), next(), kernel),
        6 => Dispatch::kernel_6(next(), next(), next(), next(), next(), next(), kernel),
        _ => return unsupported(format!("a kernel of {N} inputs")),
    }))
}

// The macro routes tensors that are arguments of their own, so there is one method an arity.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait HostKernels: Backend {
    fn kernel_1(a: FloatTensor<Self>, kernel: Arc<dyn HostKernel>) -> FloatTensor<Self>;
    fn kernel_2(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self>;
    fn kernel_3(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self>;
    fn kernel_6(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self>;
}

/// Tensors whose elements can be borrowed as a slice.
pub(crate) trait HostAccess: Backend {
    /// Returns the same tensor with its elements row-major and gapless.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Returns the elements of a contiguous tensor.
    fn elements(tensor: &FloatTensor<Self>) -> &[f32];
    /// Returns the elements of a contiguous tensor to write to, if nothing else reads them.
    fn own_elements(tensor: &mut FloatTensor<Self>) -> Option<&mut [f32]>;
    /// Returns a tensor that owns `data`.
    fn own(data: Vec<f32>, shape: &[usize]) -> FloatTensor<Self>;
}

impl HostAccess for Flex {
    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        }
    }

    fn elements(tensor: &FlexTensor) -> &[f32] {
        tensor.as_slice::<f32>().unwrap_or(&[])
    }

    fn own_elements(tensor: &mut FlexTensor) -> Option<&mut [f32]> {
        let (start, end) = tensor.layout().contiguous_offsets()?;
        tensor.try_storage_mut::<f32>()?.get_mut(start..end)
    }

    fn own(data: Vec<f32>, shape: &[usize]) -> FlexTensor {
        let data = TensorData::new(data, Shape::from(shape.to_vec()));
        FlexTensor::from_data(data)
    }
}

/// Shapes were checked before, so an error here is ours; it leaves as a payload that the border
/// of the crate turns back into an error.
fn or_unwind<T>(result: Result<T, KernelError>) -> T {
    result.unwrap_or_else(|error| resume_unwind(Box::new(error) as Box<dyn Any + Send>))
}

/// Runs a kernel that writes over its first input; false where somebody else reads that input.
fn overwrite<B: HostAccess>(inputs: &mut [FloatTensor<B>], kernel: &dyn HostKernel) -> bool {
    let Some((first, rest)) = inputs.split_first_mut() else {
        return false;
    };
    let rest: Vec<&[f32]> = rest.iter().map(B::elements).collect();
    let Some(elements) = B::own_elements(first) else {
        return false;
    };
    or_unwind(kernel.forward_in_place(elements, &rest));
    true
}

fn forward<B: HostAccess, const N: usize>(
    mut inputs: [FloatTensor<B>; N],
    kernel: &dyn HostKernel,
) -> FloatTensor<B> {
    if kernel.overwrites() && overwrite::<B>(&mut inputs, kernel) {
        let [first, ..] = inputs.as_slice() else {
            return B::own(Vec::new(), &[0]);
        };
        return first.clone();
    }
    let slices: Vec<&[f32]> = inputs.iter().map(B::elements).collect();
    B::own(or_unwind(kernel.forward(&slices)), kernel.output_shape())
}

impl HostKernels for Flex {
    fn kernel_1(a: FloatTensor<Self>, kernel: Arc<dyn HostKernel>) -> FloatTensor<Self> {
        forward::<Self, 1>([a].map(Self::contiguous), kernel.as_ref())
    }

    fn kernel_2(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self> {
        forward::<Self, 2>([a, b].map(Self::contiguous), kernel.as_ref())
    }

    fn kernel_3(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self> {
        forward::<Self, 3>([a, b, c].map(Self::contiguous), kernel.as_ref())
    }

    fn kernel_6(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self> {
        forward::<Self, 6>([a, b, c, d, e, f].map(Self::contiguous), kernel.as_ref())
    }
}

/// What is kept between the passes.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    kernel: Arc<dyn HostKernel>,
    inputs: Vec<FloatTensor<B>>,
    shapes: Vec<Vec<usize>>,
    output: Option<FloatTensor<B>>,
}

#[derive(Debug)]
struct KernelStep;

impl<B: HostAccess, const N: usize> EngineBackward<B, N> for KernelStep {
    type State = Kept<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = B::contiguous(grads.consume::<B>(&ops.node));
        let Kept {
            kernel,
            inputs,
            shapes,
            output,
        } = ops.state;
        if kernel.passes_gradient() {
            for node in ops.parents.into_iter().flatten() {
                grads.register::<B>(node.id, grad.clone());
            }
            return;
        }
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let slices: Vec<&[f32]> = inputs.iter().map(B::elements).collect();
        let results = or_unwind(kernel.backward(&Backward {
            inputs: &slices,
            output: output.as_ref().map_or(&[], B::elements),
            grad: B::elements(&grad),
            wanted: &wanted,
        }));
        for ((parent, result), shape) in ops.parents.into_iter().zip(results).zip(&shapes) {
            if let (Some(node), Some(data)) = (parent, result) {
                grads.register::<B>(node.id, B::own(data, shape));
            }
        }
    }
}

fn track<B: HostAccess, C: CheckpointStrategy, const N: usize>(
    inputs: [FloatTensor<Autodiff<B, C>>; N],
    kernel: Arc<dyn HostKernel>,
) -> FloatTensor<Autodiff<B, C>> {
    let guards = inputs.each_ref().map(FloatTensor::<Autodiff<B, C>>::node);
    let inputs = inputs.map(|tensor| B::contiguous(tensor.into_primitive()));
    let shapes = inputs.each_ref().map(|tensor| tensor.shape().to_vec());
    let kept_inputs = if kernel.keeps_inputs() {
        inputs.to_vec()
    } else {
        Vec::new()
    };
    let output = forward::<B, N>(inputs, kernel.as_ref());
    let prep = EngineBackward::<B, N>::prepare::<C>(KernelStep, guards);
    match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let kept = kernel.keeps_output().then(|| output.clone());
            let state = Kept {
                kernel,
                inputs: kept_inputs,
                shapes: shapes.to_vec(),
                output: kept,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

impl<B: HostAccess, C: CheckpointStrategy> HostKernels for Autodiff<B, C> {
    fn kernel_1(a: FloatTensor<Self>, kernel: Arc<dyn HostKernel>) -> FloatTensor<Self> {
        track::<B, C, 1>([a], kernel)
    }

    fn kernel_2(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self> {
        track::<B, C, 2>([a, b], kernel)
    }

    fn kernel_3(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self> {
        track::<B, C, 3>([a, b, c], kernel)
    }

    fn kernel_6(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        kernel: Arc<dyn HostKernel>,
    ) -> FloatTensor<Self> {
        track::<B, C, 6>([a, b, c, d, e, f], kernel)
    }
}
