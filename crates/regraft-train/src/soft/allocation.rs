//! How many connections each layer keeps.

/// How the weights that stay are shared between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// The largest weights of the whole network stay.
    #[default]
    Global,
    /// As `Global`, each weight's square relative to the sum of the squares from it upwards in its
    /// layer (Lee et al., Layer-adaptive sparsity for magnitude-based pruning, ICLR 2021).
    Lamp,
    /// The same share of every layer.
    Uniform,
    /// Small layers keep a larger share (Erdős-Rényi kernel; Evci et al., ICML 2020, section 3).
    Erk,
}

/// One layer: its weights, and extents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSize<'a> {
    pub(crate) weights: &'a [f32],
    pub(crate) shape: &'a [usize],
}

impl Allocation {
    /// Returns how many weights each layer keeps of `total`.
    pub(crate) fn share(self, layers: &[LayerSize<'_>], total: usize) -> Vec<usize> {
        match self {
            Self::Global => by_score(layers, total, |w| w.iter().map(|x| x.abs()).collect()),
            Self::Lamp => by_score(layers, total, lamp),
            Self::Uniform => by_density(layers, total, |_| 1.0),
            Self::Erk => by_density(layers, total, |layer| {
                let sum: usize = layer.shape.iter().sum();
                sum as f64 / layer.weights.len().max(1) as f64
            }),
        }
    }
}

/// The scores of one layer's weights: the square over the sum of the squares that are not smaller.
fn lamp(weights: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| {
        weights[b]
            .abs()
            .total_cmp(&weights[a].abs())
            .then(a.cmp(&b))
    });
    let mut scores = vec![0.0; weights.len()];
    let mut sum = 0.0f64;
    for i in order {
        let square = f64::from(weights[i]) * f64::from(weights[i]);
        sum += square;
        scores[i] = if sum > 0.0 {
            (square / sum) as f32
        } else {
            0.0
        };
    }
    scores
}

/// Counts of each layer among the `total` highest scores; ties go to the earlier weight.
fn by_score(
    layers: &[LayerSize<'_>],
    total: usize,
    score: impl Fn(&[f32]) -> Vec<f32>,
) -> Vec<usize> {
    let scores: Vec<Vec<f32>> = layers.iter().map(|l| score(l.weights)).collect();
    let mut all: Vec<f32> = scores.iter().flatten().copied().collect();
    if total >= all.len() {
        return scores.iter().map(Vec::len).collect();
    }
    if total == 0 {
        return vec![0; layers.len()];
    }
    let (_, &mut limit, _) = all.select_nth_unstable_by(total - 1, |a, b| b.total_cmp(a));
    let above = |s: &Vec<f32>| s.iter().filter(|x| **x > limit).count();
    let mut counts: Vec<usize> = scores.iter().map(above).collect();
    let mut left = total - counts.iter().sum::<usize>();
    for (count, s) in counts.iter_mut().zip(&scores) {
        let equal = s
            .iter()
            .filter(|x| x.total_cmp(&limit).is_eq())
            .count()
            .min(left);
        *count += equal;
        left -= equal;
    }
    counts
}

/// Counts in proportion to a density of each layer, none above all of its weights.
fn by_density(
    layers: &[LayerSize<'_>],
    total: usize,
    density: impl Fn(&LayerSize<'_>) -> f64,
) -> Vec<usize> {
    let sizes: Vec<usize> = layers.iter().map(|l| l.weights.len()).collect();
    let densities: Vec<f64> = layers.iter().map(density).collect();
    let mut full = vec![false; layers.len()];
    // Layers that would keep more than they have keep all; the others share what is left.
    let scale = loop {
        let taken: usize = (0..sizes.len())
            .filter(|&i| full[i])
            .map(|i| sizes[i])
            .sum();
        let open = (0..sizes.len()).filter(|&i| !full[i]);
        let mass: f64 = open.map(|i| densities[i] * sizes[i] as f64).sum();
        let scale = total.saturating_sub(taken) as f64 / mass.max(f64::MIN_POSITIVE);
        let over: Vec<usize> = (0..sizes.len())
            .filter(|&i| !full[i] && scale * densities[i] > 1.0)
            .collect();
        if over.is_empty() {
            break scale;
        }
        for i in over {
            full[i] = true;
        }
    };
    let count = |i: usize| {
        if full[i] {
            sizes[i]
        } else {
            ((scale * densities[i] * sizes[i] as f64).round() as usize).min(sizes[i])
        }
    };
    (0..sizes.len()).map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let a: Vec<f32> = (1..=20).map(|i| i as f32).collect();
        let b: Vec<f32> = (1..=80).map(|i| i as f32 * 0.1).collect();
        let layers = [
            LayerSize {
                weights: &a,
                shape: &[4, 5],
            },
            LayerSize {
                weights: &b,
                shape: &[8, 10],
            },
        ];
        let share = |how: Allocation, n| how.share(&layers, n);
        // Twelve of the first layer are above 8, the largest of the second.
        assert_eq!(share(Allocation::Global, 12), [12, 0]);
        assert_eq!(share(Allocation::Global, 100), [20, 80]);
        assert_eq!(share(Allocation::Uniform, 50), [10, 40]);
        let erk = share(Allocation::Erk, 50);
        assert_eq!(erk.iter().sum::<usize>(), 50);
        assert!(erk[0] * 4 > erk[1], "{erk:?}");
        let lamp = share(Allocation::Lamp, 50);
        assert_eq!(lamp.iter().sum::<usize>(), 50);
        assert!(lamp[0] < 20 && lamp[1] < 50, "{lamp:?}");
        // More than the small layer has: it keeps all.
        assert_eq!(share(Allocation::Erk, 90), [20, 70]);
    }
}
