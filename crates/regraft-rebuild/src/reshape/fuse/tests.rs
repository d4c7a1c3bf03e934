//! Fusion on small networks with a residual sum, a flattened image and hidden features.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{AutoPad, BinaryOp, Conv, Gemm, Pool, PoolKind, UnaryOp};
use regraft_graph::{
    DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueId, ValueType,
};
use regraft_prune::{Groups, find_groups};

use super::*;
use crate::rebuild::{KeptAxes, NoJournal, Pair, RebuildConfig, rebuild};
use crate::{Activations, Silent};

/// f32 sums of some hundred terms in another order.
const F32_SUMS: f32 = 1e-4;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from -1 to 1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn shuffled(&mut self, mut list: Vec<usize>) -> Vec<usize> {
        for i in (1..list.len()).rev() {
            list.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        list
    }
}

/// A network under construction; every value is called as its node.
struct Net {
    b: GraphBuilder,
    random: Random,
}

impl Net {
    fn weight(&mut self, name: &str, shape: &[usize]) {
        let n: usize = shape.iter().product();
        let fan_in = shape[1..].iter().product::<usize>().max(1);
        let scale = (2.0 / fan_in as f32).sqrt();
        let data = (0..n).map(|_| scale * self.random.uniform()).collect();
        let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
        self.b.tensor(name, tensor).unwrap();
    }

    fn op(&mut self, op: Op, inputs: &[&str], output: &str) {
        self.b.op(output, op, inputs, &[output]);
    }

    fn conv(&mut self, x: &str, y: &str, (n_in, n_out): (usize, usize)) {
        let (w, b) = (format!("{y}.w"), format!("{y}.b"));
        self.weight(&w, &[n_out, n_in, 3, 3]);
        self.weight(&b, &[n_out]);
        let conv = Conv {
            pads: vec![1; 4],
            ..Conv::default()
        };
        self.op(Op::Conv(conv), &[x, &w, &b], y);
    }

    fn gemm(&mut self, x: &str, y: &str, (n_in, n_out): (usize, usize)) {
        let (w, b) = (format!("{y}.w"), format!("{y}.b"));
        self.weight(&w, &[n_out, n_in]);
        self.weight(&b, &[n_out]);
        let gemm = Gemm {
            trans_b: true,
            ..Gemm::default()
        };
        self.op(Op::Gemm(gemm), &[x, &w, &b], y);
    }

    fn relu(&mut self, x: &str, y: &str) {
        self.op(Op::Unary(UnaryOp::Relu), &[x], y);
    }
}

/// A stem, a residual block, a flattened image, hidden features.
fn network(seed: u64, hidden: usize) -> Graph {
    let opset = OperatorSet {
        domain: String::new(),
        version: 17,
    };
    let mut net = Net {
        b: GraphBuilder::new(Header {
            opsets: vec![opset],
            ..Header::default()
        }),
        random: Random(seed),
    };
    let shape = [
        Dim::symbol("batch"),
        Dim::Fixed(1),
        Dim::Fixed(6),
        Dim::Fixed(6),
    ];
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(shape.to_vec()),
    };
    net.b.input("x", Some(declared));
    net.conv("x", "stem", (1, 6));
    net.relu("stem", "r0");
    net.conv("r0", "inner", (6, 5));
    net.relu("inner", "r1");
    net.conv("r1", "outer", (5, 6));
    net.op(Op::Binary(BinaryOp::Add), &["outer", "r0"], "sum");
    net.relu("sum", "r2");
    let pool = Pool {
        kind: PoolKind::Max,
        kernel_shape: vec![2, 2],
        strides: vec![2, 2],
        dilations: Vec::new(),
        pads: Vec::new(),
        auto_pad: AutoPad::NotSet,
        ceil_mode: false,
    };
    net.op(Op::Pool(pool), &["r2"], "pooled");
    net.op(Op::Flatten { axis: 1 }, &["pooled"], "flat");
    net.gemm("flat", "hidden", (6 * 9, hidden));
    net.relu("hidden", "r3");
    net.gemm("r3", "logits", (hidden, 3));
    net.b.output("logits");
    net.b.finish().unwrap()
}

