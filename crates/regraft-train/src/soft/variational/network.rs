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
    /// The sums, whose shape it has.
    sums: ValueId,
    shape: Vec<usize>,
}

impl Noisy {
    /// Adds to every layer y = x W the noise sqrt(x² σ² + 1e-8) ε.
    ///
    /// # Errors
    /// [`TrainError::NoVariances`] for a weight of another op than a convolution or a product.
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
            for &id in graph.consumers(t.id) {
                let layer = Layer::of(graph, id, t)?;
                noises.push(layer.add_noise(&mut edit, variance)?);
            }
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
            let sums: Vec<ValueId> = self.noises.iter().map(|n| n.sums).collect();
            let found = self.executor.run_captured(batch, &sums)?;
            for noise in &mut self.noises {
                if let Some(sums) = found.get(&noise.sums) {
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
    fn of(graph: &'a Graph, id: NodeId, t: &Trained) -> Result<Self, TrainError> {
        let node = graph.node(id);
        let fits = matches!(
            node.op,
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
        );
        let port = (0..2).find(|&p| node.input(p) == Some(t.id));
        let found = port.filter(|_| fits).and_then(|port| {
            let data = node.input(1 - port)?;
            Some(Self {
                node,
                id,
                data,
                port,
                sums: node.output(0)?,
            })
        });
        found.ok_or_else(|| TrainError::NoVariances {
            node: graph.node_label(id),
            op: node.op.name().to_owned(),
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
            sums,
            shape: Vec::new(),
        })
    }
}
