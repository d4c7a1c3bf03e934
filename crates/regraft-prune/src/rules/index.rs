//! Correspondences between the indices of two axes.

/// How the indices of axis a correspond to those of axis b.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IndexMap {
    /// Index for index.
    Identity,
    /// `a + i * a_step` to `b + i` for i below `len`.
    Range {
        a: usize,
        a_step: i64,
        b: usize,
        len: usize,
    },
    /// Every index of block i of a to every index of block i of b.
    Blocks { a: usize, b: usize },
    /// Index c of a, of n, to `(o * n + c) * inner + i` for all o below `outer`, i below `inner`.
    Spread { outer: usize, inner: usize },
    /// The pairs listed.
    Pairs(Vec<(usize, usize)>),
}

impl IndexMap {
    /// Calls `each` with pairs whose closure is the correspondence; false if it does not fit the
    /// extents.
    pub(crate) fn for_each(
        &self,
        n_a: usize,
        n_b: usize,
        mut each: impl FnMut(usize, usize),
    ) -> bool {
        match self {
            Self::Identity => {
                if n_a != n_b {
                    return false;
                }
                (0..n_a).for_each(|i| each(i, i));
            }
            Self::Range { a, a_step, b, len } => {
                if b.checked_add(*len).is_none_or(|end| end > n_b) {
                    return false;
                }
                let Ok(start) = i64::try_from(*a) else {
                    return false;
                };
                for i in 0..*len {
                    let at = (i as i64)
                        .checked_mul(*a_step)
                        .and_then(|d| start.checked_add(d))
                        .and_then(|at| usize::try_from(at).ok());
                    match at {
                        Some(at) if at < n_a => each(at, b + i),
                        _ => return false,
                    }
                }
            }
            Self::Blocks { a, b } => {
                if *a == 0 || *b == 0 || !n_a.is_multiple_of(*a) || n_b != n_a / a * b {
                    return false;
                }
                for block in 0..n_a / a {
                    (0..*b).for_each(|j| each(block * a, block * b + j));
                    (1..*a).for_each(|i| each(block * a + i, block * b));
                }
            }
            Self::Spread { outer, inner } => {
                if outer.checked_mul(n_a).and_then(|n| n.checked_mul(*inner)) != Some(n_b) {
                    return false;
                }
                for o in 0..*outer {
                    for c in 0..n_a {
                        let start = (o * n_a + c) * inner;
                        (start..start + inner).for_each(|j| each(c, j));
                    }
                }
            }
            Self::Pairs(pairs) => {
                if pairs.iter().any(|&(a, b)| a >= n_a || b >= n_b) {
                    return false;
                }
                for &(a, b) in pairs {
                    each(a, b);
                }
            }
        }
        true
    }
}
