//! Data sets, their preprocessing, batches and metrics.
//!
//! [`open`] finds out the format of a file or folder, [`DataSource::describe`]
//! says what it found, [`DataSource::assign`] chooses the samples that calibrate
//! and those that judge, [`Dataset::batch`] makes model inputs by a
//! [`Preprocess`], and [`Metrics`] scores model outputs. Every reader stays
//! within [`Limits`] and refuses bad input with a [`DataError`].
//!
//! ```no_run
//! use regraft_data::{OpenOptions, Preprocess, open};
//!
//! let source = open("cifar10".as_ref(), &OpenOptions::default())?;
//! let parts = source.assign(1024, 256, 0)?;
//! let mut preprocess = Preprocess::default();
//! preprocess.mean = vec![0.485, 0.456, 0.406];
//! preprocess.std = vec![0.229, 0.224, 0.225];
//! let input = preprocess.fit_to(parts.train, &[Some(3), Some(32), Some(32)])?;
//! let values = parts.train.batch(&parts.calibration.calibration[..32], &input)?;
//! assert_eq!(values.len(), 32 * 3 * 32 * 32);
//! # Ok::<(), regraft_data::DataError>(())
//! ```

mod arrays;
mod cifar;
mod dataset;
mod detect;
mod elements;
mod error;
mod file;
mod folder;
mod idx;
mod image_file;
mod limits;
mod metrics;
mod named_arrays;
mod npy;
mod npz;
mod numbers;
mod pixels;
mod preprocess;
mod source;
mod split;
mod table;
mod vary;

pub use dataset::{Dataset, ImageShape};
pub use detect::{Detected, Format, Part, Role, detect};
pub use error::DataError;
pub use limits::Limits;
pub use metrics::{
    Agreement, Metrics, PerClass, PrCurve, agreement, argmax_rows, average_precision,
    confusion_matrix, mean_squared_error, precision_recall_curve, precision_recall_f1, softmax,
    top_k_accuracy,
};
pub use named_arrays::{ArrayValues, NamedArray, read_npz};
pub use numbers::{NumberFigures, NumberSums, Numbers};
pub use preprocess::{ChannelOrder, Color, Layout, Preprocess, Scale, Size};
pub use source::{Assignment, DataSource, OpenOptions, Split, open};
pub use split::{CalibrationSplit, SplitMix64, split_calibration};
pub use table::LabelColumn;
pub use vary::{Augment, Mix, cut_out, shuffled};
