//! Everything that decides a run, as one strict TOML file.

mod names;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::reshape::ReshapeStep;

pub use names::{
    AllocationName, AttentionName, AugmentName, AutoName, DeviceName, MaskName, MixName,
    RebuildRateName, RefitName, RegrowName, RegrowUnitName, ScoreName, TopologyName, Tuning,
};

/// Samples used for calibration unless asked otherwise; enough for layers of a few thousand inputs.
pub const DEFAULT_CALIB: usize = 1024;

/// One run of `shrink`, complete: the same recipe and files give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The ONNX file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The data set: a file or a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Subtracted from each channel after scaling; empty for none, one for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f32>,
    /// Divided by, channel by channel; empty for none, one for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f32>,
    /// Factor before mean and std; left out: 1/255 for images of bytes, 1 for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Height and width images are brought to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<[usize; 2]>,
    /// Share of the dense model's MACs to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<f64>,
    /// Share of the dense model's parameters to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<f64>,
    /// Share of the dense model's measured time to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// True if whole residual blocks may go under a budget of MACs or parameters too; under one of
    /// time they may anyway.
    #[serde(skip_serializing_if = "is_false")]
    pub depth: bool,
    /// Share of the connections that go, one by one: 0.8 leaves a fifth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// The shape of the zeros: `unstructured`, `2:4` or any other n:m, `block:4x1`.
    pub pattern: String,
    /// How the connections that stay are shared between layers.
    pub allocation: AllocationName,
    /// How they are chosen in a layer.
    pub mask: MaskName,
    /// What the weights on them are refitted to.
    pub refit: RefitName,
    /// Steps in which connections go, with tuning between them; left out: one, or two where few
    /// connections stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_steps: Option<usize>,
    /// Passes of exact swaps over each layer at most.
    pub swap_passes: usize,
    /// Rounds in which connections move between layers, each kept if it lowers the held-out error.
    pub move_rounds: usize,
    /// Share of the pruned connections that come back, the best ones, or `auto`: as many as pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild_rate: Option<RebuildRateName>,
    /// What ranks the connections that come back.
    pub regrow: RegrowName,
    /// What comes back as one.
    pub regrow_unit: RegrowUnitName,
    /// Widths end on multiples of this.
    pub multiple_of: usize,
    /// What ranks the channels.
    pub score: ScoreName,
    /// Groups with a producer that fits one of these patterns stay whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// If given, only groups with a producer that fits one of these patterns shrink.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// What can go of attention.
    pub attention: AttentionName,
    /// Inputs and free extents that are fixed, each as `NAME=VALUE`: branches that depend on them
    /// become part of the network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
    /// States that the caller carries from one call to the next, each as `OUTPUT=INPUT`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<String>,
    /// Unlabelled training samples used, those held out to judge included.
    pub calib: usize,
    /// What happens to the weights after pruning.
    pub tune: Tuning,
    /// Passes over the calibration samples for each tuned block.
    pub epochs: usize,
    /// Passes with all blocks tuned together; left out: as many as a fixed amount of work allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_epochs: Option<usize>,
    /// How images are varied while all blocks are tuned together.
    pub augment: AugmentName,
    /// How they are mixed with each other then.
    pub mix: MixName,
    /// First damping of the refit, relative to the mean second moment of a layer's inputs.
    pub damping: f64,
    /// Seed of every random choice.
    pub seed: u64,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Where models run.
    pub device: DeviceName,
    /// Where the small model goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Samples of a batch when latency is measured.
    pub latency_batch: usize,
    /// The most accuracy that may be lost, in points; more ends with a code of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// True to accept weights that are NaN or infinite.
    pub allow_nonfinite: bool,
    /// True to read external data through hard links, as caches that store a file once make them.
    pub allow_hardlinks: bool,
    /// The topology that a rebuild gives weights to.
    pub topology: TopologyName,
    /// Edits of the topology after pruning and before the rebuild, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reshape: Vec<ReshapeStep>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: None,
            data: None,
            mean: Vec::new(),
            std: Vec::new(),
            scale: None,
            resize: None,
            macs: None,
            params: None,
            latency: None,
            depth: false,
            sparsity: None,
            pattern: DEFAULT_PATTERN.to_owned(),
            allocation: AllocationName::default(),
            mask: MaskName::default(),
            refit: RefitName::default(),
            prune_steps: None,
            swap_passes: DEFAULT_SWAP_PASSES,
            move_rounds: 0,
            rebuild_rate: None,
            regrow: RegrowName::default(),
            regrow_unit: RegrowUnitName::default(),
            multiple_of: DEFAULT_MULTIPLE_OF,
            score: ScoreName::default(),
            ignore: Vec::new(),
            only: Vec::new(),
            attention: AttentionName::default(),
            fix: Vec::new(),
            state: Vec::new(),
            calib: DEFAULT_CALIB,
            tune: Tuning::default(),
            epochs: DEFAULT_EPOCHS,
            joint_epochs: None,
            augment: AugmentName::default(),
            mix: MixName::default(),
            damping: DEFAULT_DAMPING,
            seed: 0,
            threads: None,
            device: DeviceName::default(),
            output: None,
            latency_batch: 32,
            max_drop: None,
            allow_nonfinite: false,
            allow_hardlinks: false,
            topology: TopologyName::default(),
            reshape: Vec::new(),
        }
    }
}

/// Eight 32-bit lanes: narrower remainders cost the time of a whole vector.
pub const DEFAULT_MULTIPLE_OF: usize = 8;

/// Any connection may go.
pub const DEFAULT_PATTERN: &str = "unstructured";

/// After two passes of swaps a layer's error moves by less than a thousandth.
pub const DEFAULT_SWAP_PASSES: usize = 2;

