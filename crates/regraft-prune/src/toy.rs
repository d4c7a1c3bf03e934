//! Small networks for the tests of this crate.

use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::op::{Conv, Gemm};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};

use crate::{Groups, find_groups};

/// Builds a graph whose weights are numbered, so that every element is different.
pub(crate) struct Toy {
    pub(crate) b: GraphBuilder,
    next: f32,
}

impl Toy {
    pub(crate) fn new(input: &[usize]) -> Self {
        Self::with_opset(input, 17)
    }

    pub(crate) fn with_opset(input: &[usize], version: i64) -> Self {
        let mut b = GraphBuilder::new(Header {
            opsets: vec![OperatorSet {
                domain: String::new(),
                version,
            }],
            ..Header::default()
        });
        let dims = std::iter::once(Dim::symbol("batch"));
        let dims = dims.chain(input.iter().map(|&n| Dim::Fixed(n)));
        let declared = ValueType {
            dtype: DType::F32,
            shape: Some(dims.collect()),
        };
        b.input("x", Some(declared));
        Self { b, next: 1.0 }
    }

    pub(crate) fn weight(&mut self, name: &str, shape: &[usize]) {
        let n: usize = shape.iter().product();
        let data = (0..n)
            .map(|i| ((self.next + i as f32) * 0.37).sin())
            .collect();
        self.next += n as f32;
        let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
        self.b.tensor(name, tensor).unwrap();
    }

    /// Numbers above zero, as variances are.
    pub(crate) fn positive(&mut self, name: &str, shape: &[usize]) {
        let n: usize = shape.iter().product();
        let data = (0..n)
            .map(|i| 1.0 + (i as f32 * 0.37).sin() / 2.0)
            .collect();
        let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
        self.b.tensor(name, tensor).unwrap();
    }

    pub(crate) fn ints(&mut self, name: &str, list: &[i64]) {
        self.b
            .tensor(name, Tensor::i64_list(list.to_vec()))
            .unwrap();
    }

    pub(crate) fn op(&mut self, op: Op, inputs: &[&str], output: &str) {
        self.b.op(output, op, inputs, &[output]);
    }

    /// A convolution called as its output, with weight `<output>.w` and bias `<output>.b`.
    pub(crate) fn conv(&mut self, x: &str, output: &str, (n_in, n_out, k): (usize, usize, usize)) {
        self.grouped(x, output, (n_in, n_out, k), 1);
    }

    pub(crate) fn grouped(
        &mut self,
        x: &str,
        output: &str,
        (n_in, n_out, k): (usize, usize, usize),
        group: usize,
    ) {
        let (w, bias) = (format!("{output}.w"), format!("{output}.b"));
        self.weight(&w, &[n_out, n_in / group, k, k]);
        self.weight(&bias, &[n_out]);
        let conv = Conv {
            pads: vec![k / 2; 4],
            group,
            ..Conv::default()
        };
        self.op(Op::Conv(conv), &[x, &w, &bias], output);
    }

    /// `x · wᵀ + b`, weight `<output>.w` of `n_out × n_in`.
    pub(crate) fn gemm(&mut self, x: &str, output: &str, (n_in, n_out): (usize, usize)) {
        let (w, bias) = (format!("{output}.w"), format!("{output}.b"));
        self.weight(&w, &[n_out, n_in]);
        self.weight(&bias, &[n_out]);
        let gemm = Gemm {
            trans_b: true,
            ..Gemm::default()
        };
        self.op(Op::Gemm(gemm), &[x, &w, &bias], output);
    }

    pub(crate) fn done(self, outputs: &[&str]) -> (Graph, Facts, Groups) {
        let mut b = self.b;
        for name in outputs {
            b.output(name);
        }
        let graph = b.finish().unwrap();
        let facts = infer(&graph, &InferOptions::default()).unwrap();
        let groups = find_groups(&graph, &facts).unwrap();
        (graph, facts, groups)
    }
}

/// Members of one unit as `value:axis:index`, indices of one axis joined.
pub(crate) fn members(graph: &Graph, groups: &Groups, group: &str, unit: usize) -> String {
    let group = &groups.groups[groups.find(group).expect("a group of this name")];
    let mut list: Vec<(String, usize, Vec<String>)> = Vec::new();
    for m in &group.units[unit].members {
        let name = graph.value(m.value).name.clone();
        match list.last_mut() {
            Some(last) if (&last.0, last.1) == (&name, m.axis) => last.2.push(m.index.to_string()),
            _ => list.push((name, m.axis, vec![m.index.to_string()])),
        }
    }
    let mut texts: Vec<String> = list
        .into_iter()
        .map(|(n, a, i)| format!("{n}:{a}:{}", i.join(",")))
        .collect();
    texts.sort();
    texts.join(" ")
}

/// Checks that the masked network gives what the pruned one gives, on numbers that are not special.
pub(crate) fn check_masked(masked: &Graph, pruned: &Graph) {
    let input = |graph: &Graph| {
        let id = graph.inputs()[0];
        let declared = graph.value(id).declared.clone().unwrap();
        let dims = declared.shape.unwrap();
        let shape: Vec<usize> = dims.iter().map(|d| d.fixed().unwrap_or(2)).collect();
        let n: usize = shape.iter().product();
        let data = (0..n).map(|i| (i as f32 * 0.71).sin() * 1.5).collect();
        (id, regraft_exec::HostTensor::f32(shape, data))
    };
    let run = |graph: &Graph| {
        let executor = regraft_exec::Executor::new(graph, regraft_exec::ExecOptions::default());
        executor.unwrap().run(&[input(graph)]).unwrap()
    };
    for (a, b) in run(masked).iter().zip(run(pruned)) {
        assert_eq!(a.shape, b.shape);
        let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
        let scale = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        assert!(a.iter().all(|x| x.is_finite()), "{a:?}");
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() <= 1e-5 * scale, "{x} and {y} of {scale}");
        }
    }
}

/// A stem, a block of the same width, a wider block with a padded shortcut, a head.
pub(crate) fn residual() -> (Graph, Facts, Groups) {
    let mut t = Toy::new(&[3, 8, 8]);
    t.conv("x", "stem", (3, 4, 3));
    relu(&mut t, "stem", "r0");
    t.conv("r0", "a1", (4, 6, 3));
    relu(&mut t, "a1", "ra1");
    t.conv("ra1", "a2", (6, 4, 3));
    add(&mut t, "a2", "r0", "s1");
    t.conv("s1", "b1", (4, 5, 3));
    relu(&mut t, "b1", "rb1");
    t.conv("rb1", "b2", (5, 8, 3));
    t.ints("pads", &[0, 2, 0, 0, 0, 2, 0, 0]);
    let pad = Op::Pad {
        mode: regraft_graph::op::PadMode::Constant,
        pads: None,
        value: 0.0,
    };
    t.op(pad, &["s1", "pads"], "wide");
    add(&mut t, "b2", "wide", "s2");
    let pool = Op::GlobalPool(regraft_graph::op::GlobalPool::Average);
    t.op(pool, &["s2"], "pooled");
    t.op(Op::Flatten { axis: 1 }, &["pooled"], "flat");
    t.gemm("flat", "logits", (8, 3));
    t.done(&["logits"])
}

pub(crate) fn relu(t: &mut Toy, x: &str, y: &str) {
    t.op(Op::Unary(regraft_graph::op::UnaryOp::Relu), &[x], y);
}

pub(crate) fn add(t: &mut Toy, a: &str, b: &str, y: &str) {
    t.op(Op::Binary(regraft_graph::op::BinaryOp::Add), &[a, b], y);
}
