//! Shared and tied weights end to end: what they compute, what they take, what is refused.
// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod random;

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{Conv, Direction, Gemm, Recurrent, RecurrentKind, UnaryOp};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Tensor, ValueId, ValueType};
use regraft_solve::share::decode;

use random::Random;
use regraft_rebuild::calibrate::{CalibrateConfig, calibrate};
use regraft_rebuild::reshape::share::{
    Bits, Form, KernelConfig, Scope, ShareConfig, TieConfig, Totals, Weighting, share, tie,
    tie_kernels,
};
use regraft_rebuild::reshape::{Network, Selection};
use regraft_rebuild::{Activations, RebuildError, Silent};

/// Rounding of f32 sums over a few hundred products.
const TOL_F32_NETWORK: f32 = 1e-4;

fn noise(seed: u64, n: usize) -> Vec<f32> {
    Random(seed).list(n)
}

fn tensor(b: &mut GraphBuilder, name: &str, seed: u64, shape: &[usize]) {
    let mut data = noise(seed, shape.iter().product());
    // Every other weight is pruned.
    if shape.len() > 1 {
        data.iter_mut().skip(1).step_by(2).for_each(|w| *w = 0.0);
    }
    b.tensor(name, Tensor::from_f32(shape.to_vec(), data).unwrap())
        .unwrap();
}

fn input(b: &mut GraphBuilder, sample: &[usize]) {
    let dims = std::iter::once(Dim::symbol("batch"));
    let shape = dims.chain(sample.iter().map(|&n| Dim::Fixed(n))).collect();
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(shape),
    };
    b.input("x", Some(declared));
}

/// Two convolutions, the second in two groups, a `Gemm` and a `MatMul` with the inputs first.
fn layers() -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    input(&mut b, &[4, 6, 6]);
    tensor(&mut b, "w1", 1, &[8, 4, 3, 3]);
    tensor(&mut b, "b1", 2, &[8]);
    tensor(&mut b, "w2", 3, &[8, 4, 3, 3]);
    tensor(&mut b, "w3", 4, &[32, 12]);
    tensor(&mut b, "b3", 5, &[12]);
    tensor(&mut b, "w4", 6, &[12, 5]);
    b.op("c1", Op::Conv(Conv::default()), &["x", "w1", "b1"], &["c1"]);
    b.op("r1", Op::Unary(UnaryOp::Relu), &["c1"], &["r1"]);
    let grouped = Conv {
        group: 2,
        ..Conv::default()
    };
    b.op("c2", Op::Conv(grouped), &["r1", "w2"], &["c2"]);
    b.op("r2", Op::Unary(UnaryOp::Relu), &["c2"], &["r2"]);
    b.op("flat", Op::Flatten { axis: 1 }, &["r2"], &["flat"]);
    let gemm = Gemm {
        alpha: 0.5,
        beta: 2.0,
        ..Gemm::default()
    };
    b.op("g", Op::Gemm(gemm), &["flat", "w3", "b3"], &["g"]);
    b.op("m", Op::MatMul, &["g", "w4"], &["m"]);
    b.output("m");
    b.finish().unwrap()
}

fn cell() -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    let dims = [Dim::Fixed(5), Dim::symbol("batch"), Dim::Fixed(6)];
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(dims.to_vec()),
    };
    b.input("x", Some(declared));
    tensor(&mut b, "w", 1, &[1, 24, 6]);
    tensor(&mut b, "r", 2, &[1, 24, 8]);
    let op = Recurrent {
        kind: RecurrentKind::Gru {
            linear_before_reset: true,
        },
        hidden_size: 8,
        direction: Direction::Forward,
        batch_first: false,
    };
    b.op("cell", Op::Recurrent(op), &["x", "w", "r"], &["states"]);
    b.output("states");
    b.finish().unwrap()
}

