//! IDX files, the format of MNIST and its relatives.
//!
//! # Reference
//! Yann `LeCun`, Corinna Cortes, "The MNIST database of handwritten digits":
//! two zero bytes, a type byte, the rank, big-endian u32 dimensions, the values.

use std::path::Path;

use crate::elements::{Elements, checked_bytes, read_u8};
use crate::error::DataError;
use crate::file::Stream;
use crate::limits::Budget;

/// Type code of unsigned bytes, the only one that the MNIST family uses.
const UNSIGNED_BYTE: u8 = 8;

/// Reads an IDX array: its shape and bytes.
pub(crate) fn read(path: &Path, budget: &mut Budget) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let mut stream = Stream::open(path, &budget.limits)?;
    let mut magic = [0_u8; 4];
    stream.exact(&mut magic)?;
    let file = stream.name().to_owned();
    let [0, 0, code, rank] = magic else {
        return Err(DataError::malformed(
            &file,
            "IDX",
            "it does not begin with two zero bytes",
        ));
    };
    if code != UNSIGNED_BYTE {
        return Err(DataError::malformed(
            &file,
            "IDX",
            format!("type code {code:#04x} is not unsigned byte (0x08)"),
        ));
    }
    if rank == 0 || rank > 4 {
        return Err(DataError::malformed(
            &file,
            "IDX",
            format!("{rank} dimensions, 1 to 4 expected"),
        ));
    }
    let mut dims = Vec::new();
    for _ in 0..rank {
        let mut dim = [0_u8; 4];
        stream.exact(&mut dim)?;
        dims.push(u64::from(u32::from_be_bytes(dim)));
    }
    let bytes = checked_bytes(&file, &dims, 1, budget)?;
    budget.check_samples(&file, dims.first().copied().unwrap_or(0))?;
    let values = read_u8(&mut stream, bytes, budget)?;
    stream.expect_end("IDX")?;
    Ok((dims.iter().map(|&d| d as usize).collect(), values))
}

/// Reads samples: shape with the sample axis first, and values.
pub(crate) fn read_samples(
    path: &Path,
    budget: &mut Budget,
) -> Result<(Vec<usize>, Elements), DataError> {
    let (shape, values) = read(path, budget)?;
    Ok((shape, Elements::U8(values)))
}

/// Reads labels, one byte each.
pub(crate) fn read_labels(path: &Path, budget: &mut Budget) -> Result<Vec<u32>, DataError> {
    let (shape, values) = read(path, budget)?;
    if shape.len() != 1 {
        return Err(DataError::malformed(
            &path.display().to_string(),
            "IDX",
            format!("labels have {} dimensions, 1 expected", shape.len()),
        ));
    }
    Ok(values.into_iter().map(u32::from).collect())
}
