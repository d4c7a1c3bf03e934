//! A model file, read and ready to be worked on.

use std::path::{Path, PathBuf};

use regraft_graph::cost::{Cost, total};
use regraft_graph::fold::{fold, fold_batch_norm};
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{DType, Dim, Graph, ValueId};

use crate::storage::sha256_hex;
use crate::{Error, ErrorKind, Recipe};

/// A model as it was read, and the same network folded.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// File name, for messages.
    pub(crate) name: String,
    /// The file's bytes.
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub(crate) sha256: String,
    /// Where it was read; nothing for a model inside the program.
    path: Option<PathBuf>,
    /// The network with constants and batch normalisation folded: equal in function.
    pub(crate) graph: Graph,
    /// Shapes of the folded network.
    pub(crate) facts: Facts,
    /// Batch normalisations that became part of a linear node.
    pub(crate) folded_batch_norms: usize,
}

impl Model {
    /// Reads a file.
    pub(crate) fn open(path: &Path, recipe: &Recipe) -> Result<Self, Error> {
        let limits = regraft_onnx::Limits {
            allow_nonfinite: recipe.allow_nonfinite,
            allow_hardlinks: recipe.allow_hardlinks,
            ..regraft_onnx::Limits::default()
        };
        let graph = regraft_onnx::read(path, &limits).map_err(|e| Error::from(e).about(path))?;
        let bytes = read(path)?;
        let name = path
            .file_name()
            .map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
        let mut model = Self::new(name, bytes, &graph)?;
        model.path = Some(path.to_owned());
        Ok(model)
    }

    /// Returns a digest of the file and of those beside it that hold its tensors.
    pub(crate) fn fingerprint(&self) -> Result<String, Error> {
        let mut digest = self.sha256.clone();
        let files = self.path.as_deref().map(|p| data_files(p, &self.bytes));
        for file in files.unwrap_or_default() {
            digest = sha256_hex((digest + &sha256_hex(&read(&file)?)).as_bytes());
        }
        Ok(digest)
    }

    /// Reads bytes that are embedded in the program.
    pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let graph = regraft_onnx::read_bytes(bytes, None, &regraft_onnx::Limits::default())?;
        Self::new(name.to_owned(), bytes.to_vec(), &graph)
    }

    fn new(name: String, bytes: Vec<u8>, graph: &Graph) -> Result<Self, Error> {
        let options = InferOptions::default();
        let (folded, _) = fold(graph, &options)?;
        let (folded, folded_batch_norms) = fold_batch_norm(&folded)?;
        let facts = infer(&folded, &options)?;
        let sha256 = sha256_hex(&bytes);
        Ok(Self {
            name,
            bytes,
            path: None,
            sha256,
            graph: folded,
            facts,
            folded_batch_norms,
        })
    }

    /// Returns the costs of the folded network.
    pub(crate) fn cost(&self) -> Cost {
        total(&self.graph, &self.facts)
    }

    /// Returns the one input that data is fed to.
    pub(crate) fn input(&self) -> Result<ModelInput, Error> {
        let inputs = self.graph.required_inputs();
        let [value] = inputs[..] else {
            let names: Vec<&str> = inputs
                .iter()
                .map(|v| self.graph.value(*v).name.as_str())
                .collect();
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "the model has {} inputs ({}), data can feed one",
                    inputs.len(),
                    names.join(", ")
                ),
            )
            .with_hint("export the model with one input, the others as constants"));
        };
        let name = self.graph.value(value).name.clone();
        let shape = self.facts.shape(value).map(<[Dim]>::to_vec);
        let Some(shape) = shape.filter(|s| !s.is_empty()) else {
            return Err(Error::new(
                ErrorKind::Input,
                format!("input `{name}` declares no shape with a batch axis"),
            )
            .with_hint("export the model with the shape of its input"));
        };
        if self.facts.dtype(value) != Some(DType::F32) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("input `{name}` does not take 32-bit floats"),
            )
            .with_hint("only 32-bit floats are read so far: export the model with such an input"));
        }
        if shape.iter().any(|d| d.fixed() == Some(0)) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("input `{name}` has an extent of 0: nothing can be fed to it"),
            ));
        }
        Ok(ModelInput {
            value,
            batch: shape[0].fixed(),
            sample: shape[1..].iter().map(Dim::fixed).collect(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).because(e)
    })
}

/// Returns the files beside a model that hold its tensors.
pub(crate) fn data_files(model: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let folder = model.parent().unwrap_or(Path::new(""));
    let names = regraft_onnx::external_files(bytes);
    names.iter().map(|name| folder.join(name)).collect()
}

/// The input that data is fed to.
#[derive(Clone, Debug)]
pub(crate) struct ModelInput {
    pub(crate) value: ValueId,
    /// The batch size, if the model fixes one.
    pub(crate) batch: Option<usize>,
    /// The shape of one sample, `None` for free axes.
    pub(crate) sample: Vec<Option<usize>>,
}
