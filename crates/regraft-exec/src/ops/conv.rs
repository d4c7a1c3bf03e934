//! Convolutions, and the window settings that pools share with them.

use std::sync::Arc;

use regraft_graph::op::{AutoPad, Conv};

use super::norm::per_channel;
use super::{Context, Inputs, volume};
use crate::engine::{Backward, DeviceOp, Float, HostKernel, run_kernel};
use crate::error::{OpResult, invalid, unsupported};
use crate::kernels::{
    ConvShape, KernelError, conv_backward_bias, conv_backward_input, conv_backward_weight,
    conv_forward,
};

/// Window settings of one or two spatial axes, as height and width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) stride_hw: [usize; 2],
    pub(super) dilation_hw: [usize; 2],
    /// Top, left, bottom, right.
    pub(super) pads: [usize; 4],
}

/// Returns one number for height and one for width; a missing list is all ones.
fn hw(list: &[usize], n_spatial: usize, what: &str) -> OpResult<[usize; 2]> {
    match (list, n_spatial) {
        ([], _) => Ok([1, 1]),
        ([w], 1) => Ok([1, *w]),
        ([h, w], 2) => Ok([*h, *w]),
        _ => invalid(format!("{what} {list:?} for {n_spatial} spatial axes")),
    }
}

/// The lists of a window op as the file has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowLists<'a> {
    pub(super) strides: &'a [usize],
    pub(super) dilations: &'a [usize],
    pub(super) pads: &'a [usize],
    pub(super) auto_pad: AutoPad,
}

/// Returns the window settings, padding found where the op asks for it.
pub(super) fn window(
    lists: &WindowLists<'_>,
    n_spatial: usize,
    in_hw: [usize; 2],
    kernel_hw: [usize; 2],
) -> OpResult<Window> {
    let stride_hw = hw(lists.strides, n_spatial, "strides")?;
    let dilation_hw = hw(lists.dilations, n_spatial, "dilations")?;
    if stride_hw.contains(&0) || dilation_hw.contains(&0) || kernel_hw.contains(&0) {
        return invalid("a stride, dilation or kernel extent is zero");
    }
    let pads = match lists.auto_pad {
        AutoPad::Valid => [0; 4],
        AutoPad::NotSet => match (lists.pads, n_spatial) {
            ([], _) => [0; 4],
            ([left, right], 1) => [0, *left, 0, *right],
            ([top, left, bottom, right], 2) => [*top, *left, *bottom, *right],
            (pads, _) => return invalid(format!("pads {pads:?} for {n_spatial} spatial axes")),
        },
        AutoPad::SameUpper | AutoPad::SameLower => {
            let mut pads = [0; 4];
            for i in 0..2 {
                let reach = (kernel_hw[i] - 1)
                    .saturating_mul(dilation_hw[i])
                    .saturating_add(1);
                let total = AutoPad::same_total(in_hw[i], stride_hw[i], reach);
                [pads[i], pads[i + 2]] = lists.auto_pad.split(total);
            }
            pads
        }
    };
    Ok(Window {
        stride_hw,
        dilation_hw,
        pads,
    })
}

/// Returns the last one or two extents as height and width.
pub(super) fn spatial(shape: &[usize]) -> OpResult<[usize; 2]> {
    match shape {
        [_, _, w] => Ok([1, *w]),
        [_, _, h, w] => Ok([*h, *w]),
        _ => unsupported(format!(
            "an input of shape {shape:?}: one or two spatial axes are known"
        )),
    }
}

/// Returns batch, channels and the spatial extents in as many axes as the input has.
pub(super) fn with_spatial(
    rank: usize,
    batch: usize,
    channels: usize,
    hw: [usize; 2],
) -> Vec<usize> {
    let mut shape = vec![batch, channels];
    shape.extend_from_slice(&hw[4usize.saturating_sub(rank)..]);
    shape
}

/// A convolution: inputs X, W, optional B.
#[derive(Debug)]
struct ConvKernel {
    shape: ConvShape,
    out: Vec<usize>,
    threads: usize,
}

