//! Options of `reshape share` and `reshape tie`.

use clap::{Args, ValueEnum};
use regraft::{FormName, ReshapeStep, ScopeName, ShareStep, TieStep, WeightingName};

use super::reshape::{EditOptions, LayerOptions};

/// Weights as entries of codebooks, with the bytes of each stage of coding.
///
/// Weights that are zero stay zero. The bytes told are those of a stream that can be read back: codebooks,
/// indices and distances between weights in Huffman codes (Deep Compression).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape share sparse.onnx --data mnist/ --bits 4 -o shared.onnx
  regraft reshape share sparse.onnx --data mnist/ --max-error 1e-3 --form gather")]
pub(crate) struct ShareArgs {
    #[command(flatten)]
    pub(super) edit: EditOptions,
    /// Bits of an index: two to this power entries a codebook, 1 to 12 [default: 4]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "max_error",
        help_heading = "Edit"
    )]
    bits: Option<u32>,
    /// As few bits as keep each layer's squared error, relative to its energy, below this
    #[arg(long, value_name = "ERROR", help_heading = "Edit")]
    max_error: Option<f64>,
    /// Who shares a codebook [default: layer]
    #[arg(long, value_name = "WHO", help_heading = "Edit")]
    scope: Option<Scope>,
    /// What an error of a weight costs [default: gram]
    #[arg(long, value_name = "HOW", help_heading = "Edit")]
    weighting: Option<Weighting>,
    /// How shared weights are written [default: values]
    #[arg(long, value_name = "HOW", help_heading = "Edit")]
    form: Option<Form>,
    #[command(flatten)]
    layers: LayerOptions,
}

impl ShareArgs {
    /// Returns the edit.
    pub(super) fn step(&self) -> ReshapeStep {
        ReshapeStep::Share(ShareStep {
            bits: self.bits,
            max_error: self.max_error,
            scope: self.scope.map_or(ScopeName::Layer, Into::into),
            weighting: self.weighting.map_or(WeightingName::Gram, Into::into),
            form: self.form.map_or(FormName::Values, Into::into),
            layers: self.layers.layers(),
        })
    }
}

/// Layers that read one tensor, or convolutions of few kernels.
///
/// Layers of one kind and shape are joined as long as the error of each stays below the limit; the others are
/// then rebuilt around them. With --kernels each convolution keeps that many different kernels, which comes
/// after the rebuild.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  regraft reshape tie bert.onnx --data sentences.npz --max-error 0.05 -o tied.onnx
  regraft reshape tie resnet20.onnx --data cifar10/ --kernels 64 --form gather")]
pub(crate) struct TieArgs {
    #[command(flatten)]
    pub(super) edit: EditOptions,
    /// The largest squared error of a layer relative to its energy [default: 0.01]
    #[arg(
        long,
        value_name = "ERROR",
        conflicts_with = "kernels",
        help_heading = "Edit"
    )]
    max_error: Option<f64>,
    /// Different kernels that each convolution keeps, 1 to 65,536
    #[arg(long, value_name = "N", help_heading = "Edit")]
    kernels: Option<usize>,
    /// How shared kernels are written [default: values]
    #[arg(long, value_name = "HOW", requires = "kernels", help_heading = "Edit")]
    form: Option<Form>,
    #[command(flatten)]
    layers: LayerOptions,
}

impl TieArgs {
    /// Returns the edit.
    pub(super) fn step(&self) -> ReshapeStep {
        ReshapeStep::Tie(TieStep {
            max_error: self.max_error,
            kernels: self.kernels,
            form: self.form.map_or(FormName::Values, Into::into),
            layers: self.layers.layers(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// The weights of each layer
    Layer,
    /// Those of all layers
    Network,
}

impl From<Scope> for ScopeName {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Layer => Self::Layer,
            Scope::Network => Self::Network,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Weighting {
    /// Its square
    Plain,
    /// Its square times the mean square of what it multiplies
    Curvature,
    /// What it does to the layer's output together with all others
    Gram,
}

impl From<Weighting> for WeightingName {
    fn from(weighting: Weighting) -> Self {
        match weighting {
            Weighting::Plain => Self::Plain,
            Weighting::Curvature => Self::Curvature,
            Weighting::Gram => Self::Gram,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// As floats
    Values,
    /// As a codebook and small indices
    Gather,
}

impl From<Form> for FormName {
    fn from(form: Form) -> Self {
        match form {
            Form::Values => Self::Values,
            Form::Gather => Self::Gather,
        }
    }
}
