//! Conversions of element types.

use regraft_graph::DType;

use super::elementwise::numbers;
use super::{Context, Inputs};
use crate::engine::Float;
use crate::error::{OpResult, unsupported};
use crate::value::{Array, Value};

/// Converts to the kind of number that input 1 holds.
pub(super) fn cast_like(inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let like = inputs.value(1)?;
    if let Some(to) = context.dtype {
        return cast(to, inputs);
    }
    let to = match like {
        Value::Float(_) => DType::F32,
        Value::Int(_) => DType::I64,
        Value::Bool(_) => DType::Bool,
    };
    cast(to, inputs)
}

pub(super) fn cast(to: DType, inputs: &mut Inputs) -> OpResult<Value> {
    let value = inputs.value(0)?;
    let shape = value.shape();
    match to {
        DType::F16 | DType::Bf16 => {
            let wide = cast(DType::F32, &mut Inputs(vec![Some(value)]))?;
            rounded_to(to, wide)
        }
        DType::F32 | DType::F64 => Ok(Value::Float(match value {
            Value::Float(t) => t,
            Value::Int(a) => Float::new(a.data.iter().map(|&x| x as f32).collect(), &shape),
            Value::Bool(a) => Float::new(
                a.data.iter().map(|&x| f32::from(u8::from(x))).collect(),
                &shape,
            ),
        })),
        DType::Bool => Ok(Value::Bool(Array::new(
            shape,
            match value {
                Value::Float(t) => numbers(t)?.iter().map(|&x| x != 0.0).collect(),
                Value::Int(a) => a.data.iter().map(|&x| x != 0).collect(),
                Value::Bool(a) => a.data.to_vec(),
            },
        ))),
        DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64 => Ok(Value::Int(Array::new(
            shape,
            match value {
                Value::Float(t) => numbers(t)?.iter().map(|&x| wrap(x as i64, to)).collect(),
                Value::Int(a) => a.data.iter().map(|&x| wrap(x, to)).collect(),
                Value::Bool(a) => a.data.iter().map(|&x| i64::from(x)).collect(),
            },
        ))),
        DType::Other(_) => unsupported(format!("conversion to {to}")),
    }
}

/// Returns floats as a type of 16 bits would hold them. Their gradient passes through.
fn rounded_to(to: DType, value: Value) -> OpResult<Value> {
    let Value::Float(tensor) = value else {
        return Ok(value);
    };
    let all = numbers(tensor.clone())?;
    let round = |x: &f32| match to {
        DType::F16 => round_to_half(*x),
        _ => round_to_brain(*x),
    };
    let change = |x: &f32| {
        let rounded = round(x);
        // Where no difference can be added, the number itself has to be put there.
        if x.is_finite() && rounded.is_finite() {
            rounded - x
        } else {
            0.0
        }
    };
    let shape = tensor.shape();
    let changes = all.iter().map(change).collect();
    let moved = tensor.add(Float::new(changes, &shape));
    let beyond: Vec<bool> = all.iter().map(|x| !round(x).is_finite()).collect();
    if !beyond.contains(&true) {
        return Ok(Value::Float(moved));
    }
    let rest = Float::new(all.iter().map(round).collect(), &shape);
    Ok(Value::Float(moved.replace(beyond, rest)))
}

/// Returns the nearest number of 16 bits with 8 of exponent, the even one of two.
fn round_to_brain(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    let bits = x.to_bits();
    let even = bits.wrapping_add(0x7fff).wrapping_add(bits >> 16 & 1);
    f32::from_bits(even & 0xffff_0000)
}

/// Returns the nearest 16-bit IEEE number, the even one of two.
fn round_to_half(x: f32) -> f32 {
    let size = x.abs();
    if !x.is_finite() || size >= 65_520.0 {
        return if x.is_nan() {
            x
        } else {
            f32::INFINITY.copysign(x)
        };
    }
    // The distance between neighbours: 2^-10 of the power of two below, 2^-24 at least.
    let exponent = ((size.to_bits() >> 23) as i32 - 127).max(-14);
    let step = 2f32.powi(exponent - 10);
    ((size / step).round_ties_even() * step).copysign(x)
}

/// Returns the number as the narrower type would hold it.
pub(crate) fn wrap(x: i64, to: DType) -> i64 {
    match to {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        DType::I64
        | DType::U64
        | DType::F32
        | DType::F64
        | DType::F16
        | DType::Bf16
        | DType::Bool
        | DType::Other(_) => x,
    }
}
