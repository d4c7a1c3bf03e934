//! How images are varied while training.

use regraft_data::{Augment, Mix, cut_out};

/// How images are varied; the default leaves them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variation {
    /// How they move.
    pub augment: Augment,
    /// How those of a batch are mixed; labels are mixed alike.
    pub mix: Mix,
    /// Side of the square that is cut out of each, in pixels; 0 for none.
    pub cut_out: usize,
}

/// Partner of each image of a batch, and its share in it.
pub(crate) type Partners = Vec<(usize, f32)>;

impl Variation {
    /// True if images stay as they are.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Returns a batch varied, the same for the same seed, and what it was mixed with.
    pub(crate) fn apply(self, batch: &[f32], shape: [usize; 4], seed: u64) -> (Vec<f32>, Partners) {
        let mut moved = self.augment.apply(batch, shape, seed);
        cut_out(&mut moved, shape, self.cut_out, seed);
        self.mix.apply_with_partners(&moved, shape, seed)
    }
}
