//! Our own kernels as operations of the engine, with their own gradients.
//!
//! A [`HostKernel`] computes on plain slices. The extension trait runs it on the engine's host
//! tensors without a copy, and the implementation for the gradient-tracking backend keeps what the
//! kernel's own backward pass reads. On other devices its [`DeviceOp`] runs instead; a kernel that
//! has none takes its tensors to the host and back.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::panic::resume_unwind;
use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward as EngineBackward, Ops, OpsKind};
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorData, TensorMetadata};
use burn_backend_extension::backend_extension;
use burn_dispatch::Dispatch;
#[cfg(feature = "gpu")]
use burn_dispatch::backends::Cube;
use burn_flex::{Flex, FlexTensor};

use super::Float;
use super::device_op::{DeviceGrads, DeviceOp, DevicePass};
use super::float::shape_of;
use crate::error::{OpResult, unsupported};
use crate::kernels::KernelError;

/// The names under which the extension macro looks for the engine.
mod burn {
    pub(super) mod backend {
        pub(crate) use burn_backend::AutodiffBackend;
        #[cfg(feature = "gpu")]
        pub(crate) use burn_dispatch::backends::Cube;
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

    /// Returns the same operation in the engine's terms, for devices without host memory.
    fn device_op(&self) -> Option<DeviceOp> {
        None
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
    let shape = kernel.output_shape().to_vec();
    Float::from_engine(Dispatch::kernel_1(input.into_engine(), kernel), &shape)
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
    let shape = kernel.output_shape().to_vec();
    let result = match N {
        1 => Dispatch::kernel_1(next(), kernel),
        2 => Dispatch::kernel_2(next(), next(), kernel),
        3 => Dispatch::kernel_3(next(), next(), next(), kernel),
        6 => Dispatch::kernel_6(next(), next(), next(), next(), next(), next(), kernel),
        _ => return unsupported(format!("a kernel of {N} inputs")),
    };
    Ok(Float::from_engine(result, &shape))
}

// The macro routes tensors that are arguments of their own, so there is one method an arity.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
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

/// Tensors whose elements can be had as a slice.
pub(crate) trait HostAccess: Backend {
    /// True if the elements are in host memory.
    const ON_HOST: bool;
    /// Returns the same tensor with its elements row-major and gapless.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Returns the elements of a contiguous tensor.
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;
    /// Returns the elements of a contiguous tensor to write to, if nothing else reads them.
    fn own_elements(tensor: &mut FloatTensor<Self>) -> Option<&mut [f32]>;
    /// Returns a tensor that owns `data`, on the device of `like`.
    fn own(data: Vec<f32>, shape: &[usize], like: &FloatTensor<Self>) -> FloatTensor<Self>;
}

impl HostAccess for Flex {
    const ON_HOST: bool = true;

    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        }
    }

    fn elements(tensor: &FlexTensor) -> Cow<'_, [f32]> {
        Cow::Borrowed(tensor.as_slice::<f32>().unwrap_or(&[]))
    }

    fn own_elements(tensor: &mut FlexTensor) -> Option<&mut [f32]> {
        let (start, end) = tensor.layout().contiguous_offsets()?;
        tensor.try_storage_mut::<f32>()?.get_mut(start..end)
    }

    fn own(data: Vec<f32>, shape: &[usize], _like: &FlexTensor) -> FlexTensor {
        let data = TensorData::new(data, shape_of(shape));
        FlexTensor::from_data(data)
    }
}

