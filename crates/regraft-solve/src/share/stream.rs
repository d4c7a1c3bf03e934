//! A shared tensor as bytes, and back.
//!
//! Five flags (codebook inside, zero is entry 0, sparse layout, indices in Huffman codes, distances
//! in Huffman codes); the number of entries and the entries as 32-bit floats, if inside; the width of
//! a distance in 4 bits and the number of entries written, if sparse; the tables of codes; the
//! indices; the distances. The number of elements is the tensor's shape's business.

use super::bits::{BitReader, BitWriter};
use super::coding::{
    Coding, LENGTH_WIDTH_BITS, Layout, MAX_DISTANCE_WIDTH, Sizes, index_width, sizes_of,
};
use super::huffman::{Decoder, MAX_LENGTH, codes};
use super::{MAX_ENTRIES, SharedValues};
use crate::error::SolveError;

/// Where a codebook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the tensor.
    Inside,
    /// Somewhere else, as tensors that share one have it.
    Apart,
}

/// Returns the tensor as bytes, in the shortest of the layouts.
///
/// # Errors
/// [`SolveError::Index`] for an index without entry, [`SolveError::NotFinite`] for a codebook that
/// is not finite.
pub fn encode(values: &SharedValues, place: Place) -> Result<Vec<u8>, SolveError> {
    Ok(encode_measured(values, place)?.0)
}

/// Returns the tensor as [`encode`] does, and what each part takes.
///
/// # Errors
/// As [`encode`].
pub fn encode_measured(
    values: &SharedValues,
    place: Place,
) -> Result<(Vec<u8>, Sizes), SolveError> {
    values.check()?;
    let layout = Layout::best(values);
    let bytes = written(values, place, &layout);
    Ok((bytes, sizes_of(values, place, &layout)))
}

fn written(values: &SharedValues, place: Place, layout: &Layout) -> Vec<u8> {
    let zero = values.has_zero();
    let mut bits = BitWriter::default();
    for flag in [
        place == Place::Inside,
        zero,
        layout.distance_width.is_some(),
        layout.indices.is_huffman(),
        layout.distances.is_huffman(),
    ] {
        bits.put(flag.into(), 1);
    }
    if place == Place::Inside {
        bits.put_number(values.codebook.len() as u64);
        for entry in values.codebook.iter().skip(zero.into()) {
            bits.put(entry.to_bits().into(), 32);
        }
    }
    if let Some(width) = layout.distance_width {
        bits.put(width.into(), 4);
        bits.put_number(layout.n_stored);
    }
    put_table(&mut bits, &layout.indices);
    put_table(&mut bits, &layout.distances);
    let (indices, distances) = symbols(values, layout.distance_width);
    put_symbols(&mut bits, &layout.indices, &indices);
    put_symbols(&mut bits, &layout.distances, &distances);
    bits.finish()
}

/// Returns indices and distances in the order in which they are written.
fn symbols(values: &SharedValues, distance_width: Option<u8>) -> (Vec<u16>, Vec<u16>) {
    let Some(width) = distance_width else {
        return (values.indices.clone(), Vec::new());
    };
    let (mut indices, mut distances) = (Vec::new(), Vec::new());
    let furthest = (1 << width) - 1;
    let mut zeros = 0;
    for &index in &values.indices {
        if index > 0 {
            indices.push(index);
            distances.push(zeros);
            zeros = 0;
        } else if zeros == furthest {
            // Trailing zeros would need no filler; those written here are taken back below.
            indices.push(0);
            distances.push(zeros);
            zeros = 0;
        } else {
            zeros += 1;
        }
    }
    let last = indices.iter().rposition(|i| *i > 0).map_or(0, |at| at + 1);
    indices.truncate(last);
    distances.truncate(last);
    (indices, distances)
}

fn put_table(bits: &mut BitWriter, coding: &Coding) {
    if coding.is_huffman() {
        let width = coding.length_width();
        bits.put(width.into(), LENGTH_WIDTH_BITS);
        bits.put_number(coding.lengths.len() as u64);
        for &length in &coding.lengths {
            bits.put(length.into(), width);
        }
    }
}

fn put_symbols(bits: &mut BitWriter, coding: &Coding, symbols: &[u16]) {
    if coding.is_huffman() {
        let codes = codes(&coding.lengths);
        for &s in symbols {
            let s = usize::from(s);
            bits.put(codes[s], coding.lengths[s]);
        }
    } else {
        for &s in symbols {
            bits.put(s.into(), coding.width);
        }
    }
}

