//! Elements at points between the grid: sampled maps, boxes cut into bins.

use regraft_graph::op::{Interpolation, Resize, SamplePadding};

use super::elementwise::{numbers, numbers_without_gradient};
use super::index::required_ints;
use super::resize::cubic;
use super::{Context, Inputs};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::sparse_map::{Rows, map_axis};
use crate::value::strides;

/// Returns the numbers of a tensor that only says where; it has no gradient.
fn settings(tensor: Float) -> OpResult<Vec<f32>> {
    numbers_without_gradient(tensor, "there is no gradient with respect to the points")
}

/// How points of a grid are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    pub(super) mode: Interpolation,
    pub(super) padding: SamplePadding,
    pub(super) align_corners: bool,
}

/// Returns `x` mirrored into the range, as often as needed.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 {
        return low;
    }
    let away = (x - low).rem_euclid(2.0 * span);
    low + if away > span { 2.0 * span - away } else { away }
}

impl Sampling {
    /// Returns the place on an axis that a coordinate from -1 to 1 names.
    fn place(self, coordinate: f32, extent: usize) -> f64 {
        let (x, n) = (f64::from(coordinate), extent as f64);
        let place = if self.align_corners {
            f64::midpoint(x, 1.0) * (n - 1.0)
        } else {
            ((x + 1.0) * n - 1.0) / 2.0
        };
        let place = if self.mode == Interpolation::Nearest {
            place.round_ties_even()
        } else {
            place
        };
        match self.padding {
            SamplePadding::Zeros => place,
            SamplePadding::Border => place.clamp(0.0, n - 1.0),
            SamplePadding::Reflection => self.mirrored(place, n),
        }
    }

    fn mirrored(self, place: f64, n: f64) -> f64 {
        let (low, high) = if self.align_corners {
            (0.0, n - 1.0)
        } else {
            (-0.5, n - 0.5)
        };
        if place < low || place > high {
            reflect(place, low, high)
        } else {
            place
        }
    }

    /// Returns the elements that a place reads, with their weights.
    fn taps(self, place: f64, extent: usize) -> Vec<(usize, f64)> {
        let n = extent as f64;
        let left = place.floor();
        let d = place - left;
        let (first, weights) = match self.mode {
            Interpolation::Nearest => (place.round_ties_even(), vec![1.0]),
            Interpolation::Linear => (left, vec![1.0 - d, d]),
            Interpolation::Cubic => {
                let weight = |distance| cubic(distance, Resize::CUBIC_COEFF_A.into());
                let weights = [d + 1.0, d, 1.0 - d, 2.0 - d].map(weight);
                (left - 1.0, weights.to_vec())
            }
        };
        let at = |(k, weight): (usize, f64)| {
            let at = first + k as f64;
            let inside = match self.padding {
                SamplePadding::Zeros => at,
                SamplePadding::Border => at.clamp(0.0, n - 1.0),
                // Exact for whole numbers: the mirror lies on or halfway between them.
                SamplePadding::Reflection => self.mirrored(at, n),
            };
            (inside >= 0.0 && inside < n).then_some((inside as usize, weight))
        };
        weights.into_iter().enumerate().filter_map(at).collect()
    }
}

/// Adds every product of one tap an axis to the row under way.
fn push_product(rows: &mut Rows, taps: &[Vec<(usize, f64)>], own: &[usize], base: usize) {
    let mut partial = vec![(base, 1.0)];
    for (axis, stride) in taps.iter().zip(own) {
        let extended = partial.iter().flat_map(|&(place, weight)| {
            let next = move |&(i, w): &(usize, f64)| (place + i * stride, weight * w);
            axis.iter().map(next)
        });
        partial = extended.collect();
    }
    for (place, weight) in partial {
        rows.push(place, weight as f32);
    }
}

/// Returns batch × channels × … as (batch · places) × channels.
fn channels_last(x: Float) -> Float {
    let shape = x.shape();
    let places: usize = shape[2..].iter().product();
    x.reshape(&[shape[0], shape[1], places])
        .permute(&[0, 2, 1])
        .reshape(&[shape[0] * places, shape[1]])
}

