//! ONNX Runtime's fused ops, each as the standard ops that it stands for.

use regraft_graph::op::{Activation, FusedHeads, FusedOp, Normalization};

use super::attention::attention;
use super::elementwise::{activation, same_rank};
use super::{Context, Inputs, array, grouped, norm, rescale};
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::value::{Array, Value, broadcast_shape};

pub(super) fn run(op: &FusedOp, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    match op {
        FusedOp::MultiHeadAttention(heads) => multi_head(heads, inputs, context),
        FusedOp::PackedAttention { heads, .. } => packed(heads, inputs, context),
        FusedOp::GroupedAttention(heads) => grouped::run(heads, inputs, context),
        FusedOp::SkipNormalization { .. } => {
            let x = inputs.float(0)?;
            let sum = add(x, inputs.float(1)?)?;
            let (y, mean, inverse, sum) = normalised(op, sum, inputs, context)?;
            Ok([y, mean, inverse, sum].map(Value::Float).into())
        }
        FusedOp::EmbedNormalization { .. } => embed(op, inputs, context),
        FusedOp::BiasGelu { tanh } => {
            let x = inputs.float(0)?;
            let sum = add(x, inputs.float(1)?)?;
            let mut inputs = Inputs(vec![Some(Value::Float(sum))]);
            let y = activation(Activation::Gelu { tanh: *tanh }, &mut inputs)?;
            Ok(vec![Value::Float(y)])
        }
    }
}

/// Returns `x + other`, with `other` broadcast to the shape of `x`.
fn add(x: Float, other: Float) -> OpResult<Float> {
    let (own, given) = (x.shape(), other.shape());
    if broadcast_shape(&given, &own)? != own {
        return invalid(format!("{given:?} is added to {own:?}"));
    }
    let (x, other) = same_rank(x, other);
    Ok(x.add(other))
}

fn multi_head(heads: &FusedHeads, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let mut parts = [inputs.float(0)?, inputs.float(1)?, inputs.float(2)?];
    if let Some(bias) = inputs.optional_float(3)? {
        let width = |x: &Float| x.shape().last().copied().unwrap_or(0);
        let ends = parts.each_ref().map(width);
        if bias.shape() != [ends.iter().sum::<usize>()]
            || parts.iter().any(|p| p.shape().len() != 3)
        {
            return invalid(format!("a bias {:?} for widths {ends:?}", bias.shape()));
        }
        let mut from = 0;
        for (part, width) in parts.iter_mut().zip(ends) {
            *part = add(part.clone(), bias.clone().range(0, from, from + width))?;
            from += width;
        }
    }
    let mask = inputs.ints(4)?;
    let bias = inputs.optional_float(5)?;
    let past = [inputs.optional(6), inputs.optional(7)];
    attend(heads, parts, mask.as_ref(), bias, past, context)
}

/// Returns the outputs of the standard op on queries, keys and values, batch × positions × width.
fn attend(
    heads: &FusedHeads,
    parts: [Float; 3],
    mask: Option<&Array<i64>>,
    bias: Option<Float>,
    [keys, values]: [Option<Value>; 2],
    context: &Context,
) -> OpResult<Vec<Value>> {
    let (q, k) = (parts[0].shape(), parts[1].shape());
    let (&[batch, queries, _], Some(now)) = (&q[..], k.len().checked_sub(2).map(|at| k[at])) else {
        return invalid(format!("queries {q:?} and keys {k:?}"));
    };
    let before = keys.as_ref().and_then(|p| p.shape().get(2).copied());
    let total = now.saturating_add(before.unwrap_or(0));
    context.check_size(&[batch, queries, total])?;
    let mask = match mask {
        Some(mask) => Some(key_mask(mask, heads.mask_value, [batch, queries, total])?),
        None => None,
    };
    let mask = with_bias(mask, bias)?;
    let given = parts.map(|p| Some(Value::Float(p)));
    let mut inputs = Inputs(given.into());
    inputs.0.extend([mask.map(Value::Float), keys, values]);
    attention(&heads.standard(), &mut inputs, context)
}

