//! Ops that move blocks of a map.

use super::index::required_ints;
use super::windows::{Windows, unfolded};
use super::{Context, Inputs, axis_of};
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::pick::{NOWHERE, flat, for_each_index, pick, pick_float};
use crate::sparse_map::{Rows, map_axis};
use crate::value::{Value, strides};

/// Returns batch, channels, height and width.
fn map_of(shape: &[usize]) -> OpResult<[usize; 4]> {
    match shape {
        [n, c, h, w] => Ok([*n, *c, *h, *w]),
        _ => invalid(format!("{shape:?} is not batch, channels, height, width")),
    }
}

pub(super) fn depth_to_space(block: usize, crd: bool, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let [n, c, h, w] = map_of(&data.shape())?;
    let square = block.checked_mul(block).filter(|s| *s > 0);
    let Some(square) = square.filter(|s| c.is_multiple_of(*s)) else {
        return invalid(format!("{c} channels in blocks of {block}"));
    };
    let depth = c / square;
    // Batch, block row, block column, depth, height, width in either order of channels.
    let moved = if crd {
        data.reshape(&[n, depth, block, block, h, w])
            .permute(&[0, 1, 4, 2, 5, 3])
    } else {
        data.reshape(&[n, block, block, depth, h, w])
            .permute(&[0, 3, 4, 1, 5, 2])
    };
    Ok(moved.reshape(&[n, depth, h * block, w * block]))
}

pub(super) fn space_to_depth(block: usize, inputs: &mut Inputs) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let [n, c, h, w] = map_of(&data.shape())?;
    if block == 0 || !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return invalid(format!("{h} x {w} in blocks of {block}"));
    }
    Ok(data
        .reshape(&[n, c, h / block, block, w / block, block])
        .permute(&[0, 3, 5, 1, 2, 4])
        .reshape(&[n, c * block * block, h / block, w / block]))
}

pub(super) fn center_crop_pad(
    axes: Option<&[i64]>,
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Value> {
    let data = inputs.value(0)?;
    let sizes = required_ints(inputs, 1)?;
    let shape = data.shape();
    let axes: Vec<usize> = match axes {
        Some(axes) => axes
            .iter()
            .map(|&a| axis_of(a, shape.len()))
            .collect::<OpResult<_>>()?,
        None => (0..shape.len()).collect(),
    };
    if sizes.data.len() != axes.len() {
        return invalid(format!(
            "{} sizes for {} axes",
            sizes.data.len(),
            axes.len()
        ));
    }
    let mut out = shape.clone();
    for (&axis, &size) in axes.iter().zip(sizes.data.iter()) {
        let Ok(size) = usize::try_from(size) else {
            return invalid(format!("a size of {size}"));
        };
        out[axis] = size;
    }
    let total = context.check_size(&out)?;
    let own = strides(&shape);
    let mut places = Vec::with_capacity(total);
    let mut source = vec![0; shape.len()];
    for_each_index(&out, |index| {
        let inside = (0..shape.len()).all(|axis| {
            // What does not halve lies at the end: both cuts and borders round down at the begin.
            let at = if out[axis] > shape[axis] {
                index[axis].checked_sub((out[axis] - shape[axis]) / 2)
            } else {
                Some(index[axis] + (shape[axis] - out[axis]) / 2)
            };
            source[axis] = at.unwrap_or(usize::MAX);
            source[axis] < shape[axis]
        });
        places.push(if inside { flat(&source, &own) } else { NOWHERE });
    });
    Ok(pick(data, out, places))
}

fn extents(list: &[i64]) -> OpResult<Vec<usize>> {
    let extent = |&n: &i64| match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => invalid(format!("an extent of {n} in {list:?}")),
    };
    list.iter().map(extent).collect()
}

pub(super) fn col2im(
    [strides, dilations, pads]: [&[usize]; 3],
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let image = extents(&required_ints(inputs, 1)?.data)?;
    let block = extents(&required_ints(inputs, 2)?.data)?;
    let shape = x.shape();
    let block_len = context.check_size(&block)?;
    let [n, rows_in, columns] = shape[..] else {
        return invalid(format!("{shape:?} is not batch, rows, columns"));
    };
    if block_len == 0 || !rows_in.is_multiple_of(block_len) {
        return invalid(format!("{rows_in} rows in blocks of {block_len}"));
    }
    let channels = rows_in / block_len;
    let mut out = vec![n, channels];
    out.extend_from_slice(&image);
    context.check_size(&out)?;
    let windows = Windows::new(&block, [strides, dilations, pads], &image)?;
    let steps: usize = windows.counts(false)?.iter().product();
    if steps != columns {
        return invalid(format!("{columns} columns for {steps} windows"));
    }
    // Each element of the image sums the places of all blocks that lie on it.
    let mut sources = vec![Vec::new(); image.iter().product()];
    unfolded(&windows, |step, tap, place| {
        if let Some(place) = place {
            sources[place].push(tap * columns + step);
        }
    })?;
    let mut rows = Rows::default();
    for source in sources {
        for column in source {
            rows.push(column, 1.0);
        }
        rows.end_row();
    }
    let flat = x.reshape(&[n, channels, block_len * columns]);
    Ok(map_axis(flat, 2, rows).reshape(&out))
}

pub(super) fn max_unpool(
    [kernel, strides, pads]: [&[usize]; 3],
    inputs: &mut Inputs,
    context: &Context,
) -> OpResult<Float> {
    let x = inputs.float(0)?;
    let indices = required_ints(inputs, 1)?;
    let shape = x.shape();
    if indices.shape != shape || shape.len() != kernel.len() + 2 {
        return invalid(format!("indices {:?} for {shape:?}", indices.shape));
    }
    let mut implied = shape.clone();
    for (i, &extent) in kernel.iter().enumerate() {
        let stride = strides.get(i).copied().unwrap_or(1);
        let begin = pads.get(i).copied().unwrap_or(0);
        let end = pads.get(i + kernel.len()).copied().unwrap_or(0);
        let full = (shape[i + 2].saturating_sub(1))
            .saturating_mul(stride)
            .saturating_add(extent);
        implied[i + 2] = full.saturating_sub(begin.saturating_add(end));
    }
    let out = match inputs.ints(2)? {
        Some(list) => extents(&list.data)?,
        None => implied.clone(),
    };
    let (total, small) = (context.check_size(&out)?, context.check_size(&implied)?);
    if out.len() != shape.len() {
        return invalid(format!("an output of {out:?} for {shape:?}"));
    }
    // Indices count in the map that was pooled; a larger output has it at the begin.
    let (own, target) = (crate::value::strides(&implied), crate::value::strides(&out));
    let mut places = vec![NOWHERE; total];
    for (i, &index) in indices.data.iter().enumerate() {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        if place >= small {
            return invalid(format!("index {index} of {small} elements"));
        }
        let at: Vec<usize> = (0..out.len())
            .map(|a| place / own[a] % implied[a])
            .collect();
        if at.iter().zip(&out).all(|(i, n)| i < n) {
            places[flat(&at, &target)] = i;
        }
    }
    Ok(pick_float(x, out, places))
}
