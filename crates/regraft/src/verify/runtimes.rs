//! Where the two networks run: in our executor, else in ONNX Runtime.

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::Graph;

use super::feeds::{Attempts, Feeds, n_samples};
use super::{LIMIT, Networks, difference, name};
use crate::latency::{LatencyError, NamedTensor, open_in_onnx_runtime};
use crate::pipeline::RunOptions;
use crate::report::VerifyFigures;
use crate::{Error, ErrorKind};

/// What may run the networks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runtimes<'a> {
    /// How our executor runs them.
    pub(crate) exec: ExecOptions,
    /// Where ONNX Runtime is; one that is named here is used at once.
    pub(crate) options: &'a RunOptions,
}

/// What the networks are compared on.
#[derive(Debug)]
pub(crate) enum Probe<'a> {
    /// Random tensors.
    Random(Attempts<'a>),
    /// Tensors that the user gave.
    Given(Feeds),
}

/// Compares the two networks on `given` tensors, else on random ones, in our executor, and in ONNX
/// Runtime where that is named or our executor does not run the masked network.
///
/// # Errors
/// [`ErrorKind::Verify`] if only the pruned network does not run, [`ErrorKind::Model`] if no
/// runtime runs the masked one, [`ErrorKind::Input`] if nothing can be fed.
pub(crate) fn in_any_runtime(
    networks: Networks<'_>,
    probe: &Probe<'_>,
    runtimes: Runtimes<'_>,
) -> Result<VerifyFigures, Error> {
    let figures = |worst: f64, sets: &[Feeds]| {
        let samples = sets.iter().map(n_samples).sum();
        let given = matches!(probe, Probe::Given(_));
        VerifyFigures {
            max_relative_difference: Some(worst),
            limit: LIMIT,
            random_samples: if given { 0 } else { samples },
            calibration_samples: if given { samples } else { 0 },
            ..VerifyFigures::default()
        }
    };
    let ours = || {
        first_that_runs(probe, |sets| {
            Ok(figures(in_executor(networks, sets, runtimes.exec)?, sets))
        })
    };
    let theirs = || {
        first_that_runs(probe, |sets| {
            let (worst, runtime) = in_onnx_runtime(networks, sets, runtimes)?;
            Ok(VerifyFigures {
                runtime: Some(runtime),
                ..figures(worst, sets)
            })
        })
    };
    if runtimes.options.onnxruntime.is_some() {
        return theirs();
    }
    let here = match ours() {
        Err(error) if error.kind() == ErrorKind::Model => error,
        done => return done,
    };
    match theirs() {
        Ok(mut figures) => {
            figures.note = Some(format!("regraft does not run this network: {here}"));
            Ok(figures)
        }
        Err(there) if there.kind() == ErrorKind::Verify => Err(there),
        Err(there) => Err(Error::new(
            ErrorKind::Model,
            format!("the pruned network cannot be verified: {here}, and {there}"),
        )
        .with_hint(
            "nothing was written; name a libonnxruntime that runs this network with --onnxruntime",
        )),
    }
}

/// Returns what the first shape gives that the networks run in, else the last error.
fn first_that_runs<T>(
    probe: &Probe<'_>,
    run: impl Fn(&[Feeds]) -> Result<T, Error>,
) -> Result<T, Error> {
    let attempts = match probe {
        Probe::Given(feeds) => return run(std::slice::from_ref(feeds)),
        Probe::Random(attempts) => attempts,
    };
    let mut last = None;
    for sets in attempts.sets() {
        match run(&sets?) {
            Err(error) if error.kind() == ErrorKind::Model => last = Some(error),
            done => return done,
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, "nothing was tried")))
}

/// Returns the largest relative difference of an output over all sets, in our executor.
pub(super) fn in_executor(
    networks: Networks<'_>,
    sets: &[Feeds],
    exec: ExecOptions,
) -> Result<f64, Error> {
    // One after the other: each holds the weights of a whole network.
    let run = |graph: &Graph| -> Result<Vec<Vec<HostTensor>>, Error> {
        let executor = Executor::new(graph, exec)?;
        let outputs = sets.iter().map(|feeds| executor.run(feeds));
        Ok(outputs.collect::<Result<_, _>>()?)
    };
    let masked = run(networks.masked)?;
    Ok(difference(
        &masked,
        &run(networks.pruned).map_err(only_pruned)?,
    ))
}

fn in_onnx_runtime(
    networks: Networks<'_>,
    sets: &[Feeds],
    runtimes: Runtimes<'_>,
) -> Result<(f64, String), Error> {
    let options = runtimes.options;
    let run = |graph: &Graph| -> Result<(Vec<Vec<HostTensor>>, String), Error> {
        let bytes = regraft_onnx::write_bytes(graph)?;
        let library = options.onnxruntime.as_deref();
        let threads = runtimes.exec.threads;
        let mut session = open_in_onnx_runtime(&bytes, threads, library, &options.library_dirs)
            .map_err(|e| from_runtime(&e))?;
        drop(bytes);
        let mut found = Vec::new();
        for feeds in sets {
            let named: Vec<NamedTensor<'_>> = feeds
                .iter()
                .map(|(value, tensor)| NamedTensor {
                    name: name(graph, *value),
                    dtype: graph.value(*value).declared.as_ref().map(|t| t.dtype),
                    tensor,
                })
                .collect();
            found.push(session.run_tensors(&named).map_err(|e| from_runtime(&e))?);
        }
        Ok((found, session.runtime()))
    };
    let (masked, runtime) = run(networks.masked)?;
    let (pruned, _) = run(networks.pruned).map_err(only_pruned)?;
    Ok((difference(&masked, &pruned), runtime))
}

/// A pruned network that does not run where the masked one did is wrong.
fn only_pruned(error: Error) -> Error {
    Error::new(
        ErrorKind::Verify,
        format!("the masked network runs, the pruned one does not: {error}"),
    )
    .with_hint("nothing was written; this is a fault of regraft: please report it with the model")
    .because(error)
}

fn from_runtime(error: &LatencyError) -> Error {
    let kind = match error {
        LatencyError::Model { .. } | LatencyError::Run { .. } | LatencyError::Element { .. } => {
            ErrorKind::Model
        }
        LatencyError::NotFound { .. }
        | LatencyError::Library { .. }
        | LatencyError::OtherLoaded { .. }
        | LatencyError::Input { .. } => ErrorKind::Input,
    };
    let mut wrapped = Error::new(kind, error.note());
    if let Some(hint) = error.hint() {
        wrapped = wrapped.with_hint(hint);
    }
    wrapped
}
