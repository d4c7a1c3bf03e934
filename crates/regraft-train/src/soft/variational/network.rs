//! The network that training sees: sums of normal weights.

use regraft_data::SplitMix64;
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{BinaryOp, UnaryOp};
use regraft_graph::{Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::TrainError;
use crate::parameters::Trained;
use crate::samples::Feeds;

/// Added to the variance of a sum before its root.
const LEAST: f32 = 1e-8;

/// A network with noise in the sums of its layers.
pub(crate) struct Noisy {
    pub(crate) executor: Executor,
    /// The initializer of the variances of each trained initializer, where it is a weight.
    pub(crate) variances: Vec<Option<ValueId>>,
    noises: Vec<Noise>,
}

struct Noise {
    /// What is fed.
    value: ValueId,
    /// The value whose shape it has.
    beside: ValueId,
    shape: Vec<usize>,
}

impl Noisy {
    /// Adds to every layer y = x W the noise sqrt(x² σ² + 1e-8) ε.
    ///
    /// Weights whose sums lie inside of an op, those of recurrent cells, are drawn instead: the same W + σ ε
    /// at every time step of a batch (Chirkova, Lobacheva, Vetrov, "Bayesian compression for natural language
    /// processing", EMNLP 2018, section 2.3).
    pub(crate) fn new(
        graph: &Graph,
        trained: &[Trained],
        exec: ExecOptions,
    ) -> Result<Self, TrainError> {
        let mut edit = graph.edit();
        let mut variances = vec![None; trained.len()];
        let mut noises = Vec::new();
        for (i, t) in trained.iter().enumerate().filter(|(_, t)| t.is_weight) {
            let zeros = vec![0.0; t.shape.iter().product()];
            let tensor = Tensor::from_f32(t.shape.clone(), zeros)?;
            let variance = edit.add_initializer(&format!("{}_variance", t.name), tensor);
            variances[i] = Some(variance);
            let mut drawn = None;
            for &id in graph.consumers(t.id) {
                if let Some(layer) = Layer::of(graph, id, t) {
                    noises.push(layer.add_noise(&mut edit, variance)?);
                    continue;
                }
                let (weight, _) = match &drawn {
                    Some(drawn) => drawn,
                    None => drawn.insert(draw(&mut edit, t, variance)?),
                };
                let inputs = graph.node(id).inputs.iter().enumerate();
                for (port, _) in inputs.filter(|(_, v)| **v == Some(t.id)) {
                    edit.set_input(id, port, Some(*weight));
                }
            }
            noises.extend(drawn.map(|(_, noise)| noise));
        }
        Ok(Self {
            executor: Executor::new(&edit.finish()?, exec)?,
            variances,
            noises,
        })
    }

    /// Returns noise for a batch, normal with variance 1.
    pub(crate) fn noise(&mut self, batch: &Feeds, seed: u64) -> Result<Feeds, TrainError> {
        if self.noises.iter().any(|n| n.shape.is_empty()) {
            let sums: Vec<ValueId> = self.noises.iter().map(|n| n.beside).collect();
            let found = self.executor.run_captured(batch, &sums)?;
            for noise in &mut self.noises {
                if let Some(sums) = found.get(&noise.beside) {
                    noise.shape.clone_from(&sums.shape);
                }
            }
        }
        let mut random = SplitMix64::new(seed ^ 0x6e6f_6973_6521);
        let draw = |n: &Noise| {
            let len: usize = n.shape.iter().product();
            let data = (0..len).map(|_| normal(&mut random)).collect();
            (n.value, HostTensor::f32(n.shape.clone(), data))
        };
        Ok(self.noises.iter().map(draw).collect())
    }
}

/// A number from nearly the normal distribution: four uniform ones added (variance 1/3 at a width of 2),
/// which is close enough for noise and much faster than logarithms.
fn normal(random: &mut SplitMix64) -> f32 {
    let bits = random.next_u64();
    let sum: u32 = (0..4)
        .map(|i| (bits >> (16 * i)) as u16)
        .map(u32::from)
        .sum();
    // Mean 2 × 65535, variance (65536² - 1) / 3.
    (sum as f32 - 131_070.0) / 37_837.2
}

/// A node that sums over a weight.
struct Layer<'a> {
    node: &'a Node,
    id: NodeId,
    data: ValueId,
    port: usize,
    sums: ValueId,
}

