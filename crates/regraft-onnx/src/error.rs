//! What can go wrong between ONNX bytes and a graph.

use regraft_graph::GraphError;

/// A model that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A file could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried: open, read, write.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file holds no bytes.
    #[error("the model file is empty")]
    Empty,
    /// The file is something else.
    #[error("not an ONNX model: the file is {found}")]
    NotOnnx {
        /// What it looks like.
        found: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// The bytes break the wire format.
    #[error("the model is damaged at byte {offset} in `{at}`: {reason}")]
    Wire {
        /// The message that holds the fault, as a path of fields.
        at: String,
        /// Position in the file.
        offset: u64,
        /// The fault.
        reason: String,
    },
    /// The model asks for more than [`Limits`](crate::Limits) allow.
    #[error("`{at}` has {found} {what}, more than the limit of {limit}")]
    Limit {
        /// Where.
        at: String,
        /// What is counted.
        what: &'static str,
        /// The count or size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A name holds bytes that no name may hold.
    #[error("the name in `{at}` {reason}")]
    Name {
        /// The field.
        at: String,
        /// The fault.
        reason: String,
    },
    /// External data of a tensor breaks the containment rules or does not fit.
    #[error("external data of tensor `{tensor}`: {reason}")]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// The fault.
        reason: String,
    },
    /// A tensor's type, shape and data do not fit each other.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// The tensor, or the node and attribute that hold it.
        tensor: String,
        /// The fault.
        reason: String,
    },
    /// Weights are NaN or infinite.
    #[error("{total} values in {tensors} tensors are NaN or infinite, the first in `{first}`")]
    NonFinite {
        /// How many values.
        total: u64,
        /// In how many tensors.
        tensors: usize,
        /// The first such tensor.
        first: String,
    },
    /// An attribute of a node has a wrong type or value.
    #[error("node `{node}` ({op}): {reason}")]
    Attribute {
        /// The node's name, or its first output's.
        node: String,
        /// The operator.
        op: String,
        /// The fault, naming the attribute.
        reason: String,
    },
    /// The model as a whole breaks a rule.
    #[error("the model {reason}")]
    Model {
        /// The rule.
        reason: String,
        /// What to do about it.
        hint: Option<&'static str>,
    },
    /// The parts do not make a graph.
    #[error("the model's graph is not valid")]
    Graph(#[from] GraphError),
    /// The written model would be larger than the format allows.
    #[error(
        "the model would take {bytes} bytes, more than the {limit} that one ONNX file can hold"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The format's limit.
        limit: u64,
    },
}

impl OnnxError {
    /// Returns advice on how to go on, where there is one.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotOnnx { hint, .. } => hint,
            Self::Model { hint, .. } => return hint.map(str::to_owned),
            Self::Graph(source) => return source.hint(),
            Self::Empty | Self::Wire { .. } => {
                "the file may be the rest of a broken download or export: fetch or export it again"
            }
            Self::Limit { .. } => {
                "nothing this large is read, to protect memory: a real model of this size is worth a report"
            }
            Self::Name { .. } => "rename it where the model is exported",
            Self::ExternalData { .. } => {
                "keep the data files in the model's folder as plain files, or save the model with its \
                 weights inside: `onnx.save(onnx.load(\"model.onnx\"), \"whole.onnx\")`; hard links of a \
                 cache are read with --allow-hardlinks"
            }
            Self::NonFinite { .. } => {
                "the training run that made these weights diverged: take an earlier state of it; commands \
                 that have --allow-nonfinite read them all the same"
            }
            Self::TooLarge { .. } => "a model of this size needs external data on writing",
            Self::Io { .. } | Self::Tensor { .. } | Self::Attribute { .. } => return None,
        };
        Some(text.to_owned())
    }

    pub(crate) fn tensor(tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor {
            tensor: tensor.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn external(tensor: &str, reason: impl Into<String>) -> Self {
        Self::ExternalData {
            tensor: tensor.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn model(reason: impl Into<String>) -> Self {
        Self::Model {
            reason: reason.into(),
            hint: None,
        }
    }
}
