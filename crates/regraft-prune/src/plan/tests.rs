//! Plans, the cost of plans, choices under a budget.

use regraft_graph::cost::total;

use super::pattern::matches;
use super::{Budget, ChooseOptions, CostModel, Plan, choose};
use crate::score::{Normalize, Score, Scores, score};
use crate::toy::{Toy, residual};
use crate::{Groups, PruneError};

fn l2(graph: &regraft_graph::Graph, groups: &Groups) -> Scores {
    score(graph, groups, &Score::L2, Normalize::Mean).unwrap()
}

#[test]
fn patterns() {
    let cases = [
        ("conv1", "conv1", true),
        ("conv1", "conv10", false),
        ("*", "", true),
        ("conv*", "conv10", true),
        ("*conv", "conv10", false),
        ("/layer1/*/Conv", "/layer1/layer1.0/conv1/Conv", true),
        ("a*b*a", "aba", true),
        ("a*a", "a", false),
        ("*x*x*", "axb", false),
    ];
    for (pattern, name, expected) in cases {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn the_model_counts_as_the_graph_does() {
    let (graph, facts, groups) = residual();
    let model = CostModel::new(&graph, &facts, &groups);
    assert_eq!(model.dense(), total(&graph, &facts));
    let mut state = model.start();
    let saving = state.saving(0, 1);
    state.remove(0, 1);
    assert_eq!(state.cost().macs + saving.macs, model.dense().macs);
    assert_eq!(state.cost().params + saving.params, model.dense().params);
    state.add(0, 1);
    assert_eq!(state.cost(), model.dense());
}

#[test]
fn budgets_are_met_and_used() {
    let (graph, facts, groups) = residual();
    let model = CostModel::new(&graph, &facts, &groups);
    let scores = l2(&graph, &groups);
    for share in [0.3, 0.5, 0.75, 1.0] {
        for budget in [Budget::Macs(share), Budget::Params(share)] {
            let options = ChooseOptions::default();
            let plan = choose(&graph, &groups, &model, &scores, budget, &options).unwrap();
            let cost = model.evaluate(&groups, &plan).unwrap();
            let target = budget.target(model.dense()).unwrap();
            assert!(budget.of(cost) <= target, "{budget:?} {cost:?}");
            // One unit of this toy is at most a fifth of it.
            assert!(budget.of(cost) * 10 >= target * 7, "{budget:?} {cost:?}");
            if share >= 1.0 {
                assert_eq!(plan, Plan::dense(&groups));
            }
        }
    }
}

#[test]
fn impossible_budgets_are_refused() {
    let (graph, facts, groups) = residual();
    let model = CostModel::new(&graph, &facts, &groups);
    let scores = l2(&graph, &groups);
    let run = |budget, options: &ChooseOptions| {
        choose(&graph, &groups, &model, &scores, budget, options).unwrap_err()
    };
    let default = ChooseOptions::default();
    assert!(matches!(
        run(Budget::Macs(0.001), &default),
        PruneError::Budget { .. }
    ));
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(
            run(Budget::Macs(share), &default),
            PruneError::Share { .. }
        ));
    }
    let typo = ChooseOptions {
        ignore: vec!["bogus*".into()],
        ..default
    };
    assert!(matches!(
        run(Budget::Macs(0.5), &typo),
        PruneError::Pattern { .. }
    ));
}

#[test]
fn ignored_groups_stay_whole() {
    let (graph, facts, groups) = residual();
    let model = CostModel::new(&graph, &facts, &groups);
    let scores = l2(&graph, &groups);
    let ignore = ChooseOptions {
        ignore: vec!["a1".into()],
        ..ChooseOptions::default()
    };
    let only = ChooseOptions {
        only: vec!["b*".into()],
        ..ChooseOptions::default()
    };
    let kept = |options: &ChooseOptions, name: &str| {
        let plan = choose(
            &graph,
            &groups,
            &model,
            &scores,
            Budget::Macs(0.85),
            options,
        )
        .unwrap();
        let g = plan.groups.iter().find(|g| g.group == name).unwrap();
        (g.kept.len(), g.n_units)
    };
    assert_eq!(kept(&ignore, "a1"), (6, 6));
    assert_eq!(kept(&only, "a1"), (6, 6));
    assert!(kept(&only, "b1").0 < 5);
}

#[test]
fn widths_are_rounded_for_every_value() {
    let mut t = Toy::new(&[3, 8, 8]);
    t.conv("x", "p", (3, 24, 3));
    t.conv("p", "q", (24, 40, 3));
    t.conv("x", "s", (3, 20, 3));
    t.op(regraft_graph::Op::Concat { axis: 1 }, &["q", "s"], "j");
    t.conv("j", "c", (60, 2, 1));
    let (graph, facts, groups) = t.done(&["c"]);
    let model = CostModel::new(&graph, &facts, &groups);
    let scores = l2(&graph, &groups);
    let options = ChooseOptions {
        multiple_of: 8,
        ..ChooseOptions::default()
    };
    for share in [0.2, 0.4, 0.6, 0.8, 0.95] {
        let budget = Budget::Macs(share);
        let plan = choose(&graph, &groups, &model, &scores, budget, &options).unwrap();
        let kept = plan.resolve(&graph, &groups).unwrap();
        for (name, dense) in [("p", 24), ("q", 40), ("s", 20)] {
            let value = graph.find_value(name).unwrap();
            let width = kept.width(value, 1, dense);
            assert!(
                width.is_multiple_of(8) || width == dense,
                "{name} {width} at {share}"
            );
        }
        let cost = model.evaluate(&groups, &plan).unwrap();
        assert!(cost.macs <= budget.target(model.dense()).unwrap());
    }
}

#[test]
fn plans_from_widths() {
    let (graph, _, groups) = residual();
    let order: Vec<Vec<usize>> = groups
        .groups
        .iter()
        .map(|g| (0..g.units.len()).rev().collect())
        .collect();
    let widths: Vec<usize> = groups.groups.iter().map(|g| g.units.len() - 1).collect();
    let plan = Plan::from_widths(&groups, &widths, &order).unwrap();
    for (entry, group) in plan.groups.iter().zip(&groups.groups) {
        let expected: Vec<usize> = (0..group.units.len() - 1).collect();
        assert_eq!(entry.kept, expected);
    }
    assert!(plan.resolve(&graph, &groups).is_ok());
    let short = vec![Vec::new(); order.len()];
    assert!(matches!(
        Plan::from_widths(&groups, &widths, &short),
        Err(PruneError::UnitCount { .. })
    ));
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let (graph, _, groups) = residual();
    let dense = Plan::dense(&groups);
    let check = |change: &dyn Fn(&mut Plan), what: &str| {
        let mut plan = dense.clone();
        change(&mut plan);
        let error = plan.resolve(&graph, &groups).unwrap_err();
        let found = format!("{error:?}");
        assert!(found.starts_with(what), "{what}: {found}");
    };
    check(&|p| p.version = 9, "PlanVersion");
    check(&|p| p.groups[0].group = "other".into(), "UnknownGroup");
    check(&|p| p.groups[1] = p.groups[0].clone(), "GroupTwice");
    check(&|p| p.groups[0].n_units = 3, "UnitCount");
    check(&|p| p.groups[0].kept = vec![0, 0], "UnitIndex");
    check(&|p| p.groups[0].kept = vec![99], "UnitIndex");
    check(&|p| p.groups[1].kept.clear(), "NoChannelLeft");
    let mut part = dense;
    part.groups.truncate(1);
    assert!(part.resolve(&graph, &groups).unwrap().is_empty());
}
