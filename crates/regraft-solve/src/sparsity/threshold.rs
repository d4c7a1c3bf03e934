//! One threshold over the connections of all layers.

use std::borrow::Cow;

use crate::error::SolveError;

/// What it costs to remove a layer's connections one after another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses<'a> {
    /// `marginal[k]` is the rise of the layer's error when its `k + 1`-th connection goes.
    /// A connection goes only after those before it, so a value below an earlier one counts
    /// as that one. Connections that must stay are left out of the list.
    pub marginal: &'a [f64],
    /// What a rise of this layer's error means to the network; not negative.
    pub sensitivity: f64,
}

/// Where one threshold cuts every layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Connections removed in each layer; they add up to what was asked for.
    pub removed: Vec<usize>,
    /// The largest weighted loss that was accepted; 0 if nothing goes.
    pub threshold: f64,
    /// Marginal losses that were below an earlier one of their layer.
    pub raised: usize,
}

/// Returns how many connections each layer gives so that `removed` go in all and the sum
/// of the weighted losses is lowest.
///
/// All connections below the threshold go; of those exactly at it, the first layers' do,
/// until the count is met. Nothing is sorted: the threshold is found by bisection over the
/// ordered bit patterns of f64, with a binary search in each layer.
/// # Errors
/// [`SolveError::NotFinite`] for a bad loss, [`SolveError::Option`] for a bad sensitivity,
/// [`SolveError::Index`] if more is to go than is listed.
pub fn global_threshold(layers: &[Losses<'_>], removed: usize) -> Result<Threshold, SolveError> {
    let mut raised = 0;
    let mut curves = Vec::with_capacity(layers.len());
    for (row, layer) in layers.iter().enumerate() {
        if let Some(col) = layer.marginal.iter().position(|m| !m.is_finite()) {
            let what = "marginal losses";
            return Err(SolveError::NotFinite { what, row, col });
        }
        if !(layer.sensitivity.is_finite() && layer.sensitivity >= 0.0) {
            return Err(SolveError::Option {
                option: "sensitivity",
                value: layer.sensitivity,
                expected: "a finite number that is not negative is needed",
            });
        }
        curves.push(Curve {
            marginal: monotone(layer.marginal, &mut raised),
            sensitivity: layer.sensitivity,
        });
    }
    let len: usize = layers.iter().map(|l| l.marginal.len()).sum();
    if removed > len {
        return Err(SolveError::Index {
            what: "number of removed connections",
            index: removed,
            len: len + 1,
        });
    }
    if removed == 0 {
        return Ok(Threshold {
            removed: vec![0; layers.len()],
            threshold: 0.0,
            raised,
        });
    }
    // The least value at or below which enough connections lie.
    let (mut low, mut high) = (key(f64::MIN), key(f64::INFINITY));
    while low < high {
        let middle = low + (high - low) / 2;
        let cut = value(middle);
        let below: usize = curves.iter().map(|c| c.count(|x| x <= cut)).sum();
        if below >= removed {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let threshold = value(high);
    let mut counts: Vec<usize> = curves.iter().map(|c| c.count(|x| x < threshold)).collect();
    let mut left = removed - counts.iter().sum::<usize>();
    for (count, curve) in counts.iter_mut().zip(&curves) {
        let ties = curve.count(|x| x <= threshold) - *count;
        let taken = ties.min(left);
        *count += taken;
        left -= taken;
    }
    Ok(Threshold {
        removed: counts,
        threshold,
        raised,
    })
}

/// Returns the connections kept in each layer by layer-adaptive magnitude pruning.
///
/// The connections with the lowest [`lamp_scores`] of all layers go, ties in the order of
/// the layers. In a layer that is the order of magnitude, so every layer with a weight
/// other than zero keeps at least one connection while as many as the layers are kept.
/// # Errors
/// [`SolveError::NotFinite`] for a bad weight, [`SolveError::Index`] if `kept` exceeds the
/// connections there are.
pub fn lamp(weights: &[&[f32]], kept: usize) -> Result<Vec<usize>, SolveError> {
    let mut scores = Vec::with_capacity(weights.len());
    for (row, layer) in weights.iter().enumerate() {
        if let Some(col) = layer.iter().position(|w| !w.is_finite()) {
            let what = "weights";
            return Err(SolveError::NotFinite { what, row, col });
        }
        scores.push(lamp_scores(layer));
    }
    let len: usize = weights.iter().map(|w| w.len()).sum();
    let Some(removed) = len.checked_sub(kept) else {
        return Err(SolveError::Index {
            what: "number of kept connections",
            index: kept,
            len: len + 1,
        });
    };
    let losses: Vec<Losses<'_>> = scores
        .iter()
        .map(|marginal| Losses {
            marginal,
            sensitivity: 1.0,
        })
        .collect();
    let found = global_threshold(&losses, removed)?;
    let kept_of = |(layer, gone): (&&[f32], &usize)| layer.len() - gone;
    Ok(weights.iter().zip(&found.removed).map(kept_of).collect())
}

/// Returns `w² / Σ w'²` over the weights that are no smaller, for the weights in ascending
/// order of magnitude; 1 for the largest, 0 where all are zero.
/// # Reference
/// Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021,
/// equation 4.
pub fn lamp_scores(weights: &[f32]) -> Vec<f64> {
    let mut scores: Vec<f64> = weights.iter().map(|w| f64::from(*w).powi(2)).collect();
    scores.sort_by(f64::total_cmp);
    let mut rest = 0.0;
    for score in scores.iter_mut().rev() {
        rest += *score;
        *score = if rest > 0.0 { *score / rest } else { 0.0 };
    }
    scores
}

/// A layer's losses, never falling, and their weight.
struct Curve<'a> {
    marginal: Cow<'a, [f64]>,
    sensitivity: f64,
}

impl Curve<'_> {
    /// Returns how many of the first losses satisfy a condition that, once it fails, fails
    /// for all larger ones.
    fn count(&self, holds: impl Fn(f64) -> bool) -> usize {
        self.marginal
            .partition_point(|m| holds(m * self.sensitivity))
    }
}

fn monotone<'a>(losses: &'a [f64], raised: &mut usize) -> Cow<'a, [f64]> {
    if losses.is_sorted() {
        return Cow::Borrowed(losses);
    }
    let mut highest = f64::NEG_INFINITY;
    let raise = |loss: &f64| {
        *raised += usize::from(*loss < highest);
        highest = highest.max(*loss);
        highest
    };
    Cow::Owned(losses.iter().map(raise).collect())
}

/// Returns a number that grows with the value, for any value but NaN.
fn key(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// Returns the value of a key.
fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 0 { !key } else { key ^ 1 << 63 })
}