/// Returns the tensor of `n_values` elements that [`encode`] wrote.
///
/// # Shapes
/// `codebook` is that of a tensor whose own is elsewhere, and is not read otherwise.
/// # Errors
/// [`SolveError::Damaged`] for bytes that [`encode`] cannot have written.
pub fn decode(
    bytes: &[u8],
    n_values: usize,
    codebook: Option<&[f32]>,
) -> Result<SharedValues, SolveError> {
    let mut bits = BitReader::new(bytes);
    let mut flags = [false; 5];
    for flag in &mut flags {
        *flag = bits.take(1)? == 1;
    }
    let [inside, zero, sparse, huffman_indices, huffman_distances] = flags;
    let codebook = match (inside, codebook) {
        (true, _) => take_codebook(&mut bits, zero)?,
        (false, Some(given)) => given.to_vec(),
        (false, None) => return Err(bits.damaged("a codebook that is elsewhere")),
    };
    let (width, n_stored) = if sparse {
        (bits.take(4)? as u8, bits.take_number()?)
    } else {
        (0, n_values as u64)
    };
    let mut found = SharedValues {
        codebook,
        indices: Vec::new(),
    };
    if width > MAX_DISTANCE_WIDTH || n_stored > n_values as u64 || sparse && !found.has_zero() {
        return Err(bits.damaged("a layout that cannot be"));
    }
    let indices = Symbols::take(
        &mut bits,
        huffman_indices,
        index_width(found.codebook.len()),
    )?;
    let distances = Symbols::take(&mut bits, huffman_distances, width)?;
    let n_entries = found.codebook.len();
    let stored = indices.list(&mut bits, n_stored as usize, n_entries)?;
    if !sparse {
        found.indices = stored;
        return Ok(found);
    }
    found.indices = vec![0; n_values];
    let mut at = 0;
    let gaps = distances.list(&mut bits, stored.len(), 1 << width)?;
    for (index, gap) in stored.iter().zip(gaps) {
        at += usize::from(gap);
        let slot = found.indices.get_mut(at);
        *slot.ok_or_else(|| bits.damaged("an element outside the tensor"))? = *index;
        at += 1;
    }
    Ok(found)
}

fn take_codebook(bits: &mut BitReader<'_>, zero: bool) -> Result<Vec<f32>, SolveError> {
    let len = bits.take_number()?;
    if len > MAX_ENTRIES as u64 || len < u64::from(zero) {
        return Err(bits.damaged("a codebook of impossible size"));
    }
    let mut entries = if zero { vec![0.0] } else { Vec::new() };
    for _ in u64::from(zero)..len {
        let entry = f32::from_bits(bits.take(32)? as u32);
        if !entry.is_finite() {
            return Err(bits.damaged("an entry that is not finite"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// How a list of symbols is read.
enum Symbols {
    Plain(u8),
    Huffman(Decoder),
}

impl Symbols {
    fn take(bits: &mut BitReader<'_>, huffman: bool, width: u8) -> Result<Self, SolveError> {
        if !huffman {
            return Ok(Self::Plain(width));
        }
        let width = bits.take(LENGTH_WIDTH_BITS)? as u8;
        let n = bits.take_number()?;
        if n > MAX_ENTRIES as u64 {
            return Err(bits.damaged("too many codes"));
        }
        let mut lengths = Vec::new();
        for _ in 0..n {
            lengths.push((bits.take(width)? as u8).min(MAX_LENGTH + 1));
        }
        let decoder = Decoder::new(&lengths).ok_or_else(|| bits.damaged("impossible codes"))?;
        Ok(Self::Huffman(decoder))
    }

    /// Returns `n` symbols below `limit`.
    fn list(
        &self,
        bits: &mut BitReader<'_>,
        n: usize,
        limit: usize,
    ) -> Result<Vec<u16>, SolveError> {
        let mut list = Vec::new();
        for _ in 0..n {
            let symbol = match self {
                Self::Plain(width) => bits.take(*width)? as usize,
                Self::Huffman(decoder) => decoder
                    .next(|| bits.bit())
                    .ok_or_else(|| bits.damaged("no code"))?,
            };
            if symbol >= limit {
                return Err(bits.damaged("an index without entry"));
            }
            list.push(symbol as u16);
        }
        Ok(list)
    }
}
