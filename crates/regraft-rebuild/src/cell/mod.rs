//! Recurrent cells: gates whose weights a least-squares problem can set.
//!
//! Before its non-linearities a cell is a linear map of what it reads at a step: the input `x_t` and
//! the state `h_{t-1}` side by side. Its *rows* are the gates' pre-activations; where a reset gate
//! multiplies the state's part alone (`linear_before_reset`), that gate has two rows a unit, one that
//! reads the input only and one that reads the state only.
//!
//! A cell that reads in both directions has the gates of one behind those of the other, and beside the input
//! both states: the one before of the first direction, `h_{t+1}` of the second. Gates read the state of their
//! own direction.

mod features;
mod refit;
mod states;

use std::ops::Range;

use regraft_exec::HostTensor;
use regraft_graph::infer::Facts;
use regraft_graph::op::{Direction, RecurrentKind};
use regraft_graph::{Dim, Graph, Node, NodeId, Op, Tensor, ValueId};
use regraft_prune::{Group, Member, Unit};
use regraft_solve::Matrix;

use crate::RebuildError;
use crate::rows::RowPlan;

pub(crate) use features::Features;
pub(crate) use refit::{parameters, refit_cell};
pub use states::{with_all_states, without_all_states};

/// A recurrent op, all of whose states are an output.
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
    /// Gates of one direction.
    n_gates: usize,
    n_directions: usize,
    last_gate: LastGate,
    /// True if the first direction goes from the last step to the first.
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
    /// The gates, each of `hidden` rows; those of the second direction come behind all of the first.
    pub(crate) gates: Range<usize>,
    /// What they read, ascending: columns of the input first, then of the states.
    pub(crate) columns: Vec<usize>,
}

/// Where a state lies, in multiples of the hidden units.
enum Place {
    /// Among the states of all steps.
    State(usize),
    /// Among those that the cell begins with.
    Initial(usize),
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
    let plain = node.input(4).is_none();
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
        n_directions: op.direction.count(),
        last_gate,
        reverse: op.direction == Direction::Reverse,
        batch_first: op.batch_first,
    })
}

impl Cell {
    /// Returns what a row reads: inputs, and the states of all directions.
    pub(crate) fn d(&self) -> usize {
        self.n_in + self.n_directions * self.hidden
    }

