//! Random small networks: what holds for every plan.

use std::collections::BTreeSet;

use proptest::prelude::*;
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{BinaryOp, GlobalPool, PadMode, SliceAttributes, UnaryOp};
use regraft_graph::{Graph, GraphBuilder, Op, ValueId};

use super::{Share, apply, dry_run, grow, mask};
use crate::plan::{Budget, ChooseOptions, CostModel, choose};
use crate::score::{Normalize, Score, score};
use crate::toy::{Toy, add, check_masked, relu};
use crate::{Groups, Member, Plan, PruneError, find_groups};

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
    /// Channels in two groups, shuffled and back.
    Shuffle,
    /// A normalisation of two groups, written as exporters do.
    GroupNorm,
    /// Channels last, normalised over, and back.
    LayerNorm,
    /// Weighted by their own sigmoid of the mean.
    Squeeze,
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
        1 => Just(Step::Shuffle),
        1 => Just(Step::GroupNorm),
        1 => Just(Step::LayerNorm),
        1 => Just(Step::Squeeze),
    ];
    prop::collection::vec(step, 1..14)
}

fn reshape(t: &mut Toy, x: &str, y: &str, shape: &[i64]) {
    let name = format!("{y}.shape");
    t.ints(&name, shape);
    t.op(Op::Reshape { allowzero: false }, &[x, &name], y);
}

