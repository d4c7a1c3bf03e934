//! A model file, read and ready to be worked on.

mod settings;

use std::path::{Path, PathBuf};

use regraft_graph::cost::{Cost, total};
use regraft_graph::fold::{fold, fold_batch_norm, fold_keeping_dropout, open_branches};
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{DType, Dim, Graph, ValueId};
use regraft_prune::apply::{ApplyReport, apply};
use regraft_prune::{Attention, Groups, Plan, find_groups_by};
use regraft_rebuild::with_all_states;

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
    /// Names of the matrices at the ends of states.
    state_ends: Vec<String>,
    /// States that the caller carries: the output, and the input that it becomes.
    pub(crate) states: Vec<(ValueId, ValueId)>,
    /// What can go of attention.
    attention: Attention,
    /// The network as it was read, nothing folded.
    given: Graph,
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
        let graph = settings::fixed(&graph, &recipe.fix)?;
        let (graph, _) = open_branches(&graph, &InferOptions::default())?;
        let (graph, state_ends) = settings::with_states(&graph, &recipe.state)?;
        let bytes = read(path)?;
        let name = path
            .file_name()
            .map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
        let mut model = Self::new(name, bytes, &graph)?;
        model.path = Some(path.to_owned());
        model.state_ends = state_ends;
        model.states = settings::states(&model.graph, &recipe.state)?;
        model.attention = recipe.attention.into();
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
        let folded = with_all_states(folded)?;
        let facts = infer(&folded, &options)?;
        let sha256 = sha256_hex(&bytes);
        Ok(Self {
            name,
            bytes,
            path: None,
            state_ends: Vec::new(),
            states: Vec::new(),
            attention: Attention::default(),
            sha256,
            given: graph.clone(),
            graph: folded,
            facts,
            folded_batch_norms,
        })
    }

    /// Returns the network as it trains: constants folded, dropout kept, batch normalisation kept
    /// where `keeps_batch_norm`. Values are those of the folded network.
    pub(crate) fn trainable(&self, keeps_batch_norm: bool) -> Result<Graph, Error> {
        let (folded, _) = fold_keeping_dropout(&self.given, &InferOptions::default())?;
        if keeps_batch_norm {
            return Ok(folded);
        }
        Ok(fold_batch_norm(&folded)?.0)
    }

    /// Returns the network without what the plan removes, what is left at the ends of its states
    /// as picks of channels.
    pub(crate) fn pruned(
        &self,
        groups: &Groups,
        plan: &Plan,
    ) -> Result<(Graph, ApplyReport), Error> {
        let (pruned, report) = apply(&self.graph, &self.facts, groups, plan)?;
        Ok((
            settings::without_matrices(&pruned, &self.state_ends)?,
            report,
        ))
    }

    /// Returns the coupled groups of the folded network.
    pub(crate) fn groups(&self) -> Result<Groups, Error> {
        Ok(find_groups_by(&self.graph, &self.facts, self.attention)?)
    }

    /// Returns the costs of the folded network.
    pub(crate) fn cost(&self) -> Cost {
        total(&self.graph, &self.facts)
    }

    /// Returns the inputs that data is fed to.
    pub(crate) fn input(&self) -> Result<ModelInput, Error> {
        let inputs = self.graph.required_inputs();
        let refuse =
            |what: String, hint: &str| Err(Error::new(ErrorKind::Input, what).with_hint(hint));
        let shape = |v: ValueId| self.facts.shape(v).map(<[Dim]>::to_vec);
        let Some(&value) = inputs
            .iter()
            .find(|v| shape(**v).is_some_and(|s| !s.is_empty()))
        else {
            let names: Vec<String> = inputs
                .iter()
                .map(|v| format!("`{}`", self.graph.value(*v).name))
                .collect();
            return refuse(
                format!(
                    "no input declares a shape with a batch axis: {}",
                    names.join(", ")
                ),
                "export the model with the shape of its inputs",
            );
        };
        let shape = shape(value).unwrap_or_default();
        for &v in &inputs {
            let dims = self.facts.shape(v).unwrap_or(&[]);
            if dims.iter().any(|d| d.fixed() == Some(0)) {
                let name = &self.graph.value(v).name;
                let what = format!("input `{name}` has an extent of 0: nothing can be fed to it");
                return Err(Error::new(ErrorKind::Input, what));
            }
            let fed = |t: DType| t.is_float() || t == DType::Bool || t.is_integer();
            if !self.facts.dtype(v).is_some_and(fed) {
                let name = &self.graph.value(v).name;
                return refuse(
                    format!("input `{name}` takes neither numbers nor truth values"),
                    "export the model with inputs of floats or integers",
                );
            }
        }
        let batch = &shape[0];
        let others = inputs.iter().copied().filter(|v| *v != value);
        let others: Vec<(ValueId, Option<usize>)> = others
            .map(|v| {
                let dims = self.facts.shape(v).unwrap_or(&[]);
                let free_first = dims.first().filter(|d| d.fixed().is_none()).map(|_| 0);
                (v, dims.iter().position(|d| d == batch).or(free_first))
            })
            .collect();
        Ok(ModelInput {
            value,
            batch: batch.fixed(),
            sample: shape[1..].iter().map(Dim::fixed).collect(),
            named: !others.is_empty() || self.facts.dtype(value) != Some(DType::F32),
            others,
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

/// The inputs that data is fed to; the fields are those of the one whose leading axis counts the
/// samples.
#[derive(Clone, Debug)]
pub(crate) struct ModelInput {
    pub(crate) value: ValueId,
    /// The batch size, if the model fixes one.
    pub(crate) batch: Option<usize>,
    /// The shape of one sample, `None` for free axes.
    pub(crate) sample: Vec<Option<usize>>,
    /// The other inputs, each with the axis of the samples; `None` where all share one value.
    pub(crate) others: Vec<(ValueId, Option<usize>)>,
    /// True if the data is an archive of arrays by input name: for several inputs, or integers.
    pub(crate) named: bool,
}
