//! One pass of the dense model over the calibration samples.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, ValueId};
use regraft_solve::Gram;

use crate::cell::find_cells;
use crate::statistics::{Accumulator, row_plan};
use crate::stream::Stream;
use crate::{Activations, Layer, Monitor, RebuildError, Stage};

/// What the dense model's activations tell.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// For each layer (by its output), the Gram of its input, one a group of the layer; for each
    /// recurrent cell (by its states) that of input and state side by side.
    pub grams: BTreeMap<ValueId, Vec<Gram>>,
    /// The model's first output, chunk by chunk.
    pub outputs: Activations,
}

impl Calibration {
    /// Returns the mean square of each input channel of a layer.
    pub fn channel_energy(&self, layer: &Layer) -> Option<Vec<f64>> {
        let grams = self.grams.get(&layer.output)?;
        let taps = layer.taps.max(1);
        let diagonals = grams.iter().flat_map(|g| g.matrix.diagonal());
        let all: Vec<f64> = diagonals.collect();
        Some(
            all.chunks(taps)
                .map(|c| c.iter().sum::<f64>() / taps as f64)
                .collect(),
        )
    }
}

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalibrateConfig {
    /// Rows taken for each layer at most: output positions over all samples.
    pub max_rows: usize,
    /// How the models run; results do not depend on the threads.
    pub exec: ExecOptions,
}

/// Returns the input statistics of every layer of the dense model.
///
/// # Errors
/// [`RebuildError::Run`] if the model cannot run, [`RebuildError::Solve`] for values that are not
/// finite, [`RebuildError::Interrupted`] if the monitor asks for it.
pub fn calibrate(
    graph: &Graph,
    facts: &Facts,
    layers: &[Layer],
    inputs: &BTreeMap<ValueId, Activations>,
    config: CalibrateConfig,
    monitor: &dyn Monitor,
) -> Result<Calibration, RebuildError> {
    let stream = Stream::new("dense", graph, inputs, config.exec)?;
    let n_samples = n_samples(inputs);
    let mut work = Vec::new();
    for layer in layers {
        let Some(plan) = row_plan(graph, facts, layer, n_samples, config.max_rows) else {
            continue;
        };
        let label = graph.node_label(layer.node);
        let sums = Accumulator::new(layer, false, config.exec.threads)
            .map_err(RebuildError::solve(&label))?;
        work.push((layer, plan, label, sums));
    }
    let mut cells = Vec::new();
    for cell in find_cells(graph, facts) {
        let label = graph.node_label(cell.node);
        let plan = cell.row_plan(facts, n_samples, config.max_rows);
        let sums = Accumulator::of_size(cell.d(), None, config.exec.threads)
            .map_err(RebuildError::solve(&label))?;
        cells.push((cell, plan, label, sums));
    }
    let mut fetch: Vec<ValueId> = work.iter().map(|(l, ..)| l.input).collect();
    fetch.extend(cells.iter().flat_map(|(c, ..)| c.reads()));
    fetch.extend(graph.outputs().first());
    fetch.sort_unstable();
    fetch.dedup();
    let mut outputs = Activations::default();
    let mut first_sample = 0;
    for chunk in 0..stream.n_chunks() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        monitor.progress(Stage::Calibrate, chunk, stream.n_chunks(), "dense model");
        let values = stream.chunk(chunk, &fetch)?;
        let by_id: BTreeMap<ValueId, HostTensor> = fetch.iter().copied().zip(values).collect();
        for (layer, plan, label, sums) in &mut work {
            if let Some(x) = by_id.get(&layer.input) {
                sums.add(plan, first_sample, x, None)
                    .map_err(RebuildError::solve(label))?;
            }
        }
        for (cell, plan, label, sums) in &mut cells {
            let reads = cell.reads();
            let values: Vec<HostTensor> =
                reads.iter().filter_map(|v| by_id.get(v).cloned()).collect();
            if let Some(x) = cell.joined(&values) {
                sums.add(plan, first_sample, &x, None)
                    .map_err(RebuildError::solve(label))?;
            }
        }
        if let Some(y) = graph.outputs().first().and_then(|v| by_id.get(v)) {
            outputs.chunks.push(y.clone());
        }
        first_sample += samples_of_chunk(inputs, chunk);
    }
    monitor.progress(
        Stage::Calibrate,
        stream.n_chunks(),
        stream.n_chunks(),
        "dense model",
    );
    let mut grams = BTreeMap::new();
    let layers = work
        .into_iter()
        .map(|(l, _, label, s)| (l.output, label, s));
    let cells = cells
        .into_iter()
        .map(|(c, _, label, s)| (c.states, label, s));
    for (output, label, sums) in layers.chain(cells) {
        let found = sums.finish().map_err(RebuildError::solve(&label))?;
        grams.insert(output, found.grams);
    }
    Ok(Calibration { grams, outputs })
}

/// Returns the samples of one chunk of what is fed.
pub(crate) fn samples_of_chunk(inputs: &BTreeMap<ValueId, Activations>, chunk: usize) -> usize {
    let counts = inputs.values().filter_map(|a| a.n_samples(chunk));
    counts.max().unwrap_or(0)
}

/// Returns all samples of what is fed.
pub(crate) fn n_samples(inputs: &BTreeMap<ValueId, Activations>) -> usize {
    let n_chunks = inputs.values().map(|a| a.chunks.len()).max();
    (0..n_chunks.unwrap_or(0))
        .map(|chunk| samples_of_chunk(inputs, chunk))
        .sum()
}
