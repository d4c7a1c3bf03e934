//! Networks from nothing: a list of layers becomes a graph with fresh weights.
//!
//! [`named`] gives the layers of a known architecture, [`build`] makes the graph of any list. A layer
//! is checked against the shape that arrives at it; the same layers and seed give the same weights.
//! How they are drawn is in `init`.

mod block;
mod builder;
mod init;
mod layers;
mod named;
mod sequence;
#[cfg(test)]
mod tests;

pub use builder::{Built, LayerRow, MAX_PARAMS, build};
pub use named::{NAMES, NamedOptions, named};

/// A network as a list of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Extents of one sample: `[channels, height, width]` of an image, `[steps, features]` of a
    /// sequence, `[features]` of a row.
    pub input: Vec<usize>,
    /// What follows one another.
    pub layers: Vec<Layer>,
}

/// One layer. Shapes are those of one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Convolution of an image.
    Conv(ConvLayer),
    /// Batch normalisation of channels or features (Ioffe and Szegedy, ICML 2015).
    BatchNorm,
    /// Layer normalisation of the last axis (Ba et al. 2016).
    LayerNorm,
    /// A function of each element.
    Activation(Nonlinearity),
    /// The largest element, or the mean, of windows of an image.
    Pool(PoolLayer),
    /// The mean of each channel of an image (`[c, h, w]` to `[c, 1, 1]`), or of each feature over all
    /// steps (`[steps, features]` to `[features]`).
    GlobalAvgPool,
    /// All elements in one row.
    Flatten,
    /// A linear layer of a row, or of each step of a sequence.
    Linear {
        /// Features that come out.
        out: usize,
        /// True if a number is added to each.
        bias: bool,
    },
    /// A recurrent layer over the steps of a sequence.
    Recurrent(RecurrentLayer),
    /// Self-attention over the steps of a sequence, with projections of queries, keys, values and
    /// the result (Vaswani et al., 2017, section 3.2).
    Attention {
        /// The number of heads; the features are shared between them.
        heads: usize,
    },
    /// A learned vector added to each step of a sequence.
    Positions,
    /// An image cut into squares, each a step of a sequence (Dosovitskiy et al., ICLR 2021).
    Patches {
        /// Features of a step.
        out: usize,
        /// Height and width of a square.
        size: usize,
    },
    /// Layers whose result is added to what they were given, through a projection where shapes
    /// differ (He et al., CVPR 2016, shortcut B).
    Residual(Vec<Layer>),
}

/// A convolution with square windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvLayer {
    /// Channels that come out.
    pub out: usize,
    /// Height and width of the window.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Zeros around the image on each side.
    pub padding: usize,
    /// Groups that the channels are split into.
    pub groups: usize,
    /// True if a number is added to each channel; `None`: unless a batch normalisation follows.
    pub bias: Option<bool>,
}

impl ConvLayer {
    /// Returns a convolution with stride 1, no padding and one group.
    pub fn new(out: usize, kernel: usize) -> Self {
        Self {
            out,
            kernel,
            stride: 1,
            padding: 0,
            groups: 1,
            bias: None,
        }
    }
}

/// A function of each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonlinearity {
    /// `max(x, 0)`.
    Relu,
    /// Gaussian error linear unit.
    Gelu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// `x · sigmoid(x)`.
    Silu,
}

/// Pooling over square windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLayer {
    /// True for the largest element, false for the mean.
    pub max: bool,
    /// Height and width of the window.
    pub kernel: usize,
    /// Distance between windows; `None`: the window's width.
    pub stride: Option<usize>,
    /// Border on each side; it does not count in a mean.
    pub padding: usize,
}

/// Which cell a recurrent layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Gated recurrent unit (Cho et al., EMNLP 2014), the reset gate behind the product.
    Gru,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000).
    Lstm,
}

/// A recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentLayer {
    /// The cell.
    pub cell: Cell,
    /// Hidden units of a direction.
    pub hidden: usize,
    /// True if only the state after the last step comes out, false for one a step.
    pub last: bool,
    /// True if the sequence is also read backwards, both results side by side.
    pub bidirectional: bool,
}

impl Layer {
    /// Returns the word that a layer is called by in messages and files.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv(_) => "conv",
            Self::BatchNorm => "batch-norm",
            Self::LayerNorm => "layer-norm",
            Self::Activation(Nonlinearity::Relu) => "relu",
            Self::Activation(Nonlinearity::Gelu) => "gelu",
            Self::Activation(Nonlinearity::Tanh) => "tanh",
            Self::Activation(Nonlinearity::Sigmoid) => "sigmoid",
            Self::Activation(Nonlinearity::Silu) => "silu",
            Self::Pool(PoolLayer { max: true, .. }) => "max-pool",
            Self::Pool(PoolLayer { max: false, .. }) => "avg-pool",
            Self::GlobalAvgPool => "global-avg-pool",
            Self::Flatten => "flatten",
            Self::Linear { .. } => "linear",
            Self::Recurrent(RecurrentLayer { cell, .. }) => match cell {
                Cell::Gru => "gru",
                Cell::Lstm => "lstm",
            },
            Self::Attention { .. } => "attention",
            Self::Positions => "positions",
            Self::Patches { .. } => "patches",
            Self::Residual(_) => "residual",
        }
    }
}
