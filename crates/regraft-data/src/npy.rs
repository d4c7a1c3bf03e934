//! `NumPy` arrays: a strict parser for the npy format, versions 1 to 3.
//!
//! The header is a Python dictionary literal. Only the one that `NumPy` writes is
//! accepted, by a small grammar: nothing is evaluated.
//!
//! # Reference
//! `NumPy` Enhancement Proposal 1, and `numpy.lib.format`.

mod header;
#[cfg(test)]
mod tests;

pub(crate) use header::{Header, Number, read_header};

use crate::elements::{Elements, checked_bytes, f16_to_f32, read_u8};
use crate::error::DataError;
use crate::file::{Stream, reserve};
use crate::limits::Budget;

/// Largest magnitude below which every integer is exact in f32.
const EXACT_INT: f64 = 16_777_216.0;

/// Reads the values after `header`, in row-major order.
pub(crate) fn read_values(
    stream: &mut Stream<'_>,
    header: &Header,
    budget: &mut Budget,
) -> Result<Elements, DataError> {
    let bytes = checked_bytes(stream.name(), &header.shape, header.number.bytes(), budget)?;
    let elements = match header.number {
        Number::U8 | Number::Bool => Elements::U8(read_u8(stream, bytes, budget)?),
        Number::F16 => Elements::F16(read_half(stream, header, bytes, budget)?),
        _ => Elements::F32(read_f32(stream, header, bytes, budget)?),
    };
    stream.expect_end("npy")?;
    if !header.fortran_order || header.shape.len() < 2 {
        return Ok(elements);
    }
    // The row-major copy lives beside the original for a moment.
    let file = stream.name().to_owned();
    let shape = usize_shape(&file, &header.shape)?;
    Ok(match elements {
        Elements::U8(v) => Elements::U8(to_row_major(&v, &shape, &file)?),
        Elements::F16(v) => Elements::F16(to_row_major(&v, &shape, &file)?),
        Elements::F32(v) => Elements::F32(to_row_major(&v, &shape, &file)?),
    })
}

/// Reads integers and truth values after `header`, in row-major order.
///
/// # Errors
/// `Value` for an unsigned integer past the range of `i64`.
pub(crate) fn read_integers(
    stream: &mut Stream<'_>,
    header: &Header,
    budget: &mut Budget,
) -> Result<Vec<i64>, DataError> {
    let file = stream.name().to_owned();
    let item_bytes = header.number.bytes();
    let bytes = checked_bytes(&file, &header.shape, item_bytes, budget)?;
    budget.spend(&file, (bytes / item_bytes).saturating_mul(8))?;
    let mut out: Vec<i64> = Vec::new();
    stream.for_chunks(bytes, |chunk| {
        reserve(&mut out, chunk.len() / item_bytes as usize, &file)?;
        for item in chunk.chunks_exact(item_bytes as usize) {
            let value = header.number.integer(item, header.big_endian);
            if header.number == Number::U64 && value == i64::MAX {
                return Err(DataError::Value {
                    file: file.clone(),
                    what: "an integer past the range of 64 signed bits".to_owned(),
                    place: format!("element {}", out.len()),
                });
            }
            out.push(value);
        }
        Ok(())
    })?;
    stream.expect_end("npy")?;
    if !header.fortran_order || header.shape.len() < 2 {
        return Ok(out);
    }
    let shape = usize_shape(&file, &header.shape)?;
    to_row_major(&out, &shape, &file)
}

