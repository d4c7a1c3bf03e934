//! Flat arrays of samples in the smallest type that holds them.

use crate::error::DataError;
use crate::file::{Stream, reserve};
use crate::limits::Budget;

/// Values in row-major order; `u8` and `f16` stay as they are until a batch asks.
#[derive(Debug, Clone)]
pub(crate) enum Elements {
    U8(Vec<u8>),
    /// Bit patterns of IEEE 754 half precision.
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Elements {
    pub(crate) fn is_u8(&self) -> bool {
        matches!(self, Self::U8(_))
    }

    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// Returns how the values are kept, in words.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::F16(_) => "f16",
            Self::F32(_) => "f32",
        }
    }

    /// Appends `len` values from `start` to `out` as f32; the caller checked the range.
    pub(crate) fn append_to(&self, start: usize, len: usize, out: &mut Vec<f32>) {
        let range = start..start + len;
        match self {
            Self::U8(v) => out.extend(v[range].iter().map(|&x| f32::from(x))),
            Self::F16(v) => out.extend(v[range].iter().map(|&x| f16_to_f32(x))),
            Self::F32(v) => out.extend_from_slice(&v[range]),
        }
    }
}

/// Returns the value of a half-precision bit pattern; every half is exact in f32.
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0_f32 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        e => (1024.0 + fraction) * 2.0_f32.powi(e - 25),
    };
    sign * magnitude
}

/// Reads `len` raw bytes.
pub(crate) fn read_u8(
    stream: &mut Stream<'_>,
    len: u64,
    budget: &mut Budget,
) -> Result<Vec<u8>, DataError> {
    budget.spend(stream.name(), len)?;
    let name = stream.name().to_owned();
    let mut out = Vec::new();
    stream.for_chunks(len, |chunk| {
        reserve(&mut out, chunk.len(), &name)?;
        out.extend_from_slice(chunk);
        Ok(())
    })?;
    out.shrink_to_fit();
    Ok(out)
}

/// Returns the product of `dims` times `item_bytes`, or the limit error.
pub(crate) fn checked_bytes(
    file: &str,
    dims: &[u64],
    item_bytes: u64,
    budget: &Budget,
) -> Result<u64, DataError> {
    let limit = budget.limits.max_tensor_bytes;
    // A zero anywhere must not hide an overflow in the other dimensions.
    dims.iter()
        .map(|&d| d.max(1))
        .try_fold(item_bytes, u64::checked_mul)
        .filter(|&bytes| bytes <= limit)
        .ok_or_else(|| DataError::Limit {
            file: file.to_owned(),
            what: "declared array size in bytes",
            value: dims.iter().fold(item_bytes, |a, &d| a.saturating_mul(d)),
            limit,
            name: "max_tensor_bytes",
        })?;
    Ok(dims.iter().product::<u64>() * item_bytes)
}

#[cfg(test)]
mod tests {
    use super::f16_to_f32;

    #[test]
    fn half_precision_has_the_published_values() {
        // Values from the IEEE 754 half-precision examples.
        let table = [
            (0x0000, 0.0_f32),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in table {
            assert_eq!(f16_to_f32(bits).to_bits(), value.to_bits(), "{bits:#x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }
}
