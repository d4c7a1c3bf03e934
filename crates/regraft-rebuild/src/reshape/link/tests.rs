//! Shortcuts past pruned blocks.

use regraft_graph::Graph;
use regraft_prune::apply::apply;
use regraft_prune::{Plan, find_groups};

use super::{LinkConfig, link};
use crate::rebuild::{KeptAxes, Pair, kept_axes};
use crate::reshape::toy::{Toy, check_same, perceptron, residual, samples};
use crate::reshape::{Ceiling, Network, Selection};
use crate::{RebuildError, Silent};

/// Removes three of four units of the named group.
fn pruned(dense: &Network, name: &str) -> (Graph, KeptAxes) {
    let groups = find_groups(&dense.graph, &dense.facts).unwrap();
    let mut plan = Plan::dense(&groups);
    let g = groups.find(name).unwrap();
    plan.groups[g].kept = (0..plan.groups[g].n_units).step_by(4).collect();
    let (graph, report) = apply(&dense.graph, &dense.facts, &groups, &plan).unwrap();
    (graph, kept_axes(&report))
}

fn pair<'a>(dense: &'a Network, pruned: &'a Graph, kept: &'a KeptAxes) -> Pair<'a> {
    Pair {
        dense: &dense.graph,
        teacher: &dense.graph,
        pruned,
        kept,
    }
}

/// A network without shortcuts whose second convolution shrinks the image.
fn strided() -> Network {
    let mut t = Toy::new(&[3, 6, 6]);
    t.conv("x", "stem", (3, 8, 3));
    t.relu("stem", "a");
    t.conv("a", "inner", (8, 8, 3));
    t.relu("inner", "b");
    t.weight("down.w", &[12, 8, 3, 3], 72);
    let conv = regraft_graph::op::Conv {
        pads: vec![1; 4],
        strides: vec![2; 2],
        ..regraft_graph::op::Conv::default()
    };
    t.op(regraft_graph::Op::Conv(conv), &["b", "down.w"], "down");
    t.relu("down", "c");
    t.head("c", 12);
    t.done()
}

#[test]
fn a_link_gives_back_what_a_block_lost() {
    for (dense, group, end) in [
        (residual(), "inner", "outer"),
        (strided(), "inner", "down"),
        (perceptron(), "fc1", "fc2"),
    ] {
        let (small, kept) = pruned(&dense, group);
        let pair = pair(&dense, &small, &kept);
        let inputs = samples(&dense.graph);
        let config = LinkConfig::default();
        let error = |graph: &Graph| {
            let exec = config.fit.exec;
            crate::output::output_error(graph, &dense.graph, &inputs, exec).unwrap()
        };
        let edited = link(pair, &inputs, &config, &Silent).unwrap();
        let change = edited.changes.iter().find(|c| c.node == end);
        let change = change.unwrap_or_else(|| panic!("{:?} {:?}", edited.changes, edited.left));
        assert!(change.what.contains("shortcut"), "{change:?}");
        let (before, after) = (error(&small), error(&edited.graph));
        assert!(after < before, "{end}: {before} to {after}");
        let cost = |graph: &Graph| Network::new(graph.clone()).unwrap().cost();
        let added: u64 = edited.changes.iter().map(|c| c.params.1).sum();
        assert_eq!(cost(&edited.graph).params - cost(&small).params, added);
        let added: u64 = edited.changes.iter().map(|c| c.macs.1).sum();
        assert_eq!(cost(&edited.graph).macs - cost(&small).macs, added);
    }
}

#[test]
fn nothing_is_linked_where_nothing_is_missing() {
    let dense = residual();
    let kept = KeptAxes::new();
    let pair = pair(&dense, &dense.graph, &kept);
    let inputs = samples(&dense.graph);
    let edited = link(pair, &inputs, &LinkConfig::default(), &Silent).unwrap();
    assert!(edited.changes.is_empty(), "{:?}", edited.changes);
    assert_eq!(edited.left.len(), dense.layers.len());
    check_same(&dense.graph, &edited.graph);
}

#[test]
fn a_link_past_more_layers_is_taken_where_it_is_better() {
    let dense = strided();
    let (small, kept) = pruned(&dense, "inner");
    let pair = pair(&dense, &small, &kept);
    let inputs = samples(&dense.graph);
    let linked = |past: usize| {
        let config = LinkConfig {
            past,
            ..LinkConfig::default()
        };
        let edited = link(pair, &inputs, &config, &Silent).unwrap();
        let last = edited.changes.last().and_then(|c| c.error);
        (edited, last.unwrap())
    };
    let ((_, near), (far, error)) = (linked(2), linked(3));
    assert!(error <= near, "{error} {near}");
    // The stem's input is three layers away from the last convolution.
    let from_input = far.changes.iter().any(|c| c.what.contains("from `x`"));
    assert!(
        from_input || (error - near).abs() < 1e-12,
        "{:?}",
        far.changes
    );
    // Paths that part and meet again hide no layer: the block's second layer is one step from its first.
    let found = super::starts(&dense, dense.layers.last().unwrap(), 4);
    assert!(!found.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dense = residual();
    let (small, kept) = pruned(&dense, "inner");
    let pair = pair(&dense, &small, &kept);
    let inputs = samples(&dense.graph);
    let run = |change: &dyn Fn(&mut LinkConfig)| {
        let mut config = LinkConfig::default();
        change(&mut config);
        link(pair, &inputs, &config, &Silent)
    };
    let error = run(&|c| c.ceiling = Some(Ceiling::Params(10))).unwrap_err();
    assert!(matches!(error, RebuildError::OverBudget { .. }), "{error}");
    let error = run(&|c| c.past = 1).unwrap_err();
    assert!(matches!(error, RebuildError::Setting { .. }), "{error}");
    let error = run(&|c| c.fit.held_out_chunks = 9).unwrap_err();
    assert!(
        matches!(error, RebuildError::TooFewSamples { .. }),
        "{error}"
    );
    let selection = Selection {
        only: vec!["nothing".to_owned()],
        ignore: Vec::new(),
    };
    let error = run(&|c| c.selection = selection.clone()).unwrap_err();
    assert!(matches!(error, RebuildError::Pattern { .. }), "{error}");
    // A ceiling at what there is: only identities are free.
    let params = Network::new(small.clone()).unwrap().cost().params;
    let edited = run(&|c| c.ceiling = Some(Ceiling::Params(params))).unwrap();
    assert!(edited.changes.iter().all(|c| c.params == (0, 0)));
}
