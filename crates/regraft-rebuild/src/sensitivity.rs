//! What each group of channels matters: the order in which its units go, and the error along it.
//!
//! The order comes from structured OBS on the Grams of everything that reads the group. Its curve
//! says how the layers' outputs suffer; what the *network* suffers is measured: the group alone is
//! pruned to a few widths, its readers refitted, and the change of the network's output on
//! calibration samples scales the curve, so that curves of different groups can be added.

mod blind;

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::{Graph, NodeId, Tensor, ValueId};
use regraft_prune::{Group, Groups};
use regraft_solve::obs::{Consumer, Elimination, ObsConfig, eliminate, eliminate_in_order};
use regraft_solve::{Bias, LeastSquares, Matrix, OldWeights, RefitConfig, refit};

use crate::calibrate::Calibration;
use crate::cell::{Cell, find_cells};
use crate::squared_error::SquaredError;
use crate::stream::Stream;
use crate::{Activations, Layer, LayerKind, Monitor, RebuildError, Stage};
use blind::Blind;

/// Shares of a group's units at which the network's output is measured.
const MEASURED_SHARES: [f64; 3] = [0.75, 0.5, 0.25];

/// How one group's error depends on its width.
#[derive(Clone, Debug)]
pub struct GroupSensitivity {
    /// The units in the order in which they go.
    pub order: Vec<usize>,
    /// `errors[k]`: estimated relative squared error of the network's output with `k` units kept.
    pub errors: Vec<f64>,
    /// Units kept and the relative squared error measured there, the group alone pruned.
    pub measured: Vec<(usize, f64)>,
    /// The largest damping the decision needed.
    pub damping: f64,
    /// The fewest units that can stay: those that are frozen, at least 1.
    pub min_kept: usize,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct SensitivityConfig {
    /// Orders to use instead of structured OBS: one list of units for each group, cheapest first.
    pub orders: Option<Vec<Vec<usize>>>,
    /// Units of one class go in batches of this many, so that every axis that the group spans
    /// stays on a multiple of it.
    pub multiple_of: usize,
    /// How the models run; results do not depend on the threads.
    pub exec: ExecOptions,
}

/// What reads a group: a linear layer, or a recurrent cell.
#[derive(Clone, Copy, Debug)]
enum Reads<'a> {
    Layer(&'a Layer),
    Cell(&'a Cell),
}

impl Reads<'_> {
    fn node(self) -> NodeId {
        match self {
            Self::Layer(layer) => layer.node,
            Self::Cell(cell) => cell.node,
        }
    }
}

/// What one layer or cell reads of a group.
struct Reader<'a> {
    of: Reads<'a>,
    problem: LeastSquares,
    weights: Matrix,
    columns: Vec<Vec<usize>>,
}

/// Returns the sensitivity of every group that is not frozen, `None` for the others.
///
/// `inputs` are the samples on which the network's output is measured, a few hundred at most.
///
/// # Errors
/// [`RebuildError::Solve`] or [`RebuildError::Run`]; [`RebuildError::Interrupted`] if asked for.
pub fn sensitivities(
    graph: &Graph,
    layers: &[Layer],
    groups: &Groups,
    calibration: &Calibration,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &SensitivityConfig,
    monitor: &dyn Monitor,
) -> Result<Vec<Option<GroupSensitivity>>, RebuildError> {
    let mut stream = Stream::new("dense", graph, inputs, config.exec)?;
    let Some(&output) = graph.outputs().first() else {
        return Ok(vec![None; groups.groups.len()]);
    };
    let reference = stream.all_chunks(output)?;
    let cells = find_cells(graph, &infer(graph, &InferOptions::default())?);
    // Groups in the order of their first reader, so that the stream only moves forward.
    let mut work: Vec<(usize, Vec<Reader<'_>>)> = Vec::new();
    let mut unread = Vec::new();
    for (i, group) in groups.groups.iter().enumerate() {
        let readers = readers(graph, layers, &cells, group, calibration)?;
        if group.n_free() == 0 {
            continue;
        }
        if readers.is_empty() {
            unread.push(i);
        } else {
            work.push((i, readers));
        }
    }
    work.sort_by_key(|(i, r)| (r.iter().map(|r| r.of.node()).min(), *i));
    let total = work.len() + unread.len();
    let mut result: Vec<Option<GroupSensitivity>> = vec![None; groups.groups.len()];
    for (done, (i, readers)) in work.into_iter().enumerate() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        let group = &groups.groups[i];
        monitor.progress(Stage::Sensitivity, done, total, &group.name);
        if let Some(first) = readers.iter().map(|r| r.of.node()).min() {
            stream.advance(first)?;
        }
        let given = config.orders.as_ref().and_then(|o| o.get(i));
        let elimination = order(graph, groups, i, &readers, given, config.multiple_of)?;
        let measured = measure(
            graph,
            &mut stream,
            group,
            &readers,
            &elimination,
            output,
            &reference,
        )?;
        result[i] = Some(scaled(group, &elimination, measured));
    }
    let mut blind = Blind {
        graph,
        groups,
        inputs,
        reference: &reference,
        config,
        scores: None,
    };
    for (done, i) in unread.iter().enumerate() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        let done = total - unread.len() + done;
        monitor.progress(Stage::Sensitivity, done, total, &groups.groups[*i].name);
        result[*i] = blind.group(*i)?;
    }
    monitor.progress(Stage::Sensitivity, total, total, "");
    Ok(result)
}