impl HostKernel for ConvKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn device_op(&self) -> Option<DeviceOp> {
        Some(DeviceOp::Conv(self.shape))
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = vec![0.0; self.shape.output_len()?];
        let bias = inputs.get(2).copied();
        conv_forward(
            &self.shape,
            inputs[0],
            inputs[1],
            bias,
            &mut output,
            self.threads,
        )?;
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut results = vec![None; pass.inputs.len()];
        if pass.wanted[0] {
            let mut grad = vec![0.0; self.shape.input_len()];
            conv_backward_input(
                &self.shape,
                pass.inputs[1],
                pass.grad,
                &mut grad,
                self.threads,
            )?;
            results[0] = Some(grad);
        }
        if pass.wanted[1] {
            let mut grad = vec![0.0; self.shape.weight_len()];
            conv_backward_weight(
                &self.shape,
                pass.inputs[0],
                pass.grad,
                &mut grad,
                self.threads,
            )?;
            results[1] = Some(grad);
        }
        if pass.wanted.get(2) == Some(&true) {
            let mut grad = vec![0.0; self.shape.c_out];
            conv_backward_bias(&self.shape, pass.grad, &mut grad, self.threads)?;
            results[2] = Some(grad);
        }
        Ok(results)
    }
}

fn checked_bias(bias: Option<Float>, channels: usize) -> OpResult<Option<Float>> {
    match &bias {
        Some(b) if b.shape() != [channels] => {
            invalid(format!("bias {:?} for {channels} channels", b.shape()))
        }
        _ => Ok(bias),
    }
}

/// Input, weight and bias of a convolution.
type Operands = (Float, Float, Option<Float>);

fn operands(inputs: &mut Inputs) -> OpResult<Operands> {
    Ok((
        inputs.float(0)?,
        inputs.float(1)?,
        inputs.optional_float(2)?,
    ))
}

fn is_volume(inputs: &Inputs) -> bool {
    let first = inputs.0.first().and_then(Option::as_ref);
    first.is_some_and(|x| x.shape().len() == 5)
}

pub(super) fn conv(op: &Conv, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    if is_volume(inputs) {
        return volume::conv(op, inputs, context);
    }
    planes(op, operands(inputs)?, context)
}

/// Returns a convolution over one or two spatial axes.
pub(super) fn planes(op: &Conv, (x, w, bias): Operands, context: &Context) -> OpResult<Float> {
    let (x_shape, w_shape) = (x.shape(), w.shape());
    if x_shape.len() != w_shape.len() {
        return invalid(format!("weight {w_shape:?} does not fit input {x_shape:?}"));
    }
    let (in_hw, kernel_hw) = (spatial(&x_shape)?, spatial(&w_shape)?);
    if op.group == 0 || w_shape[1].checked_mul(op.group) != Some(x_shape[1]) {
        return invalid(format!(
            "weight {w_shape:?} in {} groups does not fit {} channels",
            op.group, x_shape[1]
        ));
    }
    if !op.kernel_shape.is_empty() && op.kernel_shape != w_shape[2..] {
        return invalid(format!(
            "kernel {:?} is not that of {w_shape:?}",
            op.kernel_shape
        ));
    }
    let lists = WindowLists {
        strides: &op.strides,
        dilations: &op.dilations,
        pads: &op.pads,
        auto_pad: op.auto_pad,
    };
    let window = window(&lists, x_shape.len() - 2, in_hw, kernel_hw)?;
    let shape = ConvShape {
        batch: x_shape[0],
        c_in: x_shape[1],
        c_out: w_shape[0],
        in_hw,
        kernel_hw,
        stride_hw: window.stride_hw,
        dilation_hw: window.dilation_hw,
        pads: window.pads,
        groups: op.group,
    };
    let out = with_spatial(x_shape.len(), shape.batch, shape.c_out, shape.out_hw()?);
    context.check_size(&out)?;
    let bias = checked_bias(bias, shape.c_out)?;
    let kernel = Arc::new(ConvKernel {
        shape,
        out,
        threads: context.threads,
    });
    match bias {
        Some(bias) => run_kernel([x, w, bias], kernel),
        None => run_kernel([x, w], kernel),
    }
}

/// A transposed convolution: the gradient of the convolution `shape` with respect to its input.
#[derive(Debug)]
struct TransposedKernel {
    shape: ConvShape,
    out: Vec<usize>,
    threads: usize,
}

impl HostKernel for TransposedKernel {
    fn output_shape(&self) -> &[usize] {
        &self.out
    }

    fn forward(&self, inputs: &[&[f32]]) -> Result<Vec<f32>, KernelError> {
        let mut output = vec![0.0; self.shape.input_len()];
        conv_backward_input(&self.shape, inputs[1], inputs[0], &mut output, self.threads)?;
        Ok(output)
    }