/// Reads integer class labels.
///
/// # Errors
/// `LabelRange` for a negative label or one that `max_classes` does not allow.
pub(crate) fn read_labels(
    stream: &mut Stream<'_>,
    header: &Header,
    budget: &mut Budget,
) -> Result<Vec<u32>, DataError> {
    let file = stream.name().to_owned();
    let item_bytes = header.number.bytes();
    let bytes = checked_bytes(&file, &header.shape, item_bytes, budget)?;
    budget.spend(&file, (bytes / item_bytes) * 4)?;
    let n_classes = budget.limits.max_classes;
    let mut labels: Vec<u32> = Vec::new();
    stream.for_chunks(bytes, |chunk| {
        reserve(&mut labels, chunk.len() / item_bytes as usize, &file)?;
        for item in chunk.chunks_exact(item_bytes as usize) {
            let value = header.number.integer(item, header.big_endian);
            let sample = labels.len() as u64;
            let label = u32::try_from(value)
                .ok()
                .filter(|&label| u64::from(label) < n_classes)
                .ok_or_else(|| DataError::LabelRange {
                    file: file.clone(),
                    label: value,
                    sample,
                    n_classes,
                })?;
            labels.push(label);
        }
        Ok(())
    })?;
    stream.expect_end("npy")?;
    Ok(labels)
}

/// Returns a shape as `usize`, which the sizes checked before always allow.
pub(crate) fn usize_shape(file: &str, shape: &[u64]) -> Result<Vec<usize>, DataError> {
    shape
        .iter()
        .map(|&d| {
            usize::try_from(d).map_err(|_| {
                DataError::malformed(file, "npy", format!("dimension {d} is too large"))
            })
        })
        .collect()
}

fn read_half(
    stream: &mut Stream<'_>,
    header: &Header,
    bytes: u64,
    budget: &mut Budget,
) -> Result<Vec<u16>, DataError> {
    budget.spend(stream.name(), bytes)?;
    let file = stream.name().to_owned();
    let mut out: Vec<u16> = Vec::new();
    stream.for_chunks(bytes, |chunk| {
        reserve(&mut out, chunk.len() / 2, &file)?;
        for item in chunk.chunks_exact(2) {
            let pair = [item[0], item[1]];
            let bits = if header.big_endian {
                u16::from_be_bytes(pair)
            } else {
                u16::from_le_bytes(pair)
            };
            if !f16_to_f32(bits).is_finite() {
                return Err(not_finite(&file, out.len()));
            }
            out.push(bits);
        }
        Ok(())
    })?;
    Ok(out)
}

fn read_f32(
    stream: &mut Stream<'_>,
    header: &Header,
    bytes: u64,
    budget: &mut Budget,
) -> Result<Vec<f32>, DataError> {
    let item_bytes = header.number.bytes() as usize;
    budget.spend(stream.name(), (bytes / item_bytes as u64).saturating_mul(4))?;
    let file = stream.name().to_owned();
    let mut out: Vec<f32> = Vec::new();
    stream.for_chunks(bytes, |chunk| {
        reserve(&mut out, chunk.len() / item_bytes, &file)?;
        for item in chunk.chunks_exact(item_bytes) {
            let value = header.number.float(item, header.big_endian);
            let narrow = value as f32;
            if !narrow.is_finite() {
                return Err(not_finite(&file, out.len()));
            }
            if header.number.is_integer() && value.abs() > EXACT_INT {
                return Err(DataError::Value {
                    file: file.clone(),
                    what: format!("integer {value} is not exact in f32"),
                    place: format!("element {}", out.len()),
                });
            }
            out.push(narrow);
        }
        Ok(())
    })?;
    Ok(out)
}

fn not_finite(file: &str, element: usize) -> DataError {
    DataError::Value {
        file: file.to_owned(),
        what: "NaN or infinity (in f32)".to_owned(),
        place: format!("element {element}"),
    }
}

/// Returns column-major `values` of `shape` in row-major order.
fn to_row_major<T: Copy>(values: &[T], shape: &[usize], file: &str) -> Result<Vec<T>, DataError> {
    let mut out = Vec::new();
    reserve(&mut out, values.len(), file)?;
    let mut stride = 1;
    let strides: Vec<usize> = shape
        .iter()
        .map(|&dim| {
            let this = stride;
            stride *= dim;
            this
        })
        .collect();
    let mut index = vec![0; shape.len()];
    let mut offset = 0;
    for _ in 0..values.len() {
        out.push(values[offset]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(out)
}
