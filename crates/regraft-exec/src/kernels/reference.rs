//! Naive kernels in f64: one loop per index, nothing clever. The fast kernels are
//! checked against these, and these against central differences.

use super::shape::ConvShape;

/// Calls `visit(output index, input index, weight index)` for every product of the
/// convolution.
pub(crate) fn conv_products(
    shape: &ConvShape,
    out_hw: [usize; 2],
    mut visit: impl FnMut(usize, usize, usize),
) {
    let [in_h, in_w] = shape.in_hw;
    let [k_h, k_w] = shape.kernel_hw;
    let group_in = shape.c_in / shape.groups;
    let group_out = shape.c_out / shape.groups;
    for n in 0..shape.batch {
        for oc in 0..shape.c_out {
            for oy in 0..out_hw[0] {
                for ox in 0..out_hw[1] {
                    let out = ((n * shape.c_out + oc) * out_hw[0] + oy) * out_hw[1] + ox;
                    for ic in 0..group_in {
                        for ky in 0..k_h {
                            for kx in 0..k_w {
                                let y = oy * shape.stride_hw[0] + ky * shape.dilation_hw[0];
                                let x = ox * shape.stride_hw[1] + kx * shape.dilation_hw[1];
                                if y < shape.pads[0] || x < shape.pads[1] {
                                    continue;
                                }
                                let (y, x) = (y - shape.pads[0], x - shape.pads[1]);
                                if y >= in_h || x >= in_w {
                                    continue;
                                }
                                let channel = oc / group_out * group_in + ic;
                                let input = ((n * shape.c_in + channel) * in_h + y) * in_w + x;
                                let weight = ((oc * group_in + ic) * k_h + ky) * k_w + kx;
                                visit(out, input, weight);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the output of a convolution.
pub(crate) fn conv_forward(
    shape: &ConvShape,
    out_hw: [usize; 2],
    input: &[f64],
    weight: &[f64],
    bias: &[f64],
) -> Vec<f64> {
    let plane = out_hw[0] * out_hw[1];
    let mut output: Vec<f64> = (0..shape.batch * shape.c_out * plane)
        .map(|i| bias[i / plane % shape.c_out])
        .collect();
    conv_products(shape, out_hw, |o, i, w| output[o] += input[i] * weight[w]);
    output
}

/// Returns the gradients with respect to input, weight and bias.
pub(crate) fn conv_backward(
    shape: &ConvShape,
    out_hw: [usize; 2],
    input: &[f64],
    weight: &[f64],
    grad_output: &[f64],
) -> [Vec<f64>; 3] {
    let plane = out_hw[0] * out_hw[1];
    let mut grad_input = vec![0.0; input.len()];
    let mut grad_weight = vec![0.0; weight.len()];
    let mut grad_bias = vec![0.0; shape.c_out];
    conv_products(shape, out_hw, |o, i, w| {
        grad_input[i] += grad_output[o] * weight[w];
        grad_weight[w] += grad_output[o] * input[i];
    });
    for (i, g) in grad_output.iter().enumerate() {
        grad_bias[i / plane % shape.c_out] += g;
    }
    [grad_input, grad_weight, grad_bias]
}
