//! Ops between floats and small integers.

use regraft_graph::DType;
use regraft_graph::op::QuantizeOp;

use super::elementwise::numbers_without_gradient;
use super::index::required_ints;
use super::{Context, Inputs, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::for_each_index;
use crate::value::{Array, Value, broadcast_shape, strides};

pub(super) fn run(op: QuantizeOp, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    match op {
        QuantizeOp::Quantize {
            axis, block_size, ..
        } => quantize(axis, block_size, inputs, context).map(|v| vec![v]),
        QuantizeOp::Dequantize { axis, block_size } => {
            dequantize(axis, block_size, inputs).map(|v| vec![v])
        }
        QuantizeOp::DynamicQuantize => dynamic(inputs),
        QuantizeOp::MatMulInteger => {
            let (a, b) = (required_ints(inputs, 0)?, required_ints(inputs, 1)?);
            let (a_zero, b_zero) = (inputs.ints(2)?, inputs.ints(3)?);
            let a = shifted(&a, a_zero.as_ref(), true)?;
            let b = shifted(&b, b_zero.as_ref(), false)?;
            product(&a, &b, context).map(|p| vec![Value::Int(p)])
        }
        QuantizeOp::QLinearMatMul => scaled_product(inputs, context).map(|v| vec![v]),
    }
}

fn numbers(tensor: Float) -> OpResult<Vec<f32>> {
    numbers_without_gradient(tensor, "rounding has no gradient")
}

/// Returns the bounds of an integer type.
pub(crate) fn bounds(dtype: DType) -> Option<[i64; 2]> {
    Some(match dtype {
        DType::I8 => [i8::MIN.into(), i8::MAX.into()],
        DType::U8 => [0, u8::MAX.into()],
        DType::I16 => [i16::MIN.into(), i16::MAX.into()],
        DType::U16 => [0, u16::MAX.into()],
        DType::I32 => [i32::MIN.into(), i32::MAX.into()],
        DType::U32 => [0, u32::MAX.into()],
        DType::I64 => [i64::MIN, i64::MAX],
        DType::F32
        | DType::F64
        | DType::F16
        | DType::Bf16
        | DType::U64
        | DType::Bool
        | DType::Other(_) => return None,
    })
}

fn target(context: &Context) -> OpResult<[i64; 2]> {
    match context.dtype.and_then(bounds) {
        Some(bounds) => Ok(bounds),
        None => unsupported("the integer type of its result is not known"),
    }
}

/// Returns for each element of `shape` which scale counts for it.
fn scale_places(
    shape: &[usize],
    scale: &[usize],
    axis: i64,
    block_size: usize,
) -> OpResult<Vec<usize>> {
    let total = shape.iter().product();
    if scale.iter().product::<usize>() == 1 && block_size == 0 {
        return Ok(vec![0; total]);
    }
    let axis = axis_of(axis, shape.len())?;
    let mut places = Vec::with_capacity(total);
    if block_size == 0 {
        if scale != [shape[axis]] {
            return invalid(format!("scales {scale:?} for axis {axis} of {shape:?}"));
        }
        for_each_index(shape, |index| places.push(index[axis]));
        return Ok(places);
    }
    let fits = scale.len() == shape.len()
        && (0..shape.len()).all(|i| {
            let blocks = if i == axis {
                shape[i].div_ceil(block_size)
            } else {
                shape[i]
            };
            scale[i] == blocks
        });
    if !fits {
        return invalid(format!(
            "scales {scale:?} for blocks of {block_size} in {shape:?}"
        ));
    }
    let own = strides(scale);
    for_each_index(shape, |index| {
        let at = |i: usize| {
            if i == axis {
                index[i] / block_size
            } else {
                index[i]
            }
        };
        places.push((0..shape.len()).map(|i| at(i) * own[i]).sum());
    });
    Ok(places)
}

/// Returns the zero point of each scale, zero where it is left out.
fn zero_points(zeros: Option<Value>, n: usize) -> OpResult<Vec<i64>> {
    match zeros {
        None => Ok(vec![0; n]),
        Some(Value::Int(a)) if a.data.len() == n => Ok(a.data.to_vec()),
        Some(other) => invalid(format!("zero points {} for {n} scales", other.describe())),
    }
}

fn quantize(
    axis: i64,
    block_size: usize,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let x = match inputs.value(0)? {
        Value::Float(x) => x,
        Value::Int(a) => Float::new(a.data.iter().map(|&x| x as f32).collect(), &a.shape),
        Value::Bool(_) => return invalid("truth values are not quantised"),
    };
    let scale = inputs.float(1)?;
    let [low, high] = target(context)?;
    let shape = x.shape();
    let places = scale_places(&shape, &scale.shape(), axis, block_size)?;
    let scales = numbers(scale)?;
    let zeros = zero_points(inputs.optional(2), scales.len())?;
    let found = numbers(x)?.into_iter().zip(places).map(|(x, place)| {
        let rounded = (x / scales[place]).round_ties_even() as i64;
        rounded.saturating_add(zeros[place]).clamp(low, high)
    });
    Ok(Value::Int(Array::new(shape, found.collect())))
}

fn dequantize(axis: i64, block_size: usize, inputs: &mut Inputs) -> OpResult<Value> {
    let x = required_ints(inputs, 0)?;
    let scale = inputs.float(1)?;
    let places = scale_places(&x.shape, &scale.shape(), axis, block_size)?;
    let scales = numbers(scale)?;
    let zeros = zero_points(inputs.optional(2), scales.len())?;
    let found = x.data.iter().zip(places);
    let found = found.map(|(&x, at)| x.wrapping_sub(zeros[at]) as f32 * scales[at]);
    Ok(Value::Float(Float::new(found.collect(), &x.shape)))
}

fn dynamic(inputs: &mut Inputs) -> OpResult<Vec<Value>> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let all = numbers(x)?;
    // Zero is always in the range, so that it is exact.
    let low = all.iter().copied().fold(0.0, f32::min);
    let high = all.iter().copied().fold(0.0, f32::max);
    let scale = (high - low) / 255.0;
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    let zero = (-low / divisor).round_ties_even().clamp(0.0, 255.0);
    let at = |x: f32| ((x / divisor).round_ties_even() + zero).clamp(0.0, 255.0) as i64;
    Ok(vec![
        Value::Int(Array::new(shape, all.into_iter().map(at).collect())),
        Value::Float(Float::number(scale)),
        Value::Int(Array::new(vec![], vec![zero as i64])),
    ])
}

