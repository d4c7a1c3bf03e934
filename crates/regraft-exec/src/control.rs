//! Nodes that run graphs: a choice, a loop, a loop over slices.

use std::collections::BTreeMap;

use regraft_graph::op::{Scan, ScanAxis};
use regraft_graph::{DType, Dim, NodeId, Op, ValueId};

use crate::ExecError;
use crate::engine::Float;
use crate::error::{OpError, OpResult, invalid, unsupported};
use crate::ops::{Context, axis_of};
use crate::scope::{Program, Scope};
use crate::value::{Array, Value};

/// The most rounds of one loop: a hostile file may ask for one that never ends.
const MAX_ROUNDS: usize = 1 << 18;

/// The outputs of a node and the peak of live bytes inside.
type Outcome = (Vec<Value>, usize);

/// What went wrong: in the node itself, or in a node of its graph.
enum Failure {
    Own(OpError),
    Inner(ExecError),
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Self::Own(error)
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        Self::Inner(error)
    }
}

impl Scope<'_> {
    /// Returns the outputs of a node that runs graphs, and the peak of live bytes in them.
    pub(crate) fn run_control(
        &self,
        id: NodeId,
        inputs: Vec<Option<Value>>,
        outer: &BTreeMap<&str, Value>,
    ) -> Result<Outcome, ExecError> {
        let node = self.graph.node(id);
        let shapes: Vec<String> = inputs
            .iter()
            .map(|i| i.as_ref().map_or("none".to_owned(), Value::describe))
            .collect();
        let programs = self.bodies.get(&id).map_or(&[][..], Vec::as_slice);
        let n_outputs = node.outputs.len();
        let rounds = Rounds {
            scope: self,
            outer,
            n_outputs,
        };
        let outcome = match (&node.op, programs) {
            (Op::If { .. }, [then_branch, else_branch]) => {
                rounds.choose([then_branch, else_branch], inputs)
            }
            (Op::Loop { .. }, [body]) => rounds.repeat(body, inputs),
            (Op::Scan(scan), [body]) => rounds.scan(scan, body, inputs),
            _ => Err(Failure::Own(OpError::Unsupported(
                "it has no graph to run".to_owned(),
            ))),
        };
        outcome.map_err(|failure| match failure {
            Failure::Inner(error) => error,
            Failure::Own(error) => self.node_error(id, &shapes, error),
        })
    }
}

/// Runs the graphs of one node.
struct Rounds<'a> {
    scope: &'a Scope<'a>,
    outer: &'a BTreeMap<&'a str, Value>,
    n_outputs: usize,
}

fn given(inputs: Vec<Option<Value>>, from: usize) -> OpResult<Vec<Value>> {
    let rest = inputs.into_iter().enumerate().skip(from);
    rest.map(|(port, value)| match value {
        Some(value) => Ok(value),
        None => invalid(format!("input {port} is missing")),
    })
    .collect()
}

fn truth(value: &Value) -> OpResult<bool> {
    match value {
        Value::Bool(a) if a.data.len() == 1 => Ok(a.data.contains(&true)),
        other => invalid(format!("the condition is {}", other.describe())),
    }
}

impl Rounds<'_> {
    fn limits(&self) -> Context {
        Context {
            threads: self.scope.options.threads,
            max_elements: self.scope.options.max_elements,
            n_outputs: 1,
            dtype: None,
        }
    }

    fn run(&self, body: &Program, own: Vec<Value>) -> Result<Outcome, ExecError> {
        body.run(own, self.outer, self.scope.options)
    }

    fn choose(
        &self,
        [then_branch, else_branch]: [&Program; 2],
        inputs: Vec<Option<Value>>,
    ) -> Result<Outcome, Failure> {
        let holds = match given(inputs, 0)?.first() {
            Some(condition) => truth(condition)?,
            None => invalid("there is no condition")?,
        };
        let branch = if holds { then_branch } else { else_branch };
        let (outputs, peak) = self.run(branch, Vec::new())?;
        if outputs.len() != self.n_outputs {
            let n = outputs.len();
            invalid(format!(
                "the branch gives {n} values for {}",
                self.n_outputs
            ))?;
        }
        Ok((outputs, peak))
    }

    fn repeat(&self, body: &Program, mut inputs: Vec<Option<Value>>) -> Result<Outcome, Failure> {
        let head: Vec<Option<Value>> = inputs.drain(..inputs.len().min(2)).collect();
        let rounds = match head.first() {
            Some(Some(Value::Int(a))) => a.data.first().copied(),
            Some(Some(other)) => invalid(format!("{} rounds", other.describe()))?,
            Some(None) | None => None,
        };
        let mut goes_on = match head.get(1) {
            Some(Some(condition)) => truth(condition)?,
            Some(None) | None => true,
        };
        let mut states = given(inputs, 0)?;
        let n_states = states.len();
        let mut stacked = Stacked::new(self.n_outputs, n_states)?;
        let (mut peak, mut round) = (0, 0usize);
        while goes_on && rounds.is_none_or(|n| (round as i64) < n) {
            if round == MAX_ROUNDS {
                invalid(format!("it goes on after {MAX_ROUNDS} rounds"))?;
            }
            let mut own = vec![
                Value::Int(Array::new(vec![], vec![round as i64])),
                Value::Bool(Array::new(vec![], vec![goes_on])),
            ];
            own.append(&mut states);
            let (outputs, inner) = self.run(body, own)?;
            peak = peak.max(inner);
            let mut outputs = outputs.into_iter();
            goes_on = match outputs.next() {
                Some(condition) => truth(&condition)?,
                None => invalid("the body gives no condition")?,
            };
            states = outputs.by_ref().take(n_states).collect();
            stacked.push(outputs, &self.limits())?;
            round += 1;
        }
        states.truncate(self.n_outputs);
        let axes = vec![0; stacked.0.len()];
        let results = stacked.finish(body, n_states + 1, &axes, &self.limits())?;
        states.extend(results);
        Ok((states, peak))
    }

    fn scan(
        &self,
        op: &Scan,
        body: &Program,
        inputs: Vec<Option<Value>>,
    ) -> Result<Outcome, Failure> {
        let mut states = given(inputs, 0)?;
        let Some(n_states) = states.len().checked_sub(op.inputs.len()) else {
            return Ok(invalid(format!(
                "{} inputs, {} of them in slices",
                states.len(),
                op.inputs.len()
            ))?);
        };
        let slices = states.split_off(n_states);
        let mut steps = None;
        let mut axes = Vec::new();
        for (value, along) in slices.iter().zip(&op.inputs) {
            let shape = value.shape();
            let axis = axis_of(along.axis, shape.len())?;
            if steps.is_some_and(|n| n != shape[axis]) {
                invalid(format!("axis {axis} of {shape:?} has another extent"))?;
            }
            steps = Some(shape[axis]);
            axes.push(axis);
        }
        let mut stacked = Stacked::new(self.n_outputs, n_states)?;
        let mut peak = 0;
        let n = steps.unwrap_or(0);
        for step in 0..n {
            let mut own = std::mem::take(&mut states);
            for ((value, along), &axis) in slices.iter().zip(&op.inputs).zip(&axes) {
                own.push(slice(value, axis, place(*along, step, n)));
            }
            let (outputs, inner) = self.run(body, own)?;
            peak = peak.max(inner);
            let mut outputs = outputs.into_iter();
            states = outputs.by_ref().take(n_states).collect();
            stacked.push(outputs, &self.limits())?;
        }
        for (list, along) in stacked.0.iter_mut().zip(&op.outputs) {
            if along.reverse {
                list.reverse();
            }
        }
        let axes: Vec<i64> = op.outputs.iter().map(|along| along.axis).collect();
        let results = stacked.finish(body, n_states, &axes, &self.limits())?;
        states.extend(results);
        Ok((states, peak))
    }
}

