//! Deepening: layers put behind others that at first pass on what they read.
//!
//! An identity layer behind a rectifier is followed by another one, which changes nothing more; elsewhere
//! it stays linear. A residual block adds nothing as long as its last layer is zero, whatever is
//! inside; it is the one that suits a residual stream.

mod cell;
#[cfg(test)]
mod tests;

use regraft_data::SplitMix64;
use regraft_graph::cost::{node_macs, node_params, total};
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::op::{BinaryOp, Conv, Gemm, UnaryOp, VariadicOp};
use regraft_graph::{DType, Graph, GraphEdit, Node, Op, Tensor, ValueId};

use super::{Ceiling, Change, Edited, Network, Selection};
use crate::RebuildError;
use crate::cell::{Cell, find_cells};

/// What is put behind a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Insert {
    /// A layer of the same width with the identity as its weights, and a rectifier where one is before it.
    #[default]
    Identity,
    /// x + W₂·relu(W₁·x) with W₂ zero and W₁ drawn.
    Residual,
    /// Behind recurrent cells alone: y + γ·cell(y) with γ zero.
    Cell,
}

/// How to deepen.
#[derive(Clone, Debug, PartialEq)]
pub struct DeepenConfig {
    /// Behind which layers.
    pub selection: Selection,
    /// What is put there.
    pub insert: Insert,
    /// Extent of the new convolutions' kernels along each spatial axis, odd.
    pub kernel: usize,
    /// Seed of the weights that are drawn.
    pub seed: u64,
    /// What the network may cost afterwards.
    pub ceiling: Option<Ceiling>,
}

impl Default for DeepenConfig {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            insert: Insert::Identity,
            kernel: 3,
            seed: 0,
            ceiling: None,
        }
    }
}

