//! Attention that changes nothing yet.

use super::{AttendConfig, Attention, attend};
use crate::RebuildError;
use crate::reshape::toy::{Toy, check_same, perceptron, residual};
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
fn a_network_without_maps_is_left() {
    let network = perceptron();
    let edited = put(&network, Attention::SqueezeExcite { reduction: 4 }).unwrap();
    assert!(edited.changes.is_empty());
    check_same(&network.graph, &edited.graph);
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
