//! Groups, plans and removal on trained networks; skipped where the files are absent.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failing step ends the test; a skipped one says so"
)]

use std::path::PathBuf;

use regraft_graph::fold::fold;
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{Graph, cost};
use regraft_onnx::{Limits, read};
use regraft_prune::apply::{apply, mask};
use regraft_prune::plan::{Budget, ChooseOptions, CostModel, choose};
use regraft_prune::score::{Normalize, Score, score};
use regraft_prune::{Groups, Plan, find_groups};

fn load(name: &str) -> Option<(Graph, Facts, Groups)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/models")
        .join(name);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    let graph = read(&path, &Limits::default()).unwrap();
    let options = InferOptions::default();
    let (graph, _) = fold(&graph, &options).unwrap();
    let facts = infer(&graph, &options).unwrap();
    let groups = find_groups(&graph, &facts).unwrap();
    Some((graph, facts, groups))
}

fn prune(graph: &Graph, facts: &Facts, groups: &Groups, budget: Budget) {
    let model = CostModel::new(graph, facts, groups);
    assert_eq!(model.dense(), cost::total(graph, facts));
    let scores = score(graph, groups, &Score::L2, Normalize::Mean).unwrap();
    let options = ChooseOptions::default();
    let plan = choose(graph, groups, &model, &scores, budget, &options).unwrap();
    let expected = model.evaluate(groups, &plan).unwrap();
    let (_, report) = apply(graph, facts, groups, &plan).unwrap();
    assert_eq!(
        (report.after.macs, report.after.params),
        (expected.macs, expected.params)
    );
    let target = budget.target(report.before).unwrap();
    assert!(budget.of(report.after) <= target);
    // The smallest unit of any of these networks is below 2 % of it.
    assert!(budget.of(report.after) as f64 >= 0.95 * target as f64);
    mask(graph, groups, &plan).unwrap();
    let (same, _) = apply(graph, facts, groups, &Plan::dense(groups)).unwrap();
    assert_eq!(&same, graph);
}

#[test]
fn residual_networks_with_padded_shortcuts() {
    for (name, n_blocks) in [
        ("resnet20_cifar10", 9),
        ("resnet20_cifar10_bn", 9),
        ("resnet56_cifar10", 27),
    ] {
        let Some((graph, facts, groups)) = load(&format!("{name}.onnx")) else {
            return;
        };
        assert_eq!(groups.groups.len(), n_blocks + 1, "{}", groups.dump(&graph));
        let stream = &groups.groups[0];
        // 16 channels span all stages, 16 more the last two, 32 only the last.
        assert_eq!(stream.units.len(), 64);
        let mut sizes = vec![0; stream.n_classes];
        stream.units.iter().for_each(|u| sizes[u.class] += 1);
        sizes.sort_unstable();
        assert_eq!(sizes, [16, 16, 32], "{}", groups.dump(&graph));
        assert_eq!(stream.n_free(), 64);
        for share in [0.5, 0.75] {
            prune(&graph, &facts, &groups, Budget::Macs(share));
        }
        prune(&graph, &facts, &groups, Budget::Params(0.5));
    }
}

#[test]
fn plain_networks() {
    for (name, widths) in [
        ("lenet5-caffe_mnist", vec![20, 50, 500]),
        ("lenet300-100_mnist", vec![300, 100]),
    ] {
        let Some((graph, facts, groups)) = load(&format!("{name}.onnx")) else {
            return;
        };
        let found: Vec<usize> = groups.groups.iter().map(|g| g.units.len()).collect();
        assert_eq!(found, widths, "{}", groups.dump(&graph));
        prune(&graph, &facts, &groups, Budget::Macs(0.25));
    }
}

#[test]
fn recurrent_networks() {
    let Some((graph, facts, groups)) = load("fsdd_gru.onnx") else {
        return;
    };
    // Both zero states are cut out of one tensor, which couples nothing.
    let found: Vec<usize> = groups.groups.iter().map(|g| g.units.len()).collect();
    assert_eq!(found, [96, 96], "{}", groups.dump(&graph));
    prune(&graph, &facts, &groups, Budget::Macs(0.5));
}
