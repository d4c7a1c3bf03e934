//! What a layer's levels cost the network's output, measured.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::{Graph, Tensor, ValueId};

use super::database::{Database, LayerLevels};
use crate::sensitivity::output_error;
use crate::stream::Stream;
use crate::{Activations, Monitor, RebuildError, Stage};

/// Shares of a layer's connections at which the network's output is measured.
const MEASURED_SHARES: [f64; 5] = [0.5, 0.25, 0.12, 0.06, 0.02];

/// The network's error with one layer at some of its levels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Level and relative squared error of the network's output, from the first level to the last.
    pub points: Vec<(usize, f64)>,
}

impl Measured {
    /// Returns the network's error at every level: what was measured, and between two measured
    /// levels the layer's own error scaled by factors that are interpolated in its logarithm.
    pub fn at_all_levels(&self, layer: &LayerLevels) -> Vec<f64> {
        let own = |level: usize| layer.levels[level].error.max(1e-12);
        let factors: Vec<(usize, f64)> = self
            .points
            .iter()
            .filter(|(l, _)| *l < layer.levels.len())
            .map(|(l, e)| (*l, (e.max(1e-12) / own(*l)).ln()))
            .collect();
        let factor = |level: usize| {
            let below = factors
                .iter()
                .rev()
                .find(|(l, _)| *l <= level)
                .or(factors.first());
            let above = factors.iter().find(|(l, _)| *l >= level).or(factors.last());
            match (below, above) {
                (Some((a, x)), Some((b, y))) if b > a => {
                    x + (y - x) * (level - a) as f64 / (b - a) as f64
                }
                (Some((_, x)), _) => *x,
                _ => 0.0,
            }
        };
        let mut worst = 0.0f64;
        let error = |level: usize| {
            if level > 0 {
                worst = worst.max(own(level) * factor(level).exp());
            }
            worst
        };
        (0..layer.levels.len()).map(error).collect()
    }
}

/// Returns the network's error with each layer alone at a few of its levels.
///
/// # Errors
/// [`RebuildError::Run`]; [`RebuildError::Interrupted`] if asked for.
pub fn measure_levels(
    graph: &Graph,
    database: &Database,
    inputs: &BTreeMap<ValueId, Activations>,
    exec: ExecOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<Measured>, RebuildError> {
    let mut network = Network::new(graph, inputs, exec)?;
    let n = database.layers.len();
    let mut result = Vec::new();
    for (done, layer) in database.layers.iter().enumerate() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        monitor.progress(Stage::Sensitivity, done, n, &layer.node);
        if let Some(node) = graph.producer(layer.output) {
            network.stream.advance(node)?;
        }
        let mut points: Vec<(usize, f64)> = Vec::new();
        for share in MEASURED_SHARES {
            let wanted = share * layer.n_weights as f64;
            let distance = |l: &usize| (layer.levels[*l].kept as f64 / wanted).ln().abs();
            let level = (1..layer.levels.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)));
            let Some(level) = level.filter(|l| points.iter().all(|(p, _)| p != l)) else {
                continue;
            };
            network.set(layer, level)?;
            points.push((level, network.error()?));
        }
        network.set(layer, 0)?;
        points.sort_by_key(|(l, _)| *l);
        result.push(Measured { points });
    }
    monitor.progress(Stage::Sensitivity, n, n, "");
    Ok(result)
}

/// The dense network with some layers replaced by levels, judged by its output.
pub(super) struct Network {
    stream: Stream,
    output: Option<ValueId>,
    reference: Vec<HostTensor>,
}

impl Network {
    pub(super) fn new(
        graph: &Graph,
        inputs: &BTreeMap<ValueId, Activations>,
        exec: ExecOptions,
    ) -> Result<Self, RebuildError> {
        let stream = Stream::new("dense", graph, inputs, exec)?;
        let output = graph.outputs().first().copied();
        let reference = match output {
            Some(output) => stream.all_chunks(output)?,
            None => Vec::new(),
        };
        Ok(Self {
            stream,
            output,
            reference,
        })
    }

    /// Puts a layer at one of its levels.
    pub(super) fn set(&mut self, layer: &LayerLevels, level: usize) -> Result<(), RebuildError> {
        let Some(level) = layer.levels.get(level) else {
            return Ok(());
        };
        let pairs = layer.values.iter().zip(&level.tensors);
        let tensors: Vec<(ValueId, Tensor)> = pairs
            .map(|(v, packed)| Ok((*v, packed.tensor()?)))
            .collect::<Result<_, RebuildError>>()?;
        self.stream.set(&tensors)
    }

    /// Returns the relative squared error of the output.
    pub(super) fn error(&self) -> Result<f64, RebuildError> {
        let Some(output) = self.output else {
            return Ok(0.0);
        };
        output_error(&self.stream, output, &self.reference)
    }
}
