//! Refitting and tuning a pruned model in graph order.

mod batch_norm;
mod copies;
mod joint;
mod refit_layer;
pub mod regrow;
mod sparse_layer;
mod target;

use std::collections::{BTreeMap, BTreeSet};

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Graph, NodeId, Tensor, ValueId};
use regraft_prune::apply::ApplyReport;

use crate::blocks::{Block, find_blocks};
use crate::cell::{Cell, find_cells, refit_cell};
use crate::layer::with_biases;
use crate::stream::Stream;
use crate::tune::{Schedule, Target, Term, tune};
use crate::{Activations, Layer, Monitor, RebuildError, Stage, find_layers};
pub use copies::copied_inputs;
pub(crate) use copies::{copies, has_copies, keep_apart, keep_biases_apart};
use refit_layer::refit_layer;
pub(crate) use refit_layer::{NOTHING_TO_MEND, error_of, solve_groups};
pub(crate) use target::{difference, keep_axes};

pub use crate::tune::{DEFAULT_JOINT_MACS, MAX_JOINT_EPOCHS, TuneConfig, Tuned};
pub use refit_layer::LayerRefit;
pub use sparse_layer::{MaskMethod, Objectives, Sparsity};

/// Kept indices of an axis of a dense value, `None` where nothing was removed.
pub type KeptAxes = BTreeMap<(ValueId, usize), Vec<usize>>;

/// Returns what removing left of each axis.
pub fn kept_axes(report: &ApplyReport) -> KeptAxes {
    let axes = report.kept.iter();
    axes.map(|(value, axis, keep)| ((value, axis), keep.to_vec()))
        .collect()
}

/// Returns the indices of the dense network behind axes that were cut, then grew by copies.
pub fn indices_behind(kept: &KeptAxes, grown: &KeptAxes) -> KeptAxes {
    let mut all = kept.clone();
    for (axis, copies) in grown {
        let list = match kept.get(axis) {
            Some(before) => copies
                .iter()
                .filter_map(|i| before.get(*i).copied())
                .collect(),
            None => copies.clone(),
        };
        all.insert(*axis, list);
    }
    all
}

/// How to rebuild.
#[derive(Clone, Debug, PartialEq)]
pub struct RebuildConfig {
    /// First damping tried, relative to the mean second moment of the inputs.
    pub damping: f64,
    /// Rows of each layer's least-squares problem at most.
    pub max_rows: usize,
    /// Tuning after each block's refit; `None` for closed form only.
    pub tune: Option<TuneConfig>,
    /// False where the weights are the best start already, as those of a network that was tuned: they are tuned
    /// on as a whole, and nothing else is done.
    pub refit: bool,
    /// Chunks at the end of the samples that only judge.
    pub held_out_chunks: usize,
    /// Single connections that go, layer by layer; `None` where only channels do.
    pub sparsity: Option<Sparsity>,
    /// How the models run; results do not depend on the threads.
    pub exec: ExecOptions,
}

/// One block's tuning.
#[derive(Clone, Debug)]
pub struct BlockTuning {
    /// The value that leaves the block.
    pub output: String,
    /// What was reached.
    pub tuned: Tuned,
}

/// A rebuilt model and what was done.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// The model.
    pub graph: Graph,
    /// The layers, in graph order.
    pub layers: Vec<LayerRefit>,
    /// The tuned blocks, in graph order.
    pub blocks: Vec<BlockTuning>,
}

/// One finished block: enough to go on after a kill.
#[derive(Clone, Debug)]
pub struct BlockRecord {
    /// The block's number.
    pub index: usize,
    /// The initializers it set, by name.
    pub tensors: Vec<(String, Tensor)>,
    /// Its layers.
    pub layers: Vec<LayerRefit>,
    /// Its batch normalisations and its tuning.
    pub tuning: Vec<BlockTuning>,
}

/// Where finished blocks are kept.
pub trait Journal {
    /// Returns the record of a block that an earlier run finished.
    fn find(&self, index: usize) -> Option<BlockRecord>;

    /// Keeps a record.
    fn keep(&self, record: &BlockRecord);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn find(&self, _: usize) -> Option<BlockRecord> {
        None
    }

