//! Variations of batches of images.

use crate::SplitMix64;

/// How images are varied.
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

/// How images of one batch are mixed with each other.
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

impl Augment {
    /// Returns a batch varied, the same for the same seed.
    ///
    /// # Shapes
    /// `batch` is row-major, images × channels × height × width.
    #[must_use]
    pub fn apply(self, batch: &[f32], [n, c, h, w]: [usize; 4], seed: u64) -> Vec<f32> {
        let (reach, mirror) = match self {
            Self::None => return batch.to_vec(),
            Self::Shift(reach) => (reach, false),
            Self::FlipShift(reach) => (reach, true),
        };
        let mut random = SplitMix64::new(seed);
        let mut out = vec![0.0f32; batch.len()];
        if batch.len() != n * c * h * w {
            return batch.to_vec();
        }
        for image in 0..n {
            let draw = random.next_u64();
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
                        out[plane + y * w + x] = batch[plane + from_y * w + from_x];
                    }
                }
            }
        }
        out
    }
}

impl Mix {
    /// Returns a batch with its images mixed, the same for the same seed.
    ///
    /// # Shapes
    /// `batch` is row-major, images × channels × height × width.
    /// # Reference
    /// Blending: Zhang et al., "mixup", ICLR 2018; pasting: Yun et al., "`CutMix`", ICCV 2019; both
    /// without labels, as function matching (Beyer et al., "Knowledge distillation: a good teacher is
    /// patient and consistent", CVPR 2022).
    #[must_use]
    pub fn apply(self, batch: &[f32], [n, c, h, w]: [usize; 4], seed: u64) -> Vec<f32> {
        self.apply_with_partners(batch, [n, c, h, w], seed).0
    }

    /// As [`apply`](Self::apply), with the partner of each image and its share in it: what a label takes
    /// from the partner's.
    #[must_use]
    pub fn apply_with_partners(
        self,
        batch: &[f32],
        [n, c, h, w]: [usize; 4],
        seed: u64,
    ) -> (Vec<f32>, Vec<(usize, f32)>) {
        let each = c * h * w;
        let mut partners: Vec<(usize, f32)> = (0..n).map(|i| (i, 0.0)).collect();
        if n < 2 || self == Self::None || batch.len() != n * each {
            return (batch.to_vec(), partners);
        }
        let mut random = SplitMix64::new(seed ^ 0x1405_7B7E_F767_814F);
        let mut out = batch.to_vec();
        let offset = 1 + (random.next_u64() % (n as u64 - 1)) as usize;
        for (image, target) in out.chunks_exact_mut(each.max(1)).enumerate() {
            let partner = (image + offset) % n;
            let other = &batch[partner * each..(partner + 1) * each];
            let draw = random.next_u64();
            match self {
                Self::None => {}
                Self::Blend => {
                    let share = (draw >> 40) as f32 / (1u64 << 24) as f32;
                    for (x, y) in target.iter_mut().zip(other) {
                        *x += share * (y - *x);
                    }
                    partners[image] = (partner, share);
                }
                Self::Paste => {
                    if draw & 1 == 0 {
                        let share = paste(target, other, [c, h, w], draw >> 1);
                        partners[image] = (partner, share);
                    }
                }
            }
        }
        (out, partners)
    }
}

/// Sets a square of `side` pixels, centred anywhere in the image, to zero in each image, the same for the same
/// seed (`DeVries` and Taylor, Improved regularization with cutout, 2017).
///
/// # Shapes
/// `batch` is row-major, images × channels × height × width.
pub fn cut_out(batch: &mut [f32], [n, c, h, w]: [usize; 4], side: usize, seed: u64) {
    if side == 0 || batch.len() != n * c * h * w {
        return;
    }
    let mut random = SplitMix64::new(seed ^ 0x2545_F491_4F6C_DD1D);
    for image in batch.chunks_exact_mut((c * h * w).max(1)) {
        let (y, x) = (random.below(h), random.below(w));
        let span = |at: usize, extent: usize| {
            let from = at.saturating_sub(side / 2);
            from..(at + side - side / 2).min(extent)
        };
        for plane in image.chunks_exact_mut((h * w).max(1)) {
            for row in span(y, h) {
                plane[row * w..][span(x, w)].fill(0.0);
            }
        }
    }
}

