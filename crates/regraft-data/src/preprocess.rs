//! From stored samples to the numbers that a model takes.

use crate::dataset::{Dataset, ImageShape};
use crate::error::DataError;

/// Order of the axes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Channels, height, width.
    #[default]
    Nchw,
    /// Height, width, channels.
    Nhwc,
}

/// What values are multiplied by before mean and std.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Scale {
    /// Images of bytes are divided by 255, everything else is left as it is.
    #[default]
    Auto,
    /// Every value is multiplied by this factor.
    Factor(f32),
}

/// Colour channels of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// As stored.
    #[default]
    AsFound,
    /// One channel; RGB becomes 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).
    Grey,
    /// Three channels; grey is repeated.
    Rgb,
}

/// Order of the three colour channels of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as Caffe and `OpenCV` networks take it.
    Bgr,
}

/// Height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// How samples become model inputs: colour, resize, channel order, scale,
/// `(x - mean) / std`, layout, shape; in this order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preprocess {
    /// Factor before mean and std.
    pub scale: Scale,
    /// Subtracted: empty, one for all, or one per channel in the result's
    /// channel order. For data that are not images a channel is an index of the
    /// first axis of a sample, or of the last where only that length fits.
    pub mean: Vec<f32>,
    /// Divided by: empty, one for all, or one per channel.
    pub std: Vec<f32>,
    /// Size that images are brought to: bilinear, pixel centres at halves,
    /// edges repeated, no antialiasing (like `PyTorch`'s `interpolate` with
    /// `align_corners=False`, not like Pillow).
    pub resize: Option<Size>,
    /// Colour channels of the result.
    pub color: Color,
    /// Order of colour channels.
    pub channel_order: ChannelOrder,
    /// Order of axes of the result; only for images.
    pub layout: Layout,
    /// Shape of one sample of the result, when it is not the natural one.
    pub shape: Option<Vec<usize>>,
}

impl Preprocess {
    /// Returns these settings changed so that samples get the shape a model expects.
    ///
    /// Layout and axes of length 1 are adapted, and flat inputs are flattened;
    /// values never change, so size and colour stay the caller's choice.
    /// # Shapes
    /// `expected` is one sample without the batch axis, `None` for a free axis.
    /// # Errors
    /// [`DataError::Shape`] with a hint, when only a resize or a colour change
    /// or another data set would do.
    pub fn fit_to(
        &self,
        dataset: &Dataset,
        expected: &[Option<usize>],
    ) -> Result<Preprocess, DataError> {
        let mut fitted = self.clone();
        fitted.shape = None;
        let found = match dataset.image() {
            Some(image) => {
                let (channels, size) = self.result_image(dataset, image, Some(expected))?;
                let (c, h, w) = (channels, size.height, size.width);
                for layout in [self.layout, other(self.layout)] {
                    if matches_shape(&image_dims(layout, c, h, w), expected) {
                        fitted.layout = layout;
                        return Ok(fitted);
                    }
                }
                image_dims(self.layout, c, h, w)
            }
            None => dataset.stored_shape(),
        };
        if matches_shape(&found, expected) {
            return Ok(fitted);
        }
        if let Some(shape) = reshaped(&found, expected) {
            fitted.shape = Some(shape);
            return Ok(fitted);
        }
        Err(DataError::Shape {
            name: dataset.name().to_owned(),
            hint: mismatch_hint(dataset, &found, expected, self.layout),
            found,
            wanted: format!("a model input of {}", show_expected(expected)),
        })
    }

    /// Returns the shape of one sample as [`Dataset::batch`] gives it.
    ///
    /// # Errors
    /// [`DataError::Shape`] or [`DataError::Preprocess`] when the settings do
    /// not fit the data.
    pub fn sample_shape(&self, dataset: &Dataset) -> Result<Vec<usize>, DataError> {
        let natural = match dataset.image() {
            Some(image) => {
                let (channels, size) = self.result_image(dataset, image, None)?;
                image_dims(self.layout, channels, size.height, size.width)
            }
            None => dataset.stored_shape(),
        };
        match &self.shape {
            None => Ok(natural),
            Some(shape) if product(shape) == product(&natural) => Ok(shape.clone()),
            Some(shape) => Err(DataError::Shape {
                name: dataset.name().to_owned(),
                wanted: format!("{} values for {shape:?}", product(shape)),
                found: natural,
                hint: None,
            }),
        }
    }

