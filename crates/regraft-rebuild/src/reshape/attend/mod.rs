//! Attention put into a network as an exact identity, to be fitted by what follows.
//!
//! Every gate is `2·sigmoid(z)` with `z = 0` at first, so that it multiplies by exactly one; self-attention is
//! added through a projection of zeros. Gradients reach the zeros, so block and joint tuning fit
//! them.

mod gates;
#[cfg(test)]
mod tests;

use regraft_graph::cost::{node_macs, node_params};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Dim, NodeId, Op, ValueId};

use self::gates::Site;
use super::{Change, Edited, Network, Selection};
use crate::{Layer, LayerKind, RebuildError};

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

/// Puts attention behind convolutions: those that end a residual branch, or where a network has
/// none, all with a kernel larger than 1x1.
///
/// # Errors
/// [`RebuildError::Edit`] for sizes that no layer of the network allows.
pub fn attend(
    network: &Network,
    selection: &Selection,
    config: &AttendConfig,
) -> Result<Edited, RebuildError> {
    config.attention.check()?;
    let graph = &network.graph;
    let may = selection.of(graph, &network.layers)?;
    let chosen = network
        .layers
        .iter()
        .zip(may)
        .filter_map(|(l, m)| m.then_some(l));
    let convolutions: Vec<&Layer> = chosen
        .filter(|l| matches!(l.kind, LayerKind::Conv { .. }))
        .collect();
    let ends = |l: &&Layer| ends_branch(network, l);
    let wide = |l: &&Layer| l.taps > 1;
    let picked: Vec<&Layer> = if !selection.only.is_empty() {
        convolutions
    } else if convolutions.iter().any(|l| ends(l) && wide(l)) {
        convolutions
            .into_iter()
            .filter(|l| ends(l) && wide(l))
            .collect()
    } else {
        convolutions.into_iter().filter(wide).collect()
    };
    let mut edit = graph.edit();
    let mut left = Vec::new();
    let mut made: Vec<(&Layer, Vec<ValueId>)> = Vec::new();
    for (at, layer) in picked.into_iter().enumerate() {
        let label = graph.node_label(layer.node);
        let space = space(network, layer.output);
        match Site::new(network, layer, space, config.seed ^ at as u64) {
            Ok(site) => made.push((layer, site.add(&mut edit, config.attention)?)),
            Err(why) => left.push((label, why)),
        }
    }
    let graph = edit.finish()?;
    let changes = changes(network, &graph, &made, config.attention)?;
    Ok(Edited::new(graph, changes, left, true))
}

/// Returns true if a layer's output is added to something else than another part of the same layer: thin
/// layers beside single weights read what it reads, with nothing but layers between.
fn ends_branch(network: &Network, layer: &Layer) -> bool {
    let graph = &network.graph;
    let behind = |value: ValueId| network.layers.iter().find(|l| l.output == value);
    let is_part = |other: ValueId| {
        let chain = std::iter::successors(behind(other), |l| behind(l.input));
        chain.last().is_some_and(|first| first.input == layer.input)
    };
    graph.consumers(layer.output).iter().any(|n| {
        let node = graph.node(*n);
        let others = node.inputs.iter().flatten().copied();
        let mut others = others.filter(|v| *v != layer.output);
        matches!(node.op, Op::Binary(regraft_graph::op::BinaryOp::Add)) && !others.any(is_part)
    })
}

fn space(network: &Network, value: ValueId) -> Option<[usize; 2]> {
    let shape = network.facts.shape(value)?;
    let extent = |axis: usize| shape.get(axis).and_then(Dim::fixed);
    (shape.len() == 4).then_some(())?;
    Some([extent(2)?, extent(3)?])
}

fn changes(
    network: &Network,
    graph: &regraft_graph::Graph,
    made: &[(&Layer, Vec<ValueId>)],
    attention: Attention,
) -> Result<Vec<Change>, RebuildError> {
    let facts = infer(graph, &InferOptions::default())?;
    let change = |(layer, values): &(&Layer, Vec<ValueId>)| {
        let nodes: Vec<NodeId> = values.iter().filter_map(|v| graph.producer(*v)).collect();
        let own = node_macs(&network.graph, &network.facts, layer.node);
        let weights = (layer.n_out * layer.d) as u64;
        let added: u64 = nodes.iter().map(|n| node_macs(graph, &facts, *n)).sum();
        let params: u64 = nodes.iter().map(|n| node_params(graph, *n)).sum();
        Change {
            node: network.graph.node_label(layer.node),
            what: format!("the same, then {}", attention.in_words()),
            macs: (own, own + added),
            params: (weights, weights + params),
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

    fn in_words(self) -> String {
        match self {
            Self::SqueezeExcite { reduction } => {
                format!("squeeze and excitation with a {reduction}th of the channels")
            }
            Self::Channel { reach } => format!("a gate for each channel from {reach} neighbours"),
            Self::Spatial { kernel } => format!("a gate for each position by {kernel}x{kernel}"),
            Self::SelfAttention { heads } => format!("self-attention of {heads} heads"),
        }
    }
}
