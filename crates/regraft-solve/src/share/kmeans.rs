//! One-dimensional weighted k-means, exactly.
//!
//! On a line the clusters of an optimal partition are ranges of the sorted values, and the cost of
//! a range, `Σ w (x − c)² = Σ w x² − (Σ w x)² / Σ w`, comes from three prefix sums. So the best cost
//! of the first `j` values in `m` clusters is `D_m(j) = min_i D_{m−1}(i) + cost(i..j)`, whose best
//! `i` does not fall as `j` grows: each row of the table is filled by divide and conquer in
//! `n log n` steps.
//!
//! # Reference
//! Wang and Song, Ckmeans.1d.dp, The R Journal 2011; Grønlund et al., Fast Exact k-Means, k-Medians
//! and Bregman Divergence Clustering in 1D, 2017.

use crate::error::{SolveError, same};

/// Cells of the table (distinct values times entries) up to which the optimum is found; it takes
/// about a second there. Larger problems are solved exactly over quantile bins, as many as fit, and
/// finished by Lloyd's iterations over all values.
pub const EXACT_CELLS: usize = 1 << 23;

/// Iterations of Lloyd's algorithm at most; each takes `k log n` steps.
const MAX_ITERATIONS: usize = 200;

/// Share of the mean weight that every value has at least, so that a value without weight still
/// goes to an entry near it.
const WEIGHT_FLOOR: f64 = 1e-6;

/// The entries that values share, and what that costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codebook {
    /// The entries, ascending and distinct.
    pub entries: Vec<f64>,
    /// `Σ w (x − entry)²`, with weights of mean 1.
    pub cost: f64,
    /// True if no other codebook of this size costs less.
    pub exact: bool,
}

/// Returns the codebook of at most `n_entries` values that costs least.
///
/// Fewer distinct values than entries give their own codebook, which costs nothing.
///
/// # Shapes
/// `weights`, where given, has one not negative number for each value; `None` weighs all alike.
/// # Errors
/// [`SolveError::Option`] without entries, [`SolveError::Shape`] if the weights are not as many as
/// the values, [`SolveError::NotFinite`] for a value or weight that is not finite or negative.
pub fn codebook(
    values: &[f64],
    weights: Option<&[f64]>,
    n_entries: usize,
) -> Result<Codebook, SolveError> {
    if n_entries == 0 {
        return Err(SolveError::Option {
            option: "codebook entries",
            value: 0.0,
            expected: "at least 1 is needed",
        });
    }
    check_finite("values to share", values, f64::is_finite)?;
    if let Some(w) = weights {
        same("weights of values", values.len(), w.len())?;
        check_finite("weights of values", w, |v| v.is_finite() && v >= 0.0)?;
    }
    let points = Points::new(values, weights);
    let n = points.len();
    if n <= n_entries {
        return Ok(Codebook {
            entries: points.at,
            cost: 0.0,
            exact: true,
        });
    }
    let exact = n.saturating_mul(n_entries) <= EXACT_CELLS;
    let mut cuts = if exact {
        optimal_cuts(&points.sums, n_entries)
    } else {
        let n_bins = (EXACT_CELLS / n_entries).max(n_entries).min(n);
        let bin = |i: usize| i * n / n_bins;
        let bounds: Vec<usize> = (0..=n_bins).map(bin).collect();
        let over_bins = optimal_cuts(&points.sums.at(&bounds), n_entries);
        over_bins.into_iter().map(|b| bounds[b]).collect()
    };
    if !exact {
        lloyd(&points, &mut cuts);
    }
    let ranges = || cuts.windows(2).map(|c| (c[0], c[1]));
    Ok(Codebook {
        cost: ranges().map(|(i, j)| points.sums.cost(i, j)).sum(),
        entries: ranges().map(|(i, j)| points.sums.mean(i, j)).collect(),
        exact,
    })
}

/// Returns the index of the entry nearest to a value; `entries` ascend.
pub fn nearest(entries: &[f64], value: f64) -> usize {
    let above = entries.partition_point(|e| *e < value);
    match (above.checked_sub(1), entries.get(above)) {
        (Some(below), Some(upper)) if value - entries[below] > upper - value => above,
        (Some(below), _) => below,
        (None, _) => 0,
    }
}

fn check_finite(
    what: &'static str,
    list: &[f64],
    holds: impl Fn(f64) -> bool,
) -> Result<(), SolveError> {
    match list.iter().position(|v| !holds(*v)) {
        None => Ok(()),
        Some(col) => Err(SolveError::NotFinite { what, row: 0, col }),
    }
}

/// Distinct values, ascending, with their sums.
struct Points {
    at: Vec<f64>,
    sums: Sums,
}

