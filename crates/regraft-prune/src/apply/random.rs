//! Random small networks: what holds for every plan.

use std::collections::BTreeSet;

use proptest::prelude::*;
use regraft_graph::Op;
use regraft_graph::op::{GlobalPool, PadMode, SliceAttributes};

use super::{apply, dry_run, mask};
use crate::plan::{Budget, ChooseOptions, CostModel, choose};
use crate::score::{Normalize, Score, score};
use crate::toy::{Toy, add, check_masked, relu};
use crate::{Member, Plan, PruneError};

const EXTENT: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Conv(usize),
    Depthwise,
    Norm,
    Relu,
    AddEarlier,
    ConcatEarlier,
    Slice(usize),
    Pad(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..7).prop_map(Step::Conv),
        1 => Just(Step::Depthwise),
        1 => Just(Step::Norm),
        2 => Just(Step::Relu),
        3 => Just(Step::AddEarlier),
        1 => Just(Step::ConcatEarlier),
        1 => (0usize..3).prop_map(Step::Slice),
        1 => (0usize..2, 0usize..3).prop_map(|(a, b)| Step::Pad(a, b)),
    ];
    prop::collection::vec(step, 1..14)
}

fn build(steps: &[Step]) -> Toy {
    let mut t = Toy::new(&[2, EXTENT, EXTENT]);
    t.conv("x", "v0", (2, 4, 1));
    let mut values = vec![("v0".to_owned(), 4)];
    for (i, step) in steps.iter().enumerate() {
        let y = format!("v{}", i + 1);
        let (x, n) = values[values.len() - 1].clone();
        let earlier = values.iter().rev().skip(1);
        let n_out = match step {
            Step::Conv(n_out) => {
                t.conv(&x, &y, (n, *n_out, 3));
                *n_out
            }
            Step::Depthwise => {
                t.grouped(&x, &y, (n, n, 3), n);
                n
            }
            Step::Norm => {
                let ports: Vec<String> = (0..4).map(|p| format!("{y}.{p}")).collect();
                for p in &ports[..3] {
                    t.weight(p, &[n]);
                }
                t.positive(&ports[3], &[n]);
                let mut inputs = vec![x.as_str()];
                inputs.extend(ports.iter().map(String::as_str));
                t.op(Op::BatchNormalization { epsilon: 1e-5 }, &inputs, &y);
                n
            }
            Step::AddEarlier => {
                let other = earlier
                    .clone()
                    .find(|e| e.1 == n)
                    .map_or(x.clone(), |e| e.0.clone());
                add(&mut t, &x, &other, &y);
                n
            }
            Step::ConcatEarlier => {
                let other = earlier.clone().next().cloned().unwrap_or((x.clone(), n));
                t.op(Op::Concat { axis: 1 }, &[&other.0, &x], &y);
                n + other.1
            }
            Step::Slice(from) if from + 1 < n => {
                let op = Op::Slice(SliceAttributes {
                    starts: Some(vec![*from as i64]),
                    ends: Some(vec![n as i64 - 1]),
                    axes: Some(vec![1]),
                });
                t.op(op, &[&x], &y);
                n - 1 - from
            }
            Step::Pad(begin, end) => {
                let (b, e) = (*begin as i64, *end as i64);
                let op = Op::Pad {
                    mode: PadMode::Constant,
                    pads: Some(vec![0, b, 0, 0, 0, e, 0, 0]),
                    value: 0.0,
                };
                t.op(op, &[&x], &y);
                n + begin + end
            }
            Step::Relu | Step::Slice(_) => {
                relu(&mut t, &x, &y);
                n
            }
        };
        values.push((y, n_out));
    }
    let (x, n) = values[values.len() - 1].clone();
    t.conv(&x, "wide", (n, 3, 1));
    t.op(Op::Flatten { axis: 1 }, &["wide"], "rows");
    t.gemm("rows", "hidden", (3 * EXTENT * EXTENT, 5));
    let pool = Op::GlobalPool(GlobalPool::Average);
    t.op(pool, &[&x], "pooled");
    t.op(Op::Flatten { axis: 1 }, &["pooled"], "flat");
    t.gemm("flat", "b", (n, 2));
    t.gemm("hidden", "a", (5, 2));
    t
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_plan_can_be_applied(steps in steps(), seed in any::<u64>(), share in 0.2f64..1.0) {
        let (graph, facts, groups) = build(&steps).done(&["a", "b"]);
        let mut seen = BTreeSet::new();
        for (g, group) in groups.groups.iter().enumerate() {
            for (u, unit) in group.units.iter().enumerate() {
                for m in &unit.members {
                    prop_assert!(seen.insert(*m), "{m:?} is in two units");
                    prop_assert_eq!(groups.owner(*m), Some((g, u)));
                }
            }
        }
        prop_assert_eq!(groups.owner(Member { value: graph.inputs()[0], axis: 1, index: 0 }), None);
        let model = CostModel::new(&graph, &facts, &groups);
        let by = Score::Random { seed };
        let scores = score(&graph, &groups, &by, Normalize::None).unwrap();
        let options = ChooseOptions { min_keep_ratio: 0.0, ..ChooseOptions::default() };
        let plan = match choose(&graph, &groups, &model, &scores, Budget::Macs(share), &options) {
            Ok(plan) => plan,
            Err(PruneError::Budget { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
        };
        let kept = dry_run(&graph, &facts, &groups, &plan).unwrap();
        let (pruned, report) = apply(&graph, &facts, &groups, &plan).unwrap();
        prop_assert_eq!(&report.kept, &kept);
        let cost = model.evaluate(&groups, &plan).unwrap();
        prop_assert_eq!((report.after.macs, report.after.params), (cost.macs, cost.params));
        let masked = mask(&graph, &groups, &plan).unwrap();
        prop_assert_eq!(masked.n_nodes(), graph.n_nodes());
        check_masked(&masked, &pruned);
        prop_assert_eq!(pruned.n_nodes(), graph.n_nodes());
        let (same, _) = apply(&graph, &facts, &groups, &Plan::dense(&groups)).unwrap();
        prop_assert_eq!(same, graph);
    }
}
