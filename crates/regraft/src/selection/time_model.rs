//! The time of the network as a function of its widths and blocks, from single layers' times.
//!
//! Linear layers are measured, each at the widths it is asked for. What the dense network takes
//! above the sum of its layers belongs to the other nodes, by the elements they write; where the
//! layers alone take more than the network does, their times are scaled to fit.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::{DType, Dim, Graph, NodeId, Op, ValueId, ValueType};
use regraft_prune::Groups;
use regraft_prune::blocks::RemovableBlock;

use crate::Error;
use crate::latency::{LayerClock, LayerSpec};

/// Measured layers: what and how many milliseconds.
pub(crate) type TimeTable = BTreeMap<String, f64>;

/// An extent that may depend on the width of a group.
#[derive(Clone, Debug)]
struct Extent {
    dense: usize,
    by: Option<(usize, Vec<usize>)>,
}

impl Extent {
    fn at(&self, widths: &[usize]) -> usize {
        self.by
            .as_ref()
            .and_then(|(group, table)| table.get(*widths.get(*group)?).copied())
            .unwrap_or(self.dense)
    }
}

type Shape = Vec<Extent>;

/// A node, its shapes as functions of the widths, and what is known of its time.
struct Timed {
    node: NodeId,
    kind: Kind,
    /// The groups its extents depend on.
    groups: Vec<usize>,
    known: RefCell<BTreeMap<Vec<usize>, f64>>,
}

enum Kind {
    Layer {
        op: Op,
        input: Shape,
        weights: Vec<Option<Shape>>,
    },
    /// Elements written.
    Other(Shape),
}

/// The time of the network at any widths, with any blocks gone.
pub(crate) struct TimeModel<'a> {
    clock: &'a LayerClock,
    nodes: Vec<Timed>,
    /// For each block the nodes that go with it.
    blocks: Vec<BTreeSet<NodeId>>,
    n_groups: usize,
    /// Factor of the layers' times, and milliseconds of one element of the other nodes.
    factor: f64,
    element_ms: f64,
    pub(crate) table: RefCell<TimeTable>,
    failed: RefCell<Option<Error>>,
}

/// What a time model is made of.
pub(crate) struct TimeParts<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) groups: &'a Groups,
    /// The order in which the units of each group go.
    pub(crate) removal: &'a [Vec<usize>],
    pub(crate) blocks: &'a [RemovableBlock],
    /// The input and the extents of one batch.
    pub(crate) input: (ValueId, &'a [usize]),
}

impl<'a> TimeModel<'a> {
    /// Returns the model whose dense time is `dense_ms`.
    pub(crate) fn new(
        parts: &TimeParts<'_>,
        clock: &'a LayerClock,
        dense_ms: f64,
    ) -> Result<Self, Error> {
        let facts = at_batch(parts.graph, parts.input)?;
        let nodes = parts
            .graph
            .nodes()
            .filter_map(|(id, _)| timed(parts, &facts, id))
            .collect();
        let blocks = parts
            .blocks
            .iter()
            .map(|b| b.nodes.iter().copied().collect())
            .collect();
        let mut model = Self {
            clock,
            nodes,
            blocks,
            n_groups: parts.groups.groups.len(),
            factor: 1.0,
            element_ms: 0.0,
            table: RefCell::default(),
            failed: RefCell::default(),
        };
        model.calibrate(parts.groups, dense_ms)?;
        Ok(model)
    }

    fn calibrate(&mut self, groups: &Groups, dense_ms: f64) -> Result<(), Error> {
        let widths: Vec<usize> = groups.groups.iter().map(|g| g.units.len()).collect();
        let (layers, elements) = self.sums(&widths, &BTreeSet::new());
        self.check()?;
        if layers > dense_ms {
            self.factor = dense_ms / layers;
        } else if elements > 0.0 {
            self.element_ms = (dense_ms - layers) / elements;
        }
        Ok(())
    }

    /// Returns the first error of a measurement, which [`Self::ms`] could not report.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Returns the milliseconds at widths of all groups, followed by 1 or 0 for each block that
    /// stays or goes.
    pub(crate) fn ms(&self, widths: &[usize]) -> f64 {
        let (widths, blocks) = widths.split_at(self.n_groups.min(widths.len()));
        let gone = blocks.iter().zip(&self.blocks).filter(|(w, _)| **w == 0);
        let gone: BTreeSet<NodeId> = gone.flat_map(|(_, nodes)| nodes).copied().collect();
        let (layers, elements) = self.sums(widths, &gone);
        layers * self.factor + elements * self.element_ms
    }

