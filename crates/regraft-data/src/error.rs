//! What can go wrong with data, and how to fix it.

use std::path::{Path, PathBuf};

/// A failure to read, adapt, split or score a data set.
///
/// `file` is a path, or `path[entry]` for an entry of an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to open or read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The path as it was given or found.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A device, a pipe, a socket, or a folder where a file is needed.
    #[error("`{}` is not a regular file", path.display())]
    NotRegularFile {
        /// The path.
        path: PathBuf,
    },
    /// A file name that is not UTF-8.
    #[error("file name `{}` is not UTF-8", path.display())]
    FileName {
        /// The path, shown with replacement characters.
        path: PathBuf,
    },
    /// A symbolic link that is not followed.
    #[error("symbolic link `{}` {reason}", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// Something is larger than the limits allow.
    #[error("`{file}`: {what} is {value}, more than the limit of {limit} (`{name}`)")]
    Limit {
        /// The file or entry.
        file: String,
        /// What was measured.
        what: &'static str,
        /// Its size; a declared size that overflows is `u64::MAX`.
        value: u64,
        /// The limit it exceeds.
        limit: u64,
        /// The field of [`Limits`](crate::Limits) that holds the limit.
        name: &'static str,
    },
    /// There was no memory for an array within the limits.
    #[error("`{file}`: cannot allocate {bytes} bytes")]
    OutOfMemory {
        /// The file or entry.
        file: String,
        /// The bytes asked for.
        bytes: u64,
    },
    /// The data end before what the header declares.
    #[error("`{file}` is truncated: {needed} bytes declared, {found} found")]
    Truncated {
        /// The file or entry.
        file: String,
        /// The bytes that the header declares or the parser asked for.
        needed: u64,
        /// The bytes that were there.
        found: u64,
    },
    /// A compressed stream that cannot be decoded to its end.
    #[error("`{file}` is a damaged {format} stream: {reason}")]
    Compression {
        /// The file or entry.
        file: String,
        /// `gzip` or `zip`.
        format: &'static str,
        /// What the decoder met.
        reason: String,
    },
    /// The content breaks the rules of its format.
    #[error("`{file}` is not valid {format}: {reason}")]
    Malformed {
        /// The file or entry.
        file: String,
        /// The format that was being read.
        format: &'static str,
        /// The rule that was broken.
        reason: String,
    },
    /// An array whose elements are pickled Python objects.
    #[error("`{file}` holds pickled Python objects (dtype `{descr}`), which are never loaded")]
    Pickled {
        /// The file or entry.
        file: String,
        /// The declared dtype.
        descr: String,
    },
    /// An element type that has no place in a data set here.
    #[error("`{file}`: dtype `{descr}` is {kind}, not a plain number")]
    Dtype {
        /// The file or entry.
        file: String,
        /// The declared dtype.
        descr: String,
        /// What kind of type it is.
        kind: &'static str,
    },
    /// A value that cannot be used as it is.
    #[error("`{file}`: {what} at {place}")]
    Value {
        /// The file or entry.
        file: String,
        /// What is wrong with it.
        what: String,
        /// Where: element, or line and column.
        place: String,
    },
    /// Data that are readable, and none.
    #[error("`{file}` has no sample")]
    Empty {
        /// The file or data set.
        file: String,
    },
    /// A label that is not one of the classes.
    #[error(
        "`{file}`: label {label} of sample {sample} is no class: they are 0 to {}",
        n_classes.saturating_sub(1)
    )]
    LabelRange {
        /// The file or data set.
        file: String,
        /// The label.
        label: i64,
        /// The sample, from 0.
        sample: u64,
        /// How many classes there are.
        n_classes: u64,
    },
    /// Samples and labels that do not belong together.
    #[error("`{file}` has {labels} labels for {samples} samples")]
    LabelCount {
        /// The labels' file or entry.
        file: String,
        /// How many labels it has.
        labels: u64,
        /// How many samples there are.
        samples: u64,
    },
    /// A file whose content is of another type than its name says.
    #[error("`{file}` is named like {named} but its content is {found}")]
    ExtensionLies {
        /// The file.
        file: String,
        /// The format of the name.
        named: &'static str,
        /// The format of the content.
        found: &'static str,
    },
    /// Nothing in a file or folder is a format that can be read.
    #[error("no data set found in `{}`: {reason}", path.display())]
    UnknownFormat {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for or met.
        reason: String,
    },
    /// More than one way to read a file or folder.
    #[error("`{}` can be read in more than one way: {choices}", path.display())]
    Ambiguous {
        /// The file or folder.
        path: PathBuf,
        /// The candidates.
        choices: String,
    },
    /// A class folder without an image.
    #[error("class folder `{}` has no PNG or JPEG image", path.display())]
    EmptyClass {
        /// The folder.
        path: PathBuf,
    },
    /// Samples of different shapes, or another shape than the model's.
    #[error("samples of `{name}` have shape {found:?}, {wanted} needed")]
    Shape {
        /// The data set, or the file with the odd sample.
        name: String,
        /// The shape of one sample.
        found: Vec<usize>,
        /// What was needed, in words.
        wanted: String,
        /// How to get there.
        hint: Option<String>,
    },
    /// Preprocessing settings that contradict the data or each other.
    #[error("cannot preprocess `{name}`: {reason}")]
    Preprocess {
        /// The data set.
        name: String,
        /// The contradiction.
        reason: String,
        /// How to resolve it.
        hint: Option<String>,
    },
    /// A sample that does not exist.
    #[error("sample {index} of `{name}` does not exist, it has {n}")]
    SampleIndex {
        /// The data set.
        name: String,
        /// The index asked for.
        index: usize,
        /// The number of samples.
        n: usize,
    },
    /// A calibration set without a sample.
    #[error("the calibration set is empty")]
    EmptyCalibration,
    /// Fewer samples than the split needs.
    #[error("{needed} samples needed ({n_calib} calibration, {n_held_out} held out), {n} there")]
    TooFewSamples {
        /// The sum that is needed.
        needed: u64,
        /// Calibration samples asked for.
        n_calib: usize,
        /// Held-out samples asked for.
        n_held_out: usize,
        /// Samples there are.
        n: usize,
    },
    /// Model outputs and labels or other outputs that do not fit together.
    #[error("cannot score: {reason}")]
    Metrics {
        /// What does not fit.
        reason: String,
    },
}

