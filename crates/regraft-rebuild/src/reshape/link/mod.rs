//! Residual links: a linear shortcut past a pruned block that gives back what the block lost.
//!
//! y + P·x in the place of y, where x is what the layer before reads. P is solved by least squares
//! on the block's residual error, the dense network's y minus the network's own, on calibration
//! samples; where the shapes agree the identity, which costs no product, is tried as well. A link
//! stays only if the error of y and that of the network's output both fall on samples held out.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regraft_exec::HostTensor;
use regraft_graph::cost::{node_macs, node_params};
use regraft_graph::op::{BinaryOp, Conv, Gemm};
use regraft_graph::{DType, Dim, Graph, Node, NodeId, Op, Tensor, ValueId};

use super::fit::{Goal, chunks, fit_layer, held_out_error, made};
use super::{Ceiling, Change, Edited, FitConfig, Network, Selection};
use crate::rebuild::{KeptAxes, Pair, difference, keep_axes};
use crate::squared_error::SquaredError;
use crate::stream::Stream;
use crate::{Activations, Layer, LayerKind, Monitor, RebuildError};

/// Layers that a link skips, where nothing else is asked for.
pub const DEFAULT_PAST: usize = 2;

/// How to link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Past which layers: those in front of whose outputs a link ends.
    pub selection: Selection,
    /// Layers that a link may skip at most, from 2: of all its starts the best is taken.
    pub past: usize,
    /// What the network may cost afterwards.
    pub ceiling: Option<Ceiling>,
    /// How projections are fitted.
    pub fit: FitConfig,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            past: DEFAULT_PAST,
            ceiling: None,
            fit: FitConfig::default(),
        }
    }
}

/// Returns the pruned network with shortcuts where they lower the held-out error, in graph order;
/// each [`Change::error`] is the error of the network's first output with the link.
///
/// # Errors
/// [`RebuildError::OverBudget`] if the pruned network already costs more than the ceiling; a link that
/// would is left out. [`RebuildError::Pattern`] for a pattern that fits no layer,
/// [`RebuildError::TooFewSamples`], and whatever stops a run.
/// # Reference
/// He et al., Deep Residual Learning for Image Recognition, CVPR 2016, equation 2, for the form; the
/// projection is solved, not trained.
pub fn link(
    pair: Pair<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &LinkConfig,
    monitor: &dyn Monitor,
) -> Result<Edited, RebuildError> {
    chunks(inputs, &config.fit)?;
    if config.past < DEFAULT_PAST {
        return Err(RebuildError::Setting {
            what: "the layers that a link skips",
            value: config.past as f64,
            bounds: "2 or more",
        });
    }
    let mut now = Network::new(pair.pruned.clone())?;
    if let Some(ceiling) = config.ceiling {
        ceiling.check(now.cost())?;
    }
    let touched = config.selection.of(&now.graph, &now.layers)?;
    let selected = now.layers.iter().zip(touched).filter(|(_, t)| *t);
    let ends: Vec<ValueId> = selected.map(|(l, _)| l.output).collect();
    let judge = Judge {
        pair,
        inputs,
        config,
        dense: Stream::new("dense", pair.dense, inputs, config.fit.exec)?,
        targets: BTreeMap::new(),
    };
    let mut error = judge.output_error(&now.graph)?;
    let (mut changes, mut left) = (Vec::new(), Vec::new());
    for end in ends {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        let label = now.graph.producer(end).map(|n| now.graph.node_label(n));
        let label = label.unwrap_or_default();
        match judge.try_link(&now, end, error)? {
            Ok(found) => {
                error = found.error;
                changes.push(Change {
                    node: label,
                    ..found.change
                });
                now = found.network;
            }
            Err(reason) => left.push((label, reason)),
        }
    }
    Ok(Edited::new(now.graph, changes, left, false))
}

/// A link that helps.
struct Found {
    network: Network,
    change: Change,
    /// Error of the output with it.
    error: f64,
}

/// Where a link goes.
#[derive(Clone, Copy, Debug)]
struct Ends {
    from: ValueId,
    to: ValueId,
    kind: Kind,
    n_in: usize,
    n_out: usize,
    equal: bool,
}

/// How a link maps channels.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A convolution of extent 1 over spatial axes with strides.
    Conv { strides: [usize; 2], axes: usize },
    /// A product with rows.
    Gemm,
    /// A product with the last axis.
    MatMul,
}

/// What decides over links.
struct Judge<'a> {
    pair: Pair<'a>,
    inputs: &'a BTreeMap<ValueId, Activations>,
    config: &'a LinkConfig,
    dense: Stream,
    targets: BTreeMap<ValueId, Activations>,
}

