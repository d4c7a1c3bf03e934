use super::*;
use crate::samples::{correlated, noise};

/// f32 products of at most 1,024 terms each, summed in f64.
const F32_SHARD: f64 = 1e-5;

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(1e-30_f64, |m, v| m.max(v.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance * size, "{x} is not {y}");
    }
}

fn gram_of(x: Samples<'_>, threads: usize) -> Gram {
    let mut acc = GramAccumulator::new(x.n_cols(), threads).unwrap();
    acc.add(x).unwrap();
    acc.finish().unwrap()
}

fn cross_of(x: Samples<'_>, y: Samples<'_>, threads: usize) -> Cross {
    let mut acc = CrossAccumulator::new(x.n_cols(), y.n_cols(), threads).unwrap();
    acc.add(x, y).unwrap();
    acc.finish().unwrap()
}

#[test]
fn scaling_is_the_mean_without_a_factor_two() {
    // Rows (1, 2) and (3, 4): x xᵀ sums to (10, 14; 14, 20).
    let x = Samples::rows(&[1.0, 2.0, 3.0, 4.0], 2, 2).unwrap();
    let gram = gram_of(x, 1);
    assert_eq!(gram.n, 2);
    assert_eq!(gram.matrix.data, [5.0, 7.0, 7.0, 10.0]);
    assert_eq!(gram.mean, [2.0, 3.0]);
    assert_eq!(
        gram.with_constant().data,
        [5.0, 7.0, 2.0, 7.0, 10.0, 3.0, 2.0, 3.0, 1.0]
    );
    let y = Samples::rows(&[1.0, 2.0], 2, 1).unwrap();
    let cross = cross_of(x, y, 1);
    assert_eq!(cross.matrix.data, [3.5, 5.0]);
    assert_eq!(cross.target_mean, [1.5]);
    assert_eq!(cross.target_energy, [2.5]);
    assert_eq!(cross.with_constant().data, [3.5, 5.0, 1.5]);
}

#[test]
fn matches_a_plain_f64_sum_over_many_shards() {
    for (n, d, r) in [(1, 3, 2), (1024, 5, 1), (2500, 33, 7), (3000, 17, 20)] {
        let (x, y) = (correlated(7, n, d), noise(8, n * r));
        let mut gram = vec![0.0; d * d];
        let mut cross = vec![0.0; d * r];
        let mut energy = vec![0.0; r];
        for i in 0..n {
            for a in 0..d {
                let v = f64::from(x[i * d + a]) / n as f64;
                for b in 0..d {
                    gram[a * d + b] += v * f64::from(x[i * d + b]);
                }
                for o in 0..r {
                    cross[a * r + o] += v * f64::from(y[i * r + o]);
                }
            }
            for o in 0..r {
                energy[o] += f64::from(y[i * r + o]).powi(2) / n as f64;
            }
        }
        let rows = Samples::rows(&x, n, d).unwrap();
        let targets = Samples::rows(&y, n, r).unwrap();
        close(&gram_of(rows, 1).matrix.data, &gram, F32_SHARD);
        let found = cross_of(rows, targets, 1);
        close(&found.matrix.data, &cross, F32_SHARD);
        close(&found.target_energy, &energy, F32_SHARD);
    }
}

#[test]
fn layouts_agree() {
    let (n, d, wide) = (1500, 12, 30);
    let all = correlated(3, n, wide);
    let mut rows = Vec::new();
    let mut channels = vec![0.0; n * d];
    for i in 0..n {
        let part = &all[i * wide + 4..i * wide + 4 + d];
        rows.extend_from_slice(part);
        for (j, &v) in part.iter().enumerate() {
            channels[j * n + i] = v;
        }
    }
    let plain = gram_of(Samples::rows(&rows, n, d).unwrap(), 1);
    let by_channel = gram_of(Samples::channels(&channels, d, n).unwrap(), 1);
    let window = gram_of(Samples::window(&all[4..], n, d, wide).unwrap(), 1);
    close(&by_channel.matrix.data, &plain.matrix.data, F32_SHARD);
    close(&by_channel.mean, &plain.mean, F32_SHARD);
    assert_eq!(window, plain);
}

