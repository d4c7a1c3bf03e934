//! Attention over heads, and the rotation of its queries and keys.

use regraft_graph::op::{Attention, RotaryEmbedding, ScoreOutput};

use super::elementwise::numbers;
use super::{Context, Inputs};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::for_each_index;
use crate::value::{Array, Value, broadcast_shape, pad_rank};

/// Returns batch × heads × positions × size.
fn heads(tensor: Float, n: usize, what: &str) -> OpResult<Float> {
    let shape = tensor.shape();
    match shape[..] {
        [_, _, _, _] => Ok(tensor),
        [b, s, width] if n > 0 && width % n == 0 => {
            Ok(tensor.reshape(&[b, s, n, width / n]).permute(&[0, 2, 1, 3]))
        }
        _ => invalid(format!("{what} is {shape:?}, with {n} heads")),
    }
}

/// Returns what was there before and what comes now, joined along the positions.
fn with_past(inputs: &mut Inputs, port: usize, now: Float) -> OpResult<(Float, usize)> {
    let Some(past) = inputs.optional_float(port)? else {
        return Ok((now, 0));
    };
    let (a, b) = (past.shape(), now.shape());
    let fits = a.len() == 4 && a[0] == b[0] && a[1] == b[1] && a[3] == b[3];
    if !fits {
        return invalid(format!("input {port} is {a:?} before {b:?}"));
    }
    if a[2] == 0 {
        return Ok((now, 0));
    }
    Ok((Float::concat(vec![past, now], 2), a[2]))
}

/// Returns each head of keys or values as often as queries share it.
fn shared(tensor: Float, q_heads: usize) -> OpResult<Float> {
    let s = tensor.shape();
    let own = s[1];
    if own == q_heads {
        return Ok(tensor);
    }
    if own == 0 || !q_heads.is_multiple_of(own) {
        return invalid(format!("{q_heads} heads share {own}"));
    }
    let times = q_heads / own;
    Ok(tensor
        .reshape(&[s[0], own, 1, s[2], s[3]])
        .expand(&[s[0], own, times, s[2], s[3]])
        .reshape(&[s[0], q_heads, s[2], s[3]]))
}

/// Which keys a query may see beside what the mask says.
#[derive(Debug)]
struct Visible<'a> {
    op: &'a Attention,
    past: usize,
    /// The number of valid keys of each sample, where it is given.
    lengths: Option<Vec<i64>>,
    queries: usize,
}

impl Visible<'_> {
    fn restricts(&self) -> bool {
        let windows = self.op.left_window >= 0 || self.op.right_window >= 0;
        self.op.is_causal || windows || self.lengths.is_some()
    }

    fn sees(&self, sample: usize, query: usize, key: usize) -> bool {
        let length = self.lengths.as_ref().and_then(|l| l.get(sample)).copied();
        // The query block ends where the valid keys end.
        let offset = match length {
            Some(n) if self.past == 0 => n.saturating_sub(self.queries as i64),
            _ => self.past as i64,
        };
        let (at, key) = (offset.saturating_add(query as i64), key as i64);
        (!self.op.is_causal || key <= at)
            && length.is_none_or(|n| key < n)
            && (self.op.left_window < 0 || at - key <= self.op.left_window)
            && (self.op.right_window < 0 || key - at <= self.op.right_window)
    }
}

/// Returns the mask as numbers that are added, its last axis filled up to the keys.
fn additive(mask: Value, keys: usize) -> OpResult<Float> {
    let tensor = match mask {
        Value::Float(t) => t,
        Value::Bool(a) => {
            let numbers = a
                .data
                .iter()
                .map(|&x| if x { 0.0 } else { f32::NEG_INFINITY });
            Float::new(numbers.collect(), &a.shape)
        }
        Value::Int(_) => return invalid("the mask holds integers"),
    };
    let mut shape = tensor.shape();
    let Some(&width) = shape.last() else {
        return invalid("the mask has no axis");
    };
    if width >= keys || tensor.len() == 0 {
        return Ok(tensor);
    }
    let axis = shape.len() - 1;
    shape[axis] = keys - width;
    let rest = Float::full(f32::NEG_INFINITY, &shape);
    Ok(Float::concat(vec![tensor, rest], axis))
}