    /// Returns the number of rows, those of all gates of all directions.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_directions * self.n_gates * self.hidden
    }

    /// Returns the columns that hold the states of a direction.
    fn states_of(&self, direction: usize) -> Range<usize> {
        let from = self.n_in + direction * self.hidden;
        from..from + self.hidden
    }

    /// Returns the direction of a row.
    fn direction_of(&self, row: usize) -> usize {
        row / (self.n_gates * self.hidden).max(1)
    }

    /// Returns the columns of the states that the rows of each direction read, in order.
    pub(crate) fn columns_of_states(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.n_directions).map(|direction| self.states_of(direction))
    }

    /// Returns the blocks of rows, which together are all that can be refitted.
    pub(crate) fn blocks(&self) -> Vec<RowBlock> {
        (0..self.n_directions)
            .flat_map(|direction| self.blocks_of(direction))
            .collect()
    }

    fn blocks_of(&self, direction: usize) -> Vec<RowBlock> {
        let n = self.n_gates;
        let (first, input, states) = (direction * n, 0..self.n_in, self.states_of(direction));
        let block = |gates: Range<usize>, columns: &[&Range<usize>]| RowBlock {
            gates: first + gates.start..first + gates.end,
            columns: columns.iter().copied().cloned().flatten().collect(),
        };
        match self.last_gate {
            LastGate::Joint => vec![block(0..n, &[&input, &states])],
            LastGate::Split => vec![
                block(0..n - 1, &[&input, &states]),
                block(n - 1..n, &[&input]),
                block(n - 1..n, &[&states]),
            ],
            LastGate::Masked => vec![
                block(0..n - 1, &[&input, &states]),
                block(n - 1..n, &[&input]),
            ],
        }
    }

    /// Returns the values to fetch for [`joined`](Self::joined).
    pub(crate) fn reads(&self) -> Vec<ValueId> {
        [Some(self.input), Some(self.states), self.initial]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Returns what rows read at every step: `x_t` and the state before of each direction side by side, axes
    /// before as in the input. `values` are those of [`reads`](Self::reads).
    pub(crate) fn joined(&self, values: &[HostTensor]) -> Option<HostTensor> {
        let [x, h, rest @ ..] = values else {
            return None;
        };
        let (x_shape, x, h) = (&x.shape, x.as_f32()?, h.as_f32()?);
        let [a, b, n_in] = *x_shape.as_slice() else {
            return None;
        };
        let (steps, batch) = if self.batch_first { (b, a) } else { (a, b) };
        let (d, hidden) = (self.d(), self.hidden);
        let initial = rest.first().and_then(HostTensor::as_f32);
        let zeros = vec![0.0; hidden];
        let mut data = vec![0.0; a * b * d];
        for at in 0..a * b {
            let (t, s) = if self.batch_first {
                (at % steps, at / steps)
            } else {
                (at / batch, at % batch)
            };
            let row = data.get_mut(at * d..(at + 1) * d)?;
            row.get_mut(..n_in)?
                .copy_from_slice(x.get(at * n_in..(at + 1) * n_in)?);
            for direction in 0..self.n_directions {
                let place = self.place((t, steps), (s, batch), direction);
                let state = match place {
                    Place::State(at) => h.get(at * hidden..(at + 1) * hidden)?,
                    Place::Initial(at) => initial
                        .and_then(|f| f.get(at * hidden..(at + 1) * hidden))
                        .unwrap_or(&zeros),
                };
                row.get_mut(self.states_of(direction))?
                    .copy_from_slice(state);
            }
        }
        Some(HostTensor::f32(vec![a, b, d], data))
    }

    /// Returns where the state lies that a direction reads at a step.
    fn place(&self, (t, steps): (usize, usize), (s, batch): (usize, usize), k: usize) -> Place {
        let backwards = self.reverse || k > 0;
        let before = if backwards {
            (t + 1 < steps).then_some(t + 1)
        } else {
            t.checked_sub(1)
        };
        let n = self.n_directions;
        match (before, self.batch_first) {
            (Some(t), true) => Place::State((s * steps + t) * n + k),
            (Some(t), false) => Place::State((t * n + k) * batch + s),
            (None, true) => Place::Initial(s * n + k),
            (None, false) => Place::Initial(k * batch + s),
        }
    }

    /// Returns how rows are taken so that about `max_rows` of them come from `n_samples` sequences.
    pub(crate) fn row_plan(&self, facts: &Facts, n_samples: usize, max_rows: usize) -> RowPlan {
        let time = usize::from(self.batch_first);
        let shape = facts.shape(self.input).unwrap_or_default();
        let steps = shape.get(time).and_then(Dim::fixed).unwrap_or(1);
        RowPlan::of_features(steps.saturating_mul(n_samples), max_rows)
    }

    /// Returns the weights of all gates, `rows × d`: zero at the states of the other direction.
    pub(crate) fn weights(&self, graph: &Graph) -> Option<Matrix> {
        let (w, r) = (
            graph.tensor(self.w)?.as_f32()?,
            graph.tensor(self.r)?.as_f32()?,
        );
        let (n_in, hidden) = (self.n_in, self.hidden);
        let mut all = Matrix::zeros(self.n_rows(), self.d());
        for o in 0..self.n_rows() {
            let row = all.row_mut(o);
            let x = w.get(o * n_in..(o + 1) * n_in)?;
            let h = r.get(o * hidden..(o + 1) * hidden)?;
            for (slot, value) in row.iter_mut().zip(x) {
                *slot = f64::from(*value);
            }
            let states = row.get_mut(self.states_of(self.direction_of(o)))?;
            for (slot, value) in states.iter_mut().zip(h) {
                *slot = f64::from(*value);
            }
        }
        Some(all)
    }

    /// Returns both biases of all rows, those beside W and those beside R; zero where it has none.
    pub(crate) fn biases(&self, graph: &Graph) -> [Vec<f64>; 2] {
        let data = self
            .bias
            .and_then(|b| graph.tensor(b))
            .and_then(Tensor::as_f32);
        // Each direction has those beside its W, then those beside its R.
        let n = (self.n_gates * self.hidden).max(1);
        [0, 1].map(|side| {
            let of_row = |o: usize| {
                let at = (2 * (o / n) + side) * n + o % n;
                data.and_then(|d| d.get(at)).map_or(0.0, |b| f64::from(*b))
            };
            (0..self.n_rows()).map(of_row).collect()
        })
    }

    /// Returns the initializers that hold weights (`rows × d`) and both biases.
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
        let part = |columns: &dyn Fn(usize) -> Range<usize>| -> Vec<f32> {
            let row = |o: usize| weights.row(o)[columns(o)].iter().map(|w| *w as f32);
            (0..weights.rows).flat_map(row).collect()
        };
        let w = part(&|_| 0..self.n_in);
        let r = part(&|o| self.states_of(self.direction_of(o)));
        let mut tensors = vec![
            (self.w, Tensor::from_f32(shape(self.w), w)?),
            (self.r, Tensor::from_f32(shape(self.r), r)?),
        ];
        if let Some(b) = self.bias {
            let n = self.n_gates * self.hidden;
            let rows = (0..self.n_directions).map(|k| k * n..(k + 1) * n);
            let data =
                rows.flat_map(|rows| biases.iter().flat_map(move |side| &side[rows.clone()]));
            let data = data.map(|x| *x as f32).collect();
            tensors.push((b, Tensor::from_f32(shape(b), data)?));
        }
        Ok(tensors)
    }

    /// Returns the columns that each unit of a group feeds: of its input, of its own states.
    pub(crate) fn unit_columns(&self, group: &Group) -> Vec<Vec<usize>> {
        let columns = |m: &Member| -> Vec<usize> {
            match (m.value, m.axis) {
                (v, 2) if v == self.w => vec![m.index],
                (v, 2) if v == self.r => {
                    let states = self.columns_of_states();
                    states.map(|states| states.start + m.index).collect()
                }
                _ => Vec::new(),
            }
        };
        let columns = |unit: &Unit| unit.members.iter().flat_map(columns).collect();
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
        vec![self.n_directions, 2 * self.n_gates * self.hidden]
    }
}
