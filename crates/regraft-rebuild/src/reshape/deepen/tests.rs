//! Deeper networks that give the same.

use super::{DeepenConfig, Insert, deepen};
use crate::RebuildError;
use crate::reshape::toy::{all, check_same, node, residual};
use crate::reshape::{Ceiling, Network, Selection};

#[test]
fn every_architecture_deepens_to_the_same_outputs() {
    for (name, network) in all() {
        let mut inserts = vec![Insert::Identity, Insert::Residual];
        if name.contains("gru") || name.contains("lstm") || name.contains("rnn") {
            inserts.push(Insert::Cell);
        }
        for insert in inserts {
            let config = DeepenConfig {
                insert,
                ..DeepenConfig::default()
            };
            let edited = deepen(&network, &config).unwrap();
            assert!(edited.exact && !edited.changes.is_empty(), "{name}");
            check_same(&network.graph, &edited.graph);
            let (old, new) = (network.cost(), Network::new(edited.graph.clone()).unwrap());
            let added: u64 = edited.changes.iter().map(|c| c.params.1).sum();
            assert_eq!(new.cost().params - old.params, added, "{name}");
            let added: u64 = edited.changes.iter().map(|c| c.macs.1).sum();
            assert_eq!(new.cost().macs - old.macs, added, "{name}");
            // Once more, behind what was put there.
            let again = deepen(&new, &config).unwrap();
            check_same(&network.graph, &again.graph);
        }
    }
}

#[test]
fn an_identity_has_a_relu_only_behind_one() {
    let edited = deepen(&residual(), &DeepenConfig::default()).unwrap();
    let what: Vec<&str> = edited.changes.iter().map(|c| c.what.as_str()).collect();
    assert_eq!(what.len(), 3, "{what:?}");
    assert!(what.iter().all(|w| w.ends_with("and a ReLU")), "{what:?}");
    node(&edited.graph, "a_identity");
    let reasons: Vec<&str> = edited.left.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(reasons, ["it makes an output of the network"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let network = residual();
    let run = |change: &dyn Fn(&mut DeepenConfig)| {
        let mut config = DeepenConfig::default();
        change(&mut config);
        deepen(&network, &config).unwrap_err()
    };
    for kernel in [0, 2, 33] {
        let error = run(&|c| c.kernel = kernel);
        assert!(matches!(error, RebuildError::Setting { .. }), "{error}");
    }
    let error = run(&|c| {
        c.selection = Selection {
            only: vec!["none*".to_owned()],
            ignore: Vec::new(),
        };
    });
    assert!(matches!(error, RebuildError::Pattern { .. }), "{error}");
    let macs = network.cost().macs;
    let error = run(&|c| c.ceiling = Some(Ceiling::Macs(macs)));
    assert!(matches!(error, RebuildError::OverBudget { .. }), "{error}");
}

#[test]
fn a_cell_goes_behind_cells_alone() {
    let config = DeepenConfig {
        insert: Insert::Cell,
        ..DeepenConfig::default()
    };
    let edited = deepen(&residual(), &config).unwrap();
    assert!(edited.changes.is_empty());
    assert!(edited.left.iter().all(|(_, why)| why.contains("cell")));
}