    fn keep(&self, _: &BlockRecord) {}
}

/// The two models and what connects them.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// What every layer and block is rebuilt towards.
    pub dense: &'a Graph,
    /// What the whole network is tuned towards at the end; it has the values of `dense`, and is the
    /// same graph unless pruning goes in steps.
    pub teacher: &'a Graph,
    /// The pruned model. Its values have the identifiers of the dense one's.
    pub pruned: &'a Graph,
    /// What was kept of the dense values.
    pub kept: &'a KeptAxes,
}

/// Returns the pruned model rebuilt towards the dense one.
///
/// Layers are refitted in graph order: inputs come from the pruned model with everything before
/// already rebuilt, targets from the dense one. A refit or tuning that does not lower the error on
/// the held-out chunks is not kept, and the result says so.
///
/// # Errors
/// [`RebuildError`]: a model that cannot run, a Gram that has no factor on any rung, too few
/// samples, or an interruption.
pub fn rebuild(
    pair: Pair<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &RebuildConfig,
    journal: &dyn Journal,
    monitor: &dyn Monitor,
) -> Result<Rebuilt, RebuildError> {
    let options = InferOptions::default();
    let pruned = with_biases(pair.pruned, &infer(pair.pruned, &options)?)?;
    let facts = infer(&pruned, &options)?;
    let layers = refittable(&pruned, find_layers(&pruned, &facts));
    let cells = find_cells(&pruned, &facts);
    let mut walk = Walk {
        dense: pair.dense,
        pruned: &pruned,
        facts: &facts,
        kept: pair.kept,
        layers: &layers,
        cells: &cells,
        dense_cells: find_cells(pair.dense, &infer(pair.dense, &options)?),
        dense_stream: Stream::new("dense", pair.dense, inputs, config.exec)?,
        pruned_stream: Stream::new("pruned", &pruned, inputs, config.exec)?,
        weights: BTreeMap::new(),
        config,
        monitor,
    };
    let n_chunks = walk.pruned_stream.n_chunks();
    if n_chunks < config.held_out_chunks + 1 {
        return Err(RebuildError::TooFewSamples {
            found: n_chunks,
            needed: config.held_out_chunks + 1,
        });
    }
    let blocks = find_blocks(&pruned, &walk.pruned_stream, &layers, &cells);
    let mut result = Rebuilt {
        graph: pruned.clone(),
        layers: Vec::new(),
        blocks: Vec::new(),
    };
    let walked = if config.refit { &blocks[..] } else { &[] };
    for (index, block) in walked.iter().enumerate() {
        let label = block
            .output
            .map_or(String::new(), |v| pruned.value(v).name.clone());
        monitor.progress(Stage::Rebuild, index, blocks.len(), &label);
        let record = if let Some(record) = journal.find(index) {
            walk.replay(&record)?;
            record
        } else {
            let record = walk.block(index, block)?;
            journal.keep(&record);
            record
        };
        result.layers.extend(record.layers);
        result.blocks.extend(record.tuning);
        walk.leave(block)?;
    }
    monitor.progress(Stage::Rebuild, walked.len(), walked.len(), "");
    let weights = walk.weights;
    result.graph = with_tensors(&pruned, &weights)?;
    let jointly = |t: &TuneConfig| t.joint_macs > 0 && t.joint_epochs != Some(0);
    if config.tune.as_ref().is_some_and(jointly) {
        let record = if let Some(record) = journal.find(blocks.len()) {
            record
        } else {
            let record = BlockRecord {
                index: blocks.len(),
                ..joint::tune_jointly(
                    pair,
                    &result.graph,
                    &blocks.iter().filter_map(|b| b.output).collect::<Vec<_>>(),
                    Tunable {
                        layers: &layers,
                        cells: &cells,
                    },
                    inputs,
                    config,
                    monitor,
                )?
            };
            journal.keep(&record);
            record
        };
        result.take(record)?;
    }
    Ok(result)
}

impl Rebuilt {
    /// Takes over what the tuning of the whole network gave.
    fn take(&mut self, record: BlockRecord) -> Result<(), RebuildError> {
        let named =
            |(name, tensor): (String, Tensor)| Some((self.graph.find_value(&name)?, tensor));
        let tensors = record.tensors.into_iter().filter_map(named).collect();
        self.graph = with_tensors(&self.graph, &tensors)?;
        self.blocks.extend(record.tuning);
        Ok(())
    }
}