/// Returns the sum of what is added to the scores.
pub(super) fn with_bias(mask: Option<Float>, bias: Option<Float>) -> OpResult<Option<Float>> {
    Ok(match (mask, bias) {
        (Some(mask), Some(bias)) => {
            let (a, b) = (mask.shape(), bias.shape());
            broadcast_shape(&a, &b)?;
            if b.len() != 4 {
                return invalid(format!("a score bias {b:?}"));
            }
            Some(mask.add(bias))
        }
        (mask, bias) => mask.or(bias),
    })
}

/// Returns what is added to the scores, batch × 1 × queries or 1 × keys.
///
/// A list holds the number of valid keys of each sample, or that and then the first valid one; a
/// table a one for each valid key, of a sample or of a query.
pub(super) fn key_mask(
    mask: &Array<i64>,
    value: f32,
    [batch, queries, keys]: [usize; 3],
) -> OpResult<Float> {
    let shown = |seen: bool| if seen { 0.0 } else { value };
    let data = &mask.data;
    let (rows, numbers): (usize, Vec<f32>) = match mask.shape[..] {
        [n] if n == batch || n == 2 * batch => {
            let start = |sample: usize| data.get(batch + sample).copied().unwrap_or(0);
            let sees =
                |sample: usize, key: usize| (start(sample)..data[sample]).contains(&(key as i64));
            let each = (0..batch).flat_map(|b| (0..keys).map(move |k| (b, k)));
            (1, each.map(|(b, k)| shown(sees(b, k))).collect())
        }
        [b, k] if b == batch && k == keys => (1, data.iter().map(|&m| shown(m > 0)).collect()),
        [b, q, k] if b == batch && q == queries && k == keys => {
            (queries, data.iter().map(|&m| shown(m > 0)).collect())
        }
        _ => {
            return invalid(format!(
                "a key mask {:?} for {batch} samples of {keys} keys",
                mask.shape
            ));
        }
    };
    Ok(Float::new(numbers, &[batch, 1, rows, keys]))
}

fn packed(heads: &FusedHeads, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let (x, weight) = (inputs.float(0)?, inputs.float(1)?);
    let (own, shape) = (x.shape(), weight.shape());
    let (&[batch, positions, n_in], &[rows, columns]) = (&own[..], &shape[..]) else {
        return invalid(format!("an input {own:?} with a weight {shape:?}"));
    };
    let n_heads = heads.n_heads;
    if n_heads == 0 || rows != n_in || columns == 0 || !columns.is_multiple_of(3 * n_heads) {
        return invalid(format!("{own:?} by {shape:?} for {n_heads} heads"));
    }
    let width = columns / 3;
    let mut all = x
        .reshape(&[batch * positions, n_in])
        .matmul(weight)
        .reshape(&[batch, positions, columns]);
    if let Some(bias) = inputs.optional_float(2)? {
        all = add(all, bias)?;
    }
    let parts = [0, 1, 2].map(|i| all.clone().range(2, i * width, (i + 1) * width));
    let mask = inputs.ints(3)?;
    let past = match inputs.optional_float(4)? {
        Some(past) => halves(&past)?,
        None => [None, None],
    };
    let bias = inputs.optional_float(5)?;
    let mut made = attend(heads, parts, mask.as_ref(), bias, past, context)?.into_iter();
    let (Some(y), Some(Value::Float(k)), Some(Value::Float(v))) =
        (made.next(), made.next(), made.next())
    else {
        return invalid("attention gave too few outputs");
    };
    if context.n_outputs < 2 {
        return Ok(vec![y]);
    }
    let one = |t: Float| {
        let shape = [&[1], &t.shape()[..]].concat();
        t.reshape(&shape)
    };
    let cache = Float::concat(vec![one(k), one(v)], 0);
    Ok(vec![y, Value::Float(cache)])
}

