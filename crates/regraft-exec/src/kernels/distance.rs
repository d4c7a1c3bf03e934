//! How far two slices are from each other, and where it would fall.

use pulp::Arch;

use super::error::{KernelError, check_len};
use super::parallel::{chunk_jobs, run_jobs};

/// Numbers per job.
const CHUNK: usize = 16 * 1024;

/// What a slice is compared with for its own squares.
static ZEROS: [f32; CHUNK] = [0.0; CHUNK];

/// Sums that run side by side, so that an addition does not wait for the one before it.
const LANES: usize = 16;

/// Returns the mean of the squared differences; zero for empty slices.
///
/// Squares are summed in f32 over a hundred or so numbers, and in f64 above that.
/// # Errors
/// [`KernelError::BufferLength`] when the slices differ in length.
pub fn mean_squared_difference(
    numbers: &[f32],
    other: &[f32],
    threads: usize,
) -> Result<f32, KernelError> {
    check_len("other", other, numbers.len())?;
    let mut sums = vec![0.0f64; numbers.len().div_ceil(CHUNK)];
    let jobs: Vec<_> = sums
        .iter_mut()
        .zip(numbers.chunks(CHUNK).zip(other.chunks(CHUNK)))
        .collect();
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (sum, (a, b))| *sum = Arch::new().dispatch(|| squares(a, b)),
    );
    let count = numbers.len().max(1) as f64;
    Ok((sums.iter().sum::<f64>() / count) as f32)
}

#[inline(always)]
fn squares(a: &[f32], b: &[f32]) -> f64 {
    const BLOCK: usize = 128 * LANES;
    let of_block = |(a, b): (&[f32], &[f32])| {
        let mut lanes = [0.0f32; LANES];
        for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
            for (sum, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *sum += (x - y) * (x - y);
            }
        }
        lanes.iter().map(|s| f64::from(*s)).sum::<f64>()
    };
    a.chunks(BLOCK).zip(b.chunks(BLOCK)).map(of_block).sum()
}

/// Returns the mean of the squares, on the caller's thread; zero for an empty slice.
///
/// Squares are summed in f32 over a hundred or so numbers, and in f64 above that.
#[must_use]
pub fn mean_square(numbers: &[f32]) -> f64 {
    let sums = numbers.chunks(CHUNK);
    let sums = sums.map(|part| Arch::new().dispatch(|| squares(part, &ZEROS[..part.len()])));
    sums.sum::<f64>() / numbers.len().max(1) as f64
}

/// Returns `factor · (numbers − other)`: the gradient of the mean of the squared differences with respect
/// to `numbers`, where `factor` is two by their count, times the gradient of the mean.
///
/// # Errors
/// [`KernelError::BufferLength`] when the slices differ in length.
pub fn scaled_difference(
    numbers: &[f32],
    other: &[f32],
    factor: f32,
    threads: usize,
) -> Result<Vec<f32>, KernelError> {
    check_len("other", other, numbers.len())?;
    let mut out = vec![0.0f32; numbers.len()];
    let jobs = chunk_jobs(&mut out, CHUNK);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (index, to)| {
            let from = index * CHUNK..index * CHUNK + to.len();
            let (a, b) = (&numbers[from.clone()], &other[from]);
            Arch::new().dispatch(|| {
                for (slot, (x, y)) in to.iter_mut().zip(a.iter().zip(b)) {
                    *slot = factor * (x - y);
                }
            });
        },
    );
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::samples::samples;

    #[test]
    fn differences_are_those_of_the_definition_for_any_length_and_threads() {
        for len in [1, 15, 16, 17, 2047, 2049, CHUNK, 3 * CHUNK + 5] {
            let (a, b) = (samples(1, len), samples(2, len));
            let pairs = || a.iter().zip(&b).map(|(x, y)| f64::from(x - y));
            let wanted = pairs().map(|d| d * d).sum::<f64>() / len as f64;
            let one = mean_squared_difference(&a, &b, 1).unwrap();
            assert!((f64::from(one) - wanted).abs() < 1e-6 * wanted, "{len}");
            let three = mean_squared_difference(&a, &b, 3).unwrap();
            assert_eq!(one.to_bits(), three.to_bits());
            let squares = a.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            assert!((mean_square(&a) - squares / len as f64).abs() < 1e-6 * squares);
            let slopes = scaled_difference(&a, &b, 0.5, 2).unwrap();
            for (slope, d) in slopes.iter().zip(pairs()) {
                assert!((f64::from(*slope) - 0.5 * d).abs() < 1e-6);
            }
        }
        assert!(mean_square(&[]).abs() < f64::MIN_POSITIVE);
        let nothing = mean_squared_difference(&[], &[], 2).unwrap();
        assert!(nothing.abs() < f32::MIN_POSITIVE);
        mean_squared_difference(&[1.0], &[], 1).unwrap_err();
        scaled_difference(&[1.0], &[], 1.0, 1).unwrap_err();
    }
}