/// Returns the integers less their zero point: one, or one a row (a column for the right side).
fn shifted(array: &Array<i64>, zeros: Option<&Array<i64>>, rows: bool) -> OpResult<Array<i64>> {
    let Some(zeros) = zeros else {
        return Ok(array.clone());
    };
    let n = zeros.data.len();
    let shape = if n == 1 {
        Vec::new()
    } else if zeros.shape.len() == 1 && rows {
        vec![n, 1]
    } else {
        zeros.shape.clone()
    };
    let zeros = zeros.clone().reshape(shape);
    if broadcast_shape(&array.shape, &zeros.shape)? != array.shape {
        return invalid(format!("{n} zero points for {:?}", array.shape));
    }
    let zeros = zeros.broadcast(&array.shape);
    let pairs = array.data.iter().zip(zeros.data.iter());
    let data = pairs.map(|(x, z)| x.wrapping_sub(*z)).collect();
    Ok(Array::new(array.shape.clone(), data))
}

/// Returns the matrix product of integers with broadcast leading axes.
fn product(a: &Array<i64>, b: &Array<i64>, context: &Context) -> OpResult<Array<i64>> {
    let (Some((a_lead, &[m, k])), Some((b_lead, &[k_b, n]))) = (
        a.shape.split_last_chunk::<2>(),
        b.shape.split_last_chunk::<2>(),
    ) else {
        return unsupported("a product with a vector");
    };
    if k != k_b {
        return invalid(format!("{:?} times {:?} does not fit", a.shape, b.shape));
    }
    let lead = broadcast_shape(a_lead, b_lead)?;
    let full = |tail: [usize; 2]| [lead.as_slice(), &tail].concat();
    let out = full([m, n]);
    let total = context.check_size(&out)?;
    context.check_size(&full([m, k]))?;
    context.check_size(&full([k, n]))?;
    let (a, b) = (a.broadcast(&full([m, k])), b.broadcast(&full([k, n])));
    let mut result = vec![0i64; total];
    for block in 0..lead.iter().product::<usize>() {
        for i in 0..m {
            for t in 0..k {
                let x = a.data[(block * m + i) * k + t];
                let row = &b.data[(block * k + t) * n..][..n];
                let slots = &mut result[(block * m + i) * n..][..n];
                for (slot, y) in slots.iter_mut().zip(row) {
                    *slot = slot.wrapping_add(x.wrapping_mul(*y));
                }
            }
        }
    }
    Ok(Array::new(out, result))
}

/// Returns a scale of one number, or one a row (a column for the right side), broadcast.
fn scales(inputs: &mut Inputs, port: usize, rows: bool, out: &[usize]) -> OpResult<Array<f32>> {
    let scale = inputs.float(port)?;
    let mut shape = scale.shape();
    if scale.len() == 1 {
        shape = Vec::new();
    } else if rows && shape.len() == 1 {
        shape.push(1);
    }
    let array = Array::new(shape, numbers(scale)?);
    if broadcast_shape(&array.shape, out)? != out {
        return invalid(format!("scales {:?} for {out:?}", array.shape));
    }
    Ok(array.broadcast(out))
}

fn scaled_product(inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let (a, b) = (required_ints(inputs, 0)?, required_ints(inputs, 3)?);
    let (a_zero, b_zero) = (inputs.ints(2)?, inputs.ints(5)?);
    let [low, high] = target(context)?;
    let a = shifted(&a, a_zero.as_ref(), true)?;
    let b = shifted(&b, b_zero.as_ref(), false)?;
    let sums = product(&a, &b, context)?;
    let a_scale = scales(inputs, 1, true, &sums.shape)?;
    let b_scale = scales(inputs, 4, false, &sums.shape)?;
    let y_scale = scales(inputs, 6, true, &sums.shape)?;
    let zero = match inputs.ints(7)? {
        Some(z) if z.data.len() == 1 => z.data[0],
        _ => return unsupported("a zero point of the result per row"),
    };
    let at = |i: usize| {
        let factor = a_scale.data[i] * b_scale.data[i] / y_scale.data[i];
        let rounded = (sums.data[i] as f32 * factor).round_ties_even() as i64;
        rounded.saturating_add(zero).clamp(low, high)
    };
    let found = (0..sums.data.len()).map(at).collect();
    Ok(Value::Int(Array::new(sums.shape.clone(), found)))
}