impl DataError {
    /// Returns how to fix the input, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Io { .. }
            | Self::SampleIndex { .. }
            | Self::Metrics { .. }
            | Self::Malformed { .. } => return None,
            Self::Shape { hint, .. } | Self::Preprocess { hint, .. } => return hint.clone(),
            Self::Value { .. } => {
                "leave that sample out, or fill the gap before: every value has to be a number that f32 holds"
            }
            Self::NotRegularFile { .. } => "pass a file, or a folder of files",
            Self::FileName { .. } => "rename the file",
            Self::Symlink { .. } => "copy the data into the folder, or pass the link's target",
            Self::Limit { name, .. } => {
                return Some(format!("raise `{name}` if the file is to be trusted"));
            }
            Self::OutOfMemory { .. } => "use fewer or smaller samples",
            Self::Truncated { .. } | Self::Compression { .. } => {
                "the file may be an incomplete download: fetch it again"
            }
            Self::Pickled { .. } => {
                "convert it with NumPy: `np.save(path, np.stack(array).astype(np.float32))`"
            }
            Self::Dtype { .. } => {
                "convert it with NumPy: `np.save(path, array.astype(np.float32))`"
            }
            Self::LabelRange { .. } => {
                "labels are whole numbers from 0 to the class count minus 1; numbers to find are floats"
            }
            Self::Empty { .. } => {
                "is it the right file, or was writing it cut off? Leave an empty split out"
            }
            Self::LabelCount { .. } => "samples and labels must come from the same split",
            Self::ExtensionLies { .. } => "rename the file after its content, or remove it",
            Self::UnknownFormat { .. } => {
                "readable are: MNIST IDX, CIFAR-10 binary, .npy, .npz, .csv, and PNG or JPEG \
                 images in one folder per class"
            }
            Self::Ambiguous { .. } => "pass one file, or a folder that holds only one data set",
            Self::EmptyClass { .. } => "remove the folder, or add its images",
            Self::EmptyCalibration => "ask for at least one calibration sample",
            Self::TooFewSamples { .. } => "lower the number of calibration samples",
        };
        Some(text.to_owned())
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(file: &str, format: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.to_owned(),
            format,
            reason: reason.into(),
        }
    }
}
