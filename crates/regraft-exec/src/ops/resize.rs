//! Other extents by interpolation, one axis after the other.

use regraft_graph::op::{AspectPolicy, CoordinateMode, Interpolation, NearestMode, Resize};

use super::elementwise::numbers;
use super::{Context, Inputs, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::for_each_index;
use crate::sparse_map::{Rows, map_axis};
use crate::value::{Array, Value};

/// One axis: how many elements it has and gets.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    wanted: usize,
    scale: f64,
    /// Begin and end of the box, as shares of the axis.
    window: [f64; 2],
}

impl Axis {
    fn unchanged(extent: usize) -> Self {
        Self {
            extent,
            wanted: extent,
            scale: 1.0,
            window: [0.0, 1.0],
        }
    }

    /// Returns the place in the input that element `i` of the output stands for.
    fn source(&self, mode: CoordinateMode, i: usize) -> f64 {
        let (x, n) = (i as f64, self.extent as f64);
        // With a fraction: scales need not give a whole number of elements.
        let width = self.scale * n;
        let half_pixel = (x + 0.5) / self.scale - 0.5;
        // `width` is exactly 1 for a single element; less than 1 cannot come out as one.
        let single = (width - 1.0).abs() < 1e-9;
        match mode {
            CoordinateMode::HalfPixelSymmetric => {
                let share = self.wanted as f64 / width;
                n / 2.0 * (1.0 - share) + half_pixel
            }
            CoordinateMode::PytorchHalfPixel if single => -0.5,
            CoordinateMode::HalfPixel | CoordinateMode::PytorchHalfPixel => half_pixel,
            CoordinateMode::AlignCorners if single => 0.0,
            CoordinateMode::AlignCorners => x * (n - 1.0) / (width - 1.0),
            CoordinateMode::Asymmetric => x / self.scale,
            CoordinateMode::TfHalfPixelForNn => (x + 0.5) / self.scale,
            CoordinateMode::TfCropAndResize => {
                let [begin, end] = self.window;
                let step = if single {
                    (end - begin) * (n - 1.0) / 2.0
                } else {
                    x * (end - begin) * (n - 1.0) / (width - 1.0)
                };
                begin * (n - 1.0) + step
            }
        }
    }

    /// Returns true if element `i` lies outside of the box's map.
    fn is_outside(&self, mode: CoordinateMode, i: usize) -> bool {
        let x = self.source(mode, i);
        mode == CoordinateMode::TfCropAndResize && (x < 0.0 || x > self.extent as f64 - 1.0)
    }
}

/// Returns the weight of cubic convolution at distance `x`.
pub(super) fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}

/// Returns the first neighbour of `x` and the weights from it on.
fn neighbours(op: &Resize, x: f64, scale: f64) -> (f64, Vec<f64>) {
    // The place is compared with the neighbour on its left, itself at distance 1.
    let left = x.ceil() - 1.0;
    let ratio = x - left;
    // A kernel that does not shrink below the input's own grid.
    let shrink = if op.antialias { scale.min(1.0) } else { 1.0 };
    let spread = |reach: f64, weight: &dyn Fn(f64) -> f64| {
        let first = (-reach / shrink).floor() + 1.0;
        let count = (2.0 - 2.0 * first).max(0.0) as usize;
        let at = |k: usize| weight((first + k as f64 - ratio) * shrink);
        let weights: Vec<f64> = (0..count).map(at).collect();
        let sum: f64 = weights.iter().sum();
        let even = weights.iter().map(|w| w / sum).collect();
        (left + first, if op.antialias { even } else { weights })
    };
    match op.mode {
        Interpolation::Nearest => {
            let right = match op.nearest {
                _ if ratio >= 1.0 => true,
                NearestMode::RoundPreferFloor => ratio > 0.5,
                NearestMode::RoundPreferCeil => ratio >= 0.5,
                NearestMode::Floor => false,
                NearestMode::Ceil => true,
            };
            (if right { left + 1.0 } else { left }, vec![1.0])
        }
        Interpolation::Linear => spread(1.0, &|d| (1.0 - d.abs()).max(0.0)),
        Interpolation::Cubic => spread(2.0, &|d| cubic(d, op.cubic_coeff_a.into())),
    }
}