/// Passes after which the held-out error of a block no longer moves on the networks measured.
pub const DEFAULT_EPOCHS: usize = 8;

/// Small enough to leave a well-conditioned layer alone.
pub const DEFAULT_DAMPING: f64 = 1e-3;

// Named by serde, which hands references over.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Recipe {
    /// Returns true if single connections go instead of channels.
    pub fn is_sparse(&self) -> bool {
        self.sparsity.is_some() || self.pattern != DEFAULT_PATTERN
    }

    /// Returns the recipe that a TOML text spells; unknown keys are refused.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] with the line and what is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e| {
            Error::usage("the recipe cannot be read")
                .with_hint("compare it with a recipe that regraft wrote beside a result")
                .because(e)
        })
    }

    /// Returns the TOML text of the recipe.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if a value has no TOML form, such as a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|e| Error::usage("the recipe cannot be written").because(e))
    }

    /// Returns true if connections come back or move after the first pruning.
    pub fn regrows(&self) -> bool {
        self.move_rounds > 0 || self.rebuild_rate.is_some()
    }

    fn check_regrowth(&self, pattern: regraft_solve::sparse::Pattern) -> Result<(), Error> {
        if let Some(RebuildRateName::Share(share)) = self.rebuild_rate
            && !(0.0..=1.0).contains(&share)
        {
            return Err(
                Error::usage("`rebuild_rate` must be from 0 to 1, or `auto`")
                    .with_hint("it is the share of the pruned connections that come back"),
            );
        }
        if self.regrows() && pattern != regraft_solve::sparse::Pattern::Unstructured {
            return Err(Error::usage(format!(
                "connections cannot come back one by one in the pattern `{}`",
                self.pattern
            ))
            .with_hint("leave out --rebuild-rate and --move-rounds, or the pattern"));
        }
        Ok(())
    }

    fn check_budget(&self) -> Result<(), Error> {
        let shares = [
            ("macs", self.macs),
            ("params", self.params),
            ("latency", self.latency),
        ];
        for (name, share) in shares {
            if share.is_some_and(|s| !(s > 0.0 && s <= 1.0)) {
                return Err(
                    Error::usage(format!("`{name}` must be above 0 and at most 1"))
                        .with_hint("it is the share of the dense model to keep: 0.5 is half"),
                );
            }
        }
        if shares.iter().filter(|(_, s)| s.is_some()).count() > 1 {
            return Err(crate::selection::one_budget());
        }
        if self.depth && self.macs.is_none() && self.params.is_none() {
            return Err(
                Error::usage("`depth` goes with `macs` or `params`").with_hint(
                    "under `latency` whole blocks may go by themselves, under `sparsity` none do",
                ),
            );
        }
        if let Some(sparsity) = self.sparsity {
            if !(sparsity > 0.0 && sparsity < 1.0) {
                return Err(Error::usage("`sparsity` must be above 0 and below 1")
                    .with_hint("it is the share of connections that go: 0.8 leaves a fifth"));
            }
            if shares.iter().any(|(_, s)| s.is_some()) {
                return Err(Error::usage(
                    "`sparsity` cannot be given together with `macs`, `params` or `latency`",
                )
                .with_hint("remove channels first, then shrink the result with --sparsity"));
            }
        }
        Ok(())
    }

    /// Checks what can be checked without the files.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the option.
    pub fn check(&self) -> Result<(), Error> {
        self.check_budget()?;
        let pattern = crate::pipeline::pattern(&self.pattern)?;
        if let (Some(kept), Some(sparsity)) = (pattern.keep_ratio(), self.sparsity)
            && (1.0 - kept - sparsity).abs() > 1e-9
        {
            return Err(Error::usage(format!(
                "the pattern `{}` has a sparsity of {}, not {sparsity}",
                self.pattern,
                1.0 - kept
            ))
            .with_hint("leave --sparsity out: the pattern says it"));
        }
        self.check_regrowth(pattern)?;
        let counts = [
            ("prune_steps", self.prune_steps.unwrap_or(1), 1, 64),
            ("swap_passes", self.swap_passes, 0, 1000),
            ("move_rounds", self.move_rounds, 0, 1000),
            ("multiple_of", self.multiple_of, 1, 1 << 16),
            ("calib", self.calib, 2, 1 << 32),
            ("latency_batch", self.latency_batch, 1, 1 << 16),
            ("threads", self.threads.unwrap_or(1), 1, 1024),
        ];
        for (name, found, least, most) in counts {
            if !(least..=most).contains(&found) {
                return Err(Error::usage(format!(
                    "`{name}` is {found}, it must be from {least} to {most}"
                )));
            }
        }
        if self.scale.is_some_and(|s| s == 0.0 || !s.is_finite()) {
            return Err(Error::usage("`scale` must be a number other than 0"));
        }
        if self.max_drop.is_some_and(|d| !(d >= 0.0 && d.is_finite())) {
            return Err(Error::usage(
                "`max_drop` must be a number of points, 0 or more",
            ));
        }
        self.reshape.iter().try_for_each(ReshapeStep::check)?;
        regraft_exec::Device::from(self.device).check_built_in()?;
        // A result lies beside its recipe, which is text.
        self.to_toml()?;
        if self.std.iter().any(|s| *s == 0.0 || !s.is_finite())
            || self.mean.iter().any(|m| !m.is_finite())
        {
            return Err(Error::usage(
                "`std` must not be 0, and `mean` and `std` must be finite",
            ));
        }
        if !(self.damping >= 0.0 && self.damping.is_finite()) {
            return Err(Error::usage("`damping` must be at least 0"));
        }
        Ok(())
    }
}
