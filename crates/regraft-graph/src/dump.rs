//! A graph as text, for tests and for people.

use std::fmt::Write;

use crate::{Graph, ValueId};

impl Graph {
    /// Returns one line an input, initializer and node: names, ops, shapes of constants.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        let name = |v: &Option<ValueId>| v.map_or("-".to_owned(), |v| self.value(v).name.clone());
        let list = |vs: &[Option<ValueId>]| vs.iter().map(&name).collect::<Vec<_>>().join(", ");
        for v in &self.inputs {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "input {}", self.value(*v).name);
        }
        for (v, i) in &self.initializers {
            let _ = writeln!(
                out,
                "const {} {} {:?}",
                self.value(*v).name,
                i.tensor.dtype(),
                i.tensor.shape()
            );
        }
        for node in &self.nodes {
            let _ = writeln!(
                out,
                "{} = {}({})",
                list(&node.outputs),
                node.op.name(),
                list(&node.inputs)
            );
        }
        for v in &self.outputs {
            let _ = writeln!(out, "output {}", self.value(*v).name);
        }
        out
    }
}