/// Returns what is added to the scores: batch × heads × queries × keys, or extents of one.
fn bias_of(
    mask: Option<Value>,
    visible: &Visible<'_>,
    full: &[usize],
    context: &Context,
) -> OpResult<Option<Float>> {
    let mut total = None;
    if let Some(mask) = mask {
        let mask = additive(mask, full[3])?;
        let shape = pad_rank(&mask.shape(), 4);
        if broadcast_shape(&shape, full)? != full {
            return invalid(format!("a mask {shape:?} for scores {full:?}"));
        }
        total = Some(mask.reshape(&shape));
    }
    if visible.restricts() {
        let samples = if visible.lengths.is_some() {
            full[0]
        } else {
            1
        };
        let shape = [samples, 1, full[2], full[3]];
        context.check_size(&shape)?;
        let mut numbers = Vec::new();
        for_each_index(&shape, |i| {
            let sees = visible.sees(i[0], i[2], i[3]);
            numbers.push(if sees { 0.0 } else { f32::NEG_INFINITY });
        });
        let own = Float::new(numbers, &shape);
        total = Some(match total {
            Some(mask) => mask.add(own),
            None => own,
        });
    }
    Ok(total)
}

/// Returns for each row of the bias whether nothing is left to see, in the scores' shape.
fn blind(bias: &Float, full: &[usize]) -> OpResult<Option<Vec<bool>>> {
    let shape = bias.shape();
    let numbers = numbers(bias.clone())?;
    let width = shape[3].max(1);
    let rows: Vec<bool> = numbers
        .chunks_exact(width)
        .map(|row| row.iter().all(|x| *x == f32::NEG_INFINITY))
        .collect();
    if !rows.contains(&true) {
        return Ok(None);
    }
    let rows = Array::new([&shape[..3], &[1]].concat(), rows);
    Ok(Some(rows.broadcast(full).data.to_vec()))
}

