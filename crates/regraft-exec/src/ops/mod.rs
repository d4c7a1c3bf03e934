//! One function an op: checks the shapes, then computes.

mod array;
mod attention;
mod batch_statistics;
mod binary;
mod boxes;
mod cast;
mod cells;
mod conv;
mod einsum;
mod elementwise;
mod fused;
mod grouped;
mod image;
mod index;
mod label_loss;
mod linear;
mod norm;
mod pointwise;
mod pool;
mod quantize;
mod rearrange;
mod recurrent;
mod reduce;
mod rescale;
mod resize;
mod sample;
mod scatter;
mod shape;
mod signal;
mod sort;
mod volume;
mod windows;

pub(crate) use elementwise::softplus;
use regraft_graph::{DType, Op};

use crate::engine::Float;
use crate::error::{OpError, OpResult, invalid, unsupported};
use crate::value::{Array, Value};
pub(crate) use cast::wrap;

/// What an op may use besides its inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Jobs at once, for our own kernels.
    pub(crate) threads: usize,
    /// The largest number of elements of one result.
    pub(crate) max_elements: usize,
    /// The number of outputs of the node.
    pub(crate) n_outputs: usize,
    /// The element type of output 0 in the file, where it is known and not the one of the
    /// executor: small integers, floats of 16 bits.
    pub(crate) dtype: Option<DType>,
}

impl Context {
    /// Returns the number of elements of a shape that the op is free to choose.
    pub(crate) fn check_size(&self, shape: &[usize]) -> OpResult<usize> {
        match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(len) if len <= self.max_elements => Ok(len),
            _ => Err(OpError::TooLarge(shape.to_vec())),
        }
    }
}

/// The inputs of a node by port, each taken at most once.
#[derive(Debug)]
pub(crate) struct Inputs(pub(crate) Vec<Option<Value>>);

impl Inputs {
    /// Returns input `port`, if the node has it.
    pub(crate) fn optional(&mut self, port: usize) -> Option<Value> {
        self.0.get_mut(port).and_then(Option::take)
    }

    /// Returns input `port`.
    pub(crate) fn value(&mut self, port: usize) -> OpResult<Value> {
        match self.optional(port) {
            Some(value) => Ok(value),
            None => invalid(format!("input {port} is missing")),
        }
    }

    /// Returns input `port` as floats.
    pub(crate) fn float(&mut self, port: usize) -> OpResult<Float> {
        match self.optional_float(port)? {
            Some(tensor) => Ok(tensor),
            None => invalid(format!("input {port} is missing")),
        }
    }

    /// Returns input `port` as floats, if the node has it.
    pub(crate) fn optional_float(&mut self, port: usize) -> OpResult<Option<Float>> {
        match self.optional(port) {
            Some(Value::Float(tensor)) => Ok(Some(tensor)),
            None => Ok(None),
            Some(other @ (Value::Int(_) | Value::Bool(_))) => {
                invalid(format!("input {port} is {}, not floats", other.describe()))
            }
        }
    }

    /// Returns input `port` as integers, if the node has it.
    pub(crate) fn ints(&mut self, port: usize) -> OpResult<Option<Array<i64>>> {
        match self.optional(port) {
            Some(Value::Int(array)) => Ok(Some(array)),
            None => Ok(None),
            Some(other @ (Value::Float(_) | Value::Bool(_))) => invalid(format!(
                "input {port} is {}, not integers",
                other.describe()
            )),
        }
    }
}

/// Returns axis `axis` counted from the front.
pub(crate) fn axis_of(axis: i64, rank: usize) -> OpResult<usize> {
    let signed = rank as i64;
    let from_front = if axis < 0 {
        axis.saturating_add(signed)
    } else {
        axis
    };
    if (0..signed).contains(&from_front) {
        Ok(from_front as usize)
    } else {
        invalid(format!("axis {axis} is outside of {rank} axes"))
    }
}

/// Returns `list` with each axis counted from the front, in rising order, each once.
pub(crate) fn axes_of(list: &[i64], rank: usize) -> OpResult<Vec<usize>> {
    let mut axes = list
        .iter()
        .map(|&a| axis_of(a, rank))
        .collect::<OpResult<Vec<_>>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|w| w[0] == w[1]) {
        return invalid(format!("axes {list:?} name an axis twice"));
    }
    Ok(axes)
}

fn one(value: OpResult<Value>) -> OpResult<Vec<Value>> {
    value.map(|v| vec![v])
}

fn float(tensor: OpResult<Float>) -> OpResult<Vec<Value>> {
    tensor.map(|t| vec![Value::Float(t)])
}

