//! Settings of nodes in one form: attributes of old operator sets and inputs of new ones alike,
//! axes counted from the front, padding per axis.

use std::collections::BTreeMap;

use super::{Context, Facts, normalize_axis};
use crate::op::{AutoPad, CoordinateMode, ImageOp};
use crate::{Dim, Graph, NodeId, Op};

/// One range that a `Slice` node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// The axis.
    pub axis: usize,
    /// The first index taken.
    pub start: i64,
    /// The distance to the next index, negative when reversed.
    pub step: i64,
    /// The number of indices taken.
    pub len: usize,
}

/// A window over spatial axes, one entry an axis in each list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Extents.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Padding before the first element.
    pub pads_begin: Vec<usize>,
    /// Padding after the last element.
    pub pads_end: Vec<usize>,
    auto_pad: AutoPad,
}

type Lists<'a> = (&'a [usize], &'a [usize], &'a [usize]);

impl Window {
    /// Returns the window with its defaults filled in.
    pub(super) fn new(
        kernel: Vec<usize>,
        lists: Lists<'_>,
        auto_pad: AutoPad,
    ) -> Result<Self, String> {
        let n = kernel.len();
        let (strides, dilations, pads) = lists;
        let fill = |list: &[usize], what: &str, len: usize, default: usize| match list.len() {
            0 => Ok(vec![default; len]),
            l if l == len => Ok(list.to_vec()),
            l => Err(format!("{what} has {l} entries, {len} are needed")),
        };
        let strides = fill(strides, "strides", n, 1)?;
        let dilations = fill(dilations, "dilations", n, 1)?;
        let pads = fill(pads, "pads", 2 * n, 0)?;
        for (what, list) in [
            ("kernel", &kernel),
            ("stride", &strides),
            ("dilation", &dilations),
        ] {
            if list.contains(&0) {
                return Err(format!("a {what} of 0"));
            }
        }
        let (pads_begin, pads_end) = match auto_pad {
            AutoPad::NotSet => (pads[..n].to_vec(), pads[n..].to_vec()),
            AutoPad::SameUpper | AutoPad::SameLower | AutoPad::Valid => (vec![0; n], vec![0; n]),
        };
        Ok(Self {
            kernel,
            strides,
            dilations,
            pads_begin,
            pads_end,
            auto_pad,
        })
    }

    /// Returns the extent of the dilated kernel along `axis`.
    pub fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1)
            .saturating_mul(self.dilations[axis])
            .saturating_add(1)
    }

    fn resolve(mut self, spatial: &[Dim]) -> Option<Self> {
        if !matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            return Some(self);
        }
        for (axis, dim) in spatial.iter().enumerate() {
            let input = dim.fixed()?;
            let total = AutoPad::same_total(input, self.strides[axis], self.reach(axis));
            [self.pads_begin[axis], self.pads_end[axis]] = self.auto_pad.split(total);
        }
        Some(self)
    }

    /// Returns the output extents for the given input extents.
    pub(super) fn output_dims(&self, spatial: &[Dim], ceil: bool) -> Result<Vec<Dim>, String> {
        if spatial.len() != self.kernel.len() {
            return Err(format!(
                "{} spatial axes for a window over {}",
                spatial.len(),
                self.kernel.len()
            ));
        }
        let same = matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        spatial.iter().enumerate().map(|(axis, dim)| {
            let Some(input) = dim.fixed() else {
                return Ok(self.symbolic(axis, dim));
            };
            let stride = self.strides[axis];
            if same {
                return Ok(Dim::Fixed(input.div_ceil(stride)));
            }
            let (begin, end) = (self.pads_begin[axis], self.pads_end[axis]);
            let padded = input.checked_add(begin).and_then(|n| n.checked_add(end));
            let reach = self.reach(axis);
            let free = padded.and_then(|n| n.checked_sub(reach)).ok_or_else(|| {
                format!("a kernel that reaches over {reach} does not fit an input of {input} padded by {begin} and {end}")
            })?;
            let mut n = if ceil { free.div_ceil(stride) } else { free / stride } + 1;
            // A window must start inside the input or its left padding.
            if ceil && (n - 1) * stride >= input + begin {
                n -= 1;
            }
            Ok(Dim::Fixed(n))
        }).collect()
    }

    /// A window that keeps extents keeps symbols too.
    fn symbolic(&self, axis: usize, dim: &Dim) -> Dim {
        let same = matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        let pads = self.pads_begin[axis].saturating_add(self.pads_end[axis]);
        if self.strides[axis] == 1 && (same || pads.saturating_add(1) == self.reach(axis)) {
            return dim.clone();
        }
        Dim::Unknown
    }
}