impl Judge<'_> {
    fn output_error(&self, graph: &Graph) -> Result<f64, RebuildError> {
        let none = KeptAxes::new();
        let goal = Goal {
            teacher: self.pair.dense,
            kept: &none,
            targets: &self.targets,
        };
        held_out_error(graph, goal, self.inputs, &self.config.fit)
    }

    /// Tries a link to a value; the reason in words where there is none.
    fn try_link(
        &self,
        now: &Network,
        end: ValueId,
        error: f64,
    ) -> Result<Result<Found, String>, RebuildError> {
        let refuse = |why: &str| Ok(Err(why.to_owned()));
        if !made(self.pair.dense, end) {
            return refuse("the dense network does not make its output");
        }
        if now.graph.outputs().contains(&end) {
            return refuse("it makes an output of the network");
        }
        let Some(layer) = now.layers.iter().find(|l| l.output == end) else {
            return refuse("it is no linear layer");
        };
        let starts = starts(now, layer, self.config.past);
        let ends: Vec<_> = starts.iter().map(|from| ends(now, layer, *from)).collect();
        let mut reason = "no single layer is before it".to_owned();
        let Some(first) = ends.iter().flatten().next().copied() else {
            let why = ends.last().and_then(|e| e.err());
            return Ok(Err(why.map_or(reason, str::to_owned)));
        };
        let stream = Stream::new("pruned", &now.graph, self.inputs, self.config.fit.exec)?;
        // What the layer lacks does not depend on where a link would start.
        let before = self.local_error(&|chunk| self.missing(&stream, first, chunk), None)?;
        let mut best: Option<Found> = None;
        for ends in ends {
            match ends {
                Ok(ends) => {
                    let limit = best.as_ref().map_or(error, |b| b.error);
                    match self.try_ends(now, ends, &stream, (before, limit))? {
                        Ok(found) => best = Some(found),
                        Err(why) => reason = why,
                    }
                }
                Err(why) => why.clone_into(&mut reason),
            }
        }
        Ok(best.ok_or(reason))
    }

    /// Returns what a link reads in a chunk, and what its end lacks of the dense network's.
    fn missing(
        &self,
        stream: &Stream,
        ends: Ends,
        chunk: usize,
    ) -> Result<Option<(HostTensor, HostTensor)>, RebuildError> {
        let dense = self.dense.chunk(chunk, &[ends.to])?.remove(0);
        let wanted = keep_axes(&dense, ends.to, self.pair.kept);
        let mut own = stream.chunk(chunk, &[ends.from, ends.to])?;
        let (y, x) = (own.remove(1), own.remove(0));
        Ok(difference(&wanted, &y).map(|d| (x, d)))
    }

    /// Tries links between two values whose local error is `before` without one; the best whose output error is
    /// below `error`.
    fn try_ends(
        &self,
        now: &Network,
        ends: Ends,
        stream: &Stream,
        (before, error): (f64, f64),
    ) -> Result<Result<Found, String>, RebuildError> {
        let missing = |chunk: usize| self.missing(stream, ends, chunk);
        let mut best: Option<Found> = None;
        let mut reason = "no shortcut lowers its error on samples held out".to_owned();
        for identity in [true, false] {
            if identity && !ends.equal {
                continue;
            }
            let Some(linked) = self.linked(now, ends, identity, &missing)? else {
                continue;
            };
            let after = self.local_error(&missing, Some(&linked))?;
            if after >= before {
                continue;
            }
            if self
                .config
                .ceiling
                .is_some_and(|c| c.check(linked.network.cost()).is_err())
            {
                "it would cost more than is allowed".clone_into(&mut reason);
                continue;
            }
            let whole = self.output_error(&linked.network.graph)?;
            if whole >= best.as_ref().map_or(error, |b| b.error) {
                "the error of the output does not fall".clone_into(&mut reason);
                continue;
            }
            let what = format!(
                "{} from `{}`, its error {before:.4} -> {after:.4}",
                ends.words(identity),
                now.graph.value(ends.from).name
            );
            let added = |cost: &dyn Fn(NodeId) -> u64| linked.node.map_or(0, cost);
            let (graph, facts) = (&linked.network.graph, &linked.network.facts);
            let change = Change {
                node: String::new(),
                what,
                macs: (0, added(&|id| node_macs(graph, facts, id))),
                params: (0, added(&|id| node_params(graph, id))),
                error: Some(whole),
            };
            best = Some(Found {
                change,
                error: whole,
                network: linked.network,
            });
        }
        Ok(best.ok_or(reason))
    }

    /// Mean squared error of the link's end on the held-out chunks, with the link or without.
    fn local_error(
        &self,
        missing: &super::fit::Rows<'_>,
        linked: Option<&Linked>,
    ) -> Result<f64, RebuildError> {
        let (n_fit, n_all) = chunks(self.inputs, &self.config.fit)?;
        let stream = linked.map(|l| {
            let exec = self.config.fit.exec;
            let stream = Stream::new("pruned", &l.network.graph, self.inputs, exec);
            stream.map(|s| (s, l.added))
        });
        let stream = stream.transpose()?;
        let mut sums = SquaredError::default();
        for chunk in n_fit..n_all {
            let Some((_, wanted)) = missing(chunk)? else {
                return Ok(0.0);
            };
            let zero = HostTensor::f32(wanted.shape.clone(), vec![0.0; wanted.len()]);
            match &stream {
                Some((stream, added)) => {
                    sums.add(&stream.chunk(chunk, &[*added])?.remove(0), &wanted);
                }
                None => sums.add(&zero, &wanted),
            }
        }
        Ok(sums.error / sums.n.max(1) as f64)
    }

    /// Returns the network with a link; `None` where nothing can be solved.
    fn linked(
        &self,
        now: &Network,
        ends: Ends,
        identity: bool,
        missing: &super::fit::Rows<'_>,
    ) -> Result<Option<Linked>, RebuildError> {
        let Some(mut linked) = inserted(&now.graph, ends, identity)? else {
            return Ok(None);
        };
        if identity {
            return Ok(Some(linked));
        }
        let found = linked.network.layers.iter();
        let Some(layer) = found.clone().find(|l| l.output == linked.added) else {
            return Ok(None);
        };
        let config = &self.config.fit;
        let fitted = fit_layer(
            &linked.network,
            layer,
            self.inputs,
            config,
            (missing, &KeptAxes::new()),
        )?;
        let Some(fitted) = fitted else {
            return Ok(None);
        };
        let mut edit = linked.network.graph.edit();
        for (value, tensor) in fitted.tensors {
            edit.set_initializer(value, tensor);
        }
        linked.network.graph = edit.finish()?;
        Ok(Some(linked))
    }
}

