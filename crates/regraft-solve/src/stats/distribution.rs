//! Histogram, quantiles, box plot and local extrema of a set of values.
//!
//! Values that are not finite are counted and left out.

/// Counts in bins of equal width.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Lower edge of the first bin.
    pub low: f64,
    /// Upper edge of the last bin, which includes it.
    pub high: f64,
    /// Values in each bin.
    pub counts: Vec<u64>,
    /// Finite values below `low` or above `high`.
    pub outside: u64,
    /// Values that are not finite.
    pub not_finite: u64,
}

impl Histogram {
    /// Returns the width of a bin.
    pub fn bin_width(&self) -> f64 {
        (self.high - self.low) / self.counts.len().max(1) as f64
    }

    /// Returns the middle of a bin.
    pub fn bin_centre(&self, bin: usize) -> f64 {
        self.low + (bin as f64 + 0.5) * self.bin_width()
    }
}

/// Returns the histogram of `values` over `range`, or over their own range.
///
/// Equal values get a range of width 1 around them; no finite value gives empty bins.
pub fn histogram(values: &[f32], n_bins: usize, range: Option<(f64, f64)>) -> Histogram {
    let n_bins = n_bins.max(1);
    let (low, high) = widened(range.unwrap_or_else(|| finite_range(values)));
    let mut out = Histogram {
        low,
        high,
        counts: vec![0; n_bins],
        outside: 0,
        not_finite: 0,
    };
    let per_unit = n_bins as f64 / (high - low);
    for &value in values {
        let v = f64::from(value);
        if !v.is_finite() {
            out.not_finite += 1;
        } else if v < low || v > high {
            out.outside += 1;
        } else {
            let bin = (((v - low) * per_unit) as usize).min(n_bins - 1);
            out.counts[bin] += 1;
        }
    }
    out
}

fn finite_range(values: &[f32]) -> (f64, f64) {
    let finite = values.iter().filter(|v| v.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| {
        (low.min(f64::from(v)), high.max(f64::from(v)))
    })
}

fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if high > low && (high - low).is_finite() {
        (low, high)
    } else if low.is_finite() {
        (low - 0.5, low + 0.5)
    } else {
        (-0.5, 0.5)
    }
}

/// The numbers of a box plot.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxPlot {
    /// Finite values.
    pub n: u64,
    /// Values that are not finite; left out.
    pub not_finite: u64,
    /// Values that are exactly zero.
    pub zeros: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, divided by `n`.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Lower quartile.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub q3: f64,
    /// Largest value.
    pub max: f64,
    /// Smallest value within 1.5 box heights below the box.
    pub whisker_low: f64,
    /// Largest value within 1.5 box heights above the box.
    pub whisker_high: f64,
    /// Values outside the whiskers.
    pub outliers: u64,
}

/// Returns the box plot of `values`, `None` without a finite value.
pub fn box_plot(values: &[f32]) -> Option<BoxPlot> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let n = sorted.len() as f64;
    let mean = sorted.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let spread = sorted.iter().map(|&v| (f64::from(v) - mean).powi(2));
    let std = (spread.sum::<f64>() / n).sqrt();
    let (q1, q3) = (quantile(&sorted, 0.25)?, quantile(&sorted, 0.75)?);
    let reach = 1.5 * (q3 - q1);
    let from = sorted.partition_point(|&v| f64::from(v) < q1 - reach);
    let to = sorted.partition_point(|&v| f64::from(v) <= q3 + reach);
    Some(BoxPlot {
        n: sorted.len() as u64,
        not_finite: (values.len() - sorted.len()) as u64,
        zeros: sorted.iter().filter(|v| **v == 0.0).count() as u64,
        mean,
        std,
        min: f64::from(min),
        q1,
        median: quantile(&sorted, 0.5)?,
        q3,
        max: f64::from(max),
        whisker_low: sorted.get(from).map_or(q1, |&v| f64::from(v)),
        whisker_high: to.checked_sub(1).map_or(q3, |at| f64::from(sorted[at])),
        outliers: (from + sorted.len() - to) as u64,
    })
}

/// Returns the quantile `share` (0 to 1) of ascending values, linear between neighbours;
/// `None` for no values.
pub fn quantile(sorted: &[f32], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let (a, b) = (f64::from(sorted[below]), f64::from(sorted[above]));
    Some(a + (b - a) * (place - below as f64))
}

/// Whether an extremum is a peak or a valley.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtremumKind {
    /// A local maximum.
    Peak,
    /// A local minimum between two peaks.
    Valley,
}

/// A local extremum of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extremum {
    /// The bin, the middle one of a plateau.
    pub bin: usize,
    /// Values in that bin.
    pub count: u64,
    /// Peak or valley.
    pub kind: ExtremumKind,
}

