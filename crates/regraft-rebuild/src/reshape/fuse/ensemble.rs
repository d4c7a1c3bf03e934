//! Several networks as one graph whose every value is their mean.

use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{BinaryOp, VariadicOp};
use regraft_graph::{Graph, GraphBuilder, Node, NodeId, Op, Tensor, ValueId};

use super::shares;
use crate::RebuildError;

/// Returns one graph in which every float value of the first network is the weighted mean of what it
/// is in all of them, under the first network's identifier and name.
///
/// Each network computes on its own, from the inputs on; the means are read by nothing, so what is
/// not asked for costs nothing. As the dense model of a rebuild, the graph makes the networks'
/// mean the target of every layer, block and output.
/// # Errors
/// [`RebuildError::Fuse`] for weights that do not fit, a network whose first output holds no floats,
/// and for bodies that read values of the graph around them.
/// # Reference
/// Hinton et al., "Distilling the knowledge in a neural network", 2015: the ensemble as teacher.
pub fn ensemble(models: &[Graph], weights: &[f64]) -> Result<Graph, RebuildError> {
    let shares = shares(weights, models.len())?;
    let Some(first) = models.first() else {
        return Err(super::too_few(0));
    };
    let facts = infer(first, &InferOptions::default())?;
    let is_float = |v: ValueId| facts.dtype(v).is_some_and(regraft_graph::DType::is_float);
    let mut builder = GraphBuilder::new(first.header().clone());
    for (_, value) in first.values() {
        builder.value(&value.name);
    }
    for v in first.required_inputs() {
        builder.input(&first.value(v).name, first.value(v).declared.clone());
    }
    let mut means = Means::new(&shares, &mut builder)?;
    for (k, model) in models.iter().enumerate() {
        for (v, init) in model.initializers() {
            builder.tensor(&copy(model, *v, k), init.tensor.clone())?;
        }
    }
    for (id, node) in first.nodes() {
        for (k, model) in models.iter().enumerate() {
            builder_node(&mut builder, model, id, k)?;
        }
        for v in node.outputs.iter().flatten().filter(|v| is_float(**v)) {
            means.add(&mut builder, first, *v);
        }
    }
    let outputs: Vec<ValueId> = first
        .outputs()
        .iter()
        .copied()
        .filter(|v| is_float(*v))
        .collect();
    if outputs.first() != first.outputs().first() || outputs.is_empty() {
        return Err(RebuildError::Fuse {
            reason: "their first output does not hold floats: it has no mean".to_owned(),
        });
    }
    for v in outputs {
        builder.output(&first.value(v).name);
    }
    Ok(builder.finish()?)
}

/// The name of a value of one network; inputs are shared.
fn copy(model: &Graph, v: ValueId, k: usize) -> String {
    let name = &model.value(v).name;
    if model.tensor(v).is_none() && model.producer(v).is_none() {
        return name.clone();
    }
    format!("{name}@{}", k + 1)
}

fn builder_node(
    builder: &mut GraphBuilder,
    model: &Graph,
    id: NodeId,
    k: usize,
) -> Result<(), RebuildError> {
    let node = model.node(id);
    if !node.captures.is_empty() {
        return Err(RebuildError::Fuse {
            reason: format!(
                "the body of `{}` reads values of the graph around it",
                model.node_label(id)
            ),
        });
    }
    let mut renamed = |v: &Option<ValueId>| v.map(|v| builder.value(&copy(model, v, k)));
    let inputs = node.inputs.iter().map(&mut renamed).collect();
    let outputs = node.outputs.iter().map(&mut renamed).collect();
    let name = format!("{}@{}", model.node_label(id), k + 1);
    builder.node(Node::new(&name, node.op.clone(), inputs, outputs));
    Ok(())
}

/// How a mean is computed.
struct Means {
    n_models: usize,
    // Scalars with the shares; empty where they are all the same.
    shares: Vec<ValueId>,
}

impl Means {
    fn new(shares: &[f64], builder: &mut GraphBuilder) -> Result<Self, RebuildError> {
        let equal = shares.iter().all(|s| s.to_bits() == shares[0].to_bits());
        let mut ids = Vec::new();
        for (k, share) in shares.iter().enumerate().filter(|_| !equal) {
            let scalar = Tensor::from_f32(Vec::new(), vec![*share as f32])?;
            ids.push(builder.tensor(&format!("share@{}", k + 1), scalar)?);
        }
        Ok(Self {
            n_models: shares.len(),
            shares: ids,
        })
    }

    fn add(&mut self, builder: &mut GraphBuilder, first: &Graph, v: ValueId) {
        let name = first.value(v).name.clone();
        let mut parts = Vec::new();
        for k in 0..self.n_models {
            let part = builder.value(&copy(first, v, k));
            let Some(share) = self.shares.get(k).copied() else {
                parts.push(part);
                continue;
            };
            let weighted = builder.value(&format!("{name}@{}*", k + 1));
            builder.node(plain(
                Op::Binary(BinaryOp::Mul),
                vec![part, share],
                weighted,
            ));
            parts.push(weighted);
        }
        let op = if self.shares.is_empty() {
            VariadicOp::Mean
        } else {
            VariadicOp::Sum
        };
        let out = builder.value(&name);
        builder.node(plain(Op::Variadic(op), parts, out));
    }
}

fn plain(op: Op, inputs: Vec<ValueId>, output: ValueId) -> Node {
    let inputs = inputs.into_iter().map(Some).collect();
    Node::new("", op, inputs, vec![Some(output)])
}
