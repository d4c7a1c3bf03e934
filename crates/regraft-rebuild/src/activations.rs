//! Values of many samples, in chunks.

use regraft_exec::HostTensor;

/// One value for all calibration samples: one tensor a chunk, each with the chunk's samples on
/// whichever axis the network puts them.
#[derive(Clone, Debug)]
pub struct Activations {
    /// The tensors, in sample order.
    pub chunks: Vec<HostTensor>,
    /// The axis of the samples, for what is fed to a network; `None` if all samples share the value.
    pub axis: Option<usize>,
}

impl Default for Activations {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            axis: Some(0),
        }
    }
}

impl Activations {
    /// Returns samples cut into chunks of `chunk_len` along a new leading axis.
    ///
    /// # Shapes
    /// `data` holds `n` samples of shape `sample`.
    pub fn from_samples(data: &[f32], sample: &[usize], chunk_len: usize) -> Self {
        let len = sample.iter().product::<usize>().max(1);
        let chunks = data
            .chunks(len * chunk_len.max(1))
            .map(|part| {
                let mut shape = vec![part.len() / len];
                shape.extend_from_slice(sample);
                HostTensor::f32(shape, part.to_vec())
            })
            .collect();
        Self {
            chunks,
            axis: Some(0),
        }
    }

    /// Returns the samples of a chunk; `None` if samples share the value.
    pub(crate) fn n_samples(&self, chunk: usize) -> Option<usize> {
        self.chunks.get(chunk)?.shape.get(self.axis?).copied()
    }

    /// Returns the bytes held.
    pub fn size_bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.len() * 4).sum()
    }
}
