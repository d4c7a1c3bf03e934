//! From a list of layers to a graph.

use std::collections::BTreeMap;

use regraft_data::SplitMix64;
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};

use super::init::{self, Scale};
use super::{Architecture, Layer};
use crate::TrainError;

/// The most weights a new network may have: its file stays below the 2 GiB of one ONNX file.
pub const MAX_PARAMS: usize = 1 << 28;

/// The deepest nesting of residual layers.
const MAX_DEPTH: usize = 8;

/// `Gelu` is an operator of its own from here on.
const OPSET: i64 = 20;
const IR_VERSION: i64 = 9;

/// A new network, and what its layers are.
#[derive(Clone, Debug)]
pub struct Built {
    /// The graph: input `input`, output `logits`, the batch a free extent.
    pub graph: Graph,
    /// The layers in order; those inside of a residual layer are part of it.
    pub rows: Vec<LayerRow>,
}

/// One layer of a new network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// The word it is called by.
    pub kind: &'static str,
    /// Extents of one sample behind it.
    pub shape: Vec<usize>,
    /// Its weights, biases, scales and shifts.
    pub params: usize,
}

/// Returns the graph of a list of layers with weights drawn from `seed`.
///
/// # Errors
/// [`TrainError::Layer`] with the layer's number and the shape that arrived at it, or
/// [`TrainError::Architecture`] where the list as a whole makes no network.
pub fn build(architecture: &Architecture, seed: u64) -> Result<Built, TrainError> {
    let shape = &architecture.input;
    if shape.is_empty() || shape.contains(&0) {
        return Err(TrainError::Architecture {
            reason: format!("a sample of shape {} holds nothing", shown(shape)),
        });
    }
    let mut builder = Builder::new(seed);
    let flow = builder.input(shape);
    let mut rows = Vec::new();
    let flow = builder.list(&architecture.layers, "", flow, Some(&mut rows))?;
    let [n_classes] = flow.shape[..] else {
        return Err(TrainError::Architecture {
            reason: format!(
                "the network ends with samples of shape {}, not with one score for each class",
                shown(&flow.shape)
            ),
        });
    };
    let output = builder.b.output(&flow.name);
    builder.b.value_mut(output).declared = Some(batch_of(&[n_classes]));
    Ok(Built {
        graph: builder.b.finish()?,
        rows,
    })
}

/// Returns a shape as it is written: `1x28x28`.
pub(super) fn shown(shape: &[usize]) -> String {
    let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    extents.join("x")
}

fn batch_of(shape: &[usize]) -> ValueType {
    let extents = shape.iter().copied().map(Dim::Fixed);
    ValueType {
        dtype: DType::F32,
        shape: Some(
            std::iter::once(Dim::symbol("batch"))
                .chain(extents)
                .collect(),
        ),
    }
}

/// What passes from layer to layer.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// The value's name.
    pub(super) name: String,
    /// Extents of one sample.
    pub(super) shape: Vec<usize>,
    /// True for a sequence whose steps come before the batch, as recurrent ops want it.
    pub(super) time_first: bool,
}

impl Flow {
    pub(super) fn new(name: String, shape: &[usize]) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            time_first: false,
        }
    }
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Its number from 1; behind a point the number inside of a residual layer.
    pub(super) path: &'a str,
    /// True for the last layer of the network.
    pub(super) is_last: bool,
    /// True for the last layer of a residual one.
    pub(super) ends_branch: bool,
    /// True if a batch normalisation follows.
    pub(super) before_norm: bool,
}

/// A layer that was made, or why it cannot be.
pub(super) type Made<T> = Result<T, String>;

pub(super) struct Builder {
    b: GraphBuilder,
    random: SplitMix64,
    counts: BTreeMap<&'static str, usize>,
    params: usize,
}

impl Builder {
    fn new(seed: u64) -> Self {
        let opsets = vec![OperatorSet {
            domain: String::new(),
            version: OPSET,
        }];
        Self {
            b: GraphBuilder::new(Header {
                name: "regraft".to_owned(),
                ir_version: IR_VERSION,
                opsets,
                ..Header::default()
            }),
            random: SplitMix64::new(seed),
            counts: BTreeMap::new(),
            params: 0,
        }
    }

    fn input(&mut self, shape: &[usize]) -> Flow {
        self.b.input("input", Some(batch_of(shape)));
        Flow::new("input".to_owned(), shape)
    }

    /// Adds layers one after the other; `rows` is given at the top only.
    pub(super) fn list(
        &mut self,
        layers: &[Layer],
        prefix: &str,
        mut flow: Flow,
        mut rows: Option<&mut Vec<LayerRow>>,
    ) -> Result<Flow, TrainError> {
        for (i, layer) in layers.iter().enumerate() {
            let path = format!("{prefix}{}", i + 1);
            let end = i + 1 == layers.len();
            let place = Place {
                path: &path,
                is_last: end && prefix.is_empty(),
                ends_branch: end && !prefix.is_empty(),
                before_norm: layers.get(i + 1) == Some(&Layer::BatchNorm),
            };
            let before = self.params;
            flow = self.layer(layer, flow, place)?;
            if let Some(rows) = rows.as_deref_mut() {
                rows.push(LayerRow {
                    kind: layer.kind(),
                    shape: flow.shape.clone(),
                    params: self.params - before,
                });
            }
        }
        Ok(self.batch_first(flow))
    }

