//! Changing a graph: collect changes on a copy, then check the result.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::check;
use crate::{Graph, GraphError, Initializer, Node, NodeId, Op, Tensor, Value, ValueId};

/// A change under way. The graph it started from is untouched; [`finish`](GraphEdit::finish)
/// returns the new one.
#[derive(Clone, Debug)]
pub struct GraphEdit {
    graph: Graph,
    removed: BTreeSet<NodeId>,
    // Names of all values with the highest number tried after each, filled when the first value is
    // added.
    names: BTreeMap<String, usize>,
}

impl GraphEdit {
    pub(crate) fn new(graph: Graph) -> Self {
        Self {
            graph,
            removed: BTreeSet::new(),
            names: BTreeMap::new(),
        }
    }

    /// Returns the graph as changed so far; its tables of producers and consumers are the old ones.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Gives each of two values the other's name.
    pub fn swap_names(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (a.index(), b.index());
        let name = std::mem::take(&mut self.graph.values[a].name);
        let other = std::mem::replace(&mut self.graph.values[b].name, name);
        self.graph.values[a].name = other;
    }

    /// Replaces the tensor of an initializer, or gives a value its first one.
    pub fn set_initializer(&mut self, id: ValueId, tensor: Tensor) {
        let source = self
            .graph
            .initializers
            .get(&id)
            .and_then(|i| i.source.clone());
        self.graph
            .initializers
            .insert(id, Initializer { tensor, source });
        self.forget_declared(id);
    }

    /// Returns a new value with an initializer; `hint` becomes its name, with a number if taken.
    pub fn add_initializer(&mut self, hint: &str, tensor: Tensor) -> ValueId {
        let id = self.add_value(hint);
        self.graph.initializers.insert(
            id,
            Initializer {
                tensor,
                source: None,
            },
        );
        id
    }

    /// Returns a new value that nothing defines yet; `hint` becomes its name, with a number if taken.
    pub fn add_value(&mut self, hint: &str) -> ValueId {
        if self.names.is_empty() {
            let values = self.graph.values.iter();
            self.names = values.map(|v| (v.name.clone(), 1)).collect();
        }
        let mut name = hint.to_owned();
        let mut n = self.names.get(hint).copied().unwrap_or(1);
        while self.names.contains_key(&name) {
            n += 1;
            name = format!("{hint}_{n}");
        }
        self.names.insert(hint.to_owned(), n);
        self.names.entry(name.clone()).or_insert(1);
        let id = ValueId::new(self.graph.values.len());
        self.graph.values.push(Value {
            name,
            declared: None,
            source: None,
        });
        self.graph.producers.push(None);
        self.graph.consumers.push(Vec::new());
        id
    }

    /// Replaces what a node computes.
    pub fn set_op(&mut self, id: NodeId, op: Op) {
        let node = &mut self.graph.nodes[id.index()];
        if node.op != op {
            node.op = op;
            node.edited = true;
        }
    }

    /// Connects input `port` of a node to another value, or leaves it out.
    pub fn set_input(&mut self, id: NodeId, port: usize, value: Option<ValueId>) {
        let inputs = &mut self.graph.nodes[id.index()].inputs;
        if inputs.len() <= port {
            inputs.resize(port + 1, None);
        }
        inputs[port] = value;
    }

    /// Makes output `port` of a node write another value, or nothing.
    pub fn set_output(&mut self, id: NodeId, port: usize, value: Option<ValueId>) {
        let outputs = &mut self.graph.nodes[id.index()].outputs;
        if outputs.len() <= port {
            outputs.resize(port + 1, None);
        }
        outputs[port] = value;
    }

    /// Adds a node. It may read values of any other node; the order is found at the end.
    pub fn add_node(&mut self, node: Node) -> NodeId {
        self.graph.nodes.push(node);
        NodeId::new(self.graph.nodes.len() - 1)
    }

    /// Adds a node without a name that computes `outputs` from `inputs`.
    pub fn add_op(
        &mut self,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) -> NodeId {
        self.add_node(Node::new("", op, inputs, outputs))
    }

