//! Batch normalisation with fixed statistics, and the rectifier.

use pulp::Arch;

use super::error::{KernelError, check_len, product};
use super::parallel::{chunk_jobs, run_jobs};

/// Numbers per job of an elementwise pass: 64 KiB.
const ELEMENTWISE_CHUNK: usize = 16 * 1024;

/// Shape of a per-channel operation: `batch × channels × plane`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelShape {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Positions of one channel: height times width, one for plain rows.
    pub plane: usize,
}

/// Parameters and fixed statistics of a batch normalisation, one number per channel.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Factor.
    pub scale: &'a [f32],
    /// Summand.
    pub bias: &'a [f32],
    /// Mean that is taken away.
    pub mean: &'a [f32],
    /// Variance that is divided by.
    pub variance: &'a [f32],
    /// Added to the variance before its root is taken.
    pub epsilon: f32,
}

/// Gradients of a batch normalisation; the statistics are constants.
#[derive(Debug)]
pub struct BatchNormGrads<'a> {
    /// With respect to the input.
    pub input: &'a mut [f32],
    /// With respect to the factor.
    pub scale: &'a mut [f32],
    /// With respect to the summand.
    pub bias: &'a mut [f32],
}

impl BatchNormGrads<'_> {
    /// Refuses slices that are not those of an input of `len` numbers.
    pub(super) fn check(&self, shape: &ChannelShape, len: usize) -> Result<(), KernelError> {
        check_len("grad input", self.input, len)?;
        check_len("grad scale", self.scale, shape.channels)?;
        check_len("grad bias", self.bias, shape.channels)
    }
}

impl BatchNorm<'_> {
    fn check(&self, shape: &ChannelShape) -> Result<usize, KernelError> {
        check_len("scale", self.scale, shape.channels)?;
        check_len("bias", self.bias, shape.channels)?;
        check_len("mean", self.mean, shape.channels)?;
        check_len("variance", self.variance, shape.channels)?;
        product(&[shape.batch, shape.channels, shape.plane])
    }

    /// Returns `1 / √(variance + ε)` of a channel.
    fn inverse_deviation(&self, channel: usize) -> f64 {
        1.0 / (f64::from(self.variance[channel]) + f64::from(self.epsilon)).sqrt()
    }
}

/// Writes `scale · (input − mean) / √(variance + ε) + bias` as one multiply and add.
///
/// # Errors
/// [`KernelError`] when a slice does not have the length of `shape`.
pub fn batch_norm_forward(
    shape: &ChannelShape,
    norm: &BatchNorm<'_>,
    input: &[f32],
    output: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let len = norm.check(shape)?;
    check_len("input", input, len)?;
    check_len("output", output, len)?;
    let jobs = chunk_jobs(output, shape.plane);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (index, to)| {
            let channel = index % shape.channels;
            let factor = f64::from(norm.scale[channel]) * norm.inverse_deviation(channel);
            let shift = f64::from(norm.bias[channel]) - f64::from(norm.mean[channel]) * factor;
            let (factor, shift) = (factor as f32, shift as f32);
            let from = &input[index * shape.plane..][..to.len()];
            // Dispatch compiles the loop for the widest vectors of the machine.
            Arch::new().dispatch(|| {
                for (y, x) in to.iter_mut().zip(from) {
                    *y = x * factor + shift;
                }
            });
        },
    );
    Ok(())
}

/// Writes the gradients of [`batch_norm_forward`]; sums are in f64.
///
/// # Errors
/// As [`batch_norm_forward`].
pub fn batch_norm_backward(
    shape: &ChannelShape,
    norm: &BatchNorm<'_>,
    input: &[f32],
    grad_output: &[f32],
    grads: BatchNormGrads<'_>,
    threads: usize,
) -> Result<(), KernelError> {
    let len = norm.check(shape)?;
    check_len("input", input, len)?;
    check_len("grad_output", grad_output, len)?;
    grads.check(shape, len)?;
    let jobs = chunk_jobs(grads.input, shape.plane);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (index, to)| {
            let channel = index % shape.channels;
            let factor = (f64::from(norm.scale[channel]) * norm.inverse_deviation(channel)) as f32;
            let from = &grad_output[index * shape.plane..][..to.len()];
            Arch::new().dispatch(|| {
                for (slot, g) in to.iter_mut().zip(from) {
                    *slot = g * factor;
                }
            });
        },
    );
    let jobs: Vec<_> = grads.scale.iter_mut().zip(grads.bias).enumerate().collect();
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (channel, (scale, bias))| {
            let mean = f64::from(norm.mean[channel]);
            let (mut sum, mut sum_x) = (0.0f64, 0.0f64);
            for image in 0..shape.batch {
                let start = (image * shape.channels + channel) * shape.plane;
                let g = &grad_output[start..start + shape.plane];
                let x = &input[start..start + shape.plane];
                let [own, own_x] = Arch::new().dispatch(|| channel_sums(g, x, mean));
                sum += own;
                sum_x += own_x;
            }
            *scale = (sum_x * norm.inverse_deviation(channel)) as f32;
            *bias = sum as f32;
        },
    );
    Ok(())
}

