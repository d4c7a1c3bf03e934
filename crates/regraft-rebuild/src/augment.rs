//! Variations of image batches for tuning: the teacher sees the same variation, so none needs a label.

use regraft_exec::HostTensor;

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
