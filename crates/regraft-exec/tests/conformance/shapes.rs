//! What inference says of a case's outputs against what they are.

use regraft_graph::Dim;
use regraft_graph::infer::{InferOptions, infer};
use regraft_onnx::Limits;

use crate::cases::Case;
use crate::rewrite::rebuilt;

/// Returns how inferred types contradict the expected outputs, and how many outputs are inferred
/// to the last extent.
pub(crate) fn check(case: &Case) -> (Vec<String>, usize) {
    let limits = Limits {
        allow_nonfinite: true,
        ..Limits::default()
    };
    let Ok(graph) = regraft_onnx::read_bytes(&case.model, None, &limits) else {
        return (Vec::new(), 0);
    };
    // What the file declares of its outputs would hide what is inferred.
    let graph = rebuilt(&graph, false);
    let facts = match infer(&graph, &InferOptions::default()) {
        Ok(facts) => facts,
        Err(error) => return (vec![format!("{}: {error}", case.name)], 0),
    };
    let Some(set) = case.sets.first() else {
        return (Vec::new(), 0);
    };
    let (mut faults, mut complete) = (Vec::new(), 0);
    for (&id, bytes) in graph.outputs().iter().zip(&set.outputs) {
        let (Some(dtype), Ok(tensor)) =
            (facts.dtype(id), regraft_onnx::read_tensor(bytes, &limits))
        else {
            continue;
        };
        let name = &graph.value(id).name;
        if dtype != tensor.dtype() {
            let found = tensor.dtype();
            faults.push(format!("{}: `{name}` is {found}, not {dtype}", case.name));
        }
        let Some(shape) = facts.shape(id) else {
            continue;
        };
        complete += usize::from(shape.iter().all(|d| d.fixed().is_some()));
        let fits = |(d, n): (&Dim, &usize)| d.fixed().is_none_or(|d| d == *n);
        if shape.len() != tensor.shape().len() || !shape.iter().zip(tensor.shape()).all(fits) {
            let found = tensor.shape();
            faults.push(format!(
                "{}: `{name}` is {found:?}, not {shape:?}",
                case.name
            ));
        }
    }
    (faults, complete)
}
