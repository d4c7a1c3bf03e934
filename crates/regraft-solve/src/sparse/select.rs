//! Picking the best connections of a layer under a pattern.

use super::{Mask, Pattern};
use crate::error::{SolveError, same};
use crate::matrix::Matrix;

/// How many connections stay where the pattern leaves it open.
///
/// [`Pattern::Grouped`] fixes the number itself; with it neither variant is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// So many in the whole layer.
    Layer(usize),
    /// So many in each row (output); in each row block of [`Pattern::RowBlocks`].
    PerRow(usize),
}

/// Returns the mask of the highest `scores` (`r × d`, not negative) under a pattern.
///
/// A block's score is the sum over its outputs. Equal scores: the earlier connection stays.
/// # Errors
/// Pattern errors; [`SolveError::Option`] if more should stay than there is;
/// [`SolveError::NotFinite`] for a score that is not a finite number.
pub(super) fn highest(scores: &Matrix, pattern: Pattern, keep: Keep) -> Result<Mask, SolveError> {
    let (r, d) = (scores.rows, scores.cols);
    pattern.check(r, d)?;
    scores.check_finite("scores")?;
    let kept = match pattern {
        Pattern::Grouped { keep, group } => {
            let mut kept = Vec::with_capacity(r * d);
            for run in scores.data.chunks_exact(group) {
                kept.extend(top(run, keep));
            }
            kept
        }
        Pattern::Unstructured => units(&scores.data, d, keep)?,
        Pattern::RowBlocks { rows } => {
            let mut sums = Vec::with_capacity(r / rows * d);
            for block in scores.data.chunks_exact(rows * d) {
                sums.extend((0..d).map(|j| (0..rows).map(|i| block[i * d + j]).sum::<f64>()));
            }
            let keep = match keep {
                Keep::Layer(n) => Keep::Layer(blocks_of(n, rows)?),
                per_row @ Keep::PerRow(_) => per_row,
            };
            spread(&units(&sums, d, keep)?, d, rows)
        }
    };
    Mask::from_vec(r, d, kept)
}

/// Returns the number of blocks of `rows` connections that `keep` connections are.
pub(super) fn blocks_of(keep: usize, rows: usize) -> Result<usize, SolveError> {
    if keep.is_multiple_of(rows) {
        return Ok(keep / rows);
    }
    Err(SolveError::Pattern {
        what: "connections to keep",
        size: keep,
        of: rows,
    })
}

/// Returns the entries of a mask over blocks of outputs as entries over outputs.
pub(super) fn spread(blocks: &[bool], d: usize, rows: usize) -> Vec<bool> {
    let mut kept = Vec::with_capacity(blocks.len() * rows);
    for block in blocks.chunks_exact(d.max(1)) {
        for _ in 0..rows {
            kept.extend_from_slice(block);
        }
    }
    kept
}

/// Returns an error unless `keep` of `n` can stay.
pub(super) fn check_keep(keep: usize, n: usize) -> Result<(), SolveError> {
    if keep <= n {
        return Ok(());
    }
    Err(SolveError::Option {
        option: "keep",
        value: keep as f64,
        expected: "at most the number of connections is needed",
    })
}

/// Returns an error if `start` is not `r × d` and finite.
pub(super) fn check_start(start: &Matrix, r: usize, d: usize) -> Result<(), SolveError> {
    same("start's outputs", r, start.rows)?;
    same("start's inputs", d, start.cols)?;
    start.check_finite("start")
}

fn units(scores: &[f64], width: usize, keep: Keep) -> Result<Vec<bool>, SolveError> {
    match keep {
        Keep::Layer(n) => {
            check_keep(n, scores.len())?;
            Ok(top(scores, n))
        }
        Keep::PerRow(n) => {
            check_keep(n, width)?;
            let rows = scores.chunks_exact(width.max(1));
            Ok(rows.flat_map(|row| top(row, n)).collect())
        }
    }
}

/// Marks the `keep` highest scores; of equal ones the earlier.
pub(super) fn top(scores: &[f64], keep: usize) -> Vec<bool> {
    let n = scores.len();
    if keep == 0 || keep >= n {
        return vec![keep > 0; n];
    }
    let keys: Vec<i64> = scores.iter().map(|s| key(*s)).collect();
    let mut sorted = keys.clone();
    let (_, &mut least, _) = sorted.select_nth_unstable(n - keep);
    // No branch that half of the scores take and half do not.
    let mut kept: Vec<bool> = keys.iter().map(|k| *k > least).collect();
    let above = kept.iter().filter(|k| **k).count();
    let ties = keys.iter().zip(&mut kept).filter(|(k, _)| **k == least);
    ties.take(keep.saturating_sub(above))
        .for_each(|(_, kept)| *kept = true);
    kept
}

/// Returns an integer that orders as [`f64::total_cmp`] does: quicker to compare.
fn key(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 63) & i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: Pattern, keep: Keep, wanted: &[u8]) {
        let scores = vec![5.0, 1.0, 3.0, 2.0, 0.0, 4.0, 3.0, 3.0];
        let scores = Matrix::from_vec(2, 4, scores).unwrap();
        let found = highest(&scores, pattern, keep).unwrap();
        let found: Vec<u8> = found.kept.into_iter().map(u8::from).collect();
        assert_eq!(found, wanted, "{pattern:?} {keep:?}");
    }

    #[test]
    fn every_pattern_keeps_its_highest() {
        check(
            Pattern::Unstructured,
            Keep::Layer(4),
            &[1, 0, 1, 0, 0, 1, 1, 0],
        );
        check(
            Pattern::Unstructured,
            Keep::PerRow(1),
            &[1, 0, 0, 0, 0, 1, 0, 0],
        );
        let one_of_two = Pattern::Grouped { keep: 1, group: 2 };
        check(one_of_two, Keep::Layer(0), &[1, 0, 1, 0, 0, 1, 1, 0]);
        let blocks = Pattern::RowBlocks { rows: 2 };
        // Block sums 5, 5, 6, 5.
        check(blocks, Keep::Layer(4), &[1, 0, 1, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn what_cannot_stay_is_refused() {
        let scores = Matrix::zeros(2, 4);
        let blocks = Pattern::RowBlocks { rows: 2 };
        for (pattern, keep) in [
            (Pattern::Unstructured, Keep::Layer(9)),
            (Pattern::Unstructured, Keep::PerRow(5)),
            (blocks, Keep::Layer(3)),
        ] {
            assert!(highest(&scores, pattern, keep).is_err(), "{keep:?}");
        }
    }
}