/// Returns the matrix from an axis to its resized form.
fn rows_of(op: &Resize, axis: &Axis) -> Rows {
    let mut rows = Rows::default();
    let last = axis.extent as f64 - 1.0;
    for i in 0..axis.wanted {
        let x = axis.source(op.coordinates, i);
        let (first, mut weights) = neighbours(op, x, axis.scale);
        if op.exclude_outside && op.mode != Interpolation::Nearest {
            for (k, weight) in weights.iter_mut().enumerate() {
                let at = first + k as f64;
                if at < 0.0 || at > last {
                    *weight = 0.0;
                }
            }
            let sum: f64 = weights.iter().sum();
            for weight in &mut weights {
                *weight /= sum;
            }
        }
        for (k, weight) in weights.into_iter().enumerate() {
            // The edge is repeated.
            let at = (first + k as f64).clamp(0.0, last);
            rows.push(at as usize, weight as f32);
        }
        rows.end_row();
    }
    rows
}

fn floats(inputs: &mut Inputs, port: usize) -> OpResult<Vec<f64>> {
    match inputs.optional_float(port)? {
        None => Ok(Vec::new()),
        Some(t) if t.len() == 0 => Ok(Vec::new()),
        Some(t) => Ok(numbers(t)?.into_iter().map(f64::from).collect()),
    }
}

/// Returns what happens to each axis.
fn axes_of(op: &Resize, shape: &[usize], inputs: &mut Inputs) -> OpResult<Vec<Axis>> {
    let named: Vec<usize> = match &op.axes {
        Some(axes) => axes
            .iter()
            .map(|&a| axis_of(a, shape.len()))
            .collect::<OpResult<_>>()?,
        None => (0..shape.len()).collect(),
    };
    let mut axes: Vec<Axis> = shape.iter().map(|&n| Axis::unchanged(n)).collect();
    let n = named.len();
    let (roi, scales) = if op.scales_first {
        (Vec::new(), floats(inputs, 1)?)
    } else {
        (floats(inputs, 1)?, floats(inputs, 2)?)
    };
    if scales.is_empty() {
        let Some(sizes) = inputs.ints(3)? else {
            return invalid("neither scales nor sizes are given");
        };
        set_sizes(op, &named, &sizes.data, &mut axes)?;
    } else if scales.len() == n {
        for (&axis, &scale) in named.iter().zip(&scales) {
            if !(scale > 0.0 && scale.is_finite()) {
                return invalid(format!("a scale of {scale}"));
            }
            axes[axis].scale = scale;
            axes[axis].wanted = (axes[axis].extent as f64 * scale).floor() as usize;
        }
    } else {
        return invalid(format!("{} scales for {n} axes", scales.len()));
    }
    if op.coordinates == CoordinateMode::TfCropAndResize {
        if roi.len() != 2 * n {
            return invalid(format!("a box of {} numbers for {n} axes", roi.len()));
        }
        for (i, &axis) in named.iter().enumerate() {
            axes[axis].window = [roi[i], roi[i + n]];
        }
    }
    Ok(axes)
}

