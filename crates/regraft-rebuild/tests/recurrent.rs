//! Rebuilding recurrent cells: what the closed form must find exactly, and what it must gain.
// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod random;

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{Direction, Recurrent, RecurrentKind};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Tensor, ValueId, ValueType};
use regraft_prune::plan::GroupPlan;
use regraft_prune::{Plan, apply::apply, find_groups};
use regraft_rebuild::rebuild::{NoJournal, Pair, RebuildConfig, Rebuilt, kept_axes, rebuild};
use regraft_rebuild::{Activations, Silent};

use random::Random;

const STEPS: usize = 7;
const N_IN: usize = 5;
const HIDDEN: usize = 6;

/// The kind of cell, and how its sequence lies.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: RecurrentKind,
    direction: Direction,
    batch_first: bool,
}

/// Every kind in every direction, and one of both directions with samples on the first axis.
fn cases() -> Vec<Case> {
    let gru = |linear_before_reset| RecurrentKind::Gru {
        linear_before_reset,
    };
    let mut all = Vec::new();
    for kind in [RecurrentKind::Lstm, gru(true), gru(false)] {
        for direction in [
            Direction::Forward,
            Direction::Reverse,
            Direction::Bidirectional,
        ] {
            let batch_first = kind == gru(true) && direction == Direction::Bidirectional;
            all.push(Case {
                kind,
                direction,
                batch_first: false,
            });
            all.extend(batch_first.then_some(Case {
                kind,
                direction,
                batch_first,
            }));
        }
    }
    all
}

/// A cell whose last unit does what the one before does where `twin`, and a linear layer on all of
/// its states.
fn network(kind: Case, twin: bool, seed: u64) -> Graph {
    let mut random = Random(seed);
    let mut b = GraphBuilder::new(Header::default());
    let dims = [Dim::symbol("batch"), Dim::Fixed(STEPS), Dim::Fixed(N_IN)];
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(dims.to_vec()),
    };
    b.input("x", Some(declared));
    let perm = Some(vec![1, 0, 2]);
    b.op("time", Op::Transpose { perm }, &["x"], &["time"]);
    let op = Recurrent {
        kind: kind.kind,
        hidden_size: HIDDEN,
        direction: kind.direction,
        batch_first: kind.batch_first,
    };
    let (rows, directions) = (op.n_gates() * HIDDEN, op.direction.count());
    let mut w = random.list(directions * rows * N_IN);
    let mut r = random.list(directions * rows * HIDDEN);
    let mut bias = random.list(directions * 2 * rows);
    if twin {
        for gate in 0..directions * op.n_gates() {
            let (from, to) = (gate * HIDDEN + HIDDEN - 2, gate * HIDDEN + HIDDEN - 1);
            w.copy_within(from * N_IN..(from + 1) * N_IN, to * N_IN);
            r.copy_within(from * HIDDEN..(from + 1) * HIDDEN, to * HIDDEN);
        }
        for gate in 0..directions * 2 * op.n_gates() {
            bias[gate * HIDDEN + HIDDEN - 1] = bias[gate * HIDDEN + HIDDEN - 2];
        }
    }
    let mut tensor = |name: &str, shape: Vec<usize>, data: Vec<f32>| {
        b.tensor(name, Tensor::from_f32(shape, data).unwrap())
            .unwrap();
    };
    tensor("w", vec![directions, rows, N_IN], w);
    tensor("r", vec![directions, rows, HIDDEN], r);
    tensor("b", vec![directions, 2 * rows], bias);
    tensor("head", vec![HIDDEN, 3], random.list(HIDDEN * 3));
    b.op(
        "cell",
        Op::Recurrent(op),
        &[if kind.batch_first { "x" } else { "time" }, "w", "r", "b"],
        &["states"],
    );
    b.op("y", Op::MatMul, &["states", "head"], &["y"]);
    b.output("y");
    b.finish().unwrap()
}

fn samples(graph: &Graph) -> BTreeMap<ValueId, Activations> {
    let mut random = Random(99);
    let data = random.list(5 * 24 * STEPS * N_IN);
    let x = Activations::from_samples(&data, &[STEPS, N_IN], 24);
    [(graph.inputs()[0], x)].into()
}

