//! The nearest weights with an allowed mask: the `keep` largest, exactly.

use super::super::Pattern;
use super::super::select::{spread, top};
use super::band::Band;
use crate::factor::blocked::over_bands;

/// Bins of a histogram over 16 bits of a value.
const BINS: usize = 1 << 16;

/// In groups up to this size a rank is counted directly.
const SMALL_GROUP: usize = 16;

/// Marks in each band what of `shifted` stays.
pub(super) fn project(bands: &mut [Band], pattern: Pattern, keep: usize, d: usize, threads: usize) {
    match pattern {
        Pattern::Unstructured => largest(bands, keep, threads),
        Pattern::Grouped { keep, group } => {
            over_bands(bands, 1, threads, &|_, part: &mut [Band]| {
                for band in part {
                    let runs = band.kept.chunks_exact_mut(group);
                    for (kept, run) in runs.zip(band.shifted.chunks_exact(group)) {
                        in_group(kept, run, keep);
                    }
                }
            });
        }
        Pattern::RowBlocks { rows } => {
            let mut sums = Vec::new();
            for band in &*bands {
                for block in band.shifted.chunks_exact((rows * d).max(1)) {
                    let square = |i: usize, j: usize| f64::from(block[i * d + j]).powi(2);
                    sums.extend((0..d).map(|j| (0..rows).map(|i| square(i, j)).sum::<f64>()));
                }
            }
            let kept = spread(&top(&sums, keep / rows), d, rows);
            let mut from = 0;
            for band in bands {
                let to = from + band.kept.len();
                band.kept.copy_from_slice(&kept[from..to]);
                from = to;
            }
        }
    }
}

/// Marks the `keep` largest of a group; of equal ones the earlier.
fn in_group(kept: &mut [bool], values: &[f32], keep: usize) {
    if values.len() > SMALL_GROUP {
        let sizes: Vec<f64> = values.iter().map(|v| f64::from(v.abs())).collect();
        kept.copy_from_slice(&top(&sizes, keep));
        return;
    }
    for (i, slot) in kept.iter_mut().enumerate() {
        let own = values[i].abs();
        let ahead = |j: usize, v: &f32| v.abs() > own || (v.abs() >= own && j < i);
        let before = values.iter().enumerate().filter(|(j, v)| ahead(*j, v));
        *slot = before.count() < keep;
    }
}

/// Marks the `keep` values of the largest size; of equal ones the earlier.
///
/// The bits of a positive f32 order as the value does, so two histograms, of the upper and the
/// lower half of the bits, give the exact threshold in linear time.
fn largest(bands: &mut [Band], keep: usize, threads: usize) {
    let upper = histograms(bands, threads, &|bits| Some(bits >> 16));
    let (high, above) = cut(&upper, keep);
    let lower = histograms(bands, threads, &|bits| {
        (bits >> 16 == high).then_some(bits & 0xffff)
    });
    let (low, _) = cut(&lower, keep - above.min(keep));
    let least = (high << 16) | low;
    let ties: Vec<usize> = lower.iter().map(|h| h[low as usize] as usize).collect();
    let strictly = above + above_bin(&lower, low);
    let mut left = keep.saturating_sub(strictly);
    let mut quotas = Vec::with_capacity(ties.len());
    for n in ties {
        quotas.push(n.min(left));
        left -= n.min(left);
    }
    over_bands(bands, 1, threads, &|i, part: &mut [Band]| {
        let mut quota = quotas[i];
        for band in part {
            for (kept, value) in band.kept.iter_mut().zip(&band.shifted) {
                let bits = size_bits(*value);
                *kept = bits > least;
                if bits == least && quota > 0 {
                    quota -= 1;
                    *kept = true;
                }
            }
        }
    });
}

fn size_bits(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

fn histograms<F>(bands: &mut [Band], threads: usize, bin: &F) -> Vec<Vec<u32>>
where
    F: Fn(u32) -> Option<u32> + Sync,
{
    let mut out: Vec<Vec<u32>> = vec![Vec::new(); bands.len()];
    let bands = &*bands;
    over_bands(&mut out, 1, threads, &|i, part: &mut [Vec<u32>]| {
        let mut counts = vec![0_u32; BINS];
        for value in &bands[i].shifted {
            if let Some(bin) = bin(size_bits(*value)) {
                counts[bin as usize] += 1;
            }
        }
        part[0] = counts;
    });
    out
}

/// Returns the bin that holds the `keep`-th largest value, and how many lie above that bin.
fn cut(histograms: &[Vec<u32>], keep: usize) -> (u32, usize) {
    let mut above = 0;
    for bin in (0..BINS).rev() {
        let here: usize = histograms.iter().map(|h| h[bin] as usize).sum();
        if above + here >= keep {
            return (bin as u32, above);
        }
        above += here;
    }
    (0, above)
}

fn above_bin(histograms: &[Vec<u32>], bin: u32) -> usize {
    let above = |h: &Vec<u32>| {
        h[bin as usize + 1..]
            .iter()
            .map(|n| *n as usize)
            .sum::<usize>()
    };
    histograms.iter().map(above).sum()
}
