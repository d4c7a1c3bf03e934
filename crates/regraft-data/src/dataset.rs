//! Samples with labels, decoded when a batch asks for them.

use std::path::PathBuf;

use crate::arrays::array_dataset;
use crate::elements::Elements;
use crate::error::DataError;
use crate::image_file;
use crate::limits::Limits;
use crate::numbers::Numbers;
use crate::pixels;
use crate::preprocess::{ChannelOrder, Color, Layout, Preprocess, Scale, Size, product};

/// What the images of a data set look like as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Channels: 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Height and width, `None` when images differ in size.
    pub size: Option<Size>,
    /// Order of the stored axes.
    pub layout: Layout,
}

/// Where the samples are.
#[derive(Debug, Clone)]
pub(crate) enum Samples {
    /// One array, samples along its first axis.
    Array(Elements),
    /// One image file per sample, decoded for each batch.
    Files(Vec<PathBuf>, Limits),
}

/// One split of a data set: samples of one kind, with labels where there are any.
///
/// Bytes stay bytes and half floats stay half floats; image files are decoded
/// anew for each batch.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub(crate) name: String,
    pub(crate) n: usize,
    /// Shape of one stored sample; empty for image files of different sizes.
    pub(crate) shape: Vec<usize>,
    pub(crate) image: Option<ImageShape>,
    pub(crate) samples: Samples,
    pub(crate) labels: Option<Vec<u32>>,
    /// Numbers to find, where there are no labels.
    pub(crate) numbers: Option<Numbers>,
    pub(crate) class_names: Vec<String>,
}

impl Dataset {
    /// Returns true for images of bytes, which [`Scale::Auto`] divides by 255.
    pub fn is_byte_image(&self) -> bool {
        self.image.is_some()
            && match &self.samples {
                Samples::Array(elements) => elements.is_u8(),
                Samples::Files(..) => true,
            }
    }