fn readers<'a>(
    graph: &Graph,
    layers: &'a [Layer],
    cells: &'a [Cell],
    group: &Group,
    calibration: &Calibration,
) -> Result<Vec<Reader<'a>>, RebuildError> {
    let mut readers = Vec::new();
    let layers = layers.iter().filter(|l| l.groups() == 1);
    let layers = layers.map(|l| (Reads::Layer(l), l.output, unit_columns(l, group)));
    let cells = cells
        .iter()
        .map(|c| (Reads::Cell(c), c.states, c.unit_columns(group)));
    for (of, output, columns) in layers.chain(cells) {
        if columns.iter().all(Vec::is_empty) {
            continue;
        }
        let label = graph.node_label(of.node());
        let gram = calibration.grams.get(&output).and_then(|g| g.first());
        let (weights, bias) = match of {
            Reads::Layer(layer) => (layer.weights(graph), layer.bias_mode()),
            Reads::Cell(cell) => (cell.weights(graph), Bias::Fit),
        };
        let (Some(gram), Some(weights)) = (gram, weights) else {
            continue;
        };
        let problem = LeastSquares::from_weights(gram, &weights, bias)
            .map_err(RebuildError::solve(&label))?;
        readers.push(Reader {
            of,
            problem,
            weights,
            columns,
        });
    }
    Ok(readers)
}

/// Returns the weight columns each unit of a group feeds.
pub(crate) fn unit_columns(layer: &Layer, group: &Group) -> Vec<Vec<usize>> {
    let in_axis = match layer.kind {
        LayerKind::Conv { .. } | LayerKind::Gemm { trans_b: true } => 1,
        LayerKind::Gemm { trans_b: false } | LayerKind::MatMul => 0,
    };
    let columns = |unit: &regraft_prune::Unit| {
        let reads = unit
            .members
            .iter()
            .filter(|m| m.value == layer.weight && m.axis == in_axis);
        reads.flat_map(|m| layer.columns(m.index)).collect()
    };
    group.units.iter().map(columns).collect()
}