/// Returns the network with a new layer or block behind each selected layer, that behind the
/// normalisation, sum and activation that follow it; what it computes stays.
///
/// Linear layers and recurrent cells are selected by their names; a cell gets a linear layer over its
/// states, or another cell.
/// # Errors
/// [`RebuildError::Setting`] for an even kernel, [`RebuildError::Pattern`] for a pattern that fits no
/// layer, [`RebuildError::OverBudget`] if the result would cost more than the ceiling.
/// # Reference
/// Chen et al., `Net2Net`: Accelerating Learning via Knowledge Transfer, ICLR 2016, section 2.3;
/// zero-initialised residual blocks as in Goyal et al., Accurate, Large Minibatch SGD, 2017.
pub fn deepen(network: &Network, config: &DeepenConfig) -> Result<Edited, RebuildError> {
    if config.kernel.is_multiple_of(2) || config.kernel > 31 {
        return Err(RebuildError::Setting {
            what: "the kernel's extent",
            value: config.kernel as f64,
            bounds: "odd and at most 31",
        });
    }
    let graph = &network.graph;
    let places = places(network);
    let labels: Vec<String> = places.iter().map(|p| p.label.clone()).collect();
    let touched = config.selection.of_labels(&labels)?;
    let mut work = Work {
        facts: &network.facts,
        edit: graph.edit(),
        config,
        random: SplitMix64::new(config.seed),
    };
    let mut placed: Vec<(ValueId, String, String, Vec<ValueId>)> = Vec::new();
    let mut left = Vec::new();
    for (place, _) in places.iter().zip(touched).filter(|(_, t)| *t) {
        let is_cell = config.insert == Insert::Cell;
        let at = if is_cell {
            At {
                value: place.value,
                after_relu: false,
            }
        } else {
            follow(graph, place.read)
        };
        if placed.iter().any(|(v, ..)| *v == at.value) {
            left.push((place.label.clone(), "another layer ends there".to_owned()));
            continue;
        }
        let inserted = if is_cell {
            work.insert_cell(graph, at.value)
        } else {
            work.insert(graph, &at)
        };
        match inserted {
            Ok((what, nodes)) => placed.push((at.value, place.label.clone(), what, nodes)),
            Err(Stop::Left(reason)) => left.push((place.label.clone(), reason)),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    let deeper = work.edit.finish()?;
    let facts = infer(&deeper, &InferOptions::default())?;
    if let Some(ceiling) = config.ceiling {
        ceiling.check(total(&deeper, &facts))?;
    }
    let changes = placed.into_iter().map(|(_, node, what, weights)| {
        let nodes = weights.iter().flat_map(|w| deeper.consumers(*w));
        let macs = nodes.clone().map(|id| node_macs(&deeper, &facts, *id));
        let params = nodes.map(|id| node_params(&deeper, *id));
        Change {
            node,
            what,
            macs: (0, macs.sum()),
            params: (0, params.sum()),
            error: Some(0.0),
        }
    });
    let changes = changes.collect();
    Ok(Edited::new(deeper, changes, left, true))
}

/// A layer behind which something can be put.
struct Place {
    label: String,
    /// What it makes: of a cell the states of all steps.
    value: ValueId,
    /// What of it is read.
    read: ValueId,
}

fn places(network: &Network) -> Vec<Place> {
    let graph = &network.graph;
    let layers = network.layers.iter().map(|l| (l.node, l.output, l.output));
    let cells = find_cells(graph, &network.facts);
    let cells = cells.iter().map(|c| (c.node, c.states, read(network, c)));
    let mut all: Vec<_> = layers.chain(cells).collect();
    all.sort_unstable();
    let place = |(node, value, read)| Place {
        label: graph.node_label(node),
        value,
        read,
    };
    all.into_iter().map(place).collect()
}

/// What is read of a cell: its states, those of both directions side by side, or the last ones alone.
fn read(network: &Network, cell: &Cell) -> ValueId {
    let (graph, facts) = (&network.graph, &network.facts);
    let is_read = graph.is_read(cell.states);
    let states = match graph.node(cell.node).output(1) {
        Some(last) if !is_read => last,
        _ => cell.states,
    };
    if cell.n_features() == cell.hidden {
        return states;
    }
    let joined = if is_read {
        cell.sequence(graph, facts)
    } else {
        cell.last(graph, facts)
    };
    joined.map_or(states, |f| f.value)
}

/// Where something is put, and whether no element there is below zero.
struct At {
    value: ValueId,
    after_relu: bool,
}

/// The most nodes that belong to a layer: normalisation, bias, sum, activation.
const MAX_STEPS: usize = 4;

/// Returns the value behind what belongs to the layer that makes `value`.
fn follow(graph: &Graph, value: ValueId) -> At {
    let mut at = At {
        value,
        after_relu: false,
    };
    for _ in 0..MAX_STEPS {
        let [next] = graph.consumers(at.value) else {
            break;
        };
        let node = graph.node(*next);
        let first = node.input(0) == Some(at.value);
        let goes_on = match &node.op {
            Op::BatchNormalization { .. } | Op::Unary(UnaryOp::Relu) => first,
            Op::Binary(BinaryOp::Add) | Op::Variadic(VariadicOp::Sum) => true,
            _ => false,
        };
        let Some(out) = node.output(0).filter(|_| goes_on) else {
            break;
        };
        at.value = out;
        if node.op == Op::Unary(UnaryOp::Relu) {
            at.after_relu = true;
            break;
        }
    }
    at
}

/// Why nothing is put somewhere.
enum Stop {
    Left(String),
    Error(RebuildError),
}

impl<E: Into<RebuildError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// How channels are mixed at a place.
#[derive(Clone, Copy)]
enum Mix {
    /// A convolution over this number of spatial axes.
    Conv(usize),
    /// A product with the last axis of rows.
    Gemm,
    /// A product with the last axis of anything.
    MatMul,
}

struct Work<'a> {
    facts: &'a Facts,
    edit: GraphEdit,
    config: &'a DeepenConfig,
    random: SplitMix64,
}

impl Work<'_> {
    /// Puts a layer or block behind a value, whose readers then read the new one; returns what it is
    /// and its weights.
    fn insert(&mut self, graph: &Graph, at: &At) -> Result<(String, Vec<ValueId>), Stop> {
        let left = |why: &str| Err(Stop::Left(why.to_owned()));
        if graph.outputs().contains(&at.value) {
            return left("it makes an output of the network");
        }
        let (Some(shape), Some(producer)) = (self.facts.shape(at.value), graph.producer(at.value))
        else {
            return left("its shape is not known");
        };
        if self.facts.dtype(at.value) != Some(DType::F32) {
            return left("it does not make 32-bit floats");
        }
        let (mix, axis) = match (mixer(graph, at.value), shape.len()) {
            (Some(true), rank @ 3..=4) => (Mix::Conv(rank - 2), 1),
            (Some(false), 2) => (Mix::Gemm, 1),
            (Some(false), rank @ 3..) => (Mix::MatMul, rank - 1),
            _ => return left("the axis of its channels is not known"),
        };
        let Some(n) = shape.get(axis).and_then(regraft_graph::Dim::fixed) else {
            return left("its number of channels is not known");
        };
        let port = graph.node(producer).outputs.iter();
        let Some(port) = port.clone().position(|v| *v == Some(at.value)) else {
            return left("nothing makes it");
        };
        let name = graph.value(at.value).name.clone();
        // What was made here is made under another name: readers, outputs and captures stay.
        let x = self.edit.add_value(&format!("{name}_before"));
        self.edit.set_output(producer, port, Some(x));
        let nodes = match self.config.insert {
            Insert::Identity => {
                let label = format!("{name}_identity");
                let out = if at.after_relu {
                    self.edit.add_value(&label)
                } else {
                    at.value
                };
                let weight = self.mix(mix, &label, (x, n), Fill::Identity, out)?;
                if at.after_relu {
                    self.relu(&format!("{label}_relu"), out, at.value);
                }
                vec![weight]
            }
            // A cell is put in where cells are.
            Insert::Residual | Insert::Cell => self.residual(mix, &name, (x, n), at.value)?,
        };
        Ok((self.words(mix, n, at), nodes))
    }

    fn residual(
        &mut self,
        mix: Mix,
        name: &str,
        (x, n): (ValueId, usize),
        out: ValueId,
    ) -> Result<Vec<ValueId>, Stop> {
        let labels = [1, 2].map(|i| format!("{name}_residual{i}"));
        let inner = self.edit.add_value(&labels[0]);
        let active = self.edit.add_value(&format!("{name}_residual_relu"));
        let outer = self.edit.add_value(&labels[1]);
        let first = self.mix(mix, &labels[0], (x, n), Fill::Drawn, inner)?;
        self.relu(&format!("{name}_residual_relu"), inner, active);
        let second = self.mix(mix, &labels[1], (active, n), Fill::Zero, outer)?;
        let add = Op::Binary(BinaryOp::Add);
        self.node(&format!("{name}_residual"), add, vec![x, outer], out);
        Ok(vec![first, second])
    }

    fn words(&self, mix: Mix, n: usize, at: &At) -> String {
        let k = self.config.kernel;
        let layer = match mix {
            Mix::Conv(2) => format!("{k}x{k} convolution"),
            Mix::Conv(_) => format!("convolution of {k}"),
            Mix::Gemm | Mix::MatMul => "linear layer".to_owned(),
        };
        match self.config.insert {
            Insert::Identity if at.after_relu => {
                format!("followed by an identity {layer} of {n} and a ReLU")
            }
            Insert::Identity => format!("followed by an identity {layer} of {n}"),
            Insert::Residual | Insert::Cell => {
                format!("followed by a residual block of two {layer}s of {n}")
            }
        }
    }

    fn node(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, out: ValueId) {
        let inputs = inputs.into_iter().map(Some).collect();
        let node = Node::new(name, op, inputs, vec![Some(out)]);
        self.edit.add_node(node);
    }

    fn relu(&mut self, name: &str, x: ValueId, out: ValueId) {
        self.node(name, Op::Unary(UnaryOp::Relu), vec![x], out);
    }

    /// A layer from `n` to `n` channels; returns its weight.
    fn mix(
        &mut self,
        mix: Mix,
        label: &str,
        (x, n): (ValueId, usize),
        fill: Fill,
        out: ValueId,
    ) -> Result<ValueId, Stop> {
        let k = self.config.kernel;
        let (shape, taps, op) = match mix {
            Mix::Conv(axes) => {
                let mut shape = vec![n, n];
                shape.resize(2 + axes, k);
                let conv = Conv {
                    kernel_shape: vec![k; axes],
                    pads: vec![k / 2; 2 * axes],
                    ..Conv::default()
                };
                (
                    shape,
                    k.pow(u32::try_from(axes).unwrap_or(1)),
                    Op::Conv(conv),
                )
            }
            Mix::Gemm => {
                let gemm = Gemm {
                    trans_b: true,
                    ..Gemm::default()
                };
                (vec![n, n], 1, Op::Gemm(gemm))
            }
            Mix::MatMul => (vec![n, n], 1, Op::MatMul),
        };
        let data = fill.weights(n, taps, &mut self.random);
        let tensor = Tensor::from_f32(shape, data)?;
        let weight = self
            .edit
            .add_initializer(&format!("{label}.weight"), tensor);
        // The weight's name is made unique, and with it the node's.
        let unique = self.edit.graph().value(weight).name.replace(".weight", "");
        let mut inputs = vec![x, weight];
        if !matches!(mix, Mix::MatMul) {
            let zeros = Tensor::from_f32(vec![n], vec![0.0; n])?;
            inputs.push(self.edit.add_initializer(&format!("{label}.bias"), zeros));
        }
        self.node(&unique, op, inputs, out);
        Ok(weight)
    }
}

