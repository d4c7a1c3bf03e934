//! The masks of all trained initializers.

use regraft_graph::ValueId;

use crate::parameters::Trained;

/// Which elements of each trained initializer are there, in the order of the initializers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Masks {
    pub(crate) all: Vec<Vec<bool>>,
    /// True for weights: those are counted.
    pub(crate) is_weight: Vec<bool>,
}

impl Masks {
    /// Returns masks that hold everything.
    pub(crate) fn full(trained: &[Trained]) -> Self {
        Self {
            all: trained
                .iter()
                .map(|t| vec![true; t.shape.iter().product()])
                .collect(),
            is_weight: trained.iter().map(|t| t.is_weight).collect(),
        }
    }

    /// Returns masks that hold everything but the zeros of some weights.
    pub(crate) fn without_zeros(
        trained: &[Trained],
        weights: &[Vec<f32>],
        held: &[ValueId],
    ) -> Self {
        let mut masks = Self::full(trained);
        let parts = masks.all.iter_mut().zip(trained).zip(weights);
        for ((mask, _), weights) in parts.filter(|((_, t), _)| t.is_weight && held.contains(&t.id))
        {
            for (kept, w) in mask.iter_mut().zip(weights) {
                *kept = *w != 0.0;
            }
        }
        masks
    }

    fn weights(&self) -> impl Iterator<Item = &Vec<bool>> {
        let parts = self.all.iter().zip(&self.is_weight);
        parts.filter(|(_, w)| **w).map(|(m, _)| m)
    }

    /// Returns the number of weights that are there.
    pub(crate) fn kept(&self) -> usize {
        self.weights().flatten().filter(|k| **k).count()
    }

    /// Returns the number of weights.
    pub(crate) fn total(&self) -> usize {
        self.weights().map(Vec::len).sum()
    }

    /// Sets everything outside to zero, in lists of the initializers' lengths.
    pub(crate) fn clear_outside(&self, lists: &mut [Vec<f32>]) {
        for (list, mask) in lists.iter_mut().zip(&self.all) {
            for (x, kept) in list.iter_mut().zip(mask) {
                if !kept {
                    *x = 0.0;
                }
            }
        }
    }
}

/// Replaces a share of a layer's connections, the smallest, by those with the highest scores.
pub(super) fn replace(
    mask: &mut [bool],
    weights: &[f32],
    share: f64,
    score: impl Fn(usize) -> f32,
) {
    let mut inside: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let outside: Vec<usize> = (0..mask.len()).filter(|&i| !mask[i]).collect();
    let n = ((share * inside.len() as f64).round() as usize).min(outside.len());
    if n == 0 {
        return;
    }
    let size = |i: usize| weights[i].abs();
    inside.sort_by(|&a, &b| size(a).total_cmp(&size(b)).then(a.cmp(&b)));
    let mut by_score = outside;
    by_score.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    for &i in &inside[..n] {
        mask[i] = false;
    }
    for &i in &by_score[..n] {
        mask[i] = true;
    }
}

/// Returns the mask of the `count` largest magnitudes; of equal ones the earlier.
pub(super) fn largest(weights: &[f32], count: usize) -> Vec<bool> {
    if count >= weights.len() {
        return vec![true; weights.len()];
    }
    if count == 0 {
        return vec![false; weights.len()];
    }
    let mut sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
    let (_, &mut limit, _) = sizes.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    let mut mask: Vec<bool> = weights.iter().map(|w| w.abs() > limit).collect();
    let mut left = count - mask.iter().filter(|k| **k).count();
    for (k, w) in mask.iter_mut().zip(weights) {
        if left > 0 && w.abs().total_cmp(&limit).is_eq() {
            *k = true;
            left -= 1;
        }
    }
    mask
}
