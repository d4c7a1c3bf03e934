//! The tensors that take part.

use std::collections::BTreeMap;

use regraft_graph::{NodeId, ValueId};
use regraft_solve::share::{Part, SharedValues, Weighting, output_energy};
use regraft_solve::{Gram, Matrix, SolveError};

use super::{Network, Selection};
use crate::cell::{Cell, find_cells};
use crate::{Layer, RebuildError};

/// A weight that is to be shared.
pub(super) struct Item {
    pub(super) id: NodeId,
    /// The node's label.
    pub(super) node: String,
    pub(super) weight: ValueId,
    /// `n_out × d`, as stored.
    pub(super) weights: Matrix,
    /// True if the initializer is `n_out × d`, else it is `d × n_out`.
    pub(super) outputs_first: bool,
    /// The Grams of what it reads, centred where the bias makes up for the mean; none if unknown.
    pub(super) grams: Vec<Matrix>,
    pub(super) bias: Option<Bias>,
}

/// A bias that makes up for the mean of a layer's error.
pub(super) struct Bias {
    pub(super) value: ValueId,
    /// What the stored weight counts in units of the stored bias.
    pub(super) scale: f64,
    /// Mean of what each range of outputs reads.
    pub(super) means: Vec<Vec<f64>>,
}

/// Labels of nodes that are left, with the reason.
pub(super) type Left = Vec<(String, String)>;

/// Returns the weights that are selected, and those that cannot take part with the reason.
pub(super) fn collect(
    network: &Network,
    selection: &Selection,
    weighting: Weighting,
) -> Result<(Vec<Item>, Left), RebuildError> {
    let graph = &network.graph;
    let cells = find_cells(graph, &network.facts);
    let nodes = network.layers.iter().map(|l| l.node);
    let nodes: Vec<NodeId> = nodes.chain(cells.iter().map(|c| c.node)).collect();
    let labels: Vec<String> = nodes.iter().map(|n| graph.node_label(*n)).collect();
    let mut selected = selection.of_labels(&labels)?.into_iter();
    let mut items = Vec::new();
    for layer in &network.layers {
        if selected.next() == Some(true) {
            items.extend(of_layer(network, layer, weighting));
        }
    }
    for cell in &cells {
        if selected.next() == Some(true) {
            items.extend(of_cell(network, cell));
        }
    }
    items.sort_by_key(|i| (i.id, i.weight));
    let mut first: BTreeMap<ValueId, String> = BTreeMap::new();
    let mut left = Vec::new();
    items.retain(|item| {
        if let Some(other) = first.get(&item.weight) {
            left.push((item.node.clone(), format!("reads the weight of `{other}`")));
            return false;
        }
        first.insert(item.weight, item.node.clone());
        let is_output = graph.outputs().contains(&item.weight);
        if is_output {
            let reason = "its weight is an output of the network".to_owned();
            left.push((item.node.clone(), reason));
        }
        !is_output
    });
    Ok((items, left))
}

fn of_layer(network: &Network, layer: &Layer, weighting: Weighting) -> Option<Item> {
    let graph = &network.graph;
    let data = graph.tensor(layer.weight)?.as_f32()?;
    let outputs_first = layer.outputs_first();
    let weights = if outputs_first {
        Matrix::from_f32(layer.n_out, layer.d, data).ok()?
    } else {
        Matrix::from_f32(layer.d, layer.n_out, data)
            .ok()?
            .transposed()
    };
    let known = network.calibration.as_ref();
    let grams = known.and_then(|c| c.grams.get(&layer.output));
    let grams = grams.map_or(&[] as &[Gram], Vec::as_slice);
    let own_bias = layer.bias.filter(|b| {
        let free = !graph.inputs().contains(b) && !graph.outputs().contains(b);
        free && graph.consumers(*b).len() == 1 && graph.consumers(layer.weight).len() == 1
    });
    let (alpha, beta) = layer.scales(graph);
    let bias = own_bias
        .filter(|_| weighting == Weighting::Gram && !grams.is_empty())
        .map(|value| Bias {
            value,
            scale: alpha / beta,
            means: grams.iter().map(|g| g.mean.clone()).collect(),
        });
    Some(Item {
        id: layer.node,
        node: graph.node_label(layer.node),
        weight: layer.weight,
        weights,
        outputs_first,
        grams: grams
            .iter()
            .map(|g| {
                if bias.is_some() {
                    centred(g)
                } else {
                    g.matrix.clone()
                }
            })
            .collect(),
        bias,
    })
}

/// Returns what belongs to a row where `rows` of them are in as many groups as `all` has entries.
pub(super) fn group_of<T>(all: &[T], row: usize, rows: usize) -> Option<&T> {
    all.get(row * all.len() / rows.max(1))
}

