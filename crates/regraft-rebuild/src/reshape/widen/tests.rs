//! Wider networks that give the same.

use regraft_prune::apply::{Share, apply};
use regraft_prune::{Plan, find_groups};

use super::{NEW_UNIT_NOISE, WidenConfig, Widths, widen, widths_by_gain};
use crate::rebuild::{KeptAxes, NoJournal, Pair, RebuildConfig, kept_axes, rebuild};
use crate::reshape::toy::{
    all, check_same, output, perceptron, residual, samples, shape, transformer,
};
use crate::reshape::{Ceiling, Edited, FitConfig, Network};
use crate::{RebuildError, Silent};

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

/// Half of the units of each group, and the dense network's indices.
fn halved(dense: &Network) -> (Network, KeptAxes) {
    let groups = find_groups(&dense.graph, &dense.facts).unwrap();
    let mut plan = Plan::dense(&groups);
    for (entry, group) in plan.groups.iter_mut().zip(&groups.groups) {
        let stays = |u: &usize| *u < entry.n_units.div_ceil(2) || group.units[*u].frozen.is_some();
        entry.kept = (0..entry.n_units).filter(stays).collect();
    }
    let (graph, report) = apply(&dense.graph, &dense.facts, &groups, &plan).unwrap();
    (Network::new(graph).unwrap(), kept_axes(&report))
}

fn far(a: &Network, b: &Network) -> f32 {
    let (a, b) = (output(&a.graph), output(&b.graph));
    let gaps = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b));
    gaps.sum::<f32>() / a.iter().map(|x| x * x).sum::<f32>()
}

#[test]
fn units_go_where_they_bring_the_network_closest_to_its_teacher() {
    for (name, dense) in all() {
        let (small, kept) = halved(&dense);
        let groups = find_groups(&small.graph, &small.facts).unwrap();
        let inputs = samples(&dense.graph);
        let pair = Pair {
            dense: &dense.graph,
            teacher: &dense.graph,
            pruned: &small.graph,
            kept: &kept,
        };
        let macs = small.cost().macs;
        let limit = 2 * macs;
        let config = WidenConfig {
            noise: NEW_UNIT_NOISE,
            ceiling: Some(Ceiling::Macs(limit)),
            ..WidenConfig::default()
        };
        let fit = FitConfig::default();
        let all = (&small, &groups);
        let found = widths_by_gain(all, pair, &inputs, (&config, &fit), &Silent).unwrap();
        // On so few samples one more unit of the perceptron gains nothing.
        assert_eq!(found.steps.is_empty(), name == "perceptron", "{name}");
        if found.steps.is_empty() {
            continue;
        }
        assert!(found.steps.iter().all(|s| s.error.1 < s.error.0));
        let wide = widen(&small, &groups, &Widths::Units(found.widths), &config).unwrap();
        check_same(&small.graph, &wide.graph);
        let spent: u64 = found.steps.iter().map(|s| s.macs).sum();
        let cost = Network::new(wide.graph.clone()).unwrap().cost().macs;
        assert!(cost <= limit && cost == macs + spent, "{name}: {cost}");
        // The rebuild keeps copies apart: it finds what the search found, and more than without them.
        let rebuilt = |pruned: &_, kept: &KeptAxes| {
            let pair = Pair {
                pruned,
                kept,
                ..pair
            };
            let config = RebuildConfig {
                damping: fit.damping,
                max_rows: fit.max_rows,
                tune: None,
                refit: true,
                held_out_chunks: 1,
                sparsity: None,
                exec: fit.exec,
            };
            let found = rebuild(pair, &inputs, &config, &NoJournal, &Silent).unwrap();
            Network::new(found.graph).unwrap()
        };
        let indices = crate::rebuild::indices_behind(&kept, &wide.kept);
        let (without, with) = (rebuilt(&small.graph, &kept), rebuilt(&wide.graph, &indices));
        let (a, b) = (far(&dense, &without), far(&dense, &with));
        assert!(b < a, "{name}: {a} without, {b} with");
        let none = WidenConfig::default();
        let found = widths_by_gain(all, pair, &inputs, (&none, &fit), &Silent);
        assert!(matches!(found, Err(RebuildError::Setting { .. })));
    }
}
