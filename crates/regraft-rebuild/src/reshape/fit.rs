//! Least squares for single layers of an edited network: towards values of a teacher, towards values
//! that the caller gives, or towards what is still missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::{Graph, Tensor, ValueId};
use regraft_solve::{LeastSquares, Matrix};

use super::Network;
use crate::calibrate::n_samples;
use crate::rebuild::{KeptAxes, copies, error_of, keep_axes, solve_groups};
use crate::statistics::{Accumulator, row_plan};
use crate::stream::Stream;
use crate::{Activations, Layer, Monitor, RebuildError};

/// First damping, relative to the mean second moment of the inputs: copies of units are nearly
/// alike, and their Gram nearly singular.
const DEFAULT_DAMPING: f64 = 1e-4;

/// How layers of an edited network are fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct FitConfig {
    /// First damping tried, relative to the mean second moment of the inputs.
    pub damping: f64,
    /// Rows of each layer's least-squares problem at most.
    pub max_rows: usize,
    /// Chunks at the end of the samples that only judge, at least one.
    pub held_out_chunks: usize,
    /// How the networks run; results do not depend on the threads.
    pub exec: ExecOptions,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self {
            damping: DEFAULT_DAMPING,
            max_rows: 100_000,
            held_out_chunks: 1,
            exec: ExecOptions::default(),
        }
    }
}

/// What layers are fitted on.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// What is fed.
    pub inputs: &'a BTreeMap<ValueId, Activations>,
    /// What values should be, chunk by chunk, where it is not what the dense network gives: labels
    /// for the output, say.
    pub targets: &'a BTreeMap<ValueId, Activations>,
}

/// What fitting one layer gave.
pub(super) struct Fitted {
    /// Weight and bias.
    pub(super) tensors: Vec<(ValueId, Tensor)>,
    /// Relative squared error on the held-out samples before.
    pub(super) held_out_before: f64,
    /// The same with the new weights.
    pub(super) held_out_after: f64,
}

/// Number of chunks to fit on, and all of them.
///
/// # Errors
/// [`RebuildError::TooFewSamples`] if none is left to fit on, or none held out.
pub(super) fn chunks(
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FitConfig,
) -> Result<(usize, usize), RebuildError> {
    let all = inputs.values().map(|a| a.chunks.len()).min().unwrap_or(0);
    let held = config.held_out_chunks.max(1);
    if all <= held {
        return Err(RebuildError::TooFewSamples {
            found: all,
            needed: held + 1,
        });
    }
    Ok((all - held, all))
}

/// Input and target of a layer for one chunk; `None` where there is no target.
pub(super) type Rows<'a> =
    dyn Fn(usize) -> Result<Option<(HostTensor, HostTensor)>, RebuildError> + 'a;

/// Solves one layer's weights; `None` where there is nothing to solve for. Units that are copies of others by
/// `kept` stay apart from them.
pub(super) fn fit_layer(
    network: &Network,
    layer: &Layer,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FitConfig,
    (rows, kept): (&Rows<'_>, &KeptAxes),
) -> Result<Option<Fitted>, RebuildError> {
    let graph = &network.graph;
    let label = graph.node_label(layer.node);
    let (n_fit, n_all) = chunks(inputs, config)?;
    let plan = row_plan(
        graph,
        &network.facts,
        layer,
        n_samples(inputs),
        config.max_rows,
    );
    let (Some(plan), Some(old)) = (plan, layer.weights(graph)) else {
        return Ok(None);
    };
    let problems = |chunks: Range<usize>| -> Result<Option<Vec<LeastSquares>>, RebuildError> {
        let solve = RebuildError::solve(&label);
        let sums = Accumulator::new(layer, true, config.exec.threads);
        let mut sums = sums.map_err(solve)?;
        let samples = |chunk| crate::calibrate::samples_of_chunk(inputs, chunk);
        let mut first: usize = (0..chunks.start).map(samples).sum();
        for chunk in chunks {
            let Some((x, y)) = rows(chunk)? else {
                return Ok(None);
            };
            sums.add(&plan, first, &x, Some(&y))
                .map_err(RebuildError::solve(&label))?;
            first += samples(chunk);
        }
        if sums.n_rows() < 2 {
            return Ok(None);
        }
        let found = sums.finish().map_err(RebuildError::solve(&label))?;
        let found = found.into_problems(layer.bias_mode());
        Ok(Some(found.map_err(RebuildError::solve(&label))?))
    };
    let old_bias = layer.bias(graph);
    let Some(fit) = problems(0..n_fit)? else {
        return Ok(None);
    };
    let mut solved = solve_groups(layer, &fit, &old, &old_bias, config.damping)
        .map_err(RebuildError::solve(&label))?;
    let copies = copies(kept, layer.output, layer.n_out);
    solved.keep_apart(&copies, (&old, &old_bias));
    drop(fit);
    let Some(held) = problems(n_fit..n_all)? else {
        return Ok(None);
    };
    let judge =
        |w: &Matrix, b: &[f64]| error_of(layer, &held, w, b).map_err(RebuildError::solve(&label));
    Ok(Some(Fitted {
        tensors: layer.tensors(graph, &solved.weights, &solved.bias)?,
        held_out_before: judge(&old, &old_bias)?,
        held_out_after: judge(&solved.weights, &solved.bias)?,
    }))
}

/// What layers are fitted towards.
#[derive(Clone, Copy)]
pub(super) struct Goal<'a> {
    /// The network whose values are wanted.
    pub(super) teacher: &'a Graph,
    /// Which of its indices the network has.
    pub(super) kept: &'a KeptAxes,
    /// Values that are wanted instead of the teacher's.
    pub(super) targets: &'a BTreeMap<ValueId, Activations>,
}

