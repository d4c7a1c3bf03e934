//! Attributes of pooling.

/// How the padding of a window op is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AutoPad {
    /// The explicit `pads`.
    #[default]
    NotSet,
    /// Output extent is the input extent over the stride, rounded up; odd padding at the end.
    SameUpper,
    /// As `SameUpper`, odd padding at the begin.
    SameLower,
    /// No padding.
    Valid,
}

impl AutoPad {
    /// Returns what of `total` padding goes before the first element, and what after the last: of
    /// an odd number more after it for [`AutoPad::SameUpper`], more before it for the others.
    pub fn split(self, total: usize) -> [usize; 2] {
        let (small, large) = (total / 2, total - total / 2);
        match self {
            Self::SameUpper => [small, large],
            Self::NotSet | Self::SameLower | Self::Valid => [large, small],
        }
    }

    /// Returns the padding with which windows over `reach` elements, one at each `stride`-th of
    /// `input` elements, fit; `stride` is not 0.
    pub fn same_total(input: usize, stride: usize, reach: usize) -> usize {
        let steps = input.div_ceil(stride).saturating_sub(1);
        let covered = steps.saturating_mul(stride).saturating_add(reach);
        covered.saturating_sub(input)
    }
}

/// What a window is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean.
    Average {
        /// True if padding counts as elements.
        count_include_pad: bool,
    },
    /// The p-th root of the sum of p-th powers.
    Lp {
        /// The exponent, at least 1.
        p: u32,
    },
}

/// Attributes of a window pooling. Lists are empty where the file leaves them out.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Max or average.
    pub kind: PoolKind,
    /// Window extents.
    pub kernel_shape: Vec<usize>,
    /// Strides; empty: 1.
    pub strides: Vec<usize>,
    /// Dilations; empty: 1.
    pub dilations: Vec<usize>,
    /// Padding at the begin of each spatial axis, then at the end; empty: 0.
    pub pads: Vec<usize>,
    /// How padding is found.
    pub auto_pad: AutoPad,
    /// True if a window that starts inside but ends outside still counts.
    pub ceil_mode: bool,
}

impl Pool {
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Average { .. } => "AveragePool",
            PoolKind::Lp { .. } => "LpPool",
        }
    }
}

/// Pooling over all spatial axes, which stay with extent 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalPool {
    /// The mean.
    Average,
    /// The largest element.
    Max,
    /// The p-th root of the sum of p-th powers.
    Lp {
        /// The exponent, at least 1.
        p: u32,
    },
}

impl GlobalPool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Average => "GlobalAveragePool",
            Self::Max => "GlobalMaxPool",
            Self::Lp { .. } => "GlobalLpPool",
        }
    }
}
