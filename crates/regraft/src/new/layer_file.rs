//! A network as a strict TOML file of layers.

use regraft_train::new::{
    Architecture, Cell, ConvLayer, Layer, Nonlinearity, PoolLayer, RecurrentLayer,
};
use serde::Deserialize;
use toml::{Table, Value};

use crate::Error;

/// Deeper nesting is refused before it is read.
const MAX_DEPTH: usize = 8;

/// What every refusal of a layer ends with.
const KINDS: &str = "docs/networks.md lists the kinds of layers and their keys";

/// A list of layers as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFile {
    /// Extents of one sample.
    input: Vec<usize>,
    /// Read one by one, so that an error can say which.
    #[serde(default)]
    layer: Vec<Table>,
}

/// One layer as it is written.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Spelling {
    Conv {
        out: usize,
        kernel: usize,
        #[serde(default = "one")]
        stride: usize,
        #[serde(default)]
        padding: usize,
        #[serde(default = "one")]
        groups: usize,
        bias: Option<bool>,
    },
    BatchNorm {},
    LayerNorm {},
    Relu {},
    Gelu {},
    Tanh {},
    Sigmoid {},
    Silu {},
    MaxPool(Windows),
    AvgPool(Windows),
    GlobalAvgPool {},
    Flatten {},
    Linear {
        out: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    Gru(States),
    Lstm(States),
    Attention {
        heads: usize,
    },
    Positions {},
    Patches {
        out: usize,
        size: usize,
    },
    Residual {
        layers: Vec<Table>,
    },
}

/// Keys of a pooling.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Windows {
    kernel: usize,
    stride: Option<usize>,
    #[serde(default)]
    padding: usize,
}

/// Keys of a recurrent layer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct States {
    hidden: usize,
    #[serde(default = "yes")]
    last: bool,
    #[serde(default)]
    bidirectional: bool,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl LayerFile {
    /// Returns the list that a TOML text spells; unknown keys are refused.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] with the line and what is wrong with it. What is wrong with a single
    /// layer is said when the network is made.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e| {
            Error::usage("the list of layers cannot be read")
                .with_hint(
                    "it has `input = [1, 28, 28]` and a `[[layer]]` with a `kind` for each layer",
                )
                .because(e)
        })
    }

    /// Returns the layers.
    pub(super) fn architecture(&self) -> Result<Architecture, Error> {
        Ok(Architecture {
            input: self.input.clone(),
            layers: layers(&self.layer, "")?,
        })
    }
}

fn layers(tables: &[Table], prefix: &str) -> Result<Vec<Layer>, Error> {
    let numbered = tables.iter().enumerate();
    numbered
        .map(|(i, table)| layer(table, &format!("{prefix}{}", i + 1)))
        .collect()
}

fn layer(table: &Table, path: &str) -> Result<Layer, Error> {
    let kind = table.get("kind").and_then(Value::as_str).unwrap_or("?");
    let refuse = |reason: &str| Error::usage(format!("layer {path} (`{kind}`) {reason}"));
    if kind == "dropout" {
        return Err(refuse("is no part of a network here").with_hint(
            "dropout belongs to training: `dropout = 0.1` in the recipe of `regraft fit`",
        ));
    }
    let spelling: Spelling = table
        .clone()
        .try_into()
        .map_err(|e: toml::de::Error| refuse("cannot be read").with_hint(KINDS).because(e))?;
    let pool = |max, keys: &Windows| {
        Layer::Pool(PoolLayer {
            max,
            kernel: keys.kernel,
            stride: keys.stride,
            padding: keys.padding,
        })
    };
    let recurrent = |cell, keys: &States| {
        Layer::Recurrent(RecurrentLayer {
            cell,
            hidden: keys.hidden,
            last: keys.last,
            bidirectional: keys.bidirectional,
        })
    };
    Ok(match spelling {
        Spelling::Conv {
            out,
            kernel,
            stride,
            padding,
            groups,
            bias,
        } => Layer::Conv(ConvLayer {
            out,
            kernel,
            stride,
            padding,
            groups,
            bias,
        }),
        Spelling::BatchNorm {} => Layer::BatchNorm,
        Spelling::LayerNorm {} => Layer::LayerNorm,
        Spelling::Relu {} => Layer::Activation(Nonlinearity::Relu),
        Spelling::Gelu {} => Layer::Activation(Nonlinearity::Gelu),
        Spelling::Tanh {} => Layer::Activation(Nonlinearity::Tanh),
        Spelling::Sigmoid {} => Layer::Activation(Nonlinearity::Sigmoid),
        Spelling::Silu {} => Layer::Activation(Nonlinearity::Silu),
        Spelling::MaxPool(keys) => pool(true, &keys),
        Spelling::AvgPool(keys) => pool(false, &keys),
        Spelling::GlobalAvgPool {} => Layer::GlobalAvgPool,
        Spelling::Flatten {} => Layer::Flatten,
        Spelling::Linear { out, bias } => Layer::Linear { out, bias },
        Spelling::Gru(keys) => recurrent(Cell::Gru, &keys),
        Spelling::Lstm(keys) => recurrent(Cell::Lstm, &keys),
        Spelling::Attention { heads } => Layer::Attention { heads },
        Spelling::Positions {} => Layer::Positions,
        Spelling::Patches { out, size } => Layer::Patches { out, size },
        Spelling::Residual { layers: inner } => {
            if path.matches('.').count() >= MAX_DEPTH {
                return Err(refuse(&format!("lies more than {MAX_DEPTH} deep")).with_hint(KINDS));
            }
            Layer::Residual(layers(&inner, &format!("{path}."))?)
        }
    })
}
