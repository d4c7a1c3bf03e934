//! Optimal prefix codes.
//!
//! Only the lengths of the codes matter: codes are handed out in the order of length, then symbol
//! (canonical codes), so that a table of lengths is all a reader needs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Returns the code length of each symbol, in bits, that makes a text with these counts shortest;
/// 0 for symbols that do not occur, 1 for a symbol that is alone.
///
/// # Reference
/// Huffman, A Method for the Construction of Minimum-Redundancy Codes, Proc. IRE 1952.
pub fn code_lengths(counts: &[u64]) -> Vec<u8> {
    let used: Vec<usize> = (0..counts.len()).filter(|&s| counts[s] > 0).collect();
    let mut lengths = vec![0; counts.len()];
    if let [alone] = used[..] {
        lengths[alone] = 1;
        return lengths;
    }
    // Leaves come first, then the nodes in the order in which they are made.
    let mut parent: Vec<usize> = vec![0; used.len()];
    let leaf = |(i, &s): (usize, &usize)| Reverse((counts[s], i));
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = used.iter().enumerate().map(leaf).collect();
    while let (Some(Reverse(a)), Some(Reverse(b))) = (heap.pop(), heap.pop()) {
        let node = parent.len();
        parent.push(0);
        parent[a.1] = node;
        parent[b.1] = node;
        heap.push(Reverse((a.0.saturating_add(b.0), node)));
        if heap.len() == 1 {
            break;
        }
    }
    // A parent comes after its children: from the root down, depths are known in time.
    let mut depth = vec![0_u8; parent.len()];
    for node in (0..parent.len().saturating_sub(1)).rev() {
        depth[node] = depth[parent[node]] + 1;
    }
    for (i, &symbol) in used.iter().enumerate() {
        lengths[symbol] = depth[i];
    }
    lengths
}

/// Returns the bits of a text with these counts under codes of these lengths.
pub fn coded_bits(counts: &[u64], lengths: &[u8]) -> u64 {
    let pairs = counts.iter().zip(lengths);
    pairs.map(|(n, l)| n * u64::from(*l)).sum()
}

/// Returns symbols that have a code, by length and then by number.
fn canonical_order(lengths: &[u8]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&s| lengths[s] > 0).collect();
    order.sort_by_key(|&s| (lengths[s], s));
    order
}

/// Returns the canonical code of each symbol, in the low bits.
pub(crate) fn codes(lengths: &[u8]) -> Vec<u64> {
    let mut codes = vec![0; lengths.len()];
    let (mut next, mut length) = (0_u64, 0);
    for symbol in canonical_order(lengths) {
        next <<= lengths[symbol] - length;
        length = lengths[symbol];
        codes[symbol] = next;
        next += 1;
    }
    codes
}

/// The longest code that is read: longer ones need more symbols than fit any memory.
pub(crate) const MAX_LENGTH: u8 = 62;

/// Reads canonical codes.
#[derive(Debug)]
pub(crate) struct Decoder {
    order: Vec<usize>,
    /// Codes of each length.
    counts: Vec<u64>,
}

impl Decoder {
    /// Returns a reader for codes of these lengths; `None` if no prefix code has them.
    pub(crate) fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = vec![0; usize::from(MAX_LENGTH) + 1];
        let mut left = 1_u64 << MAX_LENGTH;
        for &length in lengths.iter().filter(|l| **l > 0) {
            *counts.get_mut(usize::from(length))? += 1;
            left = left.checked_sub(1 << (MAX_LENGTH - length))?;
        }
        Some(Self {
            order: canonical_order(lengths),
            counts,
        })
    }

    /// Returns the next symbol; `None` at the end or where no code fits.
    pub(crate) fn next(&self, mut bit: impl FnMut() -> Option<bool>) -> Option<usize> {
        let (mut code, mut first, mut before) = (0_u64, 0_u64, 0_u64);
        for &count in self.counts.get(1..)? {
            code = code << 1 | u64::from(bit()?);
            first <<= 1;
            if code < first + count {
                return self.order.get((before + code - first) as usize).copied();
            }
            first += count;
            before += count;
        }
        None
    }
}
