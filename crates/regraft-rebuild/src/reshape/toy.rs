//! Small networks for the tests of edits.

use std::collections::BTreeMap;

use regraft_data::SplitMix64;
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{
    BinaryOp, Conv, Direction, Gemm, GlobalPool, Recurrent, RecurrentKind, ReduceKind, UnaryOp,
};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueId};
use regraft_graph::{NodeId, ValueType};

use super::Network;
use crate::{Activations, with_all_states};

/// Rounding of f32 sums in another order, relative to the largest output.
pub(super) const TOL_F32: f32 = 1e-5;

/// Chunks of samples, and samples of each.
pub(super) const CHUNKS: usize = 5;
const CHUNK_LEN: usize = 32;

pub(super) struct Toy {
    b: GraphBuilder,
    random: SplitMix64,
}

impl Toy {
    pub(super) fn new(sample: &[usize]) -> Self {
        let mut b = GraphBuilder::new(Header {
            opsets: vec![OperatorSet {
                domain: String::new(),
                version: 17,
            }],
            ..Header::default()
        });
        let dims = sample.iter().map(|&n| Dim::Fixed(n));
        let shape = std::iter::once(Dim::symbol("batch")).chain(dims).collect();
        let declared = ValueType {
            dtype: DType::F32,
            shape: Some(shape),
        };
        b.input("x", Some(declared));
        Self {
            b,
            random: SplitMix64::new(5),
        }
    }

    pub(super) fn weight(&mut self, name: &str, shape: &[usize], fan_in: usize) {
        let scale = (6.0 / fan_in as f32).sqrt();
        let n = shape.iter().product();
        let draw = |_| scale * (2.0 * self.random.uniform_f32() - 1.0);
        let data: Vec<f32> = (0..n).map(draw).collect();
        let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
        self.b.tensor(name, tensor).unwrap();
    }

    pub(super) fn ints(&mut self, name: &str, list: &[i64]) {
        let tensor = Tensor::i64_list(list.to_vec());
        self.b.tensor(name, tensor).unwrap();
    }

    pub(super) fn op(&mut self, op: Op, inputs: &[&str], output: &str) {
        self.b.op(output, op, inputs, &[output]);
    }

    pub(super) fn conv(&mut self, x: &str, y: &str, (n_in, n_out, k): (usize, usize, usize)) {
        let (w, bias) = (format!("{y}.w"), format!("{y}.b"));
        self.weight(&w, &[n_out, n_in, k, k], n_in * k * k);
        self.weight(&bias, &[n_out], 60);
        let conv = Conv {
            pads: vec![k / 2; 4],
            ..Conv::default()
        };
        self.op(Op::Conv(conv), &[x, &w, &bias], y);
    }

    pub(super) fn gemm(&mut self, x: &str, y: &str, (n_in, n_out): (usize, usize)) {
        let (w, bias) = (format!("{y}.w"), format!("{y}.b"));
        self.weight(&w, &[n_out, n_in], n_in);
        self.weight(&bias, &[n_out], 60);
        let gemm = Gemm {
            trans_b: true,
            ..Gemm::default()
        };
        self.op(Op::Gemm(gemm), &[x, &w, &bias], y);
    }

    pub(super) fn matmul(&mut self, x: &str, y: &str, (n_in, n_out): (usize, usize)) {
        let w = format!("{y}.w");
        self.weight(&w, &[n_in, n_out], n_in);
        self.op(Op::MatMul, &[x, &w], y);
    }

    pub(super) fn relu(&mut self, x: &str, y: &str) {
        self.op(Op::Unary(UnaryOp::Relu), &[x], y);
    }

    pub(super) fn add(&mut self, a: &str, b: &str, y: &str) {
        self.op(Op::Binary(BinaryOp::Add), &[a, b], y);
    }

    /// Pooling, and a linear layer to four outputs.
    pub(super) fn head(&mut self, x: &str, n_in: usize) {
        self.op(Op::GlobalPool(GlobalPool::Average), &[x], "pool");
        self.op(Op::Flatten { axis: 1 }, &["pool"], "flat");
        self.gemm("flat", "y", (n_in, 4));
    }

    pub(super) fn done(mut self) -> Network {
        self.b.output("y");
        Network::new(self.b.finish().unwrap()).unwrap()
    }
}

/// A stem and one residual block of images.
pub(super) fn residual() -> Network {
    let mut t = Toy::new(&[3, 6, 6]);
    t.conv("x", "stem", (3, 8, 3));
    t.relu("stem", "a");
    t.conv("a", "inner", (8, 8, 3));
    t.relu("inner", "b");
    t.conv("b", "outer", (8, 8, 3));
    t.add("outer", "a", "sum");
    t.relu("sum", "c");
    t.head("c", 8);
    t.done()
}

