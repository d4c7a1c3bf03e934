//! The widths a group may take, and its error and hull at each.

use super::GroupCurve;
use crate::error::SolveError;

/// The allowed widths of one group, widest first.
#[derive(Debug)]
pub(super) struct Levels {
    pub(super) widths: Vec<usize>,
    /// Monotone error at each width: never falls as the width does.
    pub(super) errors: Vec<f64>,
    /// Lower convex hull of the errors over the widths.
    pub(super) hull: Vec<f64>,
}

impl Levels {
    pub(super) fn new(
        group: usize,
        curve: &GroupCurve,
        multiple_of: usize,
    ) -> Result<Self, SolveError> {
        let Some(dense) = curve.errors.len().checked_sub(1) else {
            return Err(SolveError::Shape {
                what: "error curve",
                expected: 1,
                found: 0,
            });
        };
        if let Some(col) = curve.errors.iter().position(|e| !e.is_finite()) {
            let (what, row) = ("error curve", group);
            return Err(SolveError::NotFinite { what, row, col });
        }
        let multiple_of = multiple_of / gcd(multiple_of, curve.unit_width.max(1));
        let allowed = |k: usize| {
            (curve.min_kept..=curve.max_kept).contains(&k)
                && (k == dense || k.is_multiple_of(multiple_of))
        };
        let mut worst = f64::NEG_INFINITY;
        let (mut widths, mut errors) = (Vec::new(), Vec::new());
        for k in (0..=dense).rev() {
            worst = worst.max(curve.errors[k]);
            if allowed(k) {
                widths.push(k);
                errors.push(worst);
            }
        }
        if widths.is_empty() {
            // No multiple lies in the range: the group keeps the least width that
            // satisfies the minimum, which is the dense one.
            if curve.max_kept < curve.min_kept {
                return Err(SolveError::Shape {
                    what: "most units kept",
                    expected: curve.min_kept,
                    found: curve.max_kept,
                });
            }
            widths.push(dense);
            errors.push(curve.errors[dense]);
        }
        let hull = hull(&widths, &errors);
        Ok(Self {
            widths,
            errors,
            hull,
        })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Returns the lower convex hull of `(width, error)` at each width (widest first).
fn hull(widths: &[usize], errors: &[f64]) -> Vec<f64> {
    let x = |i: usize| (widths[0] - widths[i]) as f64;
    let mut corners: Vec<usize> = Vec::new();
    for i in 0..widths.len() {
        while let [.., a, b] = corners[..] {
            // `b` is no corner when it lies on or above the line from `a` to `i`.
            let above = (errors[b] - errors[a]) * (x(i) - x(a));
            if above < (errors[i] - errors[a]) * (x(b) - x(a)) {
                break;
            }
            corners.pop();
        }
        corners.push(i);
    }
    let mut out = errors.to_vec();
    for pair in corners.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        for i in a + 1..b {
            let share = (x(i) - x(a)) / (x(b) - x(a));
            out[i] = errors[a] + share * (errors[b] - errors[a]);
        }
    }
    out
}
