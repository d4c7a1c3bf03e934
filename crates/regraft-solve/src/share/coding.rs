//! How the elements of a shared tensor are laid out, and what each part takes.
//!
//! *Dense*: the index of every element. *Sparse*: for each element that is not zero, the zeros before
//! it since the last one, in `b` bits, and its index. Where more than `2^b − 1` zeros lie before it,
//! a filler goes first, an entry of `2^b − 1` zeros whose own index is that of zero. All `b` are
//! tried, and both layouts; each list of symbols is written plain or by Huffman codes with their
//! table, whichever is shorter.
//!
//! # Reference
//! Han, Mao, Dally, Deep Compression, ICLR 2016, section 2 and figure 2.

use super::bits::number_bits;
use super::huffman::{code_lengths, coded_bits};
use super::stream::Place;
use super::{SharedValues, SolveError};

/// The widest distance, in bits.
pub(super) const MAX_DISTANCE_WIDTH: u8 = 12;

/// Bits of the number that tells how wide a table's lengths are.
pub(super) const LENGTH_WIDTH_BITS: u8 = 3;

/// What a shared tensor takes, part by part.
///
/// # Units
/// Bytes where the name says so, else bits. Index and distance bits are those of the layout that
/// [`encode`](super::encode) chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Elements, zeros included.
    pub n_values: usize,
    /// Elements that are not zero.
    pub n_nonzero: usize,
    /// Fillers between distant elements.
    pub n_fillers: usize,
    /// Entries of the codebook, that of zero included.
    pub n_entries: usize,
    /// All elements as 32-bit floats.
    pub dense_bytes: u64,
    /// The entries as 32-bit floats; that of zero needs none.
    pub codebook_bytes: u64,
    /// Bits of a plain index.
    pub index_width: u8,
    /// All indices, plain.
    pub index_bits_plain: u64,
    /// All indices in Huffman codes.
    pub index_bits_huffman: u64,
    /// The code lengths of the indices.
    pub index_table_bits: u64,
    /// Bits of a plain distance; `None` in the dense layout.
    pub distance_width: Option<u8>,
    /// All distances, plain.
    pub distance_bits_plain: u64,
    /// All distances in Huffman codes.
    pub distance_bits_huffman: u64,
    /// The code lengths of the distances.
    pub distance_table_bits: u64,
    /// Stage one: plain distances and 32-bit floats, with the `b` best for them; all floats where
    /// those are fewer bytes.
    pub pruned_bytes: u64,
    /// Stage two: codebook, plain indices and plain distances, with the `b` best for them.
    pub shared_bytes: u64,
    /// Stage three: the length of what [`encode`](super::encode) returns.
    pub coded_bytes: u64,
}

/// A list of symbols and the shorter of two ways to write it.
#[derive(Clone, Debug, Default)]
pub(super) struct Coding {
    counts: Vec<u64>,
    /// Bits of a plain symbol.
    pub(super) width: u8,
    /// Code lengths up to the last symbol that occurs.
    pub(super) lengths: Vec<u8>,
}

impl Coding {
    fn new(mut counts: Vec<u64>, width: u8) -> Self {
        while counts.last() == Some(&0) {
            counts.pop();
        }
        Self {
            lengths: code_lengths(&counts),
            counts,
            width,
        }
    }

    fn plain_bits(&self) -> u64 {
        self.counts.iter().sum::<u64>() * u64::from(self.width)
    }

    fn huffman_bits(&self) -> u64 {
        coded_bits(&self.counts, &self.lengths)
    }

    /// Returns the bits of one length in the table.
    pub(super) fn length_width(&self) -> u8 {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        (8 - longest.leading_zeros()) as u8
    }

    fn table_bits(&self) -> u64 {
        let n = self.lengths.len() as u64;
        u64::from(LENGTH_WIDTH_BITS) + number_bits(n) + n * u64::from(self.length_width())
    }

    pub(super) fn is_huffman(&self) -> bool {
        self.huffman_bits() + self.table_bits() < self.plain_bits()
    }

    fn bits(&self) -> u64 {
        self.plain_bits()
            .min(self.huffman_bits() + self.table_bits())
    }
}

/// How a tensor is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// `None`: dense.
    pub(super) distance_width: Option<u8>,
    /// Entries written, fillers included; all elements if dense.
    pub(super) n_stored: u64,
    n_fillers: u64,
    pub(super) indices: Coding,
    pub(super) distances: Coding,
}

impl Layout {
    /// Returns the layout that takes the fewest bits.
    pub(super) fn best(values: &SharedValues) -> Self {
        let dense = Self::dense(values);
        if !values.has_zero() {
            return dense;
        }
        let gaps = gaps(&values.indices);
        let sparse = (0..=MAX_DISTANCE_WIDTH).map(|b| Self::sparse(values, &gaps, b));
        sparse.fold(dense, |best, next| {
            if next.bits() < best.bits() {
                next
            } else {
                best
            }
        })
    }