impl<'a> Layer<'a> {
    /// Returns the layer, `None` if a node does not write its sums.
    fn of(graph: &'a Graph, id: NodeId, t: &Trained) -> Option<Self> {
        let node = graph.node(id);
        let fits = matches!(
            node.op,
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
        );
        let port = (0..2).find(|&p| node.input(p) == Some(t.id));
        let port = port.filter(|_| fits)?;
        Some(Self {
            node,
            id,
            data: node.input(1 - port)?,
            port,
            sums: node.output(0)?,
        })
    }

    fn add_noise(&self, edit: &mut GraphEdit, variance: ValueId) -> Result<Noise, TrainError> {
        let mut op = |op: Op, inputs: &[ValueId]| {
            let out = edit.add_value("noise");
            let inputs = inputs.iter().copied().map(Some).collect();
            edit.add_op(op, inputs, vec![Some(out)]);
            out
        };
        let squares = op(Op::Binary(BinaryOp::Mul), &[self.data, self.data]);
        let inputs = if self.port == 0 {
            [variance, squares]
        } else {
            [squares, variance]
        };
        // The factor of a product is squared in a variance.
        let sums_of = match &self.node.op {
            Op::Gemm(gemm) => {
                let mut gemm = gemm.clone();
                gemm.alpha *= gemm.alpha;
                Op::Gemm(gemm)
            }
            other => other.clone(),
        };
        let spread = op(sums_of, &inputs);
        let least = edit.add_initializer("noise_least", Tensor::from_f32(vec![1], vec![LEAST])?);
        let value = edit.add_initializer("noise_drawn", Tensor::from_f32(vec![1], vec![0.0])?);
        // What the layer wrote before is now the sum with the noise.
        let sums = edit.add_value("noise_sums");
        edit.set_output(self.id, 0, Some(sums));
        let mut op = |op: Op, inputs: &[ValueId], out: Option<ValueId>| {
            let out = out.unwrap_or_else(|| edit.add_value("noise"));
            let inputs = inputs.iter().copied().map(Some).collect();
            edit.add_op(op, inputs, vec![Some(out)]);
            out
        };
        let spread = op(Op::Binary(BinaryOp::Add), &[spread, least], None);
        let root = op(Op::Unary(UnaryOp::Sqrt), &[spread], None);
        let noise = op(Op::Binary(BinaryOp::Mul), &[root, value], None);
        op(Op::Binary(BinaryOp::Add), &[sums, noise], Some(self.sums));
        Ok(Noise {
            value,
            beside: sums,
            shape: Vec::new(),
        })
    }
}

/// Adds W + sqrt(σ² + 1e-8) ε, and returns it with its noise.
fn draw(
    edit: &mut GraphEdit,
    t: &Trained,
    variance: ValueId,
) -> Result<(ValueId, Noise), TrainError> {
    let least = edit.add_initializer("noise_least", Tensor::from_f32(vec![1], vec![LEAST])?);
    let value = edit.add_initializer("noise_drawn", Tensor::from_f32(vec![1], vec![0.0])?);
    let mut op = |op: Op, inputs: &[ValueId]| {
        let out = edit.add_value("noise");
        let inputs = inputs.iter().copied().map(Some).collect();
        edit.add_op(op, inputs, vec![Some(out)]);
        out
    };
    let spread = op(Op::Binary(BinaryOp::Add), &[variance, least]);
    let root = op(Op::Unary(UnaryOp::Sqrt), &[spread]);
    let noise = op(Op::Binary(BinaryOp::Mul), &[root, value]);
    let drawn = op(Op::Binary(BinaryOp::Add), &[t.id, noise]);
    let shape = t.shape.clone();
    let noise = Noise {
        value,
        beside: t.id,
        shape,
    };
    Ok((drawn, noise))
}
