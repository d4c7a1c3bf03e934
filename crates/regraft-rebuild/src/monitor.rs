//! How long work reports progress and is stopped.

/// A long step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The dense model runs over the calibration samples.
    Calibrate,
    /// Groups are pruned one at a time to see what they matter.
    Sensitivity,
    /// Layers are solved at every share of their connections.
    Levels,
    /// A budget is shared between layers.
    Allocate,
    /// Layers are refitted and blocks tuned in graph order.
    Rebuild,
    /// Connections are priced that may come back or move.
    Regrow,
    /// All blocks are tuned together.
    Tune,
}

/// Told about progress, asked whether to go on.
pub trait Monitor {
    /// `done` of `total` units of `stage` are finished; `what` is being worked on.
    fn progress(&self, stage: Stage, done: usize, total: usize, what: &str);

    /// Returns true once the work should stop as soon as it can.
    fn cancelled(&self) -> bool;
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn progress(&self, _: Stage, _: usize, _: usize, _: &str) {}

    fn cancelled(&self) -> bool {
        false
    }
}
