//! Reshaping the topology: edits of a trained network that keep its function, or say by how much
//! they change it.
//!
//! Each edit is a function of a network, what its layers read and a config, and returns a new
//! network with a list of what it changed. Values that stay keep their identifiers, so that
//! [`rebuild`](crate::rebuild::rebuild) can refit the result towards the network before the edit.

pub mod attend;
mod ceiling;
pub mod deepen;
mod fit;
pub mod fuse;
mod gain;
mod importance;
pub mod link;
pub mod low_rank;
pub mod reconnect;
mod select;
pub mod share;
#[cfg(test)]
mod toy;
pub mod widen;

use std::collections::BTreeMap;

use regraft_graph::cost::{Cost, total};
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{Graph, GraphError, ValueId};

use crate::calibrate::Calibration;
use crate::rebuild::KeptAxes;
use crate::{Layer, find_layers};

pub use ceiling::Ceiling;
pub use fit::{FitConfig, FittedLayer, Samples, refit};
pub use gain::{ByGain, GainStep};
pub use select::Selection;

/// A network on which an edit works.
#[derive(Debug)]
pub struct Network {
    /// The network.
    pub graph: Graph,
    /// Its shapes.
    pub facts: Facts,
    /// Its linear layers, in graph order.
    pub layers: Vec<Layer>,
    /// What they read on the calibration samples; an edit that needs it and has none says so.
    pub calibration: Option<Calibration>,
}

impl Network {
    /// Returns a network with its shapes and layers, and nothing known of what they read.
    ///
    /// # Errors
    /// [`GraphError`] if shapes contradict each other.
    pub fn new(graph: Graph) -> Result<Self, GraphError> {
        let facts = infer(&graph, &InferOptions::default())?;
        let layers = find_layers(&graph, &facts);
        Ok(Self {
            graph,
            facts,
            layers,
            calibration: None,
        })
    }

    /// Returns the cost of one sample and the parameters.
    pub fn cost(&self) -> Cost {
        total(&self.graph, &self.facts)
    }
}

/// One place where an edit changed the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The label of the node that was there.
    pub node: String,
    /// What it became, in words: `3x3 convolution of rank 12 of 64`.
    pub what: String,
    /// Multiply-accumulates for one sample, before and after.
    pub macs: (u64, u64),
    /// Parameters, before and after.
    pub params: (u64, u64),
    /// Squared error of the node's output on the calibration samples relative to its energy; 0
    /// where the edit keeps the function, `None` where nothing was measured.
    pub error: Option<f64>,
}

/// What an edit gives back.
#[derive(Clone, Debug)]
pub struct Edited {
    /// The new network.
    pub graph: Graph,
    /// What changed, in graph order; empty where nothing could be changed.
    pub changes: Vec<Change>,
    /// Layers that were looked at and left, with the reason.
    pub left: Vec<(String, String)>,
    /// True if the outputs are claimed to be the same up to rounding.
    pub exact: bool,
    /// For each axis that grew, which index of it before each index is a copy of.
    pub kept: KeptAxes,
    /// How many weights are not zero, by the output of each layer whose zeros are to stay.
    pub sparse: BTreeMap<ValueId, usize>,
}

impl Edited {
    /// Returns an edit in which no axis grew.
    fn new(graph: Graph, changes: Vec<Change>, left: Vec<(String, String)>, exact: bool) -> Self {
        Self {
            graph,
            changes,
            left,
            exact,
            kept: KeptAxes::new(),
            sparse: BTreeMap::new(),
        }
    }
}
