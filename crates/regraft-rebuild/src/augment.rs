//! Variations of image batches for tuning: the teacher sees the same variation, so none needs a label.

use regraft_data::{Augment, Mix, shuffled};
use regraft_exec::{HostData, HostTensor};

/// Draws the batches of tuning: samples in a new order each pass, varied and mixed.
#[derive(Debug)]
pub(crate) struct Batches<'a> {
    chunks: &'a [HostTensor],
    /// The axis of the samples; `None` if all share the value.
    axis: Option<usize>,
    /// Chunk and place in it of every sample.
    places: Vec<(usize, usize)>,
    augment: Augment,
    mix: Mix,
}

impl<'a> Batches<'a> {
    /// Returns batches from `chunks` with the samples on `axis`; what is not on the leading axis, or
    /// no image of floats, is neither varied nor mixed.
    pub(crate) fn new(
        chunks: &'a [HostTensor],
        axis: Option<usize>,
        augment: Augment,
        mix: Mix,
    ) -> Self {
        let place = |(c, t): (usize, &HostTensor)| {
            let n = axis.and_then(|a| t.shape.get(a).copied()).unwrap_or(0);
            (0..n).map(move |i| (c, i))
        };
        let places = chunks.iter().enumerate().flat_map(place).collect();
        Self {
            chunks,
            axis,
            places,
            augment,
            mix,
        }
    }

    /// Returns batch number `step`: as many samples as the first chunk has, every sample once a pass.
    pub(crate) fn batch(&self, step: u64) -> HostTensor {
        let Some(first) = self.chunks.first() else {
            return HostTensor::f32(vec![0], Vec::new());
        };
        let Some(axis) = self.axis.filter(|a| *a < first.shape.len()) else {
            return first.clone();
        };
        let n = first.shape[axis].max(1);
        let per_pass = (self.places.len() / n).max(1) as u64;
        let order = shuffled(self.places.len(), step / per_pass);
        let start = (step % per_pass) as usize * n;
        let picked: Vec<(usize, usize)> = (start..start + n)
            .map(|at| self.places[order[at % order.len()]])
            .collect();
        let batch = gathered(self.chunks, axis, &picked);
        // Only images of floats are varied.
        let ([n, c, h, w], Some(data)) = (&batch.shape[..], batch.as_f32()) else {
            return batch;
        };
        let shape = [*n, *c, *h, *w];
        let data = self.augment.apply(data, shape, step);
        HostTensor::f32(batch.shape.clone(), self.mix.apply(&data, shape, step))
    }
}

/// Returns the samples at `picked` (chunk, place in it) side by side along `axis`.
fn gathered(chunks: &[HostTensor], axis: usize, picked: &[(usize, usize)]) -> HostTensor {
    let mut shape = chunks.first().map_or_else(Vec::new, |c| c.shape.clone());
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    shape[axis] = picked.len();
    let runs = || {
        (0..outer).flat_map(|o| {
            picked.iter().map(move |&(chunk, i)| {
                let extent = chunks[chunk].shape[axis];
                (chunk, (o * extent + i) * inner)
            })
        })
    };
    let data = match chunks.first().map(|c| &c.data) {
        Some(HostData::I64(_)) => HostData::I64(joined(runs(), inner, |c| chunks[c].as_i64())),
        Some(HostData::Bool(_)) => HostData::Bool(joined(runs(), inner, |c| chunks[c].as_bool())),
        _ => HostData::F32(joined(runs(), inner, |c| chunks[c].as_f32())),
    };
    HostTensor { shape, data }
}

/// Returns `len` elements from each start in each chunk.
fn joined<'a, T: Copy + 'a>(
    runs: impl Iterator<Item = (usize, usize)>,
    len: usize,
    data: impl Fn(usize) -> Option<&'a [T]>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (chunk, start) in runs {
        if let Some(run) = data(chunk).and_then(|d| d.get(start..start + len)) {
            all.extend_from_slice(run);
        }
    }
    all
}
