//! Building a graph from parts, as a reader does.

use std::collections::BTreeMap;

use crate::check::check;
use crate::{Graph, GraphError, Header, Initializer, Node, Tensor, Value, ValueId, ValueType};

/// Collects values and nodes in any order; [`finish`](GraphBuilder::finish) checks and sorts them.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    header: Header,
    values: Vec<Value>,
    by_name: BTreeMap<String, ValueId>,
    nodes: Vec<Node>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    initializers: BTreeMap<ValueId, Initializer>,
}

impl GraphBuilder {
    /// Returns an empty builder.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            ..Self::default()
        }
    }

    /// Returns the value called `name`, made on first use.
    pub fn value(&mut self, name: &str) -> ValueId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = ValueId::new(self.values.len());
        self.values.push(Value {
            name: name.to_owned(),
            declared: None,
            source: None,
        });
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// Returns what is known of a value, to be filled in by the reader.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// Adds a graph input.
    pub fn input(&mut self, name: &str, declared: Option<ValueType>) -> ValueId {
        let id = self.value(name);
        if declared.is_some() {
            self.values[id.index()].declared = declared;
        }
        self.inputs.push(id);
        id
    }

    /// Adds a graph output.
    pub fn output(&mut self, name: &str) -> ValueId {
        let id = self.value(name);
        self.outputs.push(id);
        id
    }

    /// Adds an initializer.
    ///
    /// # Errors
    /// [`GraphError::DefinedTwice`] if the value already has one.
    pub fn initializer(
        &mut self,
        name: &str,
        initializer: Initializer,
    ) -> Result<ValueId, GraphError> {
        let id = self.value(name);
        if self.initializers.insert(id, initializer).is_some() {
            return Err(GraphError::DefinedTwice {
                value: name.to_owned(),
            });
        }
        Ok(id)
    }

    /// Adds an initializer that was made here, not read from a file.
    ///
    /// # Errors
    /// [`GraphError::DefinedTwice`] if the value already has one.
    pub fn tensor(&mut self, name: &str, tensor: Tensor) -> Result<ValueId, GraphError> {
        self.initializer(
            name,
            Initializer {
                tensor,
                source: None,
            },
        )
    }

    /// Adds a node, in any order.
    pub fn node(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// Adds a node by the names of its inputs and outputs; an empty name is a port left out.
    pub fn op(&mut self, name: &str, op: crate::Op, inputs: &[&str], outputs: &[&str]) {
        let mut port = |n: &&str| {
            if n.is_empty() {
                None
            } else {
                Some(self.value(n))
            }
        };
        let inputs = inputs.iter().map(&mut port).collect();
        let outputs = outputs.iter().map(&mut port).collect();
        self.nodes.push(Node {
            edited: false,
            ..Node::new(name, op, inputs, outputs)
        });
    }

    /// Returns the checked graph, nodes in an order in which they can run.
    ///
    /// # Errors
    /// [`GraphError`] for values defined twice or never, and for cycles.
    pub fn finish(self) -> Result<Graph, GraphError> {
        let n = self.values.len();
        check(Graph {
            header: self.header,
            values: self.values,
            nodes: self.nodes,
            inputs: self.inputs,
            outputs: self.outputs,
            initializers: self.initializers,
            producers: vec![None; n],
            consumers: vec![Vec::new(); n],
        })
    }
}
