//! Runs one case and says how it came out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use regraft_exec::{DEFAULT_MAX_ELEMENTS, ExecError, ExecOptions, Executor, HostData, HostTensor};
use regraft_graph::{DType, Graph, ValueId};
use regraft_onnx::{Limits, OnnxError};

use crate::cases::{Case, DataSet};

/// What the suite's own runner allows: relative to the expected number, and on top of that.
const RELATIVE: f32 = 1e-3;
const ABSOLUTE: f32 = 1e-7;

/// How a case came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Pass,
    /// It is refused by name; the reason.
    Unsupported(String),
    /// It runs and gives something else, or it is refused though it is supported; how.
    Wrong(String),
}

impl Status {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unsupported(_) => "unsupported",
            Self::Wrong(_) => "wrong",
        }
    }

    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Unsupported(reason) | Self::Wrong(reason) => reason,
        }
    }
}

/// A case's outcome and what the summary counts.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) status: Status,
    /// The op that is not supported.
    pub(crate) op: Option<String>,
    /// True if something panicked, caught by the executor or not.
    pub(crate) panicked: bool,
    /// True if all inputs and outputs have element types that are computed exactly.
    pub(crate) claimed: bool,
}

/// Returns the outcome of a case; a panic is one too.
pub(crate) fn judge(case: &Case) -> Verdict {
    judge_within(case, DEFAULT_MAX_ELEMENTS)
}

/// Returns the outcome of a case whose values may have that many elements.
pub(crate) fn judge_within(case: &Case, max_elements: usize) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| attempt(case, max_elements))).unwrap_or_else(|payload| {
        Verdict {
            status: Status::Wrong(format!("panic: {}", message_of(payload.as_ref()))),
            op: None,
            panicked: true,
            claimed: true,
        }
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|t| (*t).to_owned());
    let owned = || payload.downcast_ref::<String>().cloned();
    text.or_else(owned).unwrap_or_default()
}

fn attempt(case: &Case, max_elements: usize) -> Verdict {
    let limits = Limits {
        allow_nonfinite: true,
        ..Limits::default()
    };
    let mut verdict = Verdict {
        status: Status::Pass,
        op: None,
        panicked: false,
        claimed: false,
    };
    let graph = match regraft_onnx::read_bytes(&case.model, None, &limits) {
        Ok(graph) => graph,
        Err(error) => {
            let reason = format!("not read: {error}");
            verdict.status = match error {
                // A version that is refused by its number.
                OnnxError::Model { .. } => Status::Unsupported(reason),
                _ => Status::Wrong(reason),
            };
            return verdict;
        }
    };
    verdict.claimed = is_claimed(&graph);
    let options = ExecOptions {
        max_elements,
        ..ExecOptions::default()
    };
    let executor = Executor::new(&graph, options).expect("an executor");
    if case.sets.is_empty() {
        verdict.status = Status::Wrong("it has no data".to_owned());
    }
    for set in &case.sets {
        match run(&executor, &graph, set, &limits) {
            Ok(()) => {}
            Err(Failure::Status(status)) => verdict.status = status,
            Err(Failure::Run(error)) => {
                verdict.panicked |= matches!(error, ExecError::Engine { .. });
                verdict.status = match &error {
                    ExecError::Unsupported { op, reason, .. } => {
                        verdict.op = Some(op.clone());
                        Status::Unsupported(format!("{op}: {reason}"))
                    }
                    _ => Status::Wrong(error.to_string()),
                };
            }
        }
        if verdict.status != Status::Pass {
            break;
        }
    }
    verdict
}

fn is_claimed(graph: &Graph) -> bool {
    let mut ports = graph.inputs().iter().chain(graph.outputs());
    ports.all(|id| {
        graph
            .value(*id)
            .declared
            .as_ref()
            .is_some_and(|t| matches!(t.dtype, DType::F32 | DType::I32 | DType::I64 | DType::Bool))
    })
}

enum Failure {
    Status(Status),
    Run(ExecError),
}

fn unsupported<T>(reason: String) -> Result<T, Failure> {
    Err(Failure::Status(Status::Unsupported(reason)))
}

fn wrong<T>(reason: String) -> Result<T, Failure> {
    Err(Failure::Status(Status::Wrong(reason)))
}

fn run(executor: &Executor, graph: &Graph, set: &DataSet, limits: &Limits) -> Result<(), Failure> {
    let mut feeds = Vec::new();
    for (id, bytes) in graph.inputs().iter().zip(&set.inputs) {
        feeds.push((*id, tensor(graph, *id, bytes, limits)?));
    }
    let mut expected = Vec::new();
    for (id, bytes) in graph.outputs().iter().zip(&set.outputs) {
        expected.push((*id, tensor(graph, *id, bytes, limits)?));
    }
    if expected.len() != graph.outputs().len() {
        return wrong("it does not say what all outputs should be".to_owned());
    }
    let found = executor.run(&feeds).map_err(Failure::Run)?;
    for ((id, expected), found) in expected.iter().zip(&found) {
        if let Some(how) = differs(found, expected) {
            return wrong(format!("output `{}`: {how}", graph.value(*id).name));
        }
    }
    Ok(())
}

fn tensor(
    graph: &Graph,
    id: ValueId,
    bytes: &[u8],
    limits: &Limits,
) -> Result<HostTensor, Failure> {
    let value = graph.value(id);
    let Some(declared) = &value.declared else {
        return unsupported(format!("`{}` is not a tensor", value.name));
    };
    let tensor = match regraft_onnx::read_tensor(bytes, limits) {
        Ok(tensor) => tensor,
        Err(error) => return wrong(format!("`{}` is not read: {error}", value.name)),
    };
    match HostTensor::from_tensor(&tensor) {
        Some(host) => Ok(host),
        None => unsupported(format!("`{}` is of {}", value.name, declared.dtype)),
    }
}

fn differs(found: &HostTensor, expected: &HostTensor) -> Option<String> {
    if found.shape != expected.shape {
        return Some(format!(
            "shape {:?} instead of {:?}",
            found.shape, expected.shape
        ));
    }
    match (&found.data, &expected.data) {
        (HostData::F32(a), HostData::F32(b)) => a
            .iter()
            .zip(b)
            .find(|(a, b)| !is_close(**a, **b))
            .map(|(a, b)| format!("{a} instead of {b}")),
        (HostData::I64(a), HostData::I64(b)) => first_unequal(a, b),
        (HostData::Bool(a), HostData::Bool(b)) => first_unequal(a, b),
        _ => Some(format!("{} instead of {}", found.dtype(), expected.dtype())),
    }
}

fn first_unequal<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) -> Option<String> {
    let (a, b) = a.iter().zip(b).find(|(a, b)| a != b)?;
    Some(format!("{a:?} instead of {b:?}"))
}

fn is_close(found: f32, expected: f32) -> bool {
    let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
    // An infinity is met by itself only: the tolerance would be infinite too.
    same || expected.is_finite() && (found - expected).abs() <= ABSOLUTE + RELATIVE * expected.abs()
}
