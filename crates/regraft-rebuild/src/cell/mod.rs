//! Recurrent cells: gates whose weights a least-squares problem can set.
//!
//! Before its non-linearities a cell is a linear map of what it reads at a step: the input `x_t` and
//! the state `h_{t-1}` side by side. Its *rows* are the gates' pre-activations; where a reset gate
//! multiplies the state's part alone (`linear_before_reset`), that gate has two rows a unit, one that
//! reads the input only and one that reads the state only.

mod refit;
mod states;

use regraft_exec::HostTensor;
use regraft_graph::infer::Facts;
use regraft_graph::op::{Direction, RecurrentKind};
use regraft_graph::{Dim, Graph, Node, NodeId, Op, Tensor, ValueId};
use regraft_prune::{Group, Member, Unit};
use regraft_solve::Matrix;

use crate::RebuildError;
use crate::rows::RowPlan;

pub(crate) use refit::{parameters, refit_cell};
pub use states::{with_all_states, without_all_states};

/// A recurrent op of one direction, all of whose states are an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) node: NodeId,
    /// The sequence, `time × batch × n_in` or `batch × time × n_in`.
    pub(crate) input: ValueId,
    /// The states of all steps.
    pub(crate) states: ValueId,
    initial: Option<ValueId>,
    pub(crate) w: ValueId,
    pub(crate) r: ValueId,
    pub(crate) bias: Option<ValueId>,
    pub(crate) n_in: usize,
    pub(crate) hidden: usize,
    n_gates: usize,
    last_gate: LastGate,
    reverse: bool,
    batch_first: bool,
}

/// How the last gate of a cell reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastGate {
    /// As the others do.
    Joint,
    /// Input and state apart: a reset gate multiplies the state's part.
    Split,
    /// Not the state itself but a part of it that varies: its weights there stay as they are.
    Masked,
}

/// Rows of a cell that read the same columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowBlock {
    /// The gates, each of `hidden` rows.
    pub(crate) gates: std::ops::Range<usize>,
    /// What they read: columns of the input first, then of the state.
    pub(crate) columns: std::ops::Range<usize>,
}

/// Returns the cells of a graph in node order.
pub(crate) fn find_cells(graph: &Graph, facts: &Facts) -> Vec<Cell> {
    graph
        .nodes()
        .filter_map(|(id, node)| cell(graph, facts, id, node))
        .collect()
}

fn cell(graph: &Graph, facts: &Facts, id: NodeId, node: &Node) -> Option<Cell> {
    let Op::Recurrent(op) = &node.op else {
        return None;
    };
    let (input, states) = (node.input(0)?, node.output(0)?);
    let own = |v: ValueId| {
        let floats = graph.tensor(v).and_then(Tensor::as_f32).is_some();
        (floats && !graph.inputs().contains(&v) && graph.consumers(v).len() == 1).then_some(v)
    };
    let (w, r) = (own(node.input(1)?)?, own(node.input(2)?)?);
    let bias = match node.input(3) {
        Some(v) => Some(own(v)?),
        None => None,
    };
    let n_in = facts.shape(w)?.get(2)?.fixed()?;
    // Sequences of different lengths have rows that mean nothing.
    let plain = op.direction != Direction::Bidirectional && node.input(4).is_none();
    let last_gate = match op.kind {
        RecurrentKind::Gru {
            linear_before_reset: true,
        } => LastGate::Split,
        RecurrentKind::Gru {
            linear_before_reset: false,
        } => LastGate::Masked,
        RecurrentKind::Lstm | RecurrentKind::Rnn => LastGate::Joint,
    };
    (plain && n_in > 0 && op.hidden_size > 0).then_some(Cell {
        node: id,
        input,
        states,
        initial: node.input(5),
        w,
        r,
        bias,
        n_in,
        hidden: op.hidden_size,
        n_gates: op.n_gates(),
        last_gate,
        reverse: op.direction == Direction::Reverse,
        batch_first: op.batch_first,
    })
}

impl Cell {
    /// Returns what a row reads: inputs and states.
    pub(crate) fn d(&self) -> usize {
        self.n_in + self.hidden
    }

    /// Returns the blocks of rows, which together are all that can be refitted.
    pub(crate) fn blocks(&self) -> Vec<RowBlock> {
        let block = |gates, columns| RowBlock { gates, columns };
        let (n, d) = (self.n_gates, self.d());
        match self.last_gate {
            LastGate::Joint => vec![block(0..n, 0..d)],
            LastGate::Split => vec![
                block(0..n - 1, 0..d),
                block(n - 1..n, 0..self.n_in),
                block(n - 1..n, self.n_in..d),
            ],
            LastGate::Masked => vec![block(0..n - 1, 0..d), block(n - 1..n, 0..self.n_in)],
        }
    }

