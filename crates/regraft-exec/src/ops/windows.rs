//! Windows over any number of spatial axes: what the two-axis kernels do not cover.

use regraft_graph::op::{AutoPad, Pool, PoolKind};

use super::elementwise::ordered;
use super::{Context, Inputs};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::{for_each_index, pick};
use crate::sparse_map::{Rows, map_axis};
use crate::value::{Array, Value, strides};

/// A window over spatial axes, every list with one entry an axis.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    begin: Vec<usize>,
    end: Vec<usize>,
    input: Vec<usize>,
}

fn filled(list: &[usize], n: usize, default: usize) -> OpResult<Vec<usize>> {
    match list.len() {
        0 => Ok(vec![default; n]),
        len if len == n => Ok(list.to_vec()),
        len => invalid(format!("a list of {len} for {n} numbers")),
    }
}

impl Windows {
    /// Returns the window with its defaults; `lists` are strides, dilations and pads.
    pub(super) fn new(kernel: &[usize], lists: [&[usize]; 3], input: &[usize]) -> OpResult<Self> {
        let n = input.len();
        if kernel.len() != n {
            return invalid(format!("a window {kernel:?} over {input:?}"));
        }
        let pads = filled(lists[2], 2 * n, 0)?;
        let found = Self {
            kernel: kernel.to_vec(),
            strides: filled(lists[0], n, 1)?,
            dilations: filled(lists[1], n, 1)?,
            begin: pads[..n].to_vec(),
            end: pads[n..].to_vec(),
            input: input.to_vec(),
        };
        let zero = |list: &[usize]| list.contains(&0);
        if zero(&found.kernel) || zero(&found.strides) || zero(&found.dilations) {
            return invalid("a stride, dilation or kernel extent is zero");
        }
        Ok(found)
    }

    /// Sets the padding that `auto_pad` asks for.
    pub(super) fn padded(mut self, auto_pad: AutoPad) -> Self {
        for axis in 0..self.input.len() {
            let (input, stride) = (self.input[axis], self.strides[axis]);
            let total = AutoPad::same_total(input, stride, self.reach(axis));
            [self.begin[axis], self.end[axis]] = match auto_pad {
                AutoPad::NotSet => continue,
                AutoPad::Valid => [0, 0],
                AutoPad::SameUpper | AutoPad::SameLower => auto_pad.split(total),
            };
        }
        self
    }

    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1)
            .saturating_mul(self.dilations[axis])
            .saturating_add(1)
    }

    /// Returns how many windows there are along each axis.
    pub(super) fn counts(&self, ceil: bool) -> OpResult<Vec<usize>> {
        (0..self.input.len())
            .map(|axis| {
                let (input, stride) = (self.input[axis], self.strides[axis]);
                let padded = input
                    .saturating_add(self.begin[axis])
                    .saturating_add(self.end[axis]);
                let Some(free) = padded.checked_sub(self.reach(axis)) else {
                    return invalid(format!(
                        "a window that reaches over {} in an extent {padded}",
                        self.reach(axis)
                    ));
                };
                let n = if ceil {
                    free.div_ceil(stride)
                } else {
                    free / stride
                };
                // A window must start inside the input or its padding at the begin.
                let late = ceil && n.saturating_mul(stride) >= input + self.begin[axis];
                Ok(if late { n } else { n + 1 })
            })
            .collect()
    }

    /// Returns the place of a tap of a window, counted with the padding at the begin.
    fn padded_place(&self, axis: usize, step: usize, tap: usize) -> usize {
        step * self.strides[axis] + tap * self.dilations[axis]
    }

    fn taps(&self) -> usize {
        self.kernel.iter().fold(1, |n, &k| n.saturating_mul(k))
    }
}

/// Calls `visit` with window, tap and the input's place, `None` in the padding.
pub(super) fn unfolded(
    windows: &Windows,
    mut visit: impl FnMut(usize, usize, Option<usize>),
) -> OpResult<()> {
    let own = strides(&windows.input);
    let mut window = 0;
    for_each_index(&windows.counts(false)?, |step| {
        let mut tap = 0;
        for_each_index(&windows.kernel, |at| {
            visit(window, tap, place(windows, &own, step, at));
            tap += 1;
        });
        window += 1;
    });
    Ok(())
}

fn place(windows: &Windows, own: &[usize], step: &[usize], at: &[usize]) -> Option<usize> {
    let mut flat = 0;
    for axis in 0..own.len() {
        let padded = windows.padded_place(axis, step[axis], at[axis]);
        let inside = padded.checked_sub(windows.begin[axis])?;
        if inside >= windows.input[axis] {
            return None;
        }
        flat += inside * own[axis];
    }
    Some(flat)
}

