//! Tensors for every input of a network from an archive.

use std::path::Path;

use regraft_data::{Limits, NamedArray, read_npz};
use regraft_exec::HostTensor;
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, ValueId};

use super::{Feeds, name};
use crate::samples::of_declared_kind;
use crate::{Error, ErrorKind};

/// Returns what the archive at `path` holds for every input of the network.
///
/// # Errors
/// [`ErrorKind::Input`] if an input has no array, or one of another kind or shape, or if an array
/// belongs to no input.
pub(crate) fn read_feeds(path: &Path, graph: &Graph, facts: &Facts) -> Result<Feeds, Error> {
    let mut arrays = read_npz(path, &Limits::default())?;
    let inputs = graph.required_inputs();
    let names: Vec<String> = inputs
        .iter()
        .map(|v| format!("`{}`", name(graph, *v)))
        .collect();
    let no = |what: String| {
        let hint = format!("the inputs of the network are {}", names.join(", "));
        Error::new(ErrorKind::Input, what)
            .with_hint(hint)
            .about(path)
    };
    let mut feeds = Vec::new();
    for value in inputs {
        let input = name(graph, value);
        let array = arrays
            .remove(input)
            .ok_or_else(|| no(format!("there is no array for input `{input}`")))?;
        let tensor = tensor(graph, facts, value, array).map_err(no)?;
        feeds.push((value, tensor));
    }
    match arrays.keys().next() {
        Some(other) => Err(no(format!("array `{other}` belongs to no input"))),
        None => Ok(feeds),
    }
}

fn tensor(
    graph: &Graph,
    facts: &Facts,
    value: ValueId,
    array: NamedArray,
) -> Result<HostTensor, String> {
    let input = name(graph, value);
    let declared = facts.shape(value);
    let fits = |shape: &[usize]| {
        declared.is_none_or(|dims| {
            let agrees =
                |(dim, &n): (&regraft_graph::Dim, &usize)| dim.fixed().is_none_or(|d| d == n);
            dims.len() == shape.len() && dims.iter().zip(shape).all(agrees)
        })
    };
    if !fits(&array.shape) {
        let dims: Vec<String> = declared
            .unwrap_or(&[])
            .iter()
            .map(ToString::to_string)
            .collect();
        return Err(format!(
            "array `{input}` has the shape {:?}, the input takes [{}]",
            array.shape,
            dims.join(", ")
        ));
    }
    of_declared_kind(graph, facts, value, array)
}
