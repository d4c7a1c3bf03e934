//! Variations of image batches for tuning: the teacher sees the same variation, so none needs a label.

use regraft_exec::{HostData, HostTensor};

/// How samples are varied while all blocks are tuned together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Augment {
    /// Not at all: the only choice for data that are not images.
    #[default]
    None,
    /// Each image moves by up to this many pixels along both axes; what comes in is zero.
    Shift(usize),
    /// As `Shift`, and every other image is mirrored left to right.
    FlipShift(usize),
}

/// How images of one batch are blended with each other, both models seeing the blend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    /// Not at all.
    #[default]
    None,
    /// Every image is a weighted mean of itself and another one, the weight uniform in 0..1.
    Blend,
    /// A rectangle of every other image comes from another one.
    Paste,
}

/// Draws the batches of tuning: samples in a new order each pass, varied and mixed.
#[derive(Debug)]
pub(crate) struct Batches<'a> {
    chunks: &'a [HostTensor],
    /// The axis of the samples; `None` if all share the value.
    axis: Option<usize>,
    /// Chunk and place in it of every sample.
    places: Vec<(usize, usize)>,
    augment: Augment,
    mix: Mix,
}

impl<'a> Batches<'a> {
    /// Returns batches from `chunks` with the samples on `axis`; what is not on the leading axis, or
    /// no image of floats, is neither varied nor mixed.
    pub(crate) fn new(
        chunks: &'a [HostTensor],
        axis: Option<usize>,
        augment: Augment,
        mix: Mix,
    ) -> Self {
        let place = |(c, t): (usize, &HostTensor)| {
            let n = axis.and_then(|a| t.shape.get(a).copied()).unwrap_or(0);
            (0..n).map(move |i| (c, i))
        };
        let places = chunks.iter().enumerate().flat_map(place).collect();
        Self {
            chunks,
            axis,
            places,
            augment,
            mix,
        }
    }

    /// Returns batch number `step`: as many samples as the first chunk has, every sample once a pass.
    pub(crate) fn batch(&self, step: u64) -> HostTensor {
        let Some(first) = self.chunks.first() else {
            return HostTensor::f32(vec![0], Vec::new());
        };
        let Some(axis) = self.axis.filter(|a| *a < first.shape.len()) else {
            return first.clone();
        };
        let n = first.shape[axis].max(1);
        let per_pass = (self.places.len() / n).max(1) as u64;
        let order = shuffled(self.places.len(), step / per_pass);
        let start = (step % per_pass) as usize * n;
        let picked: Vec<(usize, usize)> = (start..start + n)
            .map(|at| self.places[order[at % order.len()]])
            .collect();
        let batch = gathered(self.chunks, axis, &picked);
        mix(&augment(&batch, self.augment, step), self.mix, step)
    }
}

/// Returns the samples at `picked` (chunk, place in it) side by side along `axis`.
fn gathered(chunks: &[HostTensor], axis: usize, picked: &[(usize, usize)]) -> HostTensor {
    let mut shape = chunks.first().map_or_else(Vec::new, |c| c.shape.clone());
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    shape[axis] = picked.len();
    let runs = || {
        (0..outer).flat_map(|o| {
            picked.iter().map(move |&(chunk, i)| {
                let extent = chunks[chunk].shape[axis];
                (chunk, (o * extent + i) * inner)
            })
        })
    };
    let data = match chunks.first().map(|c| &c.data) {
        Some(HostData::I64(_)) => HostData::I64(joined(runs(), inner, |c| chunks[c].as_i64())),
        Some(HostData::Bool(_)) => HostData::Bool(joined(runs(), inner, |c| chunks[c].as_bool())),
        _ => HostData::F32(joined(runs(), inner, |c| chunks[c].as_f32())),
    };
    HostTensor { shape, data }
}

/// Returns `len` elements from each start in each chunk.
fn joined<'a, T: Copy + 'a>(
    runs: impl Iterator<Item = (usize, usize)>,
    len: usize,
    data: impl Fn(usize) -> Option<&'a [T]>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (chunk, start) in runs {
        if let Some(run) = data(chunk).and_then(|d| d.get(start..start + len)) {
            all.extend_from_slice(run);
        }
    }
    all
}

/// Returns the numbers below `n` in an order that depends on the seed.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut state = seed ^ 0x5851_F42D_4C95_7F2D;
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = (next(&mut state) % (i as u64 + 1)) as usize;
        order.swap(i, j);
    }
    order
}