fn order(
    graph: &Graph,
    groups: &Groups,
    which: usize,
    readers: &[Reader<'_>],
    given: Option<&Vec<usize>>,
    multiple_of: usize,
) -> Result<Elimination, RebuildError> {
    let group = &groups.groups[which];
    let consumers: Vec<Consumer<'_>> = readers
        .iter()
        .map(|r| Consumer {
            problem: &r.problem,
            units: &r.columns,
            // Relative errors, so that no reader drowns the others.
            weight: if r.problem.energy > 0.0 {
                1.0 / r.problem.energy
            } else {
                0.0
            },
            anchor: Some(&r.weights),
        })
        .collect();
    let label = readers
        .first()
        .map_or_else(String::new, |r| graph.node_label(r.of.node()));
    let removable: Vec<bool> = group.units.iter().map(|u| u.frozen.is_none()).collect();
    let config = ObsConfig::default();
    let solve = RebuildError::solve(&label);
    let n = group.units.len();
    let found = match given {
        Some(order) => eliminate_in_order(&consumers, n, order, &config),
        None => eliminate(&consumers, &removable, &config),
    };
    let found = found.map_err(RebuildError::solve(&label))?;
    let removals: Vec<usize> = found.removals.iter().map(|r| r.unit).collect();
    let batched = in_class_batches(group, &removals, group.units_in(multiple_of));
    let batched = groups.spare_last(which, &batched);
    if batched == removals {
        return Ok(found);
    }
    eliminate_in_order(&consumers, n, &batched, &config).map_err(solve)
}

/// Returns the order with units of one class taken `multiple_of` at a time: next comes the class
/// whose batch ends first in the given order.
fn in_class_batches(group: &Group, order: &[usize], multiple_of: usize) -> Vec<usize> {
    if group.n_classes <= 1 || multiple_of <= 1 {
        return order.to_vec();
    }
    // A class' remainder goes first: then its width is a multiple of what is asked for.
    let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
    let classes: std::collections::BTreeSet<usize> =
        order.iter().map(|u| group.units[*u].class).collect();
    for class in classes {
        let own: Vec<(usize, usize)> = order
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, u)| group.units[*u].class == class)
            .collect();
        let first = own.len() % multiple_of;
        let (head, tail) = own.split_at(first);
        for part in std::iter::once(head)
            .chain(tail.chunks(multiple_of))
            .filter(|p| !p.is_empty())
        {
            let last = part.last().map_or(0, |(position, _)| *position);
            batches.push((last, part.iter().map(|(_, u)| *u).collect()));
        }
    }
    batches.sort_by_key(|(last, _)| *last);
    batches.into_iter().flat_map(|(_, units)| units).collect()
}