/// Returns the node of the dense model that makes a value of the pruned one; `None` for a value
/// that the dense model does not have.
fn in_dense(dense: &Graph, value: ValueId) -> Option<NodeId> {
    (value.index() < dense.n_values())
        .then(|| dense.producer(value))
        .flatten()
}

fn with_tensors(graph: &Graph, tensors: &BTreeMap<ValueId, Tensor>) -> Result<Graph, RebuildError> {
    let mut edit = graph.edit();
    for (id, tensor) in tensors {
        edit.set_initializer(*id, tensor.clone());
    }
    Ok(edit.finish()?)
}

/// Returns the weights whose zeros stay zero.
fn held_zeros(config: &RebuildConfig, layers: &[Layer]) -> BTreeSet<ValueId> {
    let Some(sparsity) = &config.sparsity else {
        return BTreeSet::new();
    };
    let sparse = layers
        .iter()
        .filter(|l| sparsity.kept.contains_key(&l.output));
    sparse.map(|l| l.weight).collect()
}

/// Layers whose weight only one node reads: a shared weight has no least-squares problem of its own.
fn refittable(graph: &Graph, layers: Vec<Layer>) -> Vec<Layer> {
    let alone = |v: ValueId| graph.consumers(v).len() == 1;
    layers
        .into_iter()
        .filter(|l| alone(l.weight) && l.bias.is_none_or(alone))
        .collect()
}

/// A node whose weights have a closed form.
enum Refittable<'a> {
    Layer(&'a Layer),
    Cell(&'a Cell),
}

/// What the tuning of the whole network may change.
#[derive(Clone, Copy, Debug)]
struct Tunable<'a> {
    layers: &'a [Layer],
    cells: &'a [Cell],
}

/// The two models on their way, block after block.
pub(crate) struct Walk<'a> {
    pub(crate) dense: &'a Graph,
    pub(crate) pruned: &'a Graph,
    pub(crate) facts: &'a regraft_graph::infer::Facts,
    pub(crate) kept: &'a KeptAxes,
    layers: &'a [Layer],
    cells: &'a [Cell],
    pub(crate) dense_cells: Vec<Cell>,
    pub(crate) dense_stream: Stream,
    pub(crate) pruned_stream: Stream,
    // Initializers that differ from the pruned graph's.
    weights: BTreeMap<ValueId, Tensor>,
    pub(crate) config: &'a RebuildConfig,
    monitor: &'a dyn Monitor,
}

impl<'a> Walk<'a> {
    pub(crate) fn n_fit(&self) -> usize {
        self.pruned_stream.n_chunks() - self.config.held_out_chunks
    }

    /// Returns how a layer's connections are chosen and how many stay; `None` where all do.
    fn sparsity_of(&self, layer: &Layer) -> Option<(&Sparsity, usize)> {
        let sparsity = self.config.sparsity.as_ref()?;
        Some((sparsity, *sparsity.kept.get(&layer.output)?))
    }

    /// Returns true if a layer is solved on the dense model's inputs.
    fn symmetric(&self, layer: &Layer) -> bool {
        let found = self.sparsity_of(layer);
        found.is_some_and(|(s, _)| s.objectives == Objectives::Symmetric)
    }

    fn current(&self, id: ValueId) -> Option<Tensor> {
        self.weights
            .get(&id)
            .or_else(|| self.pruned.tensor(id))
            .cloned()
    }

    pub(crate) fn set(&mut self, tensors: Vec<(ValueId, Tensor)>) -> Result<(), RebuildError> {
        self.pruned_stream.set(&tensors)?;
        self.weights.extend(tensors);
        Ok(())
    }

    fn replay(&mut self, record: &BlockRecord) -> Result<(), RebuildError> {
        let mut tensors = Vec::new();
        for (name, tensor) in &record.tensors {
            let Some(id) = self.pruned.find_value(name) else {
                return Err(RebuildError::NotRelated {
                    reason: format!("no initializer `{name}`"),
                });
            };
            tensors.push((id, tensor.clone()));
        }
        self.set(tensors)
    }

