//! What every input of a model is fed, sample by sample.

use std::collections::BTreeMap;
use std::ops::Range;

use regraft_exec::HostTensor;
use regraft_graph::{Graph, ValueId};
use regraft_rebuild::Activations;

use crate::model::Model;
use crate::{Error, ErrorKind};

/// The values of every input in chunks that belong together.
///
/// The first input is the one whose leading axis counts the samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fed {
    by_input: Vec<(ValueId, Activations)>,
}

impl Fed {
    /// Returns the values of one input alone.
    pub(crate) fn one(input: ValueId, values: Activations) -> Self {
        Self {
            by_input: vec![(input, values)],
        }
    }

    /// Returns the values of several inputs, all with as many chunks.
    pub(crate) fn several(by_input: Vec<(ValueId, Activations)>) -> Self {
        Self { by_input }
    }

    /// Returns the values of the input whose leading axis counts the samples.
    pub(crate) fn main(&self) -> &Activations {
        const NONE: &Activations = &Activations {
            chunks: Vec::new(),
            axis: Some(0),
        };
        self.by_input.first().map_or(NONE, |(_, a)| a)
    }

    /// Returns true if there is more than one input.
    pub(crate) fn has_others(&self) -> bool {
        self.by_input.len() > 1
    }

    pub(crate) fn n_chunks(&self) -> usize {
        self.main().chunks.len()
    }

    pub(crate) fn n_samples(&self) -> usize {
        let chunks = self.main().chunks.iter();
        chunks.filter_map(|c| c.shape.first()).sum()
    }

    /// Returns one chunk of every input.
    pub(crate) fn chunk(&self, chunk: usize) -> Vec<(ValueId, HostTensor)> {
        let of = |(v, a): &(ValueId, Activations)| Some((*v, a.chunks.get(chunk)?.clone()));
        self.by_input.iter().filter_map(of).collect()
    }

    /// Returns a batch of `n` samples from the first chunk, over again where it holds fewer; `axes`
    /// are those of the samples in the inputs behind the first one.
    pub(crate) fn batch(
        &self,
        n: usize,
        axes: &[(ValueId, Option<usize>)],
    ) -> Vec<(ValueId, HostTensor)> {
        let mut feeds = self.chunk(0);
        for (value, tensor) in &mut feeds {
            let other = axes.iter().find(|(v, _)| v == value);
            if let Some(axis) = other.map_or(Some(0), |(_, axis)| *axis) {
                let held = tensor.shape.get(axis).copied().unwrap_or(1).max(1);
                let indices: Vec<usize> = (0..n).map(|i| i % held).collect();
                if let Some(batch) = tensor.select(axis, &indices) {
                    *tensor = batch;
                }
            }
        }
        feeds
    }

    /// Returns some chunks of every input.
    pub(crate) fn chunks(&self, range: Range<usize>) -> BTreeMap<ValueId, Activations> {
        let n = self.n_chunks();
        let (from, to) = (range.start.min(n), range.end.min(n));
        let part = |a: &Activations| Activations {
            axis: a.axis,
            chunks: a.chunks.get(from..to.max(from)).unwrap_or(&[]).to_vec(),
        };
        self.by_input.iter().map(|(v, a)| (*v, part(a))).collect()
    }

    /// Returns all chunks of every input.
    pub(crate) fn all(&self) -> BTreeMap<ValueId, Activations> {
        self.by_input.iter().cloned().collect()
    }

    /// Returns the same values for another model: by input name, or for its one input.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if an input of the other model has no values here.
    pub(crate) fn for_model(&self, graph: &Graph, other: &Model) -> Result<Self, Error> {
        let inputs = other.graph.required_inputs();
        if let ([(_, values)], [input]) = (&self.by_input[..], &inputs[..]) {
            return Ok(Self::one(*input, values.clone()));
        }
        let named = |(v, a): &(ValueId, Activations)| {
            let name = &graph.value(*v).name;
            Some((other.graph.find_value(name)?, a.clone()))
        };
        let by_input: Vec<_> = self.by_input.iter().filter_map(named).collect();
        match inputs
            .iter()
            .find(|v| by_input.iter().all(|(w, _)| w != *v))
        {
            None => Ok(Self { by_input }),
            Some(v) => Err(Error::new(
                ErrorKind::Input,
                format!("nothing is fed to input `{}`", other.graph.value(*v).name),
            )
            .with_hint("both models need inputs of the same names")),
        }
    }

    /// Adds the chunks of other samples of the same inputs behind these.
    pub(crate) fn extend(&mut self, other: Self) {
        if self.by_input.is_empty() {
            *self = other;
            return;
        }
        for ((_, a), (_, b)) in self.by_input.iter_mut().zip(other.by_input) {
            a.chunks.extend(b.chunks);
        }
    }

    /// Returns every tensor, input by input.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &HostTensor> {
        self.by_input.iter().flat_map(|(_, a)| &a.chunks)
    }
}