fn set_sizes(op: &Resize, named: &[usize], sizes: &[i64], axes: &mut [Axis]) -> OpResult<()> {
    if sizes.len() != named.len() {
        return invalid(format!("{} sizes for {} axes", sizes.len(), named.len()));
    }
    for (&axis, &size) in named.iter().zip(sizes) {
        let Ok(wanted) = usize::try_from(size) else {
            return invalid(format!("a size of {size}"));
        };
        if axes[axis].extent == 0 || wanted == 0 {
            return invalid(format!("a size of {size} for {}", axes[axis].extent));
        }
        axes[axis].wanted = wanted;
        axes[axis].scale = wanted as f64 / axes[axis].extent as f64;
    }
    let scales = named.iter().map(|&axis| axes[axis].scale);
    let common = match op.aspect {
        AspectPolicy::Stretch => return Ok(()),
        AspectPolicy::NotLarger => scales.fold(f64::INFINITY, f64::min),
        AspectPolicy::NotSmaller => scales.fold(0.0, f64::max),
    };
    for &axis in named {
        axes[axis].scale = common;
        axes[axis].wanted = (common * axes[axis].extent as f64 + 0.5).floor() as usize;
    }
    Ok(())
}

pub(super) fn resize(op: &Resize, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let shape = data.shape();
    let axes = axes_of(op, &shape, inputs)?;
    let wanted: Vec<usize> = axes.iter().map(|a| a.wanted).collect();
    context.check_size(&wanted)?;
    interpolate(op, data, &axes, context)
}

fn interpolate(op: &Resize, data: Value, axes: &[Axis], context: &Context) -> OpResult<Value> {
    let (mut tensor, ints) = match data {
        Value::Float(t) => (t, false),
        // Whole numbers up to 2^24 are exact as floats; rounded back at the end.
        Value::Int(a) => {
            let numbers = a.data.iter().map(|&x| x as f32).collect();
            (Float::new(numbers, &a.shape), true)
        }
        Value::Bool(_) => return invalid("truth values cannot be interpolated"),
    };
    if tensor.len() == 0 {
        return unsupported("a map without elements");
    }
    for (axis, settings) in axes.iter().enumerate() {
        let same = settings.wanted == settings.extent
            && settings.scale.to_bits() == 1f64.to_bits()
            && op.coordinates != CoordinateMode::TfCropAndResize;
        if !same {
            let mut between = tensor.shape();
            between[axis] = settings.wanted;
            context.check_size(&between)?;
            let taps = if op.antialias {
                (4.0 / settings.scale).ceil().max(4.0) as usize
            } else {
                4
            };
            context.check_size(&[settings.wanted, taps])?;
            tensor = map_axis(tensor, axis, rows_of(op, settings));
        }
    }
    if op.coordinates == CoordinateMode::TfCropAndResize {
        tensor = extrapolate(op, tensor, axes);
    }
    if !ints {
        return Ok(Value::Float(tensor));
    }
    let shape = tensor.shape();
    let nearest = numbers(tensor)?
        .into_iter()
        .map(|x| x.round_ties_even() as i64);
    Ok(Value::Int(Array::new(shape, nearest.collect())))
}

/// Replaces what lies outside of the box.
fn extrapolate(op: &Resize, tensor: Float, axes: &[Axis]) -> Float {
    let shape = tensor.shape();
    let outside: Vec<Vec<bool>> = axes
        .iter()
        .map(|axis| {
            let test = |i: usize| axis.is_outside(op.coordinates, i);
            (0..axis.wanted).map(test).collect()
        })
        .collect();
    let mut mask = Vec::with_capacity(tensor.len());
    for_each_index(&shape, |index| {
        mask.push(index.iter().zip(&outside).any(|(&i, axis)| axis[i]));
    });
    tensor.replace(mask, Float::full(op.extrapolation_value, &shape))
}

pub(super) fn upsample(
    mode: Interpolation,
    scales: Option<&[f32]>,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let op = Resize {
        mode,
        coordinates: CoordinateMode::Asymmetric,
        nearest: NearestMode::Floor,
        scales_first: true,
        ..Resize::default()
    };
    match scales {
        None => resize(&op, inputs, context),
        Some(list) => {
            let data = inputs.optional(0);
            let scales = Value::Float(Float::new(list.to_vec(), &[list.len()]));
            resize(&op, &mut Inputs(vec![data, Some(scales)]), context)
        }
    }
}
