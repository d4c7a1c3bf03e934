//! Windows and Fourier transforms, these as products with a matrix of cosines and sines.

use std::f64::consts::PI;

use regraft_graph::op::{SignalOp, WindowKind};

use super::index::whole;
use super::{Context, Inputs, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::select::select;
use crate::value::Value;

pub(super) fn run(op: SignalOp, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    match op {
        SignalOp::Window { kind, periodic, .. } => window(kind, periodic, inputs, context),
        SignalOp::Dft {
            inverse,
            onesided,
            axis,
        } => dft([inverse, onesided], axis, inputs, context),
        SignalOp::Stft { onesided } => stft(onesided, inputs, context),
    }
}

fn length(value: Value) -> OpResult<usize> {
    let n = whole(value)?;
    match usize::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => invalid(format!("a length of {n}")),
    }
}

fn window(
    kind: WindowKind,
    periodic: bool,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let n = length(inputs.value(0)?)?;
    context.check_size(&[n])?;
    let period = if periodic { n } else { n.saturating_sub(1) }.max(1) as f64;
    // 25/46 for Hamming, as the specification has it.
    let [a, b, c] = match kind {
        WindowKind::Hann => [0.5, 0.5, 0.0],
        WindowKind::Hamming => [25.0 / 46.0, 1.0 - 25.0 / 46.0, 0.0],
        WindowKind::Blackman => [0.42, 0.5, 0.08],
    };
    let at = |i: usize| {
        let angle = 2.0 * PI * i as f64 / period;
        (a - b * angle.cos() + c * (2.0 * angle).cos()) as f32
    };
    Ok(Float::new((0..n).map(at).collect(), &[n]))
}

/// Returns the matrix from real and imaginary parts (rows, one after the other) to those of the
/// frequencies (columns).
fn fourier(
    n: usize,
    bins: usize,
    complex: bool,
    inverse: bool,
    context: &Context,
) -> OpResult<Float> {
    let rows = n * if complex { 2 } else { 1 };
    context.check_size(&[rows, 2 * bins])?;
    let scale = if inverse { 1.0 / n as f64 } else { 1.0 };
    let sign = if inverse { 1.0 } else { -1.0 };
    let mut numbers = Vec::with_capacity(rows * 2 * bins);
    for row in 0..rows {
        let (t, imaginary) = if complex {
            (row / 2, row % 2 == 1)
        } else {
            (row, false)
        };
        for k in 0..bins {
            // Exact angles: the product is taken modulo the length first.
            let turn = (t as u128 * k as u128 % n as u128) as f64;
            let (sin, cos) = (2.0 * PI * turn / n as f64).sin_cos();
            let (re, im) = (scale * cos, sign * scale * sin);
            let pair = if imaginary { [-im, re] } else { [re, im] };
            numbers.extend(pair.map(|x| x as f32));
        }
    }
    Ok(Float::new(numbers, &[rows, 2 * bins]))
}

/// Returns the transform of rows of `n` real or complex numbers as rows × bins × 2.
fn transform(
    rows: Float,
    [n, bins]: [usize; 2],
    inverse: bool,
    context: &Context,
) -> OpResult<Float> {
    let shape = rows.shape();
    let complex = shape[1] == 2 * n;
    let matrix = fourier(n, bins, complex, inverse, context)?;
    Ok(rows.matmul(matrix).reshape(&[shape[0], bins, 2]))
}

/// Returns `rows × n × parts` with `n` cut or filled up with zeros to `length`.
fn fitted(x: Float, length: usize) -> Float {
    let s = x.shape();
    if s[1] >= length {
        return x.range(1, 0, length);
    }
    let rest = Float::full(0.0, &[s[0], length - s[1], s[2]]);
    Float::concat(vec![x, rest], 1)
}

