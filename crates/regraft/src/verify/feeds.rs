//! Random tensors for every input of a network, by its type, its shape and what reads it.

use std::collections::{BTreeMap, BTreeSet};

use regraft_data::SplitMix64;
use regraft_exec::{DEFAULT_MAX_ELEMENTS, HostTensor};
use regraft_graph::infer::Facts;
use regraft_graph::op::{IndexOp, UnaryOp};
use regraft_graph::{DType, Dim, Graph, NodeId, Op, ValueId};

use super::demands::demands;
use super::name;
use crate::{Error, ErrorKind};

/// What every input of a network is fed.
pub(crate) type Feeds = Vec<(ValueId, HostTensor)>;

/// Sets of random tensors that are compared.
pub(crate) const SETS: usize = 2;

/// Extent of a free first axis, the batch.
const BATCH: usize = 4;

/// Extents of other free axes that are tried: lengths of sentences first, then sides of pictures.
const EXTENTS: [usize; 4] = [8, 32, 64, 224];

/// Of four elements of a mask without an order, three are set.
const SET_OF_FOUR: u64 = 3;

/// The shapes that a network with free axes is fed in, one after the other until one runs.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    seed: u64,
    extents: &'static [usize],
}

impl<'a> Attempts<'a> {
    /// Returns the shapes to try: one if every axis but the batch is fixed.
    pub(crate) fn new(graph: &'a Graph, facts: &'a Facts, seed: u64) -> Self {
        let is_free = |&v: &ValueId| {
            let shape = facts.shape(v).unwrap_or(&[]);
            shape.iter().skip(1).any(|d| d.fixed().is_none())
        };
        let any_free = graph.required_inputs().iter().any(is_free);
        Self {
            graph,
            facts,
            seed,
            extents: if any_free { &EXTENTS } else { &EXTENTS[..1] },
        }
    }

    /// Returns the sets of tensors of each attempt, made when they are asked for.
    pub(crate) fn sets(&self) -> impl Iterator<Item = Result<Vec<Feeds>, Error>> + '_ {
        self.extents.iter().map(|&extent| {
            let seeds = (0..SETS as u64).map(|i| self.seed.wrapping_add(i));
            let set = |seed| random_feeds(self.graph, self.facts, (BATCH, extent), seed);
            seeds.map(set).collect()
        })
    }
}

/// Returns the samples in a set: the first extent of the first input.
pub(crate) fn n_samples(feeds: &Feeds) -> usize {
    let first = feeds.first().and_then(|(_, t)| t.shape.first());
    first.copied().unwrap_or(1)
}

/// Returns one batch of random tensors for every input, other free axes as long as a sentence.
pub(crate) fn random_batch(graph: &Graph, facts: &Facts, batch: usize) -> Result<Feeds, Error> {
    random_feeds(graph, facts, (batch, EXTENTS[1]), 0)
}

fn random_feeds(
    graph: &Graph,
    facts: &Facts,
    (batch, extent): (usize, usize),
    seed: u64,
) -> Result<Feeds, Error> {
    let inputs = graph.required_inputs();
    let demanded: Demanded = inputs
        .iter()
        .map(|v| (*v, demands(graph, facts, *v)))
        .collect();
    let extents = extents(facts, &inputs, (batch, extent), &demanded);
    let mut random = Random::new(seed ^ 0x7665_7269_6679);
    let mut feeds = Vec::new();
    for value in inputs {
        let shape = bound_shape(graph, facts, value, (&extents, &demanded))?;
        feeds.push((
            value,
            random_tensor(graph, facts, value, shape, &mut random)?,
        ));
    }
    Ok(feeds)
}

/// What weights demand of the axes of each input.
type Demanded = BTreeMap<ValueId, BTreeMap<usize, usize>>;

/// Returns an extent for every symbol: what weights demand, the batch where it is the first axis of an input.
fn extents(
    facts: &Facts,
    inputs: &[ValueId],
    (batch, extent): (usize, usize),
    demanded: &Demanded,
) -> BTreeMap<String, usize> {
    let mut extents = BTreeMap::new();
    for &value in inputs {
        for (axis, dim) in facts.shape(value).unwrap_or(&[]).iter().enumerate() {
            if let Dim::Symbol(symbol) = dim {
                let needed = demanded.get(&value).and_then(|d| d.get(&axis)).copied();
                let wanted = if axis == 0 { batch } else { extent };
                let wanted = needed.unwrap_or(wanted);
                let entry = extents.entry(symbol.to_string()).or_insert(wanted);
                if axis == 0 || needed.is_some() {
                    *entry = wanted;
                }
            }
        }
    }
    extents
}

fn bound_shape(
    graph: &Graph,
    facts: &Facts,
    value: ValueId,
    (extents, demanded): (&BTreeMap<String, usize>, &Demanded),
) -> Result<Vec<usize>, Error> {
    let no = |what: String| {
        Error::new(
            ErrorKind::Input,
            format!("input `{}` {what}", name(graph, value)),
        )
        .with_hint("give the inputs with --inputs FILE.npz, one array for each input by its name")
    };
    let Some(dims) = facts.shape(value) else {
        return Err(no("declares no shape".to_owned()));
    };
    let shape: Vec<usize> = dims
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Fixed(n) => *n,
            Dim::Symbol(symbol) => extents.get(&**symbol).copied().unwrap_or(1),
            Dim::Unknown => demanded
                .get(&value)
                .and_then(|d| d.get(&axis))
                .copied()
                .unwrap_or(1),
        })
        .collect();
    let elements = shape.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    if elements.is_none_or(|n| n > DEFAULT_MAX_ELEMENTS) {
        return Err(no(format!("has the shape {shape:?}, which is too large")));
    }
    Ok(shape)
}