/// Returns the windows of a pooling over an input of this shape.
fn windows_of(op: &Pool, shape: &[usize]) -> OpResult<Windows> {
    let lists = [&op.strides[..], &op.dilations, &op.pads];
    let windows = Windows::new(&op.kernel_shape, lists, shape.get(2..).unwrap_or(&[]))?;
    Ok(windows.padded(op.auto_pad))
}

/// Pools over any number of axes, with the positions of largest elements where asked for.
pub(super) fn pool(op: &Pool, inputs: &mut Inputs, context: &Context) -> OpResult<Vec<Value>> {
    let x = inputs.value(0)?;
    let shape = x.shape();
    if shape.len() < 3 || shape.contains(&0) {
        return invalid(format!("an input of shape {shape:?} for a window"));
    }
    let windows = windows_of(op, &shape)?;
    let counts = windows.counts(op.ceil_mode)?;
    let mut out = shape[..2].to_vec();
    out.extend_from_slice(&counts);
    context.check_size(&out)?;
    let n_windows: usize = counts.iter().product();
    context.check_size(&[n_windows, windows.taps()])?;
    match (op.kind, x) {
        (PoolKind::Max, x) => largest(&windows, &counts, x, out),
        (PoolKind::Average { count_include_pad }, Value::Float(x)) => {
            let rows = mean_rows(&windows, &counts, count_include_pad);
            Ok(vec![Value::Float(over_planes(x, rows).reshape(&out))])
        }
        (PoolKind::Lp { p }, Value::Float(x)) => {
            let mut rows = Rows::default();
            let own = strides(&windows.input);
            for_each_index(&counts, |step| {
                for_each_index(&windows.kernel, |at| {
                    if let Some(place) = place(&windows, &own, step, at) {
                        rows.push(place, 1.0);
                    }
                });
                rows.end_row();
            });
            let powers = x.abs().pow_scalar(p as f32);
            let sums = over_planes(powers, rows).pow_scalar(1.0 / p as f32);
            Ok(vec![Value::Float(sums.reshape(&out))])
        }
        (_, x) => invalid(format!("input 0 is {}, not floats", x.describe())),
    }
}

/// Returns the matrix applied to every plane of batch × channels × …, one axis of windows.
fn over_planes(x: Float, rows: Rows) -> Float {
    let shape = x.shape();
    let plane = shape[2..].iter().product();
    map_axis(x.reshape(&[shape[0] * shape[1], plane]), 1, rows)
}

fn mean_rows(windows: &Windows, counts: &[usize], count_padding: bool) -> Rows {
    let own = strides(&windows.input);
    let mut rows = Rows::default();
    for_each_index(counts, |step| {
        let mut places = Vec::new();
        let mut counted = 0;
        for_each_index(&windows.kernel, |at| {
            let found = place(windows, &own, step, at);
            places.extend(found);
            // Beyond the padding at the end nothing counts.
            let in_padding = (0..own.len()).all(|axis| {
                windows.padded_place(axis, step[axis], at[axis])
                    < windows.input[axis] + windows.begin[axis] + windows.end[axis]
            });
            counted += usize::from(in_padding);
        });
        let n = if count_padding { counted } else { places.len() };
        for place in places {
            rows.push(place, 1.0 / n as f32);
        }
        rows.end_row();
    });
    rows
}

fn largest(windows: &Windows, counts: &[usize], x: Value, out: Vec<usize>) -> OpResult<Vec<Value>> {
    let numbers = ordered(&x)?;
    let own = strides(&windows.input);
    let plane: usize = windows.input.iter().product();
    let mut places = Vec::with_capacity(out.iter().product());
    let mut empty = false;
    for base in (0..numbers.len()).step_by(plane) {
        for_each_index(counts, |step| {
            let mut best: Option<usize> = None;
            for_each_index(&windows.kernel, |at| {
                let found = place(windows, &own, step, at).map(|p| base + p);
                if let Some(p) = found
                    && best.is_none_or(|b| numbers[p] > numbers[b])
                {
                    best = Some(p);
                }
            });
            empty |= best.is_none();
            places.push(best.unwrap_or(0));
        });
    }
    if empty {
        return unsupported("a window over padding alone");
    }
    let indices = places.iter().map(|&p| p as i64).collect();
    let indices = Value::Int(Array::new(out.clone(), indices));
    Ok(vec![pick(x, out, places), indices])
}
