//! Architectures that have a name.

use super::{Architecture, Cell, ConvLayer, Layer, Nonlinearity, PoolLayer, RecurrentLayer};
use crate::TrainError;

/// The names, for a message; `resnet20` stands for all depths 6n + 2.
pub const NAMES: [&str; 6] = [
    "lenet5",
    "mlp",
    "resnet20",
    "gru",
    "lstm",
    "transformer-tiny",
];

const DEFAULT_CLASSES: usize = 10;
/// Of `LeCun` et al. 1998, section III.C.4.
const DEFAULT_WIDTHS: [usize; 2] = [300, 100];
const DEFAULT_HIDDEN: usize = 128;
const DEFAULT_MODEL_WIDTH: usize = 64;
const DEFAULT_BLOCKS: usize = 2;
/// Features of one head of a transformer.
const HEAD: usize = 16;
/// Height and width of the squares that images are cut into.
const PATCH: usize = 4;
/// Layers of a list; more are a slip of the keyboard.
const MAX_LAYERS: usize = 1000;

/// What may be chosen of a named architecture; left out, its own default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedOptions {
    /// Classes, 10 by default.
    pub classes: Option<usize>,
    /// Extents of one sample.
    pub input: Option<Vec<usize>>,
    /// Hidden widths of `mlp`.
    pub widths: Option<Vec<usize>>,
    /// Hidden units of `gru` and `lstm`, features of `transformer-tiny`.
    pub hidden: Option<usize>,
    /// Recurrent layers, or blocks of `transformer-tiny`.
    pub layers: Option<usize>,
    /// True if `gru` and `lstm` also read backwards.
    pub bidirectional: bool,
}

/// Returns the layers of a named architecture.
///
/// # Errors
/// [`TrainError::UnknownArchitecture`]; [`TrainError::Inapplicable`] for an option that the
/// architecture does not have; [`TrainError::Architecture`] for a sample of a wrong kind.
pub fn named(name: &str, options: &NamedOptions) -> Result<Architecture, TrainError> {
    match name {
        "lenet5" => {
            options.only(name, &[])?;
            Ok(options.with(options.image([1, 28, 28]), lenet5()))
        }
        "mlp" => {
            options.only(name, &["widths"])?;
            Ok(options.with(options.image([1, 28, 28]), mlp(options)))
        }
        "gru" | "lstm" => {
            options.only(name, &["hidden", "layers", "bidirectional"])?;
            let cell = if name == "gru" { Cell::Gru } else { Cell::Lstm };
            Ok(options.with(options.sample(name)?, recurrent(options, cell)?))
        }
        "transformer-tiny" => {
            options.only(name, &["hidden", "layers"])?;
            let input = options.sample(name)?;
            let layers = transformer(options, input.len() == 3)?;
            Ok(options.with(input, layers))
        }
        _ => {
            let depth = name.strip_prefix("resnet").and_then(|d| d.parse().ok());
            let blocks = depth.and_then(blocks_of);
            let blocks = blocks.ok_or_else(|| TrainError::UnknownArchitecture {
                name: name.to_owned(),
            })?;
            options.only(name, &[])?;
            Ok(options.with(options.image([3, 32, 32]), resnet(blocks)))
        }
    }
}

/// Returns the blocks of a stage of a network 6n + 2 deep.
fn blocks_of(depth: usize) -> Option<usize> {
    let n = depth.checked_sub(2)? / 6;
    (n >= 1 && 6 * n + 2 == depth && n <= MAX_LAYERS).then_some(n)
}

