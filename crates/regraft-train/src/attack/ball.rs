//! Perturbations of one batch, in raw units.

use regraft_data::SplitMix64;

use super::{InputRange, Norm};

/// Where the perturbations of a batch may lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ball<'a> {
    pub(crate) norm: Norm,
    /// Its radius in raw units.
    pub(crate) eps: f32,
    pub(crate) range: &'a InputRange,
    /// Inputs without a perturbation: `n × sample_len`.
    pub(crate) clean: &'a [f32],
    pub(crate) sample_len: usize,
}

impl Ball<'_> {
    /// Returns random perturbations: uniform in the ball, and then within the valid range.
    ///
    /// `seeds` holds one for each sample, so that the draw does not depend on the batch.
    pub(crate) fn start(&self, seeds: &[u64]) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.clean.len());
        for &seed in seeds {
            let mut random = SplitMix64::new(seed);
            match self.norm {
                Norm::Linf => {
                    let draw = || self.eps * (2.0 * uniform(&mut random) - 1.0) as f32;
                    all.extend(std::iter::repeat_with(draw).take(self.sample_len));
                }
                // A direction, and a radius whose power is uniform.
                Norm::L2 => {
                    let mut sample = gaussian(&mut random, self.sample_len);
                    let share = uniform(&mut random).powf(1.0 / self.sample_len.max(1) as f64);
                    let length = length(&sample);
                    let factor = if length > 0.0 {
                        f64::from(self.eps) * share / length
                    } else {
                        0.0
                    };
                    for x in &mut sample {
                        *x *= factor as f32;
                    }
                    all.extend(sample);
                }
            }
        }
        self.fit(&mut all);
        all
    }

    /// Moves perturbations by `step` up the gradient with respect to the inputs, and back into the
    /// ball and the valid range.
    pub(crate) fn climb(&self, perturbation: &mut [f32], gradient: &[f32], step: f32) {
        let samples = perturbation.chunks_mut(self.sample_len.max(1));
        for (part, slope) in samples.zip(gradient.chunks(self.sample_len.max(1))) {
            // The chain rule: an input moves by its unit where the raw value moves by one.
            let raw = |(place, g): (usize, &f32)| {
                let g = g * self.range.unit(place);
                if g.is_finite() { g } else { 0.0 }
            };
            let slope: Vec<f32> = slope.iter().enumerate().map(raw).collect();
            match self.norm {
                Norm::Linf => {
                    for (x, g) in part.iter_mut().zip(&slope) {
                        if *g != 0.0 {
                            *x += step * g.signum();
                        }
                    }
                }
                Norm::L2 => {
                    let length = length(&slope);
                    if length > 0.0 {
                        for (x, g) in part.iter_mut().zip(&slope) {
                            *x += (f64::from(step) * f64::from(*g) / length) as f32;
                        }
                    }
                }
            }
        }
        self.project(perturbation);
        self.fit(perturbation);
    }

    /// Projects each sample's perturbation into the ball.
    fn project(&self, perturbation: &mut [f32]) {
        for part in perturbation.chunks_mut(self.sample_len.max(1)) {
            match self.norm {
                Norm::Linf => {
                    for x in part {
                        *x = x.max(-self.eps).min(self.eps);
                    }
                }
                Norm::L2 => {
                    let length = length(part);
                    if length > f64::from(self.eps) {
                        let factor = (f64::from(self.eps) / length) as f32;
                        for x in part {
                            *x *= factor;
                        }
                    }
                }
            }
        }
    }

    /// Shortens perturbations to the valid range, number by number: no length grows by that, as the
    /// clean input is within reach.
    pub(crate) fn fit(&self, perturbation: &mut [f32]) {
        for (i, (x, input)) in perturbation.iter_mut().zip(self.clean).enumerate() {
            let [down, up] = self.range.room(i % self.sample_len.max(1), *input);
            *x = x.max(down).min(up);
        }
    }

    /// Returns the inputs with the perturbations on them.
    pub(crate) fn inputs(&self, perturbation: &[f32]) -> Vec<f32> {
        let place = |i: usize| i % self.sample_len.max(1);
        let pairs = self.clean.iter().zip(perturbation).enumerate();
        pairs
            .map(|(i, (input, by))| self.range.moved(place(i), *input, *by))
            .collect()
    }
}

/// The Euclidean length.
pub(crate) fn length(x: &[f32]) -> f64 {
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    x.iter().map(square).sum::<f64>().sqrt()
}

/// A number from 0 to below 1.
fn uniform(random: &mut SplitMix64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal numbers, by pairs (Box and Muller 1958).
pub(crate) fn gaussian(random: &mut SplitMix64, n: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(n + 1);
    while all.len() < n {
        // From above zero to one: the logarithm is finite.
        let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * uniform(random)).sin_cos();
        all.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    all.truncate(n);
    all
}
