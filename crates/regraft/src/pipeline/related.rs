//! Whether a pruned model can have come from the dense one that is given as its teacher.

use regraft_graph::{Dim, Graph, Op, ValueId};
use regraft_rebuild::{Layer, find_layers};

use super::finish::BASE;
use super::shrink::facts_of;
use crate::model::Model;
use crate::{Error, ErrorKind};

/// Weights compared at least: between fewer, chance looks like likeness.
const LEAST_WEIGHTS: usize = 256;

/// Correlation of a layer's weights from which on they are alike. Zeros and a long training after
/// pruning leave far more; unrelated weights have `1 / √n`.
const ALIKE: f64 = 0.1;

/// The same in standard deviations of unrelated weights, for small layers.
const ALIKE_DEVIATIONS: f64 = 5.0;

/// Refuses a teacher that `graph`, the pruned model under the teacher's identifiers, cannot come
/// from: other inputs or outputs, another function where a name is shared, layers that are not as
/// wide, or weights that have nothing in common.
pub(super) fn related(teacher: &Model, graph: &Graph) -> Result<(), Error> {
    let facts = facts_of(graph)?;
    let names = |g: &Graph| -> Vec<String> {
        let inputs = g.required_inputs().into_iter();
        inputs.map(|v| g.value(v).name.clone()).collect()
    };
    let (wanted, found) = (names(&teacher.graph), names(graph));
    if wanted != found {
        return Err(unrelated(&format!(
            "it reads {}, the dense one {}",
            listed(&found),
            listed(&wanted)
        )));
    }
    for &v in graph.outputs() {
        let wanted = teacher.facts.shape(v).unwrap_or(&[]);
        let found = facts.shape(v).unwrap_or(&[]);
        let differs = |(a, b): (&Dim, &Dim)| a.fixed().zip(b.fixed()).is_some_and(|(a, b)| a != b);
        if wanted.len() != found.len() || wanted.iter().zip(found).any(differs) {
            let name = &graph.value(v).name;
            return Err(unrelated(&format!(
                "its output `{name}` is {}, the dense one's {}",
                spelled(found),
                spelled(wanted)
            )));
        }
    }
    same_functions(&teacher.graph, graph)?;
    let layers = find_layers(graph, &facts);
    let dense = find_layers(&teacher.graph, &teacher.facts);
    let pairs: Vec<(&Layer, &Layer)> = layers
        .iter()
        .filter_map(|l| Some((l, dense.iter().find(|d| d.output == l.output)?)))
        .collect();
    let fits = |(l, d): &&(&Layer, &Layer)| d.n_out >= l.n_out && d.d >= l.d;
    let found = pairs.iter().filter(fits).count();
    // Edits may have made it wider, and say whose it is.
    let mut metadata = graph.header().metadata.iter();
    let is_told = metadata.any(|(key, base)| key == BASE && *base == teacher.sha256);
    if !is_told && 2 * found < layers.len() {
        return Err(unrelated(&format!(
            "of its {} layers only {found} are at most as wide there",
            layers.len()
        )));
    }
    alike(&teacher.graph, graph, &pairs)
}

fn unrelated(reason: &str) -> Error {
    Error::new(
        ErrorKind::Input,
        format!("the pruned model does not descend from the dense one: {reason}"),
    )
    .with_hint("give the model that was pruned with --teacher")
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    if quoted.is_empty() {
        "nothing".to_owned()
    } else {
        quoted.join(", ")
    }
}

fn spelled(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| d.fixed().map_or("?".to_owned(), |n| n.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}

/// Refuses another pooling or activation under a shared name: pruning changes none.
fn same_functions(teacher: &Graph, graph: &Graph) -> Result<(), Error> {
    for (_, node) in graph.nodes() {
        let Some(value) = node.output(0).filter(|v| v.index() < teacher.n_values()) else {
            continue;
        };
        let Some(producer) = teacher.producer(value) else {
            continue;
        };
        let (ours, theirs) = (&node.op, &teacher.node(producer).op);
        if fixed_function(ours) && fixed_function(theirs) && ours.name() != theirs.name() {
            return Err(unrelated(&format!(
                "`{}` is made by {}, in the dense one by {}",
                graph.value(value).name,
                ours.name(),
                theirs.name()
            )));
        }
    }
    Ok(())
}

fn fixed_function(op: &Op) -> bool {
    matches!(
        op,
        Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Activation(_)
            | Op::Unary(_)
            | Op::Clip { .. }
            | Op::PRelu
            | Op::Softmax { .. }
    )
}

/// Refuses a teacher none of whose layers of equal shape has weights like the pruned model's.
fn alike(teacher: &Graph, graph: &Graph, pairs: &[(&Layer, &Layer)]) -> Result<(), Error> {
    let (mut compared, mut largest) = (0, f64::MIN);
    for (layer, dense) in pairs {
        let same_shape = graph.tensor(layer.weight).map(regraft_graph::Tensor::shape)
            == teacher
                .tensor(dense.weight)
                .map(regraft_graph::Tensor::shape);
        let weights = floats(graph, layer.weight).zip(floats(teacher, dense.weight));
        let Some((ours, theirs)) = weights.filter(|_| same_shape) else {
            continue;
        };
        let kept: Vec<(f64, f64)> = ours
            .iter()
            .zip(theirs)
            .filter(|(a, _)| **a != 0.0)
            .map(|(a, b)| (f64::from(*a), f64::from(*b)))
            .collect();
        if kept.len() < LEAST_WEIGHTS {
            continue;
        }
        compared += 1;
        let found = correlation(&kept);
        if found > ALIKE.max(ALIKE_DEVIATIONS / (kept.len() as f64).sqrt()) {
            return Ok(());
        }
        largest = largest.max(found);
    }
    if compared == 0 {
        return Ok(());
    }
    Err(unrelated(&format!(
        "none of the {compared} layers of the same shape has weights like the dense one's (largest correlation {largest:.2})"
    )))
}

fn floats(graph: &Graph, value: ValueId) -> Option<&[f32]> {
    graph.tensor(value)?.as_f32()
}

/// Correlation without centring: weights scatter around zero.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let (mut product, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        product += a * b;
        left += a * a;
        right += b * b;
    }
    let size = (left * right).sqrt();
    if size > 0.0 { product / size } else { 0.0 }
}