fn samples(graph: &Graph) -> BTreeMap<ValueId, Activations> {
    let mut random = Random(77);
    let data: Vec<f32> = (0..64 * 36).map(|_| random.uniform()).collect();
    let all = Activations::from_samples(&data, &[1, 6, 6], 16);
    BTreeMap::from([(graph.required_inputs()[0], all)])
}

fn groups_of(graph: &Graph) -> Groups {
    find_groups(graph, &infer(graph, &InferOptions::default()).unwrap()).unwrap()
}

/// Random orders of the free units of every group.
fn random_orders(groups: &Groups, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Random(seed);
    let order = |group: &regraft_prune::Group| {
        let mut order: Vec<usize> = (0..group.units.len()).collect();
        for class in 0..group.n_classes {
            let fits =
                |u: &usize| group.units[*u].frozen.is_none() && group.units[*u].class == class;
            let units: Vec<usize> = order.iter().copied().filter(fits).collect();
            for (to, from) in units.iter().zip(random.shuffled(units.clone())) {
                order[*to] = from;
            }
        }
        order
    };
    groups.groups.iter().map(order).collect()
}

fn logits(graph: &Graph) -> Vec<f32> {
    value(graph, graph.outputs()[0])
}

fn value(graph: &Graph, v: ValueId) -> Vec<f32> {
    let executor = Executor::new(graph, ExecOptions::default()).unwrap();
    let x = samples(graph);
    let (input, a) = x.first_key_value().unwrap();
    let found = executor
        .run_captured(&[(*input, a.chunks[0].clone())], &[v])
        .unwrap();
    found.get(&v).and_then(HostTensor::as_f32).unwrap().to_vec()
}

fn gap(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    a.iter()
        .zip(b)
        .fold(0.0f32, |m, (x, y)| m.max((x - y).abs()))
        / scale
}

fn config(basis: Basis) -> FuseConfig {
    FuseConfig {
        basis,
        ..FuseConfig::default()
    }
}

fn same_weights(a: &Graph, b: &Graph) -> bool {
    a.initializers()
        .iter()
        .all(|(v, i)| b.tensor(*v) == Some(&i.tensor))
}

/// A network with its channels shuffled computes the same, and is put in order again to the last bit.
fn check_recovered(basis: Basis) {
    let first = network(3, 8);
    let groups = groups_of(&first);
    assert_eq!(groups.groups.len(), 3, "trunk, inner, hidden");
    for seed in 0..12 {
        let orders = random_orders(&groups, seed);
        let shuffled = permuted(&first, &groups, &orders).unwrap();
        assert!(!same_weights(&first, &shuffled));
        assert!(gap(&logits(&first), &logits(&shuffled)) < F32_SUMS);
        let found = align(&first, &shuffled, &samples(&first), &config(basis), &Silent).unwrap();
        for ((order, back), group) in orders.iter().zip(&found.orders).zip(&found.groups) {
            let composed: Vec<usize> = back.iter().map(|u| order[*u]).collect();
            assert!(
                composed.iter().enumerate().all(|(a, b)| a == *b),
                "{basis:?} seed {seed}: {order:?} is not undone by {back:?} in {group:?}"
            );
            assert!(!group.left && group.after > 0.999, "{group:?}");
        }
        assert!(same_weights(&first, &found.graph));
    }
}

#[test]
fn activations_put_shuffled_channels_in_order_again() {
    check_recovered(Basis::Activations);
}

#[test]
fn weights_put_shuffled_channels_in_order_again() {
    check_recovered(Basis::Weights);
}

