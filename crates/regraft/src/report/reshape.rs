//! Edits of the topology.

use serde::{Deserialize, Serialize};

use super::format;
use super::schema::Change;

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReshapeFigures {
    /// The edit, as recipes name it.
    pub edit: String,
    /// True if it keeps what the network computes.
    pub exact: bool,
    /// Multiply-accumulates for one sample, of the network before and after the step.
    pub macs: Change<u64>,
    /// Parameters.
    pub params: Change<u64>,
    /// Squared change of the network's output on held-out samples, relative to its energy, nothing
    /// refitted yet.
    pub output_error: f64,
    /// Where something changed, in graph order.
    pub changes: Vec<ReshapeChange>,
    /// What shared weights take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ShareFigures>,
    /// Bytes of all initializers where the budget counts them: zeros at one bit for each place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed: Option<Change<u64>>,
    /// Layers that were looked at and left, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<(String, String)>,
    /// Where the edit was tried, if it was placed by gain: the most worth for its cost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceTrial>,
}

/// Bytes of all initializers, those that share nothing included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareFigures {
    /// As floats.
    pub dense: u64,
    /// With zeros left out, at one index of a few bits for each weight that stays.
    pub pruned: u64,
    /// With codebooks and plain indices.
    pub shared: u64,
    /// With indices and distances in Huffman codes.
    pub coded: u64,
    /// In the model file as it is written.
    pub file: u64,
}

/// One place that changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReshapeChange {
    /// The node that was there.
    pub node: String,
    /// What it became.
    pub what: String,
    /// Multiply-accumulates for one sample.
    pub macs: Change<u64>,
    /// Parameters.
    pub params: Change<u64>,
    /// Squared error of its output on calibration samples, relative to its energy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

impl ReshapeFigures {
    /// Returns the step in words.
    pub fn in_words(&self) -> String {
        let places = match self.changes.len() {
            1 => "1 place".to_owned(),
            n => format!("{n} places"),
        };
        if let Some(bytes) = &self.bytes {
            return format!(
                "{} in {places}: {} of weights as floats, {} without zeros, {} by codebooks, {} coded: {:.1} times fewer; the output moves by {}",
                format::name(&self.edit),
                format::bytes(bytes.dense),
                format::bytes(bytes.pruned),
                format::bytes(bytes.shared),
                format::bytes(bytes.coded),
                bytes.dense as f64 / bytes.coded.max(1) as f64,
                format::percent(self.output_error.max(0.0).sqrt(), 1)
            );
        }
        let moved = if self.exact {
            "the output is the same".to_owned()
        } else {
            format!(
                "the output moves by {} before the refit",
                format::percent(self.output_error.max(0.0).sqrt(), 1)
            )
        };
        if let Some(packed) = &self.packed {
            return format!(
                "{} in {places}: {} of weights to {} with zeros packed, {:.1} times fewer; {moved}",
                format::name(&self.edit),
                format::bytes(packed.before),
                format::bytes(packed.after),
                packed.before as f64 / packed.after.max(1) as f64,
            );
        }
        format!(
            "{} in {places}: MACs {} to {}, parameters {} to {}; {moved}",
            format::name(&self.edit),
            format::si(self.macs.before),
            format::si(self.macs.after),
            format::si(self.params.before),
            format::si(self.params.after),
        )
    }
}

/// Topologies of the same cost, and which was rebuilt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopologyFigures {
    /// Multiply-accumulates for one sample that none may exceed.
    pub budget: u64,
    /// The trial that was rebuilt.
    pub chosen: usize,
    /// All of them.
    pub trials: Vec<TopologyTrial>,
    /// Edits tried block by block, the most worth for its cost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceTrial>,
}

/// One edit at one place, tried in a network that has it everywhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaceTrial {
    /// The edit, as recipes name it.
    pub edit: String,
    /// The node behind which it is.
    pub node: String,
    /// What the edit adds, in words.
    pub what: String,
    /// Multiply-accumulates for one sample that it costs.
    pub macs: u64,
    /// By how much the output's squared error on held-out samples, relative to its energy, rises without
    /// it, once all places were trained for a few passes.
    pub gain: f64,
    /// True if the network that was rebuilt last has it.
    pub kept: bool,
}

/// One topology.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopologyTrial {
    /// What it is, in words.
    pub what: String,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Time it takes as a share of the dense network's, measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// Squared error of the output on held-out samples after a closed-form rebuild, relative to its energy.
    pub error: f64,
    /// The same after a few passes over the whole network too, of the two that these decide between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained: Option<f64>,
}

impl TopologyTrial {
    /// Returns the time in words: `0.66×`.
    pub(super) fn time_in_words(&self) -> String {
        self.time
            .map_or_else(|| "–".to_owned(), |t| format!("{t:.2}×"))
    }

    /// Returns the error after a few passes in words.
    pub(super) fn trained_in_words(&self) -> String {
        self.trained
            .map_or_else(|| "–".to_owned(), |e| format::percent(e, 2))
    }
}

impl TopologyFigures {
    /// Returns what was chosen, in words.
    pub fn in_words(&self) -> String {
        let chosen = self.trials.get(self.chosen);
        format!(
            "{} topologies of at most {} MACs tried; kept: {}",
            self.trials.len(),
            format::si(self.budget),
            chosen.map_or_else(String::new, |t| format!(
                "{}, output error {} where the given one has {}",
                format::name(&t.what),
                format::percent(t.error, 1),
                format::percent(self.trials.first().map_or(0.0, |f| f.error), 1)
            ))
        )
    }
}
