//! The samples of an archive in the order in which they stand there.

use regraft_exec::{HostData, HostTensor};
use regraft_graph::ValueId;
use regraft_rebuild::Activations;

use super::Fed;

/// An array for each input, and the axis of the samples in it (`None`: the same for all).
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) arrays: Vec<(ValueId, Option<usize>, HostTensor)>,
    pub(crate) n: usize,
}

impl Rows {
    /// Returns some samples in chunks.
    pub(crate) fn fed(&self, indices: &[usize], chunk_len: usize) -> Fed {
        let chunks: Vec<&[usize]> = indices.chunks(chunk_len.max(1)).collect();
        let of = |(value, axis, tensor): &(ValueId, Option<usize>, HostTensor)| {
            let chunk = |part: &&[usize]| {
                let selected = axis.and_then(|axis| tensor.select(axis, part));
                selected.unwrap_or_else(|| tensor.clone())
            };
            let chunks = chunks.iter().map(chunk).collect();
            let axis = *axis;
            (*value, Activations { chunks, axis })
        };
        Fed::several(self.arrays.iter().map(of).collect())
    }

    /// Returns one sample after the other as a batch.
    pub(crate) fn batch(&self, indices: &[usize]) -> Vec<(ValueId, HostTensor)> {
        self.fed(indices, indices.len()).chunk(0)
    }

    /// Returns what is fed to an input, and the axis of its samples.
    pub(crate) fn array(&self, input: ValueId) -> Option<(usize, &HostTensor)> {
        let found = self.arrays.iter().find(|(v, ..)| *v == input)?;
        Some((found.1?, &found.2))
    }

    /// Puts samples, one after the other in `from`, in the places `indices` of an input of floats;
    /// `None` if they do not fit.
    pub(crate) fn put(
        &mut self,
        input: ValueId,
        indices: &[usize],
        from: &HostTensor,
    ) -> Option<()> {
        let (_, axis, tensor) = self.arrays.iter_mut().find(|(v, ..)| *v == input)?;
        let axis = (*axis)?;
        let n = *tensor.shape.get(axis)?;
        let n_from = *from.shape.get(axis)?;
        let inner: usize = tensor.shape.get(axis + 1..)?.iter().product();
        let outer: usize = tensor.shape.get(..axis)?.iter().product();
        let source = from.as_f32()?;
        let HostData::F32(target) = &mut tensor.data else {
            return None;
        };
        if source.len() != outer * n_from * inner || indices.len() > n_from {
            return None;
        }
        for o in 0..outer {
            for (i, &at) in indices.iter().enumerate() {
                let to = (o * n + at) * inner;
                let at = (o * n_from + i) * inner;
                let part = source.get(at..at + inner)?;
                target.get_mut(to..to + inner)?.copy_from_slice(part);
            }
        }
        Some(())
    }
}

/// Which samples of an archive do what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ordered {
    pub(crate) rows: Rows,
    /// Those that the weights are fitted to.
    pub(crate) fit: Vec<usize>,
    /// Those that choose.
    pub(crate) held_out: Vec<usize>,
    /// Those that judge.
    pub(crate) rest: Vec<usize>,
}
