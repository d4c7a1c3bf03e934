//! All blocks together, against the dense model's output and its last block outputs.

use std::collections::{BTreeMap, BTreeSet};

use regraft_exec::HostTensor;
use regraft_graph::cost::total;
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::op::BinaryOp;
use regraft_graph::{Graph, NodeId, Op, Tensor, ValueId};

use super::target::{has_shape, keep_axes};
use super::{
    BlockRecord, BlockTuning, Pair, RebuildConfig, Tunable, has_copies, held_zeros, in_dense,
};
use crate::augment::Batches;
use crate::calibrate::n_samples;
use crate::cell::parameters;
use crate::stream::Stream;
use crate::tune::{MAX_JOINT_EPOCHS, Schedule, Target, Term, TuneConfig, Varied, tune};
use crate::{Activations, Monitor, RebuildError};

/// Block outputs guide the first four fifths of the passes, less and less; in the end only what the
/// network gives counts.
const ALONE_AFTER: f64 = 0.8;

/// Bytes of dense block outputs that are kept for the held-out samples and as scales.
const TARGET_BYTES: usize = 256 << 20;

/// Tunes every layer on the whole network, and returns the tensors that were changed.
pub(super) fn tune_jointly(
    pair: Pair<'_>,
    graph: &Graph,
    outputs: &[ValueId],
    tunable: Tunable<'_>,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &RebuildConfig,
    monitor: &dyn Monitor,
) -> Result<BlockRecord, RebuildError> {
    let options = config.tune.clone().unwrap_or_default();
    let dense = Stream::new("dense", pair.teacher, inputs, config.exec)?;
    let mut pruned = Stream::new("pruned", graph, inputs, config.exec)?;
    let n_fit = pruned.n_chunks() - config.held_out_chunks;
    let facts = infer(graph, &InferOptions::default())?;
    let terms = terms(pair, &facts, &dense, outputs)?;
    let values: Vec<ValueId> = terms.iter().map(|t| t.value).collect();
    let batches: Vec<(ValueId, Batches<'_>)> = inputs
        .iter()
        .map(|(v, a)| {
            let chunks = &a.chunks[..n_fit.min(a.chunks.len())];
            (
                *v,
                Batches::new(chunks, a.axis, options.augment, options.mix),
            )
        })
        .collect();
    let vary = |step: u64| -> Result<Varied, RebuildError> {
        let feeds: Vec<(ValueId, HostTensor)> =
            batches.iter().map(|(v, b)| (*v, b.batch(step))).collect();
        let wanted = dense.run(&feeds, &values)?;
        let kept = values
            .iter()
            .zip(&wanted)
            .map(|(v, t)| keep_axes(t, *v, pair.kept))
            .collect();
        Ok((feeds, kept))
    };
    let of_layers = tunable.layers.iter().flat_map(|l| [Some(l.weight), l.bias]);
    let ids = of_layers.flatten().chain(parameters(tunable.cells));
    let factors = new_factors(pair.dense, graph);
    let ids = ids.chain(factors.iter().copied());
    let start: Vec<(ValueId, Tensor)> = ids
        .filter_map(|id| Some((id, graph.tensor(id)?.clone())))
        .collect();
    let target = Target {
        terms,
        n_fit,
        vary: Some(&vary),
    };
    let schedule = Schedule {
        epochs: epochs(pair, graph, n_samples(inputs), &options)?,
        learning_rate: options.joint_learning_rate,
        alone_after: Some(ALONE_AFTER),
        held_zeros: held_zeros(config, tunable.layers),
        factors,
        biases: tunable.cells.iter().filter_map(|c| c.bias).collect(),
    };
    let found = tune(&mut pruned, &target, &start, &schedule, monitor)?;
    let (tensors, tuning) = match found {
        Some((tensors, tuned)) => {
            let output = "the whole network".to_owned();
            (tensors, vec![BlockTuning { output, tuned }])
        }
        None => (Vec::new(), Vec::new()),
    };
    let named = |(id, tensor): (ValueId, Tensor)| (graph.value(id).name.clone(), tensor);
    Ok(BlockRecord {
        index: 0,
        tensors: tensors.into_iter().map(named).collect(),
        layers: Vec::new(),
        tuning,
    })
}

/// Returns the factors of the units of recurrent cells that edits put in, by which they are added.
fn new_factors(dense: &Graph, graph: &Graph) -> BTreeSet<ValueId> {
    let of_new_cell = |v: &ValueId| {
        let node = graph.producer(*v).map(|id| &graph.node(id).op);
        matches!(node, Some(Op::Recurrent(_))) && in_dense(dense, *v).is_none()
    };
    let multiplies = |v: &ValueId| {
        let readers = graph.consumers(*v);
        let by = |n: &NodeId| {
            let node = graph.node(*n);
            node.op == Op::Binary(BinaryOp::Mul) && node.inputs.iter().flatten().any(of_new_cell)
        };
        !readers.is_empty() && readers.iter().all(by)
    };
    let of_units = |v: &ValueId| {
        let tensor = graph.tensor(*v);
        tensor.is_some_and(|t| t.as_f32().is_some_and(|data| data.len() > 1))
    };
    let all = graph.initializers().keys().copied();
    all.filter(|v| of_units(v) && multiplies(v)).collect()
}

/// The network's output, and block outputs from the last one back as long as they fit; not those with copies of
/// channels, which need not do what those do.
fn terms(
    pair: Pair<'_>,
    facts: &Facts,
    dense: &Stream,
    outputs: &[ValueId],
) -> Result<Vec<Term>, RebuildError> {
    let mut terms: Vec<Term> = Vec::new();
    let mut bytes = 0;
    for &output in outputs
        .iter()
        .rev()
        .filter(|v| in_dense(pair.teacher, **v).is_some() && !has_copies(pair.kept, **v))
    {
        let mut chunks = Vec::new();
        for chunk in 0..dense.n_chunks() {
            let value = dense.chunk(chunk, &[output])?.remove(0);
            chunks.push(keep_axes(&value, output, pair.kept));
        }
        if !chunks.iter().all(|c| has_shape(facts, output, c)) {
            continue;
        }
        bytes += chunks.iter().map(|c| c.len() * 4).sum::<usize>();
        if !terms.is_empty() && bytes > TARGET_BYTES {
            break;
        }
        terms.push(Term::new(output, chunks, 1.0));
    }
    // What the network gives counts as much as everything on the way to it.
    let others = terms.len().saturating_sub(1).max(1) as f64;
    if let Some(first) = terms.first_mut() {
        first.weight = others;
    }
    Ok(terms)
}

/// As many passes as the work allows: one forward of the teacher, forward and backward of the student.
fn epochs(
    pair: Pair<'_>,
    graph: &Graph,
    samples: usize,
    tuning: &TuneConfig,
) -> Result<usize, RebuildError> {
    if let Some(epochs) = tuning.joint_epochs {
        return Ok(epochs);
    }
    let options = InferOptions::default();
    let teacher = total(pair.teacher, &infer(pair.teacher, &options)?).macs;
    let student = total(graph, &infer(graph, &options)?).macs;
    let pass = teacher
        .saturating_add(student.saturating_mul(3))
        .saturating_mul(samples as u64)
        .max(1);
    Ok(usize::try_from(tuning.joint_macs / pass)
        .unwrap_or(usize::MAX)
        .clamp(1, MAX_JOINT_EPOCHS))
}
