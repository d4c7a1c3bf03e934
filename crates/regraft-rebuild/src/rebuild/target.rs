//! What a refitted layer should give.

use regraft_exec::HostTensor;
use regraft_graph::infer::Facts;
use regraft_graph::op::{BinaryOp, VariadicOp};
use regraft_graph::{Dim, Graph, Op, ValueId};

use super::{KeptAxes, in_dense};
use crate::Layer;

/// A layer's target in terms of values of the two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetOf {
    /// The dense layer's own output.
    Output,
    /// The dense sum minus the pruned model's other summand: what is wrong on the shortcut is
    /// mended here.
    Sum {
        /// The sum.
        sum: ValueId,
        /// The other summand.
        other: ValueId,
    },
}

/// Returns the best target that can be computed when `layer` is refitted, all layers before it in
/// node order being done.
pub(super) fn choose(dense: &Graph, pruned: &Graph, layers: &[Layer], layer: &Layer) -> TargetOf {
    sum_target(dense, pruned, layers, layer).unwrap_or(TargetOf::Output)
}

fn sum_target(dense: &Graph, pruned: &Graph, layers: &[Layer], layer: &Layer) -> Option<TargetOf> {
    let y = layer.output;
    let [consumer] = pruned.consumers(y) else {
        return None;
    };
    let node = pruned.node(*consumer);
    if !matches!(
        node.op,
        Op::Binary(BinaryOp::Add) | Op::Variadic(VariadicOp::Sum)
    ) || node.inputs.len() != 2
    {
        return None;
    }
    let other = node.inputs.iter().flatten().copied().find(|v| *v != y)?;
    let sum = node.output(0)?;
    let pending = depends_on_pending(pruned, layers, layer, other);
    (!pending && pruned.tensor(other).is_none() && in_dense(dense, sum).is_some())
        .then_some(TargetOf::Sum { sum, other })
}

/// True if `value` is computed by a layer that is not refitted yet (or by `layer` itself).
fn depends_on_pending(graph: &Graph, layers: &[Layer], layer: &Layer, value: ValueId) -> bool {
    let mut work = vec![value];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(v) = work.pop() {
        let Some(node) = graph.producer(v) else {
            continue;
        };
        if node < layer.node || !seen.insert(node) {
            continue;
        }
        if layers.iter().any(|l| l.node == node) {
            return true;
        }
        work.extend(graph.node(node).reads());
    }
    false
}

/// Returns the part of a dense value's tensor that the pruned model still has.
pub(crate) fn keep_axes(tensor: &HostTensor, value: ValueId, kept: &KeptAxes) -> HostTensor {
    let mut result = tensor.clone();
    for axis in 0..tensor.shape.len() {
        let keep = kept.get(&(value, axis));
        if let Some(selected) = keep.and_then(|keep| result.select(axis, keep)) {
            result = selected;
        }
    }
    result
}

/// Returns true if a tensor may be a value of a network: where not, it is not known which of the dense channels that
/// one has.
pub(super) fn has_shape(facts: &Facts, value: ValueId, tensor: &HostTensor) -> bool {
    let Some(shape) = facts.shape(value) else {
        return true;
    };
    let fits = |(dim, n): (&Dim, &usize)| dim.fixed().is_none_or(|d| d == *n);
    shape.len() == tensor.shape.len() && shape.iter().zip(&tensor.shape).all(fits)
}

/// Returns `a - b`, element by element; `a` where the shapes differ.
pub(crate) fn difference(a: &HostTensor, b: &HostTensor) -> Option<HostTensor> {
    let (x, y) = (a.as_f32()?, b.as_f32()?);
    (a.shape == b.shape).then(|| {
        HostTensor::f32(
            a.shape.clone(),
            x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<f32>>(),
        )
    })
}
