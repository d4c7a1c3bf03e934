//! Where attention can be put: behind convolutions, linear layers and recurrent cells.

use regraft_graph::op::BinaryOp;
use regraft_graph::{Dim, Graph, NodeId, Op, ValueId};

use super::gates::{Form, Place};
use crate::cell::{Features, find_cells};
use crate::reshape::{Network, Selection};
use crate::{Layer, LayerKind, RebuildError};

/// The places that were selected.
pub(super) struct Places {
    pub(super) found: Vec<Place>,
    /// Those that are none, with the reason.
    pub(super) left: Vec<(String, String)>,
}

/// A place, or why there is none, and what speaks for it.
struct Candidate {
    node: NodeId,
    label: String,
    found: Result<Place, String>,
    rank: Rank,
}

/// What a place is; the first kind that a network has is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The end of a residual branch: a convolution larger than 1x1, or a linear layer.
    EndOfBranch,
    /// Another convolution larger than 1x1.
    Convolution,
    /// A recurrent cell.
    Cell,
    /// Another linear layer.
    Linear,
    /// A convolution of 1x1: only where it is asked for.
    Asked,
}

/// Returns the selected places in graph order, and those that are none with the reason. Without patterns
/// to choose by these are the ends of residual branches, or else convolutions larger than 1x1, or else
/// recurrent cells, or else linear layers.
///
/// # Errors
/// [`RebuildError::Pattern`] if a pattern fits nothing.
pub(super) fn places(network: &Network, selection: &Selection) -> Result<Places, RebuildError> {
    let mut all: Vec<Candidate> = network
        .layers
        .iter()
        .map(|l| of_layer(network, l))
        .collect();
    all.extend(of_cells(network));
    all.sort_by_key(|c| c.node);
    let labels: Vec<String> = all.iter().map(|c| c.label.clone()).collect();
    let may = selection.of_labels(&labels)?;
    let mut chosen: Vec<Candidate> = all
        .into_iter()
        .zip(may)
        .filter_map(|(c, may)| may.then_some(c))
        .collect();
    if selection.only.is_empty() {
        let first = chosen.iter().map(|c| c.rank).min();
        chosen.retain(|c| Some(c.rank) == first && c.rank != Rank::Asked);
    }
    let (mut places, mut left) = (Vec::new(), Vec::new());
    for candidate in chosen {
        match candidate.found {
            Ok(place) => places.push(place),
            Err(why) => left.push((candidate.label, why)),
        }
    }
    Ok(Places {
        found: places,
        left,
    })
}

fn of_layer(network: &Network, layer: &Layer) -> Candidate {
    let graph = &network.graph;
    let is_conv = matches!(layer.kind, LayerKind::Conv { .. });
    let is_wide = !is_conv || layer.taps > 1;
    let value = behind_bias(graph, layer.output);
    let label = graph.node_label(layer.node);
    let form = if is_conv {
        map(network, value)
    } else {
        features(network, value)
    };
    Candidate {
        node: layer.node,
        rank: match (is_wide, is_conv) {
            (false, _) => Rank::Asked,
            (true, _) if ends_branch(network, layer, value) => Rank::EndOfBranch,
            (true, true) => Rank::Convolution,
            (true, false) => Rank::Linear,
        },
        found: form.and_then(|form| place(graph, layer.node, value, layer.n_out, form)),
        label,
    }
}

fn place(
    graph: &Graph,
    node: NodeId,
    value: ValueId,
    channels: usize,
    form: Form,
) -> Result<Place, String> {
    if graph.outputs().contains(&value) {
        return Err("its output is the network's".to_owned());
    }
    Ok(Place {
        node,
        label: graph.node_label(node),
        value,
        channels,
        form,
    })
}

/// Returns the sum with a constant behind a value, which is the bias of a product, or the value.
fn behind_bias(graph: &Graph, value: ValueId) -> ValueId {
    let [next] = graph.consumers(value) else {
        return value;
    };
    let node = graph.node(*next);
    let constant = |v: &ValueId| graph.tensor(*v).is_some();
    let is_bias =
        matches!(node.op, Op::Binary(BinaryOp::Add)) && node.inputs.iter().flatten().any(constant);
    node.output(0).filter(|_| is_bias).unwrap_or(value)
}

fn map(network: &Network, value: ValueId) -> Result<Form, String> {
    let shape = network.facts.shape(value).unwrap_or_default();
    let space: Option<Vec<usize>> = shape.iter().skip(2).map(Dim::fixed).collect();
    match space {
        Some(space) if (1..=2).contains(&space.len()) => Ok(Form::Map { space }),
        _ => Err("its output is no map of fixed extents".to_owned()),
    }
}

fn features(network: &Network, value: ValueId) -> Result<Form, String> {
    let shape = network.facts.shape(value).unwrap_or_default();
    if shape.len() < 2 {
        return Err("its output has no axis of samples".to_owned());
    }
    let batch = batch_axis(network, shape);
    Ok(Form::Features {
        rank: shape.len(),
        batch,
    })
}

/// Returns the axis whose extent has the name of the samples' one, the first where none has.
fn batch_axis(network: &Network, shape: &[Dim]) -> usize {
    let graph = &network.graph;
    let input = graph.required_inputs().first().copied();
    let named = input
        .and_then(|v| network.facts.shape(v)?.first())
        .filter(|d| matches!(d, Dim::Symbol(_)));
    let before_last = &shape[..shape.len() - 1];
    before_last
        .iter()
        .position(|d| Some(d) == named)
        .unwrap_or(0)
}

/// Cells whose states, or else their last ones, something reads as features.
fn of_cells(network: &Network) -> impl Iterator<Item = Candidate> {
    let (graph, facts) = (&network.graph, &network.facts);
    find_cells(graph, facts).into_iter().map(|cell| {
        let features = cell.sequence(graph, facts);
        let found = match features.or_else(|| cell.last(graph, facts)) {
            Some(Features { value, rank, batch }) => {
                let form = Form::Features { rank, batch };
                place(graph, cell.node, value, cell.n_features(), form)
            }
            None => Err("its states are read in no plain sequence".to_owned()),
        };
        Candidate {
            node: cell.node,
            label: graph.node_label(cell.node),
            found,
            rank: Rank::Cell,
        }
    })
}

/// Returns true if all that is done with what a layer makes is to add it to something else than another part
/// of the same layer: thin layers beside single weights read what it reads, with nothing but layers between.
fn ends_branch(network: &Network, layer: &Layer, value: ValueId) -> bool {
    let graph = &network.graph;
    let behind = |value: ValueId| network.layers.iter().find(|l| l.output == value);
    let is_part = |other: ValueId| {
        let chain = std::iter::successors(behind(other), |l| behind(l.input));
        chain.last().is_some_and(|first| first.input == layer.input)
    };
    let [next] = graph.consumers(value) else {
        return false;
    };
    let node = graph.node(*next);
    let others = node.inputs.iter().flatten().copied();
    let mut others = others.filter(|v| *v != value);
    // Nor is a sum with a constant, such as positions.
    let is_none = |v: ValueId| graph.tensor(v).is_some() || is_part(v);
    matches!(node.op, Op::Binary(BinaryOp::Add)) && !others.any(is_none)
}
