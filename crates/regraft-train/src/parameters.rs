//! Which initializers are trained, and which of them can lose connections.

use regraft_graph::op::{BinaryOp, Normalization};
use regraft_graph::{Graph, Node, Op, ValueId};

/// An initializer that is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    /// The initializer.
    pub id: ValueId,
    /// Its name.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// True for weights that a product sums over: those decay, and connections of theirs may go.
    pub is_weight: bool,
    /// The axis of its output channels, of a weight.
    pub out_axis: usize,
    /// Inputs of one output channel, of a weight.
    pub fan_in: usize,
}

impl Trained {
    /// Returns the places of its elements at `index` of an axis; none for an axis it does not have.
    pub(crate) fn slice(&self, axis: usize, index: usize) -> impl Iterator<Item = usize> + use<> {
        let extent = self.shape.get(axis).copied();
        let inner: usize = self.shape.iter().skip(axis + 1).product();
        let outer: usize = self.shape.iter().take(axis).product();
        let rows = extent.map(|extent| (0..outer).map(move |o| (o * extent + index) * inner));
        rows.into_iter()
            .flatten()
            .flat_map(move |from| from..from + inner)
    }
}

/// What an input port of a node holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Summed over; the axis of the output channels.
    Weight(usize),
    /// Added to or multiplied with channels, rows that are looked up, factors of an `Einsum`: trained, and
    /// no connections of theirs go.
    Other,
}

/// A weight with fewer zeros than this share has lost no connections: they are there by chance.
pub const LEAST_ZEROS: f64 = 0.01;

/// Returns the weights that have lost single connections. Those of layers that begin as nothing or as an identity have
/// not, nor have inputs that nothing reads yet.
pub fn sparse_weights(graph: &Graph) -> Vec<ValueId> {
    let data = |t: &Trained| graph.tensor(t.id).and_then(|t| t.as_f32());
    let weights = trained(graph).into_iter().filter(|t| t.is_weight);
    let sparse = weights.filter(|t| data(t).is_some_and(|data| is_sparse(t, data)));
    sparse.map(|t| t.id).collect()
}

fn is_sparse(weight: &Trained, data: &[f32]) -> bool {
    let n_out = weight.shape[weight.out_axis].max(1);
    let inner: usize = weight.shape[weight.out_axis + 1..].iter().product();
    let input = |at: usize| at / (inner * n_out).max(1) * inner + at % inner.max(1);
    let mut is_read = vec![false; data.len() / n_out];
    let there = || data.iter().enumerate().filter(|(_, w)| **w != 0.0);
    for (at, _) in there() {
        is_read[input(at)] = true;
    }
    let n_read = is_read.iter().filter(|r| **r).count() * n_out;
    let gone = n_read - there().count();
    let is_identity = there().all(|(_, w)| (*w - 1.0).abs() < f32::EPSILON);
    gone as f64 > LEAST_ZEROS * n_read as f64 && !is_identity
}

/// Returns the initializers of floats that an op multiplies, adds or looks up, in the order of the nodes.
pub fn trained(graph: &Graph) -> Vec<Trained> {
    let mut found: Vec<Trained> = Vec::new();
    for (_, node) in graph.nodes() {
        for port in 0..node.inputs.len() {
            let Some(id) = node.input(port) else { continue };
            let Some(tensor) = graph.tensor(id) else {
                continue;
            };
            let Some(part) = part(graph, node, port) else {
                continue;
            };
            let floats = tensor.as_f32().is_some_and(|d| !d.is_empty());
            if !floats || found.iter().any(|t| t.id == id) {
                continue;
            }
            let shape = tensor.shape().to_vec();
            let (is_weight, out_axis) = match part {
                Part::Weight(axis) if axis < shape.len() => (true, axis),
                Part::Weight(_) | Part::Other => (false, 0),
            };
            let n_out = shape.get(out_axis).copied().unwrap_or(1).max(1);
            found.push(Trained {
                id,
                name: graph.value(id).name.clone(),
                fan_in: tensor.len() / n_out,
                shape,
                is_weight,
                out_axis,
            });
        }
    }
    found
}

fn part(graph: &Graph, node: &Node, port: usize) -> Option<Part> {
    let rank = |port: usize| {
        let tensor = node.input(port).and_then(|v| graph.tensor(v));
        tensor.map_or(0, |t| t.shape().len())
    };
    match (&node.op, port) {
        (Op::Conv(_), 1) => Some(Part::Weight(0)),
        (Op::ConvTranspose(conv), 1) => Some(Part::Weight(usize::from(conv.group == 1))),
        (Op::Gemm(gemm), 1) => Some(Part::Weight(usize::from(!gemm.trans_b))),
        (Op::MatMul, 1) if rank(1) >= 2 => Some(Part::Weight(rank(1) - 1)),
        (Op::MatMul, 0) if rank(0) >= 2 => Some(Part::Weight(rank(0) - 2)),
        (Op::Recurrent(_), 1 | 2) => Some(Part::Weight(1)),
        // Rows of an embedding; a codebook is a list.
        (Op::Gather { .. }, 0) if rank(0) >= 2 => Some(Part::Other),
        (Op::Einsum { .. }, _) if rank(port) >= 2 => Some(Part::Other),
        (
            Op::BatchNormalization { .. }
            | Op::LayerNormalization { .. }
            | Op::InstanceNormalization { .. }
            | Op::Normalization(Normalization::Group { .. } | Normalization::RootMeanSquare { .. }),
            1 | 2,
        )
        | (Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_), 2)
        | (Op::Recurrent(_), 3)
        | (Op::PRelu | Op::ChannelPRelu, 1) => Some(Part::Other),
        // A bias, or a factor of each channel; a lone number is a constant of the architecture.
        (Op::Binary(BinaryOp::Add | BinaryOp::Mul), _) => {
            let tensor = node.input(port).and_then(|v| graph.tensor(v))?;
            (tensor.len() > 1).then_some(Part::Other)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(shape: &[usize], out_axis: usize) -> Trained {
        Trained {
            id: ValueId::new(0),
            name: String::new(),
            shape: shape.to_vec(),
            is_weight: true,
            out_axis,
            fan_in: 0,
        }
    }

    #[test]
    fn what_begins_with_zeros_has_lost_no_connections() {
        let square = weight(&[2, 2], 0);
        assert!(!is_sparse(&square, &[0.5, 2.0, 3.0, 4.0]));
        assert!(is_sparse(&square, &[0.5, 0.0, 3.0, 4.0]));
        assert!(!is_sparse(&square, &[0.0; 4]));
        assert!(!is_sparse(&square, &[1.0, 0.0, 0.0, 1.0]));
        // The second input is not read, or the second output gives nothing.
        assert!(!is_sparse(&square, &[0.5, 0.0, 3.0, 0.0]));
        assert!(is_sparse(&weight(&[2, 2], 1), &[0.5, 0.0, 3.0, 0.0]));
        assert!(!is_sparse(
            &weight(&[2, 3], 1),
            &[0.5, 2.0, 3.0, 0.0, 0.0, 0.0]
        ));
    }
}
