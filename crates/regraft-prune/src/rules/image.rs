//! Resampling, sampling at points, blocks of channels.

use regraft_graph::infer::params;
use regraft_graph::op::{CoordinateMode, ImageOp};

use super::{IndexMap, Link, Port, Site, Verdict};

const X: Port = Port::In(0);
const Y: Port = Port::Out(0);

pub(super) fn image(site: &Site<'_>, op: &ImageOp, port: Port, axis: usize) -> Verdict {
    match op {
        ImageOp::Resize(resize) if resize.coordinates == CoordinateMode::TfCropAndResize => {
            site.freeze("cuts a box along its axes")
        }
        ImageOp::Resize(resize) => {
            let sizes = if resize.scales_first { None } else { Some(3) };
            let covered = resize.axes.as_deref();
            resized(site, sizes, covered, (port, axis))
        }
        ImageOp::Upsample { .. } => resized(site, None, None, (port, axis)),
        ImageOp::GridSample { .. } | ImageOp::RoiAlign { .. } => match (port, axis) {
            (X | Y, 1) => Ok(vec![Link::same((X, 1), (Y, 1))]),
            _ => site.freeze("samples points along this axis"),
        },
        ImageOp::DepthToSpace {
            block,
            column_row_depth,
        } => {
            let square = block.saturating_mul(*block);
            let (outer, inner) = if *column_row_depth {
                (1, square)
            } else {
                (square, 1)
            };
            blocks(
                site,
                (Y, X),
                IndexMap::Spread { outer, inner },
                (port, axis),
            )
        }
        ImageOp::SpaceToDepth { block } => {
            let outer = block.saturating_mul(*block);
            blocks(
                site,
                (X, Y),
                IndexMap::Spread { outer, inner: 1 },
                (port, axis),
            )
        }
        ImageOp::AffineGrid { .. }
        | ImageOp::NonMaxSuppression { .. }
        | ImageOp::CenterCropPad { .. }
        | ImageOp::Col2Im { .. }
        | ImageOp::MaxUnpool { .. } => site.freeze("has no rule for channels"),
    }
}

/// An axis that keeps its extent keeps its elements. Where sizes are given, that of the axis must be
/// a number, so that it can be rewritten.
fn resized(
    site: &Site<'_>,
    sizes: Option<usize>,
    covered: Option<&[i64]>,
    (port, axis): (Port, usize),
) -> Verdict {
    if port != X && port != Y {
        return site.freeze("takes a setting from these channels");
    }
    // A scale near 1 may keep the extent and interpolate all the same.
    let changed = params::resized_axes(site.graph, site.facts, site.id);
    if changed.is_some_and(|axes| axes.contains(&axis)) {
        return site.freeze("resizes this axis");
    }
    let (Some(from), Some(to)) = (site.extent(X, axis), site.extent(Y, axis)) else {
        return site.unknown_shape();
    };
    if from != to {
        return site.freeze("resizes this axis");
    }
    let given = sizes.and_then(|p| site.node.input(p));
    if let (Some(given), None) = (given, covered) {
        let known = site.facts.known_ints(given);
        if known.and_then(|list| *list.get(axis)?).is_none() {
            return site.freeze("has a size that is not known before it runs");
        }
    }
    Ok(vec![Link::same((X, axis), (Y, axis))])
}

/// Channels of the finer side are several of the coarser one.
fn blocks(
    site: &Site<'_>,
    (fine, coarse): (Port, Port),
    map: IndexMap,
    (port, axis): (Port, usize),
) -> Verdict {
    match (port, axis) {
        (X | Y, 1) => Ok(vec![Link {
            a: (fine, 1),
            b: (coarse, 1),
            map,
        }]),
        (X | Y, 0) => Ok(vec![Link::same((X, 0), (Y, 0))]),
        _ => site.freeze("moves blocks along this axis"),
    }
}
