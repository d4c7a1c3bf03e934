//! What a network costs: parameters, multiply-accumulates, bytes.

use crate::infer::{Facts, branch_macs};
use crate::op::FusedOp;
use crate::{Dim, Graph, Node, NodeId, Op, Tensor, ValueId};

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

/// Returns the floats that a node reads of the model: its weights and biases.
pub fn node_params(graph: &Graph, id: NodeId) -> u64 {
    let tensors = graph.node(id).inputs.iter().flatten();
    let floats = tensors
        .filter_map(|v| graph.tensor(*v))
        .filter(|t| t.dtype().is_float());
    floats.map(|t| t.len() as u64).sum()
}

/// Returns the bytes of `len` 32-bit floats of which `kept` are not zero, zeros packed: the others and one
/// bit for each place, or all of them where that is fewer.
pub fn packed_bytes(len: usize, kept: usize) -> u64 {
    let (len, kept) = (len as u64, kept as u64);
    (4 * len).min(4 * kept + len.div_ceil(8))
}

/// Returns the bytes of a tensor, zeros of 32-bit floats packed as [`packed_bytes`] says.
pub fn packed_tensor(tensor: &Tensor) -> u64 {
    match tensor.as_f32() {
        Some(data) => packed_bytes(data.len(), data.iter().filter(|w| **w != 0.0).count()),
        None => (tensor.len() * tensor.dtype().size_bytes().unwrap_or(1)) as u64,
    }
}

/// Returns the bytes of all initializers, zeros packed.
pub fn packed_size(graph: &Graph) -> u64 {
    let all = graph.initializers().values();
    all.map(|init| packed_tensor(&init.tensor)).sum()
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
        Op::MatMul => matmul(graph, facts, node),
        Op::Recurrent(r) => {
            let steps = facts
                .shape(node.input(0).unwrap_or(ValueId::new(0)))
                .and_then(|s| s.get(usize::from(r.batch_first)).and_then(Dim::fixed))
                .unwrap_or(1) as u64;
            let weights = elements(node.input(1), 0).zip(elements(node.input(2), 0));
            Some(steps).zip(weights.map(|(w, r)| w.saturating_add(r)))
        }
        Op::Einsum { equation } => einsum(graph, facts, id, equation),
        Op::Attention(_) | Op::Fused(FusedOp::MultiHeadAttention(_)) => attention(facts, node),
        Op::Fused(FusedOp::PackedAttention { .. }) => packed_attention(facts, node),
        Op::Fused(FusedOp::GroupedAttention(_)) => grouped_attention(facts, node),
        Op::If { .. } => Some(1).zip(Some(branch_macs(graph, facts, id))),
        Op::BatchNormalization { .. }
        | Op::BatchStatistics { .. }
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
        | Op::Fused(_)
        | Op::LabelLoss(_)
        | Op::AlignedBinary { .. }
        | Op::Signal(_)
        | Op::Quantize(_)
        | Op::Dropout { .. }
        | Op::Loop { .. }
        | Op::Scan(_)
        | Op::Opaque { .. } => None,
    };
    macs.map_or(0, |(a, b)| a.saturating_mul(b))
}

/// Rows of the left side (batch axis left out) times the elements of the right side's matrix.
fn matmul(graph: &Graph, facts: &Facts, node: &Node) -> Option<(u64, u64)> {
    let (left, right) = (node.input(0)?, node.input(1)?);
    let (a, b) = (facts.shape(left)?, facts.shape(right)?);
    let fixed = |d: &Dim| d.fixed().unwrap_or(1) as u64;
    // The first axis is the batch, but where each of a stack of weights has rows of its own, and where steps
    // come before the samples.
    let is_stack = graph.tensor(right).is_some() && a.len() > 2 && a.len() == b.len();
    let is_stack = is_stack && a[0].fixed() == b[0].fixed();
    let first = usize::from(!is_stack && !has_batch_inside(graph, facts, a));
    let rows = a.get(first..a.len().saturating_sub(1)).unwrap_or(&[]);
    let rows = rows.iter().map(fixed).fold(1u64, u64::saturating_mul);
    let matrix = &b[b.len().saturating_sub(2)..];
    Some((
        rows,
        matrix.iter().map(fixed).fold(1u64, u64::saturating_mul),
    ))
}

