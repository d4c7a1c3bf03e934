//! Fusing several versions of one network into one.
//!
//! 1. [`matched`] brings every network under the identifiers of the first one, and says where it
//!    cannot.
//! 2. Networks trained apart do not agree on the order of their channels: [`align`](align()) permutes
//!    those of each coupled group. Pruned versions of one network are in the same basis already.
//! 3. [`average`] takes the mean of their weights, [`greedy_soup`] only of those that help.
//! 4. The mean of weights is not the mean of what the networks do: [`ensemble`] is one graph whose
//!    every value is the mean over the networks, and so what
//!    [`rebuild`](crate::rebuild::rebuild) refits the mean towards, layer by layer in closed form
//!    and then by distillation as a whole.

mod align;
mod average;
mod compare;
mod ensemble;
mod permute;
mod similarity;
mod soup;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::{Graph, ValueId};

use crate::{Activations, Monitor, RebuildError};

pub use align::{Aligned, GroupMatch, align};
pub use average::{Zeros, average};
pub use compare::matched;
pub use ensemble::ensemble;
pub use permute::permuted;
pub use soup::{Soup, greedy_soup};

/// How the channels of one network correspond to those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// One to one: the networks descend from the same weights.
    #[default]
    Same,
    /// By the correlation of what they give on calibration samples, in one pass.
    Activations,
    /// By the products of their weights, group after group until nothing moves.
    Weights,
}

/// Rows for each correlation at most: at 512 channels some two hundred for each.
pub const DEFAULT_ROWS: usize = 100_000;

/// How to fuse.
#[derive(Clone, Debug, PartialEq)]
pub struct FuseConfig {
    /// How channels correspond.
    pub basis: Basis,
    /// Share of each network in the mean, in any unit; empty: all the same.
    pub weights: Vec<f64>,
    /// What becomes of connections that some networks have and others have not.
    pub zeros: Zeros,
    /// Rows of each group's correlation at most: output positions over all samples.
    pub max_rows: usize,
    /// How the networks run; results do not depend on the threads.
    pub exec: ExecOptions,
}

impl Default for FuseConfig {
    fn default() -> Self {
        Self {
            basis: Basis::default(),
            weights: Vec::new(),
            zeros: Zeros::default(),
            max_rows: DEFAULT_ROWS,
            exec: ExecOptions::default(),
        }
    }
}

/// Networks fused into one, nothing refitted yet.
#[derive(Clone, Debug)]
pub struct Fused {
    /// The mean, with the identifiers of the first network.
    pub graph: Graph,
    /// The networks in the basis and with the identifiers of the first one.
    pub models: Vec<Graph>,
    /// How each network after the first was brought into its basis.
    pub alignments: Vec<Aligned>,
    /// What the mean is to be rebuilt towards: every value the mean over the networks, with the
    /// identifiers of the first.
    pub ensemble: Graph,
}

/// Returns the mean of several networks.
///
/// # Errors
/// [`RebuildError::GraphsDiffer`] for networks of different graphs, [`RebuildError::Fuse`] for fewer
/// than two networks or weights that do not fit, and what [`align`](align()) and [`ensemble`] say.
pub fn fuse(
    models: &[Graph],
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
    monitor: &dyn Monitor,
) -> Result<Fused, RebuildError> {
    let based = in_one_basis(models, inputs, config, monitor)?;
    Ok(Fused {
        graph: average(&based.models, &config.weights, &config.zeros)?,
        ensemble: ensemble(&based.models, &config.weights)?,
        models: based.models,
        alignments: based.alignments,
    })
}

/// Networks in one basis, under the identifiers of the first.
#[derive(Clone, Debug)]
pub struct Based {
    /// The networks, the first as it was given.
    pub models: Vec<Graph>,
    /// How each network after the first was brought into its basis.
    pub alignments: Vec<Aligned>,
}

/// Returns the networks in the basis of the first; weights and zeros of the config play no part.
///
/// # Errors
/// [`RebuildError::GraphsDiffer`] for networks of different graphs, [`RebuildError::Fuse`] for fewer
/// than two networks, and what [`align`](align()) says.
pub fn in_one_basis(
    models: &[Graph],
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FuseConfig,
    monitor: &dyn Monitor,
) -> Result<Based, RebuildError> {
    let [first, others @ ..] = models else {
        return Err(too_few(0));
    };
    if others.is_empty() {
        return Err(too_few(1));
    }
    let others = others.iter().enumerate();
    // What cannot be fused is said before anything long.
    let others = others
        .map(|(i, other)| matched(first, other, i + 2))
        .collect::<Result<Vec<Graph>, RebuildError>>()?;
    let mut based = Based {
        models: vec![first.clone()],
        alignments: Vec::new(),
    };
    for other in &others {
        let found = align(first, other, inputs, config, monitor)?;
        based.models.push(found.graph.clone());
        based.alignments.push(found);
    }
    Ok(based)
}

fn too_few(found: usize) -> RebuildError {
    RebuildError::Fuse {
        reason: format!("{found} given, at least two are needed"),
    }
}

/// Returns the shares of the networks, none below zero and together 1.
fn shares(weights: &[f64], n_models: usize) -> Result<Vec<f64>, RebuildError> {
    if n_models == 0 {
        return Err(too_few(0));
    }
    if weights.is_empty() {
        return Ok(vec![1.0 / n_models as f64; n_models]);
    }
    let refuse = |reason: String| Err(RebuildError::Fuse { reason });
    if weights.len() != n_models {
        return refuse(format!("{} weights for {n_models} networks", weights.len()));
    }
    if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
        return refuse(format!("a weight of {bad} is not a share"));
    }
    let sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        return refuse("all weights are zero".to_owned());
    }
    Ok(weights.iter().map(|w| w / sum).collect())
}
