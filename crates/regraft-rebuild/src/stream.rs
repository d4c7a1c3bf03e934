//! A model standing at a point of its node order, with the values that cross that point for all
//! calibration samples.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor, LossTerm};
use regraft_graph::{Graph, NodeId, Tensor, ValueId};

use crate::calibrate::samples_of_chunk;
use crate::{Activations, RebuildError};

/// One model on its way through the calibration samples.
pub(crate) struct Stream {
    model: &'static str,
    executor: Executor,
    // Index one past the last node that reads each value; the number of nodes for outputs.
    last_use: Vec<usize>,
    // Index one past the node that defines each value; `None` for constants, 0 for inputs.
    defined: Vec<Option<usize>>,
    pub(crate) live: BTreeMap<ValueId, Activations>,
    position: usize,
    n_chunks: usize,
    // Samples of each chunk.
    samples: Vec<usize>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let live: Vec<_> = self.live.keys().collect();
        f.debug_struct("Stream")
            .field("model", &self.model)
            .field("position", &self.position)
            .field("live", &live)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Returns the model before its first node, fed with `inputs`.
    pub(crate) fn new(
        model: &'static str,
        graph: &Graph,
        inputs: &BTreeMap<ValueId, Activations>,
        options: ExecOptions,
    ) -> Result<Self, RebuildError> {
        let executor = Executor::new(graph, options).map_err(RebuildError::run(model))?;
        let mut last_use = vec![0; graph.n_values()];
        let mut defined = vec![None; graph.n_values()];
        for v in graph.required_inputs() {
            defined[v.index()] = Some(0);
        }
        for (id, node) in graph.nodes() {
            for v in node.reads() {
                last_use[v.index()] = id.index() + 1;
            }
            // What is computed from constants alone is not worth keeping: it is cheap to redo.
            let varies = node.reads().any(|v| defined[v.index()].is_some());
            for v in node.outputs.iter().flatten().filter(|_| varies) {
                defined[v.index()] = Some(id.index() + 1);
            }
        }
        for v in graph.outputs() {
            last_use[v.index()] = graph.n_nodes() + 1;
        }
        let n_chunks = inputs.values().map(|a| a.chunks.len()).min().unwrap_or(0);
        Ok(Self {
            model,
            executor,
            last_use,
            defined,
            live: inputs.clone(),
            position: 0,
            n_chunks,
            samples: (0..n_chunks)
                .map(|chunk| samples_of_chunk(inputs, chunk))
                .collect(),
        })
    }

    pub(crate) fn n_chunks(&self) -> usize {
        self.n_chunks
    }

    /// Returns the number of samples in the chunks before one.
    pub(crate) fn first_sample(&self, chunk: usize) -> usize {
        self.samples.iter().take(chunk).sum()
    }

    /// Returns the number of samples in all chunks.
    pub(crate) fn n_samples(&self) -> usize {
        self.samples.iter().sum()
    }

    /// Returns the values that cross the point before node `position`.
    pub(crate) fn frontier(&self, position: usize) -> Vec<ValueId> {
        let crosses = |i: &usize| {
            self.defined[*i].is_some_and(|d| d <= position) && self.last_use[*i] > position
        };
        (0..self.defined.len())
            .filter(crosses)
            .map(ValueId::new)
            .collect()
    }

    /// Replaces initializers.
    pub(crate) fn set(&mut self, tensors: &[(ValueId, Tensor)]) -> Result<(), RebuildError> {
        for (id, tensor) in tensors {
            let Some(data) = tensor.as_f32() else {
                continue;
            };
            self.executor
                .set_initializer(*id, data)
                .map_err(RebuildError::run(self.model))?;
        }
        Ok(())
    }

    /// Moves to the point before node `to`, keeping only what crosses it.
    pub(crate) fn advance(&mut self, to: NodeId) -> Result<(), RebuildError> {
        let to = to.index();
        if to <= self.position {
            return Ok(());
        }
        let frontier = self.frontier(to);
        let fresh: Vec<ValueId> = frontier
            .iter()
            .copied()
            .filter(|v| !self.live.contains_key(v))
            .collect();
        let mut made: BTreeMap<ValueId, Activations> =
            fresh.iter().map(|v| (*v, Activations::default())).collect();
        for chunk in 0..self.n_chunks {
            let values = self.chunk(chunk, &fresh)?;
            for (v, tensor) in fresh.iter().zip(values) {
                if let Some(a) = made.get_mut(v) {
                    a.chunks.push(tensor);
                }
            }
            // The last reader of a value was this run: its chunk can go.
            for (v, a) in &mut self.live {
                if !frontier.contains(v) {
                    a.chunks[chunk] = HostTensor::f32(vec![0], Vec::new());
                }
            }
        }
        self.live.retain(|v, _| frontier.contains(v));
        self.live.append(&mut made);
        self.position = to;
        Ok(())
    }

    /// Returns values of one chunk, computed from what is live, without moving.
    pub(crate) fn chunk(
        &self,
        chunk: usize,
        fetch: &[ValueId],
    ) -> Result<Vec<HostTensor>, RebuildError> {
        if fetch.is_empty() {
            return Ok(Vec::new());
        }
        self.run(&self.feeds(chunk), fetch)
    }

    /// Returns one value of every chunk, without moving.
    pub(crate) fn all_chunks(&self, value: ValueId) -> Result<Vec<HostTensor>, RebuildError> {
        let chunk = |chunk| Ok(self.chunk(chunk, &[value])?.remove(0));
        (0..self.n_chunks).map(chunk).collect()
    }

    /// Returns values computed from what is fed, whatever is live.
    pub(crate) fn run(
        &self,
        feeds: &[(ValueId, HostTensor)],
        fetch: &[ValueId],
    ) -> Result<Vec<HostTensor>, RebuildError> {
        let mut found = self
            .executor
            .run_captured(feeds, fetch)
            .map_err(RebuildError::run(self.model))?;
        // A value asked for twice is found once.
        let pick = |v: &ValueId| {
            found
                .remove(v)
                .unwrap_or_else(|| HostTensor::f32(vec![0], Vec::new()))
        };
        Ok(fetch.iter().map(pick).collect())
    }

    /// Returns what is live, for one chunk.
    pub(crate) fn feeds(&self, chunk: usize) -> Vec<(ValueId, HostTensor)> {
        self.live
            .iter()
            .filter_map(|(v, a)| a.chunks.get(chunk).map(|t| (*v, t.clone())))
            .collect()
    }

    /// Returns the gradients of a loss for what is fed.
    pub(crate) fn gradients(
        &self,
        feeds: &[(ValueId, HostTensor)],
        loss: &[LossTerm],
        wrt: &[ValueId],
    ) -> Result<BTreeMap<ValueId, HostTensor>, RebuildError> {
        let found = self
            .executor
            .gradients(feeds, loss, wrt)
            .map_err(RebuildError::run(self.model))?;
        Ok(found.gradients)
    }

    /// Replaces the elements of one initializer.
    pub(crate) fn set_data(&mut self, id: ValueId, data: &[f32]) -> Result<(), RebuildError> {
        self.executor
            .set_initializer(id, data)
            .map_err(RebuildError::run(self.model))
    }
}
