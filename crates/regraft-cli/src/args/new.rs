//! Options of `new`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use regraft::{Design, LayerFile, NamedOptions};

use super::OutputOptions;
use crate::failure::Failure;
use crate::recipe::read_text;

/// Make a network with fresh weights, to be trained from nothing by `regraft fit`.
///
/// From the name of an architecture (lenet5, mlp, resnet20 and other depths 6n + 2, gru, lstm,
/// transformer-tiny) or a TOML file of layers. The same seed gives the same weights.
#[derive(Debug, Args)]
#[command(mut_arg("output", |a| a.help("The network to write [default: the name, ending in .onnx]")))]
#[command(after_help = "\
Examples:
  regraft new lenet5 -o lenet5.onnx
  regraft new mlp --input 1x28x28 --widths 300,100
  regraft new gru --input 48x40 --hidden 96 --layers 2 --classes 10 --seed 1 -o digits.onnx
  regraft new layers.toml -o mine.onnx")]
pub(crate) struct NewArgs {
    /// An architecture, or a TOML file of layers
    #[arg(value_name = "NAME|FILE.toml", value_hint = ValueHint::FilePath)]
    pub(crate) what: String,
    /// Classes [default: 10]
    #[arg(long, value_name = "N", help_heading = "Architecture")]
    pub(crate) classes: Option<usize>,
    /// Extents of one sample [default: 1x28x28 or 3x32x32]
    #[arg(long, value_name = "SHAPE", value_parser = shape, help_heading = "Architecture")]
    pub(crate) input: Option<Shape>,
    /// Hidden widths of mlp [default: 300,100]
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        help_heading = "Architecture"
    )]
    pub(crate) widths: Option<Vec<usize>>,
    /// Hidden units of gru and lstm [default: 128], features of transformer-tiny [default: 64]
    #[arg(long, value_name = "N", help_heading = "Architecture")]
    pub(crate) hidden: Option<usize>,
    /// Layers of gru and lstm [default: 1], blocks of transformer-tiny [default: 2]
    #[arg(long, value_name = "N", help_heading = "Architecture")]
    pub(crate) layers: Option<usize>,
    /// Gru and lstm also read backwards
    #[arg(long, help_heading = "Architecture")]
    pub(crate) bidirectional: bool,
    /// Seed of the weights [default: 0]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Extents of one sample.
#[derive(Clone, Debug)]
pub(crate) struct Shape(Vec<usize>);

fn shape(text: &str) -> Result<Shape, String> {
    let extents: Result<Vec<usize>, _> = text.split(['x', ',']).map(str::parse).collect();
    extents
        .map(Shape)
        .map_err(|_| "a shape is whole numbers with an x between them, such as 1x28x28".to_owned())
}

impl NewArgs {
    /// Returns the file of layers that is named, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        let path = Path::new(&self.what);
        let ending = path.extension().and_then(|e| e.to_str());
        ending
            .filter(|e| e.eq_ignore_ascii_case("toml"))
            .map(|_| path)
    }

    /// Returns where the network goes.
    pub(crate) fn target(&self) -> PathBuf {
        let given = self.output.output.clone();
        given.unwrap_or_else(|| match self.file() {
            Some(path) => path.with_extension("onnx"),
            None => PathBuf::from(format!("{}.onnx", self.what)),
        })
    }

    /// Returns what is to be made.
    pub(crate) fn design(&self) -> Result<Design, Failure> {
        let options = NamedOptions {
            classes: self.classes,
            input: self.input.clone().map(|s| s.0),
            widths: self.widths.clone(),
            hidden: self.hidden,
            layers: self.layers,
            bidirectional: self.bidirectional,
        };
        let Some(path) = self.file() else {
            return Ok(Design::Named {
                name: self.what.clone(),
                options,
            });
        };
        if options != NamedOptions::default() {
            return Err(Failure::usage(
                "a file of layers says all of the network, but its seed",
                "change the file, or name an architecture",
            ));
        }
        let file = LayerFile::from_toml(&read_text(path)?).map_err(|e| e.about(path))?;
        Ok(Design::Layers(file))
    }
}