/// Returns the outputs of an op, by port.
pub(crate) fn run(op: &Op, mut inputs: Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let i = &mut inputs;
    match op {
        Op::Conv(op) => float(conv::conv(op, i, context)),
        Op::ConvTranspose(op) => float(conv::conv_transpose(op, i, context)),
        Op::Gemm(gemm) => float(linear::gemm(gemm, i)),
        Op::MatMul => float(linear::matmul(i)),
        Op::BatchNormalization { epsilon } => float(norm::batch_norm(*epsilon, i, context)),
        Op::BatchStatistics { epsilon, momentum } => {
            batch_statistics::run(*epsilon, *momentum, i, context)
        }
        Op::LayerNormalization { axis, epsilon } => norm::layer_norm(*axis, *epsilon, i, context),
        Op::InstanceNormalization { epsilon } => float(norm::instance_norm(*epsilon, i)),
        Op::Pool(pool) => pool::pool(pool, i, context),
        Op::GlobalPool(kind) => float(pool::global(*kind, i, context)),
        Op::Activation(a) => float(elementwise::activation(*a, i)),
        Op::Unary(u) => one(elementwise::unary(*u, i, context)),
        Op::Binary(b) => one(binary::binary(*b, i, context)),
        Op::Variadic(v) => one(elementwise::variadic(*v, inputs, context)),
        Op::Compare(c) => one(elementwise::compare(*c, i)),
        Op::Where => one(elementwise::choose(i)),
        Op::Clip {
            min,
            max,
            from_inputs,
        } => one(elementwise::clip([*min, *max], *from_inputs, i)),
        Op::PRelu => float(elementwise::prelu(i)),
        Op::Softmax { axis, flatten, log } => float(elementwise::softmax(*axis, *flatten, *log, i)),
        Op::Reduce { .. } => one(reduce::reduce_op(op, i, context)),
        Op::ArgExtremum { .. } => one(reduce::arg_extremum_op(op, i)),
        Op::Shape { start, end } => one(shape::shape(*start, *end, i)),
        Op::Size => one(shape::size(i)),
        Op::Reshape { allowzero } => one(shape::reshape(*allowzero, i)),
        Op::Flatten { axis } => one(shape::flatten(*axis, i)),
        Op::Transpose { perm } => one(shape::transpose(perm.as_deref(), i)),
        Op::Squeeze { axes } => one(shape::squeeze(axes.as_deref(), i)),
        Op::Unsqueeze { axes } => one(shape::unsqueeze(axes.as_deref(), i)),
        Op::Concat { axis } => one(array::concat(*axis, inputs)),
        Op::Split {
            axis,
            split,
            num_outputs,
        } => array::split(*axis, split.as_deref(), *num_outputs, i, context),
        Op::Slice(attributes) => one(array::slice(attributes, i)),
        Op::Pad { mode, pads, value } => {
            one(array::pad(*mode, pads.as_deref(), *value, i, context))
        }
        Op::Gather { axis } => one(array::gather(*axis, i, context)),
        Op::Expand => one(array::expand(i, context)),
        Op::Tile => one(array::tile(i, context)),
        Op::ConstantOfShape { value } => one(array::constant_of_shape(value, i, context)),
        Op::Constant { value } => one(Value::from_tensor(value)),
        Op::Range => one(array::range(i, context)),
        Op::Cast { to } => one(cast::cast(*to, i)),
        Op::CastLike => one(cast::cast_like(i, context)),
        Op::FloatTest(test) => one(elementwise::float_test(*test, i)),
        Op::ChannelPRelu => float(elementwise::channel_prelu(i)),
        Op::Normalization(op) => float(rescale::run(op, i)),
        Op::Index(op) => index::run(op, i, context),
        Op::Image(op) => one(image::run(op, i, context)),
        Op::Einsum { equation } => float(einsum::einsum(equation, inputs, context)),
        Op::AlignedBinary { op, axis } => one(binary::aligned(*op, *axis, i, context)),
        Op::Signal(op) => float(signal::run(*op, i, context)),
        Op::Quantize(op) => quantize::run(*op, i, context),
        Op::Determinant => float(rescale::determinant(i)),
        Op::Attention(op) => attention::attention(op, i, context),
        Op::RotaryEmbedding(op) => float(attention::rotary(op, i)),
        Op::Fused(op) => fused::run(op, i, context),
        Op::LabelLoss(op) => label_loss::label_loss(op, i),
        Op::Dropout { ratio } => elementwise::dropout(*ratio, i),
        Op::Recurrent(recurrent) => recurrent::run(recurrent, i, context),
        Op::If { .. } | Op::Loop { .. } | Op::Scan(_) => {
            unsupported("it runs a graph, which an op cannot")
        }
        Op::Opaque { reason, .. } => unsupported(format!("it is opaque: {reason}")),
    }
}
