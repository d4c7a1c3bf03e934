//! The masks of all layers, and how they change.

use regraft_data::SplitMix64;

use super::allocation::LayerSize;
use super::{Method, SoftPruning};

/// One layer as masks see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerView<'a> {
    /// Its weights, those outside of the mask included.
    pub(crate) weights: &'a [f32],
    /// The sum of the gradients since the last change with respect to every weight, in the mask or
    /// not.
    pub(crate) gradient: &'a [f32],
    pub(crate) shape: &'a [usize],
}

/// What weights that no sample moved count as, relative to the others.
const IDLE: f32 = 1e-12;
/// What a connection that is there counts as at least, so that none outside is taken for it; its
/// square is still a number.
const INSIDE: f32 = 1e-18;

/// Which connections of each layer are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Masks {
    pub(crate) layers: Vec<Vec<bool>>,
}

impl Masks {
    /// Returns masks that hold everything.
    pub(crate) fn full(sizes: impl Iterator<Item = usize>) -> Self {
        Self {
            layers: sizes.map(|n| vec![true; n]).collect(),
        }
    }

    /// Returns the number of connections that are there.
    pub(crate) fn kept(&self) -> usize {
        let count = |m: &Vec<bool>| m.iter().filter(|k| **k).count();
        self.layers.iter().map(count).sum()
    }

    pub(crate) fn total(&self) -> usize {
        self.layers.iter().map(Vec::len).sum()
    }

