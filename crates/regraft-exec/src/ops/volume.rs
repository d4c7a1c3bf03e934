//! Convolutions over three spatial axes: sums of two-axis ones over the depth of the kernel.

use regraft_graph::op::{AutoPad, Conv};

use super::{Context, Inputs, conv};
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::sparse_map::{Rows, map_axis};

/// The window along the depth.
#[derive(Clone, Copy, Debug)]
struct Depth {
    kernel: usize,
    stride: usize,
    dilation: usize,
    begin: usize,
    end: usize,
}

fn at(list: &[usize], i: usize, default: usize) -> usize {
    list.get(i).copied().unwrap_or(default)
}

impl Depth {
    fn new(op: &Conv, kernel: usize) -> OpResult<Self> {
        let explicit = op.auto_pad == AutoPad::NotSet;
        let pad = |i: usize| if explicit { at(&op.pads, i, 0) } else { 0 };
        let found = Self {
            kernel,
            stride: at(&op.strides, 0, 1),
            dilation: at(&op.dilations, 0, 1),
            begin: pad(0),
            end: pad(3),
        };
        if found.stride == 0 || found.dilation == 0 || kernel == 0 {
            return invalid("a stride, dilation or kernel extent is zero");
        }
        Ok(found)
    }

    fn reach(&self) -> usize {
        (self.kernel - 1)
            .saturating_mul(self.dilation)
            .saturating_add(1)
    }

    /// Returns the matrix from the input's depth to the places that kernel slice `k` reads.
    fn rows(&self, k: usize, input: usize, output: usize) -> Rows {
        let mut rows = Rows::default();
        for o in 0..output {
            let padded = o * self.stride + k * self.dilation;
            if let Some(i) = padded.checked_sub(self.begin).filter(|i| *i < input) {
                rows.push(i, 1.0);
            }
            rows.end_row();
        }
        rows
    }

    /// Returns the matrix from the input's depth to the places that kernel slice `k` writes.
    fn transposed_rows(&self, k: usize, input: usize, output: usize) -> Rows {
        let mut rows = Rows::default();
        for o in 0..output {
            let from = (o + self.begin).checked_sub(k * self.dilation);
            let from = from.filter(|f| f.is_multiple_of(self.stride));
            if let Some(i) = from.map(|f| f / self.stride).filter(|i| *i < input) {
                rows.push(i, 1.0);
            }
            rows.end_row();
        }
        rows
    }
}

/// Returns the attributes for one slice of the kernel.
fn plane_attributes(op: &Conv) -> OpResult<Conv> {
    let rest = |list: &[usize], what: &str| match list.len() {
        0 => Ok(Vec::new()),
        3 => Ok(list[1..].to_vec()),
        n => invalid(format!("{n} {what} for 3 spatial axes")),
    };
    let pads = match op.pads.as_slice() {
        [] => Vec::new(),
        [_, top, left, _, bottom, right] => vec![*top, *left, *bottom, *right],
        pads => return invalid(format!("pads {pads:?} for 3 spatial axes")),
    };
    Ok(Conv {
        kernel_shape: Vec::new(),
        strides: rest(&op.strides, "strides")?,
        dilations: rest(&op.dilations, "dilations")?,
        pads,
        auto_pad: op.auto_pad,
        group: op.group,
        output_padding: rest(&op.output_padding, "output paddings")?,
        output_shape: rest(&op.output_shape, "output extents")?,
    })
}

/// Returns batch × channels × depth × … as (batch · depth) × channels × ….
fn fold(x: Float) -> Float {
    let s = x.shape();
    x.permute(&[0, 2, 1, 3, 4])
        .reshape(&[s[0] * s[2], s[1], s[3], s[4]])
}

/// Undoes [`fold`].
fn unfold(x: Float, depth: usize) -> Float {
    let s = x.shape();
    x.reshape(&[s[0] / depth.max(1), depth, s[1], s[2], s[3]])
        .permute(&[0, 2, 1, 3, 4])
}

fn slice(w: &Float, k: usize) -> Float {
    let s = w.shape();
    w.clone()
        .range(2, k, k + 1)
        .reshape(&[s[0], s[1], s[3], s[4]])
}