/// Returns the peaks, and the valleys between them, in the order of the bins.
///
/// A peak counts if on the way to a higher one (or to the edge) the counts fall by at
/// least `min_prominence` (a share of the highest count, 0 to 1): smaller bumps are noise.
pub fn local_extrema(counts: &[u64], min_prominence: f64) -> Vec<Extremum> {
    let highest = counts.iter().copied().max().unwrap_or(0);
    if highest == 0 {
        return Vec::new();
    }
    let need = ((min_prominence.clamp(0.0, 1.0) * highest as f64).ceil() as u64).max(1);
    // One walk: `top` is the best candidate since the last valley, `low` since the last peak.
    let mut out: Vec<Extremum> = Vec::new();
    let (mut top, mut low) = ((0, 0), (0, 0));
    let mut rising = true;
    for (bin, &count) in counts.iter().enumerate() {
        if rising {
            if count > top.1 {
                top = (bin, count);
            }
            if count + need <= top.1 {
                out.push(extremum(counts, top.0, ExtremumKind::Peak));
                (low, rising) = ((bin, count), false);
            }
        } else {
            if count < low.1 {
                low = (bin, count);
            }
            if count >= low.1 + need {
                out.push(extremum(counts, low.0, ExtremumKind::Valley));
                (top, rising) = ((bin, count), true);
            }
        }
    }
    if rising {
        out.push(extremum(counts, top.0, ExtremumKind::Peak));
    }
    out
}

/// Returns the extremum at the middle of the plateau that starts at `first`.
fn extremum(counts: &[u64], first: usize, kind: ExtremumKind) -> Extremum {
    let count = counts[first];
    let plateau = counts[first..].iter().take_while(|c| **c == count).count();
    Extremum {
        bin: first + (plateau - 1) / 2,
        count,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExtremumKind::{Peak, Valley};

    #[test]
    fn histogram_counts_every_value_once() {
        let values = [0.0, 0.1, 0.5, 0.99, 1.0, f32::NAN, 7.0];
        let found = histogram(&values, 2, Some((0.0, 1.0)));
        assert_eq!(found.counts, [2, 3]);
        assert_eq!((found.outside, found.not_finite), (1, 1));
        assert_eq!(Some(found.bin_centre(1)), Some(0.75));
        let own = histogram(&[-2.0, 2.0], 4, None);
        assert_eq!((own.low, own.high), (-2.0, 2.0));
        assert_eq!(own.counts, [1, 0, 0, 1]);
    }

    #[test]
    fn histogram_of_nothing_or_one_value_is_fine() {
        assert_eq!(histogram(&[], 3, None).counts, [0, 0, 0]);
        assert_eq!(histogram(&[5.0; 4], 3, None).counts.iter().sum::<u64>(), 4);
        assert_eq!(histogram(&[f32::INFINITY], 0, None).not_finite, 1);
        let extremes = histogram(&[f32::MIN, f32::MAX], 2, None);
        assert_eq!(extremes.counts, [1, 1]);
    }

    #[test]
    fn box_plot_by_hand() {
        let found = box_plot(&[1.0, 2.0, 3.0, 4.0, 100.0, f32::NAN]).unwrap();
        assert_eq!((found.n, found.not_finite, found.zeros), (5, 1, 0));
        assert_eq!((found.q1, found.median, found.q3), (2.0, 3.0, 4.0));
        assert_eq!((found.whisker_low, found.whisker_high), (1.0, 4.0));
        assert_eq!((found.outliers, found.max), (1, 100.0));
        assert_eq!(Some(found.mean), Some(22.0));
        assert!(box_plot(&[f32::NAN]).is_none());
        assert_eq!(quantile(&[1.0, 2.0], 0.25), Some(1.25));
    }

    #[test]
    fn extrema_by_hand() {
        let check = |counts: &[u64], share, expected: &[(usize, ExtremumKind)]| {
            let found = local_extrema(counts, share);
            let found: Vec<_> = found.iter().map(|e| (e.bin, e.kind)).collect();
            assert_eq!(found, expected, "{counts:?}");
        };
        check(&[], 0.1, &[]);
        check(&[0, 0], 0.1, &[]);
        check(&[1, 5, 2], 0.1, &[(1, Peak)]);
        check(&[9, 5, 1], 0.1, &[(0, Peak)]);
        check(&[1, 9, 1, 8, 0], 0.1, &[(1, Peak), (2, Valley), (3, Peak)]);
        // A plateau counts once, at its middle.
        check(&[1, 9, 9, 9, 1], 0.1, &[(2, Peak)]);
        // A bump of one on a hill of a hundred is noise.
        check(&[0, 50, 49, 50, 100, 20], 0.05, &[(4, Peak)]);
    }
}