    /// Changes the masks as the method says at `step` of `total`.
    pub(crate) fn update(
        &mut self,
        soft: &SoftPruning,
        layers: &[LayerView<'_>],
        (step, total): (usize, usize),
        seed: u64,
    ) {
        let keep = ((1.0 - soft.sparsity_at(step, total)) * self.total() as f64).round() as usize;
        match soft.method {
            Method::GradualMagnitude => self.shrink(soft, layers, keep),
            Method::DynamicSurgery { margin } => self.splice(soft, layers, keep, margin),
            Method::RigL { drop } => {
                self.shrink(soft, layers, keep);
                let share = step as f64 / (soft.end * total as f64).max(1.0);
                if share < 1.0 {
                    let falling = f64::midpoint(1.0, (std::f64::consts::PI * share).cos());
                    let score = |l: &LayerView<'_>, i: usize| l.gradient[i].abs();
                    self.replace(layers, f64::from(drop) * falling, score);
                }
            }
            Method::Set { drop } => {
                self.shrink(soft, layers, keep);
                if (step as f64) < soft.end * total as f64 {
                    let mut random = SplitMix64::new(seed ^ step as u64);
                    let draws: Vec<Vec<f32>> = layers
                        .iter()
                        .map(|l| l.weights.iter().map(|_| draw(&mut random)).collect())
                        .collect();
                    let drawn = layers.iter().zip(&draws).map(|(layer, draws)| LayerView {
                        gradient: draws,
                        ..*layer
                    });
                    let drawn: Vec<LayerView<'_>> = drawn.collect();
                    self.replace(&drawn, f64::from(drop), |l, i| l.gradient[i]);
                }
            }
        }
    }

    /// Lets the smallest go until `keep` are left; what went stays away. First go those that no sample
    /// moved: they lead from a dead input, or to a unit that nothing reads any more.
    fn shrink(&mut self, soft: &SoftPruning, layers: &[LayerView<'_>], keep: usize) {
        let masked = layers.iter().zip(&self.layers).map(|(layer, mask)| {
            let moved = layer.gradient.iter().any(|g| *g != 0.0);
            let parts = layer.weights.iter().zip(layer.gradient).zip(mask);
            let size = |((w, g), kept): ((&f32, &f32), &bool)| match (*kept, moved && *g == 0.0) {
                (true, false) => w.abs().max(INSIDE),
                (true, true) => (w.abs() * IDLE).max(INSIDE),
                (false, _) => 0.0,
            };
            parts.map(size).collect::<Vec<f32>>()
        });
        let masked: Vec<Vec<f32>> = masked.collect();
        self.choose(soft, layers, &masked, keep);
    }

    /// Keeps the largest, those inside counted as larger by the margin.
    fn splice(&mut self, soft: &SoftPruning, layers: &[LayerView<'_>], keep: usize, margin: f32) {
        let lifted: Vec<Vec<f32>> = layers
            .iter()
            .zip(&self.layers)
            .map(|(l, m)| {
                let lift = |(w, k): (&f32, &bool)| if *k { w * (1.0 + margin) } else { *w };
                l.weights.iter().zip(m).map(lift).collect()
            })
            .collect();
        self.choose(soft, layers, &lifted, keep);
    }

    fn choose(
        &mut self,
        soft: &SoftPruning,
        layers: &[LayerView<'_>],
        weights: &[Vec<f32>],
        keep: usize,
    ) {
        let sizes: Vec<LayerSize<'_>> = layers
            .iter()
            .zip(weights)
            .map(|(l, weights)| LayerSize {
                weights,
                shape: l.shape,
            })
            .collect();
        let counts = soft.allocation.share(&sizes, keep);
        for ((mask, weights), count) in self.layers.iter_mut().zip(weights).zip(counts) {
            *mask = largest(weights, count);
        }
    }

    fn replace(
        &mut self,
        layers: &[LayerView<'_>],
        share: f64,
        score: impl Fn(&LayerView<'_>, usize) -> f32,
    ) {
        for (mask, layer) in self.layers.iter_mut().zip(layers) {
            replace(mask, layer, share, &score);
        }
    }
}

/// Replaces a share of a layer's connections, the smallest, by those with the highest scores.
fn replace(
    mask: &mut [bool],
    layer: &LayerView<'_>,
    share: f64,
    score: impl Fn(&LayerView<'_>, usize) -> f32,
) {
    let mut inside: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let outside: Vec<usize> = (0..mask.len()).filter(|&i| !mask[i]).collect();
    let n = ((share * inside.len() as f64).round() as usize).min(outside.len());
    if n == 0 {
        return;
    }
    let size = |i: usize| layer.weights[i].abs();
    inside.sort_by(|&a, &b| size(a).total_cmp(&size(b)).then(a.cmp(&b)));
    let mut by_score = outside;
    by_score.sort_by(|&a, &b| score(layer, b).total_cmp(&score(layer, a)).then(a.cmp(&b)));
    for &i in &inside[..n] {
        mask[i] = false;
    }
    for &i in &by_score[..n] {
        mask[i] = true;
    }
}

/// Returns the mask of the `count` largest magnitudes; of equal ones the earlier.
fn largest(weights: &[f32], count: usize) -> Vec<bool> {
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

/// A number from 0 to 1.
fn draw(random: &mut SplitMix64) -> f32 {
    (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Allocation;

    fn soft(method: Method) -> SoftPruning {
        SoftPruning {
            method,
            sparsity: 0.5,
            begin: 0.0,
            end: 0.5,
            every: 1,
            allocation: Allocation::Global,
        }
    }

    fn masks_of(method: Method, start: &[bool], weights: &[f32], gradient: &[f32]) -> Vec<bool> {
        let mut masks = Masks {
            layers: vec![start.to_vec()],
        };
        let layer = LayerView {
            weights,
            gradient,
            shape: &[2, 3],
        };
        masks.update(&soft(method), &[layer], (40, 100), 1);
        masks.layers.remove(0)
    }

    #[test]
    fn methods_do_what_their_papers_say() {
        const T: bool = true;
        const F: bool = false;
        let weights = [5.0, -4.0, 3.0, 2.9, 0.0, 9.0];
        let gradient = [0.1, 0.1, -0.1, 0.5, 2.0, 1.0];
        // At 40 of 50 steps 1 - 0.2^3 of a half is gone: three are left.
        let gradual = masks_of(
            Method::GradualMagnitude,
            &[T, T, T, T, T, F],
            &weights,
            &gradient,
        );
        assert_eq!(gradual, [T, T, T, F, F, F]);
        // The largest was never moved: nothing depends on it.
        let idle = [0.0, 0.1, -0.1, 0.5, 2.0, 1.0];
        let gradual = masks_of(
            Method::GradualMagnitude,
            &[T, T, T, T, T, F],
            &weights,
            &idle,
        );
        assert_eq!(gradual, [F, T, T, T, F, F]);
        let surgery = |margin| {
            let method = Method::DynamicSurgery { margin };
            masks_of(method, &[T, T, F, T, F, F], &weights, &gradient)
        };
        assert_eq!(surgery(0.0), [T, T, F, F, F, T]);
        let rigl = masks_of(
            Method::RigL { drop: 0.99 },
            &[T, T, T, F, F, F],
            &weights,
            &gradient,
        );
        // A cosine at 80 % leaves a tenth of the share, of three none.
        assert_eq!(rigl, [T, T, T, F, F, F]);
        let set = masks_of(
            Method::Set { drop: 0.4 },
            &[T, T, T, F, F, F],
            &weights,
            &gradient,
        );
        assert_eq!(set.iter().filter(|k| **k).count(), 3);
        assert_eq!(set[..3], [T, T, F]);
    }
}
