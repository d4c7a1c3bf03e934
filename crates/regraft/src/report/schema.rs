//! `report.json`: the versioned record of one run.
//!
//! Plain data, apart from every type of the other rooms, so that a change inside
//! the program is not a change of the file. A value that was not measured is
//! absent. Unknown keys are ignored when reading, so that an older reader can
//! read a report that has more in it.

use serde::{Deserialize, Serialize};

use super::carried::CarriedFigures;
use super::drawing::GraphDrawing;
use super::error::ReportError;
use super::fusion::FusionFigures;
use super::repeats::RepeatsFigures;
use super::reshape::{ReshapeFigures, TopologyFigures};
use super::sparse_figures::{AllocationFigures, PruneStep, RegrowthFigures};
use super::training::TrainingFigures;

/// The version of the schema that this program writes.
pub const SCHEMA_VERSION: u32 = 1;

/// One figure of the dense model (or: before a step) and of the small one (after it).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Change<T> {
    /// Dense, or before the step.
    pub before: T,
    /// Small, or after the step.
    pub after: T,
}

impl<T> Change<T> {
    /// Returns the pair of `before` and `after`.
    pub const fn new(before: T, after: T) -> Self {
        Self { before, after }
    }
}

/// Everything that one run did, measured and could not do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Version of regraft.
    pub regraft: String,
    /// The command line as it was given.
    pub command: String,
    /// The recipe (TOML text) that repeats the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Seed of every random choice.
    pub seed: u64,
    /// Threads that computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The device that computed: `cpu`, `cuda`, `metal` or `vulkan`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub device: String,
    /// The model that was given.
    pub model: ModelInfo,
    /// The small model's file, as it was named on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The samples that were used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataInfo>,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetInfo>,
    /// The dense model.
    pub dense: ModelFigures,
    /// The pruned model before rebuilding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PrunedFigures>,
    /// The small model: pruned and, if asked for, rebuilt.
    pub small: ModelFigures,
    /// Masked dense model against physically pruned model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyFigures>,
    /// How a network does on states of its own that the caller carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedFigures>,
    /// What training did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingFigures>,
    /// The same training with several seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<RepeatsFigures>,
    /// Topologies that were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologyFigures>,
    /// Edits of the topology, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reshape: Vec<ReshapeFigures>,
    /// Networks that became one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fusion: Option<FusionFigures>,
    /// The network before and after its topology was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawing: Option<GraphDrawing>,
    /// Nodes with weights, in graph order.
    pub layers: Vec<LayerFigures>,
    /// Blocks that were tuned, in graph order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockFigures>,
    /// Residual blocks that went whole, by the sums at their ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_blocks: Vec<String>,
    /// What a time budget was met with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_budget: Option<TimeBudget>,
    /// What was tried where whole residual blocks may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthFigures>,
    /// Groups of channels that could be pruned.
    pub groups: Vec<GroupFigures>,
    /// Groups of channels that could not, with the reason.
    pub frozen: Vec<FrozenGroup>,
    /// Time of one batch, both models measured in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyFigures>,
    /// Wall time of each stage, in order.
    pub stages: Vec<StageTime>,
    /// How a budget of connections was shared between layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AllocationFigures>,
    /// The steps in which connections went, where there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prune_steps: Vec<PruneStep>,
    /// Connections that moved or came back after the first pruning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regrowth: Option<RegrowthFigures>,
    /// Largest resident memory of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// Each place where the program did not do what was asked for, and what it did instead.
    pub fallbacks: Vec<Fallback>,
    /// What a reader should know before shipping the model.
    pub warnings: Vec<String>,
}

impl Report {
    /// Returns an empty report of the current schema and the version of this crate.
    pub fn new() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            regraft: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::default()
        }
    }

    /// Returns the text of report.json, indented, ending with a newline.
    ///
    /// A number that is not finite is written as `null`.
    /// # Errors
    /// [`ReportError::Write`] if a value has no JSON form.
    pub fn to_json(&self) -> Result<String, ReportError> {
        let mut text = serde_json::to_string_pretty(self).map_err(ReportError::write)?;
        text.push('\n');
        Ok(text)
    }

    /// Returns the report on one line, for `--json`.
    /// # Errors
    /// [`ReportError::Write`] if a value has no JSON form.
    pub fn to_json_line(&self) -> Result<String, ReportError> {
        serde_json::to_string(self).map_err(ReportError::write)
    }

    /// Returns the report that `text` holds.
    /// # Errors
    /// [`ReportError::Read`] if it is not a report; [`ReportError::Version`] if a
    /// newer program wrote it, or none of ours.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        let report: Self = serde_json::from_str(text).map_err(ReportError::read)?;
        if report.schema_version != SCHEMA_VERSION {
            return Err(ReportError::Version {
                found: report.schema_version,
                supported: SCHEMA_VERSION,
            });
        }
        Ok(report)
    }
}