    fn dense(values: &SharedValues) -> Self {
        let mut counts = vec![0; values.codebook.len()];
        for &i in &values.indices {
            counts[usize::from(i)] += 1;
        }
        Self {
            n_stored: values.indices.len() as u64,
            indices: Coding::new(counts, index_width(values.codebook.len())),
            ..Self::default()
        }
    }

    fn sparse(values: &SharedValues, gaps: &[usize], width: u8) -> Self {
        let mut counts = vec![0; values.codebook.len()];
        for &i in values.indices.iter().filter(|i| **i > 0) {
            counts[usize::from(i)] += 1;
        }
        let reach = 1 << width;
        let mut distances = vec![0; reach];
        let mut n_fillers = 0;
        for gap in gaps {
            n_fillers += (gap / reach) as u64;
            distances[gap % reach] += 1;
        }
        counts[0] = n_fillers;
        distances[reach - 1] += n_fillers;
        Self {
            distance_width: Some(width),
            n_stored: gaps.len() as u64 + n_fillers,
            n_fillers,
            indices: Coding::new(counts, index_width(values.codebook.len())),
            distances: Coding::new(distances, width),
        }
    }

    /// Returns the bits besides codebook and first flags.
    fn bits(&self) -> u64 {
        let lists = self.indices.bits() + self.distances.bits();
        match self.distance_width {
            None => lists,
            Some(_) => lists + 4 + number_bits(self.n_stored),
        }
    }
}

/// Returns the bits of an index into so many entries.
pub(super) fn index_width(n_entries: usize) -> u8 {
    (usize::BITS - n_entries.saturating_sub(1).leading_zeros()) as u8
}

/// Returns the zeros before each element that is not zero, since the last one.
fn gaps(indices: &[u16]) -> Vec<usize> {
    let mut gaps = Vec::new();
    let mut zeros = 0;
    for &i in indices {
        if i == 0 {
            zeros += 1;
        } else {
            gaps.push(zeros);
            zeros = 0;
        }
    }
    gaps
}

/// Returns what a tensor takes in each stage.
///
/// # Errors
/// [`SolveError::Index`] for an index without entry, [`SolveError::NotFinite`] for a codebook that
/// is not finite.
pub fn sizes(values: &SharedValues, place: Place) -> Result<Sizes, SolveError> {
    values.check()?;
    Ok(sizes_of(values, place, &Layout::best(values)))
}

/// Returns what a tensor takes in a layout.
pub(super) fn sizes_of(values: &SharedValues, place: Place, layout: &Layout) -> Sizes {
    let n_entries = values.codebook.len();
    let zero = usize::from(values.has_zero());
    let codebook_bytes = match place {
        Place::Inside => 4 * (n_entries - zero) as u64,
        Place::Apart => 0,
    };
    let (n, n_nonzero) = (values.indices.len(), count_nonzero(values));
    let head = match place {
        Place::Inside => 5 + number_bits(n_entries as u64),
        Place::Apart => 5,
    };
    Sizes {
        n_values: n,
        n_nonzero,
        n_fillers: layout.n_fillers as usize,
        n_entries,
        dense_bytes: 4 * n as u64,
        codebook_bytes,
        index_width: layout.indices.width,
        index_bits_plain: layout.indices.plain_bits(),
        index_bits_huffman: layout.indices.huffman_bits(),
        index_table_bits: layout.indices.table_bits(),
        distance_width: layout.distance_width,
        distance_bits_plain: layout.distances.plain_bits(),
        distance_bits_huffman: layout.distances.huffman_bits(),
        distance_table_bits: layout
            .distance_width
            .map_or(0, |_| layout.distances.table_bits()),
        pruned_bytes: plain_bits(values, 32).div_ceil(8),
        shared_bytes: codebook_bytes + plain_bits(values, index_width(n_entries)).div_ceil(8),
        coded_bytes: codebook_bytes + (head + layout.bits()).div_ceil(8),
    }
}

fn count_nonzero(values: &SharedValues) -> usize {
    if values.has_zero() {
        values.indices.iter().filter(|i| **i > 0).count()
    } else {
        values.indices.len()
    }
}

/// Returns the bits of elements of `width` bits, dense or with plain distances.
fn plain_bits(values: &SharedValues, width: u8) -> u64 {
    let dense = values.indices.len() as u64 * u64::from(width);
    if !values.has_zero() {
        return dense;
    }
    let gaps = gaps(&values.indices);
    let of_width = |b: u8| {
        let fillers: usize = gaps.iter().map(|g| g >> b).sum();
        (gaps.len() + fillers) as u64 * u64::from(width + b)
    };
    let sparse = (0..=MAX_DISTANCE_WIDTH).map(of_width).min();
    dense.min(sparse.unwrap_or(dense))
}
