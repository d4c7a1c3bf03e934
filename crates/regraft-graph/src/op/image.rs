//! Attributes of ops on maps: resampling, sampling at points, rearranging, boxes.

/// How new elements come from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest element.
    Nearest,
    /// Straight lines between neighbours.
    Linear,
    /// Cubic convolution over four neighbours.
    Cubic,
}

/// Which neighbour is the nearest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearestMode {
    /// The closer one, the lower at a tie.
    RoundPreferFloor,
    /// The closer one, the higher at a tie.
    RoundPreferCeil,
    /// The lower one.
    Floor,
    /// The higher one.
    Ceil,
}

/// Which place of the input a place of the output stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinateMode {
    /// Elements are cells, compared by their centres.
    HalfPixel,
    /// As `HalfPixel`, with the middle of the output kept on the middle of the input.
    HalfPixelSymmetric,
    /// As `HalfPixel`, the single element of an output of extent 1 at the begin.
    PytorchHalfPixel,
    /// First on first, last on last.
    AlignCorners,
    /// First on first.
    Asymmetric,
    /// A box of the input, in input 1.
    TfCropAndResize,
    /// Half a cell to the right (opset 11).
    TfHalfPixelForNn,
}

/// Whether sizes are taken as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AspectPolicy {
    /// They are.
    Stretch,
    /// One scale for all axes, nothing larger than asked for.
    NotLarger,
    /// One scale for all axes, nothing smaller than asked for.
    NotSmaller,
}

/// Attributes of `Resize`; inputs X, roi, scales, sizes (opset 10: X, scales).
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// How elements are made.
    pub mode: Interpolation,
    /// Where they lie.
    pub coordinates: CoordinateMode,
    /// For [`Interpolation::Nearest`].
    pub nearest: NearestMode,
    /// The coefficient of cubic convolution.
    pub cubic_coeff_a: f32,
    /// True if what lies outside has no weight, else the edge is repeated.
    pub exclude_outside: bool,
    /// What lies outside of the box of [`CoordinateMode::TfCropAndResize`].
    pub extrapolation_value: f32,
    /// True if the kernel grows where the map shrinks.
    pub antialias: bool,
    /// The axes that scales, sizes and roi are for; `None` is all.
    pub axes: Option<Vec<i64>>,
    /// Whether sizes keep the ratio of extents.
    pub aspect: AspectPolicy,
    /// True in the form of opset 10: input 1 holds the scales.
    pub scales_first: bool,
}

impl Resize {
    /// The coefficient of cubic convolution where none is given.
    pub const CUBIC_COEFF_A: f32 = -0.75;
}

/// What the format takes where a node says nothing.
impl Default for Resize {
    fn default() -> Self {
        Self {
            mode: Interpolation::Nearest,
            coordinates: CoordinateMode::HalfPixel,
            nearest: NearestMode::RoundPreferFloor,
            cubic_coeff_a: Self::CUBIC_COEFF_A,
            exclude_outside: false,
            extrapolation_value: 0.0,
            antialias: false,
            axes: None,
            aspect: AspectPolicy::Stretch,
            scales_first: false,
        }
    }
}

/// What a sampled point outside of the map is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplePadding {
    /// Zero.
    Zeros,
    /// The edge.
    Border,
    /// The mirror image.
    Reflection,
}

/// An op on maps.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageOp {
    /// Other extents by interpolation.
    Resize(Resize),
    /// `Resize` of old, scales from the attribute or input 1.
    Upsample {
        /// How elements are made.
        mode: Interpolation,
        /// The scales in the attribute form, before opset 9.
        scales: Option<Vec<f32>>,
    },
    /// Elements at given points, coordinates from -1 to 1; inputs X, grid.
    GridSample {
        /// How elements are made.
        mode: Interpolation,
        /// What lies outside.
        padding: SamplePadding,
        /// True if -1 and 1 are the centres of the corner elements, else their outer edges.
        align_corners: bool,
        /// True if the file uses the names of opset 16 (`bilinear`, `bicubic`).
        old_names: bool,
    },
    /// The points that an affine map sends a grid to; inputs theta, size.
    AffineGrid {
        /// As for `GridSample`.
        align_corners: bool,
    },
    /// A fixed number of bins over each box; inputs X, boxes, batch index of each box.
    RoiAlign {
        /// True if the largest sample of a bin counts, else the mean.
        max: bool,
        /// True if boxes are half an element further to the begin.
        half_pixel: bool,
        /// Bins along the height.
        output_height: usize,
        /// Bins along the width.
        output_width: usize,
        /// Samples along each side of a bin; 0: as many as elements.
        sampling_ratio: usize,
        /// From coordinates of boxes to elements.
        spatial_scale: f32,
        /// True for the form before opset 16, without `half_pixel`.
        old_form: bool,
    },
    /// The boxes that stay; inputs boxes, scores, optional limit, overlap and score thresholds.
    NonMaxSuppression {
        /// True if boxes are centre and extents, else two corners.
        center_point_box: bool,
    },
    /// Blocks of channels to blocks of positions.
    DepthToSpace {
        /// Side of a block.
        block: usize,
        /// True if channels are counted before blocks.
        column_row_depth: bool,
    },
    /// Blocks of positions to channels.
    SpaceToDepth {
        /// Side of a block.
        block: usize,
    },
    /// Cuts or pads around the centre; inputs X, shape.
    CenterCropPad {
        /// The axes, may be negative; `None` is all.
        axes: Option<Vec<i64>>,
    },
    /// Sums of overlapping blocks; inputs columns, extents of the image, extents of a block.
    Col2Im {
        /// Dilations; empty: 1.
        dilations: Vec<usize>,
        /// Padding at the begin of each spatial axis, then at the end; empty: 0.
        pads: Vec<usize>,
        /// Strides; empty: 1.
        strides: Vec<usize>,
    },
    /// Places what `MaxPool` found back; inputs X, indices, optional shape.
    MaxUnpool {
        /// Window extents.
        kernel_shape: Vec<usize>,
        /// Strides; empty: 1.
        strides: Vec<usize>,
        /// Padding at the begin of each spatial axis, then at the end; empty: 0.
        pads: Vec<usize>,
    },
}

impl ImageOp {
    /// Returns the operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Resize(_) => "Resize",
            Self::Upsample { .. } => "Upsample",
            Self::GridSample { .. } => "GridSample",
            Self::AffineGrid { .. } => "AffineGrid",
            Self::RoiAlign { .. } => "RoiAlign",
            Self::NonMaxSuppression { .. } => "NonMaxSuppression",
            Self::DepthToSpace { .. } => "DepthToSpace",
            Self::SpaceToDepth { .. } => "SpaceToDepth",
            Self::CenterCropPad { .. } => "CenterCropPad",
            Self::Col2Im { .. } => "Col2Im",
            Self::MaxUnpool { .. } => "MaxUnpool",
        }
    }
}
