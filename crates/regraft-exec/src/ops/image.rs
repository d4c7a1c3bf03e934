//! Ops on maps, each in the file of what it does.

use regraft_graph::op::ImageOp;

use super::sample::{Bins, Sampling};
use super::{Context, Inputs, boxes, rearrange, resize, sample};
use crate::error::OpResult;
use crate::value::Value;

pub(super) fn run(op: &ImageOp, inputs: &mut Inputs, context: &Context) -> OpResult<Value> {
    match op {
        ImageOp::Resize(resize) => resize::resize(resize, inputs, context),
        ImageOp::Upsample { mode, scales } => {
            resize::upsample(*mode, scales.as_deref(), inputs, context)
        }
        ImageOp::GridSample {
            mode,
            padding,
            align_corners,
            ..
        } => {
            let sampling = Sampling {
                mode: *mode,
                padding: *padding,
                align_corners: *align_corners,
            };
            sample::grid_sample(sampling, inputs, context).map(Value::Float)
        }
        ImageOp::AffineGrid { align_corners } => {
            sample::affine_grid(*align_corners, inputs, context).map(Value::Float)
        }
        ImageOp::RoiAlign {
            max,
            half_pixel,
            output_height,
            output_width,
            sampling_ratio,
            spatial_scale,
            ..
        } => {
            let bins = Bins {
                max: *max,
                half_pixel: *half_pixel,
                n_hw: [*output_height, *output_width],
                sampling_ratio: *sampling_ratio,
                spatial_scale: *spatial_scale,
            };
            sample::roi_align(bins, inputs, context).map(Value::Float)
        }
        ImageOp::NonMaxSuppression { center_point_box } => {
            boxes::non_max_suppression(*center_point_box, inputs)
        }
        ImageOp::DepthToSpace {
            block,
            column_row_depth,
        } => rearrange::depth_to_space(*block, *column_row_depth, inputs),
        ImageOp::SpaceToDepth { block } => rearrange::space_to_depth(*block, inputs),
        ImageOp::CenterCropPad { axes } => {
            rearrange::center_crop_pad(axes.as_deref(), inputs, context)
        }
        ImageOp::Col2Im {
            dilations,
            pads,
            strides,
        } => rearrange::col2im([strides, dilations, pads], inputs, context).map(Value::Float),
        ImageOp::MaxUnpool {
            kernel_shape,
            strides,
            pads,
        } => {
            rearrange::max_unpool([kernel_shape, strides, pads], inputs, context).map(Value::Float)
        }
    }
}