/// Weights of a new layer.
#[derive(Clone, Copy)]
enum Fill {
    /// One at the middle of each channel's own kernel.
    Identity,
    /// Nothing.
    Zero,
    /// Uniform, with the variance that keeps that of a rectifier's output (He et al., ICCV 2015).
    Drawn,
}

impl Fill {
    /// `n × n × taps` numbers; an identity and what is drawn are their own transposes in kind.
    fn weights(self, n: usize, taps: usize, random: &mut SplitMix64) -> Vec<f32> {
        let mut data = vec![0.0; n * n * taps];
        match self {
            Self::Zero => {}
            Self::Identity => {
                for c in 0..n {
                    data[(c * n + c) * taps + taps / 2] = 1.0;
                }
            }
            Self::Drawn => {
                let bound = (6.0 / (n * taps) as f64).sqrt();
                for w in &mut data {
                    *w = (random.symmetric() * bound) as f32;
                }
            }
        }
        data
    }
}

/// True if the channels of a value are those of a convolution (axis 1), false if they are features on
/// the last axis; `None` if nothing tells.
fn mixer(graph: &Graph, value: ValueId) -> Option<bool> {
    let mut value = value;
    for _ in 0..=MAX_STEPS {
        let node = graph.node(graph.producer(value)?);
        match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::BatchNormalization { .. } => {
                return Some(true);
            }
            Op::Gemm(_) | Op::MatMul | Op::Recurrent(_) => return Some(false),
            _ => {
                let made = |v: &&ValueId| graph.producer(**v).is_some();
                value = *node.inputs.iter().flatten().find(made)?;
            }
        }
    }
    None
}
