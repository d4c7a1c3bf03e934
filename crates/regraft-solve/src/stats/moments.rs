//! Running mean and variance of each channel, for the re-estimation of `BatchNorm`.

use crate::error::{SolveError, same};
use crate::gram::Samples;

/// Mean and variance of each channel over all values added.
///
/// Chunks are reduced by two passes in f64 and merged by Chan's formula, so a large mean
/// does not eat the variance.
/// # Reference
/// Chan, Golub and `LeVeque`, "Updating formulae and a pairwise algorithm for computing sample
/// variances", 1979.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMoments {
    n: u64,
    mean: Vec<f64>,
    /// Sum of the squared distances to the mean.
    spread: Vec<f64>,
}

impl ChannelMoments {
    /// Returns the empty moments of `channels` channels.
    pub fn new(channels: usize) -> Self {
        Self {
            n: 0,
            mean: vec![0.0; channels],
            spread: vec![0.0; channels],
        }
    }

    /// Adds samples; each column is a channel.
    /// # Errors
    /// [`SolveError::Shape`] if the samples have another number of columns.
    pub fn add(&mut self, samples: Samples<'_>) -> Result<(), SolveError> {
        same("samples' channels", self.mean.len(), samples.n_cols())?;
        let n = samples.n_rows();
        if n == 0 {
            return Ok(());
        }
        let channels = self.mean.len();
        let mut mean = vec![0.0; channels];
        samples.for_each_value(|channel, value| mean[channel] += f64::from(value));
        for m in &mut mean {
            *m /= n as f64;
        }
        let mut spread = vec![0.0; channels];
        samples.for_each_value(|channel, value| {
            let distance = f64::from(value) - mean[channel];
            spread[channel] += distance * distance;
        });
        self.absorb(n as u64, &mean, &spread);
        Ok(())
    }

    /// Adds what another collector saw.
    /// # Errors
    /// [`SolveError::Shape`] if the two have different numbers of channels.
    pub fn merge(&mut self, other: &Self) -> Result<(), SolveError> {
        same("moments' channels", self.mean.len(), other.mean.len())?;
        self.absorb(other.n, &other.mean, &other.spread);
        Ok(())
    }

    fn absorb(&mut self, n: u64, mean: &[f64], spread: &[f64]) {
        let total = self.n + n;
        if total == 0 {
            return;
        }
        let share = n as f64 / total as f64;
        for (i, (m, s)) in mean.iter().zip(spread).enumerate() {
            let gap = m - self.mean[i];
            self.mean[i] += gap * share;
            self.spread[i] += s + gap * gap * share * self.n as f64;
        }
        self.n = total;
    }

    /// Returns the number of values seen per channel.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Returns the mean of each channel; zero before any value.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Returns the variance of each channel (divided by `n`, as `BatchNorm` uses it in
    /// training mode); zero before any value.
    pub fn variance(&self) -> Vec<f64> {
        let n = self.n.max(1) as f64;
        self.spread.iter().map(|s| s / n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::noise;

    /// Two f64 passes over a few thousand f32 values.
    const F64_SUM: f64 = 1e-9;

    #[test]
    fn by_hand_and_in_pieces() {
        let mut whole = ChannelMoments::new(1);
        whole
            .add(Samples::rows(&[1.0, 3.0, 5.0, 7.0], 4, 1).unwrap())
            .unwrap();
        assert_eq!(
            (whole.mean(), whole.variance()),
            ([4.0].as_slice(), vec![5.0])
        );
        let mut first = ChannelMoments::new(1);
        first.add(Samples::rows(&[1.0], 1, 1).unwrap()).unwrap();
        let mut second = ChannelMoments::new(1);
        second
            .add(Samples::rows(&[3.0, 5.0, 7.0], 3, 1).unwrap())
            .unwrap();
        first.merge(&second).unwrap();
        assert_eq!(first, whole);
        assert!(first.merge(&ChannelMoments::new(2)).is_err());
        assert_eq!(ChannelMoments::new(2).variance(), [0.0, 0.0]);
    }

    #[test]
    fn a_large_mean_keeps_the_variance() {
        let small = noise(1, 4000);
        // Steps of 1/1,024 around 4,096 are exact in f32.
        let large: Vec<f32> = small
            .iter()
            .map(|v| 4096.0 + (v * 1024.0).round() / 1024.0)
            .collect();
        let mut moments = ChannelMoments::new(2);
        for chunk in large.chunks(100) {
            moments
                .add(Samples::channels(chunk, 2, 50).unwrap())
                .unwrap();
        }
        for channel in 0..2 {
            let values = large
                .chunks(100)
                .flat_map(|c| &c[channel * 50..channel * 50 + 50]);
            let values: Vec<f64> = values.map(|&v| f64::from(v) - 4096.0).collect();
            let mean = values.iter().sum::<f64>() / 2000.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2000.0;
            assert!((moments.mean()[channel] - 4096.0 - mean).abs() < F64_SUM);
            assert!((moments.variance()[channel] - variance).abs() < F64_SUM);
        }
    }
}
