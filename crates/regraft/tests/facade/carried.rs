//! States that the caller carries: how the small network does on states of its own.

use std::path::Path;

use regraft::report::Report;
use regraft::{Quiet, Recipe, RunOptions, ScoreName, Tuning, shrink};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{BinaryOp, UnaryOp};
use regraft_graph::{DType, Dim, Graph, Op, ValueType};

use crate::material::{Net, write_model};
use crate::recurrent::{npy, npz};

const WIDTH: usize = 6;
const UNITS: usize = 12;
/// Sums in batches of another size are rounded otherwise, and so are the weights fitted to them.
const ROUNDED: f64 = 1e-4;
/// Samples, two runs of them.
const RUNS: [usize; 2] = [200, 56];

/// `s' = tanh(x U + s W)`, `y = s' V`.
fn cell(batch: &Dim) -> Graph {
    let mut net = Net::without_input(5);
    for (name, width) in [("x", WIDTH), ("s", UNITS)] {
        let shape = Some(vec![batch.clone(), Dim::Fixed(width)]);
        let dtype = DType::F32;
        net.b.input(name, Some(ValueType { dtype, shape }));
    }
    net.weight("u", &[WIDTH, UNITS]);
    net.weight("w", &[UNITS, UNITS]);
    net.weight("v", &[UNITS, 3]);
    let from_x = net.node(Op::MatMul, &["x", "u"]);
    let from_s = net.node(Op::MatMul, &["s", "w"]);
    let sum = net.node(Op::Binary(BinaryOp::Add), &[&from_x, &from_s]);
    let next = net.node(Op::Unary(UnaryOp::Tanh), &[&sum]);
    let y = net.node(Op::MatMul, &[&next, "v"]);
    net.finish_all(&[&y, &next])
}

fn floats(list: &[f32]) -> Vec<u8> {
    list.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Inputs, and the states that the network makes of them from zero at the start of each run.
fn heard(graph: &Graph) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let executor = Executor::new(graph, ExecOptions::default()).unwrap();
    let (mut inputs, mut states) = (Vec::new(), Vec::new());
    for n in RUNS {
        let mut state = vec![0.0; UNITS];
        for _ in 0..n {
            let at = |j: usize| (((inputs.len() * WIDTH + j) * 7919) % 2048) as f32 / 1024.0 - 1.0;
            let x: Vec<f32> = (0..WIDTH).map(at).collect();
            let feeds = [
                (
                    graph.find_value("x").unwrap(),
                    HostTensor::f32([1, WIDTH], x.clone()),
                ),
                (
                    graph.find_value("s").unwrap(),
                    HostTensor::f32([1, UNITS], state.clone()),
                ),
            ];
            inputs.push(x);
            states.push(state);
            state = executor.run(&feeds).unwrap()[1].as_f32().unwrap().to_vec();
        }
    }
    (inputs, states)
}

/// Shrinks the cell on samples in the order of `order`.
fn run(folder: &Path, batch: &Dim, order: &[usize]) -> Report {
    let graph = cell(batch);
    let (inputs, states) = heard(&cell(&Dim::symbol("n")));
    let rows =
        |list: &[Vec<f32>]| -> Vec<f32> { order.iter().flat_map(|&i| list[i].clone()).collect() };
    let data = folder.join("heard.npz");
    let n = order.len();
    npz(
        &data,
        &[
            ("x", npy("<f4", &[n, WIDTH], &floats(&rows(&inputs)))),
            ("s", npy("<f4", &[n, UNITS], &floats(&rows(&states)))),
        ],
    );
    let model = write_model(folder, &graph);
    let state = graph.value(graph.outputs()[1]).name.clone();
    let recipe = Recipe {
        model: Some(model),
        data: Some(data),
        macs: Some(0.7),
        score: ScoreName::L2,
        multiple_of: 1,
        state: vec![format!("{state}=s")],
        tune: Tuning::None,
        output: Some(folder.join("small.onnx")),
        ..Recipe::default()
    };
    let report = shrink(&recipe, &RunOptions::default(), &Quiet)
        .unwrap()
        .report;
    assert!(report.small.macs < report.dense.macs);
    report
}

#[test]
fn samples_in_a_row_are_run_on_states_of_their_own() {
    let order: Vec<usize> = (0..RUNS.iter().sum()).collect();
    let mut found = Vec::new();
    for batch in [Dim::symbol("n"), Dim::Fixed(1), Dim::Fixed(3)] {
        let folder = tempfile::tempdir().unwrap();
        let report = run(folder.path(), &batch, &order);
        let carried = report.carried.expect("figures");
        // 64 samples: the shortest piece that the longer run is cut to.
        assert_eq!(carried.longest_run, 64, "{carried:?}");
        assert!(
            carried.samples > 0 && carried.difference_given > 0.0,
            "{carried:?}"
        );
        assert!(
            carried.difference_own >= carried.difference_given,
            "{carried:?}"
        );
        assert!(
            carried.difference_own <= carried.difference_before,
            "{carried:?}"
        );
        found.push(carried.difference_own);
    }
    // Batches of one hold the same samples as free ones.
    assert!((found[0] - found[1]).abs() < ROUNDED, "{found:?}");
}

#[test]
fn samples_out_of_order_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let n: usize = RUNS.iter().sum();
    let order: Vec<usize> = (0..n).map(|i| i * 45 % n).collect();
    let report = run(folder.path(), &Dim::symbol("n"), &order);
    assert_eq!(report.carried, None);
    let said = report
        .warnings
        .iter()
        .any(|w| w.contains("in the order in which they follow"));
    assert!(said, "{:?}", report.warnings);
}
