//! What a network costs: parameters, multiply-accumulates, bytes.

use std::collections::BTreeMap;

use crate::infer::{Facts, branch_macs};
use crate::{Dim, Graph, Node, NodeId, Op, ValueId};

/// Counts of a whole network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Elements of all floating-point initializers.
    pub params: u64,
    /// Multiply-accumulates of convolutions, matrix products and recurrent ops for one sample.
    pub macs: u64,
    /// Bytes of all initializers.
    pub bytes: u64,
}

/// Returns the counts of the whole network.
pub fn total(graph: &Graph, facts: &Facts) -> Cost {
    let mut cost = Cost::default();
    for init in graph.initializers().values() {
        let n = init.tensor.len() as u64;
        cost.params += if init.tensor.dtype().is_float() { n } else { 0 };
        cost.bytes += n * init.tensor.dtype().size_bytes().unwrap_or(1) as u64;
    }
    cost.macs = macs(graph, facts);
    cost
}

/// Returns the multiply-accumulates of all nodes for one sample.
pub(crate) fn macs(graph: &Graph, facts: &Facts) -> u64 {
    let nodes = graph.nodes();
    nodes
        .map(|(id, _)| node_macs(graph, facts, id))
        .fold(0, u64::saturating_add)
}

/// Returns the multiply-accumulates of one node for one sample; 0 where the extents are not known.
///
/// # Units
/// Products of a weight and an activation; a symbolic leading axis counts as 1. Additions of
/// biases, normalisation and activations are not counted, as is usual.
pub fn node_macs(graph: &Graph, facts: &Facts, id: NodeId) -> u64 {
    let node = graph.node(id);
    let elements = |v: Option<ValueId>, skip_batch: usize| -> Option<u64> {
        let shape = facts.shape(v?)?;
        let mut dims = shape.get(skip_batch..)?.iter().map(Dim::fixed);
        dims.try_fold(1u64, |n, d| d.map(|d| n.saturating_mul(d as u64)))
    };
    let macs = match &node.op {
        // Each weight is used once at every output pixel.
        Op::Conv(_) => elements(node.output(0), 2).zip(elements(node.input(1), 0)),
        Op::ConvTranspose(_) => elements(node.input(0), 2).zip(elements(node.input(1), 0)),
        Op::Gemm(_) => Some(1).zip(elements(node.input(1), 0)),
        Op::MatMul => matmul(facts, node.input(0), node.input(1)),
        Op::Recurrent(r) => {
            let steps = facts
                .shape(node.input(0).unwrap_or(ValueId::new(0)))
                .and_then(|s| s.get(usize::from(r.batch_first)).and_then(Dim::fixed))
                .unwrap_or(1) as u64;
            let weights = elements(node.input(1), 0).zip(elements(node.input(2), 0));
            Some(steps).zip(weights.map(|(w, r)| w.saturating_add(r)))
        }
        Op::Attention(_) => attention(facts, node),
        Op::Einsum { equation } => einsum(facts, node, equation),
        Op::If { .. } => Some(1).zip(Some(branch_macs(graph, facts, id))),
        Op::BatchNormalization { .. }
        | Op::LayerNormalization { .. }
        | Op::InstanceNormalization { .. }
        | Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::Activation(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Variadic(_)
        | Op::Compare(_)
        | Op::Where
        | Op::Clip { .. }
        | Op::PRelu
        | Op::Softmax { .. }
        | Op::Reduce { .. }
        | Op::ArgExtremum { .. }
        | Op::Shape { .. }
        | Op::Size
        | Op::Reshape { .. }
        | Op::Flatten { .. }
        | Op::Transpose { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Concat { .. }
        | Op::Split { .. }
        | Op::Slice(_)
        | Op::Pad { .. }
        | Op::Gather { .. }
        | Op::Expand
        | Op::Tile
        | Op::ConstantOfShape { .. }
        | Op::Constant { .. }
        | Op::Range
        | Op::Cast { .. }
        | Op::CastLike
        | Op::FloatTest(_)
        | Op::ChannelPRelu
        | Op::Normalization(_)
        | Op::Index(_)
        | Op::Image(_)
        | Op::Determinant
        | Op::RotaryEmbedding(_)
        | Op::LabelLoss(_)
        | Op::AlignedBinary { .. }
        | Op::Signal(_)
        | Op::Quantize(_)
        | Op::DropoutMask
        | Op::Loop { .. }
        | Op::Scan(_)
        | Op::Opaque { .. } => None,
    };
    macs.map_or(0, |(a, b)| a.saturating_mul(b))
}

/// Every query with every key, and every probability with every value.
fn attention(facts: &Facts, node: &Node) -> Option<(u64, u64)> {
    let fixed = |d: &Dim| d.fixed().unwrap_or(1) as u64;
    let volume = |s: &[Dim]| s.iter().map(fixed).fold(1, u64::saturating_mul);
    let queries = volume(facts.shape(node.input(0)?)?.get(1..)?);
    let y = volume(facts.shape(node.output(0)?)?.get(1..)?);
    let keys = facts.shape(node.input(1)?)?;
    // The second axis from the end, with or without an axis of heads.
    let mut n_keys = keys.get(keys.len().checked_sub(2)?).map(fixed)?;
    if let Some(past) = node.input(4).and_then(|v| facts.shape(v)) {
        n_keys = n_keys.saturating_add(past.get(2).map_or(0, fixed));
    }
    Some((queries.saturating_add(y), n_keys))
}

/// The extents of all named axes of a product; the output's first axis is the batch.
fn einsum(facts: &Facts, node: &Node, equation: &str) -> Option<(u64, u64)> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let mut sides = text.split("->");
    let inputs = sides.next()?;
    let output = sides.next().unwrap_or(inputs);
    if !inputs.contains(',') || text.contains('.') {
        return None;
    }
    let mut extents: BTreeMap<char, u64> = BTreeMap::new();
    for (port, names) in inputs.split(',').enumerate() {
        let shape = facts.shape(node.input(port)?)?;
        for (name, dim) in names.chars().zip(shape) {
            let n = dim.fixed().unwrap_or(1) as u64;
            let known = extents.entry(name).or_insert(n);
            *known = (*known).max(n);
        }
    }
    if let Some(first) = output.chars().next() {
        extents.insert(first, 1);
    }
    Some((1, extents.into_values().fold(1, u64::saturating_mul)))
}

/// Rows of the left side (batch axis left out) times the elements of the right side's matrix.
fn matmul(facts: &Facts, a: Option<ValueId>, b: Option<ValueId>) -> Option<(u64, u64)> {
    let (a, b) = (facts.shape(a?)?, facts.shape(b?)?);
    let fixed = |d: &Dim| d.fixed().unwrap_or(1) as u64;
    let rows = a.get(1..a.len().saturating_sub(1)).unwrap_or(&[]);
    let rows = rows.iter().map(fixed).fold(1u64, u64::saturating_mul);
    let matrix = &b[b.len().saturating_sub(2)..];
    Some((
        rows,
        matrix.iter().map(fixed).fold(1u64, u64::saturating_mul),
    ))
}
