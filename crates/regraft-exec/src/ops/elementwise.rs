//! Elementwise ops, with broadcast inputs where ONNX has them.

use std::cmp::Ordering;

use regraft_graph::op::{Activation, BinaryOp, CompareOp, FloatTest, UnaryOp, VariadicOp};

use super::binary::{binary_float, zip};
use super::{Context, Inputs, axis_of, pointwise};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::value::{Array, Value, broadcast_shape, pad_rank};

/// Returns max(x, 0) + log(1 + exp(-|x|)), which neither over- nor underflows.
pub(crate) fn softplus(x: Float) -> Float {
    let tail = x.clone().abs().neg().exp().log1p();
    x.relu().add(tail)
}

fn unary_float(op: UnaryOp, x: Float) -> OpResult<Float> {
    Ok(match op {
        UnaryOp::Relu => x.relu(),
        UnaryOp::Sigmoid => x.sigmoid(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Abs => x.abs(),
        UnaryOp::Neg => x.neg(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.log(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Reciprocal => x.recip(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round(),
        UnaryOp::Sign => x.sign(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Asin => x.asin(),
        UnaryOp::Acos => x.acos(),
        UnaryOp::Atan => x.atan(),
        UnaryOp::Sinh => x.sinh(),
        UnaryOp::Cosh => x.cosh(),
        UnaryOp::Asinh => x.asinh(),
        UnaryOp::Acosh => x.acosh(),
        UnaryOp::Atanh => x.atanh(),
        UnaryOp::Erf => x.erf(),
        UnaryOp::Softplus => softplus(x),
        UnaryOp::Softsign => {
            let below = x.clone().abs().add_scalar(1.0);
            x.div(below)
        }
        UnaryOp::HardSwish => {
            let gate = unit_ramp(x.clone(), 1.0 / 6.0, 0.5);
            x.mul(gate)
        }
        UnaryOp::Mish => {
            let gate = softplus(x.clone()).tanh();
            x.mul(gate)
        }
        UnaryOp::Not | UnaryOp::BitwiseNot => return invalid("floats have no negation of bits"),
        UnaryOp::Identity => x,
    })
}

fn unary_int(op: UnaryOp, a: &Array<i64>) -> OpResult<Value> {
    let map = |f: fn(i64) -> i64| {
        Ok(Value::Int(Array::new(
            a.shape.clone(),
            a.data.iter().map(|&x| f(x)).collect(),
        )))
    };
    match op {
        UnaryOp::Relu => map(|x| x.max(0)),
        UnaryOp::Abs => map(i64::wrapping_abs),
        UnaryOp::Neg => map(i64::wrapping_neg),
        UnaryOp::Sign => map(i64::signum),
        UnaryOp::BitwiseNot => map(|x| !x),
        UnaryOp::Identity | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => map(|x| x),
        UnaryOp::Sigmoid
        | UnaryOp::Tanh
        | UnaryOp::Exp
        | UnaryOp::Log
        | UnaryOp::Sqrt
        | UnaryOp::Reciprocal
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tan
        | UnaryOp::Asin
        | UnaryOp::Acos
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Cosh
        | UnaryOp::Asinh
        | UnaryOp::Acosh
        | UnaryOp::Atanh
        | UnaryOp::Erf
        | UnaryOp::Softplus
        | UnaryOp::Softsign
        | UnaryOp::HardSwish
        | UnaryOp::Mish
        | UnaryOp::Not => invalid(format!("{} of integers", op.name())),
    }
}

pub(super) fn unary(op: UnaryOp, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    match inputs.value(0)? {
        Value::Float(x) if op == UnaryOp::Relu => Ok(Value::Float(pointwise::relu(x, context))),
        Value::Float(x) if op == UnaryOp::Sqrt => Ok(Value::Float(pointwise::sqrt(x, context))),
        Value::Float(x) => unary_float(op, x).map(Value::Float),
        Value::Int(a) => unary_int(op, &a),
        Value::Bool(a) if op == UnaryOp::Not => Ok(Value::Bool(Array::new(
            a.shape.clone(),
            a.data.iter().map(|x| !x).collect(),
        ))),
        same @ Value::Bool(_) if op == UnaryOp::Identity => Ok(same),
        Value::Bool(_) => invalid(format!("{} of truth values", op.name())),
    }
}

/// Returns clamp(slope · x + offset, 0, 1).
fn unit_ramp(x: Float, slope: f32, offset: f32) -> Float {
    x.mul_scalar(slope)
        .add_scalar(offset)
        .clamp_min(0.0)
        .clamp_max(1.0)
}

/// Returns x above zero and alpha · (exp(x / scale) − 1) below.
fn exponential(x: Float, alpha: f32, scale: f32) -> Float {
    let below = x.clone().clamp_max(0.0).mul_scalar(1.0 / scale).exp();
    x.relu().add(below.add_scalar(-1.0).mul_scalar(alpha))
}

pub(super) fn activation(op: Activation, inputs: &mut Inputs) -> OpResult<Float> {
    let x = inputs.float(0)?;
    Ok(match op {
        Activation::LeakyRelu { alpha } => {
            let below = x.clone().clamp_max(0.0).mul_scalar(alpha);
            x.relu().add(below)
        }
        Activation::Elu { alpha } => exponential(x, alpha, 1.0),
        Activation::Selu { alpha, gamma } => exponential(x, alpha, 1.0).mul_scalar(gamma),
        Activation::Celu { alpha } => exponential(x, alpha, alpha),
        Activation::HardSigmoid { alpha, beta } => unit_ramp(x, alpha, beta),
        Activation::ThresholdedRelu { alpha } => {
            let shape = x.shape();
            let numbers = numbers(x.clone())?;
            let below = numbers.iter().map(|&v| v <= alpha).collect();
            x.replace(below, Float::full(0.0, &shape))
        }
        Activation::Swish { alpha } => {
            let gate = x.clone().mul_scalar(alpha).sigmoid();
            x.mul(gate)
        }
        Activation::Shrink { lambd, bias } => {
            let shape = x.shape();
            let all = numbers(x.clone())?;
            let moves = all.iter().map(|&v| if v > 0.0 { -bias } else { bias });
            let moved = x.add(Float::new(moves.collect(), &shape));
            let gap = all.iter().map(|v| v.abs() <= lambd).collect();
            moved.replace(gap, Float::full(0.0, &shape))
        }
        Activation::Gelu { tanh: false } => {
            let gate = x.clone().mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf();
            x.mul(gate.add_scalar(1.0)).mul_scalar(0.5)
        }
        Activation::Gelu { tanh: true } => {
            // sqrt(2 / pi) and 0.044715: the constants of the tanh approximation.
            let cubic = x
                .clone()
                .mul(x.clone())
                .mul(x.clone())
                .mul_scalar(0.044_715);
            let gate = x.clone().add(cubic).mul_scalar(0.797_884_6).tanh();
            x.mul(gate.add_scalar(1.0)).mul_scalar(0.5)
        }
    })
}

/// Returns the elements of a float tensor.
pub(super) fn numbers(tensor: Float) -> OpResult<Vec<f32>> {
    tensor.into_vec().or_else(invalid)
}

/// Returns the elements in numbers that compare as they do.
pub(super) fn ordered(value: &Value) -> OpResult<Vec<f64>> {
    match value {
        Value::Float(t) => Ok(numbers(t.clone())?.into_iter().map(f64::from).collect()),
        Value::Int(a) => Ok(a.data.iter().map(|&x| x as f64).collect()),
        Value::Bool(_) => invalid("truth values have no order"),
    }
}

/// Returns the elements of a float tensor that no gradient goes through, for this `reason`.
pub(super) fn numbers_without_gradient(tensor: Float, reason: &str) -> OpResult<Vec<f32>> {
    if tensor.is_tracked() {
        return unsupported(reason);
    }
    numbers(tensor)
}

/// Returns both tensors with the same rank, ones in front of the shorter shape.
pub(super) fn same_rank(a: Float, b: Float) -> (Float, Float) {
    let (shape_a, shape_b) = (a.shape(), b.shape());
    let rank = shape_a.len().max(shape_b.len());
    (
        a.reshape(&pad_rank(&shape_a, rank)),
        b.reshape(&pad_rank(&shape_b, rank)),
    )
}

/// Returns the larger (or smaller) of each pair of elements.
fn extremum(a: Float, b: Float, largest: bool) -> OpResult<Float> {
    let shape = broadcast_shape(&a.shape(), &b.shape())?;
    let (a, b) = same_rank(a, b);
    let (a, b) = (a.expand(&shape), b.expand(&shape));
    let (x, y) = (numbers(a.clone())?, numbers(b.clone())?);
    let take_b = x
        .iter()
        .zip(&y)
        .map(|(x, y)| if largest { y > x } else { y < x })
        .collect();
    Ok(a.replace(take_b, b))
}

pub(super) fn variadic(op: VariadicOp, inputs: Inputs, context: &Context) -> OpResult<Value> {
    let mut values = inputs.0.into_iter().flatten();
    let Some(mut total) = values.next() else {
        return invalid("there is no input");
    };
    let mut count = 1;
    for value in values {
        count += 1;
        context.check_size(&broadcast_shape(&total.shape(), &value.shape())?)?;
        total = match (total, value) {
            (Value::Float(a), Value::Float(b)) => Value::Float(match op {
                VariadicOp::Sum | VariadicOp::Mean => binary_float(BinaryOp::Add, a, b)?,
                VariadicOp::Max => extremum(a, b, true)?,
                VariadicOp::Min => extremum(a, b, false)?,
            }),
            (Value::Int(a), Value::Int(b)) => Value::Int(match op {
                VariadicOp::Max => zip(&a, &b, i64::max)?,
                VariadicOp::Min => zip(&a, &b, i64::min)?,
                VariadicOp::Sum | VariadicOp::Mean => zip(&a, &b, i64::wrapping_add)?,
            }),
            (a, b) => return invalid(format!("{} and {} do not mix", a.describe(), b.describe())),
        };
    }
    match (op, total) {
        (VariadicOp::Mean, Value::Float(t)) => Ok(Value::Float(t.mul_scalar(1.0 / count as f32))),
        (VariadicOp::Mean, Value::Int(_) | Value::Bool(_)) => invalid("the mean needs floats"),
        (VariadicOp::Sum | VariadicOp::Max | VariadicOp::Min, total) => Ok(total),
    }
}

fn holds<T: PartialOrd + Copy>(op: CompareOp, x: T, y: T) -> bool {
    let order = x.partial_cmp(&y);
    match op {
        CompareOp::Equal => order == Some(Ordering::Equal),
        CompareOp::Greater => order == Some(Ordering::Greater),
        CompareOp::Less => order == Some(Ordering::Less),
        CompareOp::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        CompareOp::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        CompareOp::And | CompareOp::Or | CompareOp::Xor => false,
    }
}

pub(super) fn compare(op: CompareOp, inputs: &mut Inputs) -> OpResult<Value> {
    let logical = matches!(op, CompareOp::And | CompareOp::Or | CompareOp::Xor);
    let array = match (inputs.value(0)?, inputs.value(1)?) {
        (Value::Float(a), Value::Float(b)) if !logical => {
            let a = Array::new(a.shape(), numbers(a)?);
            let b = Array::new(b.shape(), numbers(b)?);
            zip(&a, &b, |x, y| holds(op, x, y))
        }
        (Value::Int(a), Value::Int(b)) if !logical => zip(&a, &b, |x, y| holds(op, x, y)),
        (Value::Bool(a), Value::Bool(b)) => match op {
            CompareOp::And => zip(&a, &b, |x, y| x && y),
            CompareOp::Or => zip(&a, &b, |x, y| x || y),
            CompareOp::Xor => zip(&a, &b, |x, y| x != y),
            CompareOp::Equal => zip(&a, &b, |x, y| x == y),
            CompareOp::Greater
            | CompareOp::Less
            | CompareOp::GreaterOrEqual
            | CompareOp::LessOrEqual => invalid("truth values have no order"),
        },
        (a, b) => invalid(format!(
            "{} and {} do not compare",
            a.describe(),
            b.describe()
        )),
    };
    array.map(Value::Bool)
}

pub(super) fn choose(inputs: &mut Inputs) -> OpResult<Value> {
    let Value::Bool(condition) = inputs.value(0)? else {
        return invalid("the condition does not hold truth values");
    };
    let (x, y) = (inputs.value(1)?, inputs.value(2)?);
    let shape = broadcast_shape(&broadcast_shape(&x.shape(), &y.shape())?, &condition.shape)?;
    let mask = condition.broadcast(&shape);
    match (x.broadcast(&shape), y.broadcast(&shape)) {
        (Value::Float(x), Value::Float(y)) => Ok(Value::Float(y.replace(mask.data.to_vec(), x))),
        (Value::Int(x), Value::Int(y)) => Ok(Value::Int(pick(&mask, &x, &y))),
        (Value::Bool(x), Value::Bool(y)) => Ok(Value::Bool(pick(&mask, &x, &y))),
        (x, y) => invalid(format!("{} and {} do not mix", x.describe(), y.describe())),
    }
}

fn pick<T: Copy>(mask: &Array<bool>, x: &Array<T>, y: &Array<T>) -> Array<T> {
    let pairs = x.data.iter().zip(y.data.iter());
    let data = mask
        .data
        .iter()
        .zip(pairs)
        .map(|(&m, (&x, &y))| if m { x } else { y });
    Array::new(mask.shape.clone(), data.collect())
}

pub(super) fn clip(
    bounds: [Option<f32>; 2],
    from_inputs: bool,
    inputs: &mut Inputs,
) -> OpResult<Value> {
    match inputs.value(0)? {
        Value::Float(mut x) => {
            let mut given = bounds;
            if from_inputs {
                for (slot, port) in given.iter_mut().zip(1..) {
                    *slot = match inputs.optional_float(port)? {
                        Some(bound) => numbers(bound)?.first().copied(),
                        None => None,
                    };
                }
            }
            if let Some(min) = given[0] {
                x = x.clamp_min(min);
            }
            if let Some(max) = given[1] {
                x = x.clamp_max(max);
            }
            Ok(Value::Float(x))
        }
        Value::Int(a) => {
            let bound = |array: Option<Array<i64>>| array.and_then(|a| a.data.first().copied());
            let min = bound(inputs.ints(1)?).unwrap_or(i64::MIN);
            let max = bound(inputs.ints(2)?).unwrap_or(i64::MAX);
            let data = a.data.iter().map(|&x| x.max(min).min(max)).collect();
            Ok(Value::Int(Array::new(a.shape.clone(), data)))
        }
        Value::Bool(_) => invalid("truth values have no bounds"),
    }
}

pub(super) fn prelu(inputs: &mut Inputs) -> OpResult<Float> {
    let (x, slope) = (inputs.float(0)?, inputs.float(1)?);
    if broadcast_shape(&x.shape(), &slope.shape())? != x.shape() {
        return invalid(format!(
            "slope {:?} does not fit {:?}",
            slope.shape(),
            x.shape()
        ));
    }
    let (x, slope) = same_rank(x, slope);
    let below = x.clone().clamp_max(0.0).mul(slope);
    Ok(x.relu().add(below))
}

pub(super) fn channel_prelu(inputs: &mut Inputs) -> OpResult<Float> {
    let (x, slope) = (inputs.float(0)?, inputs.float(1)?);
    let shape = x.shape();
    let channels = shape.get(1).copied().unwrap_or(1);
    let n = slope.len();
    if n != 1 && n != channels || shape.is_empty() {
        return invalid(format!("slope {:?} does not fit {shape:?}", slope.shape()));
    }
    let mut aligned = vec![1; shape.len()];
    if let Some(extent) = aligned.get_mut(1) {
        *extent = n;
    }
    let below = x.clone().clamp_max(0.0).mul(slope.reshape(&aligned));
    Ok(x.relu().add(below))
}

pub(super) fn float_test(test: FloatTest, inputs: &mut Inputs) -> OpResult<Value> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let holds = |v: f32| match test {
        FloatTest::Nan => v.is_nan(),
        FloatTest::Infinite { negative, positive } => {
            negative && v == f32::NEG_INFINITY || positive && v == f32::INFINITY
        }
    };
    let found = numbers(x)?.into_iter().map(holds).collect();
    Ok(Value::Bool(Array::new(shape, found)))
}

/// Returns the input and a mask of all true; a training mode that drops something is refused.
pub(super) fn dropout(attribute: Option<f32>, inputs: &mut Inputs) -> OpResult<Vec<Value>> {
    let x = inputs.value(0)?;
    let ratio = match inputs.optional_float(1)? {
        Some(ratio) => numbers(ratio)?.first().copied().unwrap_or(0.5),
        None => attribute.unwrap_or(0.5),
    };
    if let Some(Value::Bool(mode)) = inputs.optional(2)
        && mode.data.contains(&true)
        && ratio != 0.0
    {
        return unsupported("it is in training mode");
    }
    let mask = Value::Bool(Array::new(x.shape(), vec![true; x.len()]));
    Ok(vec![x, mask])
}

pub(super) fn softmax(axis: i64, flatten: bool, log: bool, inputs: &mut Inputs) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let axis = axis_of(axis, shape.len())?;
    let apply = |x: Float, axis: usize| {
        if log {
            x.log_softmax(axis)
        } else {
            x.softmax(axis)
        }
    };
    if !flatten {
        return Ok(apply(x, axis));
    }
    let rows: usize = shape[..axis].iter().product();
    let columns: usize = shape[axis..].iter().product();
    Ok(apply(x.reshape(&[rows, columns]), 1).reshape(&shape))
}