#[cfg(feature = "gpu")]
impl HostAccess for Cube {
    const ON_HOST: bool = false;

    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        tensor
    }

    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        let data = burn_backend::read_sync(
            <Self as burn_backend::ops::FloatTensorOps<Self>>::float_into_data(tensor.clone()),
        );
        let found = data.map_err(|e| format!("{e:?}"));
        let found = found.and_then(|d| d.try_into_vec::<f32>().map_err(|e| format!("{e:?}")));
        // A device that does not give its memory back ends the run.
        Cow::Owned(found.unwrap_or_else(|reason| resume_unwind(Box::new(reason))))
    }

    fn own_elements(_tensor: &mut FloatTensor<Self>) -> Option<&mut [f32]> {
        None
    }

    fn own(data: Vec<f32>, shape: &[usize], like: &FloatTensor<Self>) -> FloatTensor<Self> {
        use burn_backend::ops::FloatTensorOps;
        let data = TensorData::new(data, shape_of(shape));
        Self::float_from_data(data, &like.device())
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
    let Some(elements) = B::own_elements(first) else {
        return false;
    };
    let rest: Vec<Cow<'_, [f32]>> = rest.iter().map(B::elements).collect();
    let rest: Vec<&[f32]> = rest.iter().map(AsRef::as_ref).collect();
    or_unwind(kernel.forward_in_place(elements, &rest));
    true
}

fn forward<B: HostAccess, const N: usize>(
    mut inputs: [FloatTensor<B>; N],
    kernel: &dyn HostKernel,
) -> FloatTensor<B> {
    if kernel.overwrites() && overwrite::<B>(&mut inputs, kernel) {
        return inputs[0].clone();
    }
    if !B::ON_HOST
        && let Some(op) = kernel.device_op()
    {
        return op.forward::<B>(&inputs, kernel.output_shape());
    }
    let result = {
        let elements = inputs.each_ref().map(B::elements);
        let slices: Vec<&[f32]> = elements.iter().map(AsRef::as_ref).collect();
        or_unwind(kernel.forward(&slices))
    };
    B::own(result, kernel.output_shape(), &inputs[0])
}

macro_rules! host_kernels {
    ($($(#[$gate:meta])* $backend:ident),*) => { $(
$(#[$gate])*
impl HostKernels for $backend {
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
    )* };
}

host_kernels!(
    Flex,
    #[cfg(feature = "gpu")]
    Cube
);

/// What is kept between the passes.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    kernel: Arc<dyn HostKernel>,
    inputs: Vec<FloatTensor<B>>,
    shapes: Vec<Vec<usize>>,
    output: Option<FloatTensor<B>>,
}

impl<B: HostAccess> Kept<B> {
    fn backward_on_host(&self, grad: &FloatTensor<B>, wanted: &[bool]) -> DeviceGrads<B> {
        let elements: Vec<Cow<'_, [f32]>> = self.inputs.iter().map(B::elements).collect();
        let slices: Vec<&[f32]> = elements.iter().map(AsRef::as_ref).collect();
        let output = self.output.as_ref().map(B::elements);
        let results = or_unwind(self.kernel.backward(&Backward {
            inputs: &slices,
            output: output.as_deref().unwrap_or(&[]),
            grad: &B::elements(grad),
            wanted,
        }));
        let own = |(data, shape): (Option<Vec<f32>>, &Vec<usize>)| {
            data.map(|data| B::own(data, shape, grad))
        };
        results.into_iter().zip(&self.shapes).map(own).collect()
    }

    fn backward_on_device(&self, grad: FloatTensor<B>, wanted: &[bool]) -> DeviceGrads<B> {
        match self.kernel.device_op() {
            Some(op) => op.backward::<B>(DevicePass {
                inputs: &self.inputs,
                output: self.output.as_ref(),
                grad,
                shapes: &self.shapes,
                wanted,
            }),
            None => self.backward_on_host(&grad, wanted),
        }
    }
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
        let kept = Kept::<B> {
            kernel,
            inputs,
            shapes,
            output,
        };
        let results = if B::ON_HOST {
            kept.backward_on_host(&grad, &wanted)
        } else {
            kept.backward_on_device(grad, &wanted)
        };
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(node), Some(found)) = (parent, result) {
                grads.register::<B>(node.id, found);
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