pub(super) fn attention(
    op: &Attention,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Vec<Value>> {
    let (q, k, v) = (inputs.float(0)?, inputs.float(1)?, inputs.float(2)?);
    let packed = q.shape().len() == 3;
    let q = heads(q, op.q_heads, "Q")?;
    let k = heads(k, op.kv_heads, "K")?;
    let v = heads(v, op.kv_heads, "V")?;
    let (k, past) = with_past(inputs, 4, k)?;
    let (v, past_values) = with_past(inputs, 5, v)?;
    let (qs, ks, vs) = (q.shape(), k.shape(), v.shape());
    let fits = qs[0] == ks[0] && ks[..3] == vs[..3] && qs[3] == ks[3] && past == past_values;
    if !fits || [&qs[..], &ks, &vs].concat().contains(&0) {
        return invalid(format!("Q {qs:?}, K {ks:?} and V {vs:?}"));
    }
    let full = [qs[0], qs[1], qs[2], ks[2]];
    context.check_size(&full)?;
    let mask = inputs.optional(3);
    let lengths = match inputs.ints(6)? {
        Some(a) if a.data.len() == qs[0] => Some(a.data.to_vec()),
        Some(a) => return invalid(format!("{} lengths for {} samples", a.data.len(), qs[0])),
        None => None,
    };
    let visible = Visible {
        op,
        past,
        lengths,
        queries: qs[2],
    };
    let bias = bias_of(mask, &visible, &full, context)?;
    let scale = op.scale.unwrap_or(1.0 / (qs[3] as f32).sqrt());
    let (all_k, all_v) = (shared(k.clone(), qs[1])?, shared(v.clone(), qs[1])?);
    let products = q.mul_scalar(scale).matmul(all_k.transpose());
    let capped = if op.softcap > 0.0 {
        let bounded = products.clone().mul_scalar(1.0 / op.softcap).tanh();
        bounded.mul_scalar(op.softcap)
    } else {
        products.clone()
    };
    let masked = match &bias {
        Some(bias) => capped.clone().add(bias.clone()),
        None => capped.clone(),
    };
    let hidden = match &bias {
        Some(bias) => blind(bias, &full)?,
        None => None,
    };
    let probabilities = match hidden {
        // A row that sees nothing gives nothing; its softmax would not be a number.
        Some(rows) => {
            let zeros = || Float::full(0.0, &full);
            let safe = masked.clone().replace(rows.clone(), zeros());
            safe.softmax(3).replace(rows, zeros())
        }
        None => masked.clone().softmax(3),
    };
    let mut y = probabilities.clone().matmul(all_v);
    if packed {
        y = y
            .permute(&[0, 2, 1, 3])
            .reshape(&[qs[0], qs[2], qs[1] * vs[3]]);
    }
    let scores = match op.score_output {
        ScoreOutput::Products => products,
        ScoreOutput::Capped => capped,
        ScoreOutput::Masked => masked,
        ScoreOutput::Probabilities => probabilities,
    };
    Ok([y, k, v, scores].map(Value::Float).into())
}

/// Returns rows of a table of cosines or sines, batch × positions × 1 × pairs.
fn table(
    inputs: &mut Inputs,
    port: usize,
    positions: Option<&Array<i64>>,
    shape: [usize; 3],
) -> OpResult<Float> {
    let table = inputs.float(port)?;
    let found = match positions {
        Some(at) => {
            let own = table.shape();
            let outside = |rows: usize| at.data.iter().any(|i| !(0..rows as i64).contains(i));
            match own[..] {
                [rows, pairs] if pairs == shape[2] && !outside(rows) => {}
                _ => return invalid(format!("a table {own:?} at positions {:?}", at.data)),
            }
            let rows: Vec<usize> = at.data.iter().map(|&i| i as usize).collect();
            crate::select::select(table, 0, &rows)
        }
        None => table,
    };
    if found.len() != shape.iter().product::<usize>() {
        return invalid(format!("input {port} is {:?} for {shape:?}", found.shape()));
    }
    Ok(found.reshape(&[shape[0], shape[1], 1, shape[2]]))
}

pub(super) fn rotary(op: &RotaryEmbedding, inputs: &mut Inputs) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let (x, packed) = match shape[..] {
        [b, s, width] if op.n_heads > 0 && width % op.n_heads == 0 => {
            (x.reshape(&[b, s, op.n_heads, width / op.n_heads]), true)
        }
        [_, _, _, _] => (x.permute(&[0, 2, 1, 3]), false),
        _ => return invalid(format!("{shape:?} with {} heads", op.n_heads)),
    };
    let own = x.shape();
    let (b, s, h, size) = (own[0], own[1], own[2], own[3]);
    let dim = if op.rotary_dim == 0 {
        size
    } else {
        op.rotary_dim
    };
    if dim > size || !dim.is_multiple_of(2) || dim == 0 || own.contains(&0) {
        return invalid(format!("a rotation of {dim} of {size} elements"));
    }
    let half = dim / 2;
    let positions = inputs.ints(3)?;
    if let Some(p) = &positions
        && p.data.len() != b * s
    {
        return unsupported(format!("positions {:?} for {b} samples of {s}", p.shape));
    }
    let cosines = table(inputs, 1, positions.as_ref(), [b, s, half])?;
    let sines = table(inputs, 2, positions.as_ref(), [b, s, half])?;
    let turned = x.clone().range(3, 0, dim);
    // Pairs on an axis of their own, the last or the one before.
    let (pairs, axis) = if op.interleaved {
        (turned.reshape(&[b, s, h, half, 2]), 4)
    } else {
        (turned.reshape(&[b, s, h, 2, half]), 3)
    };
    let part = |i: usize| {
        pairs
            .clone()
            .range(axis, i, i + 1)
            .reshape(&[b, s, h, half])
    };
    let (first, second) = (part(0), part(1));
    let real = first
        .clone()
        .mul(cosines.clone())
        .sub(second.clone().mul(sines.clone()));
    let imaginary = first.mul(sines).add(second.mul(cosines));
    let mut one = vec![b, s, h, half];
    one.insert(axis, 1);
    let joined = vec![real.reshape(&one), imaginary.reshape(&one)];
    let mut result = Float::concat(joined, axis).reshape(&[b, s, h, dim]);
    if dim < size {
        result = Float::concat(vec![result, x.range(3, dim, size)], 3);
    }
    Ok(if packed {
        result.reshape(&shape)
    } else {
        result.permute(&[0, 2, 1, 3])
    })
}