/// Two equal layers in a row and one that is nothing like them.
fn twins() -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    input(&mut b, &[7]);
    for (name, seed, from) in [("a", 3, "x"), ("b", 3, "a"), ("c", 4, "b")] {
        let weight = format!("{name}.w");
        tensor(&mut b, &weight, seed, &[7, 7]);
        b.op(name, Op::MatMul, &[from, &weight], &[name]);
    }
    b.output("c");
    b.finish().unwrap()
}

fn samples(graph: &Graph, shape: &[usize]) -> HostTensor {
    let n = shape.iter().product();
    let data = noise(77, n).iter().map(|x| x.max(-0.2)).collect();
    assert_eq!(graph.inputs().len(), 1);
    HostTensor::f32(shape.to_vec(), data)
}

fn network(graph: Graph, shape: &[usize], axis: usize) -> Network {
    let mut network = Network::new(graph).unwrap();
    let x = Activations {
        chunks: vec![samples(&network.graph, shape)],
        axis: Some(axis),
    };
    let feeds: BTreeMap<ValueId, Activations> = [(network.graph.inputs()[0], x)].into();
    let config = CalibrateConfig {
        max_rows: 10_000,
        exec: ExecOptions::default(),
    };
    let (graph, facts, layers) = (&network.graph, &network.facts, &network.layers);
    let found = calibrate(graph, facts, layers, &feeds, config, &Silent).unwrap();
    network.calibration = Some(found);
    network
}

