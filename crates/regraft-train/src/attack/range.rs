//! The raw units in which perturbations are measured.

use regraft_data::{DataError, Dataset, Preprocess};

/// What raw values become at the network's input, place by place of one sample, and which are valid.
///
/// The input is `zero + unit·raw`: for images of bytes raw is a pixel divided by 255, so that after
/// `(x - mean) / std` a unit is 1/std of the place's channel; for other data raw is the number as
/// stored.
#[derive(Clone, Debug, PartialEq)]
pub struct InputRange {
    zero: Vec<f32>,
    unit: Vec<f32>,
    clip: Option<[f32; 2]>,
}

impl InputRange {
    /// Returns the range of inputs that are taken as they are.
    pub fn plain(clip: Option<[f32; 2]>) -> Self {
        Self {
            zero: vec![0.0],
            unit: vec![1.0],
            clip,
        }
    }

    /// Returns the range of the inputs that the settings make of a data set.
    ///
    /// `clip` holds the lowest and the highest valid raw value; left out, images of bytes are clipped
    /// to 0 and 1 and nothing else is clipped.
    /// # Errors
    /// [`DataError`] where the settings do not fit the data.
    pub fn of(
        data: &Dataset,
        settings: &Preprocess,
        clip: Option<[f32; 2]>,
    ) -> Result<Self, DataError> {
        let [zero, one] = data.raw_ends(settings)?;
        let unit = one.iter().zip(&zero).map(|(one, zero)| one - zero);
        Ok(Self {
            unit: unit.collect(),
            zero,
            clip: clip.or_else(|| data.is_byte_image().then_some([0.0, 1.0])),
        })
    }

    /// Returns the lowest and the highest valid raw value.
    pub fn clip(&self) -> Option<[f32; 2]> {
        self.clip
    }

    /// Returns what a raw change of 1 is at a place of a sample.
    pub fn unit(&self, place: usize) -> f32 {
        cycled(&self.unit, place, 1.0)
    }

    /// Returns the input that a raw value is at a place of a sample.
    pub fn input(&self, place: usize, raw: f32) -> f32 {
        cycled(&self.zero, place, 0.0) + self.unit(place) * raw
    }

    /// Returns how far the raw value of an input may move down and up, both with their sign.
    ///
    /// What is outside already may come back and moves no further away.
    pub(crate) fn room(&self, place: usize, input: f32) -> [f32; 2] {
        let unit = self.unit(place);
        if unit == 0.0 {
            return [0.0, 0.0];
        }
        let raw = (input - cycled(&self.zero, place, 0.0)) / unit;
        match self.clip {
            Some([low, high]) => [(low - raw).min(0.0), (high - raw).max(0.0)],
            None => [f32::NEG_INFINITY, f32::INFINITY],
        }
    }

    /// Returns the lowest and the highest input at a place that a clean `input` may become.
    pub(crate) fn ends(&self, place: usize, input: f32) -> [f32; 2] {
        let Some(clip) = self.clip else {
            return [f32::NEG_INFINITY, f32::INFINITY];
        };
        let [a, b] = clip.map(|raw| self.input(place, raw));
        [a.min(b).min(input), a.max(b).max(input)]
    }
}

/// One number stands for all places.
fn cycled(numbers: &[f32], place: usize, none: f32) -> f32 {
    let at = place.checked_rem(numbers.len());
    at.and_then(|i| numbers.get(i)).copied().unwrap_or(none)
}
