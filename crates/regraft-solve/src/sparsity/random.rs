//! Random choices that depend on a seed alone.

/// A stream of 64-bit numbers.
///
/// # Reference
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014
/// (`SplitMix64`).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`; 0 for no choice.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Returns a number in 0..1 with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns an index with a chance in proportion to its weight, `None` if all are zero.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return None;
        }
        let mut left = self.unit() * total;
        let mut last = None;
        for (i, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            last = Some(i);
            if left < weight {
                break;
            }
            left -= weight;
        }
        last
    }

    /// Puts the values in a random order (Fisher and Yates).
    pub(super) fn shuffle(&mut self, values: &mut [usize]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_published_stream() {
        // First outputs of the reference implementation for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let found: Vec<u64> = (0..3).map(|_| random.next()).collect();
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn choices_stay_in_range_and_follow_the_weights() {
        let mut random = Random::new(3);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[random.weighted(&[1.0, 0.0, 3.0]).unwrap()] += 1;
            assert!(random.below(5) < 5);
        }
        assert_eq!(counts[1], 0);
        // 1,000 expected with a standard deviation of 27: five of them.
        assert!((865..1135).contains(&counts[0]), "{counts:?}");
        assert_eq!(random.weighted(&[0.0]), None);
        let mut order: Vec<usize> = (0..6).collect();
        random.shuffle(&mut order);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }
}