    fn backward(&self, pass: &Backward<'_>) -> Result<Vec<Option<Vec<f32>>>, KernelError> {
        let mut results = vec![None; pass.inputs.len()];
        if pass.wanted[0] {
            let mut grad = vec![0.0; self.shape.output_len()?];
            conv_forward(
                &self.shape,
                pass.grad,
                pass.inputs[1],
                None,
                &mut grad,
                self.threads,
            )?;
            results[0] = Some(grad);
        }
        if pass.wanted[1] {
            let mut grad = vec![0.0; self.shape.weight_len()];
            conv_backward_weight(
                &self.shape,
                pass.grad,
                pass.inputs[0],
                &mut grad,
                self.threads,
            )?;
            results[1] = Some(grad);
        }
        Ok(results)
    }
}

/// Returns output extents and pads of a transposed convolution, as ONNX defines them.
fn transposed_extents(
    op: &Conv,
    rank: usize,
    conv: &ConvShape,
) -> OpResult<([usize; 2], [usize; 4])> {
    let n_spatial = rank - 2;
    let extra = match op.output_padding.as_slice() {
        [] => [0, 0],
        list => {
            let [h, w] = hw(list, n_spatial, "output padding")?;
            [if n_spatial == 1 { 0 } else { h }, w]
        }
    };
    let mut out = [0; 2];
    let mut pads = conv.pads;
    for i in 0..2 {
        let reach = (conv.kernel_hw[i] - 1)
            .saturating_mul(conv.dilation_hw[i])
            .saturating_add(1);
        let full = conv.in_hw[i]
            .saturating_sub(1)
            .saturating_mul(conv.stride_hw[i])
            .saturating_add(reach)
            .saturating_add(extra[i]);
        let asked = (i + n_spatial >= 2)
            .then(|| op.output_shape.get(i + n_spatial - 2).copied())
            .flatten();
        let same = matches!(op.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        let wanted = match asked {
            Some(extent) => Some(extent),
            None if same => Some(conv.in_hw[i].saturating_mul(conv.stride_hw[i])),
            None => None,
        };
        if let Some(extent) = wanted {
            let total = full.saturating_sub(extent);
            [pads[i], pads[i + 2]] = op.auto_pad.split(total);
            out[i] = extent;
        } else {
            match full.checked_sub(pads[i].saturating_add(pads[i + 2])) {
                Some(extent) if extent > 0 => out[i] = extent,
                _ => return invalid("the padding leaves no output"),
            }
        }
    }
    Ok((out, pads))
}

pub(super) fn conv_transpose(op: &Conv, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    if is_volume(inputs) {
        return volume::conv_transpose(op, inputs, context);
    }
    transposed_planes(op, operands(inputs)?, context)
}

/// Returns a transposed convolution over one or two spatial axes.
pub(super) fn transposed_planes(
    op: &Conv,
    (x, w, bias): Operands,
    context: &Context,
) -> OpResult<Float> {
    let (x_shape, w_shape) = (x.shape(), w.shape());
    if x_shape.len() != w_shape.len() || x_shape.get(1) != w_shape.first() || op.group == 0 {
        return invalid(format!("weight {w_shape:?} does not fit input {x_shape:?}"));
    }
    let (in_hw, kernel_hw) = (spatial(&x_shape)?, spatial(&w_shape)?);
    let explicit = WindowLists {
        strides: &op.strides,
        dilations: &op.dilations,
        pads: &op.pads,
        // Padding follows from the output extents here, not from the input's.
        auto_pad: match op.auto_pad {
            AutoPad::NotSet => AutoPad::NotSet,
            AutoPad::Valid | AutoPad::SameLower | AutoPad::SameUpper => AutoPad::Valid,
        },
    };
    let window = window(&explicit, x_shape.len() - 2, in_hw, kernel_hw)?;
    let mut shape = ConvShape {
        batch: x_shape[0],
        c_in: w_shape[1].saturating_mul(op.group),
        c_out: x_shape[1],
        in_hw,
        kernel_hw,
        stride_hw: window.stride_hw,
        dilation_hw: window.dilation_hw,
        pads: window.pads,
        groups: op.group,
    };
    (shape.in_hw, shape.pads) = transposed_extents(op, x_shape.len(), &shape)?;
    if shape.out_hw()? != in_hw {
        return unsupported(format!(
            "an output of {:?} does not come back to the input {in_hw:?}",
            shape.in_hw
        ));
    }
    let out = with_spatial(x_shape.len(), shape.batch, shape.c_in, shape.in_hw);
    context.check_size(&out)?;
    let bias = checked_bias(bias, shape.c_in)?;
    let channels = shape.c_in;
    let result = run_kernel(
        [x, w],
        Arc::new(TransposedKernel {
            shape,
            out,
            threads: context.threads,
        }),
    )?;
    Ok(match bias {
        Some(bias) => result.add(per_channel(bias, x_shape.len(), channels)),
        None => result,
    })
}
