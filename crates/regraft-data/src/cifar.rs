//! CIFAR-10, binary version.
//!
//! # Reference
//! Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
//! 2009: records of 1 label byte and 3,072 bytes, planes R, G, B, row-major.

use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::file::{self, Stream, reserve};
use crate::limits::Budget;

pub(crate) const N_CLASSES: u8 = 10;
/// Shape of one image.
pub(crate) const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;
pub(crate) const RECORD: usize = PIXELS + 1;
const FORMAT: &str = "CIFAR-10 binary";

/// Reads batches one after the other: pixels and labels.
pub(crate) fn read(
    paths: &[PathBuf],
    budget: &mut Budget,
) -> Result<(Vec<u8>, Vec<u32>), DataError> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for path in paths {
        read_batch(path, budget, &mut pixels, &mut labels)?;
    }
    pixels.shrink_to_fit();
    Ok((pixels, labels))
}

fn read_batch(
    path: &Path,
    budget: &mut Budget,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u32>,
) -> Result<(), DataError> {
    let mut stream = Stream::open(path, &budget.limits)?;
    let file = stream.name().to_owned();
    let mut record = vec![0_u8; RECORD];
    for sample in 0_u64.. {
        let found = stream.fill(&mut record)?;
        if found == 0 {
            if sample == 0 {
                return Err(DataError::malformed(&file, FORMAT, "the file is empty"));
            }
            break;
        }
        if found < RECORD {
            return Err(stream.truncated(RECORD as u64, found as u64));
        }
        if record[0] >= N_CLASSES {
            return Err(DataError::LabelRange {
                file,
                label: i64::from(record[0]),
                sample,
                n_classes: u64::from(N_CLASSES),
            });
        }
        budget.spend(&file, RECORD as u64)?;
        budget.check_samples(&file, labels.len() as u64 + 1)?;
        reserve(pixels, PIXELS, &file)?;
        pixels.extend_from_slice(&record[1..]);
        labels.push(u32::from(record[0]));
    }
    Ok(())
}

/// Reads the class names of `batches.meta.txt`; empty lines are left out.
pub(crate) fn read_class_names(path: &Path, budget: &Budget) -> Result<Vec<String>, DataError> {
    let bytes = file::read_small(path, budget.limits.max_field_bytes, &budget.limits)?;
    let shown = path.display().to_string();
    let text = String::from_utf8(bytes)
        .map_err(|_| DataError::malformed(&shown, "class names", "it is not UTF-8"))?;
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if names.len() != usize::from(N_CLASSES) {
        return Err(DataError::malformed(
            &shown,
            "class names",
            format!("{} names for {N_CLASSES} classes", names.len()),
        ));
    }
    Ok(names)
}
