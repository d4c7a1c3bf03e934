//! Ops on maps: resampling, sampling at points, rearranging, boxes.

use regraft_graph::Op;
use regraft_graph::op::{
    AspectPolicy, CoordinateMode, ImageOp, Interpolation, NearestMode, Resize, SamplePadding,
};

use crate::attributes::{Content, NodeReader, Refusal, Setting};

const MODES: [(&str, Interpolation); 4] = [
    ("nearest", Interpolation::Nearest),
    ("linear", Interpolation::Linear),
    ("cubic", Interpolation::Cubic),
    // `Upsample` of opset 7 knows this name for two axes.
    ("bilinear", Interpolation::Linear),
];
const OLD_MODES: [(&str, Interpolation); 3] = [
    ("bilinear", Interpolation::Linear),
    ("nearest", Interpolation::Nearest),
    ("bicubic", Interpolation::Cubic),
];
const COORDINATES: [(&str, CoordinateMode); 7] = [
    ("half_pixel", CoordinateMode::HalfPixel),
    ("half_pixel_symmetric", CoordinateMode::HalfPixelSymmetric),
    ("pytorch_half_pixel", CoordinateMode::PytorchHalfPixel),
    ("align_corners", CoordinateMode::AlignCorners),
    ("asymmetric", CoordinateMode::Asymmetric),
    ("tf_crop_and_resize", CoordinateMode::TfCropAndResize),
    ("tf_half_pixel_for_nn", CoordinateMode::TfHalfPixelForNn),
];
const NEAREST: [(&str, NearestMode); 4] = [
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
];
const ASPECT: [(&str, AspectPolicy); 3] = [
    ("stretch", AspectPolicy::Stretch),
    ("not_larger", AspectPolicy::NotLarger),
    ("not_smaller", AspectPolicy::NotSmaller),
];
const PADDING: [(&str, SamplePadding); 3] = [
    ("zeros", SamplePadding::Zeros),
    ("border", SamplePadding::Border),
    ("reflection", SamplePadding::Reflection),
];
const BLOCK_ORDER: [(&str, bool); 2] = [("DCR", false), ("CRD", true)];
const ROI_POOL: [(&str, bool); 2] = [("avg", false), ("max", true)];
const ROI_COORDINATES: [(&str, bool); 2] = [("half_pixel", true), ("output_half_pixel", false)];

/// The operator sets from which on an op has its present form.
const RESIZE: i64 = 11;
const UPSAMPLE_INPUT: i64 = 9;
const GRID_SAMPLE: i64 = 20;
const ROI_ALIGN: i64 = 16;

/// Returns the op, if it is one of this family.
pub(super) fn parse(node: &mut NodeReader) -> Result<Option<Op>, Refusal> {
    let op = match node.node.op_type() {
        "Resize" => ImageOp::Resize(resize(node)?),
        "Upsample" => ImageOp::Upsample {
            mode: node.choice("mode", "nearest", &MODES)?,
            scales: if node.opset < UPSAMPLE_INPUT {
                let scales = node.floats("scales")?;
                Some(scales.ok_or_else(|| node.fault("attribute `scales` is missing"))?)
            } else {
                None
            },
        },
        "GridSample" => grid_sample(node)?,
        "AffineGrid" => ImageOp::AffineGrid {
            align_corners: node.flag("align_corners", false)?,
        },
        "RoiAlign" => roi_align(node)?,
        "NonMaxSuppression" => ImageOp::NonMaxSuppression {
            center_point_box: node.flag("center_point_box", false)?,
        },
        "DepthToSpace" => ImageOp::DepthToSpace {
            block: node.count("blocksize", 0, 1)?,
            column_row_depth: node.choice("mode", "DCR", &BLOCK_ORDER)?,
        },
        "SpaceToDepth" => {
            // Opset 28 spells out the order that was always meant.
            if node.choice("mode", "DCR", &BLOCK_ORDER)? {
                return Err(Refusal::Opaque(
                    "its order of blocks is not modelled".to_owned(),
                ));
            }
            ImageOp::SpaceToDepth {
                block: node.count("blocksize", 0, 1)?,
            }
        }
        "CenterCropPad" => ImageOp::CenterCropPad {
            axes: node.ints("axes")?,
        },
        "Col2Im" => ImageOp::Col2Im {
            dilations: node.extents("dilations", 1)?,
            pads: node.extents("pads", 0)?,
            strides: node.extents("strides", 1)?,
        },
        "MaxUnpool" => ImageOp::MaxUnpool {
            kernel_shape: node.extents("kernel_shape", 1)?,
            strides: node.extents("strides", 1)?,
            pads: node.extents("pads", 0)?,
        },
        _ => return Ok(None),
    };
    Ok(Some(Op::Image(op)))
}

fn resize(node: &mut NodeReader) -> Result<Resize, Refusal> {
    let old = node.opset < RESIZE;
    let (coordinates, nearest) = if old {
        // As the runtimes read opset 10.
        (CoordinateMode::Asymmetric, NearestMode::Floor)
    } else {
        (
            node.choice("coordinate_transformation_mode", "half_pixel", &COORDINATES)?,
            node.choice("nearest_mode", "round_prefer_floor", &NEAREST)?,
        )
    };
    Ok(Resize {
        mode: node.choice("mode", "nearest", &MODES)?,
        coordinates,
        nearest,
        cubic_coeff_a: node
            .float("cubic_coeff_a")?
            .unwrap_or(Resize::CUBIC_COEFF_A),
        exclude_outside: node.flag("exclude_outside", false)?,
        extrapolation_value: node.float("extrapolation_value")?.unwrap_or(0.0),
        antialias: node.flag("antialias", false)?,
        axes: node.ints("axes")?,
        aspect: node.choice("keep_aspect_ratio_policy", "stretch", &ASPECT)?,
        scales_first: old,
    })
}

