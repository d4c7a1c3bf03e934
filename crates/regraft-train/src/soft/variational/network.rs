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
                    noises.push(layer.add_noise(&mut edit, t, variance)?);
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

    /// Sets the weights that the next step goes on from, and their variances; lists of them that are
    /// empty leave what was there.
    pub(crate) fn set(
        &mut self,
        ids: &[ValueId],
        weights: &[Vec<f32>],
        variances: &[Vec<f32>],
    ) -> Result<(), TrainError> {
        let variances = self.variances.iter().zip(variances);
        let variances = variances.filter_map(|(id, list)| Some(((*id)?, list)));
        let all = ids.iter().copied().zip(weights).chain(variances);
        for (id, list) in all.filter(|(_, list)| !list.is_empty()) {
            self.executor.set_initializer(id, list)?;
        }
        Ok(())
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
            let data = normal(&mut random, len);
            (n.value, HostTensor::f32(n.shape.clone(), data))
        };
        Ok(self.noises.iter().map(draw).collect())
    }
}

/// Numbers from nearly the normal distribution: four uniform ones of 8 bits added, two such sums of one
/// draw. That is close enough for noise (the tails end at 3.45, steps are 0.007) and much faster than
/// logarithms.
fn normal(random: &mut SplitMix64, len: usize) -> Vec<f32> {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    // Mean 2 × 255, variance (256² - 1) / 3.
    let number = |sum: u64| ((sum & 0xFFFF) as f32 - 510.0) * (1.0 / 147.8005);
    let mut data = Vec::with_capacity(len + 1);
    while data.len() < len {
        let bits = random.next_u64();
        // Four sums of two bytes, then two sums of four, in the lowest 16 bits of each half.
        let twos = (bits & EVEN) + ((bits >> 8) & EVEN);
        let fours = twos + (twos >> 16);
        data.extend([number(fours), number(fours >> 32)]);
    }
    data.truncate(len);
    data
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

    /// Adds the variances of the sums, and the least to them; `inputs` are squares and variances.
    fn spread(
        &self,
        edit: &mut GraphEdit,
        t: &Trained,
        inputs: [ValueId; 2],
    ) -> Result<ValueId, TrainError> {
        let op = match &self.node.op {
            // A convolution adds it on the way, to each channel.
            Op::Conv(_) if self.port == 1 => {
                let n = t.shape.first().copied().unwrap_or(1);
                let least = Tensor::from_f32(vec![n], vec![LEAST; n])?;
                let least = edit.add_initializer("noise_least", least);
                let op = self.node.op.clone();
                return Ok(add(edit, op, &[inputs[0], inputs[1], least]));
            }
            // The factor of a product is squared in a variance.
            Op::Gemm(gemm) => {
                let mut gemm = gemm.clone();
                gemm.alpha *= gemm.alpha;
                Op::Gemm(gemm)
            }
            other => other.clone(),
        };
        let least = edit.add_initializer("noise_least", Tensor::from_f32(vec![1], vec![LEAST])?);
        let spread = add(edit, op, &inputs);
        Ok(add(edit, ADD, &[spread, least]))
    }

    fn add_noise(
        &self,
        edit: &mut GraphEdit,
        t: &Trained,
        variance: ValueId,
    ) -> Result<Noise, TrainError> {
        let squares = add(edit, MUL, &[self.data, self.data]);
        let inputs = if self.port == 0 {
            [variance, squares]
        } else {
            [squares, variance]
        };
        let spread = self.spread(edit, t, inputs)?;
        let value = edit.add_initializer("noise_drawn", Tensor::from_f32(vec![1], vec![0.0])?);
        let root = add(edit, Op::Unary(UnaryOp::Sqrt), &[spread]);
        let noise = add(edit, MUL, &[root, value]);
        // What the layer wrote before is now the sum with the noise.
        let sums = edit.add_value("noise_sums");
        edit.set_output(self.id, 0, Some(sums));
        let parts = vec![Some(sums), Some(noise)];
        edit.add_op(ADD, parts, vec![Some(self.sums)]);
        Ok(Noise {
            value,
            beside: sums,
            shape: Vec::new(),
        })
    }
}

const ADD: Op = Op::Binary(BinaryOp::Add);
const MUL: Op = Op::Binary(BinaryOp::Mul);

/// Adds an op, and returns what it makes.
fn add(edit: &mut GraphEdit, op: Op, inputs: &[ValueId]) -> ValueId {
    let out = edit.add_value("noise");
    let inputs = inputs.iter().copied().map(Some).collect();
    edit.add_op(op, inputs, vec![Some(out)]);
    out
}

/// Adds W + sqrt(σ² + 1e-8) ε, and returns it with its noise.
fn draw(
    edit: &mut GraphEdit,
    t: &Trained,
    variance: ValueId,
) -> Result<(ValueId, Noise), TrainError> {
    let least = edit.add_initializer("noise_least", Tensor::from_f32(vec![1], vec![LEAST])?);
    let value = edit.add_initializer("noise_drawn", Tensor::from_f32(vec![1], vec![0.0])?);
    let spread = add(edit, ADD, &[variance, least]);
    let root = add(edit, Op::Unary(UnaryOp::Sqrt), &[spread]);
    let noise = add(edit, MUL, &[root, value]);
    let drawn = add(edit, ADD, &[t.id, noise]);
    let shape = t.shape.clone();
    let noise = Noise {
        value,
        beside: t.id,
        shape,
    };
    Ok((drawn, noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deviations of moments of a hundred thousand numbers, and of the tails that are cut off.
    const OF_MOMENTS: f64 = 0.02;

    #[test]
    fn noise_has_the_moments_of_a_normal_variable() {
        let found = normal(&mut SplitMix64::new(1), 100_001);
        assert_eq!(found.len(), 100_001);
        let mean = |power: i32| {
            let powers = found.iter().map(|x| f64::from(*x).powi(power));
            powers.sum::<f64>() / found.len() as f64
        };
        assert!(mean(1).abs() < OF_MOMENTS, "{}", mean(1));
        assert!((mean(2) - 1.0).abs() < OF_MOMENTS, "{}", mean(2));
        assert!(mean(3).abs() < 2.0 * OF_MOMENTS, "{}", mean(3));
        // Of four uniform variables: 3 - 1.2 / 4.
        assert!((mean(4) - 2.7).abs() < 5.0 * OF_MOMENTS, "{}", mean(4));
        let pairs = found.windows(2).map(|p| f64::from(p[0] * p[1]));
        let together = pairs.sum::<f64>() / found.len() as f64;
        assert!(together.abs() < OF_MOMENTS, "{together}");
    }
}