/// One layer that was fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedLayer {
    /// The value it makes.
    pub output: ValueId,
    /// Relative squared error on the held-out samples before.
    pub held_out_before: f64,
    /// The same afterwards; no more than before, as a fit that is worse is not kept.
    pub held_out_after: f64,
}

/// Returns the network with linear layers, named by the values they make, solved by least squares
/// towards the targets of the samples, or where there are none towards what the teacher gives.
///
/// What the network has of the teacher's indices is `kept`; it is read only where the teacher is.
/// # Errors
/// [`RebuildError::TooFewSamples`] if no chunk is left to fit on, and whatever stops a run or a
/// solution.
pub fn refit(
    network: &Network,
    outputs: &BTreeSet<ValueId>,
    (teacher, kept): (&Graph, &KeptAxes),
    samples: Samples<'_>,
    config: &FitConfig,
    monitor: &dyn Monitor,
) -> Result<(Graph, Vec<FittedLayer>), RebuildError> {
    let goal = Goal {
        teacher,
        kept,
        targets: samples.targets,
    };
    chunks(samples.inputs, config)?;
    fit_layers(network, outputs, goal, samples.inputs, config, monitor)
}

/// Fits layers, named by the values they make, in graph order, each from what the layers before
/// then give it; what does not lower the held-out error is not kept.
pub(super) fn fit_layers(
    network: &Network,
    outputs: &BTreeSet<ValueId>,
    goal: Goal<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FitConfig,
    monitor: &dyn Monitor,
) -> Result<(Graph, Vec<FittedLayer>), RebuildError> {
    let teacher = Stream::new("dense", goal.teacher, inputs, config.exec)?;
    let mut stream = Stream::new("pruned", &network.graph, inputs, config.exec)?;
    let mut done = Vec::new();
    let mut new: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    let alone = |v: ValueId| network.graph.consumers(v).len() == 1;
    let layers = network.layers.iter();
    let layers = layers.filter(|l| outputs.contains(&l.output) && alone(l.weight));
    for layer in layers.filter(|l| l.bias.is_none_or(alone)) {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        stream.advance(layer.node)?;
        let rows = |chunk: usize| {
            let y = match goal.targets.get(&layer.output) {
                Some(given) => given.chunks.get(chunk).cloned(),
                None if made(goal.teacher, layer.output) => {
                    let y = teacher.chunk(chunk, &[layer.output])?.remove(0);
                    let y = keep_axes(&y, layer.output, goal.kept);
                    Some(y).filter(|y| layer.has_outputs_of(y))
                }
                None => None,
            };
            let x = stream.chunk(chunk, &[layer.input])?.remove(0);
            Ok(y.map(|y| (x, y)))
        };
        let rows = (&rows as &Rows<'_>, goal.kept);
        let Some(fitted) = fit_layer(network, layer, inputs, config, rows)? else {
            continue;
        };
        let kept = fitted.held_out_after < fitted.held_out_before;
        if kept {
            stream.set(&fitted.tensors)?;
            new.extend(fitted.tensors);
        }
        done.push(FittedLayer {
            output: layer.output,
            held_out_before: fitted.held_out_before,
            held_out_after: fitted.held_out_after.min(fitted.held_out_before),
        });
    }
    let mut edit = network.graph.edit();
    for (value, tensor) in new {
        edit.set_initializer(value, tensor);
    }
    Ok((edit.finish()?, done))
}

/// True if a network computes a value.
pub(super) fn made(graph: &Graph, value: ValueId) -> bool {
    value.index() < graph.n_values() && graph.producer(value).is_some()
}

/// Returns the relative squared error of the network's first output on the held-out chunks, towards
/// the targets given for it or else the teacher's.
///
/// # Errors
/// [`RebuildError::Run`] if one of the networks does not run.
pub(super) fn held_out_error(
    graph: &Graph,
    goal: Goal<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &FitConfig,
) -> Result<f64, RebuildError> {
    let (n_fit, n_all) = chunks(inputs, config)?;
    let held = |a: &Activations| Activations {
        chunks: a.chunks.get(n_fit..n_all).unwrap_or(&[]).to_vec(),
        axis: a.axis,
    };
    let inputs: BTreeMap<ValueId, Activations> =
        inputs.iter().map(|(v, a)| (*v, held(a))).collect();
    let Some(output) = graph.outputs().first() else {
        return Ok(0.0);
    };
    let reference = match goal.targets.get(output) {
        Some(given) => held(given).chunks,
        None => crate::output::outputs(goal.teacher, &inputs, config.exec)?,
    };
    let found = crate::output::outputs(graph, &inputs, config.exec)?;
    Ok(crate::output::relative_error(&found, &reference))
}
