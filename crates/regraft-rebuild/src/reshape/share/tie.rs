//! Layers that read one tensor.
//!
//! Of layers of one kind and shape the two sets whose common tensor hurts least are joined, again
//! and again, as long as no member's error is above the limit. The common tensor is the mean of the
//! members', each weight counted by the mean square of the input it reads over the layer's energy:
//! the minimum of the summed relative errors where inputs do not correlate.

use std::collections::BTreeMap;

use regraft_graph::cost::node_macs;
use regraft_solve::Matrix;
use regraft_solve::share::{Weighting, output_energy};

use super::item::{Item, Left, collect};
use crate::RebuildError;
use crate::reshape::{Change, Edited, Network, Selection};

/// Which layers are tied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TieConfig {
    /// The largest squared error of a layer relative to its energy: of its output where samples are
    /// known, else of its weights.
    pub max_error: f64,
}

impl Default for TieConfig {
    /// Returns a limit of 1 %: only layers that are nearly the same.
    fn default() -> Self {
        Self { max_error: 0.01 }
    }
}

/// Layers that share a tensor, by their numbers.
struct Set {
    members: Vec<usize>,
    tensor: Matrix,
    /// The error of each member.
    errors: Vec<f64>,
}

/// Returns the network in which layers of one kind and shape read one tensor where that keeps the
/// error of each. Biases stay each layer's own.
///
/// # Errors
/// [`RebuildError::Setting`] for a limit that is negative or not a number, [`RebuildError::Solve`]
/// for weights that are not finite, [`RebuildError::Pattern`] for a pattern that fits no layer.
pub fn tie(
    network: &Network,
    selection: &Selection,
    config: TieConfig,
) -> Result<Edited, RebuildError> {
    if config.max_error.is_nan() || config.max_error < 0.0 {
        return Err(RebuildError::Setting {
            what: "max_error",
            value: config.max_error,
            bounds: "0 or more",
        });
    }
    // The error of the mean is that of the output without a move of the bias.
    let (items, mut left) = collect(network, selection, Weighting::Curvature)?;
    let mut lots: BTreeMap<(String, bool, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        item.check_finite()?;
        if !is_stored_node(network, item) {
            left.push((item.node.clone(), "a cell's weights are not tied".into()));
            continue;
        }
        let kind = network.graph.node(item.id).op.name().to_owned();
        let shape = network.graph.tensor(item.weight);
        let shape = shape.map_or_else(Vec::new, |t| t.shape().to_vec());
        let key = (kind, item.outputs_first, shape);
        lots.entry(key).or_default().push(at);
    }
    let sets = lots
        .into_values()
        .flat_map(|lot| join(&items, &lot, config.max_error))
        .filter(|s| s.members.len() > 1);
    write(network, &items, sets.collect(), left)
}

/// Returns whether the item is the second input of its node, the only weight it has.
fn is_stored_node(network: &Network, item: &Item) -> bool {
    network.layers.iter().any(|l| l.node == item.id)
}

fn join(items: &[Item], lot: &[usize], max_error: f64) -> Vec<Set> {
    let alone = |&at: &usize| Set {
        members: vec![at],
        tensor: items[at].weights.clone(),
        errors: vec![0.0],
    };
    let mut sets: Vec<Set> = lot.iter().map(alone).collect();
    loop {
        let mut best: Option<(f64, usize, usize, Set)> = None;
        for a in 0..sets.len() {
            for b in a + 1..sets.len() {
                let members = [sets[a].members.as_slice(), &sets[b].members].concat();
                let joined = common(items, members);
                let worst = joined.errors.iter().copied().fold(0.0, f64::max);
                if worst <= max_error && best.as_ref().is_none_or(|b| worst < b.0) {
                    best = Some((worst, a, b, joined));
                }
            }
        }
        let Some((_, a, b, joined)) = best else {
            return sets;
        };
        sets.remove(b);
        sets[a] = joined;
    }
}

/// Returns the common tensor of some layers and the error of each with it.
fn common(items: &[Item], mut members: Vec<usize>) -> Set {
    members.sort_unstable();
    let (rows, cols) = members.first().map_or((0, 0), |m| {
        let w = &items[*m].weights;
        (w.rows, w.cols)
    });
    let mut sum = Matrix::zeros(rows, cols);
    let mut mass = Matrix::zeros(rows, cols);
    let mut plain = Matrix::zeros(rows, cols);
    for &m in &members {
        let item = &items[m];
        let energy = output_energy(&item.weights, &item.grams);
        let scale = if energy > 0.0 { 1.0 / energy } else { 0.0 };
        for o in 0..rows {
            let gram = item.gram_of(o);
            for j in 0..cols {
                let share = scale * gram.map_or(1.0, |g| g.at(j, j).max(0.0));
                let w = item.weights.at(o, j);
                sum.set(o, j, sum.at(o, j) + share * w);
                mass.set(o, j, mass.at(o, j) + share);
                plain.set(o, j, plain.at(o, j) + w / members.len() as f64);
            }
        }
    }
    let pairs = sum.data.iter().zip(&mass.data).zip(&plain.data);
    let mean = |((s, m), p): ((&f64, &f64), &f64)| if *m > 0.0 { s / m } else { *p };
    // As floats of the file, so that equal tensors stay equal.
    sum.data = pairs.map(mean).map(|v| f64::from(v as f32)).collect();
    let errors = members.iter().map(|m| items[*m].error_with(&sum)).collect();
    Set {
        members,
        tensor: sum,
        errors,
    }
}

fn write(
    network: &Network,
    items: &[Item],
    sets: Vec<Set>,
    left: Left,
) -> Result<Edited, RebuildError> {
    let graph = &network.graph;
    let mut edit = graph.edit();
    let mut changes = Vec::new();
    let mut exact = true;
    for set in sets {
        let Some(first) = set.members.first().map(|m| &items[*m]) else {
            continue;
        };
        let shape = graph.tensor(first.weight);
        let shape = shape.map_or_else(Vec::new, |t| t.shape().to_vec());
        let ordered = if first.outputs_first {
            set.tensor.clone()
        } else {
            set.tensor.transposed()
        };
        let tensor = regraft_graph::Tensor::from_f32(shape, ordered.to_f32())?;
        edit.set_initializer(first.weight, tensor);
        let n = set.tensor.data.len() as u64;
        for (m, error) in set.members.iter().zip(&set.errors) {
            let item = &items[*m];
            edit.replace_uses(item.weight, first.weight);
            exact &= *error == 0.0;
            let macs = node_macs(graph, &network.facts, item.id);
            let is_first = item.weight == first.weight;
            let what = format!("reads the weight of `{}`", first.node);
            changes.push((
                item.id,
                Change {
                    node: item.node.clone(),
                    what: if is_first {
                        "reads the mean".to_owned()
                    } else {
                        what
                    },
                    macs: (macs, macs),
                    params: (n, if is_first { n } else { 0 }),
                    error: Some(*error),
                },
            ));
        }
    }
    changes.sort_by_key(|c| c.0);
    Ok(Edited::new(
        edit.finish()?,
        changes.into_iter().map(|c| c.1).collect(),
        left,
        exact,
    ))
}