fn place(along: ScanAxis, step: usize, n: usize) -> usize {
    if along.reverse { n - 1 - step } else { step }
}

/// Returns slice `at` without its axis.
fn slice(value: &Value, axis: usize, at: usize) -> Value {
    let mut shape = value.shape();
    shape.remove(axis);
    value.clone().select(axis, &[at]).reshape(&shape)
}

/// What each round gives, a list for each output that is put together at the end.
struct Stacked(Vec<Vec<Value>>);

impl Stacked {
    fn new(n_outputs: usize, n_states: usize) -> OpResult<Self> {
        match n_outputs.checked_sub(n_states) {
            Some(n) => Ok(Self(vec![Vec::new(); n])),
            None => unsupported(format!("{n_outputs} outputs for {n_states} states")),
        }
    }

    fn push(&mut self, outputs: impl Iterator<Item = Value>, limits: &Context) -> OpResult<()> {
        let outputs: Vec<Value> = outputs.collect();
        if outputs.len() < self.0.len() {
            return invalid(format!(
                "the body gives {} values to put together, not {}",
                outputs.len(),
                self.0.len()
            ));
        }
        for (list, value) in self.0.iter_mut().zip(outputs) {
            limits.check_size(&[list.len() + 1, value.len()])?;
            list.push(value);
        }
        Ok(())
    }

    /// Returns the values put together along a new axis each.
    fn finish(
        self,
        body: &Program,
        first_port: usize,
        axes: &[i64],
        limits: &Context,
    ) -> OpResult<Vec<Value>> {
        let lists = self.0.into_iter().zip(axes).enumerate();
        lists
            .map(|(i, (list, &axis))| {
                let Some(first) = list.first() else {
                    return nothing(body, first_port + i, axis);
                };
                let mut shape = first.shape();
                if list.iter().any(|v| v.shape() != shape) {
                    return invalid("a value has another shape in another round");
                }
                let axis = axis_of(axis, shape.len() + 1)?;
                shape.insert(axis, list.len());
                limits.check_size(&shape)?;
                shape[axis] = 1;
                let parts = list.into_iter().map(|v| v.reshape(&shape)).collect();
                Value::concat(parts, axis)
            })
            .collect()
    }
}

/// Returns the value of no rounds: as declared, with an axis of extent zero.
fn nothing(body: &Program, port: usize, axis: i64) -> OpResult<Value> {
    let graph = body.graph();
    let output = graph.outputs().get(port);
    let declared = output.and_then(|&id: &ValueId| graph.value(id).declared.as_ref());
    let Some(declared) = declared else {
        return unsupported("no round, and no type of what it would have given");
    };
    let extent = |d: &Dim| d.fixed().unwrap_or(0);
    let mut shape: Vec<usize> = declared.shape.iter().flatten().map(extent).collect();
    shape.insert(axis_of(axis, shape.len() + 1)?, 0);
    Ok(match declared.dtype {
        DType::Bool => Value::Bool(Array::new(shape, Vec::new())),
        t if t.is_float() => Value::Float(Float::full(0.0, &shape)),
        _ => Value::Int(Array::new(shape, Vec::new())),
    })
}
