//! Folding inference-mode batch normalisation into the linear node before it.

#[cfg(test)]
use crate::NodeId;
use crate::{Graph, GraphError, Node, Op, Tensor, ValueId};

/// Returns an equal graph in which every `BatchNormalization` that alone reads the result of a
/// `Conv`, `ConvTranspose` or `Gemm` with constant weights is part of those weights, and how many were.
///
/// With `s = scale / sqrt(variance + epsilon)` the weights of output channel `o` are multiplied by
/// `s_o` and the bias becomes `(b_o - mean_o)·s_o + bias_o`.
///
/// # Errors
/// [`GraphError`] if the result breaks a rule of graphs, which would be a fault of this function.
pub fn fold_batch_norm(graph: &Graph) -> Result<(Graph, usize), GraphError> {
    let mut edit = graph.edit();
    let mut n_folded = 0;
    for (id, node) in graph.nodes() {
        let Op::BatchNormalization { epsilon } = node.op else {
            continue;
        };
        let Some(fold) = plan(graph, node, epsilon) else {
            continue;
        };
        let Some(linear) = node.input(0).and_then(|v| graph.producer(v)) else {
            continue;
        };
        let hint = graph.value(fold.weight).name.clone();
        let weight = edit.add_initializer(&format!("{hint}_folded"), fold.new_weight);
        let bias = edit.add_initializer(&format!("{hint}_folded_bias"), fold.new_bias);
        edit.set_input(linear, 1, Some(weight));
        edit.set_input(linear, 2, Some(bias));
        if let Op::Gemm(gemm) = &graph.node(linear).op {
            edit.set_op(
                linear,
                Op::Gemm(crate::op::Gemm {
                    beta: 1.0,
                    ..gemm.clone()
                }),
            );
        }
        // The linear node now writes what the normalisation wrote, so names after it stay.
        edit.set_output(linear, 0, node.output(0));
        edit.remove_node(id);
        n_folded += 1;
    }
    Ok((edit.finish()?, n_folded))
}

struct Fold {
    weight: ValueId,
    new_weight: Tensor,
    new_bias: Tensor,
}

fn plan(graph: &Graph, bn: &Node, epsilon: f32) -> Option<Fold> {
    let x = bn.input(0)?;
    let linear = graph.producer(x)?;
    let alone = graph.consumers(x).len() == 1 && !graph.outputs().contains(&x);
    let inference_form = bn.outputs.iter().flatten().count() == 1;
    if !alone || !inference_form {
        return None;
    }
    let node = graph.node(linear);
    let weight = node.input(1)?;
    let tensor = graph.tensor(weight)?;
    let stats: Vec<&[f32]> = (1..5)
        .map(|port| graph.tensor(bn.input(port)?)?.as_f32())
        .collect::<Option<_>>()?;
    let [scale, offset, mean, variance] = stats[..] else {
        return None;
    };
    let factor: Vec<f32> = scale
        .iter()
        .zip(variance)
        .map(|(s, v)| s / (v + epsilon).sqrt())
        .collect();
    if factor.iter().any(|f| !f.is_finite()) {
        return None;
    }
    let (outputs, share) = output_channels(node, tensor)?;
    let n = factor.len();
    if outputs != n || [offset.len(), mean.len(), variance.len()] != [n; 3] {
        return None;
    }
    let old_bias = bias(graph, node, n)?;
    let data = tensor.as_f32()?;
    let scaled = data
        .iter()
        .enumerate()
        .map(|(i, w)| w * factor[share.channel(i)])
        .collect();
    let new_weight = Tensor::from_f32(tensor.shape().to_vec(), scaled).ok()?;
    let shifted = (0..n)
        .map(|o| (old_bias[o] - mean[o]) * factor[o] + offset[o])
        .collect();
    let new_bias = Tensor::from_f32(vec![n], shifted).ok()?;
    Some(Fold {
        weight,
        new_weight,
        new_bias,
    })
}

/// How the position of a weight tells its output channel: `outer · (i / run / channels) + (i / run) % channels`.
struct Share {
    run: usize,
    channels: usize,
    // Transposed convolutions: input channels of one group, channels of one group.
    group_inputs: Option<usize>,
}

impl Share {
    fn channel(&self, i: usize) -> usize {
        let slot = i / self.run;
        match self.group_inputs {
            None => slot % self.channels,
            Some(inputs) => {
                let group = slot / self.channels / inputs;
                group * self.channels + slot % self.channels
            }
        }
    }
}

fn output_channels(node: &Node, weight: &Tensor) -> Option<(usize, Share)> {
    let shape = weight.shape();
    match &node.op {
        Op::Conv(_) => {
            let n = *shape.first()?;
            let run = shape[1..].iter().product::<usize>().max(1);
            Some((
                n,
                Share {
                    run,
                    channels: n.max(1),
                    group_inputs: None,
                },
            ))
        }
        Op::ConvTranspose(conv) => {
            let [n_in, per_group, kernel @ ..] = shape else {
                return None;
            };
            let run = kernel.iter().product::<usize>().max(1);
            let inputs = (n_in / conv.group).max(1);
            let share = Share {
                run,
                channels: (*per_group).max(1),
                group_inputs: Some(inputs),
            };
            Some((per_group * conv.group, share))
        }
        Op::Gemm(gemm) if gemm.trans_b => {
            let [n, k] = shape else { return None };
            Some((
                *n,
                Share {
                    run: (*k).max(1),
                    channels: (*n).max(1),
                    group_inputs: None,
                },
            ))
        }
        Op::Gemm(_) => {
            let [_, n] = shape else { return None };
            Some((
                *n,
                Share {
                    run: 1,
                    channels: (*n).max(1),
                    group_inputs: None,
                },
            ))
        }
        _ => None,
    }
}

fn bias(graph: &Graph, node: &Node, n: usize) -> Option<Vec<f32>> {
    let beta = match &node.op {
        Op::Gemm(gemm) => gemm.beta,
        _ => 1.0,
    };
    let Some(port) = node.input(2) else {
        return Some(vec![0.0; n]);
    };
    let tensor = graph.tensor(port)?;
    let data = tensor.as_f32()?;
    match data.len() {
        1 => Some(vec![data[0] * beta; n]),
        l if l == n && *tensor.shape().last()? == n => {
            Some(data.iter().map(|b| b * beta).collect())
        }
        _ => None,
    }
}

/// Returns true if folding may use the node as a linear one; for messages and tests.
#[cfg(test)]
pub(crate) fn is_foldable(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    match node.op {
        Op::BatchNormalization { epsilon } => plan(graph, node, epsilon).is_some(),
        _ => false,
    }
}