    /// Layers' milliseconds and other nodes' elements.
    fn sums(&self, widths: &[usize], gone: &BTreeSet<NodeId>) -> (f64, f64) {
        let (mut layers, mut elements) = (0.0, 0.0);
        for node in self.nodes.iter().filter(|n| !gone.contains(&n.node)) {
            let key = node.groups.iter().filter_map(|g| widths.get(*g).copied());
            let key: Vec<usize> = key.collect();
            let known = node.known.borrow().get(&key).copied();
            let found = known.unwrap_or_else(|| {
                let found = self.measure(&node.kind, widths);
                node.known.borrow_mut().insert(key, found);
                found
            });
            match node.kind {
                Kind::Layer { .. } => layers += found,
                Kind::Other(_) => elements += found,
            }
        }
        (layers, elements)
    }

    fn measure(&self, kind: &Kind, widths: &[usize]) -> f64 {
        let at = |shape: &Shape| shape.iter().map(|e| e.at(widths)).collect::<Vec<usize>>();
        match kind {
            Kind::Other(shape) => shape.iter().map(|e| e.at(widths) as f64).product(),
            Kind::Layer { op, input, weights } => {
                let spec = LayerSpec {
                    op: regrouped(op, input, widths),
                    input: at(input),
                    weights: weights.iter().map(|w| w.as_ref().map(at)).collect(),
                };
                let key = spec.key();
                if let Some(ms) = self.table.borrow().get(&key) {
                    return *ms;
                }
                match self.clock.time_ms(&spec) {
                    Ok(ms) => {
                        self.table.borrow_mut().insert(key, ms);
                        ms
                    }
                    Err(error) => {
                        self.failed.borrow_mut().get_or_insert(error);
                        0.0
                    }
                }
            }
        }
    }
}

/// The op with its number of groups as the widths leave it.
fn regrouped(op: &Op, input: &Shape, widths: &[usize]) -> Op {
    let mut op = op.clone();
    if let (Op::Conv(conv) | Op::ConvTranspose(conv), Some(channels)) = (&mut op, input.get(1)) {
        let a_group = (channels.dense / conv.group.max(1)).max(1);
        if conv.group > 1 {
            conv.group = (channels.at(widths) / a_group).max(1);
        }
    }
    op
}

/// Returns the shapes of the graph's values at a batch.
fn at_batch(graph: &Graph, (input, shape): (ValueId, &[usize])) -> Result<Facts, Error> {
    let mut edit = graph.edit();
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(shape.iter().map(|n| Dim::Fixed(*n)).collect()),
    };
    edit.set_declared(input, Some(declared));
    // What the file declares of other values may hold the batch's symbol.
    for (value, _) in graph.values() {
        edit.forget_declared(value);
    }
    Ok(infer(&edit.finish()?, &InferOptions::default())?)
}

fn timed(parts: &TimeParts<'_>, facts: &Facts, id: NodeId) -> Option<Timed> {
    let graph = parts.graph;
    let node = graph.node(id);
    let mut groups = BTreeSet::new();
    let mut shape_of = |value: ValueId| -> Option<Shape> {
        let shape = facts.fixed_shape(value)?;
        let extent = |(axis, dense): (usize, usize)| {
            let by = parts.groups.extents(value, axis, parts.removal);
            groups.extend(by.iter().map(|(g, _)| *g));
            Extent { dense, by }
        };
        Some(shape.into_iter().enumerate().map(extent).collect())
    };
    let output = node.output(0)?;
    if facts.constant(output).is_some() {
        return None;
    }
    let linear = matches!(
        node.op,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
    );
    let input = node.input(0).filter(|x| graph.tensor(*x).is_none());
    let weights = node.inputs.iter().skip(1);
    let constant = |v: &Option<ValueId>| v.is_none_or(|v| graph.tensor(v).is_some());
    let kind = match input {
        Some(x) if linear && weights.clone().all(constant) => Kind::Layer {
            op: node.op.clone(),
            input: shape_of(x)?,
            weights: weights
                .map(|w| w.map_or(Some(None), |w| shape_of(w).map(Some)))
                .collect::<Option<_>>()?,
        },
        _ => Kind::Other(shape_of(output)?),
    };
    Some(Timed {
        node: id,
        kind,
        groups: groups.into_iter().collect(),
        known: RefCell::default(),
    })
}
