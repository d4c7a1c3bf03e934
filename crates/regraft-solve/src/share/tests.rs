use proptest::prelude::*;

use super::bits::{BitReader, BitWriter, number_bits};
use super::*;
use crate::gram::{GramAccumulator, Samples};
use crate::matrix::Matrix;
use crate::samples::{correlated, noise};

/// Differences of prefix sums of a few dozen numbers near 1.
const F64_SUMS: f64 = 1e-9;

/// The least cost over every cut of the sorted values into `k` ranges, by trying all.
fn brute(sorted: &[(f64, f64)], k: usize) -> f64 {
    let cost = |part: &[(f64, f64)]| {
        let w: f64 = part.iter().map(|p| p.1).sum();
        let mean = part.iter().map(|p| p.0 * p.1).sum::<f64>() / w;
        part.iter().map(|p| p.1 * (p.0 - mean).powi(2)).sum::<f64>()
    };
    if k == 1 || sorted.len() <= 1 {
        return if sorted.is_empty() { 0.0 } else { cost(sorted) };
    }
    (1..=sorted.len())
        .map(|cut| cost(&sorted[..cut]) + brute(&sorted[cut..], k - 1))
        .fold(f64::INFINITY, f64::min)
}

proptest! {
    #[test]
    fn k_means_is_the_best_of_all_partitions(
        points in prop::collection::vec((-2.0..2.0_f64, 0.1..3.0_f64), 1..11),
        k in 1_usize..5,
    ) {
        let (values, weights): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut sorted: Vec<(f64, f64)> = points.iter().map(|p| (p.0, p.1 / mean)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let found = codebook(&values, Some(&weights), k).unwrap();
        prop_assert!(found.exact && found.entries.len() <= k);
        prop_assert!(found.entries.is_sorted());
        prop_assert!((found.cost - brute(&sorted, k)).abs() < F64_SUMS);
        // The cost told is that of the entries told.
        let told: f64 = sorted
            .iter()
            .map(|(x, w)| w * (x - found.entries[nearest(&found.entries, *x)]).powi(2))
            .sum();
        prop_assert!((found.cost - told).abs() < F64_SUMS);
    }

    #[test]
    fn codes_are_within_a_bit_of_the_entropy(counts in prop::collection::vec(0_u64..1000, 1..40)) {
        let lengths = code_lengths(&counts);
        let used = counts.iter().filter(|c| **c > 0).count();
        let kraft: f64 = lengths.iter().filter(|l| **l > 0).map(|l| 0.5_f64.powi((*l).into())).sum();
        prop_assert!((used < 2) || (kraft - 1.0).abs() < F64_SUMS, "{kraft}");
        let total: u64 = counts.iter().sum();
        let entropy: f64 = counts
            .iter()
            .filter(|c| **c > 0)
            .map(|&c| c as f64 * (total as f64 / c as f64).log2())
            .sum();
        let bits = coded_bits(&counts, &lengths) as f64;
        prop_assert!(bits >= entropy - F64_SUMS);
        prop_assert!(bits <= entropy + total as f64);
    }

    #[test]
    fn bytes_are_read_back_and_counted(
        entries in prop::collection::vec(-1.0..1.0_f32, 1..40),
        picks in prop::collection::vec((0_usize..60, any::<u16>()), 0..200),
        sparse in any::<bool>(),
        apart in any::<bool>(),
    ) {
        let mut values = SharedValues { codebook: entries, indices: Vec::new() };
        if sparse {
            values.codebook[0] = 0.0;
        }
        let len = values.codebook.len() as u16;
        for (zeros, pick) in picks {
            let zeros = if sparse { zeros } else { 0 };
            values.indices.extend(std::iter::repeat_n(0, zeros * zeros));
            values.indices.push(pick % len);
        }
        let place = if apart { Place::Apart } else { Place::Inside };
        let bytes = encode(&values, place).unwrap();
        let codebook = apart.then_some(values.codebook.as_slice());
        let back = decode(&bytes, values.indices.len(), codebook).unwrap();
        prop_assert_eq!(&back, &values);
        prop_assert_eq!(sizes(&values, place).unwrap().coded_bytes, bytes.len() as u64);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(read) = decode(&bytes, 50, Some(&[0.0, 1.0])) {
            prop_assert_eq!(read.indices.len(), 50);
        }
    }
}

#[test]
fn a_worked_code() {
    // Huffman's own merges: 1+2=3, 3+3=6, 4+6=10 beside 7 and 10: lengths by hand.
    let counts = [10, 1, 2, 3, 4, 0];
    let lengths = code_lengths(&counts);
    assert_eq!(lengths, [1, 4, 4, 3, 2, 0]);
    assert_eq!(coded_bits(&counts, &lengths), 10 + 4 + 8 + 9 + 8);
    assert_eq!(code_lengths(&[0, 7, 0]), [0, 1, 0]);
    assert_eq!(code_lengths(&[]), [0_u8; 0]);
    assert_eq!(
        huffman::codes(&lengths),
        [0, 0b1110, 0b1111, 0b110, 0b10, 0]
    );
    assert!(huffman::Decoder::new(&[1, 1, 1]).is_none());
}

#[test]
fn numbers_of_any_size_are_read_back() {
    for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX)] {
        let mut bits = BitWriter::default();
        bits.put_number(value);
        let bytes = bits.finish();
        assert_eq!(8 * bytes.len() as u64, number_bits(value));
        assert_eq!(BitReader::new(&bytes).take_number().unwrap(), value);
    }
    assert!(BitReader::new(&[0xff; 20]).take_number().is_err());
}

