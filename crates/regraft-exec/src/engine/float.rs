//! Float tensors of the engine: any rank, tracked for gradients or not.

use burn_backend::ops::{ActivationOps, BoolTensorOps, FloatTensorOps};
use burn_backend::{AutodiffBackend, Scalar, Shape, Slice, TensorData, TensorMetadata, read_sync};
use burn_dispatch::{Dispatch, DispatchDevice, DispatchTensor};

use super::place::device;

/// A float tensor of the engine. Clones share the elements; an operation writes in place where it
/// gets the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Float(DispatchTensor);

/// The gradients of one backward pass.
pub(crate) struct Gradients(<Dispatch as AutodiffBackend>::Gradients);

impl Gradients {
    /// Returns the gradient with respect to a tracked leaf, `None` if the loss does not depend on it.
    pub(crate) fn of(&self, leaf: &Float) -> Option<Float> {
        Dispatch::grad(&leaf.0, &self.0).map(Float)
    }
}

fn shape_of(shape: &[usize]) -> Shape {
    Shape::from(shape.to_vec())
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $trait:ident :: $op:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(self) -> Self {
            Self(<Dispatch as $trait<Dispatch>>::$op(self.0))
        })*
    };
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $op:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(self, other: Self) -> Self {
            Self(Dispatch::$op(self.0, other.0))
        })*
    };
}

macro_rules! scalar {
    ($($(#[$doc:meta])* $name:ident => $op:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(self, number: f32) -> Self {
            Self(Dispatch::$op(self.0, Scalar::from(number)))
        })*
    };
}

impl Float {
    /// Returns an untracked tensor that owns `data`, which fills `shape`.
    pub(crate) fn new(data: Vec<f32>, shape: &[usize]) -> Self {
        let data = TensorData::new(data, shape_of(shape));
        Self(Dispatch::float_from_data(data, &device()))
    }

    /// Returns a tracked leaf that owns `data`.
    pub(crate) fn leaf(data: Vec<f32>, shape: &[usize]) -> Self {
        let data = TensorData::new(data, shape_of(shape));
        let tensor = Dispatch::float_from_data(data, &DispatchDevice::autodiff(device()));
        Self(Dispatch::float_set_require_grad(tensor, true))
    }

    /// Returns a tensor of one number, of rank zero.
    pub(crate) fn number(value: f32) -> Self {
        Self::new(vec![value], &[])
    }

    pub(super) fn from_engine(tensor: DispatchTensor) -> Self {
        Self(tensor)
    }

    pub(super) fn into_engine(self) -> DispatchTensor {
        self.0
    }