    /// Names a node; a name that another node has gets a number behind it.
    pub fn set_node_name(&mut self, id: NodeId, hint: &str) {
        let taken = |name: &str| {
            let mut others = self.graph.nodes.iter().enumerate();
            others.any(|(i, n)| i != id.index() && n.name == name)
        };
        let mut name = hint.to_owned();
        let mut n = 1;
        while taken(&name) {
            n += 1;
            name = format!("{hint}_{n}");
        }
        self.graph.nodes[id.index()].name = name;
    }

    /// Removes a node; its outputs must be defined by something else or read by nothing at the end.
    pub fn remove_node(&mut self, id: NodeId) {
        self.removed.insert(id);
    }

    /// Makes everything that reads `old` (ports, captures are not possible, outputs stay) read `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        self.replace_all_uses(&BTreeMap::from([(old, new)]));
    }

    /// Makes every port that reads a key of `new` read its entry instead, in one pass.
    pub fn replace_all_uses(&mut self, new: &BTreeMap<ValueId, ValueId>) {
        for node in &mut self.graph.nodes {
            for port in node.inputs.iter_mut().flatten() {
                if let Some(v) = new.get(port) {
                    *port = *v;
                }
            }
        }
    }

    /// Sets the declared type of a value (an input or output whose shape changed).
    pub fn set_declared(&mut self, id: ValueId, declared: Option<crate::ValueType>) {
        let value = &mut self.graph.values[id.index()];
        value.declared = declared;
        value.source = None;
    }

    /// Adds or replaces an entry of the model's metadata.
    pub fn set_metadata(&mut self, key: &str, text: &str) {
        let metadata = &mut self.graph.header.metadata;
        match metadata.iter_mut().find(|(k, _)| k == key) {
            Some((_, v)) => text.clone_into(v),
            None => metadata.push((key.to_owned(), text.to_owned())),
        }
    }

    /// Removes an entry of the model's metadata, if it is there.
    pub fn remove_metadata(&mut self, key: &str) {
        self.graph.header.metadata.retain(|(k, _)| k != key);
    }

    /// Forgets the declared type of a value that is neither an input nor an output.
    pub fn forget_declared(&mut self, id: ValueId) {
        if !self.graph.outputs.contains(&id) && !self.graph.inputs.contains(&id) {
            self.set_declared(id, None);
        }
    }

    /// Returns the changed graph, checked, with nodes and initializers that nothing needs removed.
    ///
    /// An input whose default (an initializer) lost its last reader through the edit goes too: that
    /// is how files of IR version 3 declare their weights.
    ///
    /// # Errors
    /// [`GraphError`] if the result breaks a rule of graphs.
    pub fn finish(self) -> Result<Graph, GraphError> {
        let Self {
            mut graph, removed, ..
        } = self;
        if !removed.is_empty() {
            let nodes = std::mem::take(&mut graph.nodes);
            graph.nodes = nodes
                .into_iter()
                .enumerate()
                .filter(|(i, _)| !removed.contains(&NodeId::new(*i)))
                .map(|(_, n)| n)
                .collect();
        }
        sweep(&mut graph);
        check(graph)
    }
}

/// Removes nodes none of whose outputs are read, then initializers that nothing reads.
///
/// `graph.consumers` still is the table from before the edit.
fn sweep(graph: &mut Graph) {
    let mut producer = vec![None; graph.values.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for v in node.outputs.iter().flatten() {
            producer[v.index()] = Some(i);
        }
    }
    let mut live = vec![false; graph.nodes.len()];
    let mut used = vec![false; graph.values.len()];
    let mut work: Vec<ValueId> = graph.outputs.clone();
    while let Some(v) = work.pop() {
        if std::mem::replace(&mut used[v.index()], true) {
            continue;
        }
        if let Some(p) = producer[v.index()]
            && !std::mem::replace(&mut live[p], true)
        {
            work.extend(graph.nodes[p].reads());
        }
    }
    let mut keep = live.iter();
    graph
        .nodes
        .retain(|_| keep.next().copied().unwrap_or(false));
    let consumers = &graph.consumers;
    let lost = |v: ValueId| !used[v.index()] && !consumers[v.index()].is_empty();
    let initializers = &graph.initializers;
    graph
        .inputs
        .retain(|v| !(initializers.contains_key(v) && lost(*v)));
    for v in &graph.inputs {
        used[v.index()] = true;
    }
    graph.initializers.retain(|v, _| used[v.index()]);
}

#[cfg(test)]
mod tests;