    /// Returns channels and size of the resulting images.
    pub(crate) fn result_image(
        &self,
        dataset: &Dataset,
        image: ImageShape,
        expected: Option<&[Option<usize>]>,
    ) -> Result<(usize, Size), DataError> {
        let channels = match (self.color, image.channels) {
            (Color::AsFound, c) | (Color::Grey, c @ 1) | (Color::Rgb, c @ 3) => c,
            (Color::Grey, 3) => 1,
            (Color::Rgb, 1) => 3,
            (_, c) => {
                return Err(DataError::Preprocess {
                    name: dataset.name().to_owned(),
                    reason: format!("no colour conversion from {c} channels"),
                    hint: None,
                });
            }
        };
        if self.channel_order == ChannelOrder::Bgr && channels != 3 {
            return Err(DataError::Preprocess {
                name: dataset.name().to_owned(),
                reason: format!("channel order BGR needs 3 channels, images have {channels}"),
                hint: Some("leave the channel order, or convert the images to RGB".to_owned()),
            });
        }
        let Some(size) = self.resize.or(image.size) else {
            let to = match expected {
                Some([_, Some(h), Some(w)]) if self.layout == Layout::Nchw => format!("{h}x{w}"),
                Some([Some(h), Some(w), _]) => format!("{h}x{w}"),
                _ => "the model's height and width".to_owned(),
            };
            return Err(DataError::Shape {
                name: dataset.name().to_owned(),
                found: Vec::new(),
                wanted: "images of one size".to_owned(),
                hint: Some(format!("bring the images to that size: --resize {to}")),
            });
        };
        if size.height == 0 || size.width == 0 {
            return Err(DataError::Preprocess {
                name: dataset.name().to_owned(),
                reason: format!("image size {}x{} is empty", size.height, size.width),
                hint: None,
            });
        }
        Ok((channels, size))
    }
}

/// Returns a sample's dimensions in `layout`.
pub(crate) fn image_dims(layout: Layout, c: usize, h: usize, w: usize) -> Vec<usize> {
    match layout {
        Layout::Nchw => vec![c, h, w],
        Layout::Nhwc => vec![h, w, c],
    }
}

pub(crate) fn product(shape: &[usize]) -> usize {
    shape.iter().fold(1, |a, &d| a.saturating_mul(d))
}

fn other(layout: Layout) -> Layout {
    match layout {
        Layout::Nchw => Layout::Nhwc,
        Layout::Nhwc => Layout::Nchw,
    }
}

fn matches_shape(shape: &[usize], expected: &[Option<usize>]) -> bool {
    shape.len() == expected.len()
        && shape
            .iter()
            .zip(expected)
            .all(|(&d, e)| e.is_none_or(|e| e == d))
}

/// Returns the expected shape when the values can be seen that way without
/// moving: axes of length 1 come or go, or one of the two sides is flat.
fn reshaped(found: &[usize], expected: &[Option<usize>]) -> Option<Vec<usize>> {
    let n = product(found);
    // One free axis takes what is left.
    let known = expected
        .iter()
        .flatten()
        .fold(1, |a: usize, &d| a.saturating_mul(d));
    let free = expected.iter().filter(|d| d.is_none()).count();
    if known == 0 || free > 1 || !n.is_multiple_of(known) || (free == 0 && known != n) {
        return None;
    }
    let shape: Vec<usize> = expected.iter().map(|d| d.unwrap_or(n / known)).collect();
    let solid = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    let (a, b) = (solid(found), solid(&shape));
    (a == b || a.len() <= 1 || b.len() <= 1).then_some(shape)
}

fn show_expected(expected: &[Option<usize>]) -> String {
    let dims: Vec<String> = expected
        .iter()
        .map(|d| d.map_or_else(|| "?".to_owned(), |d| d.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}

fn mismatch_hint(
    dataset: &Dataset,
    found: &[usize],
    expected: &[Option<usize>],
    layout: Layout,
) -> Option<String> {
    let channels = dataset.image()?.channels;
    let (&[a, b, c], &[x, y, z]) = (found, expected) else {
        return None;
    };
    // The model's axis that looks like channels decides how to read its shape.
    let small = |d: Option<usize>| d.is_some_and(|d| d <= 4);
    let nchw = small(x) || (!small(z) && layout == Layout::Nchw);
    let (want_c, want_hw) = if nchw { (x, (y, z)) } else { (z, (x, y)) };
    let (have_c, have_hw) = match layout {
        Layout::Nchw => (a, (b, c)),
        Layout::Nhwc => (c, (a, b)),
    };
    match want_c {
        Some(1) if have_c == 3 => {
            return Some(
                "the model takes grey images, these have colours: convert them to grey".to_owned(),
            );
        }
        Some(3) if have_c == 1 => {
            return Some(
                "the model takes colour images, these are grey: convert them to RGB".to_owned(),
            );
        }
        Some(c) if c != have_c => {
            return Some(format!(
                "the model takes {c} channels, the data have {channels}"
            ));
        }
        _ => {}
    }
    match want_hw {
        (Some(h), Some(w)) if (h, w) != have_hw => Some(format!(
            "bring the images to the size of the model: --resize {h}x{w}"
        )),
        _ => None,
    }
}
