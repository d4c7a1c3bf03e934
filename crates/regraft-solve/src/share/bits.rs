//! Bits in bytes, the highest bit first.

use crate::error::SolveError;

/// Writes bits.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    n_bits: usize,
}

impl BitWriter {
    /// Writes the low `width` bits of `value`.
    pub(super) fn put(&mut self, value: u64, width: u8) {
        for shift in (0..width).rev() {
            if self.n_bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> shift & 1) as u8) << (7 - self.n_bits % 8);
            }
            self.n_bits += 1;
        }
    }

    /// Writes a number in groups of seven bits, the lowest first, each after a bit that tells
    /// whether another follows.
    pub(super) fn put_number(&mut self, mut value: u64) {
        loop {
            self.put(u64::from(value > 127), 1);
            self.put(value & 127, 7);
            value >>= 7;
            if value == 0 {
                return;
            }
        }
    }

    /// Returns the bits written, the last byte filled with zeros.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Returns the bits that [`BitWriter::put_number`] takes.
pub(super) fn number_bits(value: u64) -> u64 {
    8 * u64::from((64 - value.leading_zeros()).div_ceil(7).max(1))
}

/// Reads bits.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    n_bits: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, n_bits: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.n_bits / 8)?;
        let bit = byte >> (7 - self.n_bits % 8) & 1;
        self.n_bits += 1;
        Some(bit == 1)
    }

    /// Returns the next `width` bits as a number.
    pub(super) fn take(&mut self, width: u8) -> Result<u64, SolveError> {
        let mut value = 0;
        for _ in 0..width {
            let bit = self.bit().ok_or_else(|| self.damaged("an early end"))?;
            value = value << 1 | u64::from(bit);
        }
        Ok(value)
    }

    /// Returns a number that [`BitWriter::put_number`] wrote.
    pub(super) fn take_number(&mut self) -> Result<u64, SolveError> {
        let mut value = 0;
        for group in 0..9 {
            let more = self.take(1)? == 1;
            value |= self.take(7)? << (7 * group);
            if !more {
                return Ok(value);
            }
        }
        Err(self.damaged("a number without end"))
    }

    /// Returns the bytes that were begun.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bits.div_ceil(8)
    }

    /// Returns an error at this place.
    pub(super) fn damaged(&self, what: &'static str) -> SolveError {
        SolveError::Damaged {
            what,
            at: self.n_bytes(),
        }
    }
}