    /// Returns the values to fetch for [`joined`](Self::joined).
    pub(crate) fn reads(&self) -> Vec<ValueId> {
        [Some(self.input), Some(self.states), self.initial]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Returns what every row reads at every step: `x_t` and `h_{t-1}` side by side, axes before as
    /// in the input. `values` are those of [`reads`](Self::reads).
    pub(crate) fn joined(&self, values: &[HostTensor]) -> Option<HostTensor> {
        let [x, h, rest @ ..] = values else {
            return None;
        };
        let (x_shape, x, h) = (&x.shape, x.as_f32()?, h.as_f32()?);
        let [a, b, n_in] = *x_shape.as_slice() else {
            return None;
        };
        let (steps, batch) = if self.batch_first { (b, a) } else { (a, b) };
        let hidden = self.hidden;
        let first = rest.first().and_then(HostTensor::as_f32);
        let zeros = vec![0.0; hidden];
        // Both layouts have one direction, so states lie as inputs do.
        let place = |t: usize, s: usize| {
            if self.batch_first {
                s * steps + t
            } else {
                t * batch + s
            }
        };
        let mut data = vec![0.0; a * b * (n_in + hidden)];
        for t in 0..steps {
            let before = if self.reverse {
                (t + 1 < steps).then_some(t + 1)
            } else {
                t.checked_sub(1)
            };
            for s in 0..batch {
                let at = place(t, s);
                let row = data.get_mut(at * (n_in + hidden)..)?;
                row.get_mut(..n_in)?
                    .copy_from_slice(x.get(at * n_in..(at + 1) * n_in)?);
                let state = match before {
                    Some(t) => h.get(place(t, s) * hidden..(place(t, s) + 1) * hidden)?,
                    None => first
                        .and_then(|f| f.get(s * hidden..(s + 1) * hidden))
                        .unwrap_or(&zeros),
                };
                row.get_mut(n_in..n_in + hidden)?.copy_from_slice(state);
            }
        }
        Some(HostTensor::f32(vec![a, b, n_in + hidden], data))
    }

    /// Returns how rows are taken so that about `max_rows` of them come from `n_samples` sequences.
    pub(crate) fn row_plan(&self, facts: &Facts, n_samples: usize, max_rows: usize) -> RowPlan {
        let time = usize::from(self.batch_first);
        let shape = facts.shape(self.input).unwrap_or_default();
        let steps = shape.get(time).and_then(Dim::fixed).unwrap_or(1);
        RowPlan::of_features(steps.saturating_mul(n_samples), max_rows)
    }

    /// Returns the weights of all gates, `gates · hidden × d`, as the cell holds them.
    pub(crate) fn weights(&self, graph: &Graph) -> Option<Matrix> {
        let (w, r) = (
            graph.tensor(self.w)?.as_f32()?,
            graph.tensor(self.r)?.as_f32()?,
        );
        let (n_in, hidden) = (self.n_in, self.hidden);
        let rows = self.n_gates * hidden;
        let mut all = Matrix::zeros(rows, self.d());
        for o in 0..rows {
            let x = w.get(o * n_in..(o + 1) * n_in)?;
            let h = r.get(o * hidden..(o + 1) * hidden)?;
            for (slot, value) in all.row_mut(o).iter_mut().zip(x.iter().chain(h)) {
                *slot = f64::from(*value);
            }
        }
        Some(all)
    }

    /// Returns both biases of all gates, those beside W and those beside R; zero where it has none.
    pub(crate) fn biases(&self, graph: &Graph) -> [Vec<f64>; 2] {
        let n = self.n_gates * self.hidden;
        let data = self
            .bias
            .and_then(|b| graph.tensor(b))
            .and_then(Tensor::as_f32);
        let part = |from: usize| match data.and_then(|d| d.get(from..from + n)) {
            Some(part) => part.iter().map(|b| f64::from(*b)).collect(),
            None => vec![0.0; n],
        };
        [part(0), part(n)]
    }

    /// Returns the initializers that hold weights (`gates · hidden × d`) and both biases.
    ///
    /// # Errors
    /// [`RebuildError::Graph`] if the sizes do not fit the cell.
    pub(crate) fn tensors(
        &self,
        graph: &Graph,
        weights: &Matrix,
        biases: &[Vec<f64>; 2],
    ) -> Result<Vec<(ValueId, Tensor)>, RebuildError> {
        let shape = |v: ValueId| {
            graph
                .tensor(v)
                .map_or_else(Vec::new, |t| t.shape().to_vec())
        };
        let rows = 0..weights.rows;
        let part = |from: usize, to: usize| -> Vec<f32> {
            let row = |o: usize| weights.row(o)[from..to].iter().map(|w| *w as f32);
            rows.clone().flat_map(row).collect()
        };
        let mut tensors = vec![
            (self.w, Tensor::from_f32(shape(self.w), part(0, self.n_in))?),
            (
                self.r,
                Tensor::from_f32(shape(self.r), part(self.n_in, self.d()))?,
            ),
        ];
        if let Some(b) = self.bias {
            let data = biases.iter().flatten().map(|x| *x as f32).collect();
            tensors.push((b, Tensor::from_f32(shape(b), data)?));
        }
        Ok(tensors)
    }

    /// Returns the columns that each unit of a group feeds: of its input, of its own state.
    pub(crate) fn unit_columns(&self, group: &Group) -> Vec<Vec<usize>> {
        let column = |m: &Member| match (m.value, m.axis) {
            (v, 2) if v == self.w => Some(m.index),
            (v, 2) if v == self.r => Some(self.n_in + m.index),
            _ => None,
        };
        let columns = |unit: &Unit| unit.members.iter().filter_map(column).collect();
        group.units.iter().map(columns).collect()
    }

    /// Returns the initializers that a refit or tuning may set.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = ValueId> + use<> {
        [Some(self.w), Some(self.r), self.bias]
            .into_iter()
            .flatten()
    }

    /// Returns the shape of its bias.
    pub(crate) fn bias_shape(&self) -> Vec<usize> {
        vec![1, 2 * self.n_gates * self.hidden]
    }
}
