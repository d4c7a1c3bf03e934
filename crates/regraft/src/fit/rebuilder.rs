//! The closed-form rebuild between two rounds of pruning.

use regraft_exec::ExecOptions;
use regraft_graph::Graph;
use regraft_rebuild::rebuild::{KeptAxes, NoJournal, Pair, RebuildConfig, rebuild};

use super::Set;
use crate::Error;
use crate::pipeline::{Log, REFIT_ROWS, held_zeros};
use crate::progress::Adapter;

/// Training samples that the weights are refitted on; enough for layers of a few hundred inputs.
const SAMPLES: usize = 1024;
/// How many of them only judge.
const HELD_OUT: usize = 128;
const CHUNK: usize = 64;

/// Refits what a round of pruning left of a network towards the network before it.
pub(super) struct Rebuilder<'a> {
    pub(super) set: &'a Set<'a>,
    pub(super) exec: ExecOptions,
    pub(super) log: &'a Log<'a>,
}

impl Rebuilder<'_> {
    /// Returns `pruned` with its weights refitted, zeros where it has zeros.
    pub(super) fn rebuild(&self, before: &Graph, pruned: &Graph) -> Result<Graph, Error> {
        let n = self.set.fit.len().min(SAMPLES);
        let feeds = self.set.feeds(&self.set.fit[..n], CHUNK)?;
        let chunks = n.div_ceil(CHUNK);
        let kept = KeptAxes::new();
        let pair = Pair {
            dense: before,
            teacher: before,
            pruned,
            kept: &kept,
        };
        let config = RebuildConfig {
            damping: crate::recipe::DEFAULT_DAMPING,
            max_rows: REFIT_ROWS,
            tune: None,
            refit: true,
            held_out_chunks: (HELD_OUT / CHUNK).min(chunks.saturating_sub(1)),
            sparsity: held_zeros(pruned, self.log)?,
            exec: self.exec,
        };
        let rebuilt = rebuild(pair, &feeds, &config, &NoJournal, &Adapter::new(self.log))?;
        Ok(rebuilt.graph)
    }
}
