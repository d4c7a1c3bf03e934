//! Elementwise functions of two broadcast inputs.

use regraft_graph::op::BinaryOp;

use super::elementwise::{numbers, same_rank};
use super::{Context, Inputs, axis_of, pointwise};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::value::{Array, Value, broadcast_shape};

fn single(tensor: &Float) -> Option<f32> {
    if tensor.len() != 1 || tensor.is_tracked() {
        return None;
    }
    tensor.clone().into_vec().ok()?.first().copied()
}

pub(super) fn binary_float(op: BinaryOp, a: Float, b: Float) -> OpResult<Float> {
    let shape = broadcast_shape(&a.shape(), &b.shape())?;
    let rank = shape.len();
    // A constant of one element needs no broadcast, and a constant exponent has a gradient
    // for negative bases as well.
    if let (Some(number), true) = (single(&b), a.shape() == shape) {
        match op {
            BinaryOp::Add => return Ok(a.add_scalar(number)),
            BinaryOp::Sub => return Ok(a.add_scalar(-number)),
            BinaryOp::Mul => return Ok(a.mul_scalar(number)),
            BinaryOp::Pow => return Ok(a.pow_scalar(number)),
            BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Fmod
            | BinaryOp::BitwiseAnd
            | BinaryOp::BitwiseOr
            | BinaryOp::BitwiseXor
            | BinaryOp::ShiftLeft
            | BinaryOp::ShiftRight => {}
        }
    }
    if rank == 0 {
        let a = a.reshape(&[1]);
        let b = b.reshape(&[1]);
        return binary_float(op, a, b).map(|t| t.reshape(&[]));
    }
    let (a, b) = same_rank(a, b);
    Ok(match op {
        BinaryOp::Add => a.add(b),
        BinaryOp::Sub => a.sub(b),
        BinaryOp::Mul => a.mul(b),
        BinaryOp::Div => a.div(b),
        BinaryOp::Pow => a.expand(&shape).pow(b.expand(&shape)),
        BinaryOp::Mod | BinaryOp::Fmod => return remainder(op, a, b),
        BinaryOp::BitwiseAnd
        | BinaryOp::BitwiseOr
        | BinaryOp::BitwiseXor
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight => return invalid("floats have no bits to join"),
    })
}

/// Returns the remainder with the sign of either side.
fn remainder(op: BinaryOp, a: Float, b: Float) -> OpResult<Float> {
    if a.is_tracked() || b.is_tracked() {
        return unsupported("the remainder has no gradient");
    }
    let a = Array::new(a.shape(), numbers(a)?);
    let b = Array::new(b.shape(), numbers(b)?);
    let found = zip(&a, &b, |x: f32, y: f32| match op {
        BinaryOp::Fmod => x % y,
        _ => x - y * (x / y).floor(),
    })?;
    Ok(Float::new(found.data.to_vec(), &found.shape))
}

/// Returns `f` of both arrays, broadcast.
pub(super) fn zip<A: Copy, B: Copy, C: Copy>(
    a: &Array<A>,
    b: &Array<B>,
    f: impl Fn(A, B) -> C,
) -> OpResult<Array<C>> {
    let shape = broadcast_shape(&a.shape, &b.shape)?;
    let (a, b) = (a.broadcast(&shape), b.broadcast(&shape));
    let data = a.data.iter().zip(b.data.iter()).map(|(&x, &y)| f(x, y));
    Ok(Array::new(shape, data.collect()))
}

fn binary_int(op: BinaryOp, a: &Array<i64>, b: &Array<i64>) -> OpResult<Value> {
    if matches!(op, BinaryOp::Div | BinaryOp::Mod | BinaryOp::Fmod) && b.data.contains(&0) {
        return invalid("an integer is divided by zero");
    }
    let array = match op {
        BinaryOp::Add => zip(a, b, i64::wrapping_add),
        BinaryOp::Sub => zip(a, b, i64::wrapping_sub),
        BinaryOp::Mul => zip(a, b, i64::wrapping_mul),
        BinaryOp::Div => zip(a, b, i64::wrapping_div),
        // The remainder takes the sign of the divisor.
        BinaryOp::Mod => zip(a, b, |x, y| {
            x.wrapping_rem(y).wrapping_add(y).wrapping_rem(y)
        }),
        BinaryOp::Fmod => zip(a, b, i64::wrapping_rem),
        BinaryOp::BitwiseAnd => zip(a, b, |x, y| x & y),
        BinaryOp::BitwiseOr => zip(a, b, |x, y| x | y),
        BinaryOp::BitwiseXor => zip(a, b, |x, y| x ^ y),
        BinaryOp::ShiftLeft => zip(a, b, |x, y| shifted(x, y, i64::wrapping_shl)),
        // Only unsigned types are shifted.
        BinaryOp::ShiftRight => zip(a, b, |x, y| {
            shifted(x, y, |x, y| (x as u64).wrapping_shr(y) as i64)
        }),
        BinaryOp::Pow => zip(a, b, |x, y| match u32::try_from(y) {
            Ok(y) => x.wrapping_pow(y),
            Err(_) => i64::from(x == 1),
        }),
    };
    array.map(Value::Int)
}

/// Returns x moved by y bits, zero where none is left.
fn shifted(x: i64, y: i64, by: fn(i64, u32) -> i64) -> i64 {
    match u32::try_from(y) {
        Ok(y) if y < i64::BITS => by(x, y),
        _ => 0,
    }
}

pub(super) fn binary(op: BinaryOp, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let (a, b) = (inputs.value(0)?, inputs.value(1)?);
    context.check_size(&broadcast_shape(&a.shape(), &b.shape())?)?;
    match (a, b) {
        (Value::Float(a), Value::Float(b)) if op == BinaryOp::Add && a.shape() == b.shape() => {
            pointwise::add(a, b, context).map(Value::Float)
        }
        (Value::Float(a), Value::Float(b)) => binary_float(op, a, b).map(Value::Float),
        (Value::Int(a), Value::Int(b)) => binary_int(op, &a, &b),
        // Pow is the one op that mixes element types.
        (Value::Float(a), Value::Int(b)) if op == BinaryOp::Pow => {
            let b = Float::new(b.data.iter().map(|&x| x as f32).collect(), &b.shape);
            binary_float(op, a, b).map(Value::Float)
        }
        (Value::Int(a), Value::Float(b)) if op == BinaryOp::Pow => {
            if b.is_tracked() {
                return unsupported("an integer to the power of a float has no gradient");
            }
            let b = Array::new(b.shape(), numbers(b)?);
            zip(&a, &b, |x, y: f32| (x as f64).powf(f64::from(y)) as i64).map(Value::Int)
        }
        (a, b) => invalid(format!("{} and {} do not mix", a.describe(), b.describe())),
    }
}

/// Returns the function with the second input's axes beginning at `axis` of the first one's.
pub(super) fn aligned(
    op: BinaryOp,
    axis: i64,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let (a, b) = (inputs.value(0)?, inputs.value(1)?);
    let (rank, mut shape) = (a.shape().len(), b.shape());
    let first = axis_of(axis, rank)?;
    let Some(behind) = rank.checked_sub(first + shape.len()) else {
        return invalid(format!("{shape:?} from axis {axis} of {:?}", a.shape()));
    };
    shape.extend(vec![1; behind]);
    binary(
        op,
        &mut Inputs(vec![Some(a), Some(b.reshape(&shape))]),
        context,
    )
}
