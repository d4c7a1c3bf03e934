//! Maximum and average pooling over windows, and over whole planes.

use super::error::{KernelError, check_len, product};
use super::norm::ChannelShape;
use super::parallel::{chunk_jobs, run_jobs};
use super::shape::window_count;

/// Index of a maximum that no input gave: the window saw padding only.
pub const NO_INDEX: u32 = u32::MAX;

/// Shape of a 2-D pooling; a 1-D pooling has a height of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolShape {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Input height and width.
    pub in_hw: [usize; 2],
    /// Window height and width.
    pub kernel_hw: [usize; 2],
    /// Strides along height and width.
    pub stride_hw: [usize; 2],
    /// Dilations along height and width.
    pub dilation_hw: [usize; 2],
    /// Padding in the order of ONNX: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Whether a last window may reach beyond the padded input.
    pub ceil_mode: bool,
}

impl PoolShape {
    /// Returns the output height and width.
    ///
    /// A window that would start in the padding at the end is left out, as ONNX asks.
    /// # Errors
    /// [`KernelError`] when a size is zero or the window does not fit.
    pub fn out_hw(&self) -> Result<[usize; 2], KernelError> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let pads = [self.pads[axis], self.pads[axis + 2]];
            let (len, stride) = (self.in_hw[axis], self.stride_hw[axis]);
            let dilation = self.dilation_hw[axis];
            let count = window_count(len, self.kernel_hw[axis], stride, dilation, pads)?;
            let reach = (self.kernel_hw[axis] - 1) * dilation + 1;
            let rest = (len + pads[0] + pads[1] - reach) % stride;
            let one_more = self.ceil_mode && rest > 0 && count * stride < len + pads[0];
            out[axis] = count + usize::from(one_more);
        }
        product(&[self.batch, self.channels, self.in_hw[0], self.in_hw[1]])?;
        product(&[self.batch, self.channels, out[0], out[1]])?;
        Ok(out)
    }

    fn check(&self, input: usize, output: usize) -> Result<Geometry, KernelError> {
        let out_hw = self.out_hw()?;
        let planes = self.batch * self.channels;
        let in_plane = self.in_hw[0] * self.in_hw[1];
        let out_plane = out_hw[0] * out_hw[1];
        for (name, actual, expected) in [
            ("input", input, planes * in_plane),
            ("output", output, planes * out_plane),
        ] {
            if actual != expected {
                return Err(KernelError::BufferLength {
                    name,
                    expected,
                    actual,
                });
            }
        }
        Ok(Geometry {
            in_plane,
            out_plane,
            axes: [self.axis(0, out_hw[0]), self.axis(1, out_hw[1])],
        })
    }

    /// Returns, per output index, the input indices its window holds.
    fn axis(&self, axis: usize, count: usize) -> Vec<Cells> {
        let [len, pad] = [self.in_hw[axis], self.pads[axis]];
        let padded = len + pad + self.pads[axis + 2];
        (0..count)
            .map(|o| {
                let start = o * self.stride_hw[axis];
                let cells = (0..self.kernel_hw[axis]).map(|k| start + k * self.dilation_hw[axis]);
                Cells {
                    with_pads: cells.clone().filter(|c| *c < padded).count(),
                    inside: cells
                        .filter_map(|c| c.checked_sub(pad))
                        .filter(|c| *c < len)
                        .collect(),
                }
            })
            .collect()
    }
}

/// What one window covers along an axis.
#[derive(Debug)]
struct Cells {
    inside: Vec<usize>,
    /// Cells inside the padded input; beyond it only the ceiling mode reaches.
    with_pads: usize,
}

struct Geometry {
    in_plane: usize,
    out_plane: usize,
    axes: [Vec<Cells>; 2],
}