/// Three linear layers.
pub(super) fn perceptron() -> Network {
    let mut t = Toy::new(&[6]);
    t.gemm("x", "fc1", (6, 12));
    t.relu("fc1", "a");
    t.gemm("a", "fc2", (12, 12));
    t.relu("fc2", "b");
    t.gemm("b", "y", (12, 4));
    t.done()
}

/// A recurrent layer of 6 units over 5 steps, its last state read by a linear layer.
pub(super) fn recurrent(kind: RecurrentKind) -> Network {
    recurrent_of(kind, 4, Direction::Forward)
}

/// The same with any number of inputs, in either direction or both.
pub(super) fn recurrent_of(kind: RecurrentKind, n_in: usize, direction: Direction) -> Network {
    let n_gates = match kind {
        RecurrentKind::Lstm => 4,
        RecurrentKind::Gru { .. } => 3,
        RecurrentKind::Rnn => 1,
    };
    let mut t = Toy::new(&[5, n_in]);
    let steps = Op::Transpose {
        perm: Some(vec![1, 0, 2]),
    };
    t.op(steps, &["x"], "steps");
    let directions = direction.count();
    t.weight("w", &[directions, n_gates * 6, n_in], 20);
    t.weight("r", &[directions, n_gates * 6, 6], 20);
    t.weight("bias", &[directions, 2 * n_gates * 6], 60);
    let op = Op::Recurrent(Recurrent {
        kind,
        hidden_size: 6,
        direction,
        batch_first: false,
    });
    t.op(op, &["steps", "w", "r", "bias"], "states");
    if directions == 1 {
        t.ints("direction", &[1]);
        t.op(Op::Squeeze { axes: None }, &["states", "direction"], "all");
    } else {
        let perm = Some(vec![0, 2, 1, 3]);
        t.op(Op::Transpose { perm }, &["states"], "turned");
        t.ints("features", &[0, 0, -1]);
        let reshape = Op::Reshape { allowzero: false };
        t.op(reshape, &["turned", "features"], "all");
    }
    let mean = Op::Reduce {
        kind: ReduceKind::Mean,
        axes: Some(vec![0]),
        keepdims: false,
        noop_with_empty_axes: false,
    };
    t.op(mean, &["all"], "mean");
    t.gemm("mean", "y", (6 * directions, 4));
    t.done()
}

/// A recurrent layer of 6 units over 5 steps of which only the last state is read, as it is read from a file.
pub(super) fn last_state() -> Network {
    let mut t = Toy::new(&[5, 4]);
    let steps = Op::Transpose {
        perm: Some(vec![1, 0, 2]),
    };
    t.op(steps, &["x"], "steps");
    t.weight("w", &[1, 18, 4], 20);
    t.weight("r", &[1, 18, 6], 20);
    t.weight("bias", &[1, 36], 60);
    let op = Op::Recurrent(Recurrent {
        kind: RecurrentKind::Gru {
            linear_before_reset: true,
        },
        hidden_size: 6,
        direction: Direction::Forward,
        batch_first: false,
    });
    let inputs = ["steps", "w", "r", "bias"];
    t.b.op("cell", op, &inputs, &["", "last"]);
    t.ints("direction", &[0]);
    t.op(Op::Squeeze { axes: None }, &["last", "direction"], "state");
    t.gemm("state", "y", (6, 4));
    t.b.output("y");
    let graph = t.b.finish().unwrap();
    Network::new(with_all_states(graph).unwrap()).unwrap()
}

