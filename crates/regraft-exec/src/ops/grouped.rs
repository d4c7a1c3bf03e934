//! Attention with shared heads of keys (ONNX Runtime's `GroupQueryAttention`), as the standard ops that
//! it stands for.

use regraft_graph::op::{GroupedHeads, RotaryEmbedding};

use super::attention::{attention, rotary};
use super::fused::{key_mask, with_bias};
use super::{Context, Inputs};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::value::{Array, Value};

pub(super) fn run(
    heads: &GroupedHeads,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Vec<Value>> {
    let [mut q, mut k, v] = parts(heads, inputs)?;
    let shape = q.shape();
    let &[batch, positions, _] = &shape[..] else {
        return invalid(format!("queries {shape:?}"));
    };
    let past = [inputs.optional(3), inputs.optional(4)];
    let before = past[0].as_ref().and_then(|p| p.shape().get(2).copied());
    let before = before.unwrap_or(0);
    let total = before.saturating_add(positions);
    context.check_size(&[batch, positions, total])?;
    let lengths = lengths(inputs, [batch, before, positions])?;
    if heads.rotates {
        let at = inputs.ints(9)?.unwrap_or_else(|| {
            let own = (before..total).map(|i| i as i64);
            let data = std::iter::repeat_n(own, batch).flatten().collect();
            Array::new(vec![batch, positions], data)
        });
        let tables = [inputs.float(7)?, inputs.float(8)?];
        let turned = |x: Float, n_heads: usize| turn(heads, x, n_heads, &tables, &at);
        (q, k) = (turned(q, heads.q_heads)?, turned(k, heads.kv_heads)?);
    }
    let is_shorter = lengths.data.iter().any(|n| *n < total as i64);
    let hidden = is_shorter
        .then(|| key_mask(&lengths, f32::NEG_INFINITY, [batch, positions, total]))
        .transpose()?;
    let mask = with_bias(hidden, inputs.optional_float(10)?)?;
    let mut given: Vec<Option<Value>> = [q, k, v].map(|p| Some(Value::Float(p))).into();
    given.push(mask.map(Value::Float));
    given.extend(past);
    let mut made = attention(&heads.standard(), &mut Inputs(given), context)?;
    made.truncate(3);
    Ok(made)
}

/// Returns queries, keys and values, batch × positions × heads·size each.
fn parts(heads: &GroupedHeads, inputs: &mut Inputs) -> OpResult<[Float; 3]> {
    let q = inputs.float(0)?;
    if let (Some(k), Some(v)) = (inputs.optional_float(1)?, inputs.optional_float(2)?) {
        return Ok([q, k, v]);
    }
    let shape = q.shape();
    let n = heads
        .q_heads
        .saturating_add(heads.kv_heads.saturating_mul(2));
    match shape[..] {
        [_, _, width] if n > 0 && width % n == 0 => {
            let size = width / n;
            let ends = [0, heads.q_heads, heads.q_heads + heads.kv_heads, n];
            Ok([0, 1, 2].map(|i| q.clone().range(2, ends[i] * size, ends[i + 1] * size)))
        }
        _ => invalid(format!("{shape:?} for {n} heads")),
    }
}

/// Returns the number of keys of each sample that are there.
fn lengths(inputs: &mut Inputs, [batch, before, positions]: [usize; 3]) -> OpResult<Array<i64>> {
    let Some(last) = inputs.ints(5)? else {
        return invalid("input 5 is missing");
    };
    if last.data.len() != batch {
        return invalid(format!("{} lengths for {batch} samples", last.data.len()));
    }
    let total = before.saturating_add(positions) as i64;
    for &last in last.data.iter() {
        match last.saturating_add(1) {
            n if n == total || (before == 0 && (1..total).contains(&n)) => {}
            n if (1..total).contains(&n) => {
                return unsupported(format!("{n} of {total} positions behind a cache"));
            }
            _ => return invalid(format!("a last position {last} of {total}")),
        }
    }
    let lengths = last.data.iter().map(|last| last + 1).collect();
    Ok(Array::new(vec![batch], lengths))
}

/// Turns the heads of a tensor by their positions.
fn turn(
    heads: &GroupedHeads,
    x: Float,
    n_heads: usize,
    [cosines, sines]: &[Float; 2],
    at: &Array<i64>,
) -> OpResult<Float> {
    let half = cosines.shape().last().copied().unwrap_or(0);
    let op = RotaryEmbedding {
        interleaved: heads.interleaved,
        n_heads,
        rotary_dim: 2 * half,
    };
    let floats = [x, cosines.clone(), sines.clone()];
    let mut given: Vec<Option<Value>> = floats.map(|t| Some(Value::Float(t))).into();
    given.push(Some(Value::Int(at.clone())));
    rotary(&op, &mut Inputs(given))
}