/// Writes the maximum of each window, and where in its input plane it lies.
///
/// The first of equal maxima counts; a NaN in the window is its maximum. A window of
/// padding only gives −∞ and [`NO_INDEX`].
/// # Errors
/// [`KernelError`] when the shape is not valid or a slice does not have its length.
pub fn max_pool_forward(
    shape: &PoolShape,
    input: &[f32],
    output: &mut [f32],
    indices: &mut [u32],
    threads: usize,
) -> Result<(), KernelError> {
    let geometry = shape.check(input.len(), output.len())?;
    if indices.len() != output.len() {
        return Err(KernelError::BufferLength {
            name: "indices",
            expected: output.len(),
            actual: indices.len(),
        });
    }
    let [rows, cols] = &geometry.axes;
    let jobs: Vec<_> = output
        .chunks_mut(geometry.out_plane)
        .zip(indices.chunks_mut(geometry.out_plane))
        .enumerate()
        .collect();
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (plane, (output, indices))| {
            let source = &input[plane * geometry.in_plane..][..geometry.in_plane];
            let windows = rows
                .iter()
                .flat_map(|row| cols.iter().map(move |col| (row, col)));
            let slots = output.iter_mut().zip(indices.iter_mut());
            for ((row, col), (slot, index)) in windows.zip(slots) {
                let (mut best, mut at) = (f32::NEG_INFINITY, NO_INDEX);
                for y in &row.inside {
                    let line = &source[y * shape.in_hw[1]..][..shape.in_hw[1]];
                    for x in &col.inside {
                        let value = line[*x];
                        if value > best || at == NO_INDEX || (value.is_nan() && !best.is_nan()) {
                            best = value;
                            at = (y * shape.in_hw[1] + x) as u32;
                        }
                    }
                }
                *slot = best;
                *index = at;
            }
        },
    );
    Ok(())
}

/// Writes the input gradient of [`max_pool_forward`] from the indices it gave.
///
/// # Errors
/// As [`max_pool_forward`], and [`KernelError::OutOfRange`] for an index beyond its plane.
pub fn max_pool_backward(
    shape: &PoolShape,
    indices: &[u32],
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let geometry = shape.check(grad_input.len(), grad_output.len())?;
    if indices.len() != grad_output.len() {
        return Err(KernelError::BufferLength {
            name: "indices",
            expected: grad_output.len(),
            actual: indices.len(),
        });
    }
    let outside = |i: &&u32| **i != NO_INDEX && **i as usize >= geometry.in_plane;
    if let Some(asked) = indices.iter().find(outside) {
        return Err(KernelError::OutOfRange {
            name: "indices",
            asked: *asked as usize,
            available: geometry.in_plane,
        });
    }
    let jobs = chunk_jobs(grad_input, geometry.in_plane);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (plane, to)| {
            to.fill(0.0);
            let own = plane * geometry.out_plane..(plane + 1) * geometry.out_plane;
            for (index, g) in indices[own.clone()].iter().zip(&grad_output[own]) {
                if *index != NO_INDEX {
                    to[*index as usize] += g;
                }
            }
        },
    );
    Ok(())
}

/// Returns the divisor of a window; a window of padding only divides zero by one.
fn divisor(row: &Cells, col: &Cells, count_include_pad: bool) -> f32 {
    let count = if count_include_pad {
        row.with_pads * col.with_pads
    } else {
        row.inside.len() * col.inside.len()
    };
    count.max(1) as f32
}

/// Writes the mean of each window; pads are zeros that count only if asked.
///
/// # Errors
/// [`KernelError`] when the shape is not valid or a slice does not have its length.
pub fn average_pool_forward(
    shape: &PoolShape,
    count_include_pad: bool,
    input: &[f32],
    output: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let geometry = shape.check(input.len(), output.len())?;
    let [rows, cols] = &geometry.axes;
    let jobs = chunk_jobs(output, geometry.out_plane);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (plane, output)| {
            let source = &input[plane * geometry.in_plane..][..geometry.in_plane];
            let windows = rows
                .iter()
                .flat_map(|row| cols.iter().map(move |col| (row, col)));
            for ((row, col), slot) in windows.zip(output.iter_mut()) {
                let mut total = 0.0f32;
                for y in &row.inside {
                    let line = &source[y * shape.in_hw[1]..][..shape.in_hw[1]];
                    total += col.inside.iter().map(|x| line[*x]).sum::<f32>();
                }
                *slot = total / divisor(row, col, count_include_pad);
            }
        },
    );
    Ok(())
}

