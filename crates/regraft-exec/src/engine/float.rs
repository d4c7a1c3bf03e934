//! Float tensors of the engine: any rank, tracked for gradients or not.

use burn_backend::ops::{ActivationOps, FloatTensorOps};
use burn_backend::{
    AutodiffBackend, Scalar, Shape, Slice, TensorData, TensorMetadata, get_or_init_device_settings,
    read_sync,
};
use burn_dispatch::{Dispatch, DispatchDevice, DispatchTensor};

use super::place::device;

/// A float tensor of the engine. Clones share the elements; an operation writes in place where it
/// gets the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Float {
    tensor: DispatchTensor,
    /// True for a single number of rank zero: the engine's devices have none, so that the tensor
    /// has one axis of extent one.
    is_number: bool,
}

/// The gradients of one backward pass.
pub(crate) struct Gradients(<Dispatch as AutodiffBackend>::Gradients);

impl Gradients {
    /// Returns the gradient with respect to a tracked leaf, `None` if the loss does not depend on it.
    pub(crate) fn of(&self, leaf: &Float) -> Option<Float> {
        Dispatch::grad(&leaf.tensor, &self.0).map(|gradient| leaf.alike(gradient))
    }
}

/// Returns the shape as the engine has it, with at least one axis.
pub(super) fn shape_of(shape: &[usize]) -> Shape {
    Shape::from(if shape.is_empty() {
        vec![1]
    } else {
        shape.to_vec()
    })
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $trait:ident :: $op:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(self) -> Self {
            let is_number = self.is_number;
            Self { tensor: <Dispatch as $trait<Dispatch>>::$op(self.tensor), is_number }
        })*
    };
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $op:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(self, other: Self) -> Self {
            let is_number = self.is_number && other.is_number;
            Self { tensor: Dispatch::$op(self.tensor, other.tensor), is_number }
        })*
    };
}

macro_rules! scalar {
    ($($(#[$doc:meta])* $name:ident => $op:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(self, number: f32) -> Self {
            let is_number = self.is_number;
            Self { tensor: Dispatch::$op(self.tensor, Scalar::from(number)), is_number }
        })*
    };
}

impl Float {
    /// Returns an untracked tensor that owns `data`, which fills `shape`.
    pub(crate) fn new(data: Vec<f32>, shape: &[usize]) -> Self {
        let data = TensorData::new(data, shape_of(shape));
        Self {
            tensor: Dispatch::float_from_data(data, &device()),
            is_number: shape.is_empty(),
        }
    }

    /// Returns a tracked leaf that owns `data`.
    pub(crate) fn leaf(data: Vec<f32>, shape: &[usize]) -> Self {
        let data = TensorData::new(data, shape_of(shape));
        let tensor = Dispatch::float_from_data(data, &DispatchDevice::autodiff(device()));
        Self {
            tensor: Dispatch::float_set_require_grad(tensor, true),
            is_number: shape.is_empty(),
        }
    }

    /// Returns a tensor of one number, of rank zero.
    pub(crate) fn number(value: f32) -> Self {
        Self::new(vec![value], &[])
    }

    /// Returns what the engine computed, of this shape but for a number's missing axis.
    pub(super) fn from_engine(tensor: DispatchTensor, shape: &[usize]) -> Self {
        Self {
            tensor,
            is_number: shape.is_empty(),
        }
    }

    pub(super) fn into_engine(self) -> DispatchTensor {
        self.tensor
    }

    /// Returns an engine tensor of this one's rank.
    fn alike(&self, tensor: DispatchTensor) -> Self {
        Self {
            tensor,
            is_number: self.is_number,
        }
    }

    /// Returns an engine tensor that has axes.
    fn with_axes(tensor: DispatchTensor) -> Self {
        Self {
            tensor,
            is_number: false,
        }
    }

    /// Returns the extent of each axis.
    pub(crate) fn shape(&self) -> Vec<usize> {
        if self.is_number {
            return Vec::new();
        }
        self.tensor.shape().to_vec()
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.tensor.shape().num_elements()
    }

    /// Returns the elements, without a copy where this is the last clone.
    pub(crate) fn into_vec(self) -> Result<Vec<f32>, String> {
        let data =
            read_sync(Dispatch::float_into_data(self.tensor)).map_err(|e| format!("{e:?}"))?;
        data.try_into_vec::<f32>().map_err(|e| format!("{e:?}"))
    }