fn random_tensor(
    graph: &Graph,
    facts: &Facts,
    value: ValueId,
    shape: Vec<usize>,
    random: &mut Random,
) -> Result<HostTensor, Error> {
    let n: usize = shape.iter().product();
    let dtype = facts.dtype(value);
    let indexed = || indexed_extent(graph, facts, value);
    let integers = |below: u64, random: &mut Random| -> Vec<i64> {
        (0..n).map(|_| random.below(below) as i64).collect()
    };
    Ok(match dtype {
        Some(dtype) if dtype.is_float() => {
            HostTensor::f32(shape, (0..n).map(|_| random.normal() as f32).collect())
        }
        Some(DType::Bool) => {
            let mask = mask(&shape, random);
            HostTensor::bool(shape, mask)
        }
        Some(dtype) if dtype.is_integer() => match (indexed(), dtype) {
            (Some(below), _) => HostTensor::i64(shape, integers(below, random)),
            // Bytes that select nothing are the pixels of a picture.
            (None, DType::U8) => HostTensor::i64(shape, integers(256, random)),
            (None, _) => {
                let mask = mask(&shape, random).into_iter().map(i64::from);
                HostTensor::i64(shape, mask.collect())
            }
        },
        other => {
            let what = other.map_or_else(|| "no element type".to_owned(), |t| t.to_string());
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "input `{}` has {what}, which nothing is fed to",
                    name(graph, value)
                ),
            ));
        }
    })
}

/// Returns ones up to a random length along the last axis, which is never zero: padding is at the
/// end. A mask of one axis or none has its ones anywhere.
fn mask(shape: &[usize], random: &mut Random) -> Vec<bool> {
    let n = shape.iter().product();
    let length = shape.last().copied().unwrap_or(1);
    if shape.len() < 2 || length < 2 {
        return (0..n).map(|_| random.below(4) < SET_OF_FOUR).collect();
    }
    let mut mask = Vec::with_capacity(n);
    while mask.len() < n {
        let least = length.div_ceil(2);
        let set = least + random.below((length - least + 1) as u64) as usize;
        mask.extend((0..length).map(|i| i < set));
    }
    mask
}

/// Returns how many slices there are to select for the elements of `value`, where it reaches the
/// indices of some `Gather` or `GatherElements` unchanged: the smallest number of all of them.
fn indexed_extent(graph: &Graph, facts: &Facts, value: ValueId) -> Option<u64> {
    let mut seen = BTreeSet::from([value]);
    let mut work = vec![value];
    let mut least: Option<u64> = None;
    while let Some(v) = work.pop() {
        for &id in graph.consumers(v) {
            if let Some(extent) = selected(graph, facts, id, v) {
                least = Some(least.map_or(extent, |l| l.min(extent)));
            }
            for out in moved(graph, id, v) {
                if seen.insert(out) {
                    work.push(out);
                }
            }
        }
    }
    least
}

/// Returns the extent that a node selects from with `value` as its indices.
fn selected(graph: &Graph, facts: &Facts, id: NodeId, value: ValueId) -> Option<u64> {
    let node = graph.node(id);
    let (Op::Gather { axis } | Op::Index(IndexOp::GatherElements { axis })) = node.op else {
        return None;
    };
    if node.input(1) != Some(value) {
        return None;
    }
    let shape = facts.shape(node.input(0)?)?;
    let axis = usize::try_from(if axis < 0 {
        axis.checked_add(i64::try_from(shape.len()).ok()?)?
    } else {
        axis
    })
    .ok()?;
    let extent = shape.get(axis)?.fixed()?;
    (extent > 0).then_some(extent as u64)
}

/// Returns the outputs of a node that hold elements of `value` and no others computed from them.
fn moved(graph: &Graph, id: NodeId, value: ValueId) -> Vec<ValueId> {
    let node = graph.node(id);
    let first = node.input(0) == Some(value);
    let moves = match &node.op {
        Op::Concat { .. } => true,
        Op::Where => !first,
        op => {
            first
                && matches!(
                    op,
                    Op::Cast { .. }
                        | Op::Unary(UnaryOp::Identity)
                        | Op::Reshape { .. }
                        | Op::Flatten { .. }
                        | Op::Transpose { .. }
                        | Op::Squeeze { .. }
                        | Op::Unsqueeze { .. }
                        | Op::Split { .. }
                        | Op::Slice(_)
                        | Op::Gather { .. }
                        | Op::Expand
                        | Op::Tile
                )
        }
    };
    if moves {
        node.outputs.iter().flatten().copied().collect()
    } else {
        Vec::new()
    }
}

/// Numbers from a seed.
#[derive(Debug)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Returns a normal number.
    pub(crate) fn normal(&mut self) -> f64 {
        let (a, b) = (self.0.uniform(), self.0.uniform());
        (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Returns a whole number below `n`, which is above 0; the bias is below 2⁻³² for any extent.
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n.max(1)
    }
}
