//! Batch normalisation with the statistics of the batch itself, as it is trained.
//!
//! Of one channel with n numbers x, mean m and variance v (divided by n), with s = 1/√(v + ε):
//! y = scale · (x − m) · s + bias. With g the gradient of y, and means over the n numbers,
//! dx = scale · s · (g − mean(g) − (x − m) · s² · mean(g · (x − m))), because m and v follow x;
//! dscale = Σ g · (x − m) · s and dbias = Σ g (Ioffe and Szegedy 2015, section 3).
//!
//! One job does one channel, so that its second reading comes from the cache; sums are in f64 and
//! in the order of the images.

use pulp::Arch;

use super::error::{KernelError, check_len, product};
use super::norm::{BatchNormGrads, ChannelShape, channel_sums};
use super::parallel::run_jobs;

/// Mean and variance of every channel of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchMoments {
    /// Mean.
    pub mean: Vec<f64>,
    /// Variance, divided by the count.
    pub variance: Vec<f64>,
}

/// Factor and summand of every channel, and what is added to a variance.
#[derive(Debug, Clone, Copy)]
pub struct BatchAffine<'a> {
    /// Factor.
    pub scale: &'a [f32],
    /// Summand.
    pub bias: &'a [f32],
    /// Added to the variance before its root is taken.
    pub epsilon: f32,
}

impl BatchAffine<'_> {
    fn check(&self, shape: &ChannelShape) -> Result<usize, KernelError> {
        check_len("scale", self.scale, shape.channels)?;
        check_len("bias", self.bias, shape.channels)?;
        product(&[shape.batch, shape.channels, shape.plane])
    }

    fn inverse_deviation(&self, variance: f64) -> f64 {
        1.0 / (variance + f64::from(self.epsilon)).sqrt()
    }
}

/// Returns the planes of each channel, in the order of the images.
fn planes<'a>(data: &'a mut [f32], shape: &ChannelShape) -> Vec<Vec<&'a mut [f32]>> {
    let list = || Vec::with_capacity(shape.batch);
    let mut lists: Vec<Vec<&mut [f32]>> = (0..shape.channels).map(|_| list()).collect();
    let mut at = 0;
    for plane in data.chunks_mut(shape.plane.max(1)) {
        lists[at].push(plane);
        at = (at + 1) % shape.channels;
    }
    lists
}

/// Returns one channel's plane of an image.
fn plane_of<'a>(data: &'a [f32], shape: &ChannelShape, image: usize, channel: usize) -> &'a [f32] {
    &data[(image * shape.channels + channel) * shape.plane..][..shape.plane]
}

/// Writes `scale · (input − mean) / √(variance + ε) + bias` with each channel's own statistics over
/// images and positions, and returns those.
///
/// # Errors
/// [`KernelError`] when a slice does not have the length of `shape`.
pub fn batch_statistics_forward(
    shape: &ChannelShape,
    affine: &BatchAffine<'_>,
    input: &[f32],
    output: &mut [f32],
    threads: usize,
) -> Result<BatchMoments, KernelError> {
    let len = affine.check(shape)?;
    check_len("input", input, len)?;
    check_len("output", output, len)?;
    let mut moments = BatchMoments {
        mean: vec![0.0; shape.channels],
        variance: vec![0.0; shape.channels],
    };
    let slots = moments.mean.iter_mut().zip(&mut moments.variance);
    let jobs: Vec<_> = planes(output, shape).into_iter().zip(slots).collect();
    run_jobs(
        threads,
        jobs.into_iter().enumerate().collect(),
        || (),
        |(), (channel, (planes, (mean, variance)))| {
            (*mean, *variance) = channel_moments(input, shape, channel);
            let factor = f64::from(affine.scale[channel]) * affine.inverse_deviation(*variance);
            let shift = f64::from(affine.bias[channel]) - *mean * factor;
            let (factor, shift) = (factor as f32, shift as f32);
            for (image, to) in planes.into_iter().enumerate() {
                let from = plane_of(input, shape, image, channel);
                // Dispatch compiles the loop for the widest vectors of the machine.
                Arch::new().dispatch(|| {
                    for (y, x) in to.iter_mut().zip(from) {
                        *y = x * factor + shift;
                    }
                });
            }
        },
    );
    Ok(moments)
}