/// Returns the sums of `grads` and of `grads · (inputs − mean)`, eight partial sums at a time.
#[inline(always)]
pub(super) fn channel_sums(grads: &[f32], inputs: &[f32], mean: f64) -> [f64; 2] {
    let (grad_eights, grad_rest) = grads.as_chunks::<8>();
    let (input_eights, input_rest) = inputs.as_chunks::<8>();
    let (mut sums, mut sums_x) = ([0.0f64; 8], [0.0f64; 8]);
    for (g, x) in grad_eights.iter().zip(input_eights) {
        for i in 0..8 {
            sums[i] += f64::from(g[i]);
            sums_x[i] += f64::from(g[i]) * (f64::from(x[i]) - mean);
        }
    }
    let (mut sum, mut sum_x) = (sums.iter().sum::<f64>(), sums_x.iter().sum::<f64>());
    for (g, x) in grad_rest.iter().zip(input_rest) {
        sum += f64::from(*g);
        sum_x += f64::from(*g) * (f64::from(*x) - mean);
    }
    [sum, sum_x]
}

/// Replaces every number below zero by zero; a NaN stays a NaN.
pub fn relu_in_place(numbers: &mut [f32], threads: usize) {
    each_in_place(numbers, threads, |x| if x < 0.0 { 0.0 } else { x });
}

/// Adds `other` to `numbers`.
///
/// # Errors
/// [`KernelError::BufferLength`] when the slices differ in length.
pub fn add_in_place(numbers: &mut [f32], other: &[f32], threads: usize) -> Result<(), KernelError> {
    check_len("other", other, numbers.len())?;
    let jobs = chunk_jobs(numbers, ELEMENTWISE_CHUNK);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (index, to)| {
            let from = &other[index * ELEMENTWISE_CHUNK..][..to.len()];
            Arch::new().dispatch(|| {
                for (x, y) in to.iter_mut().zip(from) {
                    *x += *y;
                }
            });
        },
    );
    Ok(())
}

/// Replaces every number by its square root.
pub fn sqrt_in_place(numbers: &mut [f32], threads: usize) {
    each_in_place(numbers, threads, f32::sqrt);
}

/// Writes `grad_output / (2 · root)`, for square roots `root`; at zero it is infinite.
///
/// # Errors
/// [`KernelError::BufferLength`] when the slices differ in length.
pub fn sqrt_backward(
    root: &[f32],
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    each_backward(root, grad_output, grad_input, threads, |y, g| g * (0.5 / y))
}

/// Writes `grad_output` where `input` (or the rectifier's output) is above zero, else zero.
///
/// # Errors
/// [`KernelError::BufferLength`] when the slices differ in length.
pub fn relu_backward(
    input: &[f32],
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let slope = |x, g| if x > 0.0 { g } else { 0.0 };
    each_backward(input, grad_output, grad_input, threads, slope)
}

/// Replaces every number by what `of` gives for it.
fn each_in_place(numbers: &mut [f32], threads: usize, of: impl Fn(f32) -> f32 + Sync) {
    let jobs = chunk_jobs(numbers, ELEMENTWISE_CHUNK);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (_, chunk)| {
            Arch::new().dispatch(|| {
                for x in chunk {
                    *x = of(*x);
                }
            });
        },
    );
}

/// Writes what `of` gives for each number of `kept` and the gradient there.
fn each_backward(
    kept: &[f32],
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
    of: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<(), KernelError> {
    check_len("grad_output", grad_output, kept.len())?;
    check_len("grad_input", grad_input, kept.len())?;
    let jobs = chunk_jobs(grad_input, ELEMENTWISE_CHUNK);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (index, to)| {
            let start = index * ELEMENTWISE_CHUNK;
            let from = kept[start..].iter().zip(&grad_output[start..]);
            Arch::new().dispatch(|| {
                for (slot, (x, g)) in to.iter_mut().zip(from) {
                    *slot = of(*x, *g);
                }
            });
        },
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "small whole numbers are exact")]
mod tests {
    use super::*;
    use crate::kernels::samples::{assert_close, samples, to_f64};