/// The model that was given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Its file name or, for the embedded one, its title.
    pub name: String,
    /// SHA-256 of its bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The samples that were used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataInfo {
    /// What was found, in words: format, shape, classes.
    pub description: String,
    /// Samples that calibrated the rebuild.
    pub calibration: usize,
    /// Samples that judged each rebuilt layer and were not used to fit it.
    pub held_out: usize,
    /// Samples of the metrics; 0 if there were none.
    pub evaluation: usize,
}

/// What was measured to meet a time budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeBudget {
    /// What the times were measured in.
    pub runtime: String,
    /// Time of one batch of the dense model when the plan was made.
    pub dense_ms: f64,
    /// Share of it that the pruned model took then.
    pub ratio: f64,
    /// Single layers.
    pub table: Vec<LayerTime>,
}

/// Blocks and widths under one budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DepthFigures {
    /// Blocks that could go.
    pub blocks: Vec<BlockRemoval>,
    /// Plans that were rebuilt in closed form and judged.
    pub trials: Vec<PlanTrial>,
}

/// Time of one layer at one width.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerTime {
    /// Extents of its input and its weights, and what it computes.
    pub layer: String,
    /// Milliseconds a batch.
    pub ms: f64,
}

/// A residual block that could go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockRemoval {
    /// The sum at its end.
    pub block: String,
    /// Relative squared error of the output without it alone, all else rebuilt in closed form.
    pub error: f64,
}

/// A plan that keeps the budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanTrial {
    /// Blocks it removes.
    pub removed_blocks: usize,
    /// Share of the dense model's cost: time, MACs or parameters.
    pub ratio: f64,
    /// Relative squared error of the output after a closed-form rebuild on a part of the samples.
    pub error: f64,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetInfo {
    /// What is limited: `macs`, `params` or `latency`.
    pub of: String,
    /// Share of the dense model to keep, 0 to 1.
    pub keep_ratio: f64,
    /// Widths are rounded to a multiple of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<usize>,
    /// Name of the score that ranked the channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Name of the tuning, such as `blocks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune: Option<String>,
}

/// Size and quality of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelFigures {
    /// Elements of all weights.
    pub params: u64,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Size of the model file.
    pub bytes: u64,
    /// Weights of the linear layers, biases apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightCount>,
    /// Quality on the evaluation samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// How many weights there are and how many are not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightCount {
    /// All of them.
    pub all: u64,
    /// Those that are not zero.
    pub nonzero: u64,
}

/// The pruned model before rebuilding: the size of the small one, another quality.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrunedFigures {
    /// Quality on the evaluation samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// Quality on the evaluation samples. Shares are 0 to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Samples judged.
    pub samples: usize,
    /// Share of samples whose first class is right; of answers that are yes or no, the share that is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Share of samples whose class is among the first five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// F1, mean over classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Precision, mean over classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_precision: Option<f64>,
    /// Recall, mean over classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_recall: Option<f64>,
    /// Area under the precision-recall curve, mean over classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
    /// Of numbers to find: the coefficient of determination, 1 for all found, pooled by their variance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// Of numbers to find: mean size of the difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_absolute_error: Option<f64>,
    /// Of numbers to find: mean square of the difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_squared_error: Option<f64>,
    /// Mean squared difference of the outputs from the dense model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mse_to_dense: Option<f64>,
    /// Share of samples whose first class is the dense model's; needs no labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_with_dense: Option<f64>,
    /// One entry per class, in class order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_class: Vec<ClassMetrics>,
    /// Counts, `confusion[true class][predicted class]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
    /// Precision over recall, all classes pooled, recall ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pr_curve: Vec<PrPoint>,
}

impl Metrics {
    /// Returns true if the samples were labelled, with classes or numbers.
    pub fn has_truth(&self) -> bool {
        self.accuracy.is_some() || self.mean_squared_error.is_some()
    }
}

/// Quality for one class. Shares are 0 to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassMetrics {
    /// Name of the class or its number.
    pub class: String,
    /// Samples of this class.
    pub support: u64,
    /// Right among those called this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Found among those of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Area under this class's precision-recall curve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
}

/// One point of a precision-recall curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PrPoint {
    /// 0 to 1.
    pub recall: f64,
    /// 0 to 1.
    pub precision: f64,
}

