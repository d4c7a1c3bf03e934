//! What a plan would be worth: the network's output after a closed-form rebuild.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::ValueId;
use regraft_prune::{Groups, Plan};
use regraft_rebuild::output::{outputs, relative_error};
use regraft_rebuild::rebuild::{NoJournal, Pair, RebuildConfig, kept_axes, rebuild};
use regraft_rebuild::{Activations, Silent};

use super::Setting;
use crate::Error;

/// How much of the samples a trial sees.
#[derive(Clone, Copy)]
pub(super) struct TrialSize {
    /// Chunks that the plan is rebuilt on, and chunks that judge it.
    fit: usize,
    judge: usize,
    /// Rows of each layer's refit.
    rows: usize,
}

/// For plans under one budget, which may be close to each other.
pub(super) const PLAN: TrialSize = TrialSize {
    fit: 6,
    judge: 4,
    rows: 60_000,
};

/// For single blocks, of which a network may have many: a rank and a size are wanted, no digits.
pub(super) const BLOCK: TrialSize = TrialSize {
    fit: 2,
    judge: 2,
    rows: 16_000,
};

/// Rebuilds plans in closed form on a part of the samples and judges them on others.
pub(super) struct Trial<'a> {
    setting: Setting<'a>,
    groups: &'a Groups,
    config: RebuildConfig,
    fit: Feeds,
    judges: Feeds,
    /// What the dense model makes of the judges.
    reference: Vec<HostTensor>,
}

type Feeds = BTreeMap<ValueId, Activations>;

impl<'a> Trial<'a> {
    pub(super) fn new(
        setting: Setting<'a>,
        groups: &'a Groups,
        size: TrialSize,
    ) -> Result<Self, Error> {
        let Setting { model, samples, .. } = setting;
        let n_chunks = samples.calibration.n_chunks();
        let feeds = |from: usize, n: usize| samples.calibration.chunks(from..from + n);
        // The last chunk of the fitted ones decides what is kept; the judges were not seen.
        let n_fit = (size.fit + 1).min(n_chunks.saturating_sub(1)).max(2);
        let judges = feeds(n_fit.min(n_chunks.saturating_sub(1)), size.judge);
        Ok(Self {
            config: RebuildConfig {
                damping: setting.recipe.damping,
                max_rows: size.rows,
                tune: None,
                refit: true,
                held_out_chunks: 1,
                sparsity: None,
                exec: setting.exec,
            },
            fit: feeds(0, n_fit),
            reference: outputs(&model.graph, &judges, setting.exec)?,
            judges,
            setting,
            groups,
        })
    }

    /// Returns the relative squared error of the output.
    pub(super) fn error(&self, plan: &Plan) -> Result<f64, Error> {
        let Setting { model, exec, .. } = self.setting;
        let (pruned, applied) = model.pruned(self.groups, plan)?;
        let kept = kept_axes(&applied);
        let pair = Pair {
            dense: &model.graph,
            teacher: &model.graph,
            pruned: &pruned,
            kept: &kept,
        };
        let rebuilt = rebuild(pair, &self.fit, &self.config, &NoJournal, &Silent)?;
        let found = outputs(&rebuilt.graph, &self.judges, exec)?;
        Ok(relative_error(&found, &self.reference))
    }
}
