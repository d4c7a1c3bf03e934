//! Attention put into a network as an exact identity, to be fitted by what follows: behind convolutions, linear
//! layers, recurrent cells and the branches of transformers.
//!
//! Every gate is `2·sigmoid(z)` with `z = 0` at first, so that it multiplies by exactly one; self-attention is
//! added through a projection of zeros. Gradients reach the zeros, so block and joint tuning fit
//! them.

mod features;
mod gates;
mod maps;
mod places;
#[cfg(test)]
mod tests;

use regraft_graph::NodeId;
use regraft_graph::cost::{node_macs, node_params};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Graph, ValueId};

use self::gates::{Place, Site};
use self::places::{Places, places};
use super::{Change, Edited, Network, Selection};
use crate::RebuildError;

/// What is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// A gate for each channel from the means of all (squeeze and excitation; Hu et al. 2018).
    SqueezeExcite {
        /// Channels for each hidden one.
        reduction: usize,
    },
    /// A gate for each channel from the means of its neighbours (ECA; Wang et al. 2020).
    Channel {
        /// Neighbours that are read, odd.
        reach: usize,
    },
    /// A gate for each position from the mean and the maximum over channels (CBAM; Woo et al. 2018).
    Spatial {
        /// Side of the kernel, odd.
        kernel: usize,
    },
    /// Each position reads all others (multi-head self-attention; Vaswani et al. 2017; on images Wang et
    /// al. 2018, non-local blocks).
    SelfAttention {
        /// Heads.
        heads: usize,
    },
}

/// How attention is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttendConfig {
    /// What.
    pub attention: Attention,
    /// Seed of the weights that are not zero.
    pub seed: u64,
}

/// The widest kernel of a gate for each position, and the most neighbours of one for each channel: as the
/// kernels of new layers.
const MOST_KERNEL: usize = 31;
const MOST_REACH: usize = 511;

/// Puts attention behind the selected layers and cells; without patterns behind the ends of residual
/// branches, or where a network has none, behind all convolutions with a kernel larger than 1x1, or its
/// recurrent cells, or its linear layers.
///
/// # Errors
/// [`RebuildError::Edit`] for sizes that no layer of the network allows.
pub fn attend(
    network: &Network,
    selection: &Selection,
    config: &AttendConfig,
) -> Result<Edited, RebuildError> {
    let attention = config.attention;
    attention.check()?;
    let graph = &network.graph;
    let opset = graph.header().opset().unwrap_or(13);
    let Places { found, mut left } = places(network, selection)?;
    let mut edit = graph.edit();
    let mut made: Vec<(&Place, Vec<ValueId>)> = Vec::new();
    for (at, place) in found.iter().enumerate() {
        if let Some(why) = place.refuses(attention) {
            left.push((place.label.clone(), why));
            continue;
        }
        let name = graph.value(place.value).name.clone();
        let site = Site::new(place, name, opset, config.seed ^ at as u64);
        made.push((place, site.add(&mut edit, attention)?));
    }
    let graph = edit.finish()?;
    let changes = changes(network, &graph, &made, attention)?;
    Ok(Edited::new(graph, changes, left, true))
}

fn changes(
    network: &Network,
    graph: &Graph,
    made: &[(&Place, Vec<ValueId>)],
    attention: Attention,
) -> Result<Vec<Change>, RebuildError> {
    let facts = infer(graph, &InferOptions::default())?;
    let change = |(place, values): &(&Place, Vec<ValueId>)| {
        let nodes: Vec<NodeId> = values.iter().filter_map(|v| graph.producer(*v)).collect();
        let macs = node_macs(&network.graph, &network.facts, place.node);
        let params = node_params(&network.graph, place.node);
        let added: u64 = nodes.iter().map(|n| node_macs(graph, &facts, *n)).sum();
        let new: u64 = nodes.iter().map(|n| node_params(graph, *n)).sum();
        Change {
            node: place.label.clone(),
            what: format!("the same, then {}", attention.in_words(place)),
            macs: (macs, macs + added),
            params: (params, params + new),
            error: Some(0.0),
        }
    };
    Ok(made.iter().map(change).collect())
}

impl Attention {
    fn check(self) -> Result<(), RebuildError> {
        let wrong = |reason: &str| {
            Err(RebuildError::Edit {
                reason: reason.to_owned(),
            })
        };
        match self {
            Self::SqueezeExcite { reduction: 0 } => wrong("a reduction of 0 leaves no channel"),
            Self::SelfAttention { heads: 0 } => wrong("attention needs a head"),
            Self::Channel { reach: n } | Self::Spatial { kernel: n } if n % 2 == 0 => {
                wrong("a kernel must be odd to keep the extents")
            }
            Self::Spatial { kernel } if kernel > MOST_KERNEL => {
                wrong("a kernel of gates is at most 31 wide")
            }
            Self::Channel { reach } if reach > MOST_REACH => {
                wrong("a gate reads at most 511 neighbours")
            }
            _ => Ok(()),
        }
    }

    fn in_words(self, place: &Place) -> String {
        match self {
            Self::SqueezeExcite { reduction } => {
                format!("squeeze and excitation with a {reduction}th of the channels")
            }
            Self::Channel { reach } => format!("a gate for each channel from {reach} neighbours"),
            Self::Spatial { kernel } if place.n_axes() > 1 => {
                format!("a gate for each position by {kernel}x{kernel}")
            }
            Self::Spatial { kernel } => format!("a gate for each position by {kernel}"),
            Self::SelfAttention { heads } => format!("self-attention of {heads} heads"),
        }
    }
}
