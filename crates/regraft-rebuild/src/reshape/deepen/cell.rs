//! A recurrent cell behind a recurrent cell.
//!
//! No cell of gates passes on what it reads: its states run through a tanh. So the states of the new cell are
//! added to those of the old one, each unit with a factor of its own that is zero at first, `y + γ · cell(y)`: what
//! the network computes stays bit by bit, and the factors have a gradient at once. Behind a cell that reads in
//! both directions the new one does so, too, and reads the states of both side by side.
//!
//! # Reference
//! Factors that start from zero as in Bachlechner et al., "`ReZero` is all you need", UAI 2021, one for each unit as
//! in Touvron et al., "Going deeper with image transformers", ICCV 2021.

use regraft_graph::op::{BinaryOp, Recurrent};
use regraft_graph::{Graph, NodeId, Op, Tensor, ValueId};

use super::{Stop, Work};

/// The operator set from which on `Squeeze` takes its axes as an input.
const SQUEEZE_INPUTS: i64 = 13;

/// The values of a new cell.
struct Names<'a> {
    graph: &'a Graph,
    name: String,
}

impl Work<'_> {
    /// Puts a cell of the same kind and size behind one; returns what it is and its weights.
    pub(super) fn insert_cell(
        &mut self,
        graph: &Graph,
        states: ValueId,
    ) -> Result<(String, Vec<ValueId>), Stop> {
        let left = |why: &str| Err(Stop::Left(why.to_owned()));
        let cell = graph.producer(states).map(|id| (id, &graph.node(id).op));
        let Some((id, Op::Recurrent(op))) = cell else {
            return left("it is no recurrent cell");
        };
        let names = Names {
            graph,
            name: graph.value(states).name.clone(),
        };
        let op = op.clone();
        let before = self.renamed(graph, id, 0, &names)?;
        let read = self.sequence(&op, &names, before);
        let (weights, outputs) = self.cell(&op, &names, read)?;
        let n = op.hidden_size;
        let shape = match (op.direction.count(), op.batch_first) {
            (1, _) => vec![n],
            (directions, true) => vec![directions, n],
            (directions, false) => vec![directions, 1, n],
        };
        let gate = Tensor::from_f32(shape, vec![0.0; n * op.direction.count()])?;
        let gate = self.edit.add_initializer(&names.of("gate"), gate);
        self.gated(&names, (before, outputs[0]), gate, states, "");
        // The last states, where something reads them.
        if let Some(last) = graph.node(id).output(1) {
            let before = self.renamed(graph, id, 1, &names)?;
            self.gated(&names, (before, outputs[1]), gate, last, "_last");
        }
        let what = format!("followed by a cell of {n} units, added by a gate of zeros");
        Ok((what, vec![weights, gate]))
    }

    /// Returns the states of a cell as the sequence that another one reads: both directions side by side.
    fn sequence(&mut self, op: &Recurrent, names: &Names<'_>, states: ValueId) -> ValueId {
        let read = self.edit.add_value(&names.of("sequence"));
        let label = names.of("sequence");
        if op.direction.count() == 1 {
            let axes = vec![if op.batch_first { 2 } else { 1 }];
            let opset = names.graph.header().opset().unwrap_or(SQUEEZE_INPUTS);
            if opset < SQUEEZE_INPUTS {
                let squeeze = Op::Squeeze { axes: Some(axes) };
                self.node(&label, squeeze, vec![states], read);
                return read;
            }
            let axis = Tensor::i64_list(axes);
            let axis = self.edit.add_initializer(&names.of("direction"), axis);
            let squeeze = Op::Squeeze { axes: None };
            self.node(&label, squeeze, vec![states, axis], read);
            return read;
        }
        let mut states = states;
        if !op.batch_first {
            let perm = Some(vec![0, 2, 1, 3]);
            let turned = self.edit.add_value(&names.of("turned"));
            let transpose = Op::Transpose { perm };
            self.node(&names.of("turned"), transpose, vec![states], turned);
            states = turned;
        }
        let shape = Tensor::i64_list(vec![0, 0, -1]);
        let shape = self.edit.add_initializer(&names.of("features"), shape);
        let reshape = Op::Reshape { allowzero: false };
        self.node(&label, reshape, vec![states, shape], read);
        read
    }

    /// Gives an output of a node another name, so that its readers read what is made under the old one.
    fn renamed(
        &mut self,
        graph: &Graph,
        node: NodeId,
        port: usize,
        names: &Names<'_>,
    ) -> Result<ValueId, Stop> {
        let Some(old) = graph.node(node).output(port) else {
            return Err(Stop::Left("nothing makes it".to_owned()));
        };
        let name = format!("{}_before", names.graph.value(old).name);
        let before = self.edit.add_value(&name);
        self.edit.set_output(node, port, Some(before));
        Ok(before)
    }

    /// Adds a cell with drawn weights; returns its input weights, and its states and last states.
    fn cell(
        &mut self,
        op: &Recurrent,
        names: &Names<'_>,
        read: ValueId,
    ) -> Result<(ValueId, [ValueId; 2]), Stop> {
        let (gates, n, directions) = (op.n_gates(), op.hidden_size, op.direction.count());
        // As PyTorch draws them.
        let bound = 1.0 / (n.max(1) as f64).sqrt();
        let mut drawn = |what: &str, n_in: usize| -> Result<ValueId, Stop> {
            let draw = |_| (self.random.symmetric() * bound) as f32;
            let data = (0..directions * gates * n * n_in).map(draw).collect();
            let tensor = Tensor::from_f32(vec![directions, gates * n, n_in], data)?;
            Ok(self.edit.add_initializer(&names.of(what), tensor))
        };
        let (w, r) = (drawn("w", directions * n)?, drawn("r", n)?);
        let shape = vec![directions, 2 * gates * n];
        let zeros = Tensor::from_f32(shape, vec![0.0; 2 * directions * gates * n])?;
        let bias = self.edit.add_initializer(&names.of("bias"), zeros);
        let outputs = ["states", "last"].map(|what| self.edit.add_value(&names.of(what)));
        let inputs = [read, w, r, bias].map(Some).to_vec();
        let node = self.edit.add_op(
            Op::Recurrent(op.clone()),
            inputs,
            outputs.map(Some).to_vec(),
        );
        self.edit.set_node_name(node, &names.of("cell"));
        Ok((w, outputs))
    }

    /// Writes `x + gate · y`.
    fn gated(
        &mut self,
        names: &Names<'_>,
        (x, y): (ValueId, ValueId),
        gate: ValueId,
        out: ValueId,
        end: &str,
    ) {
        let label = names.of(&format!("gated{end}"));
        let gated = self.edit.add_value(&label);
        self.node(&label, Op::Binary(BinaryOp::Mul), vec![y, gate], gated);
        let label = names.of(&format!("sum{end}"));
        self.node(&label, Op::Binary(BinaryOp::Add), vec![x, gated], out);
    }
}

impl Names<'_> {
    fn of(&self, what: &str) -> String {
        format!("{}_deeper_{what}", self.name)
    }
}