    fn block(&mut self, index: usize, block: &Block) -> Result<BlockRecord, RebuildError> {
        let mut reports = Vec::new();
        let mut touched = BTreeSet::new();
        for node in self.nodes(block) {
            if self.monitor.cancelled() {
                return Err(RebuildError::Interrupted);
            }
            let report = match node {
                Refittable::Layer(layer) => {
                    touched.extend([Some(layer.weight), layer.bias].into_iter().flatten());
                    refit_layer(self, layer)?
                }
                Refittable::Cell(cell) => {
                    touched.extend(cell.parameters());
                    refit_cell(self, cell)?
                }
            };
            reports.extend(report);
        }
        let mut tuning = batch_norm::re_estimate(self, block, &mut touched)?;
        if let (Some(config), Some(output), false) =
            (&self.config.tune, block.output, touched.is_empty())
        {
            tuning.extend(self.tune(config, output, &touched)?);
        }
        let named = |id: &ValueId| {
            Some((
                self.pruned.value(*id).name.clone(),
                self.weights.get(id)?.clone(),
            ))
        };
        Ok(BlockRecord {
            index,
            tensors: touched.iter().filter_map(named).collect(),
            layers: reports,
            tuning,
        })
    }

    /// The layers and cells of a block in graph order.
    fn nodes(&self, block: &Block) -> Vec<Refittable<'a>> {
        let (layers, cells) = (self.layers, self.cells);
        let cells = block.cells.iter().map(|i| &cells[*i]);
        let layers = block.layers.iter().map(|i| &layers[*i]);
        let layers = layers.map(|l| (l.node, Refittable::Layer(l)));
        let mut all: Vec<_> = layers
            .chain(cells.map(|c| (c.node, Refittable::Cell(c))))
            .collect();
        all.sort_by_key(|(node, _)| *node);
        all.into_iter().map(|(_, part)| part).collect()
    }

    fn tune(
        &mut self,
        config: &TuneConfig,
        output: ValueId,
        touched: &BTreeSet<ValueId>,
    ) -> Result<Option<BlockTuning>, RebuildError> {
        // A value that the dense model does not have cannot be compared, nor can copies of units.
        if in_dense(self.dense, output).is_none() || has_copies(self.kept, output) {
            return Ok(None);
        }
        let mut chunks: Vec<HostTensor> = Vec::new();
        for chunk in 0..self.dense_stream.n_chunks() {
            let dense = self.dense_stream.chunk(chunk, &[output])?.remove(0);
            let wanted = target::keep_axes(&dense, output, self.kept);
            if !target::has_shape(self.facts, output, &wanted) {
                return Ok(None);
            }
            chunks.push(wanted);
        }
        let start: Vec<(ValueId, Tensor)> = touched
            .iter()
            .filter_map(|id| Some((*id, self.current(*id)?)))
            .collect();
        let target = Target {
            terms: vec![Term::new(output, chunks, 1.0)],
            n_fit: self.n_fit(),
            vary: None,
        };
        let schedule = Schedule {
            epochs: config.epochs,
            learning_rate: config.learning_rate,
            alone_after: None,
            held_zeros: held_zeros(self.config, self.layers),
            factors: BTreeSet::new(),
            biases: self.cells.iter().filter_map(|c| c.bias).collect(),
        };
        let found = tune(
            &mut self.pruned_stream,
            &target,
            &start,
            &schedule,
            self.monitor,
        )?;
        let Some((tensors, tuned)) = found else {
            return Ok(None);
        };
        self.weights.extend(tensors);
        Ok(Some(BlockTuning {
            output: self.pruned.value(output).name.clone(),
            tuned,
        }))
    }

    /// Moves both models past the block.
    fn leave(&mut self, block: &Block) -> Result<(), RebuildError> {
        self.pruned_stream.advance(block.end)?;
        let dense_end = match block.output.and_then(|v| in_dense(self.dense, v)) {
            Some(node) => NodeId::new(node.index() + 1),
            None => return Ok(()),
        };
        self.dense_stream.advance(dense_end)
    }
}