    /// Returns the extent of each axis.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.0.shape().num_elements()
    }

    /// Returns the elements, without a copy where this is the last clone.
    pub(crate) fn into_vec(self) -> Result<Vec<f32>, String> {
        let data = read_sync(Dispatch::float_into_data(self.0)).map_err(|e| format!("{e:?}"))?;
        data.try_into_vec::<f32>().map_err(|e| format!("{e:?}"))
    }

    /// Returns the gradients of this one-element tensor; it must be tracked.
    pub(crate) fn backward(self) -> Gradients {
        Gradients(Dispatch::backward(self.0))
    }

    /// Returns true if the tensor depends on a tracked leaf.
    pub(crate) fn is_tracked(&self) -> bool {
        Dispatch::is_tracked(&self.0)
    }

    unary! {
        neg => FloatTensorOps::float_neg,
        abs => FloatTensorOps::float_abs,
        exp => FloatTensorOps::float_exp,
        log => FloatTensorOps::float_log,
        log1p => FloatTensorOps::float_log1p,
        sqrt => FloatTensorOps::float_sqrt,
        recip => FloatTensorOps::float_recip,
        floor => FloatTensorOps::float_floor,
        ceil => FloatTensorOps::float_ceil,
        round => FloatTensorOps::float_round,
        sign => FloatTensorOps::float_sign,
        sin => FloatTensorOps::float_sin,
        cos => FloatTensorOps::float_cos,
        tanh => FloatTensorOps::float_tanh,
        erf => FloatTensorOps::float_erf,
        sum_all => FloatTensorOps::float_sum,
        /// Swaps the last two axes.
        transpose => FloatTensorOps::float_transpose,
        relu => ActivationOps::relu,
        sigmoid => ActivationOps::sigmoid,
    }

    binary! {
        /// Sum; both have the same rank, an extent of one is repeated. So for the others.
        add => float_add,
        sub => float_sub,
        mul => float_mul,
        div => float_div,
        pow => float_powf,
        /// Matrix product of the last two axes.
        matmul => float_matmul,
    }

    scalar! {
        add_scalar => float_add_scalar,
        mul_scalar => float_mul_scalar,
        pow_scalar => float_powf_scalar,
        clamp_min => float_clamp_min,
        clamp_max => float_clamp_max,
    }

    /// Returns the sum over `axes`, which stay with extent one.
    pub(crate) fn sum_axes(self, axes: &[usize]) -> Self {
        let mut tensor = self.0;
        for &axis in axes {
            tensor = Dispatch::float_sum_dim(tensor, axis);
        }
        Self(tensor)
    }

    /// Returns the largest element along `axis`, which stays with extent one.
    pub(crate) fn max_axis(self, axis: usize) -> Self {
        Self(Dispatch::float_max_dim(self.0, axis))
    }

    /// Returns the exponentials along `axis`, divided by their sum.
    pub(crate) fn softmax(self, axis: usize) -> Self {
        Self(<Dispatch as ActivationOps<Dispatch>>::softmax(self.0, axis))
    }

    /// Returns the logarithm of [`Float::softmax`].
    pub(crate) fn log_softmax(self, axis: usize) -> Self {
        Self(<Dispatch as ActivationOps<Dispatch>>::log_softmax(
            self.0, axis,
        ))
    }

    /// Returns the same elements in another shape of the same size.
    pub(crate) fn reshape(self, shape: &[usize]) -> Self {
        if self.0.shape().to_vec() == shape {
            return self;
        }
        Self(Dispatch::float_reshape(self.0, shape_of(shape)))
    }

    /// Returns the tensor with axis `i` taken from axis `axes[i]`.
    pub(crate) fn permute(self, axes: &[usize]) -> Self {
        Self(Dispatch::float_permute(self.0, axes))
    }

    /// Returns the tensor repeated along axes of extent one; the rank stays.
    pub(crate) fn expand(self, shape: &[usize]) -> Self {
        if self.0.shape().to_vec() == shape {
            return self;
        }
        Self(Dispatch::float_expand(self.0, shape_of(shape)))
    }

    /// Returns the elements `start..end` along `axis`.
    pub(crate) fn range(self, axis: usize, start: usize, end: usize) -> Self {
        let slices: Vec<Slice> = self
            .shape()
            .iter()
            .enumerate()
            .map(|(i, &extent)| {
                let (from, to) = if i == axis { (start, end) } else { (0, extent) };
                Slice::new(from as isize, Some(to as isize), 1)
            })
            .collect();
        Self(Dispatch::float_slice(self.0, &slices))
    }

    /// Returns the tensors joined along `axis`.
    pub(crate) fn concat(tensors: Vec<Self>, axis: usize) -> Self {
        Self(Dispatch::float_cat(
            tensors.into_iter().map(|t| t.0).collect(),
            axis,
        ))
    }

    /// Returns `other` where `mask` is true, else this; all of the same shape.
    pub(crate) fn replace(self, mask: Vec<bool>, other: Self) -> Self {
        let mask = TensorData::new(mask, self.0.shape());
        let mask = Dispatch::bool_from_data(mask, &device());
        Self(Dispatch::float_mask_where(self.0, mask, other.0))
    }

    /// Returns a tensor of `value` in every place.
    pub(crate) fn full(value: f32, shape: &[usize]) -> Self {
        Self::new(vec![value; shape.iter().product()], shape)
    }
}
