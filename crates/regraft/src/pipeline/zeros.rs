//! Zeros of layers that have lost single connections, which a rebuild holds.

use std::collections::BTreeMap;

use regraft_graph::{Graph, ValueId};
use regraft_rebuild::rebuild::{MaskMethod, Sparsity, copied_inputs};
use regraft_rebuild::{Layer, find_layers};
use regraft_solve::sparse::Mask;
use regraft_train::sparse_weights;

use super::Log;
use super::shrink::facts_of;
use crate::Error;
use crate::progress::Progress;
use crate::reshape::Topology;

/// Returns how zeros are held in the layers that have lost single connections, if there are any.
pub(crate) fn held_zeros(graph: &Graph, log: &Log<'_>) -> Result<Option<Sparsity>, Error> {
    let sparse = sparse_weights(graph);
    let layers = find_layers(graph, &facts_of(graph)?);
    let of_sparse = layers.iter().filter(|l| sparse.contains(&l.weight));
    let count = |l: &Layer| Some((l.output, Mask::of_nonzero(&l.weights(graph)?).n_kept()));
    let kept: BTreeMap<ValueId, usize> = of_sparse.filter_map(count).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    log.note(&format!(
        "{} layers have lost single connections: their zeros stay",
        kept.len()
    ));
    Ok(Some(Sparsity {
        kept,
        method: MaskMethod::Hold,
        ..Sparsity::default()
    }))
}

/// Returns the held zeros behind edits.
pub(super) fn behind_edits(
    zeros: Option<Sparsity>,
    before: &Graph,
    topology: &Topology,
) -> Result<Option<Sparsity>, Error> {
    let zeros = zeros.map(|zeros| still_there(zeros, before, &topology.graph));
    zeros.map(|zeros| with_copies(zeros, topology)).transpose()
}

/// Returns the held zeros of the layers that edits left with their weights.
fn still_there(mut zeros: Sparsity, before: &Graph, after: &Graph) -> Sparsity {
    let weight = |graph: &Graph, output: ValueId| {
        let node = graph.node(graph.producer(output)?);
        node.input(1)
    };
    zeros
        .kept
        .retain(|output, _| weight(before, *output) == weight(after, *output));
    zeros
}

/// Returns held zeros with masks that have the inputs of layers which an edit made as copies of others: nothing reads
/// those yet.
fn with_copies(mut zeros: Sparsity, topology: &Topology) -> Result<Sparsity, Error> {
    let graph = &topology.graph;
    for layer in find_layers(graph, &facts_of(graph)?) {
        let Some(n_kept) = zeros.kept.get_mut(&layer.output) else {
            continue;
        };
        let copied = copied_inputs(&layer, &topology.kept);
        let Some(weights) = layer.weights(graph).filter(|_| !copied.is_empty()) else {
            continue;
        };
        let mut mask = Mask::of_nonzero(&weights);
        for column in copied.into_iter().filter(|c| *c < mask.cols) {
            for row in 0..mask.rows {
                mask.kept[row * mask.cols + column] = true;
            }
        }
        *n_kept = mask.n_kept();
        zeros.masks.insert(layer.output, mask);
    }
    Ok(zeros)
}

/// Returns which weights are not zero of the layers whose zeros are held, by the layer's output.
pub(super) fn masks(graph: &Graph, held: &Sparsity) -> Result<BTreeMap<ValueId, Mask>, Error> {
    let layers = find_layers(graph, &facts_of(graph)?);
    let held = layers.iter().filter(|l| held.kept.contains_key(&l.output));
    let mask = |l: &Layer| Some((l.output, Mask::of_nonzero(&l.weights(graph)?)));
    Ok(held.filter_map(mask).collect())
}

#[cfg(test)]
mod tests {
    use regraft_graph::op::{Conv, UnaryOp};
    use regraft_graph::{DType, Dim, GraphBuilder, Header, Op, Tensor, ValueType};
    use regraft_prune::find_groups;
    use regraft_rebuild::reshape::Network;
    use regraft_rebuild::reshape::deepen::{DeepenConfig, Insert, deepen};
    use regraft_rebuild::reshape::widen::{WidenConfig, Widths, widen};

    use super::*;
    use crate::progress::Quiet;

    /// Three convolutions, the second with every `nth` weight alone.
    fn graph(nth: usize) -> Graph {
        let mut b = GraphBuilder::new(Header::default());
        let dims = [
            Dim::symbol("batch"),
            Dim::Fixed(4),
            Dim::Fixed(5),
            Dim::Fixed(5),
        ];
        let declared = ValueType {
            dtype: DType::F32,
            shape: Some(dims.to_vec()),
        };
        b.input("x", Some(declared));
        for (i, (from, to)) in [("x", "a"), ("ar", "b"), ("br", "c")].iter().enumerate() {
            let weight = format!("{to}.w");
            let data = (0..16).map(|j| {
                let stays = i != 1 || j % nth == 0;
                if stays { 1.0 + j as f32 } else { 0.0 }
            });
            let tensor = Tensor::from_f32(vec![4, 4, 1, 1], data.collect()).unwrap();
            b.tensor(&weight, tensor).unwrap();
            b.op(to, Op::Conv(Conv::default()), &[from, &weight], &[to]);
            let relu = format!("{to}r");
            b.op(&relu, Op::Unary(UnaryOp::Relu), &[to], &[&relu]);
        }
        b.output("cr");
        b.finish().unwrap()
    }

    fn held(graph: &Graph) -> Vec<(String, usize)> {
        let found = held_zeros(graph, &Log::new(&Quiet)).unwrap();
        let named = |(v, n): (&ValueId, &usize)| (graph.value(*v).name.clone(), *n);
        found.map_or_else(Vec::new, |s| s.kept.iter().map(named).collect())
    }

    #[test]
    fn zeros_of_connections_are_held_and_those_that_edits_begin_with_are_not() {
        let (dense, sparse) = (graph(1), graph(3));
        assert!(held(&dense).is_empty());
        assert_eq!(held(&sparse), [("b".to_owned(), 6)]);
        for (start, connections) in [(&dense, 0), (&sparse, 1)] {
            let network = Network::new(start.clone()).unwrap();
            for insert in [Insert::Residual, Insert::Identity] {
                let config = DeepenConfig {
                    insert,
                    ..DeepenConfig::default()
                };
                let deeper = deepen(&network, &config).unwrap();
                assert_eq!(held(&deeper.graph).len(), connections);
            }
            let groups = find_groups(&network.graph, &network.facts).unwrap();
            let wide = widen(
                &network,
                &groups,
                &Widths::Factor(2.0),
                &WidenConfig::default(),
            );
            let wide = wide.unwrap();
            assert_eq!(held(&wide.graph).len(), connections);
            // What reads copies of units, which stand behind them, has no connection to them yet, and may get some.
            let zeros = held_zeros(start, &Log::new(&Quiet)).unwrap();
            let topology = Topology::new(wide.graph, wide.kept);
            let behind = behind_edits(zeros, start, &topology).unwrap();
            let masks = behind.map_or_else(Default::default, |b| b.masks);
            assert_eq!(masks.len(), connections);
            for mask in masks.values() {
                let copied =
                    (0..mask.rows).all(|o| (0..4).all(|c| mask.kept[o * mask.cols + 2 * c + 1]));
                assert!(copied && mask.n_kept() < mask.kept.len());
            }
        }
    }
}
