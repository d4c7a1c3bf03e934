//! How long one batch takes, dense against small, in the same run.
//!
//! Both models run in turn, so that what else the machine does meets both alike, and the medians
//! are taken. ONNX Runtime is the clock where a library of it is found, because that is what the
//! small model will run in; otherwise the caller's own executor is. The result says which, and a
//! library that was found but could not be used is named in the note with the reason.
//!
//! ONNX Runtime also serves as an outside judge: [`OnnxSession::run_tensors`] gives its outputs.

mod clock;
mod elf;
mod error;
mod find;
mod runtime;
mod tensors;
mod timing;

use std::path::{Path, PathBuf};

pub(crate) use clock::{LayerClock, LayerSpec};
pub(crate) use error::LatencyError;
use find::RuntimeSearch;
pub(crate) use runtime::Feed;
use runtime::{OnnxRuntime, OnnxSession};
pub(crate) use tensors::NamedTensor;
pub(crate) use timing::{MeasureConfig, measure_interleaved};
use timing::{Quartiles, Timing};

/// Time of one batch of two models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Latency {
    /// What ran the models: `ONNX Runtime 1.32.0`, or the name that the caller gave its own.
    pub(crate) runtime: String,
    /// Median of the dense model, milliseconds.
    pub(crate) dense_ms: f64,
    /// Median of the small model, milliseconds.
    pub(crate) small_ms: f64,
    /// `small_ms / dense_ms`.
    pub(crate) ratio: f64,
    /// Quartiles of the ratios of the pairs.
    pub(crate) ratio_quartiles: Quartiles,
    /// Samples in a batch.
    pub(crate) batch: usize,
    /// Threads of the runtime.
    pub(crate) threads: usize,
    /// Timed runs of each model.
    pub(crate) runs: usize,
    /// Why ONNX Runtime did not run the models, if it did not.
    pub(crate) note: Option<String>,
}

impl Latency {
    /// Returns the figures of `timing`, without a note.
    pub(crate) fn new(runtime: &str, timing: Timing, batch: usize, threads: usize) -> Self {
        Self {
            runtime: runtime.to_owned(),
            dense_ms: timing.dense_ms,
            small_ms: timing.small_ms,
            ratio: timing.ratio,
            ratio_quartiles: timing.ratio_quartiles,
            batch,
            threads,
            runs: timing.runs,
            note: None,
        }
    }
}

/// The two models, their input, and where ONNX Runtime may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidates<'a> {
    /// The dense model, as ONNX bytes without external data.
    pub(crate) dense: &'a [u8],
    /// The small model, likewise.
    pub(crate) small: &'a [u8],
    /// One batch for every input of both.
    pub(crate) inputs: &'a [NamedTensor<'a>],
    /// Samples in it.
    pub(crate) batch: usize,
    /// Threads of the runtime.
    pub(crate) threads: usize,
    /// The library, or its directory, if the user named one; then nothing else is tried.
    pub(crate) library: Option<&'a Path>,
    /// Directories, or Python environments, that are searched before the usual ones.
    pub(crate) folders: &'a [PathBuf],
}

/// Returns the time of one batch of both models: in ONNX Runtime where one is found that runs
/// them, else what `ours` measures in our own executor, with a note that says why.
///
/// # Errors
/// Only those of `ours`: whatever ONNX Runtime cannot do ends up in the note.
pub(crate) fn measure<E>(
    candidates: &Candidates<'_>,
    config: &MeasureConfig,
    ours: impl FnOnce() -> Result<Latency, E>,
) -> Result<Latency, E> {
    in_onnx_runtime(candidates, config).or_else(|error| {
        Ok(Latency {
            note: Some(error.note()),
            ..ours()?
        })
    })
}

/// Returns the model of the ONNX bytes `model` in ONNX Runtime, as an outside judge of its
/// outputs: in `library` if it is named, else in the first one found in `folders` and the usual
/// places.
///
/// # Errors
/// [`LatencyError`] if no library can be used, or it does not take the model.
pub(crate) fn open_in_onnx_runtime(
    model: &[u8],
    threads: usize,
    library: Option<&Path>,
    folders: &[PathBuf],
) -> Result<OnnxSession, LatencyError> {
    OnnxRuntime::open(&search(library, folders))?.session(model, threads)
}

fn in_onnx_runtime(
    candidates: &Candidates<'_>,
    config: &MeasureConfig,
) -> Result<Latency, LatencyError> {
    let runtime = OnnxRuntime::open(&search(candidates.library, candidates.folders))?;
    let mut dense = runtime.session(candidates.dense, candidates.threads)?;
    let mut small = runtime.session(candidates.small, candidates.threads)?;
    let inputs = dense.prepared(candidates.inputs)?;
    let timing = measure_interleaved(
        &mut || dense.run_prepared(&inputs),
        &mut || small.run_prepared(&inputs),
        config,
    )?;
    let batch = candidates.batch;
    Ok(Latency::new(
        &runtime.name(),
        timing,
        batch,
        candidates.threads,
    ))
}

fn search(library: Option<&Path>, folders: &[PathBuf]) -> RuntimeSearch {
    match library {
        Some(path) => RuntimeSearch::exactly(path),
        None => RuntimeSearch::usual(folders),
    }
}

#[cfg(test)]
mod tests;
