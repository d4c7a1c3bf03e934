//! How fresh weights are drawn.
//!
//! * Convolutions and linear layers: uniform with variance `2 / fan_in` (He et al., ICCV 2015,
//!   equation 10), which keeps the size of what passes through layers with `ReLU`.
//! * The last layer, attention, patches, shortcuts and the input matrices of recurrent cells: uniform with
//!   variance `2 / (fan_in + fan_out)` (Glorot and Bengio, AISTATS 2010, equation 16).
//! * Matrices from state to state: orthogonal, gate by gate (Saxe et al., ICLR 2014; Le et al. 2015 on
//!   why a state should keep its length).
//!
//! Uniform rather than normal: only products, sums and roots are needed, so that every machine draws
//! the same bits.

use regraft_data::SplitMix64;

/// How large weights are at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// For what a `ReLU` or its like follows.
    He,
    /// For the rest.
    Glorot,
}

impl Scale {
    /// Returns half the width of the uniform distribution.
    fn bound(self, fan_in: usize, fan_out: usize) -> f64 {
        let fans = match self {
            Self::He => fan_in as f64,
            Self::Glorot => fan_in as f64 + fan_out as f64,
        };
        (6.0 / fans).sqrt()
    }
}

/// Returns `n` weights of a layer with these fans.
pub(super) fn weights(
    random: &mut SplitMix64,
    n: usize,
    scale: Scale,
    (fan_in, fan_out): (usize, usize),
) -> Vec<f32> {
    let bound = scale.bound(fan_in, fan_out);
    spread(random, n, bound)
}

/// Returns `n` numbers from `-bound` to `bound`.
pub(super) fn spread(random: &mut SplitMix64, n: usize, bound: f64) -> Vec<f32> {
    (0..n)
        .map(|_| (bound * random.symmetric()) as f32)
        .collect()
}

/// Returns an orthogonal `n × n` matrix: the rows of a matrix of nearly normal numbers (sums of twelve
/// uniform ones), made orthogonal one after the other (modified Gram-Schmidt, in f64).
pub(super) fn orthogonal(random: &mut SplitMix64, n: usize) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
    while rows.len() < n {
        let mut row: Vec<f64> = (0..n)
            .map(|_| (0..12).map(|_| random.symmetric()).sum())
            .collect();
        let before = length(&row);
        // Twice: the first pass leaves rounding errors along earlier rows.
        for _ in 0..2 {
            for earlier in &rows {
                let along: f64 = row.iter().zip(earlier).map(|(a, b)| a * b).sum();
                row.iter_mut()
                    .zip(earlier)
                    .for_each(|(a, b)| *a -= along * b);
            }
        }
        let after = length(&row);
        // What lies along the others by chance is drawn again.
        if after > 1e-6 * before {
            rows.push(row.iter().map(|x| x / after).collect());
        }
    }
    rows.iter().flatten().map(|x| *x as f32).collect()
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}
