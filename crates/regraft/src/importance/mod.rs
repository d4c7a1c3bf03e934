//! Finding what matters: what the network loses without a part, beside how strong the part is.
//!
//! A part is a group (half of its channels masked, then all that may go) or a layer (the weaker
//! half of its connections set to zero). The rest of the network stays as it is: nothing is
//! refitted. Samples are from the training split; the test split is not touched.

mod measure;
mod strength;
mod terminal;

use std::path::PathBuf;

use serde::Serialize;

use crate::evaluate::Outputs;
use crate::report::{BoxPlot, Extremum, ExtremumKind, Histogram, Metrics};

pub(crate) use measure::importance;
pub(crate) use terminal::change_in_points;

/// What to look at beside the model itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectOptions {
    /// Where the page goes, if one is wanted.
    pub html: Option<PathBuf>,
}

impl InspectOptions {
    /// Samples that the command line judges on: every part costs a run over them.
    pub const DEFAULT_SAMPLES: usize = 512;
}

/// Performance with each part masked, the parts' strengths, and how the two go together.
#[derive(Clone, Debug, Serialize)]
pub struct Importance {
    /// The samples, in words.
    pub data: String,
    /// Samples judged, all from the training split.
    pub samples: usize,
    /// Whether they have labels that fit the model; without, only the dense model is compared with.
    pub labelled: bool,
    /// Share of a group's channels, and of a layer's connections, in `half`.
    pub share: f64,
    /// What ranks a group's channels.
    pub order: String,
    /// The model as it is.
    pub dense: Quality,
    /// Groups that can be pruned, in graph order.
    pub groups: Vec<Part>,
    /// Layers with weights, in graph order.
    pub layers: Vec<Part>,
    /// Strength against performance.
    pub correlations: Vec<Correlation>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A group or a layer.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The shape of a layer's weight; empty for a group.
    pub shape: Vec<usize>,
    /// What happens without the weaker half: channels of a group, connections of a layer.
    pub half: Option<Effect>,
    /// What happens without all channels of a group that may go.
    pub all: Option<Effect>,
    /// How strong its connections are.
    pub strength: Strength,
}

/// What happens when something is masked.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// Channels or connections masked.
    pub masked: usize,
    /// Of so many.
    pub of: usize,
    /// The masked model; nothing where its outputs are not finite.
    pub quality: Option<Quality>,
    /// Masked less dense.
    pub change: Quality,
    /// The change over the dense figure.
    pub relative: Quality,
}

/// How good a model is. Shares are 0 to 1; what needs labels is absent without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Share of samples whose first class is right.
    pub accuracy: Option<f64>,
    /// Mean over classes.
    pub macro_precision: Option<f64>,
    /// Mean over classes.
    pub macro_recall: Option<f64>,
    /// Mean over classes.
    pub macro_f1: Option<f64>,
    /// Area under the precision-recall curve, mean over classes.
    pub average_precision: Option<f64>,
    /// Share of samples whose first class is the dense model's.
    pub agreement: Option<f64>,
    /// Squared distance of the outputs from the dense model's, over their squared size.
    pub output_error: Option<f64>,
}

type Pick = fn(&Quality) -> Option<f64>;

/// The figures of a quality, as they are called.
pub(crate) const FIGURES: [(&str, Pick); 7] = [
    ("accuracy", |q| q.accuracy),
    ("macro precision", |q| q.macro_precision),
    ("macro recall", |q| q.macro_recall),
    ("macro F1", |q| q.macro_f1),
    ("average precision", |q| q.average_precision),
    ("agreement with dense", |q| q.agreement),
    ("output error", |q| q.output_error),
];

impl Quality {
    fn new(metrics: &Metrics, outputs: &Outputs, dense: &Outputs) -> Self {
        let squares = |pairs: &mut dyn Iterator<Item = f64>| pairs.map(|x| x * x).sum::<f64>();
        let both = outputs.data.iter().zip(&dense.data);
        let error = squares(&mut both.map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let energy = squares(&mut dense.data.iter().map(|x| f64::from(*x)));
        Self {
            accuracy: metrics.accuracy,
            macro_precision: metrics.macro_precision,
            macro_recall: metrics.macro_recall,
            macro_f1: metrics.macro_f1,
            average_precision: metrics.average_precision,
            agreement: metrics.agreement_with_dense,
            output_error: (energy > 0.0).then_some(error / energy),
        }
    }

    /// Combines each figure with that of `other`.
    fn with(&self, other: &Self, f: impl Fn(f64, f64) -> Option<f64>) -> Self {
        let both = |pick: Pick| pick(self).zip(pick(other)).and_then(|(a, b)| f(a, b));
        Self {
            accuracy: both(|q| q.accuracy),
            macro_precision: both(|q| q.macro_precision),
            macro_recall: both(|q| q.macro_recall),
            macro_f1: both(|q| q.macro_f1),
            average_precision: both(|q| q.average_precision),
            agreement: both(|q| q.agreement),
            output_error: both(|q| q.output_error),
        }
    }
}

impl Effect {
    fn new(masked: usize, of: usize, quality: Option<Quality>, dense: &Quality) -> Self {
        let found = quality.unwrap_or_default();
        let change = found.with(dense, |a, b| Some(a - b));
        Self {
            masked,
            of,
            quality,
            change,
            relative: change.with(dense, |a, b| (b != 0.0).then(|| a / b)),
        }
    }

    /// Returns what is lost: accuracy where there are labels, else agreement with the dense model.
    pub(crate) fn lost(&self) -> Option<f64> {
        let change = self.change.accuracy.or(self.change.agreement)?;
        Some(-change)
    }
}

/// How strong the connections of a part are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Strength {
    /// Connections: weights of the layer, or weights that make or read the group's channels.
    pub connections: usize,
    /// Of these zero.
    pub zeros: usize,
    /// Mean absolute weight.
    pub mean_abs: f64,
    /// Root of the sum of squares.
    pub l2: f64,
    /// Quantiles of the absolute weights: share and value.
    pub quantiles: Vec<(f64, f64)>,
    /// The weights with their signs.
    pub box_plot: BoxPlot,
    /// The weights with their signs.
    pub histogram: Histogram,
    /// Peaks of the histogram and the valleys between them.
    pub extrema: Vec<Extremum>,
    /// Mean absolute weight along each axis; of a group the L2 norm of its channels.
    pub axes: Vec<AxisProfile>,
}

/// How strength runs along one axis of a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AxisProfile {
    /// `output`, `input`, `kernel row`, `kernel column`, `kernel position`, or `channel` of a group.
    pub axis: String,
    /// One value for each index.
    pub values: Vec<f64>,
    /// Its local maxima, and the minima between them.
    pub extrema: Vec<AxisExtremum>,
}

/// A local extremum of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AxisExtremum {
    /// The index on the axis, the middle one of equal neighbours.
    pub index: usize,
    /// The value there.
    pub value: f64,
    /// Which.
    pub kind: ExtremumKind,
}

/// Rank correlation of strength and of what is lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// `groups` or `layers`.
    pub over: String,
    /// `mean |w|` or `L2 norm`.
    pub strength: String,
    /// What is lost with the weaker half masked: `accuracy`, `agreement` or `output error`.
    pub loss: String,
    /// Parts compared.
    pub n: usize,
    /// Spearman's rho; nothing where all values are equal.
    pub spearman: Option<f64>,
    /// Kendall's tau-b.
    pub kendall: Option<f64>,
    /// Parts without any connection between the two stay below this rho 19 times out of 20.
    pub chance: Option<f64>,
    /// What it means, in a few words.
    pub words: String,
}