/// A pre-normalised transformer block of width 8 with two heads over 5 steps.
pub(super) fn transformer() -> Network {
    let mut t = Toy::new(&[5, 6]);
    t.matmul("x", "embed", (6, 8));
    norm(&mut t, "embed", "n1");
    for name in ["q", "k", "v"] {
        t.matmul("n1", name, (8, 8));
        t.ints(&format!("{name}.shape"), &[0, 0, 2, 4]);
        let shape = format!("{name}.shape");
        let (four, turned) = (format!("{name}4"), format!("{name}t"));
        t.op(Op::Reshape { allowzero: false }, &[name, &shape], &four);
        let perm = if name == "k" {
            vec![0, 2, 3, 1]
        } else {
            vec![0, 2, 1, 3]
        };
        t.op(Op::Transpose { perm: Some(perm) }, &[&four], &turned);
    }
    t.op(Op::MatMul, &["qt", "kt"], "scores");
    let softmax = Op::Softmax {
        axis: -1,
        flatten: false,
        log: false,
    };
    t.op(softmax, &["scores"], "shares");
    t.op(Op::MatMul, &["shares", "vt"], "heads");
    let back = Op::Transpose {
        perm: Some(vec![0, 2, 1, 3]),
    };
    t.op(back, &["heads"], "side");
    t.ints("flat.shape", &[0, 0, -1]);
    t.op(
        Op::Reshape { allowzero: false },
        &["side", "flat.shape"],
        "joined",
    );
    t.matmul("joined", "proj", (8, 8));
    t.add("proj", "embed", "r1");
    norm(&mut t, "r1", "n2");
    t.matmul("n2", "up", (8, 16));
    t.relu("up", "act");
    t.matmul("act", "down", (16, 8));
    t.add("down", "r1", "r2");
    let mean = Op::Reduce {
        kind: ReduceKind::Mean,
        axes: Some(vec![1]),
        keepdims: false,
        noop_with_empty_axes: false,
    };
    t.op(mean, &["r2"], "mean");
    t.gemm("mean", "y", (8, 4));
    t.done()
}

fn norm(t: &mut Toy, x: &str, y: &str) {
    let ports = ["scale", "shift"].map(|p| format!("{y}.{p}"));
    for p in &ports {
        t.weight(p, &[8], 6);
    }
    let op = Op::LayerNormalization {
        axis: -1,
        epsilon: 1e-5,
    };
    t.op(op, &[x, &ports[0], &ports[1]], y);
}

/// Samples whose numbers go together, so that what is missing can be told from what is there.
pub(super) fn samples(graph: &Graph) -> BTreeMap<ValueId, Activations> {
    let input = graph.required_inputs()[0];
    let declared = graph.value(input).declared.clone().unwrap();
    let dims = declared.shape.unwrap();
    let sample: Vec<usize> = dims.iter().skip(1).filter_map(Dim::fixed).collect();
    let n: usize = sample.iter().product();
    let mut random = SplitMix64::new(9);
    let mut draw = || 2.0 * random.uniform_f32() - 1.0;
    let mut data = Vec::new();
    for _ in 0..CHUNKS * CHUNK_LEN {
        let (a, b, c) = (draw(), draw(), draw());
        for i in 0..n {
            let at = i as f32 / n as f32;
            data.push(a + b * (7.0 * at).sin() + c * (19.0 * at).cos() + 0.3 * draw());
        }
    }
    let activations = Activations::from_samples(&data, &sample, CHUNK_LEN);
    BTreeMap::from([(input, activations)])
}

/// The first output for the first chunk.
pub(super) fn output(graph: &Graph) -> Vec<f32> {
    let executor = Executor::new(graph, ExecOptions::default()).unwrap();
    let feeds: Vec<(ValueId, HostTensor)> = samples(graph)
        .into_iter()
        .map(|(v, a)| (v, a.chunks[0].clone()))
        .collect();
    let found = executor.run(&feeds).unwrap();
    found[0].as_f32().unwrap().to_vec()
}

/// Checks that two networks give the same but for rounding.
pub(super) fn check_same(a: &Graph, b: &Graph) {
    let (a, b) = (output(a), output(b));
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(scale > 1e-3 && scale.is_finite(), "{scale}");
    for (x, y) in a.iter().zip(&b) {
        assert!((x - y).abs() <= TOL_F32 * scale, "{x} and {y} of {scale}");
    }
}

fn gru_of_torch() -> RecurrentKind {
    RecurrentKind::Gru {
        linear_before_reset: true,
    }
}

fn both_ways(kind: RecurrentKind) -> Network {
    recurrent_of(kind, 4, Direction::Bidirectional)
}

/// Every architecture by name.
pub(super) fn all() -> Vec<(&'static str, Network)> {
    let gru = |linear_before_reset| {
        recurrent(RecurrentKind::Gru {
            linear_before_reset,
        })
    };
    vec![
        ("residual", residual()),
        ("perceptron", perceptron()),
        ("lstm", recurrent(RecurrentKind::Lstm)),
        ("gru", gru(false)),
        ("gru of torch", gru(true)),
        ("gru, last state", last_state()),
        ("gru, both ways", both_ways(gru_of_torch())),
        ("lstm, both ways", both_ways(RecurrentKind::Lstm)),
        ("transformer", transformer()),
    ]
}

pub(super) fn node(graph: &Graph, name: &str) -> NodeId {
    graph.find_node(name).unwrap()
}

pub(super) fn shape(graph: &Graph, name: &str) -> Vec<usize> {
    let value = graph.find_value(name).unwrap();
    graph.tensor(value).unwrap().shape().to_vec()
}