/// Returns mean and variance of one channel.
fn channel_moments(input: &[f32], shape: &ChannelShape, channel: usize) -> (f64, f64) {
    let count = (shape.batch * shape.plane) as f64;
    // Squares of distances from a number of the channel do not cancel where the mean is large.
    let origin = input
        .get(channel * shape.plane)
        .copied()
        .map_or(0.0, f64::from);
    let (mut sum, mut squares) = (0.0, 0.0);
    for image in 0..shape.batch {
        let x = plane_of(input, shape, image, channel);
        let [own, own_squares] = Arch::new().dispatch(|| plane_moments(x, origin));
        sum += own;
        squares += own_squares;
    }
    let mean = sum / count;
    (origin + mean, (squares / count - mean * mean).max(0.0))
}

/// Returns the sums of `x − origin` and of its square, sixteen partial sums at a time.
#[inline(always)]
fn plane_moments(x: &[f32], origin: f64) -> [f64; 2] {
    let (sixteens, rest) = x.as_chunks::<16>();
    let (mut sums, mut squares) = ([0.0f64; 16], [0.0f64; 16]);
    for x in sixteens {
        for i in 0..16 {
            let d = f64::from(x[i]) - origin;
            sums[i] += d;
            squares[i] += d * d;
        }
    }
    let (mut sum, mut square) = (sums.iter().sum::<f64>(), squares.iter().sum::<f64>());
    for x in rest {
        let d = f64::from(*x) - origin;
        sum += d;
        square += d * d;
    }
    [sum, square]
}