/// What exporters write out step by step; the number of channels stays.
fn written_out(t: &mut Toy, step: &Step, (x, y): (&str, &str), n: usize) -> usize {
    match step {
        Step::Shuffle => {
            let (half, side) = (n as i64 / 2, EXTENT as i64);
            reshape(t, x, &format!("{y}.five"), &[0, 2, half, side, side]);
            let perm = Some(vec![0, 2, 1, 3, 4]);
            t.op(
                Op::Transpose { perm },
                &[&format!("{y}.five")],
                &format!("{y}.turned"),
            );
            reshape(t, &format!("{y}.turned"), y, &[0, n as i64, side, side]);
        }
        Step::GroupNorm => {
            let side = EXTENT as i64;
            reshape(t, x, &format!("{y}.groups"), &[0, 2, -1]);
            let ports = ["one", "zero"].map(|p| format!("{y}.{p}"));
            for p in &ports {
                t.weight(p, &[2]);
            }
            let before = format!("{y}.groups");
            let inputs = [&before, &ports[0], &ports[1]].map(String::as_str);
            let norm = Op::InstanceNormalization { epsilon: 1e-3 };
            t.op(norm, &inputs, &format!("{y}.normal"));
            reshape(t, &format!("{y}.normal"), y, &[0, n as i64, side, side]);
        }
        Step::LayerNorm => {
            let last = Some(vec![0, 2, 3, 1]);
            t.op(Op::Transpose { perm: last }, &[x], &format!("{y}.last"));
            let ports = ["scale", "shift"].map(|p| format!("{y}.{p}"));
            for p in &ports {
                t.weight(p, &[n]);
            }
            let before = format!("{y}.last");
            let inputs = [&before, &ports[0], &ports[1]].map(String::as_str);
            let norm = Op::LayerNormalization {
                axis: -1,
                epsilon: 1e-3,
            };
            t.op(norm, &inputs, &format!("{y}.normal"));
            let back = Some(vec![0, 3, 1, 2]);
            t.op(Op::Transpose { perm: back }, &[&format!("{y}.normal")], y);
        }
        Step::Squeeze => {
            let pool = Op::GlobalPool(GlobalPool::Average);
            t.op(pool, &[x], &format!("{y}.mean"));
            t.conv(&format!("{y}.mean"), &format!("{y}.gate"), (n, n, 1));
            let sigmoid = Op::Unary(UnaryOp::Sigmoid);
            t.op(sigmoid, &[&format!("{y}.gate")], &format!("{y}.share"));
            t.op(Op::Binary(BinaryOp::Mul), &[x, &format!("{y}.share")], y);
        }
        _ => {}
    }
    n
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
            Step::Shuffle | Step::GroupNorm if n % 2 == 0 => written_out(&mut t, step, (&x, &y), n),
            Step::LayerNorm | Step::Squeeze => written_out(&mut t, step, (&x, &y), n),
            Step::Relu | Step::Slice(_) | Step::Shuffle | Step::GroupNorm => {
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

/// The same network with its nodes in another order in the file.
fn reordered(graph: &Graph, seed: u64) -> Graph {
    let mut b = GraphBuilder::new(graph.header().clone());
    let name = |v: ValueId| graph.value(v).name.as_str();
    for &v in graph.inputs() {
        b.input(name(v), graph.value(v).declared.clone());
    }
    for (&v, init) in graph.initializers() {
        b.tensor(name(v), init.tensor.clone()).unwrap();
    }
    let mut nodes: Vec<_> = graph.nodes().map(|(_, node)| node).collect();
    // Any order: the builder sorts them.
    nodes.sort_by_key(|n| {
        let text = n.outputs.iter().flatten().map(|v| name(*v));
        text.flat_map(str::bytes).fold(seed, |h, b| {
            h.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(b)
        })
    });
    for node in nodes {
        let port = |v: &Option<ValueId>| v.map_or("", name);
        let inputs: Vec<&str> = node.inputs.iter().map(port).collect();
        let outputs: Vec<&str> = node.outputs.iter().map(port).collect();
        b.op(&node.name, node.op.clone(), &inputs, &outputs);
    }
    for v in graph.outputs() {
        b.output(name(*v));
    }
    b.finish().unwrap()
}

/// Every unit by the names of what it holds, and whether it may go.
fn named_units(graph: &Graph, groups: &Groups) -> BTreeSet<(Vec<String>, bool)> {
    let units = groups.groups.iter().flat_map(|g| &g.units);
    let named = |m: &Member| format!("{}:{}:{}", graph.value(m.value).name, m.axis, m.index);
    units
        .map(|u| {
            let mut members: Vec<String> = u.members.iter().map(named).collect();
            members.sort_unstable();
            (members, u.frozen.is_none())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_nodes_does_not_matter(steps in steps(), seed in any::<u64>()) {
        let (graph, _, groups) = build(&steps).done(&["a", "b"]);
        let other = reordered(&graph, seed);
        let facts = infer(&other, &InferOptions::default()).unwrap();
        let found = find_groups(&other, &facts).unwrap();
        prop_assert_eq!(named_units(&graph, &groups), named_units(&other, &found));
    }

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
        check_masked(&masked, &pruned);
        prop_assert_eq!(pruned.n_nodes(), graph.n_nodes());
        let (same, _) = apply(&graph, &facts, &groups, &Plan::dense(&groups)).unwrap();
        prop_assert_eq!(same, graph);
    }

    #[test]
    fn copies_compute_the_same(steps in steps(), seed in any::<u64>(), whole in any::<bool>()) {
        let (graph, facts, groups) = build(&steps).done(&["a", "b"]);
        let mut state = seed;
        let mut copies = Vec::new();
        for group in &groups.groups {
            let free = (0..group.units.len()).filter(|u| group.units[*u].frozen.is_none());
            let mut chosen = Vec::new();
            for unit in free {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                let n = if whole { 1 } else { (state >> 33) % 3 };
                chosen.extend((0..n).map(|_| unit));
            }
            copies.push(chosen);
        }
        for share in [Share::Zero, Share::Split] {
            match grow(&graph, &facts, &groups, &copies, share) {
                Ok(grown) => check_masked(&graph, &grown.graph),
                Err(PruneError::Inconsistent { reason, .. }) => {
                    // A slice may cut through a unit of several channels.
                    let several = |s: &Step| matches!(s, Step::GroupNorm | Step::Shuffle);
                    let cut = steps.iter().any(several) && reason.contains("not of one unit");
                    prop_assert!(cut || reason.contains("as many copies"), "{reason}");
                }
                Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
            }
        }
    }
}