#[test]
fn the_layout_of_the_paper() {
    // Three zeros, a weight, nine zeros, a weight: in 3 bits of distance the second needs a filler.
    let mut indices = vec![0; 14];
    indices[3] = 1;
    indices[13] = 2;
    let values = SharedValues {
        codebook: vec![0.0, 0.5, -0.5],
        indices,
    };
    let found = sizes(&values, Place::Inside).unwrap();
    assert_eq!((found.n_values, found.n_nonzero), (14, 2));
    assert_eq!((found.dense_bytes, found.codebook_bytes), (56, 8));
    // Stage one: two floats and 4 bits of distance each, 72 bits.
    assert_eq!(found.pruned_bytes, 9);
    // Stage two: dense indices of 2 bits take 28, sparse ones 2 x (2 + 4).
    assert_eq!(found.shared_bytes, 8 + 2);
}

#[test]
fn many_values_are_shared_in_bins() {
    let n = 20_000;
    let values: Vec<f64> = noise(5, n).iter().map(|v| f64::from(*v).powi(3)).collect();
    let large = codebook(&values, None, 600).unwrap();
    assert!(!large.exact);
    assert!(large.entries.len() > 590 && large.entries.is_sorted());
    let small = codebook(&values, None, 300).unwrap();
    assert!(small.exact);
    assert!(large.cost < small.cost);
    // Half the entries cost four times as much where cells are small.
    assert!(
        large.cost > small.cost / 5.0,
        "{} {}",
        large.cost,
        small.cost
    );
}

fn gram(seed: u64, d: usize) -> Matrix {
    let x = correlated(seed, 200, d);
    let mut sums = GramAccumulator::new(d, 1).unwrap();
    sums.add(Samples::rows(&x, 200, d).unwrap()).unwrap();
    sums.finish().unwrap().matrix
}

fn sparse_weights(seed: u64, rows: usize, d: usize) -> Matrix {
    let mut w = Matrix::from_f32(rows, d, &noise(seed, rows * d)).unwrap();
    for (i, v) in w.data.iter_mut().enumerate() {
        if i % 3 == 0 {
            *v = 0.0;
        }
    }
    w
}

#[test]
fn each_weighting_is_better_in_the_next_metric() {
    for seed in 1..6 {
        let w = sparse_weights(seed, 12, 24);
        let grams = [gram(seed + 50, 24), gram(seed + 80, 24)];
        let part = Part {
            weights: &w,
            grams: &grams,
        };
        let fit = |weighting| fit_codebook(&[part], 8, weighting).unwrap();
        let (plain, curvature, full) = (
            fit(Weighting::Plain),
            fit(Weighting::Curvature),
            fit(Weighting::Gram),
        );
        assert!(full.rounds > 0 && curvature.rounds == 0);
        let errors = [full.errors[0], curvature.errors[0], plain.errors[0]];
        assert!(errors[0] < 0.9 * errors[1].min(errors[2]), "{errors:?}");
        for found in [plain, curvature, full] {
            assert_eq!(found.entries[0].to_bits(), 0);
            assert!(found.entries.len() <= 8 && found.entries[1..].is_sorted());
            let zeros = w.data.iter().zip(&found.indices[0]);
            assert!(zeros.into_iter().all(|(w, i)| (*w == 0.0) == (*i == 0)));
        }
    }
}

#[test]
fn one_codebook_serves_several_layers() {
    let (a, b) = (sparse_weights(1, 8, 12), sparse_weights(2, 4, 20));
    let (g, h) = ([gram(3, 12)], [gram(4, 20)]);
    let parts = [
        Part {
            weights: &a,
            grams: &g,
        },
        Part {
            weights: &b,
            grams: &h,
        },
    ];
    let error = |weighting| -> f64 {
        let found = fit_codebook(&parts, 8, weighting).unwrap();
        assert_eq!(found.indices.len(), 2);
        found.errors.iter().sum()
    };
    assert!(error(Weighting::Gram) < error(Weighting::Curvature));
}

#[test]
fn few_values_stay_as_they_are() {
    let w = Matrix::from_f32(2, 3, &[0.5, 0.0, -0.25, 0.5, 0.5, 0.0]).unwrap();
    let g = [gram(1, 3)];
    let part = Part {
        weights: &w,
        grams: &g,
    };
    let found = fit_codebook(&[part], 16, Weighting::Gram).unwrap();
    assert_eq!(found.entries, [0.0, -0.25, 0.5]);
    assert_eq!(found.indices, [[2, 0, 1, 2, 2, 0]]);
    assert_eq!(found.errors, [0.0]);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let w = Matrix::from_f32(1, 2, &[1.0, f32::NAN]).unwrap();
    let part = Part {
        weights: &w,
        grams: &[],
    };
    let fails = |n| fit_codebook(&[part], n, Weighting::Plain).unwrap_err();
    assert!(matches!(fails(1), SolveError::Option { .. }));
    assert!(matches!(fails(1 << 17), SolveError::Option { .. }));
    assert!(matches!(fails(4), SolveError::NotFinite { .. }));
    assert!(codebook(&[1.0], None, 0).is_err());
    assert!(codebook(&[1.0], Some(&[-1.0]), 2).is_err());
    let values = SharedValues {
        codebook: vec![1.0],
        indices: vec![1],
    };
    assert!(matches!(
        encode(&values, Place::Inside),
        Err(SolveError::Index { .. })
    ));
}
