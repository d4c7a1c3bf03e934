//! regraft: prune a trained network, rebuild what is left, verify it, report it.
//!
//! The facade and the only semver surface. [`shrink`] is the whole pipeline; the other verbs run
//! some of its stages. Everything that decides a result is in a [`Recipe`]; nothing else is.
//!
//! ```no_run
//! use regraft::{Quiet, Recipe, RunOptions, shrink};
//!
//! let recipe = Recipe {
//!     model: Some("resnet56.onnx".into()),
//!     data: Some("cifar10".into()),
//!     macs: Some(0.5),
//!     ..Recipe::default()
//! };
//! let outcome = shrink(&recipe, &RunOptions::default(), &Quiet)?;
//! println!("{} MACs left", outcome.report.small.macs);
//! # Ok::<(), regraft::Error>(())
//! ```

mod apply;
mod bench;
mod demo;
mod error;
mod evaluate;
mod fit;
mod importance;
mod inspect;
mod latency;
mod model;
mod new;
mod outputs;
mod pipeline;
mod plan;
mod plan_file;
mod progress;
mod recipe;
pub mod report;
mod reshape;
mod samples;
mod selection;
mod storage;
mod verify;

pub use apply::{Applied, ApplyOptions, apply};
pub use bench::{Benchmark, Evaluation, bench, eval};
pub use demo::demo;
pub use error::{Error, ErrorKind};
pub use evaluate::{
    AttackFigures, AttackName, AttackOptions, AttackedFigures, NormName, eval_under_attack,
};
pub use fit::{
    DEFAULT_HELD_OUT, DecayName, FitAttackName, FitAugmentName, FitMixName, FitRecipe, LossName,
    MethodName, OptimizerName, PaceName, SaliencyName, SoftAllocationName, fit,
};
pub use importance::{
    AxisExtremum, AxisProfile, Correlation, Effect, Importance, InspectOptions, Part, Quality,
    Strength,
};
pub use inspect::{InspectedGroup, Inspection, inspect, inspect_on_data};
pub use new::{Design, LayerFile, NamedOptions, NewLayer, NewNetwork, new};
pub use pipeline::{Files, Outcome, RunOptions, rebuild, shrink};
pub use plan::plan;
pub use plan_file::{PlanFile, PlanGroup, PlanKeeps};

pub use progress::{Progress, Quiet};
pub use recipe::{
    AllocationName, AttentionName, AugmentName, AutoName, DEFAULT_CALIB, DEFAULT_DAMPING,
    DEFAULT_EPOCHS, DEFAULT_MULTIPLE_OF, DEFAULT_PATTERN, DEFAULT_SWAP_PASSES, DeviceName,
    MaskName, MixName, RebuildRateName, Recipe, RefitName, RegrowName, RegrowUnitName, ScoreName,
    TopologyName, Tuning,
};
pub use reshape::{
    AttendName, AttendStep, BasisName, DeepenStep, FormName, FuseFigures, FuseOptions, FuseStep,
    InsertName, LinkStep, LowRankStep, MixtureName, ReconnectStep, ReconnectUnitName, ReshapeStep,
    SchemeName, ScopeName, ShareName, ShareStep, StepLayers, TieStep, Undone, WeightingName,
    WidenStep, ZerosName, fuse, reshape, undo,
};