/// Returns the covariance of what a layer reads: the error that a free bias leaves.
fn centred(gram: &Gram) -> Matrix {
    let mut matrix = gram.matrix.clone();
    for (i, a) in gram.mean.iter().enumerate() {
        for (slot, b) in matrix.row_mut(i).iter_mut().zip(&gram.mean) {
            *slot -= a * b;
        }
    }
    matrix
}

/// Returns both matrices of a cell. What the other one does to the same gates is left out, and
/// where a reset gate multiplies what the last gate reads, it counts as the state itself.
fn of_cell(network: &Network, cell: &Cell) -> Vec<Item> {
    let graph = &network.graph;
    let known = network.calibration.as_ref();
    let gram = known.and_then(|c| c.grams.get(&cell.states)?.first());
    let part = |columns: std::ops::Range<usize>| {
        let columns: Vec<usize> = columns.collect();
        let rows = gram?.matrix.select_rows(&columns).ok()?;
        rows.select_cols(&columns).ok()
    };
    let item = |weight: ValueId, d: usize, grams: Vec<Matrix>| {
        let data = graph.tensor(weight)?.as_f32()?;
        Some(Item {
            id: cell.node,
            node: graph.node_label(cell.node),
            weight,
            weights: Matrix::from_f32(data.len() / d.max(1), d, data).ok()?,
            outputs_first: true,
            grams,
            bias: None,
        })
    };
    let of_input = part(0..cell.n_in).into_iter().collect();
    // One Gram for the rows of each direction, or none.
    let of_states: Option<Vec<Matrix>> = cell.columns_of_states().map(part).collect();
    [
        item(cell.w, cell.n_in, of_input),
        item(cell.r, cell.hidden, of_states.unwrap_or_default()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Item {
    /// Returns the Gram of what a row of the weights reads, where it is known.
    pub(super) fn gram_of(&self, row: usize) -> Option<&Matrix> {
        group_of(&self.grams, row, self.weights.rows)
    }

    /// Returns the squared error of the layer's output, relative to its energy, with other weights; of
    /// the weights where it is not known what they read.
    pub(super) fn error_with(&self, weights: &Matrix) -> f64 {
        let mut missing = self.weights.clone();
        for (m, w) in missing.data.iter_mut().zip(&weights.data) {
            *m -= w;
        }
        let energy = output_energy(&self.weights, &self.grams);
        let lost = output_energy(&missing, &self.grams);
        if energy > 0.0 { lost / energy } else { lost }
    }

    /// Returns an error for a weight that is not finite.
    pub(super) fn check_finite(&self) -> Result<(), RebuildError> {
        let weights = &self.weights;
        let Some(at) = weights.data.iter().position(|w| !w.is_finite()) else {
            return Ok(());
        };
        let (what, row, col) = ("weights", at / weights.cols, at % weights.cols);
        let source = SolveError::NotFinite { what, row, col };
        Err(RebuildError::solve(&self.node)(source))
    }

    pub(super) fn part(&self) -> Part<'_> {
        Part {
            weights: &self.weights,
            grams: &self.grams,
        }
    }

    /// Returns the initializer's elements as entries of a codebook, from indices of `n_out × d`.
    pub(super) fn shared(&self, entries: &[f32], indices: &[u16]) -> SharedValues {
        let (rows, cols) = (self.weights.rows, self.weights.cols);
        let ordered = if self.outputs_first {
            indices.to_vec()
        } else {
            let column = |j: usize| (0..rows).map(move |o| o * cols + j);
            let order = (0..cols).flat_map(column);
            order.filter_map(|i| indices.get(i).copied()).collect()
        };
        SharedValues {
            codebook: entries.to_vec(),
            indices: ordered,
        }
    }

    /// Returns what the shared weights lack, `n_out × d`.
    pub(super) fn missing(&self, values: &SharedValues) -> Matrix {
        let (rows, cols) = (self.weights.rows, self.weights.cols);
        let data = values.values();
        let mut missing = self.weights.clone();
        for o in 0..rows {
            for j in 0..cols {
                let at = if self.outputs_first {
                    o * cols + j
                } else {
                    j * rows + o
                };
                let value = data.get(at).copied().unwrap_or(0.0);
                missing.set(o, j, self.weights.at(o, j) - f64::from(value));
            }
        }
        missing
    }

    /// Returns the squared error of the weights relative to their energy.
    pub(super) fn weight_error(&self, values: &SharedValues) -> f64 {
        let squares = |m: &Matrix| m.data.iter().map(|v| v * v).sum::<f64>();
        let energy = squares(&self.weights);
        if energy > 0.0 {
            squares(&self.missing(values)) / energy
        } else {
            0.0
        }
    }
}
