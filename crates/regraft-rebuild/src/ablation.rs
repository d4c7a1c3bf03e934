//! The network's output with some initializers replaced, one replacement after another.

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::{Graph, Tensor, ValueId};

use crate::stream::Stream;
use crate::{Activations, Monitor, RebuildError, Stage};

/// Initializers that are replaced together.
#[derive(Clone, Debug)]
pub struct Ablation {
    /// What is being worked on, for who waits.
    pub name: String,
    /// The new tensors, of the shapes of the old ones.
    pub tensors: Vec<(ValueId, Tensor)>,
}

/// Hands the network's first output to `found`: first as the network is (`None`), then for
/// each ablation alone (its index), in graph order.
///
/// An output comes as one tensor a chunk of `inputs`. Only what lies behind the first node that
/// reads a replaced tensor is computed again.
/// # Errors
/// [`RebuildError::Run`]; [`RebuildError::Interrupted`] if asked for.
pub fn ablate(
    graph: &Graph,
    inputs: &BTreeMap<ValueId, Activations>,
    ablations: &[Ablation],
    exec: ExecOptions,
    monitor: &dyn Monitor,
    found: &mut dyn FnMut(Option<usize>, Vec<HostTensor>),
) -> Result<(), RebuildError> {
    let Some(&output) = graph.outputs().first() else {
        return Ok(());
    };
    let mut stream = Stream::new("dense", graph, inputs, exec)?;
    found(None, run(&stream, output, monitor)?);
    let first = |a: &Ablation| {
        let readers = a.tensors.iter().flat_map(|(v, _)| graph.consumers(*v));
        readers.min().copied()
    };
    let mut order: Vec<usize> = (0..ablations.len()).collect();
    order.sort_by_key(|&i| (first(&ablations[i]), i));
    for (done, &i) in order.iter().enumerate() {
        let ablation = &ablations[i];
        monitor.progress(Stage::Sensitivity, done, ablations.len(), &ablation.name);
        if let Some(node) = first(ablation) {
            stream.advance(node)?;
        }
        stream.set(&ablation.tensors)?;
        found(Some(i), run(&stream, output, monitor)?);
        let old = |(v, _): &(ValueId, Tensor)| Some((*v, graph.tensor(*v)?.clone()));
        let old: Vec<_> = ablation.tensors.iter().filter_map(old).collect();
        stream.set(&old)?;
    }
    monitor.progress(Stage::Sensitivity, ablations.len(), ablations.len(), "");
    Ok(())
}

fn run(
    stream: &Stream,
    output: ValueId,
    monitor: &dyn Monitor,
) -> Result<Vec<HostTensor>, RebuildError> {
    let mut chunks = Vec::with_capacity(stream.n_chunks());
    for chunk in 0..stream.n_chunks() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        chunks.extend(stream.chunk(chunk, &[output])?);
    }
    Ok(chunks)
}
