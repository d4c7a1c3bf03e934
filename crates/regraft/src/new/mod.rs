//! `new`: a network with fresh weights, from a name or a list of layers, to be trained by `fit`.

mod layer_file;

use std::fmt::Write as _;
use std::path::Path;

use regraft_train::new::{Architecture, Built, build, named};
use serde::Serialize;

pub use layer_file::LayerFile;
pub use regraft_train::new::NamedOptions;

use crate::inspect::thousands;
use crate::pipeline::{RunOptions, cost_of};
use crate::storage::{sha256_hex, write_atomic};
use crate::{Error, Recipe};

/// What a new network is made from.
#[derive(Clone, Debug)]
pub enum Design {
    /// A known architecture.
    Named {
        /// Its name: `lenet5`, `mlp`, `resnet20` and other depths 6n + 2, `gru`, `lstm`,
        /// `transformer-tiny`.
        name: String,
        /// What differs from its defaults.
        options: NamedOptions,
    },
    /// A list of layers.
    Layers(LayerFile),
}

/// A network that was made and written.
#[derive(Clone, Debug, Serialize)]
pub struct NewNetwork {
    /// Version of regraft.
    pub regraft: String,
    /// The file.
    pub output: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The seed of its weights.
    pub seed: u64,
    /// Extents of one sample.
    pub input: Vec<usize>,
    /// Scores that come out.
    pub classes: usize,
    /// Floating-point parameters, statistics of batch normalisations among them.
    pub params: u64,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The layers in order.
    pub layers: Vec<NewLayer>,
}

/// One layer of a new network; those inside of a residual layer are part of it.
#[derive(Clone, Debug, Serialize)]
pub struct NewLayer {
    /// Its kind, as in a file of layers.
    pub kind: String,
    /// Extents of one sample behind it.
    pub shape: Vec<usize>,
    /// Its parameters.
    pub params: u64,
}

/// Makes a network with weights drawn from `seed` and writes it to `output`, whole or not at all.
///
/// The same design and seed give the same bytes. The batch is a free extent, the input is called
/// `input`, the scores `logits`.
/// # Errors
/// [`crate::ErrorKind::Usage`] for a design that makes no network, with the layer's number and the
/// shape that arrives there; [`crate::ErrorKind::Io`] for a file that exists or cannot be written.
pub fn new(
    design: &Design,
    seed: u64,
    output: &Path,
    options: &RunOptions,
) -> Result<NewNetwork, Error> {
    let layers = match design {
        Design::Named { name, options } => named(name, options)?,
        Design::Layers(file) => file.architecture()?,
    };
    crate::outputs::check(&[output], &[], &Recipe::default(), options)?;
    let built = build(&layers, seed)?;
    let bytes = regraft_onnx::write_bytes(&built.graph)?;
    let made = figures(&layers, &built, seed, output, &bytes)?;
    write_atomic(output, &bytes)?;
    Ok(made)
}

fn figures(
    layers: &Architecture,
    built: &Built,
    seed: u64,
    output: &Path,
    bytes: &[u8],
) -> Result<NewNetwork, Error> {
    let cost = cost_of(&built.graph)?;
    let last = built.rows.last().map(|r| r.shape.as_slice());
    let rows = built.rows.iter().map(|row| NewLayer {
        kind: row.kind.to_owned(),
        shape: row.shape.clone(),
        params: row.params as u64,
    });
    Ok(NewNetwork {
        regraft: env!("CARGO_PKG_VERSION").to_owned(),
        output: output.display().to_string(),
        sha256: sha256_hex(bytes),
        seed,
        input: layers.input.clone(),
        classes: last.map_or(0, |shape| shape.iter().product()),
        params: cost.params,
        macs: cost.macs,
        bytes: bytes.len() as u64,
        layers: rows.collect(),
    })
}

impl NewNetwork {
    /// Returns the summary for the terminal.
    pub fn to_terminal(&self) -> String {
        let shape = |extents: &[usize]| {
            let texts: Vec<String> = extents.iter().map(ToString::to_string).collect();
            texts.join("x")
        };
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "  {:>4} {:<16} {:>14} {:>12}",
            "", "layer", "shape", "parameters"
        );
        let _ = writeln!(
            out,
            "  {:>4} {:<16} {:>14}",
            "",
            "input",
            shape(&self.input)
        );
        for (i, layer) in self.layers.iter().enumerate() {
            let params = match layer.params {
                0 => String::new(),
                n => thousands(n),
            };
            let line = format!(
                "  {:>4} {:<16} {:>14} {params:>12}",
                i + 1,
                layer.kind,
                shape(&layer.shape)
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let _ = writeln!(
            out,
            "\n{} parameters, {} MACs a sample, {} bytes, weights drawn with seed {}",
            thousands(self.params),
            thousands(self.macs),
            thousands(self.bytes),
            self.seed
        );
        let name: String = self.output.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(out, "written to {name}");
        out
    }
}
