//! Following channels from the weights that make them through the graph.

use std::collections::{BTreeSet, VecDeque};

use regraft_graph::infer::Facts;
use regraft_graph::{Graph, NodeId, ValueId};

use super::elements::Elements;
use super::{Attention, Consumer, Producer};
use crate::PruneError;
use crate::rules::{self, Link, Port, Site};

/// Axes looked at before a choice is taken to be good.
const MAX_LOOKED_AT: usize = 256;

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
    // Regroupings of which any of several axes could carry the channels.
    open: VecDeque<Open>,
    attention: Attention,
}

/// An axis at a node that waits for the choice of an axis on its other side.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: NodeId,
    port: Port,
    value: ValueId,
    axis: usize,
}

pub(crate) fn search(
    graph: &Graph,
    facts: &Facts,
    attention: Attention,
) -> Result<Found, PruneError> {
    let mut search = Search {
        graph,
        facts,
        elements: Elements::default(),
        queue: VecDeque::new(),
        open: VecDeque::new(),
        attention,
    };
    let never = |_: ValueId, _: usize| false;
    let mut producers = Vec::new();
    for (id, _) in graph.nodes() {
        let Some(seed) = rules::seed(&search.site(id, &never)) else {
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
    loop {
        while let Some((value, axis)) = search.queue.pop_front() {
            search.follow(value, axis)?;
        }
        // All that can be said without a choice is said: it may have made some choices.
        let Some(open) = search.open.pop_front() else {
            break;
        };
        search.decide(open)?;
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
        for (id, port) in places(graph, value) {
            if let Some(port) = port {
                self.ask(id, port, value, axis)?;
            } else if let Some(own) = self.elements.get(value, axis) {
                let (label, op) = (graph.node_label(id), graph.node(id).op.name());
                let reason = format!("`{label}` ({op}) reads it inside a subgraph");
                self.elements.freeze(own, reason);
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
        let site = self.site(id, &touched);
        if rules::choices(&site, port, axis).is_some() {
            self.open.push_back(Open {
                node: id,
                port,
                value,
                axis,
            });
            return Ok(());
        }
        self.ask_now(id, port, value, axis)
    }

    fn site<'s>(&'s self, id: NodeId, touched: &'s dyn Fn(ValueId, usize) -> bool) -> Site<'s> {
        Site {
            graph: self.graph,
            facts: self.facts,
            id,
            node: self.graph.node(id),
            touched,
        }
    }

    /// Takes the first axis from which nothing that must stay is reached: of `heads × width` the
    /// heads, of `3 × heads × width` too, since the three are picked apart by an index.
    fn decide(&mut self, open: Open) -> Result<(), PruneError> {
        let elements = &self.elements;
        let touched = |v: ValueId, a: usize| elements.get(v, a).is_some();
        let site = self.site(open.node, &touched);
        let chosen = rules::choices(&site, open.port, open.axis).and_then(|(port, axes)| {
            let value = site.value(port)?;
            let mut by_axis = axes.clone();
            if self.attention == Attention::Widths {
                // The innermost axis is the width.
                by_axis.sort_unstable_by_key(|a| std::cmp::Reverse(*a));
            }
            let free = by_axis.iter().find(|a| self.is_free(value, **a));
            Some((value, free.copied().or(axes.first().copied())?))
        });
        if let Some((value, axis)) = chosen {
            self.touch(value, axis)?;
        }
        self.ask_now(open.node, open.port, open.value, open.axis)
    }

    /// Returns true if none of the axes that correspond to this one has to stay, as far as
    /// [`MAX_LOOKED_AT`] axes show. Axes already reached are not looked at again.
    fn is_free(&self, value: ValueId, axis: usize) -> bool {
        let mut seen = BTreeSet::from([(value, axis)]);
        let mut work = VecDeque::from([(value, axis)]);
        while let Some((value, axis)) = work.pop_front() {
            let Some(next) = self.corresponding(value, axis, &seen) else {
                return false;
            };
            for place in next {
                if seen.len() >= MAX_LOOKED_AT {
                    return true;
                }
                let new = self.elements.get(place.0, place.1).is_none() && seen.insert(place);
                if new {
                    work.push_back(place);
                }
            }
        }
        true
    }

    /// The axes that a node links with this one; `None` if it has to stay.
    fn corresponding(
        &self,
        value: ValueId,
        axis: usize,
        seen: &BTreeSet<(ValueId, usize)>,
    ) -> Option<Vec<(ValueId, usize)>> {
        let graph = self.graph;
        self.facts.shape(value)?.get(axis)?.fixed()?;
        let is_input = graph.inputs().contains(&value) && graph.tensor(value).is_none();
        if is_input || graph.outputs().contains(&value) {
            return None;
        }
        let touched =
            |v: ValueId, a: usize| self.elements.get(v, a).is_some() || seen.contains(&(v, a));
        let mut found = Vec::new();
        for (id, port) in places(graph, value) {
            let site = self.site(id, &touched);
            for link in rules::links(&site, port?, axis).ok()? {
                let axes = [link.a, link.b];
                let of = |(port, axis)| site.value(port).map(|v| (v, axis));
                found.extend(axes.into_iter().filter_map(of));
            }
        }
        Some(found)
    }

    fn ask_now(
        &mut self,
        id: NodeId,
        port: Port,
        value: ValueId,
        axis: usize,
    ) -> Result<(), PruneError> {
        let elements = &self.elements;
        let touched = |v: ValueId, a: usize| elements.get(v, a).is_some();
        let site = self.site(id, &touched);
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
        let untouched = |_: ValueId, _: usize| false;
        let site = self.site(id, &untouched);
        let (Some(value_a), Some(value_b)) = (site.value(link.a.0), site.value(link.b.0)) else {
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
        for (id, _) in self.graph.nodes() {
            for c in rules::contractions(&self.site(id, &never)) {
                if self.elements.get(c.weight, c.weight_axis).is_some() {
                    list.push(Consumer {
                        node: id,
                        weight: c.weight,
                        weight_axis: c.weight_axis,
                        input: c.input,
                        input_axis: c.input_axis,
                    });
                }
            }
        }
        list
    }
}

/// Where nodes hold `value`: at the one that makes it, then at those that read it; at no port where
/// a subgraph reads it.
fn places(graph: &Graph, value: ValueId) -> Vec<(NodeId, Option<Port>)> {
    let ports = |list: &[Option<ValueId>]| -> Vec<usize> {
        let held = list.iter().enumerate().filter(|(_, v)| **v == Some(value));
        held.map(|(port, _)| port).collect()
    };
    let mut found = Vec::new();
    if let Some(id) = graph.producer(value) {
        let outputs = ports(&graph.node(id).outputs);
        found.extend(outputs.into_iter().map(|p| (id, Some(Port::Out(p)))));
    }
    for &id in graph.consumers(value) {
        let node = graph.node(id);
        if node.captures.contains(&value) {
            found.push((id, None));
        }
        let inputs = ports(&node.inputs);
        found.extend(inputs.into_iter().map(|p| (id, Some(Port::In(p)))));
    }
    found
}
