//! Attention that changes nothing yet.

use regraft_graph::Tensor;

use super::{AttendConfig, Attention, attend};
use crate::RebuildError;
use crate::reshape::toy::{Toy, all, check_same, output, residual};
use crate::reshape::{Network, Selection};

fn put(network: &Network, attention: Attention) -> Result<super::Edited, RebuildError> {
    let config = AttendConfig { attention, seed: 3 };
    attend(network, &Selection::default(), &config)
}

#[test]
fn every_kind_is_an_identity_at_first_and_its_cost_is_counted() {
    let network = residual();
    for attention in [
        Attention::SqueezeExcite { reduction: 4 },
        Attention::Channel { reach: 3 },
        Attention::Spatial { kernel: 7 },
        Attention::SelfAttention { heads: 2 },
    ] {
        let edited = put(&network, attention).unwrap();
        assert!(edited.exact && edited.changes.len() == 1, "{attention:?}");
        check_same(&network.graph, &edited.graph);
        let (old, new) = (network.cost(), Network::new(edited.graph).unwrap().cost());
        let change = &edited.changes[0];
        assert_eq!(new.macs - old.macs, change.macs.1 - change.macs.0);
        assert_eq!(new.params - old.params, change.params.1 - change.params.0);
    }
}

#[test]
fn sizes_that_no_layer_allows_are_refused() {
    let network = residual();
    for attention in [
        Attention::SqueezeExcite { reduction: 0 },
        Attention::Channel { reach: 2 },
        Attention::Spatial { kernel: 4 },
        Attention::SelfAttention { heads: 0 },
        Attention::SelfAttention { heads: 3 },
    ] {
        let found = put(&network, attention);
        assert!(
            matches!(found, Err(RebuildError::Edit { .. })),
            "{attention:?}"
        );
    }
}

#[test]
fn every_architecture_attends_and_gives_the_same() {
    let kinds = [
        Attention::SqueezeExcite { reduction: 2 },
        Attention::Channel { reach: 3 },
        Attention::Spatial { kernel: 3 },
        Attention::SelfAttention { heads: 2 },
    ];
    for (name, network) in all() {
        for attention in kinds {
            let edited = put(&network, attention).unwrap();
            let nodes: Vec<&str> = edited.changes.iter().map(|c| c.node.as_str()).collect();
            let between = matches!(
                attention,
                Attention::Spatial { .. } | Attention::SelfAttention { .. }
            );
            let wanted: &[&str] = match name {
                "residual" => &["outer"],
                "transformer" => &["proj", "down"],
                "perceptron" | "gru, last state" if between => &[],
                "perceptron" => &["fc1", "fc2"],
                "gru, last state" => &["cell"],
                _ => &["states"],
            };
            assert_eq!(nodes, wanted, "{name} {attention:?} {:?}", edited.left);
            check_same(&network.graph, &edited.graph);
            let (old, new) = (network.cost(), Network::new(edited.graph).unwrap().cost());
            let added = |c: fn(&super::Change) -> (u64, u64)| -> u64 {
                edited.changes.iter().map(|x| c(x).1 - c(x).0).sum()
            };
            assert_eq!(
                new.macs - old.macs,
                added(|c| c.macs),
                "{name} {attention:?}"
            );
            assert_eq!(new.params - old.params, added(|c| c.params), "{name}");
        }
    }
}

#[test]
fn gates_that_are_not_one_move_the_output() {
    // What is an identity at first is wired up: other weights give something else.
    for (name, network) in all() {
        for attention in [
            Attention::SqueezeExcite { reduction: 2 },
            Attention::Channel { reach: 3 },
            Attention::Spatial { kernel: 3 },
            Attention::SelfAttention { heads: 2 },
        ] {
            let edited = put(&network, attention).unwrap();
            if edited.changes.is_empty() {
                continue;
            }
            let old = &network.graph;
            let mut edit = edited.graph.edit();
            for (id, initializer) in edited.graph.initializers() {
                let is_new = old.find_value(&edited.graph.value(*id).name).is_none();
                let Some(data) = initializer
                    .tensor
                    .as_f32()
                    .filter(|d| is_new && d.len() > 1)
                else {
                    continue;
                };
                let moved = data
                    .iter()
                    .enumerate()
                    .map(|(i, x)| x + 0.3 + 0.1 * (i % 3) as f32);
                let shape = initializer.tensor.shape().to_vec();
                edit.set_initializer(*id, Tensor::from_f32(shape, moved.collect()).unwrap());
            }
            let moved = output(&edit.finish().unwrap());
            let far = moved
                .iter()
                .zip(output(old))
                .any(|(a, b)| (a - b).abs() > 1e-3);
            assert!(far, "{name} {attention:?}");
        }
    }
}

#[test]
fn parts_of_one_layer_are_not_the_end_of_a_branch() {
    let mut t = Toy::new(&[4, 6, 6]);
    t.conv("x", "a", (4, 8, 3));
    t.relu("a", "ar");
    t.conv("ar", "narrow", (8, 2, 3));
    t.conv("narrow", "thin", (2, 8, 1));
    t.conv("ar", "single", (8, 8, 3));
    t.add("single", "thin", "s");
    t.relu("s", "sr");
    t.conv("sr", "b", (8, 8, 3));
    t.add("b", "ar", "sum");
    t.head("sum", 8);
    let network = t.done();
    let edited = put(&network, Attention::SqueezeExcite { reduction: 4 }).unwrap();
    let nodes: Vec<&str> = edited.changes.iter().map(|c| c.node.as_str()).collect();
    assert_eq!(nodes, ["b"]);
    check_same(&network.graph, &edited.graph);
}
