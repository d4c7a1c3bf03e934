//! Graphs inside nodes.

use std::sync::Arc;

use crate::Graph;

/// A graph that a node runs.
///
/// Its inputs are its own ones, in order, then one for each outer value that it reads, of that
/// value's name. The node lists those values in [`Node::captures`](crate::Node::captures).
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The number of inputs that are its own.
    pub n_own: usize,
}

/// An axis that `Scan` runs over, of an input or an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanAxis {
    /// The axis, may be negative.
    pub axis: i64,
    /// True from the last slice on.
    pub reverse: bool,
}

/// Attributes of `Scan`: states, then what is cut into slices, both as inputs and as outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// What runs for each slice.
    pub body: Body,
    /// How each of the last inputs is cut.
    pub inputs: Vec<ScanAxis>,
    /// How each of the last outputs is put together.
    pub outputs: Vec<ScanAxis>,
}