/// Writes the input gradient of [`average_pool_forward`].
///
/// # Errors
/// As [`average_pool_forward`].
pub fn average_pool_backward(
    shape: &PoolShape,
    count_include_pad: bool,
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let geometry = shape.check(grad_input.len(), grad_output.len())?;
    let [rows, cols] = &geometry.axes;
    let jobs = chunk_jobs(grad_input, geometry.in_plane);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (plane, to)| {
            to.fill(0.0);
            let from = &grad_output[plane * geometry.out_plane..][..geometry.out_plane];
            let windows = rows
                .iter()
                .flat_map(|row| cols.iter().map(move |col| (row, col)));
            for ((row, col), g) in windows.zip(from) {
                let share = g / divisor(row, col, count_include_pad);
                for y in &row.inside {
                    for x in &col.inside {
                        to[y * shape.in_hw[1] + x] += share;
                    }
                }
            }
        },
    );
    Ok(())
}

/// Writes the mean of every plane, summed in f64.
///
/// # Shapes
/// `input` as `shape`, `output` `batch × channels`.
/// # Errors
/// [`KernelError`] when a slice does not have its length.
pub fn global_average_pool_forward(
    shape: &ChannelShape,
    input: &[f32],
    output: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let planes = check_global(shape, input.len())?;
    check_len("output", output, planes)?;
    let jobs = chunk_jobs(output, shape.channels);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (image, output)| {
            let source = &input[image * shape.channels * shape.plane..];
            for (slot, plane) in output.iter_mut().zip(source.chunks_exact(shape.plane)) {
                let total: f64 = plane.iter().map(|v| f64::from(*v)).sum();
                *slot = (total / shape.plane as f64) as f32;
            }
        },
    );
    Ok(())
}

/// Writes the input gradient of [`global_average_pool_forward`].
///
/// # Errors
/// As [`global_average_pool_forward`].
pub fn global_average_pool_backward(
    shape: &ChannelShape,
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let planes = check_global(shape, grad_input.len())?;
    check_len("grad_output", grad_output, planes)?;
    let jobs = chunk_jobs(grad_input, shape.plane);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (plane, to)| {
            to.fill(grad_output[plane] / shape.plane as f32);
        },
    );
    Ok(())
}

fn check_global(shape: &ChannelShape, input: usize) -> Result<usize, KernelError> {
    super::shape::nonzero("plane", shape.plane)?;
    let expected = product(&[shape.batch, shape.channels, shape.plane])?;
    if input != expected {
        return Err(KernelError::BufferLength {
            name: "input",
            expected,
            actual: input,
        });
    }
    Ok(shape.batch * shape.channels)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "small whole numbers are exact")]
mod tests {
    use super::*;
    use crate::kernels::samples::{assert_close, samples, to_f64};

    /// Means of a few f32 numbers.
    const F32_POOL: f64 = 1e-6;

    /// Padded numbers of every window, `None` for a pad, in reading order.
    fn windows(shape: &PoolShape, x: &[f64]) -> Vec<Vec<Option<(usize, f64)>>> {
        let [oh, ow] = shape.out_hw().unwrap();
        let [h, w] = shape.in_hw;
        let mut all = Vec::new();
        for plane in 0..shape.batch * shape.channels {
            for o in 0..oh * ow {
                let mut cells = Vec::new();
                for k in 0..shape.kernel_hw[0] * shape.kernel_hw[1] {
                    let y =
                        o / ow * shape.stride_hw[0] + k / shape.kernel_hw[1] * shape.dilation_hw[0];
                    let x_at =
                        o % ow * shape.stride_hw[1] + k % shape.kernel_hw[1] * shape.dilation_hw[1];
                    if y >= h + shape.pads[0] + shape.pads[2]
                        || x_at >= w + shape.pads[1] + shape.pads[3]
                    {
                        continue;
                    }
                    let inside = y >= shape.pads[0]
                        && x_at >= shape.pads[1]
                        && y - shape.pads[0] < h
                        && x_at - shape.pads[1] < w;
                    cells.push(inside.then(|| {
                        let i = (plane * h + y - shape.pads[0]) * w + x_at - shape.pads[1];
                        (i, x[i])
                    }));
                }
                all.push(cells);
            }
        }
        all
    }

