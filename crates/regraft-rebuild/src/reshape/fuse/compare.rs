//! Whether two graphs are versions of one network.

use std::collections::BTreeMap;

use regraft_graph::{Dim, Graph, NodeId, Tensor, ValueId};

use crate::RebuildError;

/// Returns `other` under the identifiers and names of `first`: its graph with the other's weights.
///
/// Nodes are compared in order; names of nodes and values need not agree. `number` is that of the
/// other network for messages, counted from 1.
/// # Errors
/// [`RebuildError::GraphsDiffer`] with the first node where operation, attributes, wiring or the
/// shape of a weight differ.
pub fn matched(first: &Graph, other: &Graph, number: usize) -> Result<Graph, RebuildError> {
    let mut pairs = Pairs {
        first,
        other,
        number,
        place: "the inputs".to_owned(),
        by_first: BTreeMap::new(),
    };
    pairs.inputs()?;
    for index in 0..first.n_nodes().min(other.n_nodes()) {
        pairs.node(NodeId::new(index))?;
    }
    pairs.ends()?;
    let mut edit = first.edit();
    for (a, b) in &pairs.by_first {
        if let (Some(_), Some(tensor)) = (first.tensor(*a), other.tensor(*b)) {
            edit.set_initializer(*a, tensor.clone());
        }
    }
    Ok(edit.finish()?)
}

/// Values of one graph and what they are in the other.
struct Pairs<'a> {
    first: &'a Graph,
    other: &'a Graph,
    number: usize,
    // Where the comparison stands.
    place: String,
    by_first: BTreeMap<ValueId, ValueId>,
}

impl Pairs<'_> {
    fn differ<T>(&self, what: String) -> Result<T, RebuildError> {
        Err(RebuildError::GraphsDiffer {
            model: self.number,
            node: self.place.clone(),
            what,
        })
    }

    fn counts(&self, what: &str, a: usize, b: usize) -> Result<(), RebuildError> {
        if a == b {
            return Ok(());
        }
        self.differ(format!("{a} {what} in the first, {b} here"))
    }

    fn inputs(&mut self) -> Result<(), RebuildError> {
        let (a, b) = (self.first.required_inputs(), self.other.required_inputs());
        self.counts("inputs", a.len(), b.len())?;
        for (a, b) in a.into_iter().zip(b) {
            let shape = |graph: &Graph, v: ValueId| -> Option<Vec<Option<usize>>> {
                let shape = graph.value(v).declared.as_ref()?.shape.as_ref()?;
                Some(shape.iter().map(Dim::fixed).collect())
            };
            let (x, y) = (shape(self.first, a), shape(self.other, b));
            if x != y {
                let name = self.first.value(a).name.clone();
                return self.differ(format!(
                    "`{name}` is {} in the first, {} here",
                    in_words(x.as_deref()),
                    in_words(y.as_deref())
                ));
            }
            self.by_first.insert(a, b);
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId) -> Result<(), RebuildError> {
        let (first, other) = (self.first, self.other);
        let (a, b) = (first.node(id), other.node(id));
        self.place = format!("`{}`", first.node_label(id));
        if a.op.name() != b.op.name() {
            return self.differ(format!(
                "a {} in the first, a {} here",
                a.op.name(),
                b.op.name()
            ));
        }
        if a.op != b.op {
            return self.differ(format!("other attributes of {}", a.op.name()));
        }
        self.counts("inputs", a.inputs.len(), b.inputs.len())?;
        self.counts("outputs", a.outputs.len(), b.outputs.len())?;
        self.counts("captured values", a.captures.len(), b.captures.len())?;
        let ports = a.inputs.iter().zip(&b.inputs).enumerate();
        for (port, (x, y)) in ports {
            match (x, y) {
                (None, None) => {}
                (Some(x), Some(y)) => self.read(*x, *y, &format!("input {port}"))?,
                _ => return self.differ(format!("input {port} is left out in one of them")),
            }
        }
        for (x, y) in a.captures.iter().zip(&b.captures) {
            self.read(*x, *y, "a captured value")?;
        }
        let ports = a.outputs.iter().zip(&b.outputs).enumerate();
        for (port, (x, y)) in ports {
            match (x, y) {
                (None, None) => {}
                (Some(x), Some(y)) => {
                    self.by_first.insert(*x, *y);
                }
                _ => return self.differ(format!("output {port} is left out in one of them")),
            }
        }
        Ok(())
    }

    /// Compares what is read at one port.
    fn read(&mut self, a: ValueId, b: ValueId, port: &str) -> Result<(), RebuildError> {
        match self.by_first.get(&a) {
            Some(known) if *known == b => return Ok(()),
            Some(_) => return self.differ(format!("{port} comes from another node")),
            None => {}
        }
        let (Some(x), Some(y)) = (self.first.tensor(a), self.other.tensor(b)) else {
            return self.differ(format!("{port} is a constant in one of them only"));
        };
        let name = &self.first.value(a).name;
        if x.dtype() != y.dtype() || x.shape() != y.shape() {
            let what = format!(
                "`{name}` is {} {} in the first, {} {} here",
                x.dtype(),
                shape(x),
                y.dtype(),
                shape(y)
            );
            return self.differ(what);
        }
        if x.as_f32().is_none() && x != y {
            return self.differ(format!("`{name}` holds other numbers"));
        }
        self.by_first.insert(a, b);
        Ok(())
    }

    fn ends(&mut self) -> Result<(), RebuildError> {
        let (a, b) = (self.first.n_nodes(), self.other.n_nodes());
        if a != b {
            let (longer, what) = if a > b {
                (self.first, "is missing here")
            } else {
                (self.other, "is missing in the first")
            };
            self.place = format!("`{}`", longer.node_label(NodeId::new(a.min(b))));
            return self.differ(format!("{what}: {a} nodes in the first, {b} here"));
        }
        "the outputs".clone_into(&mut self.place);
        let (a, b) = (self.first.outputs(), self.other.outputs());
        self.counts("outputs", a.len(), b.len())?;
        for (x, y) in a.iter().zip(b) {
            if self.by_first.get(x) != Some(y) && self.first.tensor(*x).is_none() {
                let name = &self.first.value(*x).name;
                return self.differ(format!("`{name}` is another value"));
            }
        }
        Ok(())
    }
}

fn shape(tensor: &Tensor) -> String {
    if tensor.shape().is_empty() {
        return "scalar".to_owned();
    }
    let extents: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
    extents.join("x")
}

fn in_words(shape: Option<&[Option<usize>]>) -> String {
    let Some(shape) = shape else {
        return "without a shape".to_owned();
    };
    let extent = |n: &Option<usize>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let extents: Vec<String> = shape.iter().map(extent).collect();
    extents.join("x")
}