pub(super) fn grid_sample(
    sampling: Sampling,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let (x, grid) = (inputs.float(0)?, inputs.float(1)?);
    let (shape, grid_shape) = (x.shape(), grid.shape());
    let n_spatial = shape.len().saturating_sub(2);
    let fits = n_spatial > 0
        && grid_shape.len() == shape.len()
        && grid_shape[0] == shape[0]
        && grid_shape.last() == Some(&n_spatial);
    if !fits || shape.contains(&0) || grid_shape.contains(&0) {
        return invalid(format!("a grid {grid_shape:?} for a map {shape:?}"));
    }
    let taps_each = match sampling.mode {
        Interpolation::Nearest => 1,
        Interpolation::Linear => 2usize,
        Interpolation::Cubic => 4,
    };
    let out_places: usize = grid_shape[1..=n_spatial].iter().product();
    context.check_size(&[shape[0], shape[1], out_places])?;
    let taps_all = taps_each.saturating_pow(n_spatial as u32);
    context.check_size(&[shape[0], out_places, taps_all])?;
    let own = strides(&shape[2..]);
    let places: usize = shape[2..].iter().product();
    let mut rows = Rows::default();
    for (i, point) in settings(grid)?.chunks_exact(n_spatial).enumerate() {
        if point.iter().any(|x| x.is_nan()) {
            return unsupported("a point that is not a number");
        }
        let taps: Vec<Vec<(usize, f64)>> = (0..n_spatial)
            .map(|axis| {
                // The last axis is named first.
                let extent = shape[2 + axis];
                let place = sampling.place(point[n_spatial - 1 - axis], extent);
                sampling.taps(place, extent)
            })
            .collect();
        push_product(&mut rows, &taps, &own, i / out_places * places);
        rows.end_row();
    }
    let found = map_axis(channels_last(x), 0, rows);
    let mut out = shape[..2].to_vec();
    out.extend_from_slice(&grid_shape[1..=n_spatial]);
    Ok(found
        .reshape(&[shape[0], out_places, shape[1]])
        .permute(&[0, 2, 1])
        .reshape(&out))
}

pub(super) fn affine_grid(
    align_corners: bool,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let theta = inputs.float(0)?;
    let size = required_ints(inputs, 1)?;
    let extents: Vec<usize> = size
        .data
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(0))
        .collect();
    let shape = theta.shape();
    let n_spatial = extents.len().saturating_sub(2);
    if n_spatial == 0 || shape != [extents[0], n_spatial, n_spatial + 1] || extents.contains(&0) {
        return invalid(format!("theta {shape:?} for a map of {:?}", size.data));
    }
    let spatial = &extents[2..];
    let places = context.check_size(spatial)?;
    context.check_size(&[extents[0], places, n_spatial + 1])?;
    let own = strides(spatial);
    let mut points = Vec::with_capacity(places * (n_spatial + 1));
    for place in 0..places {
        for axis in (0..n_spatial).rev() {
            let n = spatial[axis] as f64;
            let i = (place / own[axis] % spatial[axis]) as f64;
            points.push(match (align_corners, spatial[axis]) {
                (true, 1) => 0.0,
                (true, _) => (2.0 * i / (n - 1.0) - 1.0) as f32,
                (false, _) => ((2.0 * i + 1.0) / n - 1.0) as f32,
            });
        }
        points.push(1.0);
    }
    // places × (n + 1) times (n + 1) × n for each sample.
    let points = Float::new(points, &[1, places, n_spatial + 1]);
    let points = points.expand(&[extents[0], places, n_spatial + 1]);
    let mut out = vec![extents[0]];
    out.extend_from_slice(spatial);
    out.push(n_spatial);
    Ok(points.matmul(theta.permute(&[0, 2, 1])).reshape(&out))
}

/// Bins over boxes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bins {
    pub(super) max: bool,
    pub(super) half_pixel: bool,
    pub(super) n_hw: [usize; 2],
    pub(super) sampling_ratio: usize,
    pub(super) spatial_scale: f32,
}

impl Bins {
    /// Returns the sample places along one axis of a box, a list a bin.
    fn samples(
        &self,
        side: usize,
        [from, to]: [f32; 2],
        context: &Context,
    ) -> OpResult<Vec<Vec<f64>>> {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let at = |x: f32| f64::from(x) * f64::from(self.spatial_scale) - offset;
        let (start, mut length) = (at(from), at(to) - at(from));
        if !self.half_pixel {
            length = length.max(1.0);
        }
        let bin = length / self.n_hw[side] as f64;
        let n = match self.sampling_ratio {
            0 => bin.ceil().max(1.0) as usize,
            n => n,
        };
        context.check_size(&[self.n_hw[side], n])?;
        let place = |b: usize, k: usize| start + bin * (b as f64 + (k as f64 + 0.5) / n as f64);
        Ok((0..self.n_hw[side])
            .map(|b| (0..n).map(|k| place(b, k)).collect())
            .collect())
    }
}

