//! Following channels from the weights that make them through the graph.

use std::collections::VecDeque;

use regraft_graph::infer::Facts;
use regraft_graph::{Graph, NodeId, ValueId};

use super::elements::Elements;
use super::{Consumer, Producer};
use crate::PruneError;
use crate::rules::{self, Link, Port, Site};

/// Elements with all joins made, and the nodes that make or sum over channels.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) elements: Elements,
    pub(crate) producers: Vec<Producer>,
    pub(crate) consumers: Vec<Consumer>,
}

struct Search<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    elements: Elements,
    queue: VecDeque<(ValueId, usize)>,
}

pub(crate) fn search(graph: &Graph, facts: &Facts) -> Result<Found, PruneError> {
    let mut search = Search {
        graph,
        facts,
        elements: Elements::default(),
        queue: VecDeque::new(),
    };
    let never = |_: ValueId, _: usize| false;
    let mut producers = Vec::new();
    for (id, node) in graph.nodes() {
        let site = Site {
            graph,
            facts,
            id,
            node,
            touched: &never,
        };
        let Some(seed) = rules::seed(&site) else {
            continue;
        };
        if search.touch(seed.output, seed.output_axis)?.is_some() {
            producers.push(Producer {
                node: id,
                weight: seed.weight,
                weight_axis: seed.weight_axis,
                output: seed.output,
                output_axis: seed.output_axis,
            });
        }
    }
    while let Some((value, axis)) = search.queue.pop_front() {
        search.follow(value, axis)?;
    }
    let consumers = search.consumers();
    Ok(Found {
        elements: search.elements,
        producers,
        consumers,
    })
}

impl Search<'_> {
    /// Returns the axis, made on first use; `None` if its extent is not a number.
    fn touch(&mut self, value: ValueId, axis: usize) -> Result<Option<usize>, PruneError> {
        if let Some(id) = self.elements.get(value, axis) {
            return Ok(Some(id));
        }
        let extent = self
            .facts
            .shape(value)
            .and_then(|shape| shape.get(axis)?.fixed());
        let Some(extent) = extent else {
            return Ok(None);
        };
        let id = self.elements.add(value, axis, extent)?;
        self.queue.push_back((value, axis));
        let name = &self.graph.value(value).name;
        let is_initializer = self.graph.tensor(value).is_some();
        if self.graph.outputs().contains(&value) {
            self.elements
                .freeze(id, format!("`{name}` is an output of the network"));
        }
        if self.graph.inputs().contains(&value) && !is_initializer {
            self.elements
                .freeze(id, format!("`{name}` is an input of the network"));
        }
        Ok(Some(id))
    }

    fn follow(&mut self, value: ValueId, axis: usize) -> Result<(), PruneError> {
        let graph = self.graph;
        if let Some(id) = graph.producer(value) {
            for port in ports(&graph.node(id).outputs, value) {
                self.ask(id, Port::Out(port), value, axis)?;
            }
        }
        for &id in graph.consumers(value) {
            let node = graph.node(id);
            if node.captures.contains(&value)
                && let Some(own) = self.elements.get(value, axis)
            {
                let label = graph.node_label(id);
                let reason = format!("`{label}` ({}) reads it inside a subgraph", node.op.name());
                self.elements.freeze(own, reason);
            }
            for port in ports(&node.inputs, value) {
                self.ask(id, Port::In(port), value, axis)?;
            }
        }
        Ok(())
    }

    fn ask(
        &mut self,
        id: NodeId,
        port: Port,
        value: ValueId,
        axis: usize,
    ) -> Result<(), PruneError> {
        let elements = &self.elements;
        let touched = |v: ValueId, a: usize| elements.get(v, a).is_some();
        let site = Site {
            graph: self.graph,
            facts: self.facts,
            id,
            node: self.graph.node(id),
            touched: &touched,
        };
        match rules::links(&site, port, axis) {
            Ok(links) => {
                for link in &links {
                    self.link(id, link)?;
                }
            }
            Err(reason) => {
                if let Some(own) = self.elements.get(value, axis) {
                    self.elements.freeze(own, reason);
                }
            }
        }
        Ok(())
    }

    fn link(&mut self, id: NodeId, link: &Link) -> Result<(), PruneError> {
        let node = self.graph.node(id);
        let value = |port: Port| match port {
            Port::In(p) => node.input(p),
            Port::Out(p) => node.output(p),
        };
        let (Some(value_a), Some(value_b)) = (value(link.a.0), value(link.b.0)) else {
            return Ok(());
        };
        let a = self.touch(value_a, link.a.1)?;
        let b = self.touch(value_b, link.b.1)?;
        let label = || {
            let op = self.graph.node(id).op.name();
            format!("`{}` ({op})", self.graph.node_label(id))
        };
        let (Some(a), Some(b)) = (a, b) else {
            let reason = format!("{} has extents that are not known", label());
            for axis in [a, b].into_iter().flatten() {
                self.elements.freeze(axis, reason.clone());
            }
            return Ok(());
        };
        let (axis_a, axis_b) = (self.elements.axes[a], self.elements.axes[b]);
        let elements = &mut self.elements;
        let fits = link.map.for_each(axis_a.len, axis_b.len, |i, j| {
            elements.join(axis_a.base + i as u32, axis_b.base + j as u32);
        });
        if !fits {
            let reason = format!(
                "{} couples {} channels with {}",
                label(),
                axis_a.len,
                axis_b.len
            );
            self.elements.freeze(a, reason.clone());
            self.elements.freeze(b, reason);
        }
        Ok(())
    }

    fn consumers(&self) -> Vec<Consumer> {
        let never = |_: ValueId, _: usize| false;
        let mut list = Vec::new();
        for (id, node) in self.graph.nodes() {
            let site = Site {
                graph: self.graph,
                facts: self.facts,
                id,
                node,
                touched: &never,
            };
            if let Some(c) = rules::contraction(&site)
                && self.elements.get(c.weight, c.weight_axis).is_some()
            {
                list.push(Consumer {
                    node: id,
                    weight: c.weight,
                    weight_axis: c.weight_axis,
                    input: c.input,
                    input_axis: c.input_axis,
                });
            }
        }
        list
    }
}

/// The ports that hold `value`.
fn ports(list: &[Option<ValueId>], value: ValueId) -> impl Iterator<Item = usize> + use<'_> {
    list.iter()
        .enumerate()
        .filter(move |(_, v)| **v == Some(value))
        .map(|(port, _)| port)
}