/// Writes the gradients of [`batch_statistics_forward`], which returned `moments`.
///
/// # Errors
/// As [`batch_statistics_forward`].
pub fn batch_statistics_backward(
    shape: &ChannelShape,
    affine: &BatchAffine<'_>,
    moments: &BatchMoments,
    (input, grad_output): (&[f32], &[f32]),
    grads: BatchNormGrads<'_>,
    threads: usize,
) -> Result<(), KernelError> {
    let len = affine.check(shape)?;
    check_len("input", input, len)?;
    check_len("grad_output", grad_output, len)?;
    grads.check(shape, len)?;
    if moments.mean.len().min(moments.variance.len()) != shape.channels {
        return Err(KernelError::BufferLength {
            name: "moments",
            expected: shape.channels,
            actual: moments.mean.len().min(moments.variance.len()),
        });
    }
    let count = (shape.batch * shape.plane) as f64;
    let slots = grads.scale.iter_mut().zip(grads.bias);
    let jobs: Vec<_> = planes(grads.input, shape).into_iter().zip(slots).collect();
    run_jobs(
        threads,
        jobs.into_iter().enumerate().collect(),
        || (),
        |(), (channel, (planes, (scale, bias)))| {
            let mean = moments.mean[channel];
            let inverse = affine.inverse_deviation(moments.variance[channel]);
            let (mut sum, mut sum_x) = (0.0f64, 0.0f64);
            for image in 0..shape.batch {
                let g = plane_of(grad_output, shape, image, channel);
                let x = plane_of(input, shape, image, channel);
                let [own, own_x] = Arch::new().dispatch(|| channel_sums(g, x, mean));
                sum += own;
                sum_x += own_x;
            }
            *scale = (sum_x * inverse) as f32;
            *bias = sum as f32;
            let factor = f64::from(affine.scale[channel]) * inverse;
            let slope = (factor * inverse * inverse * sum_x / count) as f32;
            let (factor, centre, mean) = (factor as f32, (sum / count) as f32, mean as f32);
            for (image, to) in planes.into_iter().enumerate() {
                let g = plane_of(grad_output, shape, image, channel);
                let x = plane_of(input, shape, image, channel);
                Arch::new().dispatch(|| {
                    for ((slot, g), x) in to.iter_mut().zip(g).zip(x) {
                        *slot = factor * (g - centre) - slope * (x - mean);
                    }
                });
            }
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::samples::{assert_close, samples, to_f64};

    /// One multiply and add in f32; gradients against differences in f64.
    const F32_AFFINE: f64 = 2e-5;

    const EPSILON: f32 = 1e-3;

    fn members(shape: &ChannelShape, channel: usize) -> impl Iterator<Item = usize> {
        let shape = *shape;
        (0..shape.batch * shape.channels * shape.plane)
            .filter(move |i| i / shape.plane % shape.channels == channel)
    }

    fn reference(shape: &ChannelShape, x: &[f64], scale: &[f64], bias: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        for c in 0..shape.channels {
            let n = (shape.batch * shape.plane) as f64;
            let mean = members(shape, c).map(|i| x[i]).sum::<f64>() / n;
            let squares = members(shape, c).map(|i| (x[i] - mean).powi(2));
            let variance = squares.sum::<f64>() / n;
            for i in members(shape, c) {
                let root = (variance + f64::from(EPSILON)).sqrt();
                y[i] = scale[c] * (x[i] - mean) / root + bias[c];
            }
        }
        y
    }

    #[test]
    fn batch_statistics_give_the_reference_and_its_differences() {
        for (batch, channels, plane, offset) in [
            (2, 1, 1, 0.0),
            (3, 5, 7, 0.0),
            (2, 4, 40, 50.0),
            (6, 3, 1, 0.0),
        ] {
            let shape = ChannelShape {
                batch,
                channels,
                plane,
            };
            let len = batch * channels * plane;
            let x: Vec<f32> = samples(1, len).iter().map(|x| x + offset).collect();
            let g = samples(2, len);
            let (scale, bias) = (samples(3, channels), samples(4, channels));
            let affine = BatchAffine {
                scale: &scale,
                bias: &bias,
                epsilon: EPSILON,
            };
            let params = [to_f64(&x), to_f64(&scale), to_f64(&bias)];
            let expected = reference(&shape, &params[0], &params[1], &params[2]);
            let mut output = vec![f32::NAN; len];
            let moments = batch_statistics_forward(&shape, &affine, &x, &mut output, 2).unwrap();
            // A large mean leaves its rounding in the one summand of a channel.
            let tolerance = F32_AFFINE * f64::from(1.0 + offset);
            assert_close("output", &output, &expected, tolerance);
            for c in 0..channels {
                let n = (batch * plane) as f64;
                let mean = members(&shape, c).map(|i| params[0][i]).sum::<f64>() / n;
                assert!((moments.mean[c] - mean).abs() < 1e-9 * f64::from(1.0 + offset));
            }

            let mut actual = [vec![0.0; len], vec![0.0; channels], vec![0.0; channels]];
            let [input, d_scale, d_bias] = &mut actual;
            let grads = BatchNormGrads {
                input,
                scale: d_scale,
                bias: d_bias,
            };
            batch_statistics_backward(&shape, &affine, &moments, (&x, &g), grads, 2).unwrap();
            let value = |p: &[Vec<f64>; 3]| -> f64 {
                let y = reference(&shape, &p[0], &p[1], &p[2]);
                y.iter().zip(&g).map(|(y, g)| y * f64::from(*g)).sum()
            };
            for which in 0..3 {
                let slopes: Vec<f64> = (0..actual[which].len())
                    .map(|i| {
                        let moved = |step: f64| {
                            let mut p = params.clone();
                            p[which][i] += step;
                            value(&p)
                        };
                        (moved(1e-4) - moved(-1e-4)) / 2e-4
                    })
                    .collect();
                assert_close("gradient", &actual[which], &slopes, tolerance);
            }
        }
    }

    #[test]
    fn slices_that_do_not_fill_the_shape_are_refused() {
        let shape = ChannelShape {
            batch: 2,
            channels: 2,
            plane: 3,
        };
        let affine = BatchAffine {
            scale: &[1.0, 1.0],
            bias: &[0.0, 0.0],
            epsilon: EPSILON,
        };
        let x = samples(1, 12);
        let mut y = vec![0.0; 12];
        assert!(batch_statistics_forward(&shape, &affine, &x[1..], &mut y, 1).is_err());
        let grads = BatchNormGrads {
            input: &mut y,
            scale: &mut [0.0; 2],
            bias: &mut [0.0; 2],
        };
        let none = BatchMoments::default();
        assert!(batch_statistics_backward(&shape, &affine, &none, (&x, &x), grads, 1).is_err());
    }
}
