//! Shapes of ONNX Runtime's fused ops.

use super::attention::attention;
use super::elementwise::{broadcast_all, show};
use super::{Context, Types, typed};
use crate::op::{Attention, FusedHeads, FusedOp, GroupedHeads, ScoreOutput};
use crate::{DType, Dim, GraphError};

impl FusedHeads {
    /// Returns the standard op that does the same once biases and masks are added.
    pub fn standard(&self) -> Attention {
        Attention {
            is_causal: self.is_causal,
            ..plain([self.n_heads; 2], self.scale)
        }
    }
}

impl GroupedHeads {
    /// Returns the standard op that does the same once queries and keys are turned.
    pub fn standard(&self) -> Attention {
        let before = |n: usize| i64::try_from(n).map_or(-1, |n| n - 1);
        Attention {
            is_causal: true,
            softcap: self.softcap,
            left_window: self.window.map_or(-1, before),
            ..plain([self.q_heads, self.kv_heads], self.scale)
        }
    }
}

/// Attention in which every query sees every key.
fn plain([q_heads, kv_heads]: [usize; 2], scale: Option<f32>) -> Attention {
    Attention {
        is_causal: false,
        q_heads,
        kv_heads,
        scale,
        softcap: 0.0,
        score_output: ScoreOutput::Products,
        softmax_precision: None,
        left_window: -1,
        right_window: -1,
    }
}

pub(super) fn fused(cx: &Context<'_>, op: &FusedOp) -> Result<Types, GraphError> {
    let dtype = cx.dtype(0);
    let same = || typed(dtype, cx.shape(0).map(<[Dim]>::to_vec));
    Ok(match op {
        // Past keys and values stand two ports further back than in the standard op.
        FusedOp::MultiHeadAttention(heads) => attention(cx, &heads.standard(), [6, 7])?,
        FusedOp::PackedAttention { heads, .. } => packed(cx, heads)?,
        FusedOp::GroupedAttention(heads) => grouped(cx, heads)?,
        FusedOp::SkipNormalization { .. } => {
            let statistics = cx.shape(0).map(|s| {
                let mut shape = s.to_vec();
                if let Some(last) = shape.last_mut() {
                    *last = Dim::Fixed(1);
                }
                shape
            });
            let statistics = || typed(Some(DType::F32), statistics.clone());
            vec![same(), statistics(), statistics(), same()]
        }
        FusedOp::EmbedNormalization { .. } => {
            let width = cx.shape(2).and_then(|s| s.get(1)).cloned();
            let words = cx.shape(0).map(<[Dim]>::to_vec);
            let shape = words.clone().zip(width).map(|(mut shape, width)| {
                shape.push(width);
                shape
            });
            let batch = words.map(|s| s.into_iter().take(1).collect());
            let made = || typed(cx.dtype(2), shape.clone());
            vec![made(), typed(Some(DType::I32), batch), made()]
        }
        FusedOp::BiasGelu { .. } => vec![broadcast_all(cx, dtype)?],
    })
}

/// X is `batch × positions × n_in`, the weight `n_in × 3·heads·size`.
fn packed(cx: &Context<'_>, heads: &FusedHeads) -> Result<Types, GraphError> {
    let dtype = cx.dtype(0);
    let (Some(x), Some(weight)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(vec![typed(dtype, None); 2]);
    };
    let ([batch, positions, _], [_, columns]) = (x, weight) else {
        let (x, weight) = (show(x), show(weight));
        return Err(cx.error(format!("an input {x} with a weight {weight}")));
    };
    let (width, size) = match columns.fixed() {
        Some(n) if heads.n_heads == 0 || n % (3 * heads.n_heads) != 0 => {
            let n_heads = heads.n_heads;
            return Err(cx.error(format!("a weight of {n} columns for {n_heads} heads")));
        }
        Some(n) => (Dim::Fixed(n / 3), Dim::Fixed(n / 3 / heads.n_heads)),
        None => (Dim::Unknown, Dim::Unknown),
    };
    let before = cx.shape(4).and_then(|s| s.get(3)).and_then(Dim::fixed);
    let total = match (cx.node.input(4), before.zip(positions.fixed())) {
        (None, _) => positions.clone(),
        (Some(_), sum) => sum
            .and_then(|(a, b)| a.checked_add(b))
            .map_or(Dim::Unknown, Dim::Fixed),
    };
    let y = vec![batch.clone(), positions.clone(), width];
    let n_heads = Dim::Fixed(heads.n_heads);
    let cache = vec![Dim::Fixed(2), batch.clone(), n_heads, total, size];
    Ok(vec![typed(dtype, Some(y)), typed(dtype, Some(cache))])
}

/// Q is `batch × positions × heads·size`, with K and V behind each head's own where they are not given.
fn grouped(cx: &Context<'_>, heads: &GroupedHeads) -> Result<Types, GraphError> {
    let dtype = cx.dtype(0);
    let Some(x) = cx.shape(0) else {
        return Ok(vec![typed(dtype, None); 3]);
    };
    let [batch, positions, width] = x else {
        return Err(cx.error(format!("queries {}", show(x))));
    };
    let shared = if cx.node.input(1).is_none() {
        heads.kv_heads.saturating_mul(2)
    } else {
        0
    };
    let n = heads.q_heads.saturating_add(shared);
    let size = match width.fixed() {
        Some(w) if n == 0 || w % n != 0 => {
            return Err(cx.error(format!("a width of {w} for {n} heads")));
        }
        Some(w) => Some(w / n),
        None => None,
    };
    let dim = |n: Option<usize>| n.map_or(Dim::Unknown, Dim::Fixed);
    let y = vec![
        batch.clone(),
        positions.clone(),
        dim(size.and_then(|s| s.checked_mul(heads.q_heads))),
    ];
    // Caches may be longer than what they hold.
    let total = match cx.node.input(3) {
        None => positions.clone(),
        Some(_) => Dim::Unknown,
    };
    let cache = vec![batch.clone(), Dim::Fixed(heads.kv_heads), total, dim(size)];
    let [y, keys, values] = [y, cache.clone(), cache].map(|s| typed(dtype, Some(s)));
    Ok(vec![y, keys, values])
}