/// Returns the batch with its images mixed, the same for the same seed.
///
/// # Reference
/// Blending: Zhang et al., "mixup", ICLR 2018; pasting: Yun et al., "`CutMix`", ICCV 2019; both
/// without labels, as function matching (Beyer et al., "Knowledge distillation: a good teacher is
/// patient and consistent", CVPR 2022).
fn mix(batch: &HostTensor, how: Mix, seed: u64) -> HostTensor {
    let ([n, c, h, w], Some(data)) = (&batch.shape[..], batch.as_f32()) else {
        return batch.clone();
    };
    let (n, c, h, w) = (*n, *c, *h, *w);
    if n < 2 || how == Mix::None {
        return batch.clone();
    }
    let mut state = seed ^ 0x1405_7B7E_F767_814F;
    let each = c * h * w;
    let mut out = data.to_vec();
    let offset = 1 + (next(&mut state) % (n as u64 - 1)) as usize;
    for (image, target) in out.chunks_exact_mut(each.max(1)).enumerate() {
        let partner = (image + offset) % n;
        let other = &data[partner * each..(partner + 1) * each];
        let draw = next(&mut state);
        match how {
            Mix::None => {}
            Mix::Blend => {
                let share = (draw >> 40) as f32 / (1u64 << 24) as f32;
                for (x, y) in target.iter_mut().zip(other) {
                    *x += share * (y - *x);
                }
            }
            Mix::Paste => {
                if draw & 1 == 0 {
                    paste(target, other, [c, h, w], draw >> 1);
                }
            }
        }
    }
    HostTensor::f32(batch.shape.clone(), out)
}

/// Copies a rectangle of `other` into `image`; its area is uniform in 0..1 of the image's.
fn paste(image: &mut [f32], other: &[f32], [c, h, w]: [usize; 3], mut seed: u64) {
    let area = (next(&mut seed) >> 11) as f64 / (1u64 << 53) as f64;
    let side = area.sqrt();
    let (rows, cols) = (
        ((h as f64 * side).round() as usize).min(h),
        ((w as f64 * side).round() as usize).min(w),
    );
    let y0 = (next(&mut seed) % (h - rows + 1) as u64) as usize;
    let x0 = (next(&mut seed) % (w - cols + 1) as u64) as usize;
    for channel in 0..c {
        for y in y0..y0 + rows {
            let at = (channel * h + y) * w + x0;
            image[at..at + cols].copy_from_slice(&other[at..at + cols]);
        }
    }
}

/// Returns the batch varied, the same for the same seed.
///
/// # Shapes
/// Batches of `n × channels × height × width` are varied, all others returned as they are.
pub(crate) fn augment(batch: &HostTensor, how: Augment, seed: u64) -> HostTensor {
    let (reach, mirror) = match how {
        Augment::None => return batch.clone(),
        Augment::Shift(reach) => (reach, false),
        Augment::FlipShift(reach) => (reach, true),
    };
    let ([n, c, h, w], Some(data)) = (&batch.shape[..], batch.as_f32()) else {
        return batch.clone();
    };
    let (n, c, h, w) = (*n, *c, *h, *w);
    let mut state = seed;
    let mut out = vec![0.0f32; data.len()];
    for image in 0..n {
        let draw = next(&mut state);
        let flip = mirror && draw & 1 == 1;
        let span = (2 * reach + 1) as u64;
        let shift = |bits: u64| (bits % span) as isize - reach as isize;
        let (dy, dx) = (shift(draw >> 8), shift(draw >> 32));
        for channel in 0..c {
            let plane = (image * c + channel) * h * w;
            for y in 0..h {
                let Some(from_y) = y.checked_add_signed(dy).filter(|v| *v < h) else {
                    continue;
                };
                for x in 0..w {
                    let Some(moved) = x.checked_add_signed(dx).filter(|v| *v < w) else {
                        continue;
                    };
                    let from_x = if flip { w - 1 - moved } else { moved };
                    out[plane + y * w + x] = data[plane + from_y * w + from_x];
                }
            }
        }
    }
    HostTensor::f32(batch.shape.clone(), out)
}

/// One step of `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_and_mirror_but_keep_their_shape() {
        let batch = HostTensor::f32(
            vec![2, 1, 2, 3],
            vec![1., 2., 3., 4., 5., 6., 7., 8., 9., 1., 2., 3.],
        );
        assert_eq!(augment(&batch, Augment::None, 1), batch);
        assert_eq!(augment(&batch, Augment::Shift(0), 1), batch);
        let mirrored: Vec<Vec<f32>> = (0..16)
            .filter_map(|s| augment(&batch, Augment::FlipShift(0), s).into_f32())
            .collect();
        assert!(
            mirrored.iter().any(|d| d[..6] == [3., 2., 1., 6., 5., 4.]),
            "{mirrored:?}"
        );
        assert!(
            mirrored.iter().any(|d| d[..6] == [1., 2., 3., 4., 5., 6.]),
            "{mirrored:?}"
        );
        let flat = HostTensor::f32(vec![4, 3], vec![0.5; 12]);
        assert_eq!(augment(&flat, Augment::FlipShift(1), 7), flat);
        assert_eq!(
            augment(&batch, Augment::FlipShift(1), 7),
            augment(&batch, Augment::FlipShift(1), 7)
        );
    }
}
