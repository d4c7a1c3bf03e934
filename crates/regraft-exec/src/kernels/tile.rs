//! The register tile that the convolutions and the matrix product are made of.
//!
//! A tile holds `MR` rows by `NV` vectors of the result in registers and walks over
//! the inner dimension once: `NV` vector loads and `MR` broadcasts for `MR·NV` fused
//! multiply-adds. pulp compiles it for each instruction set and chooses at run time.

use pulp::{Arch, Simd, WithSimd};

/// Most rows in a tile; 12 × 2 accumulators leave room in 32 registers.
pub(crate) const MAX_ROWS: usize = 12;

/// Rows of a tile on instruction sets with 16 registers.
const ROWS_16_REGISTERS: usize = 6;

/// Vectors per tile row.
pub(crate) const VECTORS: usize = 2;

/// What the running machine's vectors look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lanes {
    /// f32 lanes in one vector.
    pub(crate) lanes: usize,
    /// Rows that fit into the registers with [`VECTORS`] vectors each.
    pub(crate) rows: usize,
}

struct AskLanes;

impl WithSimd for AskLanes {
    type Output = Lanes;

    fn with_simd<S: Simd>(self, _simd: S) -> Lanes {
        Lanes {
            lanes: S::F32_LANES,
            rows: if S::REGISTER_COUNT >= 32 {
                MAX_ROWS
            } else {
                ROWS_16_REGISTERS
            },
        }
    }
}

/// Returns the vector width and tile height of the running machine.
pub(crate) fn lanes() -> Lanes {
    Arch::new().dispatch(AskLanes)
}

/// Writes `rows × vectors` sums over k of `a[k][row] · b[k][vector]` into `sums`.
///
/// The sums are handed over in one pass at the end: an array that is read in any other way
/// lives in memory, and every product would be followed by a store.
/// # Shapes
/// `a`: k × `MR`, `b`: k × `NV` vectors, both packed without gaps.
#[inline(always)]
pub(crate) fn multiply<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    a: &[f32],
    b: &[S::f32s],
    sums: &mut [[S::f32s; NV]; MR],
) {
    let mut acc = [[simd.splat_f32s(0.0); NV]; MR];
    let (a, _) = a.as_chunks::<MR>();
    let (b, _) = b.as_chunks::<NV>();
    for (a_k, b_k) in a.iter().zip(b) {
        for row in 0..MR {
            let factor = simd.splat_f32s(a_k[row]);
            for vector in 0..NV {
                acc[row][vector] = simd.mul_add_e_f32s(factor, b_k[vector], acc[row][vector]);
            }
        }
    }
    for row in 0..MR {
        for vector in 0..NV {
            sums[row][vector] = acc[row][vector];
        }
    }
}

/// One block along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// First index.
    pub(crate) start: usize,
    /// Indices in the block.
    pub(crate) len: usize,
}

/// Returns the axis cut into the fewest blocks of at most `max`, sizes as equal as can be.
///
/// Equal blocks matter for pruned widths: 13 rows are 7 + 6, not 12 + 1.
pub(crate) fn even_blocks(total: usize, max: usize) -> Vec<Block> {
    let count = total.div_ceil(max.max(1));
    let mut start = 0;
    (0..count)
        .map(|i| {
            let len = total / count + usize::from(i < total % count);
            let block = Block { start, len };
            start += len;
            block
        })
        .collect()
}

/// Appends rows `rows` × columns `cols` of a row-major matrix to `out`, column by column.
pub(crate) fn pack_rows(out: &mut Vec<f32>, a: &[f32], row_len: usize, rows: Block, cols: Block) {
    let start = out.len();
    out.resize(start + rows.len * cols.len, 0.0);
    let target = &mut out[start..];
    for r in 0..rows.len {
        let source = &a[(rows.start + r) * row_len + cols.start..][..cols.len];
        for (value, slot) in source.iter().zip(target[r..].iter_mut().step_by(rows.len)) {
            *slot = *value;
        }
    }
}
