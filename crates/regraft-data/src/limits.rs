//! How much a reader may take, so that a hostile file costs little.

use crate::error::DataError;

const GIB: u64 = 1 << 30;

/// The limits that guard every reader; a file past one is refused with its name.
///
/// # Units
/// Bytes where the name says so, otherwise counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of one file as stored.
    pub max_file_bytes: u64,
    /// Size of one array after decompression.
    pub max_tensor_bytes: u64,
    /// Sum of all arrays held in memory.
    pub max_total_bytes: u64,
    /// Decompressed over compressed size; looked at past 16 MiB only, where
    /// small runs of zeros no longer explain a high ratio.
    pub max_ratio: u64,
    /// Samples per split.
    pub max_samples: u64,
    /// Files per data set.
    pub max_files: u64,
    /// Width times height of one image.
    pub max_image_pixels: u64,
    /// Length of one CSV field.
    pub max_field_bytes: u64,
    /// Columns of a CSV file.
    pub max_columns: u64,
    /// Length of an npy header.
    pub max_header_bytes: u64,
    /// Classes of a data set.
    pub max_classes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_bytes: 8 * GIB,
            max_tensor_bytes: 8 * GIB,
            max_total_bytes: 12 * GIB,
            // Deflate ends near 1,030; real image and feature data stay under 100.
            max_ratio: 300,
            max_samples: 100_000_000,
            max_files: 5_000_000,
            // 89 megapixels is where Pillow starts to warn of a bomb.
            max_image_pixels: 89_478_485,
            max_field_bytes: 1 << 20,
            max_columns: 1_000_000,
            // NumPy's own limit.
            max_header_bytes: 10_000,
            max_classes: 100_000,
        }
    }
}

/// Decompressed bytes below which the ratio is not looked at.
pub(crate) const RATIO_FLOOR_BYTES: u64 = 16 << 20;

/// The limits of one `open` call together with what it has used so far.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limits: Limits,
    spent_bytes: u64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            spent_bytes: 0,
        }
    }

    /// Books `bytes` of memory for an array of `file`, before it is allocated.
    pub(crate) fn spend(&mut self, file: &str, bytes: u64) -> Result<(), DataError> {
        check(
            file,
            "array size in bytes",
            bytes,
            self.limits.max_tensor_bytes,
            "max_tensor_bytes",
        )?;
        let total = self.spent_bytes.saturating_add(bytes);
        check(
            file,
            "memory for all arrays in bytes",
            total,
            self.limits.max_total_bytes,
            "max_total_bytes",
        )?;
        self.spent_bytes = total;
        Ok(())
    }

    pub(crate) fn check_samples(&self, file: &str, n: u64) -> Result<(), DataError> {
        check(
            file,
            "number of samples",
            n,
            self.limits.max_samples,
            "max_samples",
        )
    }
}

/// Refuses `value` above `limit`.
pub(crate) fn check(
    file: &str,
    what: &'static str,
    value: u64,
    limit: u64,
    name: &'static str,
) -> Result<(), DataError> {
    if value <= limit {
        return Ok(());
    }
    Err(DataError::Limit {
        file: file.to_owned(),
        what,
        value,
        limit,
        name,
    })
}