#[test]
fn same_bytes_for_any_number_of_threads() {
    let (n, d, r) = (9000, 72, 40);
    let (x, y) = (correlated(5, n, d), noise(6, n * r));
    let rows = Samples::rows(&x, n, d).unwrap();
    let targets = Samples::channels(&y, r, n).unwrap();
    let (gram, cross) = (gram_of(rows, 1), cross_of(rows, targets, 1));
    for threads in [2, 3, 5] {
        assert_eq!(gram_of(rows, threads), gram);
        assert_eq!(cross_of(rows, targets, threads), cross);
    }
}

#[test]
fn merging_equals_adding() {
    let (n, d) = (2048, 9);
    let x = correlated(9, n, d);
    let halves = x.split_at(1024 * d);
    let part = |data| {
        let mut acc = GramAccumulator::new(d, 1).unwrap();
        acc.add(Samples::rows(data, 1024, d).unwrap()).unwrap();
        acc
    };
    let mut merged = part(halves.0);
    merged.merge(&part(halves.1)).unwrap();
    assert_eq!(merged.n_rows(), 2048);
    let whole = gram_of(Samples::rows(&x, n, d).unwrap(), 1);
    assert_eq!(merged.finish().unwrap(), whole);
}

#[test]
fn bad_statistics_are_errors() {
    let acc = GramAccumulator::new(2, 1).unwrap();
    assert_eq!(acc.finish(), Err(SolveError::NoRows));
    let mut acc = GramAccumulator::new(2, 1).unwrap();
    let nan = [1.0, f32::NAN];
    acc.add(Samples::rows(&nan, 1, 2).unwrap()).unwrap();
    assert!(matches!(acc.finish(), Err(SolveError::NotFinite { .. })));
    assert!(Samples::rows(&nan, 2, 2).is_err());
    assert!(Samples::window(&nan, 2, 2, 1).is_err());
    assert!(Samples::window(&nan, usize::MAX, 2, usize::MAX).is_err());
    assert!(GramAccumulator::new(usize::MAX, 1).is_err());
    let mut narrow = GramAccumulator::new(3, 1).unwrap();
    assert!(narrow.add(Samples::rows(&nan, 1, 2).unwrap()).is_err());
}

#[test]
fn empty_sizes_are_fine() {
    let empty = Samples::rows(&[], 4, 0).unwrap();
    let targets = [1.0, 2.0, 3.0, 4.0];
    let y = Samples::rows(&targets, 4, 1).unwrap();
    assert_eq!(gram_of(empty, 2).matrix.data.len(), 0);
    assert_eq!(cross_of(empty, y, 2).target_mean, [2.5]);
    assert_eq!(cross_of(y, empty, 2).matrix.cols, 0);
}

/// Wider than a tile: made in bands, which no thread and no layout shows.
#[test]
fn wide_products_are_the_same_in_bands() {
    let (d, n) = (1500, 70);
    let x = noise(31, n * d);
    let rows = Samples::rows(&x, n, d).unwrap();
    let gram = gram_of(rows, 1);
    assert!(gram == gram_of(rows, 3));
    let mut by_columns = vec![0.0; n * d];
    for i in 0..n {
        for j in 0..d {
            by_columns[j * n + i] = x[i * d + j];
        }
    }
    let columns = gram_of(Samples::channels(&by_columns, d, n).unwrap(), 2);
    close(&columns.matrix.data, &gram.matrix.data, F32_SHARD);
    let cross = cross_of(rows, rows, 2);
    close(&cross.matrix.data, &gram.matrix.data, F32_SHARD);
    assert!(cross == cross_of(rows, rows, 1));
    for (i, j) in [(0, 0), (1, 0), (700, 349), (1499, 1), (1499, 1499)] {
        let wanted: f64 = (0..n)
            .map(|k| f64::from(x[k * d + i]) * f64::from(x[k * d + j]))
            .sum();
        let found = gram.matrix.at(i, j) * n as f64;
        assert!((found - wanted).abs() < 1e-3, "{i}, {j}: {found} {wanted}");
    }
    close(&gram.mean, &cross.target_mean, F32_SHARD);
}