pub(super) fn window(
    kernel: Vec<usize>,
    lists: Lists<'_>,
    auto: AutoPad,
    x: &[Dim],
) -> Option<Window> {
    let window = Window::new(kernel, lists, auto).ok()?;
    window.resolve(x.get(2..)?)
}

/// Returns the window of a `Conv`, `ConvTranspose`, `MaxPool` or `AveragePool` node, `SAME` padding
/// resolved; `None` for other ops or where extents it depends on are not known.
pub fn node_window(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Window> {
    let cx = context(graph, facts, id);
    match &cx.node.op {
        Op::Conv(conv) | Op::ConvTranspose(conv) => super::linear::conv_window(&cx, conv),
        Op::Pool(pool) => super::pool::pool_window(&cx, pool),
        _ => None,
    }
}

/// Returns the ranges of a `Slice` node, one an axis it names.
pub fn slice(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<SliceRange>> {
    let cx = context(graph, facts, id);
    let Op::Slice(attributes) = &cx.node.op else {
        return None;
    };
    let shape = cx.shape(0)?;
    let starts = attributes.starts.clone().or_else(|| cx.ints(1))?;
    let ends = attributes.ends.clone().or_else(|| cx.ints(2))?;
    let given = |port: usize| cx.node.input(port).is_some();
    let axes = match &attributes.axes {
        Some(axes) => axes.clone(),
        None if attributes.starts.is_none() && given(3) => cx.ints(3)?,
        None => (0..i64::try_from(starts.len()).ok()?).collect(),
    };
    let steps = if attributes.starts.is_none() && given(4) {
        cx.ints(4)?
    } else {
        vec![1; starts.len()]
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return None;
    }
    let mut ranges = Vec::new();
    for i in 0..starts.len() {
        let axis = normalize_axis(axes[i], shape.len())?;
        let extent = i64::try_from(shape[axis].fixed()?).ok()?;
        let step = steps[i];
        let (low, high) = if step > 0 {
            (0, extent)
        } else {
            (-1, extent - 1)
        };
        let clamp = |x: i64| (if x < 0 { x.saturating_add(extent) } else { x }).clamp(low, high);
        let (start, end) = (clamp(starts[i]), clamp(ends[i]));
        let span = if step > 0 { end - start } else { start - end };
        let len = match step.unsigned_abs() {
            0 => return None,
            s => usize::try_from(span.max(0))
                .ok()?
                .div_ceil(usize::try_from(s).ok()?),
        };
        ranges.push(SliceRange {
            axis,
            start,
            step,
            len,
        });
    }
    Some(ranges)
}

/// Returns the axes that a `Slice` node cuts, even where it cuts is only known when it runs.
pub fn slice_axes(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<usize>> {
    let cx = context(graph, facts, id);
    let Op::Slice(attributes) = &cx.node.op else {
        return None;
    };
    let rank = cx.shape(0)?.len();
    let axes = match &attributes.axes {
        Some(axes) => axes.clone(),
        None if attributes.starts.is_none() && cx.node.input(3).is_some() => cx.ints(3)?,
        None => return None,
    };
    axes.iter().map(|&a| normalize_axis(a, rank)).collect()
}

/// Returns begin and end padding of every axis of a `Pad` node; negative numbers cut.
pub fn pads(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<(i64, i64)>> {
    let cx = context(graph, facts, id);
    let Op::Pad { pads, .. } = &cx.node.op else {
        return None;
    };
    let rank = cx.shape(0)?.len();
    let list = pads.clone().or_else(|| cx.ints(1))?;
    let axes: Vec<usize> = if pads.is_none() && cx.node.input(3).is_some() {
        cx.ints(3)?
            .into_iter()
            .map(|a| normalize_axis(a, rank))
            .collect::<Option<_>>()?
    } else {
        (0..rank).collect()
    };
    if list.len() != 2 * axes.len() {
        return None;
    }
    let mut result = vec![(0, 0); rank];
    for (i, &axis) in axes.iter().enumerate() {
        result[axis] = (list[i], list[i + axes.len()]);
    }
    Some(result)
}

/// Returns the axes of a `Squeeze`, `Unsqueeze` (in the output) or `Reduce` node, ascending.
pub fn axes(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<usize>> {
    let cx = context(graph, facts, id);
    let shape = cx.shape(0)?;
    let input = || {
        if cx.node.input(1).is_some() {
            cx.ints(1).map(Some)
        } else {
            Some(None)
        }
    };
    let (given, rank) = match &cx.node.op {
        Op::Squeeze { axes } => (
            axes.clone().map_or_else(input, |a| Some(Some(a)))?,
            shape.len(),
        ),
        Op::Unsqueeze { axes } => {
            let axes = axes.clone().map_or_else(input, |a| Some(Some(a)))??;
            let rank = shape.len() + axes.len();
            (Some(axes), rank)
        }
        Op::Reduce { axes, .. } => (
            axes.clone().map_or_else(input, |a| Some(Some(a)))?,
            shape.len(),
        ),
        _ => return None,
    };
    let mut list: Vec<usize> = match (given, &cx.node.op) {
        (
            Some(axes),
            Op::Reduce {
                noop_with_empty_axes: false,
                ..
            },
        ) if axes.is_empty() => (0..rank).collect(),
        (Some(axes), _) => axes
            .into_iter()
            .map(|a| normalize_axis(a, rank))
            .collect::<Option<_>>()?,
        (None, Op::Squeeze { .. }) => {
            let ones = shape
                .iter()
                .enumerate()
                .filter(|(_, d)| **d == Dim::Fixed(1));
            ones.map(|(i, _)| i).collect()
        }
        (
            None,
            Op::Reduce {
                noop_with_empty_axes: true,
                ..
            },
        ) => Vec::new(),
        (None, _) => (0..rank).collect(),
    };
    list.sort_unstable();
    list.dedup();
    Some(list)
}

/// Returns the extents a `Split` node cuts into, one an output.
pub fn split(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<usize>> {
    let cx = context(graph, facts, id);
    let Op::Split {
        axis,
        split,
        num_outputs,
    } = &cx.node.op
    else {
        return None;
    };
    let shape = cx.shape(0)?;
    let extent = shape[normalize_axis(*axis, shape.len())?].fixed();
    let given = match split {
        Some(list) => Some(list.clone()),
        None if cx.node.input(1).is_some() => Some(cx.ints(1)?),
        None => None,
    };
    if let Some(list) = given {
        return list.into_iter().map(|n| usize::try_from(n).ok()).collect();
    }
    let n = cx.node.outputs.len();
    // A number that disagrees with the outputs is no list to make: it may be huge.
    if num_outputs.is_some_and(|m| usize::try_from(m).ok() != Some(n)) {
        return None;
    }
    let extent = extent?;
    let each = extent.div_ceil(n.max(1));
    Some(
        (0..n)
            .map(|i| each.min(extent.saturating_sub(i * each)))
            .collect(),
    )
}

/// Returns the permutation of a `Transpose` node: output axis `i` is input axis `perm[i]`.
pub fn permutation(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<usize>> {
    let cx = context(graph, facts, id);
    let Op::Transpose { perm } = &cx.node.op else {
        return None;
    };
    let rank = cx.shape(0)?.len();
    let Some(perm) = perm else {
        return Some((0..rank).rev().collect());
    };
    let perm: Vec<usize> = perm
        .iter()
        .map(|&p| normalize_axis(p, rank))
        .collect::<Option<_>>()?;
    let mut seen = perm.clone();
    seen.sort_unstable();
    (seen == (0..rank).collect::<Vec<_>>()).then_some(perm)
}

/// Returns the axes that a `Resize` or `Upsample` node may change, ascending; `None` where its
/// scales are not known, or where it is told extents or a box.
pub fn resized_axes(graph: &Graph, facts: &Facts, id: NodeId) -> Option<Vec<usize>> {
    let cx = context(graph, facts, id);
    let rank = cx.shape(0)?.len();
    let floats = |port: usize| {
        let tensor = facts.constant(cx.node.input(port)?)?;
        Some(tensor.as_f32()?.to_vec())
    };
    let (named, scales) = match &cx.node.op {
        Op::Image(ImageOp::Resize(resize)) => {
            let moved = resize.coordinates == CoordinateMode::TfCropAndResize;
            if cx.node.input(3).is_some() || moved {
                return None;
            }
            let scales = floats(if resize.scales_first { 1 } else { 2 })?;
            (resize.axes.clone(), scales)
        }
        Op::Image(ImageOp::Upsample { scales, .. }) => {
            (None, scales.clone().or_else(|| floats(1))?)
        }
        _ => return None,
    };
    let named: Vec<usize> = match named {
        Some(axes) => axes
            .into_iter()
            .map(|a| normalize_axis(a, rank))
            .collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    if named.len() != scales.len() {
        return None;
    }
    let pairs = named.into_iter().zip(scales);
    let changed = pairs.filter(|(_, s)| s.to_bits() != 1f32.to_bits());
    let mut axes: Vec<usize> = changed.map(|(axis, _)| axis).collect();
    axes.sort_unstable();
    Some(axes)
}

/// Settings of a node are read from facts, in which symbols are bound already.
static NO_BINDINGS: BTreeMap<String, usize> = BTreeMap::new();

pub(super) fn context<'a>(graph: &'a Graph, facts: &'a Facts, id: NodeId) -> Context<'a> {
    Context {
        graph,
        facts,
        id,
        node: graph.node(id),
        max_elements: usize::MAX,
        bind: &NO_BINDINGS,
    }
}