impl Points {
    fn new(values: &[f64], weights: Option<&[f64]>) -> Self {
        let total: f64 = weights.map_or(0.0, |w| w.iter().sum());
        let mean = total / values.len().max(1) as f64;
        let weight = |i: usize| match weights {
            Some(w) if mean > 0.0 => (w[i] / mean).max(WEIGHT_FLOOR),
            _ => 1.0,
        };
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let (mut at, mut mass): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        for i in order {
            match (at.last(), mass.last_mut()) {
                // Both zeros are one value.
                (Some(last), Some(m)) if *last >= values[i] => *m += weight(i),
                _ => {
                    at.push(values[i]);
                    mass.push(weight(i));
                }
            }
        }
        let sums = Sums::new(&at, &mass);
        Self { at, sums }
    }

    fn len(&self) -> usize {
        self.at.len()
    }
}

/// Prefix sums of `w`, `w x` and `w x²`, with `x` counted from the values' mean: differences of
/// large sums of squares lose digits.
struct Sums {
    centre: f64,
    prefix: Vec<[f64; 3]>,
}

impl Sums {
    fn new(at: &[f64], mass: &[f64]) -> Self {
        let total: f64 = mass.iter().sum();
        let moment: f64 = at.iter().zip(mass).map(|(x, w)| x * w).sum();
        let centre = if total > 0.0 { moment / total } else { 0.0 };
        let mut sum = [0.0; 3];
        let mut prefix = vec![sum];
        for (x, w) in at.iter().zip(mass) {
            let x = x - centre;
            sum = [sum[0] + w, sum[1] + w * x, sum[2] + w * x * x];
            prefix.push(sum);
        }
        Self { centre, prefix }
    }

    /// Returns the sums over coarser values: those between two bounds are one.
    fn at(&self, bounds: &[usize]) -> Self {
        Self {
            centre: self.centre,
            prefix: bounds.iter().map(|b| self.prefix[*b]).collect(),
        }
    }

    fn len(&self) -> usize {
        self.prefix.len() - 1
    }

    fn between(&self, i: usize, j: usize) -> [f64; 3] {
        let (a, b) = (self.prefix[i], self.prefix[j]);
        [b[0] - a[0], b[1] - a[1], b[2] - a[2]]
    }

    fn cost(&self, i: usize, j: usize) -> f64 {
        if j <= i {
            return 0.0;
        }
        let [w, x, xx] = self.between(i, j);
        (xx - x * x / w).max(0.0)
    }

    fn mean(&self, i: usize, j: usize) -> f64 {
        let [w, x, _] = self.between(i, j);
        self.centre + x / w
    }
}

/// Returns the `k + 1` cuts of the best partition into `k` ranges.
fn optimal_cuts(sums: &Sums, k: usize) -> Vec<usize> {
    let n = sums.len();
    let mut before: Vec<f64> = (0..=n).map(|j| sums.cost(0, j)).collect();
    let mut first: Vec<Vec<u32>> = Vec::with_capacity(k);
    for m in 1..k {
        let mut row = Row {
            sums,
            before: &before,
            cost: vec![f64::INFINITY; n + 1],
            first: vec![0; n + 1],
        };
        // The first `m + 1` values are the least that `m + 1` ranges can hold.
        row.fill(m + 1, n, m, n - 1);
        let Row { cost, first: f, .. } = row;
        first.push(f);
        before = cost;
    }
    let mut cuts = vec![n];
    let mut j = n;
    for row in first.iter().rev() {
        j = row[j] as usize;
        cuts.push(j);
    }
    cuts.push(0);
    cuts.reverse();
    cuts
}

/// One row of the table under way.
struct Row<'a> {
    sums: &'a Sums,
    before: &'a [f64],
    cost: Vec<f64>,
    /// Where the last range starts.
    first: Vec<u32>,
}

impl Row<'_> {
    /// Fills `from..=to`, whose last ranges start in `low..=high`.
    fn fill(&mut self, from: usize, to: usize, low: usize, high: usize) {
        if from > to {
            return;
        }
        let j = usize::midpoint(from, to);
        let (mut best, mut start) = (f64::INFINITY, low);
        for i in low..=high.min(j - 1) {
            let cost = self.before[i] + self.sums.cost(i, j);
            if cost < best {
                (best, start) = (cost, i);
            }
        }
        self.cost[j] = best;
        self.first[j] = start as u32;
        self.fill(from, j - 1, low, start);
        self.fill(j + 1, to, start, high);
    }
}

/// Moves cuts to the middle between the means of neighbouring ranges until none moves.
fn lloyd(points: &Points, cuts: &mut Vec<usize>) {
    let n = points.len();
    for _ in 0..MAX_ITERATIONS {
        let means: Vec<f64> = cuts
            .windows(2)
            .map(|c| points.sums.mean(c[0], c[1]))
            .collect();
        let mut moved: Vec<usize> = vec![0];
        moved.extend(means.windows(2).map(|m| {
            let middle = f64::midpoint(m[0], m[1]);
            points.at.partition_point(|x| *x <= middle)
        }));
        moved.push(n);
        // A range that lost all its values goes.
        moved.dedup();
        if moved == *cuts {
            break;
        }
        *cuts = moved;
    }
}
