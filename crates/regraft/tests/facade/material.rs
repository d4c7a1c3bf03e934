//! Small models and data sets, written as files into a folder of the test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regraft::{Recipe, Tuning};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{BinaryOp, Conv, Gemm, GlobalPool, UnaryOp};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};
use regraft_onnx::{Limits, read, write_bytes};

/// Height and width of the images.
pub(crate) const SIDE: usize = 8;

/// `SplitMix64`, for weights and pixels.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from -1 to 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A network under construction; every value is called as its node.
pub(crate) struct Net {
    pub(crate) b: GraphBuilder,
    random: Random,
    n_nodes: usize,
}

impl Net {
    /// A network that takes grey images, `batch` of them or any number.
    pub(crate) fn new(seed: u64, batch: Option<usize>) -> Self {
        let mut net = Self::without_input(seed);
        net.input("x", batch);
        net
    }

    /// A network that takes nothing yet.
    pub(crate) fn without_input(seed: u64) -> Self {
        let opsets = vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }];
        Self {
            b: GraphBuilder::new(Header {
                ir_version: 8,
                opsets,
                ..Header::default()
            }),
            random: Random(seed),
            n_nodes: 0,
        }
    }

    pub(crate) fn declare(&mut self, name: &str, dtype: DType, shape: &[Dim]) {
        let shape = Some(shape.to_vec());
        self.b.input(name, Some(ValueType { dtype, shape }));
    }

    pub(crate) fn input(&mut self, name: &str, batch: Option<usize>) {
        let batch = batch.map_or_else(|| Dim::symbol("batch"), Dim::Fixed);
        let shape = vec![batch, Dim::Fixed(1), Dim::Fixed(SIDE), Dim::Fixed(SIDE)];
        let declared = ValueType {
            dtype: DType::F32,
            shape: Some(shape),
        };
        self.b.input(name, Some(declared));
    }

    pub(crate) fn weight(&mut self, name: &str, shape: &[usize]) {
        let n: usize = shape.iter().product();
        let fan_in: usize = shape[1..].iter().product::<usize>().max(1);
        let scale = (2.0 / fan_in as f32).sqrt();
        let data = (0..n).map(|_| scale * self.random.uniform()).collect();
        let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
        self.b.tensor(name, tensor).unwrap();
    }

    pub(crate) fn node(&mut self, op: Op, inputs: &[&str]) -> String {
        self.n_nodes += 1;
        let name = format!("{}{}", op.name().to_lowercase(), self.n_nodes);
        self.b.op(&name, op, inputs, &[&name]);
        name
    }

    pub(crate) fn conv(&mut self, input: &str, n_in: usize, n_out: usize, k: usize) -> String {
        let (w, bias) = (
            format!("w{}", self.n_nodes + 1),
            format!("b{}", self.n_nodes + 1),
        );
        self.weight(&w, &[n_out, n_in, k, k]);
        self.weight(&bias, &[n_out]);
        let conv = Conv {
            pads: vec![k / 2; 4],
            ..Conv::default()
        };
        self.node(Op::Conv(conv), &[input, &w, &bias])
    }

    pub(crate) fn batch_norm(&mut self, input: &str, n: usize) -> String {
        let names = ["scale", "offset", "mean", "variance"]
            .map(|what| format!("{what}{}", self.n_nodes + 1));
        // A scale and a variance stay above zero.
        for (name, centre) in names.iter().zip([1.0, 0.0, 0.0, 1.0]) {
            let data = (0..n).map(|_| centre + 0.4 * self.random.uniform());
            let tensor = Tensor::from_f32(vec![n], data.collect()).unwrap();
            self.b.tensor(name, tensor).unwrap();
        }
        let inputs: Vec<&str> = std::iter::once(input)
            .chain(names.iter().map(String::as_str))
            .collect();
        self.node(Op::BatchNormalization { epsilon: 1e-5 }, &inputs)
    }

    pub(crate) fn relu(&mut self, input: &str) -> String {
        self.node(Op::Unary(UnaryOp::Relu), &[input])
    }

    pub(crate) fn flatten(&mut self, input: &str) -> String {
        self.node(Op::Flatten { axis: 1 }, &[input])
    }

    pub(crate) fn linear(&mut self, input: &str, n_in: usize, n_out: usize) -> String {
        let (w, bias) = (
            format!("w{}", self.n_nodes + 1),
            format!("b{}", self.n_nodes + 1),
        );
        self.weight(&w, &[n_out, n_in]);
        self.weight(&bias, &[n_out]);
        let gemm = Gemm {
            trans_b: true,
            ..Gemm::default()
        };
        self.node(Op::Gemm(gemm), &[input, &w, &bias])
    }

    pub(crate) fn add(&mut self, a: &str, b: &str) -> String {
        self.node(Op::Binary(BinaryOp::Add), &[a, b])
    }

    pub(crate) fn concat(&mut self, a: &str, b: &str) -> String {
        self.node(Op::Concat { axis: 1 }, &[a, b])
    }

    /// Pooling and a linear layer to three outputs.
    pub(crate) fn head(mut self, input: &str, n_in: usize) -> Graph {
        let pooled = self.node(Op::GlobalPool(GlobalPool::Average), &[input]);
        let flat = self.node(Op::Flatten { axis: 1 }, &[&pooled]);
        self.weight("fc.w", &[3, n_in]);
        self.weight("fc.b", &[3]);
        let gemm = Gemm {
            trans_b: true,
            ..Gemm::default()
        };
        let y = self.node(Op::Gemm(gemm), &[&flat, "fc.w", "fc.b"]);
        self.finish(&y)
    }

    pub(crate) fn finish(self, output: &str) -> Graph {
        self.finish_all(&[output])
    }

    pub(crate) fn finish_all(mut self, outputs: &[&str]) -> Graph {
        for output in outputs {
            self.b.output(output);
        }
        self.b.finish().unwrap()
    }
}