/// Copies a rectangle of `other` into `image`; its area is uniform in 0..1 of the image's. Returns its
/// share of the image.
fn paste(image: &mut [f32], other: &[f32], [c, h, w]: [usize; 3], seed: u64) -> f32 {
    let mut random = SplitMix64::new(seed);
    let area = random.uniform();
    let side = area.sqrt();
    let (rows, cols) = (
        ((h as f64 * side).round() as usize).min(h),
        ((w as f64 * side).round() as usize).min(w),
    );
    let y0 = (random.next_u64() % (h - rows + 1) as u64) as usize;
    let x0 = (random.next_u64() % (w - cols + 1) as u64) as usize;
    for channel in 0..c {
        for y in y0..y0 + rows {
            let at = (channel * h + y) * w + x0;
            image[at..at + cols].copy_from_slice(&other[at..at + cols]);
        }
    }
    (rows * cols) as f32 / (h * w).max(1) as f32
}

/// Returns the numbers below `n` in an order that depends on the seed.
pub fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut random = SplitMix64::new(seed ^ 0x5851_F42D_4C95_7F2D);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = (random.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_and_mirror_but_keep_their_shape() {
        let batch = [1., 2., 3., 4., 5., 6., 7., 8., 9., 1., 2., 3.];
        let vary = |how: Augment, seed| how.apply(&batch, [2, 1, 2, 3], seed);
        assert_eq!(vary(Augment::None, 1), batch);
        assert_eq!(vary(Augment::Shift(0), 1), batch);
        let mirrored: Vec<Vec<f32>> = (0..16).map(|s| vary(Augment::FlipShift(0), s)).collect();
        assert!(
            mirrored.iter().any(|d| d[..6] == [3., 2., 1., 6., 5., 4.]),
            "{mirrored:?}"
        );
        assert!(
            mirrored.iter().any(|d| d[..6] == [1., 2., 3., 4., 5., 6.]),
            "{mirrored:?}"
        );
        assert_eq!(
            vary(Augment::FlipShift(1), 7),
            vary(Augment::FlipShift(1), 7)
        );
    }

    #[test]
    fn a_label_takes_what_its_image_took() {
        let batch: Vec<f32> = (0..4).flat_map(|i| vec![i as f32; 16]).collect();
        for mix in [Mix::Blend, Mix::Paste] {
            let (mixed, partners) = mix.apply_with_partners(&batch, [4, 1, 4, 4], 5);
            assert_eq!(mixed, mix.apply(&batch, [4, 1, 4, 4], 5));
            for (i, (image, (partner, share))) in mixed.chunks(16).zip(partners).enumerate() {
                let mean = image.iter().sum::<f32>() / 16.0;
                let expected = i as f32 + share * (partner as f32 - i as f32);
                assert!(
                    (mean - expected).abs() < 1e-5,
                    "{mix:?} {i}: {mean} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_square_of_each_image_is_cut_out() {
        let mut batch = vec![1.0; 2 * 2 * 6 * 6];
        cut_out(&mut batch, [2, 2, 6, 6], 2, 3);
        for image in batch.chunks(72) {
            let (a, b) = image.split_at(36);
            assert_eq!(a, b);
            let zeros = a.iter().filter(|x| **x == 0.0).count();
            // Fewer where the square reaches over an edge.
            assert!([1, 2, 4].contains(&zeros), "{zeros}");
        }
    }

    #[test]
    fn every_number_is_drawn_once() {
        let mut order = shuffled(100, 3);
        assert_ne!(order, shuffled(100, 4));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