/// Masked dense model against physically pruned model, before rebuilding.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyFigures {
    /// Largest difference of an output, relative to the largest output; absent if
    /// it was not a number, which is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_relative_difference: Option<f64>,
    /// Largest difference that passes.
    pub limit: f64,
    /// Random inputs compared.
    pub random_samples: usize,
    /// Calibration inputs compared, or those that the user gave.
    pub calibration_samples: usize,
    /// What ran both, if it was not regraft: `ONNX Runtime 1.32.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Why regraft did not run them, if it was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl VerifyFigures {
    /// Returns true if the two models gave the same outputs, up to the limit.
    pub fn passed(&self) -> bool {
        self.max_relative_difference
            .is_some_and(|difference| difference <= self.limit)
    }
}

/// One node with weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerFigures {
    /// Name of the node.
    pub node: String,
    /// Its operator, such as `Conv`.
    pub op: String,
    /// Name of the group of its output channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Input channels.
    pub channels_in: Change<usize>,
    /// Output channels.
    pub channels_out: Change<usize>,
    /// Multiply-accumulates for one sample.
    pub macs: Change<u64>,
    /// Elements of its weights.
    pub params: Change<u64>,
    /// Share of its weights that are zero, where single connections went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// Mean squared error of its output on calibration samples, relative to the
    /// power of the target; before and after the refit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_before_refit: Option<f64>,
    /// See `error_before_refit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_after_refit: Option<f64>,
    /// The same error on held-out samples, before the refit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_before: Option<f64>,
    /// The same error on held-out samples, after the refit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_after: Option<f64>,
    /// False if the refit did not lower the held-out error and was dropped; absent
    /// if the layer was not rebuilt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
    /// Connections that swapped places after the mask was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swaps: Option<usize>,
    /// The method that found the mask, as `--mask` spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Largest residual of the exact refit on a mask, relative to the right side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual: Option<f64>,
    /// Damping that the solution needed, relative to the mean of the Gram diagonal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping: Option<f64>,
    /// Steps up the damping ladder, 0 if the first try succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping_steps: Option<usize>,
    /// Inputs that were zero in every calibration sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_inputs: Option<usize>,
    /// Distribution of the weights, dense and small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Change<WeightFigures>>,
}

/// Distribution of the weights of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightFigures {
    /// Counts of weights between edges.
    pub histogram: Histogram,
    /// Quartiles, range and mean.
    #[serde(rename = "box")]
    pub box_plot: BoxPlot,
    /// Local extrema of the smoothed density, x ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extrema: Vec<Extremum>,
}

/// Counts between edges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Ascending; one more than there are counts.
    pub edges: Vec<f64>,
    /// Weights from each edge up to the next.
    pub counts: Vec<u64>,
}

/// The figures of a box plot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BoxPlot {
    /// Smallest weight.
    pub min: f64,
    /// First quartile.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Largest weight.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

/// A local extremum of a density.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Extremum {
    /// Where, in units of the weights.
    pub x: f64,
    /// Which.
    pub kind: ExtremumKind,
}

/// Peak or valley.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtremumKind {
    /// A local maximum.
    Max,
    /// A local minimum.
    Min,
}

/// One tuned block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockFigures {
    /// Name of the value at its end.
    pub name: String,
    /// Optimiser steps.
    pub steps: usize,
    /// Relative error of its output on held-out samples, before tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_before: Option<f64>,
    /// The same after tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_after: Option<f64>,
    /// False if tuning did not lower the held-out error and was dropped.
    pub kept: bool,
}

/// One group of channels that must go together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupFigures {
    /// Name of the group.
    pub name: String,
    /// Channels of the group.
    pub channels: Change<usize>,
    /// Share of the dense model's MACs in its nodes, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs_share: Option<f64>,
    /// Error over the number of channels kept, with this group alone pruned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<SensitivityPoint>,
    /// Names of the nodes whose channels belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
}

/// One point of a sensitivity curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SensitivityPoint {
    /// Channels kept.
    pub kept: usize,
    /// Relative error of what reads the group.
    pub error: f64,
}

/// One group that is never pruned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FrozenGroup {
    /// Name of the group.
    pub group: String,
    /// Why, in words.
    pub reason: String,
    /// Channels of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Multiply-accumulates of its nodes in the dense model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<u64>,
}

/// Median time of one batch; runs of both models interleaved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencyFigures {
    /// What ran the models, with its version.
    pub runtime: String,
    /// Dense model, milliseconds for one batch.
    pub dense_ms: f64,
    /// Small model, milliseconds for one batch.
    pub small_ms: f64,
    /// `small_ms / dense_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Quartiles of the ratio over the interleaved pairs: how steady the machine was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_quartiles: Option<[f64; 2]>,
    /// Why ONNX Runtime did not measure, if it did not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// Samples in a batch.
    pub batch: usize,
    /// Threads of the runtime.
    pub threads: usize,
    /// Timed runs of each model.
    pub runs: usize,
}

/// Wall time of one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Name of the stage.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
}

/// One place where the program did something else than what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fallback {
    /// The node, if it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What was done instead and why, in words.
    pub what: String,
}