fn grid_sample(node: &mut NodeReader) -> Result<ImageOp, Refusal> {
    let old_names = node.opset < GRID_SAMPLE;
    Ok(ImageOp::GridSample {
        mode: if old_names {
            node.choice("mode", "bilinear", &OLD_MODES)?
        } else {
            node.choice("mode", "linear", &MODES)?
        },
        padding: node.choice("padding_mode", "zeros", &PADDING)?,
        align_corners: node.flag("align_corners", false)?,
        old_names,
    })
}

fn roi_align(node: &mut NodeReader) -> Result<ImageOp, Refusal> {
    let old_form = node.opset < ROI_ALIGN;
    let name = "coordinate_transformation_mode";
    Ok(ImageOp::RoiAlign {
        max: node.choice("mode", "avg", &ROI_POOL)?,
        half_pixel: !old_form && node.choice(name, "half_pixel", &ROI_COORDINATES)?,
        output_height: node.count("output_height", 1, 1)?,
        output_width: node.count("output_width", 1, 1)?,
        sampling_ratio: node.count("sampling_ratio", 0, 0)?,
        spatial_scale: node.float("spatial_scale")?.unwrap_or(1.0),
        old_form,
    })
}

pub(super) fn emit(op: &ImageOp) -> Vec<Setting> {
    match op {
        ImageOp::Resize(resize) => emit_resize(resize),
        ImageOp::Upsample { mode, scales } => vec![
            Setting::choice("mode", *mode, "nearest", &MODES),
            Setting::optional("scales", scales.clone().map(Content::Floats)),
        ],
        ImageOp::GridSample {
            mode,
            padding,
            align_corners,
            old_names,
        } => vec![
            Setting::flag("align_corners", *align_corners, false),
            if *old_names {
                Setting::choice("mode", *mode, "bilinear", &OLD_MODES)
            } else {
                Setting::choice("mode", *mode, "linear", &MODES)
            },
            Setting::choice("padding_mode", *padding, "zeros", &PADDING),
        ],
        ImageOp::AffineGrid { align_corners } => {
            vec![Setting::flag("align_corners", *align_corners, false)]
        }
        ImageOp::RoiAlign {
            max,
            half_pixel,
            output_height,
            output_width,
            sampling_ratio,
            spatial_scale,
            old_form,
        } => {
            let mut settings = vec![
                Setting::choice("mode", *max, "avg", &ROI_POOL),
                Setting::count("output_height", *output_height, 1),
                Setting::count("output_width", *output_width, 1),
                Setting::count("sampling_ratio", *sampling_ratio, 0),
                Setting::float("spatial_scale", *spatial_scale, 1.0),
            ];
            if !old_form {
                let name = "coordinate_transformation_mode";
                let mode = Setting::choice(name, *half_pixel, "half_pixel", &ROI_COORDINATES);
                settings.push(mode);
            }
            settings
        }
        ImageOp::NonMaxSuppression { center_point_box } => {
            vec![Setting::flag("center_point_box", *center_point_box, false)]
        }
        ImageOp::DepthToSpace {
            block,
            column_row_depth,
        } => vec![
            Setting::count("blocksize", *block, 0),
            Setting::choice("mode", *column_row_depth, "DCR", &BLOCK_ORDER),
        ],
        ImageOp::SpaceToDepth { block } => vec![Setting::count("blocksize", *block, 0)],
        ImageOp::CenterCropPad { axes } => vec![Setting::ints("axes", axes.as_ref())],
        ImageOp::Col2Im {
            dilations,
            pads,
            strides,
        } => vec![
            Setting::extents("dilations", dilations),
            Setting::extents("pads", pads),
            Setting::extents("strides", strides),
        ],
        ImageOp::MaxUnpool {
            kernel_shape,
            strides,
            pads,
        } => vec![
            Setting::extents("kernel_shape", kernel_shape),
            Setting::extents("pads", pads),
            Setting::extents("strides", strides),
        ],
    }
}

fn emit_resize(resize: &Resize) -> Vec<Setting> {
    let mode = Setting::choice("mode", resize.mode, "nearest", &MODES);
    if resize.scales_first {
        return vec![mode];
    }
    let (coordinates, half) = (resize.coordinates, "half_pixel");
    vec![
        Setting::flag("antialias", resize.antialias, false),
        Setting::ints("axes", resize.axes.as_ref()),
        Setting::choice(
            "coordinate_transformation_mode",
            coordinates,
            half,
            &COORDINATES,
        ),
        Setting::float("cubic_coeff_a", resize.cubic_coeff_a, Resize::CUBIC_COEFF_A),
        Setting::flag("exclude_outside", resize.exclude_outside, false),
        Setting::float("extrapolation_value", resize.extrapolation_value, 0.0),
        Setting::choice(
            "keep_aspect_ratio_policy",
            resize.aspect,
            "stretch",
            &ASPECT,
        ),
        mode,
        Setting::choice(
            "nearest_mode",
            resize.nearest,
            "round_prefer_floor",
            &NEAREST,
        ),
    ]
}
