//! Weight sharing: few values for many weights, and the bytes that are left.
//!
//! The three stages of Deep Compression (Han, Mao, Dally, ICLR 2016), each with something better:
//!
//! 1. *pruning* is given: exact zeros stay exact zeros, and entry 0 of the codebook is theirs;
//! 2. *sharing* ([`fit_codebook`]): one-dimensional k-means is solved exactly by dynamic programming
//!    instead of by Lloyd's iterations, weighted by the curvature of the layer's output error (its
//!    Gram diagonal); then the codebook and the assignment are improved in turn in the full Gram
//!    metric, where the error of one weight can be paid back by another;
//! 3. *coding* ([`encode`]): distances between weights that are not zero and codebook indices, each
//!    by an optimal prefix code (Huffman) where that is smaller than plain numbers, its table
//!    included. [`decode`] reads the bytes back: every size that is told is that of real bytes.

mod bits;
mod coding;
mod fit;
mod huffman;
mod kmeans;
mod metric;
mod stream;
#[cfg(test)]
mod tests;

use crate::error::SolveError;

pub use coding::{Sizes, sizes};
pub use fit::{Fitted, Part, Weighting, fit_codebook};
pub use huffman::{code_lengths, coded_bits};
pub use kmeans::{Codebook, EXACT_CELLS, codebook, nearest};
pub use metric::output_energy;
pub use stream::{Place, decode, encode, encode_measured};

/// The largest codebook: an index takes two bytes at most.
pub const MAX_ENTRIES: usize = 1 << 16;

/// A tensor whose elements are entries of a codebook.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SharedValues {
    /// The entries; where the first is 0, elements of index 0 are the zeros of a sparse tensor.
    pub codebook: Vec<f32>,
    /// The entry of each element, row-major in the tensor's own order.
    pub indices: Vec<u16>,
}

impl SharedValues {
    /// Returns whether entry 0 is that of the zeros.
    pub fn has_zero(&self) -> bool {
        self.codebook.first() == Some(&0.0)
    }

    /// Returns the elements; an index without an entry reads as 0.
    pub fn values(&self) -> Vec<f32> {
        let entry = |&i: &u16| self.codebook.get(usize::from(i)).copied();
        self.indices
            .iter()
            .map(|i| entry(i).unwrap_or(0.0))
            .collect()
    }

    /// Returns an error unless every index has a finite entry and the codebook is not too large.
    fn check(&self) -> Result<(), SolveError> {
        let len = self.codebook.len();
        if len > MAX_ENTRIES {
            return Err(SolveError::Option {
                option: "codebook entries",
                value: len as f64,
                expected: "at most 65536 have an index",
            });
        }
        if let Some(col) = self.codebook.iter().position(|v| !v.is_finite()) {
            let (what, row) = ("codebook", 0);
            return Err(SolveError::NotFinite { what, row, col });
        }
        match self.indices.iter().find(|&&i| usize::from(i) >= len) {
            None => Ok(()),
            Some(&i) => Err(SolveError::Index {
                what: "codebook entry",
                index: i.into(),
                len,
            }),
        }
    }
}