/// Two convolutions and a residual block, with batch normalisation.
pub(crate) fn network(batch: Option<usize>) -> Graph {
    let mut net = Net::new(5, batch);
    let stem = net.conv("x", 1, 8, 3);
    let stem = net.batch_norm(&stem, 8);
    let stem = net.relu(&stem);
    let inner = net.conv(&stem, 8, 8, 3);
    let inner = net.relu(&inner);
    let outer = net.conv(&inner, 8, 8, 3);
    let sum = net.add(&outer, &stem);
    let sum = net.relu(&sum);
    net.head(&sum, 8)
}

pub(crate) fn write_model(folder: &Path, graph: &Graph) -> PathBuf {
    let path = folder.join("model.onnx");
    std::fs::write(&path, write_bytes(graph).unwrap()).unwrap();
    path
}

/// Writes `n` grey images with a bright corner each, whose number is the label, as IDX files.
pub(crate) fn write_data(folder: &Path, n: usize) -> PathBuf {
    let path = folder.join("data");
    std::fs::create_dir_all(&path).unwrap();
    let mut random = Random(9);
    let header = |kind: u8, extents: &[usize]| {
        let mut bytes = vec![0, 0, 8, kind];
        for &e in extents {
            bytes.extend(u32::try_from(e).unwrap().to_be_bytes());
        }
        bytes
    };
    for (split, n) in [("train", n), ("t10k", 32)] {
        let mut images = header(3, &[n, SIDE, SIDE]);
        let mut labels = header(1, &[n]);
        for i in 0..n {
            let class = i % 3;
            labels.push(class as u8);
            for p in 0..SIDE * SIDE {
                let (y, x) = (p / SIDE, p % SIDE);
                let lit = match class {
                    0 => y < 4 && x < 4,
                    1 => y < 4 && x >= 4,
                    _ => y >= 4,
                };
                let noise = (random.next() % 64) as u8;
                images.push(noise + if lit { 160 } else { 20 });
            }
        }
        let file = |kind: &str| path.join(format!("{split}-{kind}-ubyte"));
        std::fs::write(file("images-idx3"), images).unwrap();
        std::fs::write(file("labels-idx1"), labels).unwrap();
    }
    path
}

/// A short run: every stage, few samples and few passes.
pub(crate) fn recipe(folder: &Path, model: PathBuf, data: PathBuf) -> Recipe {
    Recipe {
        model: Some(model),
        data: Some(data),
        mean: vec![0.4],
        std: vec![0.3],
        macs: Some(0.5),
        multiple_of: 2,
        calib: 192,
        tune: Tuning::Blocks,
        epochs: 1,
        joint_epochs: Some(1),
        threads: Some(1),
        output: Some(folder.join("small.onnx")),
        latency_batch: 1,
        ..Recipe::default()
    }
}

/// Every file below a folder with its bytes, so that two listings tell whether anything changed.
pub(crate) fn listing(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut work = vec![folder.to_path_buf()];
    while let Some(dir) = work.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                work.push(path.clone());
                found.insert(path, None);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path, Some(bytes));
            }
        }
    }
    found
}

/// What a model file computes for `n` random images.
pub(crate) fn outputs(path: &Path, n: usize) -> Vec<f32> {
    let graph = read(path, &Limits::default()).unwrap();
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let mut random = Random(21);
    let data: Vec<f32> = (0..n * SIDE * SIDE).map(|_| random.uniform()).collect();
    let x = HostTensor::f32(vec![n, 1, SIDE, SIDE], data);
    let found = executor
        .run_captured(&[(graph.required_inputs()[0], x)], graph.outputs())
        .unwrap();
    found[&graph.outputs()[0]].as_f32().unwrap().to_vec()
}

/// Largest difference relative to the largest output.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let pairs = a.iter().zip(b);
    f64::from(pairs.fold(0.0f32, |m, (x, y)| m.max((x - y).abs())) / scale)
}

/// True where long tests are asked for.
pub(crate) fn slow() -> bool {
    std::env::var_os("REGRAFT_SLOW").is_some_and(|v| v == "1")
}
