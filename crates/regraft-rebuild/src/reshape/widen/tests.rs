//! Wider networks that give the same.

use regraft_prune::apply::Share;
use regraft_prune::find_groups;

use super::{WidenConfig, Widths, widen};
use crate::RebuildError;
use crate::reshape::toy::{all, check_same, perceptron, residual, shape, transformer};
use crate::reshape::{Ceiling, Edited, Network};

fn run(network: &Network, widths: &Widths, share: Share) -> Result<Edited, RebuildError> {
    let groups = find_groups(&network.graph, &network.facts).unwrap();
    let config = WidenConfig {
        share,
        ..WidenConfig::default()
    };
    widen(network, &groups, widths, &config)
}

#[test]
fn every_architecture_widens_to_the_same_outputs() {
    for (name, network) in all() {
        for share in [Share::Zero, Share::Split] {
            for factor in [1.5, 2.0, 3.0] {
                let edited = run(&network, &Widths::Factor(factor), share).unwrap();
                assert!(
                    edited.exact && !edited.changes.is_empty(),
                    "{name} {factor}"
                );
                check_same(&network.graph, &edited.graph);
                let (old, new) = (network.cost(), Network::new(edited.graph).unwrap().cost());
                assert!(new.params > old.params && new.macs > old.macs, "{name}");
                let by_node: u64 = edited.changes.iter().map(|c| c.params.1 - c.params.0).sum();
                assert!(by_node <= new.params - old.params, "{name}");
            }
        }
    }
}

#[test]
fn a_residual_stream_under_statistics_grows_as_a_whole_or_not_at_all() {
    let network = transformer();
    let half = run(&network, &Widths::Factor(1.5), Share::Zero).unwrap();
    assert!(half.left.iter().any(|(_, why)| why.contains("statistics")));
    let whole = run(&network, &Widths::Factor(2.0), Share::Zero).unwrap();
    assert!(whole.left.is_empty(), "{:?}", whole.left);
    assert_eq!(shape(&whole.graph, "up.w"), [16, 32]);
}

#[test]
fn noise_tells_copies_apart() {
    let network = perceptron();
    let widths = Widths::Units(vec![("fc1".to_owned(), 20)]);
    let edited = run(&network, &widths, Share::Zero).unwrap();
    let weight = edited.graph.find_value("fc1.w").unwrap();
    let data = edited.graph.tensor(weight).unwrap().as_f32().unwrap();
    let rows: Vec<&[f32]> = data.chunks(6).collect();
    for (i, a) in rows.iter().enumerate() {
        assert!(rows[..i].iter().all(|b| a != b), "row {i} is there twice");
    }
    let old = network.graph.tensor(weight).unwrap().as_f32().unwrap();
    for row in old.chunks(6) {
        assert!(rows.contains(&row), "{row:?} is gone");
    }
    assert_eq!(edited.changes.len(), 2);
    assert_eq!(edited.changes[0].what, "12 -> 20 output channels");
    assert_eq!(edited.changes[0].params, (12 * 7, 20 * 7));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let network = residual();
    let run = |list: &[(&str, usize)]| {
        let list = list.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect();
        run(&network, &Widths::Units(list), Share::Zero).unwrap_err()
    };
    assert!(matches!(run(&[("inner", 8)]), RebuildError::Width { .. }));
    assert!(matches!(
        run(&[("inner", 9), ("inner", 10)]),
        RebuildError::Width { .. }
    ));
    assert!(matches!(run(&[("none", 9)]), RebuildError::Prune(_)));
    for factor in [1.0, 0.5, f64::NAN, f64::INFINITY, 1e9] {
        let error = super::tests::run(&network, &Widths::Factor(factor), Share::Zero).unwrap_err();
        assert!(matches!(error, RebuildError::Setting { .. }), "{error}");
    }
    let groups = find_groups(&network.graph, &network.facts).unwrap();
    let params = network.cost().params;
    let config = WidenConfig {
        ceiling: Some(Ceiling::Params(params)),
        ..WidenConfig::default()
    };
    let error = widen(&network, &groups, &Widths::Factor(2.0), &config).unwrap_err();
    assert!(matches!(error, RebuildError::OverBudget { limit, .. } if limit == params));
}
