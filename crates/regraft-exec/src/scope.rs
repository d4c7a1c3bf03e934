//! One graph with its weights while it runs: the main one, or one inside a node.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::Body;
use regraft_graph::{DType, Graph, Initializer, NodeId, Op, ValueId};

use crate::error::{OpError, OpResult};
use crate::kernels::KernelError;
use crate::ops::{Context, Inputs, wrap};
use crate::plan::plan;
use crate::value::{Array, Value};
use crate::{ExecError, ExecOptions};

pub(crate) type Values = BTreeMap<ValueId, Value>;

/// The graphs inside of each node that has some, in the order of its op.
pub(crate) type Bodies = BTreeMap<NodeId, Vec<Program>>;

/// Element types that the executor has no own form for.
pub(crate) type Dtypes = BTreeMap<ValueId, DType>;

/// A graph inside a node, its weights in the engine.
#[derive(Debug)]
pub(crate) struct Program {
    graph: Arc<Graph>,
    n_own: usize,
    weights: Values,
    bodies: Bodies,
    dtypes: Dtypes,
}

/// Returns the initializers that are computed with.
pub(crate) fn weights_of(graph: &Graph) -> Values {
    let read = |(id, i): (&ValueId, &Initializer)| {
        let value = Value::from_tensor(&i.tensor).ok();
        value.map(|value| (*id, value))
    };
    graph.initializers().iter().filter_map(read).collect()
}

/// Returns the narrow element types of a graph's values.
///
/// Nothing is inferred for a graph that has none, as nearly all have.
pub(crate) fn dtypes_of(graph: &Graph) -> Dtypes {
    let declared = graph.values().filter_map(|(_, v)| v.declared.as_ref());
    let weights = graph.initializers().values().map(|i| i.tensor.dtype());
    let made = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Cast { to } => Some(*to),
        Op::Constant { value } => Some(value.dtype()),
        Op::Quantize(_) => Some(DType::U8),
        _ => None,
    });
    let mut all = declared.map(|t| t.dtype).chain(weights).chain(made);
    if !all.any(is_narrow) {
        return Dtypes::new();
    }
    let Ok(facts) = infer(graph, &InferOptions::default()) else {
        return Dtypes::new();
    };
    let narrow = |(id, _)| facts.dtype(id).filter(|t| is_narrow(*t)).map(|t| (id, t));
    graph.values().filter_map(narrow).collect()
}

fn is_narrow(dtype: DType) -> bool {
    match dtype {
        DType::F16
        | DType::Bf16
        | DType::I8
        | DType::I16
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64 => true,
        // Indices of 32 bits are everywhere, and never overflow.
        DType::I32 | DType::I64 | DType::F32 | DType::F64 | DType::Bool | DType::Other(_) => false,
    }
}

/// Returns integers as their type would hold them.
fn narrowed(value: Value, dtype: DType) -> Value {
    match value {
        Value::Int(a) => {
            let data = a.data.iter().map(|&x| wrap(x, dtype)).collect();
            Value::Int(Array::new(a.shape.clone(), data))
        }
        Value::Float(_) | Value::Bool(_) => value,
    }
}

/// Returns the graphs inside of nodes, however deep: reading has bounded that.
pub(crate) fn bodies_of(graph: &Graph) -> Bodies {
    let program = |body: &Body| Program {
        graph: Arc::clone(&body.graph),
        n_own: body.n_own,
        weights: weights_of(&body.graph),
        bodies: bodies_of(&body.graph),
        dtypes: dtypes_of(&body.graph),
    };
    let nodes = graph.nodes().filter_map(|(id, node)| {
        let bodies = node.op.bodies();
        (!bodies.is_empty()).then(|| (id, bodies.into_iter().map(program).collect()))
    });
    nodes.collect()
}

impl Program {
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the outputs in order, and the peak of live bytes; `own` are its own inputs, `outer`
    /// the values around the node by name.
    pub(crate) fn run(
        &self,
        own: Vec<Value>,
        outer: &BTreeMap<&str, Value>,
        options: &ExecOptions,
    ) -> Result<(Vec<Value>, usize), ExecError> {
        let inputs = self.graph.inputs();
        let mut live: Values = inputs.iter().copied().take(self.n_own).zip(own).collect();
        for &id in inputs.get(self.n_own..).unwrap_or(&[]) {
            if let Some(value) = outer.get(self.graph.value(id).name.as_str()) {
                live.insert(id, value.clone());
            }
        }
        let scope = Scope {
            graph: &self.graph,
            weights: &self.weights,
            bodies: &self.bodies,
            dtypes: &self.dtypes,
            options,
        };
        let outputs = self.graph.outputs();
        let (found, peak) = scope.evaluate(live, outputs)?;
        let in_order = outputs.iter().filter_map(|id| found.get(id).cloned());
        Ok((in_order.collect(), peak))
    }
}

/// A graph with what is needed to run it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) weights: &'a Values,
    pub(crate) bodies: &'a Bodies,
    pub(crate) dtypes: &'a Dtypes,
    pub(crate) options: &'a ExecOptions,
}