    /// One multiply and add in f32; gradients against differences in f64.
    const F32_AFFINE: f64 = 1e-5;

    fn reference(shape: &ChannelShape, x: &[f64], p: &[Vec<f64>; 4]) -> Vec<f64> {
        let [scale, bias, mean, variance] = p;
        x.iter()
            .enumerate()
            .map(|(i, v)| {
                let c = i / shape.plane % shape.channels;
                scale[c] * (v - mean[c]) / (variance[c] + 1e-3).sqrt() + bias[c]
            })
            .collect()
    }

    #[test]
    fn batch_norm_gives_the_reference_and_its_differences() {
        for (batch, channels, plane) in [(1, 1, 1), (3, 5, 7), (2, 16, 64), (4, 3, 1)] {
            let shape = ChannelShape {
                batch,
                channels,
                plane,
            };
            let len = batch * channels * plane;
            let (x, g) = (samples(1, len), samples(2, len));
            let (scale, bias, mean) = (
                samples(3, channels),
                samples(4, channels),
                samples(5, channels),
            );
            let variance: Vec<f32> = samples(6, channels).iter().map(|v| v.abs()).collect();
            let norm = BatchNorm {
                scale: &scale,
                bias: &bias,
                mean: &mean,
                variance: &variance,
                epsilon: 1e-3,
            };
            let params = [&scale, &bias, &mean, &variance].map(|p| to_f64(p));
            let expected = reference(&shape, &to_f64(&x), &params);
            let mut output = vec![f32::NAN; len];
            batch_norm_forward(&shape, &norm, &x, &mut output, 2).unwrap();
            assert_close("output", &output, &expected, F32_AFFINE);

            let mut actual = [vec![0.0; len], vec![0.0; channels], vec![0.0; channels]];
            let [input, d_scale, d_bias] = &mut actual;
            let grads = BatchNormGrads {
                input,
                scale: d_scale,
                bias: d_bias,
            };
            batch_norm_backward(&shape, &norm, &x, &g, grads, 2).unwrap();
            let value = |x: &[f64], p: &[Vec<f64>; 4]| -> f64 {
                let y = reference(&shape, x, p);
                y.iter().zip(&g).map(|(y, g)| y * f64::from(*g)).sum()
            };
            for which in 0..3 {
                let slopes: Vec<f64> = (0..actual[which].len())
                    .map(|i| {
                        let moved = |step: f64| {
                            let (mut x, mut p) = (to_f64(&x), params.clone());
                            match which {
                                0 => x[i] += step,
                                _ => p[which - 1][i] += step,
                            }
                            value(&x, &p)
                        };
                        (moved(1e-3) - moved(-1e-3)) / 2e-3
                    })
                    .collect();
                assert_close("gradient", &actual[which], &slopes, F32_AFFINE);
            }
        }
    }

    #[test]
    fn roots_rise_by_half_of_their_inverse() {
        let (mut y, mut d) = ([4.0, 0.25, 0.0, -1.0], [0.0; 4]);
        sqrt_in_place(&mut y, 1);
        sqrt_backward(&y, &[2.0; 4], &mut d, 2).unwrap();
        assert_eq!(y[..3], [2.0, 0.5, 0.0]);
        assert_eq!(d[..3], [0.5, 2.0, f32::INFINITY]);
        assert!(y[3].is_nan() && d[3].is_nan());
        assert!(sqrt_backward(&y, &[2.0; 4], &mut d[..2], 1).is_err());
    }

    #[test]
    fn relu_keeps_what_is_above_zero() {
        let x = [-1.0, 0.0, 2.0, f32::NAN];
        let (mut y, mut d) = (x, [9.0; 4]);
        relu_in_place(&mut y, 1);
        relu_backward(&x, &[5.0; 4], &mut d, 1).unwrap();
        assert_eq!(y[..3], [0.0, 0.0, 2.0]);
        assert!(y[3].is_nan());
        assert_eq!(d, [0.0, 0.0, 5.0, 0.0]);
        assert!(relu_backward(&x, &[5.0; 4], &mut d[..2], 1).is_err());
        let mut sum = [1.0, 2.0];
        add_in_place(&mut sum, &[3.0, 4.0], 2).unwrap();
        assert_eq!(sum, [4.0, 6.0]);
        assert!(add_in_place(&mut sum, &x, 2).is_err());
    }
}
