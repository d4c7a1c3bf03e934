//! Correlation of ranks: whether one list rises where another one does.

use std::cmp::Ordering;

/// Returns Spearman's rank correlation, from -1 to 1; equal values share their mean rank.
///
/// `None` for lists of different or less than two values, a value that is NaN, or a list
/// whose values are all equal.
/// # Reference
/// The same number as `scipy.stats.spearmanr`.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    usable(x, y)?;
    let (a, b) = (ranks(x), ranks(y));
    // Ranks of n values, ties or not, have this mean.
    let mean = f64::midpoint(x.len() as f64, 1.0);
    let product = |a: &[f64], b: &[f64]| {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>()
    };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| (product(&a, &b) / scale).clamp(-1.0, 1.0))
}

/// Returns Kendall's tau-b, from -1 to 1: the share of pairs in the same order less the
/// share in opposite orders, corrected for ties.
///
/// `None` as [`spearman`]. The time is quadratic in the number of values.
/// # Reference
/// The same number as `scipy.stats.kendalltau`.
pub fn kendall_tau(x: &[f64], y: &[f64]) -> Option<f64> {
    usable(x, y)?;
    let (mut agree, mut untied_x, mut untied_y) = (0_i64, 0_i64, 0_i64);
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (sign(x[i], x[j]), sign(y[i], y[j]));
            agree += a * b;
            untied_x += a.abs();
            untied_y += b.abs();
        }
    }
    let scale = (untied_x as f64 * untied_y as f64).sqrt();
    (scale > 0.0).then(|| (agree as f64 / scale).clamp(-1.0, 1.0))
}

fn usable(x: &[f64], y: &[f64]) -> Option<()> {
    let fits = x.len() == y.len() && x.len() >= 2;
    (fits && !x.iter().chain(y).any(|v| v.is_nan())).then_some(())
}

fn sign(a: f64, b: f64) -> i64 {
    match a.partial_cmp(&b) {
        Some(Ordering::Greater) => 1,
        Some(Ordering::Less) => -1,
        Some(Ordering::Equal) | None => 0,
    }
}

/// Ranks from 1; equal values get the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        // -0 equals 0.
        let equal = |i: &&usize| values[**i] <= values[order[first]];
        let n = order[first..].iter().take_while(equal).count().max(1);
        for &i in &order[first..first + n] {
            ranks[i] = first as f64 + f64::midpoint(n as f64, 1.0);
        }
        first += n;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of at most 30 small products.
    const F64_SUM: f64 = 1e-12;

    #[test]
    fn as_scipy() {
        let numbers =
            |line: &str| -> Vec<f64> { line.split(' ').map(|v| v.parse().unwrap()).collect() };
        let text = include_str!("../../refs/rank/cases.txt");
        let cases: Vec<&str> = text.trim().split("\n\n").collect();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let lines: Vec<Vec<f64>> = case.lines().map(numbers).collect();
            let [x, y, rho, tau] = lines.as_slice() else {
                panic!("{case}");
            };
            assert!((spearman(x, y).unwrap() - rho[0]).abs() < F64_SUM, "{case}");
            assert!(
                (kendall_tau(x, y).unwrap() - tau[0]).abs() < F64_SUM,
                "{case}"
            );
        }
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        for (x, y) in [
            (&[1.0][..], &[1.0][..]),
            (&[1.0, 2.0], &[3.0, 3.0]),
            (&[1.0, f64::NAN], &[1.0, 2.0]),
            (&[1.0, 2.0], &[1.0, 2.0, 3.0]),
            (&[0.0, -0.0], &[1.0, 2.0]),
        ] {
            assert_eq!(spearman(x, y), None, "{x:?} {y:?}");
            assert_eq!(kendall_tau(x, y), None, "{x:?} {y:?}");
        }
    }
}
