//! Shapes of ops on maps.

use super::params::Window;
use super::{Context, Types, typed};
use crate::op::{AspectPolicy, AutoPad, ImageOp, Resize};
use crate::{DType, Dim, GraphError, ValueType};

type Inferred = Result<Option<ValueType>, GraphError>;

pub(super) fn image(cx: &Context<'_>, op: &ImageOp) -> Result<Types, GraphError> {
    Ok(vec![match op {
        ImageOp::Resize(resize) => resized(cx, resize)?,
        ImageOp::Upsample { scales, .. } => upsampled(cx, scales.as_deref()),
        ImageOp::GridSample { .. } => grid_sample(cx)?,
        ImageOp::AffineGrid { .. } => affine_grid(cx),
        ImageOp::RoiAlign {
            output_height,
            output_width,
            ..
        } => match (cx.shape(0), cx.shape(1)) {
            (Some([_, channels, ..]), Some([boxes, ..])) => {
                let bins = [Dim::Fixed(*output_height), Dim::Fixed(*output_width)];
                let mut shape = vec![boxes.clone(), channels.clone()];
                shape.extend(bins);
                typed(cx.dtype(0), Some(shape))
            }
            _ => typed(cx.dtype(0), None),
        },
        ImageOp::NonMaxSuppression { .. } => {
            typed(Some(DType::I64), Some(vec![Dim::Unknown, Dim::Fixed(3)]))
        }
        ImageOp::DepthToSpace { block, .. } => blocks(cx, *block, true)?,
        ImageOp::SpaceToDepth { block } => blocks(cx, *block, false)?,
        ImageOp::CenterCropPad { axes } => crop_pad(cx, axes.as_deref())?,
        ImageOp::Col2Im { .. } => col2im(cx),
        ImageOp::MaxUnpool {
            kernel_shape,
            strides,
            pads,
        } => unpooled(cx, kernel_shape, strides, pads)?,
    }])
}

fn unknown(cx: &Context<'_>) -> Option<ValueType> {
    typed(
        cx.dtype(0),
        cx.shape(0).map(|s| vec![Dim::Unknown; s.len()]),
    )
}

/// Returns the floats of a constant input that is not empty.
fn floats(cx: &Context<'_>, port: usize) -> Option<Vec<f32>> {
    let list = cx.facts.constant(cx.node.input(port)?)?.as_f32()?;
    (!list.is_empty()).then(|| list.to_vec())
}

fn scaled(dim: &Dim, scale: f64) -> Dim {
    match dim.fixed() {
        Some(n) => Dim::Fixed((n as f64 * scale).floor().max(0.0) as usize),
        None if scale.to_bits() == 1f64.to_bits() => dim.clone(),
        None => Dim::Unknown,
    }
}

fn resized(cx: &Context<'_>, op: &Resize) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    let axes: Vec<usize> = match &op.axes {
        Some(axes) => axes
            .iter()
            .map(|&a| cx.axis(a, x.len()))
            .collect::<Result<_, _>>()?,
        None => (0..x.len()).collect(),
    };
    let mut shape = x.to_vec();
    let port = if op.scales_first { 1 } else { 2 };
    if let Some(scales) = floats(cx, port).filter(|s| s.len() == axes.len()) {
        for (&axis, scale) in axes.iter().zip(scales) {
            shape[axis] = scaled(&x[axis], f64::from(scale));
        }
    } else if let Some(sizes) = cx.ints(3).filter(|s| s.len() == axes.len()) {
        let extent = |n: i64| match (op.aspect, usize::try_from(n)) {
            (AspectPolicy::Stretch, Ok(n)) => Dim::Fixed(n),
            _ => Dim::Unknown,
        };
        for (&axis, n) in axes.iter().zip(sizes) {
            shape[axis] = extent(n);
        }
    } else {
        for axis in axes {
            shape[axis] = Dim::Unknown;
        }
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

fn upsampled(cx: &Context<'_>, scales: Option<&[f32]>) -> Option<ValueType> {
    let scales = scales.map(<[f32]>::to_vec).or_else(|| floats(cx, 1));
    let (Some(x), Some(scales)) = (cx.shape(0), scales) else {
        return unknown(cx);
    };
    let dims = x.iter().zip(scales).map(|(d, s)| scaled(d, f64::from(s)));
    typed(cx.dtype(0), Some(dims.collect()))
}

fn grid_sample(cx: &Context<'_>) -> Inferred {
    let (Some(x), Some(grid)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(unknown(cx));
    };
    if x.len() != grid.len() || x.len() < 3 {
        return Err(cx.error(format!(
            "a grid of {} axes for a map of {}",
            grid.len(),
            x.len()
        )));
    }
    let mut shape = x[..2].to_vec();
    shape.extend_from_slice(&grid[1..grid.len() - 1]);
    Ok(typed(cx.dtype(0), Some(shape)))
}

fn affine_grid(cx: &Context<'_>) -> Option<ValueType> {
    let Some(size) = cx.ints(1) else {
        return typed(cx.dtype(0), None);
    };
    let dim = |n: &i64| usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed);
    let mut shape: Vec<Dim> = size.iter().map(dim).collect();
    if shape.len() < 3 {
        return typed(cx.dtype(0), None);
    }
    shape.remove(1);
    shape.push(Dim::Fixed(size.len() - 2));
    typed(cx.dtype(0), Some(shape))
}