    /// Returns a data set of bytes in memory, such as one inside a binary.
    ///
    /// # Shapes
    /// `shape` is `[n, ..]`; `[n, h, w]`, and `[n, c, h, w]` or `[n, h, w, c]`
    /// with 1 or 3 channels, are images.
    /// # Errors
    /// [`DataError::Shape`] when the values do not fill the shape,
    /// [`DataError::LabelCount`] for another number of labels than samples.
    pub fn from_bytes(
        name: &str,
        shape: &[usize],
        values: Vec<u8>,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, DataError> {
        let len = values.len();
        Self::from_elements(name, shape, len, Elements::U8(values), labels)
    }

    /// Returns a data set of numbers in memory.
    ///
    /// # Shapes
    /// `shape` is `[n, ..]`; `[n, c, h, w]` or `[n, h, w, c]` with 1 or 3
    /// channels are images.
    /// # Errors
    /// As [`Dataset::from_bytes`], and [`DataError::Value`] for a value that is
    /// not finite.
    pub fn from_values(
        name: &str,
        shape: &[usize],
        values: Vec<f32>,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, DataError> {
        if let Some(element) = values.iter().position(|v| !v.is_finite()) {
            return Err(DataError::Value {
                file: name.to_owned(),
                what: "NaN or infinity".to_owned(),
                place: match shape.first().map(|n| values.len() / n.max(&1)) {
                    Some(each) if each > 1 => {
                        format!("element {} of sample {}", element % each, element / each)
                    }
                    _ => format!("element {element}"),
                },
            });
        }
        let len = values.len();
        Self::from_elements(name, shape, len, Elements::F32(values), labels)
    }

    fn from_elements(
        name: &str,
        shape: &[usize],
        len: usize,
        elements: Elements,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, DataError> {
        if shape.is_empty() || len == 0 || product(shape) != len {
            return Err(DataError::Shape {
                name: name.to_owned(),
                found: shape.to_vec(),
                wanted: format!("a shape of {len} values"),
                hint: None,
            });
        }
        let mut data = array_dataset(name.to_owned(), shape, elements);
        if let Some(labels) = &labels
            && labels.len() != data.n
        {
            return Err(DataError::LabelCount {
                file: name.to_owned(),
                labels: labels.len() as u64,
                samples: data.n as u64,
            });
        }
        data.labels = labels;
        Ok(data)
    }

    /// Returns the same data with names for its classes.
    #[must_use]
    pub fn with_class_names(mut self, class_names: Vec<String>) -> Self {
        self.class_names = class_names;
        self
    }

    /// Returns the file or folder that the samples came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Returns whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Returns the shape of one sample as stored, `None` when image sizes differ.
    pub fn sample_shape(&self) -> Option<&[usize]> {
        match self.image {
            Some(ImageShape { size: None, .. }) => None,
            _ => Some(&self.shape),
        }
    }

    /// Returns what the images look like, `None` for other data.
    pub fn image(&self) -> Option<ImageShape> {
        self.image
    }

    /// Returns how values are kept: `u8`, `f16`, `f32`, or `image files`.
    pub fn type_name(&self) -> &'static str {
        match &self.samples {
            Samples::Array(elements) => elements.type_name(),
            Samples::Files(..) => "image files",
        }
    }

    /// Returns one class index per sample, `None` for unlabelled data.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// Returns the names of the classes, empty when the format has none.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns the number of classes: of names, else the largest label plus one.
    pub fn n_classes(&self) -> usize {
        let seen = self.labels.iter().flatten().max();
        let seen = seen.map_or(0, |&label| label as usize + 1);
        self.class_names.len().max(seen)
    }

    /// Checks that every label is one of a model's `n_classes` outputs.
    ///
    /// # Errors
    /// [`DataError::LabelRange`] with the first sample that is not.
    pub fn check_labels(&self, n_classes: usize) -> Result<(), DataError> {
        let labels = self.labels.as_deref().unwrap_or_default();
        let bad = labels.iter().position(|&label| label as usize >= n_classes);
        match bad {
            None => Ok(()),
            Some(sample) => Err(DataError::LabelRange {
                file: self.name.clone(),
                label: i64::from(labels[sample]),
                sample: sample as u64,
                n_classes: n_classes as u64,
            }),
        }
    }

    /// Returns the labels of `indices`, `None` for unlabelled data.
    ///
    /// # Errors
    /// [`DataError::SampleIndex`] for an index past the end.
    pub fn labels_of(&self, indices: &[usize]) -> Result<Option<Vec<u32>>, DataError> {
        let Some(labels) = &self.labels else {
            return Ok(None);
        };
        indices
            .iter()
            .map(|&i| labels.get(i).copied().ok_or_else(|| self.no_sample(i)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Returns the samples `indices` as one row-major batch of model inputs.
    ///
    /// # Shapes
    /// `[indices.len(), ..]` followed by [`Preprocess::sample_shape`].
    /// # Errors
    /// [`DataError::SampleIndex`], [`DataError::Shape`] or
    /// [`DataError::Preprocess`] for settings that do not fit, and the reader's
    /// errors for an image file that cannot be decoded.
    pub fn batch(&self, indices: &[usize], preprocess: &Preprocess) -> Result<Vec<f32>, DataError> {
        let sample_len = product(&preprocess.sample_shape(self)?);
        let norm = Norm::new(self, preprocess)?;
        let total = sample_len.saturating_mul(indices.len());
        let mut out = Vec::new();
        crate::file::reserve(&mut out, total, &self.name)?;
        let mut stored = Vec::new();
        for &index in indices {
            if index >= self.n {
                return Err(self.no_sample(index));
            }
            if let Some(image) = self.image {
                self.append_image(index, image, preprocess, &norm, &mut out)?;
            } else {
                stored.clear();
                self.append_stored(index, &mut stored);
                norm.append_array(&stored, &mut out);
            }
        }
        Ok(out)
    }

    /// Returns what raw values of 0 and of 1 become at each place of one model input.
    ///
    /// The raw value is a pixel divided by 255 for images of bytes, else the number as stored; what
    /// becomes of any other raw value lies on the line through the two.
    /// # Shapes
    /// Two lists as long as the product of [`Preprocess::sample_shape`].
    /// # Errors
    /// As [`Dataset::batch`] for settings that do not fit.
    pub fn raw_ends(&self, preprocess: &Preprocess) -> Result<[Vec<f32>; 2], DataError> {
        let shape = preprocess.sample_shape(self)?;
        let norm = Norm::new(self, preprocess)?;
        let n = product(&shape);
        let run = match (self.image, preprocess.layout) {
            (Some(_), Layout::Nchw) => n / norm.channels.max(1),
            (Some(_), Layout::Nhwc) => 1,
            (None, _) => norm.run,
        };
        let channel = |place: usize| (place / run.max(1)) % norm.channels.max(1);
        let one = if self.is_byte_image() { 255.0 } else { 1.0 };
        Ok([0.0, one].map(|stored| (0..n).map(|i| norm.value(channel(i), stored)).collect()))
    }

    pub(crate) fn stored_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    fn no_sample(&self, index: usize) -> DataError {
        DataError::SampleIndex {
            name: self.name.clone(),
            index,
            n: self.n,
        }
    }

    fn append_stored(&self, index: usize, out: &mut Vec<f32>) {
        if let Samples::Array(elements) = &self.samples {
            let len = product(&self.shape);
            elements.append_to(index * len, len, out);
        }
    }

    fn append_image(
        &self,
        index: usize,
        image: ImageShape,
        preprocess: &Preprocess,
        norm: &Norm,
        out: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let (channels, size) = preprocess.result_image(self, image, None)?;
        let planes = match &self.samples {
            Samples::Files(paths, limits) => {
                let path = paths.get(index).ok_or_else(|| self.no_sample(index))?;
                image_file::decode(path, image.channels, limits)?
            }
            Samples::Array(_) => {
                let mut stored = Vec::new();
                self.append_stored(index, &mut stored);
                let size = image.size.unwrap_or(size);
                pixels::Planes::from_stored(&stored, image.layout, image.channels, size)
            }
        };
        if preprocess.resize.is_none() && planes.size != size {
            return Err(DataError::Shape {
                name: self.name.clone(),
                found: vec![planes.size.height, planes.size.width],
                wanted: format!("height and width {}x{}", size.height, size.width),
                hint: Some("an image file changed after it was opened".to_owned()),
            });
        }
        let mut planes = match preprocess.color {
            Color::AsFound => planes,
            Color::Grey => planes.to_grey(),
            Color::Rgb => planes.to_rgb(),
        };
        if planes.size != size {
            planes = planes.resized(size);
        }
        if preprocess.channel_order == ChannelOrder::Bgr {
            planes.channels.reverse();
        }
        for (c, plane) in planes.channels.iter_mut().enumerate().take(channels) {
            norm.apply(c, plane);
        }
        planes.append_to(preprocess.layout, out);
        Ok(())
    }
}

/// Scale, mean and std, checked against one data set.
struct Norm {
    scale: Scale,
    mean: Vec<f32>,
    std: Vec<f32>,
    /// For arrays: values per channel, and number of channels.
    run: usize,
    channels: usize,
}

impl Norm {
    fn new(data: &Dataset, preprocess: &Preprocess) -> Result<Self, DataError> {
        let byte_image = data.is_byte_image();
        let (channels, run) = match data.image {
            Some(image) => (preprocess.result_image(data, image, None)?.0, 1),
            None => array_channels(&data.shape, preprocess),
        };
        let scale = match preprocess.scale {
            // Kept apart from a factor: x / 255 rounds like the frameworks do.
            Scale::Auto if byte_image => Scale::Auto,
            Scale::Auto => Scale::Factor(1.0),
            factor @ Scale::Factor(_) => factor,
        };
        let bad = |reason: String| DataError::Preprocess {
            name: data.name.clone(),
            reason,
            hint: Some(format!(
                "give one value, or one for each of {channels} channels"
            )),
        };
        let per_channel = |values: &[f32], what: &str, default: f32| {
            if let Some(v) = values.iter().find(|v| !v.is_finite()) {
                return Err(bad(format!("{what} {v} is not a finite number")));
            }
            match values {
                [] => Ok(vec![default; channels]),
                [one] => Ok(vec![*one; channels]),
                many if many.len() == channels => Ok(many.to_vec()),
                many => Err(bad(format!(
                    "{what} has {} values for {channels} channels",
                    many.len()
                ))),
            }
        };
        let mean = per_channel(&preprocess.mean, "mean", 0.0)?;
        let std = per_channel(&preprocess.std, "std", 1.0)?;
        if let Some(v) = std.iter().find(|v| **v <= 0.0) {
            return Err(bad(format!("std {v} is not above zero")));
        }
        if let Scale::Factor(f) = scale
            && !f.is_finite()
        {
            return Err(bad(format!("scale {f} is not a finite number")));
        }
        Ok(Self {
            scale,
            mean,
            std,
            run,
            channels,
        })
    }

    fn value(&self, channel: usize, x: f32) -> f32 {
        let scaled = match self.scale {
            Scale::Auto => x / 255.0,
            Scale::Factor(f) => x * f,
        };
        (scaled - self.mean[channel]) / self.std[channel]
    }

    fn apply(&self, channel: usize, plane: &mut [f32]) {
        for x in plane {
            *x = self.value(channel, *x);
        }
    }

    fn append_array(&self, stored: &[f32], out: &mut Vec<f32>) {
        let channel = |i: usize| (i / self.run) % self.channels;
        out.extend(
            stored
                .iter()
                .enumerate()
                .map(|(i, &x)| self.value(channel(i), x)),
        );
    }
}

/// Returns the channel count of an array sample and how many values in a row
/// belong to one channel.
fn array_channels(shape: &[usize], preprocess: &Preprocess) -> (usize, usize) {
    let len = preprocess.mean.len().max(preprocess.std.len());
    let first = shape.first().copied().unwrap_or(1).max(1);
    let last = shape.last().copied().unwrap_or(1).max(1);
    match len {
        0 | 1 => (1, product(shape).max(1)),
        n if n != first && n == last => (last, 1),
        _ => (first, (product(shape) / first).max(1)),
    }
}
