//! Batch normalisations that take the statistics of their batch, and the running statistics.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::{Graph, GraphEdit, Node, Op, ValueId};

/// Normalisations that train, in the order of the nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Normalisations {
    inputs: Vec<ValueId>,
    /// Mean and variance of the batch, of each in turn.
    moments: Vec<ValueId>,
    /// Where in `running` the two statistics of each are; nodes may share them.
    slots: Vec<[usize; 2]>,
    running: Vec<ValueId>,
}

/// Mean and variance of a batch, of one normalisation.
pub(crate) type BatchMoments = [Vec<f32>; 2];

/// Sums over batches, of every normalisation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments {
    batches: usize,
    /// Sums of the means.
    means: Vec<Vec<f64>>,
    /// Sums of the means of the squares.
    squares: Vec<Vec<f64>>,
}

impl Moments {
    pub(super) fn add(&mut self, of_batch: &[BatchMoments]) {
        let zeros = || of_batch.iter().map(|m| vec![0.0; m[0].len()]).collect();
        if self.batches == 0 {
            (self.means, self.squares) = (zeros(), zeros());
        }
        self.batches += 1;
        let sums = self.means.iter_mut().zip(&mut self.squares);
        for ((means, squares), [mean, variance]) in sums.zip(of_batch) {
            for (i, (m, v)) in mean.iter().zip(variance).enumerate() {
                let (m, v) = (f64::from(*m), f64::from(*v));
                means[i] += m;
                squares[i] += v + m * m;
            }
        }
    }
}

/// Returns the initializers of the two running statistics, where both are floats of one length.
fn statistics_of(graph: &Graph, node: &Node) -> Option<[ValueId; 2]> {
    if !matches!(node.op, Op::BatchNormalization { .. }) {
        return None;
    }
    let length = |id| graph.tensor(id).and_then(|t| t.as_f32()).map(<[f32]>::len);
    let (mean, variance) = (node.input(3)?, node.input(4)?);
    (length(mean)? == length(variance)?).then_some([mean, variance])
}

/// Returns the running statistics that a graph holds, in the order in which they are kept.
pub(crate) fn running_statistics(graph: &Graph, frozen: &[ValueId]) -> Vec<Vec<f32>> {
    let mut edit = graph.edit();
    let ids = Normalisations::unfix(graph, frozen, &mut edit).running;
    let data = |id: &ValueId| {
        graph
            .tensor(*id)
            .and_then(|t| t.as_f32())
            .map(<[f32]>::to_vec)
    };
    ids.iter()
        .map(data)
        .map(Option::unwrap_or_default)
        .collect()
}

impl Normalisations {
    /// Gives every batch normalisation with constant statistics those of its batch, but those whose
    /// scale and shift are `frozen`.
    pub(super) fn unfix(graph: &Graph, frozen: &[ValueId], edit: &mut GraphEdit) -> Self {
        let mut found = Self::default();
        for (id, node) in graph.nodes() {
            let (Op::BatchNormalization { epsilon }, Some(x)) = (&node.op, node.input(0)) else {
                continue;
            };
            let Some(statistics) = statistics_of(graph, node) else {
                continue;
            };
            let is_frozen = |port| node.input(port).is_some_and(|v| frozen.contains(&v));
            if is_frozen(1) && is_frozen(2) {
                continue;
            }
            // Momentum 0 leaves nothing of the running statistics: the outputs are the batch's.
            let op = Op::BatchStatistics {
                epsilon: *epsilon,
                momentum: 0.0,
            };
            edit.set_op(id, op);
            for (port, name) in [(1, "batch_mean"), (2, "batch_variance")] {
                let output = edit.add_value(name);
                edit.set_output(id, port, Some(output));
                found.moments.push(output);
            }
            found.inputs.push(x);
            let slots = statistics.map(|id| found.slot(id));
            found.slots.push(slots);
        }
        found
    }

    fn slot(&mut self, id: ValueId) -> usize {
        let known = self.running.iter().position(|r| *r == id);
        known.unwrap_or_else(|| {
            self.running.push(id);
            self.running.len() - 1
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Returns what each normalises.
    pub(super) fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Returns the values that are the statistics of a batch.
    pub(super) fn moments(&self) -> &[ValueId] {
        &self.moments
    }

    /// Returns the initializers that are running statistics.
    pub(super) fn running(&self) -> &[ValueId] {
        &self.running
    }

    /// Returns the statistics of a batch that was run.
    pub(super) fn read(&self, captured: &BTreeMap<ValueId, HostTensor>) -> Vec<BatchMoments> {
        let data = |id: &ValueId| {
            let tensor = captured.get(id).and_then(HostTensor::as_f32);
            tensor.unwrap_or_default().to_vec()
        };
        let (pairs, _) = self.moments.as_chunks::<2>();
        pairs.iter().map(|pair| pair.each_ref().map(data)).collect()
    }

    /// Moves running statistics on by a share `momentum` of the batch's; its variance counts as that
    /// of a sample: divided by one less than the `counts` of its numbers.
    pub(super) fn follow(
        &self,
        of_batch: &[BatchMoments],
        counts: &[usize],
        momentum: f32,
        statistics: &mut [Vec<f32>],
    ) {
        for (([mean, variance], slots), count) in of_batch.iter().zip(&self.slots).zip(counts) {
            let sample = (*count as f64 / count.saturating_sub(1).max(1) as f64) as f32;
            for (slot, new, factor) in [(slots[0], mean, 1.0), (slots[1], variance, sample)] {
                let running = statistics.get_mut(slot).into_iter().flatten();
                for (r, n) in running.zip(new) {
                    *r += momentum * (n * factor - *r);
                }
            }
        }
    }

    /// Returns the statistics of all batches together; `old` where there was none.
    pub(super) fn estimated(&self, sums: &Moments, old: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut statistics = old.to_vec();
        let batches = sums.batches as f64;
        let all = sums.means.iter().zip(&sums.squares);
        for ((means, squares), [at_mean, at_variance]) in all.zip(&self.slots) {
            let mean = means.iter().map(|m| m / batches);
            let variance = squares.iter().zip(mean.clone());
            let variance = variance.map(|(s, m)| ((s / batches - m * m).max(0.0)) as f32);
            if let Some(slot) = statistics.get_mut(*at_variance) {
                *slot = variance.collect();
            }
            if let Some(slot) = statistics.get_mut(*at_mean) {
                *slot = mean.map(|m| m as f32).collect();
            }
        }
        statistics
    }
}