fn rebuilt(dense: &Graph, kept: &[usize]) -> (Graph, Rebuilt) {
    let facts = infer(dense, &InferOptions::default()).unwrap();
    let groups = find_groups(dense, &facts).unwrap();
    let mut plan = Plan::dense(&groups);
    plan.groups = vec![GroupPlan {
        group: groups.groups[0].name.clone(),
        n_units: HIDDEN,
        kept: kept.to_vec(),
    }];
    let (pruned, report) = apply(dense, &facts, &groups, &plan).unwrap();
    let kept = kept_axes(&report);
    let pair = Pair {
        dense,
        teacher: dense,
        pruned: &pruned,
        kept: &kept,
    };
    let config = RebuildConfig {
        damping: 1e-9,
        max_rows: 1 << 20,
        tune: None,
        refit: true,
        held_out_chunks: 1,
        sparsity: None,
        exec: ExecOptions::default(),
    };
    let found = rebuild(pair, &samples(dense), &config, &NoJournal, &Silent).unwrap();
    (pruned, found)
}

/// Root of the mean square difference of the outputs on all samples, relative to the dense one's.
fn error(dense: &Graph, other: &Graph) -> f64 {
    let run = |graph: &Graph| -> Vec<f32> {
        let executor = Executor::new(graph, ExecOptions::default()).unwrap();
        let chunks = samples(graph).into_values().next().unwrap().chunks;
        let input = graph.inputs()[0];
        let y = |chunk: HostTensor| executor.run(&[(input, chunk)]).unwrap().remove(0);
        chunks
            .into_iter()
            .flat_map(|c| y(c).into_f32().unwrap())
            .collect()
    };
    let (a, b) = (run(dense), run(other));
    let square = |list: &mut dyn Iterator<Item = f64>| -> f64 { list.map(|x| x * x).sum() };
    let difference = square(&mut a.iter().zip(&b).map(|(x, y)| f64::from(x - y)));
    (difference / square(&mut a.iter().map(|x| f64::from(*x)))).sqrt()
}

/// A unit that does what another one does can go without a trace: the other one's weights take over.
#[test]
fn a_twin_goes_without_a_trace() {
    for kind in cases() {
        // Where a reset gate multiplies the state before the product, that product stays as it is.
        let masked = matches!(
            kind.kind,
            RecurrentKind::Gru {
                linear_before_reset: false
            }
        );
        let dense = network(kind, true, 5);
        let (pruned, found) = rebuilt(&dense, &[0, 1, 2, 3, 4]);
        let (before, after) = (error(&dense, &pruned), error(&dense, &found.graph));
        assert!(before > 0.01, "{kind:?}: {before}");
        let cell = found
            .layers
            .iter()
            .find(|l| l.node == "cell")
            .expect("the cell");
        if masked {
            assert!(after <= before, "{kind:?}: {before} to {after}");
            assert!(cell.held_out_after <= cell.held_out_before);
        } else {
            assert!(cell.held_out_after < 1e-8, "{kind:?}: {cell:?}");
            assert!(after < 1e-3, "{kind:?}: {before} to {after}");
        }
    }
}

/// Without a twin the error falls, on samples that the fit did not see as well.
#[test]
fn the_refit_of_a_cell_lowers_the_error() {
    for kind in cases() {
        for seed in 0..4 {
            let dense = network(kind, false, seed);
            let (pruned, found) = rebuilt(&dense, &[0, 2, 3, 5]);
            let (before, after) = (error(&dense, &pruned), error(&dense, &found.graph));
            assert!(
                after < 0.95 * before,
                "{kind:?} {seed}: {before} to {after}"
            );
        }
    }
}

/// Nothing gone, nothing changed.
#[test]
fn a_whole_cell_stays_as_it_is() {
    for kind in cases() {
        let dense = network(kind, false, 3);
        let (_, found) = rebuilt(&dense, &[0, 1, 2, 3, 4, 5]);
        // The linear layer behind it may move by its rounding.
        assert!(
            found.layers.iter().all(|l| l.node != "cell"),
            "{:?}",
            found.layers
        );
        assert!(error(&dense, &found.graph) < 1e-3);
    }
}
