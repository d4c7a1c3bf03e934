//! The arrays of one archive by name, each in the type of its kind: what a model with several
//! inputs is fed with.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::DataError;
use crate::limits::{Budget, Limits};
use crate::npz;

/// The values of a [`NamedArray`], row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayValues {
    /// Floating-point numbers of any width.
    F32(Vec<f32>),
    /// Integers of any width.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// One array of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArray {
    /// The extent of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values.
    pub values: ArrayValues,
}

/// Returns every array of the `.npz` archive at `path` by its name, without the ending `.npy`.
///
/// # Errors
/// [`DataError`] if the file cannot be read, is no such archive, or exceeds `limits`; for values
/// that are not finite in 32 bits, and for unsigned integers past the range of `i64`.
pub fn read_npz(path: &Path, limits: &Limits) -> Result<BTreeMap<String, NamedArray>, DataError> {
    let mut budget = Budget::new(limits);
    let mut archive = npz::open(path, &budget)?;
    let names: Vec<String> = archive.arrays.keys().cloned().collect();
    let mut found = BTreeMap::new();
    for name in names {
        let array = archive.named_array(&name, &mut budget)?;
        found.insert(name, array);
    }
    Ok(found)
}
