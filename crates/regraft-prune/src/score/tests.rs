//! Scores by hand.

use std::collections::BTreeMap;

use regraft_graph::{DType, Op, Tensor};

use super::{Normalize, Score, score};
use crate::PruneError;
use crate::toy::{Toy, residual};

/// Sums of a handful of f32 products in f64.
const SUM: f64 = 1e-6;

fn check(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!(
            (f - e).abs() <= SUM * e.abs().max(1.0),
            "{found:?} {expected:?}"
        );
    }
}

fn two_layers() -> (regraft_graph::Graph, crate::Groups, [Vec<f32>; 2]) {
    let mut t = Toy::new(&[2]);
    t.gemm("x", "p", (2, 2));
    t.gemm("p", "c", (2, 3));
    let (graph, _, groups) = t.done(&["c"]);
    let data = |name: &str| {
        let v = graph.find_value(name).unwrap();
        graph.tensor(v).unwrap().as_f32().unwrap().to_vec()
    };
    let weights = [data("p.w"), data("c.w")];
    (graph, groups, weights)
}

#[test]
fn norms_over_makers_and_readers() {
    let (graph, groups, [p, c]) = two_layers();
    let slice = |u: usize| -> Vec<f64> {
        let all = [p[2 * u], p[2 * u + 1], c[u], c[u + 2], c[u + 4]];
        all.iter().map(|w| f64::from(*w)).collect()
    };
    let l1: Vec<f64> = (0..2)
        .map(|u| slice(u).iter().map(|w| w.abs()).sum())
        .collect();
    let found = score(&graph, &groups, &Score::L1, Normalize::None).unwrap();
    check(&found.groups[0], &l1);
    let square = |u| slice(u).iter().map(|w| w * w).sum::<f64>();
    let l2: Vec<f64> = (0..2).map(|u| square(u).sqrt()).collect();
    let found = score(&graph, &groups, &Score::L2, Normalize::None).unwrap();
    check(&found.groups[0], &l2);
    let found = score(&graph, &groups, &Score::L2, Normalize::Max).unwrap();
    check(
        &found.groups[0],
        &[l2[0] / l2[0].max(l2[1]), l2[1] / l2[0].max(l2[1])],
    );
    let mean = l2[0].midpoint(l2[1]);
    let found = score(&graph, &groups, &Score::L2, Normalize::Mean).unwrap();
    check(&found.groups[0], &[l2[0] / mean, l2[1] / mean]);
}

#[test]
fn energy_is_the_mean_square_through_the_readers() {
    let (graph, groups, [_, c]) = two_layers();
    let value = graph.find_value("p").unwrap();
    let given = Score::ActivationEnergy(BTreeMap::from([(value, vec![2.0, 0.5])]));
    let found = score(&graph, &groups, &given, Normalize::None).unwrap();
    let sum = |u: usize| -> f64 { (0..3).map(|o| f64::from(c[2 * o + u]).powi(2)).sum() };
    check(&found.groups[0], &[2.0 * sum(0), 0.5 * sum(1)]);
    let none = Score::ActivationEnergy(BTreeMap::new());
    let error = score(&graph, &groups, &none, Normalize::None).unwrap_err();
    assert!(matches!(
        error,
        PruneError::Statistics {
            expected: 2,
            found: 0,
            ..
        }
    ));
}

#[test]
fn batch_norm_scales_and_their_fallback() {
    let mut t = Toy::new(&[2, 4, 4]);
    t.conv("x", "p", (2, 3, 1));
    for n in ["s", "o", "m", "v"] {
        t.weight(n, &[3]);
    }
    let bn = Op::BatchNormalization { epsilon: 1e-5 };
    t.op(bn, &["p", "s", "o", "m", "v"], "n");
    t.conv("n", "q", (3, 2, 1));
    t.conv("q", "c", (2, 2, 1));
    let (graph, _, groups) = t.done(&["c"]);
    let s = graph.tensor(graph.find_value("s").unwrap()).unwrap();
    let expected: Vec<f64> = s
        .as_f32()
        .unwrap()
        .iter()
        .map(|x| f64::from(x.abs()))
        .collect();
    let found = score(&graph, &groups, &Score::BatchNormScale, Normalize::None).unwrap();
    check(&found.groups[0], &expected);
    assert_eq!(found.fallbacks, ["q"]);
}

#[test]
fn random_scores_depend_on_the_seed_only() {
    let (graph, _, groups) = residual();
    let draw = |seed| {
        let by = Score::Random { seed };
        score(&graph, &groups, &by, Normalize::None).unwrap().groups
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert!(draw(7).iter().flatten().all(|x| (0.0..1.0).contains(x)));
}

#[test]
fn scores_from_outside_are_checked() {
    let (graph, _, groups) = residual();
    let run = |list| score(&graph, &groups, &Score::External(list), Normalize::None);
    assert!(matches!(run(vec![]), Err(PruneError::GroupCount { .. })));
    let mut list: Vec<Vec<f64>> = groups
        .groups
        .iter()
        .map(|g| vec![1.0; g.units.len()])
        .collect();
    assert!(run(list.clone()).is_ok());
    list[1][2] = f64::NAN;
    assert!(matches!(
        run(list.clone()),
        Err(PruneError::ScoreValue { unit: 2, .. })
    ));
    list[1].pop();
    assert!(matches!(run(list), Err(PruneError::UnitCount { .. })));
}

#[test]
fn weights_of_other_widths_count_as_well() {
    let (graph, groups, weights) = two_layers();
    let mut edit = graph.edit();
    for (name, data) in ["p.w", "c.w"].iter().zip(&weights) {
        let id = graph.find_value(name).unwrap();
        let shape = graph.tensor(id).unwrap().shape().to_vec();
        let bytes = data.iter().flat_map(|w| f64::from(*w).to_le_bytes());
        let wide = Tensor::from_le_bytes(DType::F64, shape, bytes.collect()).unwrap();
        edit.set_initializer(id, wide);
    }
    let wide = edit.finish().unwrap();
    let of = |graph| score(graph, &groups, &Score::L2, Normalize::None).unwrap();
    check(&of(&wide).groups[0], &of(&graph).groups[0]);
    assert!(of(&graph).groups[0].iter().all(|s| *s > 0.0));
}