    fn cases() -> Vec<PoolShape> {
        let base = PoolShape {
            batch: 2,
            channels: 3,
            in_hw: [7, 9],
            kernel_hw: [2, 2],
            stride_hw: [2, 2],
            dilation_hw: [1, 1],
            pads: [0; 4],
            ceil_mode: false,
        };
        vec![
            base,
            PoolShape {
                ceil_mode: true,
                ..base
            },
            PoolShape {
                kernel_hw: [3, 3],
                pads: [1; 4],
                ..base
            },
            PoolShape {
                kernel_hw: [3, 3],
                pads: [1, 0, 2, 1],
                stride_hw: [3, 2],
                ceil_mode: true,
                ..base
            },
            PoolShape {
                kernel_hw: [3, 2],
                dilation_hw: [2, 3],
                stride_hw: [1, 1],
                pads: [2; 4],
                ..base
            },
            PoolShape {
                in_hw: [1, 20],
                kernel_hw: [1, 5],
                stride_hw: [1, 3],
                ceil_mode: true,
                ..base
            },
        ]
    }

    #[test]
    fn pools_give_the_reference() {
        for shape in cases() {
            let len = shape.batch * shape.channels * shape.in_hw[0] * shape.in_hw[1];
            let x = samples(1, len);
            let cells = windows(&shape, &to_f64(&x));
            let g = samples(2, cells.len());
            let mut indices = vec![0; cells.len()];
            let (mut y, mut d) = (vec![f32::NAN; cells.len()], vec![f32::NAN; len]);
            max_pool_forward(&shape, &x, &mut y, &mut indices, 2).unwrap();
            max_pool_backward(&shape, &indices, &g, &mut d, 2).unwrap();
            let mut expected_d = vec![0.0; len];
            let expected: Vec<f64> = cells
                .iter()
                .zip(&g)
                .map(|(cells, g)| {
                    let best = cells
                        .iter()
                        .flatten()
                        .copied()
                        .max_by(|a, b| a.1.total_cmp(&b.1))
                        .unwrap();
                    expected_d[best.0] += f64::from(*g);
                    best.1
                })
                .collect();
            assert_close("max", &y, &expected, F32_POOL);
            assert_close("max gradient", &d, &expected_d, F32_POOL);
            for include in [false, true] {
                average_pool_forward(&shape, include, &x, &mut y, 2).unwrap();
                average_pool_backward(&shape, include, &g, &mut d, 2).unwrap();
                let mut expected_d = vec![0.0; len];
                let expected: Vec<f64> = cells
                    .iter()
                    .zip(&g)
                    .map(|(cells, g)| {
                        let inside: Vec<_> = cells.iter().flatten().collect();
                        let n = if include { cells.len() } else { inside.len() } as f64;
                        for (i, _) in &inside {
                            expected_d[*i] += f64::from(*g) / n;
                        }
                        inside.iter().map(|c| c.1).sum::<f64>() / n
                    })
                    .collect();
                assert_close("average", &y, &expected, F32_POOL);
                assert_close("average gradient", &d, &expected_d, F32_POOL);
            }
        }
    }

    #[test]
    fn global_average_is_the_mean() {
        let shape = ChannelShape {
            batch: 1,
            channels: 2,
            plane: 3,
        };
        let (mut y, mut d) = ([0.0; 2], [0.0; 6]);
        global_average_pool_forward(&shape, &[1.0, 2.0, 6.0, 0.0, 0.0, 3.0], &mut y, 2).unwrap();
        global_average_pool_backward(&shape, &[3.0, 6.0], &mut d, 2).unwrap();
        assert_eq!(y, [3.0, 1.0]);
        assert_eq!(d, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn windows_outside_are_refused_and_nan_is_kept() {
        let shape = PoolShape {
            kernel_hw: [8, 1],
            ..cases()[0]
        };
        assert!(shape.out_hw().is_err());
        let shape = PoolShape {
            batch: 1,
            channels: 1,
            in_hw: [1, 2],
            kernel_hw: [1, 2],
            ..cases()[0]
        };
        let (mut y, mut i) = ([0.0], [0]);
        max_pool_forward(&shape, &[f32::NAN, 1.0], &mut y, &mut i, 1).unwrap();
        assert!(y[0].is_nan() && i == [0]);
        let bad = max_pool_backward(&shape, &[2], &[1.0], &mut [0.0; 2], 1);
        assert!(matches!(bad, Err(KernelError::OutOfRange { .. })));
    }
}