fn run(graph: &Graph, shape: &[usize]) -> Vec<f32> {
    let executor = Executor::new(graph, ExecOptions::default()).unwrap();
    let feeds = [(graph.inputs()[0], samples(graph, shape))];
    let mut found = executor.run(&feeds).unwrap();
    found.remove(0).into_f32().unwrap()
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!(
            (x - y).abs() <= TOL_F32_NETWORK * (1.0 + x.abs()),
            "{x} {y}"
        );
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

const X: [usize; 4] = [64, 4, 6, 6];

fn config(form: Form, scope: Scope) -> ShareConfig {
    ShareConfig {
        bits: Bits::Fixed(3),
        scope,
        form,
        ..ShareConfig::default()
    }
}

#[test]
fn a_gather_computes_what_plain_values_do() {
    for (network, shape, n_layers) in [
        (network(layers(), &X, 0), X.to_vec(), 4),
        (network(cell(), &[5, 40, 6], 1), vec![5, 40, 6], 2),
    ] {
        for scope in [Scope::Layer, Scope::Network] {
            let all = Selection::default();
            let of = |form| share(&network, &all, &config(form, scope)).unwrap();
            let (plain, gather) = (of(Form::Values), of(Form::Gather));
            assert_eq!(plain.layers.len(), n_layers);
            assert!(plain.edited.left.is_empty());
            assert_eq!(plain.edited.graph.n_nodes(), network.graph.n_nodes());
            assert!(gather.layers.iter().all(|l| l.form == Form::Gather));
            assert_eq!(
                gather.edited.graph.n_nodes(),
                network.graph.n_nodes() + 2 * n_layers
            );
            let (a, b) = (
                run(&plain.edited.graph, &shape),
                run(&gather.edited.graph, &shape),
            );
            assert_close(&a, &b);
            assert!(gather.totals.file_bytes < plain.totals.file_bytes);
            assert_eq!(gather.totals.coded_bytes, plain.totals.coded_bytes);
        }
    }
}

#[test]
fn each_layer_is_read_back_from_its_bytes() {
    let network = network(layers(), &X, 0);
    for scope in [Scope::Layer, Scope::Network] {
        let shared = share(
            &network,
            &Selection::default(),
            &config(Form::Values, scope),
        )
        .unwrap();
        assert_eq!(shared.codebook.is_some(), scope == Scope::Network);
        for layer in &shared.layers {
            let n = layer.values.indices.len();
            let back = decode(&layer.coded, n, shared.codebook.as_deref()).unwrap();
            assert_eq!(back, layer.values);
            assert_eq!(layer.coded.len() as u64, layer.sizes.coded_bytes);
            let id = shared.edited.graph.find_value(&layer.weight).unwrap();
            let written = shared.edited.graph.tensor(id).unwrap();
            assert_eq!(written.as_f32().unwrap(), back.values());
            // Half of the weights were pruned, and those only are zero.
            assert_eq!(layer.sizes.n_nonzero, n / 2);
            assert!(layer.sizes.n_entries <= 8);
        }
        let floats = |t: &Totals| t.dense_bytes + t.other_bytes;
        let tensors = network.graph.initializers().values();
        let all: usize = tensors.map(|i| 4 * i.tensor.len()).sum();
        assert_eq!(floats(&shared.totals), all as u64);
        assert!(shared.totals.ratio() > 4.0);
    }
}

#[test]
fn the_gram_and_the_bias_save_the_output() {
    let network = network(layers(), &X, 0);
    let dense = run(&network.graph, &X);
    let lost = |weighting| {
        let config = ShareConfig {
            weighting,
            ..config(Form::Values, Scope::Layer)
        };
        let shared = share(&network, &Selection::default(), &config).unwrap();
        squared_distance(&run(&shared.edited.graph, &X), &dense)
    };
    let (plain, gram) = (lost(Weighting::Plain), lost(Weighting::Gram));
    assert!(gram < 0.8 * plain, "{gram} {plain}");
}

#[test]
fn the_fewest_bits_that_keep_the_error() {
    let network = network(layers(), &X, 0);
    let of = |max_error| {
        let config = ShareConfig {
            bits: Bits::Auto { max_error },
            ..ShareConfig::default()
        };
        share(&network, &Selection::default(), &config).unwrap()
    };
    let (coarse, fine) = (of(0.05), of(1e-3));
    assert_eq!(coarse.layers.len(), 4);
    for (layer, limit) in [(&coarse, 0.05), (&fine, 1e-3)]
        .iter()
        .flat_map(|(s, limit)| s.layers.iter().map(move |l| (l, limit)))
    {
        assert!(layer.output_error.unwrap() <= *limit, "{layer:?}");
    }
    assert!(coarse.totals.coded_bytes < fine.totals.coded_bytes);
    // No layer has more than 192 weights that are not zero.
    assert!(of(1e-30).edited.exact);
}

#[test]
fn what_eight_bits_cannot_keep_is_left() {
    let mut b = GraphBuilder::new(Header::default());
    input(&mut b, &[40]);
    tensor(&mut b, "w", 1, &[40, 30]);
    b.op("m", Op::MatMul, &["x", "w"], &["m"]);
    b.output("m");
    let network = Network::new(b.finish().unwrap()).unwrap();
    let config = ShareConfig {
        bits: Bits::Auto { max_error: 1e-12 },
        weighting: Weighting::Plain,
        ..ShareConfig::default()
    };
    let shared = share(&network, &Selection::default(), &config).unwrap();
    assert!(shared.layers.is_empty() && shared.edited.changes.is_empty());
    assert_eq!(shared.edited.left[0].0, "m");
    assert_eq!(shared.totals.other_bytes, 4 * 1200);
}

#[test]
fn few_values_are_kept_as_they_are() {
    let mut graph = layers();
    let id = graph.find_value("w4").unwrap();
    let mut edit = graph.edit();
    let data = (0..60).map(|i| (i % 3) as f32 - 1.0).collect();
    edit.set_initializer(id, Tensor::from_f32(vec![12, 5], data).unwrap());
    graph = edit.finish().unwrap();
    let network = Network::new(graph).unwrap();
    let config = ShareConfig {
        weighting: Weighting::Plain,
        ..ShareConfig::default()
    };
    let only = Selection {
        only: vec!["m".to_owned()],
        ..Selection::default()
    };
    let shared = share(&network, &only, &config).unwrap();
    assert!(shared.edited.exact);
    assert_eq!(shared.layers[0].values.codebook, [0.0, -1.0, 1.0]);
    assert_eq!(shared.layers[0].output_error, None);
    assert_eq!(run(&shared.edited.graph, &X), run(&network.graph, &X));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let network = Network::new(layers()).unwrap();
    let fails = |config: ShareConfig| share(&network, &Selection::default(), &config).unwrap_err();
    let bits = |bits| ShareConfig {
        bits,
        weighting: Weighting::Plain,
        ..ShareConfig::default()
    };
    for bad in [
        Bits::Fixed(0),
        Bits::Fixed(13),
        Bits::Auto { max_error: 0.0 },
        Bits::Auto {
            max_error: f64::NAN,
        },
    ] {
        assert!(matches!(fails(bits(bad)), RebuildError::Setting { .. }));
    }
    let unknown = fails(ShareConfig::default());
    assert!(matches!(unknown, RebuildError::NeedsCalibration { .. }));
    assert!(unknown.hint().is_some());
    let mut edit = network.graph.edit();
    let id = network.graph.find_value("w4").unwrap();
    edit.set_initializer(
        id,
        Tensor::from_f32(vec![12, 5], vec![f32::NAN; 60]).unwrap(),
    );
    let broken = Network::new(edit.finish().unwrap()).unwrap();
    let failure = share(&broken, &Selection::default(), &bits(Bits::Fixed(2))).unwrap_err();
    assert!(failure.to_string().contains("`m`"), "{failure}");
    let failure = tie(&broken, &Selection::default(), TieConfig::default()).unwrap_err();
    assert!(failure.to_string().contains("`m`"), "{failure}");
}

#[test]
fn equal_layers_are_tied_and_no_others() {
    let network = network(twins(), &[50, 7], 0);
    let all = Selection::default();
    let tied = tie(&network, &all, TieConfig::default()).unwrap();
    assert!(tied.exact);
    let nodes: Vec<&str> = tied.changes.iter().map(|c| c.node.as_str()).collect();
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(tied.graph.initializers().len(), 2);
    assert_close(&run(&tied.graph, &[50, 7]), &run(&network.graph, &[50, 7]));
    let loose = tie(&network, &all, TieConfig { max_error: 10.0 }).unwrap();
    assert_eq!(loose.graph.initializers().len(), 1);
    assert!(!loose.exact && loose.changes.iter().all(|c| c.error.unwrap() <= 10.0));
    assert_eq!(loose.changes.iter().map(|c| c.params.1).sum::<u64>(), 49);
    // Tied layers are shared once.
    let again = Network::new(loose.graph).unwrap();
    let plain = ShareConfig {
        weighting: Weighting::Plain,
        ..ShareConfig::default()
    };
    let shared = share(&again, &all, &plain).unwrap();
    assert_eq!((shared.layers.len(), shared.edited.left.len()), (1, 2));
}

#[test]
fn kernels_of_a_convolution_are_shared_whole() {
    let network = network(layers(), &X, 0);
    let tied = |n_kernels, form| {
        let config = KernelConfig { n_kernels, form };
        tie_kernels(&network, &Selection::default(), config).unwrap()
    };
    let (plain, gather) = (tied(6, Form::Values), tied(6, Form::Gather));
    assert_close(&run(&plain.graph, &X), &run(&gather.graph, &X));
    assert_eq!(gather.graph.n_nodes(), network.graph.n_nodes() + 4);
    assert_eq!(plain.changes.len(), 2);
    assert_eq!(plain.changes[0].params, (288, 54));
    // 32 kernels each, half of their weights zero in one of two patterns.
    let more = tied(20, Form::Values);
    for (few, many) in plain.changes.iter().zip(&more.changes) {
        assert!(many.error < few.error, "{many:?} {few:?}");
    }
    assert!(tied(32, Form::Values).changes.is_empty());
    let config = KernelConfig {
        n_kernels: 0,
        form: Form::Values,
    };
    assert!(tie_kernels(&network, &Selection::default(), config).is_err());
}
