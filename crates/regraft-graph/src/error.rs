//! What can be wrong with a graph.

/// A graph that breaks a rule of the intermediate representation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A tensor's data does not fill its shape.
    #[error("a tensor of shape {shape:?} needs {expected:?} elements, found {found}")]
    TensorLength {
        /// The declared shape.
        shape: Vec<usize>,
        /// The product of the shape, `None` if it overflows.
        expected: Option<usize>,
        /// The number of elements given.
        found: usize,
    },
    /// An axis or an index on it does not exist.
    #[error("axis {axis} or an index on it is outside the shape {shape:?}")]
    Axis {
        /// The axis asked for.
        axis: usize,
        /// The shape it should be in.
        shape: Vec<usize>,
    },
    /// Two nodes, inputs or initializers define the same value.
    #[error("value `{value}` is defined more than once")]
    DefinedTwice {
        /// The value's name.
        value: String,
    },
    /// A node or an output reads a value that nothing defines.
    #[error("value `{value}`, read by {reader}, is never defined")]
    Dangling {
        /// The value's name.
        value: String,
        /// What reads it.
        reader: String,
    },
    /// The nodes form a cycle.
    #[error("the graph has a cycle through node `{node}`")]
    Cycle {
        /// One node of the cycle.
        node: String,
    },
    /// The inputs, attributes or shapes of a node do not fit its op.
    #[error("node `{node}` ({op}): {reason}")]
    Node {
        /// The node's name, or a description of its position where it has none.
        node: String,
        /// The op's name.
        op: String,
        /// What does not fit, with the numbers.
        reason: String,
    },
    /// Inference would have to hold more than the limit allows.
    #[error("node `{node}` asks for {elements} elements, more than the limit of {limit}")]
    TooLarge {
        /// The node's name.
        node: String,
        /// The number of elements it asks for, saturated.
        elements: u128,
        /// The limit.
        limit: u128,
    },
    /// An edit names something the graph does not have.
    #[error("the graph has no {what}")]
    Missing {
        /// What was asked for.
        what: String,
    },
}

impl GraphError {
    /// Returns advice on how to go on, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::DefinedTwice { .. } | Self::Dangling { .. } | Self::Cycle { .. } => {
                Some("the file breaks the rules of ONNX graphs: export the model again".to_owned())
            }
            Self::TooLarge { .. } => {
                Some("give fixed input sizes, or raise the limit on elements".to_owned())
            }
            Self::TensorLength { .. }
            | Self::Axis { .. }
            | Self::Node { .. }
            | Self::Missing { .. } => None,
        }
    }
}
