//! The graph itself: nodes over values, read-only outside of builder and edit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{DType, Dim, NodeId, Op, Tensor, ValueId};

/// Bytes that only the room which made them understands, kept so that nothing is lost on writing.
///
/// For ONNX: the encoded protobuf message with its bulk data and everything the graph holds itself
/// removed. An edit never changes a source; it changes the typed fields, which win on writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(pub Arc<[u8]>);

/// One operator set a graph relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSet {
    /// The domain, empty for the standard ONNX operators.
    pub domain: String,
    /// The version.
    pub version: i64,
}

/// What describes the model as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// The graph's name.
    pub name: String,
    /// The version of the file format (ONNX: IR version).
    pub ir_version: i64,
    /// The operator sets, in file order.
    pub opsets: Vec<OperatorSet>,
    /// Name and value of each metadata entry of the model, in file order.
    pub metadata: Vec<(String, String)>,
    /// What the format room keeps of the model (everything around the graph).
    pub model_source: Option<Source>,
    /// What the format room keeps of the graph (everything besides nodes, values, initializers).
    pub graph_source: Option<Source>,
}

impl Header {
    /// Returns the version of the standard ONNX operators, if the model imports them.
    pub fn opset(&self) -> Option<i64> {
        self.opsets
            .iter()
            .find(|o| o.domain.is_empty() || o.domain == "ai.onnx")
            .map(|o| o.version)
    }
}

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueType {
    /// The element type.
    pub dtype: DType,
    /// The shape, `None` if not even the number of axes is known.
    pub shape: Option<Vec<Dim>>,
}

/// An edge of the graph: what a node writes or the caller gives, and any number of nodes read.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The name, unique in the graph.
    pub name: String,
    /// The type the file declares, if it does.
    pub declared: Option<ValueType>,
    /// What the format room keeps of the declaration.
    pub source: Option<Source>,
}

/// A constant that belongs to the model: a weight, or a shape, axes, pads.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// Type, shape, elements.
    pub tensor: Tensor,
    /// What the format room keeps of it, without its elements.
    pub source: Option<Source>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name in the file, possibly empty or not unique. Messages use [`Graph::node_label`].
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads, by port; `None` is an optional input left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What it writes, by port; `None` is an optional output left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Outer values that the node's subgraphs read. They are inputs in all but port.
    pub captures: Vec<ValueId>,
    /// What the format room keeps of the node.
    pub source: Option<Source>,
    /// True once `op` no longer is what `source` says, so that writing must overlay it.
    pub edited: bool,
}

impl Node {
    /// Returns a node that no file has, without subgraphs.
    pub fn new(
        name: &str,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            op,
            inputs,
            outputs,
            captures: Vec::new(),
            source: None,
            edited: true,
        }
    }

    /// Returns the value at input `port`, `None` if it was left out.
    pub fn input(&self, port: usize) -> Option<ValueId> {
        self.inputs.get(port).copied().flatten()
    }

    /// Returns the value at output `port`, `None` if it was left out.
    pub fn output(&self, port: usize) -> Option<ValueId> {
        self.outputs.get(port).copied().flatten()
    }

    /// Returns every value the node reads, captures included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs
            .iter()
            .copied()
            .flatten()
            .chain(self.captures.iter().copied())
    }
}

/// A network: nodes in an order in which they can run, over values.
///
/// It changes only through [`GraphEdit`](crate::GraphEdit), whose `finish` checks the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub(crate) header: Header,
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) initializers: BTreeMap<ValueId, Initializer>,
    // Derived by the check; one entry per value.
    pub(crate) producers: Vec<Option<NodeId>>,
    pub(crate) consumers: Vec<Vec<NodeId>>,
}

impl Graph {
    /// Returns what describes the model as a whole.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns every value with its identifier.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values
            .iter()
            .enumerate()
            .map(|(i, v)| (ValueId::new(i), v))
    }

    /// Returns the number of value slots; identifiers are below it.
    pub fn n_values(&self) -> usize {
        self.values.len()
    }

    /// Returns one value. The identifier must come from this graph.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Returns the value called `name`.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.values
            .iter()
            .position(|v| v.name == name)
            .map(ValueId::new)
    }

    /// Returns every node with its identifier, each after all nodes whose outputs it reads.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (NodeId::new(i), n))
    }

    /// Returns the number of nodes.
    pub fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Returns one node. The identifier must come from this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Returns the node called `name`, the first if several are.
    pub fn find_node(&self, name: &str) -> Option<NodeId> {
        self.nodes
            .iter()
            .position(|n| n.name == name)
            .map(NodeId::new)
    }

    /// Returns a name for messages: the node's own, else its first output's.
    pub fn node_label(&self, id: NodeId) -> String {
        let node = self.node(id);
        if !node.name.is_empty() {
            return node.name.clone();
        }
        match node.outputs.iter().flatten().next() {
            Some(out) => self.value(*out).name.clone(),
            None => format!("#{}", id.index()),
        }
    }

    /// Returns the graph inputs in file order, those with an initializer (a default) included.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Returns the inputs that the caller must give: those without an initializer.
    pub fn required_inputs(&self) -> Vec<ValueId> {
        self.inputs
            .iter()
            .copied()
            .filter(|v| !self.initializers.contains_key(v))
            .collect()
    }

    /// Returns the graph outputs in file order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Returns the initializers by value.
    pub fn initializers(&self) -> &BTreeMap<ValueId, Initializer> {
        &self.initializers
    }

    /// Returns the tensor of an initializer.
    pub fn tensor(&self, id: ValueId) -> Option<&Tensor> {
        self.initializers.get(&id).map(|i| &i.tensor)
    }

    /// Returns the node that writes a value; `None` for inputs and initializers.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        self.producers[id.index()]
    }

    /// Returns true if a node reads a value or it is an output.
    pub fn is_read(&self, value: ValueId) -> bool {
        !self.consumers(value).is_empty() || self.outputs().contains(&value)
    }

    /// Returns the nodes that read a value (also through a subgraph), each once, in node order.
    pub fn consumers(&self, id: ValueId) -> &[NodeId] {
        &self.consumers[id.index()]
    }

    /// Starts a change of this graph, which stays as it is.
    pub fn edit(&self) -> crate::GraphEdit {
        crate::GraphEdit::new(self.clone())
    }
}
