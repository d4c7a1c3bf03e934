//! Perturbations of one batch, in raw units.

use regraft_data::SplitMix64;

use super::{InputRange, Norm};

/// Where the perturbations of a batch may lie.
#[derive(Clone, Debug)]
pub(crate) struct Ball<'a> {
    norm: Norm,
    /// Its radius in raw units.
    eps: f32,
    /// Inputs without a perturbation: `n × sample_len`.
    clean: &'a [f32],
    /// What a raw change of 1 is, place by place of a sample.
    unit: Vec<f32>,
    /// How far each raw value may move, and between which ends its input stays.
    room: Vec<Room>,
}

/// Ends of one number.
#[derive(Clone, Copy, Debug)]
struct Room {
    raw: [f32; 2],
    input: [f32; 2],
}

impl<'a> Ball<'a> {
    /// Returns a ball around each of the samples `clean`, `n × sample_len`.
    pub(crate) fn new(
        norm: Norm,
        eps: f32,
        range: &InputRange,
        clean: &'a [f32],
        sample_len: usize,
    ) -> Self {
        let sample_len = sample_len.max(1);
        let room = |(i, input): (usize, &f32)| Room {
            raw: range.room(i % sample_len, *input),
            input: range.ends(i % sample_len, *input),
        };
        Self {
            norm,
            eps,
            clean,
            unit: (0..sample_len).map(|place| range.unit(place)).collect(),
            room: clean.iter().enumerate().map(room).collect(),
        }
    }

    /// Returns random perturbations: uniform in the ball, and then within the valid range.
    ///
    /// `seeds` holds one for each sample, so that the draw does not depend on the batch.
    pub(crate) fn start(&self, seeds: &[u64]) -> Vec<f32> {
        let sample_len = self.unit.len();
        let mut all = Vec::with_capacity(self.clean.len());
        for &seed in seeds {
            let mut random = SplitMix64::new(seed);
            match self.norm {
                Norm::Linf => {
                    let draw = || self.eps * random.symmetric() as f32;
                    all.extend(std::iter::repeat_with(draw).take(sample_len));
                }
                // A direction, and a radius whose power is uniform.
                Norm::L2 => {
                    let mut sample = gaussian(&mut random, sample_len);
                    let share = random.uniform().powf(1.0 / sample_len as f64);
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
        let sample_len = self.unit.len();
        let samples = perturbation.chunks_mut(sample_len);
        for (part, slope) in samples.zip(gradient.chunks(sample_len)) {
            // The chain rule: an input moves by its unit where the raw value moves by one.
            let raw = |(g, unit): (&f32, &f32)| {
                let g = g * unit;
                if g.is_finite() { g } else { 0.0 }
            };
            let slope = slope.iter().zip(&self.unit).map(raw);
            match self.norm {
                Norm::Linf => {
                    for (x, g) in part.iter_mut().zip(slope) {
                        let along = if g == 0.0 { 0.0 } else { step * g.signum() };
                        *x = (*x + along).max(-self.eps).min(self.eps);
                    }
                }
                Norm::L2 => {
                    let slope: Vec<f32> = slope.collect();
                    let steepness = length(&slope);
                    if steepness > 0.0 {
                        for (x, g) in part.iter_mut().zip(&slope) {
                            *x += (f64::from(step) * f64::from(*g) / steepness) as f32;
                        }
                    }
                    shorten(part, self.eps);
                }
            }
        }
        self.fit(perturbation);
    }

    /// Shortens perturbations to the valid range, number by number: no length grows by that, as the
    /// clean input is within reach.
    pub(crate) fn fit(&self, perturbation: &mut [f32]) {
        for (x, room) in perturbation.iter_mut().zip(&self.room) {
            *x = x.max(room.raw[0]).min(room.raw[1]);
        }
    }

    /// Returns the inputs with the perturbations on them.
    pub(crate) fn inputs(&self, perturbation: &[f32]) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.clean.len());
        let len = self.unit.len();
        let samples = self.clean.chunks(len).zip(self.room.chunks(len));
        for ((clean, room), by) in samples.zip(perturbation.chunks(len)) {
            let parts = clean.iter().zip(by).zip(self.unit.iter().zip(room));
            let moved = parts.map(|((input, by), (unit, room))| {
                // The ends again: a product and a sum may round over them.
                (input + unit * by).max(room.input[0]).min(room.input[1])
            });
            all.extend(moved);
        }
        all
    }
}

/// Shortens a vector to the length `most`.
fn shorten(x: &mut [f32], most: f32) {
    let length = length(x);
    if length > f64::from(most) {
        let factor = (f64::from(most) / length) as f32;
        for x in x {
            *x *= factor;
        }
    }
}

/// The Euclidean length.
pub(crate) fn length(x: &[f32]) -> f64 {
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    x.iter().map(square).sum::<f64>().sqrt()
}

/// Standard normal numbers, by pairs (Box and Muller 1958).
pub(crate) fn gaussian(random: &mut SplitMix64, n: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(n + 1);
    while all.len() < n {
        // From above zero to one: the logarithm is finite.
        let radius = (-2.0 * (1.0 - random.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * random.uniform()).sin_cos();
        all.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    all.truncate(n);
    all
}