impl NamedOptions {
    /// Refuses options that are given and not among `takes`.
    fn only(&self, name: &str, takes: &[&'static str]) -> Result<(), TrainError> {
        let given = [
            ("widths", self.widths.is_some()),
            ("hidden", self.hidden.is_some()),
            ("layers", self.layers.is_some()),
            ("bidirectional", self.bidirectional),
        ];
        let wrong = given.iter().find(|(o, g)| *g && !takes.contains(o));
        match wrong {
            None => Ok(()),
            Some((option, _)) => Err(TrainError::Inapplicable {
                option,
                name: name.to_owned(),
                takes: [&["classes", "input"], takes].concat(),
            }),
        }
    }

    fn image(&self, default: [usize; 3]) -> Vec<usize> {
        self.input.clone().unwrap_or_else(|| default.to_vec())
    }

    /// Returns the extents of a sample where no default would make sense.
    fn sample(&self, name: &str) -> Result<Vec<usize>, TrainError> {
        self.input.clone().ok_or_else(|| TrainError::Architecture {
            reason: format!(
                "`{name}` needs an `input`: the extents of a sample, steps x features, such as 48x40"
            ),
        })
    }

    fn layers(&self, default: usize) -> Result<usize, TrainError> {
        match self.layers.unwrap_or(default) {
            n if (1..=MAX_LAYERS).contains(&n) => Ok(n),
            n => Err(TrainError::Architecture {
                reason: format!("{n} layers are not from 1 to {MAX_LAYERS}"),
            }),
        }
    }

    /// Returns the architecture with a linear layer to the classes behind.
    fn with(&self, input: Vec<usize>, mut layers: Vec<Layer>) -> Architecture {
        layers.push(linear(self.classes.unwrap_or(DEFAULT_CLASSES)));
        Architecture { input, layers }
    }
}

const RELU: Layer = Layer::Activation(Nonlinearity::Relu);

fn linear(out: usize) -> Layer {
    Layer::Linear { out, bias: true }
}

/// LeNet-5 as Caffe's examples have it: 431,080 parameters for ten classes of 1x28x28.
fn lenet5() -> Vec<Layer> {
    let conv = |out| Layer::Conv(ConvLayer::new(out, 5));
    let pool = Layer::Pool(PoolLayer {
        max: true,
        kernel: 2,
        stride: None,
        padding: 0,
    });
    vec![
        conv(20),
        pool.clone(),
        conv(50),
        pool,
        Layer::Flatten,
        linear(500),
        RELU,
    ]
}

fn mlp(options: &NamedOptions) -> Vec<Layer> {
    let widths = options.widths.clone();
    let widths = widths.unwrap_or_else(|| DEFAULT_WIDTHS.to_vec());
    let hidden = widths.into_iter().flat_map(|w| [linear(w), RELU]);
    std::iter::once(Layer::Flatten).chain(hidden).collect()
}

/// The networks of He et al., CVPR 2016, section 4.2, with projections where the width doubles.
fn resnet(blocks: usize) -> Vec<Layer> {
    let conv = |out, stride| {
        Layer::Conv(ConvLayer {
            stride,
            padding: 1,
            ..ConvLayer::new(out, 3)
        })
    };
    let mut layers = vec![conv(16, 1), Layer::BatchNorm, RELU];
    for (stage, out) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            layers.push(Layer::Residual(vec![
                conv(out, stride),
                Layer::BatchNorm,
                RELU,
                conv(out, 1),
                Layer::BatchNorm,
            ]));
            layers.push(RELU);
        }
    }
    layers.extend([Layer::GlobalAvgPool, Layer::Flatten]);
    layers
}

fn recurrent(options: &NamedOptions, cell: Cell) -> Result<Vec<Layer>, TrainError> {
    let n = options.layers(1)?;
    let layer = |i| {
        Layer::Recurrent(RecurrentLayer {
            cell,
            hidden: options.hidden.unwrap_or(DEFAULT_HIDDEN),
            last: i + 1 == n,
            bidirectional: options.bidirectional,
        })
    };
    Ok((0..n).map(layer).collect())
}

/// An encoder with the normalisation before each part (Xiong et al., ICML 2020), the mean over all
/// steps before the classes. Images are cut into squares of 4x4.
fn transformer(options: &NamedOptions, image: bool) -> Result<Vec<Layer>, TrainError> {
    let width = options.hidden.unwrap_or(DEFAULT_MODEL_WIDTH);
    if width == 0 || !width.is_multiple_of(HEAD) {
        return Err(TrainError::Architecture {
            reason: format!("{width} features are no multiple of the {HEAD} of a head"),
        });
    }
    let first = if image {
        Layer::Patches {
            out: width,
            size: PATCH,
        }
    } else {
        linear(width)
    };
    let mut layers = vec![first, Layer::Positions];
    for _ in 0..options.layers(DEFAULT_BLOCKS)? {
        layers.push(Layer::Residual(vec![
            Layer::LayerNorm,
            Layer::Attention {
                heads: width / HEAD,
            },
        ]));
        layers.push(Layer::Residual(vec![
            Layer::LayerNorm,
            linear(width.saturating_mul(4)),
            Layer::Activation(Nonlinearity::Gelu),
            linear(width),
        ]));
    }
    layers.extend([Layer::LayerNorm, Layer::GlobalAvgPool]);
    Ok(layers)
}