fn dft(
    [inverse, onesided]: [bool; 2],
    axis: Option<i64>,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let shape = x.shape();
    let wanted = inputs.optional(1).map(length).transpose()?;
    let axis = match (axis, inputs.optional(2)) {
        (Some(axis), _) => axis,
        (None, Some(axis)) => whole(axis)?,
        (None, None) => -2,
    };
    let axis = axis_of(axis, shape.len())?;
    let Some((&parts, lead)) = shape.split_last() else {
        return invalid("the signal has no axis");
    };
    if axis + 1 == shape.len() || parts == 0 || parts > 2 || shape.contains(&0) {
        return invalid(format!("{shape:?} along axis {axis}"));
    }
    let mut n = wanted.unwrap_or(shape[axis]);
    if n == 0 {
        return invalid("a transform of length zero");
    }
    // The transformed axis goes next to the parts, the others in front.
    let mut order: Vec<usize> = (0..lead.len()).filter(|i| *i != axis).collect();
    order.extend([axis, lead.len()]);
    let moved = x.permute(&order);
    let rows: usize = lead.iter().product::<usize>() / shape[axis];
    context.check_size(&[rows, n, 2])?;
    let mut signal = moved.reshape(&[rows, shape[axis], parts]);
    let from_half = inverse && onesided;
    if from_half {
        // The other half mirrors this one.
        n = wanted.unwrap_or(2 * (shape[axis].saturating_sub(1))).max(1);
        signal = mirrored(signal, n)?;
    } else {
        signal = fitted(signal, n);
    }
    let bins = if onesided && !inverse { n / 2 + 1 } else { n };
    let parts = signal.shape()[2];
    let rows_in = signal.reshape(&[rows, n * parts]);
    let mut found = transform(rows_in, [n, bins], inverse, context)?;
    let mut out: Vec<usize> = order[..lead.len() - 1].iter().map(|&i| shape[i]).collect();
    let parts = if from_half { 1 } else { 2 };
    if from_half {
        found = found.range(2, 0, 1);
    }
    out.extend([bins, parts]);
    let mut back = vec![0; shape.len()];
    for (i, &from) in order.iter().enumerate() {
        back[from] = i;
    }
    Ok(found.reshape(&out).permute(&back))
}

/// Returns all frequencies of a real signal from the first half of them.
fn mirrored(half: Float, n: usize) -> OpResult<Float> {
    let s = half.shape();
    if s[2] != 2 || s[1] < n / 2 + 1 {
        return invalid(format!("{} frequencies for a length of {n}", s[1]));
    }
    let rest: Vec<usize> = (n / 2 + 1..n).map(|k| n - k).collect();
    let first = half.clone().range(1, 0, n / 2 + 1);
    if rest.is_empty() {
        return Ok(first);
    }
    let signs = Float::new(vec![1.0, -1.0], &[1, 1, 2]);
    let mirror = select(half, 1, &rest).mul(signs);
    Ok(Float::concat(vec![first, mirror], 1))
}

fn stft(onesided: bool, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    let signal = inputs.float(0)?;
    let step = length(inputs.value(1)?)?;
    let window = inputs.optional_float(2)?;
    let shape = signal.shape();
    let (batch, total, parts) = match shape[..] {
        [b, n] => (b, n, 1),
        [b, n, parts @ (1 | 2)] => (b, n, parts),
        _ => return invalid(format!("a signal of shape {shape:?}")),
    };
    let frame = match (inputs.optional(3), &window) {
        (Some(given), _) => length(given)?,
        (None, Some(window)) => window.len(),
        (None, None) => return invalid("neither a window nor a length is given"),
    };
    if frame == 0 || step == 0 || frame > total || shape.contains(&0) {
        return invalid(format!("frames of {frame} every {step} of {total}"));
    }
    let frames = (total - frame) / step + 1;
    let bins = if onesided { frame / 2 + 1 } else { frame };
    context.check_size(&[batch, frames, frame.max(bins), 2])?;
    let at: Vec<usize> = (0..frames)
        .flat_map(|i| i * step..i * step + frame)
        .collect();
    let mut cut = select(signal.reshape(&[batch, total, parts]), 1, &at).reshape(&[
        batch * frames,
        frame,
        parts,
    ]);
    if let Some(window) = window {
        if window.shape() != [frame] {
            return invalid(format!("a window {:?} for {frame}", window.shape()));
        }
        cut = cut.mul(window.reshape(&[1, frame, 1]));
    }
    let rows = cut.reshape(&[batch * frames, frame * parts]);
    let found = transform(rows, [frame, bins], false, context)?;
    Ok(found.reshape(&[batch, frames, bins, 2]))
}