fn blocks(cx: &Context<'_>, block: usize, to_space: bool) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    let [n, c, h, w] = x else {
        return Err(cx.error(format!("{} axes, 4 are needed", x.len())));
    };
    let square = block.checked_mul(block).filter(|s| *s > 0);
    let Some(square) = square else {
        return Err(cx.error(format!("a block of {block}")));
    };
    let times = |dim: &Dim, k: usize| {
        let n = dim.fixed().and_then(|n| n.checked_mul(k));
        n.map_or(Dim::Unknown, Dim::Fixed)
    };
    let over = |dim: &Dim, k: usize| match dim.fixed() {
        Some(n) if !n.is_multiple_of(k) => {
            Err(cx.error(format!("an extent {n} does not split into {k}")))
        }
        Some(n) => Ok(Dim::Fixed(n / k)),
        None => Ok(Dim::Unknown),
    };
    let shape = if to_space {
        vec![
            n.clone(),
            over(c, square)?,
            times(h, block),
            times(w, block),
        ]
    } else {
        vec![
            n.clone(),
            times(c, square),
            over(h, block)?,
            over(w, block)?,
        ]
    };
    Ok(typed(cx.dtype(0), Some(shape)))
}

fn crop_pad(cx: &Context<'_>, axes: Option<&[i64]>) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    let all: Vec<i64> = (0..x.len() as i64).collect();
    let sizes = cx.ints(1);
    let mut shape = x.to_vec();
    for (i, &axis) in axes.unwrap_or(&all).iter().enumerate() {
        let size = sizes.as_ref().and_then(|s| s.get(i));
        let size = size.and_then(|n| usize::try_from(*n).ok());
        shape[cx.axis(axis, x.len())?] = size.map_or(Dim::Unknown, Dim::Fixed);
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

fn col2im(cx: &Context<'_>) -> Option<ValueType> {
    let (Some(x), Some(image), Some(block)) = (cx.shape(0), cx.ints(1), cx.ints(2)) else {
        return typed(cx.dtype(0), None);
    };
    let [n, rows, _] = x else {
        return typed(cx.dtype(0), None);
    };
    let product = block.iter().try_fold(1usize, |p, &k| {
        usize::try_from(k).ok().and_then(|k| p.checked_mul(k))
    });
    let channels = match (rows.fixed(), product) {
        (Some(rows), Some(k)) if k > 0 => Dim::Fixed(rows / k),
        _ => Dim::Unknown,
    };
    let mut shape = vec![n.clone(), channels];
    let extent = |n: &i64| usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed);
    shape.extend(image.iter().map(extent));
    typed(cx.dtype(0), Some(shape))
}

fn unpooled(cx: &Context<'_>, kernel: &[usize], strides: &[usize], pads: &[usize]) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), None));
    };
    if cx.node.input(2).is_some() {
        let dims = cx.ints(2).map(|list| {
            let dim = |n: &i64| usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed);
            list.iter().map(dim).collect()
        });
        return Ok(typed(cx.dtype(0), dims));
    }
    if x.len() != kernel.len() + 2 {
        return Err(cx.error(format!(
            "{} axes for a window over {}",
            x.len(),
            kernel.len()
        )));
    }
    let window = Window::new(kernel.to_vec(), (strides, &[], pads), AutoPad::NotSet)
        .map_err(|reason| cx.error(reason))?;
    let mut shape = x[..2].to_vec();
    for (i, dim) in x[2..].iter().enumerate() {
        let full = dim.fixed().and_then(|n| {
            let steps = n.checked_sub(1)?.checked_mul(window.strides[i])?;
            let cut = window.pads_begin[i].checked_add(window.pads_end[i])?;
            steps.checked_add(kernel[i])?.checked_sub(cut)
        });
        shape.push(full.map_or(Dim::Unknown, Dim::Fixed));
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}
