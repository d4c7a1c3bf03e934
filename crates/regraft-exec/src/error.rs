//! What can go wrong when a graph runs.

/// A graph that cannot run on what it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The inputs or attributes of a node do not fit its op.
    #[error("node `{node}` ({op}) with inputs {inputs}: {reason}")]
    Node {
        /// The node's label.
        node: String,
        /// The op's name.
        op: String,
        /// Element types and shapes of the inputs.
        inputs: String,
        /// What does not fit, with the numbers.
        reason: String,
    },
    /// The executor has no rule for a node.
    #[error("node `{node}` ({op}) cannot be run: {reason}")]
    Unsupported {
        /// The node's label.
        node: String,
        /// The op's name.
        op: String,
        /// Why it cannot be run.
        reason: String,
    },
    /// The tensor engine refused what had passed the checks.
    #[error("the tensor engine failed at {place}: {message}")]
    Engine {
        /// The node, or the stage outside of any node.
        place: String,
        /// What the engine said.
        message: String,
    },
    /// A value is needed that nobody gave and no node computes.
    #[error("value `{value}` is needed, but it was not given and no node computes it")]
    MissingValue {
        /// The value's name.
        value: String,
    },
    /// A value given or asked for has the wrong shape, element type or length.
    #[error("value `{value}`: {reason}")]
    Value {
        /// The value's name.
        value: String,
        /// What is wrong with it, with the numbers.
        reason: String,
    },
    /// A tensor would have more elements than the limit.
    #[error("node `{node}` asks for a tensor of shape {shape:?}, more than {limit} elements")]
    TooLarge {
        /// The node's label.
        node: String,
        /// The shape it asks for.
        shape: Vec<usize>,
        /// The limit on elements.
        limit: usize,
    },
    /// A device that is not there.
    #[error("cannot compute on {device}: {reason}")]
    Device {
        /// The device asked for.
        device: crate::Device,
        /// What is missing.
        reason: String,
    },
    /// The worker threads could not be started.
    #[error("{threads} worker threads could not be started: {message}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        message: String,
    },
}

impl ExecError {
    /// Returns the label of the node the error belongs to, if it belongs to one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Node { node, .. }
            | Self::Unsupported { node, .. }
            | Self::TooLarge { node, .. } => Some(node),
            Self::Engine { .. }
            | Self::MissingValue { .. }
            | Self::Value { .. }
            | Self::Device { .. }
            | Self::Threads { .. } => None,
        }
    }

    /// Returns advice on how to go on, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { .. } => {
                Some("replace the node by standard operators when exporting the model".to_owned())
            }
            Self::MissingValue { .. } => Some("give every required graph input".to_owned()),
            Self::Device { device, .. } if !device.is_built_in() => Some(format!(
                "build regraft with `--features {device}`, or use the CPU"
            )),
            Self::TooLarge { .. } => Some("use a smaller batch, or raise the limit".to_owned()),
            Self::Node { .. }
            | Self::Engine { .. }
            | Self::Value { .. }
            | Self::Device { .. }
            | Self::Threads { .. } => None,
        }
    }
}

/// What is wrong inside one op; the executor adds which node it is.
#[derive(Debug)]
pub(crate) enum OpError {
    /// Inputs or attributes do not fit.
    Invalid(String),
    /// There is no rule for this form of the op.
    Unsupported(String),
    /// The result would be larger than the limit.
    TooLarge(Vec<usize>),
}

pub(crate) type OpResult<T> = Result<T, OpError>;

impl From<crate::kernels::KernelError> for OpError {
    fn from(error: crate::kernels::KernelError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Returns an [`OpError::Invalid`] with this reason.
pub(crate) fn invalid<T>(reason: impl Into<String>) -> OpResult<T> {
    Err(OpError::Invalid(reason.into()))
}

/// Returns an [`OpError::Unsupported`] with this reason.
pub(crate) fn unsupported<T>(reason: impl Into<String>) -> OpResult<T> {
    Err(OpError::Unsupported(reason.into()))
}