/// Returns keys and values, batch × heads × positions × size, of a tensor that holds one behind the
/// other.
fn halves(both: &Float) -> OpResult<[Option<Value>; 2]> {
    let shape = both.shape();
    if shape.len() != 5 || shape[0] != 2 {
        return invalid(format!("past keys and values {shape:?}"));
    }
    Ok([0, 1].map(|i| {
        let half = both.clone().range(0, i, i + 1).reshape(&shape[1..]);
        Some(Value::Float(half))
    }))
}

/// Returns the normalised sum, its mean and one over its deviation along the last axis, and the sum
/// with its bias.
fn normalised(
    op: &FusedOp,
    mut sum: Float,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<(Float, Float, Float, Float)> {
    let Some(form) = op.norm() else {
        return invalid("it normalises nothing");
    };
    if let Some(port) = form.bias
        && let Some(bias) = inputs.optional_float(port)?
    {
        sum = add(sum, bias)?;
    }
    let mut given = vec![Some(Value::Float(sum.clone())), inputs.optional(form.scale)];
    given.push(form.shift.and_then(|p| inputs.optional(p)));
    let mut given = Inputs(given);
    if form.centred {
        let context = Context {
            n_outputs: 3,
            ..*context
        };
        let made = norm::layer_norm(-1, form.epsilon, &mut given, &context)?;
        let floats = made.into_iter().filter_map(|v| match v {
            Value::Float(t) => Some(t),
            Value::Int(_) | Value::Bool(_) => None,
        });
        let Ok([y, mean, inverse]) = <[Float; 3]>::try_from(floats.collect::<Vec<_>>()) else {
            return invalid("the normalisation gave too few outputs");
        };
        return Ok((y, mean, inverse, sum));
    }
    let norm = Normalization::RootMeanSquare {
        axis: -1,
        epsilon: form.epsilon,
    };
    let y = rescale::run(&norm, &mut given)?;
    let (_, mean, inverse) = norm::standardise(
        sum.clone(),
        &[sum.shape().len().saturating_sub(1)],
        form.epsilon,
    );
    Ok((y, mean, inverse, sum))
}

fn embed(op: &FusedOp, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let Some(words) = inputs.ints(0)? else {
        return invalid("input 0 is missing");
    };
    let &[batch, positions] = &words.shape[..] else {
        return invalid(format!("words {:?}", words.shape));
    };
    let segments = inputs.ints(1)?;
    let places = match inputs.ints(8)? {
        Some(places)
            if places.data.len() == batch * positions || places.data.len() == positions =>
        {
            places
        }
        Some(places) => return invalid(format!("positions {:?}", places.shape)),
        None => Array::new(vec![1, positions], (0..positions as i64).collect()),
    };
    let mut rows = |port: usize, at: Array<i64>| -> OpResult<Float> {
        let table = inputs.float(port)?;
        let mut inputs = Inputs(vec![Some(Value::Float(table)), Some(Value::Int(at))]);
        match array::gather(0, &mut inputs, context)? {
            Value::Float(t) => Ok(t),
            Value::Int(_) | Value::Bool(_) => invalid("a table of integers"),
        }
    };
    let mut sum = add(rows(2, words)?, rows(3, places)?)?;
    if let Some(segments) = segments {
        sum = add(sum, rows(4, segments)?)?;
    }
    let (y, _, _, sum) = normalised(op, sum, inputs, context)?;
    let lengths = match inputs.ints(7)? {
        Some(mask) if mask.data.len() == batch * positions => {
            let rows = mask.data.chunks(positions.max(1));
            rows.map(|row| row.iter().filter(|&&m| m == 1).count() as i64)
                .collect()
        }
        Some(mask) => return invalid(format!("a mask {:?}", mask.shape)),
        None => vec![0; batch],
    };
    let lengths = Value::Int(Array::new(vec![batch], lengths));
    Ok(vec![Value::Float(y), lengths, Value::Float(sum)])
}
