//! Which samples calibrate, which are held out, which judge.

use crate::error::DataError;

/// The `SplitMix64` generator: the same numbers for a seed on every machine.
///
/// # Reference
/// Guy L. Steele Jr., Doug Lea, Christine H. Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014; constants of Vigna's
/// `splitmix64.c`.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Returns a generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`; `n` of zero gives zero.
    ///
    /// By multiplication; the bias is under `n / 2^64`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Returns a number from 0 to below 1, a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a number from -1 to below 1, a multiple of 2⁻⁵².
    pub fn symmetric(&mut self) -> f64 {
        2.0 * self.uniform() - 1.0
    }

    /// Returns a number from 0 to below 1, a multiple of 2⁻²⁴.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// Disjoint sample indices of one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationSplit {
    /// Samples that statistics are taken from, in drawn order.
    pub calibration: Vec<usize>,
    /// Samples that decide whether a rebuilt layer is kept.
    pub held_out: Vec<usize>,
    /// All other samples, ascending.
    pub rest: Vec<usize>,
}

/// Returns `n_calib` calibration and `n_held_out` held-out samples of `n_train`.
///
/// Drawn without replacement by a Fisher-Yates shuffle with [`SplitMix64`]: the
/// same arguments give the same samples, and with one seed a smaller
/// calibration set is the beginning of a larger one.
/// # Errors
/// [`DataError::EmptyCalibration`], or [`DataError::TooFewSamples`] when the
/// sum is more than `n_train`.
pub fn split_calibration(
    n_train: usize,
    n_calib: usize,
    n_held_out: usize,
    seed: u64,
) -> Result<CalibrationSplit, DataError> {
    if n_calib == 0 {
        return Err(DataError::EmptyCalibration);
    }
    let too_few = |needed| DataError::TooFewSamples {
        needed,
        n_calib,
        n_held_out,
        n: n_train,
    };
    let taken = match n_calib.checked_add(n_held_out) {
        Some(taken) if taken <= n_train => taken,
        needed => return Err(too_few(needed.map_or(u64::MAX, |n| n as u64))),
    };
    let mut order: Vec<usize> = (0..n_train).collect();
    let mut rng = SplitMix64::new(seed);
    for i in 0..taken {
        let j = i + rng.below(n_train - i);
        order.swap(i, j);
    }
    let mut rest = order.split_off(taken);
    rest.sort_unstable();
    let held_out = order.split_off(n_calib);
    Ok(CalibrationSplit {
        calibration: order,
        held_out,
        rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn generator_gives_the_published_numbers() {
        // First outputs of Vigna's splitmix64.c for seed 1234567.
        let mut rng = SplitMix64::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([(); 3].map(|()| rng.next_u64()), expected);
    }

    #[test]
    fn impossible_splits_are_refused() {
        let table = [
            (10, 0, 5, "empty"),
            (10, 8, 3, "11 samples needed"),
            (0, 1, 0, "1 samples needed"),
            (5, usize::MAX, 1, "samples needed"),
        ];
        for (n, calib, held, message) in table {
            let error = split_calibration(n, calib, held, 0).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_sample_is_in_exactly_one_part(n in 1_usize..200, a in 1_usize..50, b in 0_usize..50, seed: u64) {
            prop_assume!(a + b <= n);
            let split = split_calibration(n, a, b, seed).unwrap();
            prop_assert_eq!((split.calibration.len(), split.held_out.len()), (a, b));
            let again = split_calibration(n, a, b, seed).unwrap();
            prop_assert_eq!(&split, &again);
            let smaller = split_calibration(n, 1, b.min(n - 1), seed).unwrap();
            prop_assert_eq!(smaller.calibration[0], split.calibration[0]);
            let mut all = [split.calibration, split.held_out, split.rest].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }
}