fn measure(
    graph: &Graph,
    stream: &mut Stream,
    group: &Group,
    readers: &[Reader<'_>],
    elimination: &Elimination,
    output: ValueId,
    reference: &[HostTensor],
) -> Result<Vec<(usize, f64)>, RebuildError> {
    let n = group.units.len();
    let least = n - elimination.removals.len();
    let mut measured = Vec::new();
    for share in MEASURED_SHARES {
        let kept = ((n as f64 * share).round() as usize).max(least).max(1);
        if kept >= n || measured.iter().any(|(k, _)| *k == kept) {
            continue;
        }
        let units = elimination.kept_after(n - kept, n);
        for reader in readers {
            stream.set(&refitted(graph, reader, &units)?)?;
        }
        measured.push((kept, output_error(stream, output, reference)?));
    }
    for reader in readers {
        stream.set(&match reader.of {
            Reads::Layer(layer) => layer.tensors(graph, &reader.weights, &layer.bias(graph))?,
            Reads::Cell(cell) => cell.tensors(graph, &reader.weights, &cell.biases(graph))?,
        })?;
    }
    Ok(measured)
}

/// The reader's tensors with the gone units' columns zero and the others refitted.
fn refitted(
    graph: &Graph,
    reader: &Reader<'_>,
    units: &[usize],
) -> Result<Vec<(ValueId, Tensor)>, RebuildError> {
    let label = graph.node_label(reader.of.node());
    let d = reader.weights.cols;
    let mut gone = vec![false; d];
    for (unit, columns) in reader.columns.iter().enumerate() {
        for &c in columns
            .iter()
            .filter(|_| units.binary_search(&unit).is_err())
        {
            gone[c] = true;
        }
    }
    let kept: Vec<usize> = (0..d).filter(|c| !gone[*c]).collect();
    match reader.of {
        Reads::Layer(layer) => {
            let (weights, change) = refitted_rows(&reader.problem, &reader.weights, &kept, &label)?;
            // The problem reproduces `W x` without the bias, so its own is added to the old one.
            let old = layer.bias(graph);
            let bias: Vec<f64> = match change {
                Some(b) => b.iter().zip(&old).map(|(x, y)| x + y).collect(),
                None => old,
            };
            layer.tensors(graph, &weights, &bias)
        }
        Reads::Cell(cell) => {
            let mut weights = Matrix::zeros(reader.weights.rows, d);
            let mut biases = cell.biases(graph);
            for block in cell.blocks() {
                let inside = |c: &usize| block.columns.binary_search(c).is_ok();
                let kept: Vec<usize> = kept.iter().copied().filter(inside).collect();
                let (old, _) = cell.part(&block, &reader.weights, &biases);
                let problem = reader.problem.reproducing(&old);
                let problem = problem.map_err(RebuildError::solve(&label))?;
                let (part, change) = refitted_rows(&problem, &old, &kept, &label)?;
                let side = usize::from(block.reads_states_alone(cell));
                let first = block.gates.start * cell.hidden;
                for o in 0..part.rows {
                    let row = weights.row_mut(first + o);
                    for &c in &block.columns {
                        row[c] = part.row(o)[c];
                    }
                    biases[side][first + o] += change.as_ref().map_or(0.0, |b| b[o]);
                }
            }
            cell.tensors(graph, &weights, &biases)
        }
    }
}

/// A matrix over the reader's inputs refitted on the columns that are kept, and what its bias
/// changes by; `problem` reproduces `old · x`.
fn refitted_rows(
    problem: &LeastSquares,
    old: &Matrix,
    kept: &[usize],
    label: &str,
) -> Result<(Matrix, Option<Vec<f64>>), RebuildError> {
    let anchor = OldWeights {
        weights: old,
        bias: None,
    };
    let fit = refit(problem, kept, Some(anchor), &RefitConfig::default())
        .map_err(RebuildError::solve(label))?;
    let mut weights = Matrix::zeros(old.rows, old.cols);
    for o in 0..old.rows {
        for (j, &c) in kept.iter().enumerate() {
            weights.set(o, c, fit.weights.at(o, j));
        }
    }
    Ok((weights, fit.bias))
}

/// Returns the relative squared error of the model's output to `reference`, chunk by chunk.
pub(crate) fn output_error(
    stream: &Stream,
    output: ValueId,
    reference: &[HostTensor],
) -> Result<f64, RebuildError> {
    let mut sums = SquaredError::default();
    for (chunk, dense) in reference.iter().enumerate() {
        if let Some(value) = stream.chunk(chunk, &[output])?.first() {
            sums.add(value, dense);
        }
    }
    Ok(sums.relative())
}

/// The layers' curve scaled to the measured points, the factor interpolated between them.
fn scaled(
    group: &Group,
    elimination: &Elimination,
    mut measured: Vec<(usize, f64)>,
) -> GroupSensitivity {
    let n = group.units.len();
    let least = n - elimination.removals.len();
    measured.sort_unstable_by_key(|(k, _)| *k);
    let at = |kept: usize| {
        elimination
            .curve
            .get(n - kept)
            .copied()
            .unwrap_or(1.0)
            .max(1e-12)
    };
    let factors: Vec<(usize, f64)> = measured.iter().map(|(k, e)| (*k, e / at(*k))).collect();
    let factor = |kept: usize| {
        let above = factors.iter().find(|(k, _)| *k >= kept).or(factors.last());
        let below = factors
            .iter()
            .rev()
            .find(|(k, _)| *k <= kept)
            .or(factors.first());
        match (below, above) {
            (Some((a, x)), Some((b, y))) if b > a => {
                x + (y - x) * (kept as f64 - *a as f64) / (*b as f64 - *a as f64)
            }
            (Some((_, x)), _) => *x,
            _ => 1.0,
        }
    };
    let error = |kept: usize| match kept {
        k if k == n => 0.0,
        // Fewer units than can go: never chosen, but the curve has an entry.
        k if k < least => at(least) * factor(least),
        k => at(k) * factor(k),
    };
    GroupSensitivity {
        order: elimination.removals.iter().map(|r| r.unit).collect(),
        errors: (0..=n).map(error).collect(),
        measured,
        damping: elimination.damping.iter().copied().fold(0.0, f64::max),
        min_kept: least.max(1),
    }
}
