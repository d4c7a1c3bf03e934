//! What a plan would be worth: the network's output after a closed-form rebuild.

use regraft_prune::{Groups, Plan};
use regraft_rebuild::Silent;
use regraft_rebuild::output::output_error;
use regraft_rebuild::rebuild::{NoJournal, Pair, RebuildConfig, kept_axes, rebuild};

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

/// Returns the relative squared error of the output after a closed-form rebuild on a part of the
/// samples, on others.
pub(super) fn trial(
    setting: &Setting<'_>,
    groups: &Groups,
    plan: &Plan,
    size: TrialSize,
) -> Result<f64, Error> {
    let Setting { model, samples, .. } = *setting;
    let (pruned, applied) = model.pruned(groups, plan)?;
    let kept = kept_axes(&applied);
    let pair = Pair {
        dense: &model.graph,
        teacher: &model.graph,
        pruned: &pruned,
        kept: &kept,
    };
    let n_chunks = samples.calibration.n_chunks();
    let feeds = |from: usize, n: usize| samples.calibration.chunks(from..from + n);
    // The last chunk of the fitted ones decides what is kept; the judges were not seen.
    let n_fit = (size.fit + 1).min(n_chunks.saturating_sub(1)).max(2);
    let config = RebuildConfig {
        damping: setting.recipe.damping,
        max_rows: size.rows,
        tune: None,
        refit: true,
        held_out_chunks: 1,
        sparsity: None,
        exec: setting.exec,
    };
    let rebuilt = rebuild(pair, &feeds(0, n_fit), &config, &NoJournal, &Silent)?;
    let judges = feeds(n_fit.min(n_chunks.saturating_sub(1)), size.judge);
    Ok(output_error(
        &rebuilt.graph,
        &model.graph,
        &judges,
        setting.exec,
    )?)
}