/// Returns the two elements beside a place on an axis, none outside of the map.
fn beside(place: f64, extent: usize) -> Vec<(usize, f64)> {
    let n = extent as f64;
    if place < -1.0 || place > n {
        return Vec::new();
    }
    let place = place.max(0.0);
    let low = place.floor();
    if low >= n - 1.0 {
        return vec![(extent - 1, 1.0)];
    }
    let d = place - low;
    vec![(low as usize, 1.0 - d), (low as usize + 1, d)]
}

pub(super) fn roi_align(bins: Bins, inputs: &mut Inputs, context: &Context) -> OpResult<Float> {
    let (x, boxes) = (inputs.float(0)?, inputs.float(1)?);
    let samples = required_ints(inputs, 2)?;
    let (shape, boxes_shape) = (x.shape(), boxes.shape());
    let ([batch, channels, height, width], [n_boxes, 4]) = (&shape[..], &boxes_shape[..]) else {
        return invalid(format!("boxes {boxes_shape:?} for a map {shape:?}"));
    };
    let out = [*n_boxes, *channels, bins.n_hw[0], bins.n_hw[1]];
    context.check_size(&out)?;
    let bad = samples
        .data
        .iter()
        .find(|i| !(0..*batch as i64).contains(*i));
    if bad.is_some() || samples.data.len() != *n_boxes || shape.contains(&0) {
        return invalid(format!("{n_boxes} boxes in samples {:?}", samples.data));
    }
    let own = [*width, 1];
    let boxes = settings(boxes)?;
    let mut taps = 0usize;
    let mut rows = Rows::default();
    let mut points = Vec::new();
    for (corners, &sample) in boxes.chunks_exact(4).zip(samples.data.iter()) {
        let rows_of = bins.samples(0, [corners[1], corners[3]], context)?;
        let columns_of = bins.samples(1, [corners[0], corners[2]], context)?;
        let base = sample as usize * height * width;
        for ys in &rows_of {
            for xs in &columns_of {
                taps = taps.saturating_add(4 * ys.len().saturating_mul(xs.len()));
                context.check_size(&[taps])?;
                points.push(ys.len() * xs.len());
                for &y in ys {
                    for &x in xs {
                        let pair = [beside(y, *height), beside(x, *width)];
                        push_product(&mut rows, &pair, &own, base);
                        if bins.max {
                            rows.end_row();
                        }
                    }
                }
                if !bins.max {
                    rows.end_row();
                }
            }
        }
    }
    let found = if bins.max {
        largest_tap(x, &rows, &points)?
    } else {
        let shares: Vec<f32> = points.iter().map(|&n| 1.0 / n.max(1) as f32).collect();
        let sums = map_axis(channels_last(x), 0, rows);
        sums.mul(Float::new(shares, &[points.len(), 1]))
    };
    let per_box = bins.n_hw[0] * bins.n_hw[1];
    Ok(found
        .reshape(&[*n_boxes, per_box, *channels])
        .permute(&[0, 2, 1])
        .reshape(&out))
}

/// Returns the largest weighted element of each bin's samples: the runtimes do not sum the four
/// of a point first.
fn largest_tap(x: Float, rows: &Rows, points: &[usize]) -> OpResult<Float> {
    if x.is_tracked() {
        return unsupported("the largest sample has no gradient");
    }
    let channels = x.shape()[1];
    let numbers = numbers(channels_last(x))?;
    let mut result = Vec::with_capacity(points.len() * channels);
    let mut row = 0;
    for &n in points {
        for channel in 0..channels {
            let all = (row..row + n).flat_map(|r| rows.row(r));
            let weighted = all.map(|(place, w)| w * numbers[place * channels + channel]);
            result.push(weighted.reduce(f32::max).unwrap_or(0.0));
        }
        row += n;
    }
    Ok(Float::new(result, &[points.len(), channels]))
}