    fn layer(&mut self, layer: &Layer, flow: Flow, place: Place<'_>) -> Result<Flow, TrainError> {
        let shape = flow.shape.clone();
        let refuse = |reason: String| TrainError::Layer {
            layer: place.path.to_owned(),
            kind: layer.kind(),
            shape: shown(&shape),
            reason,
        };
        if let Layer::Recurrent(recurrent) = layer {
            return self.recurrent(*recurrent, flow).map_err(refuse);
        }
        let flow = self.batch_first(flow);
        match layer {
            Layer::Conv(conv) => self.conv(conv, &flow, place),
            Layer::BatchNorm => self.batch_norm(&flow, place),
            Layer::LayerNorm => self.layer_norm(&flow),
            Layer::Activation(function) => Ok(self.activation(*function, &flow)),
            Layer::Pool(pool) => self.pool(*pool, &flow),
            Layer::GlobalAvgPool => self.global_avg_pool(&flow),
            Layer::Flatten => self.flatten(&flow),
            Layer::Linear { out, bias } => self.linear((*out, *bias), &flow, place),
            Layer::Recurrent(recurrent) => self.recurrent(*recurrent, flow),
            Layer::Attention { heads } => self.attention(*heads, &flow),
            Layer::Positions => self.positions(&flow),
            Layer::Patches { out, size } => self.patches(*out, *size, &flow),
            Layer::Residual(inner) => {
                if inner.is_empty() || place.path.matches('.').count() >= MAX_DEPTH {
                    let reason = format!("it holds no layer, or lies more than {MAX_DEPTH} deep");
                    return Err(refuse(reason));
                }
                let norm = inner.contains(&Layer::BatchNorm);
                let prefix = format!("{}.", place.path);
                let branch = self.list(inner, &prefix, flow.clone(), None)?;
                self.shortcut(&flow, &branch, norm)
            }
        }
        .map_err(refuse)
    }

    /// Returns a name that is not taken: the word and its number.
    pub(super) fn name(&mut self, word: &'static str) -> String {
        let count = self.counts.entry(word).or_insert(0);
        *count += 1;
        format!("{word}{count}")
    }

    /// Adds a node that makes one value of its own name.
    pub(super) fn op(&mut self, name: &str, op: Op, inputs: &[&str]) -> String {
        self.b.op(name, op, inputs, &[name]);
        name.to_owned()
    }

    /// Adds a node with these outputs; an empty name is one left out.
    pub(super) fn op_to(&mut self, name: &str, op: Op, inputs: &[&str], outputs: &[&str]) {
        self.b.op(name, op, inputs, outputs);
    }

    /// Adds weights drawn at a scale; returns their name.
    pub(super) fn weights(
        &mut self,
        name: &str,
        shape: &[usize],
        scale: Scale,
        fans: (usize, usize),
    ) -> Made<String> {
        let n = self.room_for(shape)?;
        let data = init::weights(&mut self.random, n, scale, fans);
        self.tensor(name, shape, data)
    }

    /// Adds numbers that are all the same.
    pub(super) fn filled(&mut self, name: &str, shape: &[usize], value: f32) -> Made<String> {
        let n = self.room_for(shape)?;
        self.tensor(name, shape, vec![value; n])
    }

    /// Adds a small vector for each of the first extent's rows.
    pub(super) fn spread(&mut self, name: &str, shape: &[usize], bound: f64) -> Made<String> {
        let n = self.room_for(shape)?;
        let data = init::spread(&mut self.random, n, bound);
        self.tensor(name, shape, data)
    }

    /// Adds a list of integers: axes, a shape.
    pub(super) fn integers(&mut self, name: &str, list: &[i64]) -> Made<String> {
        self.add(name, Tensor::i64_list(list.to_vec()))
    }

    /// Adds a lone number.
    pub(super) fn number(&mut self, name: &str, value: f32) -> Made<String> {
        let tensor = Tensor::from_f32(Vec::new(), vec![value]).map_err(|e| e.to_string())?;
        self.add(name, tensor)
    }

    pub(super) fn random(&mut self) -> &mut SplitMix64 {
        &mut self.random
    }

    pub(super) fn tensor(&mut self, name: &str, shape: &[usize], data: Vec<f32>) -> Made<String> {
        self.params = self.params.saturating_add(data.len());
        let tensor = Tensor::from_f32(shape.to_vec(), data).map_err(|e| e.to_string())?;
        self.add(name, tensor)
    }

    fn add(&mut self, name: &str, tensor: Tensor) -> Made<String> {
        self.b.tensor(name, tensor).map_err(|e| e.to_string())?;
        Ok(name.to_owned())
    }

    /// Returns the number of elements of a shape that the network still has room for.
    pub(super) fn room_for(&self, shape: &[usize]) -> Made<usize> {
        let n = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match n {
            Some(0) => Err("a width of 0 makes nothing".to_owned()),
            Some(n) if n <= MAX_PARAMS.saturating_sub(self.params) => Ok(n),
            _ => Err(format!(
                "the network would have more than {MAX_PARAMS} weights"
            )),
        }
    }
}