impl Scope<'_> {
    /// Returns the values `wanted`, all of this graph, and the peak of live bytes.
    pub(crate) fn evaluate(
        &self,
        mut live: Values,
        wanted: &[ValueId],
    ) -> Result<(Values, usize), ExecError> {
        let given = |id| live.contains_key(&id) || self.weights.contains_key(&id);
        let plan = plan(self.graph, given, wanted)?;
        let mut uses = plan.uses;
        let mut bytes: usize = live.values().map(Value::size_bytes).sum();
        let mut peak = bytes;
        for &id in &plan.nodes {
            let node = self.graph.node(id);
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &read in &node.inputs {
                inputs.push(read.and_then(|v| self.take(v, &mut live, &mut uses, &mut bytes)));
            }
            let outputs = if node.op.bodies().is_empty() {
                self.run_node(id, inputs)?
            } else {
                let mut outer = BTreeMap::new();
                for &read in &node.captures {
                    let value = self.take(read, &mut live, &mut uses, &mut bytes);
                    let name = self.graph.value(read).name.as_str();
                    outer.extend(value.map(|v| (name, v)));
                }
                let (outputs, inner_peak) = self.run_control(id, inputs, &outer)?;
                peak = peak.max(bytes.saturating_add(inner_peak));
                outputs
            };
            for (port, value) in node.outputs.iter().zip(outputs) {
                if let Some(v) = port.filter(|v| uses.contains_key(v)) {
                    bytes += value.size_bytes();
                    live.insert(v, value);
                }
            }
            peak = peak.max(bytes);
        }
        let mut results = Values::new();
        for &id in wanted {
            match live.get(&id).or_else(|| self.weights.get(&id)) {
                Some(value) => {
                    results.insert(id, value.clone());
                }
                None => {
                    return Err(ExecError::MissingValue {
                        value: self.graph.value(id).name.clone(),
                    });
                }
            }
        }
        Ok((results, peak))
    }

    /// Returns a value for a node to read; on its last use it is given away, so that the engine
    /// may write in place.
    fn take(
        &self,
        id: ValueId,
        live: &mut Values,
        uses: &mut BTreeMap<ValueId, usize>,
        bytes: &mut usize,
    ) -> Option<Value> {
        if let Some(count) = uses.get_mut(&id) {
            *count = count.saturating_sub(1);
            if *count == 0
                && let Some(value) = live.remove(&id)
            {
                *bytes -= value.size_bytes();
                return Some(value);
            }
        }
        live.get(&id).or_else(|| self.weights.get(&id)).cloned()
    }

    fn run_node(&self, id: NodeId, inputs: Vec<Option<Value>>) -> Result<Vec<Value>, ExecError> {
        let node = self.graph.node(id);
        let context = Context {
            threads: self.options.threads,
            max_elements: self.options.max_elements,
            n_outputs: node.outputs.len(),
            dtype: self.dtype_of(node.output(0)),
        };
        let shapes: Vec<String> = inputs
            .iter()
            .map(|i| i.as_ref().map_or("none".to_owned(), Value::describe))
            .collect();
        let run = || crate::ops::run(&node.op, Inputs(inputs), &context);
        let outcome: OpResult<Vec<Value>> = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(outcome) => outcome,
            Err(payload) => {
                return Err(ExecError::Engine {
                    place: format!(
                        "node `{}` ({}) with inputs {}",
                        self.graph.node_label(id),
                        node.op.name(),
                        shapes.join(", ")
                    ),
                    message: message_of(payload.as_ref()),
                });
            }
        };
        let outputs = outcome.map_err(|error| self.node_error(id, &shapes, error))?;
        if self.dtypes.is_empty() {
            return Ok(outputs);
        }
        let ports = node.outputs.iter().copied();
        let narrow = |(value, port)| match self.dtype_of(port) {
            Some(dtype) => narrowed(value, dtype),
            None => value,
        };
        Ok(outputs.into_iter().zip(ports).map(narrow).collect())
    }

    fn dtype_of(&self, id: Option<ValueId>) -> Option<DType> {
        self.dtypes.get(&id?).copied()
    }

    /// Returns the error with the node's name and what it was given.
    pub(crate) fn node_error(&self, id: NodeId, shapes: &[String], error: OpError) -> ExecError {
        let (label, op) = (
            self.graph.node_label(id),
            self.graph.node(id).op.name().to_owned(),
        );
        match error {
            OpError::Invalid(reason) => ExecError::Node {
                node: label,
                op,
                inputs: shapes.join(", "),
                reason,
            },
            OpError::Unsupported(reason) => ExecError::Unsupported {
                node: label,
                op,
                reason,
            },
            OpError::TooLarge(shape) => ExecError::TooLarge {
                node: label,
                shape,
                limit: self.options.max_elements,
            },
        }
    }
}

/// Returns what a panic said.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(error) = payload.downcast_ref::<KernelError>() {
        return error.to_string();
    }
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => "a panic without a message".to_owned(),
    }
}