fn operands(inputs: &mut Inputs) -> OpResult<(Float, Float)> {
    let (x, w) = (inputs.float(0)?, inputs.float(1)?);
    let (x_shape, w_shape) = (x.shape(), w.shape());
    if x_shape.len() != 5 || w_shape.len() != 5 || x_shape.contains(&0) || w_shape.contains(&0) {
        return invalid(format!("weight {w_shape:?} does not fit input {x_shape:?}"));
    }
    Ok((x, w))
}

pub(super) fn conv(op: &Conv, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    let (x, w) = operands(inputs)?;
    let kernel = w.shape()[2];
    if !op.kernel_shape.is_empty() && op.kernel_shape != w.shape()[2..] {
        return invalid(format!("kernel {:?} is not the weight's", op.kernel_shape));
    }
    let mut bias = inputs.optional_float(2)?;
    let plane = plane_attributes(op)?;
    let mut depth = Depth::new(op, kernel)?;
    let input = x.shape()[2];
    if matches!(op.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
        let total = AutoPad::same_total(input, depth.stride, depth.reach());
        [depth.begin, depth.end] = op.auto_pad.split(total);
    }
    let padded = input.saturating_add(depth.begin).saturating_add(depth.end);
    let Some(free) = padded.checked_sub(depth.reach()) else {
        return invalid(format!(
            "a kernel that reaches over {} in a depth of {padded}",
            depth.reach()
        ));
    };
    let output = free / depth.stride + 1;
    let mut taken = x.shape();
    taken[2] = output;
    context.check_size(&taken)?;
    let mut total: Option<Float> = None;
    for k in 0..kernel {
        let taken = map_axis(x.clone(), 2, depth.rows(k, input, output));
        // The bias belongs to the sum: the first slice brings it.
        let operands = (fold(taken), slice(&w, k), bias.take());
        let part = conv::planes(&plane, operands, context)?;
        total = Some(match total {
            Some(sum) => sum.add(part),
            None => part,
        });
    }
    match total {
        Some(sum) => Ok(unfold(sum, output)),
        None => invalid("the kernel has no depth"),
    }
}

pub(super) fn conv_transpose(op: &Conv, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    let (x, w) = operands(inputs)?;
    let kernel = w.shape()[2];
    let mut bias = inputs.optional_float(2)?;
    let plane = plane_attributes(op)?;
    let mut depth = Depth::new(op, kernel)?;
    let input = x.shape()[2];
    let full = (input - 1)
        .saturating_mul(depth.stride)
        .saturating_add(depth.reach())
        .saturating_add(at(&op.output_padding, 0, 0));
    let same = matches!(op.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
    let wanted = op.output_shape.first().copied();
    let wanted = wanted.or_else(|| same.then(|| input.saturating_mul(depth.stride)));
    let output = match wanted {
        Some(extent) => {
            [depth.begin, depth.end] = op.auto_pad.split(full.saturating_sub(extent));
            extent
        }
        None => full.saturating_sub(depth.begin.saturating_add(depth.end)),
    };
    if output == 0 {
        return invalid("the padding leaves no output");
    }
    let mut total: Option<Float> = None;
    let folded = fold(x);
    for k in 0..kernel {
        let operands = (folded.clone(), slice(&w, k), None);
        let part = unfold(conv::transposed_planes(&plane, operands, context)?, input);
        let mut placed = part.shape();
        placed[2] = output;
        context.check_size(&placed)?;
        let part = map_axis(part, 2, depth.transposed_rows(k, input, output));
        total = Some(match total {
            Some(sum) => sum.add(part),
            None => part,
        });
    }
    let Some(sum) = total else {
        return invalid("the kernel has no depth");
    };
    let channels = sum.shape()[1];
    match bias.take() {
        Some(b) if b.shape() == [channels] => Ok(sum.add(b.reshape(&[1, channels, 1, 1, 1]))),
        Some(b) => invalid(format!("bias {:?} for {channels} channels", b.shape())),
        None => Ok(sum),
    }
}
