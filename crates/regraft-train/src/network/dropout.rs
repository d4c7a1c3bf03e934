//! Inverted dropout while training (Srivastava et al. 2014): a number is zero with probability p,
//! else divided by 1 − p, so that nothing changes where nothing is dropped.

use regraft_data::SplitMix64;
use regraft_exec::HostTensor;
use regraft_graph::op::{BinaryOp, UnaryOp};
use regraft_graph::{Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};

use crate::TrainError;

/// What ONNX takes where a node does not say its ratio.
const DEFAULT_RATIO: f32 = 0.5;

/// Ends the search for an activation before a linear layer; chains of reshapes are short.
const MAX_STEPS: usize = 16;

/// Places where numbers are dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropouts {
    inputs: Vec<ValueId>,
    masks: Vec<ValueId>,
    ratios: Vec<f32>,
}

impl Dropouts {
    /// Makes the `Dropout` nodes of a graph active, and puts dropout of `ratio` on what hidden linear
    /// layers read: on a value that comes from an activation, reshapes and pooling between.
    pub(super) fn insert(
        graph: &Graph,
        edit: &mut GraphEdit,
        ratio: f32,
    ) -> Result<Self, TrainError> {
        let mut found = Self::default();
        for (id, node) in graph.nodes() {
            let (Some(x), Some(y), Some(own)) =
                (node.input(0), node.output(0), ratio_of(graph, node))
            else {
                continue;
            };
            if own > 0.0 && own < 1.0 {
                let mask = found.add(edit, x, own)?;
                edit.remove_node(id);
                let (factors, product) = (vec![Some(x), Some(mask)], vec![Some(y)]);
                edit.add_op(Op::Binary(BinaryOp::Mul), factors, product);
            }
        }
        if ratio > 0.0 {
            found.before_linear(graph, edit, ratio)?;
        }
        Ok(found)
    }

    fn before_linear(
        &mut self,
        graph: &Graph,
        edit: &mut GraphEdit,
        ratio: f32,
    ) -> Result<(), TrainError> {
        // Layers that read the same value read the same mask.
        let mut dropped: Vec<(ValueId, ValueId)> = Vec::new();
        for (id, node) in graph.nodes() {
            let Some(x) = hidden_input(graph, node) else {
                continue;
            };
            let known = dropped
                .iter()
                .find(|(from, _)| *from == x)
                .map(|(_, to)| *to);
            let product = if let Some(product) = known {
                product
            } else {
                let mask = self.add(edit, x, ratio)?;
                let product = edit.add_value("dropped");
                let factors = vec![Some(x), Some(mask)];
                edit.add_op(Op::Binary(BinaryOp::Mul), factors, vec![Some(product)]);
                dropped.push((x, product));
                product
            };
            edit.set_input(id, 0, Some(product));
        }
        Ok(())
    }

    /// Adds a mask over `input`; it is one until another is fed.
    fn add(
        &mut self,
        edit: &mut GraphEdit,
        input: ValueId,
        ratio: f32,
    ) -> Result<ValueId, TrainError> {
        let one = Tensor::from_f32(Vec::new(), vec![1.0])?;
        let mask = edit.add_initializer("dropout_mask", one);
        self.inputs.push(input);
        self.masks.push(mask);
        self.ratios.push(ratio);
        Ok(mask)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// Returns the values of which something is dropped.
    pub(super) fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Returns masks of these shapes, the same for the same seed.
    pub(super) fn masks(&self, shapes: &[Vec<usize>], seed: u64) -> Vec<(ValueId, HostTensor)> {
        let places = self.masks.iter().zip(&self.ratios).zip(shapes);
        let masks = places.enumerate().map(|(i, ((mask, ratio), shape))| {
            let mut random = SplitMix64::new(seed ^ (i as u64 + 1).rotate_right(16));
            let kept = 1.0 / (1.0 - ratio);
            let draw = |_| {
                if random.uniform_f32() < *ratio {
                    0.0
                } else {
                    kept
                }
            };
            let data = (0..shape.iter().product()).map(draw).collect();
            (*mask, HostTensor::f32(shape.clone(), data))
        });
        masks.collect()
    }
}

/// Returns the ratio of a `Dropout` node whose mask nobody reads: its input, or its attribute in files of
/// before operator set 12.
fn ratio_of(graph: &Graph, node: &Node) -> Option<f32> {
    let Op::Dropout { ratio } = node.op else {
        return None;
    };
    if node.output(1).is_some() {
        return None;
    }
    let given = node.input(1).and_then(|v| graph.tensor(v));
    let given = given.and_then(|t| t.as_f32()).and_then(<[f32]>::first);
    Some(given.copied().or(ratio).unwrap_or(DEFAULT_RATIO))
}

/// Returns what a linear layer with constant weights reads, where it comes from an activation.
fn hidden_input(graph: &Graph, node: &Node) -> Option<ValueId> {
    let linear = matches!(node.op, Op::Gemm(_) | Op::MatMul);
    let x = node.input(0)?;
    if !linear || graph.tensor(node.input(1)?).is_none() || graph.tensor(x).is_some() {
        return None;
    }
    let mut from = x;
    for _ in 0..MAX_STEPS {
        let id = graph.producer(from)?;
        if is_activation(graph, id) {
            return Some(x);
        }
        if !passes_on(&graph.node(id).op) {
            return None;
        }
        from = graph.node(id).input(0)?;
    }
    None
}

fn is_activation(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    if matches!(node.op, Op::Binary(BinaryOp::Mul)) {
        // The product of a value and its own sigmoid.
        let from = |port| node.input(port).and_then(|v| graph.producer(v));
        let gate = |id: NodeId| {
            let op = &graph.node(id).op;
            matches!(op, Op::Activation(_) | Op::Unary(UnaryOp::Sigmoid))
        };
        return from(0).is_some_and(gate) || from(1).is_some_and(gate);
    }
    matches!(
        node.op,
        Op::Activation(_)
            | Op::Clip { .. }
            | Op::PRelu
            | Op::ChannelPRelu
            | Op::Recurrent(_)
            | Op::Unary(
                UnaryOp::Relu
                    | UnaryOp::Sigmoid
                    | UnaryOp::Tanh
                    | UnaryOp::Softplus
                    | UnaryOp::Softsign
                    | UnaryOp::HardSwish
                    | UnaryOp::Mish
            )
    )
}

/// True for what leaves an activation in place, or takes means or parts of it.
fn passes_on(op: &Op) -> bool {
    matches!(
        op,
        Op::Flatten { .. }
            | Op::Reshape { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Transpose { .. }
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Reduce { .. }
            | Op::Slice(_)
            | Op::Gather { .. }
            | Op::BatchNormalization { .. }
            | Op::Unary(UnaryOp::Identity)
    )
}