/// True if an axis between the first and the last has the name of the samples' axis of the first input.
fn has_batch_inside(graph: &Graph, facts: &Facts, shape: &[Dim]) -> bool {
    let inside = shape.get(1..shape.len().saturating_sub(1)).unwrap_or(&[]);
    let is_named = |d: &Dim| matches!(d, Dim::Symbol(_));
    if !inside.iter().any(is_named) {
        return false;
    }
    let input = graph.required_inputs().into_iter().next();
    let batch = input.and_then(|v| facts.shape(v)?.first());
    batch.is_some_and(|d| is_named(d) && shape.first() != Some(d) && inside.contains(d))
}

/// Products of queries and keys, and of their shares and values.
fn attention(facts: &Facts, node: &Node) -> Option<(u64, u64)> {
    let shape = facts.shape(node.input(1)?)?;
    let keys = shape.get(shape.len().checked_sub(2)?)?.fixed().unwrap_or(1);
    let q = open_elements(facts, node.input(0))?;
    let y = open_elements(facts, node.output(0))?;
    Some((keys as u64, q.saturating_add(y)))
}

/// The projections of every position, and its products with every other.
fn packed_attention(facts: &Facts, node: &Node) -> Option<(u64, u64)> {
    let (positions, products) = grouped_attention(facts, node)?;
    let weight = facts.fixed_shape(node.input(1)?)?;
    let weight = weight.iter().map(|&n| n as u64);
    let each = weight.fold(1, u64::saturating_mul);
    Some((positions, each.saturating_add(products)))
}

/// The products of every position with every other of those that come now.
fn grouped_attention(facts: &Facts, node: &Node) -> Option<(u64, u64)> {
    let positions = facts.shape(node.input(0)?)?.get(1)?.fixed().unwrap_or(1) as u64;
    let y = open_elements(facts, node.output(0))?;
    Some((positions, y.saturating_mul(2)))
}

fn einsum(graph: &Graph, facts: &Facts, id: NodeId, equation: &str) -> Option<(u64, u64)> {
    let factors = einsum_factors(graph, facts, id, equation)?;
    let extents = factors.into_iter().map(|(v, axis)| {
        let dims = facts.shape(v).and_then(|s| s.get(axis));
        dims.and_then(Dim::fixed).unwrap_or(1) as u64
    });
    Some((1, extents.fold(1, u64::saturating_mul)))
}

/// The elements of one sample, extents that are not known counted as 1.
fn open_elements(facts: &Facts, value: Option<ValueId>) -> Option<u64> {
    let dims = facts.shape(value?)?.get(1..)?.iter();
    let extents = dims.map(|d| d.fixed().unwrap_or(1) as u64);
    Some(extents.fold(1, u64::saturating_mul))
}

/// Returns a value and axis for each name of an `Einsum` of two operands, the leading axis of the
/// output left out where it is that of a computed operand, the batch; `None` for other equations.
///
/// The product of the extents is what the node multiplies for one sample.
pub fn einsum_factors(
    graph: &Graph,
    facts: &Facts,
    id: NodeId,
    equation: &str,
) -> Option<Vec<(ValueId, usize)>> {
    let clean: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = clean.split_once("->")?;
    let node = graph.node(id);
    let mut computed = inputs.split(',').enumerate().filter(|(port, _)| {
        let value = node.input(*port);
        value.is_some_and(|v| facts.constant(v).is_none())
    });
    let first = output.chars().next();
    let batch = first.filter(|_| computed.any(|(_, names)| names.chars().next() == first));
    let mut factors: Vec<(char, ValueId, usize)> = Vec::new();
    let mut operands = 0;
    for (port, names) in inputs.split(',').enumerate() {
        let value = node.input(port)?;
        operands += 1;
        if facts.shape(value)?.len() != names.len() || !names.is_ascii() {
            return None;
        }
        for (axis, name) in names.chars().enumerate() {
            match factors.iter_mut().find(|(n, ..)| *n == name) {
                // An axis of extent 1 is repeated.
                Some(found) if extent(facts, found.1, found.2) == Some(1) => {
                    (found.1, found.2) = (value, axis);
                }
                Some(_) => {}
                None if Some(name) == batch => {}
                None => factors.push((name, value, axis)),
            }
        }
    }
    (operands == 2).then(|| factors.into_iter().map(|(_, v, a)| (v, a)).collect())
}

fn extent(facts: &Facts, value: ValueId, axis: usize) -> Option<usize> {
    facts.shape(value)?.get(axis)?.fixed()
}
