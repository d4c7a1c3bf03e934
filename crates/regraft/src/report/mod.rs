//! The report of one run: report.json, report.md, report.html and the table on the terminal.
//!
//! [`Report`] is filled by the pipeline; everything here turns it into text and
//! reads no file, clock or environment. Names that come from a model are hostile
//! until proven otherwise: each writer cleans and escapes them for its own format.

mod carried;
mod drawing;
mod error;
mod format;
mod fusion;
mod html;
mod markdown;
mod repeats;
mod reshape;
mod schema;
mod sparse_figures;
mod terminal;
mod training;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use carried::CarriedFigures;
pub use drawing::{DrawnNode, GraphDrawing, Row};
pub use error::ReportError;
pub(crate) use format::scientific;
pub use fusion::{FusedNetwork, FusionFigures};
pub use html::MAX_HTML_BYTES;
pub use repeats::{RepeatFigures, RepeatsFigures, Spread};
pub use reshape::{
    PlaceTrial, ReshapeChange, ReshapeFigures, ShareFigures, TopologyFigures, TopologyTrial,
};
pub use schema::{
    BlockFigures, BlockRemoval, BoxPlot, BudgetInfo, Change, ClassMetrics, DataInfo, DepthFigures,
    Extremum, ExtremumKind, Fallback, FrozenGroup, GroupFigures, Histogram, LatencyFigures,
    LayerFigures, LayerTime, Metrics, ModelFigures, ModelInfo, PlanTrial, PrPoint, PrunedFigures,
    Report, SCHEMA_VERSION, SensitivityPoint, StageTime, TimeBudget, VerifyFigures, WeightCount,
    WeightFigures,
};
pub use sparse_figures::{
    AllocationCandidate, AllocationFigures, PruneStep, RegrownLayer, RegrowthFigures, RegrowthStep,
};
pub use terminal::TerminalStyle;
pub use training::{EpochFigures, MeasureName, StatisticsFigures, TrainingFigures};

/// Returns a name that is safe to print, on one line.
pub(crate) fn printable(name: &str) -> String {
    format::one_line(name)
}

/// Returns the page of `inspect --html`.
pub(crate) fn importance_page(inspection: &crate::Inspection, found: &crate::Importance) -> String {
    html::importance_page(inspection, found)
}

impl Report {
    /// Returns what was lost, in hundredths, and of what: accuracy where there are classes, R² where there
    /// are numbers to find, else agreement with the dense network; `None` where nothing was judged.
    pub fn drop_points(&self) -> Option<(&'static str, f64)> {
        let q = format::quality(self)?;
        let of = match q.measure {
            MeasureName::Agreement => "agreement with the dense network",
            measure => measure.title(),
        };
        Some((of, 100.0 * (q.dense - q.small)))
    }

    /// Returns the text of report.md: the short account, for a commit or a ticket.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// Returns one offline page of at most [`MAX_HTML_BYTES`]: no script, no outside resource.
    ///
    /// A model with very many layers or classes is drawn with fewer details; the page says so.
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// Returns the table that ends `shrink` and `demo`.
    ///
    /// `report_path` is where the HTML page was written, if it was.
    pub fn to_terminal(&self, style: &TerminalStyle, report_path: Option<&str>) -> String {
        terminal::render(self, style, report_path)
    }
}
