//! What a reader may spend on one model.

/// Bounds that a model must stay within to be read.
///
/// The defaults hold every published network that fits one machine, and keep a hostile file from
/// asking for more memory than its own size explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest model file, bytes. Protobuf itself ends at 2 GiB.
    pub max_file_bytes: u64,
    /// Largest single tensor, bytes.
    pub max_tensor_bytes: u64,
    /// Largest sum of what reading the model holds in memory, bytes.
    pub max_total_bytes: u64,
    /// Deepest nesting of messages. One subgraph level takes three.
    pub max_depth: usize,
    /// Most nodes, those of subgraphs and functions included.
    pub max_nodes: usize,
    /// Most initializers, those of subgraphs included.
    pub max_initializers: usize,
    /// Most attributes.
    pub max_attributes: usize,
    /// Longest name, bytes.
    pub max_name_bytes: usize,
    /// Most axes of a tensor.
    pub max_rank: usize,
    /// True to accept weights that are NaN or infinite.
    pub allow_nonfinite: bool,
    /// True to accept external data files with more than one hard link, as some model caches use.
    pub allow_hardlinks: bool,
}

/// The end of what a protobuf message can hold, bytes.
pub const MAX_PROTO_BYTES: u64 = (1 << 31) - 1;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_bytes: MAX_PROTO_BYTES,
            max_tensor_bytes: 4 << 30,
            max_total_bytes: 16 << 30,
            // The recursion limit of every protobuf implementation.
            max_depth: 100,
            max_nodes: 1_000_000,
            max_initializers: 1_000_000,
            max_attributes: 4_000_000,
            max_name_bytes: 64 << 10,
            max_rank: 64,
            allow_nonfinite: false,
            allow_hardlinks: false,
        }
    }
}