#[test]
fn an_order_that_is_none_is_refused() {
    let graph = network(3, 8);
    let groups = groups_of(&graph);
    let mut orders: Vec<Vec<usize>> = vec![Vec::new(); 3];
    orders[0] = vec![0; groups.groups[0].units.len()];
    let found = permuted(&graph, &groups, &orders);
    assert!(matches!(found, Err(RebuildError::Fuse { .. })), "{found:?}");
}

#[test]
fn networks_trained_apart_keep_what_they_do_when_aligned() {
    let (first, other) = (network(3, 8), network(4, 8));
    for basis in [Basis::Same, Basis::Activations, Basis::Weights] {
        let found = align(&first, &other, &samples(&first), &config(basis), &Silent).unwrap();
        assert!(gap(&logits(&other), &logits(&found.graph)) < F32_SUMS);
        assert!(
            found.groups.iter().all(|g| g.after >= g.before && !g.left),
            "{found:?}"
        );
    }
}

#[test]
fn the_mean_of_equal_networks_is_the_network() {
    let graph = network(5, 8);
    let all = vec![graph.clone(), graph.clone(), graph.clone()];
    for weights in [vec![], vec![0.2, 0.3, 0.4]] {
        let mean = average(&all, &weights, &Zeros::Union).unwrap();
        assert!(same_weights(&graph, &mean));
    }
    let found = fuse(&all, &samples(&graph), &config(Basis::Activations), &Silent).unwrap();
    assert!(same_weights(&graph, &found.graph));
    let moved: usize = found
        .alignments
        .iter()
        .flat_map(|a| &a.groups)
        .map(|g| g.moved)
        .sum();
    assert_eq!(moved, 0);
}

#[test]
fn weights_that_are_no_shares_are_refused() {
    let all = vec![network(5, 8), network(6, 8)];
    for weights in [
        vec![1.0],
        vec![0.0, 0.0],
        vec![1.0, -1.0],
        vec![1.0, f64::NAN],
    ] {
        let found = average(&all, &weights, &Zeros::Union);
        assert!(
            matches!(found, Err(RebuildError::Fuse { .. })),
            "{weights:?}"
        );
    }
    let found = fuse(
        &all[..1],
        &samples(&all[0]),
        &FuseConfig::default(),
        &Silent,
    );
    assert!(matches!(found, Err(RebuildError::Fuse { .. })));
}

/// A graph of one weight of `n` numbers.
fn one_weight(data: &[f32]) -> Graph {
    let mut graph = network(7, data.len()).edit();
    let w = graph.graph().find_value("logits.w").unwrap();
    let rows: Vec<f32> = [data, data, data].concat();
    graph.set_initializer(w, Tensor::from_f32(vec![3, data.len()], rows).unwrap());
    graph.finish().unwrap()
}

#[test]
fn zeros_are_voted_on() {
    let a = one_weight(&[4.0, 2.0, 0.0, 0.0]);
    let b = one_weight(&[4.0, 0.0, 1.0, 0.0]);
    let check = |zeros: Zeros, expected: [f32; 4]| {
        let mean = average(&[a.clone(), b.clone()], &[], &zeros).unwrap();
        let w = mean.tensor(mean.find_value("logits.w").unwrap()).unwrap();
        assert_eq!(w.as_f32().unwrap()[..4], expected, "{zeros:?}");
    };
    check(Zeros::Union, [4.0, 1.0, 0.5, 0.0]);
    check(Zeros::Vote, [4.0, 1.0, 0.0, 0.0]);
    check(Zeros::Of(1), [4.0, 0.0, 0.5, 0.0]);
    let found = average(&[a.clone(), b.clone()], &[], &Zeros::Of(2));
    assert!(matches!(found, Err(RebuildError::Fuse { .. })));
}