/// A network with a link that is not judged yet.
struct Linked {
    network: Network,
    /// What the link adds.
    added: ValueId,
    /// The projection; `None` for the identity.
    node: Option<NodeId>,
}

/// Returns where links past a layer may start: at what the layers before it read, the nearest first.
fn starts(now: &Network, layer: &Layer, past: usize) -> Vec<ValueId> {
    let mut found = Vec::new();
    let mut last = layer;
    for _ in 1..past {
        let Some(before) = layer_before(now, last) else {
            break;
        };
        found.push(before.input);
        last = before;
    }
    found
}

/// Returns how a link from a value to the output of a layer maps channels; why there is none, in words.
fn ends(now: &Network, layer: &Layer, from: ValueId) -> Result<Ends, &'static str> {
    let facts = &now.facts;
    let to = layer.output;
    let (Some(x), Some(y)) = (facts.shape(from), facts.shape(to)) else {
        return Err("its shapes are not known");
    };
    let floats = |v| facts.dtype(v) == Some(DType::F32);
    if x.len() != y.len() || !floats(from) || !floats(to) {
        return Err("the shapes of the block's two ends are not related");
    }
    let conv = matches!(layer.kind, LayerKind::Conv { .. });
    let axis = if conv { 1 } else { x.len() - 1 };
    let fixed = |shape: &[Dim], axis: usize| shape.get(axis).and_then(Dim::fixed);
    let (Some(n_in), Some(n_out)) = (fixed(x, axis), fixed(y, axis)) else {
        return Err("its shapes are not known");
    };
    let mut strides = [1, 1];
    if conv {
        for axis in 2..x.len() {
            let (Some(a), Some(b)) = (fixed(x, axis), fixed(y, axis)) else {
                return Err("its shapes are not known");
            };
            let stride = if b == 0 { 0 } else { a.div_ceil(b) };
            if stride == 0 || a.div_ceil(stride) != b || axis > 3 {
                return Err("no stride fits the extents of the block's two ends");
            }
            strides[axis - 2] = stride;
        }
    } else if x[..axis] != y[..axis] {
        return Err("the shapes of the block's two ends are not related");
    }
    let kind = match layer.kind {
        LayerKind::Conv { .. } => Kind::Conv {
            strides,
            axes: x.len() - 2,
        },
        LayerKind::Gemm { .. } => Kind::Gemm,
        LayerKind::MatMul => Kind::MatMul,
    };
    Ok(Ends {
        from,
        to,
        kind,
        n_in,
        n_out,
        equal: x == y,
    })
}