    /// Returns the gradients of this one-element tensor; it must be tracked.
    pub(crate) fn backward(self) -> Gradients {
        Gradients(Dispatch::backward(self.tensor))
    }

    /// Returns true if the tensor depends on a tracked leaf.
    pub(crate) fn is_tracked(&self) -> bool {
        Dispatch::is_tracked(&self.tensor)
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
        tan => FloatTensorOps::float_tan,
        asin => FloatTensorOps::float_asin,
        acos => FloatTensorOps::float_acos,
        atan => FloatTensorOps::float_atan,
        sinh => FloatTensorOps::float_sinh,
        cosh => FloatTensorOps::float_cosh,
        tanh => FloatTensorOps::float_tanh,
        asinh => FloatTensorOps::float_asinh,
        acosh => FloatTensorOps::float_acosh,
        atanh => FloatTensorOps::float_atanh,
        erf => FloatTensorOps::float_erf,
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

    /// Returns the sum of all elements, with one axis.
    pub(crate) fn sum_all(self) -> Self {
        Self::with_axes(Dispatch::float_sum(self.tensor))
    }

    /// Returns the sum over `axes`, which stay with extent one.
    pub(crate) fn sum_axes(self, axes: &[usize]) -> Self {
        let mut sum = self;
        for &axis in axes {
            sum.tensor = Dispatch::float_sum_dim(sum.tensor, axis);
        }
        sum
    }

    /// Returns the largest element along `axis`, which stays with extent one.
    pub(crate) fn max_axis(self, axis: usize) -> Self {
        Self::with_axes(Dispatch::float_max_dim(self.tensor, axis))
    }

    /// Returns the exponentials along `axis`, divided by their sum.
    pub(crate) fn softmax(self, axis: usize) -> Self {
        Self::with_axes(<Dispatch as ActivationOps<Dispatch>>::softmax(
            self.tensor,
            axis,
        ))
    }

    /// Returns the logarithm of [`Float::softmax`].
    pub(crate) fn log_softmax(self, axis: usize) -> Self {
        Self::with_axes(<Dispatch as ActivationOps<Dispatch>>::log_softmax(
            self.tensor,
            axis,
        ))
    }

    /// Returns the same elements in another shape of the same size.
    pub(crate) fn reshape(self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self;
        }
        let tensor = Dispatch::float_reshape(self.tensor, shape_of(shape));
        Self::from_engine(tensor, shape)
    }

    /// Returns the tensor with axis `i` taken from axis `axes[i]`.
    pub(crate) fn permute(self, axes: &[usize]) -> Self {
        if self.is_number {
            return self;
        }
        Self::with_axes(Dispatch::float_permute(self.tensor, axes))
    }

    /// Returns the tensor repeated along axes of extent one; the rank stays.
    pub(crate) fn expand(self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self;
        }
        Self::with_axes(Dispatch::float_expand(self.tensor, shape_of(shape)))
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
        Self::with_axes(Dispatch::float_slice(self.tensor, &slices))
    }

    /// Returns the tensors joined along `axis`.
    pub(crate) fn concat(tensors: Vec<Self>, axis: usize) -> Self {
        Self::with_axes(Dispatch::float_cat(
            tensors.into_iter().map(|t| t.tensor).collect(),
            axis,
        ))
    }

    /// Returns `other` where `mask` is true, else this; all of the same shape.
    pub(crate) fn replace(self, mask: Vec<bool>, other: Self) -> Self {
        // Each device stores truth values in its own way: it makes them from a comparison.
        let numbers: Vec<f32> = mask.into_iter().map(f32::from).collect();
        let numbers = TensorData::new(numbers, self.tensor.shape());
        let numbers = Dispatch::float_from_data(numbers, &device());
        let dtype = get_or_init_device_settings::<Dispatch>(&device()).bool_dtype;
        let mask = Dispatch::float_greater_elem(numbers, Scalar::from(0.5f32), dtype);
        let is_number = self.is_number;
        Self {
            tensor: Dispatch::float_mask_where(self.tensor, mask, other.tensor),
            is_number,
        }
    }

    /// Returns a tensor of `value` in every place.
    pub(crate) fn full(value: f32, shape: &[usize]) -> Self {
        Self::new(vec![value; shape.iter().product()], shape)
    }
}