#[test]
fn graphs_that_differ_are_refused_by_name() {
    let first = network(3, 8);
    let text = |other: &Graph| matched(&first, other, 2).unwrap_err().to_string();
    assert_eq!(
        text(&network(3, 9)),
        "the models to fuse differ: number 2 at `hidden`: `hidden.w` is f32 8x54 in the first, f32 9x54 here"
    );
    let with = |name: &str, op: Op| {
        let mut edit = first.edit();
        edit.set_op(first.find_node(name).unwrap(), op);
        edit.finish().unwrap()
    };
    let pads = Conv {
        pads: vec![2; 4],
        ..Conv::default()
    };
    assert_eq!(
        text(&with("inner", Op::Conv(pads))),
        "the models to fuse differ: number 2 at `inner`: other attributes of Conv"
    );
    assert_eq!(
        text(&with("r1", Op::Unary(UnaryOp::Sigmoid))),
        "the models to fuse differ: number 2 at `r1`: a Relu in the first, a Sigmoid here"
    );
    let mut rewired = first.edit();
    let add = first.find_node("sum").unwrap();
    rewired.set_input(add, 1, first.find_value("stem"));
    assert_eq!(
        text(&rewired.finish().unwrap()),
        "the models to fuse differ: number 2 at `sum`: input 1 comes from another node"
    );
    assert!(matched(&first, &network(9, 8), 2).is_ok());
}

#[test]
fn the_ensemble_is_the_mean_of_what_the_networks_give() {
    let all = vec![network(3, 8), network(4, 8), network(5, 8)];
    for weights in [vec![], vec![1.0, 2.0, 1.0]] {
        let shares = shares(&weights, 3).unwrap();
        let joined = ensemble(&all, &weights).unwrap();
        for name in ["inner", "sum", "logits"] {
            let v = all[0].find_value(name).unwrap();
            assert_eq!(joined.find_value(name), Some(v));
            let mut mean = vec![0.0f32; value(&all[0], v).len()];
            for (model, share) in all.iter().zip(&shares) {
                for (m, y) in mean.iter_mut().zip(value(model, v)) {
                    *m += *share as f32 * y;
                }
            }
            assert!(
                gap(&mean, &value(&joined, v)) < F32_SUMS,
                "{name} {weights:?}"
            );
        }
    }
}

#[test]
fn a_mean_rebuilt_towards_the_ensemble_comes_closer_to_it() {
    let all = [network(3, 8), network(4, 8)];
    let inputs = samples(&all[0]);
    let fused = fuse(&all, &inputs, &config(Basis::Activations), &Silent).unwrap();
    let kept = KeptAxes::new();
    let pair = Pair {
        dense: &fused.ensemble,
        teacher: &fused.ensemble,
        pruned: &fused.graph,
        kept: &kept,
    };
    let config = RebuildConfig {
        damping: 1e-3,
        max_rows: 10_000,
        tune: None,
        refit: true,
        held_out_chunks: 1,
        sparsity: None,
        exec: ExecOptions::default(),
    };
    let rebuilt = rebuild(pair, &inputs, &config, &NoJournal, &Silent).unwrap();
    let wanted = logits(&fused.ensemble);
    let before = gap(&wanted, &logits(&fused.graph));
    let after = gap(&wanted, &logits(&rebuilt.graph));
    assert!(after < 0.7 * before, "{before} to {after}");
}

#[test]
fn a_soup_takes_what_helps() {
    let all = [network(3, 8), network(4, 8), network(3, 8)];
    // The second network's weights are far from what is wanted.
    let wanted = logits(&all[0]);
    let score = |graph: &Graph| Ok::<f64, RebuildError>(-f64::from(gap(&wanted, &logits(graph))));
    let soup = greedy_soup(&all, &Zeros::Union, score).unwrap();
    assert_eq!(soup.used, vec![0, 2]);
    assert!(same_weights(&soup.graph, &all[0]));
    let none = greedy_soup(&[], &Zeros::Union, |_: &Graph| Ok::<f64, RebuildError>(0.0));
    assert!(matches!(none, Err(RebuildError::Fuse { .. })));
}
