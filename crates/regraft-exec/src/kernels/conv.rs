//! Convolution: output, and gradients with respect to input, weight and bias.

use super::conv_weight;
use super::correlate::{Correlation, correlate};
use super::depthwise;
use super::error::{KernelError, check_len};
use super::parallel::{chunk_jobs, run_jobs};
use super::shape::ConvShape;

/// Writes the convolution of `input` with `weight`, plus `bias`, into `output`.
///
/// # Shapes
/// See [`ConvShape`]; `bias`, where given, has `c_out` numbers.
/// # Errors
/// [`KernelError`] when the shape is not valid or a slice does not have its length.
pub fn conv_forward(
    shape: &ConvShape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let out_hw = shape.out_hw()?;
    check_len("input", input, shape.input_len())?;
    check_len("weight", weight, shape.weight_len())?;
    check_len("output", output, shape.output_len()?)?;
    if let Some(bias) = bias {
        check_len("bias", bias, shape.c_out)?;
    }
    let corr = Correlation::forward(shape, out_hw);
    correlate(&corr, input, weight, bias, output, threads);
    Ok(())
}

/// The kernel positions that reach input positions of one remainder along an axis.
struct Phase {
    /// Kernel positions, and the output index each reads for grid position zero.
    kernel: Vec<usize>,
    taps: Vec<isize>,
    grid: usize,
}

/// Returns, for input positions `i = q·stride + remainder`, what the gradient reads.
///
/// Output o reads input `o·stride + k·dilation − pad`, so i is reached through k where
/// `i + pad − k·dilation` is a multiple of the stride.
fn phase(shape: &ConvShape, axis: usize, remainder: usize) -> Phase {
    let stride = shape.stride_hw[axis] as isize;
    let mut kernel = Vec::new();
    let mut taps = Vec::new();
    for k in 0..shape.kernel_hw[axis] {
        let shift =
            (remainder + shape.pads[axis]) as isize - (k * shape.dilation_hw[axis]) as isize;
        if shift % stride == 0 {
            kernel.push(k);
            taps.push(shift / stride);
        }
    }
    Phase {
        kernel,
        taps,
        grid: shape.in_hw[axis]
            .saturating_sub(remainder)
            .div_ceil(shape.stride_hw[axis]),
    }
}

/// Writes the gradient with respect to the input; also the forward of a transposed
/// convolution whose weight is `weight`.
///
/// # Shapes
/// `grad_output` as the output, `grad_input` as the input of [`ConvShape`].
/// # Errors
/// As [`conv_forward`].
pub fn conv_backward_input(
    shape: &ConvShape,
    weight: &[f32],
    grad_output: &[f32],
    grad_input: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let out_hw = shape.out_hw()?;
    check_len("weight", weight, shape.weight_len())?;
    check_len("grad_output", grad_output, shape.output_len()?)?;
    check_len("grad_input", grad_input, shape.input_len())?;
    let rows: Vec<Phase> = (0..shape.stride_hw[0])
        .map(|r| phase(shape, 0, r))
        .collect();
    let cols: Vec<Phase> = (0..shape.stride_hw[1])
        .map(|r| phase(shape, 1, r))
        .collect();
    if rows.iter().chain(&cols).any(|p| p.kernel.is_empty()) {
        grad_input.fill(0.0);
    }
    for (y, row) in rows.iter().enumerate() {
        for (x, col) in cols.iter().enumerate() {
            let turned = turned_weight(shape, weight, &row.kernel, &col.kernel);
            let corr = Correlation {
                batch: shape.batch,
                groups: shape.groups,
                src_channels: shape.c_out / shape.groups,
                src_hw: out_hw,
                dst_channels: shape.c_in / shape.groups,
                dst_hw: shape.in_hw,
                grid_hw: [row.grid, col.grid],
                dst_step: shape.stride_hw,
                dst_offset: [y, x],
                src_step: [1, 1],
                taps: [row.taps.clone(), col.taps.clone()],
            };
            correlate(&corr, grad_output, &turned, None, grad_input, threads);
        }
    }
    Ok(())
}

/// Returns the kernel positions `rows × cols` with input and output channels swapped:
/// `groups × c_in/groups × c_out/groups × rows × cols`.
fn turned_weight(shape: &ConvShape, weight: &[f32], rows: &[usize], cols: &[usize]) -> Vec<f32> {
    let group_in = shape.c_in / shape.groups;
    let group_out = shape.c_out / shape.groups;
    let [k_h, k_w] = shape.kernel_hw;
    let mut turned = Vec::with_capacity(shape.c_in * group_out * rows.len() * cols.len());
    for group in 0..shape.groups {
        for ic in 0..group_in {
            for oc in 0..group_out {
                let kernel = ((group * group_out + oc) * group_in + ic) * k_h * k_w;
                for y in rows {
                    for x in cols {
                        turned.push(weight[kernel + y * k_w + x]);
                    }
                }
            }
        }
    }
    turned
}

/// Writes the gradient with respect to the weight.
///
/// Images are summed in fixed shards and the shards in index order, so the bytes do
/// not depend on `threads`.
/// # Errors
/// As [`conv_forward`].
pub fn conv_backward_weight(
    shape: &ConvShape,
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let out_hw = shape.out_hw()?;
    check_len("input", input, shape.input_len())?;
    check_len("grad_output", grad_output, shape.output_len()?)?;
    check_len("grad_weight", grad_weight, shape.weight_len())?;
    if shape.c_in == shape.groups && shape.c_out == shape.groups {
        depthwise::backward_weight(shape, out_hw, input, grad_output, grad_weight, threads);
    } else {
        conv_weight::backward_weight(shape, out_hw, input, grad_output, grad_weight, threads);
    }
    Ok(())
}

/// Writes the gradient with respect to the bias: `grad_output` summed over images and
/// positions, in f64.
///
/// # Errors
/// As [`conv_forward`].
pub fn conv_backward_bias(
    shape: &ConvShape,
    grad_output: &[f32],
    grad_bias: &mut [f32],
    threads: usize,
) -> Result<(), KernelError> {
    let [out_h, out_w] = shape.out_hw()?;
    check_len("grad_output", grad_output, shape.output_len()?)?;
    check_len("grad_bias", grad_bias, shape.c_out)?;
    let plane = out_h * out_w;
    let jobs = chunk_jobs(grad_bias, shape.c_out.div_ceil(16));
    let per_job = shape.c_out.div_ceil(16);
    run_jobs(
        threads,
        jobs,
        || (),
        |(), (job, chunk)| {
            for (i, slot) in chunk.iter_mut().enumerate() {
                let channel = job * per_job + i;
                let mut total = 0.0f64;
                for image in 0..shape.batch {
                    let start = (image * shape.c_out + channel) * plane;
                    total += sum(&grad_output[start..start + plane]);
                }
                *slot = total as f32;
            }
        },
    );
    Ok(())
}

/// Returns the sum of `numbers` in f64, eight partial sums at a time.
fn sum(numbers: &[f32]) -> f64 {
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut partial = [0.0f64; 8];
    for eight in eights {
        for (total, value) in partial.iter_mut().zip(eight) {
            *total += f64::from(*value);
        }
    }
    partial.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v)).sum::<f64>()
}

#[cfg(test)]
mod tests;