/// The most nodes between two layers of a block.
const MAX_STEPS: usize = 32;

/// Returns the nearest layer from whose output alone everything comes that a layer reads: paths between them may
/// part and meet again.
fn layer_before<'a>(now: &'a Network, layer: &Layer) -> Option<&'a Layer> {
    let graph = &now.graph;
    let order: BTreeMap<NodeId, usize> = graph.nodes().map(|(id, _)| id).zip(0..).collect();
    let place = |value: ValueId| {
        let made_by = graph.producer(value)?;
        order.get(&made_by).copied()
    };
    // What is still to be traced back, by the place of the node that makes it.
    let mut open: BTreeSet<(Option<usize>, ValueId)> = BTreeSet::new();
    open.insert((place(layer.input), layer.input));
    for _ in 0..MAX_STEPS {
        let (_, last) = open.pop_last()?;
        let made_by = now.layers.iter().find(|l| l.output == last);
        if let (Some(found), true) = (made_by, open.is_empty()) {
            return Some(found);
        }
        let node = graph.node(graph.producer(last)?);
        let computed = node.reads().filter(|v| now.facts.constant(*v).is_none());
        open.extend(computed.map(|v| (place(v), v)));
    }
    None
}

impl Ends {
    fn words(self, identity: bool) -> String {
        if identity {
            return "an identity shortcut".to_owned();
        }
        let (n_in, n_out) = (self.n_in, self.n_out);
        match self.kind {
            Kind::Conv {
                strides: [1, 1], ..
            } => format!("a 1x1 shortcut of {n_in} to {n_out}"),
            Kind::Conv {
                strides: [h, _], ..
            } => {
                format!("a 1x1 shortcut of {n_in} to {n_out} with stride {h}")
            }
            Kind::Gemm | Kind::MatMul => format!("a linear shortcut of {n_in} to {n_out}"),
        }
    }
}

/// Returns the network with a link whose projection is zero, or which is the identity.
fn inserted(graph: &Graph, ends: Ends, identity: bool) -> Result<Option<Linked>, RebuildError> {
    let Some(producer) = graph.producer(ends.to) else {
        return Ok(None);
    };
    let outputs = &graph.node(producer).outputs;
    let Some(port) = outputs.iter().position(|v| *v == Some(ends.to)) else {
        return Ok(None);
    };
    let mut edit = graph.edit();
    let name = graph.value(ends.to).name.clone();
    let block = edit.add_value(&format!("{name}_block"));
    edit.set_output(producer, port, Some(block));
    let added = if identity {
        ends.from
    } else {
        let added = edit.add_value(&format!("{name}_link"));
        let (n_in, n_out) = (ends.n_in, ends.n_out);
        let (shape, op) = match ends.kind {
            Kind::Conv { strides, axes } => {
                let mut shape = vec![n_out, n_in];
                shape.resize(2 + axes, 1);
                let conv = Conv {
                    kernel_shape: vec![1; axes],
                    strides: strides.iter().take(axes).copied().collect(),
                    ..Conv::default()
                };
                (shape, Op::Conv(conv))
            }
            Kind::Gemm => {
                let gemm = Gemm {
                    trans_b: true,
                    ..Gemm::default()
                };
                (vec![n_out, n_in], Op::Gemm(gemm))
            }
            Kind::MatMul => (vec![n_in, n_out], Op::MatMul),
        };
        let zeros = Tensor::from_f32(shape, vec![0.0; n_in * n_out])?;
        let weight = edit.add_initializer(&format!("{name}_link.weight"), zeros);
        let mut inputs = vec![Some(ends.from), Some(weight)];
        if !matches!(ends.kind, Kind::MatMul) {
            let zeros = Tensor::from_f32(vec![n_out], vec![0.0; n_out])?;
            let bias = edit.add_initializer(&format!("{name}_link.bias"), zeros);
            inputs.push(Some(bias));
        }
        edit.add_node(Node::new(
            &format!("{name}_link"),
            op,
            inputs,
            vec![Some(added)],
        ));
        added
    };
    let add = Op::Binary(BinaryOp::Add);
    let summands = vec![Some(block), Some(added)];
    edit.add_node(Node::new(
        &format!("{name}_linked"),
        add,
        summands,
        vec![Some(ends.to)],
    ));
    let network = Network::new(edit.finish()?)?;
    let made = network.graph.producer(added);
    Ok(Some(Linked {
        node: made.filter(|_| !identity),
        network,
        added,
    }))
}
